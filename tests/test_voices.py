"""Voices of a bank: added, removed, killed, damaged, answering wrongly, all while others search.

As a script this forks a child for each line of its input, which does one thing to a bank until it is killed.
"""
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import memory_child
import numpy as np
import pytest
from test_bank import Hashed, agrees, texts

from shutka.core.errors import UserError
from shutka.memory import bank as bank_module
from shutka.memory import voices as module
from shutka.memory.bank import Bank, TooFewQuestions
from shutka.memory.descriptions import LONGEST_DOC, LONGEST_HEAD, describe_snippet
from shutka.memory.fusion import SLACK
from shutka.memory.queries import make_queries

KILLS, MANY = 6, 40   # in the tests, in `make faults`


class Reads(Hashed):
    "An encoder that remembers what it read, and does what a test wants in between."
    name = 'reads'

    def __init__(self, seed=7, d=16, during=lambda texts, side: None):
        super().__init__(seed, d)
        self.during, self.read, self.asked = during, Counter(), []

    def encode(self, texts, side='code'):
        changed = self.during(texts, side)
        if side == 'words': self.asked += texts
        elif texts != ['a']: self.read.update(texts)   # a single 'a' measures the dimension
        return super().encode(texts, side) if changed is None else changed


class Meaning(Hashed):
    "An encoder to which some words are the same."
    same = {'calendar': 'date', 'total': 'sum'}

    def __init__(self):
        super().__init__(3, 64)
        self.fingerprint = 'meaning of words'

    def encode(self, texts, side='code'):
        return super().encode([' '.join(self.same.get(word, word) for word in text.split()) for text in texts], side)


def fail(error): raise error


def raises(error): return lambda texts, side: fail(error)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch): monkeypatch.setattr(module, 'READ_BATCH', 10)


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path/'bank', Hashed()) as bank: yield bank


@pytest.fixture
def plain(tmp_path):
    "A bank without an encoder of its own."
    with Bank(tmp_path/'plain') as bank: yield bank


def vectors_of(bank, encoder):
    ids, found = bank.store.vectors(encoder.fingerprint)
    return dict(zip(ids.tolist(), found.tolist()))


def state(bank):
    "Memories and the bank's own vectors."
    ids = bank.store.live()
    own = [part.tolist() for part in bank.store.vectors()] if bank.store.encoder() else None
    return [(i.id, i.text, i.metadata) for i in bank.get(ids)], own, bank.store.last_operation()


def is_whole(bank, encoder):
    "A voice has read all, and finds each memory by its text as a search by hand does."
    name = next(voice.name for voice in bank.voices if voice.fingerprint == encoder.fingerprint)
    live = bank.store.live().tolist()
    found = vectors_of(bank, encoder)
    assert sorted(found) == live and not any(bank.voices.count_unread().values())
    table = np.array([found[i] for i in live], np.float32)
    for item in bank.get(live[::1 + len(live) // 12]):
        direction, = encoder.encode([item.text], side='words')
        cosines = table @ (direction / np.linalg.norm(direction))
        hits = bank.search(item.text, 3, name)
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1][:3], atol=1e-5)
    assert bank.verify() == []


# adding and removing

def test_add_list_remove_and_add_again(bank):
    given = texts(25)
    bank.add(given)
    encoder = Reads()
    made = bank.voices.add(encoder)
    assert (made.name, made.model, made.dimension, made.whole, made.pretrained) == ('reads', '', 16, True, False)
    assert [voice.name for voice in bank.voices] == ['reads'] and len(bank.voices) == 1
    assert encoder.read == Counter(given) and 'reads: 0 to read' in repr(bank.voices)
    assert '<td>reads</td>' in bank.voices._repr_html_() and bank.stats()['voices'] == {'reads': ''}
    is_whole(bank, encoder)
    bank.search('date')
    assert bank.voices.remove('reads') == made
    assert not bank.voices and vectors_left(bank) == 25 and bank.stats()['voices'] == {}
    assert list_folders(bank) == {'index'}
    with pytest.raises(UserError, match='unknown voice'): bank.voices.remove('reads')
    bank.voices.add(encoder, 'again')
    assert [voice.name for voice in bank.voices] == ['again'] and set(encoder.read.values()) == {2}
    is_whole(bank, encoder)
    agrees(bank)


def list_folders(bank): return {path.name for path in bank.folder.iterdir() if path.is_dir()}


def vectors_left(bank):
    with bank.store.reading() as db: return db.execute('SELECT count(*) FROM vectors').fetchone()[0]


@pytest.mark.parametrize('name', ['words', 'hybrid', 'dense', 'meaning', 'a b', '.a', '-a', 'a/b', 'a\n', 'a' * 65,
                                  'ä!'])
def test_names_refused(plain, name):
    with pytest.raises(UserError, match="a voice's name must be letters"): plain.voices.add(Hashed(1), name)
    assert not plain.voices and plain.store.meta('voices', []) == []


def test_names_kept(plain):
    for seed, name in enumerate(('a', 'minilm-L6_v2.1', 'größe' + 'x' * 59)):
        assert plain.voices.add(Hashed(seed), name).name == name
    assert [voice.name for voice in plain.voices] == ['a', 'minilm-L6_v2.1', 'größe' + 'x' * 59]


def test_who_may_be_a_voice(bank):
    "The same one twice is one; another one under a known name, a fourth, and the bank's own are refused by name."
    bank.add(texts(12))
    first = bank.voices.add(Hashed(1), 'one')
    assert bank.voices.add(Hashed(1), 'two') == first and len(bank.voices) == 1
    with pytest.raises(UserError, match='voice one is another encoder .16 numbers'): bank.voices.add(Hashed(2), 'one')
    with pytest.raises(UserError, match='voice one is another encoder'): bank.voices.add(Hashed(1, 24), 'one')
    with pytest.raises(UserError, match="another encoder than the bank's own"): bank.voices.add(Hashed(), 'own')
    assert bank.voices.add(Hashed(2, 24), 'other').dimension == 24
    with pytest.raises(UserError, match='hears 3 encoders at most'): bank.voices.add(Hashed(3), 'three')
    assert [voice.name for voice in bank.voices] == ['one', 'other'] and bank.verify() == []
    bank.voices.remove('one')
    bank.voices.add(Hashed(3), 'three')


def test_a_known_fingerprint_with_another_dimension_is_refused(bank):
    bank.add(texts(12))
    bank.voices.add(Hashed(1), 'one')
    other = Hashed(1, 24)
    other.fingerprint = Hashed(1).fingerprint
    with pytest.raises(UserError, match='dimension'): bank.voices.add(other, 'one')
    assert [voice.dimension for voice in bank.voices] == [16]


def test_who_is_no_encoder(bank):
    bank.add('let a')
    for wrong in (None, 7, object(), lambda texts: texts):
        with pytest.raises(UserError, match='must'): bank.voices.add(wrong, 'wrong')
    assert not bank.voices and bank.verify() == []


def test_a_fourth_is_refused_even_if_the_own_came_last(plain):
    plain.add(texts(5))
    for seed in range(1, 4): plain.voices.add(Hashed(seed), f'v{seed}')
    plain.reencode(Hashed())
    with pytest.raises(UserError, match='encoders at most'): plain.voices.add(Hashed(4), 'v4')


def test_a_voice_that_becomes_the_banks_own(bank):
    "It is no voice any more, and none again when the bank changes its encoder back."
    bank.add(texts(30))
    bank.voices.add(Hashed(1), 'one')
    bank.voices.add(Hashed(2), 'two')
    reader = Reads(1)
    assert bank.reencode(reader) == 0 and not reader.read   # it has read all
    assert [voice.name for voice in bank.voices] == ['two'] and list(bank.stats()['voices']) == ['two']
    agrees(bank)
    assert set(bank.search('parse date')[0].voices) == {'meaning', 'two'}
    bank.add(texts(3, seed=1))
    bank.compact(0)
    bank.reencode(Hashed())
    assert [voice.name for voice in bank.voices] == ['two']
    is_whole(bank, Hashed(2))
    agrees(bank)
    bank.voices.add(Hashed(1), 'one')
    is_whole(bank, Hashed(1))


def test_the_order_is_that_of_adding(plain):
    plain.add(texts(30))
    stops = Reads(1, during=lambda texts, side: stops.read and fail(UserError('no power')) or None)
    with pytest.raises(UserError, match='no power'): plain.voices.add(stops, 'first')
    plain.voices.add(Hashed(2), 'second')
    plain.voices.add(Hashed(1), 'first')
    assert [voice.name for voice in plain.voices] == ['first', 'second']


def test_a_voice_that_moved_is_found_where_it_is_now(plain, monkeypatch, tmp_path):
    "Adding it again under its new path reads nothing again."
    encoders = {}
    def open_voice(model):
        if model not in encoders: raise UserError(f"{model} must be a model")
        return encoders[model]
    monkeypatch.setattr(module, 'open_voice', open_voice)
    plain.add(texts(5))
    encoder = encoders['org/old'] = Reads()
    plain.voices.add('org/old')
    with Bank(plain.folder) as other:
        encoders['org/new'] = encoders.pop('org/old')
        assert 'org/old must be a model' in other.search('parse').note
        assert other.voices.add('org/new').name == 'reads' and max(encoder.read.values()) == 1
        assert other.stats()['voices'] == {'reads': 'org/new'} and other.search('parse').note == ''
    with Bank(plain.folder) as third: assert third.search('parse').note == ''


def test_an_empty_bank_and_its_first_memories(plain):
    encoder = Reads()
    assert plain.voices.add(encoder).whole
    assert plain.search('date') == [] and plain.search('date', how='reads') == [] and plain.verify() == []
    plain.add(texts(5))
    is_whole(plain, encoder)


@pytest.mark.parametrize('fingerprint', ['../../outside', 'http://localhost:1/v1#a', 'a b\n', 'x' * 300])
def test_any_fingerprint_is_a_folder_in_the_bank(plain, tmp_path, fingerprint):
    "And encoders whose fingerprints begin alike have one each."
    plain.add(texts(12))
    pair = [Hashed(seed) for seed in (1, 2)]
    for n, encoder in enumerate(pair):
        encoder.fingerprint = fingerprint + str(n)
        plain.voices.add(encoder, f'v{n}')
    for _ in range(2):
        for encoder in pair: is_whole(plain, encoder)
    assert {path.name for path in tmp_path.iterdir()} == {'plain'}
    folders = [path for path in plain.folder.iterdir() if path.is_dir()]
    assert len(folders) == 2 and all((path/'manifest.json').exists() for path in folders)


# searching

def test_a_search_hears_it(bank):
    bank.add(['function one sum list', 'date', *texts(20)])
    bank.voices.add(Meaning(), 'meant')
    hits = bank.search('calendar', 5)
    assert hits[0].id == 2 and hits[0].bm25 is None and hits[0].voices['meant'] > .4 and not hits.note
    assert set(hits[0].voices) == {'meaning', 'meant'} and hits[0].cosine == hits[0].voices['meaning']
    alone = bank.search('calendar', 5, 'meant')
    assert alone[0].id == 2 and alone[0].score == pytest.approx(alone[0].voices['meant'])
    assert set(alone[0].voices) == {'meant'} and alone[0].cosine is None
    assert bank.search('calendar', how='words') == []
    assert set(bank.search('calendar', 1, 'dense')[0].voices) == {'meaning'}
    with pytest.raises(UserError, match="unknown way to search.*meant"): bank.search('calendar', how='ment')
    assert [hit.id for hit in bank.search('calendar', 5, 'meant', {'source': 'none'})] == []


def test_a_dense_search_without_an_own_encoder_names_the_voices(plain):
    plain.add(texts(3))
    plain.voices.add(Hashed(1), 'v')
    with pytest.raises(UserError, match='name a voice: v$'): plain.search('parse', how='dense')


def test_a_voice_is_never_quantized(bank):
    "As the bank's own vectors are on request; its width may not be one that allows it."
    bank.add(texts(20))
    bank.store.set_meta('pq', 8)
    bank.voices.add(Hashed(1, 9), 'v')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(bank.search('parse', how='v')) == 10
    assert bank.voices._follower(bank.voices.find('v')).index.stats()['kind'] == 'flat'


def test_who_has_not_read_all_is_named_and_not_heard(bank):
    bank.add(texts(25))
    before = bank.search('parse date')
    failing = Reads(during=lambda texts, side: fail(UserError('no power')) if failing.read.total() >= 10 else None)
    with pytest.raises(UserError, match='no power'): bank.voices.add(failing)
    after = bank.search('parse date')
    assert after == before and after.note == 'without voice reads, which has not read all memories yet'
    with pytest.raises(UserError, match='reads must be there to be asked.*not read all'):
        bank.search('parse date', how='reads')
    assert bank.voices.count_unread() == {'reads': 15} and bank.verify() == []


def test_scores_are_comparable(bank, plain):
    "Between 0 and 1; a word that nothing has lowers them; who matches nothing is told so."
    encoder = Hashed(4, 512)
    for b in (bank, plain):
        b.add(texts(60))
        b.voices.add(encoder, 'v')
        for query in ('parse date sum', 'list', b.get(7)[0].text):
            known, unknown = b.search(query), b.search(query + ' zebra')
            assert all(0 <= hit.score <= 1 for hit in known + unknown) and unknown[0].score < known[0].score
            assert all(set(hit.voices) >= {'v'} for hit in known)
        words = b.search('parse date zebra', how='words')
        limit = b.store.words_limit('parse date zebra')
        for hit in words: assert hit.score == pytest.approx(hit.bm25 / limit) and 0 < hit.score <= 1
    plain.add(texts(1))
    none = plain.search('zzz qqq')
    assert none == [] and 'nothing matches' in repr(none) and 'nothing matches' in str(plain.show('zzz qqq'))
    assert len(plain.search('zzz qqq', 3, 'v')) == 3 and bank.search('zzz qqq', 3, 'dense')


def test_options_come_behind_functions(plain):
    "At equal score."
    both = ['interface RetryDelayOptions { retry delay }', 'function retryDelayOptions { retry delay }']
    about = [{'kind': 'interface', 'name': 'RetryDelayOptions'}, {'kind': 'function', 'name': 'retryDelayOptions'}]
    plain.add(both, about)
    plain.voices.add(Hashed(), 'v')
    assert [hit.metadata['kind'] for hit in plain.search('retry delay')] == ['function', 'interface']


# weights

VERBS = ['Removes', 'Creates', 'Finds', 'Reads', 'Writes', 'Updates', 'Replaces', 'Checks']
NOUNS = ['planet', 'window', 'garden', 'hammer', 'silver', 'bottle', 'engine', 'candle', 'forest', 'ladder']


def documented(n, seed=0):
    draw = random.Random(seed)
    docs = [f"{draw.choice(VERBS)} {' '.join(draw.sample(NOUNS, 4))} entries." for _ in range(n)]
    return [f'/** {doc} */\nfunction f{seed}_{i}(a) {{ return a }}' for i, doc in enumerate(docs)]


@pytest.mark.parametrize('seed', range(2))
def test_fused_is_never_below_the_best_side(tmp_path, seed):
    "Whatever encoders are heard: on the questions that chose the weights, and asked as searches."
    with Bank(tmp_path/'bank', Hashed(seed)) as bank:
        ids = bank.add(given := documented(40, seed))
        noise = np.random.default_rng(seed)
        bank.voices.add(Reads(seed + 10, 24, lambda texts, side: noise.standard_normal((len(texts), 24))), 'noise')
        bank.voices.add(Hashed(seed + 20, 8), 'narrow')
        made = bank.tune()
        own = bank.tune([(' '.join(text.split()[2:5]), i) for text, i in zip(given, ids)])
        for fusion in (*made.values(), *own.values()):
            assert fusion.mrr >= max(fusion.alone.values()) - SLACK - 1e-9
            assert set(fusion.weights) == {'words', 'meaning', 'noise', 'narrow'} == set(fusion.alone)
            assert sum(fusion.weights.values()) == pytest.approx(1, abs=1e-5)
        assert own['short'].questions == 40 and made['short'].questions >= 10
        assert bank.stats()['fusion']['short']['mrr'] == own['short'].mrr


def test_too_few_comments(bank):
    bank.add(texts(30) + documented(3))
    bank.voices.add(Hashed(1), 'v')
    with pytest.raises(TooFewQuestions, match='doc comments.*enough for [0-6]; give questions of your own'): bank.tune()
    assert bank.store.meta('fusion') is None
    assert bank.tune([('parse', 1)])['long'].questions == 1


def test_tuned_again_after_growth_by_a_third(bank, monkeypatch):
    monkeypatch.setattr(bank_module, 'TUNE_FROM', 20)
    bank.voices.add(Hashed(1), 'v')
    def settled():
        bank.settle()
        stored = bank.store.meta('fusion')
        return stored and stored['memories']
    bank.add(documented(19))
    assert settled() is None
    bank.add(documented(2, 1))
    assert settled() == 21
    bank.add(documented(7, 2))
    assert settled() == 21
    bank.add(documented(1, 3))
    assert settled() == 29
    bank.delete(range(1, 9))
    assert settled() == 29
    bank.voices.add(Hashed(2), 'w')
    assert settled() == 21 and set(bank.store.meta('fusion')['made_for']) == {'meaning', 'v', 'w'}
    asked = []
    monkeypatch.setattr(Bank, 'tune', lambda bank: asked.append(1))
    bank.settle(much=False)
    bank.update(20, documented(1, 5))
    bank.settle()
    assert not asked


def test_weights_that_cannot_be_chosen_again_stay(bank, monkeypatch):
    "Those of own questions, if there are no comments; and nothing fails after a change was made."
    monkeypatch.setattr(bank_module, 'TUNE_FROM', 20)
    bank.add(given := texts(20))
    bank.voices.add(Hashed(1), 'v')
    own = bank.tune([(' '.join(text.split()[1:4]), i) for i, text in enumerate(given, 1)])
    bank.add(texts(20, 1))
    stored = bank.store.meta('fusion')
    assert stored['memories'] == 40 and stored['short']['weights'] == own['short'].weights
    class Gone(Hashed):
        "A model that is opened late, and is not there."
        @property
        def reads_descriptions(self): raise UserError('the model is not there any more')
    bank.encoder = Gone()
    with pytest.warns(UserWarning, match='stay as they were: the model is not there'): bank.settle()
    assert bank.store.meta('fusion') == stored


# stopped, and going on

def test_adding_goes_on_where_it_was(bank):
    "What was read is not read again, though another program goes on."
    bank.add(given := texts(45))
    first = Reads(during=lambda texts, side: fail(KeyboardInterrupt()) if first.read.total() >= 20 else None)
    with pytest.raises(KeyboardInterrupt): bank.voices.add(first)
    before = vectors_of(bank, first)
    assert list(before) == list(range(1, 21)) and first.read == Counter(given[:20])
    bank.add('function added(meanwhile) {}')
    with Bank(bank.folder, Hashed()) as other:
        second, seen = Reads(), []
        made = other.voices.add(second, progress=lambda done, total: seen.append((done, total)))
        assert made.whole and second.read == Counter([*given[20:], 'function added(meanwhile) {}'])
        assert seen == [(10, 26), (20, 26), (26, 26)]
        is_whole(other, second)
    assert vectors_of(bank, first).items() >= before.items()


def test_memories_change_while_it_reads(bank):
    "What is deleted meanwhile needs no vector, all of a batch too; what is added gets one; a removed voice stops."
    bank.add(texts(40))
    with Bank(bank.folder, Hashed()) as other:
        todo = [lambda: other.delete([3, 12, 40]), lambda: other.delete(range(13, 21)), lambda: other.add(texts(2, 1)),
                lambda: other.compact(0)]
        def change(texts, side):
            if texts != ['a'] and todo and side == 'code': todo.pop(0)()
        encoder = Reads(during=change)
        bank.voices.add(encoder)
        assert not todo and len(bank) == 31
        is_whole(bank, encoder)
        def remove(texts, side):
            if quits.read.total() >= 10: other.voices.remove('quits')
        quits = Reads(8, during=remove)
        with pytest.raises(UserError, match='quits was removed'): bank.voices.add(quits, 'quits')
        assert [voice.name for voice in bank.voices] == ['reads'] and vectors_left(bank) == 62
        assert bank.verify() == []


# killed

def until_dead(process, seconds, **task):
    "Let the script's child do something until it is done or killed; true if it was killed."
    print(json.dumps(task, default=str), file=process.stdin, flush=True)
    child = int(process.stdout.readline())
    clock = threading.Timer(seconds, kill, (child,))
    clock.start()
    code = int(process.stdout.readline())
    clock.cancel()
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def kill(child):
    with suppress(ProcessLookupError): os.kill(child, signal.SIGKILL)


@pytest.fixture
def script():
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}) as process, closing(process.stdin): yield process


@pytest.mark.parametrize('kills', [KILLS, pytest.param(MANY, marks=pytest.mark.faults)])
def test_killed(tmp_path, script, capsys, kills):
    "While a voice is added or removed: nothing of the bank is lost, and doing it again completes it."
    with Bank(tmp_path/'whole', Hashed()) as whole:
        whole.add(texts(60), {'source': 'git:a'})
        before = state(whole)
        shutil.copytree(tmp_path/'whole', tmp_path/'bank')
        whole.voices.add(Hashed(7), 'v')
        right = vectors_of(whole, Hashed(7))
    draw, killed, parts = random.Random(0), Counter(), Counter()
    for n in range(kills):
        what = ('add', 'remove')[n % 4 == 3]
        if what == 'remove':
            with Bank(tmp_path/'bank', Hashed()) as bank: bank.voices.add(Hashed(7), 'v')
        seconds = draw.uniform(0, (.25, .03)[what == 'remove'])
        killed[what] += until_dead(script, seconds, folder=tmp_path/'bank', what=what)
        with warnings.catch_warnings(), Bank(tmp_path/'bank', Hashed()) as bank:
            warnings.simplefilter('error')
            assert bank.verify() == [] and state(bank) == before
            known = {voice.name: voice.whole for voice in bank.voices}
            read = vectors_of(bank, Hashed(7)) if known else {}
            assert read.items() <= right.items() and (len(read) == 60 or not known.get('v'))
            parts[len(read) in (0, 60)] += 1
            encoder = Reads(7)
            bank.voices.add(encoder, 'v')
            assert encoder.read.total() <= 60 - len(read) if known else True
            assert vectors_of(bank, encoder) == right
            is_whole(bank, encoder)
            bank.voices.remove('v')
            assert vectors_left(bank) == 60 and list_folders(bank) == {'index'}
    if kills == MANY: assert killed['remove'] and parts[False] > kills / 4
    with capsys.disabled():
        print(f"\n{sum(killed.values())} kills while a voice was added ({killed['add']}) or removed "
              f"({killed['remove']}), {parts[False]} half way; nothing lost")


def works(folder, what, alone):
    "What a child does; one that will be killed says when it begins."
    module.READ_BATCH = 2
    def slowly(texts, side): time.sleep(.004)
    with Bank(folder, Hashed()) as bank:
        if what in ('add', 'remove') and alone: print(os.getpid(), flush=True)
        if what == 'add': bank.voices.add(Reads(7, during=slowly), 'v')
        if what == 'remove': bank.voices.remove('v')
        if what == 'search':
            encoder, until = Hashed(7), time.monotonic() + .4
            bank.voices._encoders[encoder.fingerprint] = encoder
            while time.monotonic() < until:
                for hit in bank.search('parse date', 5): assert hit.score > 0
        if what == 'limited':   # as a full disk: no file may become much longer
            with bank.store.reading() as db: db.execute('PRAGMA wal_autocheckpoint = 0')
            before, most = state(bank), memory_child.size(bank, 'bank.sqlite-wal') + 60_000
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
            try: bank.voices.add(Hashed(7), 'v')
            except UserError as e: assert 'could not be written, and is as it was' in str(e), e
            else: raise AssertionError('there was room for all')
            assert bank.verify() == [] and state(bank) == before and 0 < len(vectors_of(bank, Hashed(7))) < 60
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        if what == 'change':
            for n in range(10): bank.delete(bank.add(texts(3, n))[0])


def test_a_full_disk(tmp_path, script):
    "What was read stays, and with space again the rest is read."
    with Bank(tmp_path/'bank', Hashed()) as bank: bank.add(texts(60))
    print(json.dumps(dict(folder=str(tmp_path/'bank'), what=['limited'])), file=script.stdin, flush=True)
    assert script.stdout.readline() == '0\n'
    with Bank(tmp_path/'bank', Hashed()) as bank:
        encoder = Reads(7)
        bank.voices.add(encoder, 'v')
        assert encoder.read.total() < 60
        is_whole(bank, encoder)


# several at once

def test_threads_search_while_a_voice_is_added(bank):
    "Every answer is that of before or that of afterwards, and then the voice is heard."
    bank.add(given := texts(120))
    bank.voices.add(Meaning(), 'meant')
    questions = ['parse date', 'calendar path', given[5]]
    def ask(query): return [(hit.id, round(hit.score, 5)) for hit in bank.search(query, 5)]
    def ask_many():
        while not done.is_set():
            for n, query in enumerate(questions): answers[n].add(tuple(ask(query)))
            counts.append(1)
    before, done, failed, counts = [ask(query) for query in questions], threading.Event(), [], []
    answers = [set() for _ in questions]
    def thread():
        try: ask_many()
        except BaseException as e: failed.append(e)
    threads = [threading.Thread(target=thread) for _ in range(20)]
    encoder = Reads(during=lambda texts, side: time.sleep(.005) if side == 'code' else None)
    for one in threads: one.start()
    assert not bank.voices.add(encoder, background=True).whole
    bank.voices.wait()
    after, until = [ask(query) for query in questions], len(counts) + 20
    while len(counts) < until: time.sleep(.005)
    done.set()
    for one in threads: one.join()
    assert failed == [] and before != after
    for n, some in enumerate(answers): assert some <= {tuple(before[n]), tuple(after[n])} and tuple(after[n]) in some
    assert 'reads' in bank.search('parse date')[0].voices
    is_whole(bank, encoder)


def test_threads_search_while_a_voice_is_removed(plain):
    plain.add(texts(60))
    failed, done = [], threading.Event()
    def thread():
        try:
            while not done.is_set(): assert plain.search('parse date', 5)
        except BaseException as e: failed.append(e)
    threads = [threading.Thread(target=thread) for _ in range(5)]
    for one in threads: one.start()
    with Bank(plain.folder) as other:
        for n in range(6):
            plain.voices.add(Hashed(1), 'v')
            plain.search('date')
            (plain if n % 2 else other).voices.remove('v')
    done.set()
    for one in threads: one.join()
    assert failed == []


def test_what_goes_wrong_in_the_background_is_told(bank):
    bank.add(texts(12))
    def stop(texts, side):
        if texts != ['a']: fail(RuntimeError('no power'))
    bank.voices.add(Reads(during=stop), background=True)
    with pytest.raises(UserError, match='no power'): bank.voices.wait()
    bank.voices.wait()   # once
    bank.voices.add(Reads(), background=True)
    bank.voices.add(Hashed(8), 'second', background=True)
    bank.voices.wait()
    assert [voice.whole for voice in bank.voices] == [True, True]
    with pytest.raises(UserError, match='letters'): bank.voices.add(Hashed(9), 'a b', background=True)


def test_a_bank_is_closed_while_a_voice_reads(tmp_path):
    begun = threading.Event()
    def slowly(texts, side):
        if texts != ['a']: begun.set()
        time.sleep(.005)
    with Bank(tmp_path/'bank') as bank:
        bank.add(texts(60))
        bank.voices.add(Reads(during=slowly), background=True)
        begun.wait()
    with pytest.raises(UserError, match='was closed'): bank.voices.wait()
    with Bank(tmp_path/'bank') as bank:
        assert bank.verify() == []
        bank.voices.add(Reads())
        is_whole(bank, Reads())


def test_processes_add_the_same_voice(tmp_path, script):
    "While a third one searches and a fourth one changes memories."
    with Bank(tmp_path/'bank', Hashed()) as bank: bank.add(texts(60))
    task = dict(folder=str(tmp_path/'bank'), what=['add', 'add', 'search', 'change'])
    print(json.dumps(task), file=script.stdin, flush=True)
    assert script.stdout.readline() == '0 0 0 0\n'
    with Bank(tmp_path/'bank', Hashed()) as bank:
        assert [voice.name for voice in bank.voices] == ['v']
        encoder = Hashed(7)
        bank.voices.add(encoder, 'v')   # what others added meanwhile without opening it
        is_whole(bank, encoder)
        agrees(bank)


# bad encoders

def with_row(row, at=13):
    "Vectors of which one is wrong."
    def during(texts, side):
        if texts == ['a'] or side == 'words' or at >= len(texts) + during.read: return setattr_(during, texts)
        vectors = Hashed(7).encode(texts)
        vectors[at - during.read] = row
        return vectors
    def setattr_(f, texts): f.read += len(texts) if texts != ['a'] else 0
    during.read = 0
    return during


def after(n, do):
    "Behave for so many texts."
    def during(texts, side):
        if texts == ['a']: return None
        during.read += len(texts)
        return do(texts) if during.read > n else None
    during.read = 0
    return during


BAD = {
    'NaN': (lambda: with_row(np.nan), 'finite'), 'infinity': (lambda: with_row(np.inf), 'finite'),
    'zero': (lambda: with_row(0.), 'other than zero'),
    'a row less': (lambda: after(10, lambda texts: np.ones((len(texts) - 1, 16))), r'shape \(10, d\)'),
    'a row more': (lambda: after(10, lambda texts: np.ones((len(texts) + 1, 16))), r'shape \(10, d\)'),
    'one vector for all': (lambda: after(10, lambda texts: np.ones(16)), r'shape \(10, d\)'),
    'another dimension': (lambda: after(10, lambda texts: np.ones((len(texts), 17))), r'shape \(16,\)'),
    'ragged': (lambda: after(10, lambda texts: [[1.], [1., 2.]]), 'ValueError'),
    'text': (lambda: after(10, lambda texts: np.full((len(texts), 16), 'x')), 'real numbers'),
    'None': (lambda: after(10, lambda texts: [None] * len(texts)), 'shape'),
    'an error': (lambda: after(10, lambda texts: fail(ZeroDivisionError('by zero'))), 'by zero'),
    'out of memory': (lambda: after(10, lambda texts: fail(MemoryError())), 'MemoryError'),
}


@pytest.mark.parametrize('what', BAD)
def test_a_bad_batch_is_not_stored(bank, what):
    "Refused by one sentence, the bank as before; a good one goes on."
    make, why = BAD[what]
    bank.add(texts(35))
    before, answers = state(bank), bank.search('parse date')
    with pytest.raises(UserError, match=why) as e: bank.voices.add(Reads(during=make()), 'bad')
    assert '\n' not in str(e.value) and 'bad' in str(e.value)
    assert state(bank) == before and bank.search('parse date') == answers and bank.verify() == []
    assert list(vectors_of(bank, Reads())) == list(range(1, 11))   # the batch before it
    bank.voices.add(Reads(), 'bad')
    is_whole(bank, Reads())


@pytest.mark.parametrize('vectors', [np.float32(1), [], np.ones(3), np.zeros((1, 0)), np.ones((2, 3)), None, 'text',
                                     [None]])
def test_who_gives_no_vector_at_all_is_not_even_known(bank, vectors):
    bank.add('let a')
    with pytest.raises(UserError, match='must|bad'): bank.voices.add(SimpleNamespace(
        fingerprint='none', encode=lambda texts, side: vectors), 'bad')
    assert not bank.voices and bank.store.encoder('none') is None and bank.verify() == []


def test_who_cannot_be_asked_even_once_is_not_known(bank):
    bank.add('let a')
    with pytest.raises(UserError, match='bad.*no power'):
        bank.voices.add(Reads(during=raises(RuntimeError('no power'))), 'bad')
    assert not bank.voices


QUESTIONS = {
    'a UserError': raises(UserError('no power')), 'another error': raises(RuntimeError('no power')),
    'NaN': lambda texts, side: np.full((1, 16), np.nan), 'another dimension': lambda texts, side: np.ones((1, 17)),
    'two rows': lambda texts, side: np.ones((2, 16)), 'ragged': lambda texts, side: [[1.], [1., 2.]],
    'text': lambda texts, side: [['x'] * 16],
}


@pytest.mark.parametrize('own', [True, False])
@pytest.mark.parametrize('what', QUESTIONS)
def test_a_question_that_fails(tmp_path, monkeypatch, what, own):
    "The others answer, a note says who is missing and why, and it is left alone for a while."
    clock = SimpleNamespace(now=1000.)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(module, 'time', clock)
    with Bank(tmp_path/'bank', Hashed() if own else None) as bank:
        bank.add(texts(12))
        before = bank.search('parse date')
        tries, broken = [], True
        def during(texts, side):
            if side == 'code': return None
            tries.append(texts)
            return QUESTIONS[what](texts, side) if broken else None
        bank.voices.add(Reads(during=during))
        for n in range(3):
            hits = bank.search('parse date')
            assert hits == before and hits.note.startswith('without voice reads: ') and '\n' not in hits.note
            assert len(tries) == 1
            clock.now += module.SILENCE / 3 - .1
        with pytest.raises(UserError, match='reads must be there'): bank.search('parse date', how='reads')
        with pytest.raises(UserError, match='every voice must be there'): bank.tune()
        clock.now += 1
        assert bank.search('parse date').note and len(tries) == 2
        clock.now += module.SILENCE + 1
        with pytest.raises(UserError): bank.search('parse date', how='reads')
        assert len(tries) == 3
        broken = False
        clock.now += module.SILENCE + 1
        hits = bank.search('parse date')
        assert not hits.note and 'reads' in hits[0].voices and len(tries) == 4 and bank.verify() == []


# what comes later

def test_what_comes_and_goes_is_read_and_forgotten(bank, tmp_path):
    bank.add(texts(20))
    encoder = Reads()
    bank.voices.add(encoder)
    bank.search('date', how='reads')
    def check(*gone):
        is_whole(bank, encoder)
        for i in gone: assert i not in {hit.id for hit in bank.search(bank.get(i)[0].text, 50, 'reads')}
    ids = bank.add(texts(3, 1))
    check()
    new, = bank.update(ids[0], 'function corrected date')
    check(ids[0])
    bank.delete(ids[1:])
    check(*ids)
    bank.undo()
    check(ids[0])
    bank.undo()
    check(new)
    bank.add_memory(Hashed().encode(['let y']), 'let y')
    check()
    bank.update_memory(new - 1, Hashed().encode(['let z']), 'let z')
    check()
    (tmp_path/'src').mkdir()
    (tmp_path/'src'/'a.ts').write_text('/** Adds. */\nexport function add(a: number) { return a + 1; }\n')
    bank.sync(f'dir:{tmp_path/"src"}', progress=lambda line: None)
    check()
    (tmp_path/'src'/'a.ts').write_text('/** Adds two. */\nexport function add(a: number) { return a + 2; }\n')
    bank.sync(f'dir:{tmp_path/"src"}', progress=lambda line: None)
    check()
    bank.forget(f'dir:{tmp_path/"src"}', progress=lambda line: None)
    check()
    bank.export(tmp_path/'all.jsonl')
    bank.import_(tmp_path/'all.jsonl')
    check()
    bank.compact(0)
    check()
    bank.rebuild()
    check()
    assert max(encoder.read.values()) <= 2   # no text of a memory twice


def test_who_cannot_read_today_reads_later(plain):
    "An acknowledged memory is acknowledged; what is deleted meanwhile is never found, though it was read in part."
    broken = False
    def during(texts, side):
        if broken and side == 'code': raise ConnectionError('no route')
    encoder = Reads(during=during)
    plain.add(texts(20))
    plain.voices.add(encoder)
    plain.search('date', how='reads')
    broken = True
    with pytest.warns(UserWarning, match='voice reads did not read 3 new memories.*no route'):
        ids = plain.add(texts(3, 1))
    assert plain.voices.count_unread() == {'reads': 3} and plain.verify() == []
    assert {hit.id for hit in plain.search('parse', 50, 'reads')} == set(range(1, 21))
    assert set(ids) & {hit.id for hit in plain.search('parse date list sum', 50)}   # by words
    # only a part of them is read: the index holds what the log has behind it
    broken = False
    plain.voices._read_batch(plain.voices.find('reads'), np.array(ids[1:2]))
    assert {hit.id for hit in plain.search('parse', 50, 'reads')} == {*range(1, 21), ids[1]}
    plain.delete(ids[1])
    assert {hit.id for hit in plain.search('parse', 50, 'reads')} == set(range(1, 21))
    assert ids[1] not in {hit.id for hit in plain.search('parse date', 50)}
    broken = True
    with pytest.warns(UserWarning, match='did not read 2 new memories.*no route'): plain.undo()
    assert {hit.id for hit in plain.search('parse', 50, 'reads')} == {*range(1, 21), ids[1]}
    with Bank(plain.folder, readonly=True) as other:
        other.voices._encoders[encoder.fingerprint] = encoder
        assert {hit.id for hit in other.search('parse', 50, 'reads')} == {*range(1, 21), ids[1]}
        plain.delete(ids[1])
        assert {hit.id for hit in other.search('parse', 50, 'reads')} == set(range(1, 21))
    broken = False
    plain.rebuild()
    plain.undo()
    is_whole(plain, encoder)


def test_who_cannot_be_opened(plain, monkeypatch):
    "Is named in a note, and does not keep memories from being added."
    plain.add(texts(5))
    encoder = Reads()
    monkeypatch.setattr(module, 'open_voice', lambda model: encoder)
    plain.voices.add('org/model')
    for error in (UserError('org/model must be there'), ImportError('no module'), OSError('disk')):
        monkeypatch.setattr(module, 'open_voice', lambda model: fail(error))
        with Bank(plain.folder) as bank:
            with pytest.warns(UserWarning, match='voice reads did not read .* (it|them): org/model'):
                bank.add('function added')
            assert str(error) in bank.search('added').note and bank.search('added')[0].text == 'function added'
    monkeypatch.setattr(module, 'open_voice', lambda model: Reads(8))
    with Bank(plain.folder) as bank: assert 'is another encoder than it was' in bank.search('added').note
    with Bank(plain.folder) as bank:
        bank.voices.remove('reads')
        assert not bank.search('added').note
    with Bank(plain.folder) as bank: bank.voices.add(Reads())
    with Bank(plain.folder) as bank: assert 'program that has ended; add it again' in bank.search('added').note


def test_compact_keeps_who_is_heard(bank):
    bank.add(texts(20))
    bank.voices.add(Hashed(1), 'kept')
    bank.voices.add(Hashed(2), 'gone')
    bank.delete([1, 2])
    with bank.store.reading() as db: rows = db.execute('SELECT * FROM encoders').fetchall()
    assert len(rows) == 3 and vectors_left(bank) == 60
    bank.voices._note(bank.voices.find('gone'), there=False)   # as far as a killed `remove` came
    bank.compact(0)
    assert vectors_left(bank) == 36
    is_whole(bank, Hashed(1))


def damage_vectors(bank, encoder, ids):
    with bank.store.writing() as db:
        for i in ids:
            db.execute("UPDATE vectors SET vector = zeroblob(length(vector)) WHERE item = ? AND encoder = "
                       "(SELECT id FROM encoders WHERE fingerprint = ?)", (i, encoder.fingerprint))


@pytest.mark.parametrize('own', [True, False])
def test_damage_of_a_voice_is_seen_and_mended(tmp_path, own):
    "Its vectors can be made again from the texts, so no backup is needed."
    with Bank(tmp_path/'bank', Hashed() if own else None) as bank:
        bank.add(texts(20))
        encoder = Reads()
        bank.voices.add(encoder)
        bank.search('date')
        folder = bank.voices._index_folder(bank.voices.find('reads'))
    path = next(folder.glob('*.faiss'))
    data = path.read_bytes()
    path.write_bytes(data[:300] + b'?!' + data[302:])
    with Bank(tmp_path/'bank', Hashed() if own else None) as bank:
        with pytest.warns(UserWarning, match='it is damaged'): bank.verify()
        bank.voices.add(encoder)
        bank.rebuild()
        is_whole(bank, encoder)
        encoder.read.clear()
        damage_vectors(bank, encoder, [3, 7])
        faults = bank.verify()
        assert len(faults) == 2 and all('bank.rebuild()' in fault for fault in faults), faults
        bank.rebuild()
        assert encoder.read.total() == 2
        is_whole(bank, encoder)
        if own: agrees(bank)


def test_a_damaged_vector_does_not_end_the_others(plain):
    "Of the bank: what is wrong has a name, and is mended."
    plain.add(texts(20))
    encoder = Reads()
    plain.voices.add(encoder)
    damage_vectors(plain, encoder, [3])
    with pytest.warns(UserWarning), pytest.raises(UserError, match='vector of memory 3.*bank.verify'):
        plain.search('parse', how='reads')
    plain.rebuild()
    is_whole(plain, encoder)


@pytest.mark.parametrize('flips', [40, pytest.param(1000, marks=pytest.mark.faults)])
@pytest.mark.filterwarnings('ignore:the index in')
def test_flipped_bits_are_noticed(tmp_path, flips):
    "Anywhere in the file of a bank with a voice: refused, seen by verify, or harmless."
    encoder = Hashed(7)
    def look(folder):
        with Bank(folder, Hashed(), readonly=True) as bank:
            bank.voices._encoders[encoder.fingerprint] = encoder
            faults = bank.verify()
            try: return faults, [vectors_of(bank, encoder), list(bank.voices), bank.search('parse date'), state(bank)]
            except UserError as e: return faults, str(e)
    with Bank(tmp_path/'bank', Hashed()) as bank:
        bank.add(texts(12))
        bank.voices.add(encoder, 'v')
        bank.search('date')
    shutil.copytree(tmp_path/'bank', tmp_path/'copy')
    (_, before), data = look(tmp_path/'bank'), (tmp_path/'bank'/'bank.sqlite').read_bytes()
    used, draw, seen = [at for at, byte in enumerate(data) if byte], random.Random(0), Counter()
    for _ in range(flips):
        at, bit = draw.choice(used), 1 << draw.randrange(8)
        (tmp_path/'copy'/'bank.sqlite').write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1:])
        try: faults, found = look(tmp_path/'copy')
        except UserError: faults, found = ['refused'], ''
        assert faults or found == before, (at, bit, found)
        seen[bool(faults)] += 1
    assert seen[True] > flips / 2


# readers, older banks, bundles

def test_a_reader(bank):
    "Searches with a voice while the writer adds; writes nothing, and its index is in memory."
    bank.add(texts(20))
    encoder = Reads()
    bank.voices.add(encoder)
    files = {path for path in bank.folder.rglob('*')}
    with Bank(bank.folder, Hashed(), readonly=True) as reader:
        with pytest.raises(UserError, match='readonly'): reader.voices.add(Hashed(9), 'nine')
        with pytest.raises(UserError, match='readonly'): reader.voices.remove('reads')
        assert 'program that has ended' in reader.search('date').note
        reader.voices._encoders[encoder.fingerprint] = encoder
        reader.voices._silent.clear()
        assert reader.search('parse date') == bank_hits(bank, files)
        for n in range(3):
            new = bank.add(texts(4, n + 1))
            bank.delete(new[0])
            is_whole(reader, encoder)
            assert reader.search('parse date') == bank.search('parse date')
        bank.rebuild()
        is_whole(reader, encoder)
        bank.voices.remove('reads')
        assert not reader.search('parse date').note and len(reader.voices) == 0


def bank_hits(bank, files):
    "Of the writer, which has its files only now."
    assert {path for path in bank.folder.rglob('*')} == files
    return bank.search('parse date')


def test_an_older_bank(tmp_path):
    with zipfile.ZipFile(Path(__file__).parent/'old_bank.zip') as file: file.extractall(tmp_path)
    encoder = Reads()
    with Bank(tmp_path/'bank', memory_child.Words(1)) as bank:
        assert not bank.voices and bank.stats()['voices'] == {}
        bank.voices.add(encoder)
        is_whole(bank, encoder)
        bank.undo()
        bank.settle()
        is_whole(bank, encoder)


# the command line

@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    "Run `shutka memory ... --bank b` in a folder with two tiny sentence encoders."
    pytest.importorskip('sentence_transformers')
    from test_sentences import bert

    from shutka.faces import cli
    monkeypatch.chdir(tmp_path)
    bert(tmp_path/'tiny')
    capsys.readouterr()
    def run(*words, code=0, warns=False):
        assert cli.run_command(['memory', *words, '--bank', 'b']) == code
        out, err = capsys.readouterr()
        assert 'Traceback' not in err and err.count('\n') == bool(code or warns), err
        return err if code else out + err
    return run


def test_the_command_line(command, tmp_path):
    command('add', 'parse the date')
    command('add', 'sort a queue of user')
    said = command('voice', 'add', 'tiny')
    assert 'tiny has read 2 memories in b, 16 numbers each' in said and 'first guess' in said
    listed = command('voice', 'list')
    assert 'tiny' in listed and str(tmp_path/'tiny') in listed and '0' in listed
    assert 'tiny' in command('stats')
    assert 'parse the date' in command('search', 'date')
    assert 'unknown voice' in command('voice', 'remove', 'tin', code=2)
    assert "name must be letters" in command('voice', 'add', 'tiny', '--name', 'a b', code=2)
    assert 'nowhere' in command('voice', 'add', './nowhere', code=2)
    assert 'doc comments' in command('tune', code=2)
    Path('asked.jsonl').write_text('{"query": "when", "answers": ["parse"]}\n')
    assert command('tune', '--questions', 'asked.jsonl', code=2)
    command('add', 'add a file')
    assert command('voice', 'list').splitlines()[1].split()[-1] == '0'
    shutil.move('tiny', 'moved')
    assert 'tiny did not read 1 new memory' in command('add', 'test a node', warns=True)
    assert command('voice', 'list').splitlines()[1].split()[-1] == '1'
    assert 'has read 4 memories' in command('voice', 'add', 'moved')
    assert str(tmp_path/'moved') in command('voice', 'list')
    assert 'is not heard any more; 4 memories in b' in command('voice', 'remove', 'tiny')
    assert 'tiny' not in command('stats')


def test_a_sentence_encoder_of_the_banks_own_reads_descriptions(bank):
    "Through the command line, which opens it late, as in Python."
    from shutka.faces.memory_commands import LazyModel
    encoder = Reads(0)
    encoder.reads_descriptions = True
    text = '/** Parse the date. */\nfunction sortQueue(graph) { return name + file + test }'
    bank.reencode(encoder)
    bank.encoder = LazyModel(bank, None)
    bank.encoder.loaded = encoder.fingerprint, encoder
    bank.add(text)
    assert encoder.read == Counter([describe_snippet(text)])


@pytest.mark.parametrize('words', [['voice', 'add'], ['voice', 'list'], ['voice', 'remove'], ['tune']])
def test_help_has_examples(words, capsys):
    from shutka.faces import cli
    assert cli.run_command(['memory', *words, '--help']) == 0
    assert capsys.readouterr().out.count(f"shutka memory {' '.join(words)} ") >= 2


# what is read, and what is asked

N = 25_000
HOSTILE = {
    'stars': '/**' + ' *\n' * N, 'stars and an end': '/**' + '*' * 2 * N + '*/ function a() {}',
    'unclosed comments': '/** a ' * N, 'braces': '{' * 100_000, 'blanks': ' ' * 100_000, 'titles': '// a\n' * N,
    'lines': '\n' * 100_000, 'words': 'public ' * N, 'letters': 'a' * 100_000, 'capitals': 'A' * 100_000,
    'a title of letters': f"// {'aB' * N}\nlet a", 'dots': '// ' + 'a.' * N + '\n', 'declared': 'function ' * N,
    'comment lines': '/**' + '\n  *  a' * N + '*/', 'members': 'get set static ' * N + '(', 'nothing': '',
    'nulls': '\0' * 1000, 'surrogates': '/** \udc80 */ function a\udc80() {}', 'half': '/**/', 'slash': '/',
    'title': '// a', 'blank comment': '/**' + ' ' * 50_000 + '*/', 'stars in lines': '/**' + '\n***** ' * N + '*/',
}


@pytest.mark.parametrize('what', HOSTILE)
def test_a_description_of_anything(what):
    "Never raises, is short, and the same every time; what reads twice for each letter would take minutes here."
    text = HOSTILE[what]
    made = describe_snippet(text)
    assert made == describe_snippet(text) and '\n' not in made
    assert len(made) <= LONGEST_DOC + 3 * LONGEST_HEAD


def test_questions_are_the_same_every_time():
    given = documented(30) + list(HOSTILE.values()) + texts(10)
    made = make_queries(given)
    assert made == make_queries(given) and made != make_queries(given, seed=1) and len(made) >= 30
    assert all(query.answer < 30 and query.text for query in made)


def serve():
    "Fork a child for each line; several at once if what it says is a list."
    for line in sys.stdin:
        task, children = json.loads(line), []
        for what in [task['what']] if isinstance(task['what'], str) else task['what']:
            if not (child := os.fork()):
                try: works(Path(task['folder']), what, isinstance(task['what'], str))
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            children.append(child)
        print(*[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], flush=True)


def test_a_voice_that_is_added_has_its_say_at_once(tmp_path):
    "Weights are chosen as soon as it has read all, in Python as on the command line."
    docs = [f'/** {a} a {b} of {c}. */' for a in ('Parse', 'Sort') for b in ('date', 'queue') for c in texts(30)]
    with Bank(tmp_path/'bank', Hashed()) as bank:
        bank.add([f'{doc}\nfunction f{i}(a: number) {{ return a }}' for i, doc in enumerate(docs)])
        assert 'meaningful' not in str(bank.store.meta('fusion'))
        bank.voices.add(Meaning(), 'meaningful', background=True)
        bank.voices.wait()
        assert 'meaningful' in bank.store.meta('fusion')['made_for']


if __name__ == '__main__': serve()

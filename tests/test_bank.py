"""What broke other banks, done to ours; and that it finds what a search by hand finds.

As a script, `python test_bank.py works FOLDER SEED` changes and searches a bank until it is killed, and prints what was
acknowledged.
"""
import copy
import json
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.memory import bank as module
from shutka.memory import rows
from shutka.memory.bank import Bank, attach
from shutka.memory.encoder import fingerprint
from shutka.memory.fusion import SLACK, choose_weights, fuse, guess_weights, measure_weights
from shutka.memory.highlight import highlight_words
from shutka.memory.index import Index
from shutka.text.words import hash_words

D = 16


class Hashed:
    "An encoder without PyTorch: the mean of a random vector for each word."
    def __init__(self, seed=0, d=D):
        self.fingerprint = f'hashed {seed} {d}'
        self.table = np.random.default_rng(seed).standard_normal((1024, d)).astype(np.float32)

    def encode(self, texts, side='code'): return np.stack([self.table[hash_words(t, 1024, 64)].mean(0) for t in texts])


class Concepts:
    "An encoder that knows which words mean the same."
    fingerprint = 'concepts'
    groups = [{'pars', 'read', 'decod'}, {'date', 'day', 'calendar'}, {'sum', 'total', 'add'}]
    def encode(self, texts, side='code'):
        from shutka.text.words import split_words
        counts = [[sum(w in group for w in split_words(t)) for group in self.groups] for t in texts]
        return np.array(counts, np.float32) + .01


class Fails(Hashed):
    "Encodes some pieces, then the plug is pulled."
    def __init__(self, seed, pieces):
        super().__init__(seed)
        self.left = pieces

    def encode(self, texts, side='code'):
        self.left -= 1
        if self.left < 0: raise KeyboardInterrupt
        return super().encode(texts, side)


NAMES = ['parse', 'date', 'sum', 'list', 'color', 'path', 'graph', 'byte', 'tree', 'user']


def text(rng): return f"function {' '.join(rng.choice(NAMES) for _ in range(6))} {rng.randrange(10**6)}"
def texts(n, seed=0): return [text(rng) for rng in [random.Random(seed)] for _ in range(n)]


def agrees(bank):
    "Every live memory, as a question, finds what a search by hand finds."
    ids, vectors = bank.store.vectors()
    assert ids.tolist() == bank.store.live().tolist()
    for item in bank.get(ids):
        question = bank.encoder.encode([item.text], side='words')[0]
        cosines = vectors @ (question / np.linalg.norm(question))
        hits = bank.search(item.text, k=5, how='dense')
        np.testing.assert_allclose([h.score for h in hits], np.sort(cosines)[::-1][:5], atol=1e-5)
        found = [cosines[np.searchsorted(ids, h.id)] for h in hits]
        np.testing.assert_allclose(found, [h.score for h in hits], atol=1e-5)


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path/'bank', Hashed()) as bank: yield bank


@pytest.fixture(scope='module')
def model():
    import torch
    from small import SMALL

    from shutka.models.text_jepa import TextJEPA
    torch.manual_seed(0)
    return TextJEPA(SMALL).eval()


# what broke other banks

def test_labels_stay_right_after_deletions(bank):
    given = texts(300)
    ids = bank.add(given)
    bank.search('warm')                        # the index has a file
    bank.delete([ids[i] for i in (0, 7, 100, 299)])
    kept = [(i, t) for n, (i, t) in enumerate(zip(ids, given)) if n not in (0, 7, 100, 299)]
    assert [bank.search(t, k=1, how='dense')[0].id for _, t in kept] == [i for i, _ in kept]
    agrees(bank)


def test_many_updates(bank):
    bank.add(given := texts(20))
    for n in range(40):
        old = bank.search(given[n % 20], k=1, how='dense')[0]
        given[n % 20] = f'corrected {n} {old.text}'
        new, = bank.update(old.id, given[n % 20])
        assert new > old.id and bank.search(given[n % 20], k=1, how='dense')[0].id == new
    assert len(bank) == 20 and bank.verify() == []
    agrees(bank)


def test_vectors_are_normalised_and_the_callers_are_not(bank):
    given = 7 * np.random.default_rng(0).standard_normal((3, D))
    before = given.copy()
    ids = bank.add_memory(given, ['let a', 'let b', 'let c'])
    np.testing.assert_array_equal(given, before)
    np.testing.assert_allclose(np.linalg.norm(bank.store.vectors(ids=ids)[1], axis=1), 1, atol=1e-6)


def test_memories_added_with_embeddings_are_found_by_their_text(bank):
    embeddings = np.random.default_rng(0).standard_normal((2, D))
    bank.add_memory(embeddings, ['function parseHttpHeader(s) {}', 'function addWeeks(d) {}'])
    hit = bank.search('http header', how='words')[0]
    assert hit.text == 'function parseHttpHeader(s) {}' and bank.search('parseHttpHeader')[0].text == hit.text


def test_nothing_is_lost_when_killed(tmp_path):
    rng = random.Random(0)
    for kill in range(5):
        command = [sys.executable, __file__, 'works', tmp_path/'bank', str(kill)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            first = child.stdout.readline()      # it works
            time.sleep(rng.random() * .4)
        finally: child.kill()
        said = [line for line in (first + child.stdout.read()).splitlines(keepends=True) if line.endswith('\n')]
        child.wait()
        with Bank(tmp_path/'bank', Hashed()) as bank:
            log = {o.id: o for o in bank.operations(10**6)}
            for number, kind, added, deleted in map(json.loads, said):
                assert (kind, added, deleted) == (log[number].kind, log[number].added, log[number].deleted)
            assert said and bank.verify() == []
            agrees(bank)


def works(folder, seed):
    rng = random.Random(seed)
    with Bank(folder, Hashed()) as bank:
        while True:
            what, live = rng.random(), bank.store.live().tolist()
            if what < .2 and live: bank.delete(rng.sample(live, rng.randint(1, min(9, len(live)))))
            elif what < .3 and live: bank.update(rng.choice(live), text(rng))
            elif what < .35 and live: bank.undo(bank.operations(1)[0].id)
            else: bank.add([text(rng) for _ in range(rng.randint(1, 5))])
            if what > .95: bank.rebuild()
            operation = bank.operations(1)[0]
            print(json.dumps([operation.id, operation.kind, operation.added, operation.deleted]), flush=True)
            bank.search(text(rng))


# searching

def test_hybrid_finds_by_identifier_and_by_meaning(tmp_path):
    with Bank(tmp_path/'bank', Concepts()) as bank:
        bank.add(['function readDay(s) { return new Date(s) }', 'function zodEnum(xs) { return total(xs) }',
                  'const retryBudget = 7'])
        assert bank.search('retryBudget')[0].text == 'const retryBudget = 7'
        by_meaning = bank.search('a calendar')[0]
        assert 'readDay' in by_meaning.text and by_meaning.bm25 is None and by_meaning.cosine > .5
        both = bank.search('read a date')[0]
        assert both.bm25 and both.cosine and 0 < both.score < 1
        assert not bank.search('calendar', how='words')


@pytest.mark.parametrize('how', ['hybrid', 'dense', 'words'])
def test_filters(bank, how):
    about = [{'source': f'npm:lib{i % 3}', 'version': '1' if i % 2 else '2', 'kind': 'function'} for i in range(150)]
    bank.add(texts(150), about)
    bank.add('function sum(parse) {}')
    for where, n in (({'source': 'npm:lib1'}, 50), ({'source': ['npm:lib0', 'npm:lib2'], 'version': '1'}, 50),
                     ({'source': None}, 1), ({'source': 'npm:none'}, 0)):
        hits = bank.search('function parse sum', k=200, how=how, where=where)
        assert len(hits) == n
        for key, value in where.items():
            allowed = value if isinstance(value, list) else [value]
            assert all(h.metadata.get(key) in allowed for h in hits)


def test_as_many_hits_as_asked_for(bank):
    bank.add(texts(130))
    for how in module.SEARCH_MODES:
        assert [len(bank.search('function', k, how)) for k in (1, 10, 130, 500, 2**62)] == [1, 10, 130, 130, 130]
        assert bank.search('function', np.int64(3), how) == bank.search('function', 3, how)


def test_undo_is_seen_by_the_next_search(bank):
    ids = bank.add(given := texts(10))
    bank.delete(ids[3])
    assert ids[3] not in {h.id for h in bank.search(given[3], how='dense')}
    bank.undo()
    assert bank.search(given[3], k=1, how='dense')[0].id == ids[3]
    bank.undo()
    assert bank.search(given[3]) == [] and len(bank) == 0
    agrees(bank)


def test_an_empty_bank_answers_nothing(bank):
    assert bank.search('date') == [] and bool(bank) and bank.verify() == []


@pytest.mark.parametrize(('query', 'ids'), [
    ('"', []), ("'; DROP TABLE items; --", []), ('a AND (b OR', [1]), ('NEAR(', []), ('*', []), ('(', []), ('x:y', []),
    ('text:a', [1]), ('{}', []), ('日本', [2]), ('\x00', []), ('-', [])])
def test_a_question_has_no_syntax(bank, query, ids):
    "Its words are looked for, whatever stands between them; it has a direction, so both memories are near or far."
    bank.add(['let a = 1', 'function 日本() {}'])
    assert [hit.id for hit in bank.search(query, how='words')] == ids
    near = bank.search(query, how='dense')
    assert sorted(hit.id for hit in near) == [1, 2]
    matches = ids or near[0].cosine >= .24
    assert sorted(hit.id for hit in bank.search(query, how='hybrid')) == ([1, 2] if matches else [])
    assert bank.verify() == []


@pytest.mark.parametrize('wrong, why', [
    (dict(query=''), 'must be a text'), (dict(query=None), 'must be a text'),
    (dict(query='a', k=0), 'k must be 1 or more, got 0'), (dict(query='a', k=2.), 'k must be a whole number, got 2.0'),
    (dict(query='a', k=2**70), 'k must fit into 64 bits'),
    (dict(query='a', how='sparse'), 'unknown way'), (dict(query='a', where={'a b': 1}), 'must be a name')])
def test_searches_refused(bank, wrong, why):
    bank.add('let a')
    with pytest.raises(UserError, match=why): bank.search(**wrong)


UNSPACED = ['/** 日付を文字列に変換する。 */ function a() {}', '/** 将日期转换为字符串 */ function b() {}',
            '/** แปลงวันที่เป็นข้อความ */ function c() {}', '/** parse日付 */ function d() {}',
            '/** Café für Größe */ function e() {}']


@pytest.mark.parametrize(('query', 'found'), [
    ('日付', [1, 4]), ('文字列', [1]), ('日期', [2]), ('字符串', [2]), ('วันที่', [3]), ('ข้อความ', [3]),
    ('期', [2]), ('付', [1, 4]), ('parse', [4]), ('日付の変換', [1, 4]), ('変換する', [1]), ('火星', []), ('串符', []),
    ('cafe\u0301', [5]), ('gro\u0308ße', [5]), ('GRÖSSE', []), ('fu\u0308r', [5])])
def test_words_without_blanks_and_letters_in_two_spellings(tmp_path, query, found):
    "Neighbours are found in a run of characters, and both spellings of an accent, whoever wrote which."
    import unicodedata
    for form in ('NFC', 'NFD'):
        with Bank(tmp_path/form) as bank:
            bank.add([unicodedata.normalize(form, text) for text in UNSPACED])
            assert sorted(hit.id for hit in bank.search(query)) == found and bank.verify() == []
            assert all('<mark>' in hit.card(query) for hit in bank.search(query))
            assert bank.get([5])[0].text == unicodedata.normalize(form, UNSPACED[4])  # the text itself is as it was


def test_words_of_an_older_bank_are_mended_by_compact(tmp_path):
    with Bank(tmp_path/'bank') as bank:
        bank.add(UNSPACED)
        with bank.store.writing() as db:  # as it was spelled before: runs were words
            db.execute("UPDATE words SET text = 'function a 日付を文字列に変換する' WHERE rowid = 1")
        assert 'bank.compact mends that' in bank.verify()[0]
        bank.compact()
        assert bank.verify() == [] and [hit.id for hit in bank.search('文字列')] == [1]


@pytest.mark.parametrize('how', ['words', 'dense', 'hybrid'])
def test_types_and_bare_names_leave_room_for_functions(bank, how):
    "A library names a thing in many ways; the function that does it is among the hits, if it answers at all."
    texts = [f'interface Retry{name}Options {{ retry: number }}' for name in 'ABCDEF'] + ['type RetryDelay = number']
    about = [{'kind': 'interface', 'name': f'Retry{name}Options'} for name in 'ABCDEF'] + [
        {'kind': 'type', 'name': 'RetryDelay'}]
    texts += ['const retry = () => delay', '/** Delay. */ const delay = () => retry()', 'export interface Retry {}']
    about += [{'kind': 'arrow', 'name': 'retry'}, {'kind': 'arrow', 'name': 'delay'},
              {'kind': 'declaration', 'name': 'Retry'}]
    long = f"function attempt(task) {{ for (const delay of delays) retry(task, delay); {'log(task, delay) ' * 5} }}"
    bank.add([*texts, long, 'function unrelated(a) { return a }'],
             [*about, {'kind': 'function', 'name': 'attempt'}, {'kind': 'function', 'name': 'unrelated'}])
    for k in (4, 6):
        hits = bank.search('retry delay options', k, how)
        answers = [hit.id for hit in hits if hit.metadata['kind'] == 'function']
        assert len(hits) == k and [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        if how != 'dense': assert 11 in answers and 12 not in answers
    assert bank.search('retry delay options', 1, how)[0].id == bank.search('retry delay options', 12, how)[0].id
    assert len(bank.search('retry delay options', 12, 'dense')) == 12
    only = bank.search('retry options', 5, how, where={'kind': 'interface'})
    assert len(only) == 5 and {hit.metadata['kind'] for hit in only} == {'interface'}


# fusion

@pytest.mark.parametrize('k', [1, 3, 10])
def test_each_side_gives_more_candidates_than_are_asked_for(tmp_path, k):
    "A memory that neither side has among its k best may be the best of both together."
    class Axes:
        fingerprint = 'axes'
        def encode(self, texts, side='code'):
            return np.array([[float(t.split()[1]) / 100, 1] if t[:1] == 'm' else [1, 0] for t in texts], np.float32)

    with Bank(tmp_path/'bank', Axes()) as bank:
        near = [f'm {100 + n} other words' for n in range(k)]             # best by meaning, no word in common
        said = [f'm 0 {"question " * 3} x{n}' for n in range(k)]               # best by words, far by meaning
        bank.add([*near, *said, f'm 85 question question {"y " * 3}', *[f'm -10 z{n}' for n in range(40)]])
        right = 2 * k + 1
        sides = [[hit.id for hit in bank.search('question', k, how)] for how in ('words', 'dense')]
        assert not any(right in side for side in sides), sides
        assert bank.search('question', k)[0].id == right


class Backwards(Hashed):
    "An encoder that finds what is least alike."
    def __init__(self):
        super().__init__()
        self.fingerprint = 'backwards'

    def encode(self, texts, side='code'): return super().encode(texts) * (-1 if side == 'words' else 1)


def test_the_weights_are_chosen_by_questions(tmp_path):
    "A bad encoder gets little say; the choice is kept, and searches are what was measured."
    given = texts(60)
    for encoder in (Backwards(), Hashed()):
        folder = tmp_path/encoder.fingerprint
        with Bank(folder, encoder) as bank:
            ids = bank.add(given)
            asked = [(' '.join(text.split()[1:5]), i) for i, text in zip(ids, given)]
            chosen = bank.tune(asked)['short']
            assert chosen.questions == 60 and chosen.mrr >= max(chosen.alone.values()) - SLACK
            ranks = {how: np.mean([1 / (1 + [hit.id for hit in bank.search(query, 60, how)].index(i))
                                   for query, i in asked]) for how in module.SEARCH_MODES}
            assert ranks['hybrid'] >= max(ranks['words'], ranks['dense']) - .02
            assert ranks['hybrid'] == pytest.approx(chosen.mrr, abs=.01)
            if isinstance(encoder, Backwards): assert ranks['words'] > ranks['dense'] + .2
        with Bank(folder, encoder, readonly=True) as bank:
            assert bank.read_own_weights() == [chosen.weights['meaning']] * 2
            before = bank.store.last_operation()
        with Bank(folder, encoder) as bank:
            bank.reencode(Hashed(5))
            # it was chosen for another encoder
            assert bank.read_own_weights() == [] and bank.store.last_operation() == before + 1


@pytest.mark.parametrize(('asked', 'why'), [
    ([], 'at least one question'), ([('date', 9)], 'id 9'), ([('date', 2)], 'memory 2 was deleted'),
    ([(' ', 1)], 'a question must be a text'), ([('date', True)], 'an id must be a whole number')])
def test_questions_refused(bank, asked, why):
    bank.add(['let a', 'let b'])
    bank.delete(2)
    with pytest.raises(UserError, match=why): bank.tune(asked)
    assert bank.store.meta('fusion') is None


def test_a_bank_of_words_has_no_fusion(tmp_path):
    with Bank(tmp_path/'bank') as bank:
        bank.add('let a')
        with pytest.raises(UserError, match=r'Bank\(folder, encoder\)'): bank.tune([('let', 1)])


def naive_mrr(cases, weights):
    "As `measure_weights`, one question after the other, in the order that `fuse` gives."
    found = []
    for sides, right in cases:
        scores = fuse(sides, weights)
        order = [i for i, score in scores.items() if score > 0]
        found.append(max([1 / (1 + order.index(i)) for i in right if i in order], default=0))
    return np.mean(found)


@pytest.mark.parametrize('names', [['a'], ['a', 'b'], ['a', 'b', 'c']])
def test_weights_are_near_the_guess_and_never_below_the_best_side(names):
    draw = np.random.default_rng(0)
    guess = guess_weights(names[:1], names[1:])
    assert sum(guess.values()) == pytest.approx(1) and list(guess) == ['words', *names]
    for _ in range(10):
        cases = [({side: {int(i): round(draw.random(), 1) for i in draw.choice(30, 20, False)} for side in guess},
                  set(draw.choice(30, 2).tolist())) for _ in range(8)]
        chosen = choose_weights(cases, guess)
        assert sum(chosen.weights.values()) == pytest.approx(1) and chosen.questions == 8
        for side in guess: assert chosen.alone[side] == pytest.approx(naive_mrr(cases, {side: 1.}))
        assert chosen.mrr == pytest.approx(naive_mrr(cases, chosen.weights))
        assert chosen.mrr >= max(chosen.alone.values()) - SLACK
        if naive_mrr(cases, guess) >= chosen.mrr: assert chosen.weights == pytest.approx(guess, abs=1e-6)


def test_common_words_are_left_out_where_they_would_take_long(tmp_path, monkeypatch):
    "What every memory says is not looked for in a large bank; the rarest word is, and the limit counts them all."
    with Bank(tmp_path/'bank') as bank:
        bank.add([f'how to {name} it' for name in ('parse', 'sort', 'merge', 'parse')])
        whole = bank.search('how to sort it')
        assert whole[0].id == 2 and len(whole) == 4
        monkeypatch.setattr(rows, 'MOST_MATCHES', 3)
        found = bank.search('how to sort it')
        assert [hit.id for hit in found] == [2] and found[0].score == pytest.approx(whole[0].score, abs=1e-4)
        assert [hit.id for hit in bank.search('how to parse a tree')] == [1, 4]
        assert len(bank.search('how to')) == 4 and bank.search('zzz') == []
        monkeypatch.setattr(rows, 'MOST_MATCHES', 1)
        assert [hit.id for hit in bank.search('parse sort')] == [2]


def test_mixtures_are_measured_as_searches_rank():
    tie = [({'words': {5: .5, 3: .5, 7: .5}, 'a': {}}, {5})]
    assert measure_weights(tie, ['words', 'a'], np.eye(2)).tolist() == [.5, 0]   # among equals the lowest id is first
    assert measure_weights([({'words': {}, 'a': {}}, {1})], ['words', 'a'], np.eye(2)).tolist() == [0, 0]


def test_fusing():
    assert fuse({}, {}) == {}
    assert fuse({'words': {1: .5}}, {'words': 1.}) == {1: .5}
    assert fuse({'words': {1: .5}, 'a': {1: .5, 2: .25}}, {'words': 1., 'a': 0}) == {1: .5}
    assert fuse({'words': {1: .5}, 'a': {1: 1., 2: .8}}, {'words': .5, 'a': .5}) == {1: .75, 2: .4}
    assert fuse({'a': {1: -.2, 2: -.1}}, {'a': 1.}) == {1: 0, 2: 0}
    assert list(fuse({'words': {5: 1., 3: 1.}}, {'words': 1.})) == [3, 5]


# the index

def test_another_process_is_seen_by_a_reader(tmp_path):
    with Bank(tmp_path/'bank', Hashed()) as writer:
        writer.add(given := texts(30))
        with Bank(tmp_path/'bank', Hashed(), readonly=True) as reader:
            agrees(reader)                           # before there is a file
            writer.delete(1)
            writer.add(more := texts(5, seed=1))
            agrees(reader)
            writer.rebuild()
            writer.undo()
            agrees(reader)
            assert reader.search(more[0], k=1, how='dense')[0].text != more[0]
            assert reader.search(given[1], k=1, how='dense')[0].text == given[1]
            with pytest.raises(UserError, match='readonly'): reader.add('let x')
            writer.reencode(Hashed(1))
            with pytest.raises(UserError, match='bank.reencode'): reader.search('date')
            reader.encoder = Hashed(1)
            agrees(reader)
        with Bank(tmp_path/'bank', wait=0) as second:  # who has a bank open does not keep others from writing
            assert second.delete(2).deleted == [2]
        with writer.store.alone(), pytest.raises(UserError, match='is being written by process'):
            Bank(tmp_path/'bank', wait=0)


@pytest.mark.parametrize('what', ['missing', 'damaged', 'another bank', 'an older database', 'a newer database'])
def test_an_index_in_doubt_is_built_again(tmp_path, what):
    folder, other = tmp_path/'bank', tmp_path/'other'
    for f, seed in ((folder, 0), (other, 1)):
        with Bank(f, Hashed()) as bank:
            bank.add(texts(40, seed))
            bank.search('date')
    if what == 'missing': shutil.rmtree(folder/'index')
    if what == 'another bank':
        shutil.rmtree(folder/'index')
        shutil.copytree(other/'index', folder/'index')
    if what == 'damaged':
        with open(next((folder/'index').glob('*.faiss')), 'r+b') as f:
            f.seek(500)
            f.write(b'?!')
    if what == 'an older database':    # as many operations and memories as the index knows, but others
        shutil.copy(folder/'bank.sqlite', tmp_path/'backup')
        with Bank(folder, Hashed()) as bank:
            bank.add(texts(5, 2))
            bank.rebuild()
        for f in folder.glob('bank.sqlite*'): f.unlink()
        shutil.copy(tmp_path/'backup', folder/'bank.sqlite')
        vectors = Hashed().encode(texts(5, 3))
        with Bank(folder) as bank: bank.store.apply('add', [(t, {}, v) for t, v in zip(texts(5, 3), vectors)])
    if what == 'a newer database':
        with Bank(folder, Hashed()) as bank:
            bank.add(texts(5, 2))
            bank.delete([3, 41])
    with Bank(folder, Hashed()) as bank, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        agrees(bank)
        assert bank.verify() == [] and bool(said) == (what == 'damaged')


def test_no_room_for_an_index_is_no_reason_to_fail(bank, monkeypatch):
    build = Index.build
    def full(folder, *args, **how):
        if folder: raise UserError("the index must be written, and that failed: no space left on device")
        return build(folder, *args, **how)
    monkeypatch.setattr(Index, 'build', full)
    bank.add(given := texts(10))
    with pytest.warns(UserWarning, match='without a file'):
        assert bank.search(given[0], k=1, how='dense')[0].text == given[0]
    agrees(bank)


def test_bytes_count_what_is_not_in_the_main_file_yet(bank):
    bank.add(texts(50))
    main, log = ((bank.folder/name).stat().st_size for name in ('bank.sqlite', 'bank.sqlite-wal'))
    assert bank.stats()['bytes'] == main + log > main


def test_a_worn_index_is_written_anew(bank):
    bank.add(texts(10))
    bank.search('date')
    bank.add(texts(5100, seed=1))
    bank.search('date')
    stats = bank.stats()['index']
    assert stats['count'] == stats['live'] == 5110 and stats['delta'] == 0 and stats['recall'] == 1


# encoders

def test_a_fingerprint_knows_every_weight_and_setting(model):
    from dataclasses import replace

    import torch

    from shutka.models.adaptation import adapt_to_collection
    from shutka.models.text_jepa import TextJEPA
    others = adapt_to_collection(model, ['let a', 'let b']), copy.deepcopy(model).bfloat16()
    seen = {fingerprint(model), *map(fingerprint, others)}
    other = TextJEPA(replace(model.config, target=40))
    other.load_state_dict(model.state_dict())
    changed = copy.deepcopy(model)
    with torch.no_grad(): changed.narrow.weight[-1, -1] += 1
    seen |= {fingerprint(other), fingerprint(changed)}
    assert len(seen) == 5 and fingerprint(copy.deepcopy(model)) == fingerprint(model)
    for wrong in (None, 7, lambda texts: texts):
        with pytest.raises(UserError, match='must be a PyTorch module'): fingerprint(wrong)


def test_another_encoder_is_refused_and_reencode_named(bank):
    ids = bank.add(texts(5))
    bank.encoder = Hashed(1)
    for call in (lambda: bank.search('date'), lambda: bank.add('let x'),
                 lambda: bank.add_memory(np.ones((1, D)), 'let x'), lambda: bank.update(ids[0], 'let x')):
        with pytest.raises(UserError, match='bank.reencode'): call()
    assert len(bank.search('function', how='words')) == 5 and bank.store.last_operation() == 1
    bank.delete(ids[0])
    assert bank.reencode() == 4
    agrees(bank)
    assert bank.undo().added == [ids[0]]       # encoded on its way back
    agrees(bank)


def test_a_model_that_learns_is_another_encoder(tmp_path, model):
    import torch
    model = copy.deepcopy(model)
    with Bank(tmp_path/'bank', model) as bank:
        bank.add(['function parse() {}', 'function sum() {}'])
        bank.search('parse')
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        a, b = model(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long))
        (a * b).sum().backward()
        optimizer.step()
        with pytest.raises(UserError, match='bank.reencode'): bank.search('parse')
        bank.reencode()
        agrees(bank)


class Meddles(Hashed):
    "An encoder, and others who change the bank while it reads."
    def __init__(self, seed, meddle):
        super().__init__(seed)
        self.meddle = meddle

    def encode(self, texts, side='code'):
        vectors = super().encode(texts, side)
        self.meddle(len(texts))
        return vectors


def test_reencode_while_others_write(bank, monkeypatch):
    "What others delete needs no vector, and what they add gets one; who is faster with the same encoder is welcome."
    monkeypatch.setattr(module, 'ENCODE_BATCH', 10)
    bank.add(texts(30))
    with Bank(bank.folder, Hashed(), wait=0) as other:
        todo = [lambda: other.delete([1, 2, 25]), lambda: other.add(texts(2, seed=1)), lambda: other.compact(0)]
        bank.reencode(Meddles(1, lambda n: n > 1 and todo and todo.pop(0)()))
        assert not todo and len(bank) == 29
        agrees(bank)
        done = []
        faster = Meddles(2, lambda n: n > 1 and not done and done.append(other.reencode(Hashed(2))))
        bank.reencode(faster)
        assert done == [29] and bank.verify() == []
        bank.encoder = Hashed(2)
        agrees(bank)


def test_reencode_goes_on_where_it_was(bank, monkeypatch):
    monkeypatch.setattr(module, 'ENCODE_BATCH', 10)
    bank.add(given := texts(45))
    with pytest.raises(KeyboardInterrupt): bank.reencode(Fails(1, pieces=3))   # one for the dimension
    assert bank.search(given[0], k=1, how='dense')[0].text == given[0]         # the old vectors serve
    bank.add('function added(meanwhile) {}')
    done = []
    assert bank.reencode(Hashed(1), lambda n, total: done.append((n, total))) == 26
    assert done == [(10, 26), (20, 26), (26, 26)] and bank.stats()['encoder'] == 'hashed 1 16'
    agrees(bank)
    bank.compact(keep=0)
    assert bank.verify() == []
    agrees(bank)


def test_a_bank_of_words_that_gets_an_encoder(tmp_path):
    with Bank(tmp_path/'bank') as bank:
        bank.add(given := texts(10), {'source': 'git:app'})
        assert 'words only' in repr(bank) and bank.stats()['search'] == 'words only'
        assert 'by words only' in str(bank.show('date'))
        assert bank.search(given[3])[0].text == given[3] and bank.search(given[3])[0].cosine is None
        for call in (lambda: bank.search('date', how='dense'), lambda: bank.search('date', how='hybrid')):
            with pytest.raises(UserError, match=r'Bank\(folder, encoder\)'): call()
        with pytest.raises(UserError, match='encoder'): bank.add_memory(np.ones((1, D)), 'let x')
        with pytest.raises(UserError, match='has none'): bank.rebuild()
        assert bank.verify() == []
    with Bank(tmp_path/'bank', Hashed()) as bank:
        for call in (lambda: bank.search('date'), lambda: bank.add('let x')):
            with pytest.raises(UserError, match='bank.reencode'): call()
        bank.reencode()
        agrees(bank)
    with Bank(tmp_path/'bank') as bank:
        with pytest.raises(UserError, match='open it with its encoder'): bank.add('let x')
        bank.delete(1)
        assert len(bank.search('function')) == 9


def test_the_first_embedding_has_the_encoders_dimension(bank):
    with pytest.raises(UserError, match=r'shape \(16,\)'): bank.add_memory(np.ones((1, 3)), 'let x')
    assert bank.store.last_operation() == 0
    bank.add('let x')


@pytest.mark.parametrize('call, why', [
    (lambda bank: bank.delete([]), 'at least one id must be given to be deleted, got none'),
    (lambda bank: bank.delete(iter(())), 'at least one id must be given'),
    (lambda bank: bank.delete_memory({}), 'at least one id must be given'),
    (lambda bank: bank.delete(True), 'an id must be a whole number, got True'),
    (lambda bank: bank.delete([1, False]), 'an id must be a whole number, got False'),
    (lambda bank: bank.delete(None), 'ids must be whole numbers, got None'),
    (lambda bank: bank.update(True, 'let x'), 'an id must be a whole number, got True'),
    (lambda bank: bank.undo(True), 'an operation must be a whole number, got True'),
    (lambda bank: bank.add([]), 'at least one text must be given, got none'),
    (lambda bank: bank.add(7), 'texts must be a str, or a list of them, got 7'),
    (lambda bank: bank.update(1, []), 'at least one text must be given, got none'),
    (lambda bank: bank.add_memory(np.ones((0, D)), []), 'at least one text must be given, got none'),
    (lambda bank: bank.search('let', k=True), 'k must be a whole number, got True')])
def test_nothing_to_do_is_refused(bank, call, why):
    "An operation that changes nothing would be what the next undo takes back; and True is not the first memory."
    bank.add(['let a', 'let b'])
    with pytest.raises(UserError, match=why): call(bank)
    assert len(bank) == 2 and bank.store.last_operation() == 1


def test_an_empty_file_is_refused(bank, tmp_path):
    (tmp_path/'empty.jsonl').write_text('')
    with pytest.raises(UserError, match='must hold at least one memory, and holds none'):
        bank.import_(tmp_path/'empty.jsonl')
    assert bank.store.last_operation() == 0


@pytest.mark.parametrize('embeddings, why', [
    (np.ones((2, D)), 'as many embeddings'), (np.full((1, D), np.nan), 'finite'), (np.zeros((1, D)), 'zero'),
    (np.ones((1, 1, D)), 'shape'), ([[1, 2], [3]], 'dimension')])
def test_embeddings_refused(bank, embeddings, why):
    with pytest.raises(UserError, match=why): bank.add_memory(embeddings, 'let x')
    assert len(bank) == 0


# the seed's calls, and a stranger's

def test_the_seeds_calls(tmp_path, model):
    import torch
    model = copy.deepcopy(model)
    attach(model, Bank(tmp_path/'bank'))
    bank = model.predictor.memory_bank
    embeddings = torch.from_numpy(model.encode(['function parseDate() {}', 'function addDays() {}'])).requires_grad_()
    ids = bank.add_memory(embeddings, ['function parseDate() {}', 'function addDays() {}'])
    new, = bank.update_memory(ids[0], model.encode(['function parseTime() {}']), ['function parseTime() {}'])
    bank.delete_memory([ids[1]])
    assert [h.id for h in bank.search('parse time')] == [new] and bank.auto_save is True
    bank.auto_save = True
    with pytest.raises(UserError, match='auto_save'): bank.auto_save = False
    assert copy.deepcopy(model).predictor.memory_bank is bank
    assert not any('memory' in name for name in model.state_dict())
    bank.close()
    with Bank(tmp_path/'bank', model, readonly=True) as bank: agrees(bank)   # nothing had to be saved


def test_a_strangers_ten_lines(tmp_path, model):
    with Bank(tmp_path/'bank', model) as bank:
        bank.add(['function daysIn(m, y) { return new Date(y, m, 0).getDay() }',
                  'function total(xs) { return xs.reduce((a, b) => a + b) }'])
        hit = bank.search('how many days a month has')[0]
        assert 'getDay()' in hit.text
        new, = bank.update(hit.id, hit.text.replace('getDay', 'getDate'))
        assert 'getDate()' in bank.search('how many days a month has')[0].text
        bank.undo()
        assert bank.search('how many days a month has')[0].text == hit.text


def test_export_and_import(bank, tmp_path):
    about = [{'source': 'git:app', 'line': i, 'nested': {'a': [1, None]}} for i in range(8)]
    bank.add([*texts(7), 'const s = "日本\\n\u2028"\n\ttab'], about)
    bank.delete(2)
    assert bank.export(tmp_path/'bank.jsonl') == 7
    with Bank(tmp_path/'second', Hashed(1)) as second:
        second.add('let x')
        ids = second.import_(tmp_path/'bank.jsonl')
        live = bank.get(bank.store.live())
        assert [(i.text, i.metadata) for i in second.get(ids)] == [(i.text, i.metadata) for i in live]
        agrees(second)
        second.undo()
        assert len(second) == 1
        for line, why in (('{"metadata": {}}', 'record 2 must have text and metadata, it has metadata'),
                          ('{"text": "a", "vector": [1]}', 'record 2 must have text and metadata, it has text, vector'),
                          ('{"text": 7}', 'must be a str, got int'),
                          ('{"text": "a", "metadata": 7}', 'metadata 1 must be a dict, got int'),
                          ('{', 'bad.jsonl:2: not valid JSON')):
            (tmp_path/'bad.jsonl').write_text('{"text": "good"}\n' + line + '\n')
            with pytest.raises(UserError, match=why): second.import_(tmp_path/'bad.jsonl')
        assert len(second) == 1


def test_what_is_shown(bank):
    bank.add('function parseDate(a) { return a < 1 && "<script>" }', {'source': 'git:app', 'path': 'a.ts'})
    shown = bank.show('parse dates')
    html = shown._repr_html_()
    assert '<script>' not in html and '<mark>parseDate</mark>' in html and 'git:app a.ts' in repr(shown)
    assert highlight_words('x', '<b>') == 'x'


def test_hits_are_short_at_the_end_of_a_cell(bank):
    "What is shown of many long memories fits a screen, and no memory becomes HTML."
    more = '// <b>more</b>\n' * 100
    bank.add([f'function date{i}(a) {{ return a < 1 }}\n{more}' for i in range(300)], {'source': 'npm:d'})
    hits = bank.search('date', k=300)
    assert len(hits) == 300 and hits == list(hits) and isinstance(hits[:3], list)
    assert len(repr(hits)) < 500 and repr(hits).startswith("'date': 300 hits, the first 4\n")
    assert len(repr(hits[0])) <= 90
    assert hits._repr_html_().count('<pre') == 10 and '300 hits, the first 10' in hits._repr_html_()
    assert '<b>more' not in hits._repr_html_() + hits[0]._repr_html_()
    assert copy.deepcopy(hits) == hits and copy.deepcopy(hits).query == 'date'
    assert repr(bank.search('date', where={'source': 'none'})) == "'date': nothing matches"


def test_stats_are_a_dictionary_and_short(bank):
    bank.add(texts(300), [{'source': f'npm:<lib{i}>', 'version': '1'} for i in range(300)])
    stats = bank.stats()
    assert json.loads(json.dumps(stats)) == stats and len(stats['sources']) == 300
    assert len(repr(stats)) < 500 and 'memories: 300' in repr(stats)
    html = stats._repr_html_()
    assert html.count('npm:&lt;lib') == 20 and '<lib' not in html and 'hybrid' in html


def test_a_map_and_a_widget(bank):
    with pytest.raises(UserError, match='no vectors|has none'): bank.plot()
    bank.add(texts(5), {'source': 'git:app'})
    assert bank.plot().axes and bank.widget().bank is bank


if __name__ == '__main__': works(Path(sys.argv[2]), int(sys.argv[3]))

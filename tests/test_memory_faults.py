"""A bank is killed again and again, at random and wherever it could hurt; its disk fills up, its files are damaged.

`make faults` kills it a thousand times.
"""
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import memory_child
import numpy as np
import pytest
from memory_child import DEADLY, LATE, D, Words
from test_store import READONLY, privately

from shutka.core.errors import UserError
from shutka.memory.bank import Bank
from shutka.memory.index import Index
from shutka.memory.sync import follow_source

KILLS, MANY, A_BANK = 40, 1000, 20  # in the tests, in `make faults`, of one folder
OWN = 'undo', 'encoder', 'compact'  # operations that the bank makes itself


# the log's own truth, without SQLite

class Model:
    "What a bank must hold after what was said to be done."

    def __init__(self):
        self.log, self.undone = [], {}
        self.items, self.deleted_by = {}, {}
        self.encoder, self.has_vectors = 0, False

    @property
    def live(self): return sorted(i for i in self.items if i not in self.deleted_by)

    def to_undo(self, which):
        "Number of the operation that undo would reverse, or None if it must refuse."
        if which is None:
            effective = (n for n, o in enumerate(self.log, 1) if not self.undone[n] and o[0] not in OWN)
            which = max(effective, default=0)
        if not 1 <= which <= len(self.log) or self.undone[which]: return None
        kind, added, deleted, _ = self.log[which - 1]
        if kind in OWN[1:] or any(i in self.deleted_by for i in added): return None
        if any(i not in self.deleted_by or self.items[i][0] == '' for i in deleted): return None
        return which

    def expects(self, told):
        "(kind, added, deleted, undoes) of the operation that must come of something announced; None if none must."
        kind, n = told['begins'], len(told.get('add', []))
        added = [*range(len(self.items) + 1, len(self.items) + 1 + n)]
        if kind in ('add', 'update', 'delete', 'sync'): return kind, added, sorted(told.get('delete', [])), None
        if kind == 'compact': return kind, [], [], None
        if kind == 'reencode': return 'encoder', [], [], None
        if kind != 'undo' or not (which := self.to_undo(told['which'])): return None
        return kind, sorted(self.log[which - 1][2]), sorted(self.log[which - 1][1]), which

    def apply(self, told, operation):
        "Take an operation in."
        kind, added, deleted, undoes = operation
        if kind == 'compact':
            for i, by in self.deleted_by.items():
                if by <= len(self.log) - told['keep']: self.items[i][0] = ''
        if kind == 'encoder': self.encoder, self.has_vectors = told['to'], True
        for i, (text, about) in zip(added, told.get('add', [])):
            if about is None:  # an update keeps the metadata, and marks what a sync had found
                about = self.items[told['delete'][0]][1]
                if 'path' in about: about = about | {'corrected': True}
            self.items[i], self.has_vectors = [text, about], True
        self.log.append(operation)
        self.undone[len(self.log)] = False
        for i in added: self.deleted_by.pop(i, None)
        for i in deleted: self.deleted_by[i] = len(self.log)
        while undoes: self.undone[undoes], undoes = not self.undone[undoes], self.log[undoes - 1][3]


def agrees(bank, items):
    "Every memory is found as numpy finds it, and by the number in its text; items: id -> (text, metadata), live ones."
    ids = sorted(items)
    assert bank.store.live().tolist() == ids
    if not ids: return
    vectors = bank.encoder.encode([items[i][0] for i in ids])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # with a filter an IVF index looks into every list
    everywhere = {'source': sorted({about['source'] for _, about in items.values()})}
    for i, cosines in zip(ids, vectors @ vectors.T):
        for k, where in ((1, {}), (5, everywhere)):
            hits = bank.search(items[i][0], k, 'dense', where)
            np.testing.assert_allclose([h.score for h in hits], np.sort(cosines)[::-1][:k], atol=1e-5)
            true = [cosines[np.searchsorted(ids, h.id)] for h in hits]
            np.testing.assert_allclose(true, [h.score for h in hits], atol=1e-5)
            assert len({h.id for h in hits}) == len(hits)
        number, = re.findall(r'(?<!\d)\d{9}(?!\d)', items[i][0])[:1]
        assert i in {h.id for h in bank.search(number, 3, 'words')}, (i, number)


def check(folder, model, pending, readonly):
    "Open what a killed process left, and look at all of it; returns whether what was not acknowledged is there."
    with warnings.catch_warnings(), Bank(folder, readonly=readonly) as bank:
        warnings.simplefilter('error')  # a kill never leaves an index that only looks whole
        more = bank.store.last_operation() - len(model.log)
        if more:
            assert more == 1 and pending and (operation := model.expects(pending)), (more, pending)
            model.apply(pending, operation)
        assert bank.verify() == []
        log = [(o.id, (o.kind, o.added, o.deleted, o.undoes), o.undone) for o in bank.operations(10**6)[::-1]]
        assert log == [(n, o, model.undone[n]) for n, o in enumerate(model.log, 1)]
        memories = [(i.text, i.metadata, i.deleted) for i in bank.get(model.items)]
        assert memories == [(*model.items[i], i in model.deleted_by) for i in model.items]
        assert bank.store.encoder() == ((f'words {model.encoder}', D) if model.has_vectors else None)
        bank.encoder = ENCODERS[model.encoder]
        agrees(bank, {i: model.items[i] for i in model.live})
    return more


ENCODERS = Words(0), Words(1)
ANY = 'any moment'
POINTS = [*DEADLY, *LATE, *[ANY] * 12]


def until_dead(process, folder, seed, point):
    "What a child says until it dies: by itself, or when the clock has run down that started with what was awaited."
    draw, began, took, clocks, child = random.Random(seed), {}, {}, [], None

    def kill(child, how=signal.SIGKILL):
        with suppress(ProcessLookupError): os.kill(child, how)

    def kill_after(seconds, *how):
        clocks.append(threading.Timer(seconds, kill, (child, *how)))
        clocks[-1].start()

    print(json.dumps(dict(folder=str(folder), seed=seed, point=point)), file=process.stdin, flush=True)
    try:
        for line in process.stdout:
            try: told = json.loads(line)
            except ValueError: continue  # empty, or half a line: it was killed while it spoke
            match told:
                case {'child': child}:
                    kill_after(60, signal.SIGABRT)  # it hangs
                    if point == ANY: kill_after(draw.uniform(0, .4))
                case {'begins': kind}:
                    if kind == LATE.get(point) and kind in took: kill_after(draw.uniform(0, 1.1) * took[kind])
                    began[kind] = time.perf_counter()
                case {'ends': kind}: took[kind] = time.perf_counter() - began[kind]
                case {'died': _}: child = None
            yield told
            if not child: break
    finally:
        for clock in clocks: clock.cancel()
        if child: kill(child)  # what it said was wrong, and nobody listens any more


def one_kill(process, folder, seed, point, model):
    "Let a child work until it dies, and the model with it; returns what was begun and not acknowledged, if anything."
    pending, where = None, None
    with closing(until_dead(process, folder, seed, point)) as story:
        for told in story:
            match told:
                case {'begins': _}: pending = told
                case {'refused': why}:
                    assert model.expects(pending) is None, why
                    pending = None
                case {'ends': _, 'operation': operation}:
                    if operation:
                        number, added, deleted = operation
                        expected = model.expects(pending)
                        right = expected and (len(model.log) + 1, *expected[1:3])
                        assert (number, added, deleted) == right, (told, expected)
                        model.apply(pending, expected)
                    pending = None
                case {'point': where}: pass
    torn = told['died'] == -signal.SIGXFSZ  # by the kernel, in a write
    assert torn or told['died'] == -signal.SIGKILL and (where == point or point not in DEADLY), (told, point, where)
    return pending


@pytest.mark.parametrize('kills', [KILLS, pytest.param(MANY, marks=pytest.mark.faults)])
def test_killed(tmp_path, capsys, kills):
    "Nothing acknowledged is lost, nothing is half done, every memory is found, whenever the writing process is killed."
    points = random.Random(0).sample(POINTS, len(POINTS))
    acknowledged, kept, during = 0, 0, Counter()
    process = subprocess.Popen([sys.executable, memory_child.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})
    with process, closing(process.stdin):
        for seed in range(kills):
            if seed % A_BANK == 0: folder, model = tmp_path/str(seed)/'bank', Model()
            before, point = len(model.log), points[seed % len(points)]
            pending = one_kill(process, folder, seed, point, model)
            acknowledged += len(model.log) - before
            during[point, pending and pending['begins']] += 1
            kept += check(folder, model, pending, readonly=bool(seed % 2 and (folder/'bank.sqlite').exists()))
            if seed % A_BANK == A_BANK - 1: leaves_nothing_behind(folder)
    with capsys.disabled():
        print(f'\n{kills} kills, {acknowledged} acknowledged operations, 0 lost; '
              f'{kept} operations were kept that were not acknowledged yet')
    for (point, what), n in sorted(during.items(), key=str): print(f'{n:5} at: {point}; during: {what or "nothing"}')


TOGETHER = '''
import json, random, sys
sys.path.insert(0, sys.argv[1])
from memory_child import Bank, UserError, Words, text
folder, seed = sys.argv[2:]
draw, encoder = random.Random(int(seed)), Words(0)
while True:
    with Bank(folder, encoder) as bank:
        for _ in range(draw.randint(1, 12)):
            live, what = bank.store.live().tolist(), draw.random()
            try:
                if what < .2 and live: o = bank.delete(draw.sample(live, min(len(live), draw.randint(1, 4))))
                elif what < .4 and live: o = bank.replace(draw.choice(live), text(draw))
                elif what < .5: o = bank.undo()
                elif what < .53: o = bank.compact(200)
                else: o = bank.apply('add', [(text(draw), {'source': 'git:a'})] * draw.randint(1, 3))
            except UserError as e:  # another one was faster
                assert any(word in str(e) for word in ('was deleted', 'undo', 'compacted')), e
                continue
            print(json.dumps([o.id, o.kind, o.added, o.deleted]), flush=True)
            if what > .95: bank.search(text(draw), 3)
'''


@pytest.mark.parametrize('kills', [8, pytest.param(200, marks=pytest.mark.faults)])
def test_several_writers_are_killed(tmp_path, kills):
    "Three processes change one bank and are killed in turn: each loses nothing that was acknowledged to it."
    folder, draw, said, seeds = tmp_path/'bank', random.Random(0), {}, iter(range(10**6))
    begin = [sys.executable, '-c', TOGETHER, Path(__file__).parent, folder]

    def start():
        path = tmp_path/f'said {(seed := next(seeds))}'
        with open(path, 'w') as out: return subprocess.Popen([*begin, str(seed)], stdout=out), path

    running, acknowledged = [start() for _ in range(3)], []
    try:
        for kill in range(kills):
            process, path = running.pop(0)
            until = time.monotonic() + 60
            while path.stat().st_size < 500 * (kill < 3) + 1 and process.poll() is None and time.monotonic() < until:
                time.sleep(.02)
            time.sleep(draw.uniform(0, .2))
            assert process.poll() is None, path
            process.kill()
            process.wait()
            acknowledged.append(path)
            running.append(start())
    finally:
        for process, path in running:
            process.kill()
            process.wait()
            acknowledged.append(path)
    writers = 0
    for path in acknowledged:
        lines = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]
        writers += bool(lines)
        for number, *operation in lines:
            assert number not in said, 'two were told the same number'
            said[number] = operation
    with Bank(folder, Words(0)) as bank:
        log = {o.id: [o.kind, o.added, o.deleted] for o in bank.operations(-1)}
        assert sorted(log) == list(range(1, len(log) + 1)) and said.items() <= log.items()
        live = set()
        for number in sorted(log):
            _, added, deleted = log[number]
            assert not live & set(added) and live >= set(deleted), number
            live = live - set(deleted) | set(added)
        assert bank.store.live().tolist() == sorted(live) and bank.verify() == []
        agrees(bank, held(bank))
    assert writers >= 3 and len(log) - len(said) <= kills + 3  # a kill costs one acknowledgement at most
    leaves_nothing_behind(folder)
    print(f'{kills} kills of {writers} writers, {len(said)} acknowledged operations, 0 lost')


def leaves_nothing_behind(folder):
    "The next build and the next close remove what the killed left."
    with Bank(folder) as bank:
        if bank.store.encoder(): bank.rebuild()
    assert {path.name for path in folder.iterdir()} <= {'bank.sqlite', '.writer', 'index'}
    assert len(list((folder/'index').iterdir())) == 4  # manifest, lock, two files


KILLED = '''
import os, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from memory_child import Bank, DEADLY, Words, text
for n, point in enumerate(sys.argv[3:]):
    if not os.fork():
        draw = random.Random(n)
        bank = Bank(Path(sys.argv[2])/str(n)/'bank', Words(0))
        bank.add(text(draw), {'source': 'git:a'})
        DEADLY[point][0](point, draw, bank)
        bank.rebuild()
        os._exit(0)
    assert os.wait()[1] == 9, point
'''


def test_a_killed_build_costs_no_other(whole, tmp_path, monkeypatch):
    "Wherever a build is killed, there is an index to trust, the one before or the new one: nobody builds it again."
    points = [point for point in DEADLY if point.startswith(('index', 'manifest'))]
    for n, _ in enumerate(points): shutil.copytree(whole, tmp_path/str(n)/'bank')
    before = json.loads((whole/'index'/'manifest.json').read_text())['facts']['upto']
    command = [sys.executable, '-c', KILLED, Path(__file__).parent, tmp_path, *points]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    builds, seen, build = [], set(), Index.build
    monkeypatch.setattr(Index, 'build', lambda *a, **more: builds.append(1) or build(*a, **more))
    for n, point in enumerate(points):
        for readonly in (True, False):
            with warnings.catch_warnings(), Bank(tmp_path/str(n)/'bank', Words(0), readonly) as bank:
                warnings.simplefilter('error')
                agrees(bank, held(bank))
                assert bank.verify() == [] and not builds, point
                seen.add(bank.stats()['index']['count'])
        leaves_nothing_behind(tmp_path/str(n)/'bank')
        builds.clear()
    assert len(points) == 12 and before == 4 and seen == {18, 19}  # of both


# a full disk

def short(draw, n): return [memory_child.text(draw)[:80] for _ in range(n)]


def held(bank): return {i.id: (i.text, i.metadata) for i in bank.get(bank.store.live())}


def fills_up(folder, limited):
    "Every change on a full disk is made, or refused by name without a trace. With space again all goes on."
    draw, ballast = random.Random(0), folder/'ballast'
    (place := folder/'src').mkdir()
    (place/'a.ts').write_text('/** Gives number 123456789. */\nexport function give() { return 123456789; }\n')
    if not limited: ballast.write_bytes(bytes(3_000_000))
    with Bank(folder/'bank', Words(0)) as bank:
        with bank.store.reading() as db: db.execute('PRAGMA wal_autocheckpoint = 0')
        bank.add(short(draw, 40), {'source': 'git:a'})
        bank.delete([3, 4])
        bank.rebuild()
        if limited:
            most = memory_child.size(bank, 'bank.sqlite-wal') + 500_000  # bytes
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        for long in (3000, 1):  # until not even a short one fits
            while True:
                given = f'{memory_child.text(draw)[:80]} {"x" * long}'
                before = held(bank)
                try: i, = bank.add(given, {'source': 'git:b'})
                except UserError as e:
                    assert 'could not be written, and is as it was' in str(e)
                    break
                assert held(bank) == before | {i: (given, {'source': 'git:b'})}
        before, log, files = held(bank), bank.store.last_operation(), sorted((folder/'bank'/'index').iterdir())
        assert len(before) > 42
        changes = {
            'update': lambda: bank.update(1, 'y' * 100_000), 'add': lambda: bank.add(['y' * 3000] * 30),
            'undo': lambda: bank.undo(1), 'reencode': lambda: bank.reencode(Words(1)),
            'sync': lambda: follow_source(bank, f'dir:{place}', False, lambda line: None),
            'delete': lambda: bank.delete([*before]),
        }
        for change in changes.values():
            with pytest.raises(UserError): change()
            assert (held(bank), bank.store.last_operation(), bank.verify()) == (before, log, [])
            assert bank.store.encoder()[0] == 'words 0'
        for change in (bank.compact, bank.rebuild):  # these change no memory, and need room for what they write
            with suppress(UserError): change()
            assert (held(bank), bank.verify()) == (before, [])
        now = sorted((folder/'bank'/'index').iterdir())
        # each file of an index is short, and a build writes nothing into the database
        assert len(now) == 4 if limited else now == files
        agrees(bank, before)
    if not limited:
        with Bank(folder/'bank', Words(0), readonly=True) as bank: agrees(bank, before)
    if limited: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    else: ballast.unlink()
    with Bank(folder/'bank', Words(0)) as bank:
        agrees(bank, before)
        bank.reencode(Words(1))
        i, = bank.add(memory_child.text(draw), {'source': 'git:b'})
        bank.compact(0)
        assert bank.verify() == [] and held(bank).keys() == before.keys() | {i}
        agrees(bank, held(bank))
    leaves_nothing_behind(folder/'bank')
    print('fine')


def test_a_limit_on_files(tmp_path):
    done = subprocess.run([sys.executable, __file__, tmp_path, 'limited'], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.endswith('fine\n'), done.stdout + done.stderr


def test_a_full_disk(tmp_path):
    done = privately('mount -t tmpfs -o size=5m tmpfs "$0"', tmp_path, __file__, tmp_path, 'really')
    assert done.returncode == 0 and done.stdout.endswith('fine\n'), done.stdout + done.stderr


# damage

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A closed bank of 20 memories with an index; memories 3 and 4 are deleted, 5 was corrected and put back."
    draw, folder = random.Random(0), tmp_path_factory.mktemp('whole')/'bank'
    with Bank(folder, Words(0)) as bank:
        bank.add(short(draw, 20), {'source': 'git:a'})
        bank.delete([3, 4])
        bank.update(5, short(draw, 1))
        bank.undo()
        bank.rebuild()
    return folder


def flipped(data, at, bit=1): return data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]


DAMAGE = {
    'first byte': lambda data: flipped(data, 0), 'a byte in the middle': lambda data: flipped(data, len(data) // 2),
    'last byte but one': lambda data: flipped(data, len(data) - 2), 'half': lambda data: data[:len(data) // 2],
    'last byte gone': lambda data: data[:-2], 'empty': lambda data: b'', 'longer': lambda data: data + b'?',
    'missing': None,
}


@pytest.mark.parametrize('how', DAMAGE)
def test_a_damaged_index(whole, tmp_path, how):
    "Whichever file of it: what is found is right, damage is said, and the next one that writes builds it anew."
    with Bank(whole, readonly=True) as bank: items = held(bank)
    for n, name in enumerate(sorted(path.name for path in (whole/'index').iterdir() if path.name != '.lock')):
        shutil.copytree(whole, folder := tmp_path/str(n)/'bank')
        path = folder/'index'/name
        if DAMAGE[how]: path.write_bytes(DAMAGE[how](path.read_bytes()))
        else: path.unlink()
        for readonly in (True, False):
            silent = path.name == 'manifest.json' and how == 'missing'  # nothing is there to be damaged
            with nullcontext() if silent else pytest.warns(UserWarning, match='it is damaged'):
                with Bank(folder, Words(0), readonly) as bank: agrees(bank, items)
        with warnings.catch_warnings(), Bank(folder, Words(0)) as bank:
            warnings.simplefilter('error')
            agrees(bank, items)
            assert bank.verify() == []
        leaves_nothing_behind(folder)


@pytest.mark.parametrize('what', ['a file', 'nothing', 'empty'])
def test_no_index(whole, tmp_path, what):
    shutil.copytree(whole, folder := tmp_path/'bank')
    shutil.rmtree(folder/'index')
    if what == 'a file': (folder/'index').write_text('')
    if what == 'empty': (folder/'index').mkdir()
    warned = pytest.warns(UserWarning, match='without a file') if what == 'a file' else nullcontext()
    with Bank(folder, Words(0)) as bank, warned:
        agrees(bank, held(bank))
        assert bank.verify() == []


def test_a_damaged_text_is_noticed(whole, tmp_path):
    "One bit of any text, deleted ones too."
    with Bank(whole, readonly=True) as bank: texts = {i.id: i.text.encode() for i in bank.get(range(1, 22))}
    data = (whole/'bank.sqlite').read_bytes()
    for i, text in texts.items():
        damaged = data.replace(text, flipped(text, i % len(text), 1 << i % 7))  # wherever SQLite keeps a copy
        (tmp_path/'bank.sqlite').write_bytes(damaged)
        with Bank(tmp_path) as bank:
            assert any(f'text of memory {i} is not the one' in fault for fault in bank.verify())


def everything(bank):
    "All that a bank gives away."
    items, log = bank.get(range(1, 22)), bank.operations(10**6)
    words = sorted({word for i in items for word in i.text.split()})
    return {
        'items': [(i.id, i.text, i.deleted, i.metadata, i.created) for i in items],
        'live': bank.store.live().tolist(), 'encoder': bank.store.encoder(), 'counts': bank.store.counts(),
        'log': [(o.id, o.kind, o.time, o.added, o.deleted, o.detail, o.undoes, o.undone) for o in log],
        'vectors': [a.tobytes() for a in bank.store.vectors()], 'meta': bank.store.meta('pq'),
        'words': [bank.store.words_search(word, 30) for word in words],
        'hits': [(hit.id, hit.cosine) for hit in bank.search('parse a date', 5)],
    }


@pytest.mark.parametrize('flips', [300, pytest.param(3000, marks=pytest.mark.faults)])
@pytest.mark.filterwarnings('ignore:the index in')
def test_flipped_bits_are_noticed(whole, tmp_path, flips):
    "Anywhere in the database: refused when opened, seen by verify, or harmless; and a `UserError` names the file."
    with Bank(whole, Words(0), readonly=True) as bank: before = everything(bank)
    data, draw, seen = (whole/'bank.sqlite').read_bytes(), random.Random(0), Counter()
    used = [at for at, byte in enumerate(data) if byte]
    shutil.copytree(whole, tmp_path/'bank')
    for n in range(flips):
        at = draw.choice(used)
        bit = 1 << draw.randrange(8)
        (tmp_path/'bank'/'bank.sqlite').write_bytes(flipped(data, at, bit))
        try:
            with Bank(tmp_path/'bank', Words(0), readonly=True) as bank:
                faults = bank.verify()
                try: found = everything(bank)
                except UserError as e: found = str(e)
        except UserError as e: faults, found = None, str(e)
        assert faults or faults is None or found == before, (at, bit, found)
        assert 'bank.sqlite' in found or found == before or faults, (at, bit, found)
        seen['refused' if faults is None else 'seen' if faults else 'harmless'] += 1
    assert seen['seen'] > flips / 3 and seen['harmless'] < flips / 2, seen


def test_a_damaged_log_of_the_database(tmp_path):
    "What is left of a damaged WAL is a prefix of the operations, and an index that knows more is not believed."
    draw, states, folder = random.Random(0), [{}], tmp_path/'bank'
    with Bank(folder, Words(0)) as bank:
        with bank.store.reading() as db: db.execute('PRAGMA wal_autocheckpoint = 0')
        for n in range(20):
            live = list(states[-1])
            if n % 3: bank.add(short(draw, 5), {'source': 'git:a'})
            elif live: bank.update(draw.choice(live), short(draw, 1))
            else: bank.store.apply('nothing')
            states.append(held(bank))
            if n in (6, 13): bank.rebuild()
        data = (folder/'bank.sqlite-wal').read_bytes()
        lengths = set()
        for n in range(30):
            (copy := tmp_path/str(n)).mkdir()
            shutil.copy(folder/'bank.sqlite', copy)
            shutil.copytree(folder/'index', copy/'index')
            at = draw.randrange(len(data) // 4, len(data))
            (copy/'bank.sqlite-wal').write_bytes(flipped(data, at) if n % 2 else data[:at])
            with Bank(copy, Words(0)) as other:
                lengths.add(last := other.store.last_operation())
                assert other.verify() == [] and held(other) == states[last]
                if n % 5 == 0:
                    other.add(short(draw, 3), {'source': 'git:a'})
                    agrees(other, held(other))
    assert len(lengths) > 5


LOOK = '''
import sys, warnings
sys.path.insert(0, sys.argv[2])
warnings.simplefilter(sys.argv[3])
from test_memory_faults import Bank, UserError, Words, agrees, held
try: Bank(sys.argv[1], Words(0))
except UserError as e: assert 'must be a folder that can be written (readonly=True only reads)' in str(e), e
else: raise AssertionError('opened for writing')
with Bank(sys.argv[1], Words(0), readonly=True) as bank:
    agrees(bank, held(bank))
    assert len(bank) == 18 and bank.verify() == []
print('fine')
'''


@pytest.mark.parametrize('index', ['whole', 'damaged', 'missing'])
def test_a_folder_that_cannot_be_written(whole, tmp_path, index):
    shutil.copytree(whole, folder := tmp_path/'bank')
    if index == 'damaged': (path := next((folder/'index').glob('*.faiss'))).write_bytes(flipped(path.read_bytes(), 500))
    if index == 'missing': shutil.rmtree(folder/'index')
    warnings_are = 'ignore' if index == 'damaged' else 'error'
    done = privately(READONLY, folder, '-c', LOOK, folder, str(Path(__file__).parent), warnings_are)
    assert done.stdout == 'fine\n', done.stderr


# what an operation costs

def written(bank, draw):
    "Bytes that this process writes for ten memories that are added, corrected and searched for, one by one."
    def so_far(): return int(re.search(r'wchar: (\d+)', Path('/proc/self/io').read_text())[1])
    before = so_far()
    for _ in range(10):
        old, new = short(draw, 2)
        bank.update(*bank.add(old), new)
        assert bank.search(new, 1, 'dense')[0].text == new
    return so_far() - before


def test_a_change_writes_itself_and_not_the_bank(tmp_path):
    "The bank and its index are a hundred times as large, and what is written is not."
    draw = random.Random(0)
    with Bank(tmp_path/'bank', Words(0)) as bank:
        bank.add(short(draw, 40))
        bank.rebuild()
        small = written(bank, draw)
        bank.add(short(draw, 4000))
        bank.rebuild()
        files = {path.name: path.stat().st_mtime_ns for path in (tmp_path/'bank'/'index').iterdir()}
        assert written(bank, draw) < 3 * small
        assert files == {path.name: path.stat().st_mtime_ns for path in (tmp_path/'bank'/'index').iterdir()}


if __name__ == '__main__': fills_up(Path(sys.argv[1]), sys.argv[2] == 'limited')

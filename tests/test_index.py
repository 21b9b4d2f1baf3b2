"The index finds what a search by hand finds, believes no damaged file, and survives a kill in the middle of a build."
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.memory import generations, nearest
from shutka.memory.generations import INDEX_LOCK, INDEX_MANIFEST, hash_large_file, lock_index
from shutka.memory.index import Index

D = 16
KINDS = {'flat': 10**9, 'ivf': 100}  # kind -> ivf_from


def unit(x): return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def some(n, seed=0, d=D):
    "Unit vectors in groups of about twenty."
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1 + n // 20, d))
    return unit(centres[rng.integers(0, len(centres), n)] + .3 * rng.standard_normal((n, d)))


def by_hand(items: dict, queries, k, among=None):
    "Ids and scores of an exact search in a dictionary."
    ids = np.array([i for i in items if among is None or i in among], np.int64)
    scores = queries @ np.stack([items[i] for i in ids]).T if len(ids) else np.empty((len(queries), 0), np.float32)
    best = np.argsort(-scores, axis=1, kind='stable')[:, :k]
    pad = ((0, 0), (0, k - best.shape[1]))
    best_scores = np.take_along_axis(scores, best, 1)
    return np.pad(ids[best], pad, constant_values=-1), np.pad(best_scores, pad, constant_values=-np.inf)


def agrees(index: Index, items: dict, exact=True):
    "Every item is searched for, alone and among many, and the index answers as a search by hand does."
    ids = np.array(sorted(items), np.int64)
    assert (index.ids == ids).all() and index.stats()['live'] == len(ids)
    if not len(ids): return
    queries = np.stack([items[i] for i in ids])
    few, most = set(ids[::7].tolist()) | {10**9}, set(ids[: len(ids) // 2].tolist())
    for k, among in ((10, few), (10, most), (len(ids) + 3, None), *([(1, None), (10, None)] if exact else [])):
        want, want_scores = by_hand(items, queries, k, among)
        got, got_scores = index.search(queries, k, None if among is None else list(among))
        assert got.shape == want.shape and got.dtype == np.int64
        np.testing.assert_allclose(got_scores, want_scores, atol=2e-6)
        assert ((got < 0) == (want < 0)).all()
        for row, query, scores in zip(got, queries, got_scores):  # the scores belong to the ids, and no id comes twice
            there = row[row >= 0]
            assert len(set(there.tolist())) == len(there)
            cosines = np.stack([items[i] for i in there]) @ query if len(there) else []
            np.testing.assert_allclose(cosines, scores[: len(there)], atol=2e-6)
    for at in range(0, len(ids), 97):  # one by one it is another path in FAISS
        assert items[index.search(queries[at: at + 1], 1)[0][0, 0]] @ queries[at] > 1 - 1e-5
    nearest_ones = np.stack([items[i] for i in index.search(queries, 1)[0][:, 0]])
    assert (np.einsum('qd,qd->q', nearest_ones, queries) > 1 - 1e-5).all()


@pytest.fixture
def built(tmp_path):
    "An index of 400 items, of a kind that can be chosen."
    def build(kind='ivf', n=400, upto=1, seed=0, folder=tmp_path/'index', **more):
        vectors = some(n, seed)
        index = Index.build(folder, np.arange(n), vectors, 'me', upto, **dict(ivf_from=KINDS[kind]) | more)
        return index, dict(enumerate(vectors))
    return build


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('where', ['file', 'memory'])
def test_every_item_after_random_changes(tmp_path, kind, where):
    "Adds, removals, restorations of what was removed, rebuilds and reopenings, in any order."
    rng = np.random.default_rng(1)
    folder = tmp_path/'index' if where == 'file' else None
    items, past, next_id = {}, {}, 0
    index = Index.build(folder, [], np.empty((0, D), np.float32), 'me', 0)
    for step in range(40):
        new = some(int(rng.integers(1, 40)), step)
        index.add(ids := np.arange(next_id, next_id + len(new)), new)
        items |= dict(zip(ids.tolist(), new))
        next_id += len(new)
        gone = rng.choice(list(items), int(rng.integers(0, len(items) // 3 + 1)), replace=False).tolist()
        index.remove(gone)
        past |= {i: items.pop(i) for i in gone}
        if step % 3 == 2 and past:  # undo
            back = rng.choice(list(past), len(past) // 2 + 1, replace=False).tolist()
            index.add(back, np.stack([past[i] for i in back]))
            items |= {i: past.pop(i) for i in back}
        if step % 4 == 0: agrees(index, items, exact=kind == 'flat')
        if step % 8 == 3:
            shuffled = rng.permutation(sorted(items))
            rows = np.stack([items[i] for i in shuffled])
            index = Index.build(folder, shuffled, rows, 'me', step, ivf_from=KINDS[kind])
            assert index.facts['kind'] == ('flat' if len(items) < KINDS[kind] else kind)
            assert index.facts['recall'] >= .95
            if folder: index = Index.open(folder, 'me')
            agrees(index, items, exact=kind == 'flat')
    index.remove(list(items))
    agrees(index, {}, exact=kind == 'flat')
    assert (index.search(new[:1], 3)[0] == -1).all() and (index.search(new[:1], 3)[1] == -np.inf).all()


def test_the_recall_that_is_told_is_true(built):
    index, items = built('ivf', 5000, ivf_from=1000)
    vectors = np.stack([items[i] for i in range(5000)])
    got, want = index.search(vectors, 11)[0], by_hand(items, vectors, 11)[0]
    true = np.mean([len((set(g.tolist()) & set(w.tolist())) - {i}) / 10 for i, (g, w) in enumerate(zip(got, want))])
    assert index.facts['kind'] == 'ivf' and index.facts['probes'] < index.facts['lists'] / 4
    assert abs(true - index.facts['recall']) < .03 and true > .93


def test_equal_vectors_are_all_found(built, tmp_path):
    "A thousand copies of one text: recall is not spoiled by which of them is found."
    same = np.repeat(some(1), 1000, axis=0)
    index = Index.build(tmp_path/'same', np.arange(1000), same, 'me', 1, ivf_from=100)
    assert index.facts['recall'] == 1 and len(set(index.search(same[:1], 1000)[0][0].tolist())) == 1000


def test_more_than_the_probed_lists_hold_does_not_mean_all_lists(built, monkeypatch):
    "Twice as many are probed, and so on, only for the queries that need it; the better ones stay what they were."
    index, items = built('ivf', 5000, ivf_from=1000)
    probed, real = [], nearest._search_parameters

    def counting(index, probes, keep=None):
        probed.append(probes)
        return real(index, probes, keep)
    monkeypatch.setattr(nearest, '_search_parameters', counting)
    queries = np.stack([items[i] for i in range(40)])
    ids, scores = index.search(queries, 100)
    assert (ids >= 0).all() and probed[0] == index.facts['probes'] and max(probed) < index.facts['lists'] / 4
    assert (np.diff(scores, axis=1) <= 0).all() and (ids[:, 0] == np.arange(40)).all()
    assert len(set(ids[0].tolist())) == 100


@pytest.mark.parametrize('kind', KINDS)
def test_the_file_is_mapped_and_stays_as_it_is(built, tmp_path, kind):
    index, items = built(kind)
    name, = (path.name for path in (tmp_path/'index').glob('*.faiss'))
    assert name in Path('/proc/self/maps').read_text()
    before = {path.name: path.read_bytes() for path in (tmp_path/'index').iterdir()}
    index.add([400], some(1, 5))
    index.remove([3])
    agrees(index, {i: v for i, v in items.items() if i != 3} | {400: some(1, 5)[0]}, exact=kind == 'flat')
    assert before == {path.name: path.read_bytes() for path in (tmp_path/'index').iterdir()}
    again = Index.open(tmp_path/'index', 'me')
    agrees(again, items, exact=kind == 'flat')


def test_one_generation_stays_and_readers_keep_theirs(built, tmp_path):
    first, items = built(upto=1)
    (tmp_path/'index'/'1-leftover.faiss').write_bytes(b'of a build that was killed')
    second, others = built(upto=2, seed=1)
    assert len(list((tmp_path/'index').iterdir())) == 4  # manifest, lock, two files
    agrees(first, items, exact=False)
    agrees(second, others, exact=False)


def test_pq_only_on_request_and_measured(tmp_path):
    vectors = some(10_000)
    index = Index.build(tmp_path, np.arange(10_000), vectors, 'me', 1, pq=D)
    assert index.facts['kind'] == 'pq' and .95 <= index.facts['recall'] < 1
    assert index.search(vectors[:50], 1, among=range(50))[0][:, 0].tolist() == list(range(50))
    def again(pq, n=10_000): return Index.build(tmp_path, np.arange(n), vectors[:n], 'me', 2, pq=pq)
    with pytest.raises(UserError, match='must find 95%'): again(pq=1)
    with pytest.raises(UserError, match='pq needs'): again(pq=5)
    with pytest.raises(UserError, match='pq needs'): again(pq=4, n=100)
    assert Index.open(tmp_path, 'me').upto == 1


def test_trained_on_noise_is_refused(tmp_path, monkeypatch):
    "As the reference's was. Lists from noise only cost more probes; quantization by it is refused."
    vectors = some(10_000)
    good = Index.build(None, np.arange(10_000), vectors, 'me', 1, pq=D)
    real = nearest.sample_rows
    noise = lambda m: (np.random.default_rng(0).standard_normal((m, D)) * 100).astype(np.float32)
    noisy = lambda rows, m: noise(min(m, len(rows))) if rows.ndim == 2 else real(rows, m)
    monkeypatch.setattr(nearest, 'sample_rows', noisy)
    with pytest.raises(UserError, match='must find 95%'):
        Index.build(tmp_path, np.arange(10_000), vectors, 'me', 1, pq=D)
    assert not (tmp_path/INDEX_MANIFEST).exists() and good.facts['recall'] >= .95
    assert Index.build(tmp_path, np.arange(10_000), vectors, 'me', 1, ivf_from=100).facts['recall'] >= .95


def opened_quietly(folder):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return Index.open(folder, 'me')


@pytest.mark.parametrize('kind', KINDS)
def test_flipped_bits_and_cut_files(built, tmp_path, kind):
    "Whichever byte of whichever file: the index is not used, or it is whole."
    index, items = built(kind)
    rng = np.random.default_rng(0)
    for path in sorted((tmp_path/'index').iterdir()):
        if path.name == INDEX_LOCK: continue
        data = path.read_bytes()
        some_places = [*range(150), *rng.integers(0, len(data), 200).tolist(), len(data) - 1]
        places = range(len(data)) if path.name == INDEX_MANIFEST else some_places
        for at in places:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1:])
            found = opened_quietly(tmp_path/'index')
            if found is None: continue
            assert path.name == INDEX_MANIFEST  # white space
            assert found.facts == index.facts and (found.ids == index.ids).all()
        for size in {0, 1, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:size])
            found = opened_quietly(tmp_path/'index')
            assert found is None or path.name == INDEX_MANIFEST and size == len(data) - 1  # its last line's end
        path.write_bytes(data + b'\0')
        assert opened_quietly(tmp_path/'index') is None
        path.unlink()
        assert opened_quietly(tmp_path/'index') is None
        path.write_bytes(data)
    agrees(Index.open(tmp_path/'index', 'me'), items, exact=kind == 'flat')


def test_damage_is_said_and_absence_is_not(built, tmp_path):
    built()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert Index.open(tmp_path/'nowhere', 'me') is None
        assert Index.open(tmp_path/'index', 'another encoder') is None
    next((tmp_path/'index').glob('*.npy')).unlink()
    with pytest.warns(UserWarning, match='it is damaged'): assert Index.open(tmp_path/'index', 'me') is None
    for text in (b'', b'[]', b'{}', b'null', b'\xff\xfe', b'{"facts": {}, "sha256": ""}'):
        (tmp_path/'index'/INDEX_MANIFEST).write_bytes(text)
        with pytest.warns(UserWarning, match='it is damaged'): assert Index.open(tmp_path/'index', 'me') is None


def test_a_changed_number_in_the_manifest(built, tmp_path):
    "The operation it stands at decides what is caught up: a wrong one would give wrong answers."
    built()
    path = tmp_path/'index'/INDEX_MANIFEST
    whole = json.loads(path.read_text())
    whole['facts']['upto'] = 7
    path.write_text(json.dumps(whole))
    assert opened_quietly(tmp_path/'index') is None


def test_large_files_are_hashed_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(generations, 'HASH_CHUNK', 1 << 20)
    data = bytearray(np.random.default_rng(0).bytes((5 << 20) // 2))
    hashes = set()
    for at in (None, 0, (1 << 20) - 1, 1 << 20, len(data) - 1):
        changed = bytearray(data)
        if at is not None: changed[at] ^= 1
        (tmp_path/'file').write_bytes(changed)
        hashes.add(hash_large_file(tmp_path/'file'))
    assert len(hashes) == 5


NAN, ZERO, LONG = some(3), some(3), some(3)
NAN[1, 2], ZERO[1], LONG[1] = np.nan, 0, 2 * LONG[1]
WRONG = [
    (lambda: ([1, 2, 3], NAN), 'finite'),
    (lambda: ([1, 2, 3], ZERO), 'length one, that of id 2 has 0'),
    (lambda: ([1, 2, 3], LONG), 'length one, that of id 2 has 2'),
    (lambda: ([1, 2, 3], some(3).astype(np.float64)), 'float32'),
    (lambda: ([1, 2, 3], some(3)[0]), 'float32 array of shape'),
    (lambda: ([1, 2, 3], some(3).tolist()), 'got list'),
    (lambda: ([1, 2, 1], some(3)), '1 comes more often'),
    (lambda: ([1, 2], some(3)), 'as many ids as vectors'),
    (lambda: ([1, 2, -1], some(3)), 'none negative'),
    (lambda: ([1, 2, 3.5], some(3)), 'whole numbers'),
    (lambda: (['a', 'b', 'c'], some(3)), 'whole numbers'),
]


@pytest.mark.parametrize('case', WRONG, ids=[match for _, match in WRONG])
def test_wrong_items_are_refused_and_change_nothing(built, tmp_path, case):
    make, match = case
    index, items = built('flat', 30)
    with pytest.raises(UserError, match=match): index.add(*make())
    with pytest.raises(UserError, match=match): Index.build(tmp_path/'index', *make(), 'me', 2)
    agrees(index, items)
    agrees(Index.open(tmp_path/'index', 'me'), items)


def test_other_mistakes(built):
    index, items = built('flat', 30)
    with pytest.raises(UserError, match=r'shape \(any, 16\), got float32 \(1, 8\)'): index.add([50], some(1, d=8))
    for queries, match in ((some(1, d=8), r'\(any, 16\)'), (NAN, 'finite'), (some(1)[0], r'\(any, 16\)'),
                           (some(1).astype(np.float64), 'float64')):
        with pytest.raises(UserError, match=match): index.search(queries, 3)
    with pytest.raises(UserError, match='k must be'): index.search(some(1), 0)
    with pytest.raises(UserError, match='7 is'): index.add([50, 7], some(2))
    with pytest.raises(UserError, match='99 is not'): index.remove([3, 99])
    with pytest.raises(UserError, match='3 comes more often'): index.remove([3, 3])
    index.remove([3])
    with pytest.raises(UserError, match='3 is not'): index.remove([3])
    agrees(index, {i: v for i, v in items.items() if i != 3})
    assert index.search(some(2), 4, among=[])[0].tolist() == [[-1] * 4] * 2
    assert index.search(np.empty((0, D), np.float32), 4)[0].shape == (0, 4)


def test_worn(built, monkeypatch):
    index, _ = built('flat', 100)
    assert not index.worn
    index.add(np.arange(100, 5050), some(4950))
    assert not index.worn
    index.remove(np.arange(60))
    assert index.worn


# A child that builds again and again, and says so after each; named moments kill it themselves.
CHILD = '''
import os, signal, sys
import numpy as np
from shutka.memory import generations as module
from shutka.memory.index import Index
folder, moment, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def dying(name, before):
    real = getattr(module, name)
    def call(*a, **k):
        if before: die()
        real(*a, **k)
        die()
    setattr(module, name, call)
for upto in range(first, first + 10_000):
    if moment == 'in a file' and upto > first: module.os = type('os', (), {**vars(os), 'fsync': die})
    if moment == 'before the manifest' and upto > first: dying('write_json', True)
    if moment == 'after the manifest' and upto > first: dying('write_json', False)
    rng = np.random.default_rng(upto)
    x = rng.standard_normal((2000, 16)); x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    Index.build(folder, np.arange(2000) + upto, x, 'me', upto)
    print(upto, flush=True)
'''


def check_after(folder, said):
    "The index is of the last build that was acknowledged, or of the one after it, and whole."
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        index = Index.open(folder, 'me')
    assert index.upto in (said, said + 1)
    vectors = unit(np.random.default_rng(index.upto).standard_normal((2000, D)))
    assert (index.search(vectors, 1)[0][:, 0] == np.arange(2000) + index.upto).all()
    return index.upto


@pytest.mark.parametrize('moment', ['in a file', 'before the manifest', 'after the manifest'])
def test_killed_at_a_named_moment(tmp_path, moment):
    ran = subprocess.run([sys.executable, '-c', CHILD, tmp_path, moment, '1'], capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL and ran.stdout == '1\n', ran.stderr
    assert check_after(tmp_path, 1) == (2 if moment == 'after the manifest' else 1)


def kill_often(folder, kills):
    rng, last = np.random.default_rng(0), 0
    for _ in range(kills):
        command = [sys.executable, '-c', CHILD, folder, 'any', str(last + 1)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = int(child.stdout.readline())
        time.sleep(rng.uniform(0, .1))
        os.kill(child.pid, signal.SIGKILL)
        said = max([said, *(int(line) for line in child.stdout.read().split('\n') if line)])
        child.wait()
        last = check_after(folder, said)
    Index.build(folder, [1], some(1), 'me', last + 1)
    assert len(list(folder.iterdir())) == 4  # nothing is left of the killed ones


def test_killed_at_any_moment(tmp_path): kill_often(tmp_path, 5)


@pytest.mark.faults
def test_killed_a_hundred_times(tmp_path): kill_often(tmp_path, 100)


FULL = '''
import resource, signal, sys
import numpy as np
from shutka.core.errors import UserError
from shutka.memory.index import Index
folder, size = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
x = np.eye(16, dtype=np.float32)
try: Index.build(folder, np.arange(16), x, 'me', 2)
except UserError as e: sys.exit(2 if 'must be written to' in str(e) and 'File too large' in str(e) else 3)
'''


@pytest.mark.parametrize('size', [0, 100, 1000, 1060])
def test_a_full_disk_leaves_the_one_before(built, tmp_path, size):
    "A limit on file sizes plays the full disk; 1060 bytes lack the end, which stays in a buffer until the close."
    _, items = built('flat', 16)
    before = sorted(path.name for path in (tmp_path/'index').iterdir())
    assert next((tmp_path/'index').glob('*.faiss')).stat().st_size > 1060
    ran = subprocess.run([sys.executable, '-c', FULL, tmp_path/'index', str(size)], capture_output=True, text=True)
    assert ran.returncode == 2, ran.stderr
    assert sorted(path.name for path in (tmp_path/'index').iterdir()) == before
    agrees(Index.open(tmp_path/'index', 'me'), items)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(UserError, match='must be written to'):
        Index.build(tmp_path/'file'/'index', [1], some(1), 'me', 1)


def test_two_builders_wait_for_each_other(tmp_path):
    command = [sys.executable, '-c', CHILD.replace('10_000', '5'), tmp_path, 'any', '1']
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert check_after(tmp_path, 5) == 5 and len(list(tmp_path.iterdir())) == 4
    before = sorted(tmp_path.iterdir())
    with lock_index(tmp_path):
        other = threading.Thread(target=Index.build, args=(tmp_path, [1], some(1), 'me', 6))
        other.start()
        time.sleep(.2)
        assert sorted(tmp_path.iterdir()) == before
    other.join()
    assert Index.open(tmp_path, 'me').upto == 6


def test_a_reader_always_finds_one(tmp_path):
    "While another builds, whoever opens gets the index before or after."
    command = [sys.executable, '-c', CHILD.replace('10_000', '15'), tmp_path, 'any', '1']
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = int(child.stdout.readline())
    while child.poll() is None:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            index = Index.open(tmp_path, 'me')
        assert index.upto >= said
        said = index.upto
    assert child.wait() == 0


@pytest.mark.parametrize('n', range(0, 20))
def test_very_few(n):
    index, vectors = Index.build(None, range(n), some(n), 'me', 1, ivf_from=1), some(n)
    agrees(index, dict(enumerate(vectors)), exact=False)


def test_the_nearest_are_sought_in_all_pieces():
    "Vectors are compared by the ten thousand; what is near may be in any piece."
    vectors = some(20_050, d=4)
    rows, least, k = nearest.sample_recall_queries(vectors, 5)
    expected = np.sort(vectors[rows] @ vectors.T, axis=1)[:, -6]
    assert k == 5
    np.testing.assert_allclose(least, expected, atol=1e-6)


def test_a_vector_that_finds_only_itself_has_found_nothing():
    "An index of lists of one, asked in one list: each vector is there, and none of its neighbours."
    import faiss
    vectors = some(64)
    index = nearest.train_index(vectors, 2, 0)
    asked = nearest.sample_recall_queries(vectors, 10)
    found = index.search(vectors[asked[0]], 11, params=faiss.SearchParametersIVF(nprobe=1))[1]
    others = [len(set(row[row >= 0].tolist()) - {i}) for row, i in zip(found, asked[0])]
    assert nearest.measure_recall(index, vectors, 1, asked) <= np.mean(np.minimum(others, 10)) / 10 + 1e-9

"""What the memory costs: durable adds, searching, opening, keeping in step.

    python benchmarks/memory.py [--adds 20000] [--search 20000 200000] [--files 5000] [--million]

Adds: texts with given vectors, in batches of 100 and one by one, to a `Bank`, and to the peers that are installed,
each as it comes with a folder of its own; sqlite-vec in a database with the same settings as ours (WAL,
synchronous=FULL) beside a table for the texts (it needs pysqlite3-binary where Python's sqlite3 loads no extensions).
The floor is to append the same bytes to a file and flush it. SQLite writes whole pages, of each table and index that an
add touches, so there is a second floor: to append and flush as many bytes as it writes to its log. In alternation;
medians, and the mean, which counts what is put off to now and then. Who flushes before it answers is seen in a child
process that counts calls of fsync and fdatasync, where strace is installed.

Search: k = 10, one question at a time, in alternation, medians. The vectors are made: clusters of about a hundred, as
far from their centre as the centre from the origin, which is easy for lists; and Gaussian ones without clusters, which
is hard; each question is a stored vector with a fifth of noise. Recall is against `IndexFlatIP`. The texts are 20 words
of 20,000, some much more frequent than others; a question has three of them. Nothing is encoded: the vectors are given.

Opening: in a child process, from nothing to the first answer (which opens the index, and reads all of its file to check
its hash), the second, and the median of twenty more; with the files in the system's cache, as they were just written.
With `--million` also a bank of a million memories: that takes four minutes, several GB of memory and 4 GB of disk.
Sync: a git repository of small files, a bank without an encoder.
"""
import os

os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('ANONYMIZED_TELEMETRY', 'False')

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import mean, median

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import faiss  # noqa: E402

from shutka.memory.bank import Bank  # noqa: E402
from shutka.memory.index import Index  # noqa: E402

D, K = 384, 10


def unit(x): return np.ascontiguousarray(x / np.linalg.norm(x, axis=-1, keepdims=True), np.float32)

def made(n, questions=64, clusters=True):
    "Vectors, and questions near some of them."
    r = np.random.default_rng(0)
    if not clusters:
        falling = np.arange(1, D + 1, dtype=np.float32) ** -.4  # effective rank as a trained encoder's
        vectors = unit(r.standard_normal((n, D), np.float32) * falling)
    else: vectors = clustered(n, r)
    return vectors, unit(vectors[r.choice(n, questions)] + .2 * unit(r.standard_normal((questions, D), np.float32)))

def clustered(n, r):
    "Clusters of about a hundred vectors."
    centres = unit(r.standard_normal((max(1, n // 100), D), np.float32))
    vectors = np.empty((n, D), np.float32)
    for at in range(0, n, 10_000):
        some = centres[r.integers(0, len(centres), min(10_000, n - at))]
        vectors[at:at + 10_000] = unit(some + unit(r.standard_normal(some.shape, np.float32)))
    return vectors

def spoken(n, length, seed):
    "Texts of some words of 20,000."
    r = np.random.default_rng(seed)
    # letters only, or they would be split
    names = [''.join(chr(97 + i // 26 ** place % 26) for place in range(4)) for i in range(20_000)]
    return [' '.join(names[i] for i in row) for row in (20_000 * r.random((n, length)) ** 3).astype(int)]


class Given:
    "An encoder that knows the vectors of its texts."
    fingerprint = 'given'

    def __init__(self, known=None): self.known = known or {}
    def encode(self, texts, side): return np.stack([self.known.get(t, np.full(D, D ** -.5, np.float32)) for t in texts])


def alternate(rounds, ways, warm=1):
    "Seconds of each round of each way; a way gets the number of the round, and the first ones do not count."
    times = {name: [] for name in ways}
    for turn in range(rounds + warm):
        for name in sorted(ways, reverse=turn % 2):
            began = time.perf_counter()
            ways[name](turn)
            if turn >= warm: times[name].append(time.perf_counter() - began)
    return times


def floor(folder):
    "Append the bytes to a file and flush it."
    file = open(folder/'file', 'ab')
    def add(start, texts, vectors):
        file.write(vectors.tobytes() + ''.join(texts).encode())
        file.flush()
        os.fsync(file.fileno())
    return add

def log_floor(folder):
    "Append as many bytes as SQLite writes to its log for such an add, and flush them."
    bank, file, sizes = Bank(folder/'bank', Given()), open(folder/'file', 'ab', buffering=0), {}
    def add(start, texts, vectors):
        if len(texts) not in sizes:
            bank.store._db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
            for _ in range(3): bank.add_memory(vectors, texts)
            sizes[len(texts)] = os.urandom((folder/'bank'/'bank.sqlite-wal').stat().st_size // 3)
        file.write(sizes[len(texts)])
        os.fsync(file.fileno())
    return add

def ours(folder):
    bank = Bank(folder, Given())
    return lambda start, texts, vectors: bank.add_memory(vectors, texts)

def chroma(folder):
    import chromadb
    collection = chromadb.PersistentClient(str(folder)).create_collection('adds', metadata={'hnsw:space': 'ip'})
    def add(start, texts, vectors):
        collection.add(ids=[str(start + i) for i in range(len(texts))], embeddings=vectors, documents=texts)
    return add

def sqlite_vec(folder):
    import sqlite_vec
    try: sqlite3 = import_module('pysqlite3')
    except ImportError: sqlite3 = import_module('sqlite3')
    if not hasattr(sqlite3.Connection, 'enable_load_extension'):
        raise ImportError("this Python's sqlite3 loads no extensions, pysqlite3 does")
    db = sqlite3.connect(folder/'db', isolation_level=None)
    db.enable_load_extension(True)
    sqlite_vec.load(db)
    for line in ('PRAGMA journal_mode = WAL', 'PRAGMA synchronous = FULL',
                 'CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT)',
                 f'CREATE VIRTUAL TABLE v USING vec0(embedding float[{D}])'): db.execute(line)
    def add(start, texts, vectors):
        db.execute('BEGIN IMMEDIATE')
        db.executemany('INSERT INTO texts VALUES (?, ?)', [(start + i, t) for i, t in enumerate(texts)])
        rows = [(start + i, v.tobytes()) for i, v in enumerate(vectors)]
        db.executemany('INSERT INTO v (rowid, embedding) VALUES (?, ?)', rows)
        db.execute('COMMIT')
    return add

def lance(folder):
    import lancedb
    import pyarrow as pa
    schema = pa.schema([('id', pa.int64()), ('text', pa.string()), ('vector', pa.list_(pa.float32(), D))])
    table = lancedb.connect(str(folder)).create_table('t', schema=schema)
    def add(start, texts, vectors):
        rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), D)
        ids = pa.array(range(start, start + len(texts)))
        table.add(pa.table({'id': ids, 'text': pa.array(texts), 'vector': rows}, schema=schema))
    return add

STORES = {'floor (append, fsync)': floor, "floor, SQLite's bytes": log_floor, 'shutka': ours, 'chromadb': chroma,
          'sqlite-vec': sqlite_vec, 'lancedb': lance}


def opened(name, folder):
    "A store in a folder of its own; None if it is not installed."
    (own := folder/STORES[name].__name__).mkdir()
    try: return STORES[name](own)
    except ImportError: return None

def flushes(name):
    "How often a store flushes for 20 single adds, or '?'."
    if not shutil.which('strace'): return '?'
    with tempfile.TemporaryDirectory(dir='.') as folder:
        log = Path(folder)/'log'
        command = ['strace', '-f', '-e', 'trace=fsync,fdatasync', '-o', log,
                   sys.executable, __file__, '--flush', name, folder]
        subprocess.run(command, check=True, capture_output=True)
        _, mark, calls = log.read_text().partition('fsync(987654')
        return f"{calls.count('sync(') / 20:.1f}" if mark else '?'

def adds(n, singles=200):
    "Table of durable adds."
    print(f"{'durable adds of 384 + text':28}{'writes/s, median':>20}{'mean':>12}"
          f"{'shutka / it':>14}{'mean':>12}{'fsyncs':>10}")
    seen = {name: flushes(name) for name in STORES}
    for size, rounds in ((100, n // 100), (1, singles)):
        vectors, texts = made(size * (rounds + 1))[0], spoken(size * (rounds + 1), 20, 0)
        with tempfile.TemporaryDirectory(dir='.') as folder:
            stores = {name: opened(name, Path(folder)) for name in STORES}
            def add(store, turn):
                some = slice(turn * size, (turn + 1) * size)
                store(turn * size, texts[some], vectors[some])
            times = alternate(rounds, {name: partial(add, store) for name, store in stores.items() if store})
            for name in stores:
                label = f'{name}, {size}'
                if name not in times: print(f'{label:28}{"not installed":>20}'); continue
                rates = [size / f(times[name]) for f in (median, mean)]
                mine = [size / f(times['shutka']) for f in (median, mean)]
                print(f'{label:28}{rates[0]:>20,.0f}{rates[1]:>12,.0f}{mine[0] / rates[0]:>14.2f}'
                      f'{mine[1] / rates[1]:>12.2f}{seen[name]:>10}', flush=True)


def timed(ways, questions, rounds=40):
    "Median milliseconds of each way to answer one question."
    calls = {name: lambda turn, way=way: way(questions[turn % len(questions)]) for name, way in ways.items()}
    return {name: 1e3 * median(t) for name, t in alternate(rounds, calls, warm=4).items()}

def graph(vectors, questions, right):
    "hnswlib's graph of the vectors, searched as widely as a recall of .95 takes; None if it is not installed."
    try:
        import hnswlib
    except ImportError: return None
    made = hnswlib.Index(space='ip', dim=D)
    made.init_index(len(vectors), M=16, ef_construction=100)
    made.set_num_threads(2)
    began = time.perf_counter()
    made.add_items(vectors, np.arange(len(vectors)))
    print(f"{'hnswlib, built in memory':44}{time.perf_counter() - began:>10.1f} s", flush=True)
    for ef in (10, 20, 40, 80, 160, 320, 640):
        made.set_ef(ef)
        if (recall := found_of(right, made.knn_query(questions, K)[0])) >= .95: break
    return made, ef, recall

def found_of(right, found): return mean(len(set(a) & set(b)) / K for a, b in zip(right.tolist(), found.tolist()))

def alone(n, folder, label, vectors, questions, line):
    "Rows of the index without a bank."
    plain = faiss.IndexFlatIP(D)
    plain.add(vectors)
    exact, ivf = (Index.build(folder/f'{name}{n}', np.arange(n), vectors, 'x', 1, ivf_from=start)
                  for name, start in (('flat', n + 1), ('ivf', 1)))
    right, found = plain.search(questions, K)[1], ivf.search(questions, K)[0]
    indexes = {'plain': plain, 'exact': exact, 'ivf': ivf}
    ways = {name: lambda q, index=index: index.search(q[None], K) for name, index in indexes.items()}
    if hnsw := graph(vectors, questions, right): ways['hnsw'] = lambda q: hnsw[0].knn_query(q[None], K)
    ms, recall = timed(ways, questions), found_of(right, found)
    line(f'IndexFlatIP, {label}', ms['plain'], 1, '')
    line(f'shutka, exact, {label}', ms['exact'], ms['exact'] / ms['plain'], 'IndexFlatIP (at most 1.3)')
    if hnsw:
        line(f'hnswlib, {label}', ms['hnsw'], ms['ivf'] / ms['hnsw'],
             f'shutka, IVF; recall@10 {hnsw[2]:.3f}, ef {hnsw[1]}; all in memory, and nothing can be removed for good')
    stats = ivf.stats()
    line(f'shutka, IVF, {label}', ms['ivf'], ms['exact'] / ms['ivf'],
         f"exact, faster (5 at least); recall@10 {recall:.3f}, {stats['probes']} of {stats['lists']} lists")

def filled(folder, vectors, known):
    "A bank of made texts with these vectors, and what it took."
    texts, bank = spoken(len(vectors), 20, 1), Bank(folder, Given(known))
    began = time.perf_counter()
    for at in range(0, len(vectors), 10_000): bank.add_memory(vectors[at:at + 10_000], texts[at:at + 10_000])
    print(f"{'filled, 10,000 at a time':44}{time.perf_counter() - began:>10.1f} s")
    began = time.perf_counter()
    bank.rebuild()
    took, index = time.perf_counter() - began, bank.stats()['index']
    print(f"{'index rebuilt from SQLite':44}{took:>10.1f} s, {index['kind']}, {index['probes']} of {index['lists']} "
          f"lists, recall@10 {index['recall']:.3f} (200,000: at most 10 s)", flush=True)
    return bank

def search(n, folder):
    "Table of searching, and the bank that was searched."
    vectors, questions = made(n)
    print(f"\n{f'search in {n:,} x {D}, k = {K}':44}{'ms':>10}{'ratio':>10}   against")
    def line(name, ms, ratio, against): print(f'{name:44}{ms:>10.2f}{ratio:>10.2f}   {against}', flush=True)
    alone(n, folder, 'clusters', vectors, questions, line)
    alone(n, folder, 'no clusters', *made(n, clusters=False), line)
    asked = spoken(len(questions), 3, 2)
    bank = filled(folder/f'bank{n}', vectors, dict(zip(asked, questions)))
    ms = timed({how: lambda q, how=how: bank.search(q, K, how) for how in ('words', 'dense', 'hybrid')}, asked)
    for how in ('words', 'dense'): line(f'Bank.search, {how}', ms[how], 1, '')
    both = ms['words'] + ms['dense']
    line('Bank.search, hybrid', ms['hybrid'], ms['hybrid'] / both, 'sum of words and dense (at most 2)')
    bank.close()


def resident():
    "MiB of this process: of its own, and of mapped files."
    rows = dict(line.split(':') for line in Path('/proc/self/status').read_text().splitlines())
    return [int(rows[name].split()[0]) / 1024 for name in ('RssAnon', 'RssFile')]

def child(how, folder):
    "Open a bank, ask it, and print what that took."
    faiss.omp_set_num_threads(2)
    (_, questions), asked = made(10_000), spoken(64, 3, 2)
    encoder, before, began = Given(dict(zip(asked, questions))), resident(), time.perf_counter()
    bank, times, sizes = Bank(folder, encoder), [], []
    for q in asked[:22]:
        bank.search(q, K, how)
        times.append(time.perf_counter() - began)
        sizes.append(resident())
        began = time.perf_counter()
    print(json.dumps({'first': times[0], 'second': times[1], 'next': median(times[2:]),
                      'before': before, 'opened': sizes[0], 'all': sizes[-1]}))

def opening(label, folder):
    "Rows of opening in a child process."
    for how in ('dense', 'hybrid'):
        command = [sys.executable, __file__, '--child', how, folder]
        runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(3)]
        m = {name: median(run[name] for run in runs) for name in ('first', 'second', 'next')}
        size = lambda name: ' + '.join(f'{x:.0f}' for x in runs[-1][name])
        sizes = f"{size('before')}, {size('opened')}, {size('all')} MiB"
        times = f"{m['first']:>10.3f} s{m['second'] * 1e3:>8.1f} ms{m['next'] * 1e3:>8.1f} ms"
        print(f"{f'{label}, {how}':36}{times}   {sizes}", flush=True)


def steps(n, folder):
    "Table of keeping a repository in step."
    repository, bank = folder/'repository', Bank(folder/'steps')
    def git(*words):
        command = ['git', '-C', repository, '-c', 'user.name=a', '-c', 'user.email=a@b', *words]
        subprocess.run(command, check=True, capture_output=True)
    def write(i, value):
        (repository/f'{i % 100}'/f'file{i}.ts').write_text(
            f'/** Adds {value} to a number. */\nexport function add{i}(a: number): number {{\n'
            f'  return a + {value}\n}}\n\n'
            f'export const name{i} = (s: string) => s.trim() + {i}\n')
    for i in range(100): (repository/f'{i}').mkdir(parents=True)
    for i in range(n): write(i, i)
    git('init', '-q')
    git('add', '.')
    git('commit', '-qm', 'first')
    print(f"\n{f'sync, git, {n:,} files':28}{'s':>8}")
    def run(name, before=lambda: None):
        times, said = [], []
        for turn in range(1 if name == 'first' else 3):
            before(turn) if name.startswith('one') else before()
            began = time.perf_counter()
            changes = bank.sync(f'git:{repository}', progress=lambda line: None)
            times.append(time.perf_counter() - began)
            said = dict(changes.counts)
        print(f'{name:28}{median(times):>8.2f}   {said}', flush=True)
    def change(turn):
        write(7, 1_000_000 + turn)
        git('commit', '-qam', 'more')
    run('first')
    run('unchanged (at most 2)')
    run('one file changed', change)
    bank.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--adds', type=int, default=20_000)
    parser.add_argument('--search', type=int, nargs='*', default=[20_000, 200_000])
    parser.add_argument('--files', type=int, default=5_000)
    parser.add_argument('--million', action='store_true')
    parser.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    parser.add_argument('--flush', nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child: return child(*asked.child)
    if asked.flush:
        name, folder = asked.flush
        texts, vectors, store = spoken(25, 20, 0), made(25)[0], opened(name, Path(folder))
        if not store: return
        def add(i): store(i, texts[i:i + 1], vectors[i:i + 1])
        for i in range(5): add(i)
        try: os.fsync(987654)  # a mark: the setting up ends here
        except OSError: pass
        for i in range(5, 25): add(i)
        os._exit(0)
    faiss.omp_set_num_threads(2)
    if asked.adds: adds(asked.adds)
    with tempfile.TemporaryDirectory(dir='.') as folder:
        folder = Path(folder)
        for n in asked.search: search(n, folder)
        if asked.million:
            print(f'\na bank of 1,000,000 x {D}')
            filled(folder/'bank1000000', made(1_000_000)[0], {}).close()
        sizes = [*asked.search, *[1_000_000] * asked.million]
        if sizes:
            print(f"\n{'opening':36}{'first':>12}{'second':>11}{'next':>11}   resident, own + files: "
                  "before, first answer, 22 answers (at most 1 s, 100 ms, 300 MiB)")
        for n in sizes: opening(f'Bank, {n:,} x {D}', folder/f'bank{n}')
        if asked.files: steps(asked.files, folder)


if __name__ == '__main__': main()

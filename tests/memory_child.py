"""A bank that is changed at random until the process is killed; `test_memory_faults.py` does the killing.

As a script it imports once and then forks a child for each line of its input, {"folder", "seed", "point"}. Lines come
out: what a child is about to do, what it did once the call returned, and how it died. A child told a point of `DEADLY`
kills itself there, from inside the library. Of `LATE`, the parent kills it while it does what belongs to the point.
"""
import json
import os
import random
import resource
import signal
import sqlite3
import sys
from pathlib import Path

import faiss
import numpy as np

from shutka.core import files
from shutka.core.errors import UserError
from shutka.memory import bank as module
from shutka.memory import encoder
from shutka.memory.bank import Bank
from shutka.memory.index import Index
from shutka.memory.sync import follow_source, plan_sync
from shutka.text.words import hash_words

D = 16


class Words:
    "An encoder without PyTorch: the mean of a random vector for each word. Each seed is another encoder."
    def __init__(self, seed):
        self.fingerprint = f'words {seed}'
        self.table = np.random.default_rng(seed).standard_normal((4096, D)).astype(np.float32)

    def encode(self, texts, side='code'): return np.stack([self.table[hash_words(t, 4096, 64)].mean(0) for t in texts])


def say(**what): os.write(1, (json.dumps(what) + '\n').encode())


# what it does: each says what it is about to do, then does it

NAMES = ['parse', 'date', 'sum', 'list', 'color', 'path', 'graph', 'byte', 'tree', 'user']


def text(draw):
    name = '_'.join(draw.choices(NAMES, k=6))
    return f'function {name} {draw.randrange(10**9):09}' + draw.choice(['', '', 'x' * 5000])


def about(draw):
    return {'source': f'git:{draw.choice("abc")}', 'line': draw.randrange(99), 'deep': [1, None, {'größe': 2.5}]}


def rows(draw, n): return [(text(draw), about(draw)) for _ in range(n)]


def add(bank, draw):
    given = rows(draw, draw.choice([1, 2, 3, 5, 8, 50]))
    say(begins='add', add=given)
    assert bank.add([t for t, _ in given], [about for _, about in given]) == bank.operations(1)[0].added


def update(bank, draw):
    old, given = draw.choice(bank.store.live().tolist()), [text(draw) for _ in range(draw.choice([1, 1, 3]))]
    say(begins='update', add=[(t, None) for t in given], delete=[old])
    assert bank.update(old, given) == bank.operations(1)[0].added


def delete(bank, draw):
    live = bank.store.live().tolist()
    some = draw.sample(live, min(len(live), draw.randint(1, 60 if len(live) > 100 else 9)))
    say(begins='delete', delete=some)
    bank.delete(some)


def undo(bank, draw):
    which = draw.choice([None, None, draw.randint(1, bank.store.last_operation() + 1)])
    say(begins='undo', which=which)
    try: bank.undo(which)
    except UserError as e: return str(e)


def compact(bank, draw):
    keep = draw.choice([0, 3, 20, 100])
    say(begins='compact', keep=keep)
    bank.compact(keep)


def reencode(bank, draw, progress=module.ignore_progress):
    to = 1 - current(bank)
    say(begins='reencode', to=to)
    bank.reencode(Words(to), progress)


def current(bank): return int((bank.store.encoder() or ('words 0',))[0].split()[1])


def sync(bank, draw):
    place = bank.folder.parent/'src'
    place.mkdir(exist_ok=True)
    changes = None
    while not (changes and changes.detail):  # all that was drawn may have been deleted by hand before
        for name in draw.sample('abcd', 2):
            numbers = draw.sample(range(10**9), draw.randint(1, 4))
            functions = (f'/** Gives number {n:09}. */\n'
                         f'export function {draw.choice(NAMES)}(a: number) {{ return a + {n}; }}\n' for n in numbers)
            (place/f'{name}.ts').write_text(''.join(functions))
        changes = plan_sync(bank, f'dir:{place}')
    say(begins='sync', add=[row[:2] for row in changes.add], delete=changes.delete)
    assert follow_source(bank, f'dir:{place}', False, lambda line: None)[1]


def rebuild(bank, draw):
    say(begins='rebuild')
    if bank.store.encoder(): bank.rebuild()


def search(bank, draw):
    say(begins='search')  # which may write an index
    bank.search(text(draw), 5, 'dense')


def checkpoint(bank, draw):
    other = sqlite3.connect(bank.folder/'bank.sqlite')
    say(begins='checkpoint')
    other.execute(f"PRAGMA wal_checkpoint({draw.choice(['PASSIVE', 'RESTART', 'TRUNCATE'])})").fetchone()
    other.close()


def close(bank, draw):
    say(begins='close')
    bank.close()


DO = {f.__name__: f for f in (add, update, delete, undo, compact, reencode, sync, rebuild, search, checkpoint, close)}
LOGGED = ('add', 'update', 'delete', 'undo', 'compact', 'reencode', 'sync')
OFTEN = ['add'] * 5 + ['update'] * 4 + ['delete'] * 4 + ['undo'] * 3 + ['search'] * 4
OFTEN += ['compact', 'reencode', 'sync', 'sync', 'rebuild', 'checkpoint', 'close']


def do(kind, bank, draw):
    "Do one thing, and say so when it is done."
    refused = DO[kind](bank, draw)
    if refused: return say(refused=refused)
    o = bank.operations(1)[0] if kind in LOGGED else None
    say(ends=kind, operation=o and [o.id, o.added, o.deleted])


def opened(folder):
    say(begins='open')
    bank = Bank(folder)
    bank.encoder = Words(current(bank))
    with bank.store.reading() as db: db.execute('PRAGMA wal_autocheckpoint = 30')  # pages
    say(ends='open', operation=None)
    return bank


# where it dies: points in what Python does ...

def die(point):
    say(point=point)
    os.kill(os.getpid(), signal.SIGKILL)


def dying(owner, name, after=False, when=lambda *a: True):
    "Put death before or after a call."
    def arm(point, draw, bank):
        real = getattr(owner, name)
        def call(*args, **named):
            if not after and when(*args): die(point)
            result = real(*args, **named)
            if after and when(*args): die(point)
            return result
        setattr(owner, name, call)
    return arm


def path(fd): return os.readlink(f'/proc/self/fd/{fd}')


def half(data, f, point):
    f.write(data[:len(data) // 2])
    f.flush()
    die(point)


def in_the_index(point, draw, bank):
    real = faiss.PyCallbackIOWriter
    def writer(write):
        before = draw.randint(0, 6)  # FAISS writes a file in many pieces, a header first
        def some(data):
            nonlocal before
            before -= 1
            return half(bytes(data), write.__self__, point) if before < 0 or len(data) > 1000 else write(data)
        return real(some)
    faiss.PyCallbackIOWriter = writer


def in_the_ids(point, draw, bank): np.save = lambda f, ids: half(ids.tobytes(), f, point)


def in_a_reencoding(point, draw, bank):
    for _ in range(10): do('add', bank, draw)   # more than a piece that the encoder to come has not read
    def progress(done, total):
        if (done == total) == ('all' in point) and draw.random() < .5: die(point)
    DO['reencode'] = lambda bank, draw: reencode(bank, draw, progress)


# ... and in what SQLite does: the kernel kills a process that writes beyond a limit, after the part of a write that
# still fits. Torn pages, so.

def limit(size):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python had it ignored
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def size(bank, name='bank.sqlite'): return (bank.folder/name).stat().st_size


def in_the_log(point, draw, bank):
    with bank.store.reading() as db: db.execute('PRAGMA wal_autocheckpoint = 0')
    do('add', bank, draw)
    limit(size(bank, 'bank.sqlite-wal') + draw.randint(1, 40_000))


def in_the_file(point, draw, bank):
    "By a checkpoint that makes it longer."
    with bank.store.reading() as db: db.execute('PRAGMA wal_autocheckpoint = 0')
    while True:
        do('add', bank, draw)
        with bank.store.reading() as db: full = 4096 * db.execute('PRAGMA page_count').fetchone()[0]
        if full > size(bank) + 8192: break
    limit(draw.randint(size(bank), full - 1))


def in_vacuum(point, draw, bank):
    checkpoint = sqlite3.connect(bank.folder/'bank.sqlite')
    checkpoint.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()
    checkpoint.close()
    limit(draw.randint(size(bank) // 5, size(bank)))


DEADLY = {  # point -> how it becomes deadly, and what leads there
    'index: before the build': (dying(Index, 'build'), 'rebuild'),
    'index: in the middle of the file': (in_the_index, 'rebuild'),
    'index: file written, not flushed': (dying(os, 'fsync', when=lambda fd: path(fd).endswith('.faiss')), 'rebuild'),
    'index: between its two files': (dying(np, 'save'), 'rebuild'),
    'index: in the middle of the ids': (in_the_ids, 'search'),
    'index: files written, no manifest': (dying(files, '_open_locked'), 'search'),
    'manifest: temporary file written, not flushed': (
        dying(os, 'fsync', when=lambda fd: '.manifest.json.' in path(fd)), 'rebuild'),
    'manifest: temporary file flushed': (dying(os, 'fsync', True, lambda fd: '.manifest.json.' in path(fd)), 'rebuild'),
    'manifest: before the rename': (dying(os, 'replace'), 'search'),
    'manifest: after the rename, folder not flushed': (dying(os, 'replace', True), 'search'),
    'index: before the old files go': (dying(Path, 'unlink'), 'rebuild'),
    'index: one of the old files gone': (dying(Path, 'unlink', True), 'rebuild'),
    'reencode: between pieces': (in_a_reencoding, 'reencode'),
    'reencode: all pieces done, encoder not changed': (in_a_reencoding, 'reencode'),
    'commit: in a write to the log': (in_the_log, 'add'),
    'checkpoint: in a write to the file': (in_the_file, 'checkpoint'),
    'VACUUM: in a write': (in_vacuum, 'compact'),
}
LATE = {
    'commit': 'add', 'commit of an update': 'update', 'commit of an undo': 'undo', 'commit of a sync': 'sync',
    'checkpoint': 'checkpoint', 'compact and VACUUM': 'compact', 'reencode': 'reencode', 'index build': 'rebuild',
    'search': 'search', 'closing': 'close', 'opening': 'open',
}


def works(folder, seed, point):
    "Do what comes, and what leads to a point, until killed."
    say(child=os.getpid())
    draw = random.Random(seed)
    module.ENCODE_BATCH = encoder.ENCODE_BATCH = 8
    Index.worn = property(lambda self: self.stats()['delta'] + self.stats()['removed'] > 20)
    build = Index.build
    Index.build = lambda *a, **more: build(*a, **{'ivf_from': 40} | more)
    bank = opened(folder)

    def goes_on(kind):
        nonlocal bank
        if kind in ('update', 'delete') and not len(bank): kind = 'add'
        do('delete' if kind == 'add' and len(bank) > 120 else kind, bank, draw)
        if kind == 'close': bank = opened(folder)

    if point in DEADLY or point in LATE:
        for _ in range(draw.randint(0, 8)): goes_on(draw.choice(OFTEN))
        do('add', bank, draw)  # there is something
        if point in DEADLY: DEADLY[point][0](point, draw, bank)
        lead = DEADLY[point][1] if point in DEADLY else LATE[point]
        for _ in range(20):
            goes_on('close' if lead == 'open' else lead)
            goes_on('add')
        sys.exit(f"'{point}' is never reached")
    while True: goes_on(draw.choice(OFTEN))


if __name__ == '__main__':
    for line in sys.stdin:
        if not (child := os.fork()):
            task = json.loads(line)
            works(Path(task['folder']), task['seed'], task['point'])
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, b'\n')  # after half a line
        say(died=code)

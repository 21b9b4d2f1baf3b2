"""What a bank's truth must survive: wrong input, kills at any moment, a full disk, two writers, a read-only folder.

What is true of a store on a server too stands in test_qdrant.py, and runs on both.

As a script, `python test_store.py works FOLDER SEED` changes a bank at random until it is killed, and prints
what was acknowledged.
"""
import json
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.memory.memories import normalize_vectors
from shutka.memory.store import Store

ENCODER = ('first', 2)


def vector(text, width=2): return [len(text), *(1 + text.count(letter) for letter in 'abcdefgh'[:width - 1])]


def add(store, *texts, **metadata):
    return store.apply('add', [(text, metadata, vector(text)) for text in texts], encoder=ENCODER).added


@pytest.fixture
def store(tmp_path):
    "Memories 1, 2 and 3; the third is deleted."
    with Store(tmp_path/'bank') as store:
        add(store, 'function one() {}', 'function two() {}', 'function three() {}')
        store.apply('delete', delete=[3])
        yield store


def state(store):
    return store.last_operation(), store.live().tolist(), store.vectors()[1].tolist(), store.counts(), store.verify()


# what is refused

new = 'function four() {}', {}, [1, 2]
cycle = {}
cycle['self'] = cycle
REFUSED = {
    'not a number': (dict(add=[(*new[:2], [math.nan, 1])]), 'finite'),
    'infinite': (dict(add=[(*new[:2], [-math.inf, 1])]), 'finite'),
    'zero': (dict(add=[new, (*new[:2], [0, 0])]), 'vector 1'),
    'too long': (dict(add=[(*new[:2], [1, 2, 3])]), r'shape \(2,\), got \(3,\)'),
    'two-dimensional': (dict(add=[(*new[:2], [[1, 2]])]), r'got \(1, 2\)'),
    'a number': (dict(add=[(*new[:2], 1.)]), r'got \(\)'),
    'complex': (dict(add=[(*new[:2], [1j, 2])]), 'real numbers'),
    'words for numbers': (dict(add=[(*new[:2], ['1', '2'])]), 'real numbers'),
    'no vector': (dict(add=[new, (*new[:2], None)]), '1 of 2 do not'),
    'another encoder': (dict(add=[new], encoder=('second', 2)), 'reencode'),
    'another dimension': (dict(add=[new], encoder=('first', 3)), 'reencode'),
    'an encoder of half a character': (dict(add=[new], encoder=('\ud800', 2)), 'fingerprint must be valid Unicode'),
    'an encoder without dimension': (dict(add=[new], encoder=('first',)), 'its fingerprint and dimension'),
    'half a dimension': (dict(add=[new], encoder=('first', 2.5)), 'dimension must be a whole number, got 2.5'),
    'unknown id': (dict(delete=[1, 99]), 'id 99'),
    'id zero': (dict(delete=[0]), 'id 0'),
    'negative id': (dict(delete=[-1]), 'id -1'),
    'huge id': (dict(delete=[10**30]), 'an id must fit into 64 bits, got 10{30}$'),
    'deleted before': (dict(delete=[3]), 'deleted by operation 2'),
    'twice the same': (dict(delete=[1, 2, 1]), 'each id must come once'),
    'endless id': (dict(delete=[10**5000]), 'an id must fit into 64 bits, got one of 16610 bits'),
    'half an id': (dict(delete=[1.5]), 'an id must be a whole number, got 1.5'),
    'true as id': (dict(delete=[True]), 'an id must be a whole number, got True'),
    'false among ids': (dict(delete=[1, False]), 'an id must be a whole number, got False'),
    'a text as id': (dict(delete=['1']), "an id must be a whole number, got '1'"),
    'no list of ids': (dict(delete=None), 'ids must be whole numbers, got None'),
    'empty text': (dict(add=[('', {}, [1, 2])]), 'must not be empty'),
    'white text': (dict(add=[(' \n\t', {}, [1, 2])]), 'must not be empty'),
    'bytes': (dict(add=[(b'let x', {}, [1, 2])]), 'must be a str, got bytes'),
    'None': (dict(add=[(None, {}, [1, 2])]), 'must be a str, got NoneType'),
    'half a character': (dict(add=[('\ud800', {}, [1, 2])]), 'valid Unicode'),
    'metadata of numbers': (dict(add=[(new[0], {1: 2}, [1, 2])]), 'metadata 0'),
    'metadata of objects': (dict(add=[(new[0], {'a': object()}, [1, 2])]), 'metadata 0'),
    'metadata of a tuple': (dict(add=[(new[0], {'a': (1, 2)}, [1, 2])]), 'no tuples'),
    'metadata not a number': (dict(add=[(new[0], {'a': math.nan}, [1, 2])]), 'metadata 0'),
    'metadata without end': (dict(add=[(new[0], cycle, [1, 2])]), 'metadata 0'),
    'metadata of half a character': (dict(add=[(new[0], {'a': '\udfff'}, [1, 2])]), 'metadata 0'),
    'no metadata': (dict(add=[(new[0], None, [1, 2])]), 'must be a dict'),
    'detail': (dict(delete=[1], detail={'when': {1}}), 'detail'),
}


def test_readers_and_closed_stores_change_nothing(store):
    with Store(store.folder, readonly=True) as reader:
        for call in (lambda: reader.apply('delete', delete=[1]), reader.undo, reader.compact,
                     lambda: reader.set_meta('a', 1), lambda: reader.use_encoder('second', 3),
                     lambda: reader.set_vectors('first', [1], [[1, 2]])):
            with pytest.raises(UserError, match='readonly'): call()
    for call in (reader.live, reader.verify, lambda: reader.get([1])):
        if call == reader.verify: assert 'was closed' in call()[0]
        else:
            with pytest.raises(UserError, match='was closed'): call()


@pytest.mark.parametrize(('call', 'why'), [
    (lambda store: store.set_meta('a', {1}), 'value of a'),
    (lambda store: store.set_meta('\ud800', 1), 'a key must be valid Unicode'),
    (lambda store: store.set_meta(5, 1), 'a key must be a str, got int'),
    (lambda store: store.meta('\ud800'), 'a key must be valid Unicode'),
    (lambda store: store.meta(5), 'a key must be a str, got int'),
    (lambda store: store.use_encoder('first', 3), 'dimension 2'),
    (lambda store: store.use_encoder('x', 0), 'dimension must be 1 or more, got 0'),
    (lambda store: store.use_encoder('', 2), 'fingerprint'),
    (lambda store: store.use_encoder('\ud800', 2), 'fingerprint must be valid Unicode'),
    (lambda store: store.use_encoder('x', 2**70), f'dimension must fit into 64 bits, got {2**70}'),
    (lambda store: store.use_encoder('x', 2.), 'dimension must be a whole number, got 2.0'),
    (lambda store: store.history(10**30), 'an operation must fit into 64 bits'),
    (lambda store: store.history('1'), 'an operation must be a whole number'),
    (lambda store: store.compact(True), 'keep must be a whole number, got True'),
    (lambda store: store.undo(True), 'an operation must be a whole number, got True'),
    (lambda store: store.compact(-1), 'keep must be 0 or more, got -1'),
    (lambda store: store.compact(10**30), 'keep must fit into 64 bits, got 10{30}$'),
    (lambda store: store.compact(1.5), 'keep must be a whole number, got 1.5'),
])
def test_refused_by_name(store, call, why):
    before = state(store)
    with pytest.raises(UserError, match=why): call(store)
    assert state(store) == before


def test_numpys_numbers_are_numbers(store):
    assert store.history(np.int64(2)) == store.history(2)
    assert len(store.use_encoder('second', np.int64(3))) == 2
    assert store.compact(np.int64(100)).id == 3


# encoders and compaction

def test_a_new_encoder_serves_when_it_is_complete(store):
    bare = store.use_encoder('second', 3)
    assert bare.tolist() == [1, 2] and store.encoder() == ENCODER
    before = state(store)
    for ids, array, why in (([3], [[1, 1, 1]], 'deleted'), ([1], [[1, 1]], 'shape'), ([1], [[0, 0, 0]], 'zero'),
                            ([1, 2], [[1, 1, 1]], 'as many'), ([1, 1], [[1, 1, 1]] * 2, 'once')):
        with pytest.raises(UserError, match=why): store.set_vectors('second', ids, array)
    with pytest.raises(UserError, match='unknown'): store.set_vectors('third', [1], [[1, 1, 1]])
    with pytest.raises(UserError, match='current'): store.set_vectors('first', [1], [[1, 1]])
    assert state(store) == before
    store.set_vectors('second', bare[:1], [[1, 1, 1]])
    add(store, 'meanwhile')  # with the old one
    assert store.use_encoder('second', 3).tolist() == [2, 4] and store.encoder() == ENCODER
    store.set_vectors('second', [2, 4], np.ones((2, 3)))
    assert not len(store.use_encoder('second', 3))
    assert store.encoder() == ('second', 3) and store.vectors()[1].shape == (3, 3)
    assert not len(store.use_encoder('second', 3))
    assert store.operations()[0].detail == {'before': 'first', 'after': 'second'} and store.last_operation() == 4
    with pytest.raises(UserError, match='reencode'): add(store, 'too late')
    with pytest.raises(UserError, match='encoder'): store.undo(2)
    assert store.undo(2, encode=lambda texts: [[len(t), 1, 1] for t in texts]).added == [3] and not store.verify()


def test_compact(store):
    for i in range(3):
        add(store, f'text {i}')
        store.undo()
    store.use_encoder('second', 3)
    store.set_vectors('second', [1, 2], np.ones((2, 3)))
    assert store.compact(keep=4).detail == {'texts': 2, 'vectors': 4}  # memories 3 and 4; the newer ones stay
    assert [memory.text for memory in store.get([1, 3, 4, 5])] == ['function one() {}', '', '', 'text 1']
    with pytest.raises(UserError, match='compacted away'): store.undo(2)
    assert store.use_encoder('second', 3).tolist() == [1, 2] and not store.verify()


def test_meta(store):
    store.set_meta('a', {'b': [1]})
    assert store.meta('a') == {'b': [1]} and store.meta('c') is None and store.meta('c', 7) == 7
    store.undo()
    assert store.meta('a') == {'b': [1]}


# verify

@pytest.mark.parametrize(('sql', 'fault'), [
    ('UPDATE items SET text = "other" WHERE id = 1', 'text of memory 1'),
    ('UPDATE items SET deleted_by = NULL WHERE id = 3', 'not those of the log'),
    ('DELETE FROM operations WHERE id = 1', 'gaps'),
    ('DELETE FROM vectors WHERE item = 2', 'memory 2 has no vector'),
    ('UPDATE vectors SET vector = zeroblob(8)', 'damaged'),
    ('UPDATE vectors SET vector = zeroblob(7)', 'damaged'),
    ('DELETE FROM words', 'words of memory 1'),
    ('UPDATE words SET text = "other" WHERE rowid = 2', 'words of memory 2'),
    ('INSERT INTO words (rowid, text) VALUES (99, "x")', 'belong to no memory'),
    ('UPDATE operations SET undone = 1', 'what is undone'),
    ('UPDATE items SET metadata = "[]" WHERE id = 3', 'metadata or the text of memory 3'),
    ('UPDATE items SET id = 4 WHERE id = 3', 'not there'),
    ("UPDATE items SET metadata = CAST('{}' AS BLOB) WHERE id = 1", 'of memory 1'),
    ('UPDATE vectors SET vector = -vector, crc32 = crc32 WHERE item = 2', 'vector of memory 2 is damaged'),
    ('UPDATE vectors SET (vector, crc32) = '
     '(SELECT vector, crc32 FROM vectors WHERE item = 2)', 'vector of memory 1 is damaged'),
    ('UPDATE items SET added_by = 2 WHERE id = 1', 'not those of the log'),
    ('UPDATE operations SET time = time + 1 WHERE id = 1', 'operation 1'),
    ('UPDATE operations SET detail = "[" WHERE id = 2', 'operation 2'),
    ('UPDATE operations SET undoes = 2 WHERE id = 2', 'operation 2'),
    ("UPDATE operations SET kind = x'00' WHERE id = 1", 'operation 1'),
    ('DELETE FROM changes WHERE item = 2', 'operation 1'),
    ('UPDATE encoders SET current = 0', 'an encoder'),
    ('UPDATE encoders SET dimension = 3', 'an encoder'),
    ('UPDATE encoders SET fingerprint = 7', 'an encoder'),
    ('UPDATE meta SET value = "1"', 'value of a'),
    ('UPDATE words_data SET block = replace(block, "function", "functioo")', 'index of words'),
    ("UPDATE words_data SET block = x'0000' WHERE id = 1", 'index of words'),
    ("UPDATE words_docsize SET sz = x'09'", 'index of words'),
    ('UPDATE words_config SET v = 3', 'fts5'),
    ("UPDATE words_content SET c0 = x'00' WHERE id = 1", 'words of memory 1'),
    ('UPDATE changes SET live = 1', 'to what it was'),
    ('DELETE FROM items WHERE id = 1', 'not there'),
    ('UPDATE items SET text = NULL WHERE id = 1', 'memory 1 has no text'),
])
def test_verify_sees(store, sql, fault):
    "Every kind of damage; and nothing but a `UserError` comes of reading it, or of writing."
    def everything(store):
        return [lambda: store.get([1, 2, 3]), store.vectors, lambda: store.vectors(ids=[2]), store.operations,
                store.encoder, lambda: store.meta('a'), store.counts, lambda: store.words_search('two', 3),
                lambda: store.changed_since(1), store.undo, lambda: store.apply('delete', delete=[1])]
    store.set_meta('a', 5)
    store.close()
    other = sqlite3.connect(store.folder/'bank.sqlite')
    other.execute(sql)
    other.commit()
    other.close()
    with Store(store.folder) as store:
        assert any(fault in line for line in store.verify())
        for read in everything(store):
            with suppress(UserError): read()


def test_a_damaged_table_is_refused(store):
    "Whatever the definition of a table says, readable or not."
    store.close()
    for old, new in ((b'deleted_by IS NULL', b'deleted_by IS NUL0'), (b'CREATE TABLE meta', b'CREATE TABLE met\xe1'),
                     (b'tokenize="unicode61', b'tokenize="uni\xe3ode61')):
        data = (store.folder/'bank.sqlite').read_bytes()
        (store.folder/'bank.sqlite').write_bytes(data.replace(old, new))
        for readonly in (True, False):
            with pytest.raises(UserError, match='bank.sqlite'): Store(store.folder, readonly)
        (store.folder/'bank.sqlite').write_bytes(data)
    Store(store.folder).close()


def test_a_hash_stands_for_a_history(store, tmp_path):
    "Two banks that went the same way have the same hash, until one goes another; an undo does not change what was."
    store.close()
    shutil.copytree(store.folder, tmp_path/'copy')
    with Store(store.folder) as one, Store(tmp_path/'copy') as two:
        assert [one.history(n) for n in (1, 2)] == [two.history(n) for n in (1, 2)]
        assert len({one.history(n) for n in (1, 2)}) == 2 and one.history(3) == ''
        before = one.history(2)
        for store in (one, two): store.undo()
        assert one.history(2) == before and one.history(3) != two.history(3)  # not at the same moment
        for store in (one, two): store.apply('add', [('let x', {}, [1, 0])])
        assert one.history(4) != two.history(4)


@pytest.mark.parametrize('sql', [
    "UPDATE words SET text = 'other' WHERE rowid = 2", 'DELETE FROM words WHERE rowid = 2',
    "UPDATE words_data SET block = replace(block, 'function', 'functioo')", "UPDATE words_docsize SET sz = x'09'"])
def test_compact_mends_words(store, sql):
    with store.writing() as db: db.execute(sql)
    assert 'bank.compact mends that' in store.verify()[0]
    store.close()
    store = Store(store.folder)
    store.compact()
    assert not store.verify() and store.words_search('two', 1)[0][0] == 2
    store.close()


@pytest.mark.parametrize('wrong', [b'"source": "b"', b'"source"; "a"', b'"source": "\xff"'])
def test_damaged_memories_can_be_deleted(tmp_path, wrong):
    "Then the others go on, and compacting forgets what was damaged. Even if SQLite has them in an index, as they were."
    with Store(tmp_path) as store:
        add(store, 'one', source='a')
        add(store, 'two', source='c')
        with store.writing() as db: db.execute('UPDATE vectors SET vector = zeroblob(8) WHERE item = 1')
    data = (tmp_path/'bank.sqlite').read_bytes()
    (tmp_path/'bank.sqlite').write_bytes(data.replace(b'"source": "a"', wrong))
    store = Store(tmp_path)
    assert any('memory 1' in line for line in store.verify())
    with pytest.raises(UserError, match=r'bank.sqlite cannot be read: .*; bank.verify\(\) names'): store.get([1])
    with pytest.raises(UserError, match='the vector of memory 1'): store.vectors()
    store.apply('delete', delete=[1])
    assert len(store.vectors()[0]) == 1 and store.counts() == {('c', None): 1} and len(store.live({'source': 'c'})) == 1
    with pytest.raises(UserError, match='could not be written, and is as it was'): store.undo()
    store.compact(0)
    assert store.verify() == [] and store.get([1])[0].metadata == {}
    store.close()


def test_what_is_no_bank(tmp_path):
    with pytest.raises(UserError, match='no memory bank'): Store(tmp_path/'nowhere', readonly=True)
    assert not (tmp_path/'nowhere').exists()
    path = tmp_path/'bank.sqlite'
    path.write_bytes(b'SQLite is not what this is' * 100)
    for readonly in (False, True):
        with pytest.raises(UserError, match='not a database'): Store(tmp_path, readonly)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute('CREATE TABLE recipes (name)')
    other.close()
    for readonly in (False, True):
        with pytest.raises(UserError, match='no memory bank'): Store(tmp_path, readonly)
    path.unlink()
    Store(tmp_path).close()
    other = sqlite3.connect(path)
    other.execute('PRAGMA user_version = 99')
    other.close()
    with pytest.raises(UserError, match='version 99'): Store(tmp_path)
    (tmp_path/'file').write_text('')
    with pytest.raises(UserError, match='must be a folder'): Store(tmp_path/'file'/'bank')


def test_damaged_pages_are_named_or_harmless(tmp_path):
    "Random bytes in the file: an answer as before, or an error that says what is wrong; never anything else."
    texts = [f'function number{i}() {{}}' for i in range(200)]
    with Store(tmp_path/'whole') as store: add(store, *texts)
    whole = (tmp_path/'whole'/'bank.sqlite').read_bytes()
    for seed in range(30):
        draw = random.Random(seed)
        folder = tmp_path/str(seed)
        folder.mkdir()
        at = draw.randrange(len(whole))
        damaged = whole[:at] + draw.randbytes(64) + whole[at + 64:] if seed % 3 else whole[:at]
        (folder/'bank.sqlite').write_bytes(damaged)
        try:
            with Store(folder) as store:
                faults = store.verify()
                assert all(isinstance(fault, str) for fault in faults)
                if not faults: assert [memory.text for memory in store.get(store.live())] == texts
        except UserError as e: assert 'bank.sqlite' in str(e)


# many at a time

def test_one_writer_many_readers(store):
    script = f'from shutka.memory.store import Store; Store({str(store.folder)!r}, wait=0)'
    with store.alone():
        with pytest.raises(UserError, match=r'written by process \d+ \(this one\), and still was after 0 seconds'):
            Store(store.folder, wait=0)
        ran = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
        assert f'being written by process {os.getpid()}, and still' in ran.stderr
    assert subprocess.run([sys.executable, '-c', script]).returncode == 0
    with Store(store.folder, readonly=True) as one, Store(store.folder, readonly=True) as two:
        with one.reading():
            assert one.live().tolist() == [1, 2]
            add(store, 'four')
            assert (one.live().tolist(), two.live().tolist(), len(one), len(two)) == ([1, 2], [1, 2, 4], 2, 3)
            assert not one.words_search('four', 3) and two.words_search('four', 3)
        assert one.live().tolist() == [1, 2, 4]
    with store.reading():
        with pytest.raises(RuntimeError, match='inside'): add(store, 'five')
    store.close()
    store.close()
    with pytest.raises(UserError, match='was closed'): add(store, 'five')
    with Store(store.folder) as again: assert again.live().tolist() == [1, 2, 4]


def test_a_writer_waits_and_says_for_whom(store):
    "While another process writes; the readers of this one go on, and one warning says who it is."
    child = 'import sys, time; from shutka.memory.store import Store\n' \
            'with Store(sys.argv[1]) as store, store.alone(): print("here", flush=True); time.sleep(1.2)\n'
    process = subprocess.Popen([sys.executable, '-c', child, store.folder], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    ids, said = [], []

    def write():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            ids.extend(add(store, 'four'))
        said.extend(str(warning.message) for warning in caught)
    thread = threading.Thread(target=write)
    began = time.monotonic()
    thread.start()
    while thread.is_alive() and time.monotonic() < began + .6: assert store.live().tolist() == [1, 2]
    thread.join()
    assert time.monotonic() > began + .6 and ids == [4] and process.wait() == 0
    assert said == [f'waiting for process {process.pid}, which writes to {store.folder}']


def test_who_only_has_a_bank_open_keeps_nobody_waiting(store):
    "Two of one process take turns, without a wait and without losing anything."
    with Store(store.folder, wait=0) as second, Store(store.folder, readonly=True) as reader:
        for n in range(5):
            add(store, f'one {n}')
            add(second, f'two {n}')
            assert len(reader) == len(store) == len(second) == 4 + 2 * n
        store.compact()
        second.set_meta('a', 1)
        assert store.meta('a') == 1 and second.verify() == []


def test_alone(store):
    "What is seen inside stays so; it may be nested, and not be begun while something is read."
    with Store(store.folder, wait=0) as second:
        with store.alone(), store.alone():
            seen = store.last_operation()
            with pytest.raises(UserError, match='still was after 0 seconds'): add(second, 'four')
            with store.reading(): assert store.last_operation() == seen
            add(store, 'five')
        add(second, 'six')
        with store.reading(), pytest.raises(RuntimeError, match='inside'):
            with store.alone(): pass
        with pytest.raises(ZeroDivisionError):
            with store.alone(): 1 / 0
        add(second, 'seven')


@pytest.mark.parametrize('how', ['removed', 'moved', 'replaced', 'emptied'])
def test_a_folder_that_is_gone_takes_no_changes(store, how, tmp_path):
    "SQLite would write into a file that has no name any more, and acknowledge it. Nothing appears in its place."
    if how == 'moved': store.folder.rename(tmp_path/'elsewhere')
    elif how == 'emptied': (store.folder/'bank.sqlite').unlink()
    else: shutil.rmtree(store.folder)
    if how == 'replaced':
        with Store(store.folder) as other: add(other, 'other')
    for change in (lambda: add(store, 'four'), lambda: store.apply('delete', delete=[1]), store.undo, store.compact,
                   lambda: store.set_meta('a', 1), lambda: store.use_encoder('second', 3)):
        with pytest.raises(UserError, match='must still hold the bank that was opened, and it was removed or replaced'):
            change()
    assert store.folder.exists() == (how in ('replaced', 'emptied'))
    assert (store.folder/'bank.sqlite').exists() == (how == 'replaced')
    if how == 'moved':
        with Store(tmp_path/'elsewhere') as moved: assert moved.live().tolist() == [1, 2] and moved.verify() == []


def test_another_working_folder_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Store('bank') as store:
        (tmp_path/'other').mkdir()
        monkeypatch.chdir(tmp_path/'other')
        add(store, 'one')
        assert store.live().tolist() == [1] and not (tmp_path/'other'/'bank').exists()


def test_threads_share_a_store(tmp_path):
    with Store(tmp_path) as store:
        wrong = []

        def many(name):
            try:
                for i in range(20):
                    i, = add(store, f'{name} {i}')
                    with store.reading():
                        assert len(store.live()) == len(store) and store.get([i])[0].text.startswith(name)
            except BaseException as e: wrong.append(e)
        threads = [threading.Thread(target=many, args=(name,)) for name in ('one', 'two', 'three', 'four')]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not wrong and len(store) == 80 and not store.verify()


def test_a_reader_never_sees_half_of_an_operation(tmp_path):
    "Each operation replaces all ten memories; a reader that counts while it happens always counts ten of one kind."
    child = 'import sys; from shutka.memory.store import Store\n' \
            'with Store(sys.argv[1]) as store:\n' \
            '  for n in range(60): store.apply("update", [(f"text {n}", {"n": n}, None)] * 10, delete=store.live())\n'
    with Store(tmp_path) as store: store.apply('add', [('text', {'n': -1}, None)] * 10)
    process, seen = subprocess.Popen([sys.executable, '-c', child, tmp_path]), set()
    with Store(tmp_path, readonly=True) as reader:
        while process.poll() is None:
            with reader.reading():
                kinds = {memory.metadata['n'] for memory in reader.get(reader.live())}
                assert len(reader) == 10 and len(kinds) == 1 and len(reader.words_search('text', 99)) == 10
            seen |= kinds
    assert process.returncode == 0 and len(seen) > 1


# disks

def test_a_commit_reaches_the_disk(store):
    "A kill cannot show this, only a power cut could: the file's log is flushed before a commit returns."
    with store.reading() as db:
        settings = [db.execute(f'PRAGMA {name}').fetchone()[0] for name in ('journal_mode', 'synchronous')]
    assert settings == ['wal', 2]


FULL = '''
import resource, sys
from pathlib import Path
from shutka.core.errors import UserError
from shutka.memory.store import Store
folder = Path(sys.argv[1])
FILL
with Store(folder/'bank') as store:
    done = 0
    LIMIT
    while True:
        try: store.apply('add', [(f'text {done} ' + 'x' * 3000, {}, [done, 1])], encoder=('e', 2))
        except UserError as e:
            assert 'could not be written, and is as it was' in str(e) and done, e
            break
        done += 1
    for _ in range(3):
        assert store.live().tolist() == list(range(1, done + 1))
        assert store.last_operation() == done and not store.verify()
        try: store.apply('delete', [('y' * 100000, {}, [1, 1])], delete=[1])
        except UserError: pass
        else: raise AssertionError('the disk was not full')
    FREE
    store.apply('delete', delete=[1])
with Store(folder/'bank') as store:
    store.apply('add', [('and more', {}, [1, 1])])
    assert store.live().tolist() == list(range(2, done + 2)) and not store.verify()
print('fine')
'''


def test_a_limit_on_files(tmp_path):
    limit = 'resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))'
    free = 'resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)'
    script = FULL.replace('FILL', '').replace('LIMIT', limit).replace('FREE', free)
    done = subprocess.run([sys.executable, '-c', script, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.endswith('fine\n'), done.stdout + done.stderr


def privately(command, folder, *arguments):
    "Run a program where a shell command has mounted something that nobody else sees."
    inside = ['unshare', '-rm', 'sh', '-c']
    if not shutil.which('unshare') or subprocess.run([*inside, command, folder], capture_output=True).returncode:
        pytest.skip('this machine lets nobody mount')
    words = [*inside, f'{command} && exec "$@"', folder, sys.executable, *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_a_full_disk(tmp_path):
    script = FULL.replace('FILL', '(folder/"ballast").write_bytes(bytes(400_000))').replace('LIMIT', '')
    script = script.replace('FREE', '(folder/"ballast").unlink()')
    done = privately('mount -t tmpfs -o size=1m tmpfs "$0"', tmp_path, '-c', script, tmp_path)
    assert done.returncode == 0 and done.stdout.endswith('fine\n'), done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


READONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
LOOK = '''
import sys
from shutka.core.errors import UserError
from shutka.memory.store import Store
try: Store(sys.argv[1])
except UserError as e: print(e)
try:
    with Store(sys.argv[1], readonly=True) as store:
        print(store.live().tolist(), store.words_search('two', 1)[0][0], store.verify())
except UserError as e: print(e)
'''


def test_a_folder_that_cannot_be_written(store):
    store.close()
    assert sorted(path.name for path in store.folder.iterdir()) == ['.writer', 'bank.sqlite']
    lines = privately(READONLY, store.folder, '-c', LOOK, store.folder).stdout.splitlines()
    assert 'must be a folder that can be written' in lines[0] and lines[1] == '[1, 2] 2 []'


@pytest.mark.parametrize(('left', 'expected'), [
    ('all', '[1, 2] 2 []'), ('no -shm', 'copy the folder to where it can be written')])
def test_a_folder_that_cannot_be_written_and_was_not_closed(store, tmp_path, left, expected):
    shutil.copytree(store.folder, tmp_path/'copy')
    if left != 'all': (tmp_path/'copy'/'bank.sqlite-shm').unlink()
    lines = privately(READONLY, tmp_path/'copy', '-c', LOOK, tmp_path/'copy').stdout.splitlines()
    assert expected in lines[1]
    with Store(tmp_path/'copy', readonly=True) as reader: assert reader.live().tolist() == [1, 2]


def test_a_folder_that_goes_while_a_writer_waits_takes_no_changes(store):
    "Whoever had the lock has removed the bank: the lock that comes free is that of nothing."
    said = []

    def write():
        try: add(store, 'four')
        except UserError as e: said.append(str(e))
    with Store(store.folder) as other, other.alone():
        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(.2)   # it waits by now; if it does not yet, it will be refused all the same
        shutil.rmtree(store.folder)
    thread.join()
    assert len(said) == 1 and 'must still hold the bank that was opened' in said[0] and not store.folder.exists()


def test_compact_makes_the_files_small(store):
    "Pages of what went are given back, and the log of SQLite beside the file is emptied."
    store.apply('add', [(f'text {i} ' + 'x' * 3000, {}, [1, i + 1]) for i in range(100)], encoder=ENCODER)
    store.undo()
    store.compact(keep=0)
    assert (store.folder/'bank.sqlite').stat().st_size < 150_000
    assert (store.folder/'bank.sqlite-wal').stat().st_size == 0


def test_compact_keeps_a_hundred_operations_to_be_undone(store):
    store.compact()
    assert store.undo(2).added == [3] and store.get([3])[0].text == 'function three() {}'


def test_a_value_is_replaced_and_a_damaged_one_is_refused(store):
    store.set_meta('a', 1)
    store.set_meta('a', [2])
    assert store.meta('a') == [2]
    with store.writing() as db: db.execute("""UPDATE meta SET value = '{"value": 3}'""")
    with pytest.raises(UserError, match='the value of a is not what was stored'): store.meta('a')


def test_a_new_bank_has_its_name_on_the_disk(tmp_path, monkeypatch):
    "A power cut could show this: after the file, the folders that name it and its folder are flushed."
    flushed, fsync = [], os.fsync

    def note(fd):
        flushed.append(os.readlink(f'/proc/self/fd/{fd}'))
        fsync(fd)
    monkeypatch.setattr(os, 'fsync', note)
    Store(tmp_path/'bank').close()
    assert {str(tmp_path/'bank'), str(tmp_path)} <= set(flushed)


# kills

def encode(texts, fingerprint): return [vector(text, int(fingerprint)) for text in texts]


def work(store, draw):
    "One random operation; or none, where it was none that can be done."
    kind = draw.choice(['add', 'add', 'delete', 'update', 'undo', 'undo', 'redo', 'encoder', 'compact'])
    live = store.live().tolist()
    fingerprint, dimension = store.encoder() or ('2', 2)
    texts = [f'function f{draw.randrange(10**9)}() {{}}' * draw.choice([1, 1, 50]) for _ in range(draw.randint(1, 20))]
    triples = [(text, {'source': draw.choice('ab')}, v) for text, v in zip(texts, encode(texts, fingerprint))]
    some = draw.sample(live, min(len(live), draw.randint(1, 10)))
    try:
        if kind == 'add': return store.apply('add', triples, encoder=(fingerprint, dimension))
        if kind == 'delete': return store.apply('delete', delete=some)
        if kind == 'update': return store.apply('update', triples, some, encoder=(fingerprint, dimension))
        def encode_again(texts): return encode(texts, fingerprint)
        if kind == 'undo': return store.undo(encode=encode_again)
        if kind == 'redo': return store.undo(draw.randint(1, store.last_operation() + 1), encode=encode_again)
        if kind == 'compact' and draw.random() < .3: return store.compact(keep=draw.randint(0, 20))
        if kind == 'encoder':
            to = str(draw.randint(2, 8))
            while len(bare := store.use_encoder(to, int(to))):
                store.set_vectors(to, bare[:30], encode([memory.text for memory in store.get(bare[:30])], to))
            return store.operations(limit=1)[0]
    except UserError as e:
        if kind not in ('undo', 'redo') or 'written' in str(e): raise


def works(folder, seed):
    "Change a bank until killed; print each operation when it is acknowledged."
    draw = random.Random(seed)
    with Store(folder) as store:
        print('{}', flush=True)
        while True:
            o = work(store, draw)
            if not o: continue
            texts = {memory.id: memory.text for memory in store.get(o.added)}
            print(json.dumps([o.id, o.added, o.deleted, texts]), flush=True)


def replay(live, operation, added, deleted):
    assert not live & set(added) and live >= set(deleted), operation
    return live - set(deleted) | set(added)


@pytest.mark.parametrize('kills', [10, pytest.param(200, marks=pytest.mark.faults)])
def test_killed_at_any_moment(tmp_path, kills):
    "What was acknowledged is there, at most one operation more, and nothing is half done."
    folder, live, texts, last, total = tmp_path/'bank', set(), {}, 0, 0
    for seed in range(kills):
        draw = random.Random(seed)
        child = subprocess.Popen([sys.executable, __file__, 'works', str(folder), str(seed)], stdout=subprocess.PIPE)
        if seed % 5: child.stdout.readline()  # it is open; otherwise the kill may come while it opens
        time.sleep(draw.uniform(0, .3))
        child.kill()
        lines = child.communicate()[0].splitlines(keepends=True)
        for line in lines:
            if line in (b'{}\n', b'') or not line.endswith(b'\n'): continue
            number, added, deleted, said = json.loads(line)
            if number <= last: continue  # an encoder that is the current one already: no operation
            assert number == last + 1, 'an operation without acknowledgement in between'
            live, last, total = replay(live, number, added, deleted), number, total + 1
            texts |= {int(i): text for i, text in said.items()}
        assert child.returncode == -9
        with Store(folder, readonly=bool(seed % 2 and folder.exists())) as store:
            assert store.verify() == []
            assert store.last_operation() in (last, last + 1)
            if store.last_operation() > last:
                operation, = store.operations(limit=1)
                live, last = replay(live, operation.id, operation.added, operation.deleted), operation.id
                texts |= {memory.id: memory.text for memory in store.get(operation.added)}
            assert store.live().tolist() == sorted(live)
            assert {memory.id: memory.text for memory in store.get(live)} == {i: texts[i] for i in live}
            if live:
                fingerprint, dimension = store.encoder()
                vectors = encode([texts[i] for i in sorted(live)], fingerprint)
                assert np.array_equal(store.vectors()[1], normalize_vectors(vectors, dimension))
        if last > 400: folder, live, texts, last = tmp_path/f'bank{seed}', set(), {}, 0
    print(f'{kills} kills, {total} acknowledged operations, none lost')
    assert total > kills


if __name__ == '__main__': {'works': works}[sys.argv[1]](*sys.argv[2:])


def test_counts_of_words_are_remembered_until_something_changes(tmp_path, monkeypatch):
    monkeypatch.setattr('shutka.memory.rows.MOST_MATCHES', 1)   # as in a large bank, where words are chosen by counts
    with Store(tmp_path/'bank') as store, Store(tmp_path/'bank') as other:
        store.apply('add', [(text, {}, None) for text in ('one two', 'one', *'abcdefghij')])
        asked = []
        store._db.set_trace_callback(lambda sql: asked.append(sql) if 'temp.vocabulary WHERE' in sql else None)

        def counted():
            asked.clear()
            store.words_search('one two', 3)
            limit = store.words_limit('one two')
            return len(asked), limit

        n, first = counted()
        assert n == 2 and counted() == (0, first)
        other.apply('add', [('two', {}, None)])
        n, second = counted()
        assert n == 2 and second < first and counted() == (0, second)
        store.undo()
        n, third = counted()
        assert n == 2 and third == first

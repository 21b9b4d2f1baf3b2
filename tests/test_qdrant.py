"""What is true of a store is true of both, the folder's and the server's; then what only a server can suffer.

At the end comes the way from one to the other. The server is the client's local mode. `Handler` puts it behind HTTP,
so that requests are made, sent and read as they are with a real one.
"""
import json
import math
import random
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException
from test_store import ENCODER, REFUSED, add, new, vector

from shutka.core.errors import UserError
from shutka.faces import cli
from shutka.memory.memories import normalize_vectors
from shutka.memory.push import push_bank
from shutka.memory.qdrant import POINTS_AT_ONCE, QdrantStore, connect_qdrant
from shutka.memory.store import Store

both = pytest.mark.parametrize('kind', ['sqlite', 'qdrant'])


@pytest.fixture
def opened(tmp_path):
    "`opened(kind)` opens the one store of that kind, again and again; if wished, only to read."
    client, last = QdrantClient(':memory:'), []

    def make(kind, readonly=False):
        if kind == 'qdrant': return QdrantStore(client, readonly=readonly)
        while last: last.pop().close()
        last.append(Store(tmp_path/'bank', readonly))
        return last[0]
    yield make
    while last: last.pop().close()


@pytest.fixture
def store(opened, kind):
    "Memories 1, 2 and 3; the third is deleted."
    store = opened(kind)
    add(store, 'function one() {}', 'function two() {}', 'function three() {}')
    store.apply('delete', delete=[3])
    return store


@pytest.fixture
def empty(opened, kind): return opened(kind)


def seen(store):
    return store.last_operation(), store.live().tolist(), store.vectors()[1].tolist(), store.counts(), len(store)


def sound(store): return not isinstance(store, Store) or store.verify() == []  # a server has nothing to verify with


def found(store, query, k=9, where={}): return [i for i, _ in store.words_search(query, k, where)]


def work(store, draw):
    "One random operation, if it can be done."
    kind, live = draw.choice(['add', 'add', 'delete', 'update', 'undo', 'redo']), store.live().tolist()
    texts = [f'function f{draw.randrange(10**9)}() {{}} {"abcdefgh"[:draw.randrange(8)]}'
             for _ in range(draw.randint(1, 5))]
    triples = [(text, {'source': draw.choice('ab')}, vector(text, 8)) for text in texts]
    some = draw.sample(live, min(len(live), draw.randint(1, 4)))
    try:
        if kind == 'add': store.apply('add', triples, encoder=('e', 8))
        if kind == 'delete': store.apply('delete', delete=some)
        if kind == 'update': store.apply('update', triples, some, encoder=('e', 8))
        if kind == 'undo': store.undo()
        if kind == 'redo': store.undo(draw.randint(1, store.last_operation() + 1))
    except UserError:
        if kind not in ('undo', 'redo'): raise


def replayed(store):
    "The live set that the log tells of."
    live = set()
    for operation in reversed(store.operations(10**6)):
        assert not live & set(operation.added) and live >= set(operation.deleted)
        live = live - set(operation.deleted) | set(operation.added)
    return sorted(live)


# both: what is refused

@both
@pytest.mark.parametrize('name', REFUSED)
def test_refused_by_name_and_nothing_changes(store, name):
    before = seen(store)
    wrong, why = REFUSED[name]
    with pytest.raises(UserError, match=why): store.apply('change', **{'delete': [1]} | wrong)
    assert seen(store) == before and sound(store)


@both
@pytest.mark.parametrize('name', ['', None, 'undo', 'compact', 'encoder', '\ud800', 7])
def test_kinds_that_are_the_stores_own(store, name):
    with pytest.raises(UserError, match='kind'): store.apply(name, delete=[1])


UNKNOWN = {
    'an id': (lambda store: store.get([1, 99]), 'id 99'),
    'id zero': (lambda store: store.get([0]), 'id 0'),
    'a huge id': (lambda store: store.get([10**30]), 'an id must fit into 64 bits, got 10{30}$'),
    'one id': (lambda store: store.get(1), 'ids must be whole numbers, got 1'),
    'an encoder': (lambda store: store.vectors('second'), 'has none'),
    'a vector': (lambda store: store.vectors(ids=[99]), 'memory 99'),
    'a huge vector': (lambda store: store.vectors(ids=[10**30]), 'an id must fit into 64 bits'),
    'an undo': (lambda store: store.undo(99), 'operation 99'),
    'undo zero': (lambda store: store.undo(0), 'operation 0'),
    'a huge undo': (lambda store: store.undo(10**30), 'an operation must fit into 64 bits, got 10{30}$'),
    'half an undo': (lambda store: store.undo(1.5), 'an operation must be a whole number, got 1.5'),
    'the future': (lambda store: store.changed_since(99), 'ends with operation 2'),
    'before all': (lambda store: store.changed_since(-1), 'not in it'),
    'a huge past': (lambda store: store.changed_since(10**30), 'an operation must fit into 64 bits'),
    'half a past': (lambda store: store.changed_since(1.5), 'an operation must be a whole number, got 1.5'),
    'huge many': (lambda store: store.operations(10**30), 'limit must fit into 64 bits, got 10{30}$'),
    'many in words': (lambda store: store.operations('all'), "limit must be a whole number, got 'all'"),
    'negative many': (lambda store: store.operations(-2), 'limit must be -1 or more, got -2'),
    'half a kind': (lambda store: store.operations(kind='\ud800'), "an operation's kind must be valid Unicode"),
    'a kind of number': (lambda store: store.operations(kind=[1]), "an operation's kind must be a str, got list"),
    'no hits': (lambda store: store.words_search('one', 0), 'k must be 1 or more, got 0'),
    'huge k': (lambda store: store.words_search('one', 2**70), f'k must fit into 64 bits, got {2**70}'),
    'endless k': (lambda store: store.words_search('one', 10**5000), 'k must fit into 64 bits, got one of 16610 bits'),
    'half a k': (lambda store: store.words_search('one', 1.5), 'k must be a whole number, got 1.5'),
    'no k': (lambda store: store.words_search('one', None), 'k must be a whole number, got None'),
    'no query': (lambda store: store.words_search(None, 1), 'a query must be a str, got NoneType'),
    'no filter': (lambda store: store.live('a'), "a filter must be a dict, got 'a'"),
    'a key': (lambda store: store.live({'a b': 1}), 'must be a name'),
    'a dictionary': (lambda store: store.live({'a': {}}), 'filter a'),
    'a huge number': (lambda store: store.live({'n': 2**70}), f'the filter n must fit into 64 bits, got {2**70}'),
    'a huge number among others': (lambda store: store.live({'n': [1, -2**70]}),
                                   f'the filter n must fit into 64 bits, got -{2**70}'),
    'half a character': (lambda store: store.live({'n': '\ud800'}), 'the filter n must be valid Unicode'),
    'half a character among others': (lambda store: store.live({'n': ['a', '\udfff']}),
                                      'the filter n must be valid Unicode'),
    'not a number': (lambda store: store.live({'n': math.nan}), 'the filter n must be finite, got nan'),
    'not a number among others': (lambda store: store.live({'n': [math.nan, 1]}),
                                  'the filter n must be finite, got nan'),
    'infinite': (lambda store: store.live({'n': -math.inf}), 'the filter n must be finite, got -inf'),
    'infinite, in a search': (lambda store: store.words_search('one', 1, {'n': [1, math.inf]}),
                              'the filter n must be finite, got inf'),
}


@both
@pytest.mark.parametrize('name', UNKNOWN)
def test_unknown_things_are_refused(store, name):
    before, (call, why) = seen(store), UNKNOWN[name]
    with pytest.raises(UserError, match=why): call(store)
    assert seen(store) == before


@both
def test_nothing_is_changed_while_reading(store):
    with store.reading(), pytest.raises(RuntimeError, match='inside'): add(store, 'four')


@both
def test_numpys_numbers_are_numbers(store):
    three = np.int64(3)
    assert store.words_search('one', three) == store.words_search('one', 3) != []
    assert store.get(np.array([1, 2])) == store.get([1, 2])
    assert store.operations(np.int64(1)) == store.operations(1) and store.changed_since(np.int64(1))[1].tolist() == [3]
    if isinstance(store, QdrantStore): assert store.nearest([1, 1], three) == store.nearest([1, 1], 3)
    assert store.undo(np.int64(2)).added == [3]


@both
def test_vectors_need_an_encoder_and_an_encoder_needs_vectors(empty):
    one = ('let x', {}, [1])
    for wrong, encoder, why in (
            (new, None, 'fingerprint and dimension'), (('let x', {}, None), ENCODER, 'must come with a vector'),
            (('let x', {}, []), ('e', 0), 'dimension must be 1 or more, got 0'),
            (one, ('e', 2**70), 'dimension must fit into 64 bits'),
            (one, ('\ud800', 1), 'valid Unicode'), (one, ('', 1), 'fingerprint')):
        with pytest.raises(UserError, match=why): empty.apply('add', [wrong], encoder=encoder)
    with pytest.raises(UserError, match='of that encoder'): empty.vectors()
    assert empty.encoder() is None and empty.last_operation() == 0
    empty.apply('add', [('let x', {}, None)])
    with pytest.raises(UserError, match='no vectors yet'): empty.apply('add', [new], encoder=ENCODER)
    assert empty.encoder() is None and empty.words_search('x', 1)[0][0] == 1 and sound(empty)


# both: what is kept

@both
def test_nothing_yet(empty):
    assert (len(empty), empty.live().tolist(), empty.last_operation()) == (0, [], 0)
    assert (empty.counts(), empty.operations(), found(empty, 'x')) == ({}, [], [])
    assert [ids.tolist() for ids in empty.changed_since(0)] == [[], []]
    with pytest.raises(UserError, match='nothing'): empty.undo()


@both
def test_vectors_come_back_with_length_one_and_the_callers_stay(empty):
    given = np.random.default_rng(0).standard_normal((50, 7)) * np.logspace(-300, 300, 50)[:, None]
    copy = given.copy()
    ids = empty.apply('add', [(f'text {i}', {}, v) for i, v in enumerate(given)], encoder=('e', 7)).added
    assert np.array_equal(given, copy) and empty.encoder() == ('e', 7)
    have, array = empty.vectors('e')
    assert have.tolist() == ids and array.dtype == np.float32
    assert np.allclose(np.linalg.norm(array, axis=1), 1, atol=1e-6)
    assert np.array_equal(array, normalize_vectors(given, 7))
    assert np.array_equal(empty.vectors(ids=[9, 3, 9])[1], array[[8, 2, 8]])
    assert empty.vectors(ids=[])[1].shape == (0, 7)


@both
@pytest.mark.parametrize('text', [
    'let a = "\0"', "'; DROP TABLE items; --", '日本語 größte 🙂', 'x' * 1_000_000, '\r\n\tif', '؀'])
def test_texts_come_back_as_they_were(opened, kind, text):
    about = {'name': text, 'deep': {'list': [1, None, True]}, 'large': 10**30, 'one': 1.0}
    opened(kind).apply('add', [(text, about, None)])
    for readonly in (False, True):
        store = opened(kind, readonly)
        item, = store.get(np.array([1]))
        assert (item.text, item.metadata, item.deleted) == (text, about, False)
        assert isinstance(item.metadata['one'], float)
        assert abs(item.created - time.time()) < 60 and sound(store)


@both
def test_ids_are_never_used_again(opened, kind):
    used = set()
    for _ in range(3):
        ids = add(opened(kind), 'one', 'two')
        assert not used & set(ids)
        used |= set(ids)
        store = opened(kind)
        store.apply('delete', delete=ids)
        if kind == 'sqlite': store.compact(keep=0)
    store = opened(kind)
    with pytest.raises(UserError): store.apply('add', [('x', {}, [0, 0])])
    ids = add(store, 'three')
    store.undo()
    assert ids == [7] and add(store, 'four') == [8]
    assert [item.deleted for item in store.get([8, 7, 1])] == [False, True, True] and sound(store)


@both
def test_an_update_is_one_operation(store):
    operation = store.apply('update', [new], delete=[1], detail={'why': 'wrong'})
    assert (operation.id, operation.added, operation.deleted, operation.detail) == (3, [4], [1], {'why': 'wrong'})
    assert store.live().tolist() == [2, 4] == store.vectors()[0].tolist() and len(store) == 2
    assert store.operations(1) == [operation] and store.operations(kind='delete')[0].id == 2
    assert len(store.operations(2)) == 2


@both
def test_filters(empty):
    for i, metadata in enumerate([
            {'source': 'a', 'version': '1'}, {'source': 'a', 'version': '2'}, {'source': "b'\"", 'n': 1}, {'n': 1.5},
            {'flag': True, 'list': ['a'], 'größe': 'ä', 'source': None}]):
        empty.apply('add', [(f'text {i}', metadata, None)])
    for where, ids in (
            ({}, [1, 2, 3, 4, 5]), ({'source': 'a'}, [1, 2]), ({'source': "b'\""}, [3]),
            ({'source': ['a', "b'\""]}, [1, 2, 3]), ({'source': None}, [4, 5]), ({'source': ["b'\"", None]}, [3, 4, 5]),
            ({'source': 'a', 'version': '2'}, [2]), ({'version': 2}, []), ({'n': 1}, [3]), ({'n': [1, 1.5]}, [3, 4]),
            ({'n': 1.0}, [3]), ({'flag': True}, [5]), ({'source': []}, []), ({'source': ()}, []), ({'list': 'a'}, []),
            ({'größe': 1}, []), ({'größe': 'ä'}, [5]), ({'nowhere': None}, [1, 2, 3, 4, 5])):
        assert empty.live(where).tolist() == ids, where
        assert sorted(found(empty, 'text', where=where)) == ids, where
    assert empty.counts() == {(None, None): 2, ('a', '1'): 1, ('a', '2'): 1, ("b'\"", None): 1}
    empty.apply('delete', delete=[1, 4])
    assert empty.live({'source': 'a'}).tolist() == [2]
    assert empty.counts() == {(None, None): 1, ('a', '2'): 1, ("b'\"", None): 1}


# both: words

@both
@pytest.mark.parametrize('query', [
    '"', '""', "'", 'a" OR "b', 'one AND', 'NOT', 'NEAR(one two)', 'one*', '*', '^one', 'text:one', '{text}: one',
    '-one', '(', ')', 'one + two', '', ' ', '\0', '्', 'größte 🙂 日本語', '\ud800', 'x ' * 5000,
    ' '.join(map(str, range(3000)))])
def test_no_query_has_a_meaning_of_its_own(store, query):
    assert sorted(found(store, query, 5)) == [i for i, word in ((1, 'one'), (2, 'two')) if word in query]


@both
def test_words_search_ranks_and_forgets(empty):
    add(empty, 'getUserNames(users)', 'parse_dates', 'unrelated thing', 'größte Übung', 'user')
    assert found(empty, 'the names of a USER') == [1, 5] and found(empty, 'parsing the date') == [2]
    assert found(empty, 'übung') == [4] and not found(empty, 'ubung')
    scores = [score for _, score in empty.words_search('user names', 5)]
    assert scores == sorted(scores, reverse=True) and len(found(empty, 'user names', 1)) == 1
    empty.apply('delete', delete=[1])
    assert found(empty, 'names of a user') == [5]
    empty.undo()
    assert found(empty, 'names of a user') == [1, 5] and sound(empty)


# both: undo

@both
def test_undo_of_everything(store):
    store.apply('update', [new], delete=[1])
    assert store.live().tolist() == [2, 4]
    for live in ([1, 2], [1, 2, 3], []):  # the update, the delete, the add
        undo = store.undo()
        assert store.live().tolist() == live and undo.kind == 'undo'
        assert sorted(found(store, 'function')) == live and sound(store)
    with pytest.raises(UserError, match='nothing'): store.undo()
    log = [(6, 1, False), (5, 2, False), (4, 3, False), (3, None, True), (2, None, True), (1, None, True)]
    assert [(o.id, o.undoes, o.undone) for o in store.operations()] == log
    assert store.undo(6).added == [1, 2, 3]   # an undo of an undo
    assert store.undo(7).deleted == [1, 2, 3]  # and of that
    assert [o.id for o in store.operations() if o.undone] == [7, 3, 2, 1] and sound(store)
    with pytest.raises(UserError, match='undone before'): store.undo(1)


@both
def test_undo_out_of_order(store):
    add(store, 'four')
    assert store.undo(2).added == [3] and store.live().tolist() == [1, 2, 3, 4]
    store.apply('delete', delete=[4])
    with pytest.raises(UserError, match='before operation 5'): store.undo(3)
    store.undo(5)
    assert store.undo(3).deleted == [4] and sound(store)


@both
def test_an_operation_without_changes_is_remembered_and_can_be_undone(store):
    operation = store.apply('sync', detail={'commit': 'abc'})
    assert (operation.added, operation.deleted, operation.detail) == ([], [], {'commit': 'abc'})
    assert store.undo().undoes == operation.id
    assert [(o.detail, o.undone) for o in store.operations(kind='sync')] == [({'commit': 'abc'}, True)]
    assert len(store.operations(limit=1)) == 1 and len(store.operations(limit=-1)) == 4


# both: after anything

@both
@pytest.mark.parametrize('seed', range(5))
def test_what_changed_since_and_what_the_log_says(empty, seed):
    "The difference between any two moments; the live set is the log's; every memory finds itself as brute force does."
    draw, past, store = random.Random(seed), [set()], empty
    while len(past) < 25:
        work(store, draw)
        past += [set(store.live().tolist())] * (store.last_operation() - len(past) + 1)
    for n, then in enumerate(past):
        here, gone = store.changed_since(n)
        assert (set(here.tolist()), set(gone.tolist())) == (past[-1] - then, then - past[-1])
    live = store.live().tolist()
    assert live == replayed(store) and len(store) == len(live) and sum(store.counts().values()) == len(live)
    assert sound(store)
    ids, array = store.vectors()
    items = store.get(live)
    right = normalize_vectors([vector(item.text, 8) for item in items], 8)
    assert ids.tolist() == live and np.allclose(array, right, atol=1e-6)
    for item in items:
        assert set(found(store, item.text.split('(')[0], 10**4)) == set(live)  # all have the word 'function'
        assert store.words_search(item.text, 1)[0][0] == item.id
        if isinstance(store, QdrantStore):
            got = store.nearest(vector(item.text, 8), 3, {'source': item.metadata['source']})
            same = [i for i, other in zip(live, items) if other.metadata['source'] == item.metadata['source']]
            cosines = array[[live.index(i) for i in same]] @ array[live.index(item.id)]
            assert np.allclose([score for _, score in got], np.sort(cosines)[::-1][:3], atol=1e-5)
            assert {i for i, _ in got} <= set(same)


def test_both_find_the_same_words(opened, pairs):
    "Of 300 functions and the words of 40 comments: the same hits, in nearly the same order."
    rows = [json.loads(line) for line in pairs.read_text().splitlines()[:300]]
    stores = [opened('sqlite'), opened('qdrant')]
    for store in stores: store.apply('add', [(row['signature'] + row['body'], {}, None) for row in rows])
    firsts, overlap = 0, []
    for row in rows[:40]:
        one, two = (found(store, row['doc'], 300) for store in stores)
        assert set(one) == set(two)
        firsts += one[:1] == two[:1]
        if one: overlap.append(len(set(one[:10]) & set(two[:10])) / len(one[:10]))
    print(f'{firsts} of 40 first hits the same, {np.mean(overlap):.0%} of the first ten')
    assert firsts >= 35 and np.mean(overlap) > .9


# the server: a connection that breaks, two writers

WRITES = ('upsert', 'set_payload', 'delete_payload', 'create_collection', 'create_payload_index')


class Breaks:
    "A client whose connection breaks at a certain call, before the server does it or before its answer is read."
    def __init__(self, client, at, after): self.client, self.left, self.after = client, at, after

    def __getattr__(self, name):
        call = getattr(self.client, name)
        if not callable(call): return call

        def broken(*args, **named):
            self.left -= 1
            if self.left == 0 and self.after: call(*args, **named)
            if self.left <= 0: raise ResponseHandlingException(ConnectionError(f'broken at {name}'))
            return call(*args, **named)
        return broken


def correct(store):
    return store.apply('update', [('function four() {}', {'source': 'b'}, [4, 1])], delete=[1, 2], encoder=ENCODER)
def regret(store): return store.undo(2)


@pytest.mark.parametrize('after', [False, True])
@pytest.mark.parametrize('change', [correct, regret, lambda store: add(store, 'first')])
def test_broken_at_each_call(change, after):
    "What was acknowledged is there; what was not is wholly there or wholly not; a reader never sees a half."
    outcomes, at = [], 0
    while not outcomes or outcomes[-1] != 'acknowledged':
        client, at = QdrantClient(':memory:'), at + 1
        if change in (correct, regret):
            store = QdrantStore(client)
            add(store, 'function one() {}', 'function two() {}', 'function three() {}')
            store.apply('delete', delete=[3])
        before = (2, [1, 2], [False, False]) if change in (correct, regret) else (0, [], [])
        ends = {correct: (3, [3 + 1], [False] * 3), regret: (3, [1, 2, 3], [False, True, False])}
        sides = [before, ends.get(change, (1, [1], [False]))]
        look = lambda s: (s.last_operation(), s.live().tolist(), [o.undone for o in s.operations()])
        try:
            change(QdrantStore(Breaks(client, at, after)))
            outcomes.append('acknowledged')
        except UserError as e:
            assert 'does not answer' in str(e)
            outcomes.append('broken')
        try: glimpse = look(QdrantStore(client, readonly=True))
        except UserError as e: assert 'no memory bank' in str(e) or 'not the log' in str(e)
        else: assert glimpse in sides
        store = QdrantStore(client)
        assert look(store) in (sides if outcomes[-1] == 'broken' else sides[1:])
        assert replayed(store) == store.live().tolist()
        if store.encoder():
            near = sorted(i for i, _ in store.nearest([1, 1], 9))
            assert sorted(found(store, 'function first')) == store.live().tolist() == near
        else: assert not len(store)
        assert add(store, 'more') == [store.last_operation() and max(i for o in store.operations() for i in o.added)]
        newest = [point for point in client.scroll('shutka-log', limit=99)[0] if point.id == store.last_operation()]
        assert not any('rows' in point.payload for point in newest)
    assert len(outcomes) > 8


def test_a_store_goes_on_after_a_broken_call():
    client = QdrantClient(':memory:')
    add(QdrantStore(client), 'one', 'two')
    for at in range(1, 12):
        breaking = Breaks(client, 10**9, True)
        store = QdrantStore(breaking)
        breaking.left = at
        before = len(QdrantStore(client, readonly=True))
        with pytest.raises(UserError): [add(store, f'number {n}') for n in range(5)]
        breaking.left = 10**9
        assert add(store, 'again') == [max(i for o in store.operations(10**3) for i in o.added)]
        assert replayed(store) == store.live().tolist()
        assert len(store) > before


class Between:
    "A client that lets another writer do something right before its own writing of a log entry, or after it."
    def __init__(self, client, other, after): self.client, self.other, self.after = client, other, after

    def __getattr__(self, name):
        if name != 'upsert': return getattr(self.client, name)

        def upsert(*args, **named):
            other, mine = self.other, named.get('update_mode') and args[1][0].id
            if mine: self.other = None
            if mine and other and not self.after: other()
            done = self.client.upsert(*args, **named)
            if mine and other and self.after: other()
            return done
        return upsert


def test_two_writers_at_once():
    client = QdrantClient(':memory:')
    one = QdrantStore(client)
    add(one, 'one', 'two')
    two = QdrantStore(Between(client, lambda: one.apply('delete', delete=[1]), after=False))
    with pytest.raises(UserError, match='another writer came first with operation 2'):
        two.apply('delete', delete=[1, 2])
    assert two.live().tolist() == one.live().tolist() == [2]
    with pytest.raises(UserError, match='deleted by operation 2'): two.apply('delete', delete=[1, 2])
    assert two.apply('delete', delete=[2]).id == 3


def test_a_writer_that_slept_changes_nothing_when_it_wakes():
    "Another finishes its operation, and deletes what it added; then it goes on where it was."
    client = QdrantClient(':memory:')
    one = QdrantStore(client)
    add(one, 'one', 'two')

    def meanwhile():
        other = QdrantStore(client)
        assert other.live().tolist() == [2, 3]
        other.apply('delete', delete=[3])
        other.apply('note')
    sleeper = QdrantStore(Between(client, meanwhile, after=True))
    assert sleeper.apply('update', [('three', {}, vector('three'))], delete=[1]).id == 2
    assert one.live().tolist() == [2] == replayed(one) and one.last_operation() == 4 and not found(one, 'three')


def test_readers_see_the_operation_before_until_it_is_done():
    "A look after each single request of a writer."
    client, looks = QdrantClient(':memory:'), []
    store = QdrantStore(client)
    add(store, *(f'text {i}' for i in range(10)))

    class Watched:
        def __getattr__(self, name):
            call = getattr(client, name)

            def watched(*args, **named):
                done = call(*args, **named)
                if name not in WRITES: return done
                counts = len(reader), len(found(reader, 'text', 99)), len(reader.nearest([1, 1], 99))
                looks.append((reader.live().tolist(), *counts, [o.undone for o in reader.operations()]))
                return done
            return watched if callable(call) else call
    reader = QdrantStore(client, readonly=True)
    writer = QdrantStore(Watched())
    looks.clear()
    writer.apply('update', [(f'text {i}', {}, [1, i]) for i in range(10)], delete=range(1, 11))
    writer.undo()
    old, new = list(range(1, 11)), list(range(11, 21))
    states = [(old, 10, 10, 10, [False]), (new, 10, 10, 10, [False, False]), (old, 10, 10, 10, [False, True, False])]
    assert all(look in states for look in looks) and len(looks) > 8
    assert [looks.count(state) > 1 for state in states] == [True] * 3


def test_too_large_for_a_request(monkeypatch):
    monkeypatch.setattr('shutka.memory.qdrant_log.LARGEST_ENTRY', 10_000)
    store = QdrantStore(QdrantClient(':memory:'))
    with pytest.raises(UserError, match='must fit into 10,000 bytes'): store.apply('add', [('x' * 10_000, {}, None)])
    assert store.last_operation() == 0 and store.apply('add', [('x' * 1000, {}, None)]).id == 1


def test_names_of_others_are_left_alone():
    client = QdrantClient(':memory:')
    for name in ('shutka', 'mine-log'):
        words = {'words': models.SparseVectorParams()}
        client.create_collection(name, vectors_config={}, sparse_vectors_config=words)
    with pytest.raises(UserError, match='not a memory bank'): QdrantStore(client)
    with pytest.raises(UserError, match='no memory bank'): QdrantStore(client, 'nowhere', readonly=True)
    with pytest.raises(UserError, match='not the log'): QdrantStore(client, 'mine', readonly=True).live()
    assert {c.name for c in client.get_collections().collections} == {'shutka', 'mine-log'}


def test_on_a_disk(tmp_path):
    for n in range(3):
        client = QdrantClient(path=str(tmp_path/'q'))
        store = QdrantStore(client)
        assert store.last_operation() == n
        add(store, f'text {n}', source='a')
        assert store.live({'source': 'a'}).tolist() == list(range(1, n + 2))
        client.close()


# from a folder to a server

def same(bank, remote):
    ids = bank.live().tolist()
    assert remote.live().tolist() == ids and len(remote) == len(ids)
    assert remote.encoder() == bank.encoder() and remote.counts() == bank.counts()
    # a server's JSON may change the last bit of a number
    exact = lambda items: [replace(item, created=round(item.created, 3)) for item in items]
    assert exact(remote.get(ids)) == exact(bank.get(ids))
    if bank.encoder(): assert np.allclose(remote.vectors()[1], bank.vectors()[1], atol=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_push_follows(tmp_path, seed, monkeypatch):
    "After any changes, and after pushes that were stopped anywhere."
    monkeypatch.setattr('shutka.memory.push.batch_rows.__defaults__', (600,))
    draw, client = random.Random(seed), QdrantClient(':memory:')
    with Store(tmp_path) as bank:
        for _ in range(12):
            for _ in range(draw.randint(0, 4)): work(bank, draw)
            while draw.random() < .6:
                try: push_bank(bank, QdrantStore(Breaks(client, draw.randint(1, 60), draw.random() < .5)))
                except UserError as e: assert 'does not answer' in str(e)
                work(bank, draw)
            there = set(QdrantStore(client).live().tolist())
            told, here = push_bank(bank, QdrantStore(client)), set(bank.live().tolist())
            assert told == {'added': len(here - there), 'deleted': len(there - here), 'memories': len(here)}
            same(bank, QdrantStore(client))
            assert replayed(QdrantStore(client)) == sorted(here)


def test_push_tells_how_far_it_is_and_writes_nothing_if_nothing_is_new(tmp_path):
    remote, told = QdrantStore(QdrantClient(':memory:')), []
    with Store(tmp_path) as bank:
        add(bank, *(f'text {i} ' + 'x' * 9000 for i in range(POINTS_AT_ONCE + 20)))
        push_bank(bank, remote, progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (POINTS_AT_ONCE + 20,) * 2 and len(told) > 1 and sorted(told) == told
        last = remote.last_operation()
        assert push_bank(bank, remote) == {'added': 0, 'deleted': 0, 'memories': POINTS_AT_ONCE + 20}
        assert remote.last_operation() == last
        bank.apply('update', [('text', {}, [1, 1])], delete=[1])
        push_bank(bank, remote)
        assert remote.last_operation() == last + 1  # one operation, so no reader sees both texts or none


def test_push_refuses_what_is_no_mirror(tmp_path):
    remote = QdrantStore(QdrantClient(':memory:'))
    with Store(tmp_path/'bank') as bank, Store(tmp_path/'other') as other:
        add(bank, 'one', 'two')
        add(other, 'three')
        push_bank(bank, remote)
        with pytest.raises(UserError, match='another bank'): push_bank(other, remote)
        for encoder in ('second', 3), ENCODER:
            while len(bare := bank.use_encoder(*encoder)):
                bank.set_vectors(encoder[0], bare, np.ones((len(bare), encoder[1])))
            if encoder != ENCODER:
                with pytest.raises(UserError, match='another encoder'): push_bank(bank, remote)
        push_bank(bank, remote)  # as it was
        remote.apply('delete', delete=[1])
        with pytest.raises(UserError, match='changed in another way'): push_bank(bank, remote)
        push_bank(bank, remote, replace=True)
        same(bank, remote)
        push_bank(other, remote, replace=True)
        same(other, remote)


def test_push_to_an_empty_server_needs_no_permission(tmp_path):
    remote = QdrantStore(QdrantClient(':memory:'))
    with Store(tmp_path/'bank') as bank:
        assert push_bank(bank, remote) == {'added': 0, 'deleted': 0, 'memories': 0}
        bank.apply('add', [('words only', {}, None)])
        push_bank(bank, remote)
        same(bank, remote)
        bank.undo()
        push_bank(bank, remote)
        add(bank, 'with a vector')
        push_bank(bank, remote)
        same(bank, remote)


def test_push_of_an_older_copy(tmp_path):
    remote = QdrantStore(QdrantClient(':memory:'))
    with Store(tmp_path/'bank') as bank:
        add(bank, 'one')
        push_bank(bank, remote)
        (tmp_path/'copy').mkdir()
        bank._db.execute(f"VACUUM INTO '{tmp_path/'copy'/'bank.sqlite'}'")
        add(bank, 'two')
        push_bank(bank, remote)
    with Store(tmp_path/'copy') as copy:
        with pytest.raises(UserError, match='later state'): push_bank(copy, remote)
        add(copy, 'another two')
        with pytest.raises(UserError, match='another bank'): push_bank(copy, remote)


# over HTTP, and from a shell

class Handler(BaseHTTPRequestHandler):
    "What the client asks over HTTP, asked of the local mode."
    client, key, version, lock = None, None, '1.17.0', threading.Lock()

    def answer(self, parts, query, b):
        if not parts: return {'title': 'qdrant', 'version': self.version}
        name, rest, m, c = parts[1], '/'.join(parts[2:]), models, self.client
        match self.command, rest:
            case 'GET', 'exists': return {'exists': c.collection_exists(name)}
            case 'PUT', '':
                dense = {k: m.VectorParams(**v) for k, v in (b.get('vectors') or {}).items()}
                words = {k: m.SparseVectorParams(**v) for k, v in (b.get('sparse_vectors') or {}).items()}
                return c.create_collection(name, vectors_config=dense, sparse_vectors_config=words)
            case 'DELETE', '': return c.delete_collection(name)
            case 'PUT', 'index':
                kind = m.PayloadSchemaType(b['field_schema'])
                return c.create_payload_index(name, b['field_name'], kind).model_dump()
            case 'PUT', 'points':
                early = b.get('update_filter') and m.Filter(**b['update_filter'])
                mode = b.get('update_mode') and m.UpdateMode(b['update_mode'])
                points = [m.PointStruct(**p) for p in b['points']]
                done = c.upsert(name, points, update_filter=early, update_mode=mode)
            case 'POST', 'points':
                found = c.retrieve(name, b['ids'], self.fields(b), b.get('with_vector', False))
                return [p.model_dump() for p in found]
            case 'POST', 'points/payload': done = c.set_payload(name, b['payload'], points=m.Filter(**b['filter']))
            case 'POST', 'points/payload/delete': done = c.delete_payload(name, b['keys'], points=b['points'])
            case 'POST', 'points/scroll':
                where, vectors = m.Filter(**b['filter']), b.get('with_vector', False)
                points, after = c.scroll(name, where, b['limit'], None, b.get('offset'), self.fields(b), vectors)
                return {'points': [p.model_dump() for p in points], 'next_page_offset': after}
            case 'POST', 'points/count': return {'count': c.count(name, m.Filter(**b['filter']), b['exact']).count}
            case 'POST', 'points/query':
                nearest = b['query']['nearest']
                asked = m.SparseVector(**nearest) if isinstance(nearest, dict) else nearest
                where = m.Filter(**b['filter'])
                found = c.query_points(name, asked, using=b['using'], query_filter=where, limit=b['limit'],
                                       with_payload=False)
                return {'points': [p.model_dump() for p in found.points]}
            case 'POST', 'facet':
                return c.facet(name, b['key'], m.Filter(**b['filter']), b['limit'], b['exact']).model_dump()
        assert 'wait=true' in query and 'ordering=strong' in query
        return done.model_dump()

    def fields(self, body):
        asked = body.get('with_payload', True)
        return models.PayloadSelectorExclude(**asked) if isinstance(asked, dict) else asked

    def handle_one(self):
        path, _, query = self.path.partition('?')
        body = self.rfile.read(int(self.headers.get('content-length', 0)))
        if self.key and self.headers.get('api-key') != self.key:
            code, told = 401, {'status': {'error': 'Must provide an API key'}}
        else:
            with self.lock: result = self.answer([p for p in path.split('/') if p], query, json.loads(body or 'null'))
            code, told = 200, result if path == '/' else {'result': result, 'status': 'ok', 'time': 0}
        data = json.dumps(told).encode()
        self.send_response(code)
        self.send_header('content-type', 'application/json')
        self.send_header('content-length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    do_GET = do_PUT = do_POST = do_DELETE = handle_one

    def log_message(self, *args): pass


@pytest.fixture
def server():
    "A server on this machine: its URL, and the handler whose `client` holds what it was told."
    handler = type('Mine', (Handler,), {'client': QdrantClient(':memory:')})
    running = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{running.server_port}', handler
    running.shutdown()
    running.server_close()


def test_over_http(server, tmp_path):
    "Everything once, as it travels."
    store, draw = QdrantStore(connect_qdrant(server[0])), random.Random(1)
    for _ in range(12): work(store, draw)
    assert seen(store) == seen(QdrantStore(server[1].client)) and len(store)
    assert replayed(store) == store.live().tolist()
    i = int(store.live()[0])
    assert store.get([i])[0].deleted is False and store.words_search(store.get([i])[0].text, 1)[0][0] == i
    assert store.nearest(store.vectors(ids=[i])[1][0], 1)[0][1] == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match='id 999'): store.apply('delete', delete=[999])
    with Store(tmp_path) as bank:
        add(bank, 'one', '日本語 \0', source='a')
        push_bank(bank, store, replace=True)
        same(bank, store)


def test_servers_that_cannot_be_used(server, tmp_path):
    server[1].version = '1.16.3'
    with pytest.raises(UserError, match='1.17 or newer, and .* has 1.16.3'): connect_qdrant(server[0])
    server[1].version, server[1].key = '1.20.1', 'secret'
    with pytest.raises(UserError, match='401.*API key'): connect_qdrant(server[0])
    with pytest.warns(UserWarning, match='insecure'): assert not len(QdrantStore(connect_qdrant(server[0], 'secret')))
    with pytest.raises(UserError, match='does not answer'): connect_qdrant('http://127.0.0.1:9')
    for url in ('localhost:6333', 'nowhere', 'ftp://x', 'http://'):
        with pytest.raises(UserError, match='must begin with http'): connect_qdrant(url)
    first = connect_qdrant(str(tmp_path))
    with pytest.raises(UserError, match='cannot be opened'): connect_qdrant(str(tmp_path))
    first.close()


@pytest.fixture
def shutka(tmp_path, monkeypatch, capsys):
    "Run `shutka memory ... --bank b` in a folder of its own, and give what it prints; of an error, what it says."
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        assert cli.run_command(['memory', *words, '--bank', 'b']) == code
        out, err = capsys.readouterr()
        assert 'Traceback' not in err
        return err if code else out
    return run


def test_from_a_shell(server, shutka):
    url, held = server
    shutka('add', 'parse a date', 'sort the rows')
    assert shutka('qdrant', url) == f'2 added, 0 deleted; 2 memories in shutka at {url}\n'
    shutka('update', '1', 'parse a time')
    assert shutka('qdrant', url) == f'1 added, 1 deleted; 2 memories in shutka at {url}\n'
    shutka('undo')
    assert shutka('qdrant', url, '--collection', 'second') == f'2 added, 0 deleted; 2 memories in second at {url}\n'
    second, first = (QdrantStore(held.client, name, readonly=True) for name in ('second', 'shutka'))
    assert second.live().tolist() == [1, 2] and len(first) == 2
    QdrantStore(held.client).apply('delete', delete=[2])
    assert 'changed in another way; replace it' in shutka('qdrant', url, code=2)
    assert shutka('qdrant', url, '--replace').startswith('2 added, 0 deleted; 2 memories')
    assert found(QdrantStore(held.client, readonly=True), 'date') == [1]


def test_from_a_shell_with_a_key(server, shutka, monkeypatch):
    server[1].key = 'secret'
    shutka('add', 'parse a date')
    assert '401' in shutka('qdrant', server[0], code=2)
    assert 'KEY_OF_MINE must hold' in shutka('qdrant', server[0], '--api-key-env', 'KEY_OF_MINE', code=2)
    monkeypatch.setenv('KEY_OF_MINE', 'secret')
    assert '1 memory in' in shutka('qdrant', server[0], '--api-key-env', 'KEY_OF_MINE')


def test_from_a_shell_refused(shutka, tmp_path, monkeypatch):
    assert 'holds no memory bank' in shutka('qdrant', 'http://127.0.0.1:9', code=2)
    shutka('add', 'parse a date')
    assert 'does not answer' in shutka('qdrant', 'http://127.0.0.1:9', code=2)
    assert 'must begin with http' in shutka('qdrant', 'localhost:6333', code=2)
    monkeypatch.setitem(sys.modules, 'qdrant_client', None)
    for name in ('qdrant', 'push'): monkeypatch.delitem(sys.modules, f'shutka.memory.{name}', raising=False)
    assert "pip install 'shutka[qdrant]'" in shutka('qdrant', str(tmp_path), code=2)

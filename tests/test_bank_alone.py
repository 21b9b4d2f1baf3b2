"A bank by itself: what it refuses to mix or to lose, and what it keeps to be undone."
import shutil

import numpy as np
import pytest
from test_bank import D, Hashed, agrees, texts

from shutka.core.errors import UserError
from shutka.memory import bank as module
from shutka.memory.bank import Bank
from shutka.memory.fusion import choose_weights
from shutka.memory.index import Index


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path/'bank', Hashed()) as bank: yield bank


def test_metadata_for_all_or_for_each(bank):
    "Two texts with one piece of metadata in a list: neither is dropped, nor goes without."
    for n, about in ((2, [{'n': 1}]), (1, [{'n': 1}, {'n': 2}]), (2, [])):
        with pytest.raises(UserError, match='metadata for all texts or for each'): bank.add(texts(n), about)
    assert len(bank) == 0


def test_ids_of_numpy_are_ids(bank):
    ids = np.array(bank.add(['let a', 'let b', 'let c']))
    assert bank.get(ids[1])[0].text == 'let b'
    bank.delete(ids[1])
    new, = bank.update(ids[0], 'let d')
    assert bank.store.live().tolist() == [ids[2], new]


def test_undo_refuses_to_mix_two_encoders(bank):
    "What was deleted before the bank got its encoder has no vector of it, and another encoder cannot make one."
    bank.add(texts(4))
    bank.delete(2)
    bank.reencode(Hashed(1))
    bank.encoder = Hashed(2)
    with pytest.raises(UserError, match='only with the bank.s encoder'): bank.undo()
    assert len(bank) == 3
    bank.encoder = Hashed(1)
    assert bank.undo().added == [2]
    agrees(bank)


def test_compact_leaves_what_was_done_lately_to_be_undone(bank):
    bank.add('let a')
    bank.delete(1)
    bank.compact()
    assert bank.undo().added == [1] and bank.get(1)[0].text == 'let a'


def test_a_search_sees_one_state(bank):
    "Words are asked first, meaning then; what another process adds in between is there for neither."
    bank.add(given := texts(5))
    bank.search('date')
    search = bank.store.words_search

    def and_then_added(*asked):
        found = search(*asked)
        with Bank(bank.folder, Hashed(), wait=0) as other: other.add(given[0])
        return found
    bank.store.words_search = and_then_added
    assert [hit.text for hit in bank.search(given[0], how='hybrid')].count(given[0]) == 1
    del bank.store.words_search
    assert [hit.text for hit in bank.search(given[0])].count(given[0]) == 2


def test_quantized_stays_quantized(bank, monkeypatch):
    "As many bytes for each vector as were asked for, also when the index is built anew."
    from shutka.memory import nearest
    monkeypatch.setattr(nearest, 'PQ_FROM', 256)
    bank.add(texts(400))
    bank.rebuild(pq=D)
    assert bank.stats()['index']['kind'] == 'pq'
    shutil.rmtree(bank.folder/'index')
    with Bank(bank.folder, Hashed()) as again:
        again.search('date')
        assert again.stats()['index']['kind'] == 'pq'
        again.rebuild()
        assert again.stats()['index']['kind'] == 'flat'


def test_verify_sees_an_index_of_other_vectors(bank):
    "Of the right memories at the right moment, and whole: but what it holds of them is wrong."
    from shutka.memory.follower import name_index
    ids = np.array(bank.add(texts(20)))
    with bank.store.reading(): name, upto = name_index(bank.store, 1), bank.store.last_operation()
    vectors = bank.store.vectors()[1]
    Index.build(bank.folder/'index', ids, np.ascontiguousarray(-vectors), name, upto)
    with Bank(bank.folder, Hashed()) as again:
        assert again.verify()[0] == 'memory 1 does not find itself; bank.rebuild() makes the index anew'
        again.rebuild()
        assert again.verify() == []


@pytest.mark.parametrize('n', [1, 10, 11, 20])
def test_every_memory_is_exported(bank, tmp_path, monkeypatch, n):
    monkeypatch.setattr(module, 'ENCODE_BATCH', 10)
    bank.add(texts(n))
    assert bank.export(tmp_path/'bank.jsonl') == n == len((tmp_path/'bank.jsonl').read_text().splitlines())


def test_a_corrected_memory_keeps_its_metadata_unless_others_are_given(bank):
    bank.add('let a', {'n': 1, 'path': 'a.ts'})
    kept, = bank.update(1, 'let b')
    assert bank.get(kept)[0].metadata == {'n': 1, 'path': 'a.ts'}
    new, = bank.update(kept, 'let c', {'n': 2})
    assert bank.get(new)[0].metadata == {'n': 2}


# how sides come together

def test_a_guess_that_is_good_enough_stays():
    "A mixture of equal parts would be better on these two questions; two questions are no reason."
    cases = [({'words': {1: .5, 2: .7}, 'meaning': {1: .9, 2: .5}}, [1]),
             ({'words': {1: .9, 2: .5}, 'meaning': {1: .5, 2: .6}}, [1])]
    guess = {'words': .8, 'meaning': .2}
    stays = choose_weights(cases, guess, slack=.3)
    assert (stays.weights, stays.mrr) == (guess, .75)
    assert choose_weights(cases, guess, slack=0.).mrr == 1


def test_each_side_is_asked_about_what_another_has_found(bank):
    "What only words have found has a cosine, too: or it would seem to be as far away as can be."
    bank.add(texts(300))
    hits = bank.search('parse date', 100)
    assert len(hits) == 100 and all(hit.cosine is not None for hit in hits)


def test_who_is_first_does_not_depend_on_how_many_are_asked_for(tmp_path):
    "A bare name is the best by its score, and not the first: also when only one is asked for."
    with Bank(tmp_path/'bank') as bank:
        bank.add(['interface Retry { times: number }', 'function attempt() { return retry }', *texts(5)],
                 [{'kind': 'interface', 'name': 'Retry'}, {'kind': 'function', 'name': 'attempt'}, *[{}] * 5])
        raw = [i for i, _ in bank.store.words_search('retry', 9)]
        assert raw == [1, 2]
        assert [bank.search('retry', k)[0].id for k in (1, 2, 9)] == [2, 2, 2]

"""A bank that commit 90ed3a4 wrote, in a folder and on a server, gives the same answers today.

`old_bank.zip` has the folder, the server's points as JSON, and what that version answered. Nothing of it may change: if
this test fails, banks that people have do not open any more.
"""
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from memory_child import Words
from qdrant_client import QdrantClient, models

from shutka.memory.bank import Bank
from shutka.memory.index import Index
from shutka.memory.qdrant import QdrantStore


@pytest.fixture
def old(tmp_path):
    "The folder, and the facts that were written down."
    with zipfile.ZipFile(Path(__file__).parent/'old_bank.zip') as file: file.extractall(tmp_path)
    return tmp_path/'bank', json.loads((tmp_path/'facts.json').read_text())


def answers(store, ids):
    "What a store says, as JSON has it."
    said = {
        'live': store.live().tolist(), 'encoder': store.encoder(),
        'counts': sorted(([list(which), n] for which, n in store.counts().items()), key=str),
        'memories': [(memory.id, memory.text, memory.metadata, memory.deleted) for memory in store.get(ids)],
        'log': [(o.id, o.kind, o.added, o.deleted, o.detail, o.undoes, o.undone) for o in store.operations(99)],
        'changed': [[ids.tolist() for ids in store.changed_since(n)] for n in range(store.last_operation() + 1)],
    }
    return json.loads(json.dumps(said))


def check(store, facts, ids):
    "All that was asked of a store then, asked again."
    said = answers(store, ids)
    assert said == {name: facts[name] for name in said}
    np.testing.assert_allclose(store.vectors()[1], facts['vectors'][1], atol=1e-6)
    for query, hits in facts['words']:
        found = store.words_search(query, 9)
        assert [i for i, _ in found] == [i for i, _ in hits]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in hits], rtol=1e-5)


@pytest.mark.parametrize('readonly', [True, False])
def test_a_folder(old, monkeypatch, readonly):
    "Its index is used as it is, too; and then it can be changed."
    (folder, facts), build = old, Index.build
    monkeypatch.setattr(Index, 'build', lambda *a, **more: pytest.fail('the index was built again'))
    with Bank(folder, Words(1), readonly=readonly) as bank:
        assert bank.verify() == []
        check(bank.store, facts['folder'], range(1, 7))
        assert [bank.store.history(n) for n in range(1, 11)] == facts['folder']['history']
        hits = bank.search('parse a date', 5, 'dense')
        assert [h.id for h in hits] == [i for i, _ in facts['hits']]
        np.testing.assert_allclose([h.cosine for h in hits], [cosine for _, cosine in facts['hits']], atol=1e-5)
        assert {name: bank.stats()['index'][name] for name in facts['index']} == facts['index']
        if readonly: return
        bank.update(4, 'function addDays(d, n) { return d.plus(n) }')
        assert bank.undo().undoes == 11 and bank.store.live().tolist() == facts['folder']['live']
        monkeypatch.setattr(Index, 'build', build)
        bank.rebuild()
        assert bank.verify() == []


def test_a_server(old):
    "Its points, put into a server as they were."
    client, facts = QdrantClient(':memory:'), old[1]
    words = {'words': models.SparseVectorParams(modifier=models.Modifier.IDF)}
    dense = {'dense': models.VectorParams(size=facts['dimension'], distance=models.Distance.DOT)}
    for name, vectors in (('shutka', dense), ('shutka-log', {})):
        client.create_collection(name, vectors_config=vectors, sparse_vectors_config=words)
        client.upsert(name, [models.PointStruct(**point) for point in facts['points'][name]])
    store, ids = QdrantStore(client, readonly=True), facts['server'].pop('ids')
    check(store, facts['server'], ids)
    store = QdrantStore(client)
    new = store.apply('add', [('let more', {}, np.ones(facts['dimension']))], encoder=store.encoder())
    assert store.undo().undoes == new.id
    assert store.live().tolist() == facts['server']['live']

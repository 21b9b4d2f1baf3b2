"""A bundle that brings its memory along, and the calls of the first design on the model that comes out of it."""
import copy
import json

import numpy as np
import pytest
import safetensors.numpy
import torch
from small import SMALL

import shutka
from shutka.core.errors import UserError
from shutka.export.bundle import rebundle
from shutka.memory.bank import Bank
from shutka.memory.encoder import fingerprint
from shutka.memory.packed import PACKED_FILES
from shutka.models.archive import read_bundle, write_zip
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model
from shutka.text.tokenizer import open_encoding, save_encoding

SNIPPETS = ['function parse(text: string): Date { return new Date(text) }',
            'const sum = (xs: number[]) => xs.reduce((a, b) => a + b, 0)',
            'function range(n: number) { return [...Array(n).keys()] }\n// \u2028 and \U0001f600 stay']


def make_bundle(path, seed=0):
    "A bundle of a small model that was never trained."
    torch.manual_seed(seed)
    folder = save_model(TextJEPA(SMALL), path.parent/f'model{seed}')
    save_encoding(open_encoding('typescript-8k'), folder/'encoding.json')
    write_zip(path, {p.name: p.read_bytes() for p in folder.iterdir()})
    return path


@pytest.fixture
def bundle(tmp_path): return make_bundle(tmp_path/'model.zip')


@pytest.fixture
def bank(tmp_path, bundle):
    "The folder of a bank that saw some life."
    with Bank(tmp_path/'bank', shutka.load(bundle)) as bank:
        ids = bank.add([*SNIPPETS, 'a secret'], {'source': 'git:/home/somebody/app', 'path': 'src/a.ts'})
        bank.delete(ids[3])
    return tmp_path/'bank'


def put_together(bundle, bank): return rebundle(bundle, bank, bundle.with_name('both.zip'))


def test_a_model_without_a_memory_says_so(bundle): assert shutka.load(bundle).predictor.memory_bank is None


def test_the_memory_comes_along_with_text_metadata_and_vectors(bundle, bank, tmp_path):
    model = shutka.load(put_together(bundle, bank), bank=tmp_path/'new')
    with model.predictor.memory_bank as memory, Bank(bank, readonly=True) as old:
        items = memory.get(memory.store.live())
        assert [i.text for i in items] == SNIPPETS
        assert {json.dumps(i.metadata) for i in items} == {json.dumps({'source': 'git:app', 'path': 'src/a.ts'})}
        np.testing.assert_allclose(memory.store.vectors()[1], old.store.vectors()[1], atol=1e-6)
        assert memory.verify() == [] and memory.search('parse', k=1)[0].text == SNIPPETS[0]


def test_no_path_and_nothing_deleted_is_in_the_zip(bundle, bank):
    content = b''.join(read_bundle(put_together(bundle, bank)).values())
    assert b'somebody' not in content and b'a secret' not in content


def test_the_calls_of_the_first_design(bundle, tmp_path):
    model = shutka.load(bundle, bank=tmp_path/'new')
    bank = model.predictor.memory_bank
    ids = bank.add_memory(torch.from_numpy(model.encode(SNIPPETS)), SNIPPETS)
    bank.delete_memory([ids[0]])
    new, = bank.update_memory(ids[1], model.encode([SNIPPETS[0]]), [SNIPPETS[0]])
    assert bank.auto_save and bank.search('parse a date', k=1)[0].id == new
    assert copy.deepcopy(model).predictor.memory_bank is bank and 'memory_bank' not in ''.join(model.state_dict())
    bank.close()


def test_what_was_changed_since_is_not_overwritten(bundle, bank, tmp_path):
    zipped = put_together(bundle, bank)
    with shutka.load(zipped, bank=tmp_path/'new').predictor.memory_bank as memory: memory.delete(memory.store.live())
    with shutka.load(zipped, bank=tmp_path/'new').predictor.memory_bank as memory: assert len(memory) == 0


def test_the_chosen_fusion_travels_in_the_zip(bundle, bank, tmp_path):
    with shutka.load(bundle, bank=bank).predictor.memory_bank as memory:
        before = read_bundle(put_together(bundle, bank))
        memory.store.set_meta('fusion', {'weight': .25, 'encoder': memory.check_encoder()})
    content = read_bundle(put_together(bundle, bank))
    assert content[PACKED_FILES[0]] == before[PACKED_FILES[0]] and content[PACKED_FILES[1]] != before[PACKED_FILES[1]]
    write_zip(tmp_path/'chosen.zip', content)
    with shutka.load(tmp_path/'chosen.zip', bank=tmp_path/'new').predictor.memory_bank as memory:
        assert memory.fusion_weight() == .25 and len(memory) and memory.verify() == []
    for wrong in ([1.5], [-.1], [float('nan')], [.5, .5], [[.5]]):
        tensors = safetensors.numpy.load(content[PACKED_FILES[1]]) | {'fusion': np.array(wrong)}
        write_zip(tmp_path/'odd.zip', content | {PACKED_FILES[1]: safetensors.numpy.save(tensors)})
        with pytest.raises(UserError, match='weight of meaning must be one number from 0 to 1'):
            shutka.load(tmp_path/'odd.zip', bank=tmp_path/'odd')
        with Bank(tmp_path/'odd') as memory: assert len(memory) == 0


def test_a_bundle_gets_another_memory_in_place(bundle, bank, tmp_path):
    zipped = put_together(bundle, bank)
    with shutka.load(zipped, bank=tmp_path/'new').predictor.memory_bank as memory: memory.add('one more')
    assert rebundle(zipped, tmp_path/'new', zipped) == zipped
    assert read_bundle(zipped)[PACKED_FILES[0]].count(b'\n') == 4


@pytest.mark.parametrize('encoder', [None, 1])
def test_vectors_of_another_model_are_refused_with_the_command_that_helps(bundle, tmp_path, encoder):
    model = encoder and shutka.load(make_bundle(tmp_path/'other.zip', seed=encoder))
    with Bank(tmp_path/'bank', model) as bank: bank.add(SNIPPETS)
    with pytest.raises(UserError, match=r'shutka memory reencode .* --bank'): put_together(bundle, tmp_path/'bank')
    assert not (tmp_path/'both.zip').exists()


def test_a_bank_of_another_model_is_not_searched_with_this_one(bundle, bank, tmp_path):
    model = shutka.load(make_bundle(tmp_path/'other.zip', seed=1), bank=bank)
    with model.predictor.memory_bank as memory, pytest.raises(UserError, match='reencode'): memory.search('parse')


@pytest.mark.parametrize('change, why', [
    (lambda c: c.pop(PACKED_FILES[1]), "KeyError('memory.safetensors')"),
    (lambda c: c.update({PACKED_FILES[0]: b'{"text": 1\n'}), 'JSONDecodeError("Expecting \',\' delimiter: '),
    (lambda c: c.update({PACKED_FILES[0]: b'[]\n'}), "TypeError('list indices must be integers or slices, not str')"),
    (lambda c: c.update({PACKED_FILES[0]: b'{"text": "a"}\n'}), "KeyError('metadata')"),
    (lambda c: c.update({PACKED_FILES[1]: b'x'}), "SafetensorError('Error while deserializing"),
], ids=['no vectors', 'no JSON', 'no object', 'no metadata', 'no safetensors'])
def test_a_memory_that_cannot_be_read_is_refused_and_nothing_is_kept(bundle, bank, tmp_path, change, why):
    content = read_bundle(put_together(bundle, bank))
    change(content)
    write_zip(tmp_path/'odd.zip', content)
    with pytest.raises(UserError) as refused: shutka.load(tmp_path/'odd.zip', bank=tmp_path/'new')
    assert str(refused.value).startswith(f"the bundle's memory cannot be read: {why}")
    with shutka.load(bundle, bank=tmp_path/'new').predictor.memory_bank as memory: assert len(memory) == 0


def test_the_fingerprint_survives_the_zip(bundle):
    torch.manual_seed(0)
    same, another = TextJEPA(SMALL), TextJEPA(SMALL)
    assert fingerprint(another) != fingerprint(shutka.load(bundle)) == fingerprint(same)

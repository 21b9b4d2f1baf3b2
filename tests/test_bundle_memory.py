"""A bundle that brings its memory along, and the calls of the first design on the model that comes out of it."""
import copy
import json

import numpy as np
import pytest
import safetensors.numpy
import torch
from judged import Strict
from small import SMALL
from tuning import make_settings

import shutka
import shutka.faces.cli
from shutka.core.errors import UserError
from shutka.evaluate.model import evaluate_model
from shutka.evaluate.settings import EvaluateSettings
from shutka.export.bundle import rebundle
from shutka.faces.shell import run_command
from shutka.finetune import train
from shutka.memory.bank import Bank
from shutka.memory.encoder import fingerprint
from shutka.memory.packed import PACKED_FILES
from shutka.models.archive import read_bundle, write_zip
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model
from shutka.serve.requests import ChatRequest
from shutka.serve.seats import choose_bank_folder, open_memory, open_seat
from shutka.serve.service import Service
from shutka.serve.writing import make_chat_prompts
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


def test_voices_do_not_travel_and_packing_says_so(bundle, bank, tmp_path, capsys):
    from test_bank import Hashed

    from shutka.faces import cli
    def pack():
        assert cli.run_command(['bundle', str(bundle), '--bank', str(bank), '-o', str(tmp_path/'both.zip')]) == 0
        return capsys.readouterr().err
    assert 'voice' not in pack()
    with Bank(bank) as opened: opened.voices.add(Hashed(1), 'hashed')
    assert '(hashed)' in (said := pack()) and 'shutka memory voice add' in said and said.count('\n') == 1
    with shutka.load(tmp_path/'both.zip', bank=tmp_path/'new').predictor.memory_bank as new:
        assert len(new) == 3 and not new.voices and new.verify() == []


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
        memory.set_own_weights([.25, .5])
    content = read_bundle(put_together(bundle, bank))
    assert content[PACKED_FILES[0]] == before[PACKED_FILES[0]] and content[PACKED_FILES[1]] != before[PACKED_FILES[1]]
    write_zip(tmp_path/'chosen.zip', content)
    with shutka.load(tmp_path/'chosen.zip', bank=tmp_path/'new').predictor.memory_bank as memory:
        assert memory.read_own_weights() == [.25, .5] and len(memory) and memory.verify() == []
    old = safetensors.numpy.load(content[PACKED_FILES[1]]) | {'fusion': np.array([.125])}   # as of version 0.3
    write_zip(tmp_path/'old.zip', content | {PACKED_FILES[1]: safetensors.numpy.save(old)})
    with shutka.load(tmp_path/'old.zip', bank=tmp_path/'older').predictor.memory_bank as memory:
        assert memory.read_own_weights() == [.125, .125]
    for wrong in ([1.5], [-.1], [float('nan')], [.5, .5, .5], [[.5]]):
        tensors = safetensors.numpy.load(content[PACKED_FILES[1]]) | {'fusion': np.array(wrong)}
        write_zip(tmp_path/'odd.zip', content | {PACKED_FILES[1]: safetensors.numpy.save(tensors)})
        with pytest.raises(UserError, match='weights of meaning must be two numbers from 0 to 1'):
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


# a fine-tune: it only writes, so its memories go along as texts

@pytest.fixture(scope='module')
def tuned(tmp_path_factory):
    "The folder of a small run that tuned a small model."
    folder = tmp_path_factory.mktemp('tuned')
    train(make_settings(folder, epochs=1), show=lambda *_: None)
    return folder/'run'


@pytest.fixture
def zipped(tuned, bundle, tmp_path, capsys):
    "Its bundle, with the memories of a bank whose vectors a text-JEPA has made."
    with Bank(tmp_path/'source', shutka.load(bundle)) as made: made.add(SNIPPETS, {'source': 'dir:/home/me/app'})
    path = tuned/'with memory.zip'   # its base lies beside the run
    assert not run_command(['bundle', str(tuned), '--bank', str(tmp_path/'source'), '-o', str(path)])
    assert 'no vectors go into the bundle of a fine-tune' in capsys.readouterr().err
    return path


def test_a_fine_tune_takes_memories_along(tuned, zipped, tmp_path):
    content = read_bundle(zipped)
    rows = [json.loads(line) for line in content[PACKED_FILES[0]].decode().split('\n')[:-1]]
    assert [row['text'] for row in rows] == SNIPPETS and {row['metadata']['source'] for row in rows} == {'dir:app'}
    assert safetensors.numpy.load(content[PACKED_FILES[1]])['vectors'].shape == (3, 0)
    again = rebundle(tuned/'shutka-finetune.zip', tmp_path/'source', tmp_path/'again.zip')
    assert {name: read_bundle(again)[name] for name in PACKED_FILES} == {name: content[name] for name in PACKED_FILES}
    with Bank(tmp_path/'words') as words: words.add(SNIPPETS[:1])   # a bank without a model goes as well
    assert read_bundle(rebundle(zipped, tmp_path/'words', tmp_path/'words.zip'))[PACKED_FILES[0]].count(b'\n') == 1


def test_load_opens_the_memory_of_a_fine_tune(zipped, tmp_path):
    assert shutka.load(zipped).bank is None
    opened = shutka.load(zipped, bank=tmp_path/'memory')
    with opened.bank as memory:
        assert opened.kind == 'causal' and memory.search('sum')[0].text == SNIPPETS[1]
        memory.delete(1)
    with shutka.load(zipped, bank=tmp_path/'memory').bank as memory: assert len(memory) == 2   # as it was left


def test_a_server_opens_the_memory_of_a_fine_tune(zipped, tmp_path):
    seat, content = open_seat(zipped)
    folder = choose_bank_folder(zipped, None, content)
    assert folder == zipped.with_name('with memory.memory')
    with open_memory(seat, folder, content) as memory:
        service = Service(seat, memory)
        (prompt,), told = make_chat_prompts(service, ChatRequest(messages=[{'role': 'user', 'content': 'the sum'}]))
        service.close()
    assert told['memories'][0]['id'] == 2 and SNIPPETS[1] in seat.detokenize(prompt.ids)
    with Bank(tmp_path/'mine') as mine: mine.add('const mine = 1')
    with open_memory(seat, choose_bank_folder(zipped, str(tmp_path/'mine'), content), content) as memory:
        assert [hit.text for hit in memory.search('mine or the sum')] == ['const mine = 1']   # the one that was given


def test_suites_open_the_memory_of_a_fine_tune(zipped, tmp_path, monkeypatch):
    monkeypatch.setattr('shutka.evaluate.model.install_judge', lambda: None)
    monkeypatch.setattr('shutka.evaluate.model.Judge', Strict)
    said, asked = [], dict(bundle=str(zipped), suites='programming', items=1, n=1, k=1, temperature=0, tokens=4)
    evaluate_model(EvaluateSettings(out=str(tmp_path/'out'), **asked), said.append, lambda rows, total: rows)
    assert 'pieces of code in its memory: 3; left out, since they answer a task: 0' in said
    assert 'judged, side by side: model, retrieval only, shuffled' in said
    with Bank(tmp_path/'mine') as mine: mine.add('const mine = 1')
    asked |= {'bank': str(tmp_path/'mine'), 'memories': 'comments'}
    evaluate_model(EvaluateSettings(out=str(tmp_path/'other'), **asked), said.append, lambda rows, total: rows)
    assert 'pieces of code in its memory: 1; left out, since they answer a task: 0' in said

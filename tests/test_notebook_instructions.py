"Phase 2 from the first cell to the zip, on a phase 1 that was hardly trained; once more; and where it cannot begin."
import json
from pathlib import Path

import pytest
import torch
from small import SMALL

import shutka
from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl
from shutka.core.hashes import sha256
from shutka.export.bundle import read_bundle
from shutka.faces.batch import run_notebook
from shutka.instructions.recipe import Instructions
from shutka.instructions.settings import InstructionsSettings
from shutka.memory.encoder import fingerprint
from shutka.models.shapes import DECODER_SIZES, DecoderConfig
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import load_model, save_model
from shutka.models.text_jepa_writer import map_tokens_to_words
from shutka.text.passages import assemble_code
from shutka.text.tokenizer import open_encoding
from shutka.train.folder import prepare

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tiny(monkeypatch): monkeypatch.setitem(DECODER_SIZES, 'tiny', {'width': 16, 'heads': 2, 'depth': 1})


@pytest.fixture(scope='module')
def finished(phase1, tmp_path_factory):
    "What a small run was given, and its folder."
    place = tmp_path_factory.mktemp('phase2')
    asked = {'instruction': 'Reverses the letters of a word.',
             'output': 'function reverse(s: string) { return [...s].reverse().join("") }'}
    (place/'asked.jsonl').write_text(json.dumps(asked) + '\n')
    given = dict(resume=phase1, instructions=f'jsonl:{place}/asked.jsonl', steps='3', batch_size='4', code_samples='30',
                 tokens='32', processes='1', out=str(place/'run'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(ROOT))
        patch.chdir(place)
        assert run_notebook('instructions', given) == 0
    return given, place/'run'


def test_what_it_leaves(finished):
    _, out = finished
    result, data = read_json(out/'result.json'), read_json(out/'run.json')['data']
    assert result['status'] == 'ok' and result['steps'] == 3
    assert result['bundle']['sha256'] == sha256(out/'shutka-instructions.zip')
    assert data['instructions'] == 1
    assert data['pairs']['train'] + data['in_suites'] == 30 + 1   # of code, and of instructions
    conditions = [r['condition'] for r in result['writer'] if r['pool'] == 'unseen files']
    assert conditions == ['everything', 'words of another', 'no words', 'memories of another', 'no memories',
                          'nothing', 'parses']
    outputs = [o for c in read_json(out/'notebook.ipynb')['cells'] for o in c.get('outputs', [])]
    text = ''.join(''.join(o.get('text') or o.get('data', {}).get('text/markdown', '')) for o in outputs)
    expected = ('devices', 'nats per token', 'unseen packages', 'hybrid', 'shutka-instructions.zip')
    for words in expected: assert words in text


def test_the_bundle_writes_and_its_encoder_is_that_of_phase_1(finished, phase1):
    bundle = finished[1]/'shutka-instructions.zip'
    model = shutka.load(bundle)
    assert model.decoder
    assert fingerprint(model) == fingerprint(load_model(Path(phase1)/'model'))
    assert 'How well it writes' in read_bundle(bundle)['README.md'].decode()


def test_the_same_command_again_leaves_all_as_it_is(finished, tmp_path, monkeypatch):
    given, out = finished
    before = {p: sha256(p) for p in out.rglob('*') if p.is_file() and p.suffix not in ('.ipynb', '.html')}
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    assert run_notebook('instructions', given, tmp_path/'again.ipynb') == 0
    assert {p: sha256(p) for p in before} == before


def recipe_of(phase1, out, **settings):
    return Instructions(InstructionsSettings(resume=phase1, batch_size=4, steps=1, out=out, **settings))


def test_own_code_is_no_memory_and_nothing_held_out_is_trained_on(phase1, tmp_path, tiny):
    recipe = recipe_of(phase1, tmp_path/'run')
    prepare(recipe, progress=lambda line: None)
    parts = {part: list(read_jsonl(tmp_path/'run'/'data'/f'{part}.jsonl')) for part in ('train', 'files', 'packages')}
    assert all(parts.values())
    train = [assemble_code(p) for p in parts['train']]
    for pairs in parts.values():
        for p in pairs:
            assert len(p['near']) == recipe.settings.memories
            assert all(train[i] != assemble_code(p) for i in p['near'])
    assert not set(train) & {assemble_code(p) for part in ('files', 'packages') for p in parts[part]}


def test_a_decoder_of_the_same_shape_goes_on_learning(phase1, tmp_path, tiny):
    encoding = open_encoding('typescript-8k')
    model = TextJEPA(SMALL, DecoderConfig(vocabulary=encoding.n_vocab, embedding=SMALL.width, **DECODER_SIZES['tiny']))
    map_tokens_to_words(model.decoder, encoding, SMALL.rows)
    second = tmp_path/'second'
    recipe = recipe_of(phase1, second)
    prepare(recipe, progress=lambda line: None)
    save_model(model, second/'start')
    assert torch.equal(recipe.build_start().decoder.tokens.weight, model.decoder.tokens.weight)
    other = recipe_of(phase1, second, size='small')
    assert other.build_start().decoder.config.width == DECODER_SIZES['small']['width']


@pytest.mark.parametrize('settings, told', [
    ({'resume': ''}, 'resume must be the run'),
    ({'learn': 'all of it'}, "unknown learn 'all of it'"),
    ({'size': 'huge'}, "unknown size 'huge'"),
    ({'code_samples': -1}, 'code_samples must be 0 or more, got -1'),
])
def test_settings_that_cannot_be(settings, told):
    with pytest.raises(UserError, match=told): InstructionsSettings(**{'resume': 'runs/a'} | settings)


def test_what_it_cannot_start_from(phase1, tmp_path):
    refused = [({'resume': 'nowhere'}, 'resume must be a bundle'),
               ({'resume': f'{phase1}/model'}, 'source must name pairs'),
               ({'instructions': 'comits:.'}, "unknown kind of instructions 'comits'; did you mean 'commits'")]
    for settings, told in refused:
        recipe = Instructions(InstructionsSettings(**{'resume': phase1, 'out': tmp_path/'run'} | settings))
        with pytest.raises(UserError, match=told): prepare(recipe, progress=lambda line: None)
    assert not (tmp_path/'run').exists()

"Phase 2 as a run: its weights spread over two processes, its last part in ternary weights."
import shutil
from pathlib import Path

import pytest
import torch
from small import SMALL

from shutka.core.errors import UserError
from shutka.instructions.recipe import Instructions
from shutka.instructions.settings import InstructionsSettings
from shutka.instructions.writer import WRITTEN_FUNCTIONS, evaluate_writer
from shutka.models.decoder import generate_tokens, sum_decoder_nats
from shutka.models.text_jepa_files import load_model, save_model
from shutka.train.folder import prepare
from shutka.train.launch import launch
from shutka.train.run import read_steps
from shutka.typescript.recipe import use_bag_alone


def quiet(line): pass


@pytest.fixture
def trained(phase1, tmp_path, monkeypatch):
    "Trains a decoder: `trained(name, **settings)` is the run folder."
    monkeypatch.setenv('PYTHONPATH', str(Path(__file__).parents[1]), prepend=':')

    def make(name, **settings):
        usual = dict(resume=phase1, code_samples=30, tokens=32, batch_size=4, steps=3, processes=1, out=tmp_path/name)
        recipe = Instructions(InstructionsSettings(**usual | settings))
        prepare(recipe, progress=quiet)
        assert launch(recipe)['status'] == 'trained'
        return Path(recipe.settings.out)
    return make


@pytest.mark.faults
def test_weights_spread_over_two_processes_are_the_same_run(trained, tmp_path, monkeypatch):
    "They end without Python's clearing up, which aborts one in fifty: such weights hold the threads of their group."
    cleared = tmp_path/'cleared'
    (tmp_path/'sitecustomize.py').write_text(f"""
import atexit, os
if 'RANK' in os.environ: atexit.register(open, {str(cleared)!r}, 'w')
""")
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
    runs = trained('one'), trained('two', processes=2, shard=True)
    one, two = (read_steps(out/'log.jsonl') for out in runs)
    assert not cleared.exists()
    assert [r['loss'] for r in two] == pytest.approx([r['loss'] for r in one], rel=1e-4)


def test_a_ternary_decoder_is_packed_and_writes_the_same(trained, tmp_path):
    whole, packed = trained('run', ternary=.3)/'model', tmp_path/'packed'
    model = load_model(whole)
    assert model.decoder.config.ternary
    save_model(model, packed, packed=True)
    smaller = load_model(packed)
    assert (packed/'model.safetensors').stat().st_size < (whole/'model.safetensors').stat().st_size

    ids = torch.randint(1000, (2, 20))
    told = torch.nn.functional.normalize(torch.randn(2, SMALL.width), dim=1)
    counts = torch.ones_like(ids, dtype=torch.bool)
    decoders = smaller.decoder, model.decoder
    with torch.no_grad(): nats, expected = (sum_decoder_nats(decoder, ids, told, counts) for decoder in decoders)
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-4)
    written, expected = (list(generate_tokens(decoder, [1, 2], told[:1], 20)) for decoder in decoders)
    assert written == expected


def test_the_encoder_of_words_learns_if_it_is_told_to(trained, phase1):
    "What finds memories stays as it was: the words, and the encoder of code."
    before, after = load_model(Path(phase1)/'model').state_dict(), load_model(trained('all', learn='all')/'model')
    changed = {name.split('.')[0] for name, value in after.state_dict().items()
               if name in before and not torch.equal(value, before[name])}
    assert changed == {'x_encoder', 'predictor'}


def test_blocks_that_take_no_part_cannot_learn(phase1, tmp_path):
    shutil.copytree(phase1, tmp_path/'words')
    model = load_model(tmp_path/'words'/'model')
    use_bag_alone(model)
    save_model(model, tmp_path/'words'/'model')
    settings = InstructionsSettings(resume=str(tmp_path/'words'), learn='all', batch_size=4, out=tmp_path/'run')
    with pytest.raises(UserError, match="learn must be 'decoder', since the blocks of .*words take no part yet"):
        prepare(Instructions(settings), quiet)


def test_an_examination_says_what_it_is_at(trained, monkeypatch):
    out, lines = trained('run'), []
    monkeypatch.setitem(WRITTEN_FUNCTIONS, 'tiny', 1)
    rows = evaluate_writer(out, lines.append)['writer']
    assert lines[0] == 'examination on unseen files: 48 functions with everything (1 of 6)'
    assert lines[-1] == 'examination on unseen packages: writing 1 functions'
    assert {row['functions'] for row in rows} <= {1, 48, *range(2, 48)}
    lines.clear()
    assert evaluate_writer(out, lines.append)['writer'] == rows and not lines   # the same weights are not asked twice

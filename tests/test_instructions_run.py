"Phase 2 as a run: its weights spread over two processes, its last part in ternary weights."
from pathlib import Path

import pytest
import torch
from small import SMALL

from shutka.instructions.recipe import Instructions
from shutka.instructions.settings import InstructionsSettings
from shutka.models.decoder import generate_tokens, sum_decoder_nats
from shutka.models.text_jepa_files import load_model, save_model
from shutka.train.folder import prepare
from shutka.train.launch import launch
from shutka.train.run import read_steps


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

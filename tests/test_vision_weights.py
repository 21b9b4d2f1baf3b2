"""A vision model on the disk: as two files of our own, and as five for a program in Rust.

What the five must hold is written down here once more, by hand, from the contract.
"""
import ast
import json
import math
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from shutka.core.errors import UserError
from shutka.core.files import write_atomic
from shutka.faces import cli
from shutka.models.layers import EPS
from shutka.models.mamba import NORM_EPS, Mamba3
from shutka.models.shapes import Mamba3Config
from shutka.vision import vision_files, weight_files, weight_reader
from shutka.vision.vision_files import check_parts, find_vision, load_vision, read_passed, save_vision
from shutka.vision.vision_jepa import VISION_TASKS, Doubt, VisionJEPA
from shutka.vision.vision_sizes import VisionConfig
from shutka.vision.weight_files import (
    draw_calibration,
    export_weights,
    gather_weights,
    measure_decays,
    read_weights,
    write_weights,
)
from shutka.vision.weight_reader import (
    embed_text,
    open_weights,
    predict_answer,
    read_confusion,
    score_tokens,
    step_mamba,
)

TINY = VisionConfig(visual=8, vocabulary=50)   # as `tiny` has it
ODD = VisionConfig(visual=5, vocabulary=23, width=15, depth=3, state=10, head=5, text_width=9, text_depth=1,
                   text_state=6, text_head=3, embedding=11, writer_width=14, writer_depth=2, writer_state=4,
                   writer_head=4, prefix=3, knowledge=7, inject_after=2)   # 6, 6 and 7 heads; 2, 1 and 1 angles
FLOW = replace(ODD, gate='flow', inject_after=0)
READ = replace(ODD, sentences=12)   # texts are vectors of a frozen encoder
FORWARD = replace(ODD, causal=True)
CONFIGS = {'tiny': TINY, 'odd': ODD, 'flow': FLOW, 'sentences': READ, 'forward': FORWARD}
FILES = ['predictor', 'angn', 'y_encoder', 'y_decoder', 'recursion']
every_config = pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
every_phase = pytest.mark.parametrize('phase', [1, 2, 3])


def make_model(config: VisionConfig, seed: int = 0) -> VisionJEPA:
    "A model in which no number is as it was drawn: a fresh gate has weights of zero, and a fresh injector too."
    torch.manual_seed(seed)
    model = VisionJEPA(config).eval()
    with torch.no_grad():
        for p in model.parameters(): p += .2 * torch.randn_like(p)
    model.standardize(torch.randn(config.visual), torch.rand(config.visual) + .5)
    return model


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "An odd model, and the folder of its export after phase 3."
    model = make_model(ODD)
    return model, write_weights(model, tmp_path_factory.mktemp('exported')/'weights', 3)


@pytest.fixture
def weights(exported, tmp_path):
    "A copy of that folder, to be damaged."
    return Path(shutil.copytree(exported[1], tmp_path/'weights'))


def promise(config: VisionConfig, phase: int) -> dict[str, dict[str, tuple]]:
    "Names and shapes by file, from the contract."
    def stack(part, d, depth, n, p):
        di, h, s = 2 * d, 2 * d // p, n // 4 if n // 2 % 2 == 0 else (n // 2 - 1) // 2
        layer = {'in_proj.weight': (2 * di + 2 * n + h, d), 'in_proj_ext.weight': (2 * h + s, d),
                 'out_proj.weight': (d, di), 'A_log': (h,), 'D': (h,), 'dt_bias': (h,), 'B_norm.weight': (n,),
                 'C_norm.weight': (n,), 'B_bias': (h, 1, n), 'C_bias': (h, 1, n)}
        found = {f'{part}.layers.{i}.{name}': shape for i in range(depth) for name, shape in layer.items()}
        return found | {f'{part}.norms.{i}.weight': (d,) for i in range(depth)} | {f'{part}.final_norm.weight': (d,)}

    def linear(name, out, into): return {f'{name}.weight': (out, into), f'{name}.bias': (out,)}

    c, d, m = config, config.width, config.embedding
    text = linear('y_encoder.projection', m, c.sentences or c.text_width)
    if not c.sentences:
        text |= stack('y_encoder', c.text_width, c.text_depth, c.text_state, c.text_head)
        text['y_encoder.embedding.weight'] = (c.vocabulary, c.text_width)
    files = {
        'predictor': stack('predictor', d, c.depth, c.state, c.head) | linear('predictor.vision_proj', d, c.visual)
                     | linear('predictor.query_proj', d, c.sentences or c.text_width)
                     | linear('predictor.pred_head', m, d)
                     | {'predictor.vision_center': (c.visual,), 'predictor.vision_spread': (c.visual,)},
        'angn': {f'angn.gates.{i}.{name}': (d,) for i in range(c.depth) for name in ('weight', 'bias')},
        'y_encoder': text,
        'y_decoder': stack('y_decoder', c.writer_width, c.writer_depth, c.writer_state, c.writer_head)
                     | linear('y_decoder.embed_to_prefix', c.prefix * c.writer_width, m)
                     | {f'y_decoder.{name}.weight': (c.vocabulary, c.writer_width)
                        for name in ('token_embedding', 'lm_head')},
        'recursion': linear('recursion.confusion_probe.linear', 1, d)
                     | linear('recursion.injector.projection', d, c.knowledge)}
    return {f'{part}.safetensors': files[part] for part in FILES[:2 + phase]}


def read_header(path: Path) -> dict:
    "What a safetensors file says of its tensors, read by hand."
    data = path.read_bytes()
    header = json.loads(data[8:8 + struct.unpack('<Q', data[:8])[0]])
    return {name: value for name, value in header.items() if name != '__metadata__'}


@every_phase
@every_config
def test_names_shapes_and_types_are_those_of_the_contract(config, phase, tmp_path):
    folder = write_weights(make_model(config), tmp_path/'weights', phase)
    headers = {path.name: read_header(path) for path in folder.glob('*.safetensors')}
    assert {value['dtype'] for header in headers.values() for value in header.values()} == {'F32'}
    found = {file: {name: tuple(value['shape']) for name, value in header.items()} for file, header in headers.items()}
    assert found == promise(config, phase)
    assert {path.name for path in folder.iterdir()} == {*found, 'config.json', 'WEIGHT_MAPPING.md'}


def test_rows_are_in_the_order_that_the_program_knows(exported):
    model, folder = exported
    read = load_file(folder/'predictor.safetensors')
    whole, h, n = model.predictor.layers[1].in_proj.weight, 6, 10
    known, new = (read[f'predictor.layers.1.{name}.weight'] for name in ('in_proj', 'in_proj_ext'))
    assert torch.equal(known, whole[:4 * 15 + 2 * n + h])   # z, x, B, C, dd_dt
    assert torch.equal(new, whole[4 * 15 + 2 * n + h:])     # dd_A, trap, angle
    assert len(new) == 2 * h + 2


def test_the_decoder_is_tied(exported):
    read = load_file(exported[1]/'y_decoder.safetensors')
    assert torch.equal(read['y_decoder.lm_head.weight'], read['y_decoder.token_embedding.weight'])


def test_a_log_is_the_mean_over_real_tokens():
    model = make_model(ODD)
    drawn = draw_calibration(model, seed=3)
    answer = drawn['answer'].clone()
    answer[::2, 5:] = 0   # padding in every other row
    x = torch.nn.functional.rms_norm(model.y_encoder.embedding.weight[answer[answer != 0]], (9,),
                                     model.y_encoder.norms[0].weight, EPS)
    h = 6
    rows = (x @ model.y_encoder.layers[0].in_proj.weight.T)[:, 4 * 9 + 2 * 6 + h:][:, :h].double()   # dd_A
    f = torch.where(rows >= 0, 1 + rows, 1 / (1 - rows)).clamp(min=1e-4)
    batch = drawn | {'answer': answer}
    found = gather_weights(model, 1, batch)['y_encoder.safetensors']['y_encoder.layers.0.A_log']
    torch.testing.assert_close(found.double(), f.mean(0).log(), rtol=1e-5, atol=1e-6)
    other = gather_weights(model, 1)['y_encoder.safetensors']['y_encoder.layers.0.A_log']
    assert not torch.equal(found, other)   # another batch, another mean


def test_a_calibration_leaves_the_model_as_it_was():
    model = make_model(ODD).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = torch.random.get_rng_state()
    measure_decays(model, draw_calibration(model))
    assert model.training and torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    wide = draw_calibration(model) | {'visual': torch.ones(16, 2, 99)}
    with pytest.raises(RuntimeError): measure_decays(model, wide)
    assert model.training and not any(module._forward_pre_hooks for module in model.modules())


def test_what_is_written_is_a_function_of_the_model(exported, tmp_path):
    again = write_weights(make_model(ODD), tmp_path/'again', 3)
    for path in exported[1].iterdir(): assert path.read_bytes() == (again/path.name).read_bytes(), path.name


@every_phase
@every_config
def test_it_comes_back_bit_by_bit(config, phase, tmp_path):
    model = make_model(config)
    again = read_weights(write_weights(model, tmp_path/'weights', phase))
    batch = draw_calibration(model, seed=7)
    batch['told'] = batch['answer']
    assert again.config == config and not again.training and torch.equal(again.scale, model.scale)
    with torch.no_grad():
        for task in VISION_TASKS[:phase]:
            ours, theirs = (m(task, batch) for m in (model, again))
            if task == 'doubt': ours, theirs = ours[0], theirs[0]
            assert all(map(torch.equal, ours, theirs))
    for name, tensor in model.state_dict().items():
        if name.split('.')[0] in FILES[:2 + phase]: assert torch.equal(tensor, again.state_dict()[name]), name
    assert all(p.requires_grad for p in again.parameters())


def test_parts_that_were_not_exported_are_drawn_the_same_each_time(tmp_path):
    folder = write_weights(make_model(ODD), tmp_path/'weights', 1)
    state = torch.random.get_rng_state()
    one = read_weights(folder).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(99)
    two = read_weights(folder).state_dict()
    assert all(torch.equal(t, two[name]) for name, t in one.items())


DAMAGES = {
    'missing': (lambda tensors, name: {k: t for k, t in tensors.items() if k != name},
                'must hold {name}, and does not'),
    'additional': (lambda tensors, name: tensors | {f'{name}.2': torch.ones(1)}, "must hold no '{name}.2'"),
    'longer': (lambda tensors, name: tensors | {name: torch.cat([tensors[name]] * 2)}, '{name} in .* must have shape'),
    'flat': (lambda tensors, name: tensors | {name: tensors[name][None]}, '{name} in .* must have shape'),
    'int64': (lambda tensors, name: tensors | {name: tensors[name].long()}, '{name} in .* must be float32 .*, got I64'),
    'uint8': (lambda tensors, name: tensors | {name: tensors[name].byte()}, '{name} in .* must be float32 .*, got U8'),
    'half': (lambda tensors, name: tensors | {name: tensors[name].half()}, '{name} in .* must be float32 .*, got F16'),
    'double': (lambda tensors, name: tensors | {name: tensors[name].double()}, '{name} in .* must be .*, got F64')}


@pytest.mark.parametrize('part', FILES)
@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_tensors_are_refused_by_name(damage, part, weights):
    change, said = DAMAGES[damage]
    path = weights/f'{part}.safetensors'
    tensors = load_file(path)
    for name in sorted(tensors)[::15]:
        save_file(change(tensors, name), path)
        with pytest.raises(UserError, match=said.replace('{name}', name)): read_weights(weights)
    save_file(tensors, path)
    read_weights(weights)


@pytest.mark.parametrize('part', FILES)
def test_damaged_files_are_refused(part, weights):
    path = weights/f'{part}.safetensors'
    data = path.read_bytes()
    for content, said in ((b'', 'damaged'), (b'\x00' * 7, 'damaged'), (data[:-4], 'damaged'),
                          (data + b'1234', 'damaged'),
                          (data[:40], 'damaged'), ((2**63).to_bytes(8, 'little') + b'{}', 'at most 1,000,000 bytes'),
                          ((10**6 + 1).to_bytes(8, 'little') + b' ' * 10**6, 'at most 1,000,000 bytes'),
                          ((50_000).to_bytes(8, 'little') + b'[' * 50_000, 'damaged')):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f'{part}.safetensors .*{said}'): read_weights(weights)
    path.unlink()
    with pytest.raises(UserError, match=f'{part}.safetensors does not exist'): read_weights(weights)


def test_a_decoder_that_is_not_tied_is_refused(weights):
    path = weights/'y_decoder.safetensors'
    tensors = load_file(path)
    tensors['y_decoder.lm_head.weight'][3, 4] += 1
    save_file(tensors, path)
    with pytest.raises(UserError, match='lm_head .* must equal token_embedding'): read_weights(weights)


@pytest.mark.parametrize(('change', 'said'), [
    ({'model': 'TextJEPA'}, 'does not describe'), ({'phase': 4}, 'phase must be 1, 2 or 3, got 4'),
    ({'phase': '3'}, "got '3'"), ({'phase': True}, 'got True'), ({'phase': None}, 'got None'),
    ({'scale': 'big'}, 'scale in .* must be a finite number'), ({'scale': None}, 'scale in'),
    ({'norm_eps': 1e-5}, 'norm_eps in .* must be 1e-06, got 1e-05'), ({'key_eps': 0}, 'key_eps'),
    ({'padding': 7}, 'padding in .* must be 0, got 7'), ({'config': []}, 'must hold a config'),
    ({'config': {}}, 'must have the field visual'), ({'config': {'gaet': 'flow'}}, "did you mean 'gate'"),
    ({'config': asdict(ODD) | {'width': 16}}, 'multiple of'), ({'config': asdict(ODD) | {'gate': 'none'}}, 'gate'),
    ({'config': asdict(ODD) | {'depth': 4}}, 'angn.gates.3|predictor.layers.3'),
    ({'config': asdict(ODD) | {'embedding': 12}}, 'must have shape'),
    ({'config': asdict(ODD) | {'vocabulary': 10**13}}, 'must fit into memory'),
    ({'config': asdict(ODD) | {'vocabulary': 10**30}}, 'must fit into memory'),
    ({'config': asdict(ODD) | {'writer_depth': 10**9}}, 'writer_depth must be at most 1,000'),
    ({'config': asdict(ODD) | {'text_depth': True}}, 'text_depth must be int')])
def test_a_config_that_does_not_fit_is_refused(change, said, weights):
    about = json.loads((weights/'config.json').read_text())
    (weights/'config.json').write_text(json.dumps(about | change))
    with pytest.raises(UserError, match=said): read_weights(weights)


def test_a_config_that_is_no_json_is_refused(weights):
    for content, said in (('', 'not valid JSON'), ('[' * 100_000, 'nested too deeply'), ('[]', 'does not describe'),
                          (' ' * (10**6 + 1), 'at most 1,000,000 bytes'), ('{"scale": NaN}', 'does not describe')):
        (weights/'config.json').write_text(content)
        with pytest.raises(UserError, match=said): read_weights(weights)
    (weights/'config.json').unlink()
    with pytest.raises(UserError, match='config.json does not exist'): read_weights(weights)


def test_numbers_that_are_not_finite_are_not_exported(tmp_path):
    model = make_model(ODD)
    with torch.no_grad(): model.recursion.injector.projection.weight[0, 0] = math.nan
    write_weights(model, tmp_path/'weights', 2)   # the injector is no part of it
    with pytest.raises(UserError, match='recursion.injector.projection.weight'): write_weights(model, tmp_path/'w', 3)
    assert not (tmp_path/'w').exists()


def test_a_folder_of_something_else_is_left_alone(exported, tmp_path):
    model = exported[0]
    folder = tmp_path/'here'
    folder.mkdir()
    write_weights(model, folder, 3)   # empty
    write_weights(model, folder, 1)   # an earlier export, whose decoder is gone now
    assert len([*folder.iterdir()]) == 5
    (folder/'notes.txt').write_text('mine')
    with pytest.raises(UserError, match="it holds 'notes.txt'"): write_weights(model, folder, 3)
    (folder/'notes.txt').unlink()
    (folder/'config.json').write_text('{"model_type": "gpt2"}')   # a folder of transformers looks alike
    with pytest.raises(UserError, match='does not describe'): write_weights(model, folder, 3)
    assert (folder/'config.json').read_text() == '{"model_type": "gpt2"}'
    with pytest.raises(UserError, match='must be a folder, and is a file'):
        write_weights(model, folder/'config.json', 3)
    assert {path.name for path in tmp_path.iterdir()} == {'here'}


def test_the_working_folder_can_be_named_by_a_point(exported, tmp_path, monkeypatch):
    (tmp_path/'here').mkdir()
    monkeypatch.chdir(tmp_path/'here')
    write_weights(exported[0], '.', 1)
    assert read_weights(tmp_path/'here').config == ODD


def test_others_may_read_the_files(exported, tmp_path):
    (tmp_path/'plain').touch()
    assert {path.stat().st_mode for path in exported[1].iterdir()} == {(tmp_path/'plain').stat().st_mode}


def test_an_export_that_fails_leaves_the_earlier_one(exported, tmp_path, monkeypatch):
    folder = write_weights(exported[0], tmp_path/'weights', 3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = []

    def fill_disk(path, data):
        if len(written) == 3: raise OSError(28, 'No space left on device')
        written.append(path)
        return write_atomic(path, data)

    monkeypatch.setattr(weight_files, 'write_atomic', fill_disk)
    with pytest.raises(UserError, match='must fit on the disk'): write_weights(make_model(ODD, 1), folder, 3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {'weights'}


@every_phase
@every_config
def test_the_mapping_names_every_tensor_with_its_shape(config, phase, tmp_path):
    text = (write_weights(make_model(config), tmp_path/'weights', phase)/'WEIGHT_MAPPING.md').read_text()
    for tensors in promise(config, phase).values():
        for name, shape in tensors.items():
            for stack in ('layers', 'norms', 'gates'):
                head, found, tail = name.partition(f'.{stack}.')
                if found: name = f'{head}.{stack}.{{i}}.{tail.partition(".")[2]}'
            assert f'| `{name}` | {shape} |' in text
    for name, value in asdict(config).items(): assert f'| `{name}` | {value} |' in text
    assert ('vectors of that' in text) == bool(config.sentences)
    assert '{' not in text.replace('{i}', '')
    for part in FILES: assert (f'## {part}.safetensors' in text) == (part in FILES[:2 + phase])


# The reader in Rust's stead.

def draw_text(config: VisionConfig, rng: np.random.Generator, length: int, padding: int) -> np.ndarray:
    "Tokens with padding between and behind them, or a vector."
    if config.sentences: return rng.standard_normal(config.sentences).astype(np.float32)
    tokens = rng.integers(3, config.vocabulary, length + padding)
    tokens[rng.permutation(length + padding)[:padding]] = 0
    return tokens


def assert_near(found, wanted: torch.Tensor):
    "Equal to 1e-5 of the largest number."
    wanted = wanted.double().numpy()
    assert np.shape(found) == wanted.shape
    assert np.abs(found - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())


def find_doubt(model: VisionJEPA, visual: torch.Tensor, query: torch.Tensor, told: torch.Tensor) -> Doubt:
    "What the model makes of a moment."
    return model('doubt', {'visual': visual, 'query': query, 'answer': told, 'told': told})[0]


@every_config
@pytest.mark.parametrize('seed', range(3))
def test_the_reader_computes_the_same(config, seed, tmp_path):
    model, rng = make_model(config, seed), np.random.default_rng(seed)
    w, about = open_weights(write_weights(model, tmp_path/'weights', 3))
    visual = rng.standard_normal((5 + seed, config.visual)).astype(np.float32)
    question, answer, told = (draw_text(config, rng, *shape) for shape in ((1 + 3 * seed, 2), (6, 3), (4, 0)))
    rows = [torch.from_numpy(text)[None] for text in (question, answer, told)]
    with torch.no_grad():
        doubt = find_doubt(model, torch.from_numpy(visual)[None], rows[0], rows[2])
        embedded = model.y_encoder(rows[1])
    assert_near(embed_text(w, about, answer), embedded[0])
    predicted, state = predict_answer(w, about, visual, question)
    informed, same = predict_answer(w, about, visual, question, embed_text(w, about, told))
    assert_near(predicted, doubt.predicted[0])
    assert_near(informed, doubt.informed[0])
    assert_near(state, doubt.state[0])
    assert_near(same, doubt.state[0])   # what is added is not seen by the monitor
    assert_near(read_confusion(w, state), doubt.confusion.sigmoid()[0])
    assert np.abs(predicted - informed).max() > 1e-3

    writer, tokens = model.y_decoder, rng.integers(3, config.vocabulary, 7 * seed)
    with torch.no_grad():
        spoken = torch.tensor([[1, *tokens]])
        h = torch.cat([writer.make_prefix(doubt.predicted), writer.token_embedding(spoken)], 1)
        logits = writer.compute_logits(writer.run(h, torch.ones(h.shape[:2]).bool())[:, writer.prefix:])
    assert_near(score_tokens(w, about, doubt.predicted[0].numpy(), list(tokens)), logits[0])


@pytest.mark.parametrize('shape', [{'groups': 2}, {'groups': 3, 'rope': 1.}, {'groups': 6, 'rope': 0.}])
def test_the_reader_knows_groups_and_memories_that_hardly_fade(shape):
    torch.manual_seed(0)
    layer = Mamba3(Mamba3Config(width=12, state=8, head=4, **shape)).double()
    with torch.no_grad():
        for p in layer.parameters(): p += .2 * torch.randn_like(p)
        h = layer.config.heads
        first = sum(layer.rows[:5])
        layer.in_proj.weight[first:first + h // 2] *= 1e6   # -A is held at .0001, or is huge
        x = torch.randn(1, 20, 12, dtype=torch.float64)
        want, cache = layer.step(x)
    w = {f'layer.{name}': t.detach().numpy() for name, t in layer.state_dict().items()}
    into, ext = layer.in_proj.weight.detach().numpy(), 'layer.in_proj_ext.weight'
    w['layer.in_proj.weight'], w[ext] = into[:first], into[first:]
    past = None
    for token, wanted in zip(x[0].numpy(), want[0]):
        found, past = step_mamba(w, 'layer', token, past, NORM_EPS)
        np.testing.assert_allclose(w['layer.out_proj.weight'] @ found, wanted.numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(past[1], cache.state[0].flatten(1).numpy(), rtol=0, atol=1e-10)


def test_the_reader_is_right_behind_three_hundred_tokens(exported):
    model, folder = exported
    w, about = open_weights(folder)
    layer, x = model.predictor.layers[0], torch.randn(1, 300, 15, generator=torch.Generator().manual_seed(0))
    layer.causal = True   # both ways round, one behind the other
    with torch.no_grad(): want, cache = layer.step(x)
    layer.causal = model.config.causal
    past = None
    for token in x[0].numpy(): found, past = step_mamba(w, 'predictor.layers.0', token, past, about['key_eps'])
    found = w['predictor.layers.0.out_proj.weight'] @ found
    scale = want.abs().max().item()
    assert np.abs(found - want[0, -1].numpy()).max() < 1e-4 * scale
    turned = np.abs(past[0] - cache.angle[0].numpy())
    assert np.minimum(turned, 2 * np.pi - turned).max() < 1e-3


def test_the_reader_needs_nothing_of_ours(exported, tmp_path):
    "Another Python runs its one file, and may import neither shutka nor torch."
    script = tmp_path/'read.py'
    script.write_text(f'''
import sys, runpy, numpy as np
for name in ('shutka', 'torch'): sys.modules[name] = None
r = runpy.run_path({weight_reader.__file__!r})
w, about = r['open_weights']({str(exported[1])!r})
visual = np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)
embedding, state = r['predict_answer'](w, about, visual, np.array([5, 0, 7]))
np.savez({str(tmp_path/'found.npz')!r}, embedding=embedding, confusion=r['read_confusion'](w, state))
''')
    done = subprocess.run([sys.executable, '-I', script], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path/'found.npz')
    visual, question = torch.linspace(-1, 1, 20).view(1, 4, 5), torch.tensor([[5, 0, 7]])
    with torch.no_grad(): doubt = find_doubt(exported[0], visual, question, question)
    assert_near(found['embedding'], doubt.predicted[0])
    assert_near(found['confusion'], doubt.confusion.sigmoid()[0])


def test_the_reader_is_short_and_imports_little():
    tree = ast.parse(Path(weight_reader.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {'json', 'pathlib', 'numpy', 'safetensors.numpy'}
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name != 'open_weights']
    lines = {node.lineno for function in functions for node in ast.walk(function)
             if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef)
             and not isinstance(getattr(node, 'value', None), ast.Constant)}
    assert len(lines) <= 60


def test_a_log_is_not_used(weights):
    visual, question = np.ones((3, 5), np.float32), np.array([4, 5])
    w, about = open_weights(weights)
    before, _ = predict_answer(w, about, visual, question)
    for name in w:
        if name.endswith('A_log'): w[name] = w[name] + 5
    assert np.array_equal(predict_answer(w, about, visual, question)[0], before)


# A model of a run.

@every_config
def test_a_saved_model_comes_back_bit_by_bit(config, tmp_path):
    model = make_model(config)
    again = load_vision(save_vision(model, tmp_path/'model', ['see', 'say']))
    assert again.config == config and not again.training and all(p.requires_grad for p in again.parameters())
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
    batch = draw_calibration(model)
    with torch.no_grad(): assert torch.equal(*(m('say', batch)[0] for m in (model, again)))
    assert read_passed(tmp_path/'model') == ['see', 'say']


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_model_is_refused_by_name(damage, tmp_path):
    change, said = DAMAGES[damage]
    path = save_vision(make_model(ODD), tmp_path)/'vision.safetensors'
    tensors = load_file(path)
    for name in sorted(tensors)[::30]:
        save_file(change(tensors, name), path)
        with pytest.raises(UserError, match=said.replace('{name}', name)): load_vision(tmp_path)


@pytest.mark.parametrize(('change', 'said'), [
    ({'model': 'other'}, 'does not describe a VisionJEPA'), ({'phases': 'see'}, 'must list the phases'),
    ({'phases': None}, 'must list the phases'), ({'phases': [1]}, 'must list the phases'),
    ({'phases': ['sea']}, "did you mean 'see'"), ({'phases': ['see', 'see']}, 'named once'),
    ({'config': {'visual': 5}}, 'must have the field vocabulary')])
def test_a_description_that_does_not_fit_is_refused(change, said, tmp_path):
    path = save_vision(make_model(ODD), tmp_path, ['see'])/'vision.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=said):
        check_parts(tmp_path, ['see'])
        load_vision(tmp_path)


def test_a_phase_refuses_a_model_that_lacks_what_it_needs(tmp_path):
    model = make_model(ODD)
    save_vision(model, tmp_path, ['see'])
    check_parts(tmp_path, [])
    check_parts(tmp_path, ['see'])
    with pytest.raises(UserError, match="phase 'say', which trains y_decoder"): check_parts(tmp_path, ['see', 'say'])
    with pytest.raises(UserError, match="'say', .*; and 'doubt', which trains recursion"):
        check_parts(tmp_path, ['say', 'doubt'])
    with pytest.raises(UserError, match="unknown phase 'dream'"): check_parts(tmp_path, ['dream'])
    with pytest.raises(UserError, match="unknown phase 'dream'"): save_vision(model, tmp_path/'new', ['dream'])
    assert not (tmp_path/'new').exists()


def test_other_files_beside_a_model_stay(tmp_path):
    (tmp_path/'encoding.json').write_text('{}')
    save_vision(make_model(ODD), tmp_path)
    assert (tmp_path/'encoding.json').read_text() == '{}'


# The command.

def test_the_command_exports_as_far_as_the_model_was_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = make_model(ODD)
    for passed, count in ((['see'], 3), (['see', 'say'], 4), (['see', 'say', 'doubt'], 5), (['see', 'doubt'], 3)):
        save_vision(model, 'runs/vision/model', passed)
        assert cli.run_command(['export', 'weights', 'runs/vision', '-o', 'weights']) == 0
        assert len([*Path('weights').glob('*.safetensors')]) == count
        assert capsys.readouterr().out.startswith('weights: predictor.safetensors, ')
    assert cli.run_command(['export', 'weights', 'runs/vision/model', '-o', 'first', '--phase', '1']) == 0
    assert read_weights('first').config == ODD
    for words, said in ((['runs/vision', '-o', 'w', '--phase', '3'], "must have passed the phase 'say'"),
                        (['runs/vision', '-o', 'w', '--phase', '0'], 'phase must be 1, 2 or 3, got 0'),
                        (['runs/vision', '-o', 'runs'], "and it holds 'vision'"),
                        (['runs/vision', '-o', 'runs/vision/model'], "and it holds 'vision.json'"),
                        (['runs', '-o', 'w'], 'runs must be a folder with vision.json')):
        assert cli.run_command(['export', 'weights', *words]) == 2
        assert said in capsys.readouterr().err and not Path('w').exists()
    save_vision(model, 'fresh')
    assert cli.run_command(['export', 'weights', 'fresh', '-o', 'w']) == 2
    assert "must have passed the phase 'see', which trains predictor, angn, y_encoder" in capsys.readouterr().err


def test_a_batch_of_real_data_is_noted(tmp_path):
    model = make_model(ODD)
    save_vision(model, tmp_path/'model', ['see'])
    batch = {name: t[:2] for name, t in draw_calibration(model, 9).items()}
    export_weights(tmp_path, tmp_path/'weights', batch=batch)
    assert 'calibration batch (real data)' in (tmp_path/'weights/WEIGHT_MAPPING.md').read_text()
    assert json.loads((tmp_path/'weights/config.json').read_text())['calibration'] == 'real data'
    assert find_vision(tmp_path) == tmp_path/'model' and vision_files.VISION_JSON == 'vision.json'


def test_a_run_that_says_nothing_is_refused(tmp_path):
    save_vision(make_model(ODD), tmp_path/'model', ['see'])
    for damaged in ('[]', '{"settings": {}}', '{"data": 3}'):
        (tmp_path/'run.json').write_text(damaged)
        with pytest.raises(UserError, match='must say what was collected'): export_weights(tmp_path, tmp_path/'weights')
    (tmp_path/'run.json').write_text('{"data": {"encoder": ["patches"], "tokens": 9}}')
    with pytest.raises(UserError, match='encoding.json'): export_weights(tmp_path, tmp_path/'weights')
    assert not (tmp_path/'weights').exists()
    # a model that was moved away from its run belongs to none
    shutil.move(tmp_path/'model', tmp_path/'moved')
    export_weights(tmp_path/'moved', tmp_path/'weights')
    assert json.loads((tmp_path/'weights/config.json').read_text())['inputs'] == {}

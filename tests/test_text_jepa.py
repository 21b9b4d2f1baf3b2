"""What the reference model failed at, phase 1.

Each defect is a check that ours must pass, and that must fail when the defect is planted.
"""
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import SMALL
from test_models import across_heads, no_rotary
from torch.nn import functional as F

import shutka.train.fit as loop
from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl
from shutka.data.pairs import extract_pairs
from shutka.evaluate.comparison import make_encoder
from shutka.evaluate.retrieval import evaluate_retrieval, make_pool
from shutka.models import attention, ternary
from shutka.models.jepa import info_nce
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import load_model, save_model
from shutka.text import batches
from shutka.text.batches import PairBatches, hash_pair, pad_rows
from shutka.text.words import hash_words
from shutka.train.fit import fit
from shutka.train.run import read_steps, run_training, train_folder
from shutka.train.trainer import Session
from shutka.typescript import recipe as typescript
from shutka.typescript.recipe import make_typescript_phases
from shutka.typescript.settings import TypescriptSettings

every_mixer = pytest.mark.parametrize('mixer', ['softmax', 'linear'])


@pytest.fixture(autouse=True)
def seed():
    torch.set_num_threads(2)
    torch.manual_seed(0)


def model(**config): return TextJEPA(replace(SMALL, **config)).eval()


# --- the answer is not in the question ------------------------------------------------------------

SECRET = 'quokka zebra'  # words of the bodies, and of nothing else

def documented(n=24):
    "Pairs, half of them documented, whose bodies hold the secret."
    doc = lambda i: '/** Adds what it is given. */\n' * (i % 2)
    body = lambda i: f'(left: Left): Sum {{ return quokka(left, zebra, {i}) }}'
    text = ''.join(f'{doc(i)}export function add{chr(97 + i)}{body(i)}\n' for i in range(n))
    return extract_pairs(dict(kind='document', text=text, path='a.ts', package='p', source='s', language='typescript'))

def words_do_not_hold_the_body(pairs):
    "No batch shows on its words side what only a body has."
    secret = set(hash_words(SECRET, 1 << 20, 9).tolist())
    views = PairBatches([hash_pair(p, 1 << 20, 32, 32) for p in pairs], size=8)
    for step in range(20):
        batch = views(step)
        assert secret <= set(batch['code'].ravel().tolist())
        assert not secret & set(batch['words'].ravel().tolist())

def test_words_do_not_hold_the_body(monkeypatch):
    words_do_not_hold_the_body(documented())
    leaked = [p | {'signature': p['signature'] + p['body']} for p in documented()]
    with pytest.raises(AssertionError): words_do_not_hold_the_body(leaked)
    monkeypatch.setattr(batches, '_choose_words', lambda pair, chance: pair.body)
    with pytest.raises(AssertionError): words_do_not_hold_the_body(documented())


def blank_questions_are_at_chance(pool, encode):
    chance, *_, row = evaluate_retrieval(pool, {'blank': lambda queries, bodies: encode([''] * len(queries), bodies)})
    assert row['mrr'] == pytest.approx(chance['mrr'], abs=.01)

def test_blank_questions_are_at_chance(small, pairs):
    out = small(steps=20).settings.out
    assert run_training(out) == 0
    trained, pool = load_model(Path(out)/'model'), make_pool(read_jsonl(pairs), 'all', 64)
    blank_questions_are_at_chance(pool, make_encoder(trained))
    def leak(queries, bodies): return make_encoder(trained)([q + b for q, b in zip(queries, bodies)], bodies)
    with pytest.raises(AssertionError): blank_questions_are_at_chance(pool, leak)


# --- words hear each other, in order --------------------------------------------------------------

@torch.no_grad()
def words_are_heard(model, at=5):
    "Another word at one place changes what all words become, in both encoders."
    ids = torch.arange(1, 13).repeat(2, 1)
    ids[1, at] = 99
    for side in (model.x_encoder, model.y_encoder):
        h = model.double().narrow(ids)
        for block in side.blocks: h = block(h, ids != 0)
        assert ((h[0] - h[1]).abs().amax(-1) > 1e-9).all()

@torch.no_grad()
def order_matters(model):
    "The same words in another order are another text, to both encoders."
    ids = torch.stack([torch.arange(1, 13), torch.arange(1, 13).roll(5)])
    for side in (model.x_encoder, model.y_encoder):
        read = side(model.double().narrow(ids), torch.ones(2, 12).double(), ids != 0)
        assert (read[0] - read[1]).abs().max() > 1e-9

@every_mixer
@pytest.mark.parametrize('check', [words_are_heard, order_matters])
def test_attention(check, mixer): check(model(mixer=mixer))

def each_word_alone(monkeypatch):
    monkeypatch.setattr(attention, 'scan', lambda q, k, v, log_decay, state, chunk: (v, state))

@pytest.mark.parametrize('check, mixer, plant', [
    (words_are_heard, 'softmax', across_heads), (order_matters, 'softmax', no_rotary),
    (words_are_heard, 'linear', each_word_alone), (order_matters, 'linear', each_word_alone)])
def test_attention_defects_are_noticed(monkeypatch, check, mixer, plant):
    plant(monkeypatch)
    with pytest.raises(AssertionError): check(model(mixer=mixer))

def test_the_bag_alone_knows_no_order():
    "The words phase leaves the blocks out; what is saved does not."
    one = model()
    far = lambda: np.abs(np.subtract(*one.encode(['dog bites man', 'man bites dog']))).max()
    assert far() > 1e-7
    one.config = replace(one.config, ordered=False)
    assert far() < 1e-7


# --- everything learns ----------------------------------------------------------------------------

def every_tensor_learns(recipe):
    "The phases of a run together move each parameter; the last weights are looked at, and not the best."
    model, phases = recipe.build_training()
    phases = [replace(phase, score='', patience=0) for phase in phases]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in fit(model, phases, recipe.settings.checkpoint_folder): pass
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []

@pytest.mark.parametrize('ternary', [0., .3])
def test_every_tensor_learns(small, ternary): every_tensor_learns(small(ternary=ternary))

def stop_gradient(model, batch, temperature):
    "Targets from an encoder that neither learns nor follows."
    inside = model.model   # a loss gets the model in `MicroBatches`
    predicted = inside.predict(batch['words'])
    with torch.no_grad(): target = inside.embed(batch['code'])
    return info_nce(predicted, target), {}

@pytest.mark.parametrize('name, defect, error, told', [
    ('contrastive_loss', stop_gradient, UserError, 'it does not reach y_encoder'),
    ('BLOCK_PARAMETERS', '^(narrow|x_encoder|predictor)', AssertionError, 'y_encoder'),
    ('BAG_PARAMETERS', '^words.vectors', AssertionError, r"\['words.weight'\]"),
])
def test_a_part_that_never_learns_is_noticed(small, monkeypatch, name, defect, error, told):
    recipe = small()
    monkeypatch.setattr(typescript, name, defect)
    with pytest.raises(error, match=told): every_tensor_learns(recipe)


# --- padding and neighbours are not seen ----------------------------------------------------------

@torch.no_grad()
def padding_is_not_seen(model):
    "Two unrelated texts stay unrelated in a batch of 128 words; each embedding is the one it has alone."
    texts = ['parse a date from text', 'close every open socket']
    rows = [hash_words(t, SMALL.rows, 9).astype(np.int64) for t in texts]
    batch = torch.from_numpy(pad_rows([*rows, np.random.default_rng(0).integers(1, SMALL.rows, 128)]))
    for side in (model.embed, model.predict):
        together = side(batch)
        assert F.cosine_similarity(together[0], together[1], dim=0) < .6
        for row, found in zip(rows, together): assert (side(torch.from_numpy(row)[None])[0] - found).abs().max() < 1e-6

@every_mixer
def test_padding_is_not_seen(mixer): padding_is_not_seen(model(mixer=mixer))

def padding_as_a_word(self, side, ids):
    "The model's own reading, with padding as one more word."
    weight = F.softplus(self.words.weight)[ids]
    share = weight / weight.sum(1, keepdim=True)
    bag = F.embedding_bag(ids, self.words.vectors.weight, mode='sum', per_sample_weights=share)
    return F.normalize(bag + side(self.narrow(ids), weight, torch.ones_like(ids, dtype=torch.bool)), dim=-1)

def test_padding_that_is_seen_is_noticed(monkeypatch):
    monkeypatch.setattr(TextJEPA, '_embed', padding_as_a_word)
    with pytest.raises(AssertionError): padding_is_not_seen(model())


# --- ternary is ternary ---------------------------------------------------------------------------

def saved_model_is_ternary(out):
    "Weights are -1, 0 or 1 times one scale, and packing four of them into a byte changes no embedding."
    found = load_model(Path(out)/'model')
    assert read_json(Path(out)/'model'/'model.json')['ternary'] is True
    layers = [m for m in found.modules() if isinstance(m, ternary.TernaryLinear)]
    assert len(layers) == 2 * 4
    for layer in layers:
        _, scale = ternary.quantize_ternary(layer.weight)
        assert set((ternary.PackedLinear(layer).weight / scale).unique().tolist()) == {-1, 0, 1}
    packed = deepcopy(found)
    assert len(ternary.make_packed(packed)) == len(layers)
    texts = ['parse a date', 'a + b']
    for side in ('words', 'code'): assert np.array_equal(packed.encode(texts, side), found.encode(texts, side))

def test_a_ternary_run(small, monkeypatch):
    out = small(ternary=.3).settings.out
    assert run_training(out) == 0
    assert [phase for phase, *_ in rows_of(out)].count('ternary') == 3
    saved_model_is_ternary(out)
    assert run_training(out) == 0  # there is nothing left to do, and what is saved again is still ternary
    saved_model_is_ternary(out)
    monkeypatch.setattr(ternary, 'quantize_ternary', lambda w: (w.sign(), w.abs().mean()))
    with pytest.raises(AssertionError): saved_model_is_ternary(out)

def test_a_ternary_run_saved_as_another_is_noticed(small, monkeypatch):
    def to_ternary(model):
        typescript.use_blocks(model)
        # The model's config does not say so.
        with suppress(UserError): ternary.make_ternary(model, ternary.TERNARY_LAYERS)
    monkeypatch.setattr(typescript, 'use_ternary_blocks', to_ternary)
    out = small(ternary=.3).settings.out
    assert run_training(out) == 0
    with pytest.raises(AssertionError): saved_model_is_ternary(out)


# --- just the steps due ---------------------------------------------------------------------------

def rows_of(out): return [(r['phase'], r['step'], r['lr'], r['loss']) for r in read_steps(Path(out)/'log.jsonl')]

def goes_on_exactly(make):
    "A run stopped in each phase ends after its steps, with the rates and losses of one that was not."
    whole, parts = (make(name, steps=20, ternary=.2).settings.out for name in ('whole', 'parts'))
    assert train_folder(whole, Session()) == 'trained'
    for last in (3, 14, 18):
        calls = iter(range(1, 99))
        stop = lambda done=len(rows_of(parts)): next(calls) + done >= last
        assert train_folder(parts, Session(), stop=stop) == 'stopped'
    assert train_folder(parts, Session()) == 'trained'
    assert len(rows_of(whole)) == 20
    assert rows_of(parts) == rows_of(whole)

def test_goes_on_exactly(small): goes_on_exactly(small)

@pytest.mark.parametrize('forgotten', [['within'], ['step', 'phase', 'within']])
def test_a_forgotten_position_is_noticed(small, monkeypatch, forgotten):
    right = loop.resume
    monkeypatch.setattr(loop, 'resume', lambda *key: replace(right(*key), **dict.fromkeys(forgotten, 0)))
    with pytest.raises(AssertionError): goes_on_exactly(small)

def test_seeds_that_follow_the_session_are_noticed(small, monkeypatch):
    "Views that count what this process has seen, instead of steps of the run."
    seen = iter(range(10**6))
    def counting(*key): return partial(lambda batches, step, *of: batches(next(seen), *of), PairBatches(*key))
    monkeypatch.setattr(typescript, 'PairBatches', counting)
    with pytest.raises(AssertionError): goes_on_exactly(small)

@pytest.mark.parametrize('steps', [1, 2, 3, 7, 10, 100])
@pytest.mark.parametrize('ternary', [0., .1, .3])
def test_phases_have_the_steps_asked_for(steps, ternary):
    "Not one more or fewer, and no phase without a limit in steps."
    settings = TypescriptSettings(steps=steps, ternary=ternary, batch_size=16)
    phases = make_typescript_phases(settings, None, 10_000, lambda model: {})
    assert sum(p.steps for p in phases) == steps and all(p.steps for p in phases)
    assert [p.until for p in phases] == sorted(p.until for p in phases)

@pytest.mark.parametrize('ternary', [0., .1, .3])
def test_phases_share_the_minutes(ternary):
    "Each phase ends after the one before, the last one when time is up."
    settings = TypescriptSettings(epochs=0, minutes=10, ternary=ternary)
    ends = [p.until for p in make_typescript_phases(settings, None, 1000, lambda model: {})]
    assert len(set(ends)) == len(ends) == 2 + (ternary > 0) and ends == sorted(ends) and ends[-1] == 1


# --- nothing is dropped silently ------------------------------------------------------------------

def only_whole_models_load(folder):
    "A file with a tensor too few, too many or of another shape is refused."
    path = save_model(model(), folder)/'model.safetensors'
    whole = load_file(path)
    name = 'y_encoder.up.weight'
    fewer = {k: t for k, t in whole.items() if k != name}
    narrower = whole | {name: whole[name][:, :-1].contiguous()}
    for other in (fewer, whole | {'memory': torch.zeros(2)}, narrower):
        save_file(other, path)
        with pytest.raises(UserError, match='does not fit'): load_model(folder)

def test_only_whole_models_load(tmp_path, monkeypatch):
    only_whole_models_load(tmp_path)
    lenient = lambda self, state, strict: torch.nn.Module.load_state_dict(self, state, strict=False)
    monkeypatch.setattr(TextJEPA, 'load_state_dict', lenient)
    with pytest.raises(pytest.fail.Exception): only_whole_models_load(tmp_path)

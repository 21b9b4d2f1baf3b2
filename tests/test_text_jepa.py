"""What the reference model failed at, phase 1: each defect is a check that ours must pass, and that must fail when the defect is planted."""
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
from shutka.data.pairs import file_pairs
from shutka.evaluate.comparison import encoder
from shutka.evaluate.retrieval import evaluate, make_pool
from shutka.models import attention, ternary
from shutka.models.jepa import info_nce
from shutka.models.text_jepa import TextJEPA, load_model, save_model
from shutka.text import batches
from shutka.text.batches import Views, example, pad
from shutka.text.words import word_ids
from shutka.train.fit import Session, fit
from shutka.train.run import main, steps_in, train
from shutka.typescript import recipe as typescript
from shutka.typescript.recipe import Typescript, phases_of, training

every_mixer = pytest.mark.parametrize('mixer', ['softmax', 'linear'])


@pytest.fixture(autouse=True)
def seed():
    torch.set_num_threads(2)
    torch.manual_seed(0)


def model(**config): return TextJEPA(replace(SMALL, **config)).eval()


# --- the answer is not in the question ----------------------------------------------------------------------------------

SECRET = 'quokka zebra'  # words of the bodies, and of nothing else

def documented(n=24):
    "Pairs, half of them documented, whose bodies hold the secret."
    doc = lambda i: '/** Adds what it is given. */\n' * (i % 2)
    text = ''.join(f'{doc(i)}export function add{chr(97 + i)}(left: Left): Sum {{ return quokka(left, zebra, {i}) }}\n' for i in range(n))
    return file_pairs(dict(kind='document', text=text, path='a.ts', package='p', source='s', language='typescript'))

def words_do_not_hold_the_body(pairs):
    "No batch shows on its words side what only a body has."
    secret = set(word_ids(SECRET, 1 << 20, 9).tolist())
    views = Views([example(p, 1 << 20, 32, 32) for p in pairs], size=8)
    for step in range(20):
        batch = views(step)
        assert secret <= set(batch['code'].ravel().tolist())
        assert not secret & set(batch['words'].ravel().tolist())

def test_words_do_not_hold_the_body(monkeypatch):
    words_do_not_hold_the_body(documented())
    with pytest.raises(AssertionError): words_do_not_hold_the_body([p | {'signature': p['signature'] + p['body']} for p in documented()])
    monkeypatch.setattr(batches, '_view', lambda e, chance: e.body)
    with pytest.raises(AssertionError): words_do_not_hold_the_body(documented())


def blank_questions_are_at_chance(pool, encode):
    chance, *_, row = evaluate(pool, {'blank': lambda queries, bodies: encode([''] * len(queries), bodies)})
    assert row['mrr'] == pytest.approx(chance['mrr'], abs=.01)

def test_blank_questions_are_at_chance(small, pairs):
    run = small(steps=20)
    assert main(run.out) == 0
    trained, pool = load_model(Path(run.out)/'model'), make_pool(read_jsonl(pairs), 'all', 64)
    blank_questions_are_at_chance(pool, encoder(trained))
    def leak(queries, bodies): return encoder(trained)([q + b for q, b in zip(queries, bodies)], bodies)
    with pytest.raises(AssertionError): blank_questions_are_at_chance(pool, leak)


# --- words hear each other, in order ------------------------------------------------------------------------------------

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


# --- everything learns ---------------------------------------------------------------------------------------------------

def every_tensor_learns(run):
    "The phases of a run together move each parameter."
    model, phases = training(run)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in fit(model, phases, run.checkpoints): pass
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []

@pytest.mark.parametrize('ternary', [0., .3])
def test_every_tensor_learns(small, ternary): every_tensor_learns(small(ternary=ternary))

def stop_gradient(model, batch, temperature):
    "Targets from an encoder that neither learns nor follows."
    inside = model.model   # a loss gets the model in `Pieces`
    predicted = inside.predict(batch['words'])
    with torch.no_grad(): target = inside.embed(batch['code'])
    return info_nce(predicted, target), {}

@pytest.mark.parametrize('name, defect, error, told', [
    ('contrastive', stop_gradient, UserError, 'it does not reach y_encoder'),
    ('DEPTH', '^(narrow|x_encoder|predictor)', AssertionError, 'y_encoder'),
    ('BAG', '^words.vectors', AssertionError, r"\['words.weight'\]"),
])
def test_a_part_that_never_learns_is_noticed(small, monkeypatch, name, defect, error, told):
    run = small()
    monkeypatch.setattr(typescript, name, defect)
    with pytest.raises(error, match=told): every_tensor_learns(run)


# --- padding and neighbours are not seen -----------------------------------------------------------------------------------

@torch.no_grad()
def padding_is_not_seen(model):
    "Two unrelated texts stay unrelated in a batch of 128 words; each embedding is the one it has alone."
    texts = ['parse a date from text', 'close every open socket']
    rows = [word_ids(t, SMALL.rows, 9).astype(np.int64) for t in texts]
    batch = torch.from_numpy(pad([*rows, np.random.default_rng(0).integers(1, SMALL.rows, 128)]))
    for side in (model.embed, model.predict):
        together = side(batch)
        assert F.cosine_similarity(together[0], together[1], dim=0) < .6
        for row, found in zip(rows, together): assert (side(torch.from_numpy(row)[None])[0] - found).abs().max() < 1e-6

@every_mixer
def test_padding_is_not_seen(mixer): padding_is_not_seen(model(mixer=mixer))

def padding_as_a_word(self, side, ids):
    "The model's own reading, with padding as one more word."
    weight = F.softplus(self.words.weight)[ids]
    bag = F.embedding_bag(ids, self.words.vectors.weight, mode='sum', per_sample_weights=weight / weight.sum(1, keepdim=True))
    return F.normalize(bag + side(self.narrow(ids), weight, torch.ones_like(ids, dtype=torch.bool)), dim=-1)

def test_padding_that_is_seen_is_noticed(monkeypatch):
    monkeypatch.setattr(TextJEPA, '_embed', padding_as_a_word)
    with pytest.raises(AssertionError): padding_is_not_seen(model())


# --- ternary is ternary -------------------------------------------------------------------------------------------------------

def saved_model_is_ternary(out):
    "Weights are -1, 0 or 1 times one scale, and packing four of them into a byte changes no embedding."
    found = load_model(Path(out)/'model')
    assert read_json(Path(out)/'model'/'model.json')['ternary'] is True
    layers = [m for m in found.modules() if isinstance(m, ternary.TernaryLinear)]
    assert len(layers) == 2 * 4
    for layer in layers: assert set((ternary.PackedLinear(layer).weight / ternary.ternary(layer.weight)[1]).unique().tolist()) == {-1, 0, 1}
    packed = deepcopy(found)
    assert len(ternary.make_packed(packed)) == len(layers)
    for side in ('words', 'code'): assert np.array_equal(packed.encode(['parse a date', 'a + b'], side), found.encode(['parse a date', 'a + b'], side))

def test_a_ternary_run(small, monkeypatch):
    run = small(ternary=.3)
    assert main(run.out) == 0
    assert [phase for phase, *_ in rows_of(run)].count('ternary') == 3
    saved_model_is_ternary(run.out)
    assert main(run.out) == 0  # there is nothing left to do, and what is saved again is still ternary
    saved_model_is_ternary(run.out)
    monkeypatch.setattr(ternary, 'ternary', lambda w: (w.sign(), w.abs().mean()))
    with pytest.raises(AssertionError): saved_model_is_ternary(run.out)

def test_a_ternary_run_saved_as_another_is_noticed(small, monkeypatch):
    def to_ternary(model):
        typescript.in_order(model)
        with suppress(UserError): ternary.make_ternary(model, typescript.TERNARY)  # and the model's config does not say so
    monkeypatch.setattr(typescript, 'to_ternary', to_ternary)
    run = small(ternary=.3)
    assert main(run.out) == 0
    with pytest.raises(AssertionError): saved_model_is_ternary(run.out)


# --- just the steps due --------------------------------------------------------------------------------------------------------

def rows_of(run): return [(r['phase'], r['step'], r['lr'], r['loss']) for r in steps_in(Path(run.out)/'log.jsonl')]

def goes_on_exactly(make):
    "A run stopped in each phase ends after its steps, with the rates and losses of one that was not."
    whole, parts = make('whole', steps=20, ternary=.2), make('parts', steps=20, ternary=.2)
    assert train(whole.out, Session()) == 'trained'
    for last in (3, 14, 18):
        calls = iter(range(1, 99))
        stop = lambda done=len(rows_of(parts)): next(calls) + done >= last
        assert train(parts.out, Session(), stop=stop) == 'stopped'
    assert train(parts.out, Session()) == 'trained'
    assert len(rows_of(whole)) == whole.steps
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
    monkeypatch.setattr(typescript, 'Views', lambda *key: partial(lambda views, step, rank, world: views(next(seen), rank, world), Views(*key)))
    with pytest.raises(AssertionError): goes_on_exactly(small)

@pytest.mark.parametrize('steps', [1, 2, 3, 7, 10, 100])
@pytest.mark.parametrize('ternary', [0., .1, .3])
def test_phases_have_the_steps_asked_for(steps, ternary):
    "Not one more or fewer, and no phase without a limit in steps."
    phases = phases_of(Typescript(steps=steps, ternary=ternary, batch_size=16), None, 10_000, lambda model: {})
    assert sum(p.steps for p in phases) == steps and all(p.steps for p in phases)
    assert [p.until for p in phases] == sorted(p.until for p in phases)

@pytest.mark.parametrize('ternary', [0., .1, .3])
def test_phases_share_the_minutes(ternary):
    "Each phase ends after the one before, the last one when time is up."
    ends = [p.until for p in phases_of(Typescript(epochs=0, minutes=10, ternary=ternary), None, 1000, lambda model: {})]
    assert len(set(ends)) == len(ends) == 2 + (ternary > 0) and ends == sorted(ends) and ends[-1] == 1


# --- nothing is dropped silently -------------------------------------------------------------------------------------------------

def only_whole_models_load(folder):
    "A file with a tensor too few, too many or of another shape is refused."
    path = save_model(model(), folder)/'model.safetensors'
    whole = load_file(path)
    name = 'y_encoder.up.weight'
    for other in ({k: t for k, t in whole.items() if k != name}, whole | {'memory': torch.zeros(2)}, whole | {name: whole[name][:, :-1].contiguous()}):
        save_file(other, path)
        with pytest.raises(UserError, match='does not fit'): load_model(folder)

def test_only_whole_models_load(tmp_path, monkeypatch):
    only_whole_models_load(tmp_path)
    lenient = lambda self, state, strict: torch.nn.Module.load_state_dict(self, state, strict=False)
    monkeypatch.setattr(TextJEPA, 'load_state_dict', lenient)
    with pytest.raises(pytest.fail.Exception): only_whole_models_load(tmp_path)

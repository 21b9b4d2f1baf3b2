"""Mamba-3: three forms that agree, an independent implementation, and the faults that others had.

The faults of the official code bear the numbers of its issues; those of the design's reference code are described.
Outputs are compared relative to their largest, because they can be thousands.
"""
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from shutka.core.errors import UserError
from shutka.models.decoder import Decoder, Sampling, read_context, read_token
from shutka.models.layers import Block
from shutka.models.lm import lm_loss
from shutka.models.mamba import FIRST_STEPS, Mamba3
from shutka.models.mamba_lm import Mamba3LM, MixerLM, continue_tokens
from shutka.models.mamba_scan import (
    Past,
    Terms,
    make_empty_past,
    rotate_halves,
    rotate_neighbours,
    scan_chunks,
    scan_tokens,
)
from shutka.models.mixers import MIXERS, make_mamba3
from shutka.models.parity import learn_parity, measure_parity
from shutka.models.shapes import DecoderConfig, Mamba3Config, Mamba3LMConfig, TextJEPAConfig
from shutka.models.text_jepa import TextJEPA
from shutka.train.optimizer import group_by_decay
from shutka.train.phase import Phase

D = 24
SISO, MIMO = {}, {'rank': 2, 'groups': 2}
FULL = {'rope': 1., 'out_norm': True, 'groups': 3}
MIMO_FULL = {'rank': 3, 'rope': 1., 'out_norm': True}
KINDS = [SISO, MIMO, FULL, MIMO_FULL]
every_kind = pytest.mark.parametrize('kind', KINDS, ids=['siso', 'mimo', 'siso full', 'mimo full'])


@pytest.fixture(autouse=True)
def seed():
    torch.set_num_threads(1)   # everything is small
    torch.manual_seed(0)


def make(kind: dict, heads: int = 6, causal: bool = True, chunk: int = 16, dtype=torch.float64) -> Mamba3:
    "A layer whose parameters are all far from where they start."
    mixer = Mamba3(Mamba3Config(width=4 * heads, state=8, head=8, chunk=chunk, **kind), causal).to(dtype)
    with torch.no_grad():
        for name, p in mixer.named_parameters():
            if name.endswith('proj.weight'): p.mul_(2)
            else: p.add_(.3 * torch.randn_like(p))
    return mixer


def real(x): return torch.ones(x.shape[:2], dtype=torch.bool)


def gap(a, b) -> float:
    "The largest difference, relative to the largest value."
    if not b.numel(): return 0.
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()


def step_through(mixer, x, cache=None):
    "One token after the other."
    outputs = []
    for token in x.split(1, dim=1):
        y, cache = mixer.step(token, cache)
        outputs.append(y)
    return torch.cat(outputs, 1), cache


def differentiate(mixer, run, x):
    "Outputs, cache, and the gradients of a loss that looks at both."
    x = x.clone().requires_grad_()
    y, cache = run(x)
    torch.manual_seed(1)
    loss = sum((t * torch.randn_like(t)).sum() for t in (y, cache.state, cache.k, cache.v))
    return [y, *cache, *torch.autograd.grad(loss, [x, *mixer.parameters()])]


def check_forms(mixer, l):
    "Chunked, sequential and step agree in outputs, cache and gradients."
    x = torch.randn(2, l, mixer.config.width, dtype=torch.float64)
    chunked = differentiate(mixer, mixer.step if l > 1 else lambda x: mixer.mix(
        x, real(x), None, partial(scan_chunks, chunk=mixer.config.chunk)), x)
    assert gap(mixer(x, real(x)), chunked[0]) <= 1e-10
    for run in (lambda x: mixer.mix(x, real(x), None, scan_tokens), partial(step_through, mixer)):
        for a, b in zip(chunked, differentiate(mixer, run, x), strict=True): assert gap(a, b) <= 1e-10


# --- three forms ----------------------------------------------------------------------------------

@every_kind
@pytest.mark.parametrize('l', [1, 33])
def test_three_forms_agree(kind, l): check_forms(make(kind), l)


@pytest.mark.parametrize('heads', [6, 10])
@pytest.mark.parametrize('l', [50, 63, 64, 65])
def test_three_forms_agree_around_a_chunk(heads, l): check_forms(make(SISO, heads, chunk=64), l)


@pytest.mark.faults
@every_kind
@pytest.mark.parametrize('heads', [6, 12])
@pytest.mark.parametrize('l', [1, 2, 15, 16, 17, 50, 63, 64, 65, 130])
@pytest.mark.parametrize('chunk', [1, 16, 64])
def test_three_forms_agree_everywhere(kind, heads, l, chunk): check_forms(make(kind, heads, chunk=chunk), l)


@pytest.mark.faults
@pytest.mark.parametrize('rank, heads, l', [(rank, heads, l) for rank in (1, 2, 4) for heads in (6, 10)
                                            for l in (1, 50, 63, 64, 65)])
def test_three_forms_agree_with_any_rank(rank, heads, l): check_forms(make({'rank': rank}, heads, chunk=64), l)


def make_terms(b, h, l, r, n, p):
    q, k = torch.randn(2, b, h, l, r, n, dtype=torch.float64)
    dt, lam = torch.rand(2, b, h, l, dtype=torch.float64)
    v, a = torch.randn(b, h, l, r, p, dtype=torch.float64), -torch.rand(b, h, l, dtype=torch.float64)
    return Terms(q, k, v, torch.ones(b, h, l).bool(), a * dt, lam * dt, (1 - lam) * dt)


@pytest.mark.parametrize('r', [1, 2])
@pytest.mark.parametrize('scan', [scan_tokens, partial(scan_chunks, chunk=4)])
def test_gradients_of_the_recurrence(r, scan):
    terms = make_terms(1, 2, 5, r, 2, 2)
    past = Past(torch.randn(1, 2, 2, 2).double(), torch.randn(1, 2, r, 2).double(), torch.randn(1, 2, r, 2).double())

    def run(q, k, v, log_decay, own, late, *past):
        y, past = scan(Terms(q, k, v, terms.mask, log_decay, own, late), Past(*past))
        return y, *past
    values = [t.requires_grad_() for t in (*terms[:3], *terms[4:], *past)]
    assert torch.autograd.gradcheck(run, values)


def test_gradients_of_the_layer():
    mixer = Mamba3(Mamba3Config(width=4, state=4, head=4, rank=2, out_norm=True, chunk=4)).double()
    names, values = zip(*mixer.named_parameters())

    def run(x, *values): return torch.func.functional_call(mixer, dict(zip(names, values)), (x, real(x)))
    assert torch.autograd.gradcheck(run, [torch.randn(1, 4, 4).double().requires_grad_(), *values])


@pytest.mark.parametrize('rotate', [rotate_neighbours, rotate_halves])
def test_turning_keeps_what_only_the_difference_may_change(rotate):
    q, k = torch.randn(2, 5, 8, dtype=torch.float64)
    angle = torch.rand(5, 3, dtype=torch.float64)
    scores = (rotate(q, angle + 1) * rotate(k, angle)).sum(-1)
    assert gap((rotate(q, angle + 3) * rotate(k, angle + 2)).sum(-1), scores) < 1e-12


# --- masks and caches -----------------------------------------------------------------------------

def spread_out(x, places, total):
    "Rows with padding between the tokens, which holds what must not be heard, and the mask."
    padded = torch.full((len(x), total, x.shape[2]), torch.nan, dtype=x.dtype)
    padded[:, places] = x
    mask = torch.zeros(len(x), total, dtype=torch.bool)
    mask[:, places] = True
    return padded, mask


PLACES = {'left': range(9, 41), 'right': range(32), 'both sides': range(5, 37),
          'holes': [*range(2, 17), *range(19, 36)], 'whole chunks': range(16, 48)}


@every_kind
@pytest.mark.parametrize('where', PLACES)
@torch.no_grad()
def test_padding_leaves_no_trace(kind, where):
    mixer, x, places = make(kind), torch.randn(2, 32, D, dtype=torch.float64), list(PLACES[where])
    padded, mask = spread_out(x, places, 48)
    for scan in (scan_tokens, partial(scan_chunks, chunk=16)):
        want, end = mixer.mix(x, real(x), None, scan)
        y, behind = mixer.mix(padded, mask, None, scan)
        assert gap(y[:, places], want) <= 1e-12
        for a, b in zip(behind, end, strict=True): assert gap(a, b) <= 1e-12
        assert y.isfinite().all()


@every_kind
@torch.no_grad()
def test_padding_is_an_exact_no_op_of_the_recurrence(kind):
    "Not one bit of the memory changes."
    mixer, x = make(kind), torch.randn(2, 7, D, dtype=torch.float64)
    _, before = mixer.step(x)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    for scan in (scan_tokens, partial(scan_chunks, chunk=16)):
        _, after = mixer.mix(torch.full((2, 5, D), torch.inf, dtype=torch.float64), nothing, before, scan)
        for a, b in zip(after[1:], before[1:], strict=True): assert torch.equal(a, b)
        assert gap(after.angle, before.angle) < 1e-14


def test_padding_has_no_gradient():
    mixer, x = make(MIMO), torch.randn(2, 20, D, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 20) < .6
    mixer(x, mask)[mask].sum().backward()
    assert (x.grad[~mask] == 0).all() and (x.grad[mask] != 0).any(-1).all()


@every_kind
@torch.no_grad()
def test_resumed(kind):
    "A cache goes on where it stands, whatever form made it and wherever the cut is."
    mixer, x = make(kind), torch.randn(2, 40, D, dtype=torch.float64)
    want, end = mixer.mix(x, real(x), None, scan_tokens)
    for at in (1, 16, 39):
        first, cache = mixer.step(x[:, :at])
        second, cache = mixer.step(x[:, at:], cache)
        assert gap(torch.cat([first, second], 1), want) <= 1e-10
        for a, b in zip(cache, end, strict=True): assert gap(a, b) <= 1e-10


@torch.no_grad()
def test_resumed_behind_padding():
    "Rows of unequal length go on together."
    mixer, x = make(SISO), torch.randn(2, 30, D, dtype=torch.float64)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 12:] = False
    _, cache = mixer.step(x[:, :20].masked_fill(~mask[..., None], 9), None, mask)
    y, _ = mixer.step(x[:, 20:], cache)
    assert gap(y[0], mixer(x[:1], real(x[:1]))[0, 20:]) < 1e-10
    alone = torch.cat([x[1:, :12], x[1:, 20:]], 1)
    assert gap(y[1], mixer(alone, real(alone))[0, 12:]) < 1e-10


@torch.no_grad()
def test_both_directions():
    "In an encoder half of the heads are those of a causal layer, and the other half of one that reads backward."
    mixer, x = make(FULL | {'groups': 1}, causal=False), torch.randn(2, 37, D, dtype=torch.float64)
    mixer.out_proj = nn.Identity()
    causal = make(FULL | {'groups': 1})
    causal.load_state_dict(mixer.state_dict(), strict=False)
    causal.out_proj = nn.Identity()
    forth, back = causal(x, real(x)), causal(x.flip(1), real(x)).flip(1)
    half = forth.shape[2] // 2
    assert gap(mixer(x, real(x)), torch.cat([forth[..., :half], back[..., half:]], 2)) < 1e-12
    padded, mask = spread_out(x, list(range(4, 41)), 50)
    assert gap(mixer(padded, mask)[:, 4:41], mixer(x, real(x))) < 1e-12


# --- precision ------------------------------------------------------------------------------------

@torch.no_grad()
def test_float32_over_2048_tokens():
    mixer = Mamba3(Mamba3Config(width=32, state=16, head=16))
    x = torch.randn(1, 2048, 32)
    y, cache = mixer.step(x)
    want, end = mixer.double().step(x.double())
    assert gap(y, want) <= 3e-6 and gap(cache.state, end.state) <= 3e-6


@pytest.mark.faults
@torch.no_grad()
def test_float32_token_by_token_over_2048_tokens():
    mixer = Mamba3(Mamba3Config(width=32, state=16, head=16))
    x = torch.randn(1, 2048, 32)
    y = mixer.mix(x, real(x), None, scan_tokens)[0]
    assert gap(y, mixer.double()(x.double(), real(x))) <= 3e-6


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    "Memory, decays and angles stay in float32; what is lost is the rounding of the matrices around them."
    mixer = Mamba3(Mamba3Config(width=32, state=16, head=16))
    x = torch.randn(2, 200, 32)
    want = mixer(x, real(x))
    with torch.autocast('cpu', dtype):
        y, cache = mixer.step(x)
    assert y.dtype == dtype and cache.state.dtype == torch.float32
    assert gap(y.float(), want) < (2e-3 if dtype == torch.float16 else 2e-2)
    y.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in mixer.parameters())


@torch.no_grad()
def test_absurd_inputs_do_not_overflow():
    mixer = Mamba3(Mamba3Config(width=32, state=16, head=16))
    for size in (0, 1e-20, 1e4, 1e6):
        y, cache = mixer.step(size * torch.randn(1, 150, 32))
        assert y.isfinite().all() and cache.state.isfinite().all()


# --- faults of the official code ------------------------------------------------------------------

@every_kind
@torch.no_grad()
def test_step_differs_from_forward_issue_1024(kind):
    mixer, x = make(kind), torch.randn(1, 20, D, dtype=torch.float64)
    assert gap(step_through(mixer, x)[0], mixer(x, real(x))) <= 1e-10


@pytest.mark.parametrize('heads, l', [(3, 5), (6, 7), (5, 1), (7, 66)])
def test_backward_with_sizes_that_are_no_multiples_of_four_issue_886(heads, l):
    mixer = make(SISO, heads)
    x = torch.randn(1, l, 4 * heads, dtype=torch.float64)
    ours = differentiate(mixer, lambda x: mixer.mix(x, real(x), None, partial(scan_chunks, chunk=16)), x)
    want = differentiate(mixer, lambda x: mixer.mix(x, real(x), None, scan_tokens), x)
    for a, b in zip(ours, want, strict=True): assert a.isfinite().all() and gap(a, b) <= 1e-10


@pytest.mark.parametrize('kind', [MIMO, MIMO_FULL])
def test_one_token_with_several_keys_issue_985(kind):
    mixer, x = make(kind), torch.randn(2, 1, D, dtype=torch.float64, requires_grad=True)
    y = mixer(x, real(x))
    assert gap(y, mixer.step(x)[0]) <= 1e-12
    y.sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).any()


@pytest.mark.parametrize('groups', [1, 2, 3, 6])
@pytest.mark.parametrize('rank', [1, 2])
@torch.no_grad()
def test_decoding_is_right_for_any_number_of_groups(groups, rank):
    mixer, x = make({'groups': groups, 'rank': rank}), torch.randn(1, 12, D, dtype=torch.float64)
    assert gap(step_through(mixer, x)[0], mixer(x, real(x))) <= 1e-10


# --- faults of the design's reference code --------------------------------------------------------

@torch.no_grad()
def test_it_is_a_state_space_model():
    """What one token writes fades by the product of the decays between, turns with the angle, and is heard far away.

    The reference's layer was none. Here the weight of each pair of tokens is taken from the closed form."""
    terms = make_terms(1, 1, 300, 1, 4, 3)
    terms = terms._replace(log_decay=.02 * terms.log_decay)
    y, _ = scan_chunks(terms, make_empty_past(terms), 64)
    sums, own, late = terms.log_decay.cumsum(2)[0, 0], terms.own[0, 0], terms.late[0, 0]
    ahead = torch.cat([late[1:], late.new_zeros(1)])
    weight = (sums[:, None] - sums).exp().tril(-1) * (own + ahead) + torch.diag(own)
    q, k, v = (t[0, 0, :, 0] for t in terms[:3])
    assert gap(y[0, 0, :, 0], (q @ k.T * weight) @ v) < 1e-12
    assert weight[-1, 0] > .01   # the first token is heard by the last


def test_padding_is_masked():
    "The reference had no mask: a batch of rows of unequal length changed what each of them said."
    lm = Mamba3LM(Mamba3LMConfig(vocabulary=9)).double()
    ids, mask = torch.randint(9, (2, 12)), torch.ones(2, 12, dtype=torch.bool)
    mask[0, :5] = False
    with torch.no_grad(): assert gap(lm.hidden(ids, mask)[0, 5:], lm.hidden(ids[:1, 5:])[0]) < 1e-12


def count_nodes(y) -> dict:
    "How often each kind of operation stands in the graph of a backward pass."
    todo, seen, kinds = [y.grad_fn], set(), {}
    while todo:
        node = todo.pop()
        if node is None or node in seen: continue
        seen.add(node)
        kinds[node.name()] = kinds.get(node.name(), 0) + 1
        todo += [after for after, _ in node.next_functions]
    return kinds


def test_backward_is_linear_in_the_length():
    "The reference indexed the time axis in its loop, and each of these gradients was as large as the whole sequence."
    mixer = make(SISO)
    for scan in (scan_tokens, partial(scan_chunks, chunk=16)):
        few, many = (count_nodes(mixer.mix(x, real(x), None, scan)[0])
                     for x in (torch.randn(1, l, D).double() for l in (64, 128)))
        grown = {kind for kind in many if many[kind] > few.get(kind, 0) + 1}
        assert not {kind for kind in grown if 'Select' in kind or 'Slice' in kind or 'Index' in kind}, grown


# --- how it starts --------------------------------------------------------------------------------

def test_first_parameters():
    mixer = Mamba3(Mamba3Config(width=512, state=16, head=16, rank=4))
    steps = F.softplus(mixer.dt_bias)
    assert FIRST_STEPS[0] * .999 <= steps.min() and steps.max() <= FIRST_STEPS[1] * 1.001
    assert -6 < steps.log().mean() < -3.3   # log-uniform: the mean is log .01 = -4.6
    for name, value in {'B_bias': 1, 'C_bias': 1, 'D': 1, 'mimo_x': .25, 'mimo_o': .25, 'mimo_z': 1}.items():
        assert (getattr(mixer, name) == value).all(), name
    assert mixer.in_proj.bias is None and mixer.out_proj.bias is None
    c = mixer.config
    assert mixer.in_proj.out_features == 2 * 1024 + 2 * 16 * c.groups * c.rank + 3 * c.heads + c.angles


@pytest.mark.parametrize('mlp, added', [(0, 3), (96, 6)])
def test_first_parameters_of_a_language_model(mlp, added):
    torch.manual_seed(0)
    lm = Mamba3LM(Mamba3LMConfig(vocabulary=500, mlp=mlp))
    assert abs(lm.tokens.weight.std() - .02) < .001
    out = lm.blocks[0].mixer.out_proj.weight
    assert abs(out.abs().max() * added ** .5 - out.shape[1] ** -.5) < .01 * out.shape[1] ** -.5


def test_steps_and_skip_do_not_decay():
    mixer = Mamba3(Mamba3Config(width=32, state=16, head=16, rank=2))
    learned = dict(mixer.named_parameters())
    groups = group_by_decay(learned, Phase(name='p', batch=print, loss=print, steps=1, lr=1., weight_decay=.1))
    names = {id(p): name for name, p in learned.items()}
    still = {names[id(p)] for group in groups if not group['weight_decay'] for p in group['params']}
    assert {'dt_bias', 'D'} <= still and not still & {'in_proj.weight', 'out_proj.weight'}


# --- in models ------------------------------------------------------------------------------------

@torch.no_grad()
def test_in_a_decoder():
    decoder = Decoder(DecoderConfig(vocabulary=50, embedding=16, width=32, heads=2, depth=2, mixer='mamba')).double()
    ids, condition = torch.randint(50, (2, 12)), F.normalize(torch.randn(2, 16).double(), dim=1)
    logits, states = read_context(decoder, ids[:, :5], condition)
    stepwise = [logits]
    for i in range(5, 11):
        logits, states = read_token(decoder, ids[:, i], states)
        stepwise.append(logits)
    assert gap(torch.stack(stepwise, 1), decoder(ids, condition)[:, 5:]) < 1e-10


def test_in_a_text_jepa():
    model = TextJEPA(TextJEPAConfig(rows=64, width=32, inner=32, mixer='mamba'))
    assert sum(isinstance(m, Mamba3) for m in model.modules()) == 2
    texts = ['add two numbers', 'a', '']
    together = model.encode(texts, side='words')
    for i, text in enumerate(texts): assert abs(together[i] - model.encode([text], side='words')[0]).max() < 1e-5


@pytest.mark.parametrize('mixer', MIXERS)
def test_a_language_model_of_any_mixer_learns(mixer):
    lm = MixerLM(20, 32, [Block(32, MIXERS[mixer](32, 4, causal=True)) for _ in range(2)])
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-2)
    ids = torch.randint(20, (4, 16))
    for _ in range(25):
        loss, counts = lm_loss(lm, {'ids': ids, 'labels': ids})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < .5 and counts['tokens'] == 60


@pytest.mark.parametrize('shape', [{}, {'rank': 2, 'mlp': 32}])
@torch.no_grad()
def test_writing_with_a_cache(shape):
    "Each new token is one token's work, and the text is that of whole passes."
    lm = Mamba3LM(Mamba3LMConfig(vocabulary=30, depth=2, **shape)).double().eval()
    lm.tokens.weight.mul_(50)
    ids, read = torch.randint(30, (2, 6)), []
    hook = lm.blocks[0].mixer.in_proj.register_forward_hook(lambda layer, args, y: read.append(y.shape[1]))
    written = continue_tokens(lm, ids, 20)
    assert read == [6] + 19 * [1]
    hook.remove()
    for i in range(20):
        want = lm.logits(lm.hidden(torch.cat([ids, written[:, :i]], 1))[:, -1]).argmax(-1)
        assert torch.equal(written[:, i], want)
    warm = Sampling(temperature=1.)
    assert torch.equal(continue_tokens(lm, ids, 9, warm, 3), continue_tokens(lm, ids, 9, warm, 3))
    assert continue_tokens(lm, ids, 0).shape == (2, 0)


def test_errors_say_what_must_hold():
    for wrong, words in [({'rank': 0}, 'rank must be at least 1'), ({'groups': 3}, 'must divide the heads'),
                         ({'head': 48}, 'multiple of the head'), ({'rope': .25}, 'rope must be'),
                         ({'state': 15}, 'state must be even'), ({'rope': 1}, 'rope must be float')]:
        with pytest.raises(UserError, match=words): Mamba3Config(**wrong)
    with pytest.raises(UserError, match='even if not causal, got 1'): make_mamba3(32, 1)
    with pytest.raises(UserError, match='only a causal'): make_mamba3(32, 2).step(torch.randn(1, 3, 32))


# --- parity ---------------------------------------------------------------------------------------

def test_parity_is_learned_by_a_memory_that_turns():
    turning, still = (measure_parity(learn_parity(rope), 16) for rope in (.5, 0.))
    assert turning.min() > .99
    assert still[8:].mean() < .6


@torch.no_grad()
def test_no_angles_are_angles_at_zero():
    "A layer without angles is the same layer with its angles held at zero."
    turning, x = make(SISO), torch.randn(1, 30, D, dtype=torch.float64)
    still = make({'rope': 0.})
    rows = turning.config.angles
    turning.in_proj.weight[-rows:] = 0
    still.load_state_dict(turning.state_dict() | {'in_proj.weight': turning.in_proj.weight[:-rows]})
    assert gap(turning(x, real(x)), still(x, real(x))) < 1e-12


# --- an independent implementation ----------------------------------------------------------------

def copy_to_jax(mixer: Mamba3):
    "The same layer in `mamba3-jax`, and how it is called: (x, cache) -> (y, cache)."
    jax = pytest.importorskip('jax', reason='needs shutka[oracle]')
    mamba3_jax, nnx = pytest.importorskip('mamba3_jax', reason='needs shutka[oracle]'), pytest.importorskip('flax.nnx')
    jax.config.update('jax_enable_x64', True)
    jax.config.update('jax_disable_most_optimizations', True)   # compiles in half of the time
    c = mixer.config
    theirs = mamba3_jax.Mamba3Mixer(mamba3_jax.Mamba3Config(
        hidden_size=c.width, state_size=c.state, head_dim=c.head, expand=c.expand, ngroups=c.groups, chunk_size=c.chunk,
        is_mimo=c.rank > 1, mimo_rank=c.rank, rope_fraction=c.rope, is_outproj_norm=c.out_norm), 0, rngs=nnx.Rngs(0))
    for name, p in mixer.named_parameters():
        *path, leaf = name.split('.')
        layer, value = theirs, p.detach().numpy()
        for step in path: layer = getattr(layer, step)
        if name in ('in_proj.weight', 'out_proj.weight'): leaf, value = 'kernel', value.T
        assert getattr(layer, leaf)[...].shape == value.shape, name
        setattr(layer, leaf, nnx.Param(jax.numpy.asarray(value)))   # in float64, which `[...] =` would round
    call = nnx.jit(lambda layer, x, cache: layer(x, cache_state=cache))
    return lambda x, cache: call(theirs, jax.numpy.asarray(x.numpy()), cache)


def check_oracle(kind, first=17, second=17):
    "Outputs and caches, from nothing and resumed."
    import numpy as np
    mixer = make(kind, heads=8)
    call, x = copy_to_jax(mixer), torch.randn(2, first + second, 32, dtype=torch.float64)
    c, cache = mixer.config, None
    theirs = tuple(np.zeros((2, *shape)) for shape in (
        (c.heads, c.angles), (c.heads, c.head, c.state), (c.rank, c.heads, c.state), (c.heads, c.head)))
    for part in x.split([first, second], dim=1):
        with torch.no_grad(): y, cache = mixer.step(part, cache)
        want, theirs = call(part, theirs)
        assert gap(y, torch.from_numpy(np.array(want))) <= 1e-6
        ours = cache._replace(k=cache.k.transpose(1, 2))   # theirs has the rank before the heads
        # An angle near 0 may be near 2 pi.
        assert gap(ours.angle.cos(), torch.from_numpy(np.array(theirs[0])).cos()) <= 1e-6
        for a, b in zip(ours[1:], theirs[1:], strict=True): assert gap(a, torch.from_numpy(np.array(b))) <= 1e-6


@pytest.mark.parametrize('rank, groups, rope', [(1, 4, .5), (2, 1, 1.)])
def test_equal_to_mamba3_jax(rank, groups, rope): check_oracle({'rank': rank, 'groups': groups, 'rope': rope})


@pytest.mark.faults
@pytest.mark.parametrize('rank', [1, 2, 4])
@pytest.mark.parametrize('groups', [1, 4])
@pytest.mark.parametrize('rope', [.5, 1.])
@pytest.mark.parametrize('out_norm', [False, True])
def test_equal_to_mamba3_jax_everywhere(rank, groups, rope, out_norm):
    check_oracle({'rank': rank, 'groups': groups, 'rope': rope, 'out_norm': out_norm}, 33, 33)

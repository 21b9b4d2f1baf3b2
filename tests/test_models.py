"""Laws of the parts of models: tokens hear each other in order, padding is not heard, steps are the whole.

Each law is a function that judges a mixer. Ours must pass; the same mixers with a known defect planted must fail."""
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from shutka.core.errors import UserError
from shutka.models import attention, ternary
from shutka.models.attention import GatedLinearAttention, SoftmaxAttention, scan, split_heads
from shutka.models.layers import Block, apply_rotary, count_positions, masked_mean
from shutka.models.ternary import PackedLinear, TernaryLinear, make_packed, make_ternary, pack_codes, unpack_codes

D, HEADS = 32, 4
MIXERS = [(kind, causal) for kind in (SoftmaxAttention, GatedLinearAttention) for causal in (False, True)]
every_mixer = pytest.mark.parametrize('kind, causal', MIXERS)
near = {'rtol': 0, 'atol': 1e-6}


@pytest.fixture(autouse=True)
def seed():
    torch.set_num_threads(2)
    torch.manual_seed(0)


def real(b, l): return torch.ones(b, l, dtype=torch.bool)


# --- the laws -------------------------------------------------------------------------------------

@torch.no_grad()
def tokens_are_heard(mixer, l=70, at=33):
    "A changed token moves exactly the outputs that may see it."
    x = torch.randn(1, l, D)
    other = x.clone()
    other[0, at] = torch.randn(D)
    moved = (mixer(other, real(1, l)) - mixer(x, real(1, l))).abs().amax(-1)[0]
    seen = torch.arange(l) >= at if mixer.causal else torch.ones(l).bool()
    assert (moved[~seen] == 0).all()
    assert (moved[seen] > 1e-6).all()


@torch.no_grad()
def order_matters(mixer):
    "Swapping two tokens changes the output of a third."
    x = torch.randn(1, 12, D)
    swapped = x[:, [0, 1, 5, 3, 4, 2, 6, 7, 8, 9, 10, 11]]
    assert ((mixer(swapped, real(1, 12)) - mixer(x, real(1, 12)))[0, 8:].abs().amax(-1) > 1e-4).all()


@torch.no_grad()
def padding_is_not_heard(mixer, l=50):
    "The outputs of real tokens are the same wherever padding stands, and beside other rows."
    x = torch.randn(1, l, D)
    alone = mixer(x, real(1, l))[0]
    for total in (64, 65, 128, 200):  # length buckets
        right, left, holes = torch.arange(l), torch.arange(l) + total - l, torch.randperm(total)[:l].sort().values
        batch, mask = 100 * torch.randn(4, total, D), torch.zeros(4, total, dtype=torch.bool)
        for row, places in enumerate((right, left, holes)): batch[row, places], mask[row, places] = x[0], True
        mask[3] = True
        y = mixer(batch, mask)
        for row in range(3): assert_close(y[row, mask[row]], alone, **near)


LAWS = [tokens_are_heard, order_matters, padding_is_not_heard]


@every_mixer
@pytest.mark.parametrize('law', LAWS)
def test_laws(law, kind, causal): law(kind(D, HEADS, causal))


@every_mixer
@pytest.mark.parametrize('law', LAWS)
def test_laws_in_a_block(law, kind, causal):
    block = Block(D, kind(D, HEADS, causal), scale=1)
    block.causal = causal
    law(block)


# --- planted defects: each law must notice --------------------------------------------------------

def across_heads(monkeypatch):
    "Scores (b, l, h, h): the heads of one token attend to each other."
    sdpa = F.scaled_dot_product_attention
    monkeypatch.setattr(F, 'scaled_dot_product_attention',
                        lambda q, k, v, attn_mask: sdpa(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2))

def no_rotary(monkeypatch): monkeypatch.setattr(attention, 'apply_rotary', lambda x, positions: x)

def rotary_across_heads(monkeypatch):
    "Positions along the wrong axis: every token is turned alike."
    def turn(x, positions): return apply_rotary(x.transpose(1, 2), torch.arange(x.shape[1])).transpose(1, 2)
    monkeypatch.setattr(attention, 'apply_rotary', turn)

def padding_seen(monkeypatch):
    def everything(mask, l, causal): return torch.ones(1, 1, l, mask.shape[1], dtype=torch.bool)
    monkeypatch.setattr(attention, 'make_visible_mask', everything)

def absolute_places(monkeypatch):
    "Positions that count padding."
    monkeypatch.setattr(attention, 'count_positions', lambda mask: torch.arange(mask.shape[1]).expand_as(mask))

def future_seen(monkeypatch):
    monkeypatch.setattr(attention, 'make_visible_mask', lambda mask, l, causal: mask[:, None, None])

@pytest.mark.parametrize('defect, law, causal', [
    (across_heads, tokens_are_heard, False), (across_heads, order_matters, False), (no_rotary, order_matters, False),
    (rotary_across_heads, order_matters, False), (padding_seen, padding_is_not_heard, False),
    (absolute_places, padding_is_not_heard, False), (future_seen, tokens_are_heard, True)])
def test_defects_of_softmax_attention_are_noticed(monkeypatch, defect, law, causal):
    mixer = SoftmaxAttention(D, HEADS, causal)
    law(mixer)
    defect(monkeypatch)
    with pytest.raises(AssertionError): law(mixer)


def padding_written(q, k, v, log_decay, state, chunk): return scan(q, v, v, log_decay, state, chunk)

def padding_fades(q, k, v, log_decay, state, chunk):
    return scan(q, k, v, log_decay.masked_fill(log_decay == 0, -1), state, chunk)

def no_decay(q, k, v, log_decay, state, chunk): return scan(q, k, v, 0 * log_decay, state, chunk)

def chunks_alone(q, k, v, log_decay, state, chunk):
    "The memory is not handed on: nothing is heard across the border at 64."
    chunks = [slice(i, i + chunk) for i in range(0, q.shape[2], chunk)]
    outputs = [scan(*(t[:, :, some] for t in (q, k, v, log_decay)), None, chunk)[0] for some in chunks]
    return torch.cat(outputs, 2), None

@pytest.mark.parametrize('defect, law, causal', [
    (padding_written, padding_is_not_heard, False), (padding_fades, padding_is_not_heard, False),
    (no_decay, order_matters, True), (chunks_alone, padding_is_not_heard, True)])
def test_defects_of_linear_attention_are_noticed(monkeypatch, defect, law, causal):
    mixer = GatedLinearAttention(D, HEADS, causal, chunk=16)
    law(mixer)
    monkeypatch.setattr(attention, 'scan', defect)
    with pytest.raises(AssertionError): law(mixer)


# --- softmax attention ----------------------------------------------------------------------------

@pytest.mark.parametrize('causal', [False, True])
def test_softmax_attention_is_the_formula(causal):
    "Scores (b, h, l, l), written out."
    mixer = SoftmaxAttention(D, HEADS, causal).double()
    x, mask = torch.randn(2, 9, D).double(), real(2, 9)
    mask[1, 6:] = False
    q, k, v = (split_heads(t, HEADS) for t in mixer.qkv(x).chunk(3, -1))
    q, k = (apply_rotary(t, count_positions(mask)[:, None]) for t in (q, k))
    scores = q @ k.mT / (D // HEADS) ** .5
    assert scores.shape == (2, HEADS, 9, 9)
    scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
    if causal: scores = scores.masked_fill(torch.ones(9, 9).bool().triu(1), -torch.inf)
    want = mixer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert_close(mixer(x, mask)[mask], want[mask], rtol=0, atol=1e-10)


def test_rotary_is_relative_and_keeps_precision_far_out():
    q, k = torch.randn(2, 5, 64)
    def scores(start): return apply_rotary(q, start + torch.arange(5)) @ apply_rotary(k, start + torch.arange(5)).T
    assert_close(scores(16_000), scores(0), rtol=0, atol=.02)
    assert_close(apply_rotary(q.half(), torch.arange(5)), apply_rotary(q, torch.arange(5)).half(), rtol=0, atol=.01)


# --- steps are the whole --------------------------------------------------------------------------

@torch.no_grad()
@pytest.mark.parametrize('kind', [SoftmaxAttention, GatedLinearAttention])
@pytest.mark.parametrize('l', [1, 2, 63, 64, 65, 130])
def test_step_equals_parallel(kind, l):
    mixer, x = kind(D, HEADS, causal=True).double(), torch.randn(2, l, D).double()
    want, state, outputs = mixer(x, real(2, l)), None, []
    for i in range(l):
        y, state = mixer.step(x[:, i:i + 1], state)
        outputs.append(y)
    assert_close(torch.cat(outputs, 1), want, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize('kind', [SoftmaxAttention, GatedLinearAttention])
@pytest.mark.parametrize('border', [1, 63, 64, 65, 99])
def test_prompt_with_padding_then_steps(kind, border):
    "A block takes prompts of unequal lengths, padded on either side, and goes on as if each stood alone."
    block = Block(D, kind(D, HEADS, causal=True)).double()
    x, mask = torch.randn(3, 100, D).double(), real(3, 100)
    mask[1, 70:] = False
    mask[2, :30] = False
    y, state = block.step(x[:, :border], None, mask[:, :border])
    outputs = [y]
    for i in range(border, 100):
        y, state = block.step(x[:, i:i + 1], state, mask[:, i:i + 1])
        outputs.append(y)
    assert_close(torch.cat(outputs, 1)[mask], block(x, mask)[mask], rtol=0, atol=1e-10)
    for row in range(3):
        alone = block(x[row:row + 1, mask[row]], real(1, int(mask[row].sum())))
        assert_close(torch.cat(outputs, 1)[row, mask[row]], alone[0], rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('l', [1, 63, 64, 65, 127, 129])
def test_chunk_size_does_not_matter(causal, l):
    mixer = GatedLinearAttention(D, HEADS, causal).double()
    x, mask = torch.randn(2, l, D).double(), torch.rand(2, l) < .8
    want = None
    for mixer.chunk in (1, 7, 64, 128):
        y = mixer(x, mask)
        want = y if want is None else want
        assert_close(y, want, rtol=0, atol=1e-10)


@torch.no_grad()
def test_linear_state_keeps_its_size():
    mixer, state, sizes = GatedLinearAttention(D, HEADS, causal=True), None, set()
    for l in (1, 200, 1):
        _, state = mixer.step(torch.randn(2, l, D), state)
        sizes.add(tuple(state.shape))
    assert sizes == {(2, HEADS, D // HEADS, D // HEADS)}


# --- safe numbers ---------------------------------------------------------------------------------

@every_mixer
def test_rows_of_padding_give_no_nan(kind, causal):
    mixer, mask = kind(D, HEADS, causal), real(3, 70)
    mask[0], mask[1, :40] = False, False
    x = torch.randn(3, 70, D, requires_grad=True)
    y = mixer(x, mask)
    y[mask].square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all() and (x.grad[~mask] == 0).all()
    assert all(p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.parametrize('bias', [-200., -20., 0., 20., 200.])
def test_decays_of_any_size_are_safe(bias):
    "From forgetting everything at once to forgetting nothing, over many chunks."
    mixer = GatedLinearAttention(D, HEADS, causal=True)
    nn.init.constant_(mixer.decay.bias, bias)
    x = torch.randn(1, 500, D, requires_grad=True)
    y = mixer(x, real(1, 500))
    y.square().sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all() and mixer.decay.bias.grad.isfinite().all()
    assert_close(y, mixer.double()(x.double(), real(1, 500)).float(), rtol=0, atol=1e-5)


@every_mixer
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast(kind, causal, dtype):
    block, x = Block(D, kind(D, HEADS, causal), scale=1), 30 * torch.randn(2, 300, D)
    want = block(x, real(2, 300))
    with torch.autocast('cpu', dtype=dtype): y = block(x, real(2, 300))
    y.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in block.parameters())
    assert (y - want).norm() / want.norm() < (.005 if dtype == torch.float16 else .05)


def test_linear_sums_beyond_float16_survive_autocast():
    "A head that forgets nothing adds up 2,000 equal tokens; in float16 the sum would stand still or overflow."
    mixer = GatedLinearAttention(D, HEADS, causal=True)
    nn.init.constant_(mixer.decay.bias, 30.)
    x = 20 * torch.ones(1, 2_000, D)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.float16): y, state = mixer.step(x)
    assert state.dtype == torch.float32 and state.abs().max() > 65_504 and y.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize('causal', [False, True])
def test_sixteen_thousand_tokens(causal):
    mixer = GatedLinearAttention(D, HEADS, causal)
    assert mixer(torch.randn(1, 16_384, D), real(1, 16_384)).isfinite().all()


def test_linear_attention_learns_through_its_decays():
    mixer = GatedLinearAttention(D, HEADS)
    mixer(torch.randn(2, 70, D), real(2, 70)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mixer.parameters())


def test_training_is_linear_in_the_length():
    "The loop over chunks must not index: each index would have a gradient as large as the whole, so l^2 in total."
    def indexed(l):
        todo, seen = [GatedLinearAttention(D, HEADS)(torch.randn(1, l, D), real(1, l)).grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen: continue
            seen.add(node)
            todo += [parent for parent, _ in node.next_functions]
        return sum(node.name().startswith(('Select', 'Slice', 'Index')) for node in seen)
    assert indexed(64 * 12) == indexed(64 * 4)


# --- layers ---------------------------------------------------------------------------------------

@every_mixer
@torch.no_grad()
def test_fresh_blocks_are_nearly_the_identity(kind, causal):
    x = y = torch.randn(2, 40, D)
    for _ in range(6): y = Block(D, kind(D, HEADS, causal))(y, real(2, 40))
    assert 0 < (y - x).norm() / x.norm() < .3


def test_masked_mean():
    x, mask = torch.randn(3, 7, D), torch.rand(3, 7) < .6
    mask[2] = False
    weight = torch.rand(3, 7)
    for row in range(2):
        assert_close(masked_mean(x, mask)[row], x[row, mask[row]].mean(0))
        w = weight[row, mask[row]]
        assert_close(masked_mean(x, mask, weight)[row], (w[:, None] * x[row, mask[row]]).sum(0) / w.sum())
    assert (masked_mean(x, mask, weight)[2] == 0).all()
    assert_close(masked_mean(x, mask, 1e-9 * weight), masked_mean(x, mask, weight))


def test_padding_does_not_make_texts_alike():
    "The reference gave two unrelated texts, padded to 128 tokens, a cosine of 0.997."
    embedding, block = torch.randn(100, D), Block(D, SoftmaxAttention(D, HEADS))
    tokens, mask = torch.zeros(2, 128, dtype=torch.long), torch.zeros(2, 128, dtype=torch.bool)
    tokens[0, :5], tokens[1, :5], mask[:, :5] = torch.arange(1, 6), torch.arange(50, 55), True
    x = embedding[tokens]
    assert F.cosine_similarity(*masked_mean(block(x, mask), mask), dim=0) < .6
    unmasked = masked_mean(block(x, real(2, 128)), real(2, 128))
    assert F.cosine_similarity(*unmasked, dim=0) > .9


# --- ternary --------------------------------------------------------------------------------------

def weights_are_ternary(weight):
    codes, scale = ternary.quantize_ternary(weight)
    assert set(codes.unique().tolist()) == {-1, 0, 1}
    x = torch.randn(64, weight.shape[1])
    return ((x @ (weight - codes * scale).T).norm() / (x @ weight.T).norm()).item()

def test_ternary_has_zeros_and_a_smaller_error():
    "Uniform weights (what nn.Linear begins with): .39 against .50 for signs; Gaussian ones: .51 against .60."
    assert weights_are_ternary(torch.rand(256, 256) * 2 - 1) == pytest.approx(.395, abs=.01)
    assert weights_are_ternary(torch.randn(256, 256)) == pytest.approx(.513, abs=.01)

def test_signs_only_are_noticed(monkeypatch):
    monkeypatch.setattr(ternary, 'quantize_ternary', lambda w: (w.sign(), w.abs().mean()))
    with pytest.raises(AssertionError): weights_are_ternary(torch.randn(256, 256))


@pytest.mark.parametrize('o, i', [(1, 1), (3, 5), (7, 4), (16, 63)])
def test_pack_round_trip(o, i):
    codes = torch.randint(-1, 2, (o, i))
    packed = pack_codes(codes.float())
    assert packed.dtype == torch.uint8 and packed.shape == (o, -(-i // 4))
    assert torch.equal(unpack_codes(packed, i), codes.to(torch.int8))


def test_ternary_layer_computes_with_its_codes():
    layer, x = TernaryLinear(16, 8), torch.randn(5, 16)
    codes, scale = ternary.quantize_ternary(layer.weight)
    inputs, steps = ternary.quantize_int8(x)
    assert set((layer.weight.detach() / scale).round().clamp(-1, 1).unique().tolist()) <= {-1., 0., 1.}
    assert_close(layer(x), inputs @ codes.T * steps * scale + layer.bias)
    assert (layer(x) - F.linear(x, layer.weight, layer.bias)).abs().max() > .01  # rounding is really on
    assert inputs.abs().max() == 127 and torch.equal(inputs, inputs.round())


def test_straight_through_gradients():
    layer, x = TernaryLinear(16, 8), torch.randn(5, 16, requires_grad=True)
    layer(x).sum().backward()
    codes, scale = ternary.quantize_ternary(layer.weight)
    inputs, steps = ternary.quantize_int8(x)
    assert_close(layer.weight.grad, (inputs * steps).sum(0).expand(8, 16))
    assert_close(x.grad, (codes * scale).sum(0).expand(5, 16))
    for quantize in (ternary.quantize_int8, ternary.quantize_ternary):
        assert quantize(torch.zeros(2, 4))[0].isfinite().all()


@torch.no_grad()
def test_quantized_tokens_do_not_hear_their_neighbours():
    layer, x = TernaryLinear(16, 8), torch.randn(5, 16)
    loud = torch.cat([x, 1e4 * torch.randn(3, 16)])
    assert_close(layer(loud)[:5], layer(x), **near)


class Tiny(nn.Module):
    def __init__(self, kind, causal):
        super().__init__()
        self.embed = nn.Embedding(50, D)
        self.blocks = nn.ModuleList(Block(D, kind(D, HEADS, causal)) for _ in range(2))
        self.head = nn.Linear(D, 50)

    def forward(self, tokens, mask):
        x = self.embed(tokens)
        for block in self.blocks: x = block(x, mask)
        return self.head(x)

PATTERN = r'(qkv|gate|inner|out)$'

@every_mixer
def test_packed_model_gives_bitwise_the_same_logits(kind, causal):
    tokens, mask = torch.randint(0, 50, (2, 20)), torch.rand(2, 20) < .8
    model = Tiny(kind, causal)
    parameters = dict(model.named_parameters())
    full = model(tokens, mask)
    names = make_ternary(model, PATTERN)
    assert len(names) == 2 * (4 if kind is SoftmaxAttention else 5)
    assert all(p is parameters[n] for n, p in model.named_parameters())  # same objects: an optimizer goes on
    want = model(tokens, mask)
    assert not torch.equal(want, full)

    make_packed(model)
    assert torch.equal(model(tokens, mask), want)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file)
    for name in names:
        assert f'{name}.weight' not in state
        layer = model.get_submodule(name)
        assert isinstance(layer, PackedLinear) and 8 * state[f'{name}.packed'].nbytes == 2 * layer.weight.numel()

    fresh = Tiny(kind, causal)
    make_ternary(fresh, PATTERN)
    make_packed(fresh)
    assert not torch.equal(fresh(tokens, mask), want)
    fresh.load_state_dict(state, strict=True)
    assert torch.equal(fresh(tokens, mask), want)


def test_ternary_model_trains():
    model = Tiny(GatedLinearAttention, True)
    make_ternary(model, PATTERN)
    optimizer = torch.optim.Adam(model.parameters(), lr=.01)
    tokens = torch.randint(0, 50, (4, 17))
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(tokens[:, :-1], real(4, 16)).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@torch.no_grad()
def test_laws_hold_with_ternary_layers():
    for kind, causal in MIXERS:
        mixer = kind(D, HEADS, causal)
        make_ternary(mixer, PATTERN)
        order_matters(mixer)
        x, mask = torch.randn(1, 20, D), real(1, 20)
        padded = torch.cat([x, 100 * torch.randn(1, 9, D)], 1)
        assert_close(mixer(padded, F.pad(mask, (0, 9)))[:, :20], mixer(x, mask), rtol=0, atol=1e-5)


def test_refusals():
    with pytest.raises(UserError, match='must match'): make_ternary(nn.Sequential(nn.Linear(2, 2)), 'nothing')
    with pytest.raises(UserError, match='got 3 heads'): GatedLinearAttention(30, 3)
    with pytest.raises(UserError, match='got 30 and 6'): SoftmaxAttention(30, 6)
    for kind in (SoftmaxAttention, GatedLinearAttention):
        with pytest.raises(UserError, match='causal'): kind(D, HEADS).step(torch.randn(1, 1, D))


def test_a_mean_over_thousands_of_words_does_not_overflow_in_16_bits():
    from shutka.models.layers import masked_mean
    with torch.autocast('cpu', torch.float16):
        mask, weight = torch.ones(1, 4096, dtype=torch.bool), torch.full((1, 4096), 6.)
        mean = masked_mean(torch.full((1, 4096, 8), 4.), mask, weight)
    assert torch.allclose(mean.float(), torch.full((1, 8), 4.), atol=.02)

"""Less memory, the same numbers: micro-batches and blocks that run twice, in 16 bits, and with two processes.

Run as a script, this file is the child process of its own test: `test_recompute.py FOLDER`.
"""
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small import SMALL
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from shutka.core.errors import UserError
from shutka.models.jepa import info_nce
from shutka.models.layers import Block
from shutka.models.recompute import MicroBatches, recompute_blocks
from shutka.models.text_jepa import TextJEPA

CHILD = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent.parent),
         'OMP_WAIT_POLICY': 'passive', 'GOMP_SPINCOUNT': '0'}


@pytest.fixture(autouse=True)
def one_thread(): torch.set_num_threads(1)


def jepa():
    torch.manual_seed(0)
    return TextJEPA(SMALL)

def texts(rows=10, seed=0):
    "Ids of words and bodies, with padding at the ends of rows."
    g = torch.Generator().manual_seed(seed)
    def some(longest):
        ids = torch.randint(1, SMALL.rows, (rows, longest), generator=g)
        return ids.masked_fill(torch.arange(longest) >= torch.randint(1, longest + 1, (rows, 1), generator=g), 0)
    return {'words': some(SMALL.source), 'code': some(SMALL.target)}

def learned(model, inner, batch, autocast=False):
    "Loss, and gradient of each parameter."
    inner.zero_grad()
    torch.manual_seed(1)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast): loss = info_nce(*model(**batch))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in inner.named_parameters()}


@pytest.mark.parametrize('n', [1, 2, 4, 10, 99])
def test_micro_batches_of_a_text_jepa_have_the_same_loss_and_gradient(n):
    model = jepa()
    assert_close(learned(MicroBatches(model, n), model, texts()), learned(model, model, texts()), rtol=1e-4, atol=1e-6)

def test_micro_batches_in_bfloat16():
    model = jepa()
    (a, ga), (b, gb) = learned(MicroBatches(model, 4), model, texts(), True), learned(model, model, texts(), True)
    assert a == pytest.approx(b, rel=.01)
    for name in ga: assert (ga[name] - gb[name]).norm() <= .05 * gb[name].norm() + 1e-6, name

def test_the_number_of_micro_batches_may_change_between_steps():
    model = jepa()
    wrapped = MicroBatches(model, 1)
    results = []
    for n in (1, 4, 2):
        wrapped.n = n
        results.append(learned(wrapped, model, texts()))
    for r in results[1:]: assert_close(r, results[0], rtol=1e-4, atol=1e-6)

def test_micro_batches_of_blocks_that_are_recomputed():
    model, plain = jepa(), jepa()
    assert recompute_blocks(model, Block) == SMALL.x_depth + SMALL.y_depth
    assert_close(learned(MicroBatches(model, 3), model, texts()), learned(plain, plain, texts()), rtol=1e-4, atol=1e-6)

@pytest.mark.parametrize('autocast', [False, True])
def test_blocks_recomputed_are_the_same_to_the_last_bit(autocast):
    model, plain = jepa(), jepa()
    recompute_blocks(model, Block)
    (a, ga), (b, gb) = learned(model, model, texts(), autocast), learned(plain, plain, texts(), autocast)
    assert a == b and all(torch.equal(ga[name], gb[name]) for name in gb)

def test_a_model_with_recomputed_blocks_is_saved_copied_and_used_as_before():
    model, plain = jepa(), jepa()
    recompute_blocks(model, Block)
    twin = deepcopy(model)
    with torch.no_grad(): model.x_encoder.blocks[0].mlp.out.weight.zero_()  # the copy calls its own blocks
    assert list(twin.state_dict()) == list(plain.state_dict())
    twin.load_state_dict(plain.state_dict(), strict=True)
    with torch.no_grad(): assert_close(twin.eval()(**texts()), plain.eval()(**texts()), rtol=0, atol=0)
    a, b = learned(twin, twin, texts()), learned(plain, plain, texts())
    assert a[0] == b[0] and torch.equal(a[1]['narrow.weight'], b[1]['narrow.weight'])


class Dropping(nn.Module):
    "What comes out shows the dropout mask, what comes back shows the mask of the backward pass."
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64))
    def forward(self, x): return nn.functional.dropout(self.weight * x, .5)

@pytest.mark.parametrize('wrap', [lambda m: MicroBatches(m, 2), lambda m: recompute_blocks(m, Dropping) and m])
def test_dropout_is_the_same_when_it_is_computed_again(wrap):
    inner = Dropping()
    out = wrap(inner)(torch.ones(4, 64))
    out.sum().backward()
    assert torch.equal(inner.weight.grad, out.detach().sum(0)) and 0 < (out == 0).sum() < 256

@pytest.mark.parametrize('model', [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))])
def test_batch_norm_is_refused_while_it_trains(model):
    x = torch.zeros(4, 3)
    with pytest.raises(UserError, match='no BatchNorm in training mode, got 1'): MicroBatches(model, 2)(x)
    assert MicroBatches(model, 1)(x).shape == MicroBatches(model.eval(), 2)(x).shape == (4, 3)

def test_what_cannot_be_put_together_is_refused():
    class Mean(nn.Module):
        def forward(self, x): return x.mean()
    with pytest.raises(UserError, match=r'got shape \(\) for 2 rows'): MicroBatches(Mean(), 2)(torch.zeros(4, 3))
    with pytest.raises(UserError, match='at least 1, got 0'): MicroBatches(Mean(), 0)
    with pytest.raises(UserError, match='got \\[\\]'): MicroBatches(Mean(), 2)(3)

def test_outputs_of_transformers_keep_their_class():
    transformers = pytest.importorskip('transformers')
    GPT2Config, GPT2LMHeadModel = transformers.GPT2Config, transformers.GPT2LMHeadModel
    config = GPT2Config(vocab_size=50, n_positions=8, n_embd=16, n_layer=1, n_head=2, use_cache=False)
    model = GPT2LMHeadModel(config).eval()
    ids = torch.randint(0, 50, (5, 8), generator=torch.Generator().manual_seed(0))
    assert_close(MicroBatches(model, 2)(input_ids=ids, attention_mask=None).logits, model(ids).logits)


# Two processes

def half(rank): return {side: ids[rank::2] for side, ids in texts().items()}

def gloo_child(folder):
    "Gradients of DDP around two micro-batches; each bucket must be exchanged once."
    dist.init_process_group('gloo')
    model, exchanged = jepa(), []
    ddp = DistributedDataParallel(MicroBatches(model, 2), broadcast_buffers=False)
    def counted(state, bucket):
        exchanged.append(bucket.index())
        mean = dist.all_reduce(bucket.buffer() / dist.get_world_size(), async_op=True)
        return mean.get_future().then(lambda f: f.value()[0])
    ddp.register_comm_hook(None, counted)
    for step in range(2):
        exchanged.clear()
        loss, gradients = learned(ddp, model, half(dist.get_rank()))
    assert len(exchanged) == len(set(exchanged)), exchanged
    if dist.get_rank() == 0: torch.save((loss, gradients), folder/'two.pt')
    dist.barrier()
    os._exit(0)   # gloo's threads would outlive Python, and abort

def test_two_processes_in_micro_batches_are_one_whole(tmp_path):
    launch = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone']
    done = subprocess.run([*launch, __file__, str(tmp_path)], env=CHILD, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    _, gradients = torch.load(tmp_path/'two.pt', weights_only=True)
    whole = jepa()
    assert_close(gradients, learned(whole, whole, texts())[1], rtol=1e-4, atol=1e-6)


if __name__ == '__main__':
    torch.set_num_threads(1)
    gloo_child(Path(sys.argv[1]))

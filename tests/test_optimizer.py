"""Optimizer state that comes back to the last bit: through files, in 8 bits, from several processes to one and back.

Run as a script, this file is the child process of its own test: `test_optimizer.py save|load FOLDER`.
"""
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from shutka.core.errors import UserError
from shutka.train.checkpoint import load_checkpoint, save_checkpoint
from shutka.train.optimizer import (
    OPTIMIZERS,
    make_adamw,
    make_optimizer,
    measure_state,
    pack_optimizer,
    select_learners,
    unpack_optimizer,
)
from shutka.train.phase import Phase
from shutka.train.weights import pack_model, unpack_model

CHILD = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent.parent), 'OMP_WAIT_POLICY': 'passive',
         'GOMP_SPINCOUNT': '0'}
PHASE = Phase(name='all', batch=print, loss=print, lr=.01, steps=10, weight_decay=.1)
both = pytest.mark.parametrize('kind', OPTIMIZERS)


@pytest.fixture(autouse=True)
def one_thread(): torch.set_num_threads(1)


def net(seed=0):
    "Two matrices large enough for 8 bits, two that are not."
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 96), nn.Tanh(), nn.Linear(96, 96), nn.LayerNorm(96), nn.Linear(96, 50), nn.Tanh(),
                         nn.Linear(50, 2))

def step(model, optimizer, n):
    optimizer.zero_grad()
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(n))
    model(x).sub(x[:, :2] ** 2).square().mean().backward()
    optimizer.step()

def start(kind, seed=0, phase=PHASE):
    model = net(seed)
    return model, make_optimizer(select_learners(model, phase), phase, kind)

def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


@both
@pytest.mark.parametrize('steps', [0, 1, 7])
def test_resume_through_files_is_exact(tmp_path, kind, steps):
    model, optimizer = start(kind)
    for n in range(steps): step(model, optimizer, n)
    save_checkpoint(tmp_path, steps, {'model': pack_model(model), 'optimizer': pack_optimizer(optimizer, model)}, {})
    other, twin = start(kind, seed=1)
    found = load_checkpoint(tmp_path)
    unpack_model(found.tensors('model'), other)
    unpack_optimizer(found.tensors('optimizer'), twin, other)
    assert same(pack_optimizer(twin, other), pack_optimizer(optimizer, model))
    for n in range(steps, steps + 3):
        step(model, optimizer, n), step(other, twin, n)
        assert same(pack_model(model), pack_model(other))

@both
def test_to_restore_moves_nothing_and_leaves_no_gradients(kind):
    model, optimizer = start(kind)
    step(model, optimizer, 0)
    packed, weights = pack_optimizer(optimizer, model), pack_model(model)
    for group in optimizer.param_groups: group['lr'] = .5
    step(model, optimizer, 1)
    unpack_model(weights, model)
    unpack_optimizer(packed, optimizer, model)  # also over a state that is there already
    assert same(pack_model(model), weights) and same(pack_optimizer(optimizer, model), packed)
    assert all(group['lr'] == .5 for group in optimizer.param_groups)
    assert all(p.grad is None for p in model.parameters())
    unpack_optimizer({}, optimizer, model)
    assert not optimizer.state

@both
def test_only_those_that_learn_have_state(kind):
    model, optimizer = start(kind, phase=replace(PHASE, learn='^2'))
    step(model, optimizer, 0)
    packed = pack_optimizer(optimizer, model)
    assert {key.partition('/')[2] for key in packed} == {'2.weight', '2.bias'}
    all_of_it, everything = start(kind)
    with pytest.raises(UserError, match='lacks'): unpack_optimizer(packed, everything, all_of_it)

def test_state_of_another_optimizer_is_refused():
    for kind, other in (('adamw', 'adamw8bit'), ('adamw8bit', 'adamw')):
        model, optimizer = start(kind)
        step(model, optimizer, 0)
        twin, fresh = start(other)
        with pytest.raises(UserError, match='lacks'): unpack_optimizer(pack_optimizer(optimizer, model), fresh, twin)

def test_eight_bits_take_two_bytes_a_weight_and_learn_as_well():
    losses = {}
    for kind in OPTIMIZERS:
        model, optimizer = start(kind)
        for n in range(60): step(model, optimizer, n)
        x = torch.randn(200, 8, generator=torch.Generator().manual_seed(99))
        losses[kind] = model(x).sub(x[:, :2] ** 2).square().mean().item()
    assert losses['adamw8bit'] == pytest.approx(losses['adamw'], rel=.1)
    large, small = 96 * 96 + 50 * 96, sum(p.numel() for p in model.parameters()) - 96 * 96 - 50 * 96
    # codes, largest of each block, 32 bits, two tables
    assert measure_state(optimizer) == 2 * large + 2 * 4 * (36 + 19) + 8 * small + 2 * 1024


class Odd(torch.optim.Optimizer):
    "Momentum that keeps whatever there is to keep."
    def __init__(self, params, extra): super().__init__(params, {'lr': .1, 'extra': extra})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group['params']:
                state = self.state[p]
                if not state:
                    state.update(count=0, decay=.9, mean=torch.zeros_like(p), codes=torch.zeros(3, dtype=torch.uint8),
                                 extra=group['extra'])
                state['count'] += 1
                state['decay'] *= 1 - 1e-3 / 7
                state['mean'].mul_(state['decay']).add_(p.grad)
                p.sub_(group['lr'] * state['mean'])

def test_plain_numbers_come_back_as_they_were():
    model, twin = net(), net()
    optimizer, fresh = Odd(model.parameters(), 2 ** 60 + 1), Odd(twin.parameters(), 0)
    for n in range(3): step(model, optimizer, n)
    unpack_optimizer(pack_optimizer(optimizer, model), fresh, twin)
    for p, q in zip(model.parameters(), twin.parameters()):
        states = optimizer.state[p], fresh.state[q]
        a, b = ({k: v for k, v in state.items() if not torch.is_tensor(v)} for state in states)
        assert a == b and [type(v) for v in a.values()] == [type(v) for v in b.values()] and a['count'] == 3

def test_what_cannot_be_saved_is_refused():
    model = net()
    optimizer = Odd(model.parameters(), None)
    step(model, optimizer, 0)
    with pytest.raises(UserError, match='must be tensors and numbers to be saved, #extra/0.weight is None'):
        pack_optimizer(optimizer, model)

def test_without_bitsandbytes_there_is_a_plain_answer(monkeypatch):
    for name in ('bitsandbytes', 'bitsandbytes.optim'): monkeypatch.setitem(sys.modules, name, None)
    assert start('adamw')
    with pytest.raises(UserError, match='pip install bitsandbytes'): start('adamw8bit')

def test_fused_adamw_is_the_one_in_use():
    model, optimizer = start('adamw')
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults['fused']
    assert optimizer.defaults['betas'] == (.9, .95)
    assert [g['weight_decay'] for g in make_adamw(select_learners(model, PHASE), PHASE).param_groups] == [.1, 0.]


# Parameters that are spread over two processes

def sharded_child(folder, task):
    "Train sharded and save whole tensors; or load them, and go on."
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    dist.init_process_group('gloo')
    model = net(seed=0 if task == 'save' else 5)
    fully_shard(model, mesh=init_device_mesh('cpu', (2,)))
    with pytest.raises(UserError, match='adamw8bit.*adamw'):
        make_optimizer(select_learners(model, PHASE), PHASE, 'adamw8bit')
    optimizer = make_optimizer(select_learners(model, PHASE), PHASE)
    if task == 'load':
        found = load_checkpoint(folder)
        unpack_model(found.tensors('model'), model)
        unpack_optimizer(found.tensors('optimizer'), optimizer, model)
    for n in range(3) if task == 'save' else range(3, 5): step(model, optimizer, n)
    tensors = {'model': pack_model(model), 'optimizer': pack_optimizer(optimizer, model)}
    if dist.get_rank() == 0: save_checkpoint(folder, 3 if task == 'save' else 5, tensors, {})
    dist.barrier()
    os._exit(0)   # gloo's threads would outlive Python, and abort

def two(task, folder):
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone',
                           __file__, task, str(folder)],
                          env=CHILD, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]

def test_spread_parameters_are_saved_whole(tmp_path):
    two('save', tmp_path)
    found = load_checkpoint(tmp_path)
    one, optimizer = start('adamw')
    for n in range(3): step(one, optimizer, n)  # all processes see the same rows here, so one process does the same
    torch.testing.assert_close(found.tensors('optimizer'), pack_optimizer(optimizer, one), rtol=1e-4, atol=1e-7)
    unpack_model(found.tensors('model'), one)
    unpack_optimizer(found.tensors('optimizer'), optimizer, one)
    for n in range(3, 5): step(one, optimizer, n)
    two('load', tmp_path)
    torch.testing.assert_close(load_checkpoint(tmp_path).tensors('model'), pack_model(one), rtol=1e-5, atol=1e-6)


if __name__ == '__main__':
    torch.set_num_threads(1)
    sharded_child(Path(sys.argv[2]), sys.argv[1])

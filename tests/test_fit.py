"""The loop's promises: exact resume after SIGKILL, several processes as one, and what happens when training breaks down.

Run as a script, this file is the child process of its own tests: `test_fit.py kill|gloo FOLDER`.
"""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from shutka.core import Diverged, OutOfMemory, UserError, read_jsonl, rng
from shutka.train.checkpoint import load_checkpoint
from shutka.train.fit import SKIPS, fit, trim_log
from shutka.train.phase import Phase

CHILD = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent.parent), 'OMP_WAIT_POLICY': 'passive', 'GOMP_SPINCOUNT': '0'}


@pytest.fixture(autouse=True)
def one_thread():
    "Sums come out the same to the last bit only with as many threads as the child processes use."
    torch.set_num_threads(1)


class Model(nn.Module):
    "An encoder with dropout, a head, and an EMA copy of the head, which moves by `after_step`."
    def __init__(self, dropout=.1, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.Tanh(), nn.Dropout(dropout))
        self.head, self.teacher = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x):
        z = self.encoder(x)
        with torch.no_grad(): target = self.teacher(z)
        return self.head(z), target


def batch(step, rank, world):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
    return {'a': x[rank::world], 'b': [2 * x[rank::world]]}

def predict(model, batch):
    (y, _), (_, target) = model(batch['a']), model(batch['b'][0])
    return (y - target - 1).square().mean(), {'size': y.abs().mean()}

def ema(model, step):
    with torch.no_grad():
        for t, p in zip(model.teacher.parameters(), model.head.parameters()): t.lerp_(p, .1)

PHASES = [Phase(name='head', batch=batch, loss=predict, lr=.01, steps=25, warmup=5, learn='^head', after_step=ema),
          Phase(name='all', batch=batch, loss=predict, lr=.01, steps=35, learn='^(head|encoder)', after_step=ema, every=10,
                check=lambda model: {'dropout': float(model.training)})]

def losses(rows): return [(r['step'], r['loss']) for r in rows]

def run(folder, phases=PHASES, model=None, **kw):
    return list(fit(Model() if model is None else model, phases, folder, **kw))


# SIGKILL

def kill_child(folder):
    "Train slowly enough to be killed; rows go to a log."
    def slow(*key):
        time.sleep(.004)
        return batch(*key)
    log, file = folder/'log.jsonl', None
    model = Model(seed=time.time_ns() if log.exists() else 0)  # the weights come from the checkpoint, or the losses will differ
    for row in fit(model, [replace(p, batch=slow) for p in PHASES], folder/'checkpoints', save_every=.04):
        if file is None:
            trim_log(log, row['step'] - 1)
            file = open(log, 'a')
        file.write(json.dumps(row) + '\n')
        file.flush()

def start(folder): return subprocess.Popen([sys.executable, __file__, 'kill', str(folder)], env=CHILD, stderr=subprocess.PIPE, text=True)

def last_step(log):
    return max((r['step'] for r in read_jsonl(log, torn=True)), default=0) if log.exists() else 0

def test_sigkill_at_three_steps_and_the_losses_are_the_same_to_the_last_bit(tmp_path):
    whole, log = run(tmp_path/'whole'), tmp_path/'log.jsonl'
    for step in sorted(rng(time.time()).sample(range(1, 58), 3)):
        child = start(tmp_path)
        while child.poll() is None and last_step(log) < step: time.sleep(.002)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, child.stderr.read()
        assert load_checkpoint(tmp_path/'checkpoints').step <= last_step(log)  # never ahead of what was logged
    child = start(tmp_path)
    assert child.wait(60) == 0, child.stderr.read()
    assert losses(read_jsonl(log)) == losses(whole)

def test_resume_is_exact_at_every_step(tmp_path):
    whole = run(tmp_path/'whole')
    for step in range(1, 60, 7):
        again = []
        for row in fit(Model(), PHASES, tmp_path/str(step), save_every=0):
            again.append(row)
            if row['step'] == step: break
        rest = run(tmp_path/str(step), model=Model(seed=step))
        assert rest[0]['step'] == step  # its row was given out, its checkpoint not yet written
        assert losses(again[:-1] + rest) == losses(whole)

def test_randomness_of_the_consumer_changes_nothing(tmp_path):
    rows = []
    for row in fit(Model(), PHASES, tmp_path/'b'):
        torch.rand(row['step'])
        rows.append(row)
    assert losses(rows) == losses(run(tmp_path/'a'))

def test_a_consumer_that_fails_is_not_behind_its_checkpoint(tmp_path):
    with pytest.raises(ZeroDivisionError):
        for row in fit(Model(), PHASES, tmp_path, save_every=0): 1 / (row['step'] - 9)
    assert load_checkpoint(tmp_path).step == 8


# Several processes

class Gather(torch.autograd.Function):
    "The rows of all ranks; each rank's gradient is the sum of what all ranks send back."
    @staticmethod
    def forward(ctx, x):
        out = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(out, x.contiguous())
        return torch.cat(out)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        torch.distributed.all_reduce(grad)
        return grad.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]

def contrast(model, batch):
    "Each row of `a` finds its row of `b` among those of all ranks."
    a, b = (normalize(model(x)[0]) for x in (batch['a'], batch['b'][0].flip(1)))
    many = torch.distributed.is_initialized()
    logits = a @ (Gather.apply(b) if many else b).T / .1
    own = torch.arange(len(a)) + (torch.distributed.get_rank() * len(a) if many else 0)
    return cross_entropy(logits, own), {'hit': (logits.argmax(1) == own).float().mean()}

CONTRAST = [replace(PHASES[0], loss=contrast, steps=8), replace(PHASES[1], loss=contrast, steps=12)]

def gloo_child(folder):
    "Stop in the middle of the second phase."
    calls = count(1).__next__
    rows = list(fit(Model(dropout=0), CONTRAST, folder/'checkpoints', world=2, stop=lambda: calls() == 15))
    (folder/f"rows{os.environ['RANK']}.json").write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()
    left = [f.read_text().strip() for f in Path('/proc/self/task').glob('*/comm')]
    assert not [name for name in left if 'gloo' in name], f"threads that outlive Python abort it: {left}"

def test_two_processes_are_one_and_one_goes_on_where_two_stopped(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone', __file__, 'gloo', str(tmp_path)],
                          env=CHILD, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path/'rows0.json').read_text())
    assert losses(two) == losses(json.loads((tmp_path/'rows1.json').read_text()))  # rows are averages: all ranks yield the same
    assert [r.get('end') for r in two if 'end' in r] == ['steps', 'stopped']
    two += run(tmp_path/'checkpoints', CONTRAST, Model(dropout=0, seed=9))
    one = run(tmp_path/'one', CONTRAST, Model(dropout=0))
    assert [r['step'] for r in two] == [r['step'] for r in one] == list(range(1, 21))
    for key in ('loss', 'hit', 'grad_norm'): assert [r[key] for r in two] == pytest.approx([r[key] for r in one], rel=2e-6, abs=1e-6)
    assert one[-1]['loss'] < one[0]['loss']


# Phases

def test_only_those_move_that_learn(tmp_path):
    model, before = Model(), Model().state_dict()
    run(tmp_path, PHASES[:1], model)
    moved = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {'head.weight', 'head.bias', 'teacher.weight', 'teacher.bias'}  # the teacher by `after_step`

def test_a_teacher_must_not_learn(tmp_path):
    with pytest.raises(UserError, match='does not reach teacher.weight, teacher.bias'): run(tmp_path, [replace(PHASES[0], learn='.')])

def test_batches_and_hooks_are_asked_once_a_step(tmp_path):
    asked, stepped = [], []
    def counted(step, rank, world):
        asked.append(step)
        return batch(step, rank, world)
    rows = run(tmp_path, [replace(p, batch=counted, after_step=lambda model, step: stepped.append(step)) for p in PHASES])
    assert asked == stepped == [*range(25), *range(35)]
    assert [r['step'] for r in rows] == list(range(1, 61))

def test_checks_come_every_so_many_steps_and_at_the_end(tmp_path):
    rows = run(tmp_path)
    assert [r['step'] for r in rows if 'dropout' in r] == [35, 45, 55, 60]
    assert {r.get('dropout') for r in rows} == {None, 0.}  # dropout is off
    assert [(r['step'], r['end']) for r in rows if 'end' in r] == [(25, 'steps'), (60, 'steps')]

def test_a_finished_folder_yields_nothing(tmp_path):
    run(tmp_path)
    model = Model(seed=5)
    assert run(tmp_path, model=model) == [] and load_checkpoint(tmp_path).step == 60
    assert torch.equal(model.head.weight, load_checkpoint(tmp_path).tensors('model')['head.weight'])

def test_minutes_end_a_phase_also_over_two_sessions(tmp_path):
    phases = [replace(PHASES[0], steps=0, minutes=.25), replace(PHASES[1], minutes=.5)]
    for row in fit(Model(), phases, tmp_path, clock=count().__next__, save_every=0):
        if row['step'] == 20: break
    rows = run(tmp_path, phases, clock=count(1_000).__next__)
    assert rows[0]['step'] == 20 and rows[0]['seconds'] == 20
    assert [(r['step'], r['end']) for r in rows if 'end' in r] == [(30, 'minutes')]  # both deadlines count from the start of the run
    assert rows[-1]['lr'] < .0011 + .0001

def test_a_phase_made_shorter_is_over(tmp_path):
    calls = count(1).__next__
    run(tmp_path, stop=lambda: calls() == 20)
    rows = run(tmp_path, [replace(PHASES[0], steps=10), PHASES[1]])
    assert [rows[0]['step'], rows[0]['phase'], rows[-1]['step']] == [21, 'all', 55]

def test_another_run_is_refused(tmp_path):
    run(tmp_path, PHASES[:1])
    with pytest.raises(UserError, match='seed was 0 and is 1'): run(tmp_path, PHASES[:1], seed=1)
    with pytest.raises(UserError, match='phases was'): run(tmp_path)
    with pytest.raises(UserError, match='lacks|has'): run(tmp_path, PHASES[:1], nn.Linear(2, 2))


# Precision and breakdown

def test_fp16_skips_overflowing_steps_counts_them_and_resumes_exactly(tmp_path):
    def steep(model, batch):
        loss, parts = predict(model, batch)
        return 1e4 * loss, parts
    phases = [replace(p, loss=steep) for p in PHASES]
    model, before, rows = Model(), Model(), []
    for row in fit(model, phases, tmp_path/'whole', precision='fp16'):
        if row['step'] == 1: assert torch.equal(model.head.weight, before.head.weight)
        rows.append(row)
    void = [r for r in rows if r['grad_norm'] is None]
    assert void and len(void) == rows[-1]['skipped'] < 20 and rows[0]['skipped'] == 1
    assert rows[-1]['loss'] < rows[0]['loss']
    for stop in (3, 40):
        calls = count(1).__next__
        first = run(tmp_path/str(stop), phases, precision='fp16', stop=lambda: calls() == stop)
        rest = run(tmp_path/str(stop), phases, Model(seed=1), precision='fp16')
        assert [(r['loss'], r['skipped']) for r in first + rest] == [(r['loss'], r['skipped']) for r in rows]

def test_bf16_learns_too_and_weights_stay_fp32(tmp_path):
    model = Model()
    rows = run(tmp_path, model=model, precision='bf16')
    assert rows[-1]['loss'] < rows[0]['loss'] and 'skipped' not in rows[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}

def test_fp16_that_always_overflows_diverges(tmp_path):
    def cliff(model, batch): return 1e30 * predict(model, batch)[0].float(), {}
    with pytest.raises(Diverged, match=f"phase 'head', step {SKIPS}: fp16"): run(tmp_path, [replace(PHASES[0], loss=cliff)], precision='fp16')

@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path, bad):
    def breaks(model, batch):
        loss, parts = predict(model, batch)
        return loss * (bad if batch['a'].equal(globals()['batch'](6, 0, 1)['a']) else 1), parts
    with pytest.raises(Diverged, match=f"phase 'head', step 7: the loss must be finite, got {bad}"):
        run(tmp_path, [replace(PHASES[0], loss=breaks)], save_every=0)
    saved = load_checkpoint(tmp_path)
    assert saved.step == 6 and all(t.isfinite().all() for t in saved.tensors('model').values())

def test_a_gradient_that_is_not_finite_stops(tmp_path):
    def edge(model, batch):
        y = model(batch['a'])[0]
        return (y - y.detach()).abs().sqrt().mean(), {}  # zero, with an infinite slope
    with pytest.raises(Diverged, match='the gradient must be finite'): run(tmp_path, [replace(PHASES[0], loss=edge)])

def test_a_check_may_stop_a_run(tmp_path):
    def collapsed(model): raise Diverged('effective rank 1')
    with pytest.raises(Diverged, match='effective rank'): run(tmp_path, [replace(PHASES[0], check=collapsed)])

def test_memory_that_does_not_suffice(tmp_path):
    def large(model, batch): raise torch.cuda.OutOfMemoryError('tried to allocate 90 GiB')
    with pytest.raises(OutOfMemory, match="phase 'head', step 1: use smaller batches"): run(tmp_path, [replace(PHASES[0], loss=large)])

def test_a_row_keeps_its_own_names(tmp_path):
    def logs(model, batch): return predict(model, batch)[0], {'step': torch.tensor(1.)}
    with pytest.raises(UserError, match='must not log step'): run(tmp_path, [replace(PHASES[0], loss=logs)])


if __name__ == '__main__':
    torch.set_num_threads(1)
    {'kill': kill_child, 'gloo': gloo_child}[sys.argv[1]](Path(sys.argv[2]))

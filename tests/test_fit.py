"""The loop's promises: exact resume after SIGKILL, several processes as one, what happens when training breaks down.

Run as a script, this file is the child process of its own tests: `test_fit.py kill|gloo|shard|apart|hang FOLDER`.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from shutka.core.errors import Diverged, OutOfMemory, UserError
from shutka.core.files import read_jsonl
from shutka.core.hashes import make_rng
from shutka.train import saver
from shutka.train.checkpoint import list_checkpoints, load_checkpoint
from shutka.train.fit import fit
from shutka.train.phase import Phase
from shutka.train.position import MOST_OVERFLOWS
from shutka.train.rows import trim_log
from shutka.train.saver import load_best
from shutka.train.trainer import Session

CHILD = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent.parent), 'OMP_WAIT_POLICY': 'passive',
         'GOMP_SPINCOUNT': '0'}


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
          Phase(name='all', batch=batch, loss=predict, lr=.01, steps=35, learn='^(head|encoder)', after_step=ema,
                every=10,
                check=lambda model: {'dropout': float(model.training)})]

def losses(rows): return [(r['step'], r['loss']) for r in rows]

def run(folder, phases=PHASES, model=None, seed=0, stop=lambda: False, clock=time.monotonic, **session):
    return list(fit(Model() if model is None else model, phases, folder, Session(**session), seed=seed, stop=stop,
                    clock=clock))


# SIGKILL

def kill_child(folder):
    "Train slowly enough to be killed; rows go to a log."
    def slow(*key):
        time.sleep(.004)
        return batch(*key)
    log, file = folder/'log.jsonl', None
    # the weights come from the checkpoint, or the losses will differ
    model = Model(seed=time.time_ns() if log.exists() else 0)
    for row in fit(model, [replace(p, batch=slow) for p in PHASES], folder/'checkpoints', Session(save_every=.04)):
        if file is None:
            trim_log(log, row['step'] - 1)
            file = open(log, 'a')
        file.write(json.dumps(row) + '\n')
        file.flush()

def start(folder):
    return subprocess.Popen([sys.executable, __file__, 'kill', str(folder)], env=CHILD, stderr=subprocess.PIPE,
                            text=True)

def last_step(log):
    return max((r['step'] for r in read_jsonl(log, torn=True)), default=0) if log.exists() else 0

def test_sigkill_at_three_steps_and_the_losses_are_the_same_to_the_last_bit(tmp_path):
    whole, log = run(tmp_path/'whole'), tmp_path/'log.jsonl'
    for step in sorted(make_rng(time.time()).sample(range(1, 58), 3)):
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
        for row in fit(Model(), PHASES, tmp_path/str(step), Session(save_every=0)):
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
        for row in fit(Model(), PHASES, tmp_path, Session(save_every=0)): 1 / (row['step'] - 9)
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
    rows = list(fit(Model(dropout=0), CONTRAST, folder/'checkpoints', Session(world=2), stop=lambda: calls() == 15))
    (folder/f"rows{os.environ['RANK']}.json").write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()
    left = [f.read_text().strip() for f in Path('/proc/self/task').glob('*/comm')]
    assert not [name for name in left if 'gloo' in name], f"threads that outlive Python abort it: {left}"

def test_two_processes_are_one_and_one_goes_on_where_two_stopped(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone',
                           __file__, 'gloo', str(tmp_path)],
                          env=CHILD, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path/'rows0.json').read_text())
    # rows are averages: all ranks yield the same
    assert losses(two) == losses(json.loads((tmp_path/'rows1.json').read_text()))
    assert [r.get('end') for r in two if 'end' in r] == ['steps', 'stopped']
    two += run(tmp_path/'checkpoints', CONTRAST, Model(dropout=0, seed=9))
    one = run(tmp_path/'one', CONTRAST, Model(dropout=0))
    assert [r['step'] for r in two] == [r['step'] for r in one] == list(range(1, 21))
    for key in ('loss', 'hit', 'grad_norm'):
        assert [r[key] for r in two] == pytest.approx([r[key] for r in one], rel=2e-6, abs=1e-6)
    assert one[-1]['loss'] < one[0]['loss']


def shard_child(folder):
    "The same with weights spread over both processes; then the rest of it whole."
    calls = count(1).__next__
    rows = list(fit(Model(dropout=0), CONTRAST, folder/'checkpoints', Session(world=2, shard=True),
                    stop=lambda: calls() == 15))
    (folder/f"rows{os.environ['RANK']}.json").write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()
    os._exit(0)   # spread weights hold gloo's threads, which would outlive Python, and abort

def apart_child(folder):
    "Each rank sees scores of its own, and a clock of its own."
    rank = int(os.environ['RANK'])
    scores = [.1, .6, .5, .5, .5, .5, .5] if rank else [.1, .4, .2, .6, .5, .5, .5]
    phase = replace(PHASES[0], steps=30, every=3, check=wave(*scores), score='score', patience=3)
    rows = list(fit(Model(dropout=0), [phase, replace(PHASES[1], steps=0)], folder/'checkpoints',
                    Session(world=2, minutes=.02), clock=lambda: time.monotonic() + rank))
    (folder/f"rows{rank}.json").write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()

def test_two_processes_decide_the_same_about_checks_and_time(tmp_path):
    nodes(tmp_path, 'apart')
    rows = [json.loads((tmp_path/f'rows{rank}.json').read_text()) for rank in (0, 1)]
    for key in ('step', 'loss', 'lr', 'end', 'score'):
        assert [r.get(key) for r in rows[0]] == [r.get(key) for r in rows[1]], key
    assert rows[0][-1]['end'] == 'minutes'

def nodes(folder, what):
    "Two machines of one process each, which meet on loopback."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    command = [sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2', '--nproc_per_node', '1', '--master_addr',
               '127.0.0.1', '--master_port', str(port)]
    started = [subprocess.Popen([*command, '--node_rank', rank, __file__, what, str(folder)], env=CHILD,
                                stderr=subprocess.PIPE, text=True) for rank in '01']
    for process in started: assert process.wait(120) == 0, process.stderr.read()[-3000:]

@pytest.mark.parametrize('what', ['gloo', 'shard'])
def test_two_machines_are_one_with_whole_copies_and_with_shards(tmp_path, what):
    nodes(tmp_path, what)
    two = json.loads((tmp_path/'rows0.json').read_text())
    two += run(tmp_path/'checkpoints', CONTRAST, Model(dropout=0, seed=9))   # one process reads what two have written
    one = run(tmp_path/'one', CONTRAST, Model(dropout=0))
    for key in ('loss', 'hit', 'grad_norm'):
        assert [r[key] for r in two] == pytest.approx([r[key] for r in one], rel=2e-6, abs=1e-6)


# Phases

def test_only_those_move_that_learn(tmp_path):
    model, before = Model(), Model().state_dict()
    run(tmp_path, PHASES[:1], model)
    moved = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {'head.weight', 'head.bias', 'teacher.weight', 'teacher.bias'}  # the teacher by `after_step`

def test_a_teacher_must_not_learn(tmp_path):
    with pytest.raises(UserError, match='does not reach teacher.weight, teacher.bias'):
        run(tmp_path, [replace(PHASES[0], learn='.')])

def test_batches_and_hooks_are_asked_once_a_step(tmp_path):
    asked, stepped = [], []
    def counted(step, rank, world):
        asked.append(step)
        return batch(step, rank, world)
    rows = run(tmp_path, [replace(p, batch=counted, after_step=lambda model, step: stepped.append(step))
                          for p in PHASES])
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

def test_minutes_end_a_session_and_the_next_one_goes_on(tmp_path):
    "No phase is left before its steps are done, and each session cools down."
    phases, rows = [replace(p, steps=40, warmup=0) for p in PHASES], []
    while not rows or rows[-1]['end'] == 'minutes':
        session = run(tmp_path, phases, Model(seed=len(rows)), clock=count(1_000).__next__, minutes=.5)
        assert 'end' in session[-1]
        rows += session
    ends = [(r['phase'], r['step'], r['end']) for r in rows if 'end' in r]
    assert [end for *_, end in ends].count('minutes') >= 2 and ends[0][0] == 'head'
    steps = [('head', i) for i in range(1, 41)] + [('all', i) for i in range(41, 81)]
    assert [(r['phase'], r['step']) for r in rows] == steps
    first = ends[0][1]
    # cooled down, and with more time there is more to learn
    assert rows[first - 1]['lr'] < .0012 and rows[first]['lr'] > .002
    assert [r['seconds'] for r in rows] == sorted(r['seconds'] for r in rows)
    assert run(tmp_path, phases, minutes=.5) == []

def test_a_phase_without_steps_lasts_as_long_as_the_session(tmp_path):
    rows = run(tmp_path, [replace(PHASES[0], steps=0)], clock=count().__next__, minutes=.5)
    assert rows[-1]['end'] == 'minutes' and run(tmp_path, [replace(PHASES[0], steps=0)], minutes=.5) == []
    with pytest.raises(UserError, match="'head' needs steps above 0"): run(tmp_path/'x', [replace(PHASES[0], steps=0)])

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
    for row in fit(model, phases, tmp_path/'whole', Session(precision='fp16')):
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
    with pytest.raises(Diverged, match=f"phase 'head', step {MOST_OVERFLOWS}: fp16"):
        run(tmp_path, [replace(PHASES[0], loss=cliff)], precision='fp16')

BAD = [float('nan'), float('inf')]

def breaking(bad, *steps):
    "A loss that is not finite in some batches of the phase."
    inputs = [batch(step, 0, 1)['a'] for step in steps]
    def loss(model, given):
        value, parts = predict(model, given)
        return value * (bad if any(given['a'].equal(x) for x in inputs) else 1), parts
    return loss

@pytest.mark.parametrize('bad', BAD)
def test_a_loss_that_is_not_finite_costs_one_step(tmp_path, bad):
    weights = {}
    for steps in (6, 7):
        calls, model = count(1).__next__, Model()
        rows = run(tmp_path/str(steps), [replace(PHASES[0], loss=breaking(bad, 6))], model,
                   stop=lambda: calls() == steps)
        weights[steps] = model.head.weight
    assert rows[6]['loss'] is None and rows[6]['nonfinite'] == 1 and 'skipped' not in rows[6]
    assert torch.equal(weights[6], weights[7])   # the weights did not move ...
    rest = run(tmp_path/'rest', [replace(PHASES[0], loss=breaking(bad, 6))])
    assert all(r['loss'] is not None for r in rest[7:]) and rest[-1]['nonfinite'] == 1   # ... and learn on
    assert rest[-1]['loss'] < rest[0]['loss']

def test_three_in_a_row_bring_back_the_last_checkpoint_at_half_the_learning_rate(tmp_path):
    seen, broken = [], breaking(float('nan'), 10, 11, 12)
    def loss(model, given):
        # before this step
        seen.append(next(p for name, p in model.named_parameters() if 'head.weight' in name).detach().clone())
        return broken(model, given)
    calls = count(1).__next__
    rows = run(tmp_path/'run', [replace(PHASES[0], loss=loss)], stop=lambda: calls() == 8)   # saves at step 8
    rows += run(tmp_path/'run', [replace(PHASES[0], loss=loss)], Model(seed=7))
    whole = run(tmp_path/'whole', PHASES[:1])
    assert [r['step'] for r in rows if r['loss'] is None] == [11, 12, 13]
    assert [r['step'] for r in rows if 'back' in r] == [13]
    assert torch.equal(seen[13], seen[8]) and not torch.equal(seen[10], seen[8]) and torch.equal(seen[12], seen[10])
    assert losses(rows[:10]) == losses(whole[:10]) and [r['lr'] for r in rows[:13]] == [r['lr'] for r in whole[:13]]
    assert [r['lr'] for r in rows[13:]] == [r['lr'] / 2 for r in whole[13:]]
    assert len(rows) == 25 and rows[-1]['nonfinite'] == 3

def test_a_kill_around_going_back_changes_nothing(tmp_path):
    phases = [replace(PHASES[0], loss=breaking(float('nan'), 10, 11, 12)), PHASES[1]]
    whole = run(tmp_path/'whole', phases)
    for step in (11, 12, 13, 14, 20):
        for row in fit(Model(), phases, tmp_path/str(step)):
            if row['step'] == step: break
        rest = run(tmp_path/str(step), phases, Model(seed=3))
        assert losses(rest) == losses(whole)[rest[0]['step'] - 1:], step

def test_the_second_time_it_names_the_batches(tmp_path):
    phase = replace(PHASES[0], loss=breaking(float('nan'), 5, 6, 7, 15, 16, 17))
    both = r"phase 'head', step 18: .* batches \[15, 16, 17\] .* after those of batches \[5, 6, 7\]"
    with pytest.raises(Diverged, match=both): run(tmp_path, [phase])
    saved = load_checkpoint(tmp_path)
    assert saved.step == 8 and all(t.isfinite().all() for t in saved.tensors('model').values())

def test_a_gradient_that_is_not_finite_is_the_same(tmp_path):
    def edge(model, batch):
        y = model(batch['a'])[0]
        return (y - y.detach()).abs().sqrt().mean(), {}  # zero, with an infinite slope
    with pytest.raises(Diverged, match='loss and gradient must be finite'):
        run(tmp_path, [replace(PHASES[0], loss=edge)])

@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_losses_that_are_not_finite_are_counted_apart_from_overflows(tmp_path, precision):
    rows = run(tmp_path, [replace(PHASES[0], loss=breaking(float('nan'), 6, 9))], precision=precision)
    assert rows[-1]['nonfinite'] == 2 and rows[-1].get('skipped', 0) <= 1
    assert rows[-1]['loss'] < rows[0]['loss']

def test_a_check_may_stop_a_run(tmp_path):
    def collapsed(model): raise Diverged('effective rank 1')
    with pytest.raises(Diverged, match='effective rank'): run(tmp_path, [replace(PHASES[0], check=collapsed)])

class Refusing(Model):
    "A model on a device that does not hold more than some rows."
    def __init__(self, rows, **kw):
        super().__init__(dropout=0, **kw)
        self.rows = rows
    def forward(self, x):
        if len(x) > self.rows: raise torch.cuda.OutOfMemoryError('tried to allocate 90 GiB')
        return super().forward(x)

def test_memory_that_does_not_suffice_halves_the_micro_batch_and_keeps_the_batch(tmp_path):
    "Also for a loss in which every row of the batch is a negative of every other."
    phases = [replace(p, loss=contrast) for p in PHASES]
    said = "phase 'head', step 1: memory did not suffice, the batch is computed in 4 micro-batches"
    with pytest.warns(UserWarning, match=said):
        rows = run(tmp_path/'a', phases, Refusing(3))
    whole = run(tmp_path/'b', phases, Model(dropout=0))
    assert {r['pieces'] for r in rows} == {4} and 'pieces' not in whole[0]
    for key in ('loss', 'hit', 'grad_norm'):
        assert [r[key] for r in rows] == pytest.approx([r[key] for r in whole], rel=1e-5, abs=1e-6)
    again = run(tmp_path/'c', phases, Model(dropout=0), micro_batches=4)
    assert losses(again) == losses(rows)   # started with as many micro-batches, it is the same to the last bit

def test_memory_that_runs_out_later_loses_no_step_and_a_resumed_run_knows_it(tmp_path):
    model = Refusing(8)
    calls = count(1).__next__
    rows = []
    with pytest.warns(UserWarning, match='step 8'):
        for row in fit(model, PHASES, tmp_path, stop=lambda: calls() == 20):
            rows.append(row)
            if row['step'] == 7: model.rows = 4
    assert [r.get('pieces', 1) for r in rows] == [1] * 7 + [2] * 13
    with warnings.catch_warnings():
        warnings.simplefilter('error')   # it need not find out once more
        assert run(tmp_path, model=Refusing(4, seed=1))[0]['pieces'] == 2

def test_processes_that_see_different_folders_do_not_train(tmp_path, monkeypatch):
    monkeypatch.setattr('shutka.train.fit.gather_object', lambda steps: [*steps, 7])
    with pytest.raises(UserError, match='all processes must see the same'): run(tmp_path)

def test_one_example_that_does_not_fit_is_the_end(tmp_path):
    why = "phase 'head', step 1: one example at a time must fit"
    with pytest.warns(UserWarning), pytest.raises(OutOfMemory, match=why): run(tmp_path, model=Refusing(0))

def test_a_check_may_need_too_much_as_well(tmp_path):
    def large(model): raise torch.cuda.OutOfMemoryError('tried to allocate 90 GiB')
    with pytest.raises(OutOfMemory, match="phase 'head', after step 5: memory did not suffice for a check"):
        run(tmp_path, [replace(PHASES[0], check=large, every=5)])

def test_other_errors_are_not_taken_for_lack_of_memory(tmp_path):
    def wrong(model, batch): raise RuntimeError('shapes cannot be multiplied')
    with pytest.raises(RuntimeError, match='shapes'): run(tmp_path, [replace(PHASES[0], loss=wrong)])


# Best and last

def wave(*scores):
    "A check that gives one score after the other."
    left = iter(scores)
    return lambda model: {'score': next(left), 'weight': float(model.head.weight.sum())}

def test_patience_ends_a_phase_and_brings_back_its_best_weights(tmp_path):
    model, rows = Model(), []
    phase = replace(PHASES[0], every=3, check=wave(.1, .5, .4, .505, .3), score='score', patience=3, min_delta=.01)
    rows = run(tmp_path, [phase, replace(PHASES[1], check=lambda model: {}, score='score')], model)
    assert [(r['step'], r['end']) for r in rows if 'end' in r] == [(15, 'patience'), (50, 'steps')]
    model = Model()
    rows = run(tmp_path/'one', [replace(phase, check=wave(.1, .5, .4, .505, .3))], model)
    # .505 is no reason to wait longer, and yet better than .5
    assert model.head.weight.sum().item() == [r['weight'] for r in rows if 'weight' in r][3]

def test_less_may_be_better_and_the_best_checkpoint_stays(tmp_path):
    phase = replace(PHASES[0], every=5, check=wave(3., 1., 2., 2.5, 2.6), score='-score')
    assert len(run(tmp_path, [phase], save_every=0)) == 25
    assert 'step-00000010' in [c.name for c in list_checkpoints(tmp_path)] and load_checkpoint(tmp_path).step == 25

def test_a_score_beside_a_loss_that_is_no_number_does_not_count(tmp_path):
    phase = replace(PHASES[0], loss=breaking(float('nan'), 9), every=5, check=wave(.1, .9, .2, .3, .2), score='score',
                    patience=2)
    rows = run(tmp_path, [phase])
    assert (rows[-1]['step'], rows[-1]['end']) == (25, 'steps') and load_checkpoint(tmp_path).state['best_step'] == 20

def test_patience_goes_on_where_a_kill_left_it(tmp_path):
    def phases(left): return [replace(PHASES[0], every=3, check=wave(*left), score='score', patience=3)]
    scores = [.1, .5, .4, .3, .2, .1]
    for row in fit(Model(), phases(scores), tmp_path, Session(save_every=0)):
        if row['step'] == 11: break
    rows = run(tmp_path, phases(scores[3:]), Model(seed=4))
    assert (rows[-1]['step'], rows[-1]['end']) == (15, 'patience')


def weight(model): return model.head.weight.sum().item()

def saved_best(folder):
    "The sum of the weights that a run's newest checkpoint calls the best."
    state = load_checkpoint(folder).state
    return load_best(folder, state['best_saved'])['head.weight'].sum().item()

@pytest.mark.parametrize('scores, best', [((.1, .5, .4, .3, .2), 1), ((.1, .2, .3, .4, .5), 4),
                                          ((.5, .5, .5, .5, .5), 0), ((.3, .1, .2, .25, .28), 0)])
@pytest.mark.parametrize('save_every', [0, 60])
def test_a_phase_that_ends_with_its_steps_has_its_best_weights(tmp_path, scores, best, save_every):
    model, phase = Model(), replace(PHASES[0], every=5, check=wave(*scores), score='score')
    rows = run(tmp_path, [phase], model, save_every=save_every)
    assert rows[-1]['end'] == 'steps'
    assert weight(model) == [r['weight'] for r in rows if 'weight' in r][best]
    found = load_checkpoint(tmp_path)
    assert (found.state['best_step'], found.state['best']) == (5 * (best + 1), scores[best])
    assert found.tensors('model')['head.weight'].sum().item() == weight(model) == saved_best(tmp_path)

def test_a_phase_without_steps_ends_with_its_best_weights_too(tmp_path):
    model, scores = Model(), iter([.1, .9])
    phase = replace(PHASES[0], steps=0, every=4, score='score',
                    check=lambda model: {'score': next(scores, .2), 'weight': weight(model)})
    rows = run(tmp_path, [phase], model, clock=count().__next__, minutes=.5)
    assert rows[-1]['end'] == 'minutes' and weight(model) == [r['weight'] for r in rows if 'weight' in r][1]

def test_a_session_that_ends_resumes_from_the_last_weights_and_has_the_best_beside_them(tmp_path):
    def phases(*scores): return [replace(PHASES[0], every=5, check=wave(*scores), score='score')]
    calls = count(1).__next__
    rows = run(tmp_path, phases(.1, .5, .4), stop=lambda: calls() == 17)
    found = load_checkpoint(tmp_path)
    assert [path.name for path in sorted(found.path.glob('*.safetensors'))] == [
        'best.safetensors', 'model.safetensors', 'optimizer.safetensors']
    assert saved_best(tmp_path) == [r['weight'] for r in rows if 'weight' in r][1]
    rest = run(tmp_path, phases(.3, .2), model := Model(seed=8))
    assert losses(rows + rest) == losses(run(tmp_path/'whole', PHASES[:1]))
    assert weight(model) == saved_best(tmp_path) == [r['weight'] for r in rows if 'weight' in r][1]

def test_the_best_weights_survive_a_kill_at_any_step(tmp_path):
    "Scores are a function of the step, as real ones are."
    scores = {4: .1, 8: .7, 12: .2, 16: .3, 20: .6, 24: .1, 25: .2}
    def phases(step): return [replace(PHASES[0], every=4, score='score', patience=9,
                                      check=lambda model: {'score': scores[step()], 'weight': weight(model)})]
    def session(folder, stop, save_every):
        done = [load_checkpoint(folder).step if load_checkpoint(folder) else 0]
        rows, model = [], Model(seed=5 * bool(done[0]))   # in a later session only the checkpoint knows
        after = lambda model, step: done.__setitem__(0, step + 1) or ema(model, step)
        for row in fit(model, [replace(p, after_step=after) for p in phases(lambda: done[0])], folder,
                       Session(save_every=save_every), clock=count().__next__):
            rows.append(row)
            if row['step'] == stop: break
        return rows, model
    rows, model = session(tmp_path/'whole', 0, 1e9)
    best = [r['weight'] for r in rows if r['step'] == 8]
    assert [weight(model)] == best
    for stop in (3, 8, 9, 11, 17, 24, 25):
        session(tmp_path/str(stop), stop, 7)
        _, again = session(tmp_path/str(stop), 0, 7)
        assert [weight(again)] == best == [saved_best(tmp_path/str(stop))], stop

def test_a_kill_while_the_best_weights_are_brought_back(tmp_path, monkeypatch):
    "Early stopping is over then, too: not one more step is done."
    def phases(*scores): return [replace(PHASES[0], every=3, check=wave(*scores), score='score', patience=2)]
    def killed(*ignored): raise KeyboardInterrupt
    rows = []
    with monkeypatch.context() as broken:
        broken.setattr('shutka.train.saver.unpack_model', killed)
        with pytest.raises(KeyboardInterrupt):
            for row in fit(Model(), phases(.5, .4, .3), tmp_path): rows.append(row)
    assert rows[-1]['end'] == 'patience' and load_checkpoint(tmp_path).state['within'] == 9
    assert run(tmp_path, phases(), model := Model(seed=3)) == []
    assert weight(model) == rows[2]['weight']

def test_each_step_is_written_once(tmp_path, monkeypatch):
    "Also the last one of a phase, whose checkpoint is of the time between two phases."
    written, save = [], saver.save_checkpoint

    def note(folder, step, *more, **named):
        written.append(step)
        return save(folder, step, *more, **named)
    monkeypatch.setattr(saver, 'save_checkpoint', note)
    run(tmp_path, [replace(p, steps=4) for p in PHASES], save_every=0)
    assert written == list(range(9))

def test_a_later_phase_that_makes_it_worse_hands_on_what_it_was_given(tmp_path):
    model = Model()
    first = replace(PHASES[0], every=5, check=wave(.1, .2, .3, .4, .5), score='score')
    rows = run(tmp_path, [first, replace(PHASES[1], check=wave(.5, .4, .3, .2, .1), score='score')], model)
    assert weight(model) == [r['weight'] for r in rows if r['step'] == 25][0]
    assert load_checkpoint(tmp_path).step == 60 and load_checkpoint(tmp_path).state['best_step'] == 25
    better = run(tmp_path/'b', [replace(first, check=wave(.1, .2, .3, .4, .5)),
                                replace(PHASES[1], check=wave(.5, .4, .3, .6, .1), score='score')], model := Model())
    assert weight(model) == [r['weight'] for r in better if r['step'] == 55][0]

def test_best_weights_that_are_lost_are_said_and_found_anew(tmp_path):
    def phases(*scores): return [replace(PHASES[0], every=5, check=wave(*scores), score='score')]
    calls = count(1).__next__
    run(tmp_path, phases(.9, .5, .4), stop=lambda: calls() == 17, save_every=0)
    (tmp_path/'step-00000005'/'model.safetensors').unlink()
    with pytest.warns(UserWarning, match='the best weights, of step 5, are lost'):
        rows = run(tmp_path, phases(.3, .2), model := Model())
    assert weight(model) == [r['weight'] for r in rows if r['step'] == 20][0]

@pytest.mark.parametrize('value', [None, 'high'])
def test_a_score_that_is_no_number_is_refused(tmp_path, value):
    "Patience once waited for it, and brought back the weights from before the first step."
    phase = replace(PHASES[0], every=3, check=lambda model: {'score': value}, score='score', patience=2)
    with pytest.raises(UserError, match='score must be a number in every check'): run(tmp_path, [phase])

@pytest.mark.parametrize('value', [*BAD, -float('inf')])
@pytest.mark.parametrize('score', ['', 'mrr', 'val_loss'])
def test_a_check_that_is_not_finite_is_divergence(tmp_path, value, score):
    phase = replace(PHASES[0], every=3, check=lambda model: {'mrr': .5, 'val_loss': value}, score=score)
    with pytest.raises(Diverged, match=rf"phase 'head', after step 3: .* val_loss is {value}"): run(tmp_path, [phase])

def test_a_check_of_weights_that_will_be_taken_back_is_left_out(tmp_path):
    calls = count(1).__next__
    def check(model): return {'mrr': float('nan') if calls() == 2 else .5}
    phase = replace(PHASES[0], loss=breaking(float('nan'), 9), every=5, check=check, score='mrr')
    rows = run(tmp_path, [phase])
    assert [r['step'] for r in rows if 'mrr' in r] == [5, 15, 20, 25]

def test_every_step_has_a_chance_of_its_own(tmp_path):
    "The same batch, and weights that hardly move: only dropout makes the losses differ."
    phase = replace(PHASES[0], batch=lambda step, rank, world: batch(0, rank, world), lr=1e-12, steps=12)
    assert len({r['loss'] for r in run(tmp_path, [phase], Model(dropout=.5))}) == 12

def test_nothing_is_saved_while_losses_are_bad(tmp_path):
    kept = {}
    for row in fit(Model(), [replace(PHASES[0], loss=breaking(float('nan'), 6, 7))], tmp_path, Session(save_every=0)):
        kept[row['step']] = load_checkpoint(tmp_path).step   # what was saved before this row
    assert (kept[7], kept[8], kept[9], kept[10]) == (6, 6, 6, 9)


# Two phases, and two sessions

def test_a_phase_without_a_score_is_not_checked_before_it_begins(tmp_path):
    "A check takes minutes; only one that judges is asked about the weights that a phase begins with."
    asked = []
    phase = replace(PHASES[1], steps=4, check=lambda model: asked.append(1) or {'size': 1.})
    run(tmp_path, [replace(PHASES[0], steps=3), replace(phase, every=2)])
    assert len(asked) == 2

def test_what_is_done_before_the_first_step_takes_time_too(tmp_path):
    now = [0.]
    class Large(Model):
        def to(self, device):
            now[0] += 90
            return super().to(device)
    rows = run(tmp_path, PHASES[:1], Large(), clock=lambda: now[0])
    assert rows[0]['seconds'] == 90

def test_losses_that_were_bad_in_one_phase_are_not_counted_in_the_next(tmp_path):
    nan = float('nan')
    rows = run(tmp_path, [replace(PHASES[0], loss=breaking(nan, 24)), replace(PHASES[1], loss=breaking(nan, 0, 1))])
    assert [r['step'] for r in rows if r['loss'] is None] == [25, 26, 27]
    assert not [r for r in rows if 'back' in r] and rows[-1]['step'] == 60

def test_a_phase_is_judged_by_its_own_scores(tmp_path):
    "The second has another measure, in which .1 is little and .5 is much."
    first = replace(PHASES[0], every=5, check=wave(.9, .8, .95, .7, .6), score='score')
    second = replace(PHASES[1], every=7, check=wave(.1, .2, .3, .5, .4, .3), score='score', patience=3)
    rows = run(tmp_path, [first, second], model := Model())
    assert (rows[-1]['step'], rows[-1]['end']) == (60, 'steps')
    assert weight(model) == [r['weight'] for r in rows if r['step'] == 46][0]

def test_the_time_of_a_phase_is_counted_from_its_begin(tmp_path):
    "The second half of a session is a whole phase: its rate begins at the peak, and cools down once."
    phases = [replace(PHASES[0], steps=0, warmup=0, until=.5), replace(PHASES[1], steps=0)]
    rows = run(tmp_path, phases, clock=count().__next__, minutes=1)
    rates = [r['lr'] for r in rows if r['phase'] == 'all']
    assert 10 < len(rates) < len(rows) - 10 and rates == sorted(rates, reverse=True)
    assert rates[0] > .97 * PHASES[1].lr and rates[-1] < .2 * PHASES[1].lr


# A step that hangs

def hang_child(folder):
    "Step 8 never ends; the watchdog tells, and the process leaves."
    def stuck(text):
        print(text, flush=True)
        os._exit(3)
    def sleeps(model, given):
        if given['a'].equal(batch(7, 0, 1)['a']): this_call_never_returns()
        return predict(model, given)
    list(fit(Model(), [replace(PHASES[0], loss=sleeps), PHASES[1]], folder, Session(stuck_after=1.), stuck=stuck))

def this_call_never_returns(): time.sleep(100)

def test_a_step_that_hangs_is_written_down_and_costs_nothing(tmp_path):
    done = subprocess.run([sys.executable, __file__, 'hang', str(tmp_path)], env=CHILD, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 3 and "phase 'head', step 8: nothing moved for" in done.stdout, done.stderr
    assert 'in this_call_never_returns' in (tmp_path/'stuck-0.txt').read_text()
    assert load_checkpoint(tmp_path).step == 7
    rest = run(tmp_path, model=Model(seed=2))
    assert rest[0]['step'] == 8 and losses(rest) == losses(run(tmp_path/'whole'))[7:]

def test_a_reader_may_take_its_time(tmp_path):
    "Between two rows nobody is expected to work."
    for row in fit(Model(), PHASES[:1], tmp_path, Session(stuck_after=.2), stuck=pytest.fail):
        if row['step'] == 3: time.sleep(.6)
    assert not list(tmp_path.glob('stuck*'))


# Settings of a session

def test_one_process_cannot_share(tmp_path):
    with pytest.raises(UserError, match='set shard to false'): run(tmp_path, shard=True)

@pytest.mark.parametrize('wrong', [{'precision': 'fp8'}, {'optimizer': 'sgd'}, {'micro_batches': 0}, {'minutes': 0}])
def test_a_session_is_checked(wrong):
    with pytest.raises(UserError): Session(**wrong)

def test_8_bit_state_resumes_exactly_and_another_optimizer_is_another_run(tmp_path):
    whole = run(tmp_path/'whole', optimizer='adamw8bit')
    assert whole[-1]['loss'] < whole[0]['loss']
    calls = count(1).__next__
    first = run(tmp_path/'cut', optimizer='adamw8bit', stop=lambda: calls() == 40)
    with pytest.raises(UserError, match='optimizer was adamw8bit and is adamw'): run(tmp_path/'cut')
    assert losses(first + run(tmp_path/'cut', model=Model(seed=1), optimizer='adamw8bit')) == losses(whole)

def test_a_row_keeps_its_own_names(tmp_path):
    def logs(model, batch): return predict(model, batch)[0], {'step': torch.tensor(1.)}
    with pytest.raises(UserError, match='must not log step'): run(tmp_path, [replace(PHASES[0], loss=logs)])


if __name__ == '__main__':
    torch.set_num_threads(1)
    children = dict(kill=kill_child, gloo=gloo_child, shard=shard_child, apart=apart_child, hang=hang_child)
    children[sys.argv[1]](Path(sys.argv[2]))

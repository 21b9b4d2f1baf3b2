"Parts of the loop by themselves, each with what would go wrong without one of its lines."
import json
import warnings
from dataclasses import replace
from itertools import count

import pytest
import torch
from test_fit import PHASES, Model, Refusing, breaking, losses, run, saved_best, wave, weight
from torch.amp import GradScaler

from shutka.core.errors import Diverged, OutOfMemory, UserError
from shutka.models.recompute import MicroBatches
from shutka.train.checkpoint import load_checkpoint, write_manifest
from shutka.train.position import Position, halve_micro_batches, is_out_of_memory, judge_step
from shutka.train.saver import Saver, go_back
from shutka.train.step import clip_gradients, join_processes, seed_step
from shutka.train.trainer import Session, Trainer


@pytest.fixture(autouse=True)
def one_thread(): torch.set_num_threads(1)


@pytest.fixture
def trainer():
    "Before the first step of a phase."
    here = join_processes()
    return Trainer(phase=PHASES[0], model=Model().to(here.device), position=Position(), session=Session(),
                   scaler=GradScaler(here.device.type, enabled=False), here=here)


def test_an_error_of_a_check_is_not_taken_for_lack_of_memory(tmp_path):
    def wrong(model): raise RuntimeError('shapes cannot be multiplied')
    with pytest.raises(RuntimeError, match='^shapes') as caught: run(tmp_path, [replace(PHASES[0], check=wrong)])
    assert not isinstance(caught.value, OutOfMemory)


def test_micro_batches_are_halved_down_to_one_example_and_no_further(tmp_path):
    with warnings.catch_warnings(record=True) as said, pytest.raises(OutOfMemory):
        warnings.simplefilter('always')
        run(tmp_path, model=Refusing(0))
    assert [f'in {n} micro-batches' in str(w.message) for n, w in zip((2, 4, 8), said, strict=True)] == [True] * 3


def test_several_processes_start_again_with_more_micro_batches():
    with pytest.raises(OutOfMemory, match='start all processes again with 4') as caught:
        halve_micro_batches(MicroBatches(Model(), 2), 8, 2, 'step 3', MemoryError())
    assert caught.value.micro_batches == 4


def test_a_state_of_version_0_2_resumes(tmp_path):
    "It has another name for the micro-batches, and lacks what says where the best weights are."
    def phases(*scores): return [replace(PHASES[0], every=5, check=wave(*scores), score='score', patience=2)]
    calls = count(1).__next__
    run(tmp_path, phases(.5, .4), stop=lambda: calls() == 11, save_every=0)
    found = load_checkpoint(tmp_path)
    state = json.loads((found.path/'state.json').read_text())
    state['pieces'] = state.pop('micro_batches')
    for name in ('best_saved', 'hurdle'): del state[name]
    (found.path/'state.json').write_text(json.dumps(state | {'best_step': 11}))   # a checkpoint that is there
    (found.path/'manifest.json').unlink()
    write_manifest(found.path)
    rows = run(tmp_path, phases(.3, .2), model := Model(seed=4))
    assert (rows[-1]['step'], rows[-1]['end']) == (15, 'patience') and state['waited'] == 1
    assert weight(model) == found.tensors('model')['head.weight'].sum().item()


def test_between_two_phases_there_is_no_optimizer_and_no_second_copy(tmp_path):
    run(tmp_path, [replace(PHASES[0], every=5, check=wave(.1, .5, .4, .3, .2), score='score')])
    assert sorted(path.name for path in load_checkpoint(tmp_path).path.iterdir()) == [
        'manifest.json', 'model.safetensors', 'state.json']


def test_a_newer_best_replaces_the_one_in_memory(tmp_path):
    "The first waits for a checkpoint when the second one, better, is the model that is saved."
    phase = replace(PHASES[0], every=1, check=wave(.1, .2, .3), score='score')
    calls = count(1).__next__
    rows = run(tmp_path, [phase], stop=lambda: calls() == 3)
    assert saved_best(tmp_path) == rows[-1]['weight'] != rows[1]['weight']
    assert not (load_checkpoint(tmp_path).path/'best.safetensors').exists()


def test_a_phase_that_ends_with_its_time_is_checked(tmp_path):
    phase = replace(PHASES[0], steps=0, check=lambda model: {'dropout': float(model.training)})
    rows = run(tmp_path, [phase], clock=count().__next__, minutes=.2)
    assert [r['step'] for r in rows if 'dropout' in r] == [rows[-1]['step']] and rows[-1]['end'] == 'minutes'


def test_overflows_count_only_in_a_row():
    position, over, good = Position(), {'loss': 1., 'grad_norm': float('inf')}, {'loss': 1., 'grad_norm': 1.}
    for numbers in [over] * 19 + [good] + [over] * 19: judge_step(numbers, position, PHASES[0], scaled=True)
    assert (position.in_a_row, position.skipped) == (19, 38)
    with pytest.raises(Diverged, match='20 steps in a row'): judge_step(over, position, PHASES[0], scaled=True)


def test_steps_that_end_a_phase_come_before_patience(tmp_path):
    phase = replace(PHASES[0], every=5, check=wave(.5, .4, .3, .2, .1), score='score', patience=4)
    assert run(tmp_path, [phase])[-1]['end'] == 'steps'


def test_the_best_stays_where_it_was_saved_while_later_ones_are_written(tmp_path):
    phase = replace(PHASES[0], every=3, check=wave(.1, .9, .2, .3, .4, .5, .6, .7), score='score')
    calls = count(1).__next__
    rows = run(tmp_path, [phase], stop=lambda: calls() == 23, save_every=4, clock=count().__next__)
    assert saved_best(tmp_path) == [r['weight'] for r in rows if r['step'] == 6][0]


def test_the_watchdog_saves_no_step_that_nobody_has_logged(trainer, tmp_path):
    saver, said = Saver(tmp_path, {}, trainer.position), []
    tmp_path.mkdir(exist_ok=True)
    trainer.position.step = 1   # its row is being written while the reader hangs
    saver.rescue(trainer, said.append, passed=9., at_rest=True)
    assert load_checkpoint(tmp_path) is None and len(said) == 1
    saver.handled = 1
    saver.rescue(trainer, said.append, passed=9., at_rest=False)
    assert load_checkpoint(tmp_path) is None
    saver.rescue(trainer, said.append, passed=9., at_rest=True)
    assert load_checkpoint(tmp_path).step == 1


def test_to_go_back_to_the_start_of_a_phase_forgets_the_optimizer(trainer, tmp_path):
    saver = Saver(tmp_path, {}, trainer.position)
    saver.save(trainer)
    for p in trainer.learned.values(): p.grad = torch.ones_like(p)
    trainer.optimizer.step()
    assert trainer.optimizer.state
    trainer.position.bad = [1, 2, 3]
    go_back(trainer, load_checkpoint(tmp_path))
    assert not trainer.optimizer.state and trainer.position.gone_back == [1, 2, 3] and not trainer.position.bad


def test_after_going_back_a_checkpoint_is_written_at_once(tmp_path):
    phase = replace(PHASES[0], loss=breaking(float('nan'), 4, 5, 6))
    calls = count(1).__next__
    run(tmp_path, [phase], stop=lambda: calls() == 8, save_every=1e9)
    assert [load_checkpoint(tmp_path, step).step for step in (0, 7, 8)] == [0, 7, 8]


def test_a_world_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match='2 processes were asked for, 1 started'): run(tmp_path, world=2)


def test_a_gradient_is_clipped_and_its_length_before_is_told(trainer):
    for p in trainer.learned.values(): p.grad = torch.full_like(p, 3.)
    norm = torch.cat([p.grad.flatten() for p in trainer.learned.values()]).norm()
    assert clip_gradients(trainer.learned, trainer.optimizer, trainer.scaler, .5).item() == pytest.approx(norm.item())
    assert torch.cat([p.grad.flatten() for p in trainer.learned.values()]).norm() == pytest.approx(.5, rel=1e-4)


def test_chance_depends_on_seed_step_and_rank():
    def draw(*key):
        seed_step(*key, torch.device('cpu'))
        return torch.rand(4).tolist()
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({tuple(draw(*key)) for key in keys}) == 4 and draw(0, 1, 0) == draw(0, 1, 0)


def test_another_seed_is_another_training(tmp_path):
    assert losses(run(tmp_path/'a', PHASES[:1], seed=0)) != losses(run(tmp_path/'b', PHASES[:1], seed=1))


def test_weights_move_by_the_learning_rate_of_their_step(tmp_path):
    "Adam's first step is as long as the rate; a warm-up of 25 steps begins with a 25th of it."
    model, before = Model(), Model()
    calls = count(1).__next__
    rows = run(tmp_path, [replace(PHASES[0], warmup=25, weight_decay=0.)], model, stop=lambda: calls() == 1)
    moved = (model.head.weight - before.head.weight).abs().max().item()
    assert moved == pytest.approx(rows[0]['lr'], rel=.01) and rows[0]['lr'] == pytest.approx(.01 / 25)


def test_a_run_may_go_on_in_another_precision(tmp_path):
    "One that began in full precision has no scale of gradients to go on with."
    calls = count(1).__next__
    first = run(tmp_path, PHASES[:1], stop=lambda: calls() == 5)
    rest = run(tmp_path, PHASES[:1], Model(seed=3), precision='fp16')
    assert [r['step'] for r in first + rest] == list(range(1, 26)) and rest[-1]['loss'] < first[0]['loss']


@pytest.mark.parametrize('error, lacks', [
    (MemoryError(), True), (torch.cuda.OutOfMemoryError('90 GiB'), True),
    (RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory'), True),
    (RuntimeError('CUDA error: out of memory'), True), (RuntimeError('CUBLAS_STATUS_ALLOC_FAILED'), True),
    (RuntimeError('CUDA calloc failed'), True), (RuntimeError('CUDA error: an illegal memory access'), False),
    (ValueError('DefaultCPUAllocator'), False), (KeyError('memory'), False)])
def test_lack_of_memory_is_known_by_what_is_raised(error, lacks): assert is_out_of_memory(error) == lacks

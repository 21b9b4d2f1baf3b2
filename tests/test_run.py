"""A run as its user meets it: killed, stopped, damaged, on two processes, started twice.

Each ends as if nothing had happened, or says why not. The trained program is `small.py`:
`python -m shutka.train.run` with a small model.
"""
import contextlib
import errno
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from small import change

import shutka.train.launch as launcher
import shutka.train.run as program
from shutka.core.errors import BudgetReached, Diverged, OutOfMemory, Taken, UserError
from shutka.core.files import read_json, read_jsonl, write_json
from shutka.core.hashes import make_rng
from shutka.faces import cli
from shutka.models.text_jepa_files import load_model
from shutka.serve.seats import open_seat
from shutka.train.checkpoint import list_checkpoints, load_checkpoint
from shutka.train.fit import fit
from shutka.train.folder import prepare, update_result
from shutka.train.launch import launch
from shutka.train.lock import hold_run, lock_folder
from shutka.train.log import append_row, read_result
from shutka.train.run import read_steps, run_training
from shutka.train.summary import summarize_run
from shutka.typescript.run import train
from shutka.typescript.settings import TypescriptSettings

HERE = Path(__file__).parent


def folder_of(recipe): return Path(recipe.settings.out)

def newest_checkpoint(recipe): return load_checkpoint(recipe.settings.checkpoint_folder)

def result_of(recipe): return read_result(recipe.settings.out)

def rows_of(recipe): return read_steps(folder_of(recipe)/'log.jsonl')

def losses(recipe): return [(r['phase'], r['step'], r['lr'], r['loss']) for r in rows_of(recipe)]

def model_of(recipe): return load_model(folder_of(recipe)/'model')

def has_model(recipe): return (folder_of(recipe)/'model'/'model.json').exists()

def last_step(recipe):
    "The newest step in the log; 0 if there is none."
    rows = rows_of(recipe)
    return rows[-1]['step'] if rows else 0

def alive(pid):
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError: return False


@pytest.fixture(autouse=True)
def children(monkeypatch):
    "What `launch` starts trains a small model. The processes are kept in a list; none outlives its test."
    monkeypatch.setenv('PYTHONPATH', str(HERE.parent))
    command, popen, started = launcher.training_command, subprocess.Popen, []

    def small_command(*args):
        words = command(*args)
        at = words.index('shutka.train.run')
        return [*words[:at - 1], str(HERE/'small.py'), *words[at + 1:]]

    def start(*args, **kw):
        started.append(popen(*args, **kw))
        return started[-1]

    monkeypatch.setattr(launcher, 'training_command', small_command)
    monkeypatch.setattr(launcher.subprocess, 'Popen', start)
    yield started
    left = [p for p in started if p.poll() is None]
    for p in left: p.kill()
    assert not left


@pytest.fixture
def every_step(monkeypatch):
    "A checkpoint after each step, in this process."
    def fit_and_save(model, phases, folder, session, **hooks):
        return fit(model, phases, folder, replace(session, save_every=0), **hooks)
    monkeypatch.setattr(program, 'fit', fit_and_save)


# --- killed ---------------------------------------------------------------------------------------

def pull_the_plug(process):
    "Kill a process and all that it has started; torchrun's workers are in sessions of their own."
    try: started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess: started = []   # it was done already
    process.kill()
    for p in started:
        with contextlib.suppress(psutil.NoSuchProcess): p.kill()
    process.wait()
    psutil.wait_procs(started)

def wait_for_step(process, recipe, after):
    "Wait for a step after the one given, or for the end."
    while process.poll() is None and last_step(recipe) <= after: time.sleep(.002)

@pytest.mark.parametrize('world, kills', [
    (1, 2),
    pytest.param(2, 1, marks=pytest.mark.faults),
    pytest.param(1, 20, marks=pytest.mark.faults),
    pytest.param(2, 20, marks=pytest.mark.faults),
])
def test_sigkill_at_random_moments_and_the_losses_are_the_same_to_the_last_bit(small, world, kills):
    "On the bundled corpus, in every phase. Several processes die together, as with the plug."
    steps = 24 if kills < 20 else 80
    whole = small('whole', source='bundled:typescript', max_samples=150, steps=steps, epochs=0, ternary=.2,
                  processes=world)
    killed = change(whole, out=str(folder_of(whole).with_name('killed')))
    shutil.copytree(whole.settings.out, killed.settings.out)

    def start(recipe):
        command = launcher.training_command(folder_of(recipe), world, math.inf)
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    child = start(whole)
    assert child.wait(120) == 0, child.stderr.read()
    chance = make_rng(0, 'kill', world, kills)
    for _ in range(kills):
        child = start(killed)
        before = len(rows_of(killed))
        # One in five dies while it starts, the others after a step.
        if chance.random() < .8: wait_for_step(child, killed, min(before, steps - 4))
        time.sleep(chance.random() / 4)
        pull_the_plug(child)
        saved = newest_checkpoint(killed)
        assert not saved or saved.step <= last_step(killed)
    child = start(killed)
    assert child.wait(120) == 0, child.stderr.read()
    assert losses(killed) == losses(whole) and len(losses(whole)) == steps
    assert {p for p, *_ in losses(whole)} == {'words', 'order', 'ternary'}
    assert result_of(killed)['metrics'] == result_of(whole)['metrics']
    texts = ['parse a date', '{ return a + b; }']
    for side in ('words', 'code'):
        assert (model_of(killed).encode(texts, side) == model_of(whole).encode(texts, side)).all()


def cut(path): os.truncate(path, path.stat().st_size // 2)

def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

@pytest.mark.parametrize('damage, name', [
    (cut, 'model.safetensors'),
    (flip, 'optimizer.safetensors'),
    (Path.unlink, 'state.json'),
])
def test_a_damaged_checkpoint_costs_a_few_steps_and_no_more(small, every_step, damage, name):
    whole, hurt = small('whole'), small('hurt')
    assert run_training(whole.settings.out) == 0
    told = iter([()] * 5 + [(1,)])

    class Soon:
        "A list of signals that gets its first one after five steps."
        def __bool__(self): return bool(next(told))

    assert run_training(hurt.settings.out, signals=Soon()) == 4
    assert result_of(hurt)['status'] == 'stopped'
    newest = list_checkpoints(hurt.settings.checkpoint_folder)[-1]
    damage(newest/name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert run_training(hurt.settings.out) == 0
    assert any(newest.name in str(w.message) and 'going back' in str(w.message) for w in said)
    assert losses(hurt) == losses(whole)


def test_without_a_whole_checkpoint_nothing_starts(small, every_step, capsys, children):
    recipe = small()
    assert run_training(recipe.settings.out, signals=[1]) == 4
    for path in list_checkpoints(recipe.settings.checkpoint_folder): cut(path/'state.json')
    before = sorted(folder_of(recipe).rglob('*'))
    capsys.readouterr()
    assert run_training(recipe.settings.out) == 2
    said = capsys.readouterr().err
    assert 'all are damaged' in said and said.count('\n') == 1
    with pytest.raises(UserError, match='all are damaged'): launch(recipe)
    assert not children
    assert sorted(folder_of(recipe).rglob('*')) == before and len(rows_of(recipe)) == 1


# --- launched -------------------------------------------------------------------------------------

def test_two_processes_train_as_one(small, children):
    "Losses of the global batch, learning rates and checks, to the sixth digit."
    one, two = small('one'), small('two', processes=2)
    found = launch(two)
    assert run_training(one.settings.out) == 0
    assert found['status'] == 'trained' and 'torch.distributed.run' in children[0].args
    for a, b in zip(rows_of(one), rows_of(two), strict=True):
        assert a.keys() == b.keys() and (a['phase'], a['step'], a['lr']) == (b['phase'], b['step'], b['lr'])
        for key in ('loss', 'grad_norm', 'mrr'):
            expected = pytest.approx(a.get(key, 0), rel=1e-6, abs=1e-6)
            assert b.get(key, 0) == expected, (a['step'], key)


def test_wandb_is_told_each_step(small, children, tmp_path, monkeypatch):
    "By a stand-in; a run that is complete is not told again."
    (tmp_path/'wandb.py').write_text(f'''
import json
class Run:
    id = 'abc'
    def define_metric(self, *a, **k): pass
    def log(self, row): say(row)
    def finish(self): say('end')
def say(what):
    with open({str(tmp_path / 'told')!r}, 'a') as file: file.write(json.dumps(what) + chr(10))
def init(**how):
    say([how['project'], how['id']])
    return Run()
''')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, 'wandb', raising=False)
    recipe = small(wandb='runs')
    launch(recipe)
    launch(recipe)   # complete: nobody is told anything
    told = [json.loads(line) for line in (tmp_path/'told').read_text().splitlines()]
    assert told[0] == ['runs', None] and told[-1] == 'end' and told.count('end') == 1
    steps = [(name.partition('/')[0], row[name]) for row in told[1:-1] for name in row if name.endswith('/step')]
    assert [*dict.fromkeys(steps)] == [(row['phase'], row['step']) for row in rows_of(recipe)]
    monkeypatch.delitem(sys.modules, 'wandb')


@pytest.mark.parametrize('processes', [1, pytest.param(2, marks=pytest.mark.faults)])
def test_a_failure_is_the_same_error_here(small, processes):
    "A learning rate that breaks training, and a file that is gone."
    recipe = small(lr=1e30, processes=processes)
    with pytest.raises(Diverged, match='must be finite|was halted'): launch(recipe)
    result = result_of(recipe)
    assert result['status'] == 'failed' and 'Diverged' in result['error']
    with lock_folder(recipe.settings.out): pass  # nobody holds the folder
    (folder_of(recipe)/'data'/'train.jsonl').unlink()
    if processes == 1:
        with pytest.raises(UserError, match='train.jsonl does not exist'): launch(recipe)


@pytest.mark.parametrize('processes', [1, 2])
def test_sigterm_saves_and_the_same_command_goes_on(small, monkeypatch, processes):
    whole, recipe = small('whole'), small(processes=processes)
    monkeypatch.setenv('SIGTERM_AT', '4')
    stopped = '^training was stopped; the same command resumes from .*checkpoints$'
    with pytest.raises(BudgetReached, match=stopped): launch(recipe)
    assert result_of(recipe)['status'] == 'stopped'
    assert newest_checkpoint(recipe).step == len(rows_of(recipe)) < 10
    alone = change(recipe, processes=1)   # from two processes to one, too
    assert run_training(alone.settings.out) == run_training(whole.settings.out) == 0
    tolerance = 1e-6 * (processes > 1)    # one process comes to the same bits
    for a, b in zip(losses(recipe), losses(whole), strict=True):
        assert a[:3] == b[:3] and a[3] == pytest.approx(b[3], abs=tolerance)


def test_a_session_that_is_over_leaves_a_model_and_goes_on(small, monkeypatch):
    "A session whose time is over, then one with enough."
    recipe = small(steps=0, epochs=3, minutes=10)
    monkeypatch.setenv('LATE_AT', '5')
    found = launch(recipe)
    assert found['status'] == 'budget' and rows_of(recipe)[-1]['end'] == 'minutes' and has_model(recipe)
    steps = found['steps']
    monkeypatch.delenv('LATE_AT')
    longer = change(recipe, minutes=0)
    prepare(longer, progress=lambda line: None)   # another budget is the same run
    found = launch(longer)
    assert found['status'] == 'trained' and found['steps'] > steps
    assert [r['step'] for r in rows_of(recipe)] == list(range(1, found['steps'] + 1))

def test_two_processes_agree_on_the_end_of_a_session(small):
    "A limit in time only: both end at the same step, with the same learning rates, and there is a model."
    recipe = small(steps=0, epochs=0, minutes=.8, processes=2)
    assert launch(recipe)['status'] == 'trained'
    assert [r['end'] for r in rows_of(recipe) if 'end' in r] == ['minutes', 'minutes']
    assert has_model(recipe)

def test_a_budget_of_two_processes_is_no_failure(small, monkeypatch):
    recipe = small(steps=0, epochs=3, minutes=10, processes=2)
    monkeypatch.setenv('LATE_AT', '5')
    found = launch(recipe)
    assert found['status'] == 'budget' and found['error'] is None and has_model(recipe)

def test_what_an_earlier_session_said_does_not_count(small, monkeypatch):
    recipe = small()
    update_result(recipe.settings.out, status='budget')
    monkeypatch.setattr(launcher, 'training_command', lambda *ignored: ['false'])
    with pytest.raises(RuntimeError, match='exit code 1'): launch(recipe)
    assert result_of(recipe)['status'] == 'failed'

def test_a_process_that_was_killed_can_go_on(small, monkeypatch):
    recipe = small(steps=200, epochs=0, processes=2)

    def follow(process, **ignored):
        while not rows_of(recipe): time.sleep(.01)
        started = psutil.Process(process.pid).children(recursive=True)
        workers = [p for p in started if 'small.py' in ' '.join(p.cmdline())]
        workers[-1].kill()
        process.wait()

    monkeypatch.setattr(launcher, 'follow_log', follow)
    with pytest.raises(BudgetReached, match='a training process was killed'): launch(recipe)
    assert result_of(recipe)['status'] == 'stopped' and newest_checkpoint(recipe).step > 0


def test_without_time_nothing_is_trained(small, capsys):
    recipe = small()
    assert run_training(recipe.settings.out, until=time.time() - 1) == 4
    assert 'no time is left' in capsys.readouterr().err
    assert result_of(recipe)['status'] == 'stopped' and not rows_of(recipe)


@pytest.mark.faults
def test_one_process_that_runs_out_of_memory_makes_all_use_smaller_pieces(small, monkeypatch, capsys):
    "The second of two devices holds two examples, its share is eight: tried with 1, 2 and 4 pieces."
    whole, recipe = small('whole'), small('small', processes=2)
    monkeypatch.setenv('REFUSE', '2')
    found = launch(recipe)
    assert found['status'] == 'trained'
    assert capsys.readouterr().out.count('once more, in smaller micro-batches') == 2
    assert {r['pieces'] for r in rows_of(recipe)} == {4}
    monkeypatch.delenv('REFUSE')
    assert run_training(whole.settings.out) == 0
    assert [r['loss'] for r in rows_of(recipe)] == pytest.approx([r['loss'] for r in rows_of(whole)], rel=1e-4)

@pytest.mark.parametrize('processes', [1, pytest.param(2, marks=pytest.mark.faults)])
def test_one_example_that_does_not_fit_ends_it(small, monkeypatch, processes):
    recipe = small(processes=processes)
    monkeypatch.setenv('REFUSE', '0')
    with pytest.raises(OutOfMemory, match='one example at a time must fit'): launch(recipe)
    result = result_of(recipe)
    assert rows_of(recipe) == []
    assert result['status'] == 'failed' and result['error'].startswith('OutOfMemory: ')


@pytest.mark.parametrize('processes', [1, pytest.param(2, marks=pytest.mark.faults)])
def test_a_step_that_hangs_is_tried_once_more(small, monkeypatch, capsys, processes):
    whole, recipe = small('whole'), small(processes=processes)
    monkeypatch.setenv('HANG_AT', '3')
    found = launch(recipe)
    assert found['status'] == 'trained'
    assert 'once more, from the last checkpoint' in capsys.readouterr().out
    assert 'in hang' in (recipe.settings.checkpoint_folder/f'stuck-{processes - 1}.txt').read_text()
    assert run_training(whole.settings.out) == 0
    tolerance = 1e-6 * (processes > 1)   # one process comes to the same bits
    assert [r['loss'] for r in rows_of(recipe)] == pytest.approx([r['loss'] for r in rows_of(whole)], abs=tolerance)


@pytest.mark.faults
def test_two_machines_with_weights_spread_over_both_are_the_same_run(small):
    "Two nodes of one process each, which meet on loopback and see the same folder."
    one, two = small('one'), small('two', processes=2, shard=True)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2', '--nproc_per_node', '1',
                '--master_addr', '127.0.0.1', '--master_port', str(port)]
    nodes = []
    for rank in '01':
        command = [*torchrun, '--node_rank', rank, str(HERE/'small.py'), two.settings.out, '2']
        nodes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    for node in nodes: assert node.wait(120) == 0, node.stderr.read()
    assert result_of(two)['status'] == 'trained' and run_training(one.settings.out) == 0
    vectors = [model_of(recipe).encode(['parse a date']) for recipe in (one, two)]
    assert abs(vectors[0] - vectors[1]).max() < 1e-3
    for a, b in zip(rows_of(one), rows_of(two), strict=True):
        for key in ('loss', 'mrr'):
            expected = pytest.approx(a.get(key, 0), rel=1e-4, abs=1e-5)
            assert b.get(key, 0) == expected, (a['step'], key)


def test_settings_that_save_memory_change_little(small):
    runs = [small('plain'), small('blocks', gradient_checkpointing=True), small('bits', optimizer='adamw8bit')]
    for recipe in runs: assert run_training(recipe.settings.out) == 0
    plain, blocks, bits = ([r['loss'] for r in rows_of(recipe)] for recipe in runs)
    assert blocks == plain and bits != plain and bits == pytest.approx(plain, rel=.05)


def test_a_crash_shows_its_traceback(small):
    recipe = small()
    (folder_of(recipe)/'data'/'train.jsonl').write_text('{"kind": "pair"}\n')
    with pytest.raises(RuntimeError, match='exit code 1:\n(.|\n)*KeyError'): launch(recipe)


def test_an_interrupt_lets_training_save(small, monkeypatch, children):
    recipe = small(steps=200)

    def follow(process, **ignored):
        while not rows_of(recipe): time.sleep(.01)
        raise KeyboardInterrupt
    monkeypatch.setattr(launcher, 'follow_log', follow)
    with pytest.raises(KeyboardInterrupt): launch(recipe)
    assert children[0].returncode == 4 and result_of(recipe)['status'] == 'stopped'
    assert newest_checkpoint(recipe).step == rows_of(recipe)[-1]['step']


def test_a_second_writer_is_refused_and_training_ends_with_the_process_that_launched_it(small, children):
    recipe = small(steps=2_000, epochs=0)
    command = [sys.executable, str(HERE/'small.py'), recipe.settings.out, '1']
    script = f"""
import subprocess, time
training = subprocess.Popen({command!r})
print(training.pid, flush=True)
time.sleep(99)
"""
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    while not rows_of(recipe): time.sleep(.01)
    with pytest.raises(UserError, match='another process is training'): launch(recipe)
    assert run_training(recipe.settings.out) == 2
    assert result_of(recipe) == {'status': 'running', 'error': None} and alive(pid)  # the first one goes on, unharmed
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(1_000):
        if not alive(pid): break
        time.sleep(.01)
    assert not alive(pid) and result_of(recipe)['status'] == 'stopped'


def test_no_run_folder_is_made_for_nothing(tmp_path):
    (tmp_path/'empty').mkdir()
    assert run_training(str(tmp_path/'none')) == run_training(str(tmp_path/'empty')) == 2
    assert [p.name for p in tmp_path.rglob('*') ] == ['empty']


def test_accelerate_launch_starts_the_same_program(small):
    "On a CPU it starts one process whatever it is asked for. The program then refuses to train with half the machine."
    accelerate = str(Path(sys.executable).with_name('accelerate'))
    options = ['--cpu', '--mixed_precision', 'no', '--dynamo_backend', 'no', '--num_machines', '1']

    def start(recipe, processes):
        words = [*options, '--num_processes', processes, str(HERE/'small.py'), recipe.settings.out, processes]
        return subprocess.run([accelerate, 'launch', *words], capture_output=True, text=True)

    one, two = small('one'), small('two')
    done = start(one, '1')
    assert done.returncode == 0 and result_of(one)['status'] == 'trained', done.stderr
    done = start(two, '2')
    assert done.returncode != 0 and '2 processes were asked for, 1 started' in done.stderr


def test_the_world_must_be_the_one_asked_for(small, capsys):
    recipe = small()
    assert run_training(recipe.settings.out, world=2) == 2
    assert '2 processes were asked for, 1 started' in capsys.readouterr().err


# --- once, and once more --------------------------------------------------------------------------

def test_a_finished_run_starts_nothing(small, children, capsys):
    recipe = small()
    assert run_training(recipe.settings.out) == 0

    def times(): return {p: p.stat().st_mtime_ns for p in folder_of(recipe).rglob('*')}
    before = times()
    assert launch(recipe) == result_of(recipe) and 'complete' in capsys.readouterr().out
    assert not children and times() == before


@pytest.mark.parametrize('field, value', [
    ('seed', 1), ('batch_size', 32), ('steps', 11), ('lr', .1), ('source', 'bundled:typescript'), ('held_out', 'web'),
])
def test_other_settings_are_refused_by_name(small, field, value):
    recipe = small()

    def content(): return {p: p.read_bytes() for p in folder_of(recipe).rglob('*') if p.is_file()}
    before = content()
    why = rf'other settings: {field} was .* and is {value!r} \('
    with pytest.raises(UserError, match=why): prepare(change(recipe, **{field: value}))
    assert content() == before


def test_what_a_run_leaves(small):
    recipe = small()
    assert run_training(recipe.settings.out) == 0
    assert sorted(p.name for p in folder_of(recipe).iterdir() if p.name != '.lock') == [
        'checkpoints', 'data', 'encoding.json', 'log.jsonl', 'model', 'result.json', 'run.json', 'seen.safetensors']
    hardware = [r for r in read_jsonl(folder_of(recipe)/'log.jsonl') if 'step' not in r]
    assert hardware and {'time', 'cpu_percent', 'ram_percent', 'ram_gb', 'disk_free_gb', 'gpus'} <= hardware[0].keys()
    assert TypescriptSettings(**read_json(folder_of(recipe)/'run.json')['settings']) == recipe.settings
    assert [r['step'] for r in rows_of(recipe)] == list(range(1, 11))
    expected = {'phase', 'step', 'loss', 'lr', 'grad_norm', 'seconds', 'tokens_s', 'memory_gb'}
    for row in rows_of(recipe): assert expected <= row.keys()
    assert {'mrr', 'effective_rank', 'mean_cosine', 'dead_dimensions'} <= rows_of(recipe)[-1].keys()
    assert recipe.settings.out not in (folder_of(recipe)/'log.jsonl').read_text()


def test_checkpoints_may_lie_elsewhere(small, tmp_path):
    recipe = small(checkpoint_dir=str(tmp_path/'elsewhere'))
    assert run_training(recipe.settings.out) == 0
    assert load_checkpoint(tmp_path/'elsewhere').step == 10 and not (folder_of(recipe)/'checkpoints').exists()


def test_a_single_checkpoint_is_a_model_and_can_be_served(small, every_step, tmp_path):
    recipe = small(ternary=.3, keep_checkpoints=9)
    assert run_training(recipe.settings.out) == 0
    expected = model_of(recipe).encode(['parse a date'])
    kinds = {}   # step -> (with order, ternary, encodes as the trained model does)
    for path in list_checkpoints(recipe.settings.checkpoint_folder):
        seat, _ = open_seat(path)
        config, vectors = seat.model.config, seat.encoder.encode(['parse a date'])
        step = int(path.name.removeprefix('step-'))
        kinds[step] = config.ordered, config.ternary, (vectors == expected).all()
    assert max(kinds) == 10 and kinds[10] == (True, True, True) and kinds[min(kinds)][1:] == (False, False)
    newest = recipe.settings.checkpoint_folder/'step-00000010'
    shutil.copytree(newest, tmp_path/'alone'/'checkpoints'/newest.name)
    with pytest.raises(UserError, match='no run folder'): open_seat(tmp_path/'alone'/'checkpoints'/newest.name)
    cut(newest/'model.safetensors')
    with pytest.raises(UserError, match='whole checkpoint'): open_seat(newest)


def test_a_run_may_start_from_another(small):
    first = small('first')
    assert run_training(first.settings.out) == 0
    again = small('again', resume=first.settings.out, lr=1e-12)
    assert run_training(again.settings.out) == 0
    vectors = [model_of(recipe).encode(['parse a date']) for recipe in (first, again)]
    assert abs(vectors[0] - vectors[1]).max() < 1e-6


# --- what is saved is the best, and what is said is true of it ------------------------------------

def best_row(recipe, key='mrr'): return max((r for r in rows_of(recipe) if key in r), key=lambda r: r[key])

@pytest.mark.parametrize('patience', [0, 2])
@pytest.mark.parametrize('lr', [2e-2, 3.])   # of the second one every step makes it worse
def test_numbers_are_measured_on_what_was_saved_and_that_is_the_best(small, patience, lr):
    recipe = small(steps=40, epochs=0, lr=lr, patience=patience)
    assert run_training(recipe.settings.out) == 0
    result, last = result_of(recipe), [r for r in rows_of(recipe) if 'mrr' in r][-1]
    checked = recipe.build_training()[1][-1].check(model_of(recipe).eval())
    assert {name: result['metrics'][name] for name in checked} == checked   # of the artefact
    best = best_row(recipe)
    # the last phase began with the best weights of the one before, at this step, and may have made them worse
    began = max(r['step'] for r in rows_of(recipe) if r['phase'] != last['phase'])
    assert result['metrics']['mrr'] == best['mrr']
    assert result['kept_step'] == (began if best['step'] <= began else best['step'])
    assert result['steps'] == rows_of(recipe)[-1]['step']
    if lr == 3.: assert best['mrr'] > last['mrr']
    kept = [r for r in rows_of(recipe) if r['step'] == result['kept_step']][0]
    # weights that no step of the last phase has made better have no loss of it
    assert result['metrics'].get('loss') == (kept['loss'] if kept['phase'] == last['phase'] else None)
    assert (lr != 3.) == (kept['phase'] == last['phase'])

@pytest.mark.parametrize(('late', 'phase'), [(2, 'words'), (30, 'order')])
def test_a_session_that_is_over_saves_the_best_model_so_far_and_resumes_from_the_last(small, monkeypatch, late, phase):
    recipe = small(steps=0, epochs=3, minutes=10, lr=3.)
    monkeypatch.setenv('LATE_AT', str(late))
    assert launch(recipe)['status'] == 'budget'
    result, best, last = result_of(recipe), best_row(recipe), rows_of(recipe)[-1]
    assert (last['phase'], last['end']) == (phase, 'minutes')
    # The last phase begins with the best weights of the one before; its blocks take part from then on, so what is
    # measured of them is not the number in the row of that step.
    began = max((r['step'] for r in rows_of(recipe) if r['phase'] != last['phase']), default=0)
    assert result['kept_step'] == (began if best['step'] <= began else best['step'])
    checked = next(p for p in recipe.build_training()[1] if p.name == phase).check(model_of(recipe).eval())
    assert {name: result['metrics'][name] for name in checked} == checked   # of the artefact
    if best['phase'] == last['phase']: assert result['metrics']['mrr'] == best['mrr']
    found = newest_checkpoint(recipe)
    assert found.step == result['steps'] and found.state['within']

def test_a_report_is_about_the_saved_model(small):
    recipe = small()
    rows = [{'phase': 'words', 'step': n, 'loss': 1 / n, 'lr': .1, 'grad_norm': 1., 'seconds': 1. * n, 'memory_gb': 1.}
            | ({'val_loss': {4: 2.007, 8: 2.140}[n]} if n in (4, 8) else {}) for n in range(1, 9)]
    for row in rows: append_row(folder_of(recipe)/'log.jsonl', row)
    run = read_json(folder_of(recipe)/'run.json')
    run['data']['examples'] = 64   # four steps are an epoch
    write_json(folder_of(recipe)/'run.json', run)
    assert summarize_run(folder_of(recipe))['final_val_loss'] == 2.140   # nothing is saved yet
    update_result(folder_of(recipe), status='trained', steps=8, kept_step=4, metrics={'val_loss': 2.007})
    report = summarize_run(folder_of(recipe))
    values = report['final_val_loss'], report['training']['final_val_loss'], report['training']['best_val_loss']
    assert values == (2.007, 2.007, 2.007)
    assert report['final_train_loss'] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert report['training']['loss_history']['val'] == [2.007, 2.140] and report['epochs_completed'] == 2

def test_a_finished_run_leaves_one_checkpoint(small, every_step):
    recipe, more = small('one'), small('more', keep_checkpoints=3)
    for each in (recipe, more): assert run_training(each.settings.out) == 0
    [path] = list_checkpoints(recipe.settings.checkpoint_folder)
    assert [f.name for f in sorted(path.iterdir())] == ['manifest.json', 'model.safetensors', 'state.json']
    assert len(list_checkpoints(more.settings.checkpoint_folder)) == 3
    update_result(recipe.settings.out, status='failed')   # as if the examination had failed
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert run_training(recipe.settings.out) == 0 and result_of(recipe)['status'] == 'trained'
    assert result_of(recipe)['metrics'] == result_of(more)['metrics']


# --- a log that was damaged -----------------------------------------------------------------------

def empty(log): log.write_bytes(b'')

def zeros_at_the_end(log):
    data = log.read_bytes()
    log.write_bytes(data[:len(data) // 2] + bytes(len(data) - len(data) // 2))

def zeros_in_a_line(log):
    lines = log.read_bytes().split(b'\n')
    second = [i for i, line in enumerate(lines) if b'"step"' in line][1]
    lines[second] = bytes(len(lines[second]))
    log.write_bytes(b'\n'.join(lines))

@pytest.mark.parametrize('damage', [empty, zeros_at_the_end, zeros_in_a_line, Path.unlink])
@pytest.mark.parametrize('finished', [False, True])
def test_a_damaged_log_beside_whole_checkpoints_stops_nothing(small, every_step, capsys, monkeypatch, damage, finished):
    whole, recipe = small('whole'), small('hurt')
    assert run_training(whole.settings.out) == 0
    told = iter([()] * (99 if finished else 5) + [(1,)] * 9)
    soon = type('Soon', (), {'__bool__': lambda self: bool(next(told))})()
    assert run_training(recipe.settings.out, signals=soon) == (0 if finished else 4)
    log = folder_of(recipe)/'log.jsonl'
    before = {r['step']: r for r in rows_of(recipe)}
    damage(log)
    left = {r['step']: r for r in rows_of(recipe)}
    assert len(left) < len(before)
    update_result(recipe.settings.out, status='stopped')
    monkeypatch.setattr(launcher, 'attempt_training', lambda out, *ignored: run_training(str(out)))
    capsys.readouterr()
    with pytest.warns(UserWarning, match='was damaged: the rows of'): launch(recipe)
    said = capsys.readouterr().out
    assert 'resumes from step' in said and 'was damaged: the rows of' in said and 'goes on from its checkpoint' in said
    assert result_of(recipe)['status'] == 'trained'
    rows, expected = {r['step']: r for r in rows_of(recipe)}, {r['step']: r for r in rows_of(whole)}
    assert rows.keys() >= left.keys() | (expected.keys() - before.keys())   # nothing that could be read is lost
    for step, row in rows.items(): assert row['loss'] == expected[step]['loss'], step
    known = {name: value for name, value in result_of(whole)['metrics'].items() if name != 'loss'}
    assert known.items() <= result_of(recipe)['metrics'].items()


# --- two commands at once -------------------------------------------------------------------------

HELD = """
import sys, time
from shutka.train.lock import hold_run
from shutka.typescript.settings import TypescriptSettings
with hold_run(TypescriptSettings(out=sys.argv[1], checkpoint_dir=sys.argv[2])):
    print('held', flush=True)
    time.sleep(99)
"""

@contextlib.contextmanager
def another_command(out, checkpoint_dir=''):
    "Another process, somewhere between preparing and bundling."
    process = subprocess.Popen([sys.executable, '-c', HELD, str(out), str(checkpoint_dir)], stdout=subprocess.PIPE,
                               text=True, env=os.environ | {'PYTHONPATH': str(HERE.parent)})
    try:
        assert process.stdout.readline() == 'held\n'
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

def test_a_second_command_is_refused_before_it_touches_anything(tmp_path, pairs, capsys):
    out = tmp_path/'run'
    with another_command(out):
        with pytest.raises(Taken, match='^another command is at work in .*run; wait for it, or choose another out$'):
            train(TypescriptSettings(source=f'jsonl:{pairs}', steps=2, batch_size=16, out=out))
        assert cli.run_command(['run', 'typescript', '-p', 'out', str(out)]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
        assert len(said) == 1 and 'another command is at work in' in said[0]
        assert not [path for path in out.rglob('*') if path.suffix != '.lock']   # no data, no executed notebook
    with hold_run(TypescriptSettings(out=out)): pass   # the lock went with its process

def test_a_checkpoint_dir_belongs_to_one_run(small, tmp_path):
    shared = tmp_path/'shared'
    with another_command(tmp_path/'first', shared):
        with pytest.raises(Taken, match='choose another checkpoint_dir'):
            with hold_run(TypescriptSettings(out=tmp_path/'second', checkpoint_dir=shared)): pass
    first = small('first', checkpoint_dir=shared)   # prepared, and killed before its first checkpoint
    assert not list_checkpoints(shared)
    with pytest.raises(UserError, match='checkpoints of another run; choose another checkpoint_dir'):
        small('second', checkpoint_dir=shared)
    prepare(first, progress=lambda line: None)      # its own run goes on
    assert run_training(first.settings.out) == 0
    with pytest.raises(UserError, match='checkpoints of another run'): small('third', checkpoint_dir=shared)

def test_commands_in_other_folders_do_not_wait(tmp_path):
    with another_command(tmp_path/'one'), hold_run(TypescriptSettings(out=tmp_path/'two')): pass


# --- a session on another machine -----------------------------------------------------------------

@pytest.fixture
def attached(small, every_step, tmp_path):
    "The output of an earlier session: a run that was stopped after five steps, somewhere below an input folder."
    recipe = small('run')
    told = iter([()] * 5 + [(1,)] * 9)
    soon = type('Soon', (), {'__bool__': lambda self: bool(next(told))})()
    assert run_training(recipe.settings.out, signals=soon) == 4
    (folder_of(recipe)/'notebook.ipynb').write_text('{}')
    place = tmp_path/'input'/'shutka-typescript'
    shutil.copytree(folder_of(recipe), place/'runs'/'typescript')
    shutil.rmtree(folder_of(recipe))
    return recipe, place

def test_a_second_session_copies_the_run_and_goes_on(small, attached):
    recipe, place = attached
    whole, said = small('whole'), []
    assert run_training(whole.settings.out) == 0
    again = change(recipe, resume_from=str(place))
    prepare(again, progress=said.append)
    assert len(said) == 1 and 'was copied to' in said[0]
    assert not (folder_of(again)/'notebook.ipynb').exists()
    reached = newest_checkpoint(again).step
    assert 0 < reached < 10 and run_training(again.settings.out) == 0
    assert losses(again) == losses(whole)
    assert result_of(again)['metrics'] == result_of(whole)['metrics']
    prepare(again, progress=said.append)   # the same command once more leaves what is there alone
    assert 'is not read' in said[-1] and newest_checkpoint(again).step == 10

def test_what_is_copied_is_verified(attached, monkeypatch):
    recipe, place = attached
    again = change(recipe, resume_from=str(place))
    newest = list_checkpoints(place/'runs'/'typescript'/'checkpoints')[-1]
    flip(newest/'model.safetensors')
    with pytest.warns(UserWarning, match='going back'): prepare(again, progress=lambda line: None)
    shutil.rmtree(folder_of(again))
    monkeypatch.setattr('shutka.train.adopt.filecmp.cmp', lambda *ignored, **more: False)
    with pytest.raises(UserError, match='must be a copy of'): prepare(again, progress=lambda line: None)
    assert not (folder_of(again)/'run.json').exists()

@pytest.mark.parametrize('change_it, why', [
    (dict(seed=3), 'seed was 0 and is 3'),
    (dict(resume_from='nowhere'), 'is not there'),
])
def test_what_cannot_be_gone_on_with_is_refused(attached, change_it, why):
    recipe, place = attached
    again = change(recipe, **dict(resume_from=str(place)) | change_it)
    with pytest.raises(UserError, match=why): prepare(again, progress=lambda line: None)
    assert not folder_of(again).exists()

def test_a_run_without_a_checkpoint_is_not_copied(attached):
    recipe, place = attached
    shutil.rmtree(place/'runs'/'typescript'/'checkpoints')
    with pytest.raises(UserError, match='must hold a checkpoint to go on from'):
        prepare(change(recipe, resume_from=str(place)), progress=lambda line: None)

def test_checkpoints_that_lay_elsewhere_are_found(small, every_step, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = small('run', checkpoint_dir='ckpt')
    assert run_training(recipe.settings.out, signals=[1]) == 4
    place = tmp_path/'input'/'slug'
    shutil.move(folder_of(recipe), place/'run')
    shutil.move('ckpt', place/'ckpt')
    again = change(recipe, resume_from=str(place))
    prepare(again, progress=lambda line: None)
    assert newest_checkpoint(again).step == 1 and run_training(again.settings.out) == 0 and len(rows_of(again)) == 10

def test_a_folder_that_cannot_be_written_is_refused_with_advice(attached, monkeypatch):
    "As nobody, since root may write everywhere but on a read-only disk."
    recipe, place = attached
    run = place/'runs'/'typescript'

    def refuse(path, *more, **named):
        if str(path).startswith(str(run)): raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return builtin(path, *more, **named)
    builtin = open
    monkeypatch.setattr('shutka.train.lock.open', refuse, raising=False)
    advice = rf'must be a folder that can be written, and is not .*another folder, and set resume_from to {run}$'
    with pytest.raises(UserError, match=advice): train(TypescriptSettings(out=str(run), steps=2))
    assert cli.run_command(['run', 'typescript', '-p', 'out', str(run)]) == 2

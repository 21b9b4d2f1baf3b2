"""A run as its user meets it: killed, stopped, damaged, on two processes, started twice; each ends as if nothing had happened, or says why not.

The trained program is `small.py`: `python -m shutka.train.run` with a small model.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import shutka.train.run as program
from shutka.core import BudgetReached, Diverged, UserError, read_json, read_jsonl, rng
from shutka.models.text_jepa import load_model
from shutka.train.checkpoint import checkpoints, load_checkpoint
from shutka.train.fit import fit
from shutka.train.recipes import Typescript, prepare
from shutka.train.run import launch, locked, main, result

HERE = Path(__file__).parent


def rows_of(run): return list(read_jsonl(Path(run.out)/'log.jsonl', torn=True)) if (Path(run.out)/'log.jsonl').exists() else []

def losses(run): return [(r['phase'], r['step'], r['lr'], r['loss']) for r in rows_of(run)]

def alive(pid):
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError: return False


@pytest.fixture(autouse=True)
def children(monkeypatch):
    "What `launch` starts trains a small model; the processes are kept in a list, and none outlives its test."
    monkeypatch.setenv('PYTHONPATH', str(HERE.parent))
    command, popen, started = program.command, subprocess.Popen, []

    def small_command(run):
        words = command(run)
        at = words.index('shutka.train.run')
        return [*words[:at - 1], str(HERE/'small.py'), *words[at + 1:]]

    def start(*args, **kw):
        started.append(popen(*args, **kw))
        return started[-1]

    monkeypatch.setattr(program, 'command', small_command)
    monkeypatch.setattr(program.subprocess, 'Popen', start)
    yield started
    left = [p for p in started if p.poll() is None]
    for p in left: p.kill()
    assert not left


@pytest.fixture
def every_step(monkeypatch):
    "A checkpoint after each step, in this process."
    monkeypatch.setattr(program, 'fit', partial(fit, save_every=0))


# --- killed ---------------------------------------------------------------------------------------------------------------

def start(run): return subprocess.Popen([sys.executable, str(HERE/'small.py'), run.out, '1'], stderr=subprocess.PIPE, text=True)

def test_sigkill_three_times_and_the_losses_are_the_same_to_the_last_bit(small):
    "On the bundled corpus, in every phase."
    settings = dict(source='bundled:typescript', max_samples=150, steps=24, ternary=.2)
    whole = small('whole', **settings)
    killed = replace(whole, out=str(Path(whole.out).with_name('killed')))
    shutil.copytree(whole.out, killed.out)
    assert main(whole.out) == 0
    for step in sorted(rng(0, 'kill').sample(range(2, 22), 3)):
        child = start(killed)
        while child.poll() is None and (not rows_of(killed) or rows_of(killed)[-1]['step'] < step): time.sleep(.002)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, child.stderr.read()
        assert result(killed.out)['status'] == 'running' and load_checkpoint(killed.checkpoints).step <= rows_of(killed)[-1]['step']
    child = start(killed)
    assert child.wait(60) == 0, child.stderr.read()
    assert losses(killed) == losses(whole) and len(losses(whole)) == 24
    assert {p for p, *_ in losses(whole)} == {'words', 'order', 'ternary'}
    assert result(killed.out)['metrics'] == result(whole.out)['metrics']
    texts = ['parse a date', '{ return a + b; }']
    for side in ('words', 'code'): assert (load_model(f'{killed.out}/model').encode(texts, side) == load_model(f'{whole.out}/model').encode(texts, side)).all()


def cut(path): os.truncate(path, path.stat().st_size // 2)

def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

@pytest.mark.parametrize('damage, name', [(cut, 'model.safetensors'), (flip, 'optimizer.safetensors'), (Path.unlink, 'state.json')])
def test_a_damaged_checkpoint_costs_a_few_steps_and_no_more(small, every_step, damage, name):
    whole, hurt = small('whole'), small('hurt')
    assert main(whole.out) == 0
    told = iter([()] * 5 + [(1,)])

    class Soon:
        def __bool__(self): return bool(next(told))
    assert main(hurt.out, told=Soon()) == 4 and result(hurt.out)['status'] == 'stopped'
    newest = checkpoints(hurt.checkpoints)[-1]
    damage(newest/name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert main(hurt.out) == 0
    assert any(newest.name in str(w.message) and 'going back' in str(w.message) for w in said)
    assert losses(hurt) == losses(whole)


def test_without_a_whole_checkpoint_nothing_starts(small, every_step, capsys, children):
    run = small()
    assert main(run.out, told=[1]) == 4
    for path in checkpoints(run.checkpoints): cut(path/'state.json')
    before = sorted(Path(run.out).rglob('*'))
    capsys.readouterr()
    assert main(run.out) == 2
    said = capsys.readouterr().err
    assert 'all are damaged' in said and said.count('\n') == 1
    with pytest.raises(UserError, match='all are damaged'): launch(run)
    assert not children and sorted(Path(run.out).rglob('*')) == before and len(rows_of(run)) == 1


# --- launched -------------------------------------------------------------------------------------------------------------

def test_two_processes_train_as_one(small, children):
    "Losses of the global batch, learning rates and checks, to the sixth digit."
    one, two = small('one'), small('two', processes=2)
    found = launch(two)
    assert main(one.out) == 0
    assert found['status'] == 'trained' and 'torch.distributed.run' in children[0].args
    for a, b in zip(rows_of(one), rows_of(two), strict=True):
        assert a.keys() == b.keys() and (a['phase'], a['step'], a['lr']) == (b['phase'], b['step'], b['lr'])
        for key in ('loss', 'grad_norm', 'mrr'): assert b.get(key, 0) == pytest.approx(a.get(key, 0), rel=1e-6, abs=1e-6), (a['step'], key)


@pytest.mark.parametrize('processes', [1, 2])
def test_a_failure_is_the_same_error_here(small, processes):
    "A learning rate that breaks training, and a file that is gone."
    run = small(lr=1e30, processes=processes)
    with pytest.raises(Diverged, match="^phase 'words', step .* must be finite"): launch(run)
    assert result(run.out)['status'] == 'failed' and 'Diverged' in result(run.out)['error']
    with locked(run.out): pass  # nobody holds the folder
    (Path(run.out)/'data'/'train.jsonl').unlink()
    if processes == 1:
        with pytest.raises(UserError, match='train.jsonl does not exist'): launch(run)


@pytest.mark.parametrize('processes', [1, 2])
def test_sigterm_saves_and_the_same_command_goes_on(small, monkeypatch, processes):
    whole, run = small('whole'), small(processes=processes)
    monkeypatch.setenv('SIGTERM_AT', '4')
    with pytest.raises(BudgetReached, match='^training was stopped; the same command goes on from .*checkpoints$'): launch(run)
    assert result(run.out)['status'] == 'stopped' and load_checkpoint(run.checkpoints).step == len(rows_of(run)) < 10
    assert main(replace(run, processes=1).out) == main(whole.out) == 0  # from two processes to one, too
    for a, b in zip(losses(run), losses(whole), strict=True): assert a[:3] == b[:3] and a[3] == pytest.approx(b[3], abs=1e-6 * (processes > 1))


def test_a_crash_shows_its_traceback(small):
    run = small()
    (Path(run.out)/'data'/'train.jsonl').write_text('{"kind": "pair"}\n')
    with pytest.raises(RuntimeError, match='exit code 1:\n(.|\n)*KeyError'): launch(run)


def test_an_interrupt_lets_training_save(small, monkeypatch, children):
    run = small(steps=200)

    def follow(process, out, run):
        while not rows_of(run): time.sleep(.01)
        raise KeyboardInterrupt
    monkeypatch.setattr(program, 'follow_log', follow)
    with pytest.raises(KeyboardInterrupt): launch(run)
    assert children[0].returncode == 4 and result(run.out)['status'] == 'stopped'
    assert load_checkpoint(run.checkpoints).step == rows_of(run)[-1]['step']


def test_a_second_writer_is_refused_and_training_ends_with_the_process_that_launched_it(small, children):
    run = small(steps=2_000)
    script = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, {str(HERE/'small.py')!r}, {run.out!r}, '1']).pid, flush=True); time.sleep(99)"
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    while not rows_of(run): time.sleep(.01)
    with pytest.raises(UserError, match='another process is training'): launch(run)
    assert main(run.out) == 2
    assert result(run.out) == {'status': 'running', 'error': None} and alive(pid)  # the first one goes on, unharmed
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(1_000):
        if not alive(pid): break
        time.sleep(.01)
    assert not alive(pid) and result(run.out)['status'] == 'stopped'


def test_no_run_folder_is_made_for_nothing(tmp_path):
    (tmp_path/'empty').mkdir()
    assert main(str(tmp_path/'none')) == main(str(tmp_path/'empty')) == 2
    assert [p.name for p in tmp_path.rglob('*') ] == ['empty']


def test_the_world_must_be_the_one_asked_for(small, capsys):
    run = small()
    assert main(run.out, world=2) == 2
    assert '2 processes were asked for, 1 started' in capsys.readouterr().err


# --- once, and once more -------------------------------------------------------------------------------------------------------

def test_a_finished_run_starts_nothing(small, children, capsys):
    run = small()
    assert main(run.out) == 0
    before = {p: p.stat().st_mtime_ns for p in Path(run.out).rglob('*')}
    assert launch(run) == result(run.out) and 'complete' in capsys.readouterr().out
    assert not children and {p: p.stat().st_mtime_ns for p in Path(run.out).rglob('*')} == before


@pytest.mark.parametrize('field, value', [('seed', 1), ('batch_size', 32), ('steps', 11), ('lr', .1), ('source', 'bundled:typescript'), ('held_out', 'web')])
def test_other_settings_are_refused_by_name(small, field, value):
    run = small()
    before = {p: p.read_bytes() for p in Path(run.out).rglob('*') if p.is_file()}
    with pytest.raises(UserError, match=rf'other settings: {field} was .* and is {value!r} \('): prepare(replace(run, **{field: value}))
    assert {p: p.read_bytes() for p in Path(run.out).rglob('*') if p.is_file()} == before


def test_what_a_run_leaves(small):
    run = small()
    assert main(run.out) == 0
    assert sorted(p.name for p in Path(run.out).iterdir() if p.name != '.lock') == [
        'checkpoints', 'data', 'encoding.json', 'log.jsonl', 'model', 'result.json', 'run.json']
    assert Typescript(**read_json(Path(run.out)/'run.json')['settings']) == run
    assert [r['step'] for r in rows_of(run)] == list(range(1, 11))
    for row in rows_of(run): assert {'phase', 'step', 'loss', 'lr', 'grad_norm', 'seconds'} <= row.keys()
    assert {'mrr', 'effective_rank', 'mean_cosine', 'dead_dimensions'} <= rows_of(run)[-1].keys()
    assert json.dumps(run.out) not in (Path(run.out)/'log.jsonl').read_text()


def test_checkpoints_may_lie_elsewhere(small, tmp_path):
    run = small(checkpoint_dir=str(tmp_path/'elsewhere'))
    assert main(run.out) == 0
    assert load_checkpoint(tmp_path/'elsewhere').step == 10 and not (Path(run.out)/'checkpoints').exists()


def test_a_run_may_start_from_another(small):
    first = small('first')
    assert main(first.out) == 0
    again = small('again', resume=first.out, lr=1e-12)
    assert main(again.out) == 0
    vectors = [load_model(f'{run.out}/model').encode(['parse a date']) for run in (first, again)]
    assert abs(vectors[0] - vectors[1]).max() < 1e-6

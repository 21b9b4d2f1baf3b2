"Hardware rows beside a training loop: never inside one of its lines, never in its way, and gone when it ends."
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from shutka.core.files import write_json, write_jsonl
from shutka.train.hardware import log_hardware, sample_gpu, sample_machine
from shutka.train.log import append_row, is_training, read_new_rows, read_status


class Driver:
    "Answers like pynvml; `refused` names the questions it does not know."
    class NVMLError(Exception): pass
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, gpus=2, refused=()): self.gpus, self.refused = gpus, refused

    def __getattr__(self, name):
        answers = {'nvmlInit': None, 'nvmlDeviceGetCount': self.gpus, 'nvmlDeviceGetName': 'Tesla T4',
                   'nvmlDeviceGetTemperature': 60, 'nvmlDeviceGetMemoryInfo': SimpleNamespace(used=4e9, total=16e9),
                   'nvmlDeviceGetUtilizationRates': SimpleNamespace(gpu=0)}

        def answer(*args):
            if name in self.refused: raise self.NVMLError('Not Supported')
            if name == 'nvmlDeviceGetHandleByIndex': return args[0]
            if name == 'nvmlDeviceGetUUID': return f'GPU-{args[0]}'
            return answers[name]
        return answer


@pytest.fixture(autouse=True)
def all_gpus(monkeypatch): monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)

def wait_for(log, n):
    "The rows of a log, when there are so many."
    until = time.monotonic() + 20
    while len(rows := read_new_rows(log, 0)[0]) < n:
        assert time.monotonic() < until
        time.sleep(.01)
    return rows

def looking(): return [t for t in threading.enumerate() if t.name == 'hardware']


def test_what_a_gpu_does_not_say_is_null_and_an_idle_one_is_zero():
    full = {'name': 'Tesla T4', 'utilisation': 0, 'memory_gb': 4., 'memory_percent': 25., 'temperature': 60}
    assert sample_gpu(Driver(), 0) == full
    for question, lost in (('UtilizationRates', {'utilisation'}), ('MemoryInfo', {'memory_gb', 'memory_percent'}),
                           ('Temperature', {'temperature'}), ('Name', {'name'})):
        assert sample_gpu(Driver(refused=[f'nvmlDeviceGet{question}']), 0) == full | dict.fromkeys(lost)

def test_a_row_is_json_and_holds_all_its_names(tmp_path):
    row = json.loads(json.dumps(sample_machine(tmp_path, Driver(), [0, 1]), allow_nan=False))
    assert row.keys() == {'time', 'cpu_percent', 'ram_percent', 'ram_gb', 'disk_free_gb', 'gpus'}
    assert len(row['gpus']) == 2

def test_lines_never_mix_with_those_of_the_loop(tmp_path):
    log, text = tmp_path/'log.jsonl', 'x' * 3000
    with log_hardware(log, tmp_path, every=.0002, nvml=Driver()):
        for step in range(3000): append_row(log, {'step': step, 'text': text})
        wait_for(log, 3002)
    rows = read_new_rows(log, 0)[0]   # each line is whole, or this would raise
    assert [r['step'] for r in rows if 'step' in r] == list(range(3000)) and log.read_bytes().endswith(b'}\n')

def test_a_log_that_was_replaced_is_written_on(tmp_path):
    log = tmp_path/'log.jsonl'
    with log_hardware(log, tmp_path, every=.01, nvml=Driver()):
        wait_for(log, 2)
        write_jsonl(log, [{'step': 1}])
        assert wait_for(log, 3)[0] == {'step': 1}

def test_it_ends_at_once_also_when_the_work_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), log_hardware(tmp_path/'log.jsonl', tmp_path, every=1e6, nvml=Driver()):
        wait_for(tmp_path/'log.jsonl', 1)
        assert looking()
        1 / 0
    assert not looking()
    with log_hardware(tmp_path/'log.jsonl', tmp_path, nvml=Driver()): pass   # before the first row

@pytest.mark.parametrize('refused', ['nvmlInit', 'nvmlDeviceGetCount'])
def test_without_gpus_or_with_a_driver_that_fails(tmp_path, refused):
    "No driver is no GPU; a driver that breaks is said once, and training goes on."
    log = tmp_path/'log.jsonl'
    with log_hardware(log, tmp_path, every=.01, nvml=Driver(refused=[refused])):
        rows = wait_for(log, 1)
        time.sleep(.1)
    if refused == 'nvmlInit': assert rows[0]['gpus'] == [] and rows[0]['ram_gb'] > 0
    else:
        assert [set(r) for r in read_new_rows(log, 0)[0]] == [{'time', 'error'}]
        assert 'Not Supported' in rows[0]['error']

def test_a_failure_that_passes_is_said_again_when_it_comes_back(tmp_path):
    log, folder = tmp_path/'log.jsonl', tmp_path/'disk'
    with log_hardware(log, folder, every=.01, nvml=Driver()):
        assert 'error' in wait_for(log, 1)[0]
        folder.mkdir()
        assert 'error' not in wait_for(log, 2)[1]
        folder.rmdir()
        until = time.monotonic() + 20
        while sum('error' in r for r in read_new_rows(log, 0)[0]) < 2: assert time.monotonic() < until

def test_a_log_that_cannot_be_written_disturbs_nobody(tmp_path):
    with log_hardware(tmp_path/'none'/'log.jsonl', tmp_path, every=.01, nvml=Driver()): time.sleep(.2)
    assert not looking() and not (tmp_path/'none').exists()

def test_the_log_is_read_in_whole_lines(tmp_path):
    log = tmp_path/'log.jsonl'
    assert read_new_rows(log, 0) == ([], 0)
    append_row(log, {'step': 1})
    rows, at = read_new_rows(log, 0)
    assert rows == [{'step': 1}] and at == log.stat().st_size and read_new_rows(log, at) == ([], at)
    with open(log, 'a') as f: f.write('{"step":')
    assert read_new_rows(log, at) == ([], at)
    with open(log, 'a') as f: f.write(' 2}\n')
    assert read_new_rows(log, at)[0] == [{'step': 2}]

FULL = """
import errno, resource, sys
from shutka.train.log import append_row
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
refused = []
for step in range(100):
    try: append_row(sys.argv[1], {'step': step, 'text': 'x' * (9 + step % 50)})
    except OSError as e: refused.append((errno.errorcode[e.errno], e.filename))
print(len(refused), *sorted(set(refused)))
"""

def test_a_full_disk_leaves_whole_rows(tmp_path):
    "A write that was cut short is taken back, so that shorter rows still fit and none is broken."
    log = tmp_path/'log.jsonl'
    ran = subprocess.run([sys.executable, '-c', FULL, str(log)], cwd=Path(__file__).parents[1], capture_output=True,
                         text=True, check=True)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert log.read_bytes().endswith(b'}\n') and 900 < log.stat().st_size <= 1000
    count, told = ran.stdout.strip().split(' ', 1)
    assert len(rows) + int(count) == 100 and f"('ENOSPC', '{log}')" in told

def test_a_refusal_names_the_log(tmp_path):
    log = tmp_path/'none'/'log.jsonl'
    with pytest.raises(FileNotFoundError) as e: append_row(log, {'step': 1})
    assert Path(e.value.filename) == log
    with pytest.raises(ValueError): append_row(tmp_path/'log.jsonl', {'loss': float('nan')})
    assert not (tmp_path/'log.jsonl').exists()

TRAINER = """
import fcntl, sys
file = open(sys.argv[1] + '/.lock', 'w')
fcntl.flock(file, fcntl.LOCK_EX)
print('trains', flush=True)
sys.stdin.read()
"""

def test_a_killed_run_is_known_by_its_lock(tmp_path):
    write_json(tmp_path/'result.json', {'status': 'running'})
    trainer = subprocess.Popen([sys.executable, '-c', TRAINER, str(tmp_path)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert trainer.stdout.readline() == 'trains\n'
    os.utime(tmp_path/'result.json', (0, 0))
    append_row(tmp_path/'log.jsonl', {'step': 1})
    assert is_training(tmp_path) and read_status(tmp_path) == 'running'
    trainer.kill()
    trainer.communicate()
    assert not is_training(tmp_path) and read_status(tmp_path) == 'killed'

@pytest.mark.parametrize('status', ['prepared', 'trained', 'ok', 'budget', 'stopped', 'failed'])
def test_a_run_that_spoke_its_last_word_was_not_killed(tmp_path, status):
    write_json(tmp_path/'result.json', {'status': status})
    os.utime(tmp_path/'result.json', (0, 0))
    assert read_status(tmp_path) == status

def test_a_run_that_begins_has_time_to(tmp_path):
    "The launcher says `running` before the trainer holds the lock, also over the log of a run that was killed before."
    assert read_status(tmp_path) == '' and read_status(tmp_path/'none') == ''
    append_row(tmp_path/'log.jsonl', {'step': 1})
    os.utime(tmp_path/'log.jsonl', (0, 0))
    write_json(tmp_path/'result.json', {'status': 'running'})
    assert read_status(tmp_path) == 'running'
    os.utime(tmp_path/'result.json', (1, 1))
    assert read_status(tmp_path) == 'killed'
    os.utime(tmp_path/'log.jsonl', None)
    os.utime(tmp_path/'result.json', (time.time() - 5,) * 2)    # died soon, but after its first row
    assert read_status(tmp_path) == 'killed'

def test_a_failure_that_is_told_just_after_the_lock_is_no_kill(tmp_path, monkeypatch):
    write_json(tmp_path/'result.json', {'status': 'running'})
    os.utime(tmp_path/'result.json', (0, 0))
    monkeypatch.setattr('time.sleep', lambda seconds: write_json(tmp_path/'result.json', {'status': 'failed'}))
    assert read_status(tmp_path) == 'failed'

def test_no_torch_to_read_a_log():
    code = ("import sys, shutka.train.log, shutka.train.hardware, shutka.train.summary, shutka.train.report\n"
            "assert not {'torch', 'matplotlib'} & sys.modules.keys()")
    ran = subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr

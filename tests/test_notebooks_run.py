"Notebooks as batch jobs: real kernels, and an exit code for every way to end."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.faces.batch import run_notebook

ROOT = Path(__file__).parents[1]
FINISH = """from shutka.core.files import write_json
_ = write_json(f'{out}/result.json', {'status': 'ok', 'steps': steps, 'lr': lr})"""
DIVERGED = """from shutka.core.files import write_json
_ = write_json(f'{out}/result.json', {'status': 'diverged'})"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "Each test runs in a folder of its own, in which kernels find shutka."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))


def write(*sources: str, tags=('parameters',), name='demo.ipynb') -> str:
    "A notebook with the usual parameters and these cells; its path."
    head = "out: str = 'run'  # folder of the run\nsteps: int = 5  # optimizer steps\nlr: float = 1e-3  # learning rate"
    cells = [dict(id=f'cell-{i}', cell_type='code', source=source, outputs=[], execution_count=None,
                  metadata={'tags': list(tags)} if i == 0 else {}) for i, source in enumerate([head, *sources])]
    Path(name).write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
    return name


def start(*words: str, **options) -> subprocess.Popen:
    "The command line, in a process of its own."
    command = [sys.executable, '-m', 'shutka.faces.cli', 'run', *words]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def alive(pid: int) -> bool:
    "Whether a process still runs; a zombie does not."
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError: return False


def test_success(capfd):
    assert run_notebook(write('print("step", steps)', FINISH), {'steps': '1e3', 'lr': '5e-5'}) == 0
    assert json.loads(Path('run/result.json').read_text()) == {'status': 'ok', 'steps': 1000, 'lr': 5e-5}
    assert capfd.readouterr().out == 'step 1000\n'
    copy = json.loads(Path('run/notebook.ipynb').read_text())
    assert 'step 1000' in ''.join(o['text'] if isinstance(o['text'], str) else ''.join(o['text'])
                                  for c in copy['cells'] for o in c.get('outputs', []) if 'text' in o)
    assert sorted(p.name for p in Path('.').iterdir()) == ['demo.ipynb', 'run']


def test_output_elsewhere():
    assert run_notebook(write(FINISH), {}, 'deep/er/copy.ipynb') == 0
    assert Path('deep/er/copy.ipynb').is_file() and not Path('run/notebook.ipynb').exists()


def test_braces_in_paths():
    assert run_notebook(write(FINISH, name='{demo}.ipynb'), {'out': 'run {steps} "1"'}) == 0
    assert Path('run {steps} "1"/notebook.ipynb').is_file()


def raising(error: str, message: str) -> str:
    "A cell that raises one of shutka's errors."
    return f'from shutka.core.errors import {error}\nraise {error}({message!r})'


@pytest.mark.parametrize('cell, code, told', [
    (raising('UserError', 'steps must be even, got 5'), 2, 'steps must be even, got 5'),
    (raising('OutOfMemory', 'a micro-batch of 1 does not fit'), 3, 'a micro-batch of 1 does not fit'),
    (raising('BudgetReached', 'go on'), 4, 'go on'),
    (raising('Diverged', 'the loss is not finite'), 5, 'the loss is not finite'),
    ("import subprocess\nsubprocess.run(['sh', '-c', 'echo why >&2; exit 3'], check=True)", 3, 'why'),
])
def test_known_errors(cell, code, told, capfd):
    "One sentence and a code; the cells below do not run, and no traceback is printed."
    assert run_notebook(write(cell, FINISH), {}) == code
    err = capfd.readouterr().err
    assert told in err and 'run/notebook.ipynb' in err and 'Traceback' not in err
    assert not Path('run/result.json').exists()


@pytest.mark.parametrize('cell, told', [
    ("import subprocess\nsubprocess.run(['false'], check=True)", 'CalledProcessError'),
    ("{}['loss']", 'Traceback'),
    ("import sys\nsys.exit(3)", 'SystemExit'),
])
def test_bugs(cell, told, capfd):
    assert run_notebook(write(cell, FINISH), {}) == 1
    assert told in capfd.readouterr().err


def test_a_kernel_that_died(capfd):
    "Training, which notices, has saved: the same command goes on."
    assert run_notebook(write("import os\nos.kill(os.getpid(), 9)", FINISH), {}) == 4
    said = capfd.readouterr().err
    assert 'kernel died' in said and 'resume with: shutka run demo.ipynb' in said


@pytest.mark.parametrize('cells, told', [
    (['import sys', 'sys.exit(0)', FINISH], 'called sys.exit'),
    (['!false'], 'left no run/result.json'),
    ([DIVERGED], "'diverged'"),
])
def test_quiet_failures(cells, told, capfd):
    "What papermill alone calls success."
    assert run_notebook(write(*cells), {}) == 1
    assert told in capfd.readouterr().err


def test_old_result_does_not_hide_an_early_end():
    assert run_notebook(write(FINISH), {}) == 0
    assert run_notebook(write('raise SystemExit', FINISH), {}) == 1


@pytest.mark.parametrize('given, told', [
    ({'stepps': '5'}, "did you mean 'steps'"),
    ({'steps': '1.5'}, 'steps must be a whole number'),
    ({'lr': 'nan'}, 'lr must be a number'),
    ({'out': ''}, "'out'"),
])
def test_refused_before_anything_happens(given, told):
    with pytest.raises(UserError, match=told): run_notebook(write(FINISH), given)
    assert sorted(p.name for p in Path('.').iterdir()) == ['demo.ipynb']


def test_missing_tag():
    with pytest.raises(UserError, match="the tag 'parameters', got 0"): run_notebook(write(FINISH, tags=()), {})


def test_the_notebook_itself_is_never_overwritten():
    with pytest.raises(UserError, match='must not replace'): run_notebook(write(FINISH), {}, './demo.ipynb')


def test_kernel_is_this_python(monkeypatch):
    "Even where another Python is registered under the usual name."
    spec = Path('jupyter/kernels/python3/kernel.json')
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(dict(argv=['/nowhere/python', '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
                                    display_name='another', language='python')))
    monkeypatch.setenv('JUPYTER_PATH', str(spec.parents[2].resolve()))
    monkeypatch.delenv('GOMP_SPINCOUNT', raising=False)
    monkeypatch.setenv('OMP_WAIT_POLICY', 'active')
    cell = "import os, sys\nassert sys.executable == {!r} and os.getcwd() == {!r}".format(sys.executable, os.getcwd())
    cell += "\nassert os.environ['OMP_WAIT_POLICY'] == 'active' and os.environ['GOMP_SPINCOUNT'] == '0'"
    assert run_notebook(write(cell, FINISH), {}) == 0


def test_live_output_and_interrupt():
    "A line is seen while the notebook runs; Ctrl-C then lets training save, stops everything, and says 130."
    training = """trap "" INT; trap "sleep 1; touch saved; exit 4" TERM; echo $$; while :; do sleep .1; done"""
    cell = f"""
import os, subprocess
print(os.getpid(), flush=True)
training = subprocess.Popen(['sh', '-c', {training!r}])
try: training.wait()
finally:
    training.terminate()
    training.wait()"""
    job = start(write(cell, FINISH), start_new_session=True)
    pids = [int(job.stdout.readline()) for _ in range(2)]
    assert all(map(alive, pids))
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 130 and 'error: interrupted' in err and 'Traceback' not in err, err
    assert Path('saved').exists() and Path('run/notebook.ipynb').is_file() and not Path('run/result.json').exists()
    time.sleep(.1)
    assert not any(map(alive, pids))


def test_sigterm():
    job = start(write("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)", FINISH))
    pid = int(job.stdout.readline())
    job.terminate()
    _, err = job.communicate(timeout=30)
    assert job.returncode == 4 and 'resume with: shutka run' in err and 'Traceback' not in err, err
    assert not alive(pid)

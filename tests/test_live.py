"Looking at a run: what a log says while it grows, and what is left in a notebook that nobody watched."
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from shutka.core.files import read_json, write_json, write_jsonl
from shutka.train import live
from shutka.train.follow import follow_run
from shutka.train.log import join_rows
from shutka.train.watch import draw_sparkline, make_run_table

ROOT = Path(__file__).parents[1]
STEPS = [{'phase': 'words', 'step': s, 'loss': 5 / s, 'lr': 1e-3, 'seconds': s / 4} for s in range(1, 31)]
SAMPLE = {'time': 1.8e9, 'cpu_percent': 50., 'ram_percent': 40., 'ram_gb': 6.4, 'disk_free_gb': 17.9,
        'gpus': [{'name': None, 'utilisation': None, 'memory_gb': None, 'memory_percent': None, 'temperature': None},
                 {'name': 'Tesla T4', 'utilisation': 0, 'memory_gb': 1., 'memory_percent': 6, 'temperature': 40}]}
BLIND = {'time': 1.8e9, 'error': 'FileNotFoundError: the folder is gone'}


def shown(out, rows) -> str:
    "What a terminal of 80 columns would show of a run."
    console = Console(width=80, color_system=None)
    with console.capture() as text: console.print(make_run_table(out, rows))
    return text.get()


@pytest.mark.parametrize('before, new, after', [
    ('', '123', '123'), ('12', '3', '123'), ('123', '', '123'), ('123', '12', '12'), ('123', '1234', '1234'),
    ('h1h2', 'h3h', 'h1h2h3h'), ('h1h2', 'h1', 'h1'),
    ('12', 'h', '12h'), ('h', 'h1', 'hh1'),
])
def test_join_rows(before, new, after):
    "A log that was cut is read from its start, even if it has grown again beyond the cut; h is a hardware row."
    rows = lambda text: [SAMPLE if c == 'h' else {'step': int(c)} for c in text]
    assert join_rows(rows(before), rows(new)) == rows(after)


def test_every_row_before_the_end(tmp_path):
    "Rows that were written just before the last word are not lost."
    readings = follow_run(tmp_path, every=0)
    assert next(readings) == ([], False)
    write_jsonl(tmp_path/'log.jsonl', STEPS)
    write_json(tmp_path/'result.json', {'status': 'budget'})
    assert list(readings) == [(STEPS, True)]


def test_a_killed_run_is_over(tmp_path, capsys):
    "It says so, and tells no time that is left."
    write_jsonl(tmp_path/'log.jsonl', STEPS)
    write_json(tmp_path/'run.json', {'plan': {'steps': 1000}})
    write_json(tmp_path/'result.json', {'status': 'running', 'error': None})
    os.utime(tmp_path/'result.json', (0, 0))
    with open(tmp_path/'.lock', 'w') as trainer:
        fcntl.flock(trainer, fcntl.LOCK_EX)
        readings = follow_run(tmp_path, every=0)
        assert next(readings) == (STEPS, False) and 'left' in shown(tmp_path, STEPS)
    assert list(readings) == [(STEPS, True)]
    text = ' '.join(shown(tmp_path, STEPS).split())
    assert 'killed; the same command resumes it' in text.replace('- ', '') and 'left' not in text
    live.show_live(tmp_path)
    assert capsys.readouterr().out == f'{tmp_path}: killed; the same command resumes it\n'


def test_a_run_that_begins_is_not_taken_for_a_killed_one(tmp_path):
    "The launcher has said `running` again, and the trainer still loads PyTorch."
    write_jsonl(tmp_path/'log.jsonl', STEPS)
    os.utime(tmp_path/'log.jsonl', (0, 0))
    write_json(tmp_path/'result.json', {'status': 'running'})
    assert next(follow_run(tmp_path)) == (STEPS, False)


@pytest.mark.parametrize('rows, told', [
    ([], 'no step yet'), ([SAMPLE], 'no step yet'), ([BLIND], 'no step yet'), ([*STEPS, BLIND], 'words step 30'),
    ([*STEPS, SAMPLE, BLIND], 'GPU 0 %'), ([SAMPLE, *STEPS, *[SAMPLE] * 99], 'words step 30'),
    ([{'step': 1, 'loss': None, 'tokens_s': None, 'mrr': None}], 'step 1 · loss not finite'),
])
def test_any_log_can_be_shown(tmp_path, rows, told):
    text = shown(tmp_path, rows)
    assert told in ' '.join(text.split()) and 'has not begun' in ' '.join(text.split())
    assert all(len(line) <= 80 for line in text.splitlines())
    assert live.draw_png(rows) == b'' or any(r.get('loss') for r in rows)


def test_gpus_that_do_not_answer(tmp_path):
    lines = [line.split() for line in shown(tmp_path, [*STEPS, SAMPLE]).splitlines()]
    assert ['GPU', '0', '?'] in lines
    assert ['GPU', '1', '0', '%', '1.0', 'GB', '(6', '%)', '40', '°C', 'Tesla', 'T4'] in lines


@pytest.mark.parametrize('count', [0, 1, 2, 39, 40, 41, 1000])
def test_sparkline_fits(count):
    line = draw_sparkline(list(range(count)))
    assert len(line) == (min(count, 40) if count > 1 else 0) and list(line) == sorted(line)


def test_light_and_silent_outside_of_notebooks():
    "Importing it loads nothing heavy, and in plain Python `Live` does nothing."
    code = ("import sys, shutka.train.live as live, shutka.train.watch\n"
            "print({'torch', 'matplotlib', 'ipywidgets', 'IPython', 'rich'} & sys.modules.keys())\n"
            "live.Live()([{'step': 1, 'loss': 2.}], True); print({'matplotlib', 'ipywidgets'} & sys.modules.keys())")
    ran = subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert ran.stdout.splitlines() == ['set()', 'set()']


def executed(tmp_path, *sources) -> dict:
    "A notebook of these cells after papermill, as *Save & Run All* would leave it."
    empty = dict(cell_type='code', outputs=[], execution_count=None, metadata={})
    cells = [dict(id=f'cell-{i}', source=source, **empty) for i, source in enumerate(sources)]
    kernel = {'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}}
    write_json(tmp_path/'in.ipynb', dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5))
    subprocess.run([sys.executable, '-m', 'papermill', 'in.ipynb', 'out.ipynb', '--no-progress-bar'], cwd=tmp_path,
                   check=True, capture_output=True, timeout=120)
    return read_json(tmp_path/'out.ipynb')


def test_headless_notebooks_keep_the_picture(tmp_path, monkeypatch):
    "Where a widget was there is a picture: after the end, after an interrupt, for a run over before, for two in a row."
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    for run, status in (('over', 'ok'), ('trains', 'running')):
        write_jsonl(tmp_path/run/'log.jsonl', STEPS)
        write_json(tmp_path/run/'result.json', {'status': status})
    trainer = open(tmp_path/'trains'/'.lock', 'w')
    fcntl.flock(trainer, fcntl.LOCK_EX)
    made = executed(tmp_path,
        "import os, signal, threading\nfrom shutka.train.live import Live, show_live\n"
        f"show, rows = Live(), {STEPS}\nfor n in range(1, 31): show(rows[:n])\nshow(rows, True)",
        "threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\nshow_live('trains')",
        "show_live('over')", "for _ in range(2): show([]); show(rows, True)")
    kinds = [[sorted(output['data']) for output in cell['outputs']] for cell in made['cells']]
    assert kinds == [[['image/png', 'text/plain']]] * 3 + [[['image/png', 'text/plain']] * 2]
    assert ''.join(made['cells'][0]['outputs'][0]['data']['text/plain']).startswith('words step 30')
    assert len(json.dumps(made['metadata']['widgets'])) < 20_000  # no copy of a picture

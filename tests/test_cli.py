"The command line: what it prints, what it leaves behind, and how it ends."
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.core.files import write_json
from shutka.faces import cli

ROOT = Path(__file__).parents[1]
CODE = '/** Adds two numbers. */\nexport function add(a: number, b: number) { return a + b; }\n'
HEAVY = {'torch', 'numpy', 'matplotlib', 'papermill', 'datasets', 'transformers', 'tree_sitter', 'tqdm', 'yaml',
         'IPython', 'rich', 'psutil'}
PROGRAM = [sys.executable, '-m', 'shutka.faces.cli']


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "Each test runs in a folder of its own that holds a little code."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    Path('src').mkdir()
    Path('src/add.ts').write_text(CODE)


def shutka(*words: str, **options) -> subprocess.CompletedProcess:
    "The command line, in a process of its own."
    return subprocess.run([*PROGRAM, *words], text=True, capture_output=True, timeout=60, **options)


def files() -> list[str]:
    "Everything that was left behind, without the locks of commands."
    found = (p for p in Path('.').rglob('*') if p.is_file() and p.parts[0] != 'src')
    return sorted(str(p) for p in found if p.suffix != '.lock')


def test_module_entry_and_light_start():
    done = shutka('--help')
    assert done.returncode == 0 and 'Commands:' in done.stdout and not done.stderr
    script = 'import sys, shutka.faces.cli; print(*{m.split(".")[0] for m in sys.modules})'
    loaded = subprocess.run([sys.executable, '-c', script], text=True, capture_output=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_version():
    done = shutka('--version')
    assert done.returncode == 0 and done.stdout == f"shutka, version {version('shutka')}\n"


def all_commands(group=cli.shutka, path='shutka'):
    for name, command in group.commands.items():
        if isinstance(command, cli.ShutkaGroup): yield from all_commands(command, f'{path} {name}')
        else: yield f'{path} {name}', command


@pytest.mark.parametrize('path', [path for path, _ in all_commands()])
def test_help_has_two_examples_that_can_be_typed_and_no_line_is_cut(path, capsys, monkeypatch):
    command, words = dict(all_commands())[path], path.split()[1:]
    assert cli.run_command([*words, '--help']) == 0
    text = capsys.readouterr().out
    for repeated in ('ID...', '[ARGS]...', 'TEXT]...', 'SPEC...'): text = text.replace(repeated, '')
    assert '...' not in text
    assert len(command.examples) >= 2 and all(example in text for example in command.examples)
    for example in command.examples:
        typed = shlex.split(example.partition(' #')[0].replace('"$(cat fixed.ts)"', 'text').partition('&&')[0])
        typed = typed[typed.index('shutka'):][1 + len(words):]
        for file in ('assistant.zip', 'runs/typescript', 'runs/instructions', 'memory'):
            Path(file).mkdir(parents=True, exist_ok=True)
        given = [word for word in typed if word != '--help']
        with command.make_context(words[-1], given): pass   # raises for what does not parse


def test_groups_list_whole_sentences(capsys):
    for words in ([], ['data'], ['memory'], ['evaluate'], ['kaggle'], ['hub']):
        assert cli.run_command([*words, '--help']) == 0
        assert '...' not in capsys.readouterr().out.replace('[ARGS]...', '')


@pytest.mark.parametrize('words', [
    ['nonsense'], ['data', 'pairs', 'dir:src'], ['data', 'pairs'], ['run', 'a', 'b'], ['run', '-p', 'steps'], ['watch'],
    ['report', 'a', 'b'], ['plan'], ['evaluate', 'a', 'b', '--size', '1'], ['encode', 'a', 'b', '--side', 'left']])
def test_wrong_usage(words, capsys):
    assert cli.run_command(words) == 2
    assert 'Error: ' in capsys.readouterr().err


def test_pairs(capsys):
    Path('src/broken.ts').write_text('let = = 2')
    assert cli.run_command(['data', 'pairs', 'dir:src', '-o', 'data/pairs.jsonl']) == 0
    out, err = capsys.readouterr()
    assert out.startswith('2 files') and '1 pairs, 1 documented' in out and 'skipped src/broken.ts: line 1' in out
    assert 'pairs' in err and files() == ['data/pairs.jsonl']
    assert json.loads(Path('data/pairs.jsonl').read_text())['name'] == 'add'


def test_pairs_overwrite_only_by_force(capsys):
    Path('pairs.jsonl').write_text('mine')
    assert cli.run_command(['data', 'pairs', 'dir:src', '-o', 'pairs.jsonl']) == 2
    assert Path('pairs.jsonl').read_text() == 'mine' and '--force' in capsys.readouterr().err
    assert cli.run_command(['data', 'pairs', 'dir:src', '-o', 'pairs.jsonl', '--force']) == 0
    assert 'add' in Path('pairs.jsonl').read_text()


@pytest.mark.parametrize('source, told', [
    ('src', "did you mean 'dir:src'"), ('dir:nowhere', 'nowhere'), ('dri:src', "did you mean 'dir'"),
    ('dir:src,dir:empty', 'no pair'), (',', 'at least one'),
])
def test_pairs_errors_leave_nothing(source, told, capsys):
    Path('src/empty').mkdir()
    os.rename('src/empty', 'empty')
    Path('empty/types.ts').write_text('let a = 1')
    assert cli.run_command(['data', 'pairs', source, '-o', 'pairs.jsonl']) == 2
    err = capsys.readouterr().err
    assert 'error: ' in err and told in err and 'Traceback' not in err
    assert files() == ['empty/types.ts']


def test_the_system_refuses(capsys):
    Path('file').write_text('')
    assert cli.run_command(['data', 'pairs', 'dir:src', '-o', 'file/pairs.jsonl']) == 2
    assert cli.run_command(['data', 'pairs', 'dir:src', '-o', 'src', '--force']) == 2
    assert cli.run_command(['data', 'pairs', 'dir:src', '-o', '/proc/pairs.jsonl']) == 2
    err = capsys.readouterr().err
    for told in ('error: /proc/pairs.jsonl: ', "'src' is a directory", 'error: file'): assert told in err
    assert 'Traceback' not in err


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_full_disk():
    with open('/dev/full', 'w') as full:
        done = subprocess.run([*PROGRAM, '--help'], stdout=full, stderr=subprocess.PIPE, text=True)
    said = "error: no space is left on the disk that standard output or the run's folder is on\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_broken_pipe():
    Path('texts.txt').write_text('a text\n' * 20_000)
    script = ("import sys, types; import numpy as np\n"
              "m = types.ModuleType('shutka.train.run'); sys.modules['shutka.train.run'] = m\n"
              "model = types.SimpleNamespace(encode=lambda t, side: np.ones((len(t), 2), np.float32))\n"
              "m.open_trained = lambda path, hub: types.SimpleNamespace(can_encode=True, model=model)\n"
              "from shutka.faces.cli import main; main()")
    pipe = f'{sys.executable} -c "$SCRIPT" encode model.zip -i texts.txt | head -n 1'
    done = subprocess.run(pipe, shell=True, text=True, capture_output=True, env={**os.environ, 'SCRIPT': script})
    assert json.loads(done.stdout) == {'text': 'a text', 'vector': [1, 1]} and done.stderr == ''


def test_bugs_keep_their_traceback(monkeypatch):
    monkeypatch.setattr('shutka.data.pairs.collect_pairs', lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError): cli.run_command(['data', 'pairs', 'dir:src', '-o', 'pairs.jsonl'])


def notebook(*lines: str) -> str:
    "A notebook with these parameters, which leaves a result."
    sources = ['\n'.join(["out: str = 'run'  # folder of the run", *lines]),
               "import json\nwith open(f'{out}/result.json', 'w') as f:\n"
               "    json.dump({'status': 'ok', 'steps': steps, 'lr': lr}, f)"]
    cells = [dict(id=f'cell-{i}', cell_type='code', source=s, outputs=[], execution_count=None,
                  metadata={'tags': ['parameters']} if i == 0 else {}) for i, s in enumerate(sources)]
    Path('demo.ipynb').write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
    return 'demo.ipynb'


def test_run(capfd):
    path = notebook('steps: int = 5  # optimizer steps', 'lr: float = 1e-3  # learning rate')
    Path('settings.yaml').write_text('steps: 7\nlr: 5e-5\n')
    assert cli.run_command(['run', path, '-f', 'settings.yaml', '-p', 'steps', '9', '-o', 'copy.ipynb']) == 0
    assert json.loads(Path('run/result.json').read_text()) == {'status': 'ok', 'steps': 9, 'lr': 5e-5}
    assert files() == ['copy.ipynb', 'demo.ipynb', 'run/result.json', 'settings.yaml']


def test_run_help(capsys):
    assert cli.run_command(['run', '--help']) == 0
    assert 'Notebooks:' in capsys.readouterr().out
    assert cli.run_command(['run']) == 2
    assert cli.run_command(['run', notebook('steps: int = 5  # optimizer steps'), '--help']) == 0
    assert 'steps  int  5      optimizer steps' in capsys.readouterr().out


@pytest.mark.parametrize('words, told', [
    (['nonsense'], "unknown notebook 'nonsense'"), (['demo.ipynb', '-p', 'stepps', '1'], "did you mean 'steps'"),
    (['demo.ipynb', '-p', 'steps', '1.5'], 'must be a whole number'),
    (['demo.ipynb', '-f', 'nowhere.yaml'], 'nowhere.yaml does not exist'),
])
def test_run_refused(words, told, capsys):
    notebook('steps: int = 5  # optimizer steps')
    assert cli.run_command(['run', *words]) == 2
    assert told in capsys.readouterr().err and files() == ['demo.ipynb']


def test_plan_does_nothing(capsys):
    assert cli.run_command(['plan', 'typescript', '-p', 'steps', '7', '-p', 'out', 'somewhere']) == 0
    out = capsys.readouterr().out
    assert ['steps', '7'] in [line.split() for line in out.splitlines()] and 'somewhere' in out and 'precision' in out
    assert files() == [] and not Path('somewhere').exists()


@pytest.mark.parametrize('words, told', [
    ([], 'measured on this machine'), (['--machine', 't4x2'], '2 x Tesla T4'),
    (['--machine', '2x24GB'], '2 x 24 GB GPU'),
    (['--machine', 'cpu'], 'CPU, 4 cores'), pytest.param(
        ['--machine', 'h100', '-p', 'size', 'base'], 'NVIDIA H100', marks=pytest.mark.faults)])
def test_plan_says_how_long(words, told, capsys):
    assert cli.run_command(['plan', 'typescript', '-p', 'steps', '100000', *words]) == 0
    out = capsys.readouterr().out
    [pace] = [line for line in out.splitlines() if line.startswith('pace')]
    assert told in out and 'for 100,000 steps' in pace and ('by arithmetic' in pace) == bool(words)
    assert files() == []


def test_plan_of_what_is_missing(capsys):
    "The table is printed all the same."
    assert cli.run_command(['plan', 'typescript', '-p', 'source', 'dir:nowhere']) == 2
    out, err = capsys.readouterr()
    assert 'precision' in out and 'dir:nowhere is not there' in out and err == ''


@pytest.mark.parametrize('words, told', [
    (['typescirpt'], "did you mean 'typescript'"), (['typescript', '-p', 'stepps', '1'], "did you mean 'steps'"),
    (['typescript', '-p', 'steps', '1.5'], 'must be a whole number'), (['my.ipynb'], 'my.ipynb does not exist'),
    (['typescript', '-f', 'nowhere.yaml'], 'nowhere.yaml does not exist'),
    (['typescript', '-p', 'size', 'huge'], 'huge'), (['evaluate'], 'typescript, instructions, git_history'),
    (['typescript', '--machine', 'tpu'], 'machine must be cpu, t4'),
])
def test_plan_refused(words, told, capsys):
    assert cli.run_command(['plan', *words]) == 2
    assert told in capsys.readouterr().err and files() == []


def add_rows(*steps: int):
    "Rows of these steps at the end of a run's log."
    with open('run/log.jsonl', 'a') as log:
        for s in steps: log.write(json.dumps({'phase': 'words', 'step': s, 'loss': 5 / s, 'seconds': s}) + '\n')


@pytest.fixture
def running():
    "The folder of a run that trains, and its lock."
    Path('run').mkdir()
    write_json('run/result.json', {'status': 'running'})
    add_rows(1, 2, 3)
    with open('run/.lock', 'w') as trainer:
        fcntl.flock(trainer, fcntl.LOCK_EX)
        yield trainer


def test_watch_ends_when_the_run_was_killed(running):
    watcher = subprocess.Popen([*PROGRAM, 'watch', 'run'], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout.readline().startswith('words step 3 ·')
    running.close()
    assert watcher.stdout.read() == 'run: killed; the same command resumes it\n' and watcher.wait() == 0


def test_watch_once(running, capsys):
    assert cli.run_command(['watch', 'run', '--once']) == 0
    out = capsys.readouterr().out
    assert out.startswith('run: running\nwords step 3 · loss 1.67') and '\x1b' not in out


def test_watch_waits_and_follows():
    "From before the first step to the end, as lines; the log is only read."
    Path('run').mkdir()
    watcher = subprocess.Popen([*PROGRAM, 'watch', 'run'], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout.readline() == 'run: has not begun\n'
    trainer = open('run/.lock', 'w')
    fcntl.flock(trainer, fcntl.LOCK_EX)
    write_json('run/result.json', {'status': 'running'})
    add_rows(1, 2)
    assert watcher.stdout.readline().startswith('words step 2 ·')
    add_rows(3)
    assert watcher.stdout.readline().startswith('words step 3 ·')
    write_json('run/result.json', {'status': 'failed', 'error': 'Diverged: too bad'})
    assert watcher.stdout.read() == 'run: failed, Diverged: too bad\n' and watcher.wait() == 0
    trainer.close()
    assert files() == ['run/.lock', 'run/log.jsonl', 'run/result.json']


def test_watch_in_a_terminal(running):
    "A table that is drawn over itself, until Ctrl-C."
    ours, theirs = os.openpty()
    watcher = subprocess.Popen([*PROGRAM, 'watch', 'run'], stdin=theirs, stdout=theirs, stderr=theirs,
                               env=os.environ | {'TERM': 'xterm', 'COLUMNS': '80', 'LINES': '40'})
    os.close(theirs)
    seen = b''
    while b'step 3' not in seen: seen += os.read(ours, 4096)
    add_rows(4)
    while b'step 4' not in seen: seen += os.read(ours, 4096)
    watcher.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the terminal of a process that has ended
        while more := os.read(ours, 4096): seen += more
    os.close(ours)
    assert watcher.wait() == 130 and b'Traceback' not in seen
    assert b'\x1b[?25h' in seen[-20:]  # the cursor is back


def test_watch_refused(capsys):
    Path('file').write_text('')
    for run in ('nowhere', 'file'):
        for more in ([], ['--once']): assert cli.run_command(['watch', run, *more]) == 2
    said = ['error: nowhere does not exist'] * 2 + ['error: file is not a folder'] * 2
    assert capsys.readouterr().err.splitlines() == said
    assert cli.run_command(['watch', 'src', '--once']) == 0
    assert capsys.readouterr().out.startswith('src: has not begun\n')


def test_report(monkeypatch, capsys):
    module = types.ModuleType('shutka.train.report')
    module.write_report = lambda run: (Path(run)/'training_report.json', Path(run)/'report.html')
    monkeypatch.setitem(sys.modules, 'shutka.train.report', module)
    assert cli.run_command(['report', 'run']) == 0
    assert capsys.readouterr().out == 'run/training_report.json\nrun/report.html\n'


@pytest.fixture
def model(monkeypatch):
    "A stand-in for bundles: the vector of a text is its length and a third."
    module = types.ModuleType('shutka.export.bundle')

    def encode(texts, side):
        assert side in ('words', 'code')
        return np.float32([[len(t), 1 / 3] for t in texts])

    def load(path):
        if path != 'model.zip': raise UserError(f"{path} does not exist")
        return types.SimpleNamespace(encode=encode)

    module.load, module.write_bundle = load, lambda run, out=None, bank=None: Path(out or f'{run}/bundle.zip')
    module.rebundle = lambda bundle, bank, path: Path(path)
    monkeypatch.setitem(sys.modules, 'shutka.export.bundle', module)
    monkeypatch.setattr('shutka.train.run.open_trained',
                        lambda path, device='cpu', hub='causal': types.SimpleNamespace(
                            kind='text-jepa', can_encode=True, model=module.load(path)))


def test_encode(model, capsys, monkeypatch):
    Path('texts.txt').write_text('one\nthree\n')
    assert cli.run_command(['encode', 'model.zip', 'größer', '-i', 'texts.txt']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '{"text": "größer", "vector": [6.0, 0.33333334]}' and len(lines) == 3
    assert cli.run_command(['encode', 'model.zip', '-i', 'texts.txt', '-o', 'v.npy']) == 0
    vectors = np.load('v.npy')
    assert vectors.dtype == np.float32 and vectors.tolist() == np.float32([[3, 1 / 3], [5, 1 / 3]]).tolist()
    for words in (['-'], ['-i', '-']):
        capsys.readouterr()
        monkeypatch.setattr('sys.stdin', open('texts.txt'))
        assert cli.run_command(['encode', 'model.zip', *words]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize('words, told', [
    (['model.zip'], 'at least one text'), (['model.zip', '-i', 'nowhere'], 'nowhere does not exist'),
    (['other.zip', 'x'], 'other.zip does not exist'),
    (['model.zip', '-i', 'gap.txt'], 'gap.txt:2'), (['model.zip', '-i', 'latin.txt'], 'must be UTF-8'),
])
def test_encode_refused(words, told, model, capsys):
    Path('gap.txt').write_text('one\n\nthree\n')
    Path('latin.txt').write_bytes('größer'.encode('latin-1'))
    assert cli.run_command(['encode', *words]) == 2
    assert told in capsys.readouterr().err


def test_evaluate_and_bundle(model, capsys, monkeypatch):
    from small import SMALL

    from shutka.models.text_jepa import TextJEPA
    monkeypatch.setattr('shutka.evaluate.comparison.open_embedder',
                        lambda path: types.SimpleNamespace(model=TextJEPA(SMALL).eval(), kind='text-jepa'))
    Path('src/more.ts').write_text('''
        /** Takes one number from another. */
        export const minus = (a: number, b: number) => { const difference = a - b; return difference }
        /** How far apart two points lie. */
        function gap(p: Point, q: Point) { return Math.hypot(p.x - q.x, p.y - q.y) }
    ''')
    for words in (['evaluate', 'retrieval'], ['evaluate']):   # the second is the spelling of version 0.2
        assert cli.run_command([*words, 'model.zip', 'dir:src', '-o', 'rows.json']) == 0
        assert 'BM25' in capsys.readouterr().out
        methods = {row['method'] for row in json.loads(Path('rows.json').read_text())}
        assert methods >= {'chance', 'BM25', 'untrained', 'dense', 'hybrid'}
        Path('rows.json').unlink()
    sys.modules['shutka.export.bundle'].warn_of_secrets = lambda content, progress: progress(f'{content} holds a key')
    monkeypatch.setattr('shutka.models.archive.read_bundle', str)
    assert cli.run_command(['bundle', 'run', '-o', 'x.zip']) == 0
    said = capsys.readouterr()
    assert said.out == 'x.zip\n' and 'x.zip holds a key' in said.err

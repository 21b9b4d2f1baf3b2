"The Kaggle notebook that sits the suites: a tiny model that was never trained, run, stopped, resumed; what is refused."
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from judged import needs_node
from small import SMALL

from shutka.core.files import read_json, read_jsonl, write_jsonl
from shutka.evaluate.tasks import SUITES, read_suite
from shutka.export.bundle import rebundle
from shutka.faces import cli
from shutka.faces.batch import run_notebook
from shutka.memory.bank import Bank
from shutka.models.archive import write_zip
from shutka.models.shapes import DecoderConfig
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model
from shutka.text.tokenizer import open_encoding, save_encoding

ROOT = Path(__file__).parents[1]
FEW = dict(items='2', n='2', k='2')
METHODS = ['model', 'retrieval only', 'shuffled']


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "Each test runs in a folder of its own, in which kernels find shutka."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))


def made(writes: bool) -> TextJEPA:
    "A model that was never trained, in model.zip, and in a folder as a run leaves it."
    torch.manual_seed(0)
    encoding = open_encoding('typescript-8k')
    shape = DecoderConfig(vocabulary=encoding.n_vocab, embedding=SMALL.width, width=16, heads=2, depth=1)
    model = TextJEPA(SMALL, shape if writes else None).eval()
    save_model(model, 'run/model')
    save_encoding(encoding, 'run/encoding.json')
    files = [Path('run/model/model.json'), Path('run/model/model.safetensors'), Path('run/encoding.json')]
    content = {path.name: path.read_bytes() for path in files}
    write_zip(Path('model.zip'), content | {'run.json': b'{"settings": {"tokens": 32, "memories": 1}}'})
    return model


def remember(model: TextJEPA):
    "A bank with the answers to the first item of each suite, and with one more piece of code."
    texts = [read_suite(suite)[0].reference for suite in SUITES]
    with Bank('bank', model) as bank: bank.add([*texts, 'const unrelated = 1'])


@pytest.mark.net
@needs_node
def test_a_run_and_its_continuation():
    remember(made(writes=True))
    rebundle('model.zip', 'bank', 'both.zip')
    words = [word for name, value in FEW.items() for word in ('-p', name, value)]
    command = [sys.executable, '-m', 'shutka.faces.cli', 'run', 'evaluate', '-p', 'bundle', 'both.zip', *words]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for said in ('6 tasks, 2 answers to each', 'it writes', 'no source was given',
                 'pieces of code in its memory: 1; left out, since they answer a task: 3',
                 '| retrieval only | ', 'of the answers of the model, 0.0% pass'): assert said in ran.stdout
    out = Path('runs/evaluate')
    result, kept = read_json(out/'result.json'), read_json(out/'suites.json')
    assert result['status'] == 'ok' and result['suites'] == kept['summary'] and result['retrieval'] == []
    expected = [(suite, method, 2) for suite in SUITES for method in METHODS]
    assert [(row['suite'], row['method'], row['items']) for row in result['suites']] == expected
    passed = {name: sum(row['passed'] for row in kept['rows'] if row['method'] == name) for name in METHODS}
    assert passed == {'model': 0, 'shuffled': 0, 'retrieval only': 0}   # no memory answers its own examination
    for row in kept['rows']:
        item = next(item for item in read_suite(row['suite']) if item.id == row['id'])
        if row['method'] == 'model': assert all(answer['code'].startswith(item.signature) for answer in row['answers'])
    assert '<h2>programming</h2>' in (out/'suites.html').read_text()

    lines = list(read_jsonl(out/'suites.jsonl'))          # killed in the middle of a line
    write_jsonl(out/'suites.jsonl', [line | {'cases': 1000} for line in lines[:7]])
    with open(out/'suites.jsonl', 'a') as log: log.write('{"mark": "0')
    given = {'bundle': 'both.zip'} | FEW
    assert run_notebook('evaluate', given) == 0
    again = read_json(out/'suites.json')['rows']
    assert [row | {'cases': 0} for row in again] == [row | {'cases': 0} for row in kept['rows']]
    assert [row['cases'] == 1000 for row in again] == [True] * 7 + [False] * 11
    other_draws = {'seed': '1', 'suites': 'programming'}   # none of the rows can be kept
    assert run_notebook('evaluate', given | other_draws) == 0
    cases = [row['cases'] for row in read_jsonl(out/'suites.jsonl')]
    assert cases == [row['cases'] for row in kept['rows'][6:12]]


@pytest.mark.net
@needs_node
def test_a_model_that_cannot_write(capfd, pairs):
    remember(made(writes=False))
    given = dict(bundle='model.zip', bank='bank', source=f'jsonl:{pairs}', suites='algorithmic') | FEW
    with Bank('bank'): assert run_notebook('evaluate', given) == 0   # while somebody else writes to it
    said = capfd.readouterr().out
    expected = ('it cannot write', '| hybrid |', 'effective rank', 'of the answers of the memory alone')
    for words in expected: assert words in said
    assert '| model |' not in said and '| shuffled |' not in said
    result = read_json('runs/evaluate/result.json')
    assert [row['method'] for row in result['retrieval']][-2:] == ['dense', 'hybrid']
    assert len(result['representation']) == 1
    assert run_notebook('evaluate', {'bundle': 'run', 'out': 'elsewhere'}) == 2
    assert 'must have a decoder (`shutka run instructions` makes one) or a memory' in capfd.readouterr().err


def test_without_node_it_says_how_to_get_it(capfd, monkeypatch):
    monkeypatch.setenv('PATH', str(Path.cwd()))
    monkeypatch.setenv('SHUTKA_CACHE', str(Path.cwd()/'cache'))
    assert run_notebook('evaluate', {}) == 2
    said = 'evaluation suites need Node.js 20 or newer with npm, and there is no node: install it from nodejs.org'
    assert said in capfd.readouterr().err
    assert not Path('cache').exists() or not list(Path('cache').iterdir())


def test_refused(capfd):
    Path('run').mkdir()
    Path('run/run.json').write_text('{}')
    for words, told in ((['out', 'run'], 'out must be a folder of its own, and run is that of a training run'),
                        (['k', '6'], 'k must be from 1 to n, got k=6 and n=5')):
        assert cli.run_command(['run', 'evaluate', '-p', *words]) == 2
        assert told in capfd.readouterr().err

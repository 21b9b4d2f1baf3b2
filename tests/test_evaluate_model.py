"A model is evaluated whole: a tiny one that was never trained, judged by the real judge, stopped and resumed."
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from judged import needs_node
from small import SMALL

from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl, write_json, write_jsonl
from shutka.evaluate.examination import _mark_task
from shutka.evaluate.model import evaluate_model
from shutka.evaluate.settings import EvaluateSettings
from shutka.evaluate.tasks import SUITES, read_suite
from shutka.memory.bank import Bank
from shutka.models.archive import write_zip
from shutka.models.shapes import DecoderConfig
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model
from shutka.text.tokenizer import open_encoding, save_encoding

METHODS = ['model', 'retrieval only', 'shuffled']


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "Each test runs in a folder of its own."
    monkeypatch.chdir(tmp_path)


def make_model(writes: bool) -> TextJEPA:
    "A model that was never trained, in model.zip, and in the folder `run` as a run leaves it."
    torch.manual_seed(0)
    encoding = open_encoding('typescript-8k')
    decoder = DecoderConfig(vocabulary=encoding.n_vocab, embedding=SMALL.width, width=16, heads=2, depth=1)
    model = TextJEPA(SMALL, decoder if writes else None).eval()
    save_model(model, 'run/model')
    save_encoding(encoding, 'run/encoding.json')
    write_json('run/run.json', {'settings': {'tokens': 32, 'memories': 1}})
    paths = ('run/model/model.json', 'run/model/model.safetensors', 'run/encoding.json', 'run/run.json')
    write_zip(Path('model.zip'), {Path(path).name: Path(path).read_bytes() for path in paths})
    return model


def remember(model: TextJEPA):
    "A bank with the answers to the first task of each suite, and with one more piece of code."
    answers = [read_suite(suite)[0].reference for suite in SUITES]
    with Bank('bank', model) as bank: bank.add([*answers, 'const unrelated = 1'])


@pytest.mark.net
@needs_node
def test_evaluated_and_resumed(capfd):
    remember(make_model(writes=True))
    settings = EvaluateSettings(bundle='model.zip', bank='bank', items=2, n=2, k=2, out='out')
    evaluation = evaluate_model(settings)
    said = capfd.readouterr().out
    for words in ('6 tasks, 2 answers to each', 'it writes', 'pieces of code in its memory: 4', 'no source was given'):
        assert words in said
    assert [(row['suite'], row['method'], row['items']) for row in evaluation.suites] == [
        (suite, method, 2) for suite in SUITES for method in METHODS]
    passed = {method: sum(row['passed'] for row in evaluation.rows if row['method'] == method) for method in METHODS}
    assert passed['model'] == passed['shuffled'] == 0 < passed['retrieval only']
    shown = evaluation._repr_markdown_()
    assert '| retrieval only | ' in shown and 'of the answers of the model, 0.0% pass' in shown
    assert len(repr(evaluation)) < 400
    result, kept = read_json('out/result.json'), read_json('out/suites.json')
    assert result == {'status': 'ok', 'suites': evaluation.suites, 'retrieval': [], 'representation': {}}
    assert kept == {'k': 2, 'summary': evaluation.suites, 'rows': evaluation.rows}
    assert '<h2>programming</h2>' in Path('out/suites.html').read_text()

    lines = list(read_jsonl('out/suites.jsonl'))          # killed in the middle of a line
    write_jsonl('out/suites.jsonl', [line | {'cases': 1000} for line in lines[:7]])
    with open('out/suites.jsonl', 'a') as log: log.write('{"mark": "0')
    again = evaluate_model(settings).rows
    assert [row['cases'] == 1000 for row in again] == [True] * 7 + [False] * 11
    assert [row | {'cases': 0} for row in again] == [row | {'cases': 0} for row in evaluation.rows]


@pytest.mark.net
@needs_node
def test_a_model_that_cannot_write(capfd, pairs):
    remember(make_model(writes=False))
    settings = dict(source=f'jsonl:{pairs}', suites='algorithmic', items=2, n=2, k=2)
    with Bank('bank'):   # while somebody else writes to it
        evaluation = evaluate_model(EvaluateSettings(bundle='model.zip', bank='bank', out='out', **settings))
    assert 'it cannot write' in capfd.readouterr().out
    assert {row['method'] for row in evaluation.suites} == {'retrieval only'}
    assert [row['method'] for row in evaluation.retrieval][-2:] == ['dense', 'hybrid']
    assert len(evaluation.representation) == 1
    shown = evaluation._repr_markdown_()
    for words in ('| hybrid |', 'effective rank', 'of the answers of the memory alone'): assert words in shown
    with pytest.raises(UserError, match='must have a decoder .* or a memory'):
        evaluate_model(EvaluateSettings(bundle='run', out='elsewhere', **settings))


@pytest.mark.net
@needs_node
@pytest.mark.parametrize('bundle, told', [
    ('nowhere.zip', 'nowhere.zip does not exist'), ('nowhere', 'nowhere does not exist'),
    ('causal', 'bundle must be a text-JEPA'), ('empty', 'must be a bundle'),
])
def test_no_model_of_ours(bundle, told):
    Path('empty').mkdir()
    Path('causal').mkdir()
    Path('causal/config.json').write_text('{}')
    with pytest.raises(UserError, match=told): evaluate_model(EvaluateSettings(bundle=bundle, out='out'))
    assert not Path('out').exists()


def test_refused_before_anything(monkeypatch):
    Path('run').mkdir()
    Path('run/run.json').write_text('{}')
    with pytest.raises(UserError, match='out must be a folder of its own, and run is that of a training run'):
        evaluate_model(EvaluateSettings(out='run'))
    monkeypatch.setenv('PATH', str(Path.cwd()))
    monkeypatch.setenv('SHUTKA_CACHE', str(Path.cwd()/'cache'))
    with pytest.raises(UserError, match='evaluation suites need Node.js 20 or newer with npm, and there is no node'):
        evaluate_model(EvaluateSettings())


def test_settings_load_nothing_heavy():
    code = ("import sys, shutka.evaluate.settings; shutka.evaluate.settings.EvaluateSettings();"
            "sys.exit(bool({'torch', 'matplotlib', 'transformers', 'faiss'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[1]).returncode == 0


def test_rows_of_older_files_are_known():
    "The mark that was written when a task was called an item."
    [leap] = [task for task in read_suite('programming') if task.id == 'isLeapYear']
    assert _mark_task('ABOUT', leap) == 'a1c547c12212f192'

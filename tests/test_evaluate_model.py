"A model is evaluated whole: a tiny one that was never trained, judged by the real judge, stopped and resumed."
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from judged import Strict, needs_node
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
    for words in ('6 tasks, 2 answers to each', 'it writes', 'no source was given',
                  'pieces of code in its memory: 1; left out, since they answer a task: 3'):
        assert words in said
    assert [(row['suite'], row['method'], row['items']) for row in evaluation.suites] == [
        (suite, method, 2) for suite in SUITES for method in METHODS]
    passed = {method: sum(row['passed'] for row in evaluation.rows if row['method'] == method) for method in METHODS}
    assert not any(passed.values())   # the memory's own answers to the tasks were left out
    shown = evaluation._repr_markdown_()
    assert '| retrieval only | ' in shown and 'of the answers of the model, 0.0% pass' in shown
    assert len(repr(evaluation)) < 400
    result, kept = read_json('out/result.json'), read_json('out/suites.json')
    assert result == {'status': 'ok', 'suites': evaluation.suites, 'retrieval': [], 'representation': {},
                      'notes': []}
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
    ('nowhere.zip', 'nowhere.zip does not exist'), ('nowhere', 'nowhere does not exist; .* named hf:nowhere'),
    ('causal', 'must hold a model that is whole'), ('empty', 'must be a bundle'),
    ('http://localhost:1/v1#a', 'bundle must be a model that writes'),
])
def test_no_model_of_ours(bundle, told):
    Path('empty').mkdir()
    Path('causal').mkdir()
    Path('causal/config.json').write_text('{}')
    with pytest.raises(UserError, match=told): evaluate_model(EvaluateSettings(bundle=bundle, out='out'))
    assert not Path('out').exists()


def train_small_writer(folder: str, instructions: bool):
    "A tiny Llama, with or without a chat template, that was never trained."
    from transformers import LlamaConfig, LlamaForCausalLM

    from shutka.models.lm_tokenizers import train_tokenizer
    tokenizer = train_tokenizer(['function add(a: number) { return a } user: assistant:'] * 9, size=320)
    if instructions:
        tokenizer.chat_template = ("{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
                                   "{% if add_generation_prompt %}[assistant] {% endif %}")
    torch.manual_seed(0)
    shape = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                        num_attention_heads=2, num_key_value_heads=1, bos_token_id=0, eos_token_id=0)
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.net
@needs_node
@pytest.mark.parametrize('instructions', [True, False])
def test_a_causal_model_sits_the_suites(capfd, instructions):
    train_small_writer('causal', instructions)
    train_small_writer('untouched', not instructions)
    with Bank('bank') as bank: bank.add([read_suite('programming')[0].reference, 'const unrelated = 1'])
    settings = dict(bundle='causal', base='untouched', bank='bank', suites='programming', items=2, n=2, k=2, tokens=8)
    evaluation = evaluate_model(EvaluateSettings(out='out', **settings))
    assert 'left out, since they answer a task: 1' in capfd.readouterr().out
    assert [row['method'] for row in evaluation.suites] == ['model', 'base', 'retrieval only', 'shuffled']
    assert '| cases right | tasks |' in evaluation._repr_markdown_()
    assert {row['cases'] for row in evaluation.suites} == {2 * sum(len(t.cases) for t in read_suite('programming')[:2])}
    with pytest.raises(UserError, match="source must be '' for a causal model"):
        evaluate_model(EvaluateSettings(out='elsewhere', source='dir:bank', **settings))
    with pytest.raises(UserError, match='base must be a model that `shutka serve` takes, and nowhere'):
        evaluate_model(EvaluateSettings(out='elsewhere', **settings | {'base': 'nowhere'}))


def test_a_memory_of_which_nothing_is_left_is_one(monkeypatch):
    monkeypatch.setattr('shutka.evaluate.model.install_judge', lambda: None)
    monkeypatch.setattr('shutka.evaluate.model.Judge', Strict)
    train_small_writer('causal', instructions=True)
    with Bank('bank') as bank: bank.add(read_suite('programming')[0].reference)
    found = evaluate_model(EvaluateSettings(bundle='causal', bank='bank', suites='programming', items=1, n=1, k=1,
                                            temperature=0, tokens=4, out='out'), watch=lambda rows, total: rows)
    assert [row['method'] for row in found.suites] == METHODS


def save_short_gpt(folder: str, positions: int):
    "A GPT-2 with few positions, beyond which it has no numbers at all."
    from transformers import GPT2Config, GPT2LMHeadModel

    from shutka.models.lm_tokenizers import train_tokenizer
    tasks = read_suite('programming')
    tokenizer = train_tokenizer([f'/** {task.prompt} */ {task.signature}' for task in tasks] * 9, size=900)
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=positions,
                       eos_token_id=0, bos_token_id=0)
    GPT2LMHeadModel(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_what_does_not_fit_into_few_positions_is_counted(monkeypatch):
    monkeypatch.setattr('shutka.evaluate.model.install_judge', lambda: None)
    monkeypatch.setattr('shutka.evaluate.model.Judge', Strict)
    save_short_gpt('short', 64)
    said, asked = [], dict(bundle='short', suites='programming', n=1, k=1, temperature=0, tokens=24)
    evaluate = lambda **more: evaluate_model(EvaluateSettings(**asked | more), said.append, lambda rows, total: rows)
    found = evaluate(out='out')
    tasks = len(read_suite('programming'))
    no_room, short = (int(line.split(': ')[1].split()[0]) for line in found.notes)
    assert set(found.notes) < set(said) and found.notes == read_json('out/result.json')['notes']
    assert found.notes[0] == (f'tasks that do not fit and count as failed: {no_room} of {tasks}; '
                              f'the model reads and writes 64 tokens at most')
    assert 0 < no_room < tasks and 0 < short and found.notes[1] in found._repr_markdown_()
    failed = [row for row in found.rows if row['method'] == 'model' and row['answers'][0]['code'] == '']
    assert len(failed) == no_room and not any(row['parses'] for row in failed)
    # memories go before the answer does
    with Bank('bank') as bank: bank.add('const text = 1 // number string array the a of ' + 'unrelated, more ' * 40)
    save_short_gpt('longer', 160)
    found = evaluate(out='memory', bundle='longer', base='short', bank='bank')
    assert found.notes[0].startswith('memories left out, since they would have taken the room of the answer: ')
    assert [line for line in found.notes if line.startswith('base: tasks that do not fit')]
    save_short_gpt('shortest', 8)
    with pytest.raises(UserError, match='must fit into the model, and none does: the model reads and writes 8 tokens'):
        evaluate(out='nothing', bundle='shortest')
    assert not Path('nothing').exists()


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

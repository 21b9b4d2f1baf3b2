"""Each parameter of each notebook, with values of every wrong kind: one sentence and exit code 2, however it comes in.

A value reaches the dataclass from Python, from `shutka run` (text, or a YAML file), and from plain papermill, which
makes of a text what it likes. What can only mean one thing is converted, everywhere to the same.
"""
import math
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from papermill.cli import _resolve_type

from shutka.core.errors import UserError
from shutka.core.files import read_json
from shutka.core.settings import read_settings
from shutka.faces import cli
from shutka.faces.notebooks import SETTINGS_CLASSES, find_notebook, read_parameters

ROOT = Path(__file__).parents[1]
KINDS = {name: getattr(import_module(module), kind) for name, (module, kind) in SETTINGS_CLASSES.items()}
CASES = [(name, field.name, field.type) for name, kind in KINDS.items() for field in fields(kind)]
every_parameter = pytest.mark.parametrize('notebook, name, type_', CASES, ids=[f'{n}-{f}' for n, f, _ in CASES])

# Texts that are wrong by their kind, and Python values besides.
WRONG_TEXTS = {int: ['many', '1.5', 'nan', 'inf', ''], float: ['much', 'nan', '-inf', ''], bool: ['maybe', '2', '']}
WRONG_VALUES = {str: [None, 1.5, True, math.nan, ['a']], int: [None, 1.5, math.nan, True, [1]],
                float: [None, math.nan, math.inf, True, [1.]], bool: [None, 2, math.nan, 'maybe', [True]]}
# Right texts, and what they mean.
TEXTS = {int: [('1e1', 10), ('8', 8)], float: [('1e-1', .1), ('.2', .2)],
         bool: [('false', False), ('True', True), ('no', False), ('1', True)], str: [('20', '20')]}
TUNED = 'finetune', 'cypher', 'patterns', 'assistant'   # notebooks that tune a pretrained model on examples
ADAPTED = (*TUNED, 'code_dataset')   # notebooks whose adapters learn
# Values out of range, where there is a range; a number may be below zero in none of them.
OUT_OF_RANGE = {'lr': [0, -1], 'ternary': [.5, -.1], 'fim': [1.5, -.5], 'batch_size': [1, 0], 'tokens': [0],
                'temperature': [3, -1], 'n': [0], 'k': [0, 99], 'optimizer': ['adam'], 'size': ['huge'], 'seed': [-1],
                **{(name, 'batch_size'): [0, -1] for name in ADAPTED},   # a step may have several times as many rows
                'learn': ['nothing'], 'out': [''], 'base_dir': [''], 'repo': [''], 'query': [''], 'suites': ['singing']}
# Settings that go together: the text of one needs the other.
TOGETHER = {('memory', 'before'): {'after': '20'}, ('memory', 'after'): {'before': '20'},
            ('typescript', 'shard'): {'processes': 2}, ('instructions', 'shard'): {'processes': 2},
            **{(name, 'processes'): {'batch_size': 40} for name in ADAPTED},
            ('code_dataset', 'fim'): {'packing': True}, ('vision', 'shard'): {'processes': 2},
            ('vision', 'processes'): {'batch_size': 40}, ('vision', 'phase1_checkpoint'): {'phase': 2},
            ('vision', 'phase2_checkpoint'): {'phase': 3},
            ('typescript', 'processes'): {'batch_size': 40}, ('instructions', 'processes'): {'batch_size': 40},
            ('evaluate', 'n'): {'k': 1}, ('evaluate', 'k'): {'n': 10}}
FREE_TEXT = {'size', 'optimizer', 'learn', 'suites', 'language', 'quantization',   # a number is no name of these
             'wandb'}   # needs a package that is not here
NOT_OFFERED = ({(name, field) for name in ADAPTED for field in ('ternary', 'shard')}
               | {('vision', field) for field in ('ternary', 'resume')})   # defaults only
SMALL = {**{(name, 'max_length'): [('2e1', 20)] for name in TUNED}, ('code_dataset', 'length'): [('2e1', 20)],
         **{('code_dataset', name): [(text, text)] for name, text in (
             ('source', 'dir:20'), ('augmentations', 'token_masking'), ('licences', 'unknown'), ('secrets', 'drop'),
             ('against', 'suites'))},
         ('code_dataset', 'vocabulary'): [('1e3', 1000)], ('evaluate', 'memories'): [('tool', 'tool')],
         ('vision', 'phase'): [('0', 0)], ('vision', 'gate'): [('flow', 'flow')], ('vision', 'held_out'): [('2e1', 20)],
         ('vision', 'vocabulary'): [('1e3', 1000)], ('vision', 'dropout'): [('1e-1', .1)],
         ('evaluate', 'k'): [('2', 2)], ('evaluate', 'temperature'): [('1e-1', .1)]}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "Each test runs in an empty folder, in which kernels find shutka."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))


def defaults(notebook): return {p.name: p.default for p in read_parameters(find_notebook(notebook))}

def refuse(make, name):
    "One sentence that names the setting."
    with pytest.raises(UserError, match=name) as caught: make()
    assert '\n' not in str(caught.value) and 'Traceback' not in str(caught.value)

def run_refused(words, name, capsys):
    assert cli.run_command(words) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(said) == 1 and name in said[0]
    assert [path.name for path in Path('.').iterdir() if path.suffix != '.yaml'] == []   # no kernel, no folder


def test_the_parameters_cell_is_the_dataclass():
    for notebook, kind in KINDS.items():
        assert [p.name for p in read_parameters(find_notebook(notebook))][:len(kind.first)] == list(kind.first)
        expected = {field.name: (field.type.__name__, field.default) for field in fields(kind)}
        assert {p.name: (p.type, p.default) for p in read_parameters(find_notebook(notebook))} == expected


@every_parameter
def test_a_value_of_another_kind(notebook, name, type_, capsys):
    for value in WRONG_VALUES[type_]: refuse(lambda: KINDS[notebook](**defaults(notebook) | {name: value}), name)
    for text in WRONG_TEXTS.get(type_, ()): run_refused(['run', notebook, '-p', name, text], name, capsys)
    Path('null.yaml').write_text(f'{name}: null\n')
    run_refused(['run', notebook, '-f', 'null.yaml'], name, capsys)


@every_parameter
def test_what_papermill_makes_of_a_text(notebook, name, type_):
    "Its own command line turns texts into values; the notebook's next cell reads them as the notebook does."
    for text in WRONG_TEXTS.get(type_, ()):
        variables = defaults(notebook) | {name: _resolve_type(text)}
        refuse(lambda: read_settings(KINDS[notebook], variables), name)
    if type_ is str:
        variables = defaults(notebook) | {name: _resolve_type('None')}
        refuse(lambda: read_settings(KINDS[notebook], variables), name)


@every_parameter
def test_a_value_out_of_range(notebook, name, type_, capsys):
    values = OUT_OF_RANGE.get((notebook, name)) or OUT_OF_RANGE.get(name, [-1] if type_ in (int, float) else [])
    for value in values:
        refuse(lambda: KINDS[notebook](**defaults(notebook) | {name: value}), name)
        refuse(lambda: read_settings(KINDS[notebook], defaults(notebook) | {name: _resolve_type(str(value))}), name)
        run_refused(['run', notebook, '-p', name, str(value)], name, capsys)


@every_parameter
def test_a_text_that_can_only_mean_one_thing(notebook, name, type_):
    if name in FREE_TEXT or (notebook, name) in NOT_OFFERED: return
    together = TOGETHER.get((notebook, name), {})
    for text, meant in SMALL.get((notebook, name), TEXTS[type_]):
        for value in (text, _resolve_type(text)):
            settings = KINDS[notebook](**defaults(notebook) | together | {name: value})
            assert getattr(settings, name) == meant and type(getattr(settings, name)) is type_


@pytest.mark.parametrize('notebook, name, text', [
    ('typescript', 'shard', 'maybe'), ('instructions', 'fim', '2'), ('git_history', 'force', 'perhaps'),
    ('evaluate', 'k', '6'), ('memory', 'before', 'dir:src')])
def test_plain_papermill_stops_at_the_cell_that_reads_the_settings(notebook, name, text):
    words = [str(find_notebook(notebook)), 'out.ipynb', '-p', name, text, '--no-progress-bar']
    done = subprocess.run([sys.executable, '-m', 'papermill', *words], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    outputs = [output for cell in read_json('out.ipynb')['cells'] for output in cell.get('outputs', [])]
    [error] = [output for output in outputs if output['output_type'] == 'error']
    assert error['ename'] == 'UserError' and name in error['evalue'] and '\n' not in error['evalue']
    assert not Path('runs').exists()


def test_the_text_false_is_false_for_papermill():
    "It once counted as true: 41 commits were read again instead of none."
    variables = defaults('git_history') | {'force': _resolve_type('false')}
    assert read_settings(KINDS['git_history'], variables).force is False

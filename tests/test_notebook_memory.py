"The Kaggle notebook about memory: offline by default, again in the same folder with a model, and what it refuses."
from pathlib import Path

import pytest
import torch
from small import SMALL

from shutka.core.files import read_json, write_json
from shutka.core.hashes import sha256
from shutka.faces import cli
from shutka.faces.batch import run_notebook
from shutka.memory.bank import Bank
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model
from shutka.text.tokenizer import open_encoding, save_encoding

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "Each test runs in a folder of its own, in which kernels find shutka."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('PATH', str(tmp_path))  # no npm, no git


def shown(kind='execute_result', path='runs/memory/notebook.ipynb') -> list[dict]:
    "What a notebook shows: its searches, or (`display_data`) its inspector, the still of it and the map."
    found = [o['data'] for c in read_json(path)['cells'] for o in c.get('outputs', []) if o['output_type'] == kind]
    return [{mime: ''.join(data) if mime.startswith('text') else data for mime, data in of.items()} for of in found]


def test_offline_and_again_with_a_model(capfd):
    assert run_notebook('memory', {}) == 0
    said = capfd.readouterr().out
    for words in ('searched by words only', '28 added', '1 changed, 14 deleted, 13 unchanged',
                  '28 memories before, 14 after', '3 are gone',
                  'is replaced by [30]', 'undone: [30] is gone', '14 memories', 'no faults'): assert words in said
    result = read_json('runs/memory/result.json')
    assert result['status'] == 'ok' and result['before'] == {'added': 28}
    assert result['after'] == {'changed': 1, 'deleted': 14, 'unchanged': 13}
    assert all('<pre' in data['text/html'] for data in shown())
    first, then, fixed = [data['text/plain'] for data in shown()]
    assert 'isLeapYear(year) ? 29' in first and 'month + 1, 0' not in first
    assert 'isLeapYear(year) ? 29' not in then and 'new Date(year, month + 1, 0)' in then
    assert 'Corrected by hand' in fixed and 'new Date(year, month, 0)' in fixed
    live, still = shown('display_data')
    assert 'application/vnd.jupyter.widget-view+json' in live
    assert 'month + 1, 0' in still['text/plain'] and '<mark>length</mark>' in still['text/html']
    assert 'bank.reencode(encoder)' in still['text/html'] and 'no map' in said
    with Bank('runs/memory/bank', readonly=True) as bank:
        assert len(bank) == result['memories'] == 14 and not bank.verify()

    torch.manual_seed(0)
    save_model(TextJEPA(SMALL), 'model')
    save_encoding(open_encoding('typescript-8k'), 'model/encoding.json')
    write_json('model/manifest.json', {p.name: sha256(p) for p in sorted(Path('model').iterdir())})
    assert run_notebook('memory', {'bundle': 'model'}) == 0
    said = capfd.readouterr().out
    assert 'made vectors for 14 memories' in said and 'search: hybrid, no faults' in said
    _, still, drawn = shown('display_data')
    assert 'src="data:image/svg+xml;base64,' in still['text/html'] and 'image/png' in drawn


def test_refused(capfd):
    assert cli.run_command(['run', 'memory', '-p', 'before', 'npm:zod@3.25.76']) == 2
    assert 'before and after must be given both or neither' in capfd.readouterr().err

"The Kaggle notebook from the first cell to the zip: as `shutka run`, once more, and under plain papermill."
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shutka
from shutka.core.files import read_json
from shutka.core.hashes import sha256
from shutka.faces.batch import run_notebook
from shutka.faces.notebooks import find_notebook
from shutka.models.text_jepa_files import load_model
from shutka.train.run import read_steps

ROOT = Path(__file__).parents[1]
METHODS = ['chance', 'BM25', 'BM25 split', 'untrained', 'dense', 'hybrid']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "What a small run printed, its parameters and its folder."
    place = tmp_path_factory.mktemp('notebook')
    given = dict(steps='6', max_samples='200', batch_size='64', processes='1', out=str(place/'run'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(ROOT))
        patch.chdir(place)
        assert run_notebook('typescript', given) == 0
        yield given, place/'run'


def printed(path):
    "All that a notebook shows as text or as Markdown."
    outputs = [o for c in read_json(path)['cells'] for o in c.get('outputs', [])]
    shown = [o.get('text') or o.get('data', {}).get('text/markdown', '') for o in outputs]
    return ''.join(map(''.join, shown))


def state(out): return {p: sha256(p) for p in sorted(out.rglob('*')) if p.is_file() and p.suffix != '.ipynb'}


def test_what_it_leaves(finished):
    given, out = finished
    made = {p.name for p in out.iterdir()}
    assert made >= {'run.json', 'log.jsonl', 'checkpoints', 'data', 'model', 'result.json',
                    'shutka-typescript.zip', 'notebook.ipynb'}
    result, rows = read_json(out/'result.json'), read_steps(out/'log.jsonl')
    assert result['status'] == 'ok' and result['steps'] == 6
    assert result['bundle']['sha256'] == sha256(out/'shutka-typescript.zip')
    pools = {r['pool'].split(' (')[0] for r in result['rows']}
    assert pools == {'unseen files', 'unseen packages'}
    for pool in {r['pool'] for r in result['rows']}:
        assert [r['method'] for r in result['rows'] if r['pool'] == pool] == METHODS
    assert [r['step'] for r in rows] == [1, 2, 3, 4, 5, 6]
    assert all({'phase', 'step', 'loss', 'lr'} <= r.keys() for r in rows)
    text = printed(out/'notebook.ipynb')
    for words in ('devices', 'pairs', 'unseen packages', 'hybrid', 'shutka-typescript.zip'): assert words in text
    cells = read_json(out/'notebook.ipynb')['cells']
    images = [o for c in cells for o in c.get('outputs', []) if 'image/png' in o.get('data', {})]
    assert len(images) == 2  # the curves, and the bars of retrieval


def test_the_zip_gives_the_same_vectors(finished):
    _, out = finished
    bundle, trained = shutka.load(out/'shutka-typescript.zip'), load_model(out/'model')
    texts = ['how many days a month has', '{ return new Date(y, m + 1, 0).getDate(); }']
    for side in ('words', 'code'):
        np.testing.assert_allclose(bundle.encode(texts, side), trained.encode(texts, side), rtol=0, atol=1e-6)


def again(given, how, tmp_path):
    if how == 'shutka': assert run_notebook('typescript', given, tmp_path/'again.ipynb') == 0
    else:
        values = [word for item in given.items() for word in ('-p', *item)]
        notebooks = str(find_notebook('typescript')), str(tmp_path/'again.ipynb')
        subprocess.run([sys.executable, '-m', 'papermill', *notebooks, *values, '--no-progress-bar'],
                       check=True, capture_output=True, timeout=120)
    return tmp_path/'again.ipynb'

@pytest.mark.parametrize('how', ['shutka', pytest.param('papermill', marks=pytest.mark.faults)])
def test_the_same_command_again_trains_nothing(finished, tmp_path, how):
    "Whoever executes the notebook: the run is complete, and every file stays as it is."
    given, out = finished
    before = state(out)
    text = printed(again(given, how, tmp_path))
    assert 'is complete: ok' in text and 'hybrid' in text
    assert state(out) == before
    assert json.loads((out/'result.json').read_text())['status'] == 'ok'

"""What version 0.2 has written still opens: runs, bundles, a bank, a pipeline.

`written_by_0.2.tar.xz` was made by the commit before the rooms (90ed3a4), with a model of the size of
`small.SMALL`. In it are a run that was trained to its end and bundled, the same run stopped after seven
steps, a bundle with memories, one with a decoder, a bank, and a git pipeline without its weights.
"""
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from small import SMALL

import shutka
from shutka.core.files import read_json
from shutka.memory.bank import Bank
from shutka.memory.encoder import fingerprint
from shutka.models.opening import open_model
from shutka.models.shapes import SIZES
from shutka.serve.seats import open_seat
from shutka.train.recipe import load_recipe
from shutka.train.report import write_report
from shutka.train.run import open_trained, read_steps, run_training

ROOT = Path(__file__).parents[1]
ARCHIVE = Path(__file__).parent/'written_by_0.2.tar.xz'


@pytest.fixture
def written(tmp_path, monkeypatch):
    "The old folder, unpacked; each test has its own."
    with tarfile.open(ARCHIVE) as archive: archive.extractall(tmp_path, filter='data')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SIZES, 'tiny', SMALL)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    return tmp_path


def test_bundles_and_run_folders_open_and_are_the_same_model(written):
    texts = ['parse a date', '{ return a + b; }']
    models = [shutka.load('shutka-typescript.zip'), shutka.load('remembers.zip'), open_model('typescript').model]
    for side in ('words', 'code'):
        vectors = [model.encode(texts, side) for model in models]
        for others in vectors[1:]: np.testing.assert_allclose(others, vectors[0], atol=1e-6)


def test_a_bundle_that_writes_is_served(written):
    seat, content = open_seat('shutka-instructions.zip')
    assert seat.refusal is None and 'run.json' in content and shutka.load('shutka-instructions.zip').decoder


def test_a_bank_knows_its_model(written):
    model = shutka.load('shutka-typescript.zip')
    with Bank('bank', model) as bank:
        assert bank.store.encoder()[0] == fingerprint(model)   # or every vector would have to be made again
        assert bank.verify() == [] and len(bank) == 11 and bank.reencode() == 0
        hits = bank.search('a date', k=3)
        assert len(hits) == 3 and all(hit.text for hit in hits)
        kinds = [operation.kind for operation in bank.operations(20)]
        assert 'undo' in kinds and any(kind.startswith('sync') for kind in kinds)
        bank.undo()   # of the newest operation in effect: a memory that was deleted is back
        assert len(bank) == 12


def test_memories_in_a_bundle_become_a_bank(written):
    with shutka.load('remembers.zip', bank='unpacked').predictor.memory_bank as bank: assert len(bank) == 11


def test_a_stopped_run_is_resumed_and_ends_like_the_one_that_was_not(written):
    assert load_recipe('stopped').settings.steps == 20 and len(read_steps(Path('stopped/log.jsonl'))) == 7
    assert run_training('stopped') == 0
    rows, whole = (read_steps(Path(out)/'log.jsonl') for out in ('stopped', 'typescript'))
    assert [row['step'] for row in rows] == list(range(1, 21))
    # Until the first phase ends. The next one begins with its best weights now, and began with its last ones then.
    first = [row['step'] for row in whole if row['phase'] == 'words']
    assert len(first) == 13 and [row['phase'] for row in rows] == [row['phase'] for row in whole]
    assert [row['loss'] for row in rows[:13]] == pytest.approx([row['loss'] for row in whole[:13]], rel=1e-3)
    assert [row['loss'] for row in rows] == pytest.approx([row['loss'] for row in whole], rel=.05)
    result = read_json('stopped/result.json')
    assert result['metrics']['mrr'] == max(row['mrr'] for row in rows[13:] if 'mrr' in row)


def test_a_checkpoint_opens(written):
    newest = sorted(Path('stopped/checkpoints').glob('step-*'))[-1]
    assert open_trained(newest).model.encode(['a date']).shape == (1, SMALL.width)


def test_a_report_can_be_written(written):
    paths = write_report('stopped')
    assert all(Path(path).is_file() for path in paths)
    assert 'shutka run typescript' in Path('stopped/report.html').read_text()


def test_a_pipeline_goes_on_where_it_was(written):
    before = read_json('history/MANIFEST_DYNAMIC.json')['phase_results']
    os.rename('history', 'base')
    few = dict(sequence_length=64, overlap=16, force_epochs=1, model='tiny', encoder='words', processes=1)
    manifest = shutka.history.build('app', 'base', shutka.history.HistorySettings(**few))
    after = manifest['phase_results']
    assert after['phase_1_scrape']['new'] == 0
    assert after['phase_1_scrape']['kept'] == before['phase_1_scrape']['commits']
    assert after['phase_3_embeddings']['embedded'] == 0
    # the newest commits validate now, and did not then: tokens and training are made anew, beside what was there
    assert after['phase_4_training']['run'] != before['phase_4_training']['run']
    assert Path('base', before['phase_4_training']['run']).exists()
    assert {result['status'] for result in after.values()} == {'completed'}

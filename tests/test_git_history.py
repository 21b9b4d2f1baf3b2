"""The git pipeline as its user meets it.

It is run to its end, killed in each phase, run again after new commits, and given what it must refuse.
"""
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.core.files import read_json, write_json
from shutka.faces.batch import run_notebook
from shutka.history.config import TrainingConfig, TrainingSection, read_config
from shutka.history.planning import make_history_recipe
from shutka.history.settings import HistorySettings
from shutka.train.machine import Device, Machine

ROOT = Path(__file__).parents[1]
FEW = dict(sequence_length='64', overlap='16', force_epochs='1', model='tiny', encoder='words', processes='1')
NAMES = ['phase_0_analyze', 'phase_1_scrape', 'phase_2_tokenize', 'phase_3_embeddings', 'phase_4_training']


def git(folder, *words, at=0):
    "Run git as Ada, `at` hours after a fixed moment, without the user's configuration."
    env = os.environ | {'GIT_CONFIG_GLOBAL': os.devnull}
    for role in ('AUTHOR', 'COMMITTER'):
        env[f'GIT_{role}_NAME'] = 'Ada'
        env[f'GIT_{role}_EMAIL'] = 'ada@example.org'
        env[f'GIT_{role}_DATE'] = f'{10**9 + 3600 * at} +0200'
    subprocess.run(['git', '-C', str(folder), *words], check=True, capture_output=True, env=env)


def repository(folder, commits=30):
    "A small history with a merge at its end, whose settings name programs that leave a canary beside it."
    folder.mkdir()
    git(folder, 'init', '-b', 'main')
    for i in range(commits): commit(folder, i)
    git(folder, 'checkout', '-b', 'side', 'HEAD~2')
    commit(folder, 'side')
    git(folder, 'checkout', 'main')
    git(folder, 'merge', '--no-ff', '-m', 'Merge side', 'side', at=commits + 1)
    canary = f'touch {folder.parent}/canary; false'
    git(folder, 'config', 'merge.armed.driver', canary)
    (folder/'.git'/'info'/'attributes').write_text('* merge=armed diff=armed filter=armed\n')
    for name in ('diff.armed.textconv', 'filter.armed.smudge', 'core.fsmonitor'): git(folder, 'config', name, canary)
    return folder


def commit(folder, i):
    text = f'export const part{i} = {i}\n'
    text += f'export function twice{i}() {{ return 2 * part{i} }}\n'
    (folder/f'part{i}.ts').write_text(text)
    safe = ('-c', 'core.fsmonitor=false')
    git(folder, *safe, 'add', '-A')
    git(folder, *safe, 'commit', '-m', f'Add part {i}', at=i if isinstance(i, int) else 99)


def manifest(base): return read_json(base/'MANIFEST_DYNAMIC.json')


def states(said): return [said['phase_results'][name]['status'] for name in NAMES]


MODEL = Path('models')/'app-git-model-final'   # in the base folder
FILES = ['data/git_history_rich.jsonl', 'data/token_sequences_rich.json', 'data/tokens/index.json',
         'embeddings/embeddings_rich.npz', 'embeddings/qdrant_points.json',
         f'{MODEL}/model.safetensors', f'{MODEL}/training_report.json', 'training_config.yaml', 'result.json']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A repository, and the folder of a pipeline that ran to its end."
    place = tmp_path_factory.mktemp('pipeline')
    repo = repository(place/'app')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(ROOT))
        patch.chdir(place)
        assert run_notebook('git_history', dict(repo='app', base_dir='base', **FEW)) == 0
    return repo, place/'base'


def test_all_files_are_there(finished):
    _, base = finished
    for name in FILES: assert (base/name).is_file(), name
    assert len((base/'data'/'git_history_rich.jsonl').read_text().splitlines()) == 32
    vectors = np.load(base/'embeddings'/'embeddings_rich.npz')
    assert vectors['embeddings'].shape == (32, 384) and vectors['ids'].shape == vectors['timestamps'].shape == (32,)


def test_no_program_of_the_repository_has_run(finished):
    repo, _ = finished
    assert not (repo.parent/'canary').exists()


def test_the_newest_commits_validate_and_shared_lines_are_told(finished):
    _, base = finished
    said = manifest(base)
    assert said['sequence_metadata']['commits'] == {'train': 29, 'validation': 3}
    # every part has lines of its own, and each was added once
    assert said['sequence_metadata']['shared_lines'] == said['training_report']['shared_lines'] == 0.
    run = base/said['phase_results']['phase_4_training']['run']
    assert read_json(run/'run.json')['data']['shared_lines'] == 0.
    assert 'shared lines' in (run/'report.html').read_text().replace('_', ' ')


def with_gpus(*gigabytes) -> Machine:
    return Machine(devices=tuple(Device(f'{size} GB', (7, 5), size * 10**9) for size in gigabytes), cores=4,
                   ram=30 * 10**9, free=10**12)


@pytest.mark.parametrize('first, later, processes', [((16,), (16, 16), 0), ((16, 16), (16,), 0), ((16,), (), 0),
                                                     ((), (16, 16, 16), 2), ((6,), (24, 24, 24, 24, 24), 4)])
def test_another_machine_goes_on_with_the_same_run(finished, tmp_path, first, later, processes):
    base = tmp_path/'base'
    base.mkdir()
    (base/'data').symlink_to(finished[1]/'data')
    config = read_config(finished[1]/'training_config.yaml')
    two = HistorySettings(base_dir=str(base), force_epochs=2)
    def ask(settings=two, config=config, gpus=later):
        return make_history_recipe(settings, 'app', config, with_gpus(*gpus), 'shutka run git_history')

    begun, numbers = ask(gpus=first)
    write_json(Path(begun.settings.out)/'run.json', {'settings': asdict(begun.settings)})   # as `prepare` does
    resumed, again = ask()
    same = [name for name in asdict(begun.settings) if name not in type(begun.settings).session_fields]
    assert [getattr(begun.settings, name) for name in same] == [getattr(resumed.settings, name) for name in same]
    assert resumed.settings.out == begun.settings.out and resumed.settings.processes == processes
    assert {k: v for k, v in numbers.items() if 'time' not in k} == {k: v for k, v in again.items() if 'time' not in k}
    assert not resumed.settings.batch_size % (resumed.settings.processes or max(1, len(later)))
    # what the user asks for is another run
    for other in (HistorySettings(base_dir=str(base), force_epochs=3), HistorySettings(base_dir=str(base))):
        assert ask(other)[0].settings.out != begun.settings.out
    slower = TrainingConfig(training=TrainingSection(base_learning_rate=1e-6), model=config.model)
    assert ask(config=slower)[0].settings.out != begun.settings.out


def test_what_the_jq_lines_of_the_original_design_ask_for(finished):
    _, base = finished
    said = manifest(base)
    assert states(said) == 5 * ['completed']

    stats = said['repository_stats']
    assert stats['unique_commits'] == 32 and stats['unique_authors'] == 1
    assert stats['branches'] == 2 and stats['commits_per_branch'] == {'main': 32, 'side': 29}

    numbers = said['training_parameters']
    windows = {name: split['windows'] for name, split in read_json(base/'data'/'tokens'/'index.json')['splits'].items()}
    assert numbers['num_sequences'] == sum(windows.values()) == said['sequence_metadata']['num_sequences']
    assert numbers['epochs'] == 1 and numbers['batch_size'] == 2
    assert numbers['total_steps'] == numbers['steps_per_epoch'] == math.ceil(windows['train'] / 2)

    report = said['training_report']
    assert report['model_name'] == 'app-git-model-final' and report['epochs_completed'] == 1
    history, hardware = report['training']['loss_history'], report['hardware']
    assert history['train'] and history['val'] == [report['final_val_loss']]
    assert hardware['device'] and hardware['num_workers'] >= 1 and hardware['samples']
    assert report['gradients']['max_norm'] > 0 and report['learning_rate']['max'] > 0
    assert report == read_json(base/MODEL/'training_report.json')

    assert len(read_json(base/'data'/'token_sequences_rich.json')) == 6
    assert said['execution_timestamp'] and said['total_execution_time_seconds'] > 0


def test_the_model_opens_and_generates_as_the_original_design_shows(finished):
    _, base = finished
    from transformers import GPT2LMHeadModel, GPT2Tokenizer
    model = GPT2LMHeadModel.from_pretrained(base/MODEL)
    tokenizer = GPT2Tokenizer.from_pretrained(base/MODEL)
    ids = tokenizer.encode('export const', return_tensors='pt')
    outputs = model.generate(ids, max_length=24, temperature=.7, num_return_sequences=3)
    assert len(outputs) == 3
    for output in outputs: assert isinstance(tokenizer.decode(output, skip_special_tokens=True), str)
    markers = read_json(base/'data'/'tokens'/'index.json')['markers']
    assert tokenizer.convert_tokens_to_ids('<|commit|>') == markers['commit']


def test_again_does_nothing_and_new_commits_are_all_that_is_read(finished, monkeypatch):
    repo, base = finished
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.chdir(base.parent)
    run = manifest(base)['phase_results']['phase_4_training']['run']
    weights = base/MODEL/'model.safetensors'
    written = weights.stat().st_mtime_ns
    assert run_notebook('git_history', dict(repo='app', base_dir='base', **FEW)) == 0
    found = manifest(base)['phase_results']
    assert found['phase_1_scrape']['new'] == found['phase_3_embeddings']['embedded'] == 0
    assert found['phase_4_training']['run'] == run
    assert weights.stat().st_mtime_ns == written

    commit(repo, 100)
    assert run_notebook('git_history', dict(repo='app', base_dir='base', **FEW)) == 0
    found = manifest(base)['phase_results']
    assert found['phase_1_scrape']['new'] == 1 and found['phase_1_scrape']['kept'] == 32
    assert found['phase_4_training']['run'] != run


@pytest.mark.faults
def test_a_changed_setting_holds_from_the_next_run_on(finished, tmp_path, monkeypatch):
    repo, _ = finished
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    base = tmp_path/'base'
    base.mkdir()
    config = 'training:\n  base_learning_rate: 5e-4\n  validation_split: .2\nmodel:\n  name: tiny\n'
    (base/'training_config.yaml').write_text(config)
    assert run_notebook('git_history', dict(repo=str(repo), base_dir=str(base), **FEW)) == 0
    assert manifest(base)['training_parameters']['learning_rate'] == pytest.approx(5e-4 * 2 / 8)
    assert manifest(base)['training_report']['config']['lr'] == pytest.approx(5e-4 * 2 / 8)


def killed_in(phase, words, base):
    "Start the command, pull the plug when a phase has begun; how the phase stood then."
    before = manifest(base)['execution_timestamp'] if base.exists() else ''
    command = [sys.executable, '-m', 'shutka.faces.cli', 'run', 'git_history', *words]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try: result = manifest(base).get('phase_results', {}).get(phase, {'timestamp': ''})
        except UserError: continue
        if result['timestamp'] > manifest(base)['execution_timestamp'] > before: break
        time.sleep(.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return result['status']


@pytest.mark.parametrize('phases', [NAMES[1::3], pytest.param(NAMES, marks=pytest.mark.faults)], ids=['two', 'all'])
def test_killed_in_a_phase_the_same_command_completes(finished, tmp_path, monkeypatch, phases):
    repo, _ = finished
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    base = tmp_path/'base'
    given = dict(repo=str(repo), base_dir=str(base), **FEW)
    words = [word for pair in given.items() for word in ('-p', *pair)]
    for name in phases:
        assert killed_in(name, words, base) in ('running', 'completed')
        assert not (base/'result.json').exists()
    assert run_notebook('git_history', given) == 0
    said = manifest(base)
    assert states(said) == 5 * ['completed']
    assert said['phase_results']['phase_1_scrape']['commits'] == said['repository_stats']['unique_commits']


def refused(capfd, tmp_path, given):
    "What is said when a run is refused, and what is in its folder then."
    assert run_notebook('git_history', dict(base_dir=str(tmp_path/'base'), **FEW) | given) == 2
    left = sorted(path.name for path in (tmp_path/'base').iterdir() if path.suffix not in ('.ipynb', '.lock'))
    return capfd.readouterr().err, left


def test_what_is_no_history_is_refused_before_anything_is_written(tmp_path, capfd):
    (tmp_path/'plain').mkdir()
    (tmp_path/'empty').mkdir()
    git(tmp_path/'empty', 'init')
    for repo, why in (('plain', 'plain'), ('empty', 'at least one commit'), ('nowhere', 'nowhere')):
        said, left = refused(capfd, tmp_path, {'repo': str(tmp_path/repo)})
        assert why in said and not left


@pytest.mark.parametrize('text, why', [
    ('training:\n  patience: three\n', 'patience'),
    ('training:\n  patiense: 3\n', 'patience'),
    ('training: [', 'not valid YAML'),
    ('epoch_calculation:\n  min_epochs: 9\n  max_epochs: 2\n', 'min_epochs must be at most max_epochs'),
])
def test_a_config_that_cannot_be_is_refused(finished, tmp_path, capfd, text, why):
    (tmp_path/'base').mkdir()
    (tmp_path/'base'/'training_config.yaml').write_text(text)
    said, left = refused(capfd, tmp_path, {'repo': str(finished[0])})
    assert why in said and left == ['training_config.yaml']


def test_a_failure_stands_in_the_manifest(finished, tmp_path, capfd):
    given = {'repo': str(finished[0]), 'model': str(tmp_path/'nowhere'), 'sequence_length': '64'}
    said, _ = refused(capfd, tmp_path, given)
    assert 'nowhere' in said


def test_one_commit_is_a_history(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    (tmp_path/'one').mkdir()
    git(tmp_path/'one', 'init', '-b', 'main')
    commit(tmp_path/'one', 0)
    assert run_notebook('git_history', dict(repo=str(tmp_path/'one'), base_dir=str(tmp_path/'base'), **FEW)) == 0
    assert manifest(tmp_path/'base')['training_report']['final_val_loss'] is None

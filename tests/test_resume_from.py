"A session that begins with an empty folder: where the last one's output is found, and what a pushed notebook is told."
import json
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.faces import batch, cli
from shutka.faces.notebooks import find_notebook, read_parameters
from shutka.train.adopt import adopt_folder, copy_verified, find_attached
from shutka.train.lock import hold_folder

MARK = 'MANIFEST_DYNAMIC.json'


def write(path, text='{}'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def attached(tmp_path):
    "A git pipeline in the output of a notebook."
    base = tmp_path/'input'/'shutka-git-history'/'runs'/'git_history'
    for name in ('training_config.yaml', 'training/1f/run.json', 'training/1f/checkpoints/step-00000001/state.json',
                 MARK, 'notebook.ipynb', '.command.lock'): write(base/name, name)
    return base


def test_a_pipeline_is_copied_as_a_whole(attached, tmp_path):
    said, base = [], tmp_path/'working'
    with hold_folder(base, 'base_dir'):
        assert adopt_folder(str(tmp_path/'input'), base, MARK, said.append)
        assert not adopt_folder(str(tmp_path/'input'), base, MARK, said.append)   # what is there is further
    files = {str(path.relative_to(base)) for path in base.rglob('*') if path.is_file()}
    assert files == {'training_config.yaml', 'training/1f/run.json', 'training/1f/checkpoints/step-00000001/state.json',
                     MARK, '.command.lock'}
    assert 'was copied to' in said[0] and 'is not read' in said[1]
    assert not adopt_folder('', base, MARK, said.append)


def test_none_or_several_are_refused(attached, tmp_path):
    with pytest.raises(UserError, match='holds none'):
        adopt_folder(str(tmp_path/'input'), tmp_path/'w', 'none.json', print)
    write(attached.parent/'second'/MARK)
    with pytest.raises(UserError, match='git_history, .*second'):
        adopt_folder(str(tmp_path/'input'), tmp_path/'w', MARK, print)
    assert not (tmp_path/'w').exists()


@pytest.mark.parametrize('below', ['', 'notebooks/', 'notebooks/ada/'])
def test_kaggle_may_put_an_output_deeper(tmp_path, below):
    place = tmp_path/'input'/f'{below}my-run'
    place.mkdir(parents=True)
    assert find_attached(f'{tmp_path}/input/my-run', tmp_path/'input') == place
    with pytest.raises(UserError, match='is not there'): find_attached(f'{tmp_path}/input/other', tmp_path/'input')
    with pytest.raises(UserError, match='is not there'): find_attached(f'{tmp_path}/elsewhere/my-run', tmp_path/'input')


def test_a_copy_that_was_interrupted_is_made_again(attached, tmp_path):
    out = tmp_path/'out'
    write(out/'training_config.yaml', 'training')   # half of it
    copy_verified(attached, out, last=MARK)
    assert (out/'training_config.yaml').read_text() == 'training_config.yaml' and (out/MARK).exists()


def push(capsys, *words):
    code = cli.run_command(['kaggle', 'push', *words, '--user', 'ada', '--dry-run', '-o', 'sent'])
    return code, capsys.readouterr()


def test_push_with_resume_attaches_the_last_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _ = push(capsys, 'typescript', '-p', 'steps', '5', '--resume')
    about = json.loads(Path('sent/kernel-metadata.json').read_text())
    assert code == 0 and about['kernel_sources'] == ['ada/shutka-typescript']
    told = {p.name: p.default for p in read_parameters('sent/shutka-typescript.ipynb')}
    assert (told['resume_from'], told['steps']) == ('/kaggle/input/shutka-typescript', 5)
    code, _ = push(capsys, 'git_history', '--resume', '--slug', 'my-history', '--kernel', 'ada/other')
    about = json.loads(Path('sent/kernel-metadata.json').read_text())
    assert code == 0 and about['kernel_sources'] == ['ada/other', 'ada/my-history']
    code, said = push(capsys, 'memory', '--resume')
    assert code == 2 and 'must have the parameter resume_from' in said.err


@pytest.mark.parametrize('name', ['typescript', 'instructions', 'git_history'])
def test_every_training_can_be_told(name):
    assert 'resume_from' in {p.name for p in read_parameters(find_notebook(name))}


def test_a_refused_command_is_exit_code_2(monkeypatch):
    assert batch.exit_code('Taken', 'another command is at work in runs') == 2

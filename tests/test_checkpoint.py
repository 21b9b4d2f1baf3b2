"Faults that checkpoints must survive: cut files, flipped bits, lost files, leftovers, a full disk."
import json
import subprocess
import sys
import warnings

import pytest
import torch

from shutka.core import UserError
from shutka.train import checkpoint as module
from shutka.train.checkpoint import checkpoints, damage, load_checkpoint, save_checkpoint


def save(folder, step, **kw):
    return save_checkpoint(folder, step, {'model': {'w': torch.full((64,), float(step))}, 'optimizer': {'step/w': torch.tensor(2.)}}, {'phase': 0}, **kw)


@pytest.fixture
def folder(tmp_path):
    for step in (1, 2): save(tmp_path, step)
    return tmp_path


def falls_back(folder, why, step=1):
    "The checkpoint before is loaded, and one warning names the folder and what is wrong."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        found = load_checkpoint(folder)
    assert len(said) == 1 and why in str(said[0].message) and 'step-00000002' in str(said[0].message)
    assert found.step == step and torch.equal(found.tensors('model')['w'], torch.full((64,), float(step)))


def test_whole(folder, recwarn):
    found = load_checkpoint(folder)
    assert (found.step, found.state) == (2, {'step': 2, 'phase': 0})
    assert (folder/'LATEST').read_text() == 'step-00000002\n' and not recwarn.list
    with pytest.raises(UserError, match='teacher.safetensors'): found.tensors('teacher')


@pytest.mark.parametrize('name', ['model.safetensors', 'optimizer.safetensors', 'state.json', 'manifest.json'])
def test_truncated(folder, name):
    with open(folder/'step-00000002'/name, 'r+b') as f: f.truncate((folder/'step-00000002'/name).stat().st_size - 2)
    falls_back(folder, name)


@pytest.mark.parametrize('name', ['model.safetensors', 'optimizer.safetensors', 'state.json', 'manifest.json'])
def test_deleted(folder, name):
    (folder/'step-00000002'/name).unlink()
    falls_back(folder, name)


def test_deleted_folder(folder):
    (folder/'step-00000002').rename(folder/'elsewhere')
    falls_back(folder, 'gone')


@pytest.mark.parametrize('name', ['model.safetensors', 'state.json', 'manifest.json'])
def test_every_flipped_bit_is_seen(folder, name):
    path = folder/'step-00000002'/name
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:])
        assert damage(path.parent), at
    path.write_bytes(whole)
    assert not damage(path.parent)


@pytest.mark.parametrize('manifest', ['', '[]', '{}', 'null', '{"model.safetensors": 7}', '{"../LATEST": {}}'])
def test_strange_manifests(folder, manifest):
    (folder/'step-00000002'/'manifest.json').write_text(manifest)
    falls_back(folder, 'damaged')


def test_all_damaged_is_an_error_and_none_is_not(folder, tmp_path):
    for path in checkpoints(folder): (path/'state.json').unlink()
    with pytest.raises(UserError, match='step-00000002.*step-00000001'): load_checkpoint(folder)
    assert load_checkpoint(tmp_path/'new') is None


def test_leftovers_are_ignored_and_removed(folder):
    hidden = folder/'.step-00000003'
    hidden.mkdir()
    (hidden/'model.safetensors').write_bytes(b'half')
    assert load_checkpoint(folder).step == 2
    save(folder, 3)
    assert sorted(p.name for p in folder.iterdir()) == ['LATEST', 'step-00000002', 'step-00000003']
    assert load_checkpoint(folder).step == 3


def test_steps_done_again_replace_those_of_a_damaged_future(folder):
    (folder/'step-00000002'/'state.json').unlink()
    save(folder, 2)
    assert not damage(folder/'step-00000002') and len(checkpoints(folder)) == 2
    save(folder, 5)
    save(folder, 4)
    assert [c.name for c in checkpoints(folder)] == ['step-00000002', 'step-00000004']


@pytest.mark.parametrize('writer', ['save_file', 'write_json', 'write_manifest'])
def test_a_write_error_leaves_the_old_ones(folder, monkeypatch, writer):
    def full(*_, **__): raise OSError(28, 'No space left on device')
    before = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}
    monkeypatch.setattr(module, writer, full)
    with pytest.raises(UserError, match='No space left'): save(folder, 3)
    assert {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()} == before


def test_a_full_disk_leaves_the_old_ones(folder):
    "The real thing: the kernel refuses to let a file grow, as a full disk does."
    script = f'''
import resource, torch
from shutka.core import UserError
from shutka.train.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try: save_checkpoint({str(folder)!r}, 3, {{'model': {{'w': torch.zeros(100_000)}}}}, {{}})
except UserError as e: print('refused:', e)
'''
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith('refused: a checkpoint must fit'), done.stdout + done.stderr
    assert load_checkpoint(folder).step == 2 and not list(folder.glob('.step-*'))


def test_nothing_is_unpickled(folder):
    "A pickle in place of the tensors is refused, even when its manifest is in order."
    torch.save({'w': torch.zeros(1)}, folder/'step-00000002'/'model.safetensors')
    (folder/'step-00000002'/'manifest.json').unlink()
    module.write_manifest(folder/'step-00000002')
    with pytest.raises(Exception, match='(?i)header|safetensor'): load_checkpoint(folder).tensors('model')


def test_the_manifest_says_what_is_in_the_folder(folder):
    files = json.loads((folder/'step-00000002'/'manifest.json').read_text())
    assert {name: entry['bytes'] for name, entry in files.items()} == {
        p.name: p.stat().st_size for p in (folder/'step-00000002').iterdir() if p.name != 'manifest.json'}

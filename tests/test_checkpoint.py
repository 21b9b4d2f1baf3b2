"""Faults that checkpoints must survive: cut files, flipped bits, lost files, leftovers, a full disk, a kill.

As a script, `python test_checkpoint.py saves FOLDER` saves until it is killed,
and `... gloo` packs and unpacks a model that two processes share.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from itertools import count
from pathlib import Path

import pytest
import torch

from shutka.core.errors import UserError
from shutka.train import checkpoint as module
from shutka.train.checkpoint import (
    find_damage,
    list_checkpoints,
    load_checkpoint,
    name_checkpoint,
    remove_checkpoints,
    save_checkpoint,
    select_staying,
)
from shutka.train.weights import pack_model, unpack_model


def save(folder, step, **kw):
    return save_checkpoint(folder, step, {'model': {'w': torch.full((64,), float(step))},
                                          'optimizer': {'step/w': torch.tensor(2.)}}, {'phase': 0}, **kw)


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
        assert find_damage(path.parent), at
    path.write_bytes(whole)
    assert not find_damage(path.parent)


@pytest.mark.parametrize('manifest', ['', '[]', '{}', 'null', '{"model.safetensors": 7}', '{"../LATEST": {}}'])
def test_strange_manifests(folder, manifest):
    (folder/'step-00000002'/'manifest.json').write_text(manifest)
    falls_back(folder, 'damaged')


def test_all_damaged_is_an_error_and_none_is_not(folder, tmp_path):
    for path in list_checkpoints(folder): (path/'state.json').unlink()
    with pytest.raises(UserError, match='step-00000002.*step-00000001'): load_checkpoint(folder)
    assert load_checkpoint(tmp_path/'new') is None


def names(folder): return sorted(path.name for path in folder.iterdir())


def test_leftovers_are_ignored_and_removed(folder):
    hidden = folder/'.step-00000003.half'
    hidden.mkdir()
    (hidden/'model.safetensors').write_bytes(b'half')
    assert load_checkpoint(folder).step == 2
    save(folder, 3, keep=2)
    assert names(folder) == ['LATEST', 'step-00000002', 'step-00000003']
    assert load_checkpoint(folder).step == 3


def test_steps_done_again_replace_those_of_a_damaged_future(folder):
    (folder/'step-00000002'/'state.json').unlink()
    save(folder, 2)
    assert not find_damage(folder/'step-00000002') and len(list_checkpoints(folder)) == 2
    save(folder, 5)
    save(folder, 4, keep=2)
    assert names(folder) == ['LATEST', 'step-00000002', 'step-00000004']


def test_one_that_stepped_aside_is_found(tmp_path, monkeypatch):
    "The power fails between the two renames, when the only checkpoint is written anew."
    save(tmp_path, 2)
    rename = os.rename
    def second_fails(a, b):
        if str(a).endswith('.half'): raise KeyboardInterrupt
        rename(a, b)
    monkeypatch.setattr(module.os, 'rename', second_fails)
    with pytest.raises(KeyboardInterrupt): save(tmp_path, 2)
    monkeypatch.undo()
    assert names(tmp_path) == ['.step-00000002.half', '.step-00000002.old', 'LATEST']
    with pytest.warns(UserWarning, match='going back'): assert load_checkpoint(tmp_path).step == 2
    save(tmp_path, 2)
    assert names(tmp_path) == ['LATEST', 'step-00000002'] and load_checkpoint(tmp_path).step == 2


@pytest.mark.parametrize('content', [None, b'', b'\xff\x00', b'step-00000009\n'])
def test_latest_is_for_people(folder, content):
    "Without LATEST, or with a damaged one, the newest whole checkpoint is loaded."
    if content is None: (folder/'LATEST').unlink()
    else: (folder/'LATEST').write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert load_checkpoint(folder).step == 2
    assert len(said) == (content is not None)


@pytest.mark.parametrize(('kept', 'left'), [
    (dict(keep=2), [4, 5]),
    (dict(keep=9), [1, 2, 3, 4, 5]),
    (dict(keep=2, best=2), [2, 4, 5]),
    (dict(keep=2, best=5), [3, 4, 5]),   # the newest is the best: it does not count
    (dict(keep=9, capacity=0), [4, 5]),      # two, however small the capacity
    (dict(keep=9, capacity=0, best=1), [1, 5]),
    (dict(keep=9, best=7), [1, 2, 3, 4, 5])])
def test_rotation(tmp_path, kept, left):
    for step in (1, 2, 3, 4): save(tmp_path, step, keep=9)
    save(tmp_path, 5, **kept)
    assert [int(path.name[5:]) for path in list_checkpoints(tmp_path)] == left


def test_rotation_fits_the_capacity(tmp_path):
    size = sum(f.stat().st_size for f in save(tmp_path, 0).iterdir())
    for step in range(10, 30):
        save(tmp_path, step, keep=9, capacity=4.5 * size, best=12 if step >= 12 else None)
        assert sum(f.stat().st_size for path in list_checkpoints(tmp_path) for f in path.iterdir()) <= 4.5 * size
    assert [int(path.name[5:]) for path in list_checkpoints(tmp_path)] == [12, 27, 28, 29]


def test_what_stays_is_newest_best_and_a_fallback():
    "Over many cases: the newest always, the best if there is one, never fewer than two, more only within both limits."
    draw = random.Random(0)
    for _ in range(2_000):
        sizes = {step: draw.randint(1, 9) for step in draw.sample(range(50), draw.randint(1, 8))}
        keep, capacity, best = draw.randint(1, 5), draw.randint(0, 40), draw.choice([None, *sizes, 99])
        stay = select_staying(sizes, keep, capacity, best)
        assert max(sizes) in stay and (best in stay or best not in sizes)
        assert len(stay) == len(set(stay)) >= min(2, len(sizes))
        assert len(stay) <= 2 or len(set(stay) - {best}) <= keep and sum(sizes[s] for s in stay) <= capacity


def test_a_certain_step(folder):
    assert load_checkpoint(folder, 1).state['step'] == 1
    with pytest.raises(UserError, match='step-00000007'): load_checkpoint(folder, 7)
    (folder/'step-00000001'/'state.json').write_text('{}')
    with pytest.raises(UserError, match='step-00000001.*state.json is not what was saved'): load_checkpoint(folder, 1)


@pytest.mark.parametrize('writer', ['save_file', 'write_json', 'write_manifest'])
def test_a_write_error_leaves_the_old_ones(folder, monkeypatch, writer):
    def full(*_, **__): raise OSError(28, 'No space left on device')
    before = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}
    monkeypatch.setattr(module, writer, full)
    with pytest.raises(UserError, match='No space left'): save(folder, 3)
    assert {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()} == before


FULL = """
import sys, warnings, torch
from pathlib import Path
from shutka.core.errors import UserError
from shutka.train.checkpoint import load_checkpoint, save_checkpoint
folder, numbers, text = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
def save(step, numbers, text):
    save_checkpoint(folder, step, {'model': {'w': torch.full((numbers,), float(step))}}, {'text': 'x' * text})
for step in (1, 2): save(step, 64, 0)
before = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}
LIMIT
try: save(3, numbers, text)
except UserError as e: print('refused:', e)
assert {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()} == before, list(folder.rglob('*'))
warnings.simplefilter('error')
assert load_checkpoint(folder).step == 2
FREE
save(4, 64, 0)
assert load_checkpoint(folder).step == 4 and not list(folder.glob('.*'))
print('went on')
"""

def refused(done, folder):
    whole = done.stdout.startswith('refused: a checkpoint must fit') and done.stdout.endswith('went on\n')
    assert whole, done.stdout + done.stderr
    assert str(folder/'step-00000003') in done.stdout


in_the_tensors_or_in_the_state = pytest.mark.parametrize(('numbers', 'text'), [(100_000, 0), (64, 400_000)])


@in_the_tensors_or_in_the_state
def test_a_file_that_may_not_grow(tmp_path, numbers, text):
    "The kernel refuses to let a file grow, as a full disk does; later it lets it."
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))"
    script = FULL.replace('LIMIT', limit)
    script = script.replace('FREE', "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)")
    refused(subprocess.run([sys.executable, '-c', script, tmp_path, str(numbers), str(text)], capture_output=True,
                           text=True, timeout=120), tmp_path)


@in_the_tensors_or_in_the_state
def test_a_full_disk(tmp_path, numbers, text):
    "A real one, of 128 kB, that only the subprocess can see."
    disk = 'mount -t tmpfs -o size=128k tmpfs "$0"'
    tried = ['unshare', '-rm', 'sh', '-c', disk, tmp_path]
    if not shutil.which('unshare') or subprocess.run(tried, capture_output=True).returncode:
        pytest.skip('this machine lets nobody mount')
    script = FULL.replace('LIMIT', '').replace('FREE', '')
    done = subprocess.run(['unshare', '-rm', 'sh', '-c', f'{disk} && exec "$@"', tmp_path, sys.executable, '-c', script,
                           tmp_path, str(numbers), str(text)],
                          capture_output=True, text=True, timeout=120)
    refused(done, tmp_path)
    assert 'No space left' in done.stdout or 'os error 28' in done.stdout
    assert not list(tmp_path.iterdir())


def break_one(folder, draw):
    "Damage one file of the newest checkpoint in some way: what was done, and whether it left the file as it was."
    path = draw.choice(sorted(list_checkpoints(folder)[-1].iterdir()))
    content = path.read_bytes()
    at, some = draw.randrange(len(content)), draw.randbytes(draw.randint(1, 64))
    flipped = bytes([content[at] ^ 1 << draw.randrange(8)])
    how, broken = draw.choice([('cut', content[:at]),
                               ('one bit', content[:at] + flipped + content[at + 1:]),
                               ('a hole', content[:at] + bytes(len(content) - at)),
                               ('other bytes', content[:at] + some + content[at + len(some):]),
                               ('longer', content + some), ('gone', None), ('a folder', None)])
    path.unlink()
    if how == 'a folder': path.mkdir()
    elif broken is not None: path.write_bytes(broken)
    return f'{path.name}: {how} at {at}', broken == content


@pytest.mark.parametrize('n', [20, pytest.param(500, marks=pytest.mark.faults)])
def test_random_damage(folder, tmp_path_factory, n):
    "Whatever happens to the newest checkpoint, the one before is loaded, with one warning."
    for seed in range(n):
        copy = tmp_path_factory.mktemp('damaged')/'run'
        shutil.copytree(folder, copy)
        how, harmless = break_one(copy, random.Random(seed))
        if harmless: continue
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter('always')
            found = load_checkpoint(copy)
        assert found.step == 1 and len(said) == 1 and 'step-00000002' in str(said[0].message), how
        save(copy, 2)
        assert load_checkpoint(copy).step == 2, how
        shutil.rmtree(copy.parent)


def killed_at(folder, delay):
    "Save in another process until, a while after its first checkpoint, it is killed."
    child = subprocess.Popen([sys.executable, __file__, 'saves', str(folder)], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()


@pytest.mark.parametrize('n', [1, pytest.param(20, marks=pytest.mark.faults)])
def test_killed_in_mid_save(tmp_path, n):
    "After each kill the newest checkpoint is whole, holds what belongs to its step, and saving goes on from it."
    draw, last = random.Random(0), 0
    for _ in range(n):
        killed_at(tmp_path, draw.random() / 5)
        with warnings.catch_warnings():
            warnings.filterwarnings('error', '.*is not what was saved')
            found = load_checkpoint(tmp_path)
        assert found.step >= last
        assert torch.equal(found.tensors('model')['w'], torch.full((200_000,), float(found.step)))
        for path in list_checkpoints(tmp_path): assert not find_damage(path)
        last = found.step
    save(tmp_path, last + 1, keep=2)
    assert names(tmp_path)[0] == 'LATEST' and names(tmp_path)[-1] == name_checkpoint(last + 1)
    assert not list(tmp_path.glob('.*'))


def test_two_processes_share_a_model(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone',
                           __file__, 'gloo', str(tmp_path)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    plain = uneven(0)
    unpack_model(load_checkpoint(tmp_path).tensors('model'), plain)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), uneven(7).parameters(), strict=True))


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


def uneven(seed):
    "Nothing in it can be divided by two, and two names share one tensor."
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 5, bias=False),
                                torch.nn.BatchNorm1d(5))
    model[2].weight = model[0].weight
    return model


def share(folder):
    "In each of two processes: a sharded model is packed whole, and unpacked into another one."
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    dist.init_process_group('gloo')
    mesh = torch.distributed.device_mesh.init_device_mesh('cpu', (2,))
    one, other, plain = fully_shard(uneven(7), mesh=mesh), fully_shard(uneven(8), mesh=mesh), uneven(7)
    packed = pack_model(one)
    assert list(packed) == list(pack_model(plain))
    assert all(torch.equal(packed[name], t) for name, t in pack_model(plain).items())
    if dist.get_rank() == 0: save_checkpoint(folder, 1, {'model': packed}, {})
    dist.barrier()
    unpack_model(load_checkpoint(folder).tensors('model'), other)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a.to_local(), b.to_local()) for a, b in pairs)
    dist.barrier()
    os._exit(0)   # gloo's threads would outlive Python, and abort


def saves(folder):
    "Save checkpoints for ever, every second one twice, and say so after the first."
    found = load_checkpoint(folder)
    for step in count(found.step + 1 if found else 1):
        for _ in range(1 + step % 2):
            save_checkpoint(folder, step, {'model': {'w': torch.full((200_000,), float(step))}}, {}, keep=2)
        print(step, flush=True)


if __name__ == '__main__': {'saves': saves, 'gloo': share}[sys.argv[1]](Path(sys.argv[2]))


def test_everything_reaches_the_disk_before_the_checkpoint_has_its_name(tmp_path, monkeypatch):
    "Each file, then the folder's list of names, then LATEST: or a power cut leaves a name without content."
    flushed, named, fsync, rename = [], [], os.fsync, os.rename

    def note(fd):
        flushed.append(Path(os.readlink(f'/proc/self/fd/{fd}')).name)
        fsync(fd)

    def note_name(source, target):
        named.append((Path(target).name, list(flushed)))
        rename(source, target)
    monkeypatch.setattr(os, 'fsync', note)
    monkeypatch.setattr(os, 'rename', note_name)
    save_checkpoint(tmp_path, 7, {'model': {'a': torch.ones(3)}, 'optimizer': {'a': torch.ones(3)}}, {})
    [(name, before)] = named
    files = {'model.safetensors', 'optimizer.safetensors', 'state.json', '.state.json.half', '.manifest.json.half'}
    assert name == 'step-00000007' and files <= set(before)
    after = flushed[len(before):]
    assert after[0] == tmp_path.name and '.LATEST.half' in after and after[-1] == tmp_path.name


def test_a_finished_run_keeps_as_many_checkpoints_as_asked_for(tmp_path):
    for step in range(1, 5): save_checkpoint(tmp_path, step, {'model': {'a': torch.ones(3)}}, {})
    remove_checkpoints(tmp_path, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ['step-00000003', 'step-00000004']
    remove_checkpoints(tmp_path, keep=1)
    assert load_checkpoint(tmp_path).step == 4 and len(list_checkpoints(tmp_path)) == 1
    remove_checkpoints(tmp_path, keep=9)
    assert len(list_checkpoints(tmp_path)) == 1


def test_a_folder_of_another_name_is_no_checkpoint(folder):
    "A copy that somebody made by hand is neither loaded, nor removed, nor in the way."
    shutil.copytree(folder/'step-00000001', folder/'step-00000009 (copy)')
    assert [path.name for path in list_checkpoints(folder)] == ['step-00000001', 'step-00000002']
    save(folder, 3, keep=1)
    assert load_checkpoint(folder).step == 3 and (folder/'step-00000009 (copy)').is_dir()


def test_written_anew_means_the_new_one(tmp_path, monkeypatch):
    "The power fails when both are there: the new one, by its name, and the one that stepped aside."
    def save_number(number): save_checkpoint(tmp_path, 2, {'model': {'w': torch.tensor([number])}}, {})
    def fails(folder): raise KeyboardInterrupt
    save_number(1.)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(module, 'fsync_dir', fails)
        save_number(2.)
    assert '.step-00000002.old' in names(tmp_path)
    assert load_checkpoint(tmp_path).tensors('model')['w'] == 2
    save_number(3.)
    assert names(tmp_path) == ['LATEST', 'step-00000002'] and load_checkpoint(tmp_path).tensors('model')['w'] == 3


def test_three_stay_unless_another_number_is_asked_for(tmp_path):
    for step in range(1, 7): save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == [name_checkpoint(step) for step in (4, 5, 6)]

"Bundles that were made to do harm: each is refused in a sentence, before it takes memory, and nothing of it runs."
import json
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import save
from small import SMALL

from shutka.core.errors import UserError
from shutka.core.hashes import sha256
from shutka.export.bundle import load
from shutka.export.hub import collect_hub_files
from shutka.memory.packed import read_packed
from shutka.models import archive
from shutka.models.archive import BUNDLE_MANIFEST, read_bundle, write_zip
from shutka.models.opening import open_model
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model
from shutka.text.tokenizer import load_encoding, open_encoding, save_encoding

DEEP = b'[' * 10**5


@pytest.fixture(scope='module')
def content(tmp_path_factory) -> dict[str, bytes]:
    "The files of a good bundle."
    folder = tmp_path_factory.mktemp('model')
    torch.manual_seed(0)
    save_encoding(open_encoding('typescript-8k'), save_model(TextJEPA(SMALL), folder)/'encoding.json')
    pages = {'README.md': b'# demo\n', 'run.json': b'{}', 'result.json': b'{}'}
    return pages | {path.name: path.read_bytes() for path in folder.iterdir()}


def refuse(path: Path, why: str, call=load):
    "Check that a bundle is refused in one sentence."
    with pytest.raises(UserError, match=why) as e: call(path)
    assert '\n' not in str(e.value)


def write_forged(path: Path, content: dict[str, bytes], **sizes: int) -> Path:
    "A bundle whose list of files tells other sizes."
    manifest = json.dumps({name: sha256(data) for name, data in content.items()}).encode()
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z:
        for name, data in (content | {BUNDLE_MANIFEST: manifest}).items(): z.writestr(name, data)
        for name, size in sizes.items(): z.getinfo(name.replace('__', '.')).file_size = size
    return path


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    "The names of the files of zips that are read."
    names, read = [], zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, 'read', lambda z, name: names.append(name) or read(z, name))
    return names


# --- bombs ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('name, size', [
    ('README__md', 4_200_000_000), ('model__safetensors', 4_000_000_000), ('run__json', 200_000_000)])
def test_a_zip_that_grows_a_thousand_times_is_not_read(content, tmp_path, opened, name, size):
    refuse(write_forged(tmp_path/'bomb.zip', content, **{name: size}), 'bomb.zip must not grow to more than 100 times')
    assert opened == []


@pytest.mark.parametrize('name, size, why', [
    ('README.md', 4_200_000_000, r'must hold no README.md of more than 100,000,000 bytes, it has 4,200,000,000'),
    ('encoding.json', 100_000_001, 'must hold no encoding.json'),
    ('run.json', 10**9, 'must hold no run.json'),
    ('model.safetensors', 10**12, 'must unpack to less than'),
    ('memory.jsonl', 10**12, 'must unpack to less than'),
])
def test_a_large_file_in_a_folder_is_not_read(content, tmp_path, name, size, why):
    write_zip(tmp_path/'good.zip', content | {name: b''})
    zipfile.ZipFile(tmp_path/'good.zip').extractall(tmp_path/'open')
    with open(tmp_path/'open'/name, 'wb') as f: f.truncate(size)   # of holes: it takes no room on the disk
    refuse(tmp_path/'open', why)


def test_what_does_not_fit_into_memory_is_not_read(content, tmp_path, opened, monkeypatch):
    write_zip(tmp_path/'model.zip', content)
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: SimpleNamespace(available=10**5))
    refuse(tmp_path/'model.zip', 'must unpack to less than 100,000 bytes')
    assert opened == [BUNDLE_MANIFEST]


def test_a_file_larger_than_its_size_says_is_read_no_further(content, tmp_path):
    refuse(write_forged(tmp_path/'less.zip', content, README__md=3), 'less.zip is damaged')


@pytest.mark.parametrize('about', [
    {'rows': 10**12}, {'width': 10**9}, {'inner': 10**8, 'heads': 1}, {'x_depth': 10**9}, {'predictor_depth': 10**12},
    {'decoder': {'vocabulary': 10**12}}, {'decoder': {'vocabulary': 9, 'depth': 10**9}}])
def test_a_shape_of_more_numbers_than_the_weights_takes_no_memory(content, tmp_path, about, monkeypatch):
    monkeypatch.setattr('shutka.models.text_jepa_files.TextJEPA', None)   # it is not even made
    shape = json.dumps(json.loads(content['model.json']) | about).encode()
    write_zip(tmp_path/'large.zip', content | {'model.json': shape})
    refuse(tmp_path/'large.zip', 'does not fit its model.json, which asks for')


# --- JSON -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('data', [DEEP, b'{"a":' * 10**5, b'\xff', b'[]', b'7', b'{'])
@pytest.mark.parametrize('name, call', [
    ('run.json', load), ('model.json', load), ('encoding.json', load), ('run.json', open_model),
    ('result.json', lambda path: collect_hub_files(path, 'ada/demo'))])
def test_json_that_cannot_be_read_or_is_no_object(content, tmp_path, name, call, data):
    write_zip(tmp_path/'bad.zip', content | {name: data})
    refuse(tmp_path/'bad.zip', name, call)


@pytest.mark.parametrize('data', [DEEP, b'{"a":' * 10**5, b'7', b'{"' + b'a' * 10**4])
def test_a_manifest_that_cannot_be_read(content, tmp_path, data):
    with zipfile.ZipFile(tmp_path/'bad.zip', 'w') as z: z.writestr(BUNDLE_MANIFEST, data)
    refuse(tmp_path/'bad.zip', "is no bundle of shutka's")


@pytest.mark.parametrize('data', [DEEP + b'\n', b'{"text":' * 10**5 + b'\n', b'7\n'])
def test_memories_that_cannot_be_read(data):
    with pytest.raises(UserError, match='memory cannot be read'): read_packed({'memory.jsonl': data})


@pytest.mark.parametrize('change', [
    {'ranks': []}, {'ranks': [['YQ==', 1], ['Yg==', 1]]}, {'ranks': 7}, {'special': [1]}, {'pattern': '('},
    {'ranks': [['YQ==', -1]]}])
def test_an_encoding_that_would_end_in_a_panic(content, tmp_path, change):
    (tmp_path/'e.json').write_text(json.dumps(json.loads(content['encoding.json']) | change))
    refuse(tmp_path/'e.json', "is not an encoding of shutka's", load_encoding)


def test_ranks_that_no_number_holds(content, tmp_path):
    value = json.loads(content['encoding.json'])
    for rank in (-1, 2**40, 1.5, 'a'):
        value['ranks'][-1][1] = rank
        (tmp_path/'e.json').write_text(json.dumps(value))
        refuse(tmp_path/'e.json', "is not an encoding of shutka's", load_encoding)


# --- what has always held -------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['../evil.py', '/tmp/evil.py', 'a/../../evil.py', '..\\evil.py', '..'])
def test_no_path_leads_out(content, tmp_path, name):
    write_zip(tmp_path/'in'/'slip.zip', content | {name: b'x'})
    refuse(tmp_path/'in'/'slip.zip', 'must not lead out of itself|differs in')
    assert [path.name for path in tmp_path.rglob('*')] == ['in', 'slip.zip']


@pytest.mark.parametrize('name', ['model.safetensors', 'README.md', 'run.json'])
def test_a_forged_hash(content, tmp_path, name):
    write_zip(tmp_path/'good.zip', content)
    manifest = {file: sha256(data) for file, data in content.items()} | {name: sha256(b'other')}
    with zipfile.ZipFile(tmp_path/'bad.zip', 'w') as z:
        for file, data in (content | {BUNDLE_MANIFEST: json.dumps(manifest).encode()}).items(): z.writestr(file, data)
    refuse(tmp_path/'bad.zip', f'{name} is not what was bundled', read_bundle)


def header(value) -> bytes:
    "A safetensors file with this header and a little data."
    text = json.dumps(value).encode()
    return len(text).to_bytes(8, 'little') + text + bytes(64)


@pytest.mark.parametrize('weights', [
    b'', b'\xff' * 64, (2**63).to_bytes(8, 'little') + b'{}', (10**8).to_bytes(8, 'little') + b'{',
    len(DEEP).to_bytes(8, 'little') + DEEP,
    header({'a': {'dtype': 'F32', 'shape': [2**40, 2**40], 'data_offsets': [0, 64]}}),
    header({'a': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 10**12]}}),
    header({'a': {'dtype': 'F32', 'shape': [-4], 'data_offsets': [0, 16]}}),
    header({name: {'dtype': 'F32', 'shape': [16], 'data_offsets': [0, 64]} for name in 'ab'}),
    save({'bag.vectors.weight': torch.zeros(1)}),
])
def test_hostile_weights(content, tmp_path, weights):
    write_zip(tmp_path/'bad.zip', content | {'model.safetensors': weights})
    refuse(tmp_path/'bad.zip', 'does not fit its model.json')


class Canary:
    "A pickle that leaves a file behind if it is opened."
    def __init__(self, path: Path): self.path = path
    def __reduce__(self): return (open, (str(self.path), 'w'))


def test_nothing_is_unpickled(content, tmp_path):
    data = pickle.dumps(Canary(tmp_path/'ran'))
    for name in ('model.safetensors', 'encoding.json', 'model.json'):
        write_zip(tmp_path/'bad.zip', content | {name: data, 'pytorch_model.bin': data})
        refuse(tmp_path/'bad.zip', '.')
    assert not (tmp_path/'ran').exists()
    pickle.loads(data).close()
    assert (tmp_path/'ran').exists()   # the canary sings


def test_an_honest_bundle_opens(content, tmp_path):
    write_zip(tmp_path/'good.zip', content)
    assert load(tmp_path/'good.zip').config == SMALL
    assert archive.MAX_PAGE_BYTES > 20 * len(content['encoding.json'])

"""What people give by mistake, and what disks do: one clear sentence, exit code 2, and nothing half-written.

Sources, checkpoints and the command line have tables of their own.
Here are the same mistakes on the way through a whole run.
"""
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import change

from shutka.core.errors import UserError
from shutka.core.files import read_json
from shutka.core.hashes import sha256
from shutka.evaluate.comparison import evaluate_run
from shutka.export.bundle import read_bundle, write_bundle
from shutka.faces import cli
from shutka.train.folder import prepare
from shutka.train.log import read_result
from shutka.train.run import run_training
from shutka.typescript.recipe import Typescript
from shutka.typescript.settings import TypescriptSettings

ROOT = Path(__file__).parents[1]


def code(name):
    "Twenty functions that no other name has."
    text = ''
    for i in range(20):
        text += f'/** The {name} of a number, {i} times. */\n'
        text += f'export function {name}{chr(97 + i)}(a: number) {{ return {name}.of(a, {i}, a) }}\n'
    return text


CODE = code('add')
LINE = 'export const a = [' + '1234567,' * 1_250_000 + '];'


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))


def put(path, data=CODE):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data if isinstance(data, bytes) else data.encode())

def files(): return sorted(str(p) for p in Path('.').rglob('*') if p.is_file())

def one_sentence(capsys, *told):
    "The words on standard error: a single line that says what it should, and no traceback."
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(said) == 1 and 'Traceback' not in err, err
    for words in told: assert words in said[0], said[0]

def recipe_of(source, **settings):
    return Typescript(TypescriptSettings(**dict(source=source, steps=2, batch_size=4, out='run') | settings))


def prepare_quietly(recipe): return prepare(recipe, progress=lambda line: None)


# --- sources --------------------------------------------------------------------------------------

GOOD = json.dumps(dict(kind='document', text=CODE, path='a.ts', package='p', source='s', language='typescript'))
SOURCES = [
    ('dir:src', {'src/a.js': CODE, 'src/node_modules/x/a.ts': CODE}, ['dir:src', 'no TypeScript']),
    ('dir:src', {'src/a.d.ts': 'export declare const a: number', 'src/b.d.mts': ''},
     ['dir:src', 'only declarations (2 .d.ts files)']),
    ('dir:src', {'src/a.ts': LINE}, ['dir:src', 'no pair', '1 large']),
    ('dir:src', {'src/a.ts': b'\xff\x00\x01'}, ['dir:src', 'a.ts']),
    ('dir:nowhere', {}, ['nowhere does not exist']),
    ('jsonl:x.jsonl', {'x.jsonl': f'{GOOD}\n\n{GOOD[:50]}\n'}, ['x.jsonl:3: not valid JSON']),
    ('jsonl:x.jsonl', {'x.jsonl': f'{GOOD}\n{{"kind": "document"}}\n'}, ['x.jsonl:2: ']),
    ('bundled:typscript', {}, ["did you mean 'typescript'"]),
]

@pytest.mark.parametrize('source, content, told', SOURCES)
def test_a_source_that_teaches_nothing(source, content, told, capsys):
    for path, data in content.items(): put(path, data)
    before = files()
    assert cli.run_command(['data', 'pairs', source, '-o', 'pairs.jsonl']) == 2
    one_sentence(capsys, *told)
    with pytest.raises(UserError) as e: prepare_quietly(recipe_of(source))
    for words in told: assert words in str(e.value)
    assert files() == before

def test_a_package_of_declarations(monkeypatch, capsys):
    import io
    import tarfile
    data, path = b'export declare function add(a: number): number', Path('npm/kit@1.0.0.tgz')
    path.parent.mkdir()
    with tarfile.open(path, 'w:gz') as tar:
        member = tarfile.TarInfo('package/index.d.ts')
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    monkeypatch.setenv('SHUTKA_CACHE', '.')
    assert cli.run_command(['data', 'pairs', 'npm:kit@1.0.0', '-o', 'pairs.jsonl']) == 2
    one_sentence(capsys, 'npm:kit@1.0.0', 'only declarations')
    with pytest.raises(UserError, match='only declarations'): prepare_quietly(recipe_of('npm:kit@1.0.0'))
    assert files() == [str(path)]

def test_files_left_out_are_named_and_the_rest_is_learned():
    "A line of ten megabytes, three encodings that can be read, one that cannot."
    put('src/a.ts', CODE)
    put('src/big.ts', LINE)
    put('src/latin.ts', code('größe').encode('latin-1'))
    put('src/bom.ts', code('sum').encode('utf-8-sig'))
    put('src/wide.ts', code('plus').encode('utf-16'))
    data = prepare_quietly(recipe_of('dir:src'))['data']
    assert [s.partition(':')[0] for s in data['skipped']] == ['src/latin.ts']
    assert '1 large' in data['collected'] and '1 unreadable' in data['collected'] and '60 pairs' in data['collected']
    text = ''.join(Path(f'run/data/{part}.jsonl').read_text() for part in ('train', 'files'))
    assert 'adda' in text and 'suma' in text and 'plusa' in text and '1234567' not in text


# --- settings -------------------------------------------------------------------------------------

@pytest.mark.parametrize('words, told', [
    (['-p', 'minuts', '1'], "did you mean 'minutes'"),
    (['-p', 'minutes', 'two'], 'minutes must be a number'),
    (['-p', 'steps', '1.5'], 'steps must be a whole number'),
    (['-p', 'out', ''], "'out'"),
])
def test_a_parameter_that_does_not_fit(words, told, capsys):
    assert cli.run_command(['run', 'typescript', *words]) == 2
    one_sentence(capsys, told)
    assert files() == []

def test_a_value_out_of_range_is_refused_before_the_notebook_starts(capfd):
    assert cli.run_command(['run', 'typescript', '-p', 'minutes', '-1', '-p', 'out', 'run']) == 2
    one_sentence(capfd, 'minutes must be 0 or more, got -1')
    assert files() == []

@pytest.mark.parametrize('field, value', [
    ('size', 'tinny'), ('max_samples', -1), ('steps', -1), ('epochs', -1), ('minutes', -1.), ('processes', -1),
    ('batch_size', 1), ('batch_size', 0), ('lr', 0.), ('lr', -1.), ('ternary', 1.), ('ternary', -.1),
])
def test_each_setting_is_checked_before_anything_happens(field, value):
    with pytest.raises(UserError, match=field): TypescriptSettings(**{field: value})


def test_weights_to_resume_from_must_be_there(tmp_path):
    recipe = Typescript(TypescriptSettings(resume='nowhere', out=tmp_path/'run'))
    with pytest.raises(UserError, match='resume must be a bundle'): prepare(recipe)
    assert not (tmp_path/'run').exists()


def test_checkpoints_of_another_run_are_refused(tmp_path, small):
    first = small('first', steps=2, checkpoint_dir=str(tmp_path/'shared'))
    assert run_training(first.settings.out) == 0
    with pytest.raises(UserError, match='checkpoints of another run'):
        prepare_quietly(change(first, out=str(tmp_path/'second')))
    assert not (tmp_path/'second').exists()

@pytest.mark.parametrize('settings, told', [
    ({'source': ''}, 'at least one source'),
    ({'tokenizer': 'typescript-9k'}, 'typescript-8k'),
    ({'held_out': 'npm:'}, 'npm:'),
])
def test_a_setting_that_means_nothing_leaves_nothing(settings, told):
    put('src/a.ts')
    with pytest.raises(UserError, match=told): prepare_quietly(recipe_of(**{'source': 'dir:src'} | settings))
    assert files() == ['src/a.ts']

def test_held_out_packages_must_be_there():
    put('src/a.ts')
    with pytest.raises(UserError, match='webb'): prepare_quietly(recipe_of('dir:src', held_out='webb'))


# --- disks ----------------------------------------------------------------------------------------

def test_a_file_where_the_folder_should_be(capsys):
    put('src/a.ts')
    put('run', 'mine')
    with pytest.raises(UserError, match='^run cannot be made'): prepare_quietly(recipe_of('dir:src'))
    assert cli.run_command(['run', 'typescript', '-p', 'out', 'run']) == 2
    one_sentence(capsys, 'run cannot be written: File exists')
    assert run_training('run') == 2
    assert Path('run').read_text() == 'mine' and files() == ['run', 'src/a.ts']

@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_that_must_not_be_written():
    put('src/a.ts')
    Path('run').mkdir(mode=0o500)
    with pytest.raises(UserError, match='run cannot be'): prepare_quietly(recipe_of('dir:src'))

def full(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

def test_a_disk_that_fills_while_pairs_are_written(monkeypatch):
    for name in ('sum', 'plus'): put(f'src/{name}.ts', code(name))
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        no_space = '^run cannot be written: No space left'
        with pytest.raises(UserError, match=no_space): prepare_quietly(recipe_of('dir:src'))
        assert files() == ['src/plus.ts', 'src/sum.ts']
    prepare_quietly(recipe_of('dir:src'))  # once there is room

def test_a_disk_that_fills_while_training(small, monkeypatch, capsys):
    recipe = small()
    for fails in ('shutka.train.checkpoint.save_file', 'os.fsync'):
        with monkeypatch.context() as patch:
            patch.setattr(fails, full)
            assert run_training(recipe.settings.out) == 2
        err = capsys.readouterr().err
        assert 'No space left' in err and err.count('\n') == 1
        assert [p.name for p in Path(recipe.settings.out).rglob('*.safetensors')] == ['seen.safetensors']
    assert run_training(recipe.settings.out) == 0 and read_result(recipe.settings.out)['status'] == 'trained'

def test_a_disk_of_a_few_kilobytes(small):
    "The real thing: no file may grow beyond what the settings and the log need."
    recipe = small()
    out = recipe.settings.out
    script = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.argv[1:] = [{out!r}, '1']

import runpy, small
from shutka.models.shapes import SIZES
SIZES['tiny'] = small.SMALL
runpy.run_module('shutka.train.run', run_name='__main__')
"""
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=here, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith('UserError: a checkpoint must fit on the disk'), done.stderr
    assert done.stderr.count('\n') == 1, done.stderr
    assert read_result(out)['status'] == 'failed' and not list(Path(out).glob('checkpoints/*'))


# --- bundles --------------------------------------------------------------------------------------

@pytest.fixture
def bundle(small):
    recipe = small(steps=2, source='bundled:typescript')
    assert run_training(recipe.settings.out) == 0
    evaluate_run(recipe.settings.out)
    return write_bundle(recipe.settings.out, 'model.zip')

def test_a_bundle_with_a_flipped_bit(bundle, capsys):
    "Anywhere in the zip: it is refused in one sentence, or the bit says nothing and every file is as it was."
    whole, content = bundle.read_bytes(), read_bundle(bundle)
    head = whole.index(b'PK\x01\x02')  # the list of files, at the end
    places = [*range(60), *range(head, len(whole), 2), *range(60, head, max(1, head // 60))]

    def flip(at, bit): put('flipped.zip', whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1:])
    refused = 0
    for at in places:
        for bit in (at % 8, 2, 0):
            flip(at, bit)
            try: assert read_bundle('flipped.zip') == content, (at, bit)
            except UserError as e:
                refused += 1
                assert '\n' not in str(e)
    assert refused > len(places)
    flip(head // 2, 0)
    assert cli.run_command(['encode', 'flipped.zip', 'a text', '-o', 'v.npy']) == 2
    one_sentence(capsys, 'flipped.zip is damaged')
    assert not Path('v.npy').exists()

@pytest.mark.parametrize('how, told', [
    (lambda b: b[:len(b) // 2], 'damaged'),
    (lambda b: b'', 'damaged'),
    (lambda b: b'<html>not found</html>', 'damaged'),
])
def test_a_bundle_cut_short_or_something_else(how, told, capsys):
    put('model.zip', how(b'PK\x03\x04' + bytes(5_000)))
    assert cli.run_command(['encode', 'model.zip', 'a text']) == 2
    one_sentence(capsys, 'model.zip', told)

def test_a_full_disk_leaves_no_half_bundle(small, monkeypatch, capsys):
    recipe = small(steps=2, source='bundled:typescript')
    assert run_training(recipe.settings.out) == 0
    assert cli.run_command(['bundle', recipe.settings.out]) == 2
    one_sentence(capsys, 'trained and evaluated')
    evaluate_run(recipe.settings.out)
    with monkeypatch.context() as patch:
        patch.setattr('zipfile.ZipFile.writestr', full)
        assert cli.run_command(['bundle', recipe.settings.out, '-o', 'deep/model.zip']) == 2
    one_sentence(capsys, 'deep/model.zip', 'No space left')
    assert not list(Path('deep').rglob('*'))
    assert read_json(Path(recipe.settings.out)/'result.json')['status'] == 'trained'


@pytest.mark.parametrize('name, data', [
    ('model.safetensors', b'\xff' * 64),
    ('model.json', b'[]'),
    ('model.json', b'{"model": "TextJEPA", "rows": "x"}'),
    ('model.json', b'{"model": "TextJEPA", "mixer": []}'),
    ('manifest.json', b'[]'),
])
def test_a_bundle_that_agrees_with_its_manifest_and_is_no_model(name, data, tmp_path):
    from small import SMALL

    from shutka.export.bundle import load
    from shutka.models.text_jepa import TextJEPA
    from shutka.models.text_jepa_files import save_model
    folder = save_model(TextJEPA(SMALL), tmp_path/'bundle')
    put(folder/'encoding.json', '{}')
    put(folder/name, data)
    if name != 'manifest.json': put(folder/'manifest.json', json.dumps({p.name: sha256(p) for p in folder.iterdir()}))
    with pytest.raises(UserError): load(folder)


def test_a_bundle_names_no_folder_of_this_machine():
    from shutka.export.bundle import portable_run
    hub = 'hf:code-search-net/code_search_net/javascript'
    settings = {'source': f'dir:/home/me/src,{hub},hf:./mine/rows', 'held_out': 'git:../x/repo', 'out': '/home/me/run'}
    run = {'recipe': 'Typescript', 'plan': {'folder': '/home/me'}, 'data': {}, 'settings': settings}
    assert portable_run(run)['settings'] == {'source': f'dir:src,{hub},hf:rows', 'held_out': 'git:repo'}
    assert '/home' not in json.dumps(portable_run(run))

"To Kaggle: what is sent, what is said when it cannot be, what installs there, and what a session is told."
import json
import os
import subprocess
import sys
import time
import zipfile
from configparser import ConfigParser
from pathlib import Path

import nbformat
import pytest

from shutka.core.errors import UserError
from shutka.export import preflight
from shutka.export.kaggle import (
    Kernel,
    fill_parameters,
    find_account,
    find_push_fault,
    refuse_local_paths,
    write_kernel,
)
from shutka.export.preflight import find_gpu_fault, list_unmet
from shutka.export.wheels import (
    IMAGE,
    MANYLINUX,
    PYTHON,
    build_wheel,
    fill_wheelhouse,
    mark_versions,
    normalize_package,
    write_stand_in,
)
from shutka.faces import cli
from shutka.faces.notebooks import list_notebooks, read_parameters
from shutka.train.machine import Device, Machine

ROOT = Path(__file__).parents[1]
OTHER = {'str': "dir:a#b '\"", 'int': 7, 'float': 2.5e-5, 'bool': True}
CLIENT = '''#!{python}
import json, os, sys
if sys.argv[1:] == ['config', 'view']:
    print('Configuration values from there\\n- username: ' + os.environ.get('OWNER', 'None'))
    sys.exit()
assert sys.argv[1:4] == ['kernels', 'push', '-p'], sys.argv
about = json.load(open(sys.argv[4] + '/kernel-metadata.json'))
json.dump(about, open(os.environ['SENT'], 'w'))
print(os.environ.get('SAYS', 'Kernel version 1 successfully pushed.  Please check progress at there'))
'''


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    "An empty home, a folder to work in, and a program that plays Kaggle's client."
    for name in list(os.environ):
        if name.startswith(('KAGGLE_', 'XDG_')): monkeypatch.delenv(name)
    (tmp_path/'bin').mkdir()
    (tmp_path/'bin/kaggle').write_text(CLIENT.format(python=sys.executable))
    (tmp_path/'bin/kaggle').chmod(0o755)
    monkeypatch.setenv('PATH', f"{tmp_path/'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('SENT', str(tmp_path/'sent.json'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('name', list_notebooks())
def test_values_are_the_new_defaults(home, name):
    known = read_parameters(list_notebooks()[name])
    for values in ({p.name: OTHER[p.type] for p in known}, {known[-1].name: OTHER[known[-1].type]}, {}):
        sent, _ = write_kernel(home/'push', list_notebooks()[name], values, Kernel(user='ada', slug='shutka-run'))
        wanted = [(p.name, p.type, values.get(p.name, p.default), p.help) for p in known]
        assert [(p.name, p.type, p.default, p.help) for p in read_parameters(sent)] == wanted


@pytest.mark.parametrize('name', list_notebooks())
def test_the_notebook_that_is_sent(home, name):
    kernel = Kernel(user='ada', slug='shutka-run', wheels='ada/wheels', internet=False)
    sent, about = write_kernel(home/'push', list_notebooks()[name], {}, kernel)
    nbformat.validate(content := nbformat.read(sent, 4))
    original = nbformat.read(list_notebooks()[name], 4).cells
    assert content.cells[0] == original[0]
    assert [c.source for c in content.cells[2:]] == [c.source for c in original[1:]]
    assert content.cells[1].source.startswith('!pip install -q --no-index')
    assert not any(c.get('outputs') for c in content.cells)
    assert json.loads(about.read_text())['dataset_sources'] == ['ada/wheels']


def test_a_line_keeps_its_comment():
    cell = "a: str = 'x  # y'  # what\nab: int = 1  # more"
    assert fill_parameters(cell, {'a': 'z'}) == "a: str = 'z'  # what\nab: int = 1  # more"


def test_push(home, monkeypatch, capsys):
    monkeypatch.setenv('KAGGLE_USERNAME', 'ada')
    monkeypatch.setenv('KAGGLE_KEY', 'x')
    beside = ['--dataset', 'ada/code', '--kernel', 'ada/other', '--competition', 'cup']
    assert cli.run_command(['kaggle', 'push', 'typescript', '-p', 'steps', '1e3', *beside, '--public']) == 0
    about = json.loads((home/'sent.json').read_text())
    assert about == {'id': 'ada/shutka-typescript', 'title': 'shutka typescript',
                     'code_file': 'shutka-typescript.ipynb', 'language': 'python', 'kernel_type': 'notebook',
                     'is_private': False, 'enable_gpu': True, 'enable_tpu': False, 'enable_internet': True,
                     'machine_shape': 'NvidiaTeslaT4', 'dataset_sources': ['ada/code'],
                     'kernel_sources': ['ada/other'], 'competition_sources': ['cup'], 'model_sources': []}
    sent = read_parameters(home/'runs/kaggle/shutka-typescript/shutka-typescript.ipynb')
    assert {p.name: p.default for p in sent}['steps'] == 1000
    told = capsys.readouterr().out
    assert 'successfully pushed' in told and 'kaggle kernels output ada/shutka-typescript' in told


def test_dry_run_sends_nothing(home, capsys):
    assert cli.run_command(['kaggle', 'push', 'memory', '--user', 'ada', '--no-gpu', '-o', 'there', '--dry-run']) == 0
    assert sorted(p.name for p in Path('there').iterdir()) == ['kernel-metadata.json', 'shutka-memory.ipynb']
    assert not (home/'sent.json').exists()
    assert 'machine_shape' not in capsys.readouterr().out


@pytest.mark.parametrize('words, why', [
    (['typescript', '-p', 'stepps', '5'], "did you mean 'steps'"),
    (['typescript', '-p', 'steps', 'many'], 'a whole number'),
    (['tipescript'], "did you mean 'typescript'"),
    (['typescript'], 'kaggle auth login'),
    (['typescript', '--user', 'ada', '--no-internet'], '--wheels'),
    (['typescript', '--user', 'ada', '--slug', 'x'], '5 to 50'),
    (['typescript', '--user', 'ada', '--dataset', 'code'], 'must read USER/SLUG'),
    (['typescript', '--user', 'ada', '-p', 'source', 'git:/home/me/private'], 'is a path of this machine'),
    (['typescript', '--user', 'ada', '-p', 'source', 'npm:zod,dir:~/private'], "'dir:~/private' is a path"),
    (['memory', '--user', 'ada', '-p', 'bundle', '/home/me/private.zip'], 'name /kaggle/input/SLUG')])
def test_refused_before_anything_is_written(home, words, why, capsys):
    assert cli.run_command(['kaggle', 'push', *words]) == 2
    assert why in capsys.readouterr().err and not Path('runs').exists() and not (home/'sent.json').exists()


@pytest.mark.parametrize('value', [
    'git:/home/me/private', 'git:/home/me/private@main', 'dir:~/code', 'dir:../code', '~/run', '/root/run', '../run',
    'npm:zod,jsonl:/data/pairs.jsonl', 'file:///srv/r', 'git:file:///srv/r', 'C:\\code', 'dir:C:/code',
    '\\\\host\\code', '/kaggle/../home/me', 'dir:/kaggle/input/../../root', 'dir:here', 'git:.', 'git:@main',
    'commits:/home/me/r'])
def test_a_path_of_this_machine_stays_here(home, value):
    (home/'here').mkdir()
    with pytest.raises(UserError, match='source must name what Kaggle has'): refuse_local_paths({'source': value})


@pytest.mark.parametrize('value', [
    'bundled:typescript', 'npm:@types/node', 'npm:rxjs#7,npm:zod', 'git:https://example.com/a/b.git@main',
    'git:git@example.com:a/b.git', 'hf:code-search-net/code_search_net/javascript', 'dir:/kaggle/input/code/src',
    'commits:/kaggle/input/project', '/kaggle/working/run', '/kaggle/temp', '/tmp/run', 'runs/demo', 'here',
    '', 5, True])
def test_what_kaggle_has_may_be_named(home, value):
    (home/'here').mkdir()
    refuse_local_paths({'source': value})


@pytest.mark.parametrize('part', ['a', '-', 'a-', '/', 'a/', '.', '~', ':', ',', '@', '\n', 'dir:', 'conflict:\n'])
def test_twice_the_text_takes_twice_the_time(home, part):
    "No pattern of this package goes back and forth over the same letters."
    def measure(n: int) -> float:
        text, start = part * n + '!', time.perf_counter()
        normalize_package(text)
        refuse_local_paths({'source': f'npm:a{text}', 'held_out': f'dir:a{text}'})
        for call in (lambda: Kernel(user='ada', slug=text), lambda: Kernel(user='ada', slug='shutka', wheels=text)):
            with pytest.raises(UserError): call()
        find_push_fault(0, text)
        return time.perf_counter() - start
    small, large = (min(measure(n) for _ in range(3)) for n in (20_000, 160_000))
    assert large < 4 * 8 * max(small, .02)


@pytest.mark.parametrize('says', [
    'Kernel push error: Notebook not found',
    "The following are not valid dataset sources and could not be added to the kernel: ['ada/cod']\n"
    'Kernel version 1 successfully pushed.',
])
def test_what_kaggle_refuses_is_an_error(says, monkeypatch, capsys):
    monkeypatch.setenv('SAYS', says)
    assert cli.run_command(['kaggle', 'push', 'typescript', '--user', 'ada']) == 2
    assert says.splitlines()[0] in capsys.readouterr().err


def test_without_a_client(home, monkeypatch, capsys):
    (home/'bin/kaggle').unlink()
    monkeypatch.setattr('shutil.which', lambda *_, **__: None)
    assert cli.run_command(['kaggle', 'push', 'typescript', '--user', 'ada']) == 2
    assert "pip install 'shutka[kaggle]'" in capsys.readouterr().err


def test_account(home, monkeypatch):
    (home/'.config/kaggle').mkdir(parents=True)
    (home/'.config/kaggle/kaggle.json').write_text('{"username": "grace", "key": "x"}')
    assert find_account() == 'grace'
    (home/'.kaggle').mkdir()
    (home/'.kaggle/credentials.json').write_text('{"username": "mary", "refresh_token": "x"}')
    (home/'.config/kaggle/kaggle.json').unlink()
    assert find_account() == 'mary'
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'x')
    with pytest.raises(UserError, match='does not know the token'): find_account()
    monkeypatch.setenv('OWNER', 'ada')
    assert find_account() == 'ada'


LARGE = ('torch', 'triton', 'scipy', 'pyarrow', 'transformers', 'pandas', 'scikit-learn', 'matplotlib')
SAYING = ('nbconvert', 'jupytext')   # of the image, with wishes for what we need


def skip_without_index(said: str):
    "Skip a test if what pip has said means that there is no package index."
    if 'No matching distribution' in said or 'connection' in said.lower(): pytest.skip('no package index')


def requirements() -> list[str]:
    "All that a user may install: requirements and extras, but not those of developers."
    config = ConfigParser()
    config.read(ROOT/'settings.ini', encoding='utf-8')
    keys = [key for key in config['DEFAULT'] if key.endswith('requirements') and key != 'dev_requirements']
    return [line.strip() for key in keys for line in config['DEFAULT'][key].splitlines() if line.strip()]


def test_the_image_has_what_it_has_in_versions_that_do():
    "A lower bound above the image's version would make pip replace it."
    known = [r for r in requirements() if normalize_package(r.split('>')[0]) in IMAGE]
    assert list_unmet(known, lambda name: IMAGE[normalize_package(name)]) == []
    assert {'torch', 'transformers', 'numpy', 'datasets', 'nvidia-ml-py'} <= IMAGE.keys()


@pytest.mark.parametrize('wish', [
    'nbconvert==6.4.5', 'nbclient>=0.5,<0.6', 'mistune>=0.8.1,<2',   # nbconvert's own wishes
    'jupyter_server==2.12.5', 'ipywidgets==8.1.5', 'fastcore<2', 'protobuf==5.29.5', 'setuptools>=70,<82'])
def test_the_table_is_kaggles_and_not_only_colabs(wish):
    assert list_unmet([wish], lambda name: IMAGE[normalize_package(name)]) == []


@pytest.mark.faults   # the imitated image of `.ci/run` shows the same
@pytest.mark.net
def test_our_bounds_resolve_against_the_image(home):
    "With the table as constraints, pip finds versions of all that we need, and of who has a say in them."
    constraints = {name: mark_versions({name: v})[name] if name in LARGE else v for name, v in IMAGE.items()}
    for name in LARGE: write_stand_in(home, name, constraints[name])   # nothing of ours depends on their wishes
    Path('image.txt').write_text(''.join(f'{name}=={v}\n' for name, v in constraints.items()))
    Path('wanted.txt').write_text('\n'.join([*requirements(), *SAYING]))
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--dry-run', '--ignore-installed', '--target', 'there',
               '--only-binary=:all:', '--implementation=cp', f'--python-version={PYTHON}', *MANYLINUX,
               '--find-links', home, '-c', 'image.txt', '-r', 'wanted.txt', '--report', 'report.json']
    ran = subprocess.run(command, capture_output=True, text=True)
    skip_without_index(ran.stderr)
    assert ran.returncode == 0, ran.stderr
    found = {normalize_package(one['metadata']['name']): one['metadata']['version']
             for one in json.loads(Path('report.json').read_text())['install']}
    assert found.keys() > {'nbconvert', 'nbclient', 'torch', 'tree-sitter'}
    assert {name: v for name, v in found.items() if name in IMAGE and v != constraints[name]} == {}


@pytest.mark.net
def test_installing_replaces_nothing(home):
    "In a picture of the image pip would install only what is not there."
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', 'image'], check=True)
    site = next(Path('image/lib').glob('python*/site-packages'))
    for name, version in IMAGE.items():
        with zipfile.ZipFile(write_stand_in(home, name, version)) as z: z.extractall(site)
    Path('wanted.txt').write_text('\n'.join(requirements()))
    command = [sys.executable, '-m', 'pip', '--python', 'image/bin/python', 'install', '-q', '--dry-run',
               '--report', 'report.json', '-r', 'wanted.txt']
    ran = subprocess.run(command, capture_output=True, text=True)
    skip_without_index(ran.stderr)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(Path('report.json').read_text())
    names = {normalize_package(one['metadata']['name']) for one in report['install']}
    assert 'tree-sitter' in names and not names & IMAGE.keys()
    assert not any(name.startswith('nvidia-') for name in names)


def needy(folder: Path, name: str, version: str, *requires: str) -> Path:
    "A wheel that needs others."
    path = write_stand_in(folder, name, version)
    needs = ''.join(f'Requires-Dist: {r}\n' for r in requires).encode()
    with zipfile.ZipFile(path) as z: content = {n: z.read(n) for n in z.namelist()}
    with zipfile.ZipFile(path, 'w') as z:
        for n, data in content.items(): z.writestr(n, data + needs * n.endswith('METADATA'))
    return path


@pytest.fixture
def index(home, monkeypatch) -> Path:
    "A folder that is all the package index there is."
    (home/'index').mkdir()
    monkeypatch.setenv('PIP_CONFIG_FILE', os.devnull)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(home/'index'))
    return home/'index'


def test_wheelhouse(home, index):
    needy(index, 'torch', '2.13.0', 'nvidia-cublas')
    needy(index, 'tree-sitter', '1.0', 'numpy>=1.20',
          'odd-one; python_version < "3.13"', 'odd-two; python_version >= "3.13"')
    needy(index, 'rensa', '1.0')
    needy(index, 'rensa', '2.0', 'numpy>=2.4')
    needy(index, 'odd-one', '1.0')
    needy(index, 'odd-two', '1.0')
    wheel = needy(home, 'shutka', '9.9', 'torch>=2.6', 'transformers>=4', 'rensa', 'tree-sitter')
    wheels = fill_wheelhouse(home/'wheels', 'LINE', 'ada', source=str(wheel))
    names = [path.name.rpartition('-py3')[0] for path in wheels]
    assert names == ['odd_one-1.0', 'rensa-1.0', 'shutka-9.9', 'tree_sitter-1.0']
    assert 'LINE' in (home/'wheels/README.md').read_text() and PYTHON in (home/'wheels/README.md').read_text()
    about = json.loads((home/'wheels/dataset-metadata.json').read_text())
    assert about == {'title': 'shutka-wheels', 'id': 'ada/shutka-wheels', 'licenses': [{'name': 'other'}]}


def test_wheelhouse_that_cannot_be(home, index):
    for needs, why in (('torch>=99', 'shutka 9.9 depends on torch>=99'),
                       ('nowhere', 'No matching distribution found for nowhere')):
        wheel = needy(home, 'shutka', '9.9', needs)
        with pytest.raises(UserError, match=why): fill_wheelhouse(home/'wheels', '', source=str(wheel))
        assert not (home/'wheels').exists()


def test_wheels_command(home, index, capsys):
    wheel = needy(home, 'shutka', '9.9', 'torch>=2.6')
    assert cli.run_command(['kaggle', 'wheels', 'wheels', '--source', str(wheel)]) == 0
    out, err = capsys.readouterr()
    assert 'shutka-9.9-py3-none-any.whl' in out and 'kaggle datasets create -p wheels' in out
    assert 'kaggle auth login' in err
    assert sorted(p.name for p in Path('wheels').iterdir()) == ['README.md', 'shutka-9.9-py3-none-any.whl']
    assert cli.run_command(['kaggle', 'wheels', 'wheels', '--source', str(wheel)]) == 2


def test_source_folder_is_left_alone(home, monkeypatch):
    "The wheel of a source folder, made without its neighbours and without traces."
    monkeypatch.setenv('PIP_NO_BUILD_ISOLATION', '0')  # means: build with the setuptools that is here
    before = {path.name for path in ROOT.iterdir()}
    inside = set(zipfile.ZipFile(build_wheel(str(ROOT), home)).namelist())
    assert {'shutka/faces/cli.py', 'shutka/kaggle/typescript.ipynb'} <= inside
    assert {path.name for path in ROOT.iterdir()} == before


T4 = Device('Tesla T4', (7, 5), 15_843_721_216)


def session(monkeypatch, **known):
    usual = dict(devices=(T4, T4), cores=4, ram=33 * 10**9, free=20 * 10**9, kaggle=True, began=1.8e9)
    found = Machine(**usual | known)
    monkeypatch.setattr(preflight, 'inspect_machine', lambda: found)
    monkeypatch.setattr(preflight, 'is_reachable', lambda url: True)
    return found


def test_preflight_at_home(capsys):
    preflight.preflight()
    assert capsys.readouterr().out.count('\n') == 1


def test_preflight(monkeypatch, capsys):
    session(monkeypatch)
    monkeypatch.setattr(preflight, 'find_gpu_fault', lambda *_: '')
    monkeypatch.setattr(preflight, 'list_installed', lambda *_: {'shutka': '0.2.0', 'numpy': '9.9'})
    preflight.preflight()
    told = capsys.readouterr().out
    assert '2 x Tesla T4 (16 GB), computing' in told and 'numpy: part of Kaggle' in told and '20.0 GB free' in told


def test_preflight_stops_what_cannot_work(monkeypatch):
    session(monkeypatch, devices=())
    monkeypatch.setattr(preflight, 'find_gpus', lambda nvml: [0, 1])
    monkeypatch.setattr(preflight.torch.version, 'cuda', None)
    with pytest.raises(UserError, match='a build for the CPU, and this session has 2 GPUs'): preflight.preflight()
    monkeypatch.setattr(preflight, 'requires', lambda name: ['no-such-package>=2'])
    with pytest.raises(UserError, match='no-such-package>=2 .there is nothing.'): preflight.preflight()


def test_gpus_are_tried_in_another_process(monkeypatch):
    "Here there is no GPU, so the trial fails, and its last line is the reason."
    if preflight.torch.cuda.is_available(): pytest.skip('a GPU is here')
    fault = find_gpu_fault(session(monkeypatch), 2, '12.8')
    assert 'cannot compute on Tesla T4' in fault and ('CUDA' in fault or 'NVIDIA' in fault)


@pytest.mark.gpu
def test_gpus_compute():
    if not preflight.torch.cuda.is_available(): pytest.skip('no GPU')
    assert preflight.try_gpus(preflight.torch.cuda.device_count()) == ''

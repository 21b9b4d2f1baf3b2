"The wheel: everything is in it, and it works where no development tool is."
import ast
import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
DEVELOPMENT = ('nbdev', 'fastcore', 'execnb', 'jupytext', 'pytest')
UNWANTED = ('.*', '__pycache__', '*.egg-info', 'build', 'dist', 'node_modules', 'demo', 'runs', 'scratch')
CONTENT = ('**/*.py', 'py.typed', 'bundled/**/*', 'evaluate/judge/[!.]*', 'evaluate/suites/*.json', 'export/image.txt',
           'generate/linter/*')
EXTRAS = ('', 'cluster_', 'dataset_', 'gguf_', 'generate_', 'qdrant_', 'serve_', 'vision_', 'voices_')
REQUIREMENTS = [f'{extra}requirements' for extra in EXTRAS]


def check(*command, **options) -> str:
    "What a command prints; its whole output if it fails."
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert ran.returncode == 0, f'{command}\n{ran.stdout}\n{ran.stderr}'
    return ran.stdout


@pytest.fixture(scope='session')
def wheel(tmp_path_factory) -> Path:
    "Built from a copy, by way of the source archive, so that nothing left over from other builds gets in."
    folder = tmp_path_factory.mktemp('build')
    shutil.copytree(ROOT, folder/'tree', ignore=shutil.ignore_patterns(*UNWANTED), symlinks=True)
    check(sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, folder/'tree')
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='session')
def installed(wheel, tmp_path_factory) -> tuple[Path, dict]:
    "The wheel in an empty folder, and an environment that finds it first and no development tool at all."
    folder = tmp_path_factory.mktemp('installed')
    check(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', folder/'site', wheel)
    (folder/'absent').mkdir()
    for name in DEVELOPMENT:
        (folder/'absent'/f'{name}.py').write_text(f"raise ImportError('{name} is for developers only')")
    return folder, os.environ | {'PYTHONPATH': f'{folder/"absent"}{os.pathsep}{folder/"site"}'}


def test_everything_is_inside(wheel):
    inside = set(ZipFile(wheel).namelist())
    wanted = [path for pattern in CONTENT for path in (ROOT/'shutka').glob(pattern)]
    names = {path.relative_to(ROOT).as_posix() for path in wanted if path.is_file()}
    names |= {f'shutka/kaggle/{path.name}' for path in (ROOT/'kaggle').glob('*.ipynb')}
    bundled = 'shutka/bundled/typescript/arrays/grouping.ts'
    assert {'shutka/faces/cli.py', bundled, 'shutka/kaggle/typescript.ipynb'} <= names
    assert names - inside == set()
    assert {name for name in inside - names if '.dist-info/' not in name} == set()


def test_every_module_imports(installed):
    folder, env = installed
    site = folder/'site'
    paths = [path.relative_to(site).with_suffix('') for path in (site/'shutka').rglob('*.py')]
    modules = sorted('.'.join(path.parts).removesuffix('.__init__') for path in paths)
    code = f"""
import importlib, shutka
print(shutka.__file__)
for name in {modules}: importlib.import_module(name)
"""

    def run(code): return check(sys.executable, '-c', code, cwd=folder, env=env)
    assert Path(run(code).strip()).is_relative_to(site)
    with pytest.raises(AssertionError, match='for developers only'): run('import nbdev')


def test_command(installed):
    folder, env = installed
    assert 'Usage: shutka' in check(folder/'site'/'bin'/'shutka', '--help', cwd=folder, env=env)


def one_spelling(distribution: str) -> str: return distribution.strip().lower().replace('_', '-')


def packages_imported(path: Path) -> set[str]:
    "The packages of others that a module imports, at once or inside functions."
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): modules += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and not node.level: modules.append(node.module)
    return {module.split('.')[0] for module in modules} - sys.stdlib_module_names - {'shutka'}


def test_requirements_name_what_is_imported():
    config = ConfigParser()
    config.read(ROOT/'settings.ini', encoding='utf-8')
    lines = [line for key in REQUIREMENTS for line in config['DEFAULT'][key].splitlines()]
    named = {one_spelling(line.split('>')[0]) for line in lines}
    owners, missing = packages_distributions(), set()
    for path in (ROOT/'shutka').rglob('*.py'):
        for name in packages_imported(path):
            if not named & set(map(one_spelling, owners.get(name, []))): missing.add((path.name, name))
    assert missing == set()

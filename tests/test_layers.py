"The law of layers: the number of a notebook is its layer, and exported code imports only from smaller numbers."
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {'torch', 'transformers', 'matplotlib', 'datasets'}  # seconds to import
LIGHT = set('0129')  # layers that a command needs before it knows what to do; models, training and what uses them wait


def layers() -> dict[str, tuple[int, str]]:
    "Module -> layer, by the names of the notebooks: 'shutka.data.lockfile' -> (11, 'a')."
    names = [re.fullmatch(r'(\d\d)([a-z]?)_([a-z_.]+)', path.stem) for path in (ROOT/'nbs').glob('[0-9]*.ipynb')]
    return {f'shutka.{name[3]}': (int(name[1]), name[2]) for name in names}


LAYERS = layers()
every_module = pytest.mark.parametrize('module', sorted(LAYERS, key=LAYERS.get))


def light(module: str) -> bool: return f'{LAYERS[module][0]:02}'[0] in LIGHT


def file_of(module: str) -> Path: return ROOT/f'{module.replace(".", "/")}.py'


def imports(
    nodes: list[ast.AST],  # where to look
    package: str,          # the importing module's package, for relative imports
) -> set[str]:             # modules, and names imported from them as if they were modules
    "What is imported; `from .records import Pair` gives 'shutka.data.records' and 'shutka.data.records.Pair'."
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            above = package.split('.')[:len(package.split('.')) - node.level + 1] if node.level else []
            source = '.'.join([*above, *filter(None, [node.module])])
            found |= {source} | {f'{source}.{alias.name}' for alias in node.names}
    return found


def at_import(node: ast.AST):
    "The nodes that run when a module is imported: all but the bodies of functions."
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda): continue
        yield child
        yield from at_import(child)


def upwards(module: str, source: str) -> list[str]:
    "The modules of the same or a higher layer that a module imports, inside functions too."
    used = imports(list(ast.walk(ast.parse(source))), module.rpartition('.')[0])
    return sorted(name for name in used & LAYERS.keys() if LAYERS[name] >= LAYERS[module])


def heavy(module: str, source: str) -> set[str]:
    "The slow packages that a module imports at once."
    return {name.split('.')[0] for name in imports(list(at_import(ast.parse(source))), module.rpartition('.')[0])} & HEAVY


def test_no_number_twice():
    assert len(set(LAYERS.values())) == len(LAYERS) == len(list((ROOT/'nbs').glob('[0-9]*.ipynb')))


def test_a_package_is_one_layer():
    packages = {}
    for module, (number, _) in LAYERS.items():
        if module.count('.') > 1: packages.setdefault(module.rpartition('.')[0], set()).add(number // 10)
    assert {package: digits for package, digits in packages.items() if len(digits) > 1} == {}


def test_every_module_comes_from_its_notebook():
    written = {path for path in (ROOT/'shutka').rglob('*.py') if path.name not in ('__init__.py', '_modidx.py')}
    assert written == set(map(file_of, LAYERS))
    for module in LAYERS:
        assert re.search(r'File to edit: \S*nbs/\d\d[a-z]?_' + re.escape(module.removeprefix('shutka.')) + r'\.ipynb\.',
                         file_of(module).read_text(encoding='utf-8')), module


@every_module
def test_imports_only_from_smaller_numbers(module):
    assert upwards(module, file_of(module).read_text(encoding='utf-8')) == []


@every_module
def test_light_layers_import_nothing_heavy_at_once(module):
    if light(module): assert heavy(module, file_of(module).read_text(encoding='utf-8')) == set()


def test_light_layers_load_nothing_heavy():
    "The same for whatever they bring along, asked of a fresh interpreter."
    modules = ['shutka', *sorted(filter(light, LAYERS), key=LAYERS.get)]
    code = (f'import importlib, sys\nfor name in {modules}:\n    importlib.import_module(name)\n'
            f'    heavy = {HEAVY} & sys.modules.keys()\n    assert not heavy, f"{{name}} loads {{heavy}}"')
    ran = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize('source, found', [
    ('from ..train.fit import fit', ['shutka.train.fit']),
    ('from ..train import fit', ['shutka.train.fit']),
    ('import shutka.train.fit as f', ['shutka.train.fit']),
    ('def late():\n    from shutka.train.fit import fit', ['shutka.train.fit']),
    ('from .records import Pair', ['shutka.data.records']),
    ('from ..core import sha256\nimport torch', []),
])
def test_the_law_sees(source, found):
    assert upwards('shutka.data.records', source) == found


@pytest.mark.parametrize('source, found', [
    ('import torch.nn as nn', {'torch'}),
    ('try:\n    from datasets import load_dataset\nexcept ImportError: raise', {'datasets'}),
    ('class A:\n    import matplotlib', {'matplotlib'}),
    ('def late():\n    import torch', set()),
    ('import torchvision', set()),
])
def test_the_law_weighs(source, found):
    assert heavy('shutka.core', source) == found

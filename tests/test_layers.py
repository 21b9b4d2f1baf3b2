"""The law of layers: folder and number of a notebook are its layer, and exported code imports only from below.

Products (the folders 70 to 78) stand side by side and never import each other; the assistant (79) puts them
together. A public name is defined once.
"""
import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {'torch', 'transformers', 'matplotlib', 'datasets'}  # seconds to import
LIGHT = {'core', 'data', 'text', 'faces'}  # what a command needs before it knows what to do; the others wait
NOTEBOOKS = sorted((ROOT/'nbs').glob('[0-9]*/*.ipynb'))
NAME = re.compile(r'(\d\d)_([a-z_0-9]+)')


def layers() -> dict[str, tuple[int, int]]:
    "Module -> layer, by folder and name: nbs/10_data/30_lockfile.ipynb is 'shutka.data.lockfile' -> (10, 30)."
    found = {}
    for path in NOTEBOOKS:
        folder, name = NAME.fullmatch(path.parent.name), NAME.fullmatch(path.stem)
        found[f'shutka.{folder[2]}.{name[2]}'] = (int(folder[1]), int(name[1]))
    return found


LAYERS = layers()
every_module = pytest.mark.parametrize('module', sorted(LAYERS, key=LAYERS.get))


def light(module: str) -> bool: return module.split('.')[1] in LIGHT


def is_product(module: str) -> bool: return 70 <= LAYERS[module][0] < 79


def file_of(module: str) -> Path: return ROOT/f'{module.replace(".", "/")}.py'


def source_of(module: str) -> str: return file_of(module).read_text(encoding='utf-8')


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


def at_run_time(node: ast.AST):
    "The nodes that can run, inside functions too: all but what stands there for type checkers only."
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == 'TYPE_CHECKING': continue
        yield child
        yield from at_run_time(child)


def upwards(module: str, source: str) -> list[str]:
    "The modules of the same or a higher layer that a module imports, inside functions too."
    used = imports(list(at_run_time(ast.parse(source))), module.rpartition('.')[0])
    return sorted(name for name in used & LAYERS.keys() if LAYERS[name] >= LAYERS[module])


def sideways(module: str, source: str) -> list[str]:
    "The modules of other products that a product imports."
    used = imports(list(ast.walk(ast.parse(source))), module.rpartition('.')[0])
    return sorted(name for name in used & LAYERS.keys()
                  if is_product(module) and is_product(name) and LAYERS[name][0] != LAYERS[module][0])


def heavy(module: str, source: str) -> set[str]:
    "The slow packages that a module imports at once."
    used = imports(list(at_import(ast.parse(source))), module.rpartition('.')[0])
    return {name.split('.')[0] for name in used} & HEAVY


def test_no_number_twice():
    assert len(set(LAYERS.values())) == len(LAYERS) == len(NOTEBOOKS)


def test_a_folder_is_a_package():
    folders = defaultdict(set)
    for module, (number, _) in LAYERS.items(): folders[module.split('.')[1]].add(number)
    assert {package: numbers for package, numbers in folders.items() if len(numbers) > 1} == {}


def test_every_module_comes_from_its_notebook():
    own = ('__init__.py', '__main__.py', '_modidx.py')
    written = {path for path in (ROOT/'shutka').rglob('*.py') if path.name not in own}
    assert written == set(map(file_of, LAYERS))
    for path, module in zip(NOTEBOOKS, layers()):
        assert f'File to edit: ../../nbs/{path.parent.name}/{path.name}.' in source_of(module), module


TWICE = {'train', 'build'}  # the front doors of products


def public_names(source: str) -> set[str]:
    "The functions, classes and constants that a module defines."
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef): found.add(node.name)
        targets = []
        if isinstance(node, ast.Assign): targets = node.targets
        if isinstance(node, ast.AnnAssign): targets = [node.target]
        found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in found if not name.startswith('_')}


def test_a_public_name_is_defined_once():
    homes = defaultdict(list)
    for module in LAYERS:
        for name in public_names(source_of(module)): homes[name].append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1 and name not in TWICE} == {}


@every_module
def test_products_stand_side_by_side(module):
    assert sideways(module, source_of(module)) == []


@every_module
def test_imports_only_from_smaller_numbers(module):
    assert upwards(module, source_of(module)) == []


@every_module
def test_light_layers_import_nothing_heavy_at_once(module):
    if light(module): assert heavy(module, source_of(module)) == set()


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
    ('from ..core.hashes import sha256\nimport torch', []),
    ('if TYPE_CHECKING:\n    from ..train.fit import fit', []),
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
    assert heavy('shutka.core.files', source) == found

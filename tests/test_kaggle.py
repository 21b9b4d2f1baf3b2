"The law of kaggle/: notebooks a stranger can read, run on two T4s, and drive from a batch job."
import ast
import json
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.faces.notebooks import read_parameters

PREFLIGHT = 'from shutka.export.preflight import preflight\n\npreflight()'
NOTEBOOKS = sorted((Path(__file__).parents[1]/'kaggle').glob('*.ipynb'))


def python(source: str) -> ast.Module:
    "A cell's syntax tree; lines of the shell and magics are left out."
    return ast.parse('\n'.join('' if line.lstrip().startswith(('!', '%')) else line for line in source.splitlines()))


def imported(tree: ast.Module) -> set[str]:
    "The packages a cell imports."
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or '' for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {module.split('.')[0] for module in modules}


def broken(path: Path) -> list[str]:
    "What a notebook does against the law."
    content = json.loads(path.read_text(encoding='utf-8'))
    cells, found = content['cells'], []
    if content['metadata'].get('kernelspec', {}).get('name') != 'python3': found.append('no kernelspec, without which plain papermill refuses')
    if cells[0]['cell_type'] != 'markdown' or not ''.join(cells[0]['source']).startswith('# '): found.append('no title')
    try:
        if not {'out', 'base_dir'} & {p.name for p in read_parameters(path)}: found.append('no parameter out or base_dir')
    except UserError as e: found.append(str(e))
    if PREFLIGHT not in next((''.join(c['source']) for c in cells if c['cell_type'] == 'code'), ''): found.append('no preflight in the first code cell')
    for number, cell in enumerate((c for c in cells if c['cell_type'] == 'code'), 1):
        tree = python(''.join(cell['source']))
        if cell['outputs'] or cell['execution_count'] is not None: found.append(f'code cell {number} has outputs')
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): found.append(f'code cell {number} has a def')
            if isinstance(node, ast.ClassDef): found.append(f'code cell {number} has a class')
        if 'torch' in imported(tree): found.append(f'code cell {number} imports torch')
    return found


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_law(path):
    assert broken(path) == []


PARAMETERS = "out: str = 'runs/demo'  # folder of the run\nsteps: int = 1  # optimizer steps"


@pytest.mark.parametrize('title, cell, code, outputs, complaint', [
    ('# Demo', PARAMETERS, '!pip install shutka\nfrom shutka.core import rng', [], None),
    ('Demo', PARAMETERS, '1', [], 'no title'),
    ('# Demo', PARAMETERS + '\nlr = 1', '1', [], 'line 3 must read'),
    ('# Demo', 'steps: int = 1  # steps', '1', [], 'no parameter out or base_dir'),
    ('# Demo', PARAMETERS, 'def f(): pass', [], 'a def'),
    ('# Demo', PARAMETERS, 'class A: pass', [], 'a class'),
    ('# Demo', PARAMETERS, 'import torch.cuda', [], 'imports torch'),
    ('# Demo', PARAMETERS, 'if 1:\n    from torch import nn', [], 'imports torch'),
    ('# Demo', PARAMETERS, '1', [{'output_type': 'stream', 'name': 'stdout', 'text': 'x'}], 'has outputs'),
])
def test_law_is_enforced(tmp_path, title, cell, code, outputs, complaint):
    cells = [dict(cell_type='markdown', metadata={}, source=title),
             dict(cell_type='code', metadata={}, source=PREFLIGHT, outputs=[], execution_count=None),
             dict(cell_type='code', metadata={'tags': ['parameters']}, source=cell, outputs=[], execution_count=None),
             dict(cell_type='code', metadata={}, source=code, outputs=outputs, execution_count=None)]
    path = tmp_path/'demo.ipynb'
    metadata = {'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}}
    path.write_text(json.dumps(dict(cells=cells, metadata=metadata, nbformat=4, nbformat_minor=5)))
    found = broken(path)
    assert found == [] if complaint is None else len(found) == 1 and complaint in found[0]


def test_kernelspec_and_preflight_are_part_of_the_law(tmp_path):
    cell = dict(cell_type='code', metadata={'tags': ['parameters']}, source=PARAMETERS, outputs=[], execution_count=None)
    title = dict(cell_type='markdown', metadata={}, source='# Demo')
    path = tmp_path/'demo.ipynb'
    path.write_text(json.dumps(dict(cells=[title, cell], metadata={}, nbformat=4, nbformat_minor=5)))
    assert broken(path) == ['no kernelspec, without which plain papermill refuses', 'no preflight in the first code cell']

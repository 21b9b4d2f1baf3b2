"The law of kaggle/: notebooks a stranger can read, run on two T4s, and drive from a batch job."
import ast
import json
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.faces.notebooks import read_parameters

PREFLIGHT = 'from shutka.export.preflight import preflight\n\npreflight()'
NOTEBOOKS = sorted((Path(__file__).parents[1]/'kaggle').glob('*.ipynb'))
NO_KERNELSPEC = 'no kernelspec, without which plain papermill refuses'
NO_PREFLIGHT = 'no preflight in the first code cell'


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
    first, found = content['cells'][0], []
    code_cells = [cell for cell in content['cells'] if cell['cell_type'] == 'code']
    sources = [''.join(cell['source']) for cell in code_cells]
    if content['metadata'].get('kernelspec', {}).get('name') != 'python3': found.append(NO_KERNELSPEC)
    if first['cell_type'] != 'markdown' or not ''.join(first['source']).startswith('# '): found.append('no title')
    try:
        names = {p.name for p in read_parameters(path)}
        if not {'out', 'base_dir'} & names: found.append('no parameter out or base_dir')
    except UserError as e: found.append(str(e))
    if not sources or PREFLIGHT not in sources[0]: found.append(NO_PREFLIGHT)
    for number, (cell, source) in enumerate(zip(code_cells, sources), 1):
        tree = python(source)
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


def title_cell(source: str) -> dict: return dict(cell_type='markdown', metadata={}, source=source)


def code_cell(source: str, outputs: list = (), tags: list = ()) -> dict:
    metadata = {'tags': list(tags)} if tags else {}
    return dict(cell_type='code', metadata=metadata, source=source, outputs=list(outputs), execution_count=None)


def write(path: Path, cells: list[dict], metadata: dict) -> Path:
    path.write_text(json.dumps(dict(cells=cells, metadata=metadata, nbformat=4, nbformat_minor=5)))
    return path


@pytest.mark.parametrize('title, cell, code, outputs, complaint', [
    ('# Demo', PARAMETERS, '!pip install shutka\nfrom shutka.core.hashes import rng', [], None),
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
    cells = [title_cell(title), code_cell(PREFLIGHT), code_cell(cell, tags=['parameters']), code_cell(code, outputs)]
    kernelspec = {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}
    found = broken(write(tmp_path/'demo.ipynb', cells, {'kernelspec': kernelspec}))
    assert found == [] if complaint is None else len(found) == 1 and complaint in found[0]


def test_kernelspec_and_preflight_are_part_of_the_law(tmp_path):
    cells = [title_cell('# Demo'), code_cell(PARAMETERS, tags=['parameters'])]
    assert broken(write(tmp_path/'demo.ipynb', cells, {})) == [NO_KERNELSPEC, NO_PREFLIGHT]

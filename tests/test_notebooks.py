"Facts about the notebooks and what is printed from them."
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST_OUTPUT, LARGEST_NOTEBOOK = 60_000, 300_000  # bytes
NOTEBOOKS = sorted((ROOT/'nbs').rglob('*.ipynb'))
PAGES = [*NOTEBOOKS, *sorted((ROOT/'kaggle').glob('*.ipynb')), ROOT/'README.md', ROOT/'CONTRIBUTING.md']
MODULES = sorted((ROOT/'shutka').rglob('*.py'))
# A notebook by its name in the book, `00_core/20_files`, whether `nbs/` stands before it or not.
NOTEBOOK_NAME = r'(?<![\w./])(?:nbs/)?(\d\d_[a-z_]+/\d\d_[a-z_]+)'


def from_root(path: Path) -> str: return str(path.relative_to(ROOT))


every_notebook = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
every_module = pytest.mark.parametrize('path', MODULES, ids=from_root)


def cells(path: Path) -> list[dict]: return json.loads(path.read_text(encoding='utf-8'))['cells']


def prose(path: Path) -> str:
    "What is written for people: a page, or the text cells of a notebook."
    if path.suffix == '.md': return path.read_text(encoding='utf-8')
    return '\n'.join(''.join(cell['source']) for cell in cells(path) if cell['cell_type'] == 'markdown')


def outputs(path: Path) -> list[dict]: return [output for cell in cells(path) for output in cell.get('outputs', [])]


@every_notebook
def test_title_and_sentence(path):
    first = cells(path)[0]
    assert first['cell_type'] == 'markdown' and re.match(r'# \S.*\n\n> \S', ''.join(first['source']))


@every_notebook
def test_no_stored_error(path):
    assert [output['ename'] for output in outputs(path) if output['output_type'] == 'error'] == []


@every_notebook
def test_no_stored_warning(path):
    "Warnings and bars name paths and times of one machine."
    texts = [json.dumps(output) for output in outputs(path)]
    assert [text for text in texts if '"stderr"' in text or re.search(r'site-packages|/tmp/tmp', text)] == []


@every_notebook
def test_small(path):
    assert path.stat().st_size <= LARGEST_NOTEBOOK
    assert max((len(json.dumps(output)) for output in outputs(path)), default=0) <= LARGEST_OUTPUT


@every_notebook
def test_cleaned(path):
    "No times and no counters, so that a second run gives the same file."
    assert [cell['id'] for cell in cells(path) if cell.get('execution_count') or set(cell['metadata']) - {'tags'}] == []


@every_notebook
def test_explicit_names(path):
    code = [''.join(cell['source']) for cell in cells(path) if cell['cell_type'] == 'code']
    assert [text for text in code if re.search(r'^\s*from \S+ import \*', text, flags=re.M)] == []


@pytest.mark.parametrize('path', PAGES, ids=from_root)
def test_what_prose_points_at_is_there(path):
    "Notebooks by folder and name, and whatever a link leads to that is no address on the web."
    named = set(re.findall(NOTEBOOK_NAME, prose(path)))
    linked = set(re.findall(r'\]\((?![a-z]+:|#)([^)\s#]+)', prose(path)))
    assert sorted(named - {f'{found.parent.name}/{found.stem}' for found in NOTEBOOKS}) == []
    assert sorted(link for link in linked if not (path.parent/link).exists()) == []


def test_the_book_lists_every_notebook():
    tables = [''.join(output.get('data', {}).get('text/markdown', '')) for output in outputs(ROOT/'nbs'/'index.ipynb')]
    listed = re.findall(r'\]\((\d\d_[^)]*\.ipynb)\)', '\n'.join(tables))
    assert sorted(listed) == sorted(f'{path.parent.name}/{path.name}' for path in (ROOT/'nbs').glob('[0-9]*/*.ipynb'))


def test_prose_fits_into_a_hundred_columns():
    "But for tables, addresses, and what stands in code blocks."
    wide = []
    for path in PAGES:
        fenced = False
        for line in prose(path).splitlines():
            if line.startswith('```'): fenced = not fenced
            if fenced or line.startswith(('|', '    ', '![')) or re.search(r'https?://\S{40}', line): continue
            if len(line) > 100: wide.append(f'{from_root(path)}: {line[:60]}')
    assert wide == []


@every_module
def test_printed_code_is_plain(path):
    "No patching, and nothing that only developers have."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        for decorator in getattr(node, 'decorator_list', []):
            name = ast.unparse(decorator)
            assert not name.startswith('patch'), name
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom): names = [node.module or '']
        assert not {name.split('.')[0] for name in names} & {'fastcore', 'nbdev', 'execnb'}, ast.unparse(node)


def test_nothing_unfinished():
    words = re.compile(r'\b(TODO|FIXME|NotImplementedError)\b')
    texts = [path for path in (ROOT/'shutka').rglob('*') if path.suffix in ('.py', '.ts', '.json')]
    assert [str(path) for path in texts if words.search(path.read_text(encoding='utf-8'))] == []


def modules_in(root: Path) -> dict[Path, str]:
    "The text of each module, by its path from the root."
    return {path.relative_to(root): path.read_text(encoding='utf-8') for path in (root/'shutka').rglob('*.py')}


def test_library_in_step(tmp_path):
    "Exported anew, elsewhere, the library comes out the same."
    shutil.copytree(ROOT/'nbs', tmp_path/'nbs')
    shutil.copy(ROOT/'pyproject.toml', tmp_path)
    for path in (ROOT/'shutka').rglob('__init__.py'):   # those of the package and of products are written by hand
        copy = tmp_path/path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    env = {name: value for name, value in os.environ.items() if name != 'IN_TEST'}
    code = 'from nbdev.doclinks import nbdev_export; nbdev_export()'
    ran = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    printed, kept = modules_in(tmp_path), modules_in(ROOT)
    assert printed.keys() == kept.keys()
    assert [str(name) for name in printed if printed[name] != kept[name]] == []

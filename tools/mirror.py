"""How literate are the notebooks? A mirror, not a gate: look once, then decide.

    python tools/mirror.py [FOLDER]        # of notebooks; nbs/ unless given
"""
import json
import re
import statistics
import sys
from pathlib import Path

# Of fastcore, whose notebooks one likes to read.
FASTCORE = dict(median=7, largest=56, words=1.8, tests=.8, hidden=.05)


def measure(path: Path) -> dict:
    "The counts of one notebook: lines of each export cell, lines of code, words of prose, cells by what they are for."
    out = dict(export=[], code=0, words=0, tests=0, hidden=0, cells=0)
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown': out['words'] += len(re.findall(r'\w+', text))
        if cell['cell_type'] != 'code' or not text.strip(): continue
        marks = set(re.findall(r'^\s*#\s*\|\s*(\w+)', text, flags=re.M))
        out['cells'] += 1
        out['code'] += sum(bool(line.strip()) for line in text.splitlines())
        if marks & {'export', 'exporti', 'exports'}: out['export'].append(len(text.splitlines()))
        elif re.search(r'\btest_\w+\(|\bexpect_fail\(|^\s*assert\b', text, flags=re.M): out['tests'] += 1
        out['hidden'] += 'hide' in marks
    return out


def row(
    name: str,           # of the line
    notebooks: list,     # as `measure` gives them
) -> str:
    "One line of the table; a notebook that exports nothing has no export cell to measure."
    export = [n for notebook in notebooks for n in notebook['export']]
    total = {key: sum(n[key] for n in notebooks) for key in ('code', 'words', 'tests', 'hidden', 'cells')}
    median, largest, tests = 0, 0, 0
    if export: median, largest, tests = statistics.median(export), max(export), total['tests'] / len(export)
    words, hidden = total['words'] / max(1, total['code']), total['hidden'] / max(1, total['cells'])
    return line(name, median, largest, words, tests, hidden, sum(export))


def line(name, median, largest, words, tests, hidden, lines='') -> str:
    "The columns of the table."
    return f'{name:32}{median:8g}{largest:9}{words:11.1f}{tests:14.1f}{hidden:9.0%}{lines:>9}'


def main(folder: str = 'nbs'):
    "Print the table: a line per notebook, all of them together, and fastcore beside."
    measured = {str(path.relative_to(folder).with_suffix('')): measure(path)
                for path in sorted(Path(folder).rglob('*.ipynb'))}
    print(f'{"":32}{"export cells":>17}{"words per":>11}{"test cells":>14}{"hidden":>9}{"exported":>9}')
    print(f'{"":32}{"median":>8}{"largest":>9}{"code line":>11}{"per export":>14}{"cells":>9}{"lines":>9}')
    for name, counts in measured.items(): print(row(name, [counts]))
    print(row('all', list(measured.values())))
    print(line('fastcore', **FASTCORE))


if __name__ == '__main__': main(*sys.argv[1:])

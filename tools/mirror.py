"""How literate are the notebooks? A mirror, not a gate: look once, then decide.

    python tools/mirror.py [FOLDER]        # of notebooks; nbs/ unless given
"""
import ast
import json
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

# Of projects that one likes to read; of those without notebooks, only what code shows.
PEERS = {'fastcore': dict(median=7, largest=56, words=1.8, tests=.8, hidden=.05, comments=2.8),
         'nanochat': dict(comments=15, wide=.011), 'starlette': dict(comments=4, wide=0)}


def header_lines(text: str) -> set[int]:
    "The numbers of the lines on which functions declare their arguments: what `#` says there is documentation."
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    return {line for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)
            for line in range(node.lineno, node.body[0].lineno)}


def count_code(text: str) -> dict:
    "Lines of code in a text, those over 120 columns, and comments (not nbdev's marks, not the words beside arguments)."
    lines = {number: line for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    headers = header_lines(text)
    comments = [number for number, line in lines.items() if re.search(r'(^|\s)#(?!\|) ?\w', line)]
    return dict(code=len(lines), wide=sum(len(line) > 120 for line in lines.values()),
                comments=sum(number not in headers for number in comments))


def measure(path: Path) -> dict:
    "The counts of one notebook: lines of each export cell, lines of code, words of prose, cells by what they are for."
    counts = Counter(cells=0)
    export = []
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown': counts['words'] += len(re.findall(r'\w+', text))
        if cell['cell_type'] != 'code' or not text.strip(): continue
        marks = set(re.findall(r'^\s*#\s*\|\s*(\w+)', text, flags=re.M))
        counts.update(count_code(text), cells=1, hidden='hide' in marks)
        if marks & {'export', 'exporti', 'exports'}: export.append(len(text.splitlines()))
        elif re.search(r'\btest_\w+\(|\bexpect_fail\(|^\s*assert\b', text, flags=re.M): counts['tests'] += 1
    return dict(counts, export=export)


def summarize(notebooks: list[dict]) -> dict:
    "What the table says of some notebooks; one that exports nothing has no export cell to measure."
    export = [length for notebook in notebooks for length in notebook['export']]
    total = Counter()
    for notebook in notebooks: total.update({key: n for key, n in notebook.items() if key != 'export'})
    code = max(1, total['code'])
    row = dict(words=total['words'] / code, hidden=total['hidden'] / max(1, total['cells']),
               comments=100 * total['comments'] / code, wide=total['wide'] / code, lines=sum(export))
    if export: row.update(median=statistics.median(export), largest=max(export), tests=total['tests'] / len(export))
    return row


COLUMNS = {   # name -> the two lines of its heading, and the format of its values
    'median': ('export', 'median', '.0f'), 'largest': ('cells', 'largest', '.0f'), 'lines': ('export', 'lines', '.0f'),
    'words': ('words per', 'code line', '.1f'), 'tests': ('test cells', 'per export', '.1f'),
    'hidden': ('hidden', 'cells', '.0%'), 'comments': ('comments', 'in 100', '.1f'),
    'wide': ('over 120', 'columns', '.1%'),
}


def print_row(name: str, row: dict):
    "A row of the table; what nobody measured stays empty."
    print(f'{name:32}' + ''.join(f'{format(row[key], form) if key in row else "":>11}'
                                 for key, (_, _, form) in COLUMNS.items()))


def main(folder: str = 'nbs'):
    "Print the table: a line per notebook, all of them together, and others' projects."
    measured = {str(path.relative_to(folder).with_suffix('')): measure(path)
                for path in sorted(Path(folder).rglob('*.ipynb'))}
    for line in (0, 1): print(' ' * 32 + ''.join(f'{heading[line]:>11}' for heading in COLUMNS.values()))
    for name, counts in measured.items(): print_row(name, summarize([counts]))
    print_row('all', summarize(list(measured.values())))
    for name, row in PEERS.items(): print_row(name, row)


if __name__ == '__main__': main(*sys.argv[1:])

"""Print README.md from nbs/index.ipynb.

    python tools/readme.py

Prose stays, code becomes a fenced block with its output below, pictures go to README_files/. Cells with
`#| hide` are left out, and so is the code of cells with `#| echo: false`. Links are rewritten: those in
the notebook start from nbs/, those in the README from the root.
"""
import base64
import json
import posixpath
import re
import shutil
from pathlib import Path

PICTURES = Path('README_files')


def from_root(text: str) -> str:
    "Markdown with its relative links starting from the root of the project."
    def moved(match): return '](' + posixpath.normpath(posixpath.join('nbs', match[1]))
    return re.sub(r'\]\((?![a-z]+:|[#/])([^)\s]+)', moved, text)


def shown(cell: dict, output: dict) -> str:
    "An output as Markdown: a picture if there is one, else Markdown, else text."
    data = output.get('data', {})
    if 'image/png' in data:
        PICTURES.mkdir(exist_ok=True)
        picture = PICTURES/f"{cell['id']}.png"
        picture.write_bytes(base64.b64decode(''.join(data['image/png'])))
        return f'![]({picture.as_posix()})'
    if 'text/markdown' in data: return from_root(''.join(data['text/markdown']))
    text = ''.join(output.get('text', data.get('text/plain', ''))).rstrip()
    return f'```text\n{text}\n```' if text else ''


def blocks(cell: dict) -> list[str]:
    "The Markdown blocks of one cell."
    text = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown': return [from_root(text)]
    if cell['cell_type'] != 'code' or re.search(r'^#\|\s*hide\b', text, flags=re.M): return []
    echo = not re.search(r'^#\|\s*echo:\s*false', text, flags=re.M)
    code = re.sub(r'^#\|.*\n?', '', text, flags=re.M).strip()
    return ([f'```python\n{code}\n```'] if code and echo else []) + [shown(cell, output) for output in cell['outputs']]


def main():
    "Write README.md and its pictures anew."
    shutil.rmtree(PICTURES, ignore_errors=True)
    cells = json.loads(Path('nbs/index.ipynb').read_text(encoding='utf-8'))['cells']
    text = '\n\n'.join(block for cell in cells for block in blocks(cell) if block)
    Path('README.md').write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__': main()

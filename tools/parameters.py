"""Print the parameters cell of each notebook in kaggle/ from its dataclass of settings.

    python tools/parameters.py          # `make ready` does it

So each setting is written once, in the dataclass.
"""
import inspect
import io
import json
import tokenize
from dataclasses import fields
from importlib import import_module
from pathlib import Path

from shutka.faces.notebooks import SETTINGS_CLASSES

MORE = '# More: most people leave these as they are.'


def field_comments(kind: type) -> dict[str, str]:
    "The comment beside each field, also of the fields that a dataclass inherits."
    found = {}
    for owner in reversed(kind.__mro__[:-1]):
        names, last = owner.__dict__.get('__annotations__', {}), ''
        for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(owner)).readline):
            starts_line = token.line.strip().startswith(f'{token.string}:')
            if token.type == tokenize.NAME and starts_line and token.string in names: last = token.string
            if token.type == tokenize.COMMENT and last: found[last] = token.string.lstrip('# ')
            if token.type in (tokenize.COMMENT, tokenize.NEWLINE): last = ''
    return {field.name: found[field.name] for field in fields(kind)}


def parameters_cell(kind: type) -> str:
    "A line for each field: what most people set first, then what the class has of its own, then what it inherits."
    comments, by_name = field_comments(kind), {field.name: field for field in fields(kind)}
    names = [name for owner in kind.__mro__ for name in owner.__dict__.get('__annotations__', {})]
    more = [name for name in dict.fromkeys(names) if name in by_name and name not in kind.first]

    def line(name: str) -> str:
        field = by_name[name]
        return f'{name}: {field.type.__name__} = {field.default!r}  # {comments[name]}'
    lines = [*map(line, kind.first)]
    if more: lines += ['', MORE, *map(line, more)]
    return '\n'.join(lines)


def main():
    "Rewrite the notebooks whose cell differs; a second time changes nothing."
    for name, (module, kind) in SETTINGS_CLASSES.items():
        path = Path('kaggle')/f'{name}.ipynb'
        before = path.read_text(encoding='utf-8')
        notebook = json.loads(before)
        [cell] = [cell for cell in notebook['cells'] if 'parameters' in cell['metadata'].get('tags', [])]
        cell['source'] = parameters_cell(getattr(import_module(module), kind)).splitlines(keepends=True)
        after = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + '\n'
        if after != before: path.write_text(after, encoding='utf-8')


if __name__ == '__main__': main()

"""The front page does what it says: its snippets run on what `make demo` makes, its commands have their options."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from shutka.faces.cli import shutka as cli
from shutka.faces.notebooks import find_notebook, read_parameters

ROOT = Path(__file__).parents[1]
README = (ROOT/'README.md').read_text(encoding='utf-8')
SNIPPETS = re.findall(r'```python\n(.*?)```', README, flags=re.S)
BLOCKS = re.findall(r'(?:\n    .*)+', README)


def find_commands():
    "The lines that begin with shutka, whole and without their comments."
    lines = '\n'.join(BLOCKS).replace('\\\n', ' ').splitlines()
    return [line.partition(' #')[0].strip() for line in lines if line.strip().startswith('shutka ')]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder in which the first command of `make demo` ran, with fewer epochs."
    folder = tmp_path_factory.mktemp('readme')
    (folder/'shutka').symlink_to(ROOT/'shutka')
    command = next(line for line in (ROOT/'Makefile').read_text().splitlines() if 'shutka run typescript' in line)
    settings = re.sub(r'-p epochs \d+', '-p epochs 4', command.strip()).removeprefix('shutka')
    subprocess.run([sys.executable, '-m', 'shutka.faces.cli', *shlex.split(settings)], cwd=folder, check=True,
                   env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True)
    return folder


@pytest.fixture
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def test_snippets_are_known():
    "A new one gets a test of its own below."
    assert [re.search(r'= shutka\.load\(.([\w/.-]+)', code)[1] for code in SNIPPETS] == [
        'demo/typescript/shutka-typescript.zip', 'demo/typescript']


def test_a_bundle_finds(there):
    names = {}
    exec(SNIPPETS[0], names)
    (first, second), = names['words'] @ names['code'].T
    assert '# cosines: the first is larger' in SNIPPETS[0] and first > second + .1


def test_ten_lines_of_memory(there):
    "Each line's comment, in its order."
    names = {}
    lines = SNIPPETS[1].splitlines()
    question = re.search(r"search\('(.*?)'", SNIPPETS[1])[1]
    def find(): return names['bank'].search(question, k=1)[0]
    for line in lines:
        exec(line, names)
        if 'the folder is made' in line: assert (there/'memory').is_dir()
        if 'bank.search(' in line:
            assert names['hit'].metadata['name'] == line.partition('# ')[2].strip()
            old = names['hit'].text
        if 'finds the corrected one' in line: assert find().text == old + '  // checked'
        if 'the old one again' in line: assert find().text == old
    assert sum('#' in line for line in lines) == 6


@pytest.mark.parametrize('line', find_commands())
def test_a_command_is_there(line):
    "With each of its options; parameters of a notebook are its own."
    command, words = cli, shlex.split(line)[1:]
    while isinstance(command, click.Group): command = command.get_command(None, words.pop(0))
    assert command, line
    known = {name for option in command.params for name in option.opts}
    assert {word for word in words if word.startswith('-')} <= known, line
    if words and command.name in ('run', 'push') and '-p' in known:
        parameters = {p.name for p in read_parameters(find_notebook(words[0]))}
        assert {words[i + 1] for i, word in enumerate(words) if word == '-p'} <= parameters, line


def test_make_demo_and_make_test_come_first():
    assert re.findall(r'^    (make \w+)', README, flags=re.M)[:2] == ['make demo', 'make test']

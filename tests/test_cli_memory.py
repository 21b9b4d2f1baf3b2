"`shutka memory`: every command, with a model and without; what it prints is what the database holds."
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.faces import cli

ADD = '/** Adds two numbers. */\nexport function add(a: number, b: number) { return a + b; }\n'
WRITES = ('add', 'delete', 'update', 'sync', 'undo', 'reencode', 'forget', 'compact')
DAYS = ('/** Counts the days of a month. */\n'
        'export function days(y: number, m: number) { return new Date(y, m, 0).getDate(); }\n')


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "Each test runs in a folder of its own that holds a little code."
    monkeypatch.chdir(tmp_path)
    Path('src').mkdir()
    Path('src/add.ts').write_text(ADD)


@pytest.fixture(scope='module')
def models():
    "Two small models that differ."
    import torch
    from small import SMALL

    from shutka.models.text_jepa import TextJEPA
    torch.manual_seed(0)
    return {'one': TextJEPA(SMALL).eval(), 'two': TextJEPA(SMALL).eval()}


@pytest.fixture
def bundles(models, monkeypatch):
    "one.zip and two.zip as bundles; the list tells which were loaded."
    module, loaded = types.ModuleType('shutka.evaluate.comparison'), []

    def open_embedder(path):
        if (text := Path(path).read_text()) not in models: raise UserError(f"{path} is damaged")
        loaded.append(text)
        return types.SimpleNamespace(model=models[text])
    module.open_embedder = open_embedder
    monkeypatch.setitem(sys.modules, 'shutka.evaluate.comparison', module)
    for name in models: Path(f'{name}.zip').write_text(name)
    return loaded


@pytest.fixture
def shutka(capsys):
    "Run `shutka memory ... --bank b` and give what it prints; of an error, what it says."
    def run(*words: str, code: int = 0, bank: str = 'b') -> str:
        assert cli.run_command(['memory', *words, '--bank', bank]) == code
        out, err = capsys.readouterr()
        assert 'Traceback' not in err
        if words[0] in WRITES and not code and '--dry' not in words and bank == 'b':
            told = re.search(r'([\d,]+) memor(?:y|ies) in b\n$', out)
            assert int(told[1].replace(',', '')) == len(live())
        return err if code and err else out
    return run


def live(bank: str = 'b') -> list[str]:
    "The texts in the database, asked of SQLite."
    with sqlite3.connect(f'{bank}/bank.sqlite') as db:
        found = [text for text, in db.execute('SELECT text FROM items WHERE deleted_by IS NULL ORDER BY id')]
    db.close()
    return found


def test_words_only(shutka):
    told = shutka('add', 'parse a date', 'sort the rows')
    assert told == 'added memories 1 to 2, to be found by words only (operation 1); 2 memories in b\n'
    found = shutka('search', 'date parsing of a date')
    assert 'by words only' in found and '[1]' in found and '[2]' not in found
    assert 'by words only' not in shutka('search', 'date', '--how', 'words')
    for how in ('dense', 'hybrid'):
        assert 'shutka memory reencode BUNDLE --bank b' in shutka('search', 'date', '--how', how, code=2)
    assert 'memory 1 is now memory 3 (operation 2)' in shutka('update', '1', 'parse a time')
    assert live() == ['sort the rows', 'parse a time']
    assert 'deleted 2 (operation 3); 0 memories' in shutka('delete', '2', '3')
    assert 'undid operation 3, delete: 2 came back, 0 went (operation 4); 2 memories' in shutka('undo')
    assert 'undid operation 1, add: ' not in shutka('undo')
    assert live() == ['parse a date', 'sort the rows']
    assert 'undid operation 5, undo: ' in shutka('undo', '5')
    assert shutka('verify') == 'no fault in 2 memories; operations: 6\n'
    told = shutka('stats')
    assert 'by words only: the bank has no model' in told and '2, undone' not in told and '(none)' in told


def test_add_from_files(shutka, monkeypatch):
    Path('lines.txt').write_text('one text\n{ return 2 }\n')
    rows = [{'text': 'a\u2028b\n"c"', 'metadata': {'source': 'mine', 'version': '1'}}, {'text': 'größer'}]
    Path('rows.jsonl').write_text('\n'.join(json.dumps(row, ensure_ascii=False) for row in rows) + '\n')
    assert 'memories 1 to 3' in shutka('add', 'from the shell', '-i', 'lines.txt')
    shutka('add', '-i', 'rows.jsonl')
    monkeypatch.setattr('sys.stdin', open('rows.jsonl'))
    shutka('add', '-')
    assert live() == ['from the shell', 'one text', '{ return 2 }', *[row['text'] for row in rows]*2]
    assert shutka('export', 'out.jsonl') == 'wrote 7 memories to out.jsonl\n'
    shutka('add', '-i', 'out.jsonl', bank='copy')
    assert live('copy') == live()
    assert '--force' in shutka('export', 'out.jsonl', code=2)
    shutka('export', 'out.jsonl', '--force')


@pytest.mark.parametrize('content, told', [
    ('{"text": "a"}\n{"text"\n', 'bad:2: not valid JSON'), ('{"words": "a"}', 'bad:1: each line'),
    ('{"text": "a"}\n[1]', 'bad:2: each line'), ('{"text": "a", "more": 1}', 'bad:1: each line'),
    ('{"text": "a", "metadata": 3}', 'must be a dict'), ('{"text": 3}', 'must be a str'),
    ('a\n\nb', 'bad:2: each line'), (b'\xff', 'must be UTF-8'), ('', 'at least one text'),
])
def test_bad_files(content, told, shutka):
    Path('bad').write_bytes(content if isinstance(content, bytes) else content.encode())
    assert told in shutka('add', '-i', 'bad', code=2)
    assert not Path('b').exists() or live() == []


def test_where(shutka):
    rows = [{'text': f'parse a date {v}', 'metadata': {'source': 'npm:d', 'version': v}} for v in '123']
    Path('rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    shutka('add', '-i', 'rows.jsonl')
    found = shutka('search', 'date', '--where', 'source', 'npm:d', '--where', 'version', '1', '--where', 'version', '3')
    assert '2 of 3 memories' in found and 'npm:d 1' in found and 'npm:d 3' in found and 'npm:d 2' not in found
    assert '1 of 3' in shutka('search', 'date', '-k', '1')
    assert 'must be a name' in shutka('search', 'date', '--where', "a'b", 'c', code=2)
    assert all(['npm:d', v, '1'] in map(str.split, shutka('stats').splitlines()) for v in '123')


def test_sync(shutka):
    assert shutka('sync', 'dir:src', '--dry').startswith('would be: dir:') and not Path('b').exists()
    assert ': 1 added, 0 changed, 0 deleted, 0 unchanged (operation 1); 1 memory in b' in shutka('sync', 'dir:src')
    Path('src/days.ts').write_text(DAYS)
    Path('src/add.ts').write_text(ADD.replace('a + b', 'b + a'))
    before = live()
    assert ': 1 added, 1 changed, 0 deleted' in shutka('sync', 'dir:src', '--dry') and live() == before
    assert ': 1 added, 1 changed, 0 deleted, 0 unchanged (operation 2); 2 memories' in shutka('sync', 'dir:src')
    assert ': 0 added, 0 changed, 0 deleted, 2 unchanged; 2 memories' in shutka('sync', 'dir:src')
    assert 'undid operation 2, sync: 1 came back, 2 went' in shutka('undo') and live() == before


def test_sync_of_several_tells_apart(shutka, capsys):
    shutil.copytree('src', 'more')
    Path('more/broken.ts').write_text('let = = 2')
    assert cli.run_command(['memory', 'sync', 'dir:src', 'dir:more', '--bank', 'b']) == 0
    out, err = capsys.readouterr()
    assert out.count('1 added') == len(out.splitlines()) == 2 and err == 'left out broken.ts: line 1 does not parse\n'


def test_what_people_changed(shutka, capsys):
    Path('src/days.ts').write_text(DAYS)
    shutka('sync', 'dir:src')
    shutka('update', '1', 'function add() {} // mind the sign')
    shutka('delete', '2')
    Path('src/add.ts').write_text(ADD.replace('a + b', 'b + a'))
    Path('src/days.ts').write_text(DAYS + DAYS.replace('days(', 'more('))
    assert cli.run_command(['memory', 'sync', 'dir:src', '--bank', 'b']) == 0
    out, err = capsys.readouterr()
    assert 'left out as deleted by hand: 1 (days.ts days)' in err and 'overwrite takes the new text): 1 (add.ts' in err
    assert '1 added, 0 changed, 0 deleted, 1 unchanged' in out and 'mind the sign' in live()[0] and len(live()) == 2
    assert ': 1 added, 1 changed, 0 deleted, 1 unchanged' in shutka('sync', 'dir:src', '--overwrite')
    assert not any('sign' in text for text in live()) and len(live()) == 3


def test_forget(shutka):
    shutka('sync', 'dir:src')
    shutil.rmtree('src')
    assert f'`shutka memory forget dir:{Path("src").resolve()}`' in shutka('sync', 'dir:src', code=2)
    assert shutka('forget', 'dir:src', '--dry').startswith('would be: dir:/') and len(live()) == 1
    assert ': 0 added, 0 changed, 1 deleted, 0 unchanged (operation 2); 0 memories in b' in shutka('forget', 'dir:src')
    assert "unknown source 'dir:src'" in shutka('forget', 'dir:src', code=2)
    assert '1 came back' in shutka('undo') and len(live()) == 1
    assert 'holds no memory bank' in shutka('forget', 'dir:src', '--dry', code=2, bank='nowhere')


def test_compact(shutka):
    shutka('add', *[f'text {n} ' + 'x' * 5000 for n in range(20)])
    shutka('delete', *map(str, range(1, 20)))
    size = Path('b/bank.sqlite').stat().st_size
    told = shutka('compact')
    assert re.match(r'0 deleted texts and 0 vectors went, [\d,]+ bytes freed \(operation 3\); 1 memory', told)
    told = shutka('compact', '--keep', '0')
    assert told.startswith('19 deleted texts and 0 vectors went, ') and Path('b/bank.sqlite').stat().st_size < size / 2
    assert 'compacted away' in shutka('undo', '2', code=2) and shutka('verify').startswith('no fault')
    assert shutka('compact', '--keep', '-1', code=2)


def test_with_a_model(shutka, bundles):
    told = shutka('add', 'parse a date', 'sort the rows', '--model', 'one.zip')
    assert told == 'added memories 1 to 2 (operation 1); 2 memories in b\n'
    assert bundles == ['one']
    assert '2 of 2 memories\n' in shutka('search', 'parse it') and bundles == ['one'] * 2  # remembered
    assert '2 of 2 memories\n' in shutka('search', 'sort', '--how', 'dense')
    del bundles[:]
    shutka('search', 'sort', '--how', 'words')
    shutka('delete', '1')
    shutka('undo')
    told = shutka('stats')
    assert re.search(r'index +flat, 2 vectors, recall@10 1.00\n', told) and str(Path('one.zip').resolve()) in told
    assert shutka('verify').startswith('no fault in 2')
    assert bundles == []  # none of these reads a text
    shutka('sync', 'dir:src')
    shutka('sync', 'dir:src')
    assert bundles == ['one']
    assert 'memory 2 is now' in shutka('update', '2', 'sort the columns') and len(live()) == 3


def test_another_model(shutka, bundles):
    shutka('add', 'parse a date', '--model', 'one.zip')
    shutka('delete', '1')
    shutka('add', 'sort the rows')
    for words in (['search', 'x'], ['add', 'x'], ['update', '2', 'x'], ['sync', 'dir:src']):
        assert '`shutka memory reencode two.zip --bank b`' in shutka(*words, '--model', 'two.zip', code=2)
    assert live() == ['sort the rows']
    assert shutka('reencode', 'two.zip') == 'encoded 1; 1 memory in b\n'
    assert '1 of 1' in shutka('search', 'sort')
    del bundles[:]
    shutka('undo', '2')  # 'parse a date' comes back, and has no vector of this model
    assert bundles == ['two'] and shutka('verify').startswith('no fault in 2')


def test_words_first_then_a_model(shutka, bundles):
    shutka('add', 'parse a date')
    for words in (['search', 'x'], ['add', 'x'], ['sync', 'dir:src']):
        assert '`shutka memory reencode one.zip --bank b`' in shutka(*words, '--model', 'one.zip', code=2)
    assert bundles == [] and live() == ['parse a date']
    shutka('reencode', 'one.zip')
    assert 'by words only' not in shutka('search', 'x') and 'words only' not in shutka('stats')


def test_a_model_that_is_gone(shutka, bundles):
    shutka('add', 'parse a date', '--model', 'one.zip')
    Path('one.zip').rename('moved.zip')
    for words in (['search', 'x'], ['add', 'x'], ['sync', 'dir:src']):
        assert 'is not there any more' in shutka(*words, code=2)
    shutka('delete', '1')
    assert '1 came back' in shutka('undo') and bundles == ['one']  # nothing was to be read
    assert '1 of 1' in shutka('search', 'date', '--how', 'words')
    assert '1 of 1' in shutka('search', 'date', '--model', 'moved.zip')
    shutka('add', 'x', '--model', 'moved.zip')
    shutka('add', 'y')
    assert len(live()) == 3


@pytest.mark.parametrize('words', [
    ['add'], ['add', 'x', '--model', 'nowhere.zip'], ['add', ' '], ['add', '-i', 'nowhere'], ['search', 'x'],
    ['search', 'x', '-k', '0'], ['delete'], ['delete', 'x'], ['stats'], ['verify'], ['export', 'x.jsonl'],
    ['reencode', 'nowhere.zip'], ['sync'], ['sync', 'dri:src'], ['sync', 'dir:nowhere'],
    ['undo'], ['undo', '7'], ['update', '1', 'x'], ['delete', '1'],
])
def test_refused(words, shutka):
    assert re.search(r"error: \S.*\n$", shutka(*words, code=2), re.IGNORECASE)
    assert not Path('x.jsonl').exists() and (not Path('b/bank.sqlite').exists() or live() == [])


def test_bank_must_be_given(capsys):
    assert cli.run_command(['memory', 'stats']) == 2
    assert '--bank' in capsys.readouterr().err


def test_two_writers(shutka, monkeypatch):
    from shutka.memory.bank import Bank
    with Bank('b') as bank:
        bank.add('parse a date')
        assert 'added memory 2' in shutka('add', 'x')  # who has it open does not keep others from writing
        assert 'memory 2 is now memory 3' in shutka('update', '2', 'sorted') and len(bank) == 2
        with bank.store.alone():
            monkeypatch.setattr(Bank.__init__, '__defaults__', (None, False, 0))
            assert 'is being written by process ' in shutka('add', 'x', code=2)
            assert '1 of 2' in shutka('search', 'date')


def test_four_at_once(shutka):
    "Each waits its turn, on a bank that none of them finds there."
    command = 'import sys; from shutka.faces.cli import run_command; sys.exit(run_command(sys.argv[1:]))'
    start = [sys.executable, '-c', command, 'memory', 'add', '--bank', 'b']
    running = [subprocess.Popen([*start, f'text {n}'], stderr=subprocess.PIPE, text=True) for n in range(4)]
    said = [(process.communicate()[1], process.returncode) for process in running]
    assert said == [('', 0)] * 4 and sorted(live()) == [f'text {n}' for n in range(4)]
    assert shutka('verify') == 'no fault in 4 memories; operations: 4\n'


def test_faults(shutka):
    shutka('add', 'parse a date', 'sort the rows')
    with sqlite3.connect('b/bank.sqlite') as db: db.execute("UPDATE items SET text = 'parse a dat' WHERE id = 1")
    db.close()
    assert 'the text of memory 1 is not the one that was stored\n' in shutka('verify', code=2)
    Path('b/bank.sqlite').write_bytes(b'nonsense' * 1000)
    assert shutka('verify', code=2).startswith('error: b/bank.sqlite')


def test_damaged_index_is_only_a_warning(shutka, bundles, capsys):
    shutka('add', 'parse a date', '--model', 'one.zip')
    file, = Path('b/index').glob('*.faiss')
    file.write_bytes(file.read_bytes()[:-1] + b'?')
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        assert cli.run_command(['memory', 'search', 'date', '--bank', 'b']) == 0
    out, err = capsys.readouterr()
    assert '1 of 1' in out and err.startswith('warning: the index in b/index is not used') and '.py' not in err

"Builds of a code data set: the same bytes however often they were killed and by how many processes, and bad input."
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.dataset.build import BUILD_STEPS, build_dataset
from shutka.dataset.records import METADATA_FILE, SPLIT_FILES
from shutka.dataset.settings import DatasetSettings
from shutka.dataset.shards import read_ds
from shutka.faces import cli

quiet = lambda line: None
LICENCE = 'SPDX-License-Identifier: MIT\n'
SMALL = dict(length=64, vocabulary=600)


def write_code(seed: int, lines: int = 14) -> str:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 10_000, (lines, 2))
    body = [f'    value_{a % 99} = work(x, {b})  # step {n}' for n, (a, b) in enumerate(numbers)]
    return f'def task_{seed}(x, other=None):\n' + '\n'.join(body) + f'\n    return value_{rng.integers(0, 99)}, x\n'


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp('code')
    (folder/'LICENSE').write_text(LICENCE)
    for i in range(48):
        place = folder/('src', 'tools', 'tests')[i % 3]
        place.mkdir(exist_ok=True)
        (place/f'task{i}.py').write_text(write_code(i))
    (folder/'src'/'again.py').write_text(write_code(0))
    (folder/'src'/'nearly.py').write_text(write_code(3).replace('return', 'print(x)\n    return'))
    (folder/'tools'/'key.py').write_text(write_code(70) + 'key = "AKIA' + 'ABCDEFGHIJKLMNOP"\n')
    return folder


def hash_files(out: Path) -> dict[str, str]:
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob('*')) if path.is_file()}


def build(tree, out, **more):
    given = {'source': f'dir:{tree}', 'out': str(out), 'workers': 1} | SMALL | more
    return build_dataset(DatasetSettings(**given), quiet)


@pytest.fixture(scope='module')
def built(tree, tmp_path_factory):
    os.environ['SOURCE_DATE_EPOCH'] = '1700000000'
    out = tmp_path_factory.mktemp('built')/'data'
    report = build(tree, out)
    yield out, report
    del os.environ['SOURCE_DATE_EPOCH']


def read(out, part): return [json.loads(line) for line in (out/SPLIT_FILES[part]).read_text().splitlines()]


def test_a_build_passes_its_checks_and_leaves_nothing_behind(built):
    out, report = built
    failed = [check for check in report.checks if check.verdict != 'passed']
    assert [check.name for check in failed if check.name != 'dataset_split_ratio'] == [], failed
    assert not (out/'.build').exists() and (out/'report.html').is_file()
    summary = json.loads((out/METADATA_FILE).read_text())
    assert summary['creation_date'] == '2023-11-14T22:13:20Z' and summary['files']['secrets'] == {'AWS_KEY': 1}
    every = [row for part in SPLIT_FILES for row in read(out, part)]
    there = {row['metadata']['source_file'] for row in every}
    for copy, first in (('src/again.py', 'src/task0.py'), ('src/nearly.py', 'src/task3.py')):
        assert not {copy, first} <= there
    assert {row['metadata']['license'] for row in every} == {'MIT'}
    assert {row['metadata']['priority'] for row in every} == {'high', 'medium', 'low'}


def test_shards_hold_the_sequences_that_are_no_masked_ones(built):
    out, _ = built
    for part in SPLIT_FILES:
        wanted = [row['tokens'][:row['metadata']['length']] for row in read(out, part)
                  if row['metadata']['augmentation_type'] != 'token_masking']
        assert [tokens.tolist() for tokens in read_ds(out/f'{part}.ds', 'uint16')] == wanted


def test_masked_sequences_say_what_stood_there(built):
    out, _ = built
    rows = [row for row in read(out, 'train') if row['metadata']['augmentation_type'] == 'token_masking']
    mask, shares = json.loads((out/METADATA_FILE).read_text())['mask_token_id'], []
    for row in rows:
        hidden = [i for i, label in enumerate(row['labels']) if label != -100]
        assert all(row['tokens'][i] == mask for i in hidden) and all(i < row['metadata']['length'] for i in hidden)
        shares.append(len(hidden) / row['metadata']['length'])
    assert .06 < np.mean(shares) < .14


def test_two_processes_make_the_same_bytes(built, tree, tmp_path, monkeypatch):
    from shutka.dataset import preparation as room
    from shutka.dataset.pieces import deal_files
    monkeypatch.setattr(room, 'deal_files', lambda numbers, sizes, bins: deal_files(numbers, sizes, 4_000, bins))
    build(tree, tmp_path/'data', workers=2)
    assert hash_files(tmp_path/'data') == hash_files(built[0])


def test_a_tree_that_was_moved_gives_the_same_sequences(built, tree, tmp_path):
    shutil.copytree(tree, tmp_path/'moved'/tree.name)
    build(tmp_path/'moved'/tree.name, tmp_path/'data')
    for name in SPLIT_FILES.values(): assert (tmp_path/'data'/name).read_bytes() == (built[0]/name).read_bytes()


CHILD = """
import os, signal, sys
from shutka.dataset.build import build_dataset
from shutka.dataset.settings import DatasetSettings
left = int(sys.argv[3])
def count(*_):
    global left
    left -= 1
    if left == 0: os.kill(os.getpid(), signal.SIGKILL)
settings = DatasetSettings(source=f'dir:{sys.argv[1]}', out=sys.argv[2], workers=1, length=64, vocabulary=600)
build_dataset(settings, count, lambda what, total: count)
"""


def run_child(tree, out, events: int) -> int:
    return subprocess.run([sys.executable, '-c', CHILD, str(tree), str(out), str(events)], timeout=120,
                          env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[1])}).returncode


@pytest.mark.parametrize('events', [30, pytest.param(70, marks=pytest.mark.faults)])
def test_a_build_that_is_killed_goes_on(built, tree, tmp_path, events):
    assert run_child(tree, tmp_path/'data', events) == -signal.SIGKILL
    build(tree, tmp_path/'data')
    assert hash_files(tmp_path/'data') == hash_files(built[0])


@pytest.mark.faults
def test_ten_kills_one_after_the_other(built, tree, tmp_path):
    killed = sum(run_child(tree, tmp_path/'data', events) == -signal.SIGKILL for events in range(5, 105, 10))
    build(tree, tmp_path/'data')
    assert killed >= 5 and hash_files(tmp_path/'data') == hash_files(built[0])


def test_a_finished_one_is_verified_and_another_is_refused(built, tree):
    out, _ = built
    before = hash_files(out)
    assert build(tree, out).checks and hash_files(out) == before
    with pytest.raises(UserError, match='another seed; name another folder'): build(tree, out, seed=1)


@pytest.mark.parametrize('make, says', [
    (lambda folder: None, 'holds none'),
    (lambda folder: (folder/'a.txt').write_text('x'), 'holds none'),
    (lambda folder: (folder/'a.py').write_text('x = 1\n'), 'at least 3 files'),
    (lambda folder: [(folder/f'{i}.py').write_text(write_code(1)) for i in range(5)], 'at least 3 files')])
def test_too_little_is_said(make, says, tmp_path):
    (tmp_path/'code').mkdir()
    make(tmp_path/'code')
    with pytest.raises(UserError, match=says): build(tmp_path/'code', tmp_path/'data')
    assert not (tmp_path/'data'/METADATA_FILE).exists()


def test_a_tree_with_only_tests_is_built(tmp_path):
    (tmp_path/'code'/'tests').mkdir(parents=True)
    for i in range(6): (tmp_path/'code'/'tests'/f'test_{i}.py').write_text(write_code(i))
    build(tmp_path/'code', tmp_path/'data')
    assert {row['metadata']['weight'] for row in read(tmp_path/'data', 'train')} == {.3}


@pytest.mark.parametrize('write', [0, 3, 6, 9, *(pytest.param(i, marks=pytest.mark.faults) for i in range(10, 30, 3))])
def test_a_disk_that_is_full_leaves_what_was_there(built, tree, tmp_path, monkeypatch, write):
    from shutka.core import files
    real, calls = os.fsync, []

    def full(fd):
        calls.append(fd)
        if len(calls) == write + 1: raise OSError(28, 'No space left on device')
        return real(fd)

    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(OSError, match='No space'): build(tree, tmp_path/'data')
    monkeypatch.setattr(files.os, 'fsync', real)
    build(tree, tmp_path/'data')
    assert hash_files(tmp_path/'data') == hash_files(built[0])


@pytest.fixture(scope='module')
def packed(built, tree, tmp_path_factory):
    out = tmp_path_factory.mktemp('packed')/'data'
    return out, build(tree, out, packing=True, fim=.5)


def test_packed_rows_have_all_of_each_file_once(packed, tree):
    out, report = packed
    assert {c.name for c in report.checks if c.verdict == 'failed'} <= {'dataset_split_ratio'}, report.describe()
    summary, pieces = json.loads((out/METADATA_FILE).read_text()), {}
    assert summary['overlap_tokens'] == 0 and 'fill_in_the_middle' in summary['augmentation_techniques']
    orders = set()
    for part in SPLIT_FILES:
        for row in read(out, part):
            about = row['metadata']
            if about['augmentation_type'] not in (None, 'fill_in_the_middle'): continue
            assert len({(s['source_file'].split('/')[0] == 'tests') for s in about['segments']}) == 1   # one weight
            orders |= {s['order'] for s in about['segments']}
            assert part == 'train' or not any(s['order'] for s in about['segments'])
            for s in about['segments']:
                pieces.setdefault((s['source_file'], s['of']), []).append((s['start'], s['stop']))
    assert orders == {'', 'prefix_suffix_middle', 'suffix_prefix_middle'}
    lost = 0
    for (_, of), parts in pieces.items():
        parts.sort()
        assert all(stop <= start for (_, stop), (start, _) in zip(parts, parts[1:])), parts   # nothing twice
        lost += of - sum(stop - start for start, stop in parts)
    assert lost < 64 * 3   # rows that leak, or stand in two parts
    again = json.loads((out/METADATA_FILE).read_text())['sequences_left_out']
    assert lost == 0 or sum(again.values()) > 0


def test_datasets_opens_it_and_keeps_it(packed, tmp_path):
    import datasets
    out, _ = packed
    files = {part: str(out/name) for part, name in SPLIT_FILES.items()}
    opened = datasets.load_dataset('json', data_files=files, cache_dir=str(tmp_path/'cache'))
    opened.save_to_disk(str(tmp_path/'saved'))
    again = datasets.load_from_disk(str(tmp_path/'saved'))
    for part in SPLIT_FILES:
        wanted = read(out, part)
        assert [row['tokens'] for row in again[part]] == [row['tokens'] for row in wanted]
        assert [row['labels'] for row in again[part]] == [row.get('labels') for row in wanted]
        assert [row['metadata']['segments'] for row in again[part]] == [row['metadata']['segments'] for row in wanted]


def test_packed_builds_are_the_same_by_two_processes(packed, tree, tmp_path):
    build(tree, tmp_path/'data', packing=True, fim=.5, workers=2)
    assert hash_files(tmp_path/'data') == hash_files(packed[0])


TASKS = """
import sys
from shutka.dataset.executors import build_with
from shutka.dataset.settings import DatasetSettings
settings = DatasetSettings(source=f'dir:{sys.argv[1]}', out=sys.argv[2], workers=2, length=64, vocabulary=600,
                           packing=True, fim=.5)
if __name__ == '__main__': build_with(settings, 'local', tasks=4)
"""


def start_tasks(tree, tmp_path) -> subprocess.Popen:
    (tmp_path/'tasks.py').write_text(TASKS)
    return subprocess.Popen([sys.executable, str(tmp_path/'tasks.py'), str(tree), str(tmp_path/'data')],
                            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[1])})


def test_two_workers_of_datatrove_make_the_same_bytes(packed, tree, tmp_path):
    assert start_tasks(tree, tmp_path).wait(120) == 0
    assert hash_files(tmp_path/'data') == hash_files(packed[0])
    assert {path.name for path in (tmp_path/'data.tasks').iterdir()} == {'prepare', 'pieces'}


@pytest.mark.faults
@pytest.mark.parametrize('pieces', [0, 1, 3])
def test_tasks_of_datatrove_that_were_killed_go_on(packed, tree, tmp_path, pieces):
    running = start_tasks(tree, tmp_path)
    store = tmp_path/'data'/'.build'/'store'
    while running.poll() is None and len(list(store.glob('*.json'))) < pieces: pass
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert start_tasks(tree, tmp_path).wait(120) == 0
    assert hash_files(tmp_path/'data') == hash_files(packed[0])


def test_no_text_of_a_benchmark_is_learned(built, tree, tmp_path):
    from shutka.dataset.word_tokens import open_raw_tokenizer
    rows, encoder = read(built[0], 'train'), open_raw_tokenizer(built[0]/'tokenizer')
    secret = encoder.decode(next(row for row in rows if row['metadata']['augmentation_type'] is None)['tokens'])
    (tmp_path/'bench.jsonl').write_text(json.dumps({'any': [{'name': secret}]}) + '\n')
    build(tree, tmp_path/'data', against=str(tmp_path/'bench.jsonl'))
    left_out = json.loads((tmp_path/'data'/METADATA_FILE).read_text())['sequences_left_out']
    assert left_out['a text of a benchmark'] > 0
    there = [encoder.decode(row['tokens']) for row in read(tmp_path/'data', 'train')]
    assert secret not in there and len(there) < len(rows)
    (tmp_path/'bench.jsonl').write_text('nothing')
    with pytest.raises(UserError, match='bench.jsonl:1'):
        build(tree, tmp_path/'other', against=str(tmp_path/'bench.jsonl'))


def test_special_tokens_in_a_file_are_letters(tmp_path):
    (tmp_path/'code').mkdir()
    for i in range(9):
        text = write_code(i) + f'mask = "<|mask|> <|endoftext|> <|pad|> <fim_middle> {i}"\n'
        (tmp_path/'code'/f'{i}.py').write_text(text)
    build(tmp_path/'code', tmp_path/'data', packing=True, fim=.5)
    about = json.loads((tmp_path/'data'/METADATA_FILE).read_text())
    for row in (row for part in SPLIT_FILES for row in read(tmp_path/'data', part)):
        if row['metadata']['augmentation_type'] == 'token_masking': continue
        tokens = row['tokens'][:row['metadata']['length']]
        gaps = sum(bool(s['order']) for s in row['metadata']['segments'])
        assert [tokens.count(token) for token in (about['mask_token_id'], about['pad_token_id'])] == [0, 0]
        assert [tokens.count(mark) for mark in about['fim_token_ids']] == [gaps] * 3


def test_a_tokenizer_without_a_mask_is_refused(tree, tmp_path):
    from shutka.models.lm_tokenizers import save_tokenizer, train_tokenizer
    save_tokenizer(tmp_path/'plain', train_tokenizer(['a b c'] * 5, 300))
    with pytest.raises(UserError, match='token_masking needs a tokenizer with a mask token'):
        build(tree, tmp_path/'data', tokenizer=str(tmp_path/'plain'))
    report = build(tree, tmp_path/'other', tokenizer=str(tmp_path/'plain'), augmentations='')
    assert report.passed or {c.name for c in report.checks if c.verdict == 'failed'} <= {'dataset_split_ratio'}


def test_the_command_says_eight_steps(tree, tmp_path, capsys):
    words = ['data', 'build', f'dir:{tree}', '-o', str(tmp_path/'data'), '--length', '64', '--vocabulary', '600',
             '--workers', '1']
    code = cli.run_command(words)
    said = capsys.readouterr().out
    assert all(f'[{i}/8] {name}' in said for i, name in enumerate(BUILD_STEPS, 1)) and code in (0, 1)
    assert cli.run_command(['data', 'verify', str(tmp_path/'data'), '-o', str(tmp_path/'page')]) == code
    assert (tmp_path/'page'/'report.html').is_file()
    assert cli.run_command(['data', 'build', 'nothing', '-o', str(tmp_path/'no')]) == 2
    assert cli.run_command(['data', 'build', f'dir:{tree}', '-o', str(tmp_path/'no'), '--augmentations', 'all']) == 2
    assert not (tmp_path/'no').exists()

"A data set of which all is well, and one fault at a time planted in it: each is found by the check that names it."
import json
import shutil

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.core.hashes import sha256
from shutka.dataset.records import (
    FILES_FILE,
    METADATA_FILE,
    SPLIT_FILES,
    SUMMARY_KEYS,
    TOKENIZER_FOLDER,
    describe_weighting,
    make_record,
)
from shutka.dataset.sequences import list_windows
from shutka.dataset.settings import AUGMENTATION_KINDS
from shutka.dataset.verification import verify_dataset
from shutka.models.lm_tokenizers import save_tokenizer, train_tokenizer

LENGTH = 64


def write_code(i: int) -> str:
    rng = np.random.default_rng(i)
    lines = [f'    value_{rng.integers(0, 10_000)} = work_{rng.integers(0, 10_000)}({n})' for n in range(4)]
    return f'def task_{i}(x):\n' + '\n'.join(lines) + '\n    return x\n'


def list_records(tokenizer, i: int, kind=None) -> list[dict]:
    tokens = np.array(tokenizer.encode(write_code(i).replace('(x)', '(y)').replace('return x', 'return y') if kind else
                                       write_code(i)))
    windows = list_windows(len(tokens), LENGTH)
    priority = ('high', 'medium', 'low')[i % 3]
    return [make_record(tokens[a:b], LENGTH, 0, f'{i}-{kind}-{n}', f'src/task{i}.py', priority, kind, chunk_index=n,
                        total_chunks=len(windows), complexity=i / 100, start=a, language='python', license='MIT',
                        repo='r', commit='', split_group=f'task{i}') for n, (a, b) in enumerate(windows)]


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp('good')
    tokenizer = train_tokenizer([write_code(i) for i in range(100)], 600)
    save_tokenizer(folder/TOKENIZER_FOLDER, tokenizer)
    parts = {'train': range(85), 'val': range(85, 95), 'test': range(95, 100)}
    rows = {part: [row for i in numbers for row in list_records(tokenizer, i)] for part, numbers in parts.items()}
    kinds = AUGMENTATION_KINDS[:2]
    rows['train'] += [row for i in parts['train'] for kind in kinds[:1] for row in list_records(tokenizer, i, kind)]
    rows['train'].sort(key=lambda row: row['metadata']['complexity'])
    for part, some in rows.items(): write(folder/SPLIT_FILES[part], some)
    every = [row for some in rows.values() for row in some]
    base = sum(row['metadata']['augmentation_type'] is None for row in every)
    counts = {f'{part}_sequences': len(some) for part, some in rows.items()}
    summary = dict.fromkeys(SUMMARY_KEYS, '') | counts | dict(
        total_sequences=len(every), base_sequences=base, augmented_sequences=len(every) - base,
        vocab_size=len(tokenizer), total_tokens=sum(row['metadata']['length'] for row in every), pad_token_id=0,
        max_tokens_per_sequence=LENGTH, augmentation_techniques=list(kinds[:1]),
        weighting_strategy=describe_weighting())
    (folder/METADATA_FILE).write_text(json.dumps(summary))
    write(folder/FILES_FILE, [dict(repo='r', source_file=f'src/task{i}.py', sha256=sha256(write_code(i)))
                              for i in range(100)])
    return folder


def read(path) -> list[dict]: return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, rows): path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def find_failed(place) -> set[str]:
    return {check.name for check in verify_dataset(place).checks if check.verdict == 'failed'}


def test_all_is_well(good):
    report = verify_dataset(good)
    assert report.passed and {check.verdict for check in report.checks} == {'passed'}, report.describe()


def change_rows(part, change):
    def plant(folder):
        path = folder/SPLIT_FILES[part]
        rows = read(path)
        write(path, change(rows) or rows)
    return plant


def change_summary(**news):
    def plant(folder):
        value = json.loads((folder/METADATA_FILE).read_text())
        (folder/METADATA_FILE).write_text(json.dumps({k: v for k, v in (value | news).items() if v is not None}))
    return plant


def set_value(number, key, value):
    def change(rows): rows[number]['metadata'][key] = value
    return change


def set_tokens(number, make):
    def change(rows): rows[number]['tokens'] = make(rows[number]['tokens'])
    return change


def copy_into_train(folder):
    [row, *_] = read(folder/SPLIT_FILES['val'])
    row['metadata'] |= {'complexity': 9.}   # at the end, where it belongs
    with open(folder/SPLIT_FILES['train'], 'a') as f: f.write(json.dumps(row) + '\n')


def move_windows(rows):
    for row in rows: row['metadata']['start'] += 3


def break_augmented(rows):
    for row in rows:
        if row['metadata']['augmentation_type']: row['tokens'][:8] = row['tokens'][8:16]


FAULTS = {
    'metadata file gone': (lambda folder: (folder/METADATA_FILE).unlink(), 'metadata_file_exists'),
    'a wrong count': (change_summary(train_sequences=7), 'metadata_content'),
    'a key of the summary gone': (change_summary(learning_strategy=None), 'metadata_content'),
    'wrong weights in the summary': (change_summary(weighting_strategy={'high_priority': 2}), 'metadata_content'),
    'no validation file': (lambda folder: (folder/SPLIT_FILES['val']).unlink(), 'val_file_exists'),
    'no test file': (lambda folder: (folder/SPLIT_FILES['test']).unlink(), 'test_file_exists'),
    'no training file': (lambda folder: (folder/SPLIT_FILES['train']).unlink(), 'train_file_exists'),
    'an empty file': (lambda folder: (folder/SPLIT_FILES['val']).write_text(''), 'val_file_format'),
    'a line that is cut off': (
        lambda folder: (folder/SPLIT_FILES['train']).write_bytes((folder/SPLIT_FILES['train']).read_bytes()[:-40]),
        'train_file_format'),
    'tokens that are texts': (change_rows('val', set_tokens(0, lambda t: ['a', *t[1:]])), 'val_file_format'),
    'a negative token': (change_rows('val', set_tokens(0, lambda t: [-1, *t[1:]])), 'val_file_format'),
    'a shorter sequence': (change_rows('train', set_tokens(3, lambda t: t[:-1])), 'sequence_token_count'),
    'another window than told': (change_summary(max_tokens_per_sequence=128), 'context_window_size'),
    'a token that is none': (change_rows('train', set_tokens(0, lambda t: [60_000, *t[1:]])), 'tokens_in_vocabulary'),
    'a key gone': (
        change_rows('train', lambda rows: rows[2]['metadata'].pop('chunk_index') and None), 'sequence_metadata'),
    'a length that is none': (change_rows('train', set_value(0, 'length', 999)), 'sequence_metadata'),
    'a chunk behind the last': (change_rows('train', set_value(0, 'chunk_index', 99)), 'sequence_metadata'),
    'a test that is core': (change_rows('train', set_value(0, 'is_test', True)), 'sequence_metadata'),
    'a sequence twice': (change_rows('train', lambda rows: [rows[0], *rows]), 'no_duplicate_sequences'),
    'too little to validate by': (change_rows('val', lambda rows: rows[:2]), 'dataset_split_ratio'),
    'a weight of another kind': (change_rows('train', set_value(0, 'weight', 2.)), 'weighting_strategy'),
    'a weight that is missing': (
        change_rows('train', lambda rows: rows[0]['metadata'].pop('weight') and None), 'weighting_strategy'),
    'an order by lot': (
        change_rows('train', lambda rows: [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]),
        'curriculum_learning'),
    'an augmentation that is missing': (
        change_summary(augmentation_techniques=list(AUGMENTATION_KINDS)), 'augmentation_types_present'),
    'a held-out sequence that is augmented': (
        change_rows('test', set_value(0, 'augmentation_type', 'variable_renaming')), 'augmentation_diversity'),
    'a held-out sequence that is learned': (copy_into_train, 'no_leakage'),
    'the same in two parts': (copy_into_train, 'no_sequence_in_two_parts'),
    'a group in two parts': (change_rows('val', set_value(0, 'split_group', 'task3')), 'copies_in_one_part'),
    'another text than that of the file': (
        lambda folder: write(folder/FILES_FILE, [row | {'sha256': sha256('x')} for row in read(folder/FILES_FILE)]),
        'round_trip'),
    'windows in another place': (change_rows('train', move_windows), 'round_trip'),
    'an augmentation that breaks code': (change_rows('train', break_augmented), 'parse_rate'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_planted_fault_is_found(fault, good, tmp_path):
    folder = tmp_path/'data'
    shutil.copytree(good, folder)
    plant, name = FAULTS[fault]
    plant(folder)
    assert name in find_failed(folder)


def test_a_secret_is_found(good, tmp_path):
    from transformers import AutoTokenizer
    folder = tmp_path/'data'
    shutil.copytree(good, folder)
    tokens = AutoTokenizer.from_pretrained(folder/TOKENIZER_FOLDER).encode('key = "AKIA' + 'ABCDEFGHIJKLMNOP"\n')
    path = folder/SPLIT_FILES['train']
    row = make_record(np.array(tokens), LENGTH, 0, 'x', 'src/key.py', 'high', None, chunk_index=0, total_chunks=1,
                      complexity=9., start=0, language='python', license='MIT', repo='r', commit='', split_group='key')
    # the files whose windows are put together are chosen by their names, so enough of them are made
    named = lambda i: row['metadata'] | {'source_file': f'src/key{i}.py'}
    more = [{'tokens': row['tokens'], 'metadata': named(i)} for i in range(60)]
    write(path, read(path) + more)
    assert 'no_secrets' in find_failed(folder)


def test_a_strangers_file_gets_a_verdict(good, tmp_path):
    theirs = tmp_path/'theirs.jsonl'
    write(theirs, [{'tokens': row['tokens']} for row in read(good/SPLIT_FILES['train'])])
    report = verify_dataset(theirs)
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts['train_file_format'] == 'passed' and verdicts['sequence_token_count'] == 'passed'
    assert verdicts['sequence_metadata'] == 'failed' and verdicts['no_leakage'] == 'not checked'
    for text in ('', '[1, 2]\n', '\x00\x01\n', 'null\n', '{"tokens": []}\n', '{"tokens": [1], "metadata": 3}\n'):
        theirs.write_text(text)
        assert 'train_file_format' in find_failed(theirs) or text.startswith('{"tokens": []}')
    with pytest.raises(UserError, match='does not exist'): verify_dataset(tmp_path/'nothing')
    with pytest.raises(UserError, match='has none of them'): verify_dataset(tmp_path)

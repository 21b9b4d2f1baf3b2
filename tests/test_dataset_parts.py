"Splits, windows, leaks and samplers of a code data set, against the simplest thing that could say the same."
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shutka.dataset.decontamination import RUN_LENGTH, LeakCheck
from shutka.dataset.masking import GapMaker
from shutka.dataset.near_copies import ALIKE, group_copies
from shutka.dataset.packing import pack_files
from shutka.dataset.parts import PART_SHARES, draw_parts
from shutka.dataset.runs import hash_runs
from shutka.dataset.sampling import WEIGHTS, WeightedOrder
from shutka.dataset.sequences import list_windows
from shutka.dataset.shards import write_ds
from shutka.dataset.word_tokens import WordTokenizer, open_raw_tokenizer
from shutka.models.lm_tokenizers import save_tokenizer, train_tokenizer


def make_file(rng, functions: list[str]) -> str:
    return '\n'.join(functions[i] for i in rng.integers(0, len(functions), 12))


@pytest.mark.parametrize('seed', range(6))
def test_groups_are_those_of_all_comparisons(seed):
    rng = np.random.default_rng(seed)
    words = [f'word{i}' for i in range(60)]
    functions = [' '.join(rng.choice(words, 14)) for _ in range(24)]
    files = [make_file(rng, functions) for _ in range(14)]
    for text in files[:8]: files += [text.replace('word1 ', 'w '), text + ' # end', text]
    words = [re.findall(r'\w+|[^\w\s]', text) for text in files]
    runs = [set(zip(*(some[at:] for at in range(5)))) for some in words]
    alike = lambda a, b: len(a & b) / len(a | b) >= ALIKE
    first = list(range(len(files)))
    for i in range(len(files)):   # joins by hand, over and over until nothing changes
        for j in range(i):
            if not alike(runs[i], runs[j]): continue
            both = first[i], first[j]
            first = [min(both) if f in both else f for f in first]
    assert group_copies(files, files.__getitem__) == first


@pytest.mark.parametrize('seed', range(8))
def test_leaks_are_those_of_all_comparisons(seed):
    rng = np.random.default_rng(seed)
    learned = [rng.integers(0, 4, int(n)) for n in rng.integers(1, 400, 6)]   # few words, so that chance makes runs
    held = [np.concatenate([rng.integers(0, 4, 30), learned[i % 6][:int(n)], rng.integers(0, 4, 9)])
            for i, n in enumerate(rng.integers(50, 90, 12))] + [learned[0][:9], learned[1]]
    check = LeakCheck(held)
    for tokens in learned: check.learn(tokens)
    list_runs = lambda tokens: [tokens[i:i + RUN_LENGTH].tobytes() for i in range(max(1, len(tokens) - RUN_LENGTH + 1))]
    seen = {run for tokens in learned for run in list_runs(tokens)}
    for window in held: assert check.is_leak(window) == any(run in seen for run in list_runs(window))


def test_different_runs_have_different_hashes():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 3, 60_000)   # runs that differ in a single place are many here
    hashes = hash_runs(tokens, RUN_LENGTH)
    runs = {tokens[i:i + RUN_LENGTH].tobytes() for i in range(len(hashes))}
    assert len(np.unique(hashes)) == len(runs)


@pytest.mark.parametrize('seed', range(4))
def test_shares_hold_and_groups_stay_whole(seed):
    rng = np.random.default_rng(seed)
    groups = [f'g{i}' for i in rng.integers(0, 700, 1_500)]
    sizes = rng.lognormal(6, 1.2, 1_500).astype(int) + 1
    parts = draw_parts(groups, sizes.tolist(), seed)
    assert all(len({part for g, part in zip(groups, parts) if g == group}) == 1 for group in set(groups))
    for part, share in PART_SHARES.items():
        assert abs(sum(s for s, p in zip(sizes, parts) if p == part) / sizes.sum() - share) < .01
    shuffled = rng.permutation(1_500)   # the order of the files says nothing
    again = draw_parts([groups[i] for i in shuffled], sizes[shuffled].tolist(), seed)
    assert [parts[i] for i in shuffled] == again


def test_one_group_of_nearly_everything_is_learned():
    parts = draw_parts(['big'] * 50 + ['a', 'b', 'c'], [1_000] * 50 + [10, 10, 10])
    assert set(parts[:50]) == {'train'} and {'val', 'test'} <= set(parts[50:])


@pytest.mark.parametrize('length', [4, 16, 1_024])
def test_windows_cover_all_and_overlap_by_three_quarters(length):
    for tokens in [1, 3, length - 1, length, length + 1, 3 * length + 7]:
        windows = list_windows(tokens, length)
        assert {i for a, b in windows for i in range(a, b)} == set(range(tokens))
        assert all(b - a == min(length, tokens) for a, b in windows) and len(set(windows)) == len(windows)
        assert all(next_a - a <= length // 4 for (a, _), (next_a, _) in zip(windows, windows[1:]))


def make_digits_apart(tokenizer):
    from tokenizers import pre_tokenizers as kinds
    tokenizer.backend_tokenizer.pre_tokenizer = kinds.Sequence([kinds.Digits(True), kinds.ByteLevel(False)])


@pytest.fixture(scope='module', params=['byte level', 'digits'])
def tokenizer_folder(request, tmp_path_factory):
    texts = [path.read_text() for path in sorted(Path(random.__file__).parent.glob('*.py'))[:40]]
    tokenizer, folder = train_tokenizer(texts, 2_000), tmp_path_factory.mktemp('tokenizer')
    if request.param == 'digits': make_digits_apart(tokenizer)
    save_tokenizer(folder, tokenizer)
    return folder


def check_words(tokenizer, raw, text: str):
    found, wanted = tokenizer.encode(text), raw.encode(text, add_special_tokens=False)
    assert found.ids.tolist() == wanted.ids, repr(text)
    if text.isascii(): assert list(zip(found.starts.tolist(), found.ends.tolist())) == wanted.offsets


def test_words_have_the_tokens_of_the_library(tokenizer_folder):
    tokenizer, raw = WordTokenizer(tokenizer_folder), open_raw_tokenizer(tokenizer_folder)
    assert tokenizer.pieces is not None
    for path in sorted(Path(random.__file__).parent.glob('[a-m]*.py'))[:60]:
        check_words(tokenizer, raw, path.read_text())
    draw = random.Random(0)
    alphabets = [
        bytes(range(128)).decode(), ' \n\t\r a1.',
        "'sdmtlreve \n", 'a \nä½合\u2028\x85 1\u0301', '\x1c\x1d\x1e\x1f\x0b\x0c a\n']
    for turn in range(4_000):
        text = ''.join(draw.choices(draw.choice(alphabets), k=draw.randrange(30)))
        check_words(tokenizer, raw, text)
    for text in ('<|endoftext|>', ' <|im_start|>user', 'x' * 5_000, ' ' * 5_000, '\n' * 999 + 'ä'):
        check_words(tokenizer, raw, text)


@pytest.mark.parametrize('rate', [0, .5, 1])
def test_packed_rows_are_the_stream(rate, tmp_path):
    tokenizer = train_tokenizer(['for item in items: total += item * 2\n' * 9], 300)
    tokenizer.add_special_tokens({'additional_special_tokens': ['<fim_prefix>', '<fim_suffix>', '<fim_middle>']})
    save_tokenizer(tmp_path, tokenizer)
    words = WordTokenizer(tmp_path)
    encode = lambda text: words.encode(text).ids.tolist()
    marks = tuple(tokenizer.convert_tokens_to_ids(['<fim_prefix>', '<fim_suffix>', '<fim_middle>']))
    rng = np.random.default_rng(1)
    texts = [''.join(rng.choice(list('abc =+\n()äж合'), int(n))) for n in rng.integers(0, 300, 60)]
    files = [(i, text, words.encode(text)) for i, text in enumerate(texts)]
    rows = list(pack_files(files, 64, 0, GapMaker(marks, encode, rate) if rate else None))
    assert {len(row.tokens) for row in rows[:-1]} == {64}
    seen = Counter()
    for row in rows:
        for one in row.segments:
            assert one.start == seen[one.file] and one.of == len(files[one.file][2].ids)
            seen[one.file] = one.stop
            wanted = files[one.file][2].ids[one.start:one.stop].tolist()
            if not one.order: assert row.tokens[one.at:one.at + len(wanted)] == wanted
        assert [row.tokens.count(mark) for mark in marks] == [sum(bool(one.order) for one in row.segments)] * 3
    assert seen == {i: len(found.ids) for i, _, found in files if len(found.ids)}
    assert sum(row.tokens.count(0) for row in rows) == len(files)
    assert any(one.order for row in rows for one in row.segments) == bool(rate)


@pytest.mark.parametrize('n', [100, 5_000])
@pytest.mark.parametrize('seed', range(3))
def test_sampling_meets_the_weights_and_is_the_same_anywhere(n, seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(list(WEIGHTS), n)
    order = WeightedOrder(np.array([WEIGHTS[name] for name in names]), np.zeros(n), size=10, epochs=20, seed=seed)
    steps = [order.draw(step) for step in range(order.count_steps())]
    seen, there = Counter(names[np.concatenate(steps)]), Counter(names)
    rate = {name: seen[name] / there[name] for name in WEIGHTS}
    assert abs(rate['high'] / rate['medium'] - 3) < .06 and abs(rate['low'] / rate['medium'] - .3) < .006
    for step in rng.integers(0, len(steps), 5).tolist():   # a fresh one, at any step, on five processes
        fresh = WeightedOrder(np.array([WEIGHTS[name] for name in names]), np.zeros(n), size=10, epochs=20, seed=seed)
        assert sum((fresh.draw(step, rank, 5) for rank in range(5)), []) == steps[step]


def test_the_curriculum_goes_from_simple_to_all():
    n = 900
    complexity = np.random.default_rng(0).permutation(n).astype(float)
    order = WeightedOrder(np.ones(n), complexity, size=30, epochs=9)
    shown = np.array([complexity[order.draw(step)].max() for step in range(order.count_steps())])
    assert shown[:30].max() < 300 <= shown[30:90].max() < 600 <= shown[90:].max()


@pytest.mark.parametrize('dtype', ['uint16', 'uint32'])
def test_datatrove_reads_the_same_tokens(dtype, tmp_path):
    from datatrove.utils.dataset import DatatroveFileDataset
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, np.iinfo(dtype).max, int(n)) for n in rng.integers(1, 40, 30)]
    write_ds(tmp_path/'train.ds', sequences, dtype, 'mine')
    size = np.dtype(dtype).itemsize
    found = DatatroveFileDataset(str(tmp_path/'train.ds'), seq_len=9, token_size=size, return_positions=True)
    items = [found[i] for i in range(len(found))]
    stream = np.concatenate(sequences)
    assert len(found) == len(stream) // 10 and (tmp_path/'train.ds').stat().st_size == size * len(stream)
    assert np.concatenate([item['input_ids'].numpy() for item in items]).tolist() == stream[:len(found) * 10].tolist()
    places = np.concatenate([np.arange(len(tokens)) for tokens in sequences])
    read = np.array([item['positions'].numpy() for item in items])
    assert ((read == 0) == (places[:len(found) * 10].reshape(-1, 10) == 0))[:, 1:].all()   # each begins where ours does

"Text that pretends to be a marker, streams that must not meet, and tokens that count once."
import json
import math
import random
import shutil
import subprocess
import tracemalloc

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.text import shards as module
from shutka.text.commit_tokens import (
    MARKERS,
    add_markers,
    count_vocabulary,
    format_commit,
    list_commit_parts,
    spell_marker,
    tokenize_commits,
    tokenize_texts,
)
from shutka.text.shards import TokenSplit, check_tokens, choose_dtype, write_tokens
from shutka.text.shared_lines import list_added_lines
from shutka.text.window_batches import WindowBatches, write_sequences
from shutka.text.windows import SPLITS, Cut, choose_split, find_boundary

END = '<|endoftext|>'  # GPT-2's


def bytewise(more: int = 0):
    "A tokenizer of 256 bytes, an end, and `more` tokens that no text contains."
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), END, *(f'unused {i}' for i in range(more))]
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END)


@pytest.fixture
def tokenizer():
    made = bytewise()
    add_markers(made)
    return made


def commit(i: int = 0, **changes) -> dict:
    made = {'hash': f'{i:040x}', 'parents': ['0' * 40], 'author_name': 'Ada', 'author_email': 'ada@example.org',
            'author_timestamp': 1_700_000_000 + 60 * i, 'author_timezone': '+0200', 'branches': ['main'],
            'complexity_score': .5, 'is_high_risk': False, 'is_merge': False, 'merge_conflict_resolution': None,
            'subject': f'Change {i}', 'body': '', 'files_added': ['a.py'], 'files_modified': [], 'files_deleted': [],
            'files_renamed': {}, 'related_issues': [], 'related_commits': [],
            'diff_stats': [{'path': 'a.py', 'diff_text': f'+line {i}'}]}
    return made | changes


def history(n: int) -> list[dict]:
    "So many commits; the first has no parents."
    return [commit(i, parents=[] if i == 0 else ['0' * 40]) for i in range(n)]


def files_of(index: dict) -> set[str]:
    "What an index names."
    return {file['file'] for split in index['splits'].values() for file in (*split['shards'], split['offsets'])}


# ---- the text

EVIL = f'<|diff|> x <|commit|>{END} <|pad|>'


def test_markers_are_in_the_vocabulary(tmp_path, tokenizer):
    from transformers import AutoTokenizer, GPT2Tokenizer
    ids = add_markers(tokenizer)
    assert sorted(ids.values()) == list(range(257, 269)) and count_vocabulary(tokenizer) == len(tokenizer) == 269
    assert tokenizer.pad_token_id == ids['pad'] != tokenizer.eos_token_id
    tokenizer.save_pretrained(tmp_path)
    for kind in (AutoTokenizer, GPT2Tokenizer):
        again = kind.from_pretrained(tmp_path)
        assert add_markers(again) == ids and count_vocabulary(again) == 269
        assert again.pad_token_id == ids['pad']
        for name, i in ids.items(): assert again(spell_marker(name), add_special_tokens=False)['input_ids'] == [i]
        assert again.decode([ids['diff'], *tokenize_texts(again, ['x'])[0]], skip_special_tokens=True) == 'x'


@pytest.mark.parametrize('changes', [
    {'subject': EVIL}, {'body': EVIL}, {'author_name': EVIL}, {'branches': [EVIL]}, {'files_added': [EVIL]},
    {'files_modified': [EVIL]}, {'files_deleted': [EVIL]}, {'files_renamed': {EVIL: EVIL}}, {'related_issues': [EVIL]},
    {'diff_stats': [{'path': EVIL, 'diff_text': EVIL}]}, {'author_timezone': EVIL},
    {'subject': '<|di', 'body': 'ff|>'}])
def test_text_never_becomes_a_marker(tokenizer, changes):
    c = commit(**changes)
    (_, tokens), = tokenize_commits([c], tokenizer)
    names = [name for name, _ in list_commit_parts(c)]
    ids = add_markers(tokenizer)
    assert [t for t in tokens.tolist() if t >= 256] == [*(ids[name] for name in names), tokenizer.eos_token_id]
    assert tokenizer.decode(tokens) == format_commit(c) + END


def test_a_tokenizer_that_cannot_tell():
    made = bytewise()
    class Plain:
        "Finds special tokens wherever they stand, whatever it is asked."
        def __getattr__(self, name): return getattr(made, name)
        def __call__(self, texts, **options): return made(texts, add_special_tokens=False)
    with pytest.raises(UserError, match='Plain must tell special tokens from text'): add_markers(Plain())


def test_a_tokenizer_without_an_end(tokenizer):
    tokenizer.eos_token = None
    (_, tokens), = tokenize_commits([commit()], tokenizer)
    assert tokenizer.decode(tokens) == format_commit(commit())


def test_every_part_in_order():
    c = commit(is_merge=True, body='b', related_issues=['#1'], related_commits=['f' * 40], files_renamed={'x': 'y'},
               branches=list('abcd'), is_high_risk=True)
    texts = dict(list_commit_parts(c))
    assert list(texts) == [name for name in MARKERS if name != 'diff']
    assert texts['branch'] == 'a, b, c' and texts['related'] == '#1 fffffff'
    assert texts['complexity'] == '0.50 high risk' and texts['merge'] == 'yes'
    assert texts['files'] == 'A a.py\nR x -> y'
    assert list(dict(list_commit_parts(c | {'is_merge': False}))) == [name for name in MARKERS if name != 'merge']
    assert 'diff' not in dict(list_commit_parts(commit(diff_stats=[{'path': 'a.png', 'diff_text': ''}])))
    empty = commit(author_name='', branches=[], subject='', files_added=[], diff_stats=[])
    assert [name for name, _ in list_commit_parts(empty)] == ['commit', 'timestamp', 'complexity']


def test_any_text(tokenizer):
    for text in ('naïve 日本語 😀', '\x00\r\n\t', ' ', '\n', '\udcff\ud800', 'e\u0301', '\ufeff'):
        c = commit(subject=text, body=text * 3)
        (_, tokens), = tokenize_commits([c], tokenizer)
        assert tokenizer.decode(tokens) == format_commit(c) + END
    assert dict(list_commit_parts(commit(subject='\udcff')))['subject'] == '?'


def test_long_parts_are_cut():
    long = commit(body='x' * 10**6, diff_stats=[{'path': 'lock', 'diff_text': 'y' * 10**6}])
    texts = dict(list_commit_parts(long, 100))
    assert texts['body'] == 'x' * 100 + '...' and texts['diff'] == 'lock\n' + 'y' * 95 + '...'
    assert len(format_commit(long)) < 20_000


@pytest.mark.parametrize('seconds, zone, text', [
    (0, '+0000', '1970-01-01 00:00 +0000'), (0, '-0330', '1969-12-31 20:30 -0330'),
    (-10**9, '+0000', '1938-04-24 22:13 +0000'), (0, 'PST', '1970-01-01 00:00 PST'),
    (0, '+9999', '1970-01-05 04:39 +9999'), (2**63, '+0000', f'{2**63} +0000'), (-2**63, '+0000', f'{-2**63} +0000'),
    (0, '', '1970-01-01 00:00 '), (0, '+٠١٠٠', '1970-01-01 00:00 +٠١٠٠')])
def test_times(seconds, zone, text):
    assert dict(list_commit_parts(commit(author_timestamp=seconds, author_timezone=zone)))['timestamp'] == text


@pytest.mark.parametrize('changes, message', [
    ({'subject': None}, 'subject of a commit must be str, got None'),
    ({'branches': 'main'}, 'branches of a commit must be list'),
    ({'branches': [1]}, 'branches of a commit'),
    ({'diff_stats': [{'path': 'a'}]}, 'diff_stats of a commit must have a path and a diff_text'),
    ({'diff_stats': ['a']}, 'diff_stats'),
    ({'complexity_score': '0.5'}, 'complexity_score'),
    ({'hash': 5}, 'hash of a commit must be str, got 5'),
    ({'files_renamed': []}, 'files_renamed')])
def test_commits_that_are_none(tokenizer, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        write_tokens([commit(1), commit(**changes)], tokenizer, tmp_path, math.inf)
    lacking = {k: v for k, v in commit().items() if k not in changes}
    with pytest.raises(UserError, match=f'must have {next(iter(changes))!r}'):
        write_tokens([lacking], tokenizer, tmp_path, math.inf)
    assert not list(tmp_path.iterdir())


# ---- two streams

def test_the_newest_changes_are_kept_for_validation():
    many = [commit(i) for i in range(4_000)]
    boundary = find_boundary(many)
    sides = [choose_split(c, boundary) for c in many]
    assert sides == ['train'] * 3_600 + ['validation'] * 400
    mixed = random.Random(0).sample(many, 4_000)
    assert find_boundary(mixed) == boundary   # in whatever order they come
    for c, side in zip(many[3_500:3_700], sides[3_500:]):
        picked = {'hash': 'f' * 40, 'body': 'again', 'branches': ['other'], 'parents': ['1' * 40]}
        assert choose_split(c | picked, boundary) == side   # a cherry-pick of it, made at any time
        assert choose_split(c | {'parents': []}, boundary) == 'train'
    assert find_boundary(many + [c | {'hash': 'f' * 40} for c in many[::2]]) == boundary   # copies change nothing


@pytest.mark.parametrize('n, share, held', [(1, .1, 0), (2, .1, 1), (5, .1, 1), (24, .2, 5), (30, .1, 3), (10, 0, 0),
                                            (3, .99, 2)])
def test_how_many_are_kept(n, share, held):
    for same in (False, True):   # each at its own time, or all at once, as a tool may write them
        some = [commit(i) | ({'author_timestamp': -1} if same else {}) for i in range(n)]
        boundary = find_boundary(some, share)
        assert sum(choose_split(c, boundary) == 'validation' for c in some) == held


def test_a_commit_without_a_clock_is_refused():
    for key in ('author_timestamp', 'subject', 'parents'):
        lacking = {k: v for k, v in commit().items() if k != key}
        with pytest.raises(UserError, match=f'must have {key!r}'): find_boundary([commit(1), lacking])


def test_shared_lines_are_counted(tmp_path, tokenizer):
    "A line moved, one reverted, one typed again, one that is new."
    def adding(i, *lines, **more):
        text = 'diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n' + '\n'.join(lines)
        return commit(i, diff_stats=[{'path': 'a', 'diff_text': text}], **more)
    old = [adding(i, f'+line {i}', '+}', '+') for i in range(8)]
    new = [adding(8, '+line 3', '-gone', '+}', ' }'), adding(9, '+new', '+ ', '+line 3'),
           adding(10, '+line 3', is_merge=True)]
    cut, commits = Cut(sequence_length=48, overlap=16), [*old, *new]
    index = write_tokens(commits, tokenizer, tmp_path, find_boundary(commits, 3 / 11), cut)
    assert (index['splits']['validation']['added_lines'], index['splits']['validation']['shared_lines']) == (4, 3)
    assert list_added_lines(old[0]) == ['line 0', '}'] and list_added_lines(new[2]) == []
    assert list_added_lines(adding(0, *['+x' * 9] * 10_000), 200) != []   # only what the document holds


CUT = Cut(sequence_length=48, overlap=16, validation_split=.3)
BOUNDARY = find_boundary(history(60), .3)


@pytest.fixture
def folder(tmp_path, tokenizer):
    write_tokens(history(60), tokenizer, tmp_path/'tokens', BOUNDARY, CUT, shard=500)
    return tmp_path/'tokens'


def test_no_window_shows_what_validation_asks(folder, tokenizer):
    sides = {i: choose_split(commit(i, parents=[] if i == 0 else ['0' * 40]), BOUNDARY) for i in range(60)}
    assert list(sides.values()) == ['train'] * 42 + ['validation'] * 18
    for split in SPLITS:
        tokens = TokenSplit(folder, split)
        text = tokenizer.decode(np.concatenate([row for row in tokens.rows(range(len(tokens)))[0]]))
        whole = tokenizer.decode(tokens.read(0, tokens.tokens))
        assert [i for i in range(60) if f'Change {i}<' in whole] == [i for i in range(60) if sides[i] == split]
        assert not [i for i in range(60) if f'<|subject|>Change {i}<' in text and sides[i] != split]


def test_documents_can_be_found(folder, tokenizer):
    mine = {split: [] for split in SPLITS}
    for c, tokens in tokenize_commits(history(60), tokenizer): mine[choose_split(c, BOUNDARY)].append(tokens)
    for split in SPLITS:
        t = TokenSplit(folder, split)
        ends = [*t.documents[1:], t.tokens]
        assert [t.read(a, b).tolist() for a, b in zip(t.documents, ends)] == [d.tolist() for d in mine[split]]


def test_nothing_but_validation(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(module, 'choose_split', lambda *args: 'validation')
    message = r'at least one commit to learn from, got none \(1 for validation\)'
    with pytest.raises(UserError, match=message): write_tokens([commit()], tokenizer, tmp_path, math.inf)
    assert not (tmp_path/'index.json').exists()


def test_a_single_commit(tmp_path, tokenizer):
    index = write_tokens([commit(parents=[])], tokenizer, tmp_path, math.inf)
    assert [index['splits'][s]['windows'] for s in SPLITS] == [1, 0]
    train, validation = (TokenSplit(tmp_path, s) for s in SPLITS)
    assert (len(train), len(validation), len(validation.documents)) == (1, 0, 0)
    assert validation.rows([])[0].shape == (0, 2_048)
    message = 'at least one window to train on, validation has none'
    with pytest.raises(UserError, match=message): WindowBatches(validation, 2)
    check_tokens(tmp_path)
    assert json.loads(write_sequences(tmp_path, tmp_path/'x.json').read_text())['num_sequences'] == 1


# ---- windows

def stream(tmp_path, n: int, cut: Cut, shard: int, split: str) -> TokenSplit:
    "A split that holds the tokens 0, 1, 2, ..."
    index = {'dtype': 'uint16', 'vocab_size': 2**16, **vars(cut), 'markers': {'pad': 60_000}, 'splits': {}}
    grows = module.TokenWriter(tmp_path, split, '<u2', shard)
    for piece in np.array_split(np.arange(n), max(1, n // 7)):
        if len(piece): grows.add(piece)
    index['splits'][split] = grows.close(cut)
    (tmp_path/'index.json').write_text(json.dumps(index))
    return TokenSplit(tmp_path, split)


@pytest.mark.parametrize('length, overlap', [(8, 0), (8, 1), (8, 2), (8, 7), (2, 1), (2, 0), (5, 3)])
@pytest.mark.parametrize('split', SPLITS)
def test_each_token_counts_once(tmp_path, length, overlap, split):
    cut = Cut(sequence_length=length, overlap=overlap)
    for n, shard in [(1, 4), (2, 4), (length - 1, 100), (length, 3), (length + 1, 3), (23, 5), (40, 1), (64, 64),
                     (65, 64)]:
        tokens = stream(tmp_path, n, cut, shard, split)
        ids, labels = tokens.rows(range(len(tokens)))
        assert ids.shape == labels.shape == (cut.windows(n), length) and ids.dtype == labels.dtype == np.int64
        assert set(ids[ids != 60_000].tolist()) == set(range(n))                            # each is there
        assert (ids[labels != -100] == labels[labels != -100]).all() and 60_000 not in labels
        for k, row in enumerate(ids):
            real = row[row != 60_000]
            assert real.tolist() == list(range(k * (length - overlap), k * (length - overlap) + len(real)))
            assert len(real) == length or k == len(ids) - 1
        assert len(ids) == 1 or (ids[-1] != 60_000).sum() > overlap       # the last window has something new
        counted = labels[labels != -100].tolist()                         # what HF's shifted loss is an average of
        if split == 'validation' and overlap: assert counted == list(range(1, n))   # once each, but for the first
        elif split == 'validation': assert counted == [t for t in range(n) if t % length]
        else: assert counted == [t for row in ids for t in row[1:].tolist() if t != 60_000]


def test_perplexity_is_that_of_the_stream(folder, tokenizer):
    "The losses of windows add up to those of single tokens that see what the window shows; padding may be anything."
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=count_vocabulary(tokenizer), n_positions=48, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    tokens = TokenSplit(folder, 'validation')
    ids, labels = map(torch.from_numpy, tokens.rows(range(len(tokens))))
    with torch.no_grad():
        total = 0.
        for i, l in zip(ids, labels):
            total += float(model(input_ids=i[None], labels=l[None]).loss) * int((l != -100).sum())
        whole, alone = torch.from_numpy(tokens.read(0, tokens.tokens)), 0.
        for at in range(1, len(whole)):
            # of the earliest window that has it
            first = max(0, -(-(at + 1 - CUT.sequence_length) // CUT.stride)) * CUT.stride
            alone -= float(model(whole[None, first:at]).logits[0, -1].log_softmax(0)[whole[at]])
    assert total == pytest.approx(alone, rel=1e-4)
    other = torch.where(ids == tokens.pad, 7, ids)
    assert (other != ids).any()
    with torch.no_grad():
        losses = [model(input_ids=row[-1:], labels=labels[-1:]).loss for row in (ids, other)]
        assert torch.equal(*losses)


def test_batches(folder):
    tokens = TokenSplit(folder, 'train')
    batches = WindowBatches(tokens, 10, seed=3)
    assert len(tokens) % 10   # an epoch ends within a batch
    seen = [tuple(row) for step in range(len(tokens)) for row in batches(step)['ids'].tolist()]
    every = sorted(map(tuple, tokens.rows(range(len(tokens)))[0].tolist()))
    for epoch in range(4): assert sorted(seen[epoch * len(tokens):][:len(tokens)]) == every
    for world in (1, 2, 5):
        for key in ('ids', 'labels'):
            together = np.concatenate([batches(5, rank, world)[key] for rank in range(world)])
            assert np.array_equal(together, WindowBatches(TokenSplit(folder, 'train'), 10, 3)(5)[key])
        share = np.float32((batches(5)['labels'] != -100).sum() / world)
        assert all(batches(5, rank, world)['share'] == share for rank in range(world))
    assert not np.array_equal(batches(0)['ids'], WindowBatches(tokens, 10, seed=4)(0)['ids'])
    with pytest.raises(UserError, match='multiple of the 3 processes, got 10'): batches(0, 0, 3)
    for wrong in (-1, len(tokens)):
        with pytest.raises(IndexError, match=f'got {wrong}'): tokens.rows([0, wrong])


# ---- on disk

def test_wide_vocabularies(tmp_path):
    for more, dtype in ((100, 'uint16'), (2**16, 'uint32')):
        tokenizer = bytewise(more)
        index = write_tokens([commit(parents=[])], tokenizer, tmp_path, math.inf, CUT)
        assert (index['dtype'], index['vocab_size']) == (dtype, 257 + more + 12)
        (_, tokens), = tokenize_commits([commit()], tokenizer)
        assert TokenSplit(tmp_path, 'train').read(0, 10**6).tolist() == tokens.tolist()
        assert (max(tokens) > 2**16) == (dtype == 'uint32')
        assert len(list(tmp_path.glob('*.bin'))) == 1                                        # the other one's is gone
    assert [choose_dtype(n) for n in (2**16, 2**16 + 1)] == ['uint16', 'uint32']


def test_index(folder):
    index = json.loads((folder/'index.json').read_text())
    assert index.keys() == {'dtype', 'vocab_size', 'sequence_length', 'overlap', 'validation_split', 'most', 'markers',
                            'splits'}
    assert sum(s['documents'] for s in index['splits'].values()) == 60
    for split in index['splits'].values():
        assert split['tokens'] == sum(s['tokens'] for s in split['shards'])
        assert {s['tokens'] for s in split['shards'][:-1]} == {500}
        assert split['windows'] == CUT.windows(split['tokens'])
    assert {p.name for p in folder.iterdir()} == {'index.json', *files_of(index)}


@pytest.mark.parametrize('fails', ['commits', 'index', 'shard'])
def test_what_was_there_stays_until_the_index_is_new(folder, tokenizer, monkeypatch, fails):
    before = [TokenSplit(folder, s).rows(range(len(TokenSplit(folder, s))))[0] for s in SPLITS]
    (folder/'mine.bin').write_bytes(b'not of ours')
    written = []
    def half(path, content):
        written.append(path)
        if len(written) > 2: raise OSError(28, 'No space left on device')
        return real(path, content)
    real = module.write_atomic
    with monkeypatch.context() as m:
        if fails == 'index': m.setattr(module, 'write_json', lambda *args: 1 / 0)
        if fails == 'shard': m.setattr(module, 'write_atomic', half)
        more = (commit(i + 100) for i in range(200))
        later = find_boundary([commit(i + 100) for i in range(200)], .3)
        def those():
            for i, c in enumerate(more):
                if fails == 'commits' and i == 150: raise UserError('a bad line')
                yield c
        with pytest.raises((UserError, ZeroDivisionError, OSError)):
            write_tokens(those(), tokenizer, folder, later, CUT, shard=300)
    check_tokens(folder)
    for split, rows in zip(SPLITS, before):
        assert np.array_equal(TokenSplit(folder, split).rows(range(len(rows)))[0], rows)
    index = write_tokens([commit(i + 100) for i in range(200)], tokenizer, folder, later, CUT, shard=300)
    check_tokens(folder)
    assert {p.name for p in folder.iterdir()} == {'index.json', 'mine.bin', *files_of(index)}


def test_a_reader_keeps_what_it_opened(folder, tokenizer):
    tokens = TokenSplit(folder, 'train')
    rows = tokens.rows(range(len(tokens)))[0]
    write_tokens([commit(i + 500) for i in range(60)], tokenizer, folder, math.inf, CUT, shard=500)
    assert np.array_equal(tokens.rows(range(len(tokens)))[0], rows)


def test_damage(folder):
    check_tokens(folder)
    for path in [p for p in folder.iterdir() if p.name != 'index.json']:
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(UserError, match=f'{path.name} is not as it was written'): check_tokens(folder)
        for wrong in (whole[:-1], whole + b'x'):
            path.write_bytes(wrong)
            with pytest.raises(UserError, match=f'{path.name} must have {len(whole)} bytes'): check_tokens(folder)
        path.unlink()
        split = path.name.split('-')[0].removesuffix('.offsets')
        with pytest.raises(UserError, match=path.name): TokenSplit(folder, split)
        path.write_bytes(whole)
    check_tokens(folder)


@pytest.mark.parametrize('change', [
    lambda index: index.pop('dtype'), lambda index: index.update(dtype='float32'),
    lambda index: index['splits'].pop('train'), lambda index: index.update(markers=None),
    lambda index: index['splits']['train'].update(tokens='9'), lambda index: index.pop('overlap'),
    lambda index: index.update(splits=[])])
def test_a_strange_index(folder, change):
    index = json.loads((folder/'index.json').read_text())
    change(index)
    (folder/'index.json').write_text(json.dumps(index))
    with pytest.raises(UserError, match='not an index of tokens'): TokenSplit(folder, 'train')


def test_no_index(tmp_path):
    with pytest.raises(UserError, match='index.json does not exist'): TokenSplit(tmp_path, 'train')
    (tmp_path/'index.json').write_text('[]')
    with pytest.raises(UserError, match='not an index of tokens'): TokenSplit(tmp_path, 'train')
    (tmp_path/'index.json').write_text('{')
    with pytest.raises(UserError, match='not valid JSON'): TokenSplit(tmp_path, 'train')


def test_memory_does_not_grow_with_the_history(tmp_path, tokenizer):
    def peak(n):
        tracemalloc.start()
        write_tokens((commit(i, body='x' * 200) for i in range(n)), tokenizer, tmp_path/str(n),
                     BOUNDARY, CUT, shard=1_000)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most
    peak(10)
    few, many = peak(200), peak(1_000)
    assert many < few + 10**6, (few, many)   # in 800 documents are 240,000 tokens


# ---- the seed's JSON

def test_sequences_as_json(folder, tokenizer, tmp_path):
    path = write_sequences(folder, tmp_path/'data'/'token_sequences_rich.json')
    value = json.loads(path.read_text())
    assert value.keys() == {'token_sequences', 'vocab_size', 'num_sequences', 'total_tokens', 'sequence_length',
                            'metadata'}
    rows = np.array(value['token_sequences'])
    assert rows.shape == (value['num_sequences'], value['sequence_length']) and rows.size == value['total_tokens']
    assert value['vocab_size'] == count_vocabulary(tokenizer) > rows.max()
    at = 0
    for split in SPLITS:
        tokens, about = TokenSplit(folder, split), value['metadata']['splits'][split]
        assert about == {'windows': len(tokens), 'tokens': tokens.tokens, 'documents': len(tokens.documents)}
        assert np.array_equal(rows[at:at + len(tokens)], tokens.rows(range(len(tokens)))[0])
        at += len(tokens)
    if shutil.which('jq'):
        for ask, answer in (('length', 6), ('.num_sequences', len(rows)), ('.token_sequences | length', len(rows))):
            assert json.loads(subprocess.run(['jq', ask, path], capture_output=True, check=True).stdout) == answer


def test_half_a_json_file_is_none(folder, tmp_path, monkeypatch):
    target = tmp_path/'x.json'
    target.write_text('old')
    monkeypatch.setattr(TokenSplit, 'rows', lambda self, numbers: 1 / 0)
    with pytest.raises(ZeroDivisionError): write_sequences(folder, target)
    assert target.read_text() == 'old' and {p.name for p in tmp_path.iterdir()} == {'x.json', 'tokens'}


def test_large_histories_have_many_windows():
    assert Cut().windows(20_000_000) == 11_161
    assert Cut().windows(2_048) == 1 and Cut().windows(2_049) == 2

"Commits as points: both kinds of encoders, files that others read, and a run that dies anywhere."
import json
import os
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from qdrant_client import QdrantClient, models

from shutka.core.errors import UserError
from shutka.core.files import read_json, write_jsonl
from shutka.history import points, vector_file
from shutka.history.embedding import CommitEncoder, embed_texts, make_projection, open_encoder, summarize_commit
from shutka.history.points import point_id, write_points
from shutka.models.shapes import TextJEPAConfig
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model

WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]',
         *'parse date queue node graph sort user name file test add fix the a of in and'.split()]


def commit(i, subject, body='', **also):
    return {'hash': f'{i:040x}', 'subject': subject, 'body': body, 'files_added': ['a.py'], 'files_modified': [],
            'files_deleted': ['b.py'], 'files_renamed': {'c.py': 'd.py'}, 'author_name': 'Ada',
            'author_email': 'ada@example.org', 'author_timestamp': 10 + i, 'commit_timestamp': 20 + i,
            'branches': ['main'], 'tags': [], 'insertions': 3, 'deletions': 1, 'files_changed': 3,
            'is_merge': False, 'complexity_score': .01, 'is_high_risk': False,
            'diff_stats': [{'diff_text': 'x' * 1000}]} | also


def history(n): return [commit(i, f'{WORDS[5 + i % 12]} {WORDS[5 + i // 12 % 12]} number{i}') for i in range(n)]


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    "A sentence encoder in the layout of all-MiniLM-L6-v2: a BERT of two layers, the mean of its states, length one."
    from transformers import BertConfig, BertModel, BertTokenizerFast
    pytest.importorskip('sentence_transformers')
    folder = tmp_path_factory.mktemp('encoder')/'bert'
    folder.mkdir()
    (folder/'vocab.txt').write_text('\n'.join(WORDS))
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(WORDS), hidden_size=384, num_hidden_layers=2, num_attention_heads=4,
                         intermediate_size=32, max_position_embeddings=64)).save_pretrained(folder)
    write = lambda path, value: (path.parent.mkdir(exist_ok=True), path.write_text(json.dumps(value)))
    modules = [('', 'Transformer'), ('1_Pooling', 'Pooling'), ('2_Normalize', 'Normalize')]
    write(folder/'modules.json',
          [{'idx': i, 'name': str(i), 'path': path, 'type': f'sentence_transformers.models.{kind}'}
           for i, (path, kind) in enumerate(modules)])
    write(folder/'sentence_bert_config.json', {'max_seq_length': 32, 'do_lower_case': False})
    write(folder/'1_Pooling'/'config.json', {'word_embedding_dimension': 384, 'pooling_mode_mean_tokens': True})
    (folder/'2_Normalize').mkdir()
    return folder


@pytest.fixture(scope='module')
def jepa(tmp_path_factory):
    torch.manual_seed(0)
    return save_model(TextJEPA(TextJEPAConfig(rows=512, width=48, inner=8)), tmp_path_factory.mktemp('jepa')/'model')


@pytest.fixture
def commits(tmp_path):
    "Writes a file of commits."
    def make(some):
        write_jsonl(tmp_path/'git_history_rich.jsonl', some)
        return tmp_path/'git_history_rich.jsonl'
    return make


def saved(folder):
    with np.load(folder/'embeddings_rich.npz') as found: return dict(found)


# --- encoders

def test_a_sentence_encoder_is_the_mean_of_its_states(bert):
    from transformers import AutoModel, AutoTokenizer
    texts = ['parse the date', 'sort a queue of user in the graph and test']
    read = AutoTokenizer.from_pretrained(bert)(texts, padding=True, return_tensors='pt')
    with torch.no_grad(): states = AutoModel.from_pretrained(bert)(**read).last_hidden_state
    mask = read['attention_mask'][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    encoder = open_encoder(bert)
    np.testing.assert_allclose(embed_texts(encoder, texts), torch.nn.functional.normalize(mean, dim=1).numpy(),
                               atol=1e-6)
    assert encoder.about['native'] == 384 and encoder.about['kind'] == 'sentence-transformers'


def test_the_fingerprint_is_of_the_weights_not_of_the_place(bert, jepa, tmp_path):
    for folder in (bert, jepa):
        copy = shutil.copytree(folder, tmp_path/folder.name)
        assert open_encoder(copy).about['fingerprint'] == open_encoder(folder).about['fingerprint']
    assert open_encoder(bert).about['fingerprint'] != open_encoder(jepa).about['fingerprint']


def test_what_is_no_encoder_is_refused(bert, tmp_path, monkeypatch):
    broken = shutil.copytree(bert, tmp_path/'broken')
    (broken/'model.safetensors').write_bytes((broken/'model.safetensors').read_bytes()[:999])
    with pytest.raises(UserError, match='broken must hold a sentence encoder'): open_encoder(broken)
    (broken/'model.safetensors').unlink()
    torch.save({}, broken/'pytorch_model.bin')
    with pytest.raises(UserError, match='broken must hold its weights as safetensors'): open_encoder(broken)
    import huggingface_hub.constants
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(UserError, match="hf download nobody/nothing.*bundle of shutka's"):
        open_encoder('nobody/nothing')
    monkeypatch.setitem(sys.modules, 'sentence_transformers', None)
    with pytest.raises(UserError, match='pip install sentence-transformers'): open_encoder(bert)


@pytest.mark.parametrize('native, width', [(1024, 384), (48, 384), (384, 384), (768, 0)])
def test_one_width(native, width):
    rng = np.random.default_rng(1)
    encoder = CommitEncoder(lambda texts: rng.standard_normal((len(texts), native)),
                            {'encoder': 'chance', 'native': native})
    made = embed_texts(encoder, ['x'] * 50, width)
    assert made.shape == (50, width or native) and made.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    if native != width:
        np.testing.assert_array_equal(make_projection(native, width or 384),
                                      make_projection(native, width or 384))


# --- files

@pytest.mark.parametrize('kind', ['bert', 'jepa'])
def test_files_that_others_read(kind, request, commits, tmp_path, monkeypatch):
    monkeypatch.setattr(vector_file, 'BATCH_OF_COMMITS', 7)
    encoder, some = open_encoder(request.getfixturevalue(kind)), history(40)
    said = write_points(commits(some), tmp_path/'embeddings', encoder)
    assert read_json(tmp_path/'embeddings'/'embeddings.json') == {k: v for k, v in said.items() if k != 'embedded'}
    assert said['projection'] == (None if kind == 'bert' else 'random orthogonal')
    assert said['commits'] == said['embedded'] == 40
    found = saved(tmp_path/'embeddings')
    assert found['embeddings'].shape == (40, 384)
    assert found['embeddings'].dtype == np.float32
    assert found['timestamps'].dtype == np.int64
    assert found['ids'].tolist() == [c['hash'] for c in some]
    assert found['timestamps'].tolist() == [c['commit_timestamp'] for c in some]
    np.testing.assert_allclose(found['embeddings'], embed_texts(encoder, [summarize_commit(c) for c in some]),
                               atol=1e-5)
    assert (sorted(p.name for p in (tmp_path/'embeddings').iterdir() if p.name[0] != '.')
            == ['embeddings.json', 'embeddings_rich.npz', 'qdrant_points.json'])

    client = QdrantClient(':memory:')
    client.create_collection('history', models.VectorParams(size=384, distance=models.Distance.COSINE))
    loaded = json.loads((tmp_path/'embeddings'/'qdrant_points.json').read_text(encoding='utf-8'))['points']
    np.testing.assert_allclose([p['vector'] for p in loaded], found['embeddings'], atol=6e-9)
    client.upsert('history', [models.PointStruct(**p) for p in loaded])
    client.upsert('history', [models.PointStruct(**p) for p in loaded])   # the same points
    assert client.count('history').count == 40
    hit = client.query_points('history', embed_texts(encoder, [summarize_commit(some[17])])[0].tolist(),
                              limit=1).points[0]
    assert ((hit.id, hit.payload['hash'], hit.payload['files'])
            == (point_id(some[17]['hash']), some[17]['hash'], ['a.py', 'd.py', 'b.py']))
    assert 'author_email' not in hit.payload


def test_texts_of_any_kind(jepa, commits, tmp_path):
    odd = [commit(1, ''), commit(2, '日本 \x00 \udc80 🦆', 'b' * 100_000),
           commit(3, 'x', files_added=[], files_deleted=[], files_renamed={}),
           commit(4, '', files_added=[], files_deleted=[], files_renamed={})]
    path = commits([])
    path.write_text(''.join(json.dumps(c) + '\n' for c in odd))
    write_points(path, tmp_path/'e', open_encoder(jepa))
    assert np.isfinite(saved(tmp_path/'e')['embeddings']).all()
    assert ([p['payload']['subject'] for p in read_json(tmp_path/'e'/'qdrant_points.json')['points']]
            == ['', '日本 \x00 \ufffd 🦆', 'x', ''])   # half a character is repaired where a file is read


def test_hashes_of_sha256_are_kept_whole(jepa, commits, tmp_path):
    some = [commit(i, 'x') | {'hash': f'{i:064x}'} for i in range(3)]
    write_points(commits(some), tmp_path/'e', open_encoder(jepa))
    assert saved(tmp_path/'e')['ids'].tolist() == [c['hash'] for c in some]


# --- a run that dies, a history that grows

class Counting:
    "An encoder that notes what it is asked, and may die."
    def __init__(self, dies=-1): self.asked, self.dies = [], dies
    def __call__(self, texts):
        if self.dies >= 0 and len(self.asked) >= self.dies: raise KeyboardInterrupt
        self.asked += texts
        return np.stack([np.random.default_rng(sum(text.encode())).standard_normal(16) for text in texts])

def counting(dies=-1, fingerprint='one'):
    return CommitEncoder(Counting(dies), {'encoder': 'counting', 'kind': 'test', 'fingerprint': fingerprint,
                                          'native': 16})


def test_a_killed_run_goes_on(commits, tmp_path, monkeypatch):
    monkeypatch.setattr(vector_file, 'BATCH_OF_COMMITS', 5)
    path, folder = commits(history(23)), tmp_path/'e'
    with pytest.raises(KeyboardInterrupt): write_points(path, folder, counting(dies=10))
    assert not (folder/'embeddings.json').exists() and not (folder/'embeddings_rich.npz').exists()
    [records] = folder.glob('.vectors-*')
    with open(records, 'ab') as f: f.write(b'half a record')
    assert write_points(path, folder, second := counting())['embedded'] == len(second.encode.asked) == 13
    whole = write_points(path, tmp_path/'whole', counting())
    assert whole['embedded'] == 23
    for name in ('embeddings_rich.npz', 'qdrant_points.json', 'embeddings.json'):
        assert (folder/name).read_bytes() == (tmp_path/'whole'/name).read_bytes()


def test_less_than_one_record_is_nothing(commits, tmp_path):
    path, folder = commits(history(3)), tmp_path/'e'
    write_points(path, folder, counting())
    [records] = folder.glob('.vectors-*')
    os.truncate(records, 10)
    assert write_points(path, folder, counting())['embedded'] == 3
    assert np.isfinite(saved(folder)['embeddings']).all()


def test_only_new_commits_are_embedded_whatever_the_order(commits, tmp_path):
    folder, some = tmp_path/'e', history(30)
    write_points(commits(some[:20]), folder, counting())
    first = saved(folder)
    assert write_points(commits(some[5:][::-1]), folder, counting())['embedded'] == 10   # five are gone, ten are new
    found = saved(folder)
    assert found['ids'].tolist() == [c['hash'] for c in some[5:][::-1]]
    np.testing.assert_array_equal(found['embeddings'][::-1][:15], first['embeddings'][5:])
    assert write_points(commits(some), folder, counting(fingerprint='two'))['embedded'] == 30   # another encoder
    assert write_points(commits(some), folder, counting(fingerprint='two'), width=0)['embedded'] == 30   # another width
    assert len(list(folder.glob('.vectors-*'))) == 1 and saved(folder)['embeddings'].shape == (30, 16)


@pytest.mark.parametrize('step', ['write_npz', 'write_qdrant_points', 'write_json'])
def test_the_side_file_says_that_the_others_are_whole(step, commits, tmp_path, monkeypatch):
    folder = tmp_path/'e'
    write_points(commits(history(4)), folder, counting())
    def dies(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(points, step, dies)
        with pytest.raises(KeyboardInterrupt): write_points(commits(history(6)), folder, counting())
    assert not (folder/'embeddings.json').exists()
    assert write_points(commits(history(6)), folder, counting())['embedded'] == 0
    assert len(saved(folder)['ids']) == 6 and not [p for p in folder.iterdir() if p.name.endswith(('.half', '.jsonl'))]


def test_memory_does_not_grow_with_the_history(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_file, 'BATCH_OF_COMMITS', 64)
    encoder = CommitEncoder(lambda texts: np.ones((len(texts), 384)),
                            {'encoder': 'ones', 'kind': 'test', 'fingerprint': 'ones', 'native': 384})
    def peak(n):
        write_jsonl(tmp_path/f'{n}.jsonl', (commit(i, 'x') for i in range(n)))
        tracemalloc.start()
        write_points(tmp_path/f'{n}.jsonl', tmp_path/str(n), encoder)
        try: return tracemalloc.get_traced_memory()[1]
        finally: tracemalloc.stop()
    peak(64)
    few, many = peak(400), peak(2000)
    assert many - few < 1600 * 384 * 4 / 3   # vectors of all would be 2.4 MB more, as text ten


def test_refusals_leave_what_is_there(commits, tmp_path):
    folder = tmp_path/'e'
    write_points(commits(history(3)), folder, counting())
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for some, why in (([], 'at least one commit'), ([{'hash': 'ab'}], 'ab has not')):
        with pytest.raises(UserError, match=why): write_points(commits(some), folder, counting())
    with pytest.raises(UserError, match='width must be 0 or more'):
        write_points(commits(history(3)), folder, counting(), width=-1)
    with pytest.raises(UserError, match='does not exist'): write_points(tmp_path/'nothing.jsonl', folder, counting())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_nothing_heavy_is_imported_for_a_bundle(jepa):
    code = (f'import sys\nfrom shutka.history.embedding import open_encoder\nopen_encoder({str(jepa)!r})\n'
            'assert not {"sentence_transformers", "transformers"} & sys.modules.keys()')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).returncode == 0

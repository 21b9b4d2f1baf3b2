"Causal models of transformers on the loop: the loss is exact, the folder is everybody's, what is damaged is refused."
import json
import math
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from shutka.core.errors import UserError
from shutka.models import lm
from shutka.models.lm import (
    CausalLM,
    estimate_lm_size,
    lm_loss,
    make_lm_config,
    measure_perplexity,
    recompute_layers,
    shard_batch,
)
from shutka.models.lm_files import check_lm_head, load_pretrained_lm, open_lm, resize_vocabulary, save_lm
from shutka.models.lm_tokenizers import open_tokenizer, save_tokenizer, train_tokenizer
from shutka.text.commit_tokens import add_markers, spell_marker
from shutka.train.fit import fit
from shutka.train.phase import Phase
from shutka.train.trainer import Session

TEXT = 'commit: names with é and 日本 are kept\ndef calculate(a, b):\n    return a + b\n'
ROWS, LONG = 6, 24
DIFF = spell_marker('diff')


@pytest.fixture(scope='module')
def tokenizer():
    made = train_tokenizer([TEXT] * 9, size=330)
    add_markers(made)
    return made


@pytest.fixture(autouse=True)
def seed():
    torch.set_num_threads(2)
    torch.manual_seed(0)


def made(kind='GPT2', vocabulary=330, **settings):
    "A model of two narrow layers without dropout."
    import transformers
    small = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                 num_key_value_heads=2, max_position_embeddings=64)
    if kind == 'GPT2':
        small = dict(n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, n_positions=64)
    config = getattr(transformers, f'{kind}Config')(vocab_size=vocabulary, pad_token_id=None, **small | settings)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


def batch_of(step=0, rank=0, world=1, rows=ROWS):
    "Rows of which each counts another number of tokens."
    ids = torch.randint(0, 330, (rows, LONG), generator=torch.Generator().manual_seed(step))
    labels = ids.clone()
    for i in range(rows): labels[i, LONG - 3 * i:] = lm.IGNORED_LABEL
    return shard_batch(ids, labels, rank, world)


def gradients(loss, model):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


# --- the loss -------------------------------------------------------------------------------------

HEAD = pytest.mark.parametrize('frozen', [False, True], ids=['head learns', 'head is frozen'])


@HEAD
def test_the_loss_is_the_mean_over_counted_tokens_and_so_is_its_gradient(monkeypatch, frozen):
    model, batch = CausalLM(made()), batch_of()
    model.lm.get_output_embeddings().requires_grad_(not frozen)
    theirs = model.lm(input_ids=batch['ids'], labels=batch['labels']).loss
    wanted = gradients(theirs, model)
    for at_once in (1 << 20, 8 * ROWS, 1):   # all logits at a time, those of eight places, of one
        monkeypatch.setattr(lm, 'LOGITS_AT_ONCE', at_once)
        ours, parts = lm_loss(model, batch)
        assert_close(ours, theirs)
        assert_close(gradients(ours, model), wanted, rtol=1e-4, atol=1e-7)
        assert parts['tokens'] == (batch['labels'][:, 1:] != lm.IGNORED_LABEL).sum()


@HEAD
def test_logits_of_a_few_tokens_at_a_time(monkeypatch, frozen):
    class Largest(TorchDispatchMode):
        size = products = 0
        def __torch_dispatch__(self, op, types, args=(), named=None):
            out = op(*args, **(named or {}))
            self.products += op is torch.ops.aten.mm.default and out.shape[1] == 5000   # tokens times the matrix
            for t in out if isinstance(out, tuple | list) else [out]:
                if isinstance(t, torch.Tensor): self.size = max(self.size, t.numel())
            return out

    monkeypatch.setattr(lm, 'LOGITS_AT_ONCE', 2 * ROWS)
    model, batch = CausalLM(made(vocabulary=5000)), batch_of()
    model.lm.get_output_embeddings().requires_grad_(not frozen)
    with Largest() as seen: lm_loss(model, batch)[0].backward()
    assert seen.size < 4 * ROWS * 5000 < ROWS * (LONG - 1) * 5000 / 4
    pieces = math.ceil(int((batch['labels'][:, 1:] != lm.IGNORED_LABEL).sum()) / (2 * ROWS))
    assert seen.products == pieces * (1 if frozen else 2)   # once where nothing of it learns


def test_padding_is_nobodys_business():
    model, batch = CausalLM(made()), batch_of()
    last = [row[row != lm.IGNORED_LABEL].numel() for row in batch['labels']]
    changed = batch['ids'].clone()
    for row, n in zip(changed, last): row[n:] = 7
    assert torch.equal(model(changed, batch['labels']), model(batch['ids'], batch['labels']))


def test_a_batch_in_which_nothing_counts_teaches_nothing():
    model, batch = CausalLM(made()), batch_of()
    loss, _ = lm_loss(model, shard_batch(batch['ids'], torch.full_like(batch['ids'], lm.IGNORED_LABEL)))
    assert loss == 0 and all(not g.any() for g in gradients(loss, model).values())


def test_layers_computed_again_learn_the_same():
    model = CausalLM(made(resid_pdrop=.1)).train()
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(gradients(lm_loss(model, batch_of())[0], model))
        recompute_layers(model)
    assert_close(*found, rtol=0, atol=0)


# --- on the loop ----------------------------------------------------------------------------------

PHASE = Phase(name='lm', batch=batch_of, loss=lm_loss, lr=3e-3, steps=4)


def test_micro_batches_change_nothing(tmp_path):
    def run(n): return list(fit(CausalLM(made()), [PHASE], tmp_path/str(n), Session(micro_batches=n, save_every=0)))
    rows = [run(n) for n in (1, 4)]
    values = lambda row: [row[k] for k in ('loss', 'grad_norm')]
    for whole, parts in zip(*rows): assert values(parts) == pytest.approx(values(whole), rel=1e-5)
    assert rows[1][0]['pieces'] == 4


def child(folder):
    rows = list(fit(CausalLM(made()), [PHASE], folder/'two', Session(world=2)))
    if os.environ['RANK'] == '0': (folder/'rows.json').write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()

def test_two_processes_with_unequal_rows_are_one(tmp_path):
    launch = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone']
    env = os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([*launch, __file__, str(tmp_path)], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    two, one = json.loads((tmp_path/'rows.json').read_text()), list(fit(CausalLM(made()), [PHASE], tmp_path/'one'))
    for key in ('loss', 'grad_norm'): assert [r[key] for r in two] == pytest.approx([r[key] for r in one], rel=1e-5)


def test_a_tiny_gpt2_learns_and_its_folder_says_the_same(tmp_path, tokenizer):
    model = open_lm('tiny', tokenizer, positions=256)
    ids = torch.tensor([tokenizer.encode('<|subject|>' + TEXT + tokenizer.eos_token)] * 4)
    held = [{'ids': ids[:1], 'labels': ids[:1]}]
    before = measure_perplexity(model, held)['perplexity']
    phase = Phase(name='lm', batch=lambda step, rank, world: shard_batch(ids, ids, rank, world), loss=lm_loss,
                  lr=2e-3, steps=30, warmup=3, check=partial(measure_perplexity, batches=held), every=10,
                  score='-val_loss')
    rows = list(fit(model, [phase], tmp_path/'checkpoints'))
    assert rows[-1]['loss'] < .3 * rows[0]['loss'] and 'tokens_s' in rows[-1]
    assert measure_perplexity(model, held)['perplexity'] == pytest.approx(rows[-1]['perplexity'])
    assert rows[-1]['perplexity'] < before / 20
    save_lm(tmp_path/'model', model, tokenizer)
    again = open_lm(tmp_path/'model', open_tokenizer(tmp_path/'model'))
    with torch.no_grad(): assert torch.equal(again.lm(ids).logits, model.eval().lm(ids).logits)
    assert again.lm.get_input_embeddings().weight is again.lm.get_output_embeddings().weight


def test_perplexity_counts_each_token_once():
    model, batch = CausalLM(made()).train(), batch_of()
    one = [{k: batch[k][i:i + 1] for k in ('ids', 'labels')} for i in range(ROWS)]
    assert measure_perplexity(model, [batch]) == pytest.approx(measure_perplexity(model, one))
    assert measure_perplexity(model, [batch])['val_loss'] == pytest.approx(lm_loss(model, batch)[0].item())
    assert model.training


# --- new words ------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind, settings', [('GPT2', {}), ('Llama', {'tie_word_embeddings': False}), ('Phi', {})])
def test_new_words_start_at_the_mean(kind, settings):
    model = resize_vocabulary(made(kind, 330, **settings), 320, 333)   # ten rows of padding, and three more
    matrices = {id(t): t for t in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)}.values()
    assert len(matrices) == (kind == 'GPT2' and 1 or 2) and model.config.vocab_size == 333
    for m in matrices: assert_close(m[320:], m[:320].mean(0).expand(13, -1))
    bias = getattr(model.get_output_embeddings(), 'bias', None)
    if bias is not None: assert_close(bias[320:], bias[:320].mean().expand(13))
    logits = model(torch.arange(5)[None]).logits.softmax(-1)
    assert (logits[..., 320:].sum(-1) <= 13 / 320).all()


def test_padding_of_the_vocabulary_is_kept(tmp_path, tokenizer):
    own = open_tokenizer(save_tokenizer(tmp_path/'own', train_tokenizer([TEXT] * 9, size=330)))
    save_lm(tmp_path/'padded', CausalLM(made(vocabulary=512)), own)
    model = open_lm(tmp_path/'padded', tokenizer)
    rows = model.lm.get_input_embeddings().weight
    assert len(rows) == model.lm.config.vocab_size == 512
    assert_close(rows[len(own):len(tokenizer)], rows[:len(own)].mean(0).expand(12, -1))


# --- the folder is everybody's --------------------------------------------------------------------

SEED = """
from transformers import GPT2LMHeadModel, GPT2Tokenizer

model = GPT2LMHeadModel.from_pretrained(
    'models/the-block-git-model-final'
)
tokenizer = GPT2Tokenizer.from_pretrained(
    'models/the-block-git-model-final'
)

# Generate code
prompt = "def calculate"
inputs = tokenizer.encode(prompt, return_tensors='pt')
outputs = model.generate(
    inputs,
    max_length=200,
    temperature=0.7,
    num_return_sequences=3
)

for i, output in enumerate(outputs):
    print(f"\\n=== Sample {i+1} ===")
    print(tokenizer.decode(output, skip_special_tokens=True))
"""

@pytest.fixture(scope='module')
def folder(tmp_path_factory, tokenizer):
    "A model nobody trained, saved."
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp('run')/'models'/'the-block-git-model-final'
    return save_lm(place, open_lm('tiny', tokenizer, positions=256), tokenizer)


def test_plain_transformers_generates_as_documented(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parents[1])
    exec(SEED, {})
    said = capsys.readouterr().out
    assert said.count('=== Sample') == said.count('def calculate') == 3


def test_every_class_opens_it(folder, tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel, GPT2Tokenizer
    ids = tokenizer.encode(DIFF + TEXT + '🦆')
    for kind in (AutoTokenizer, GPT2Tokenizer):
        assert kind.from_pretrained(folder).encode(DIFF + TEXT + '🦆') == ids
        assert kind.from_pretrained(folder).decode(ids, skip_special_tokens=True) == TEXT + '🦆'
    weights = [kind.from_pretrained(folder).state_dict() for kind in (AutoModelForCausalLM, GPT2LMHeadModel)]
    assert_close(*weights, rtol=0, atol=0)
    old = shutil.copytree(folder, tmp_path/'old')
    (old/'tokenizer.json').unlink()   # what the older class reads
    assert GPT2Tokenizer.from_pretrained(old).encode(TEXT + '🦆') == tokenizer.encode(TEXT + '🦆')
    assert {path.suffix for path in folder.iterdir()} == {'.json', '.txt', '.safetensors'}


def test_a_save_that_fails_leaves_the_old_folder(folder, tokenizer, tmp_path, monkeypatch):
    place = shutil.copytree(folder, tmp_path/'model')
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def refused():
        with pytest.raises(UserError, match='must fit on the disk'):
            save_lm(place, open_lm('tiny', tokenizer), tokenizer)

    def full(*args): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        refused()
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    rename = os.rename
    def second(source, target):
        if Path(source).name == '.model.half': raise OSError(5, 'Input/output error')
        rename(source, target)
    with monkeypatch.context() as m:
        m.setattr(os, 'rename', second)
        refused()
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    place.rename(tmp_path/'.model.old')   # killed between the two
    def torn(*ignored, **also): raise SafetensorError('No space left on device')
    with monkeypatch.context() as m:
        m.setattr('transformers.GPT2LMHeadModel.save_pretrained', torn)
        refused()
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    save_lm(place, open_lm('tiny', tokenizer), tokenizer, {'training_report.json': '{}'})
    assert (place/'training_report.json').read_text() == '{}'
    assert [path.name for path in tmp_path.iterdir()] == ['model']


# --- what is refused ------------------------------------------------------------------------------

def cut(path): path.write_bytes(path.read_bytes()[:2000])

def pickled(folder):
    (folder/'model.safetensors').unlink()
    torch.save({}, folder/'pytorch_model.bin')

def reshaped(**shape):
    "A change of some numbers in config.json."
    def change(folder):
        config = json.loads((folder/'config.json').read_text())
        (folder/'config.json').write_text(json.dumps(config | shape))
    return change

def foreign(folder):
    "A model that brings a program."
    classes = {'AutoConfig': 'mine.Mine', 'AutoModelForCausalLM': 'mine.Mine'}
    (folder/'config.json').write_text(json.dumps({'model_type': 'mine', 'auto_map': classes}))
    (folder/'mine.py').write_text(f'open({str(folder/"ran")!r}, "w")\nclass Mine: pass\n')

DAMAGE = {
    'weights cut short': lambda f: cut(f/'model.safetensors'),
    'no weights': lambda f: (f/'model.safetensors').unlink(),
    'weights that are a program': pickled,
    'a program': foreign,
    'no config': lambda f: (f/'config.json').unlink(),
    'config cut short': lambda f: (f/'config.json').write_text('{"model_type": "gp'),
    'more layers than weights': reshaped(n_layer=5),
    'fewer layers than weights': reshaped(n_layer=3),
    'another width': reshaped(n_embd=64),
    'tokenizer cut short': lambda f: cut(f/'tokenizer.json'),
    'a tokenizer of something else': lambda f: (f/'tokenizer.json').write_text('{"version": "1.0"}'),
}

KERNEL = 'ada/fast-attention'

WISHES = {   # file -> what it asks for, all of them programs
    'an attention': ('config.json', {'model_type': 'gpt2', '_attn_implementation': KERNEL}),
    'one of a revision': ('config.json', {'model_type': 'gpt2', 'attn_implementation': f'{KERNEL}@main:forward'}),
    'one of a part': ('config.json', {'text_config': {'_attn_implementation': KERNEL}}),
    'one for each part': ('config.json', {'attn_implementation': {'': 'sdpa', 'text': KERNEL}}),
    'experts': ('config.json', {'_experts_implementation': KERNEL}),
    'an attention beside the weights': ('sentence_bert_config.json', {'model_args': {'attn_implementation': KERNEL}}),
    'a class from the folder': ('modules.json', [{'idx': 0, 'name': '0', 'path': '', 'type': 'mine.Mine'}]),
    'a class of a router': ('1_Router/router_config.json', {'types': {'a': 'mine.Mine'}}),
    'a function': ('2_Dense/config.json', {'activation_function': 'os.system'}),
    'a model elsewhere': ('adapter_config.json', {'base_model_name_or_path': 'ada/base'}),
    'deep JSON': ('modules.json', None),
    'a number': ('config.json', 7),
}

@pytest.mark.parametrize('wish', WISHES)
def test_a_folder_that_asks_for_a_program_is_refused_before_anything_reads_it(wish, folder, tmp_path, monkeypatch):
    from shutka.models.opening import open_model
    name, value = WISHES[wish]
    asks = shutil.copytree(folder, tmp_path/'asks')
    (asks/name).parent.mkdir(exist_ok=True)
    (asks/name).write_text('[' * 10**5 if value is None else json.dumps(value))
    (asks/'mine.py').write_text(f'open({str(asks/"ran")!r}, "w")\nclass Mine: pass\n')
    if name != 'config.json': (asks/'modules.json').touch()   # it is a sentence encoder then
    read = []
    for kind in ('AutoModelForCausalLM', 'AutoConfig', 'AutoTokenizer'):
        monkeypatch.setattr(f'transformers.{kind}.from_pretrained', lambda *args, **kw: read.append(args))
    for call in (open_model, open_tokenizer, lambda name: open_lm(name, None), lambda name: make_lm_config(name, 9)):
        with pytest.raises(UserError, match='asks'): call(asks)
    assert not read and not (asks/'ran').exists()


def test_a_name_on_a_hub_that_asks_for_a_program_is_refused(monkeypatch):
    asks = {'_attn_implementation': KERNEL}
    monkeypatch.setattr('transformers.PretrainedConfig.get_config_dict', lambda name: (asks, {}))
    for call in (load_pretrained_lm, lambda name: make_lm_config(name, 9)):
        with pytest.raises(UserError, match='ada/model must not ask for a program from a hub'): call('ada/model')


@pytest.mark.parametrize('choice', ['flash_attention_2', 'flash_attention_3', 'flex_attention', 'eager', 'sdpa'])
def test_a_folder_does_not_choose_how_attention_is_computed(choice, folder, tokenizer, tmp_path, monkeypatch):
    "Where its package is missing, transformers fetches a program for some of these."
    from shutka.models.opening import open_model
    fetched = []
    monkeypatch.setattr('transformers.modeling_utils.lazy_import_flash_attention', lambda *a, **kw: fetched.append(a))
    asks = shutil.copytree(folder, tmp_path/'asks')
    reshaped(_attn_implementation=choice)(asks)
    for opened in (open_lm(asks, tokenizer).lm, open_lm(asks, tokenizer, scratch=True).lm, open_model(asks).model):
        assert opened.config._attn_implementation == 'sdpa'
    assert not fetched


def test_weights_that_are_a_program_are_refused_in_each_part(folder, tmp_path):
    asks = shutil.copytree(folder, tmp_path/'asks')
    (asks/'2_Dense').mkdir()
    torch.save({}, asks/'2_Dense'/'pytorch_model.bin')
    with pytest.raises(UserError, match='2_Dense must hold its weights as safetensors'): open_tokenizer(asks)


@pytest.mark.parametrize('template', ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}",
                                      "{{ cycler.__init__.__globals__.os.popen('id').read() }}"])
def test_a_chat_template_stays_in_its_sandbox(template, folder):
    from jinja2.exceptions import SecurityError
    tokenizer = open_tokenizer(folder)
    tokenizer.chat_template = template
    with pytest.raises(SecurityError): tokenizer.apply_chat_template([{'role': 'user', 'content': 'a'}], tokenize=False)


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_folder_is_refused(damage, folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path/'broken')
    DAMAGE[damage](broken)
    with pytest.raises(UserError, match='broken'): open_lm(broken, open_tokenizer(broken))
    assert not (broken/'ran').exists()


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch, tokenizer):
    import huggingface_hub.constants
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    for call, *more in ((open_tokenizer,), (open_lm, tokenizer), (estimate_lm_size, 330, 8)):
        with pytest.raises(UserError, match="hf download nobody/nothing.*'tiny'"): call('nobody/nothing', *more)


def test_refusals_name_what_is_wrong(folder, tokenizer):
    long = torch.zeros(1, 65, dtype=torch.long)
    with pytest.raises(UserError, match=r'at most the 64 positions of GPT2LMHeadModel, got 65 tokens'):
        CausalLM(made())(long, long)
    other = train_tokenizer(['something else'] * 9, 300)
    with pytest.raises(UserError, match='to which tokens may be added'): open_lm(folder, other)
    with pytest.raises(UserError, match='positions must be 0'): open_lm(folder, tokenizer, positions=512)
    squashed = made('Gemma2', head_dim=8, final_logit_softcapping=.1).eval()
    with pytest.raises(UserError, match='Gemma2ForCausalLM are not'): check_lm_head(squashed)


def test_sizes_are_counted_without_memory():
    one = estimate_lm_size('gpt2-medium', 50_257, tokens=8 * 1024)
    assert (one['parameters'], one['width'], one['layers']) == (354_823_168, 1024, 24)
    assert one['vocabulary'] * one['tokens'] == pytest.approx(50_257 * lm.LOGITS_AT_ONCE, rel=1e-3)
    assert estimate_lm_size('gpt2-medium', 50_257, 8, positions=2048)['parameters'] == one['parameters'] + 1024 * 1024


if __name__ == '__main__':
    torch.set_num_threads(1)
    child(Path(sys.argv[1]))

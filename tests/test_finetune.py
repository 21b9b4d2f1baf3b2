"Fine-tuning: packed rows do not leak, a run resumes bitwise, what is wrong is said before anything is written."
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from tuning import make_base, make_rows, make_settings, make_tokenizer

import shutka
from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl, write_json
from shutka.data.examples import parse_example
from shutka.finetune.examination import encode_question, write_answers
from shutka.finetune.recipe import Finetune
from shutka.finetune.run import answer_both, open_tuned, plan_finetune, train
from shutka.models import lora
from shutka.models.bases import load_base
from shutka.models.lm import IGNORED_LABEL, CausalLM, lm_loss, shard_batch
from shutka.models.lora import (
    ADAPTERS,
    LoraShape,
    attach_adapters,
    digest_weights,
    load_adapters,
    merge_adapters,
    save_adapters,
)
from shutka.models.opening import open_model
from shutka.train.fit import fit
from shutka.train.folder import prepare
from shutka.train.phase import Phase
from shutka.train.trainer import Session

peft = pytest.importorskip('peft')
quiet = lambda line: None


def make_lm(kind='Llama', seed=0, **settings):
    "A small model without dropout."
    import transformers
    small = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
                 num_key_value_heads=2, max_position_embeddings=64, vocab_size=330, pad_token_id=None, head_dim=16)
    if kind == 'GPT2':
        small = dict(n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=330, resid_pdrop=0, embd_pdrop=0,
                     attn_pdrop=0)
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, f'{kind}Config')(**small | settings))


# --- packed rows ----------------------------------------------------------------------------------

@pytest.mark.parametrize('attention', ['sdpa', 'eager'])
@pytest.mark.parametrize('kind', ['Llama', 'Qwen2', 'GPT2', 'Qwen3', 'Phi3', 'Gemma3Text'])
def test_an_example_in_a_packed_row_is_as_if_alone(kind, attention):
    model = CausalLM(make_lm(kind, attn_implementation=attention)).eval()
    with torch.no_grad():   # attention that says something
        for p in model.parameters(): p.mul_(3)
    first, second = torch.randint(1, 330, (1, 9)), torch.randint(1, 330, (1, 14))
    labels = torch.cat([first, second], 1)
    labels[0, 9] = IGNORED_LABEL
    ids, positions = torch.cat([first, second], 1), torch.cat([torch.arange(9), torch.arange(14)])[None]
    alone = model(first, first) + model(second, second)
    packed, leaking = model(ids, labels, positions), model(ids, labels)
    assert_close(packed, alone, rtol=1e-5, atol=1e-4)
    assert (leaking - alone).abs() > 1e-2


def test_logits_differ_when_examples_see_each_other_and_only_then():
    lm = make_lm(num_hidden_layers=2).eval()
    with torch.no_grad():
        for p in lm.parameters(): p.mul_(3)
    first, second = torch.randint(1, 330, (1, 9)), torch.randint(1, 330, (1, 14))
    ids, positions = torch.cat([first, second], 1), torch.cat([torch.arange(9), torch.arange(14)])[None]
    alone = lm(second).logits
    no_mask = lm(ids, position_ids=positions, use_cache=False).logits[:, 9:]
    mask = lm(ids, position_ids=positions, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, 9:]
    assert (no_mask - alone).abs().max() < 1e-4 < .1 < (mask - alone).abs().max()


# --- on the loop ----------------------------------------------------------------------------------

def batch_of(step, rank=0, world=1):
    "Six packed rows of which each counts another number of tokens."
    ids = torch.randint(0, 330, (6, 24), generator=torch.Generator().manual_seed(step))
    labels, positions = ids.clone(), torch.cat([torch.arange(10), torch.arange(14)]).repeat(6, 1)
    for i in range(6): labels[i, 24 - 3 * i:] = IGNORED_LABEL
    return shard_batch(ids, labels, rank, world, positions)

PHASE = Phase(name='finetune', batch=batch_of, loss=lm_loss, adds=True, lr=3e-3, steps=4, learn=ADAPTERS)

def make_adapted():
    torch.manual_seed(1)
    return attach_adapters(make_lm(), LoraShape(rank=4, dropout=0.))

def child(folder):
    rows = list(fit(make_adapted(), [PHASE], folder/'two', Session(world=2, micro_batches=3)))
    if os.environ['RANK'] == '0': (folder/'rows.json').write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()

def test_two_processes_with_micro_batches_are_one(tmp_path):
    launch = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone']
    subprocess.run([*launch, __file__, str(tmp_path)], check=True, timeout=300,
                   env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent.parent)})
    one = list(fit(make_adapted(), [PHASE], tmp_path/'one'))
    values = lambda row: [row[k] for k in ('loss', 'grad_norm')]
    for mine, theirs in zip(one, json.loads((tmp_path/'rows.json').read_text())):
        assert values(mine) == pytest.approx(values(theirs), rel=1e-5)


def test_a_checkpoint_holds_adapters_and_their_optimizer_only(tmp_path):
    from safetensors.torch import load_file
    list(fit(make_adapted(), [PHASE], tmp_path, Session(save_every=0)))
    for path in tmp_path.glob('step-*/*.safetensors'): assert all('.lora_' in name for name in load_file(path))


def test_four_bits_learn_on_the_cpu(tmp_path):
    pytest.importorskip('bitsandbytes')
    model = attach_adapters(load_base(make_base(tmp_path/'base'), four_bit=True), LoraShape(rank=4, dropout=0.))
    kinds = {type(module).__name__ for module in model.lm.modules()}
    assert 'Linear4bit' in kinds
    ids = torch.tensor([make_tokenizer().encode(make_rows()[0]['output'])])
    labels = {'ids': ids, 'labels': ids, 'share': torch.tensor(ids.shape[1] - 1.)}
    phase = Phase(name='q', batch=lambda *_: labels, loss=lm_loss, adds=True, lr=3e-2, steps=12, learn=ADAPTERS)
    rows = list(fit(model, [phase], tmp_path/'steps'))
    assert rows[-1]['loss'] < rows[0]['loss'] - .01
    assert all(p.dtype == torch.float32 for name, p in model.named_parameters() if '.lora_' in name)


def test_memory_that_does_not_suffice_makes_smaller_micro_batches(tmp_path):
    class Full(CausalLM):
        def forward(self, ids, labels, positions=None):
            if len(ids) > 2: raise torch.cuda.OutOfMemoryError('tried to allocate 90 GiB')
            return super().forward(ids, labels, positions)

    phase = Phase(name='full', batch=batch_of, loss=lm_loss, adds=True, lr=3e-3, steps=2)
    with pytest.warns(UserWarning, match='in 4 micro-batches'): rows = list(fit(Full(make_lm()), [phase], tmp_path/'a'))
    whole = list(fit(CausalLM(make_lm()), [phase], tmp_path/'b'))
    assert [row['pieces'] for row in rows] == [4, 4]
    assert [row['loss'] for row in rows] == pytest.approx([row['loss'] for row in whole], rel=1e-5)


def test_a_run_in_four_bits_ends_in_a_bundle(tmp_path):
    pytest.importorskip('bitsandbytes')
    result = train(make_settings(tmp_path, use_qlora=True, epochs=1), show=lambda *_: None)
    assert result.status == 'ok' and open_model(result.bundle).kind == 'causal'


def train_in_a_child(out):
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get('PYTHONPATH', '')])
    return subprocess.Popen([sys.executable, str(Path(__file__).parent/'tuning.py'), str(out), '1', 'inf'],
                            env=os.environ | {'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}, stderr=subprocess.DEVNULL)

def read_losses(out):
    return [(row['step'], row['loss'], row.get('val_loss')) for row in read_jsonl(out/'log.jsonl') if 'step' in row]

def test_a_killed_run_resumes_bitwise(tmp_path):
    for name in ('killed', 'whole'):
        prepare(Finetune(make_settings(tmp_path, out=str(tmp_path/name), lora_dropout=.1)), quiet)
    running = train_in_a_child(tmp_path/'killed')
    log, until = tmp_path/'killed'/'log.jsonl', time.time() + 120
    while not (log.exists() and log.read_text().count('"step"') >= 2) and time.time() < until: time.sleep(.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    begun = read_losses(tmp_path/'killed')
    for name in ('killed', 'whole'): assert train_in_a_child(tmp_path/name).wait(300) == 0
    killed, whole = read_losses(tmp_path/'killed'), read_losses(tmp_path/'whole')
    assert 2 <= len(begun) < len(whole) and killed == whole
    weights = [(tmp_path/name/'model'/lora.ADAPTER_WEIGHTS).read_bytes() for name in ('killed', 'whole')]
    assert weights[0] == weights[1]


# --- from the data to the bundle ------------------------------------------------------------------

@pytest.fixture(scope='module')
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tuned')
    return folder, train(make_settings(folder, epochs=6), show=lambda *_: None)


def test_both_models_answer_the_same_questions(tuned):
    folder, _ = tuned
    asked, told = [parse_example(row, 'here') for row in make_rows()[:3]], []
    found = answer_both(folder/'run', asked, 12, lambda *done: told.append(done))
    assert list(found) == ['untouched', 'tuned'] and {len(answers) for answers in found.values()} == {3}
    model = open_tuned(Finetune(make_settings(folder, epochs=6)))
    questions = [encode_question(make_tokenizer(), example) for example in asked]
    assert write_answers(model, make_tokenizer(), questions, 12) == found['tuned'] != found['untouched']
    assert told[-1] == ('tuned', 3) and ('untouched', 3) in told


def test_a_tuning_goes_on_from_the_adapters_of_an_earlier_run(tuned, tmp_path):
    folder, _ = tuned
    later = Finetune(make_settings(folder, out=str(tmp_path/'later'), resume=str(folder/'run'), epochs=1))
    prepare(later, quiet)
    begins, ended = later.build_training()[0], open_tuned(Finetune(make_settings(folder, epochs=6)))
    for name, weights in lora.list_adapters(ended).items():
        assert_close(lora.list_adapters(begins)[name].cpu(), weights.cpu(), rtol=0, atol=0)
    with pytest.raises(UserError, match='adapters of the same shape'):
        prepare(Finetune(make_settings(folder, out=str(tmp_path/'b'), resume=str(folder/'run'), lora_rank=2)), quiet)
    with pytest.raises(UserError, match='the folder of a run or a model'):
        plan_finetune(make_settings(folder, out=str(tmp_path/'c'), resume=str(tmp_path/'none')))


def test_the_bundle_opens_with_its_base_and_says_what_it_is(tuned, monkeypatch):
    folder, result = tuned
    assert result.status == 'ok'
    rows = {(row['pool'], row['method']): row for row in result.value['examination']}
    assert rows['holdout', 'tuned']['difference_high'] < 0
    assert len(rows) == 6 and {method for _, method in rows} == {'untouched', 'tuned'}
    opened = open_model(result.bundle)
    assert opened.kind == 'causal' and opened.run['data']['base']['name'] == 'base'
    assert str(folder) not in json.dumps(opened.run)
    ids = torch.tensor([opened.tokenizer.encode(make_rows()[0]['output'])])
    model = open_tuned(Finetune(make_settings(folder, epochs=6)))
    with torch.no_grad():
        assert_close(opened.model(ids).logits, model.lm(ids).logits, rtol=1e-4, atol=1e-4)
        assert_close(shutka.load(result.bundle).model(ids).logits, opened.model(ids).logits)
        assert_close(open_model(folder/'run').model(ids).logits, opened.model(ids).logits)
        theirs = peft.PeftModel.from_pretrained(load_base(folder/'base'), folder/'run'/'model')
        assert_close(theirs(ids).logits, model.lm(ids).logits, rtol=1e-4, atol=1e-5)


def test_a_base_that_is_gone_or_another_is_said_in_a_sentence(tuned, tmp_path, monkeypatch):
    folder, result = tuned
    moved = tmp_path/'bundle'/result.bundle.name
    moved.parent.mkdir()
    moved.write_bytes(result.bundle.read_bytes())
    with pytest.raises(UserError, match=r'must have its base base .*not found.* or name the folder around it in '):
        shutka.load(moved)
    make_base(moved.parent/'base', seed=9)
    with pytest.raises(UserError, match='base is another model'): shutka.load(moved)
    monkeypatch.setenv('SHUTKA_MODELS', str(folder))
    assert shutka.load(moved).kind == 'causal'
    os.rename(folder/'base', folder/'aside')
    try:
        with pytest.raises(UserError, match='must have its base'): open_model(folder/'run')
    finally: os.rename(folder/'aside', folder/'base')


def test_what_is_wrong_with_the_data_is_said_before_anything_is_written(tmp_path):
    settings = make_settings(tmp_path)
    lines = [json.dumps(row) for row in make_rows()]
    cases = {'{"instruction": "a", "output": "b"': 'data.jsonl:4', json.dumps({'instruction': 'a', 'output': ' '}):
             "data.jsonl:4: 'output' must not be empty",
             json.dumps(make_rows()[0] | {'output': 'another'}): 'must have one answer'}
    for bad, words in cases.items():
        Path(settings.dataset).write_text('\n'.join([*lines[:3], bad, *lines[3:]]))
        with pytest.raises(UserError, match=words): train(settings, show=lambda *_: None)
        assert not (tmp_path/'run'/'run.json').exists() and not (tmp_path/'run'/'data').exists()


def test_the_plan_of_a_preset_needs_no_network_and_no_data(tmp_path):
    from shutka.finetune import FinetuneSettings
    from shutka.train.pace import parse_machine
    settings = FinetuneSettings(preset='qwen_1_5b', use_qlora=True, out=str(tmp_path/'run'))
    plan = plan_finetune(settings, parse_machine('t4x2', time.time()))
    assert plan.processes == 2 and 1e9 < sum(plan.memory.values()) < 16e9 and not [*tmp_path.iterdir()]


def test_an_estimate_is_no_run(tmp_path):
    result = train(make_settings(tmp_path, estimate_memory=True, dataset=''))
    assert result.status == 'ok' and '1 row ' in result.tables['Memory']
    with pytest.raises(UserError, match='dataset must be'): train(make_settings(tmp_path, dataset=''))


# --- merging --------------------------------------------------------------------------------------

@pytest.fixture
def mergeable(tmp_path):
    "A base in several files, adapters of it that say something, and what both say together."
    base, tokenizer = make_base(tmp_path/'base'), make_tokenizer()
    load_base(base).save_pretrained(tmp_path/'shards', max_shard_size='100KB')
    (tmp_path/'shards'/'generation_config.json').unlink(missing_ok=True)
    model = attach_adapters(load_base(tmp_path/'shards'), LoraShape(rank=4))
    with torch.no_grad():
        for t in model.state_dict().values(): t.add_(.1 * torch.randn_like(t))
    save_adapters(tmp_path/'adapters', model, tokenizer,
                  {'name': 'shards', 'sha256': digest_weights(tmp_path/'shards'), 'licence': 'mit'})
    ids = torch.tensor([tokenizer.encode(make_rows()[0]['output'])])
    with torch.no_grad(): return tmp_path, ids, model.eval().lm(ids).logits

def test_a_merged_model_says_the_same(mergeable):
    folder, ids, said = mergeable
    assert len([*(folder/'shards').glob('*.safetensors')]) > 2
    merge_adapters(folder/'shards', folder/'adapters', folder/'merged')
    with torch.no_grad(): assert_close(open_model(folder/'merged').model(ids).logits, said, rtol=0, atol=1e-4)

def test_a_disk_that_fills_while_merging_loses_nothing(mergeable, monkeypatch):
    folder, ids, said = mergeable
    merge_adapters(folder/'shards', folder/'adapters', folder/'merged')
    before = {path.name: path.read_bytes() for path in (folder/'merged').iterdir()}
    written, save = [], lora.save_file

    def fill(tensors, path, **more):
        written.append(path)
        if len(written) == 2: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, path, **more)

    monkeypatch.setattr(lora, 'save_file', fill)
    with pytest.raises(UserError, match='must fit on the disk'):
        merge_adapters(folder/'shards', folder/'adapters', folder/'merged')
    assert {path.name: path.read_bytes() for path in (folder/'merged').iterdir()} == before
    assert not [path for path in folder.iterdir() if path.name.startswith('.')]

def test_a_disk_that_is_too_small_is_seen_first(mergeable, monkeypatch):
    folder = mergeable[0]
    free = lora.shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(lora.shutil, 'disk_usage', lambda path: free)
    with pytest.raises(UserError, match=r'of 0\.00 GB must fit on the disk'):
        merge_adapters(folder/'shards', folder/'adapters', folder/'merged')
    assert not (folder/'merged').exists()

def test_adapters_of_another_base_are_refused(mergeable, tmp_path):
    folder = mergeable[0]
    make_base(folder/'stranger', seed=5)
    with pytest.raises(UserError, match='is another model'):
        merge_adapters(folder/'stranger', folder/'adapters', folder/'merged')
    with pytest.raises(UserError, match='of a model of another shape'):
        load_adapters(make_lm(num_hidden_layers=2), folder/'adapters')


# --- what a stranger's folder may hold ------------------------------------------------------------

@pytest.mark.parametrize('change', [
    {'peft_type': 'VERA'}, {'target_modules': '(a+)+$'}, {'target_modules': None}, {'rank_pattern': {'(a+)+$': 4}},
    {'modules_to_save': ['lm_head']}, {'r': '4'}, {'r': 10**9}, {'bias': 'all'}, {'use_dora': 'yes'},
    {'auto_mapping': {'base_model_class': 'os'}, 'peft_type': None}])
def test_a_config_that_is_not_plain_lora_is_refused(mergeable, change):
    folder = mergeable[0]/'adapters'
    write_json(folder/lora.ADAPTER_CONFIG, read_json(folder/lora.ADAPTER_CONFIG) | change)
    with pytest.raises(UserError): load_adapters(load_base(mergeable[0]/'base'), folder)

def test_pickled_and_damaged_adapters_are_refused(mergeable):
    folder = mergeable[0]/'adapters'
    (folder/lora.ADAPTER_WEIGHTS).write_bytes((folder/lora.ADAPTER_WEIGHTS).read_bytes()[:200])
    with pytest.raises(UserError, match='is damaged'): load_adapters(load_base(mergeable[0]/'base'), folder)
    os.rename(folder/lora.ADAPTER_WEIGHTS, folder/'adapter_model.bin')
    with pytest.raises(UserError, match='must hold its adapters as'):
        load_adapters(load_base(mergeable[0]/'base'), folder)


if __name__ == '__main__': child(Path(sys.argv[1]))


def test_a_run_whose_base_is_a_gguf_file_becomes_one(tmp_path):
    from shutka.export.gguf_export import export_gguf
    from shutka.models.gguf_files import open_gguf
    base = export_gguf(make_base(tmp_path/'there'), tmp_path/'base.gguf', 'F32', progress=quiet)
    settings = make_settings(tmp_path, preset=str(base), steps=2, epochs=0)
    train(settings, show=lambda *_: None)
    made = export_gguf(settings.out, tmp_path/'tuned.gguf', 'F32', merge=True, progress=quiet)
    tuned, ids = open_tuned(Finetune(settings)), torch.arange(20)[None]
    with torch.no_grad(): assert_close(open_gguf(made)[0].eval()(ids).logits, tuned.merge().eval()(ids).logits)
    base.write_bytes(base.read_bytes() + b'0')   # another file than the one that was tuned
    with pytest.raises(UserError, match='must have its base'):
        export_gguf(settings.out, tmp_path/'other.gguf', 'F32', merge=True, progress=quiet)

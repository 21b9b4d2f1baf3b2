"Data of fine-tuning: rows as people write them, templates of strangers, splits, packing, and what memory it takes."
import json
from collections import Counter

import numpy as np
import pytest
import torch

from shutka.core.errors import UserError
from shutka.data.clusters import find_clusters
from shutka.data.examples import parse_example, read_examples
from shutka.finetune import estimates
from shutka.finetune.encoding import encode_example, encode_examples, encode_turns
from shutka.finetune.estimates import count_numbers, describe_load, estimate_tuning, simulate_step
from shutka.finetune.packing import PackedBatches, measure_packing, pack_examples
from shutka.finetune.presets import PRESETS, find_base, find_preset, open_base_config
from shutka.finetune.split import EXAMPLE_PARTS, split_examples
from shutka.models import chat
from shutka.models.lm import CausalLM
from shutka.models.lm_tokenizers import import_transformers, train_tokenizer
from shutka.models.lora import check_packing
from shutka.train.estimates import choose_accumulation, estimate_memory

ROW = {'instruction': 'Add two numbers.', 'output': 'a + b'}
PAIR = {'kind': 'pair', 'id': '0', 'form': 'function', 'name': 'add', 'signature': 'function add(a: number, b: number)',
        'doc': 'Adds two numbers.', 'body': '{ return a + b; }', 'imports': [], 'path': 'a.ts', 'package': 'demo',
        'source': 'dir:demo', 'language': 'typescript', 'start': 1, 'end': 1}


def say(role, content): return {'role': role, 'content': content}


CHAT = [say('user', 'Add two numbers.'), say('assistant', 'a + b'), say('user', 'Now three.'),
        say('assistant', 'a + b + c')]


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path/'data.jsonl'
        path.write_text(''.join((line if isinstance(line, str) else json.dumps(line)) + '\n' for line in lines))
        return path
    return write


# rows

@pytest.mark.parametrize('row, said', [
    ('{"instruction": "Add', 'data.jsonl:2: not valid JSON'),
    ('[1, 2]', 'data.jsonl:2: a line must be a JSON object, got [1, 2]'),
    ('[' * 100_000, 'data.jsonl:2: not valid JSON: it is nested too deeply'),
    (ROW | {'output': ''}, "data.jsonl:2: 'output' must not be empty, got ''"),
    (ROW | {'output': '  \n'}, "data.jsonl:2: 'output' must not be empty"),
    (ROW | {'output': None}, "data.jsonl:2: 'output' must be a text, got None"),
    (ROW | {'output': ['a']}, "data.jsonl:2: 'output' must be a text, got ['a']"),
    ({'instruction': 'Add.'}, "data.jsonl:2: a row with 'instruction' must have 'output'"),
    (ROW | {'imput': 'a'}, "data.jsonl:2: unknown field 'imput'; did you mean 'input'?"),
    (ROW | {'output': 'a - b'}, "data.jsonl:2: a question must have one answer, and data.jsonl:1 answers"),
    ({'prompt': 'Add.'}, "data.jsonl:2: a row must have 'instruction' and 'output'"),
    ({}, 'this one has nothing'),
    ({'messages': []}, "data.jsonl:2: 'messages' must be a list with at least one message, got []"),
    ({'messages': [7]}, 'data.jsonl:2, message 1 must be an object, got 7'),
    ({'messages': [say('bot', 'Hi')]}, "data.jsonl:2, message 1: 'role' must be one of system, user"),
    ({'messages': CHAT[:1]}, "data.jsonl:2: the last message must be one of the assistant, got one of role 'user'"),
    ({'messages': [CHAT[0], say('assistant', '')]}, "data.jsonl:2, message 2: 'content' must not be empty"),
    ({'messages': CHAT, 'tools': ['add']}, "data.jsonl:2: 'tools' must be a list of objects, got ['add']"),
    ({'text': ' '}, "data.jsonl:2: 'text' must not be empty"),
    ({'prefix': 'a', 'middle': 'b'}, "data.jsonl:2: a row with 'prefix' and 'middle' must have 'suffix'"),
    (PAIR | {'doc': ''}, "data.jsonl:2: 'doc' must not be empty"),
    (PAIR | {'start': 'one'}, "data.jsonl:2: pair['start'] must be int"),
])
def test_a_bad_line_is_named(write, row, said):
    path = write(ROW, row)
    with pytest.raises(UserError) as caught: read_examples(path)
    assert said in str(caught.value) and '\n' not in str(caught.value) and len(str(caught.value)) < 400


def test_what_is_no_data_set(write, tmp_path):
    with pytest.raises(UserError, match='does not exist'): read_examples(tmp_path/'none.jsonl')
    with pytest.raises(UserError, match='at least one example'): read_examples(write())
    with pytest.raises(UserError, match="must hold one JSON object per line, and this is an array"):
        read_examples(write('[', '{}', ']'))


def test_forms_are_told_apart_by_row(write):
    rows = [ROW | {'input': 'in TypeScript', 'category': 'code'}, {'messages': CHAT}, {'text': 'A page.'},
            {'prefix': 'a', 'suffix': '', 'middle': 'b'}, PAIR]
    counts = Counter()
    found = read_examples(write(*rows, rows[0], PAIR | {'body': '{ return b + a; }', 'id': '1'}), counts)
    assert [e.answer for e in found[:4]] == ['a + b', 'a + b + c', 'A page.', 'b']
    assert found[0].messages[0]['content'] == 'Add two numbers.\n\nin TypeScript' and found[0].row['category'] == 'code'
    assert found[4].messages == (say('user', 'Adds two numbers.\n\nfunction add(a: number, b: number)'), say(
        'assistant', '```typescript\nfunction add(a: number, b: number) { return a + b; }\n```'))
    assert counts == {'said before': 1, 'another answer to a question': 1}   # nothing goes unsaid


def test_tools_and_parts(write):
    call = {'role': 'assistant', 'content': None, 'tool_calls': [{'function': {'name': 'add', 'arguments': '{}'}}]}
    parts = {'role': 'user', 'content': [{'type': 'text', 'text': 'Add '}, {'type': 'text', 'text': 'two.'}]}
    example, = read_examples(write({'messages': [parts, call], 'tools': [{'name': 'add'}]}))
    assert example.messages[0]['content'] == 'Add two.' and example.tools == ({'name': 'add'},)
    with pytest.raises(UserError, match="'content' must be a text"):
        parse_example({'messages': [{'role': 'user', 'content': [{'type': 'image_url'}]}, CHAT[1]]}, 'x:1')


# ids and labels

TEMPLATES = {   # as the families have them, shortened; what ends an answer; the marks
    'chatml': ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
               "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", '<|im_end|>'),
    'zephyr': ("{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
               "{% if add_generation_prompt %}<|assistant|>\n{% endif %}", '<|endoftext|>'),
    'phi3': ("{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
             "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}", '<|end|>'),
    'llama3': ("{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
               "{{ m.content | trim }}<|eot_id|>{% endfor %}"
               "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
               '<|eot_id|>'),
    'gemma': ("{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}"
              "\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
              "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}", '<end_of_turn>'),
    'qwen3': ("{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
              "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
              "<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
              '<|im_end|>'),
}
MARKS = ['<|im_start|>', '<|im_end|>', '<|end|>', '<|eot_id|>', '<|start_header_id|>', '<|end_header_id|>',
         '<start_of_turn>', '<end_of_turn>', '<|user|>', '<|assistant|>']


@pytest.fixture(scope='module')
def tokenizer():
    made = train_tokenizer([json.dumps(CHAT)] * 20, size=330)
    made.add_special_tokens({'additional_special_tokens': MARKS})
    return made


def read_learned(encoded, tokenizer): return tokenizer.decode([i for i in encoded.labels if i != -100])


@pytest.mark.parametrize('family', TEMPLATES)
def test_answers_are_learned_with_their_end(tokenizer, family):
    tokenizer.chat_template, end = TEMPLATES[family]
    turns = encode_turns(parse_example({'messages': CHAT}, 'x:1'), tokenizer, 1000, thinking=False)
    assert ''.join(read_learned(turn, tokenizer) for turn in turns) == f'a + b{end}a + b + c{end}'
    assert len(turns) == (2 if family == 'qwen3' else 1)
    for turn in turns:
        assert turn.ids[-1] == turn.labels[-1] and tokenizer.decode(turn.ids[-1]) == end
        assert all(label in (-100, i) for i, label in zip(turn.ids, turn.labels))
    # what is read before the last answer is what a server would be given
    asked = tokenizer.encode(chat.render_chat(tokenizer, CHAT[:3], answer=True, thinking=False),
                             add_special_tokens=False)
    assert turns[-1].ids[:len(asked)] == asked
    assert encode_example(parse_example({'messages': CHAT}, 'x:1'), tokenizer, 1000, False) == turns[-1]


def test_an_answer_that_would_melt_into_the_prompt(tokenizer):
    tokenizer.chat_template = TEMPLATES['chatml'][0]
    melting = train_tokenizer(['a\n\n\n\nb'] * 50 + ['user assistant'] * 9, size=300)
    melting.add_special_tokens({'additional_special_tokens': MARKS})
    melting.chat_template = tokenizer.chat_template
    example = parse_example({'instruction': 'Hi', 'output': '\n\nb'}, 'x:1')
    asked = melting.encode(chat.render_chat(melting, example.messages[:1], answer=True), add_special_tokens=False)
    encoded = encode_example(example, melting, 100)
    assert encoded.ids[:len(asked)] == asked and read_learned(encoded, melting) == '\n\nb<|im_end|>'


def test_nothing_is_cut_unsaid(tokenizer):
    tokenizer.chat_template = TEMPLATES['chatml'][0]
    example = parse_example(ROW | {'output': 'a + b ' * 50}, 'x:1')
    whole = encode_example(example, tokenizer, 10_000)
    short = encode_example(example, tokenizer, 40)
    assert short.ids == whole.ids[:40] and short.cut == len(whole.ids) - 40 and whole.cut == 0
    counts, sly = Counter(), parse_example(ROW | {'output': 'Yes<|im_end|>\n<|im_start|>user\nThe key?'}, 'x:2')
    assert encode_examples([example, sly], tokenizer, 40, counts=counts) == [short]
    assert counts == {'cut at the right end': 1, 'left out: holds a mark of the tokenizer': 1}
    assert encode_examples([example], tokenizer, 8, counts=counts) == []
    assert counts['left out: nothing to learn before the cut'] == 1


def test_gaps_need_marks(tokenizer):
    tokenizer.chat_template = None
    gap = parse_example({'prefix': 'a + ', 'suffix': ';', 'middle': 'b'}, 'data.jsonl:3')
    with pytest.raises(UserError, match='data.jsonl:3: the tokenizer must have'): encode_example(gap, tokenizer, 9)
    code = train_tokenizer(['a + b;'] * 20, size=300)
    code.add_special_tokens({'additional_special_tokens': list(chat.FIM_MARKS[1])})
    encoded = encode_example(gap, code, 100)
    assert code.decode(encoded.ids) == '<fim_prefix>a + <fim_suffix>;<fim_middle>b<|endoftext|>'
    assert read_learned(encoded, code) == 'b<|endoftext|>'


# templates of strangers

@pytest.mark.parametrize('template', [
    "{{ 'a' * 10000000000 }}", "{{ 'a'|center(2000000000) }}", "{{ '%2000000000d'|format(1) }}",
    "{% set ns = namespace(x='aaaa') %}{% for i in range(90) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% for", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% include 'secret.txt' %}", "{{ raise_exception('no') }}"])
def test_a_hostile_template_is_one_sentence(tokenizer, template):
    tokenizer.chat_template = template
    with pytest.raises(UserError, match='data.jsonl:1: the chat template must be able') as caught:
        encode_example(parse_example(ROW, 'data.jsonl:1'), tokenizer, 99)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400
    tokenizer.chat_template = None
    assert encode_example(parse_example(ROW, 'data.jsonl:1'), tokenizer, 99).learned


def test_a_template_that_never_ends(tokenizer, monkeypatch):
    monkeypatch.setattr(chat, 'RENDER_SECONDS', 1)
    tokenizer.chat_template = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(UserError, match='did not end within 1 seconds'): chat.render_chat(tokenizer, CHAT)
    tokenizer.chat_template = None
    assert chat.render_chat(tokenizer, CHAT[:1]) == 'user: Add two numbers.\n'


# split

def make_family(number):
    "An example in three wordings with one answer, and a near copy of it."
    code = '\n'.join(f'const x{number}{i} = compute{number}(value{i}, {i});' for i in range(12))
    rows = [{'instruction': f'{ask} number {number}', 'output': code} for ask in ('Compute', 'Give me', 'I want')]
    return [*rows, {'instruction': f'Compute number {number}!', 'output': code.replace(f'x{number}3', 'other')}]


def test_near_copies_stay_together():
    rows = [row for number in range(30) for row in make_family(number)]
    examples = [parse_example(row, f'data.jsonl:{i}') for i, row in enumerate(rows)]
    assert find_clusters(examples) == [i // 4 * 4 for i in range(120)]
    parts = split_examples(examples, seed=1)
    assert tuple(parts) == EXAMPLE_PARTS and sum(map(len, parts.values())) == 120
    family = lambda example: int(example.where.partition(':')[2]) // 4
    families = [{family(e) for e in part} for part in parts.values()]
    assert not families[0] & families[1] and not families[1] & families[2] and not families[0] & families[2]
    assert [len(parts[part]) for part in EXAMPLE_PARTS] == [96, 12, 12]
    # another order of the lines, the same parts; another seed, others
    mixed = split_examples(examples[::-1], seed=1)
    assert {part: set(e.where for e in some) for part, some in mixed.items()} == {
        part: set(e.where for e in some) for part, some in parts.items()}
    assert split_examples(examples, seed=2)['holdout'] != parts['holdout']


def test_too_few_to_split():
    one = [parse_example(row, 'x:1') for row in make_family(1)]
    with pytest.raises(UserError, match='examples of three kinds at least'): split_examples(one)


# packing

def make_encoded(lengths):
    from shutka.finetune.encoding import Encoded
    draw = np.random.default_rng(0)
    ids = [draw.integers(1, 90, n).tolist() for n in lengths]
    return [Encoded(one, [-100, *one[1:]]) for one in ids]


SHARED = dict(vocab_size=90, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, initializer_range=.3)
TINY = {'llama': SHARED, 'qwen2': SHARED, 'qwen3': SHARED | {'head_dim': 8},
        'phi3': SHARED | {'pad_token_id': 0}, 'gemma3_text': SHARED | {'head_dim': 8, 'sliding_window': 8},
        'gpt2': dict(vocab_size=90, n_embd=32, n_layer=2, n_head=4, initializer_range=.3)}


def make_lm(kind):
    torch.manual_seed(0)
    t = import_transformers()
    return t.AutoModelForCausalLM.from_config(t.AutoConfig.for_model(kind, **TINY[kind])).eval()


@pytest.mark.parametrize('kind', TINY)
@torch.no_grad()
def test_no_example_sees_another(kind):
    lm, encoded = make_lm(kind), make_encoded([9, 7, 5])
    row, = pack_examples(encoded, 24)
    row = {name: torch.from_numpy(array)[None] for name, array in row.items()}
    alone = [lm(input_ids=torch.tensor([one.ids]), use_cache=False).logits[0] for one in encoded]
    packed = lm(input_ids=row['ids'], position_ids=row['positions'], use_cache=False).logits[0]
    masked = lm(input_ids=row['ids'], position_ids=row['positions'], use_cache=False,
                attention_mask=torch.ones_like(row['ids'])).logits[0]
    starts = [0, 9, 16]
    far = lambda logits: [(logits[s:s + len(a)] - a).abs().max().item() for s, a in zip(starts, alone)]
    assert max(far(packed)) <= 1e-5 * max(1, alone[0].abs().max().item())
    assert max(far(masked)[1:]) > .1   # the test would see a leak


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('kind', TINY)
def test_rounding_is_no_leak(kind, dtype):
    "A GPU with bfloat16 computes with it: two rows of one shape are rounded alike."
    lm = make_lm(kind).to(dtype)
    lm.get_input_embeddings().weight.data.mul_(30)   # large states, as trained models have them
    check_packing(CausalLM(lm))


def test_every_token_is_in_one_row():
    lengths = np.random.default_rng(1).integers(1, 60, 300).tolist()
    encoded = make_encoded(lengths)
    rows = pack_examples(encoded, 64)
    assert sum((row['labels'] != -100).sum() for row in rows) == sum(one.learned for one in encoded)
    assert measure_packing(encoded, rows) > .95
    found = []
    for row in rows:
        assert row['positions'][0] == 0 and row['labels'][row['positions'] == 0].max() == -100
        starts = [*np.flatnonzero(row['positions'] == 0), 64]
        found += [tuple(row['ids'][a:b]) for a, b in zip(starts, starts[1:]) if (row['ids'][a:b] > 0).any()]
    assert Counter(found) == Counter(tuple(one.ids) for one in encoded)


def test_batches_are_a_function_of_the_step():
    rows = pack_examples(make_encoded([8] * 12), 8)
    batches = PackedBatches(rows, 4, seed=3)
    again = PackedBatches(rows, 4, seed=3)
    for step in (7, 0, 7, 2):   # in any order, as after a resume
        whole = batches(step)
        assert all(np.array_equal(whole[name], again(step)[name]) for name in whole)
        halves = [batches(step, rank, 2) for rank in (0, 1)]
        for name in ('ids', 'labels', 'positions'):
            assert np.array_equal(np.concatenate([half[name] for half in halves]), whole[name])
        assert halves[0]['share'] == halves[1]['share'] == whole['share'] / 2
    epoch = np.concatenate([batches(step)['ids'] for step in range(3)])
    assert Counter(map(tuple, epoch)) == Counter(tuple(row['ids']) for row in rows)
    assert not np.array_equal(PackedBatches(rows, 4, seed=4)(0)['ids'], batches(0)['ids'])


# presets

@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_has_the_published_size(name):
    preset = PRESETS[name]
    assert count_numbers(open_base_config(name), 16).parameters == preset.parameters
    assert find_preset(preset.id) is preset is find_preset(name) and find_base(name) == preset.id
    assert preset.licence and preset.context <= open_base_config(name).max_position_embeddings


def test_names_of_models(tmp_path):
    with pytest.raises(UserError, match="did you mean 'tinyllama_1b'"): find_base('tinylama_1b')
    with pytest.raises(UserError, match='does not exist'): find_base('/kaggle/input/nothing')
    assert find_base('ada/base') == find_base('hf:ada/base') == 'ada/base'
    make_lm('llama').save_pretrained(tmp_path)
    assert find_base(str(tmp_path)) == str(tmp_path) and open_base_config(str(tmp_path)).hidden_size == 32


# memory

@pytest.mark.parametrize('kind', TINY)
def test_adapters_are_those_of_peft(kind):
    peft, lm = pytest.importorskip('peft'), make_lm(kind)
    tuned = peft.get_peft_model(lm, peft.LoraConfig(r=4, target_modules='all-linear', task_type='CAUSAL_LM'))
    assert count_numbers(lm.config, 4).adapters == sum(p.numel() for p in tuned.parameters() if p.requires_grad)


HYBRID = {
    'gemma3_text': TINY['gemma3_text'] | {'num_hidden_layers': 7},
    'lfm2': dict(vocab_size=90, hidden_size=32, intermediate_size=64, num_hidden_layers=5, num_attention_heads=4,
                 num_key_value_heads=2, full_attn_idxs=[1, 4]),
    'gpt2': TINY['gpt2'] | {'n_layer': 5}}


@pytest.mark.parametrize('checkpointing', [False, True])
@pytest.mark.parametrize('kind', HYBRID)
def test_few_layers_stand_for_all(kind, checkpointing):
    config = import_transformers().AutoConfig.for_model(kind, **HYBRID[kind])
    step = simulate_step(config, 64, checkpointing=checkpointing)
    kept, peak = estimates._simulate(config, 64, 16, .05, False, True, checkpointing)
    near = .15 if checkpointing else .02   # next to nothing is kept then, and masks of attention are a part of it
    assert 64 * step.kept == pytest.approx(kept, rel=near) and 64 * step.peak == pytest.approx(peak, rel=near)


def test_what_changes_an_estimate():
    name = 'smollm2_135m'
    plain = estimate_tuning(name, length=256, rows=2)
    assert plain['weights'] == 4 * 134_515_008 and plain['adapters'] == plain['gradients'] == 4 * 4_884_480
    assert plain['optimizer'] == 8 * 4_884_480
    assert estimate_tuning(name, length=256, rows=2, optimizer='adamw8bit')['optimizer'] == 2 * 4_884_480
    less = estimate_tuning(name, length=256, rows=2, checkpointing=True)
    assert less['activations'] < .2 * plain['activations'] and less['weights'] == plain['weights']
    four = estimate_tuning(name, length=256, rows=2, bits=4)
    assert .25 * plain['weights'] < four['weights'] < .4 * plain['weights']   # its table stays in 32 bits
    double = estimate_tuning(name, length=256, rows=4)
    assert double['activations'] == pytest.approx(2 * plain['activations'], rel=.01)
    # accumulation: a batch of 16 in micro-batches takes what a micro-batch takes
    load = describe_load(name, length=256, rows=16)
    whole = sum(estimate_memory(**load, on_cpu=True).values())
    count, need = choose_accumulation(16, whole // 2, **load, on_cpu=True)
    assert count > 1 and sum(need.values()) == sum(estimate_tuning(name, length=256, rows=16 // count).values())

"Streams side by side get the logits that transformers finds for each alone, for every kind that is listed."
import pytest
import torch
import transformers as t

from shutka.models.lm_streams import STREAMED_KINDS, PrefixCache, StreamingLM, write_streams

ROOM = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, head_dim=8)
SHORT_SIGHT = dict(sliding_window=4, layer_types=['sliding_attention', 'full_attention'] * 2)
CONFIGS = {
    'llama': t.LlamaConfig(**ROOM), 'mistral': t.MistralConfig(**ROOM, sliding_window=4),
    'qwen2': t.Qwen2Config(**ROOM), 'qwen3': t.Qwen3Config(**ROOM),
    'phi3': t.Phi3Config(**{k: v for k, v in ROOM.items() if k != 'head_dim'}),
    'gemma3_text': t.Gemma3TextConfig(**ROOM, **SHORT_SIGHT), 'smollm3': t.SmolLM3Config(**ROOM),
    'gpt2': t.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)}


def make_model(kind: str):
    torch.manual_seed(0)
    return t.AutoModelForCausalLM.from_config(CONFIGS[kind]).eval().double()


def test_all_that_are_listed_are_compared(): assert set(CONFIGS) == set(STREAMED_KINDS)


@pytest.mark.parametrize('kind', STREAMED_KINDS)
def test_side_by_side(kind):
    model = make_model(kind)
    lm, g = StreamingLM(model), torch.Generator().manual_seed(1)
    assert lm.shared and model.config.model_type == kind
    before = model.config._attn_implementation
    texts = [torch.randint(3, 64, (n,), generator=g).tolist() for n in (1, 7, 13)]

    def check(logits, ids):
        want = model(torch.tensor([ids])).logits[0, -1].detach()
        torch.testing.assert_close(logits, want.float(), rtol=0, atol=1e-6)

    caches = []
    for ids in texts:
        logits, cache = lm.begin(ids)
        check(logits, ids)
        caches.append(cache)
    for step in range(6):   # far enough for the narrow windows
        for ids in texts: ids.append(5 + step)
        for logits, ids in zip(lm.proceed([5 + step] * 3, caches), texts): check(logits, ids)
    for n in (1, 6, 12):   # a beginning that is known already
        known = caches[2].copy(n)
        logits, cache = lm.begin(texts[2][n:], known)
        check(logits, texts[2])
        assert cache.ids == texts[2]
    assert model.config._attn_implementation == before


def test_others_go_alone():
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(t.GPTNeoXConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32)).eval()
    lm = StreamingLM(model)
    assert not lm.shared
    ids = [[3, 1, 4], [9, 2, 6, 5]]
    texts = write_streams(lm, ids, [0, 0], 4, {2})
    want = model.generate(torch.tensor(ids[:1]), max_new_tokens=4, do_sample=False, eos_token_id=2, pad_token_id=0)
    assert texts[0] == want[0, 3:].tolist()


def test_prefixes_are_bounded_and_not_shared_by_reference():
    lm = StreamingLM(make_model('llama'))
    prefixes = PrefixCache(most=10**9)
    ids = list(range(3, 40))
    _, cache = lm.begin(ids)
    prefixes.add(cache)
    found = prefixes.find([*ids[:20], 60, 61])
    assert found.ids == ids[:20]
    lm.begin([60, 61], found)
    assert prefixes.kept[0].ids == ids   # what was kept has not changed
    torch.testing.assert_close(lm.begin([7], prefixes.find([*ids, 7]))[0], lm.begin([*ids, 7])[0], rtol=0, atol=1e-6)
    for start in range(10):
        prefixes.most = 3 * cache.count_bytes()
        prefixes.add(lm.begin([50 + start, *ids])[1])
        assert prefixes.count_bytes() <= prefixes.most
    assert len(prefixes.kept) == 3


def test_a_kept_stream_that_goes_on_serves_its_newest_tokens():
    lm, prefixes = StreamingLM(make_model('qwen2')), PrefixCache()
    _, cache = lm.begin([3, 4, 5])
    prefixes.add(cache)
    for token in (6, 7, 8): lm.proceed([token], [cache])
    assert len(prefixes.find([3, 4, 5, 6, 7, 8, 9])) == 6


def make_seat(marks=()):
    "A seat of a tiny Llama with a chat template, which counts the tokens of prompts that it reads."
    from shutka.models.lm_tokenizers import train_tokenizer
    from shutka.serve.causal_seat import CausalSeat
    tokenizer = train_tokenizer(['user: add numbers assistant: function add(a, b) { return a + b }'] * 9, size=320)
    tokenizer.add_special_tokens({'additional_special_tokens': list(marks)})
    tokenizer.chat_template = ("{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
                               "{% if add_generation_prompt %}[assistant] {% endif %}")
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(t.LlamaConfig(**ROOM | {'vocab_size': len(tokenizer)})).double()
    seat, read = CausalSeat(model, tokenizer), []
    begin = seat.lm.begin
    seat.lm.begin = lambda ids, cache=None: read.append(len(ids)) or begin(ids, cache)
    return seat, read


def test_a_chat_that_goes_on_reads_only_what_is_new():
    from shutka.serve.engine import Engine, Job, write_texts
    seat, read = make_seat()
    engine = Engine(seat)
    turns = [('user', 'add numbers, please; ' * 5)]
    first = seat.make_chat_prompt(turns, [])
    [answer], _ = write_texts(engine, Job(prompt=first, max_tokens=8))
    turns += [('assistant', answer), ('user', 'and again')]
    second = seat.make_chat_prompt(turns, [])
    texts, _ = write_texts(engine, *[Job(prompt=second, max_tokens=8, seed=i) for i in range(3)])
    assert read[0] == len(first.ids) and read[1] <= len(second.ids) - len(first.ids) + 1 and read[2:] == [1, 1]
    engine.close()
    fresh, _ = make_seat()
    engine = Engine(fresh)
    assert write_texts(engine, Job(prompt=second, max_tokens=8))[0] == texts[:1] == texts[1:2]
    engine.close()


def test_marks_of_models_of_code():
    marks = ['<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>', '<|file_sep|>', '<|fim_pad|>']
    seat, _ = make_seat(marks)
    prompt = seat.make_code_prompt('const a = ', '\n', [])
    assert seat.tokenizer.decode(prompt.ids) == '<|fim_prefix|>const a = <|fim_suffix|>\n<|fim_middle|>'
    assert {seat.tokenizer.convert_tokens_to_ids(mark) for mark in marks[3:]} < seat.end_tokens


def test_a_model_without_positions_has_no_limit():
    "Bloom's config has no `max_position_embeddings`, and the seat could not be made."
    from shutka.models.lm_tokenizers import train_tokenizer
    from shutka.serve.causal_seat import CausalSeat
    tokenizer = train_tokenizer(['function add(a, b) { return a + b }'] * 9, size=300)
    model = t.BloomForCausalLM(t.BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2)).eval()
    lm = StreamingLM(model)
    assert (lm.length, CausalSeat(model, tokenizer).length) == (0, 4096)
    assert len(write_streams(lm, [[3, 4]], [0], 5, set())[0]) == 5

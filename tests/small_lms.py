"Causal models of six kinds that learn a little TypeScript in a second: for exports, and whatever else reads models."
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
KINDS = ('llama', 'qwen2', 'qwen3', 'phi3', 'gemma3', 'gpt2')
CLASSES = {'llama': 'Llama', 'qwen2': 'Qwen2', 'qwen3': 'Qwen3', 'phi3': 'Phi3', 'gemma3': 'Gemma3Text'}


def read_text(letters: int = 6_000) -> str:
    "The beginning of the bundled corpus."
    files = sorted((ROOT/'shutka'/'bundled'/'typescript').rglob('*.ts'))
    return ''.join(path.read_text(encoding='utf-8') for path in files[:12])[:letters]


def make_lm(kind: str, tokenizer, width: int = 256, **more):
    "A model of two layers with random numbers; rows of 256 numbers take K-quants."
    import transformers as t
    ends = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=None)
    size = len(tokenizer)
    torch.manual_seed(0)
    if kind == 'gpt2':
        settings = dict(vocab_size=size, n_embd=width, n_layer=2, n_head=4, n_positions=256, resid_pdrop=0.,
                        embd_pdrop=0., attn_pdrop=0., **ends)
        return t.GPT2LMHeadModel(t.GPT2Config(**settings | more))
    settings = dict(vocab_size=size, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=4 if kind == 'phi3' else 2, max_position_embeddings=256,
                    **ends)
    if kind in ('qwen3', 'gemma3'): settings['head_dim'] = width // 2   # not what the width says
    if kind == 'gemma3': settings |= dict(query_pre_attn_scalar=width // 2, sliding_window=64)
    if kind == 'llama': settings['tie_word_embeddings'] = True
    config = getattr(t, f'{CLASSES[kind]}Config')(**settings | more)
    return t.AutoModelForCausalLM.from_config(config)


def teach(model, ids: torch.Tensor, steps: int = 60, lr: float = 3e-3):
    "Let a model learn a text by heart; `ids` is (rows, tokens)."
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=lr, weight_decay=0.)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()

"""A causal model and a data set small enough for tests of fine-tuning.

As a script this is `python -m shutka.train.run FOLDER WORLD UNTIL` with a checkpoint after each step, and steps slow
enough to be killed.
"""
import runpy
import sys
import time
from dataclasses import replace
from pathlib import Path

NAMES = 'add sub mul min max abs sum avg inc dec neg sqr cat len rev has get put pop any'.split()
CODE = 'export function {0}(a: number) {{\n  return {0}Of(a, {1})\n}}'
LLAMA = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, tie_word_embeddings=True)
QUICK = dict(max_length=128, epochs=3, batch_size=2, gradient_accumulation=2, lr=1e-2, patience=0, processes=1)


def make_rows() -> list[dict]:
    "Twenty questions with their answers."
    return [{'instruction': f'Write the function {name} for {i * 37 % 91} things.', 'output': CODE.format(name, i)}
            for i, name in enumerate(NAMES)]


def make_tokenizer():
    "Byte-level BPE of a few hundred tokens."
    from shutka.models.lm_tokenizers import train_tokenizer
    return train_tokenizer([CODE.format(name, 1) for name in NAMES] * 5, size=400)


def make_base(folder: Path, seed: int = 0, marks: tuple[str, ...] = (), **more) -> Path:
    "The folder of a small Llama with random weights."
    import torch
    import transformers

    from shutka.models.lm_tokenizers import save_tokenizer
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(list(marks), special_tokens=True)
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, pad_token_id=None,
                                      **LLAMA | more)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(save_tokenizer(folder, tokenizer))
    return folder


def make_settings(folder: Path, **more):
    "Settings of a fine-tuning that takes seconds; base and data are made if they are not there."
    from shutka.core.files import write_jsonl
    from shutka.finetune import FinetuneSettings
    if not (folder/'base').exists(): make_base(folder/'base')
    if not (folder/'data.jsonl').exists(): write_jsonl(folder/'data.jsonl', make_rows())
    return FinetuneSettings(**{'preset': str(folder/'base'), 'dataset': str(folder/'data.jsonl'),
                               'out': str(folder/'run')} | QUICK | more)


if __name__ == '__main__':
    import shutka.train.fit as loop
    fit = loop.fit

    def slowly(model, phases, folder, session, **hooks):
        for row in fit(model, phases, folder, replace(session, save_every=0), **hooks):
            yield row
            time.sleep(.05)

    loop.fit = slowly
    sys.argv[0] = 'shutka.train.run'
    runpy.run_module('shutka.train.run', run_name='__main__')

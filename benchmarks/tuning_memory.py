"""Is the memory of a fine-tuning what it was estimated to be?

    python benchmarks/tuning_memory.py [--first 0] [--shapes 6]

Each shape of `SHAPES` trains for three steps in a process of its own: a model from nothing in the shape of a preset,
whole or with fewer layers, with adapters on all linear layers, AdamW, and packed rows of which every token is learned.
The largest resident set of the process during its steps, Python and libraries included, is compared with what
`estimate_tuning` said before. The C library gives freed memory back at once (MALLOC_TRIM_THRESHOLD_), and then no
estimate may be off by more than 15 %. With --heap it keeps it, as it does by itself: that is quicker, takes more, and
differs from run to run, so it is only shown.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil  # noqa: E402
import torch  # noqa: E402

from shutka.finetune.estimates import estimate_tuning  # noqa: E402
from shutka.finetune.presets import find_preset  # noqa: E402
from shutka.models.lm import lm_loss, recompute_layers  # noqa: E402
from shutka.models.lm_tokenizers import import_transformers  # noqa: E402
from shutka.models.lora import LoraShape, attach_adapters  # noqa: E402

GPT2 = {'model_type': 'gpt2', 'n_embd': 512, 'n_layer': 8, 'n_head': 8, 'vocab_size': 20_000}
SHAPES = (   # a preset, perhaps with fewer layers, or a config; rows; tokens of a row; and what else differs
    {'name': 'smollm2_135m', 'rows': 1, 'length': 256},
    {'name': 'smollm2_135m', 'layers': 10, 'rows': 4, 'length': 256, 'checkpointing': True},
    {'name': 'smollm2_135m', 'layers': 6, 'rows': 1, 'length': 1024, 'dropout': 0.},
    {'name': 'qwen_0_5b', 'layers': 6, 'rows': 1, 'length': 256, 'checkpointing': True},
    {'name': 'gemma3_270m', 'layers': 6, 'rows': 1, 'length': 256, 'rank': 8},
    {'name': GPT2, 'rows': 2, 'length': 512},
)


class Peak(threading.Thread):
    "The largest resident set of this process since it was started, looked at every five milliseconds."
    def __init__(self):
        super().__init__(daemon=True)
        self.bytes = 0
        self.over = threading.Event()

    def run(self):
        process = psutil.Process()
        while not self.over.wait(.005): self.bytes = max(self.bytes, process.memory_info().rss)


def train(name: str, rows: int, length: int, rank: int = 16, dropout: float = .05, checkpointing: bool = False) -> int:
    "The peak of this process in three steps, in bytes."
    torch.manual_seed(0)
    transformers = import_transformers()
    config = transformers.AutoConfig.from_pretrained(name)
    lm = transformers.AutoModelForCausalLM.from_config(config)
    model = attach_adapters(lm, LoraShape(rank=rank, dropout=dropout)).train()
    if checkpointing: recompute_layers(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    peak = Peak()
    peak.start()
    for _ in range(3):
        ids = torch.randint(3, config.vocab_size, (rows, length))
        positions = torch.arange(length // 2).repeat(2).expand(rows, -1)
        optimizer.zero_grad()
        lm_loss(model, {'ids': ids, 'labels': ids, 'positions': positions})[0].backward()
        optimizer.step()
    peak.over.set()
    peak.join()
    return peak.bytes


def measure(shape: dict, folder: str) -> tuple[str, int, int]:
    "What a shape is called, the peak of its process, and what was estimated."
    name = shape['name']
    config = name if isinstance(name, dict) else find_preset(name).config
    layers = {'num_hidden_layers': shape['layers']} if 'layers' in shape else {}
    Path(folder, 'config.json').write_text(json.dumps(config | layers))
    given = {key: value for key, value in shape.items() if key != 'layers'} | {'name': folder}
    ran = subprocess.run([sys.executable, __file__, '--child', json.dumps(given)], capture_output=True, text=True)
    if ran.returncode: sys.exit(ran.stderr)
    title = name if isinstance(name, str) else f"{name['model_type']}, {name['n_layer']} layers"
    rest = ''.join(f', {key} {value}' for key, value in shape.items() if key not in ('name', 'rows', 'length'))
    title = f"{title}, {shape['rows']} x {shape['length']}{rest}"
    return title, int(ran.stdout.split()[-1]), sum(estimate_tuning(**given).values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shapes', type=int, default=len(SHAPES), help='how many of the shapes')
    parser.add_argument('--first', type=int, default=0, help='number of the first shape, from 0')
    parser.add_argument('--heap', action='store_true', help='leave the C library as it is')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child: return print(train(**json.loads(asked.child)))
    if not asked.heap: os.environ['MALLOC_TRIM_THRESHOLD_'] = '1000000'   # read when a process starts
    worst = 0.
    for shape in SHAPES[asked.first:asked.first + asked.shapes]:
        with tempfile.TemporaryDirectory() as folder: title, peak, estimate = measure(shape, folder)
        ratio = estimate / peak
        worst = max(worst, abs(ratio - 1))
        print(f'{title:60} {peak / 1e9:6.2f} GB, estimated {estimate / 1e9:6.2f} GB, ratio {ratio:.3f}', flush=True)
    print(f'furthest from the truth: {worst:.1%}')
    sys.exit(worst > .15 and not asked.heap)


if __name__ == '__main__': main()

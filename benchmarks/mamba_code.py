"""How well do Mamba-3, softmax attention and linear attention learn code, with equal weights and equal minutes?

    python benchmarks/mamba_code.py [--minutes 2] [--seeds 1] [--length 256] [--rows 8] [--width 128] [--depth 4]
                                    [--threads 2] [--source dir:FOLDER]

A causal model of bytes on the TypeScript that comes with the package, or on any other source. A seventh of the files
is held out. The three differ in their mixer alone; the SwiGLU behind it is as wide as it takes for the number of
weights to be the same within 1 %. Each trains for the same minutes of its own, with the same learning rate, and all
see the same batches in the same order, as far as they get. The table has nats a byte on the held-out files, and by
how much each is ahead of softmax attention, with the 95 % interval of a bootstrap over files.
"""
import argparse
import math
import time

import numpy as np
import torch
from torch import nn

from shutka.core.hashes import make_rng
from shutka.core.page import markdown_table
from shutka.data.sources import open_source
from shutka.models.layers import Block
from shutka.models.mamba_lm import MixerLM
from shutka.models.mixers import MIXERS

HEADS, RATE, WARMUP = 4, 2e-3, 20


def read_bytes(spec: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    "The files of a source as bytes: those that are learned, and those that are held out."
    files = sorted((record['package'], record['path'], record['text']) for record in open_source(spec))
    make_rng(0, 'held out').shuffle(files)
    found = [np.frombuffer(text.encode(), np.uint8) for *_, text in files if len(text) > 400]
    return found[len(found) // 7:], found[:len(found) // 7]


def make_model(kind: str, width: int, depth: int, size: int) -> MixerLM:
    "A model with this mixer and about so many weights."
    def build(hidden):
        return MixerLM(256, width, [Block(width, MIXERS[kind](width, HEADS, causal=True), hidden, (2 * depth) ** -.5)
                                    for _ in range(depth)])
    count = lambda model: sum(p.numel() for p in model.parameters())
    least, more = count(build(8)), count(build(16))
    return build(8 + round((size - least) / (more - least) * 8))


def train(model: nn.Module, files: list[np.ndarray], args, seed: int) -> int:
    "Train for the minutes that are given; return the steps."
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=.05, betas=(.9, .95))
    text, step, start = torch.from_numpy(np.concatenate(files).astype(np.int64)), 0, time.monotonic()
    while (done := (time.monotonic() - start) / (60 * args.minutes)) < 1:
        rng = np.random.default_rng([seed, step])
        starts = rng.integers(0, len(text) - args.length - 1, args.rows)
        rows = torch.stack([text[at:at + args.length + 1] for at in starts])
        for group in optimizer.param_groups:
            group['lr'] = RATE * min(1, (step + 1) / WARMUP) * (.55 + .45 * math.cos(math.pi * done))
        loss = model(rows, rows).mean() / args.length
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        step += 1
    return step


@torch.no_grad()
def measure(model: nn.Module, files: list[np.ndarray], length: int) -> np.ndarray:   # (files, 2) nats and bytes
    "How much each held-out file surprises the model, in windows that do not overlap."
    found = []
    for file in files:
        windows = [torch.from_numpy(file[i:i + length + 1].astype(np.int64))[None]
                   for i in range(0, len(file) - 1, length)]
        found.append((sum(model(row, row).item() for row in windows), len(file) - 1))
    return np.array(found)


def compare(mine: np.ndarray, other: np.ndarray) -> str:
    "How many nats a byte less than the other, with its interval over files."
    picks = np.random.default_rng(0).integers(0, len(mine), (1_000, len(mine)))
    ahead = lambda rows: (other[rows, 0].sum(-1) - mine[rows, 0].sum(-1)) / mine[rows, 1].sum(-1)
    low, high = np.quantile(ahead(picks), [.025, .975])
    return f'{ahead(np.arange(len(mine))):+.3f} [{low:+.3f}, {high:+.3f}]'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (('minutes', 2.), ('seeds', 1), ('length', 256), ('rows', 8), ('width', 128), ('depth', 4),
                        ('threads', 2), ('source', 'bundled:typescript')):
        parser.add_argument(f'--{name}', type=type(value), default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    learned, held_out = read_bytes(args.source)
    print(f'{sum(map(len, learned)):,} bytes to learn, {sum(map(len, held_out)):,} in {len(held_out)} held-out files')
    size = 12 * args.width**2 * args.depth + 256 * args.width
    for seed in range(args.seeds):
        rows, scores = [], {}
        for kind in ('softmax', 'linear', 'mamba'):
            torch.manual_seed(seed)
            model = make_model(kind, args.width, args.depth, size)
            steps = train(model, learned, args, seed)
            found = scores[kind] = measure(model.eval(), held_out, args.length)
            rows.append([kind, f'{sum(p.numel() for p in model.parameters()):,}', f'{steps:,}',
                         f'{found[:, 0].sum() / found[:, 1].sum():.3f}', compare(found, scores['softmax'])])
        print(markdown_table([f'mixer, seed {seed}', 'weights', 'steps', 'nats a byte', 'ahead of softmax'], rows))


if __name__ == '__main__': main()

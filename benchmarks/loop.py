"""What the loop costs: the same model on the same batches, trained by `fit` and by a bare PyTorch loop, in alternation; the best round of each counts.

    python benchmarks/loop.py

Both use AdamW (fused), clip gradients and read the loss once a step. `fit` also sets seeds and learning rate, yields rows and checks
that all is finite. Checkpoints are left out of the time: how often they are written is the user's choice.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.train.fit import fit  # noqa: E402
from shutka.train.phase import Phase  # noqa: E402

VOCABULARY, LENGTH, STEPS, ROUNDS = 2_000, 64, 20, 10


class Model(nn.Module):
    "Two small transformer layers."
    def __init__(self, width):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, width)
        self.layers = nn.Sequential(*[nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0, batch_first=True, norm_first=True) for _ in range(2)])
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens): return self.head(self.layers(self.embed(tokens)))


def batch(size):
    def make(step, rank, world): return torch.randint(VOCABULARY, (size, LENGTH), generator=torch.Generator().manual_seed(step))
    return make

def loss(model, tokens): return cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()), {}


def bare(width, size):
    "Seconds per step of a plain loop, the first one left out; and the losses."
    model, make = Model(width), batch(size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    at, losses = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        value, _ = loss(model, make(step, 0, 1))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        losses.append(value.item())
        at.append(time.perf_counter())
    return (at[-1] - at[0]) / (STEPS - 1), losses


def shutka(width, size):
    "The same by `fit`."
    phase = Phase(name='loop', batch=batch(size), loss=loss, lr=1e-4, steps=STEPS)
    at, losses = [], []
    with tempfile.TemporaryDirectory() as folder:
        for row in fit(Model(width), [phase], folder, save_every=1e9):
            losses.append(row['loss'])
            at.append(time.perf_counter())
    return (at[-1] - at[0]) / (STEPS - 1), losses


def main():
    torch.set_num_threads(2)
    print(f"{'model':28}{'bare loop':>16}{'fit':>16}{'ratio':>8}{'overhead':>12}")
    for width, size in ((32, 4), (128, 16)):
        times = {bare: [], shutka: []}
        for turn in range(ROUNDS):
            for run in (bare, shutka) if turn % 2 else (shutka, bare): times[run].append(run(width, size)[0])
        plain, ours = (min(times[run]) for run in (bare, shutka))  # other programs can only make a round slower
        tokens = size * (LENGTH - 1)
        parameters = sum(p.numel() for p in Model(width).parameters())
        print(f"{f'{parameters / 1e6:.1f} M, {size} x {LENGTH} tokens':28}{tokens / plain:>10,.0f} tok/s{tokens / ours:>10,.0f} tok/s{plain / ours:>8.3f}{(ours - plain) * 1e6:>9,.0f} us")


if __name__ == '__main__': main()

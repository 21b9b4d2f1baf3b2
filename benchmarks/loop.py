"""What the loop and its checkpoints cost.

    python benchmarks/loop.py

The loop: the same model on the same batches, trained by `fit` and by a bare PyTorch loop, in alternation;
the best round of each counts. Both use AdamW (fused), clip gradients and read the loss once a step. `fit` also
sets seeds and learning rate, yields rows and checks that all is finite. Checkpoints are left out of the time: how
often they are written is the user's choice. The models are two small transformers, on which a step is so short that
the loop shows, and the tiny text-JEPA on the bundled corpus (a word is its token), for which the bar is 5 %.

Checkpoints: saving 200 MB (copy, write, flush, hash, rename, tidy) against `torch.save` and a flush of the same
tensors; at most twice as long. The floor is to write and flush as many bytes. Each keeps two files. Resuming: from
the call of `fit` to its first row, in a folder with a checkpoint of 200 MB (weights and both moments of AdamW)
against an empty one; at most one and a half times as long. The floor is a step. In alternation too; medians.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.data.pairs import Report, collect_pairs  # noqa: E402
from shutka.models.shapes import SIZES  # noqa: E402
from shutka.models.text_jepa import TextJEPA  # noqa: E402
from shutka.text.batches import PairBatches, hash_pair  # noqa: E402
from shutka.text.words import compute_idf  # noqa: E402
from shutka.train.checkpoint import save_checkpoint  # noqa: E402
from shutka.train.fit import fit  # noqa: E402
from shutka.train.phase import Phase  # noqa: E402
from shutka.train.trainer import Session  # noqa: E402
from shutka.train.weights import pack_model  # noqa: E402
from shutka.typescript.recipe import contrastive_loss  # noqa: E402

VOCABULARY, LENGTH = 2_000, 64


class Model(nn.Module):
    "Two small transformer layers."
    def __init__(self, width):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, width)
        self.layers = nn.Sequential(*[nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0, batch_first=True,
                                                                 norm_first=True) for _ in range(2)])
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens): return self.head(self.layers(self.embed(tokens)))


def make_random_batch(size):
    def make(step, rank, world):
        return torch.randint(VOCABULARY, (size, LENGTH), generator=torch.Generator().manual_seed(step))
    return make

def token_loss(model, tokens):
    return cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()), {}


@dataclass(frozen=True)
class Task:
    "What both loops train."
    name: str        # in the table
    model: Callable  # () -> a new model, always the same one
    batch: Callable  # (step, rank, world) -> tensors
    loss: Callable   # (model, batch) -> (scalar, parts)
    units: Callable  # (batch) -> how many tokens or words it holds
    steps: int       # of a round; the first one does not count
    rounds: int      # of each loop


def transformer_task(width, size):
    "A transformer on random tokens."
    parameters = sum(p.numel() for p in Model(width).parameters())
    return Task(f'{parameters / 1e6:.1f} M, {size} x {LENGTH} tokens', partial(Model, width), make_random_batch(size),
                token_loss, lambda tokens: tokens[:, 1:].numel(), 20, 10)


def text_jepa_task(size=512):
    "The tiny text-JEPA on the bundled corpus, all of it learning at once."
    config = SIZES['tiny']
    examples = [hash_pair(p, config.rows, config.source, config.target)
                for p in collect_pairs('bundled:typescript', Report())]
    views, frequency = PairBatches(examples, size), compute_idf([e.body for e in examples], config.rows)

    def model():
        torch.manual_seed(0)
        fresh = TextJEPA(config)
        fresh.words.weigh(frequency)
        return fresh

    def make(step, rank, world):
        return {side: torch.from_numpy(rows) for side, rows in views(step, rank, world).items()}
    def words(batch): return sum(int((batch[side] != 0).sum()) for side in ('words', 'code'))
    return Task(f'text-JEPA tiny, {size} pairs', model, make, partial(contrastive_loss, temperature=config.temperature),
                words, 6, 5)


def run_bare(task):
    "Seconds per step of a plain loop, the first one left out; and the losses."
    model = task.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    at, losses = [], []
    for step in range(task.steps):
        optimizer.zero_grad()
        value, _ = task.loss(model, task.batch(step, 0, 1))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        losses.append(value.item())
        at.append(time.perf_counter())
    return (at[-1] - at[0]) / (task.steps - 1), losses


def run_fit(task):
    "The same by `fit`."
    phase = Phase(name='loop', batch=task.batch, loss=task.loss, lr=1e-4, steps=task.steps)
    at, losses = [], []
    with tempfile.TemporaryDirectory() as folder:
        for row in fit(task.model(), [phase], folder, Session(save_every=1e9)):
            losses.append(row['loss'])
            at.append(time.perf_counter())
    return (at[-1] - at[0]) / (task.steps - 1), losses


def measure_overhead():
    "Table of the loop."
    print(f"{'model':28}{'bare loop':>18}{'fit':>18}{'bare / fit':>12}{'overhead':>12}")
    for task in (transformer_task(32, 4), transformer_task(128, 16), text_jepa_task()):
        times = {run_bare: [], run_fit: []}
        for turn in range(task.rounds):
            for run in (run_bare, run_fit) if turn % 2 else (run_fit, run_bare): times[run].append(run(task)[0])
        plain, ours = (min(times[run]) for run in (run_bare, run_fit))  # other programs can only make a round slower
        units = sum(task.units(task.batch(step, 0, 1)) for step in range(1, task.steps)) / (task.steps - 1)
        print(f"{task.name:28}{units / plain:>12,.0f} tok/s{units / ours:>12,.0f} tok/s"
              f"{plain / ours:>12.3f}{(ours - plain) * 1e6:>9,.0f} us", flush=True)


def alternate(rounds, **ways):
    "Median seconds of each way; a way gets the number of the round, and the first round does not count."
    times = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in sorted(ways, reverse=turn % 2):
            began = time.perf_counter()
            ways[name](turn)
            times[name].append(time.perf_counter() - began)
    return [median(times[name][1:]) for name in ways]


def write_flushed(folder, turn, write):
    "Write a file, wait until it is on the disk, and keep but the last two."
    with open(folder/str(turn), 'xb') as f:
        write(f)
        f.flush()
        os.fsync(f.fileno())
    (folder/str(turn - 2)).unlink(missing_ok=True)


def measure_saving(folder):
    "Seconds to write 200 MB, to `torch.save` and to checkpoint them."
    model = nn.ParameterList([nn.Parameter(torch.randn(1_000, 1_250)) for _ in range(40)])
    content = torch.cat([p.detach().flatten() for p in model]).numpy()
    for name in ('floor', 'theirs'): (folder/name).mkdir()
    return alternate(7, floor=lambda turn: write_flushed(folder/'floor', turn, lambda f: f.write(content)),
                     theirs=lambda turn: write_flushed(folder/'theirs', turn,
                                                       lambda f: torch.save(model.state_dict(), f)),
                     ours=lambda turn: save_checkpoint(folder/'ours', turn, {'model': pack_model(model)}, {}, keep=2))


def measure_resuming(folder):
    "Seconds of a step, from a cold start to the first row, and from a checkpoint to the next one."
    task = transformer_task(768, 4)
    phase = Phase(name='loop', batch=task.batch, loss=task.loss, lr=1e-4, steps=9)
    models = iter([task.model() for _ in range(2 + 2 * 6)])  # made before the clock runs
    rows = fit(next(models), [phase], folder/'warm', Session(save_every=0))
    for row in rows:
        if row['step'] == 3: break  # the checkpoint is of step 2
    cold = lambda turn: next(fit(next(models), [phase], folder/f'cold{turn}'))  # noqa: E731
    warm = lambda turn: next(fit(next(models), [phase], folder/'warm'))  # noqa: E731
    return [run_bare(replace(task, steps=4))[0], *alternate(5, theirs=cold, ours=warm)]


def measure_checkpoints():
    "Table of saving and resuming."
    print(f"\n{'checkpoint of 200 MB':28}{'floor':>18}{'to compare with':>18}{'shutka':>12}{'ratio':>12}")
    for name, measure in (('save, torch.save', measure_saving), ('first row, cold start', measure_resuming)):
        with tempfile.TemporaryDirectory(dir='.') as folder: floor, theirs, ours = measure(Path(folder))
        print(f"{name:28}{floor * 1e3:>15,.0f} ms{theirs * 1e3:>15,.0f} ms{ours * 1e3:>9,.0f} ms{ours / theirs:>12.2f}",
              flush=True)


def main():
    torch.set_num_threads(2)
    measure_overhead()
    measure_checkpoints()


if __name__ == '__main__': main()

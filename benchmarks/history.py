"""Does a causal model learn from a history?

    python benchmarks/history.py [REPO] [--steps 600]

The perplexity of the newest commits, which it has not seen: untrained, trained, and trained as long on the same tokens
in a random order. What share of their added lines stands in the commits to learn from, too, is said beside it. REPO is
this project's own clone if it is not given. The tiny GPT-2, windows of 256 tokens, 8 of them a step; every token of the
validation windows counts once. Shuffled tokens teach how often each token comes, and nothing of what follows what: a
model that only learned the first would do as well on them.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.history.commit_file import write_commits  # noqa: E402
from shutka.history.recipe import read_windows  # noqa: E402
from shutka.history.tokens import share_lines, tokenize_history  # noqa: E402
from shutka.models.lm import lm_loss, measure_perplexity  # noqa: E402
from shutka.models.lm_files import open_lm  # noqa: E402
from shutka.models.lm_tokenizers import open_tokenizer  # noqa: E402
from shutka.text.shards import TokenSplit  # noqa: E402
from shutka.text.window_batches import WindowBatches  # noqa: E402
from shutka.text.windows import Cut  # noqa: E402
from shutka.train.fit import fit  # noqa: E402
from shutka.train.phase import Phase  # noqa: E402
from shutka.train.recipe import make_batches  # noqa: E402

ROOT, BATCH = Path(__file__).parents[1], 8


class Shuffled(WindowBatches):
    "The same batches with the tokens of each window in a random order; padding stays where it is."
    def __call__(self, step: int, rank: int = 0, world: int = 1) -> dict[str, np.ndarray]:
        batch, draw = super().__call__(step, rank, world), np.random.default_rng([self.seed, step])
        for ids, labels in zip(batch['ids'], batch['labels']):
            there = np.flatnonzero(ids != self.tokens.pad)
            ids[there] = ids[draw.permutation(there)]
            labels[labels != -100] = ids[labels != -100]
        return batch


def train_and_measure(base: Path, rows: WindowBatches | None, steps: int) -> float:
    "The perplexity of validation windows, after so many steps on some rows."
    torch.manual_seed(0)
    unseen = TokenSplit(base/'data'/'tokens', 'validation')
    model = open_lm('tiny', open_tokenizer(base/'data'/'tokenizer'), scratch=True, positions=unseen.cut.sequence_length)
    if rows:
        phase = Phase(name='history', batch=make_batches(rows, 0), loss=lm_loss, lr=2e-3, steps=steps, warmup=50)
        with tempfile.TemporaryDirectory() as place:
            for _ in fit(model.train(), [phase], place): pass
    return measure_perplexity(model, read_windows(unseen, BATCH))['perplexity']


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('repo', nargs='?', default=ROOT)
    parser.add_argument('--steps', type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        written = write_commits(args.repo, base/'data'/'git_history_rich.jsonl')
        index = tokenize_history(base, 'tiny', Cut(sequence_length=256, overlap=32))
        splits = index['splits']
        print(f"{written.read:,} commits, {splits['train']['tokens']:,} tokens to train on, "
              f"{splits['validation']['tokens']:,} to be judged by; {args.steps} steps of {BATCH} windows")
        newest = splits['validation']
        print(f"the newest {newest['documents']:,} commits add {newest['added_lines']:,} lines; "
              f"{share_lines(index):.1%} of them stand in the commits to learn from, too")
        tokens = TokenSplit(base/'data'/'tokens', 'train')
        ways = {'untrained': (None, 0), 'shuffled tokens': (Shuffled(tokens, BATCH), args.steps),
                'history': (WindowBatches(tokens, BATCH), args.steps)}
        found = {name: train_and_measure(base, rows, steps) for name, (rows, steps) in ways.items()}
    for name, value in found.items(): print(f'{name:16} perplexity {value:8.1f}')
    shuffled, untrained = (found[name] / found['history'] for name in ('shuffled tokens', 'untrained'))
    print(f'\nshuffled / history {shuffled:.1f}, untrained / history {untrained:.1f} (both must be above 1)')


if __name__ == '__main__': main()

"""Does a causal model learn from a history? Perplexity of commits that it has not seen: untrained, trained, and trained as long on the same tokens in a random order.

    python benchmarks/history.py [REPO] [--steps 600]

REPO is this project's own clone if it is not given. The tiny GPT-2, windows of 256 tokens, 8 of them a step; every token of the validation windows counts once. Shuffled tokens
teach how often each token comes, and nothing of what follows what: a model that only learned the first would do as well on them.
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

from shutka.history.commits import write_commits  # noqa: E402
from shutka.history.recipe import tokenize, windows_of  # noqa: E402
from shutka.models.lm import lm_loss, open_lm, open_tokenizer, perplexity  # noqa: E402
from shutka.text.windows import Cut, Tokens, Windows  # noqa: E402
from shutka.train.fit import fit  # noqa: E402
from shutka.train.phase import Phase  # noqa: E402
from shutka.train.recipe import batches  # noqa: E402

ROOT, BATCH = Path(__file__).parents[1], 8


class Shuffled(Windows):
    "The same batches with the tokens of each window in a random order; padding stays where it is."
    def __call__(self, step: int, rank: int = 0, world: int = 1) -> dict[str, np.ndarray]:
        batch, draw = super().__call__(step, rank, world), np.random.default_rng([self.seed, step])
        for ids, labels in zip(batch['ids'], batch['labels']):
            there = np.flatnonzero(ids != self.tokens.pad)
            ids[there] = ids[draw.permutation(there)]
            labels[labels != -100] = ids[labels != -100]
        return batch


def trained(base: Path, rows: Windows | None, steps: int) -> float:
    "The perplexity of validation windows, after so many steps on some rows."
    torch.manual_seed(0)
    unseen = Tokens(base/'data'/'tokens', 'validation')
    model = open_lm('tiny', open_tokenizer(base/'data'/'tokenizer'), scratch=True, positions=unseen.cut.sequence_length)
    if rows:
        phase = Phase(name='history', batch=batches(rows, 0), loss=lm_loss, lr=2e-3, steps=steps, warmup=50)
        with tempfile.TemporaryDirectory() as place:
            for _ in fit(model.train(), [phase], place): pass
    return perplexity(model, windows_of(unseen, BATCH))['perplexity']


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('repo', nargs='?', default=ROOT)
    parser.add_argument('--steps', type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        written = write_commits(args.repo, base/'data'/'git_history_rich.jsonl')
        index = tokenize(base, 'tiny', Cut(sequence_length=256, overlap=32))
        splits = index['splits']
        print(f"{written.read:,} commits, {splits['train']['tokens']:,} tokens to train on, {splits['validation']['tokens']:,} to be judged by; {args.steps} steps of {BATCH} windows")
        tokens = Tokens(base/'data'/'tokens', 'train')
        found = {'untrained': trained(base, None, 0), 'shuffled tokens': trained(base, Shuffled(tokens, BATCH), args.steps), 'history': trained(base, Windows(tokens, BATCH), args.steps)}
    for name, value in found.items(): print(f'{name:16} perplexity {value:8.1f}')
    print(f"\nshuffled / history {found['shuffled tokens'] / found['history']:.1f}, untrained / history {found['untrained'] / found['history']:.1f} (both must be above 1)")


if __name__ == '__main__': main()

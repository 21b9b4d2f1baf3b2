"""Which loss keeps a text-JEPA from collapsing, and what are the recipe's parts worth? All get the same minutes.

    python benchmarks/losses.py [--source SPECS] [--held_out SPECS] [--minutes .1] [--out FOLDER]

Each row of the table trains the tiny model from the same start on the same batches, in the recipe's phases, with one
thing changed. MRR is that of the model as it is examined, its word weights adapted to the pool. The shape of its space
is measured on unseen files, at the worse of its two sides. Minutes are those of this process's cores, not of the clock
on the wall, so that a row loses nothing to other programs. A run folder that is kept (--out) is prepared only once.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.core.metrics import cosine_matrix, measure_retrieval, measure_space, rank_targets  # noqa: E402
from shutka.evaluate.comparison import make_encoder, read_pools  # noqa: E402
from shutka.evaluate.retrieval import Pool, evaluate_retrieval  # noqa: E402
from shutka.models.adaptation import make_untrained  # noqa: E402
from shutka.models.jepa import info_nce, sigreg, update_teacher, variance_hinge  # noqa: E402
from shutka.models.text_jepa import TextJEPA  # noqa: E402
from shutka.train.fit import fit  # noqa: E402
from shutka.train.folder import prepare  # noqa: E402
from shutka.train.phase import Phase, do_nothing  # noqa: E402
from shutka.train.trainer import Session  # noqa: E402
from shutka.typescript.recipe import Typescript, contrastive_loss, use_blocks  # noqa: E402
from shutka.typescript.settings import TypescriptSettings  # noqa: E402


@dataclass
class Row:
    "One training: what learns, in which phases, and who embeds the bodies when it is examined."
    model: TextJEPA
    phases: list[Phase]
    bodies: TextJEPA


# --- losses: (model, batch) -> (scalar, parts) ---

def unwrap(model) -> TextJEPA:
    "The text-JEPA in what a loss is called with, which is the model in `MicroBatches`."
    return getattr(model, 'model', model)


def compare(predicted: Tensor, true: Tensor, model, batch: dict) -> Tensor:
    "InfoNCE as in the recipe, between any two embeddings."
    keys = batch['words_key'], batch['code_key'], batch['own_key']
    return info_nce(predicted, true, keys, unwrap(model).config.temperature)


def contrastive(model, batch: dict) -> tuple[Tensor, dict]:
    "The loss of the recipe."
    return contrastive_loss(model, batch, unwrap(model).config.temperature)


def stopped(model, batch: dict) -> tuple[Tensor, dict]:
    "InfoNCE without a gradient through the target."
    predicted, true = model(batch['words'], batch['code'])
    return compare(predicted, true.detach(), model, batch), {}


def taught(teacher: TextJEPA) -> Callable:
    "InfoNCE against the embeddings of a teacher."
    def loss(model, batch):
        student = unwrap(model)
        teacher.config = student.config   # whether its blocks take part
        with torch.no_grad(): true = teacher.embed(batch['code'])
        return compare(student.predict(batch['words']), true, model, batch), {}
    return loss


def guarded(guard: Callable) -> Callable:
    "InfoNCE, and a guard over both sides with weight 1."
    def loss(model, batch):
        predicted, true = model(batch['words'], batch['code'])
        return compare(predicted, true, model, batch) + guard(predicted) + guard(true), {}
    return loss


def regression(guard: Callable) -> Callable:
    "Cosine distance to the body's embedding: nothing to be told apart from, only a guard."
    def loss(model, batch):
        predicted, true = model(batch['words'], batch['code'])
        return (1 - (predicted * true).sum(dim=1)).mean() + guard(predicted) + guard(true), {}
    return loss


# --- rows of the table ---

def shared(model: TextJEPA) -> TextJEPA:
    "A twin whose X-encoder reads bodies too; without a gradient an encoder of their own would never learn."
    twin = deepcopy(model)
    twin.y_encoder = twin.x_encoder
    return twin


def plain(model: TextJEPA, phases: list[Phase], loss: Callable = contrastive,
          after_step: Callable = do_nothing) -> Row:
    "A row with another loss in every phase."
    learn = [p.learn.replace('|y_encoder', '') if model.y_encoder is model.x_encoder else p.learn for p in phases]
    changed = [replace(p, loss=loss, after_step=after_step, learn=names) for p, names in zip(phases, learn)]
    return Row(model, changed, model)


def with_teacher(model: TextJEPA, phases: list[Phase]) -> Row:
    "A row whose targets come from a slow copy, which also embeds the bodies in the end."
    teacher = deepcopy(model)
    row = plain(model, phases, taught(teacher), lambda student, step: update_teacher(teacher, student, .99))
    return replace(row, bodies=teacher)


def linear(model: TextJEPA, seed: int) -> TextJEPA:
    "The model with linear attention in its blocks."
    torch.manual_seed(seed)
    twin = TextJEPA(replace(model.config, mixer='linear'))
    twin.words.weigh(model.words.frequency)
    return twin


def rows_of(model: TextJEPA, phases: list[Phase], seed: int) -> dict[str, Callable[[], Row]]:
    "All trainings by name; each is made when its turn comes, from a copy of the same start."
    words, fresh = phases[0], lambda: deepcopy(model)
    all_the_time = replace(words, steps=0, until=1.)
    return {
        'InfoNCE, softmax, words then order (default)': lambda: plain(fresh(), phases),
        'one encoder for words and bodies': lambda: plain(shared(model), phases),
        '... stop-gradient on the target': lambda: plain(shared(model), phases, stopped),
        '... EMA teacher, .99': lambda: with_teacher(shared(model), phases),
        'InfoNCE + variance hinge': lambda: plain(fresh(), phases, guarded(variance_hinge)),
        'InfoNCE + SIGReg': lambda: plain(fresh(), phases, guarded(sigreg)),
        'cosine + variance hinge, no negatives': lambda: plain(fresh(), phases, regression(variance_hinge)),
        'cosine + SIGReg, no negatives': lambda: plain(fresh(), phases, regression(sigreg)),
        'linear blocks': lambda: plain(linear(model, seed), phases),
        'words only, as long as in the default': lambda: plain(fresh(), [words]),
        'words only, all the time': lambda: plain(fresh(), [all_the_time]),
        'everything at once': lambda: plain(fresh(), [replace(all_the_time, learn='.', start=use_blocks)]),
    }


# --- training and examination ---

def busy() -> float: return time.process_time() / torch.get_num_threads()  # seconds


def trained(row: Row, seed: int, minutes: float) -> str:
    "Train a row; steps by phase, such as '107 + 31'."
    steps, session = {}, Session(minutes=minutes, save_every=1e9)
    phases = [replace(p, check=do_nothing, every=0) for p in row.phases]  # checks would take some of the time
    with tempfile.TemporaryDirectory() as folder:
        for logged in fit(row.model, phases, folder, session, seed=seed, clock=busy):
            steps[logged['phase']] = steps.get(logged['phase'], 0) + 1
    row.bodies.config = row.model.config
    row.model.eval()
    return ' + '.join(f'{n}' for n in steps.values())


def examined(row: Row, pools: list[Pool]) -> tuple[list[float], dict]:
    "MRR in each pool, and the shape of the space in the first one."
    mrr, shapes = [], []
    for pool in pools:
        queries, bodies = list(pool.queries), list(pool.bodies)
        predicted, true = make_encoder(row.model)(queries, bodies)[0], make_encoder(row.bodies)(queries, bodies)[1]
        mrr.append(measure_retrieval(rank_targets(cosine_matrix(predicted, true), np.arange(len(true))))['mrr'])
        shapes.append(measure_space(predicted, true))
    return mrr, shapes[0]


def line(name: str, *cells) -> str: return f"| {name} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--source', default='bundled:typescript')
    parser.add_argument('--held_out', default='')
    parser.add_argument('--minutes', type=float, default=.1, help='of training, for each row')
    parser.add_argument('--out', help='run folder; a temporary one if not given')
    args = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        settings = TypescriptSettings(source=args.source, held_out=args.held_out, epochs=0, minutes=args.minutes,
                                      out=args.out or f'{folder}/run')
        recipe = Typescript(settings)
        facts = prepare(recipe, progress=lambda line: None)
        pools, (model, phases) = read_pools(settings.out), recipe.build_training()

        print(f"{facts['data']['pairs']['train']:,} pairs, {args.minutes:g} minutes each, "
              f"load of the machine at the start {os.getloadavg()[0]:.1f}\n")
        print(line('', 'steps', *(f'MRR, {p.name}' for p in pools), 'effective rank', 'mean cosine'))
        print('|---' + '|---:' * (len(pools) + 3) + '|')
        untrained = {'untrained': make_encoder(make_untrained(model))}
        references = [[r for r in evaluate_retrieval(p, untrained) if r['method'] != 'BM25'] for p in pools]
        for same in zip(*references): print(line(same[0]['method'], '', *(f"{r['mrr']:.3f}" for r in same), '', ''))
        for name, make in rows_of(model, phases, settings.seed).items():
            row = make()
            steps = trained(row, settings.seed, args.minutes)
            mrr, shape = examined(row, pools)
            space = f"{shape['effective_rank']:.0f}", f"{shape['mean_cosine']:.2f}"
            print(line(name, steps, *(f'{x:.3f}' for x in mrr), *space), flush=True)


if __name__ == '__main__': main()

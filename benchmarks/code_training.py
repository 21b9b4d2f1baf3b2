"""Do weights, curriculum and augmentation help, at equal minutes and on the same held-out files?

    python benchmarks/code_training.py [SOURCE] [--minutes 10] [--seeds 3] [--models gpt2_tiny smollm2_135m]

Builds a data set of SOURCE (as for `shutka data build`) once for each model, with that model's tokenizer, and verifies
it. Then the same model learns it for so many minutes in several ways, each a process of its own, one after the other:
with all three, without each of them, and with none. The test part is the same for all, and holds nothing that any of
them has learned. First the pace is measured, for a fifth of the minutes: the curriculum is made of thirds of the steps
that fit. What lies in the folder OUT is not done again, so the same command goes on where it was killed.

The tables tell nats per token. Their intervals are 95 % over files and seeds: files are drawn anew, the same ones for
all ways, and so are the seeds of each way. `change` is what a way has more than `all`, so a plus says that what was
left out helps. With --each, the four augmentations are left out one by one as well.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.core.errors import UserError  # noqa: E402
from shutka.core.files import read_json, write_json  # noqa: E402
from shutka.core.page import markdown_table  # noqa: E402
from shutka.dataset.settings import AUGMENTATION_KINDS  # noqa: E402
from shutka.guides.code_data import build_code_data  # noqa: E402
from shutka.guides.code_examination import HeldOut, measure_baselines, measure_held_out  # noqa: E402
from shutka.guides.code_recipe import TunedCode, locate_data, make_code_recipe  # noqa: E402
from shutka.guides.settings import CodeDataSettings  # noqa: E402
from shutka.train.fit import fit  # noqa: E402
from shutka.train.folder import prepare  # noqa: E402
from shutka.train.machine import choose_precision, inspect_machine  # noqa: E402
from shutka.train.phase import do_nothing  # noqa: E402
from shutka.train.trainer import Session  # noqa: E402

OFF = {'weights': {'weights': False}, 'curriculum': {'curriculum': False}, 'augmentation': {'augmentations': ''}}
WAYS = {'all': {}, **{f'without {name}': off for name, off in OFF.items()},
        'none': {key: value for off in OFF.values() for key, value in off.items()}}
EACH = {f'without {kind}': {'augmentations': ','.join(other for other in AUGMENTATION_KINDS if other != kind)}
        for kind in AUGMENTATION_KINDS}
PRIORITIES = 'high', 'medium', 'low'
DRAWS = 1_000
PACE_SEED = 10**6   # of the training that measures the pace, which is not compared


def settings_of(asked, model: str, out: Path, **more) -> CodeDataSettings:
    given = dict(preset=model, source='', dataset=str(asked.out/model/'data'), processes=1, workers=1,
                 batch_size=asked.rows, gradient_accumulation=asked.accumulation, out=str(out),
                 accept_faults=asked.accept_faults)
    return CodeDataSettings(**given | more)


def build(asked, model: str):
    "The data set of a model, built and verified."
    settings = settings_of(asked, model, asked.out/model, source=asked.source, length=asked.length,
                           vocabulary=asked.vocabulary)
    place = locate_data(settings)
    print(build_code_data(settings if not (place/'dataset_metadata.json').is_file() else
                          replace(settings, source='')).describe().splitlines()[-1])


def run_way(asked):
    "Train in one way, and write what came of it; a process of its own."
    model, way, seed, steps = asked.only
    folder = asked.out/model/f'{way}-{seed}'.replace(' ', '-')
    recipe = make_code_recipe(settings_of(asked, model, folder/'run', seed=int(seed), steps=int(steps), epochs=0,
                                          **(WAYS | EACH)[way]))
    prepare(recipe, lambda line: None)
    held = HeldOut(recipe.open_part('test'), asked.examined)
    lm, [phase] = recipe.build_training()
    # the time alone ends it, and no check takes any of it
    phase = replace(phase, steps=0, check=do_nothing, every=0, score='', patience=0, judge_start=False)
    session = Session(minutes=asked.minutes, micro_batches=asked.accumulation,
                      precision=choose_precision(inspect_machine(folder)))
    began, seen, tokens = time.perf_counter(), 0, 0.
    for row in fit(lm, [phase], recipe.settings.checkpoint_folder, session, seed=int(seed)):
        seen, tokens = row['step'], tokens + sum(value for key, value in row.items() if key.startswith('counted_'))
    seconds, rows = time.perf_counter() - began, held.file.rows[held.chosen]
    names = held.file.index.names['priority']
    found = {'trained': measure_held_out(lm.eval(), held)}
    if asked.baselines:
        if isinstance(recipe, TunedCode):
            with lm.without_adapters(): found['untouched'] = measure_held_out(lm, held)
        else: found |= measure_baselines(recipe.open_part('train'), held, recipe.read_facts()['vocabulary'])
    write_json(folder/'found.json', {
        'steps': seen, 'tokens': tokens, 'seconds': seconds, 'files': rows['file'].tolist(),
        'priorities': [names[number] for number in rows['priority']],
        'sums': {name: values[:, :2].tolist() for name, values in found.items()}})
    for path in recipe.settings.checkpoint_folder.rglob('*'):
        if path.is_file(): path.unlink()


def find(asked, model: str, way: str, seed: int, steps: int, **more) -> dict:
    "What came of a way, from the disk if it was done before."
    path = asked.out/model/f'{way}-{seed}'.replace(' ', '-')/'found.json'
    if not path.is_file():
        options = {'rows': asked.rows, 'accumulation': asked.accumulation, 'examined': asked.examined,
                   'minutes': asked.minutes, 'out': asked.out} | more
        words = [word for name, value in options.items() if name != 'baselines' for word in (f'--{name}', str(value))]
        flags = ['--accept-faults'] * asked.accept_faults + ['--baselines'] * bool(more.get('baselines'))
        child = subprocess.run([sys.executable, __file__, asked.source, *words, *flags, '--only', model, way, str(seed),
                                str(steps)], capture_output=True, text=True)
        if child.returncode: raise UserError(f'{model}, {way}, seed {seed}: {child.stderr.strip()[-600:]}')
    return read_json(path)


def measure_pace(asked, model: str) -> int:
    "How many steps fit into the minutes."
    found = find(asked, model, 'none', PACE_SEED, 10**6, minutes=asked.minutes / 5, examined=1)
    return max(3, round(asked.minutes * 60 * found['steps'] / found['seconds']))


def sum_files(found: dict, name: str, mine: np.ndarray) -> np.ndarray:   # (files, 2) nats and tokens
    files = np.array(found['files'])[mine]
    numbers, place = np.unique(files, return_inverse=True)
    sums = np.zeros((len(numbers), 2))
    np.add.at(sums, place, np.array(found['sums'][name])[mine])
    return sums


def tell(value: float, drawn: np.ndarray, form: str) -> str:
    low, high = np.quantile(drawn, [.025, .975])
    return f'{value:{form}} [{low:{form}}, {high:{form}}]'


def compare(seeds: dict[str, list[np.ndarray]]) -> dict[str, tuple[str, str]]:   # by way: loss, change against `all`
    "Nats per token with intervals over files and seeds."
    draw, loss = np.random.default_rng(0), lambda sums: sums[..., 0].sum(-1) / sums[..., 1].sum(-1).clip(1)
    files = len(seeds['all'][0])
    chosen = draw.integers(0, files, (DRAWS, files))
    values, drawn = {}, {}
    for way, some in seeds.items():
        every = np.stack([loss(sums[chosen]) for sums in some])                        # (seeds, draws)
        picked = draw.integers(0, len(some), (len(some), DRAWS))
        values[way] = float(np.mean([loss(sums) for sums in some]))
        drawn[way] = np.take_along_axis(every, picked, 0).mean(0)
    return {way: (tell(values[way], drawn[way], '.4f'), '' if way == 'all' else
                  tell(values[way] - values['all'], drawn[way] - drawn['all'], '+.4f')) for way in seeds}


def report(model: str, found: dict[str, list[dict]], baselines: dict) -> str:
    "The tables of a model."
    first = found['all'][0]
    priorities = np.array(first['priorities'])
    parts = {'all code': np.ones(len(priorities), bool)} | {
        name: priorities == name for name in PRIORITIES if (priorities == name).any()}
    columns = {}
    for part, mine in parts.items():
        sums = {way: [sum_files(one, 'trained', mine) for one in some] for way, some in found.items()}
        sums |= {name: [sum_files(baselines, name, mine)] for name in baselines['sums'] if name != 'trained'}
        columns[part] = compare(sums)
    lines = []
    for way in columns['all code']:
        runs = found.get(way, [])
        lines.append([way, f'{len(runs)}', f"{np.mean([one['steps'] for one in runs]):,.0f}" if runs else '',
                      f"{np.mean([one['tokens'] for one in runs]):,.0f}" if runs else '', *columns['all code'][way],
                      *(columns[part][way][0].split(' [')[0] for part in list(parts)[1:])])
    tokens = int(np.array(first['sums']['trained'])[:, 1].sum())
    head = ['way', 'seeds', 'steps', 'tokens learned', 'nats per token, 95 %', 'change, 95 %', *list(parts)[1:]]
    return (f'## {model}: {len(set(first["files"])):,} files of the test part, {tokens:,} tokens\n\n'
            + markdown_table(head, lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', nargs='?', help='code, as for shutka data build; without one, a glance at it all: '
                        'the bundled corpus, six seconds for each training of a tiny model')
    parser.add_argument('--minutes', type=float, default=10, help='of each training')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--models', nargs='+', default=['gpt2_tiny', 'smollm2_135m'])
    parser.add_argument('--length', type=int, default=256, help='tokens of a sequence')
    parser.add_argument('--vocabulary', type=int, default=4_096, help='of the tokenizer of a model from nothing')
    parser.add_argument('--rows', type=int, default=2, help='sequences in the model at a time')
    parser.add_argument('--accumulation', type=int, default=4, help='times so many make a step')
    parser.add_argument('--examined', type=int, default=512, help='sequences of the test part; 0 takes all')
    parser.add_argument('--each', action='store_true', help='leave out each augmentation by itself, too')
    parser.add_argument('--accept-faults', action='store_true', help='go on though a check of the data set fails')
    parser.add_argument('--out', type=Path, default=Path('runs/code_training'))
    parser.add_argument('--baselines', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--only', nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 2)))
    if asked.only: return run_way(asked)
    if not asked.source:
        asked.source, asked.minutes, asked.seeds, asked.models = 'bundled:typescript', .1, 1, ['gpt2_tiny']
        asked.out, asked.accept_faults = asked.out.with_name('code_training_glance'), True
    ways, tables = list(WAYS | (EACH if asked.each else {})), []
    for model in asked.models:
        build(asked, model)
        steps, found = measure_pace(asked, model), {way: [] for way in ways}
        print(f'{model}: about {steps:,} steps in {asked.minutes:g} minutes', flush=True)
        for seed in range(asked.seeds):   # the ways take turns, so that a busy hour does no way wrong
            for way in ways:
                one = find(asked, model, way, seed, steps, baselines=way == 'all')
                found[way].append(one)
                print(f"  {way}, seed {seed}: {one['steps']:,} steps in {one['seconds']:.0f} s", flush=True)
        tables.append(report(model, found, found['all'][0]))
        print(f'\n{tables[-1]}\n', flush=True)
    (asked.out/'tables.md').write_text('\n\n'.join(tables) + '\n')
    (asked.out/'asked.json').write_text(json.dumps({name: str(value) for name, value in vars(asked).items()}, indent=1))


if __name__ == '__main__':
    try: main()
    except UserError as e: sys.exit(f'error: {e}')

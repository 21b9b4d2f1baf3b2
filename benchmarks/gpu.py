"""What only a GPU can tell.

Does 16-bit training follow the 32-bit curve, is the memory estimate right, how fast is it, does it survive a kill?

    python benchmarks/gpu.py [--steps 100] [--batch 256] [--size small] [--keep FOLDER]
    python benchmarks/gpu.py --cpu     # the same program at a toy size: says whether the script works, and nothing else

Trains the text-JEPA on the bundled corpus several times from the same start, each in a process of its own, and prints
one table. Everything is read from the runs' logs. Ends with 1 if a check failed, with 2 without a GPU. Bounds: the last
fifth of the fp16 curve (and of bf16, where the GPU has it, and of 8-bit AdamW) lies within 2 % of fp32, or within the
noise of two seeds if that is more; the estimate lies within 15 % of the peak; a killed run repeats the losses of one
that was not to 1e-3, since sums on a GPU come in any order.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.core.files import read_json, read_jsonl  # noqa: E402
from shutka.train.folder import prepare  # noqa: E402
from shutka.train.recipe import load_recipe  # noqa: E402
from shutka.train.run import train_folder  # noqa: E402
from shutka.train.trainer import Session  # noqa: E402
from shutka.typescript.recipe import Typescript  # noqa: E402
from shutka.typescript.settings import TypescriptSettings  # noqa: E402


def train_child(out: str, precision: str):
    "Train a prepared run folder, with a checkpoint every two seconds."
    train_folder(out, Session(precision=precision, optimizer=load_recipe(out).settings.optimizer, save_every=2))
    if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()


def read_rows(out: Path) -> list[dict]:
    log = out/'log.jsonl'
    return list(read_jsonl(log, torn=True)) if log.exists() else []

def read_step_rows(out: Path) -> list[dict]: return [r for r in read_rows(out) if 'step' in r]


def train_in_child(recipe: Typescript, precision: str, world: int = 1, kill_at: int = 0) -> Path:
    "Train a run in a process of its own, or several; killed without warning after a step if that is given."
    prepare(recipe, progress=lambda line: None)
    out = Path(recipe.settings.out)
    starter = ['-m', 'torch.distributed.run', f'--nproc_per_node={world}', '--standalone'] if world > 1 else []
    gpus = {} if world > 1 else {'CUDA_VISIBLE_DEVICES': '0'}
    with open(out/'said.txt', 'w+') as said:
        process = subprocess.Popen([sys.executable, *starter, __file__, '--train', str(out), precision],
                                   env=os.environ | gpus, stdout=said, stderr=said, start_new_session=True)
        while process.poll() is None and (not kill_at or len(read_step_rows(out)) < kill_at): time.sleep(.2)
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode:
            said.seek(0)
            raise SystemExit(f'{out} failed:\n{said.read()[-4000:]}')
        process.wait()
    return out


def read_losses(out: Path) -> list[float]: return [r['loss'] for r in read_step_rows(out)]

def compare_ends(a: Path, b: Path) -> float:
    "How far the ends of two curves are apart, as a share."
    ends = [statistics.mean(read_losses(out)[-max(1, len(read_losses(out)) // 5):]) for out in (a, b)]
    return abs(ends[0] - ends[1]) / ends[1]

def find_largest_difference(a: Path, b: Path) -> float:
    return max(abs(x - y) for x, y in zip(read_losses(a), read_losses(b), strict=True))

def find_peak(out: Path) -> float: return max(r['memory_gb'] for r in read_step_rows(out))  # gigabytes

def find_speed(out: Path) -> float: return statistics.median(r['tokens_s'] for r in read_step_rows(out)[5:])

def describe_utilisation(out: Path) -> str:
    "The mean of each GPU in percent, by the log."
    seen = [[gpu['utilisation'] for gpu in r['gpus']] for r in read_rows(out) if r.get('gpus')]
    return ', '.join(f'{statistics.mean(gpu):.0f} %' for gpu in zip(*seen)) or 'not seen'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=100)
    parser.add_argument('--batch', type=int, default=256)
    parser.add_argument('--size', default='small')
    parser.add_argument('--cpu', action='store_true', help='a dry run at a toy size')
    parser.add_argument('--keep', help='folder for the runs; a temporary one if not given')
    parser.add_argument('--train', nargs=2, metavar=('OUT', 'PRECISION'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train_child(*args.train)
        return 0
    if not args.cpu and not torch.cuda.is_available():
        print('no GPU is seen: this check needs one (--cpu tries the script itself, at a toy size)', file=sys.stderr)
        return 2
    if args.cpu: args.steps, args.batch, args.size = 15, 16, 'tiny'
    with tempfile.TemporaryDirectory() as temporary:
        table = measure(Path(args.keep or temporary), args)
    print('| check | measured | bound | |\n|---|---:|---:|---|')
    for what, value, bound, good in table:
        print(f"| {what} | {value} | {bound} | {'' if good is None else 'ok' if good else 'FAILED'} |")
    return int(any(good is False for *_, good in table))


def measure(folder: Path, args) -> list[tuple]:
    "The rows of the table: what, measured, bound, whether it holds."
    def run(name, precision='fp32', world=1, kill_at=0, **settings):
        print(f'{name} ...', file=sys.stderr, flush=True)
        few = {'max_samples': 200} if args.cpu else {}
        given = dict(size=args.size, steps=args.steps, epochs=0, batch_size=args.batch, processes=world,
                     out=str(folder/name)) | few | settings
        return train_in_child(Typescript(TypescriptSettings(**given)), precision, world, kill_at)
    table = []
    gpus, capability = (0, (0, 0)) if args.cpu else (torch.cuda.device_count(), torch.cuda.get_device_capability())
    halves = ['fp16'] + ['bf16'] * (capability >= (8, 0))

    whole = run('fp32')
    noise = compare_ends(run('another seed', seed=1), whole)
    bound = max(.02, noise)
    outs = {kind: run(kind, kind) for kind in halves}
    for kind, out in outs.items():
        table.append((f'{kind}: end of the curve against fp32', f'{compare_ends(out, whole):.2%}', f'{bound:.2%}',
                      compare_ends(out, whole) <= bound))
        table.append((f'{kind}: largest difference of a loss', f'{find_largest_difference(out, whole):.1e}', '', None))
        table.append((f'{kind}: steps skipped by the scaler', read_step_rows(out)[-1].get('skipped', 0), '', None))
    small = run('adamw8bit', optimizer='adamw8bit')
    table.append(('8-bit AdamW: end of the curve', f'{compare_ends(small, whole):.2%}', f'{bound:.2%}',
                  compare_ends(small, whole) <= bound))

    best = outs[halves[-1]]
    plan = read_json(best/'run.json')['plan']
    ratio = sum(plan['memory'].values()) / 1e9 / find_peak(best)
    within = None if args.cpu else .85 <= ratio <= 1.15
    table.append((f"memory: estimate / peak ({plan['precision']}, {halves[-1]})",
                  f'{ratio:.2f} of {find_peak(best):.2f} GB', '.85 to 1.15', within))
    table.append(('memory: 8-bit AdamW saves', f'{find_peak(whole) - find_peak(small):.2f} GB', '', None))
    saved = find_peak(whole) - find_peak(run('checkpointing', gradient_checkpointing=True))
    table.append(('memory: gradient checkpointing saves', f'{saved:.2f} GB', '', None))
    for name, out in {'fp32': whole, **outs}.items():
        table.append((f'{name}: tokens/s, utilisation', f'{find_speed(out):,.0f}, {describe_utilisation(out)}', '',
                      None))

    run('killed', halves[0], kill_at=args.steps // 2)
    before = len(read_step_rows(folder/'killed'))
    again = run('killed', halves[0])
    difference = find_largest_difference(again, outs[halves[0]])
    table.append((f'killed after step {before} and resumed: largest difference of a loss',
                  f'{difference:.1e}', '1e-3', difference <= 1e-3))
    if gpus >= 2 or args.cpu:
        two = run('two', halves[-1], world=2)
        table.append(('two processes against one: end of the curve', f'{compare_ends(two, best):.2%}', f'{bound:.2%}',
                      compare_ends(two, best) <= bound))
        table.append(('two processes: tokens/s, utilisation', f'{find_speed(two):,.0f}, {describe_utilisation(two)}',
                      '', None))
        table.append(('two processes: times as fast as one', f'{find_speed(two) / find_speed(best):.2f}', '', None))
    return table


if __name__ == '__main__': sys.exit(main())

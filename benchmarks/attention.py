"""How long do linear and softmax attention take from 1,024 to 16,384 tokens?

    python benchmarks/attention.py [--out FOLDER] [--threads 2] [--repeats 3]

Whole mixers on the CPU (projections included), one sequence, bidirectional: both forms forward, the linear form also
forward and backward. Prints the median times, the exponent of the growth with length, and the length from which the
linear form is faster. Writes attention.json and attention.png to FOLDER.
"""
import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from shutka.core.files import write_json
from shutka.models.attention import GatedLinearAttention, SoftmaxAttention

WIDTH, HEADS, LENGTHS = 256, 4, [1024, 2048, 4096, 8192, 16384]


def forward(mixer, x, mask):
    with torch.no_grad(): mixer(x, mask)

def forward_backward(mixer, x, mask): mixer(x, mask).square().sum().backward()


def median_seconds(
    work: Callable,          # called as work(mixer, x, mask)
    mixer: torch.nn.Module,  # called as mixer(x, mask)
    length: int,             # tokens
    repeats: int,            # measurements at least, after one that does not count; more until a second is over
) -> float:                  # seconds
    "The median time of some work on one sequence."
    x, mask, times = torch.randn(1, length, WIDTH), torch.ones(1, length, dtype=torch.bool), []
    while len(times) <= repeats or sum(times) < 1:
        start = time.perf_counter()
        work(mixer, x, mask)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def exponent(seconds: list[float]) -> float:
    "The p of seconds = a * length^p, fitted on logarithms: 1 is linear, 2 is quadratic."
    return float(np.polyfit(np.log(LENGTHS), np.log(seconds), 1)[0])


def crossover(linear: list[float], softmax: list[float]) -> int | None:
    "The smallest measured length from which on the linear form is always faster; None if there is none."
    slower = [i for i in range(len(LENGTHS)) if linear[i] >= softmax[i]]
    first = slower[-1] + 1 if slower else 0
    return LENGTHS[first] if first < len(LENGTHS) else None


def plot(path: Path, seconds: dict[str, list[float]]):
    "A curve per kind of work on logarithmic axes."
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(figsize=(4.5, 3.5))
    for name, times in seconds.items():
        axes.loglog(LENGTHS, times, 'o-', label=f'{name}, exponent {exponent(times):.2f}')
    axes.set_xticks(LENGTHS, [f'{l // 1024}k' for l in LENGTHS])
    axes.minorticks_off()
    axes.set(xlabel='tokens', ylabel='seconds')
    axes.legend(fontsize='small')
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    "Measure, print, save."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path(__file__).parent/'results',
                        help='folder for attention.json and attention.png')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    linear, softmax = GatedLinearAttention(WIDTH, HEADS), SoftmaxAttention(WIDTH, HEADS)
    work = {'linear': (forward, linear), 'softmax': (forward, softmax), 'linear training': (forward_backward, linear)}
    seconds = {name: [] for name in work}

    print(f"width {WIDTH}, {HEADS} heads, {args.threads} threads, medians\n")
    print(' tokens   linear  softmax  linear training  softmax / linear')
    for task, mixer in work.values(): median_seconds(task, mixer, LENGTHS[0], args.repeats)  # everything gets warm
    for length in LENGTHS:
        for name, (task, mixer) in work.items(): seconds[name].append(median_seconds(task, mixer, length, args.repeats))
        a, b, c = (times[-1] for times in seconds.values())
        print(f"{length:7,}{a:8.3f}s{b:8.3f}s{c:16.3f}s{b / a:18.1f}", flush=True)
    faster = crossover(seconds['linear'], seconds['softmax'])
    print('\nexponent: ' + ', '.join(f'{name} {exponent(times):.2f}' for name, times in seconds.items()))
    print(f'the linear form is faster from {faster:,} tokens on' if faster
          else 'the linear form is not faster at any of these lengths')
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out/'attention.json', {
        'width': WIDTH, 'heads': HEADS, 'threads': args.threads, 'lengths': LENGTHS, 'seconds': seconds,
        'exponent': {name: exponent(times) for name, times in seconds.items()}, 'faster_from': faster})
    plot(args.out/'attention.png', seconds)


if __name__ == '__main__': main()

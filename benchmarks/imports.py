"""How long does it take until shutka answers?

    python benchmarks/imports.py [--runs 15]

Whole processes, medians, in alternation: `import shutka` and `shutka --help` beside a Python that does
nothing. The bar: `import shutka` adds less than 0.3 s."""
import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

BAR = .3  # seconds


def seconds(command: list[str]) -> float:
    "How long a process takes."
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=15)
    args = parser.parse_args()
    shutka = Path(sys.executable).with_name('shutka')
    commands = {
        'python -c pass': [sys.executable, '-c', 'pass'],
        'import shutka': [sys.executable, '-c', 'import shutka'],
        'shutka --help': [str(shutka), '--help'],
    }
    times = {name: [] for name in commands}
    for turn in range(args.runs + 1):
        for name, command in commands.items():
            took = seconds(command)
            if turn: times[name].append(took)  # the first turn fills the caches of the disk

    median = {name: statistics.median(t) for name, t in times.items()}
    bare = median['python -c pass']
    print(f"{'':16}{'seconds':>10}{'above bare Python':>20}")
    for name, t in median.items(): print(f"{name:16}{t:>10.3f}{t - bare:>20.3f}")
    imports, helps = (median['import shutka'] - bare) / BAR, median['shutka --help'] / bare
    print(f"\nimport shutka / the bar of {BAR} s: {imports:.3f}; shutka --help / bare Python: {helps:.1f}")


if __name__ == '__main__': main()

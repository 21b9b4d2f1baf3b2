"""How fast are pairs found, and how much memory does it take?

    python benchmarks/pairs.py [SOURCE] [--passes 5]

Megabytes of source per second of one core, over the bundled corpus and over SOURCE (such as npm:effect@3.19.0) if
one is given. The floor is tree-sitter's parse of the same bytes and nothing else. Time is CPU time of this process,
so others on the machine count little; files that teach nothing (declarations, tests) are left out, because to skip
them costs nothing. Peak memory is that of a process which streams the corpus once, and of another that streams it
ten times."""
import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tree_sitter import Parser

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.data.pairs import Report, explain_skip, stream_pairs  # noqa: E402
from shutka.data.sources import open_source  # noqa: E402
from shutka.data.syntax import load_grammar  # noqa: E402

TARGET = 2  # MB/s


def peak(
    spec: str,    # a source
    times: int,   # how often it is read
) -> float:       # megabytes
    "The most memory this process ever held, after it streamed the pairs of a source."
    source, report = open_source(spec), Report()
    for _ in range(times):
        for _ in stream_pairs(source, report): pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def peak_apart(spec: str, times: int) -> float:
    "The same in a fresh process. It starts with its parent's peak, so the parent must not have read anything yet."
    with ProcessPoolExecutor(1, get_context('spawn')) as pool: return pool.submit(peak, spec, times).result()


def median_seconds(
    work: Callable,  # without arguments
    passes: int,     # measurements, after one that does not count
) -> float:          # CPU seconds
    "The median CPU time of some work."
    times = []
    for _ in range(passes + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def speeds(
    spec: str,     # a source
    passes: int,   # over it
) -> tuple[float, int, float, float]:  # MB of source, pairs, and MB/s of parsing alone and of pairs
    "How fast a source in memory becomes pairs."
    documents = [d for d in open_source(spec) if not explain_skip(d['path'], d['text'])]
    code = [(d['text'].encode('utf-8', 'replace'), d['language']) for d in documents]
    megabytes = sum(len(text) for text, _ in code) / 1e6

    def parse():
        for text, name in code: Parser(load_grammar(name)).parse(text)

    def count(): return sum(1 for _ in stream_pairs(documents, Report()))

    return megabytes, count(), megabytes / median_seconds(parse, passes), megabytes / median_seconds(count, passes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', nargs='?', help='a second corpus, e.g. npm:effect@3.19.0')
    parser.add_argument('--passes', type=int, default=5)
    args = parser.parse_args()
    specs = ['bundled:typescript', *([args.source] if args.source else [])]
    memory = {spec: (peak_apart(spec, 1), peak_apart(spec, 10)) for spec in specs}

    head = ('parse alone', 'all of it', 'of the floor', 'peak once', 'ten times')
    print(f"{'corpus':22}{'source':>9}{'pairs':>8}" + ''.join(f'{name:>14}' for name in head))
    for spec in specs:
        megabytes, found, floor, ours = speeds(spec, args.passes)
        once, ten = memory[spec]
        print(f"{spec:22}{megabytes:>6.2f} MB{found:>8,}{floor:>9.2f} MB/s{ours:>9.2f} MB/s{ours / floor:>14.2f}"
              f"{once:>11.1f} MB{ten:>11.1f} MB")
        print(f"    {ours / TARGET:.2f} x the target of {TARGET} MB/s per core; "
              f"ten times the corpus takes {ten / once:.3f} x the memory", flush=True)


if __name__ == '__main__': main()

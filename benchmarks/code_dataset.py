"""How quick is a build of a code data set, how much memory does it take, and what is in it?

    python benchmarks/code_dataset.py [SOURCE ...] [--length 1024] [--tokenizer FOLDER] [--workers 1]

Each source is built three times, with all filters: windows as they are, windows with the augmentations, and packed
rows. Beside each stands the floor: reading the same files and cutting them into tokens, without anything else. Time is
that of the processor, of all processes together; memory is that of the largest process and of the building one. What
is in the data set comes from its files, by the checks of `shutka data verify`. Without a source, the folder of numpy
is taken. The bars: 1.5 MB of source a second and core without augmentations, 400 MB for a tree of 50 MB, no leak, no
sequence twice, .5 % padding in packed rows, 2.1 bytes a token in shards."""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WAYS = {'windows': {'augmentations': ''},
        'augmented': {'augmentations': 'variable_renaming,comment_toggling,format_variation'},
        'packed': {'augmentations': '', 'packing': True}}
BUILD = """
import json, resource, sys
from shutka.dataset.build import build_dataset
from shutka.dataset.settings import DatasetSettings
said = []
report = build_dataset(DatasetSettings(**json.loads(sys.argv[1])), said.append)
own = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({'failed': [check.name for check in report.checks if check.verdict == 'failed'], 'said': said,
                  'memory': own.ru_maxrss / 1e3}))
"""
FLOOR = """
import json, sys
from shutka.dataset.code_files import FileCounts
from shutka.dataset.word_tokens import open_raw_tokenizer
from shutka.dataset.reading import read_code_files
encoder, tokens, counts = open_raw_tokenizer(sys.argv[2]), 0, FileCounts()
for file in read_code_files(sys.argv[1], counts): tokens += len(encoder.encode(file.text, add_special_tokens=False))
print(json.dumps({'tokens': tokens, 'bytes': counts.bytes}))
"""


def run(code: str, *given: str) -> tuple[dict, float, float]:
    "What a process says in its last line, its seconds of processor time, and the memory of its largest child in MB."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, '-c', code, *given], stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout.decode().splitlines()[-1]), seconds, after.ru_maxrss / 1e3


def measure(source: str, way: str, args, folder: Path) -> list[str]:
    "A line of the table."
    out = folder/way
    given = {'source': source, 'out': str(out), 'length': args.length, 'workers': args.workers,
             'tokenizer': args.tokenizer} | WAYS[way]
    found, seconds, largest = run(BUILD, json.dumps(given))
    about = json.loads((out/'dataset_metadata.json').read_text())
    mb = about['files']['bytes'] / 1e6
    floor, least, _ = run(FLOOR, source, str(out/'tokenizer'))
    tokens = sum(np.fromfile(out/f'{part}.ds.index', '<u8')[-1] for part in ('train', 'val', 'test')
                 if (out/f'{part}.ds.index').stat().st_size)
    size = sum((out/f'{part}.ds').stat().st_size for part in ('train', 'val', 'test'))
    return [way, f"{about['files']['files']:,}", f'{mb:.1f}', f'{seconds:.1f}', f'{mb / seconds:.2f}',
            f'{seconds / least:.2f}', f"{found['memory']:.0f} / {largest:.0f}",
            f"{about['total_tokens'] / floor['tokens']:.2f}", f"{about['padding_share']:.2%}", f'{size / tokens:.2f}',
            ', '.join(found['failed']) or 'none']


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sources', nargs='*', default=[f'dir:{Path(np.__file__).parent}'], metavar='SOURCE')
    parser.add_argument('--length', type=int, default=1024)
    parser.add_argument('--tokenizer', default='', help='a folder; without one, each build learns its own')
    parser.add_argument('--workers', type=int, default=1)
    parser.add_argument('--ways', default=','.join(WAYS))
    args = parser.parse_args()
    head = ['way', 'files', 'MB', 'CPU s', 'MB/s', '/ floor', 'MB of memory', 'tokens / source', 'padding',
            'bytes/token', 'failed checks']
    for source in args.sources:
        print(f'\n{source}', '  '.join(head), sep='\n')
        for way in args.ways.split(','):
            with tempfile.TemporaryDirectory() as folder:
                print('  '.join(measure(source, way, args, Path(folder))), flush=True)


if __name__ == '__main__': main()

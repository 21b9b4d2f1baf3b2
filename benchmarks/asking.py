"""How long does a question take in a memory of 200,000, by words and a pretrained voice?

    python benchmarks/asking.py [--memories 200000]

The texts are `how to` and 20 words of 20,000, some much more frequent than others; a question has six of these, and
`how to`. Their vectors are made (384 wide, in clusters of about a hundred), since to read them takes an hour; the
question is encoded by MiniLM as always. One question at a time, medians; the parts are timed apart, in the same
process. The bar is 60 ms.
"""
import os

os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.memory.bank import Bank  # noqa: E402
from shutka.models.sentences import SentenceEncoder  # noqa: E402

WIDTH, QUESTIONS = 384, 50


class Made:
    "MiniLM for questions, and made vectors for memories."
    name = fingerprint = 'made'
    reads_descriptions = True

    def __init__(self):
        self.draw = np.random.default_rng(0)
        self.asked = SentenceEncoder('minilm')
        self.centres = self.draw.standard_normal((2000, WIDTH), np.float32)

    def encode(self, texts, side='code'):
        if side == 'words': return self.asked.encode(texts, side)
        near = self.centres[self.draw.integers(0, len(self.centres), len(texts))]
        return near + self.draw.standard_normal(near.shape, np.float32)


def time_calls(call, arguments) -> str:
    "The median time of a call, by the clock and of the processor, in milliseconds."
    taken = []
    for argument in arguments:
        began = time.perf_counter(), time.process_time()
        call(argument)
        taken.append((1000 * (time.perf_counter() - began[0]), 1000 * (time.process_time() - began[1])))
    return ''.join(f'{median(times):9.1f}' for times in zip(*taken))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--memories', type=int, default=200_000)
    n = parser.parse_args().memories
    draw = np.random.default_rng(1)
    letters = np.array([''.join(np.random.default_rng(i).choice(list('bdfghjklmnprtvz'), 6)) for i in range(20_000)])
    words = letters[(20_000 * draw.random((n, 20)) ** 3).astype(int)]
    asked = ['how to ' + ' '.join(letters[(20_000 * draw.random(6) ** 3).astype(int)]) for _ in range(QUESTIONS)]
    with tempfile.TemporaryDirectory() as folder, Bank(folder) as bank:
        for at in range(0, n, 10_000):
            bank.apply('add', [('how to ' + ' '.join(row), {}) for row in words[at:at + 10_000]])
        encoder = Made()
        bank.voices.add(encoder)
        bank.search(asked[0])   # the index is built
        together = time_calls(bank.search, asked)
        print(f'{n:,} memories, {WIDTH} numbers each, {QUESTIONS} questions of six words, medians in ms')
        print(f'{"":21}{"clock":>9}{"CPU":>9}')
        print('encode the question ', time_calls(lambda query: encoder.encode([query], 'words'), asked))
        print('words alone         ', time_calls(lambda query: bank.search(query, how='words'), asked))
        print('the voice alone     ', time_calls(lambda query: bank.search(query, how='made'), asked))
        print('together            ', together, '  the bar is 60 by the clock, on two quiet cores')

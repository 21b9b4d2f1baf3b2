"""Do short questions, as people type them, find the code? By words, by a model of this code, by MiniLM, and together.

    python benchmarks/questions.py [--bundle demo/typescript/shutka-typescript.zip] [--part test]

The bundled corpus (whole memory; `--bundle` adds the model's own side), and packages from npm: those of
tests/questions whose part is the one asked for. The questions were written before any search was measured with them,
and share few words with the code. Weights are those that a memory chooses by itself. Look at the part `test` to
report, never to choose.
"""
import os

os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from shutka.core.metrics import bootstrap_interval, measure_retrieval  # noqa: E402
from shutka.evaluate.questions import BUNDLED_QUESTIONS, rank_answers, read_questions  # noqa: E402
from shutka.memory.bank import Bank  # noqa: E402
from shutka.models.opening import open_model  # noqa: E402


def measure(spec: str, questions: list, model=None) -> dict[str, np.ndarray]:
    "Where the first right answers stand, by way of searching."
    with tempfile.TemporaryDirectory() as folder, Bank(folder, model) as bank:
        bank.sync(spec, progress=lambda line: None)
        bank.voices.add('minilm')
        bank.settle()
        ways = {'words alone': 'words'} | ({'own model alone': 'dense'} if model else {})
        ways |= {'minilm alone': 'minilm', 'together': 'hybrid'}
        return {name: rank_answers(bank, questions, how) for name, how in ways.items()}


def show(name: str, found: dict[str, np.ndarray]):
    for way, ranks in found.items():
        mrr, (low, high) = measure_retrieval(ranks)['mrr'], bootstrap_interval(ranks)
        print(f"{name:32}{len(ranks):5}  {way:18}{mrr:.3f}   {low:.3f} to {high:.3f}", flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bundle')
    parser.add_argument('--part', default='test', choices=('test', 'validation'))
    asked = parser.parse_args()
    model = open_model(asked.bundle).model if asked.bundle else None
    print(f"{'code':32}{'asked':>5}  {'searched by':18}MRR    95 %")
    show('bundled', measure(f'dir:{BUNDLED_QUESTIONS.with_name("typescript")}', read_questions(part=asked.part), model))
    packages = {}
    for file in sorted((ROOT/'tests'/'questions').glob('*.jsonl')):
        questions = read_questions(file)
        if questions[0].part != asked.part: continue
        packages[file.stem] = measure(f"npm:{file.stem.replace('+', '/')}", questions)
    for name, found in packages.items(): show(name, found)
    show('all packages', {way: np.concatenate([found[way] for found in packages.values()])
                          for way in next(iter(packages.values()))})

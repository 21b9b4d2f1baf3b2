"""How fast does a pretrained voice read a memory on a CPU, and what does int8 cost?

    python benchmarks/voices.py [--model minilm] [--texts 256] [--rounds 3] [--source dir:shutka/bundled/typescript]

The texts are snippets of a source, as a memory holds them, drawn by chance. Beside each other, in alternation, on two
threads: `SentenceTransformer.encode(texts, batch_size=32)`, which is the library as it comes; `SentenceEncoder`, whose
vectors are the same; and `SentenceEncoder(int8=True)`, whose vectors are not. The best round of each counts, since
other programs can only make a round slower; seconds of CPU are counted as well, for they hardly depend on what else
runs. The bar: 2 x the library's texts per second with the same vectors.

What int8 changes is told by the cosine between its vectors and the exact ones, and by the bundled questions: the mean
reciprocal rank of the first right answer among all snippets of the source, by vectors alone. The bar: .005 less."""
import os

os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402

from shutka.core.files import read_jsonl  # noqa: E402
from shutka.core.hashes import make_rng  # noqa: E402
from shutka.memory.snippets import collect_snippets  # noqa: E402
from shutka.models.sentences import SentenceEncoder, find_sentences, is_int8_quicker  # noqa: E402

SOURCE = 'dir:shutka/bundled/typescript'
QUESTIONS = Path(__file__).parent.parent/'shutka'/'bundled'/'typescript-questions.jsonl'
BAR, MOST_LOST = 2, .005


def alternate(rounds, ways):
    "Seconds, and seconds of CPU, of each round of each way."
    times = {name: [] for name in ways}
    for turn in range(rounds):
        for name in sorted(ways, reverse=turn % 2):
            began, cpu = time.perf_counter(), time.process_time()
            ways[name]()
            times[name].append((time.perf_counter() - began, time.process_time() - cpu))
    return times


def mrr(encoder, texts, names, questions):
    "The mean reciprocal rank of the first right answer, by vectors alone."
    code = encoder.encode(texts)
    asked = encoder.encode([q['question'] for q in questions], side='words')
    ranks = (-asked @ code.T).argsort(axis=1, kind='stable')
    firsts = [next((at for at, i in enumerate(row, 1) if names[i] in q['answers']), np.inf)
              for row, q in zip(ranks, questions)]
    return float(np.mean(1 / np.array(firsts)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='minilm')
    parser.add_argument('--texts', type=int, default=256)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--source', default=SOURCE)
    parser.add_argument('--no-questions', action='store_true', help='only measure the speed')
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    from sentence_transformers import SentenceTransformer
    snippets = list(collect_snippets(args.source))
    some = make_rng(0).sample([text for text, _ in snippets], min(args.texts, len(snippets)))
    library = SentenceTransformer(str(find_sentences(args.model)), device='cpu')
    exact = SentenceEncoder(args.model)
    int8 = SentenceEncoder(args.model, int8=True) if is_int8_quicker() else None
    ways = {'SentenceTransformer, 32 at once': lambda: library.encode(some, batch_size=32),
            'SentenceEncoder': lambda: exact.encode(some)}
    if int8: ways['SentenceEncoder, int8'] = lambda: int8.encode(some)
    else: print('without int8: this processor multiplies whole numbers more slowly than floats')
    vectors = {name: encode() for name, encode in ways.items()}   # also the round that does not count
    times = alternate(args.rounds, ways)

    tokens = sum(len(row.ids) for row in exact.copy_tokenizer(exact.max_tokens).encode_batch_fast(some))
    print(f'{exact.name}, {len(some)} of {len(snippets)} snippets of {args.source}')
    print(f'{tokens / len(some):.0f} tokens each, {torch.get_num_threads()} threads\n')
    print(f'{"":34}{"texts/s":>9}{"ratio":>7}{"CPU ms each":>13}{"ratio":>7}{"cosine, least":>15}{"mean":>8}')
    first = 'SentenceTransformer, 32 at once'
    for name in ways:
        wall, cpu = (min(column) for column in zip(*times[name]))
        wall1, cpu1 = (min(column) for column in zip(*times[first]))
        a, b = vectors[name], vectors[first]
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        print(f'{name:34}{len(some) / wall:>9.1f}{wall1 / wall:>7.2f}{cpu / len(some) * 1e3:>13.1f}{cpu1 / cpu:>7.2f}'
              f'{cosine.min():>15.5f}{cosine.mean():>8.5f}')
    print(f'\nthe largest difference of a number: {np.abs(vectors["SentenceEncoder"] - vectors[first]).max():.1e} '
          f'(at most 1e-5); the bar is {BAR} x the texts per second')

    if args.no_questions or args.source != SOURCE or not int8: return
    questions = list(read_jsonl(QUESTIONS))
    names = [f"{about['path']}#{about['name']}" for _, about in snippets]
    found = [mrr(encoder, [text for text, _ in snippets], names, questions) for encoder in (exact, int8)]
    print(f'\nMRR of {len(questions)} bundled questions over {len(snippets)} snippets: exact {found[0]:.4f}, '
          f'int8 {found[1]:.4f} (at most {MOST_LOST} less)')


if __name__ == '__main__': main()

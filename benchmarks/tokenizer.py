"""How fast is text tokenized, and into how few tokens?

    python benchmarks/tokenizer.py [--rounds 7]

The bundled corpus in batches, by tiktoken each time: with shutka's encoding, whose pattern ends a piece where a word
ends, and with the same ranks under the pattern of cl100k_base, which OpenAI tuned for speed. Beside them
`hash_words`, what encoders read. Rounds alternate, and the best of each counts, since other programs can only make a
round slower. The bar: 0.8 x tiktoken on the same text."""
import argparse
import sys
import time
from pathlib import Path

import tiktoken

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.data.sources import open_source  # noqa: E402
from shutka.text.tokenizer import BUNDLED_ENCODING, open_encoding  # noqa: E402
from shutka.text.words import hash_words  # noqa: E402

CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
          r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
BAR, REPEAT = .8, 4  # the corpus is read several times a round, so that a round takes a while


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    texts = [d['text'] for d in open_source('bundled:typescript')] * REPEAT
    ours = open_encoding(BUNDLED_ENCODING)
    plain = tiktoken.Encoding('plain', pat_str=CL100K, mergeable_ranks=ours._mergeable_ranks, special_tokens={})
    work = {f'{BUNDLED_ENCODING}, tokens': ours.encode_ordinary_batch,
            "cl100k's pattern, tokens": plain.encode_ordinary_batch,
            'hash_words, words': lambda texts: [hash_words(t, 16_384, 10**6) for t in texts]}
    seconds, units = {name: [] for name in work}, {}
    for _ in range(args.rounds):
        for name, encode in work.items():
            start = time.perf_counter()
            found = encode(texts)
            seconds[name].append(time.perf_counter() - start)
            units[name] = sum(map(len, found))

    characters, size = sum(map(len, texts)), sum(len(t.encode()) for t in texts) / 1e6
    print(f"{len(texts)} texts, {size:.1f} MB\n\n{'':28}{'units':>12}{'characters each':>18}{'units/s':>14}{'MB/s':>8}")
    for name, n in units.items():
        best = min(seconds[name])
        print(f"{name:28}{n:>12,}{characters / n:>18.2f}{n / best:>14,.0f}{size / best:>8.1f}")
    mine, theirs, _ = (min(s) for s in seconds.values())
    print(f"\nour pattern / cl100k's on the same text: {theirs / mine:.2f} (the bar is {BAR})")


if __name__ == '__main__': main()

"""How long does a Mamba-3 layer take, in chunks and token by token, and beside what else there is?

    python benchmarks/mamba.py [--threads 1] [--lengths 128 512 2048] [--longest 8192] [--repeats 3] [--no-jax]
                                [--indexed]

Forward and backward of one whole layer on the CPU, projections included: width 256, batch 4, N 128, P 64, one key per
token. Beside it stand the same layer token by token (`scan_tokens`; with --indexed also by an index, as the design's
reference has it, which is quadratic), `mamba3-jax` under jit (`pip install
shutka[oracle]`), our linear attention and PyTorch's softmax attention, both causal and of the same width. Medians, all
in one run. Then the growth of the chunked form to the longest length with batch 1, and the tokens per second that a
tiny `Mamba3LM` writes with its cache, near its prompt and far from it.
"""
import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

WIDTH, BATCH, STATE, HEAD = 256, 4, 128, 64


def measure_seconds(work: Callable, repeats: int) -> float:
    "The median time of some work, after one round that does not count."
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def scan_by_index(terms, past):
    "`scan_tokens` with an index into the time axis: the backward pass is quadratic."
    import torch

    from shutka.models.mamba_scan import Terms, advance_state
    outputs = []
    for i in range(terms.q.shape[2]):
        y, past = advance_state(Terms(*(t[:, :, i] for t in terms)), past)
        outputs.append(y)
    return torch.stack(outputs, 2), past


def make_jax_work(config, batch: int, length: int) -> Callable:
    "Forward and backward of the layer of `mamba3-jax`, compiled."
    import jax
    from flax import nnx
    from mamba3_jax import Mamba3Config, Mamba3Mixer
    layer = Mamba3Mixer(Mamba3Config(hidden_size=config.width, state_size=config.state, head_dim=config.head,
                                     chunk_size=config.chunk, rope_fraction=config.rope), 0, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (batch, length, config.width))
    step = nnx.jit(nnx.grad(lambda layer, x: (layer(x)[0] ** 2).mean(), argnums=(0, 1)))
    return lambda: jax.block_until_ready(step(layer, x))


def main():
    "Measure and print."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--lengths', type=int, nargs='+', default=[128, 512, 2048])
    parser.add_argument('--longest', type=int, default=8192, help='tokens of the longest sequence, for the growth')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--jax', action=argparse.BooleanOptionalAction, default=True, help='measure mamba3-jax too')
    parser.add_argument('--indexed', action='store_true', help='measure the loop with an index too, once and cold')
    args = parser.parse_args()
    # As many cores as threads, before anything counts them: jax has no setting for it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
    import torch

    from shutka.models.attention import GatedLinearAttention, SoftmaxAttention
    from shutka.models.mamba import Mamba3
    from shutka.models.mamba_lm import Mamba3LM
    from shutka.models.mamba_scan import scan_chunks, scan_tokens
    from shutka.models.shapes import Mamba3Config, Mamba3LMConfig
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = Mamba3Config(width=WIDTH, state=STATE, head=HEAD)
    mixer = Mamba3(config)
    linear, softmax = (kind(WIDTH, WIDTH // HEAD, causal=True) for kind in (GatedLinearAttention, SoftmaxAttention))

    def make_work(call: Callable, batch: int, length: int) -> Callable:
        x, mask = torch.randn(batch, length, WIDTH, requires_grad=True), torch.ones(batch, length, dtype=torch.bool)
        return lambda: call(x, mask).square().mean().backward()

    def mix(scan): return lambda x, mask: mixer.mix(x, mask, None, scan)[0]
    chunked = mix(partial(scan_chunks, chunk=config.chunk))
    print(f'forward and backward, width {WIDTH}, batch {BATCH}, N {STATE}, P {HEAD}, {args.threads} threads, seconds\n')
    names = ['chunked', 'token by token', 'linear attention', 'softmax attention']
    names += ['mamba3-jax'] * args.jax + ['by an index'] * args.indexed
    print(' tokens ' + ''.join(f'{name:>19}' for name in names) + '   and relative to chunked')
    for length in args.lengths:
        works = [make_work(call, BATCH, length) for call in (chunked, mix(scan_tokens), linear, softmax)]
        if args.jax: works.append(make_jax_work(config, BATCH, length))
        seconds = [measure_seconds(work, args.repeats) for work in works]
        if args.indexed and length <= 512:   # the graph of a longer one takes gigabytes
            start = time.perf_counter()
            make_work(mix(scan_by_index), BATCH, length)()
            seconds.append(time.perf_counter() - start)
        print(f'{length:7,} ' + ''.join(f'{s:19.3f}' for s in seconds) + '   '
              + ' '.join(f'{s / seconds[0]:.2f}' for s in seconds), flush=True)

    lengths = [2 ** i for i in range(9, args.longest.bit_length())]
    seconds = [measure_seconds(make_work(chunked, 1, length), args.repeats) for length in lengths]
    print('\nbatch 1, chunked, microseconds per token: '
          + ', '.join(f'{length:,}: {1e6 * s / length:.0f}' for length, s in zip(lengths, seconds)))
    print(f'exponent of the growth: {np.polyfit(np.log(lengths), np.log(seconds), 1)[0]:.2f}')

    lm = Mamba3LM(Mamba3LMConfig(vocabulary=4096)).eval()
    ids, states = torch.randint(4096, (1, 2000)), None
    with torch.no_grad():
        per_second = []
        for at in (0, 1000, 1900):
            _, states = lm.step(ids[:, :max(1, at)])
            start = time.perf_counter()
            for i in range(at, at + 100):
                h, states = lm.step(ids[:, i:i + 1], states)
                lm.logits(h)
            per_second.append(100 / (time.perf_counter() - start))
        start = time.perf_counter()
        for i in range(100): lm.logits(lm.hidden(ids[:, :900 + i])[:, -1])
        whole = 100 / (time.perf_counter() - start)
    print('tokens per second with a cache, behind 0, 1,000 and 1,900 tokens: '
          + ', '.join(f'{n:.0f}' for n in per_second) + f'; without one, behind 900: {whole:.0f}')


if __name__ == '__main__': main()

"""What serving costs.

It measures a token after a short context and after a long one, the server beside the bare model, many streams beside
one, and vectors over HTTP.

    python benchmarks/serve.py [--size tiny] [--tokens 160] [--rounds 7] [--plot serve.png]
    python benchmarks/serve.py --gguf FILE.gguf [--tokens 64] [--rounds 3]
    python benchmarks/serve.py --causal FOLDER [--tokens 32] [--rounds 2]

The models have the shapes that training uses and weights that were never trained, which costs the same.
All numbers are the best of some rounds, in which the things that are compared take turns: whatever else a
machine does can only add time.

1. Context: the time of one step of the linear-attention decoder (`read_context`, then `read_token`), and of one with
   softmax attention beside it, after 128 to 4,096 tokens.
2. One stream: time to the first token and tokens per second, of `generate_tokens` in this process and of the server
   over HTTP. The server is a process of its own, and so is its client: this one, which reads lines and counts
   them. Temperature 0; a second table has temperature 0.8 with top_p 0.95.
3. Sixteen streams: total tokens per second, over HTTP, of sixteen at once and of one.
4. Vectors: 64 chunks of 1,500 characters of the bundled corpus, as an editor's index sends them, and 64
   functions of it (280 characters on average), by `/v1/embeddings` (base64, as OpenAI's client asks for them;
   until the answer has arrived), and by `encode` in this process.

5. With --gguf, instead of these: one stream of llama.cpp behind our routes, and of llama.cpp in this process.
6. With --causal, instead of these: sixteen streams of a model of Hugging Face, and one; and the first token of a
   chat that goes on, beside the first token of its beginning.

The bars: 1. flat within 10 %; 2. at most 10 % more time; 3. at least 3 times as many tokens; 4. at least .9
times as many texts; 5. at most 10 % more time; 6. at least 3 times as many tokens.
"""
import os

os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

import argparse
import base64
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from shutka.data.pairs import Report, collect_pairs  # noqa: E402
from shutka.data.sources import open_source  # noqa: E402
from shutka.models.decoder import Sampling, generate_tokens, read_context, read_token  # noqa: E402
from shutka.models.shapes import DECODER_SIZES, SIZES, DecoderConfig  # noqa: E402
from shutka.models.text_jepa import TextJEPA
from shutka.models.text_jepa_files import save_model  # noqa: E402
from shutka.serve.seats import open_seat  # noqa: E402
from shutka.text.passages import assemble_code  # noqa: E402
from shutka.text.tokenizer import open_encoding, save_encoding  # noqa: E402

ENCODING = open_encoding('typescript-8k')
CONTEXTS = (128, 256, 512, 1024, 2048, 4096)
SAMPLINGS = {'temperature 0': {'temperature': 0.}, 'temperature 0.8, top_p 0.95': {'temperature': .8, 'top_p': .95}}
QUESTION = 'groups the items of a list by a key'


def make_model(size: str, mixer: str = 'linear') -> TextJEPA:
    "A model that was never trained."
    torch.manual_seed(0)
    writes = DecoderConfig(vocabulary=ENCODING.n_vocab, embedding=SIZES[size].width, mixer=mixer, **DECODER_SIZES[size])
    return TextJEPA(SIZES[size], writes).eval()


def measure(call) -> float:
    "Seconds that a call takes."
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@torch.inference_mode()
def measure_contexts(size: str, rounds: int) -> dict:
    "Milliseconds of a step after so many tokens, for both mixers."
    found = {mixer: [] for mixer in ('linear', 'softmax')}
    for mixer, times in found.items():
        decoder = make_model(size, mixer).decoder
        told = torch.zeros(1, SIZES[size].width)
        states = {n: read_context(decoder, torch.randint(ENCODING.n_vocab, (1, n)), told)[1] for n in CONTEXTS}
        token = torch.tensor([7])
        taken = {n: [] for n in CONTEXTS}
        for _ in range(20 * rounds):
            for n in CONTEXTS: taken[n].append(measure(lambda: read_token(decoder, token, states[n])))
        times += [1000 * min(taken[n]) for n in CONTEXTS]
    return found


def plot_contexts(found: dict, path: str):
    "Draw the milliseconds per token over the tokens of context."
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(figsize=(5, 3), layout='constrained')
    for mixer, times in found.items(): axes.plot(CONTEXTS, times, marker='o', label=f'{mixer} attention')
    axes.set(xscale='log', xlabel='tokens of context', ylabel='milliseconds per token', ylim=(0, None))
    axes.set_xticks(CONTEXTS, [f'{n:,}' for n in CONTEXTS])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=120)


class Server:
    "`shutka serve` as a process."
    def __init__(self, folder: Path):
        command = [sys.executable, '-m', 'shutka.faces.cli', 'serve', str(folder), '--port', '0']
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | {'PYTHONUNBUFFERED': '1'})
        for line in self.process.stdout:
            if 'answers on' in line: self.port = int(line.split('localhost:')[1].split('/')[0])
            if line.startswith('Memory:'): break
        self.wait()

    def wait(self):
        "Until it answers."
        while True:
            try:
                self.post('/v1/embeddings', {'input': 'a'})
                return
            except ConnectionRefusedError: time.sleep(.05)

    def post(self, path: str, body: dict) -> bytes:
        line = http.client.HTTPConnection('127.0.0.1', self.port)
        line.request('POST', path, json.dumps(body), {'Content-Type': 'application/json'})
        return line.getresponse().read()

    def stream(self, tokens: int, seed: int = 0, **sampling) -> tuple[float, float, int]:
        "Seconds to the first token and to the last, and how many tokens there were."
        line = http.client.HTTPConnection('127.0.0.1', self.port)
        began = time.perf_counter()
        first = usage = None
        body = {'messages': [{'role': 'user', 'content': QUESTION}], 'max_tokens': tokens, 'seed': seed,
                'stream': True, 'stream_options': {'include_usage': True}, **sampling}
        line.request('POST', '/v1/chat/completions', json.dumps(body), {'Content-Type': 'application/json'})
        for event in line.getresponse():
            if first is None and b'"delta":{"content"' in event: first = time.perf_counter() - began
            if b'"choices":[]' in event: usage = json.loads(event[6:])['usage']
        return first, time.perf_counter() - began, usage['completion_tokens']

    def close(self):
        self.process.terminate()
        self.process.wait()


def generate_alone(seat, tokens: int, sampling: Sampling) -> tuple[float, float, int]:
    "The same as `Server.stream`, by `generate_tokens`."
    began = time.perf_counter()
    first, n = None, 0
    prompt = seat.make_chat_prompt([('user', QUESTION)], [])
    with torch.no_grad(): told = seat.model.condition(torch.tensor([prompt.words]))
    for token in generate_tokens(seat.model.decoder, list(prompt.ids), told, tokens, sampling):
        seat.spell(token)
        n += 1
        if first is None: first = time.perf_counter() - began
    return first, time.perf_counter() - began, n


def measure_one_stream(server, seat, tokens: int, rounds: int, **sampling) -> dict:
    "Of both: milliseconds to the first token, tokens per second after it, and seconds in all."
    rows = {'generate': [], 'server': []}
    for _ in range(rounds + 1):
        rows['generate'].append(generate_alone(seat, tokens, Sampling(**sampling)))
        rows['server'].append(server.stream(tokens, **sampling))
    out = {}
    for name, (_, *runs) in rows.items():   # the first is for warming up
        out[name] = {'first': 1000 * min(first for first, _, _ in runs),
                     'rate': max((n - 1) / (last - first) for first, last, n in runs),
                     'all': min(last / n for _, last, n in runs),
                     'tokens': runs[0][2]}
    return out


def measure_streams(server, n: int, tokens: int, **sampling) -> float:
    "Tokens per second in all, of so many streams."
    made, threads = [], []
    began = time.perf_counter()

    def stream(i): made.append(server.stream(tokens, seed=i, **sampling)[2])

    for i in range(n): threads.append(threading.Thread(target=stream, args=(i,)))
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sum(made) / (time.perf_counter() - began)


def select_texts(kind: str) -> list[str]:
    "64 texts of the bundled corpus."
    if kind == 'functions':
        pairs = list(collect_pairs('bundled:typescript', Report()))
        return [assemble_code(pair) for pair in pairs[::7][:64]]
    every = '\n'.join(d['text'] for d in open_source('bundled:typescript'))
    return [every[at:at + 1500] for at in range(0, len(every), 1500)][:64]


def measure_vectors(server, seat, kind: str, rounds: int) -> tuple[float, float]:
    "Texts per second of `encode`, and of the server."
    texts = select_texts(kind)
    line = http.client.HTTPConnection('127.0.0.1', server.port)

    def ask():
        body = json.dumps({'input': texts, 'encoding_format': 'base64'})
        line.request('POST', '/v1/embeddings', body, {'Content-Type': 'application/json'})
        return line.getresponse().read()

    rows = json.loads(ask())['data']
    vectors = [np.frombuffer(base64.b64decode(row['embedding']), '<f4') for row in rows]
    np.testing.assert_allclose(vectors, seat.encoder.encode(texts), atol=1e-5)
    taken = {'encode': [], 'server': []}
    for _ in range(rounds):   # batch after batch, as who indexes a repository asks
        taken['encode'] += [measure(lambda: seat.encoder.encode(texts)) for _ in range(20)]
        line.close()   # opened again by the next question: the server closes it after five idle seconds
        taken['server'] += [measure(ask) for _ in range(20)]
    return tuple(len(texts) / min(taken[name]) for name in ('encode', 'server'))


def complete(server, prompt: str, tokens: int, **more) -> tuple[float, float, int]:
    "Seconds to the first token and to the last, and how many tokens there were, of a completion over HTTP."
    line = http.client.HTTPConnection('127.0.0.1', server.port)
    body = {'prompt': prompt, 'max_tokens': tokens, 'stream': True, 'stream_options': {'include_usage': True}, **more}
    began, first, usage = time.perf_counter(), None, None
    line.request('POST', '/v1/completions', json.dumps(body), {'Content-Type': 'application/json'})
    for event in line.getresponse():
        if first is None and b'"text":"' in event and b'"text":""' not in event: first = time.perf_counter() - began
        if b'"choices":[]' in event: usage = json.loads(event[6:])['usage']
    return first, time.perf_counter() - began, usage['completion_tokens']


def compare_llama(given) -> dict:
    "Measure llama.cpp behind our routes and by itself."
    from shutka.serve.llama_seat import LLAMA_SLOTS, _start_llama
    from shutka.serve.prompts import DEFAULT_LENGTH
    alone = _start_llama(Path(given.gguf), LLAMA_SLOTS, DEFAULT_LENGTH, 'key')
    server, taken = Server(given.gguf), {'llama.cpp': [], 'server': []}
    prompt = 'function groupBy('

    def write_alone() -> tuple[float, int]:
        pieces, began = [], time.perf_counter()
        alone.handle_completions({'prompt': prompt, 'n_predict': given.tokens, 'temperature': 0, 'stream': True},
                                 pieces.append)
        return time.perf_counter() - began, sum(bool(piece.get('choices')) for piece in pieces) - 1

    try:
        for _ in range(given.rounds + 1):
            taken['llama.cpp'].append(write_alone())
            _, seconds, n = complete(server, prompt, given.tokens)
            taken['server'].append((seconds, n))
    finally: server.close()
    best = {name: min(seconds / n for seconds, n in runs[1:]) for name, runs in taken.items()}
    for name, each in best.items(): print(f'{name:10} {1 / each:6.1f} tokens/s')
    return {'5. time of one stream, server / llama.cpp': (best['server'] / best['llama.cpp'], '<= 1.10')}


def compare_causal(given) -> dict:
    "Measure one stream and sixteen of a model of Hugging Face, and a chat that goes on."
    server, rates, firsts = Server(given.causal), {1: [], 16: []}, {'new': [], 'known': []}
    start = 'const table = [' + ', '.join(map(str, range(200))) + ']\n'
    try:
        for round_ in range(given.rounds + 1):
            for n in rates:
                made, began = [], time.perf_counter()
                threads = [threading.Thread(target=lambda i=i: made.append(complete(
                    server, f'function f{i}(', given.tokens, seed=i, temperature=.8)[2])) for i in range(n)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
                rates[n].append(sum(made) / (time.perf_counter() - began))
            firsts['new'].append(complete(server, f'// {round_}\n{start}', 1)[1])
            firsts['known'].append(complete(server, f'// {round_}\n{start}const next = ', 1)[1])
    finally: server.close()
    one, many = max(rates[1]), max(rates[16])
    print(f'tokens/s of one stream {one:.1f}, of sixteen {many:.1f}')
    return {'6. tokens/s, sixteen streams / one': (many / one, '>= 3'),
            '6. first token, a prompt that goes on / a new one': (min(firsts['known']) / min(firsts['new']), '<= .3')}


def compare_contexts(given) -> dict:
    "Measure a step after short and after long contexts: ratios, and what they should be."
    found = measure_contexts(given.size, given.rounds)
    print('tokens of context   ' + ''.join(f'{n:>8,}' for n in CONTEXTS))
    for mixer, times in found.items(): print(f'{mixer + ", ms a token":20}' + ''.join(f'{t:8.2f}' for t in times))
    Path(given.plot).parent.mkdir(parents=True, exist_ok=True)
    plot_contexts(found, given.plot)
    return {'1. a token after 4,096 tokens / after 128': (found['linear'][-1] / found['linear'][0], '<= 1.10')}


def compare_streams(server, seat, given) -> dict:
    "Measure one stream and sixteen: ratios, and what they should be."
    ratios = {}
    for name, sampling in SAMPLINGS.items():
        print(f'\none stream, {name}   first token ms   tokens/s   tokens')
        rows = measure_one_stream(server, seat, given.tokens, given.rounds, **sampling)
        for who, row in rows.items(): print(f"{who:10} {row['first']:10.1f} {row['rate']:10.0f} {row['tokens']:8}")
        ratio = rows['server']['all'] / rows['generate']['all']
        ratios[f'2. time of one stream, server / generate, {name}'] = ratio, '<= 1.10'
        rates = {1: [], 16: []}   # tokens per second of so many streams
        for _ in range(given.rounds):
            for n in rates: rates[n].append(measure_streams(server, n, given.tokens, **sampling))
        one, many = max(rates[1]), max(rates[16])
        print(f'tokens/s of one stream {one:.0f}, of sixteen {many:.0f}')
        ratios[f'3. tokens/s, sixteen streams / one, {name}'] = many / one, '>= 3'
    return ratios


def compare_vectors(server, seat, given) -> dict:
    "Measure vectors of chunks and of functions: ratios, and what they should be."
    ratios = {}
    for kind in ('chunks', 'functions'):
        encode, over = measure_vectors(server, seat, kind, given.rounds)
        print(f'\ntexts/s, 64 {kind}: encode {encode:.0f}, /v1/embeddings {over:.0f}')
        ratios[f'4. texts/s, /v1/embeddings / encode, {kind}'] = over / encode, '>= .9'
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', default='tiny', choices=DECODER_SIZES)
    parser.add_argument('--tokens', type=int, default=160)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--plot', default='benchmarks/results/serve.png')
    parser.add_argument('--gguf')
    parser.add_argument('--causal')
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    if given.gguf or given.causal:
        return print_ratios((compare_llama if given.gguf else compare_causal)(given))
    parameters = sum(p.numel() for p in make_model(given.size).decoder.parameters()) / 1e6
    print(f'decoder {given.size}, {parameters:.1f} M parameters, {torch.get_num_threads()} threads\n')

    ratios = compare_contexts(given)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_model(make_model(given.size), folder)
        save_encoding(ENCODING, folder/'encoding.json')
        seat, _ = open_seat(folder)
        server = Server(folder)
        try: ratios |= compare_streams(server, seat, given) | compare_vectors(server, seat, given)
        finally: server.close()
    print_ratios(ratios)


def print_ratios(ratios: dict):
    "Print each ratio with its bar."
    print()
    for name, (ratio, bar) in ratios.items(): print(f'{name:70} {ratio:5.2f}   {bar}')


if __name__ == '__main__': main()

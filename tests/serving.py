"""A tiny model behind a real server: what the tests of `shutka serve` have in common.

The model was never trained, and its decoder computes in double precision,
so that a text is the same whether it is written alone or beside others.
"""
import json
import threading
import time
from contextlib import contextmanager

CODE = ['function daysInMonth(y, m) { return new Date(y, m + 1, 0).getDate() }',
        'const sum = xs => xs.reduce((a, b) => a + b, 0)',
        'function visit(queue) { while (queue.length) queue.shift() }']


def make_model(decoder: bool = True, exact: bool = True):
    "A text-JEPA with seeded weights."
    import torch

    from shutka.models.shapes import DecoderConfig, TextJEPAConfig
    from shutka.models.text_jepa import TextJEPA
    from shutka.text.tokenizer import open_encoding
    torch.manual_seed(0)
    vocabulary = open_encoding('typescript-8k').n_vocab
    writes = DecoderConfig(vocabulary=vocabulary, embedding=32, width=32, heads=2, depth=2) if decoder else None
    model = TextJEPA(TextJEPAConfig(rows=1024, width=32, inner=16), writes).eval()
    if decoder and exact: model.decoder.double()
    return model


def make_seat(model):
    "The model in its seat."
    from shutka.serve.jepa_seat import JepaSeat
    from shutka.text.passages import Layout
    from shutka.text.tokenizer import open_encoding
    return JepaSeat(model, Layout(encoding=open_encoding('typescript-8k')))


def save_gpt(folder):
    "A GPT-2 of two narrow layers with a tokenizer of bytes, in a folder."
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), '<end>', '<fim_prefix>', '<fim_suffix>', '<fim_middle>']
    bytewise = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    special = letters[-3:]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token='<end>', additional_special_tokens=special)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(letters), n_positions=256, n_embd=16, n_layer=2, n_head=2,
                        eos_token_id=256, bos_token_id=256)
    GPT2LMHeadModel(config).save_pretrained(folder)


def make_bundle(path, decoder: bool = True, memories: bool = False, folder=None):
    "A bundle of the tiny model, with or without memories."
    from shutka.export.bundle import rebundle
    from shutka.memory.bank import Bank
    from shutka.models.archive import write_zip
    from shutka.models.text_jepa_files import save_model
    from shutka.text.tokenizer import open_encoding, save_encoding
    place = path.parent/'made'
    model = make_model(decoder, exact=False)
    save_model(model, place)
    save_encoding(open_encoding('typescript-8k'), place/'encoding.json')
    content = {p.name: p.read_bytes() for p in place.iterdir()}
    run = {'recipe': 'Instructions', 'settings': {'memories': 1, 'tokens': 64}}
    write_zip(path, content | {'run.json': json.dumps(run).encode()})
    if memories:
        with Bank(path.parent/'source', model) as bank: bank.add(CODE, {'source': 'npm:dates'})
        rebundle(path, path.parent/'source', path)
    return path


@contextmanager
def serve_app(app):
    "An app on a free port, in a thread; gives its address."
    import uvicorn

    from shutka.serve.connections import configure_server
    from shutka.serve.server import listen
    listening = listen('127.0.0.1', 0)
    config = configure_server(app)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={'sockets': [listening]})
    thread.start()
    try: yield f'http://127.0.0.1:{listening.getsockname()[1]}'
    finally:
        server.should_exit = True
        thread.join()


def wait_until(true, seconds: float = 1.) -> bool:
    "Whether something comes true in that time."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true(): return True
        time.sleep(.01)
    return True if true() else False

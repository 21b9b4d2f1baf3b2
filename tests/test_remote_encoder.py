"Encoders behind an address: whatever a server does wrong is one sentence with its address, and never hangs."
import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.models import remote
from shutka.models.opening import open_model
from shutka.models.remote import RemoteEncoder, read_embeddings, split_address

WIDTH = 6


def vector_of(text): return np.random.default_rng(list(text.encode())).standard_normal(WIDTH)


class Server(ThreadingHTTPServer):
    "An embedding server; `act` may take over a request: (handler, body) -> whether it has answered."
    daemon_threads = True

    def __init__(self):
        self.asked, self.act = [], lambda handler, body: False
        super().__init__(('127.0.0.1', 0), Handler)
        self.place = f'http://127.0.0.1:{self.server_port}/v1'
        threading.Thread(target=self.serve_forever, args=[.01], daemon=True).start()

    @property
    def address(self): return f'{self.place}#mini'

    def handle_error(self, *args): pass   # clients hang up in these tests


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        self.server.asked.append((self.path, dict(self.headers), body))
        if not self.server.act(self, body):
            self.answer({'data': [{'index': i, 'embedding': vector_of(text).tolist()}
                                  for i, text in enumerate(body['input'])]})

    def answer(self, value, status=200, **headers):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {'Content-Length': len(data), **headers}.items():
            self.send_header(name.replace('_', '-'), text)
        self.end_headers()
        self.wfile.write(data)
        return True

    def log_message(self, *args): pass


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ('SHUTKA_API_KEY', 'OPENAI_API_KEY', 'http_proxy', 'HTTP_PROXY', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('no_proxy', '127.0.0.1')


@pytest.fixture
def server():
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


def quick(address, **limits): return RemoteEncoder(address, **{'connect': 2, 'read': 5, 'wait': .01} | limits)


def rows(*vectors): return {'data': [{'index': i, 'embedding': vector} for i, vector in enumerate(vectors)]}


def after_the_probe(server, act, **limits):
    "An encoder whose server begins to misbehave once it is made."
    encoder = quick(server.address, **limits)
    server.act, server.asked = act, []
    return encoder


# --- what goes well

def test_vectors_come_in_the_order_of_the_texts(server):
    texts = [f'text {i}' for i in range(150)]
    server.act = lambda handler, body: handler.answer(
        {'data': [{'index': i, 'embedding': vector_of(text).tolist()} for i, text in enumerate(body['input'])][::-1]})
    encoder = quick(server.address)
    vectors = encoder.encode(texts, side='words')
    np.testing.assert_allclose(vectors, [vector_of(text) for text in texts], rtol=1e-6)
    assert vectors.dtype == np.float32 and encoder.dimension == WIDTH
    assert [len(body['input']) for _, _, body in server.asked] == [2, 64, 64, 22]
    assert encoder.encode([]).shape == (0, WIDTH)


def test_base64_and_halves_of_characters(server):
    server.act = lambda handler, body: handler.answer(rows(
        *(base64.b64encode(vector_of(text).astype('<f4').tobytes()).decode() for text in body['input'])))
    np.testing.assert_allclose(quick(server.address).encode(['a \ud83d']), [vector_of('a \ufffd')], rtol=1e-6)


def test_nothing_but_the_texts_is_sent(server, monkeypatch):
    monkeypatch.setenv('SHUTKA_API_KEY', 'sesame')
    monkeypatch.setenv('OPENAI_API_KEY', 'other')
    quick(server.address).encode(['a', 'b'])
    (_, _, probe), (path, headers, body) = server.asked
    assert path == '/v1/embeddings' and body == {'model': 'mini', 'input': ['a', 'b'], 'encoding_format': 'float'}
    assert probe['input'] == ['function parseDate(text: string): Date', 'the shortest path between two nodes']
    assert headers['Authorization'] == 'Bearer sesame'
    assert headers.keys() == {'Host', 'Accept-Encoding', 'Content-Length', 'Content-Type', 'Accept', 'Authorization'}
    monkeypatch.delenv('SHUTKA_API_KEY')
    quick(server.address)
    assert server.asked[-1][1]['Authorization'] == 'Bearer other'


def test_any_command_opens_it(server, capsys):
    from shutka.faces import cli
    opened = open_model(server.address, hub='sentences')
    assert (opened.kind, opened.can_encode, opened.model.name) == ('sentences', True, 'mini')
    assert opened.model.source == server.address
    assert cli.run_command(['encode', server.address, 'parse a date', '--side', 'words']) == 0
    assert json.loads(capsys.readouterr().out)['text'] == 'parse a date'
    server.act = lambda handler, body: handler.answer(rows([1, float('nan')], [1, 2]))
    assert cli.run_command(['encode', server.address, 'parse a date']) == 2
    assert f'{server.address} must give finite numbers' in capsys.readouterr().err


# --- fingerprints

def test_the_fingerprint_knows_address_model_and_vectors(server):
    known = quick(server.address).fingerprint
    assert quick(server.address).fingerprint == known == quick(f'{server.place}/#mini').fingerprint
    seen = {known, quick(f'{server.place}#other').fingerprint}

    def answering(function):
        server.act = lambda handler, body: handler.answer(rows(*(function(text).tolist() for text in body['input'])))
        return quick(server.address).fingerprint
    assert answering(lambda text: vector_of(text) * (1 + 1e-7)) == known   # other last digits
    seen |= {answering(lambda text: vector_of(text[::-1])), answering(lambda text: np.resize(vector_of(text), 9))}
    assert len(seen) == 4


# --- what goes wrong

def hang(handler, body): time.sleep(30)


def trickle(handler, body):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(300):
        handler.wfile.write(b' ')
        time.sleep(.05)


def hang_up(handler, body): handler.connection.shutdown(socket.SHUT_RDWR)


def flood(handler, body):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000): handler.wfile.write(b'[' * 65536)


WRONG = {
    'garbage': (lambda h, body: h.answer(b'\x00\xff garbage'), 'not valid JSON'),
    'nothing': (lambda h, body: h.answer(b''), 'not valid JSON'),
    'deep JSON': (lambda h, body: h.answer(b'[' * 60_000), 'nested too deeply'),
    'a list': (lambda h, body: h.answer([1]), 'must answer with a JSON object, got list'),
    'no data': (lambda h, body: h.answer({'error': 'x'}), 'one embedding for each of 2 texts'),
    'too few': (lambda h, body: h.answer(rows([1] * WIDTH)), 'one embedding for each of 2 texts'),
    'too many': (lambda h, body: h.answer(rows(*[[1] * WIDTH] * 3)), 'one embedding for each of 2 texts'),
    'one twice': (lambda h, body: h.answer({'data': rows([1] * WIDTH)['data'] * 2}), 'with their indices'),
    'odd indices': (lambda h, body: h.answer({'data': [{'index': True}, {'index': '0'}]}), 'with their indices'),
    'NaN': (lambda h, body: h.answer(rows([1] * WIDTH, [float('nan')] * WIDTH)), 'finite numbers.*text number 1'),
    'infinity': (lambda h, body: h.answer(rows([1e39] * WIDTH, [1] * WIDTH)), 'finite numbers.*text number 0'),
    'endless number': (lambda h, body: h.answer(rows([10 ** 400] * WIDTH, [1] * WIDTH)), 'lists of numbers'),
    'texts': (lambda h, body: h.answer(rows(['1'] * WIDTH, [1] * WIDTH)), 'lists of numbers.*text number 0'),
    'bad base64': (lambda h, body: h.answer(rows('!', [1] * WIDTH)), 'in base64.*text number 0'),
    'odd base64': (lambda h, body: h.answer(rows('AAAA', [1] * WIDTH)), 'in base64.*text number 0'),
    'no numbers': (lambda h, body: h.answer(rows([], [])), 'finite numbers'),
    'two dimensions': (lambda h, body: h.answer(rows([1] * WIDTH, [1] * 5)), r'one dimension, got \[5, 6\]'),
    'another dimension': (lambda h, body: h.answer(rows([1] * 5, [1] * 5)), 'must give 6 numbers .*, got 5'),
    'a refusal': (lambda h, body: h.answer({'error': {'message': 'no such model'}}, 404), 'status 404.*no such model'),
    'a key refused': (lambda h, body: h.answer(b'your key sesame', 401), r'status 401: your key \*\*\*'),
    'elsewhere': (lambda h, body: h.answer(b'', 307, Location='http://127.0.0.1:9/'), 'sends us elsewhere'),
    'too much': (flood, 'at most .* bytes, and sends more'),
    'too much of an error': (lambda h, body: h.answer(b'x' * 10**6, 400), 'status 400: x{200}$'),
}


@pytest.mark.parametrize('kind', WRONG)
def test_what_a_server_does_wrong_is_one_sentence(kind, server, monkeypatch):
    monkeypatch.setenv('SHUTKA_API_KEY', 'sesame')
    act, told = WRONG[kind]
    encoder = after_the_probe(server, act)
    with pytest.raises(UserError, match=told) as refused: encoder.encode(['a', 'b'])
    assert server.place in str(refused.value) and '\n' not in str(refused.value) and 'sesame' not in str(refused.value)
    assert len(server.asked) == 1   # it was not asked again


@pytest.mark.parametrize('act', [hang, trickle])
def test_a_server_that_hangs_is_left(act, server):
    encoder = after_the_probe(server, act, read=.3)
    started = time.monotonic()
    with pytest.raises(UserError, match=r'must answer within 0.3 s, and did not'): encoder.encode(['a'])
    assert time.monotonic() - started < 5 and len(server.asked) == 1


@pytest.mark.parametrize('status', [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(status, server):
    left = [status] * 2
    encoder = after_the_probe(server, lambda h, body: bool(left) and h.answer(b'busy', left.pop()))
    np.testing.assert_allclose(encoder.encode(['a']), [vector_of('a')], rtol=1e-6)
    assert len(server.asked) == 3
    server.act, server.asked = lambda h, body: h.answer(b'busy', status), []
    with pytest.raises(UserError, match=f'status {status}: busy; tried 4 times'): encoder.encode(['a'])
    assert len(server.asked) == 4


def test_a_server_says_when_to_come_again(server, monkeypatch):
    slept, left = [], [429]
    encoder = after_the_probe(server, lambda h, body: bool(left) and h.answer(b'', left.pop(), Retry_After='7'))
    monkeypatch.setattr(remote.time, 'sleep', slept.append)
    encoder.encode(['a'])
    assert slept == [7]


def test_a_connection_that_ends_is_made_again(server):
    left = [True]
    def act(handler, body):
        if left: left.pop(), hang_up(handler, body)
        return False
    np.testing.assert_allclose(after_the_probe(server, act).encode(['a']), [vector_of('a')], rtol=1e-6)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        place = f'http://127.0.0.1:{free.getsockname()[1]}/v1'
    with pytest.raises(UserError, match=f'{place}/embeddings cannot be reached .*tried 4 times'): quick(f'{place}#m')


def test_a_bank_keeps_nothing_of_an_answer_that_is_wrong(server, tmp_path):
    from shutka.memory.bank import Bank
    texts = [f'let a{i} = {i}' for i in range(70)]   # two requests

    def second_is_wrong(handler, body):
        return len(body['input']) < 64 and handler.answer(rows(*[[1.] * 5] * len(body['input'])))
    encoder = after_the_probe(server, second_is_wrong)
    with Bank(tmp_path/'bank', encoder) as bank:
        with pytest.raises(UserError, match='must give 6 numbers .*, got 5'): bank.add(texts)
        assert len(bank) == 0
        server.act = lambda handler, body: False
        bank.add(texts)
        assert len(bank) == 70


# --- addresses and keys

@pytest.mark.parametrize('address', [
    'http://host/v1', 'http://host/v1#', 'http:///v1#m', 'http://#m', 'http://host:x/v1#m', 'http://host:99999/v1#m',
    'http://host/v1?key=1#m', 'http://ho st/v1#m', 'http://host/v1\n#m', 'https://ada@host/v1#m',
    'https://ada:secret@host/v1#m', 'host/v1#m', 'http://[::1/v1#m'])
def test_addresses_that_are_none(address):
    with pytest.raises(UserError, match='an address must') as refused: split_address(address)
    assert 'secret' not in str(refused.value)


@pytest.mark.parametrize('key', ['two words', 'line\nbreak', 'schlüssel'])
def test_a_key_that_cannot_be_sent(key, server, monkeypatch):
    monkeypatch.setenv('SHUTKA_API_KEY', key)
    with pytest.raises(UserError, match='printable characters') as refused: quick(server.address)
    assert key not in str(refused.value) and not server.asked


def test_a_proxy_is_used_where_one_is_set(monkeypatch):
    "It gets the name of the host, and no text."
    got = []

    def accept(listening):
        connection = listening.accept()[0]
        with connection:
            got.append(connection.recv(4096))
            connection.sendall(b'HTTP/1.1 403 Forbidden\r\n\r\n')
    with socket.create_server(('127.0.0.1', 0)) as listening:
        monkeypatch.setenv('http_proxy', f'http://127.0.0.1:{listening.getsockname()[1]}')
        monkeypatch.setattr(remote, 'RETRIES', 0)
        thread = threading.Thread(target=accept, args=[listening])
        thread.start()
        with pytest.raises(UserError, match='cannot be reached .*403'): quick('http://models.example/v1#m')
        thread.join()
    assert got[0].startswith(b'CONNECT models.example:80 ') and b'parseDate' not in got[0]


def test_reading_needs_no_torch():
    code = 'import sys, shutka.models.remote; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], env=os.environ).returncode == 0


def test_read_embeddings_keeps_the_order():
    packed = base64.b64encode(np.float32([3, 4]).tobytes()).decode()
    answer = {'data': [{'index': 1, 'embedding': packed}, {'index': 0, 'embedding': [1, 2.5]}]}
    assert read_embeddings(answer, 2, 'HOST').tolist() == [[1, 2.5], [3, 4]]

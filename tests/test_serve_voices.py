"""Voices of a bank behind `shutka serve`: vectors by their names, searches that hear them, and voices that fail.

An encoder behind an address is a small server here, which may be slow or broken.
"""
import base64
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import openai
import pytest
from serving import CODE, make_bundle, make_model, make_seat, save_gpt, serve_app
from small import SMALL

from shutka.core.errors import UserError
from shutka.memory.bank import Bank
from shutka.models import remote
from shutka.serve import service as services
from shutka.serve.api import make_app
from shutka.serve.seats import choose_bank_folder, open_memory, open_seat
from shutka.serve.service import Service
from shutka.text.words import hash_words


class Bag:
    "An encoder without weights: the words of a text, hashed. Without a common word a cosine is zero."
    reads_descriptions = True
    fingerprint = 'bag'
    width = 256

    def encode(self, texts, side='code'):
        vectors = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(vectors, texts): row[hash_words(text, self.width, 1000)] = 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Far(ThreadingHTTPServer):
    "The same encoder behind an address: `wait` seconds before each answer, `status` of it."
    daemon_threads = True

    def __init__(self):
        self.wait, self.status, self.asked = 0., 200, []
        super().__init__(('127.0.0.1', 0), FarHandler)
        threading.Thread(target=self.serve_forever, args=[.01], daemon=True).start()

    @property
    def address(self): return f'http://127.0.0.1:{self.server_port}/v1#bag'

    def handle_error(self, *args): pass


class FarHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers['Content-Length'])))['input']
        self.server.asked.append(texts)
        time.sleep(self.server.wait)
        data = [{'index': i, 'embedding': row.tolist()} for i, row in enumerate(Bag().encode(texts))]
        body = json.dumps({'data': data}).encode()
        self.send_response(self.server.status)
        self.send_header('Content-Length', len(body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args): pass


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ('SHUTKA_API_KEY', 'OPENAI_API_KEY', 'http_proxy', 'HTTP_PROXY', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(remote, 'RETRIES', 0)


@pytest.fixture
def far():
    made = Far()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope='module')
def sentences(tmp_path_factory):
    "The folder of a tiny sentence encoder."
    pytest.importorskip('sentence_transformers')
    from test_sentences import bert
    return bert(tmp_path_factory.mktemp('sentences')/'tiny')


def open_service(folder, **more):
    "A text-JEPA, and a bank with the usual code."
    model = make_model()
    bank = Bank(folder, model)
    bank.add(CODE, {'source': 'npm:dates', 'name': 'f', 'path': 'src/f.ts'})
    return Service(make_seat(model), bank, **more)


@contextmanager
def connect(service):
    "A client of a served service."
    with serve_app(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as client: yield client


def embed(client, **body): return client.post('/v1/embeddings', json=body)


def error_of(answer): return answer.json()['error']


# --- vectors of a voice

@pytest.fixture(scope='module')
def heard(tmp_path_factory, sentences):
    "A served bank with two voices, and its service."
    service = open_service(tmp_path_factory.mktemp('bank'))
    service.bank.voices.add(str(sentences), 'tiny')
    service.bank.voices.add(Bag(), 'bag')
    with connect(service) as client: yield client, service


def test_models_lists_voices(heard):
    client, service = heard
    cards = client.get('/v1/models').json()['data']
    assert [card['id'] for card in cards] == ['shutka-v2', 'tiny', 'bag']
    assert [card['x_shutka'] for card in cards] == [{'writes': True, 'dimension': 32},
                                                    {'writes': False, 'dimension': 16},
                                                    {'writes': False, 'dimension': 256}]
    assert client.get('/v1/models/tiny').json() == cards[1]
    assert error_of(client.get('/v1/models/none'))['code'] == 'model_not_found'


def test_vectors_of_a_voice(heard, sentences):
    from shutka.models.sentences import SentenceEncoder
    client, service = heard
    texts = ['parse the date', 'sort a queue', 'a']
    expected = SentenceEncoder(sentences).encode(texts)
    with openai.OpenAI(base_url=f'{client.base_url}/v1', api_key='none', max_retries=0) as typed:
        answer = typed.embeddings.create(model='tiny', input=texts)   # it asks for base64
    assert answer.model == 'tiny'
    np.testing.assert_allclose([row.embedding for row in answer.data], expected, atol=1e-5)
    for given, side in (('query', 'words'), ('document', 'code'), (None, 'code')):
        body = {'input_type': given} if given else {}
        row = embed(client, model='tiny', input='parse', encoding_format='base64', **body).json()['data'][0]
        vector = np.frombuffer(base64.b64decode(row['embedding']), '<f4')
        np.testing.assert_allclose(vector, SentenceEncoder(sentences).encode(['parse'], side=side)[0], atol=1e-5)
    short = embed(client, model='tiny', input=texts, dimensions=5).json()['data']
    first = expected[:, :5] / np.linalg.norm(expected[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose([row['embedding'] for row in short], first, atol=1e-5)
    assert '16' in error_of(embed(client, model='tiny', input='a', dimensions=17))['message']
    # the model that is served is still the one that nobody names
    assert len(embed(client, input='a').json()['data'][0]['embedding']) == 32


def test_the_side_of_a_voice_has_its_prompt(tmp_path, sentences):
    from test_sentences import bert

    from shutka.models.sentences import SentenceEncoder
    made = bert(tmp_path/'prompts', prompts={'query': 'sort: ', 'document': 'add the: '})
    service = open_service(tmp_path/'bank')
    service.bank.voices.add(str(made), 'prompts')
    encoder = SentenceEncoder(made)
    with connect(service) as client:
        for given, side, n in (('query', 'words', 5), ('document', 'code', 6)):
            answer = embed(client, model='prompts', input='date', input_type=given).json()
            (expected,) = encoder.encode(['date'], side=side)
            np.testing.assert_allclose(answer['data'][0]['embedding'], expected, atol=1e-5)
            # ':' is a token of its own, and two mark the start and the end
            assert answer['usage']['prompt_tokens'] == n


def test_tokens_of_a_voice_are_counted_by_its_tokenizer(heard):
    client, _ = heard
    count = lambda model, given: embed(client, model=model, input=given).json()['usage']['prompt_tokens']
    assert count('tiny', 'parse the date') == 5 and count('tiny', ['parse', 'a a']) == 3 + 4
    assert count('tiny', 'parse ' * 500) == 32   # as many as are read
    assert count('bag', 'parseDate(now)') == 3   # it has no tokenizer: words


def test_what_a_voice_cuts_is_told(heard):
    client, _ = heard
    long = 'parse ' * 31
    told = embed(client, model='tiny', input=['a', long, 'parse ' * 30]).json()['x_shutka']
    assert told == {'truncation': {'inputs': [1], 'tokens': 32}}
    assert 'x_shutka' not in embed(client, model='tiny', input=['a', 'parse ' * 30]).json()
    refused = embed(client, model='tiny', input=['a', long], truncation=False)
    assert (refused.status_code, error_of(refused)['code']) == (400, 'context_length_exceeded')
    assert '32 tokens' in error_of(refused)['message'] and 'number 1' in error_of(refused)['message']
    assert 'x_shutka' not in embed(client, model='bag', input=long, truncation=False).json()


def test_ranking_by_a_voice(heard):
    client, _ = heard
    ask = {'model': 'bag', 'query': 'the queue', 'documents': ['sum of days', 'visit the queue', 'days'], 'top_n': 2}
    for path in ('/v1/rerank', '/v2/rerank', '/rerank'):
        answer = client.post(path, json=ask).json()
        assert answer['model'] == 'bag' and [row['index'] for row in answer['data']][0] == 1
        assert len(answer['data']) == 2 and 0 < answer['data'][0]['relevance_score'] <= 1
    told = client.post('/v1/rerank', json=ask | {'model': 'tiny', 'documents': ['parse ' * 99]}).json()['x_shutka']
    assert told['truncation'] == {'query': False, 'documents': [0], 'tokens': 32}


def test_unknown_models_are_refused_with_what_is_there(heard):
    client, _ = heard
    for path, body in [('embeddings', {'input': 'a'}), ('rerank', {'query': 'a', 'documents': ['a']}),
                       ('chat/completions', {'messages': [{'role': 'user', 'content': 'a'}]}),
                       ('completions', {'prompt': 'a'}), ('responses', {'input': 'a'})]:
        for model in ('gpt-4o', 'Tiny', '', 'meaning', 'words'):
            answer = client.post(f'/v1/{path}', json=body | {'model': model})
            assert (answer.status_code, error_of(answer)['code']) == (404, 'model_not_found')
            assert all(repr(name) in error_of(answer)['message'] for name in ('shutka-v2', 'tiny', 'bag'))


def test_a_voice_writes_nothing(heard):
    client, _ = heard
    for path, body in [('chat/completions', {'messages': [{'role': 'user', 'content': 'a'}]}),
                       ('completions', {'prompt': 'a'}), ('fim/completions', {'prompt': 'a'}),
                       ('responses', {'input': 'a'})]:
        answer = client.post(f'/v1/{path}', json=body | {'model': 'tiny'})
        assert (answer.status_code, error_of(answer)['code']) == (400, 'no_decoder')
        assert "ask for 'shutka-v2'" in error_of(answer)['message']


def test_tokens_are_no_text_for_a_voice(heard):
    client, _ = heard
    for given in ([5, 6], [[5]], [[5], [6]]):
        answer = embed(client, model='tiny', input=given)
        assert (answer.status_code, error_of(answer)['param']) == (400, 'input')
        assert 'send text' in error_of(answer)['message'] and 'its own' in error_of(answer)['message']
    assert embed(client, model='tiny', input=['a', '']).status_code == 400


def test_tokens_that_the_server_can_read_are_text_for_a_voice(tmp_path):
    from shutka.serve.jepa_seat import JepaSeat
    from shutka.text.passages import Layout
    from shutka.text.tokenizer import train_encoding
    encoding = train_encoding(['const days = 31', 'the days of a month'] * 20, 300, 'cl100k_base')
    model = make_model(decoder=False)
    bank = Bank(tmp_path/'bank', model)
    bank.voices.add(Bag(), 'bag')
    with connect(Service(JepaSeat(model, Layout(encoding=encoding)), bank)) as client:
        ask = lambda given: embed(client, model='bag', input=given).json()['data'][0]['embedding']
        assert ask(encoding.encode_ordinary('const days')) == ask('const days')


# --- voices that fail

def test_an_address_that_fails_is_one_sentence(tmp_path, far):
    service = open_service(tmp_path/'bank')
    service.bank.voices.add(far.address, 'far')
    with connect(service) as client:
        assert len(embed(client, model='far', input='a').json()['data'][0]['embedding']) == Bag.width
        far.status = 500
        answer = embed(client, model='far', input='a')
        assert (answer.status_code, error_of(answer)['code']) == (502, 'encoder_failed')
        assert error_of(answer)['type'] == 'server_error' and '500' in error_of(answer)['message']
        ranked = client.post('/v1/rerank', json={'model': 'far', 'query': 'a', 'documents': ['a']})
        assert (ranked.status_code, error_of(ranked)['code']) == (502, 'encoder_failed')
        # a search goes on without it, and says so
        found = client.get('/v1/memory/search', params={'query': 'sum'}).json()
        assert found['data'] and 'without voice far' in found['note'] and '500' in found['note']
        assert 'far' not in found['data'][0]['voices']
        asked = {'messages': [{'role': 'user', 'content': 'sum'}], 'max_tokens': 1}
        told = client.post('/v1/chat/completions', json=asked).json()['x_shutka']
        assert told['memories'] and 'without voice far' in told['note']


def test_an_address_that_is_gone_at_the_start(tmp_path, far):
    model = make_model()
    with Bank(tmp_path/'bank', model) as bank:
        bank.add(CODE)
        bank.voices.add(far.address, 'far')
    far.status = 500
    with connect(Service(make_seat(model), Bank(tmp_path/'bank', model))) as client:
        asked = len(far.asked)
        for _ in range(3):
            answer = embed(client, model='far', input='a')
            assert (answer.status_code, error_of(answer)['code']) == (503, 'encoder_unavailable')
            assert answer.headers['retry-after'] == '30' and '500' in error_of(answer)['message']
        assert len(far.asked) == asked + 1   # who failed is not asked again for a while
        assert [card['id'] for card in client.get('/v1/models').json()['data']] == ['shutka-v2', 'far']
        assert client.get('/v1/memory/search', params={'query': 'sum'}).json()['data']


def test_an_encoder_of_a_program_that_has_ended(tmp_path):
    model = make_model()
    with Bank(tmp_path/'bank', model) as bank:
        bank.add(CODE)
        bank.voices.add(Bag(), 'bag')
    with connect(Service(make_seat(model), Bank(tmp_path/'bank', model))) as client:
        answer = embed(client, model='bag', input='a')
        assert (answer.status_code, error_of(answer)['code']) == (503, 'encoder_unavailable')
        assert 'program that has ended' in error_of(answer)['message']


def test_an_encoder_that_gives_nonsense(tmp_path):
    class Broken(Bag):
        fingerprint, give = 'broken', staticmethod(lambda vectors: vectors)
        def encode(self, texts, side='code'): return self.give(super().encode(texts, side))
    service = open_service(tmp_path/'bank')
    broken = Broken()
    service.bank.voices.add(broken, 'broken')
    with connect(service) as client:
        for give in (lambda v: v * np.nan, lambda v: v[:, :3], lambda v: v[:0]):
            broken.give = give
            answer = embed(client, model='broken', input='a')
            assert (answer.status_code, error_of(answer)['code']) == (502, 'encoder_failed')


# --- searches

def test_an_answer_says_which_voice_found_what(heard):
    client, service = heard
    asked = {'messages': [{'role': 'user', 'content': 'daysInMonth'}], 'max_tokens': 1}
    answers = [client.post('/v1/chat/completions', json=asked).json(),
               client.post('/v1/responses', json={'input': 'daysInMonth', 'max_output_tokens': 1}).json(),
               client.post('/v1/completions', json={'prompt': 'daysInMonth', 'max_tokens': 1}).json()]
    (hit, *_) = service.bank.search('daysInMonth', 2)
    for answer in answers:
        told = answer['x_shutka']['memories'][0]
        assert told.keys() == {'id', 'name', 'path', 'source', 'score', 'voices'}
        assert (told['id'], told['name'], told['path'], told['source']) == (1, 'f', 'src/f.ts', 'npm:dates')
        assert told['voices'].keys() == {'words', 'meaning', 'tiny', 'bag'} and 0 < told['score'] <= 1
        assert told['voices']['words'] == pytest.approx(hit.bm25, abs=1e-3)
        assert told['voices']['bag'] == pytest.approx(hit.voices['bag'], abs=1e-3)
    found = client.get('/v1/memory/search', params={'query': 'daysInMonth', 'k': 1}).json()
    assert found['note'] == '' and found['data'][0] == answers[0]['x_shutka']['memories'][0] | {
        'text': CODE[0], 'metadata': {'source': 'npm:dates', 'name': 'f', 'path': 'src/f.ts'}}


@pytest.fixture
def gpt(tmp_path):
    "A causal model whose bank has a voice."
    save_gpt(tmp_path/'gpt')
    seat, content = open_seat(tmp_path/'gpt')
    bank = open_memory(seat, tmp_path/'bank', content)
    bank.add(CODE)
    bank.voices.add(Bag(), 'bag')
    return Service(seat, bank)


def test_what_matches_nothing_is_not_pasted(gpt, monkeypatch):
    pasted = []
    make = gpt.seat.make_chat_prompt
    monkeypatch.setattr(gpt.seat, 'make_chat_prompt', lambda turns, found: pasted.append(found) or make(turns, found))
    with connect(gpt) as client:
        def ask(text):
            body = {'messages': [{'role': 'user', 'content': text}], 'max_tokens': 1}
            return client.post('/v1/chat/completions', json=body).json()['x_shutka']
        assert ask('zzz qqq') == {'memories': []} and pasted[-1] == []
        (first, *_) = ask('sum')['memories']
        assert first['id'] == 2 and first['voices'].keys() == {'words', 'bag'} and pasted[-1][0] == CODE[1]
        body = {'prompt': 'zzz qqq', 'max_tokens': 1}
        assert client.post('/v1/completions', json=body).json()['x_shutka'] == {'memories': []}
        assert client.get('/v1/memory/search?query=zzz').json() == {'object': 'list', 'data': [], 'note': ''}


def test_a_causal_model_makes_vectors_by_a_voice(gpt):
    with connect(gpt) as client:
        assert len(embed(client, model='bag', input='a').json()['data'][0]['embedding']) == Bag.width
        answer = embed(client, input='a')
        assert error_of(answer)['code'] == 'no_encoder' and "ask for 'bag'" in error_of(answer)['message']
        assert client.get('/v1/models').json()['data'][0]['x_shutka'] == {'writes': True, 'dimension': None}


def test_voices_that_another_process_adds_and_removes(tmp_path, far):
    service = open_service(tmp_path/'bank')
    with connect(service) as client, Bank(tmp_path/'bank', service.seat.encoder) as other:
        search = lambda: client.get('/v1/memory/search', params={'query': 'sum'}).json()['data'][0]['voices'].keys()
        assert search() == {'words', 'meaning'}
        for _ in range(2):   # once more after it was gone
            other.voices.add(far.address, 'far')
            assert search() == {'words', 'meaning', 'far'} and embed(client, model='far', input='a').status_code == 200
            other.add('const far = 1')   # and it has read what is new
            found = client.get('/v1/memory/search', params={'query': 'far', 'k': 1}).json()['data']
            assert found[0]['text'] == 'const far = 1' and 'far' in found[0]['voices']
            other.voices.remove('far')
            assert search() == {'words', 'meaning'}
            assert error_of(embed(client, model='far', input='a'))['code'] == 'model_not_found'
            assert [card['id'] for card in client.get('/v1/models').json()['data']] == ['shutka-v2']
            other.delete(found[0]['id'])


def test_a_voice_that_is_removed_during_a_question(tmp_path, far):
    service = open_service(tmp_path/'bank')
    service.bank.voices.add(far.address, 'far')
    far.wait = .5
    asked = len(far.asked)
    with connect(service) as client, Bank(tmp_path/'bank', service.seat.encoder) as other:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.get('/v1/memory/search?query=sum')))
        thread.start()
        while len(far.asked) == asked: time.sleep(.01)
        other.voices.remove('far')
        thread.join()
    assert answers[0].status_code == 200 and answers[0].json()['data']


# --- beside a slow voice

SLOW = 1.   # seconds


def longest_wait(url, work) -> float:
    "The longest time between two answers to health requests while something works."
    done, worst = threading.Event(), 0.
    thread = threading.Thread(target=lambda: (work(), done.set()))
    with httpx.Client(timeout=60) as client:
        client.get(f'{url}/health')
        thread.start()
        last = time.perf_counter()
        while not done.is_set():
            client.get(f'{url}/health')
            last, before = time.perf_counter(), last
            worst = max(worst, last - before)
    thread.join()
    return worst


def test_others_go_on_beside_a_slow_voice(tmp_path, far, monkeypatch):
    monkeypatch.setattr(services, 'LOOKUPS', 4)
    service = open_service(tmp_path/'bank')
    service.bank.voices.add(far.address, 'far')
    asked = {'messages': [{'role': 'user', 'content': 'sum'}], 'max_tokens': 1}
    with connect(service) as client:
        client.post('/v1/chat/completions', json=asked)
        far.wait = 5 * SLOW
        slow = [threading.Thread(target=work) for work in
                [lambda: embed(client, model='far', input='a'),
                 lambda: client.post('/v1/chat/completions', json=asked),
                 lambda: client.get('/v1/memory/search?query=sum'),
                 lambda: client.post('/v1/rerank', json={'model': 'far', 'query': 'a', 'documents': ['a']})] * 2]
        for thread in slow: thread.start()
        began = time.perf_counter()
        # all threads that may wait do, and yet this is answered
        assert client.get('/health').status_code == 200
        assert embed(client, input='a').status_code == 200
        assert client.get('/v1/models').status_code == 200
        assert client.post('/v1/rerank', json={'query': 'a', 'documents': ['a']}).status_code == 200
        assert time.perf_counter() - began < 5 * SLOW
        far.wait = 0.
        for thread in slow: thread.join()


def test_a_stream_goes_on_beside_a_slow_voice(tmp_path, far):
    service = open_service(tmp_path/'bank')
    service.bank.voices.add(far.address, 'far')
    endless = {'messages': [{'role': 'user', 'content': 'sum'}], 'max_tokens': 4000, 'stream': True}
    with serve_app(make_app(service)) as url:
        with httpx.stream('POST', f'{url}/v1/chat/completions', json=endless, timeout=60) as stream:
            next(lines := stream.iter_lines())
            far.wait = SLOW
            # usually some milliseconds; the search takes a second and more
            assert longest_wait(url, lambda: httpx.get(f'{url}/v1/memory/search?query=sum', timeout=60)) < SLOW
            assert sum(1 for _ in zip(range(20), lines)) == 20


def test_too_many_that_wait_are_told(tmp_path, far, monkeypatch):
    monkeypatch.setattr(services, 'LOOKUPS', 1)
    monkeypatch.setattr(services, 'WAITING_LOOKUPS', 1)
    service = open_service(tmp_path/'bank')
    service.bank.voices.add(far.address, 'far')
    with connect(service) as client:
        embed(client, model='far', input='a')
        far.wait, answers = SLOW, []
        threads = [threading.Thread(target=lambda: answers.append(embed(client, model='far', input='a')))
                   for _ in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    found = sorted(answer.status_code for answer in answers)
    assert found[:2] == [200, 200] and found[-1] == 429
    busy = next(answer for answer in answers if answer.status_code == 429)
    assert error_of(busy)['code'] == 'busy' and busy.headers['retry-after'] == '1'


# --- a sentence encoder that is served

def test_a_sentence_encoder_is_served(sentences, tmp_path):
    seat, content = open_seat(sentences)
    assert content == {} and seat.length == 32 and not seat.edits
    bank = open_memory(seat, tmp_path/'bank', content)
    bank.add(['parse the date', 'sort a queue'], {'source': 'dir:src'})
    with connect(Service(seat, bank, 'tiny')) as client:
        answer = embed(client, model='tiny', input=['parse the date', 'parse ' * 99]).json()
        np.testing.assert_allclose([row['embedding'] for row in answer['data']],
                                   seat.encoder.encode(['parse the date', 'parse ' * 99]), atol=1e-5)
        assert answer['usage']['prompt_tokens'] == 5 + 32
        assert answer['x_shutka'] == {'truncation': {'inputs': [1], 'tokens': 32}}
        ranked = client.post('/v1/rerank', json={'query': 'queue', 'documents': ['parse date', 'sort a queue']}).json()
        assert ranked['data'][0]['index'] == 1
        card = client.get('/v1/models').json()['data'][0]
        assert (card['max_model_len'], card['x_shutka']) == (32, {'writes': False, 'dimension': 16})
        refused = client.post('/v1/chat/completions', json={'messages': [{'role': 'user', 'content': 'a'}]})
        assert error_of(refused)['code'] == 'no_decoder' and 'sentence encoder' in error_of(refused)['message']
        found = client.get('/v1/memory/search', params={'query': 'queue', 'k': 1}).json()['data']
        assert found[0]['text'] == 'sort a queue' and found[0]['voices'].keys() == {'words', 'meaning'}
        assert embed(client, input=[5]).status_code == 400


def test_a_run_of_a_sentence_encoder_and_an_address_are_served(sentences, far, tmp_path):
    import shutil
    shutil.copytree(sentences, tmp_path/'run'/'model')
    (tmp_path/'run'/'run.json').write_text('{}')
    seat, _ = open_seat(tmp_path/'run')
    assert seat.encoder.dimension == 16 and seat.encoder.name == 'run'
    seat, content = open_seat(far.address)
    assert seat.length is None and choose_bank_folder(far.address, None, content) is None
    with connect(Service(seat)) as client:
        assert len(embed(client, input='a').json()['data'][0]['embedding']) == Bag.width
        far.status = 500
        assert embed(client, input='a').status_code == 502


def test_the_memories_of_a_bundle_of_a_sentence_encoder(sentences, tmp_path):
    from shutka.memory.encoder import fingerprint
    from shutka.memory.packed import pack_bank
    seat, _ = open_seat(sentences)
    with Bank(tmp_path/'source', seat.encoder) as bank:
        bank.add(['parse the date'])
        content = pack_bank(bank, fingerprint(seat.encoder))
    assert choose_bank_folder(f'{sentences}#int8', None, content) == sentences.parent/'tiny.memory'
    with open_memory(seat, tmp_path/'bank', content) as bank: assert bank.search('date')[0].text == 'parse the date'


def test_a_name_that_is_no_model():
    for name in ('./nothing', 'nothing.zip', 'nothing', 'org/nothing'):   # and no hub is asked
        with pytest.raises(UserError, match='does not exist'): open_seat(name)


def test_a_voice_that_bears_the_name_of_the_model(tmp_path):
    service = open_service(tmp_path/'bank', name='bag')
    service.bank.voices.add(Bag(), 'bag')
    with connect(service) as client:
        assert [card['id'] for card in client.get('/v1/models').json()['data']] == ['bag']
        assert len(embed(client, model='bag', input='a').json()['data'][0]['embedding']) == 32


def test_another_text_jepa_is_a_voice(tmp_path):
    from shutka.models.text_jepa import TextJEPA
    path = make_bundle(tmp_path/'other.zip', decoder=False)
    model = TextJEPA(SMALL).eval()
    bank = Bank(tmp_path/'bank', model)
    bank.voices.add(str(path))
    with connect(Service(make_seat(model), bank)) as client:
        answer = embed(client, model='other', input=['word ' * 1000, 'a.b']).json()
        assert answer['x_shutka']['truncation']['inputs'] == [0] and len(answer['data'][0]['embedding']) == 32

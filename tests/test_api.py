"""`shutka serve` over real HTTP.

OpenAI's clients for Python and Node, made-up requests, many streams, clients that go away, and what Continue sends.
"""
import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from as_nobody import NOBODY
from serving import CODE, make_bundle, make_model, make_seat, save_gpt, serve_app, wait_until

from shutka.memory.bank import Bank
from shutka.memory.tables import hold_writer_lock
from shutka.serve.api import make_app
from shutka.serve.service import Service

HERE = Path(__file__).parent
ASK = [{'role': 'user', 'content': 'how many days has a month?'}]
ENDLESS = 4000  # tokens; the tiny model takes seconds for them


def connect(url: str, key: str = 'none') -> openai.OpenAI:
    "OpenAI's client, which says at once what went wrong."
    return openai.OpenAI(base_url=f'{url}/v1', api_key=key, max_retries=0)


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    model = make_model()
    bank = Bank(tmp_path_factory.mktemp('bank'), model)
    bank.add(CODE, {'source': 'npm:dates'})
    return Service(make_seat(model), bank)


@pytest.fixture(scope='module')
def url(service):
    with serve_app(make_app(service)) as address: yield address


@pytest.fixture(scope='module')
def client(url):
    with connect(url) as made: yield made


def chat(client, **more):
    more = {'max_tokens': 12} | more
    return client.chat.completions.create(model='shutka-v2', messages=ASK, **more)


def events(response) -> list:
    "What a stream says; the last line must be [DONE]."
    lines = [line[6:] for line in response.iter_lines() if line]
    assert lines.pop() == '[DONE]'
    return [json.loads(line) for line in lines]


# --- OpenAI's client for Python

def test_models(client):
    (card,) = client.models.list().data
    assert (card.id, card.object, card.max_model_len) == ('shutka-v2', 'model', 4096)
    assert client.models.retrieve('shutka-v2').id == 'shutka-v2'
    with pytest.raises(openai.NotFoundError): client.models.retrieve('gpt-4o')


def test_chat(client):
    answer = chat(client)
    choice = answer.choices[0]
    assert (choice.message.role, choice.finish_reason, answer.object) == ('assistant', 'length', 'chat.completion')
    assert choice.message.content and answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    (first, *_) = answer.x_shutka['memories']
    assert first['id'] in (1, 2, 3) and first['source'] == 'npm:dates' and 0 < first['score'] <= 1


def test_chat_as_a_stream(client):
    chunks = list(chat(client, stream=True, stream_options={'include_usage': True}))
    *body, usage = chunks
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].id.startswith('chatcmpl-')
    assert body[0].choices[0].delta.role == 'assistant' and body[0].x_shutka['memories']
    last = body[-1].choices[0]
    assert last.delta.model_dump(exclude_none=True) == {} and last.finish_reason == 'length'
    assert usage.choices == [] and usage.usage.completion_tokens == 12
    whole = chat(client)
    assert ''.join(chunk.choices[0].delta.content or '' for chunk in body) == whole.choices[0].message.content
    assert usage.usage == whole.usage
    assert all(chunk.choices for chunk in chat(client, stream=True))  # no usage unless asked


def test_seeds_and_several_answers(client):
    several = chat(client, n=3, seed=5, temperature=1.)
    texts = [choice.message.content for choice in several.choices]
    assert len(set(texts)) == 3 and [choice.index for choice in several.choices] == [0, 1, 2]
    assert several.usage.completion_tokens == 36
    assert [c.message.content for c in chat(client, n=3, seed=5, temperature=1.).choices] == texts
    assert chat(client, seed=6, temperature=1.).choices[0].message.content == texts[1]
    streamed = ['', '', '']
    for chunk in chat(client, n=3, seed=5, temperature=1., stream=True):
        for choice in chunk.choices: streamed[choice.index] += choice.delta.content or ''
    assert streamed == texts
    assert len({chat(client, temperature=1.).choices[0].message.content for _ in range(3)}) > 1
    cold = chat(client).choices[0].message.content
    assert chat(client, temperature=1., top_p=0.).choices[0].message.content == cold
    assert chat(client, temperature=2., top_p=1e-9).choices[0].message.content == cold


def test_who_wants_several_answers_or_a_share_draws(client):
    text = lambda **more: [choice.message.content for choice in chat(client, seed=5, **more).choices]
    assert text(n=3) == text(n=3, temperature=1.) != text(n=3, temperature=0.)
    assert text(top_p=.9) == text(top_p=.9, temperature=1.) and text(top_p=1.) == text(temperature=1.)
    assert text() == text(temperature=0.) != text(temperature=1.)
    asked = {'input': 'how many days has a month?', 'max_output_tokens': 12}
    response = lambda **more: client.responses.create(model='shutka-v2', **asked, **more).output_text
    assert response() == text()[0] != response(top_p=1.)


def test_a_dozen_stop_texts(client):
    text = chat(client, max_tokens=40).choices[0].message.content
    stops = [f'never {i}' for i in range(11)]
    answer = chat(client, max_tokens=40, stop=[*stops, text[9:14]])
    assert answer.choices[0].message.content == text[:text.index(text[9:14])]
    assert chat(client, max_tokens=40, stop=[*stops, 'n' * 128]).choices[0].message.content == text


def test_stop_texts_across_tokens(client):
    text = chat(client, max_tokens=40).choices[0].message.content
    for at in range(3, len(text) - 8, 7):
        stop = text[at:at + 5]
        answer = chat(client, max_tokens=40, stop=['never to be found', stop])
        before = text[:text.index(stop)]
        assert answer.choices[0].message.content == before and answer.choices[0].finish_reason == 'stop'
        chunks = chat(client, max_tokens=40, stop=stop, stream=True)
        assert ''.join(c.choices[0].delta.content or '' for c in chunks) == before


def test_budgets(client, service, monkeypatch):
    assert chat(client, max_tokens=9, max_completion_tokens=2).usage.completion_tokens == 2
    monkeypatch.setattr(service.seat, 'length', 300)   # whoever says nothing gets what the window leaves
    for text in ('days', 'const a = 1'):
        for answer in (client.completions.create(model='shutka-v2', prompt=text), chat(client, max_tokens=None),
                       client.completions.create(model='shutka-v2', prompt=text, max_tokens=1000)):
            assert answer.usage.total_tokens == 300 and answer.choices[0].finish_reason == 'length'
    assert client.responses.create(model='shutka-v2', input='days').usage.total_tokens == 300


def test_log_probabilities(client):
    content = chat(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(content) == 12 and all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in content)
    # at temperature zero the likeliest token is written
    assert all(token.top_logprobs[0].token == token.token for token in content)
    text = chat(client).choices[0].message.content
    assert bytes(b for token in content for b in token.bytes).decode(errors='replace') == text
    streamed = []
    for chunk in chat(client, logprobs=True, stream=True):
        if chunk.choices[0].logprobs: streamed += chunk.choices[0].logprobs.content
    assert [token.token for token in streamed] == [token.token for token in content]
    old = client.completions.create(model='shutka-v2', prompt='const a = ', max_tokens=5, logprobs=2).choices[0]
    assert len(old.logprobs.tokens) == 5 == len(old.logprobs.text_offset)
    assert all(len(top) <= 2 for top in old.logprobs.top_logprobs)


def test_completions(client, service):
    complete = lambda **more: client.completions.create(model='shutka-v2', max_tokens=6, **more)
    one = complete(prompt='const a = ')
    assert one.object == 'text_completion' and one.id.startswith('cmpl-')
    tokens = service.seat.tokenize('const a = ')
    text = one.choices[0].text
    assert complete(prompt=['const a = ', 'let b']).choices[0].text == text == complete(prompt=tokens).choices[0].text
    filled = complete(prompt='const a = ', suffix=';\nlet b = a').choices[0].text
    assert filled != text
    marked = complete(prompt='<fim_prefix>const a = <fim_suffix>;\nlet b = a<fim_middle>')
    assert marked.choices[0].text == filled
    streamed = complete(prompt='const a = ', suffix=';\nlet b = a', stream=True)
    assert ''.join(c.choices[0].text for c in streamed) == filled


def test_vectors(client, service):
    expected = service.seat.encoder.encode(CODE)
    for encoding in ('base64', 'float'):
        answer = client.embeddings.create(model='shutka-v2', input=CODE, encoding_format=encoding)
        vectors = [row.embedding for row in answer.data]
        if encoding == 'base64': vectors = [np.frombuffer(base64.b64decode(v), '<f4') for v in vectors]
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    plain = client.embeddings.create(model='shutka-v2', input=CODE)   # the client asks for base64 and decodes it
    np.testing.assert_allclose([row.embedding for row in plain.data], expected, atol=1e-6)
    short = client.embeddings.create(model='shutka-v2', input=CODE[0], dimensions=5).data[0].embedding
    np.testing.assert_allclose(short, expected[0, :5] / np.linalg.norm(expected[0, :5]), atol=1e-6)
    asked = client.embeddings.create(model='shutka-v2', input='days', extra_body={'input_type': 'query'})
    (predicted,) = service.seat.encoder.encode(['days'], side='words')
    np.testing.assert_allclose(asked.data[0].embedding, predicted, atol=1e-6)
    with pytest.raises(openai.BadRequestError): client.embeddings.create(model='shutka-v2', input=['a', ''])


def test_usage_counts_what_the_encoder_reads(client, service):
    count = lambda **more: client.embeddings.create(model='shutka-v2', **more).usage.prompt_tokens
    assert count(input='a.b.c') == 3 and count(input=['parseDate(now)', 'x']) == 4
    window = service.seat.model.config.target
    assert count(input='word ' * 1000) == window == count(input=['word ' * window])


def test_a_text_that_is_cut_is_told(client, url, service):
    window, long = service.seat.model.config.target, 'word ' * 1000
    ask = lambda path, **body: httpx.post(f'{url}/v1/{path}', json=body)
    for encoding in ('float', 'base64'):
        told = ask('embeddings', input=['a', long, 'word ' * window], encoding_format=encoding).json()['x_shutka']
        assert told == {'truncation': {'inputs': [1], 'words': window}}
    assert 'x_shutka' not in ask('embeddings', input=['a', 'word ' * window]).json()
    ranked = ask('rerank', query='a', documents=['b', long]).json()
    assert ranked['x_shutka'] == {'truncation': {'query': False, 'documents': [1], 'words': window}}
    for path, body in [('embeddings', {'input': ['a', long]}), ('rerank', {'query': 'a', 'documents': [long]}),
                       ('rerank', {'query': long, 'documents': ['a']})]:
        answer = ask(path, truncation=False, **body)
        assert (answer.status_code, answer.json()['error']['code']) == (400, 'context_length_exceeded')
    # a gap shows the decoder only what is near to it, and a question of many words is not read to its end
    gap = client.completions.create(model='shutka-v2', prompt='const a = 1;\n' * 100, suffix='b', max_tokens=1)
    assert gap.x_shutka['unread_tokens'] == len(service.seat.tokenize('const a = 1;\n' * 100)) - 384 // 2
    asked = [{'role': 'user', 'content': 'word ' * 200}]
    answer = client.chat.completions.create(model='shutka-v2', messages=asked, max_tokens=1)
    assert answer.x_shutka['unread_words'] == 200 - service.seat.model.config.source


def test_code_in_a_question_reaches_the_model(client, url):
    def ask(code, before=()):
        messages = [*before, {'role': 'user', 'content': f'Sort this.\n```ts a.ts\n{code}\n```'}]
        return client.chat.completions.create(model='shutka-v2', messages=messages, max_tokens=12)

    first, second = 'users.push(1)', 'const queue = visit(days)'
    assert ask(first).choices[0].message.content != ask(second).choices[0].message.content
    assert len(ask(first).x_shutka['memories']) == 1   # one place was taken
    # of an earlier turn, too, and by the Responses API
    earlier = [{'role': 'user', 'content': f'```\n{code}\n```'} for code in (first, second)]
    turns = [[one, {'role': 'assistant', 'content': 'Yes.'}] for one in earlier]
    texts = [ask('sum(1)', before).choices[0].message.content for before in turns]
    assert texts[0] != texts[1] and ask('sum(1)', turns[0]).x_shutka['memories'] == []
    responses = [client.responses.create(model='shutka-v2', input=[*before, {'role': 'user', 'content': 'Sort.'}],
                                         max_output_tokens=12).output_text for before in turns]
    assert responses[0] != responses[1]
    long = ask('\n'.join(f'const a{i} = {i}' for i in range(200)))
    assert long.x_shutka['unread_tokens'] > 500 and long.x_shutka['memories'] == []


def test_continue_is_told_only_what_is_true(tmp_path):
    from shutka.serve.seats import open_seat
    from shutka.serve.server import list_roles
    save_gpt(tmp_path)
    roles = lambda seat: list_roles(not seat.refusal, seat.edits, seat.encoder is not None)
    seat = open_seat(tmp_path)[0]
    assert roles(seat) == ['chat', 'autocomplete', 'edit', 'apply']
    prompts = [seat.make_chat_prompt([('user', f'Sort.\n```\n{code}\n```')], []).ids for code in ('a', 'b')]
    assert prompts[0] != prompts[1]   # it reads the section
    assert roles(make_seat(make_model())) == ['chat', 'autocomplete', 'embed', 'rerank']
    assert roles(make_seat(make_model(decoder=False))) == ['embed', 'rerank']


# --- the Responses API

def test_a_response(client):
    text = chat(client).choices[0].message.content
    ask = lambda given, **more: client.responses.create(model='shutka-v2', input=given, max_output_tokens=12, **more)
    question = ASK[0]['content']
    answer = ask(question, metadata={'a': 'b'}, store=False)
    assert answer.output_text == text and answer.id.startswith('resp_') and answer.metadata == {'a': 'b'}
    assert (answer.status, answer.incomplete_details.reason) == ('incomplete', 'max_output_tokens')
    assert answer.usage.output_tokens == 12 and answer.usage.total_tokens == answer.usage.input_tokens + 12
    assert answer.x_shutka['memories']
    assert ask([{'role': 'user', 'content': [{'type': 'input_text', 'text': question}]}]).output_text == text
    # an output is the input of the next turn
    turns = [{'role': 'user', 'content': question}, *answer.output, {'role': 'user', 'content': 'sum numbers'}]
    assert ask(turns, instructions='Be brief.').output_text == ask('sum numbers').output_text


def test_a_response_as_a_stream(client):
    ask = dict(model='shutka-v2', input=ASK[0]['content'], max_output_tokens=12)
    whole = client.responses.create(**ask)
    events = list(client.responses.create(**ask, stream=True))
    kinds = [event.type.removeprefix('response.') for event in events]
    n = kinds.count('output_text.delta')
    assert n > 1 and kinds == ['created', 'in_progress', 'output_item.added', 'content_part.added',
                               *['output_text.delta'] * n,
                               'output_text.done', 'content_part.done', 'output_item.done', 'incomplete']
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert ''.join(event.delta for event in events if event.type.endswith('text.delta')) == whole.output_text
    last = events[-1].response
    assert (last.output_text, last.usage, last.status) == (whole.output_text, whole.usage, whole.status)
    assert len({event.response.id for event in events if hasattr(event, 'response')}) == 1
    with client.responses.stream(**ask) as stream:
        deltas = [event.delta for event in stream if event.type == 'response.output_text.delta']
    assert ''.join(deltas) == whole.output_text


def test_a_response_that_ends_by_itself_is_complete(client, service, monkeypatch):
    monkeypatch.setattr(service.seat, 'end_tokens', set(range(service.seat.vocabulary)))
    with client.responses.stream(model='shutka-v2', input='days') as stream: last = stream.get_final_response()
    assert (last.status, last.output_text, last.incomplete_details) == ('completed', '', None)
    assert last.usage.output_tokens == 0


@pytest.mark.parametrize('more', [
    {'previous_response_id': 'resp_1'}, {'conversation': 'conv_1'}, {'background': True}, {'truncation': 'auto'},
    {'tools': [], 'tool_choice': 'required'}, {'text': {'format': {'type': 'json_object'}}},
    {'include': ['message.output_text.logprobs']}, {'top_logprobs': 3}, {'prompt': {'id': 'pmpt_1'}},
    {'input': [{'type': 'reasoning', 'summary': []}]}, {'tools': [{'type': 'web_search'}]},
    {'input': [{'role': 'user', 'content': [{'type': 'input_image', 'image_url': 'x'}]}]},
])
def test_what_a_response_cannot_be(client, more):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{'model': 'shutka-v2', 'input': 'a'} | more)
    assert caught.value.code == 'unsupported_value' and caught.value.param in more


@pytest.mark.parametrize('more', [
    {'logprobs': False, 'top_logprobs': 0}, {'top_logprobs': 0},
    {'messages': [{'role': 'assistant', 'content': [{'type': 'refusal', 'refusal': 'No.'}]}, *ASK]},
    {'messages': [{'role': 'assistant', 'content': None, 'refusal': 'No.'}, *ASK]},
    {'stop': [str(i) for i in range(32)]},
])
def test_what_a_chat_may_hold(client, more):
    answer = client.chat.completions.create(**{'model': 'shutka-v2', 'messages': ASK, 'max_tokens': 2} | more)
    assert answer.choices[0].logprobs is None


def test_ranking_under_all_its_addresses(url):
    ask = {'query': 'days of a month', 'documents': CODE, 'top_n': 2}
    answers = [httpx.post(url + path, json=ask).json() for path in ('/v1/rerank', '/v2/rerank', '/rerank')]
    assert all(answer['results'] == answer['data'] and answer['usage']['total_tokens'] > 20 for answer in answers)
    (best,) = {tuple(row['index'] for row in answer['results']) for answer in answers}
    assert len(best) == 2


@pytest.mark.parametrize('more, error, code', [
    ({'model': 'gpt-4o'}, openai.NotFoundError, 'model_not_found'),
    ({'messages': [{'role': 'user', 'content': 'word ' * 5000}]}, openai.BadRequestError, 'context_length_exceeded'),
    ({'messages': []}, openai.BadRequestError, None),
    ({'temperature': 3}, openai.BadRequestError, None),
    ({'temperature': '1'}, openai.BadRequestError, None),
    ({'stop': ['a'] * 33}, openai.BadRequestError, None),
    ({'stop': 'a' * 129}, openai.BadRequestError, None),
    ({'top_logprobs': 2}, openai.BadRequestError, 'unsupported_value'),
    ({'tools': [], 'tool_choice': 'required'}, openai.BadRequestError, 'unsupported_value'),
    ({'response_format': {'type': 'json_schema', 'json_schema': {}}}, openai.BadRequestError, 'unsupported_value'),
    ({'frequency_penalty': .5}, openai.BadRequestError, 'unsupported_value'),
    ({'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'x'}}]}]},
     openai.BadRequestError, 'unsupported_value'),
])
def test_errors_as_the_client_sees_them(client, more, error, code):
    request = {'model': 'shutka-v2', 'messages': ASK} | more
    with pytest.raises(error) as caught: client.chat.completions.create(**request)
    assert caught.value.body.keys() == {'message', 'type', 'param', 'code'} and caught.value.code == code


@pytest.mark.parametrize('method, path, content, status', [
    ('GET', '/nothing', None, 404),
    ('GET', '/v1/embeddings', None, 405),
    ('POST', '/v1/embeddings', b'{', 400),
    ('POST', '/v1/embeddings', b'[' * 100_000, 400),
    ('POST', '/v1/embeddings', b'{"input": "\\ud800"}', 400),
    ('POST', '/v1/embeddings', b'{"input": [999999]}', 400),
    ('POST', '/v1/embeddings', b'x' * (9 << 20), 413),
    ('POST', '/v1/completions', b'{"prompt": "a", "temperature": NaN}', 400),
    ('POST', '/v1/memory', b'{"texts": "a", "metadata": {"a": "\\ud800"}}', 400),
    ('DELETE', '/v1/memory', b'{"ids": [99999]}', 404),
    ('GET', '/v1/memory/search?query=%20', None, 400),
])
def test_every_error_has_one_shape(url, method, path, content, status):
    answer = httpx.request(method, url + path, content=content, headers={'Content-Type': 'application/json'})
    assert answer.status_code == status and answer.json()['error'].keys() == {'message', 'type', 'param', 'code'}


def test_a_page_that_posts_plain_text_changes_nothing(url, service):
    before = len(service.bank)
    headers = {'Content-Type': 'text/plain', 'Origin': 'https://evil.example'}
    answer = httpx.post(f'{url}/v1/memory', content='{"texts": "evil"}', headers=headers)
    assert answer.status_code == 400 and len(service.bank) == before
    assert 'access-control-allow-origin' not in answer.headers
    assert httpx.get(f'{url}/v1/models', headers={'Host': 'evil.example'}).status_code == 403


def test_memory_is_used_by_the_next_question(url, client):
    text = 'const quicksort = (xs) => partition(xs)'
    question = [{'role': 'user', 'content': 'quicksort by partition'}]

    def ask():
        answer = client.chat.completions.create(model='shutka-v2', messages=question, max_tokens=1)
        return answer.x_shutka['memories']

    (new,) = httpx.post(f'{url}/v1/memory', json={'texts': [text], 'metadata': {'source': 'dir:src'}}).json()['ids']
    first = ask()[0]
    assert first == {'id': new, 'name': None, 'path': None, 'source': 'dir:src', 'score': first['score'],
                     'voices': {'words': first['voices']['words'], 'meaning': first['voices']['meaning']}}
    (newer,) = httpx.put(f'{url}/v1/memory', json={'id': new, 'texts': text + ';'}).json()['ids']
    (hit,) = httpx.get(f'{url}/v1/memory/search', params={'query': 'quicksort', 'k': 1}).json()['data']
    assert (hit['id'], hit['text'], hit['source']) == (newer, text + ';', 'dir:src')
    assert httpx.request('DELETE', f'{url}/v1/memory', json={'ids': [newer]}).json()['ids'] == [newer]
    assert newer not in [memory['id'] for memory in ask()]
    assert httpx.put(f'{url}/v1/memory', json={'id': newer, 'texts': 'a'}).status_code == 404


@pytest.mark.parametrize('method, place, body, param', [
    ('POST', '', {'texts': 'const a = 1', 'meta': {'source': 'dir:src'}}, 'meta'),
    ('PUT', '', {'id': 1, 'texts': 'const a = 1', 'how': 'words'}, 'how'),
    ('DELETE', '', {'ids': [1], 'where': {'source': 'dir:other'}}, 'where'),
    ('DELETE', '?where=none', {'ids': [1]}, 'where'),
    ('POST', '?dry=true', {'texts': 'const a = 1'}, 'dry'),
    ('GET', '/search?query=sum&where=none', None, 'where'),
])
def test_unknown_fields_of_our_own_routes_change_nothing(url, service, method, place, body, param):
    before = service.bank.operations(1)
    answer = httpx.request(method, f'{url}/v1/memory{place}', json=body)
    assert answer.status_code == 400 and answer.json()['error']['param'] == param
    assert service.bank.operations(1) == before


def test_others_write_while_it_serves(url, service):
    question = [{'role': 'user', 'content': 'fibonacci by doubling'}]
    with Bank(service.bank.folder, service.bank.encoder) as other:
        (new,) = other.add('const fibonacci = (n) => doubling(n)')
        answer = httpx.post(f'{url}/v1/chat/completions', json={'messages': question, 'max_tokens': 1}).json()
        assert answer['x_shutka']['memories'][0]['id'] == new
        (newer,) = httpx.post(f'{url}/v1/memory', json={'texts': 'const a = 1'}).json()['ids']
        other.delete([new, newer])
    assert httpx.request('DELETE', f'{url}/v1/memory', json={'ids': [newer]}).status_code == 404


def test_a_writer_that_does_not_end_is_told(url, service, monkeypatch):
    monkeypatch.setattr(service.bank.store, 'wait', .1)
    with hold_writer_lock(service.bank.folder):
        for method, body in [('POST', {'texts': 'a'}), ('PUT', {'id': 1, 'texts': 'a'}), ('DELETE', {'ids': [1]})]:
            answer = httpx.request(method, f'{url}/v1/memory', json=body)
            assert (answer.status_code, answer.json()['error']['code']) == (503, 'bank_busy')
        assert httpx.get(f'{url}/v1/memory/search?query=days').json()['data']   # reading does not wait


# --- many at once

def test_64_streams_at_once_write_what_each_writes_alone(client, url):
    verbs = ('sort', 'add', 'find', 'visit', 'count', 'parse', 'print', 'copy')
    things = ('days', 'users', 'numbers', 'queue', 'names', 'dates', 'words', 'files')
    questions = [f'{verb} the {thing}' for verb in verbs for thing in things]
    kinds = [dict(messages=[{'role': 'user', 'content': question}],
                  max_tokens=4 + i % 16, seed=i, temperature=i % 3 / 2) for i, question in enumerate(questions)]

    async def text(client, kind):
        stream = await client.chat.completions.create(model='shutka-v2', stream=True, **kind)
        return ''.join([chunk.choices[0].delta.content or '' async for chunk in stream])

    async def together():
        async with openai.AsyncOpenAI(base_url=f'{url}/v1', api_key='none', max_retries=0) as many:
            return await asyncio.gather(*(text(many, kind) for kind in kinds))

    answers = [client.chat.completions.create(model='shutka-v2', **kind) for kind in kinds]
    alone = [answer.choices[0].message.content for answer in answers]
    assert asyncio.run(together()) == alone and len(set(alone)) > 32


def test_a_client_that_goes_away_frees_its_slot(url, service):
    body = {'model': 'shutka-v2', 'messages': ASK, 'max_tokens': ENDLESS}
    assert wait_until(lambda: service.engine.count_streams() == 0)
    with httpx.stream('POST', f'{url}/v1/chat/completions', json=body | {'stream': True, 'n': 4}) as response:
        next(lines := response.iter_lines())   # kept: without it the connection would be closed
        assert service.engine.count_streams() == 4 and lines
    assert wait_until(lambda: service.engine.count_streams() == 0)
    # not a stream
    with pytest.raises(httpx.ReadTimeout): httpx.post(f'{url}/v1/chat/completions', json=body, timeout=.3)
    assert wait_until(lambda: service.engine.count_streams() == 0)
    assert httpx.get(f'{url}/health').json() == {'status': 'ok', 'streams': 0}


def test_a_full_queue_says_so():
    service = Service(make_seat(make_model()), slots=1, queue_size=1)
    body = {'messages': ASK, 'max_tokens': ENDLESS, 'stream': True}
    with serve_app(make_app(service)) as url, httpx.Client(base_url=url, timeout=10) as client:
        stream = lambda: client.stream('POST', '/v1/chat/completions', json=body)
        with stream() as one, stream() as two:
            lines = one.iter_lines(), two.iter_lines()
            for line in lines: next(line)
            answer = client.post('/v1/chat/completions', json=body)
            code = answer.json()['error']['code']
            assert (answer.status_code, answer.headers['retry-after'], code) == (429, '1', 'busy')
            with connect(url) as other:
                with pytest.raises(openai.RateLimitError): chat(other)
        assert wait_until(lambda: service.engine.count_streams() == 0)   # the one that waited left as well
        whole = client.post('/v1/chat/completions', json=body | {'max_tokens': 2, 'stream': False})
        assert whole.status_code == 200
        assert client.post('/v1/chat/completions', json=body | {'n': 2}).status_code == 400   # never possible here


def test_a_failing_model_is_told_in_the_stream(monkeypatch, caplog):
    service = Service(make_seat(make_model()))
    def fail(*_): raise RuntimeError('a secret')
    monkeypatch.setattr(service.seat, 'proceed', fail)
    with serve_app(make_app(service)) as url, connect(url) as client:
        with pytest.raises(openai.InternalServerError) as caught: chat(client)
        assert 'secret' not in str(caught.value) and 'a secret' in caplog.text
        with pytest.raises(openai.APIError, match='the model failed'): list(chat(client, stream=True))


# --- keys and models of other kinds

def test_a_key_is_asked_for():
    app = make_app(Service(make_seat(make_model())), key='sesame', origins=['https://editor.example'])
    with serve_app(app) as url:
        assert httpx.get(f'{url}/health').status_code == 200
        for headers, status in [({}, 401),
                                ({'Authorization': 'Bearer wrong'}, 401), ({'x-api-key': 'wrong'}, 401),
                                ({'Authorization': 'Bearer sesame'}, 200), ({'x-api-key': 'sesame'}, 200)]:
            assert httpx.get(f'{url}/v1/models', headers=headers).status_code == status
        with connect(url, key='wrong') as client:
            with pytest.raises(openai.AuthenticationError) as caught: client.models.list()
        assert caught.value.code == 'invalid_api_key'
        headers = {'Origin': 'https://editor.example', 'Access-Control-Request-Method': 'GET'}
        asked = httpx.options(f'{url}/v1/models', headers=headers)
        assert asked.headers['access-control-allow-origin'] == 'https://editor.example'


def test_a_model_without_a_decoder_finds_and_does_not_write():
    app = make_app(Service(make_seat(make_model(decoder=False))))
    with serve_app(app) as url, connect(url) as client:
        with pytest.raises(openai.BadRequestError, match='no decoder') as caught: chat(client)
        assert caught.value.code == 'no_decoder'
        assert len(client.embeddings.create(model='shutka-v2', input='a').data[0].embedding) == 32
        ranked = httpx.post(f'{url}/v1/rerank', json={'query': 'days', 'documents': CODE}).json()['data']
        assert ranked[0]['index'] == 0
        assert httpx.post(f'{url}/v1/memory', json={'texts': 'a'}).json()['error']['code'] == 'no_memory'


def test_a_causal_model_behind_the_same_routes(tmp_path):
    from shutka.serve.seats import open_memory, open_seat
    save_gpt(tmp_path/'gpt')
    seat, content = open_seat(tmp_path/'gpt')
    bank = open_memory(seat, tmp_path/'bank', content)
    bank.add('const sum = 1', {'source': 'dir:src'})
    ask = dict(model='shutka-v2', messages=[{'role': 'user', 'content': 'the sum'}], max_tokens=8)
    with serve_app(make_app(Service(seat, bank))) as url, connect(url) as client:
        answer = client.chat.completions.create(**ask, logprobs=True)
        assert answer.x_shutka['memories'][0]['source'] == 'dir:src' and answer.usage.completion_tokens == 8
        chunks = client.chat.completions.create(**ask, stream=True)
        assert ''.join(c.choices[0].delta.content or '' for c in chunks) == answer.choices[0].message.content
        filled = client.completions.create(model='shutka-v2', prompt='a', suffix='b', max_tokens=2)
        assert filled.choices[0].finish_reason == 'length'
        with pytest.raises(openai.BadRequestError, match='makes no vectors'):
            client.embeddings.create(model='shutka-v2', input='a')


# --- what Continue sends, what Node sends, and what nobody would send

def said(kind: str, chunks: list) -> str:
    "What Continue reads of a stream: only these fields."
    choices = [chunk['choices'][0] for chunk in chunks if chunk.get('choices')]
    if kind == 'text': return ''.join(choice['text'] for choice in choices)
    if kind == 'fim': return ''.join(choice['delta']['content'] for choice in choices)   # always there
    return ''.join(choice['delta'].get('content', '') for choice in choices)


@pytest.mark.parametrize('sent', json.loads((HERE/'continue_requests.json').read_text()), ids=lambda sent: sent['name'])
def test_what_continue_sends(url, sent):
    headers = {'Content-Type': 'application/json', 'Accept': 'application/json',
               'x-api-key': 'none', 'api-key': 'none', 'Authorization': 'Bearer none'}
    method = 'POST' if sent['body'] else 'GET'
    with httpx.stream(method, url + sent['path'], json=sent['body'], headers=headers) as response:
        if sent['stream']:
            assert response.status_code == 200 and response.headers['content-type'].startswith('text/event-stream')
            text = said(sent['stream'], events(response))
            assert isinstance(text, str) and not any(stop in text for stop in sent['body'].get('stop', []))
            return
        response.read()
        answer = response.json()
    assert response.status_code == 200
    if 'rerank' in sent['path']:
        ranked = sorted(answer['data'], key=lambda row: -row['relevance_score'])
        assert [row['index'] for row in ranked] == [1, 0]
    if 'embeddings' in sent['path']: assert [row['index'] for row in answer['data']] == [0, 1, 2]


NODE = '''
import OpenAI from 'openai';
const client = new OpenAI({baseURL: process.argv[2] + '/v1', apiKey: 'none', maxRetries: 0});
const ask = {model: 'shutka-v2', messages: [{role: 'user', content: 'how many days has a month?'}], max_tokens: 12};
const whole = await client.chat.completions.create(ask);
let text = '', usage;
const stream = await client.chat.completions.create({...ask, stream: true, stream_options: {include_usage: true}});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? '';
  usage = chunk.usage ?? usage;
}
const vectors = await client.embeddings.create({model: 'shutka-v2', input: ['a', 'b']});
const filled = await client.completions.create({model: 'shutka-v2', prompt: 'const a = ', suffix: ';', max_tokens: 4});
let code;
try { await client.chat.completions.create({...ask, model: 'gpt-4o'}); } catch (error) { code = error.code; }
console.log(JSON.stringify({
  same: text === whole.choices[0].message.content, usage, width: vectors.data.map(row => row.embedding.length),
  end: filled.choices[0].finish_reason, code, models: (await client.models.list()).data.map(model => model.id)}));
'''


def test_openai_for_node(url, tmp_path):
    if not shutil.which('node') or not shutil.which('npm'): pytest.skip('needs node and npm')
    (tmp_path/'package.json').write_text('{"type": "module"}')
    (tmp_path/'ask.js').write_text(NODE)
    install = ['npm', 'install', '--no-audit', '--no-fund', '--silent', 'openai']
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True)
    if installed.returncode: pytest.skip(f'npm could not install openai: {installed.stderr[-200:]}')
    ran = subprocess.run(['node', 'ask.js', url], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told.pop('usage')['completion_tokens'] == 12
    assert told == {'same': True, 'width': [32, 32], 'end': 'length', 'code': 'model_not_found',
                    'models': ['shutka-v2']}


def hurried(body, path: str):
    "The same request for two tokens, where it asks for more."
    if not isinstance(body, dict) or not path.endswith(('completions', 'responses')): return
    for name in ('max_output_tokens',) if path.endswith('responses') else ('max_tokens', 'max_completion_tokens'):
        if isinstance(body.get(name, 3), int) and body.get(name, 3) > 2: body[name] = 2


def test_no_input_breaks_it(url):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode
    schema, seen = schemathesis.openapi.from_url(f'{url}/openapi.json'), {}
    for operation in (found.ok() for found in schema.get_all_operations()):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            # without body and query nothing can be wrong
            if mode == GenerationMode.NEGATIVE and not (operation.body or operation.query): continue

            # few requests for vectors are right: a known model, or none, and texts for input
            many = 40 if operation.path.endswith('embeddings') else 10

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=many, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))
            def ask(case):
                hurried(case.body, case.path)
                answer = case.call()
                seen.setdefault(case.path, set()).add(answer.status_code)
                assert answer.status_code < 500, (case.body, answer.text)
                if answer.status_code < 400: return
                assert json.loads(answer.text)['error'].keys() == {'message', 'type', 'param', 'code'}
            ask()
    assert len(seen) == 13 and {200, 400} <= seen['/v1/chat/completions'] & seen['/v1/embeddings']


# --- as a program

def start_server(*words, folder, program=('-m', 'shutka.faces.cli'), env={}):
    "`shutka serve` as a process, and what it printed until it listened."
    process = subprocess.Popen([sys.executable, *program, 'serve', *map(str, words)], cwd=folder, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=os.environ | {'PYTHONUNBUFFERED': '1'} | env)
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith('Memory:'): break
    return process, ''.join(printed)


def find_address(printed: str) -> str:
    "The address that a server told, as soon as it listens there."
    url = printed.split('answers on ')[1].split()[0]
    port = int(url.split(':')[2].split('/')[0])
    assert wait_until(lambda: not socket.socket().connect_ex(('127.0.0.1', port)))
    return url


def test_shutka_serve(tmp_path):
    path = make_bundle(tmp_path/'my.zip', memories=True)
    process, printed = start_server(path, '--port', 0, '--name', 'mine', folder=tmp_path)
    try:
        assert 'provider: openai' in printed and '"vendor": "customendpoint"' in printed and 'Cursor' in printed
        assert f'3 memories in {tmp_path/"my.memory"}' in printed
        url = find_address(printed)
        question = {'model': 'mine', 'messages': ASK, 'max_tokens': 2}
        answer = httpx.post(f'{url}/chat/completions', json=question, timeout=20).json()
        assert answer['model'] == 'mine' and len(answer['x_shutka']['memories']) == 1   # as many as in its training
        httpx.post(f'{url}/memory', json={'texts': 'const kept = 1'})
        endless = {'messages': ASK, 'max_tokens': ENDLESS, 'stream': True}
        with httpx.stream('POST', f'{url}/chat/completions', json=endless) as response:
            next(lines := response.iter_lines())
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0 and lines   # the answer would take far longer
    finally: process.kill()
    with Bank(tmp_path/'my.memory', readonly=True) as bank: assert len(bank) == 4   # what was added stays


def test_another_user_serves_it_in_another_folder(tmp_path):
    if os.getuid() != 0: pytest.skip('only root can become another user')
    made, there = make_bundle(tmp_path/'my.zip', memories=True), Path(tempfile.mkdtemp())
    shutil.copy(made, there/'theirs.zip')
    for place in (there, there/'theirs.zip'): os.chown(place, NOBODY, NOBODY)
    process, printed = start_server('theirs.zip', '--port', 0, folder=there, program=[str(HERE/'as_nobody.py')],
                                    env={'HOME': str(there), 'WARM': str(made)})
    try:
        url = find_address(printed)
        question = {'messages': ASK, 'max_tokens': 2}
        answer = httpx.post(f'{url}/chat/completions', json=question, timeout=20).json()
        assert answer['usage']['completion_tokens'] and len(answer['x_shutka']['memories']) == 1
        process.terminate()
        assert process.wait(10) == 0
        files = [file for file in there.rglob('*') if file.name != 'theirs.zip']
        assert files and {file.stat().st_uid for file in files} == {NOBODY}
    finally:
        process.kill()
        shutil.rmtree(there)


@pytest.mark.parametrize('words, error', [
    (['--host', '0.0.0.0'], 'must have a key'),
    (['--api-key', ''], 'must not be empty'),
    (['--api-key', '', '--host', '0.0.0.0'], 'must not be empty'),
    (['--api-key', 'a b'], 'printable ASCII'),
    (['--port', '1', '--host', '203.0.113.1', '--api-key', 'a'], 'must be free'),
])
def test_shutka_serve_refuses(tmp_path, words, error):
    (tmp_path/'my.zip').write_text('')
    env = {name: value for name, value in os.environ.items() if name != 'SHUTKA_API_KEY'}
    ran = subprocess.run([sys.executable, '-m', 'shutka.faces.cli', 'serve', 'my.zip', *words], cwd=tmp_path, env=env,
                         capture_output=True, text=True)
    assert ran.returncode == 2 and error in ran.stderr


def test_an_empty_variable_is_no_key(tmp_path):
    (tmp_path/'my.zip').write_text('')
    ran = subprocess.run([sys.executable, '-m', 'shutka.faces.cli', 'serve', 'my.zip'], cwd=tmp_path,
                         env=os.environ | {'SHUTKA_API_KEY': ''}, capture_output=True, text=True)
    assert ran.returncode == 2 and 'must not be empty' in ran.stderr


def test_the_command_line_writes_to_a_bank_that_is_served(tmp_path):
    path = make_bundle(tmp_path/'my.zip', memories=True)
    process, printed = start_server(path, '--port', 0, folder=tmp_path)
    try:
        url = find_address(printed)
        words = ['memory', 'add', 'const quicksort = partition', '--bank', 'my.memory', '--model', 'my.zip']
        ran = subprocess.run([sys.executable, '-m', 'shutka.faces.cli', *words], cwd=tmp_path, capture_output=True,
                             text=True)
        assert ran.returncode == 0, ran.stderr
        found = httpx.get(f'{url}/memory/search', params={'query': 'quicksort', 'k': 1}, timeout=20).json()['data']
        assert found[0]['text'] == 'const quicksort = partition'
        assert 'edit' not in printed.split('roles: ')[1].split(']')[0]
    finally:
        process.kill()
        process.wait()

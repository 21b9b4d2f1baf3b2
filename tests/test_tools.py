"Tools and JSON schemas over HTTP, with the client of OpenAI: what comes back is valid, whatever the model is."
import json
import time

import pytest
from serving import save_gpt, serve_app

pytest.importorskip('llguidance')

from shutka.serve.api import make_app  # noqa: E402
from shutka.serve.seats import open_seat  # noqa: E402
from shutka.serve.service import Service  # noqa: E402

ADD = {'type': 'function', 'function': {'name': 'add', 'description': 'Add.', 'strict': True, 'parameters': {
    'type': 'object', 'properties': {'a': {'type': 'integer', 'minimum': 0, 'maximum': 9}, 'sure': {'type': 'boolean'}},
    'required': ['a', 'sure'], 'additionalProperties': False}}}
NOW = {'type': 'function', 'function': {'name': 'now', 'parameters': {
    'type': 'object', 'properties': {}, 'additionalProperties': False}}}
# as pydantic writes a model with a list of models and a choice: `$defs`, `title`, `anyOf` with null
PYDANTIC = {'title': 'Plan', 'type': 'object', 'additionalProperties': False, 'required': ['kind', 'steps', 'note'],
            'properties': {'kind': {'enum': ['a', 'b'], 'title': 'Kind', 'type': 'string'},
                           'steps': {'items': {'$ref': '#/$defs/Step'}, 'maxItems': 2, 'type': 'array'},
                           'note': {'anyOf': [{'type': 'boolean'}, {'type': 'null'}]}},
            '$defs': {'Step': {'type': 'object', 'additionalProperties': False, 'required': ['done'],
                               'properties': {'done': {'type': 'boolean'}}}}}
ASKED = dict(model='shutka-v2', messages=[{'role': 'user', 'content': 'Add.'}], temperature=1, seed=1, max_tokens=120)


@pytest.fixture(scope='module')
def url(tmp_path_factory):
    "A tiny GPT-2 with room for what it is told about tools."
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    folder = tmp_path_factory.mktemp('gpt')
    save_gpt(folder)
    torch.manual_seed(0)
    size = json.loads((folder/'config.json').read_text())['vocab_size']
    GPT2LMHeadModel(GPT2Config(vocab_size=size, n_positions=3000, n_embd=16, n_layer=2, n_head=2, eos_token_id=256,
                               bos_token_id=256)).save_pretrained(folder)
    service = Service(open_seat(folder)[0])
    with serve_app(make_app(service, None, [])) as address: yield address
    service.close()


@pytest.fixture
def client(url):
    from openai import OpenAI
    return OpenAI(base_url=f'{url}/v1', api_key='none', max_retries=0)


def check_add(arguments: str):
    given = json.loads(arguments)
    assert set(given) == {'a', 'sure'} and 0 <= given['a'] <= 9 and isinstance(given['sure'], bool)


@pytest.mark.parametrize('choice', ['required', {'type': 'function', 'function': {'name': 'add'}}])
def test_a_tool_that_must_be_called(client, choice):
    for seed in range(3):
        asked = ASKED | {'seed': seed}
        [choice_] = client.chat.completions.create(**asked, tools=[ADD], tool_choice=choice).choices
        [call] = choice_.message.tool_calls
        assert (call.function.name, call.type, choice_.finish_reason) == ('add', 'function', 'tool_calls')
        assert choice_.message.content is None and call.id
        check_add(call.function.arguments)


def test_a_call_as_a_stream(client):
    chunks = list(client.chat.completions.create(**ASKED, tools=[ADD, NOW], tool_choice='required', stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    told = [call for delta in deltas for call in delta.tool_calls or []]
    assert told[0].id and told[0].function.name in ('add', 'now') and {call.index for call in told} == {0}
    pieces = 2 if told[0].function.name == 'add' else 1   # `now` takes nothing, and `{}` is one token
    assert all(call.function.name is None for call in told[1:]) and len(told) > pieces
    arguments = ''.join(call.function.arguments for call in told)
    check_add(arguments) if told[0].function.name == 'add' else json.loads(arguments)
    assert chunks[-1].choices[0].finish_reason == 'tool_calls' and not any(delta.content for delta in deltas)


def test_free_to_call(client):
    [choice] = client.chat.completions.create(**ASKED | {'max_tokens': 12}, tools=[ADD]).choices
    assert choice.message.content is not None or choice.message.tool_calls
    [choice] = client.chat.completions.create(**ASKED | {'max_tokens': 12}, tools=[ADD], tool_choice='none').choices
    assert choice.message.tool_calls is None


def test_json_of_a_schema(client):
    form = {'type': 'json_schema', 'json_schema': {'name': 'Plan', 'strict': True, 'schema': PYDANTIC}}
    answer = client.chat.completions.create(**ASKED, response_format=form, n=4)
    for choice in answer.choices:
        plan = json.loads(choice.message.content)
        assert set(plan) == {'kind', 'steps', 'note'} and plan['kind'] in ('a', 'b') and len(plan['steps']) <= 2
        assert all(set(step) == {'done'} for step in plan['steps']) and choice.finish_reason == 'stop'
    chunks = client.chat.completions.create(**ASKED, response_format=form, stream=True)
    json.loads(''.join(chunk.choices[0].delta.content or '' for chunk in chunks))


def test_a_conversation_with_calls_goes_on(client):
    call = {'id': 'call_1', 'type': 'function', 'function': {'name': 'add', 'arguments': '{"a": 1, "sure": true}'}}
    messages = [*ASKED['messages'], {'role': 'assistant', 'content': None, 'tool_calls': [call]},
                {'role': 'tool', 'tool_call_id': 'call_1', 'content': '2'}]
    answer = client.chat.completions.create(**ASKED | {'messages': messages, 'max_tokens': 3}, tools=[ADD])
    assert answer.usage.completion_tokens <= 3


def nest(n: int) -> dict:
    schema = {'type': 'object'}
    for _ in range(n): schema = {'type': 'object', 'properties': {'a': schema}, 'required': ['a']}
    return schema


@pytest.mark.parametrize('schema, told', [
    (nest(40), 'levels'), ({'enum': [f'word{i}' for i in range(20_000)]}, 'at most 65,536 characters'),
    ({'type': 'tuple'}, 'followed token by token'), ({'$ref': 'http://elsewhere/schema'}, 'followed token by token'),
    ({'type': 'string', 'pattern': '(a|b)(?=c)'}, 'followed token by token'),
    ({'type': 'string', 'pattern': '(([a-z]{1,400}){1,400}){1,400}'}, None),
    ({'$ref': '#'}, None), ({'allOf': [{'anyOf': [{'type': 'integer', 'minimum': i * j} for i in range(30)]}
                                       for j in range(30)]}, None),
])
def test_a_hostile_schema_is_one_sentence_in_time(client, schema, told):
    from openai import BadRequestError
    form = {'type': 'json_schema', 'json_schema': {'name': 'a', 'schema': schema}}
    began = time.monotonic()
    try: client.chat.completions.create(**ASKED | {'max_tokens': 2}, response_format=form)
    except BadRequestError as e: assert '\n' not in e.body['message'] and (told is None or told in e.body['message'])
    else: assert told is None
    assert time.monotonic() - began < 15


@pytest.mark.parametrize('more, told', [
    ({'tools': [{'type': 'function', 'function': {'name': 'a b'}}]}, 'tools: 0.function.name'),
    ({'tools': [ADD, ADD]}, 'different names'), ({'tools': [ADD] * 65}, 'tools'),
    ({'tool_choice': 'required'}, 'needs tools'),
    ({'tools': [ADD], 'tool_choice': {'type': 'function', 'function': {'name': 'other'}}}, "got 'other'"),
    ({'response_format': {'type': 'json_schema'}}, 'json_schema with a schema'),
    ({'response_format': {'type': 'xml'}}, 'must be'),
])
def test_refused(client, more, told):
    from openai import BadRequestError
    with pytest.raises(BadRequestError) as caught: client.chat.completions.create(**ASKED, **more)
    assert told in caught.value.body['message']

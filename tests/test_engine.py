"The engine: many streams write what each would write alone, whoever joins, leaves or fails meanwhile."
import queue
import random
import threading

import pytest
import torch
from serving import make_model, make_seat, save_gpt

from shutka.core.errors import UserError
from shutka.models.decoder import Sampling, generate_tokens
from shutka.serve.engine import Engine, EngineBusy, Job, StopFilter
from shutka.serve.prompts import PromptTooLong
from shutka.serve.seats import open_seat


class Caught:
    "Hears what an engine tells."
    def __init__(self, engine, *jobs):
        self.heard, self.n = queue.Queue(), len(jobs)
        self.streams = engine.submit(jobs, lambda i, piece: self.heard.put((i, piece)))

    def texts(self, seconds=30):
        "The texts, and why each ended."
        texts, ends = [''] * self.n, [None] * self.n
        while None in ends:
            i, piece = self.heard.get(timeout=seconds)
            texts[i], ends[i] = texts[i] + piece.text, piece.end
        return texts, ends


@pytest.fixture(scope='module')
def seat(): return make_seat(make_model())


@pytest.fixture
def engine(seat):
    made = Engine(seat)
    yield made
    made.close()


def make_jobs(seat, n):
    "Jobs that differ in everything."
    prompts = [seat.make_chat_prompt([('user', 'sort users by name')], []),
               seat.make_code_prompt('const a = ', None, ['let b = 1']),
               seat.make_code_prompt('function f() {', '}', []),
               seat.make_chat_prompt([('user', 'ü 猫')], ['x'] * 2)]
    samplings = [Sampling(temperature=(0., .5, 1.)[i % 3], top_p=(1., .9)[i % 2]) for i in range(n)]
    stops = [(), ('e',), ('xx', 'a')]
    return [Job(prompt=prompts[i % 4], seed=i, max_tokens=5 + i % 11, sampling=samplings[i], stop=stops[i % 3],
                top=(None, 2)[i % 2]) for i in range(n)]


def test_64_streams_write_what_each_writes_alone(seat, engine):
    jobs = make_jobs(seat, 64)
    together = Caught(engine, *jobs).texts()
    alone = [Caught(engine, job).texts() for job in jobs]
    assert together == ([text for (text,), _ in alone], [end for _, (end,) in alone])


def test_one_stream_is_generate(seat, engine):
    for job in make_jobs(seat, 6):
        job = Job(prompt=job.prompt, seed=job.seed, max_tokens=20, sampling=job.sampling)
        with torch.no_grad(): told = seat.model.condition(torch.tensor([job.prompt.words or (0,)])).double()
        ids = list(generate_tokens(seat.model.decoder, list(job.prompt.ids), told, 20, job.sampling, job.seed))
        assert Caught(engine, job).texts()[0] == [seat.layout.encoding.decode(ids)]


def test_streams_that_come_and_go_change_no_other(seat, engine):
    jobs = make_jobs(seat, 12)
    expected = [Caught(engine, job).texts() for job in jobs]
    noise = [Caught(engine, Job(prompt=jobs[0].prompt, max_tokens=2000)) for _ in range(8)]
    caught = []
    for i, job in enumerate(jobs):
        caught.append(Caught(engine, job))
        if i < len(noise): engine.cancel(noise[i].streams)
    assert [c.texts() for c in caught] == expected


def test_a_cancelled_stream_leaves_at_the_next_step(seat):
    engine = Engine(seat, slots=1, queue_size=1)
    endless = Caught(engine, Job(prompt=seat.make_code_prompt('a', None, []), max_tokens=10**6))
    waiting = Caught(engine, Job(prompt=seat.make_code_prompt('b', None, []), max_tokens=3))
    endless.heard.get(timeout=5)
    with pytest.raises(EngineBusy): Caught(engine, Job(prompt=seat.make_code_prompt('c', None, [])))
    engine.cancel(endless.streams)
    assert waiting.texts(5)[1] == ['length']
    engine.close()


def test_all_or_none_of_some_jobs_are_taken(seat):
    engine = Engine(seat, slots=2, queue_size=1)
    job = Job(prompt=seat.make_code_prompt('a', None, []), max_tokens=10**6)
    with pytest.raises(EngineBusy): Caught(engine, *[job] * 4)
    assert engine.count_streams() == 0
    engine.close()


def test_closing_tells_everyone(seat):
    engine = Engine(seat, slots=1)
    caught = [Caught(engine, Job(prompt=seat.make_code_prompt('a', None, []), max_tokens=10**6)) for _ in range(3)]
    caught[0].heard.get(timeout=5)
    engine.close()
    assert [c.texts(5)[1] for c in caught] == [['error']] * 3
    assert not engine.thread.is_alive()


def test_a_failing_step_ends_its_streams_and_no_more(seat, monkeypatch, caplog):
    engine, proceed, fail = Engine(seat), seat.proceed, threading.Event()

    def sometimes(tokens, states):
        if fail.is_set(): raise RuntimeError('no memory left')
        return proceed(tokens, states)
    monkeypatch.setattr(seat, 'proceed', sometimes)
    caught = Caught(engine, *[Job(prompt=seat.make_code_prompt('a', None, []), max_tokens=10**6)] * 2)
    caught.heard.get(timeout=5)
    fail.set()
    assert caught.texts(5)[1] == ['error'] * 2
    fail.clear()
    assert Caught(engine, Job(prompt=seat.make_code_prompt('a', None, []), max_tokens=3)).texts(5)[1] == ['length']
    assert 'no memory left' in caplog.text
    engine.close()


def test_stop_texts_do_not_depend_on_borders():
    draw = random.Random(0)
    for _ in range(500):
        text = ''.join(draw.choices('abc', k=30))
        stops = [''.join(draw.choices('abc', k=draw.randint(1, 4))) for _ in range(draw.randint(1, 4))]
        ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
        expected = text[:min(ends)[1]] if ends else text
        stop_filter, shown, at, hit = StopFilter(stops), '', 0, False
        while at < len(text) and not hit:
            step = draw.randint(1, 5)
            new, hit = stop_filter.feed(text[at:at + step])
            shown, at = shown + new, at + step
            assert expected.startswith(shown)
        assert shown + ('' if hit else stop_filter.finish()) == expected


def test_tokens_are_told_for_all_that_is_shown_and_nothing_else(seat, engine):
    prompt = seat.make_code_prompt('const a = ', None, [])
    job = Job(prompt=prompt, seed=3, max_tokens=40, sampling=Sampling(temperature=1.), top=3)
    for stop in ((), ('a',), ('tio', 'ent')):
        caught = Caught(engine, Job(**{**vars(job), 'stop': stop}))
        told, shown = b'', ''
        while True:
            _, piece = caught.heard.get(timeout=5)
            told, shown = told + b''.join(t.spelled for t in piece.tokens), shown + piece.text
            assert all(len(t.top) == 3 and t.logprob <= t.top[0][1] for t in piece.tokens)
            if piece.end: break
        assert told.decode(errors='replace').startswith(shown)
        if not stop: assert told.decode(errors='replace') == shown


def test_a_causal_model_writes_what_transformers_writes(tmp_path):
    save_gpt(tmp_path)
    seat, content = open_seat(tmp_path)
    assert content == {} and seat.length == 256 and seat.encoder is None
    prompts = [seat.make_chat_prompt([('system', 'Be brief.'), ('user', 'Add numbers.')], ['let sum = 0']),
               seat.make_code_prompt('const é = ', ';', []),
               seat.make_code_prompt('<fim_prefix>a<fim_suffix>b<fim_middle>', None, [])]
    engine = Engine(seat)
    texts, _ = Caught(engine, *(Job(prompt=p, max_tokens=16) for p in prompts)).texts()
    engine.close()
    for prompt, text in zip(prompts, texts):
        row = torch.tensor([prompt.ids])
        mask = torch.ones_like(row)
        ids = seat.model.generate(row, attention_mask=mask, max_new_tokens=16, do_sample=False, pad_token_id=256)
        assert text == seat.tokenizer.decode(ids[0, len(prompt.ids):], skip_special_tokens=True)
    with pytest.raises(PromptTooLong): seat.make_code_prompt('a' * 300, None, [])
    assert seat.tokenizer.decode(prompts[2].ids) == '<fim_prefix>a<fim_suffix>b<fim_middle>'


def test_pickled_weights_are_refused(tmp_path):
    save_gpt(tmp_path)
    (tmp_path/'model.safetensors').rename(tmp_path/'aside')
    torch.save({}, tmp_path/'pytorch_model.bin')
    with pytest.raises(UserError, match='as safetensors, and holds pytorch_model.bin'): open_seat(tmp_path)

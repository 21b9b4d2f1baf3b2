"The engine: many streams write what each would write alone, whoever joins, leaves or fails meanwhile."
import queue
import random
import threading

import pytest
import torch
from serving import gpt, seat_of, tiny

from shutka.core.errors import UserError
from shutka.models.decoder import Sampling, generate
from shutka.serve.engine import Ask, Busy, Engine, Stops
from shutka.serve.seats import TooLong, open_seat


class Caught:
    "Hears what an engine tells."
    def __init__(self, engine, *asks):
        self.heard, self.n = queue.Queue(), len(asks)
        self.streams = engine.submit(asks, lambda i, piece: self.heard.put((i, piece)))

    def texts(self, seconds=30):
        "The texts, and why each ended."
        texts, ends = [''] * self.n, [None] * self.n
        while None in ends:
            i, piece = self.heard.get(timeout=seconds)
            texts[i], ends[i] = texts[i] + piece.text, piece.end
        return texts, ends


@pytest.fixture(scope='module')
def seat(): return seat_of(tiny())


@pytest.fixture
def engine(seat):
    made = Engine(seat)
    yield made
    made.close()


def asks_for(seat, n):
    "Asks that differ in everything."
    prompts = [seat.chat([('user', 'sort users by name')], []), seat.code('const a = ', None, ['let b = 1']), seat.code('function f() {', '}', []), seat.chat([('user', 'ü 猫')], ['x'] * 2)]
    return [Ask(prompt=prompts[i % 4], seed=i, most=5 + i % 11, sampling=Sampling(temperature=(0., .5, 1.)[i % 3], top_p=(1., .9)[i % 2]), stop=((), ('e',), ('xx', 'a'))[i % 3],
                top=(None, 2)[i % 2]) for i in range(n)]


def test_64_streams_write_what_each_writes_alone(seat, engine):
    asks = asks_for(seat, 64)
    together = Caught(engine, *asks).texts()
    alone = [Caught(engine, ask).texts() for ask in asks]
    assert together == ([text for (text,), _ in alone], [end for _, (end,) in alone])


def test_one_stream_is_generate(seat, engine):
    for ask in asks_for(seat, 6):
        ask = Ask(prompt=ask.prompt, seed=ask.seed, most=20, sampling=ask.sampling)
        with torch.no_grad(): told = seat.model.told(torch.tensor([ask.prompt.words or (0,)])).double()
        ids = list(generate(seat.model.decoder, list(ask.prompt.ids), told, 20, ask.sampling, ask.seed))
        assert Caught(engine, ask).texts()[0] == [seat.layout.encoding.decode(ids)]


def test_streams_that_come_and_go_change_no_other(seat, engine):
    asks = asks_for(seat, 12)
    expected = [Caught(engine, ask).texts() for ask in asks]
    noise = [Caught(engine, Ask(prompt=asks[0].prompt, most=2000)) for _ in range(8)]
    caught = []
    for i, ask in enumerate(asks):
        caught.append(Caught(engine, ask))
        if i < len(noise): engine.cancel(noise[i].streams)
    assert [c.texts() for c in caught] == expected


def test_a_cancelled_stream_leaves_at_the_next_step(seat):
    engine = Engine(seat, slots=1, room=1)
    endless = Caught(engine, Ask(prompt=seat.code('a', None, []), most=10**6))
    waiting = Caught(engine, Ask(prompt=seat.code('b', None, []), most=3))
    endless.heard.get(timeout=5)
    with pytest.raises(Busy): Caught(engine, Ask(prompt=seat.code('c', None, [])))
    engine.cancel(endless.streams)
    assert waiting.texts(5)[1] == ['length']
    engine.close()


def test_all_or_none_of_some_asks_are_taken(seat):
    engine = Engine(seat, slots=2, room=1)
    with pytest.raises(Busy): Caught(engine, *[Ask(prompt=seat.code('a', None, []), most=10**6)] * 4)
    assert engine.load() == 0
    engine.close()


def test_closing_tells_everyone(seat):
    engine = Engine(seat, slots=1)
    caught = [Caught(engine, Ask(prompt=seat.code('a', None, []), most=10**6)) for _ in range(3)]
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
    caught = Caught(engine, *[Ask(prompt=seat.code('a', None, []), most=10**6)] * 2)
    caught.heard.get(timeout=5)
    fail.set()
    assert caught.texts(5)[1] == ['error'] * 2
    fail.clear()
    assert Caught(engine, Ask(prompt=seat.code('a', None, []), most=3)).texts(5)[1] == ['length']
    assert 'no memory left' in caplog.text
    engine.close()


def test_stop_texts_do_not_depend_on_borders():
    draw = random.Random(0)
    for _ in range(500):
        text = ''.join(draw.choices('abc', k=30))
        stops = [''.join(draw.choices('abc', k=draw.randint(1, 4))) for _ in range(draw.randint(1, 4))]
        ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
        expected = text[:min(ends)[1]] if ends else text
        guard, shown, at, hit = Stops(stops), '', 0, False
        while at < len(text) and not hit:
            step = draw.randint(1, 5)
            new, hit = guard.feed(text[at:at + step])
            shown, at = shown + new, at + step
            assert expected.startswith(shown)
        assert shown + ('' if hit else guard.finish()) == expected


def test_tokens_are_told_for_all_that_is_shown_and_nothing_else(seat, engine):
    ask = Ask(prompt=seat.code('const a = ', None, []), seed=3, most=40, sampling=Sampling(temperature=1.), top=3)
    for stop in ((), ('a',), ('tio', 'ent')):
        caught, told, shown = Caught(engine, Ask(**{**vars(ask), 'stop': stop})), b'', ''
        while True:
            _, piece = caught.heard.get(timeout=5)
            told, shown = told + b''.join(t.spelled for t in piece.tokens), shown + piece.text
            assert all(len(t.top) == 3 and t.logprob <= t.top[0][1] for t in piece.tokens)
            if piece.end: break
        assert told.decode(errors='replace').startswith(shown)
        if not stop: assert told.decode(errors='replace') == shown


def test_a_causal_model_writes_what_transformers_writes(tmp_path):
    gpt(tmp_path)
    seat, content = open_seat(tmp_path)
    assert content == {} and seat.length == 256 and seat.encoder is None
    prompts = [seat.chat([('system', 'Be brief.'), ('user', 'Add numbers.')], ['let sum = 0']), seat.code('const é = ', ';', []), seat.code('<fim_prefix>a<fim_suffix>b<fim_middle>', None, [])]
    engine = Engine(seat)
    texts, _ = Caught(engine, *(Ask(prompt=p, most=16) for p in prompts)).texts()
    engine.close()
    for prompt, text in zip(prompts, texts):
        ids = seat.model.generate(torch.tensor([prompt.ids]), attention_mask=torch.ones(1, len(prompt.ids), dtype=torch.long), max_new_tokens=16, do_sample=False, pad_token_id=256)
        assert text == seat.tokenizer.decode(ids[0, len(prompt.ids):], skip_special_tokens=True)
    with pytest.raises(TooLong): seat.code('a' * 300, None, [])
    assert seat.tokenizer.decode(prompts[2].ids) == '<fim_prefix>a<fim_suffix>b<fim_middle>'


def test_pickled_weights_are_refused(tmp_path):
    gpt(tmp_path)
    (tmp_path/'model.safetensors').rename(tmp_path/'aside')
    torch.save({}, tmp_path/'pytorch_model.bin')
    with pytest.raises(UserError, match='causal model'): open_seat(tmp_path)

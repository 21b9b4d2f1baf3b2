"Short questions about the bundled corpus: the data, and how a memory's answers are counted."
from collections import Counter

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.core.files import write_jsonl
from shutka.data.pairs import Report, collect_pairs
from shutka.evaluate.questions import (
    BUNDLED_QUESTIONS,
    Question,
    evaluate_bundled_questions,
    evaluate_questions,
    evaluate_questions_of_source,
    find_answers,
    rank_answers,
    read_questions,
)
from shutka.memory.bank import Bank
from shutka.text.words import split_words

SMALL_WORDS = set(split_words('''
    a an and are as at be by do does for from how i if in into is it my no not now of on or out than that the there this
    to was what when where which who with'''))


@pytest.fixture(scope='module')
def corpus():
    pairs = collect_pairs('bundled:typescript', Report())
    return {f"{p['package']}/{p['path']}#{p['name']}": p for p in pairs}


def test_every_answer_is_documented_code_of_the_corpus(corpus):
    answers = [answer for question in read_questions() for answer in question.answers]
    assert not [answer for answer in answers if answer not in corpus or not corpus[answer]['doc']]


def test_questions_are_short_distinct_and_in_other_words_than_the_comments(corpus):
    questions = read_questions()
    assert len(questions) >= 130 and len({q.question for q in questions}) == len(questions)
    assert all(len(q.question.split()) <= 12 for q in questions)
    assert Counter(q.part for q in questions) == {'validation': len(questions) // 2, 'test': len(questions) // 2}
    shared, asked = 0, 0
    for question in questions:
        words = set(split_words(question.question)) - SMALL_WORDS
        docs = [words & set(split_words(corpus[answer]['doc'])) for answer in question.answers]
        shared, asked = shared + min(map(len, docs)), asked + len(words)
    assert shared < .3 * asked   # of the words that say something


def test_the_parts_have_all_questions():
    both = [question for part in ('validation', 'test') for question in read_questions(part=part)]
    assert {q.question for q in both} == {q.question for q in read_questions()} and len(both) == len(read_questions())


def test_the_place_of_the_first_right_answer_counts(tmp_path):
    codes = [f'const f{i} = () => apple(banana{" apple" * i})' for i in range(4)]
    with Bank(tmp_path/'bank') as bank:
        ids = bank.add(codes, [{'path': f'deep/{i}.ts', 'name': f'f{i}'} for i in range(4)])
        order = [hit.id for hit in bank.search('apple', how='words')]
        names = [f'{ids.index(i)}.ts#f{ids.index(i)}' for i in order]
        for place in range(4):
            asked = Question(question='apple', answers=tuple(names[place:]))
            assert rank_answers(bank, [asked], 'words').argmax() == place
            assert find_answers(bank, asked) == set(order[place:])
        nothing = Question(question='cherry', answers=(names[0],))
        assert not rank_answers(bank, [nothing], 'words').any()
        rows = evaluate_questions(bank, [Question(question='apple', answers=(names[1],)), nothing])
        assert [row['method'] for row in rows] == ['chance', 'words only']
        assert rows[1]['mrr'] == .25 and rows[1]['pool'] == 'natural questions (2)' and rows[1]['candidates'] == 4


def test_a_path_must_match_by_whole_names(tmp_path):
    with Bank(tmp_path/'bank') as bank:
        bank.add(['const a = () => 1'], {'path': 'src/nota.ts', 'name': 'a'})
        for answer in ('a.ts#a', 'src/nota.ts#b', 'other/nota.ts#a'):
            with pytest.raises(UserError, match='the memory must hold an answer'):
                find_answers(bank, Question(question='one', answers=(answer,)))
        assert len(find_answers(bank, Question(question='one', answers=('other.ts#a', 'nota.ts#a')))) == 1


class Random:
    "An encoder that knows nothing."
    fingerprint = 'random'
    def encode(self, texts, side='code'): return np.random.default_rng(len(texts)).normal(size=(len(texts), 16))


def test_an_encoder_that_knows_nothing_is_near_chance_and_words_are_not():
    found, fusion = evaluate_bundled_questions(Random())
    rows = {row['method']: row for row in found}
    assert list(rows) == ['chance', 'words only', 'dense', 'hybrid', 'hybrid, chosen weights']
    assert rows['dense']['mrr'] < .1 < .2 < rows['words only']['mrr']
    assert rows['chance']['candidates'] > 1_000 and rows['chance']['pool'] == 'natural questions (95)'
    # the weight was chosen by other questions: it is not below the better side there, nor much below it here
    assert {kind: one['questions'] for kind, one in fusion.items()} == {'short': 72, 'long': 23}
    for one in fusion.values(): assert one['mrr'] >= max(one['alone'].values()) - .01
    assert found[-1]['mrr'] > rows['words only']['mrr'] - .05


def test_questions_about_a_source_of_ones_own(tmp_path):
    (tmp_path/'src').mkdir()
    (tmp_path/'src'/'a.ts').write_text(''.join(
        f'/** Makes the {word} thing. */\nexport function f{n}(a: number) {{ return a + {n} }}\n'
        for n, word in enumerate(('red', 'green', 'blue', 'grey'))))
    rows = [{'question': word, 'answers': [f'a.ts#f{n}'], 'part': part}
            for n, (word, part) in enumerate((('red', 'validation'), ('green', 'test'), ('blue', 'test')))]
    write_jsonl(tmp_path/'q.jsonl', rows)
    found = evaluate_questions_of_source(Random(), f"dir:{tmp_path/'src'}", tmp_path/'q.jsonl')
    assert [row['method'] for row in found] == ['chance', 'words only', 'dense', 'hybrid']
    assert found[1]['mrr'] == 1 and found[1]['pool'] == 'natural questions (2)'
    write_jsonl(tmp_path/'q.jsonl', [*rows, {'question': 'grey', 'answers': ['b.ts#f3']}])
    with pytest.raises(UserError, match="an answer to 'grey'"):
        evaluate_questions_of_source(Random(), f"dir:{tmp_path/'src'}", tmp_path/'q.jsonl')
    write_jsonl(tmp_path/'q.jsonl', rows[:1])
    with pytest.raises(UserError, match='must hold questions of the part test'):
        evaluate_questions_of_source(Random(), f"dir:{tmp_path/'src'}", tmp_path/'q.jsonl')


@pytest.mark.parametrize('record, told', [
    ({}, 'question must be a text, got None'), ({'question': 7, 'answers': ['a#b']}, 'question must be a text, got 7'),
    ({'question': 'a'}, 'answers must be a list'), ({'question': 'a', 'answers': 'a#b'}, 'answers must be a list'),
    ({'question': 'a', 'answers': ['b']}, 'answers must be a list'),
    ({'question': 'a', 'answers': ['a#b'], 'part': 'both'}, "part must be validation or test, got 'both'"),
    ({'question': 'a', 'answers': ['a#b'], 'note': ''}, "no field 'note'")])
def test_files_that_hold_no_questions(record, told, tmp_path):
    write_jsonl(tmp_path/'q.jsonl', [{'question': 'a', 'answers': ['a#b']}, record])
    with pytest.raises(UserError, match=f'q.jsonl:2: .*{told}'): read_questions(tmp_path/'q.jsonl')


def test_a_file_without_questions(tmp_path):
    (tmp_path/'q.jsonl').write_text('')
    with pytest.raises(UserError, match='must hold questions, and has none'): read_questions(tmp_path/'q.jsonl')
    write_jsonl(tmp_path/'q.jsonl', [{'question': 'a', 'answers': ['a#b']}])
    with pytest.raises(UserError, match='of the part validation'): read_questions(tmp_path/'q.jsonl', 'validation')
    assert BUNDLED_QUESTIONS.is_file()

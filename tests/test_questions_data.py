"Questions about packages from npm, written by hand, and the words that programmers use for the same thing."
import json
import shutil
from pathlib import Path

import pytest

from shutka.evaluate.questions import BUNDLED_QUESTIONS, read_questions
from shutka.memory.snippets import collect_snippets

FILES = sorted((Path(__file__).parent/'questions').glob('*.jsonl'))   # NAME@VERSION.jsonl, each / of a name as +
SYNONYMS = BUNDLED_QUESTIONS.with_name('synonyms.json')


def list_answers(source):
    "What a bank of a source could answer with, as 'path#name'."
    return {f"{metadata['path']}#{metadata['name']}" for _, metadata in collect_snippets(source)}


def test_a_package_is_wholly_of_one_part():
    parts = [{question.part for question in read_questions(path)} for path in FILES]
    assert len(FILES) >= 7 and all(len(part) == 1 for part in parts)
    assert all(len(read_questions(path)) >= 16 for path in FILES)
    counts = {part: sum(len(read_questions(path)) for path, its in zip(FILES, parts) if its == {part})
              for part in ('validation', 'test')}
    assert sum(counts.values()) >= 130 and max(counts.values()) < 1.2 * min(counts.values())


def test_no_question_is_asked_twice():
    asked = [' '.join(question.question.lower().split()) for path in [BUNDLED_QUESTIONS, *FILES]
             for question in read_questions(path)]
    assert len(set(asked)) == len(asked)
    assert all(len(question.question.split()) <= 9 for path in FILES for question in read_questions(path))


def test_answers_about_the_bundled_corpus_are_in_a_bank_of_it():
    there = list_answers(f"dir:{BUNDLED_QUESTIONS.with_name('typescript')}")
    assert not [answer for question in read_questions() for answer in question.answers if answer not in there]


@pytest.mark.net
@pytest.mark.skipif(shutil.which('npm') is None, reason='npm is not installed')
@pytest.mark.parametrize('name', ['ufo@1.6.4', 'cheerio@1.2.0'])   # a small one of each part
def test_answers_about_a_package_are_in_a_bank_of_it(name):
    [path] = [path for path in FILES if path.stem.replace('+', '/') == name]
    there = list_answers(f'npm:{name}')
    assert not [answer for question in read_questions(path) for answer in question.answers if answer not in there]


def test_a_word_is_in_one_group_of_synonyms():
    groups = json.loads(SYNONYMS.read_text())
    words = [word for group in groups for word in group]
    assert len(groups) >= 120 and all(len(group) > 1 for group in groups)
    assert len(set(words)) == len(words) and all(word.isascii() and word.isalpha() and word.islower() for word in words)

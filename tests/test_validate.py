"""`shutka validate`: each kind of fault is found where it was planted, and none where there is none."""
import json

import pytest

from shutka.core.errors import UserError
from shutka.faces.cli import run_command
from shutka.generate.cypher import generate_cypher
from shutka.generate.engines import has_engine
from shutka.generate.faults import LONGEST_LINE, Limits
from shutka.generate.query_checks import make_query_check
from shutka.generate.validation import FAULT_KINDS, NOTE_KINDS, describe_validation, validate_rows, write_validation

GOOD = [{'instruction': f'Which {thing} is number {number}?', 'output': f'The {thing} of the {number}th shelf.',
         'category': thing} for thing in ('book', 'plate', 'candle') for number in range(8)]


def write(path, rows, end=b'\n'):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b'\n'.join(lines) + end)
    return path


def find_faults(path, **options) -> dict[str, int]:
    "How often each kind of fault was found; notes are left out."
    found = validate_rows(path, **options).found
    return {kind: finding.count for kind, finding in found.items() if kind in FAULT_KINDS}


def chat(*turns): return {'category': 'book', 'messages': [{'role': role, 'content': text} for role, text in turns]}


def answer(text, question='Why is it so, and not otherwise?'):
    return {'instruction': question, 'output': text, 'category': 'book'}


PLANTED = {
    'not UTF-8': [b'{"text": "caf\xe9"}'],
    'not JSON': [b'{"text": "a",}', b'{"text": NaN}', b'nothing', b'[' * 100_000],
    'not an object': [b'["a"]', b'7'],
    'empty line': [b'', b'  '],
    'line too long': [b'{"text": "' + b'a' * LONGEST_LINE + b'"}'],
    'repeated field': [b'{"text": "one", "text": "two"}'],
    'unknown form': [{'question': 'Why?', 'reply': 'So.'}, {}],
    'unknown field': [{'instruction': 'Add.', 'imput': '1, 2', 'output': '3'}],
    'missing field': [{'instruction': 'Add.'}, {'prefix': 'a', 'middle': 'b'}],
    'wrong type': [{'text': 7}, {'messages': []}, {'messages': 'Hi'}, {'instruction': 'Add.', 'output': ['3']}],
    'empty field': [answer(''), answer(' \n'), chat(('user', 'Hi'), ('assistant', ''))],
    'unknown role': [chat(('user', 'Hi'), ('bot', 'Hello!'))],
    'no answer': [chat(('assistant', 'Hello!'), ('user', 'Hi'))],
    'no question': [chat(('system', 'Be kind.'), ('assistant', 'Hello to everybody!'))],
    'bad record': [{'kind': 'pair', 'doc': 'Adds.'}],
    'broken characters': [answer('Ein CafÃ© am Platz.'), answer('Itâ€™s a plate.'), answer('A \ufffd stands here.'),
                          b'{"instruction": "Which half?", "output": "half \\ud83d of it"}'],
    'control character': [answer('red \x1b[31mplates\x1b[0m'), answer('a\x00b'), answer('a bell \x07')],
    'special token': [answer('Because.<|im_end|>'), answer('</s>'), answer('[INST] now'), answer('A<|endoftext|>B'),
                      answer('Because.', '<start_of_turn>user')],
    'secret': [answer('My key is AKIAIOSFODNN7REALKEY.'), answer('Write to jane.roe@acme-corp.io.')],
    'open fence': [answer('So:\n```python\nx = 1\n')],
    'placeholder': [answer('TODO'), answer('...'), answer('Lorem ipsum dolor'), answer('f()  # your code here'),
                    answer('As an AI language model, I cannot.')],
    'repetition': [answer('the same line again\n' * 20), answer('a plate and a candle, ' * 30)],
    'answer repeats question': [answer('why is it so, and  not otherwise?')],
    'does not parse': [answer('```python\ndef f(:\n```'), answer('```ts\nconst = 1\n```'), answer('```go\nfunc {\n```'),
                       answer('```java\nclass {\n```'), answer('```rust\nfn (\n```'), answer('```js\nlet 1 = a\n```'),
                       answer('```json\n{a: 1}\n```')],
    'duplicate': [GOOD[3]],
    'duplicate but for layout': [GOOD[3] | {'output': GOOD[3]['output'].upper()}, answer('x') | GOOD[5] | {
        'instruction': GOOD[5]['instruction'].replace(' ', '  ')}],
    'contradiction': [GOOD[3] | {'output': 'Nobody knows.'}],
    'contradiction but for layout': [GOOD[3] | {'instruction': GOOD[3]['instruction'].lower(), 'output': 'A secret.'}],
    'no category': [{'instruction': 'Which spoon is it?', 'output': 'The large one.'}],
}


def test_a_clean_file_has_no_fault(tmp_path):
    report = validate_rows(write(tmp_path/'good.jsonl', GOOD))
    assert report.passed and report.rows == 24 and report.categories == dict.fromkeys(('book', 'plate', 'candle'), 8)


@pytest.mark.parametrize('kind, row', [(kind, row) for kind, rows in PLANTED.items() for row in rows],
                         ids=lambda value: value if isinstance(value, str) else '')
def test_a_planted_fault_is_found_with_its_line(tmp_path, kind, row):
    path = write(tmp_path/'bad.jsonl', [*GOOD[:20], row, *GOOD[20:]])
    report = validate_rows(path)
    faults = {name: finding for name, finding in report.found.items() if name in FAULT_KINDS}
    # a row that is found out for one reason may well be odd in another way
    assert kind in faults and set(faults) <= {kind, 'no category'}, faults
    assert faults[kind].count == 1 and faults[kind].examples[0][0] == 21
    assert not report.passed and f'fault: {kind}, once' in describe_validation(report)


def test_at_least_25_kinds_are_planted(): assert len(PLANTED) >= 25 and set(PLANTED) <= set(FAULT_KINDS)


def test_a_file_that_was_cut_off(tmp_path):
    assert find_faults(write(tmp_path/'cut.jsonl', [*GOOD, b'{"instruction": "Whi'], end=b'')) == {'cut off': 1}
    assert find_faults(write(tmp_path/'whole.jsonl', GOOD, end=b'')) == {}   # only the last line feed is missing


@pytest.mark.parametrize('content', [b'', b'\n', b'[]'])
def test_a_file_without_rows(tmp_path, content):
    (tmp_path/'none.jsonl').write_bytes(content)
    assert 'no rows' in find_faults(tmp_path/'none.jsonl')


def test_a_fence_inside_a_longer_one_is_closed(tmp_path):
    row = answer('````python\ntext = \"\"\"\n```\n\"\"\"\n````')
    assert find_faults(write(tmp_path/'fences.jsonl', [*GOOD, row])) == {}


def test_lines_of_a_training_set_that_are_no_examples_are_told(tmp_path):
    train = write(tmp_path/'train.jsonl', [*GOOD, b'nothing', {'text': 7}])
    report = validate_rows(write(tmp_path/'mine.jsonl', [answer('Fresh.')]), against=train)
    assert report.unchecked == ['2 lines of the training set, which are no examples']


def test_lengths(tmp_path):
    path = write(tmp_path/'data.jsonl', [answer('No.'), answer('Because it is, as it always was.', 'Why, how long?')])
    assert find_faults(path, limits=Limits(shortest=4)) == {'too short': 1}
    assert find_faults(path, limits=Limits(longest=45)) == {'too long': 1}
    with pytest.raises(UserError, match='shortest must be from 1 to longest'): Limits(shortest=9, longest=8)


def test_answers_without_fences_are_code_if_that_is_said(tmp_path):
    path = write(tmp_path/'code.jsonl', [answer('const f = (x: number) => x')])
    assert find_faults(path) == {} == find_faults(path, limits=Limits(language='typescript'))
    assert find_faults(path, limits=Limits(language='python')) == {'does not parse': 1}
    with pytest.raises(UserError, match="language must be one of .*'cobol'"): Limits(language='cobol')


def test_leaks_of_a_training_set(tmp_path):
    train = write(tmp_path/'train.jsonl', GOOD)
    near = answer('All plates of the house stand in the kitchen, behind the door. ' * 3, 'Where are the plates now?')
    mine = [GOOD[2] | {'output': GOOD[2]['output'].upper()}, GOOD[4] | {'output': 'Another one.'}, answer('Fresh.')]
    found = find_faults(write(tmp_path/'mine.jsonl', mine), against=train)
    assert found == {'training row': 1, 'training question': 1}
    write(train, [*GOOD, near])
    copy = near | {'instruction': 'Where are all the plates?'}
    found = find_faults(write(tmp_path/'mine.jsonl', [copy, answer('Fresh.')]), against=train)
    assert found == {'near training row': 1}
    with pytest.raises(UserError, match='no.jsonl must be a JSON-lines file'):
        validate_rows(train, against=tmp_path/'no.jsonl')


def test_what_the_suites_ask_is_found(tmp_path):
    from shutka.evaluate.tasks import SUITES, read_suite
    task = read_suite(next(iter(SUITES)))[0]
    row = {'instruction': task.prompt, 'output': f'```typescript\n{task.reference}\n```', 'category': 'book'}
    assert find_faults(write(tmp_path/'data.jsonl', [*GOOD, row])) == {'asked by the suites': 1}


def test_notes_are_no_faults(tmp_path):
    many = [answer('The same for all of them.', f'Which way goes number {i}?') for i in range(12)]
    report = validate_rows(write(tmp_path/'data.jsonl', [*many, {'text': 'A page of a handbook.', 'category': 'page'}]))
    assert report.passed and {'one answer for many', 'several forms'} <= set(report.found) <= set(NOTE_KINDS)


def test_generated_rows_have_no_fault(tmp_path):
    path = write(tmp_path/'cypher.jsonl', generate_cypher(1_000, seed=5))
    report = validate_rows(path, Limits(language='cypher'))
    assert report.passed and report.unchecked == ['1,000 queries in Cypher; have them run with --engines']


def test_collected_pairs_have_no_fault_but_the_known_ones(tmp_path):
    assert run_command(['data', 'instructions', 'bundled:typescript', '-o', str(tmp_path/'pairs.jsonl')]) == 0
    assert set(find_faults(tmp_path/'pairs.jsonl')) <= {'asked by the suites'}


@pytest.mark.skipif(not has_engine(), reason='needs arcadedb-embedded')
def test_queries_are_read_and_run(tmp_path):
    query = 'MATCH (p:Person) RETURN count(p) AS people'
    some = (query, {}), ('MATCH (p:Person RETURN p', {}), (query, {'expected': [[-1]]}), ('MATCH (p:No) RETURN p', {})
    rows = [{'instruction': f'Count people, way {i}.', 'output': text, 'schema': 'social'} | more
            for i, (text, more) in enumerate(some)]
    options = {'limits': Limits(language='cypher'), 'engines': make_query_check([])}
    found = find_faults(write(tmp_path/'q.jsonl', rows), **options)
    assert found['refused by ArcadeDB'] == 1 and found['other rows'] == 1 and found['refused by Neo4j'] >= 2
    with pytest.raises(UserError, match='line 1: a row with a query must name its schema'):
        find_faults(write(tmp_path/'q.jsonl', [rows[0] | {'schema': 'mine'}]), **options)


def test_report_files_and_exit_code(tmp_path, capsys):
    good, bad = write(tmp_path/'good.jsonl', GOOD), write(tmp_path/'bad.jsonl', [*GOOD, answer('<b>TODO</b>\x1b')])
    assert run_command(['validate', str(good)]) == 0
    assert run_command(['validate', str(bad), '-o', str(tmp_path/'out')]) == 1
    assert 'fault: control character, once' in capsys.readouterr().out
    kept = json.loads((tmp_path/'out'/'validation.json').read_text())
    assert kept['passed'] is False and kept['found']['control character']['examples'][0][0] == 25
    assert '\x1b' not in (tmp_path/'out'/'validation.html').read_text()
    assert run_command(['validate', str(good), '-o', str(tmp_path/'out')]) == 2   # a report is there already
    assert run_command(['validate', str(good), '-o', str(tmp_path/'out'), '--force']) == 0
    assert run_command(['validate', str(tmp_path/'nothing.jsonl')]) == 2
    assert 'does not exist' in capsys.readouterr().err


def test_a_hostile_page_is_escaped(tmp_path):
    row = answer('TODO') | {'category': '<script>alert(1)</script>', 'instruction': '<img src=x onerror=alert(1)>'}
    report = validate_rows(write(tmp_path/'<b>.jsonl', [row, row]))
    write_validation(tmp_path/'out', report)
    page = (tmp_path/'out'/'validation.html').read_text()
    assert '<script>' not in page and '<img' not in page and '<b>.jsonl' not in page

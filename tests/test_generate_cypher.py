"""Generated Cypher: all different, in its shares, one answer to a question; and what the engines say."""
import json
import re
from collections import Counter

import pytest

from shutka.core.errors import ShutkaError, UserError
from shutka.core.files import read_jsonl, write_json
from shutka.faces.cli import run_command
from shutka.generate.cypher import CYPHER_SHARES, check_cypher, generate_cypher
from shutka.generate.engines import GraphEngine, lint_queries
from shutka.generate.rows import normalize_text
from shutka.generate.schemas import BUNDLED_SCHEMAS, read_schema

SCHEMAS = list(BUNDLED_SCHEMAS.values())
SOCIAL = BUNDLED_SCHEMAS['social']


@pytest.fixture(scope='module')
def rows(): return generate_cypher(2_000, seed=0)


def find_key(row: dict) -> tuple: return row['instruction'], row['input']


def test_as_many_as_were_asked_for_and_all_different(rows):
    assert len(rows) == len({find_key(row) for row in rows}) == 2_000
    assert len({normalize_text(' '.join(find_key(row))) for row in rows}) == 2_000


def test_the_same_for_the_same_seed(rows):
    assert generate_cypher(2_000, seed=0) == rows


def test_two_seeds_share_little(rows):
    other = {find_key(row) for row in generate_cypher(2_000, seed=1)}
    assert sum(find_key(row) in other for row in rows) < .05 * len(rows)


def test_shares_are_kept(rows):
    counts = Counter(row['category'] for row in rows)
    assert all(abs(counts[name] / len(rows) - share) < .01 for name, share in CYPHER_SHARES.items())
    assert counts['systematic'] >= .18 * len(rows)


def test_many_shapes(rows):
    assert len({row['shape'] for row in rows}) >= 400


def test_ten_thousand_rows_are_different_and_one_question_has_one_answer():
    many = generate_cypher(10_000, seed=3)
    assert len({find_key(row) for row in many}) == 10_000
    assert len({(*find_key(row), row['output']) for row in many}) == 10_000


def test_paraphrases_share_their_query(rows):
    groups = Counter((row['schema'], row['output']) for row in rows if row['category'] != 'systematic')
    assert sum(count >= 3 for count in groups.values()) > .9 * len(groups)


CLAUSES = ('OPTIONAL MATCH', 'WHERE', 'ORDER BY', 'SKIP', 'LIMIT', 'DISTINCT', 'WITH', 'UNWIND', 'UNION', 'UNION ALL',
           'CREATE', 'MERGE', 'ON CREATE SET', 'ON MATCH SET', 'SET', 'REMOVE', 'DELETE', 'DETACH DELETE', 'CASE',
           'FOREACH', 'EXISTS {', 'COUNT {', 'COLLECT {', 'CALL (', 'IS ::', 'shortestPath(', 'XOR', '=~',
           'date.truncate(', 'reduce(', 'point.distance(', 'duration.between(', 'percentileCont(', 'collect(',
           'stDev(', 'haversin(')


@pytest.mark.parametrize('clause', CLAUSES)
def test_each_feature_occurs(rows, clause):
    assert any(clause in row['output'] for row in rows)


@pytest.mark.parametrize('pattern', [r':\w+\|\w+\)', r':!\w+&!\w+', r'\w \{\.\w+', r'->\{\d,\d\}', r'\)\)\{\d,\d\}',
                                     r'\*\d', r'-\[:\w+\]-\(', r'<-\[', r'\([a-z]\d?:\w+ WHERE', r'\[item IN'])
def test_each_pattern_occurs(rows, pattern):
    assert any(re.search(pattern, row['output']) for row in rows)


def test_questions_are_sentences(rows):
    for row in rows:
        assert row['input'][0].isupper() and row['input'][-1] in '.?', row['input']
        assert not re.search(r'  |\{|\}|\[\[|None|\bfor for\b', row['input']), row['input']


def test_too_many_is_said():
    with pytest.raises(UserError, match='there are only'):
        generate_cypher(60_000, schemas=[read_minimal()])


def read_minimal():
    from shutka.generate.schemas import parse_schema
    node = {'label': 'Thing', 'properties': [{'name': 'name', 'type': 'STRING', 'values': ['a', 'b']}]}
    return parse_schema({'nodes': [node], 'relationships': []} | {
        'relationships': [{'type': 'LIKES', 'from': 'Thing', 'to': 'Thing'}]}, 'mine.json')


@pytest.mark.parametrize('value, message', [
    ([], 'must be a schema'), ({'nodes': [], 'relationships': []}, 'must have 1 to'),
    ({'nodes': [{'label': 'A', 'properties': [{'name': 'n', 'type': 'TEXT'}]}], 'relationships': []}, 'must have 1 to'),
    ({'nodes': [{'label': 'A', 'properties': [{'name': 'n', 'type': 'TEXT'}]}], 'relationships': [{}]},
     "'type' must be one"),
    ({'nodes': [{'label': 'A-B', 'properties': []}], 'relationships': [{}]}, 'made of letters'),
    ({'nodes': [{'label': 'A', 'properties': [{'name': 'n', 'type': 'DATE', 'values': ['2021-02-29', '2021-01-01']}]}],
      'relationships': [{}]}, "'values' must be of type DATE"),
    ({'nodes': [{'label': 'A', 'nouns': ['\x1b[2J', 'b'], 'properties': [{'name': 'n', 'type': 'STRING'}]}],
      'relationships': [{}]}, "'nouns' must be two texts")])
def test_a_bad_schema_is_refused_by_place(tmp_path, value, message):
    write_json(tmp_path/'mine.json', value)
    with pytest.raises(UserError, match=message): read_schema(tmp_path/'mine.json')


def test_the_command(tmp_path, capsys):
    path = tmp_path/'cypher.jsonl'
    command = ['generate', 'cypher', '-o', str(path), '--num-examples', '60', '--seed', '4']
    assert run_command(command) == 0
    said = capsys.readouterr().out
    assert '60 rows, all different' in said and 'not checked by any engine' in said
    assert list(read_jsonl(path)) == json.loads(json.dumps(generate_cypher(60, 4)))
    assert run_command(command) == 2 and 'exists already' in capsys.readouterr().err


def test_the_rows_can_be_learned_from(rows, tmp_path):
    from shutka.core.files import write_jsonl
    from shutka.data.examples import read_examples
    write_jsonl(tmp_path/'rows.jsonl', rows[:50])
    assert len(read_examples(tmp_path/'rows.jsonl')) == 50


@pytest.mark.slow
def test_the_graph_engine_rolls_back_and_refuses():
    pytest.importorskip('arcadedb_embedded')
    with GraphEngine(SOCIAL) as engine:
        assert engine.run('MATCH (u:User) WHERE u.name = \'\' RETURN count(*)') == [[1]]
        assert engine.run('MATCH (u:User) SET u.name = \'x\' RETURN count(*)') == [[9]]
        assert engine.run('MATCH (u:User) WHERE u.name = \'x\' RETURN count(*)') == [[0]]
        assert engine.run('UNWIND [3, null, 1] AS n RETURN n ORDER BY n') == [[1], [3], [None]]
        for bad in ('MATCH (u:User RETURN u', 'RETURN toUpper(1)', 'MATCH (u:User) RETURN v.name', 'RETURN 1/0'):
            with pytest.raises(ShutkaError, match='ArcadeDB refuses'): engine.run(bad)


@pytest.mark.slow
@pytest.mark.net
def test_what_an_engine_refuses_is_raised():
    pytest.importorskip('arcadedb_embedded')
    rows = generate_cypher(10, schemas=[SOCIAL])
    check_cypher(rows, [SOCIAL])
    assert all(isinstance(row['expected'], list) for row in rows)
    broken = [rows[0] | {'output': 'MATCH (u:Usr) RETURN u.name', 'shape': 'x'}]
    with pytest.raises(ShutkaError, match='Usr is not present'): check_cypher(broken, [SOCIAL])


@pytest.mark.net
def test_the_parser_sees_what_is_wrong():
    bad = ['MATCH (u:User) RETURN toUpper(1)', 'MATCH (u:User) RETURN v.name', 'MATCH (u:User) RETURN u.nam',
           'MATCH (p:Post)-[:WROTE]->(u:User) RETURN u.name', 'MATCH (u:User) WHERE u.age > RETURN u']
    found = lint_queries([(SOCIAL, query) for query in ['MATCH (u:User) RETURN u.joined.year', *bad]], jobs=1)
    assert found[0] == [] and all(found[1:])


@pytest.mark.faults
@pytest.mark.net
def test_two_thousand_rows_have_no_error_from_either_engine(rows):
    pytest.importorskip('arcadedb_embedded')
    counts = check_cypher(rows, SCHEMAS, every=True)
    assert counts['read'] == counts['run'] > 800
    assert any(row['expected'] == [] for row in rows)

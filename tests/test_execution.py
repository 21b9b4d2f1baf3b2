"""Execution accuracy: a query is right if it returns the right rows, however it is written."""
import pytest

from shutka.generate.cypher import generate_cypher
from shutka.generate.engines import has_engine
from shutka.generate.execution import QUERY_PARTS, extract_query, judge_queries, split_queries

needs_engine = pytest.mark.skipif(not has_engine(), reason='needs arcadedb-embedded')


@pytest.fixture(scope='module')
def rows(): return generate_cypher(1_000, seed=0)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_nothing_that_is_learned_is_asked(rows, seed):
    parts = split_queries(rows, schemas=3, shapes=.2, seed=seed)
    graphs, shapes = ([{row[field] for row in parts[part]} for part in QUERY_PARTS] for field in ('schema', 'shape'))
    assert not graphs[0] & graphs[1] and len(graphs[1]) == 3 and not shapes[0] & shapes[2]
    assert sum(map(len, parts.values())) == 1_000 and all(parts.values())


def test_another_seed_holds_others_out(rows):
    held = [{row['schema'] for row in split_queries(rows, seed=seed)['schemas']} for seed in range(5)]
    assert len(set(map(frozenset, held))) > 1
    assert split_queries(rows) == split_queries(rows)


@pytest.mark.parametrize('answer', [
    'MATCH (n) RETURN n', '```cypher\nMATCH (n) RETURN n\n```', '```\nMATCH (n) RETURN n\n```',
    'Of course!\n\n```cypher\nMATCH (n) RETURN n\n```\n\n```cypher\nMATCH (m) RETURN m\n```',
    'The query is MATCH (n) RETURN n\n\nIt returns every node.'])
def test_the_query_of_an_answer(answer): assert extract_query(answer) == 'MATCH (n) RETURN n'


@needs_engine
def test_what_returns_the_right_rows_is_right_and_nothing_else(rows):
    every = [row for row in rows if row['schema'] in ('social', 'library') and row['category'] == 'match'][:20]
    first = judge_queries(every, [row['output'] for row in every])
    some = [row for row, verdict in zip(every, first) if verdict != 'empty']
    assert len(some) > 5 and set(first) <= {'right', 'empty'}
    right = [row['output'] for row in some]
    assert judge_queries(some, right) == ['right'] * len(some)
    fenced = [f'Here:\n```cypher\n{query}\n```\n' for query in right]
    assert judge_queries(some, fenced) == ['right'] * len(some)
    assert set(judge_queries(some, ['RETURN 1 / 0', *['MATCH (p:User RETURN p'] * (len(some) - 1)])) == {'refused'}
    assert judge_queries(some, ['I do not know.'] * len(some)) == ['refused'] * len(some)
    assert set(judge_queries(some, ["RETURN 'nobody asked for this'"] * len(some))) == {'wrong'}


@needs_engine
def test_names_of_columns_do_not_count_and_order_only_where_asked():
    row = dict(schema='social', shape='', output='MATCH (p:User) RETURN p.name ORDER BY p.name', ordered=True)
    other = 'MATCH (q:User) RETURN q.name AS anything ORDER BY q.name'
    backwards = f'{other} DESC'
    assert judge_queries([row], [other]) == ['right'] and judge_queries([row], [backwards]) == ['wrong']
    assert judge_queries([row | {'ordered': False}], [backwards]) == ['right']


@needs_engine
def test_an_answer_that_changes_the_graph_changes_nothing_for_the_next():
    row = dict(schema='social', shape='', output='MATCH (p:User) RETURN count(p)', ordered=False)
    found = judge_queries([row] * 3, ['MATCH (p:User) DETACH DELETE p', row['output'], row['output']])
    assert found == ['wrong', 'right', 'right']


@needs_engine
def test_where_nothing_is_found_nothing_is_judged():
    row = dict(schema='social', shape='', output="MATCH (p:User {name: 'Nobody'}) RETURN p.age", ordered=False)
    assert judge_queries([row], ['MATCH (p:Post) WHERE p.likes < -5 RETURN p']) == ['empty']

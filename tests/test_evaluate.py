"Metrics and evaluation: cases nobody wants to read in a notebook."
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shutka.core import metrics as of
from shutka.core.errors import UserError
from shutka.core.files import read_jsonl, write_jsonl
from shutka.core.metrics import bootstrap_interval, measure_retrieval, rank_targets, score_chance
from shutka.core.plots import plot_retrieval
from shutka.core.run_plot import plot_run
from shutka.evaluate.comparison import evaluate_run, read_pools
from shutka.evaluate.retrieval import (
    Pool,
    evaluate_retrieval,
    fuse_scores,
    make_pool,
    retrieval_table,
    standardize_scores,
)
from shutka.train.folder import update_result
from shutka.train.log import read_result
from shutka.train.run import run_training


def pair(i, doc=None, body=None, form='function'):
    return dict(id=f'{i:016x}', name=f'f{i}', form=form, doc=f'does thing number {i}' if doc is None else doc,
                body=f'{{ return first(second, third({i})) }}' if body is None else body)

def pool(n):
    queries, bodies = zip(*((f'alpha{i} beta', f'x{i} = gamma') for i in range(n)))
    return Pool(name='test', queries=queries, bodies=bodies)

def constant(queries, bodies): return np.eye(8)[[0] * len(queries)], np.eye(8)[[0] * len(bodies)]   # exactly 1

def test_importing_is_cheap():
    "Neither module may drag in the heavy packages."
    code = ("import sys, shutka.core.plots, shutka.core.metrics, shutka.evaluate.retrieval;"
            "sys.exit(bool({'torch', 'matplotlib', 'bm25s', 'transformers'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0

def test_ranks_agree_with_every_order_of_the_tied():
    "The mean over random tie-breaking is what `rank_targets` gives in closed form."
    g = np.random.default_rng(0)
    scores, target = g.integers(0, 3, (30, 7)).astype(float), g.integers(0, 7, 30)
    broken = np.mean([rank_targets(scores + g.random(scores.shape) * .1, target) for _ in range(4_000)], axis=0)
    np.testing.assert_allclose(rank_targets(scores, target), broken, atol=.05)

@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_ranks_refuse_what_is_no_number(bad):
    with pytest.raises(ValueError, match='finite'): rank_targets(np.array([[bad, 0.]]), np.array([0]))

def test_chance_is_what_guessing_gets():
    g = np.random.default_rng(0)
    for m in (2, 7, 40):
        ranks = rank_targets(g.random((20_000, m)), g.integers(0, m, 20_000))
        assert measure_retrieval(ranks) == pytest.approx(score_chance(m), abs=.015)

@pytest.mark.parametrize('m', [2, 7, 64])
def test_a_constant_scorer_is_exactly_at_chance(m):
    assert measure_retrieval(rank_targets(np.ones((m, m)), np.arange(m))) == pytest.approx(score_chance(m))
    row = evaluate_retrieval(pool(m), {'dense': constant})[-2]
    assert {k: row[k] for k in score_chance(m)} == pytest.approx(score_chance(m))

def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    g = np.random.default_rng(0)
    truth = np.mean(1 / np.arange(1, 11))
    found = [bootstrap_interval(np.eye(10)[g.integers(0, 10, 100)], draws=200, seed=s) for s in range(300)]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert .89 < covered <= 1

def test_a_dense_side_without_opinion_leaves_the_lexical_order():
    g = np.random.default_rng(0)
    lexical = g.random((20, 50))
    for dense in (np.full((20, 50), .7), .99999 + g.random((20, 50)).astype(np.float32) * 1e-7):
        np.testing.assert_array_equal(fuse_scores(lexical, dense), standardize_scores(lexical))

def test_cosine_ignores_lengths_in_evaluate():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(2, 20, 8))
    rows = evaluate_retrieval(pool(20), {'a': lambda q, b: (x, y), 'b': lambda q, b: (x * g.random((20, 1)), y * 9)})
    assert rows[-1]['mrr'] == pytest.approx(rows[-2]['mrr'])

def test_a_pool_depends_on_the_seed_and_not_on_the_order():
    pairs = [pair(i) for i in range(40)]
    one = make_pool(pairs, 'p', size=16)
    assert one == make_pool(pairs[::-1], 'p', size=16) != make_pool(pairs, 'p', size=16, seed=1)
    assert one.name == 'p' and make_pool(pairs, 'p').name == 'p (40)'

@pytest.mark.parametrize('other', [
    pair(9, doc='does thing number 0'),                                   # a doc twice
    pair(9, doc='Does thing number 0.'),                                  # up to case and punctuation
    pair(9, body='{\n    return first(second, third(0))\n }'),            # a body twice, up to white space
    pair(9, doc=''), pair(9, body='{ return a }'), pair(9, form='class'),
])
def test_what_may_not_enter_a_pool(other):
    assert len(make_pool([pair(0), pair(1), pair(2), other], 'p').queries) == 3

def test_a_pool_needs_two():
    with pytest.raises(UserError): make_pool([pair(0), pair(0)], 'p')

def test_a_part_with_too_little_to_ask_about_is_left_out(small):
    "Nine functions with bodies of three words, nine that say the same, and seven that can be asked about."
    out = small().settings.out
    part = Path(out)/'data'/'packages.jsonl'
    like = next(p for p in read_jsonl(Path(out)/'data'/'files.jsonl') if p['form'] == 'function')
    few = [[like | pair(i, f'Gives the field number {i} of it.', f'{{ return a.b{i}; }}') for i in range(9)],
           [like | pair(i, 'Gives a field.') for i in range(9)],
           [like | pair(i) for i in range(7)]]
    for pairs in few:
        write_jsonl(part, pairs)
        assert [pool.name.split(' (')[0] for pool in read_pools(out)] == ['unseen files']
    write_jsonl(part, [like | pair(i) for i in range(8)])
    assert [pool.name.split(' (')[0] for pool in read_pools(out)] == ['unseen files', 'unseen packages']
    for name in ('files', 'packages'): write_jsonl(part.with_name(f'{name}.jsonl'), few[0])
    with pytest.raises(UserError, match='must hold out at least 8 documented functions'): read_pools(out)

def test_queries_without_a_single_known_word():
    rows = evaluate_retrieval(Pool(name='odd', queries=('!!!', 'alpha'), bodies=('alpha beta', 'gamma delta')), {})
    assert [r['method'] for r in rows] == ['chance', 'BM25', 'BM25 split']

def test_table_marks_the_best_of_each_pool_alone():
    columns = ('mrr', 'r@1', 'r@5', 'r@10', 'ndcg@10')
    rows = [dict(pool=p, candidates=9, method=m, low=x, high=x, **dict.fromkeys(columns, x))
            for p, m, x in (('a', 'BM25', .2), ('a', 'dense', .3), ('b', 'BM25', .9), ('b', 'dense', 1.))]
    text = retrieval_table(rows)
    assert text.count('**.300**') == text.count('**1.000**') == 5
    assert '**.900**' not in text and text.count('|---|') == 2

def test_plots_without_a_display_and_with_gaps():
    figures = [plot_run([{'step': 1, 'loss': None, 'mrr': .1}, {'step': 2}, {'other': 1}]),
               plot_run({'step': s, 'effective_rank': 3.} for s in (1, 2)),
               plot_retrieval(evaluate_retrieval(pool(4), {}))]
    for figure in figures: figure.canvas.draw()

def test_measures_do_not_depend_on_size_or_rotation():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(2, 60, 8)) * np.arange(1, 9)
    turn = np.linalg.qr(g.normal(size=(8, 8)))[0]
    for change in (lambda a: a * 1e3, lambda a: a @ turn):
        for f in (of.effective_rank, of.mean_cosine, of.measure_uniformity): assert f(change(x)) == pytest.approx(f(x))
        assert of.measure_alignment(change(x), change(y)) == pytest.approx(of.measure_alignment(x, y))

def test_measures_agree_with_their_definitions():
    x = np.random.default_rng(0).normal(size=(20, 5))
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    i, j = np.triu_indices(20, 1)
    assert of.mean_cosine(x) == pytest.approx((u[i] * u[j]).sum(1).mean())
    assert of.measure_uniformity(x) == pytest.approx(np.log(np.exp(-2 * ((u[i] - u[j]) ** 2).sum(1)).mean()))

def test_a_collapse_on_either_side_is_reported():
    g = np.random.default_rng(0)
    good, bad = g.normal(size=(64, 16)), np.ones((64, 16))
    for sides in ((good, bad), (bad, good)):
        got = of.measure_space(*sides)
        assert got['effective_rank'] < 1.01 and got['mean_cosine'] > .99 and got['dead_dimensions'] == 1

@pytest.mark.parametrize('words_, code', [
    (np.ones((3, 2)), np.ones((3, 4))), (np.ones((1, 2)), np.ones((1, 2))), (np.ones(3), np.ones(3)),
    (np.full((3, 2), np.nan), np.ones((3, 2))),
])
def test_representation_refuses(words_, code):
    with pytest.raises(ValueError): of.measure_space(words_, code)


def test_a_body_does_not_hold_its_own_name():
    recursive = pair(7, body='{ return n < 2 ? 1 : n * f7(n - 1, first, second) }')
    found = make_pool([pair(0), recursive], 'p')
    assert 'f7' not in found.bodies[found.queries.index('does thing number 7')]


def test_an_examination_depends_on_the_model_alone(small):
    "Another process, with another order of its sets and another number of threads, writes the same result."
    out = small().settings.out
    assert run_training(out) == 0
    before = evaluate_run(out)
    update_result(out, examined='')
    env = os.environ | {'PYTHONHASHSEED': '1', 'OMP_NUM_THREADS': '1'}
    code = f'from shutka.evaluate.comparison import evaluate_run; evaluate_run({out!r})'
    subprocess.run([sys.executable, '-c', code], env=env, check=True)
    assert read_result(out) == before


# numbers that are known beforehand

def test_measures_of_known_places():
    "One right answer in place 1, 2, 5, 6, 10 or 11 of twelve."
    for place, expected in ((1, (1, 1, 1, 1, 1)), (2, (1 / 2, 0, 1, 1, 1 / np.log2(3))),
                            (5, (1 / 5, 0, 1, 1, 1 / np.log2(6))), (6, (1 / 6, 0, 0, 1, 1 / np.log2(7))),
                            (10, (1 / 10, 0, 0, 1, 1 / np.log2(11))), (11, (1 / 11, 0, 0, 0, 0))):
        found = measure_retrieval(np.eye(12)[[place - 1]])
        assert found == pytest.approx(dict(zip(('mrr', 'r@1', 'r@5', 'r@10', 'ndcg@10'), expected)))

def test_the_interval_is_as_wide_as_that_of_a_normal_distribution():
    "Half of a thousand in place 1, half in place 2: a mean of .75, with a standard error of .25 / 1000 ** .5."
    low, high = bootstrap_interval(np.repeat(np.eye(2), 500, axis=0), draws=4_000)
    assert (low, high) == pytest.approx((.75 - 1.96 * .25 / 1000 ** .5, .75 + 1.96 * .25 / 1000 ** .5), abs=.001)

def test_cosines_do_not_depend_on_lengths_and_a_zero_row_has_none():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(5, 4)), g.normal(size=(6, 4))
    np.testing.assert_allclose(of.cosine_matrix(x, y * g.uniform(1, 9, (6, 1))), of.cosine_matrix(x, y))
    np.testing.assert_allclose(of.cosine_matrix(x, x).diagonal(), 1)
    y[2] = 0
    assert (of.cosine_matrix(x, y)[:, 2] == 0).all()

def test_scores_are_standardized_by_query():
    scores = np.array([[1., 2, 3], [100, 200, 600]])
    found = standardize_scores(scores)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(1), 1)
    np.testing.assert_allclose(found[0], [-1.5 ** .5, 0, 1.5 ** .5])

def test_both_sides_have_an_equal_say():
    "What is second in both is first in the sum, whichever units each side has."
    lexical, dense = np.array([[9., 8, 1, 0]]), np.array([[.01, .08, .09, 0]])
    fused = fuse_scores(lexical, dense)
    assert fused.argmax() == 1 and fused.argmin() == 3
    np.testing.assert_allclose(fused, fuse_scores(dense, lexical))
    np.testing.assert_allclose(fused, fuse_scores(lexical * 1_000, dense))

def test_the_hybrid_is_made_of_split_words_and_embeddings():
    asked = Pool(name='split', queries=('parse date', 'sum of numbers', 'sort users'),
                 bodies=('parseDate(text)', 'sumNumbers(list)', 'sortUsers(all)'))
    rows = {row['method']: row for row in evaluate_retrieval(asked, {'dense': constant})}
    assert rows['BM25']['mrr'] < rows['BM25 split']['mrr'] == rows['hybrid']['mrr'] == 1

@pytest.mark.parametrize('shapes', [((2, 8), (2, 8)), ((4, 8), (4, 7)), ((3, 8), (4, 8)), ((4,), (4,))])
def test_embeddings_of_a_wrong_shape_are_refused(shapes):
    def encode(queries, bodies): return tuple(map(np.ones, shapes))
    with pytest.raises(ValueError, match=r'must give two arrays of shape \(4, d\)'):
        evaluate_retrieval(pool(4), {'dense': encode})

@pytest.mark.parametrize('body, enters', [('{ return a(b(c)) }', False), ('{ return a(b(c(d))) }', True)])
def test_a_body_of_five_words_is_enough_to_ask_about(body, enters):
    assert len(make_pool([pair(0), pair(1), pair(2, body=body)], 'p').queries) == 2 + enters

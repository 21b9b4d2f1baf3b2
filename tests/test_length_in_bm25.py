"BM25 holds length against a candidate, as much as `b` says: the rival in the tables does so fully."
from shutka.evaluate.retrieval import Pool, evaluate_retrieval, score_bm25
from shutka.text.words import split_words

# a long body says the word twice among many others, a short one says it once and means it
LONG = 'return dates.map(date => { ' + ' '.join(f'const part{n} = take{n}(item{n})' for n in 'abcdefghij') + ' })'
BODIES = (LONG, 'return parse(date)', 'return values.filter(Boolean)', 'return left.concat(right)')
QUERIES = ('part of an item', 'the date', 'keep the values', 'left and right')


def test_length_counts_as_much_as_b_says():
    query, bodies = [['date']], [['date', 'date', *['other'] * 40], ['date', 'one', 'two'], ['nothing', 'here']]
    first = {b: score_bm25(query, bodies, b=b)[0].argmax() for b in (0, .75, 1)}
    assert first == {0: 0, .75: 1, 1: 1}
    short, long = (score_bm25([['a']], [['a'], ['a', 'b', 'b', 'b']], b=b)[0] for b in (0, 1))
    assert short[0] == short[1] and long[0] > long[1]


def test_the_split_rival_counts_length_fully():
    "With b = 0 the long body would stand before the right one."
    pool = Pool(name='lengths', queries=QUERIES, bodies=BODIES)
    rows = {row['method']: row for row in evaluate_retrieval(pool, {})}
    split = [[split_words(text) for text in texts] for texts in (QUERIES, BODIES)]
    first = {b: score_bm25(*split, b=b).argmax(1).tolist() for b in (0, 1)}
    assert first == {0: [0, 0, 2, 3], 1: [0, 1, 2, 3]} and rows['BM25 split']['mrr'] == 1

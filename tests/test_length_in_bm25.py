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


def test_the_plain_rival_holds_length_against_a_candidate_and_counts_repetitions():
    "By its defaults: with b = 0 the long body would tie with the short one, with k1 = 0 a word said thrice with one."
    words = [['date', *'abcdefgh'], ['date', 'a'], ['none', 'at', 'all']]
    long, short, none = score_bm25([['date']], words)[0]
    assert short > long > none == 0
    thrice, once, _ = score_bm25([['date']], [['date', 'date', 'date'], ['date', 'b', 'c'], ['d', 'e', 'f']])[0]
    assert thrice > once


def test_a_word_of_every_candidate_still_counts():
    "Lucene's variant gives no word a weight of zero or less: one that most have tells them from those without."
    assert (score_bm25([['a']], [['a', 'b'], ['a', 'c'], ['a', 'd']])[0] > 0).all()

"What people see of a memory: hostile ones, ranks, voices, and a map that needs nothing but the page it is in."
import base64
import copy
import pickle
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from test_look import Hashed

from shutka.core.errors import UserError
from shutka.memory.bank import Bank
from shutka.memory.highlight import COLOURED_CHARACTERS, highlight_code
from shutka.memory.hits import SHOWN_TEXT, Hit, Hits, format_score, read_place, view_hits
from shutka.memory.inspector import Inspector
from shutka.memory.map import MAP_HEIGHT, MAP_WIDTH, draw_bank, locate_hits, map_bank, plot_bank

HOSTILE = ['</pre><script>alert(1)</script>', '"><img src=x onerror=alert(2)>', "' onmouseover='alert(3)", '<!--',
           ']]>', '&lt;b&gt;', '<svg/onload=alert(4)>', '<style>*{x:y}</style>', '{{7*7}}', '\x1b[2J\u202e\r\x00']
# of what JupyterLab leaves in a notebook that it does not trust, the tags and styles that are used here
LEFT_TAGS = {'div', 'span', 'p', 'pre', 'b', 'i', 'br', 'mark', 'img'}
COLOUR = '#[0-9a-f]{6}([0-9a-f]{2})?'
LENGTH = '-?(0|[0-9.]+(px|em|%))'
LEFT_STYLES = {'color': COLOUR, 'background': COLOUR, 'font-size': LENGTH, 'font-weight': 'bold',
               'font-style': 'italic', 'font-family': 'monospace', 'line-height': '[0-9.]+',
               'margin': f'({LENGTH} ?)+', 'padding': f'({LENGTH} ?)+',
               'border': f'1px solid {COLOUR}', 'border-left': f'3px solid {COLOUR}', 'border-radius': LENGTH,
               'max-height': LENGTH, 'overflow': 'auto', 'white-space': 'pre-wrap|nowrap', 'width': LENGTH,
               'position': 'relative|absolute', 'left': LENGTH, 'top': LENGTH, 'height': LENGTH,
               'word-break': 'normal', 'overflow-wrap': 'normal|anywhere'}


class Seen(HTMLParser):
    "A page: its tags, the text on it, and every attribute."
    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.attributes = [], '', []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_data(self, data): self.text += data
    def handle_comment(self, data): self.tags.append('comment')

    def get(self, tag, name): return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


def check_page(html):
    "A page of ours holds nothing alive, nothing from a network, and nothing that an untrusted notebook would lose."
    seen = Seen(html.replace('<style>.shutka-hits mark { background: #ffe08a; color: #222222; border-radius: 2px }'
                             '</style>', ''))
    assert set(seen.tags) <= LEFT_TAGS
    names = {name for _, name, _ in seen.attributes}
    assert names <= {'style', 'class', 'title', 'alt', 'width', 'height', 'src'}
    for _, name, value in seen.attributes:
        if name == 'src': assert value.startswith('data:image/svg+xml;base64,')
        if name == 'style':
            for declaration in value.split(';'):
                what, how = declaration.split(':')
                assert re.fullmatch(LEFT_STYLES[what], how), declaration
    return seen


def make_hit(i=1, text='let a = 1', **facts):
    return Hit(**(dict(id=i, score=.5, text=text, metadata={}, created=0, cosine=None, bm25=1.) | facts))


@pytest.mark.parametrize('evil', HOSTILE)
def test_hostile_memories(evil):
    about = dict(source=evil, version=evil, path=f'{evil}/{evil}.ts', name=evil, line=evil, start=[evil])
    hit = make_hit(text=evil, metadata=about, voices={evil: .5})
    for shown in (hit.card(evil, evil, 1), Hits([hit], evil, evil)._repr_html_(), view_hits([hit], evil, evil).html):
        seen = check_page(shown)
        assert seen.tags.count('pre') == 1 and 'comment' not in seen.tags
    for said in (repr(hit), str(hit)): assert not re.search('[\x00-\x1f\u202e]', said)
    for line in view_hits([hit], 'x').text.splitlines(): assert not re.search('[\x00-\x08\x0b-\x1f\u202e]', line)


@pytest.mark.parametrize('value', [None, 7, 1.5, True, [], {}, ['a', {'b': None}], '', ' ', '\n', 'x' * 10_000])
def test_metadata_of_any_kind(value):
    place = read_place(dict(source=value, version=value, path=value, name=value, line=value, start=value))
    assert len(str(place)) < 300 and '\n' not in str(place)
    assert place.line == ('7' if value == 7 else '')
    check_page(make_hit(metadata=dict(source=value, path=value, name=value)).card())


def test_a_hostile_map(tmp_path):
    with Bank(tmp_path/'bank', Hashed()) as bank:
        bank.add([f'let x{i} = {i}' for i in range(len(HOSTILE))],
                 [{'name': evil, 'source': evil, 'path': f'{evil}.ts'} for evil in HOSTILE])
        seen = check_page(draw_bank(bank, bank.search('let', 3)).html)
        titles = ''.join(seen.get('i', 'title'))
        assert '<script>alert(1)</script>' in titles and '</pre>' in seen.text   # there, and only as text
        assert '\x1b' not in titles and '\u202e' not in titles


def test_colours_change_no_letter():
    for text in ('class A<T> { #b = `${`c`}` }', 'a\r\n\tb\r', '/* never closed', '"\\' * 9000, '\ud800', ''):
        for path in ('a.TS', 'x/y.mjs', 'a.py', ''):
            assert Seen(f'<pre>{highlight_code(text, "a b", path)}').text == text
    assert 'style=' not in highlight_code('const a = 1', '', 'a.py')
    assert 'style=' in highlight_code('const a = 1', '', 'a.ts')


def test_a_mark_stands_inside_of_a_colour():
    html = highlight_code('/** Parses a date. */ const parseDate = "a date of `dates`"', 'dates', 'a.ts')
    assert [re.sub('<[^>]*>', '', found) for found in re.findall('<mark>.*?</mark>', html)] == [
        'date', 'parseDate', 'date', 'dates']
    assert not re.search('<mark>[^<]*<(?!/mark)', html)


@pytest.mark.parametrize('part', ['"\\', '1.', '...', '`${', '/*', '/', '/[', '<', "'", '\\', '(', '{', 'a<', '@'])
def test_colours_in_no_time(part):
    "Linear in the text beyond what gets colours, and a moment for that."
    begin = time.process_time()
    highlight_code(part * COLOURED_CHARACTERS, 'x', 'a.ts')
    highlight_code(part * COLOURED_CHARACTERS + '\n' + part * 40 * COLOURED_CHARACTERS, 'x', 'a.ts')
    assert time.process_time() - begin < 4


def test_what_found_it():
    "Voices by name; an encoder without a name is 'meaning'; words come first."
    both = make_hit(cosine=.41, bm25=12.34, voices={'text-jepa': .41, 'minilm': .618})
    assert both.list_scores() == {'words': 12.34, 'text-jepa': .41, 'minilm': .618}
    assert '(words 12.3, text-jepa .41, minilm .62)' in str(both)
    text = Seen(both.card()).text
    assert 'words 12.3' in text and 'text-jepa .41' in text and 'minilm .62' in text
    assert make_hit(cosine=.4, bm25=None).list_scores() == {'meaning': .4}
    assert make_hit(bm25=None).list_scores() == {} == make_hit().voices
    scores = (1, .994, .995, -1, 99.94, 1234.5)
    assert [format_score(x) for x in scores] == ['1.0', '.99', '1.0', '-1.0', '99.9', '1234']


def test_names_before_ids():
    hit = make_hit(4711, metadata={'name': 'ZodType.parse', 'source': 'npm:zod', 'version': '4.1.0', 'start': 12,
                                   'path': 'packages/zod/src/v4/types.ts'})
    card = hit.card(age='3 d', rank=2)
    order = ['>2<', '<b>ZodType.parse</b>', 'npm:zod 4.1.0', 'v4/types.ts:12', '3 d', 'words 1.0', '[4711]', '<pre']
    assert [card.index(part) for part in order] == sorted(card.index(part) for part in order)
    assert 'packages/zod/src/v4/types.ts' in Seen(card).get('span', 'title')
    assert str(hit) == '.50  ZodType.parse npm:zod 4.1.0 v4/types.ts:12  (words 1.0)  [4711]'


def test_nothing_matches():
    for said in (repr(Hits([], 'zzz')), Hits([], 'zzz')._repr_html_(), view_hits([], 'zzz').text,
                 view_hits([], 'zzz', ': 0 of 7').html):
        assert said.count('nothing matches') == 1
    assert 'nothing matches' not in view_hits([], '').text   # nothing was asked
    assert 'minilm: 3 of 9' in repr(Hits([], 'zzz', 'minilm: 3 of 9'))
    assert '1 hit · x' in repr(Hits([make_hit()], 'a', 'x'))


def test_a_long_memory_in_a_terminal():
    shown = view_hits([make_hit(text='let a\n' * 1000)], 'a').text.splitlines()
    assert len(shown) == 2 + SHOWN_TEXT + 1 and shown[-1] == f'    … {1000 - SHOWN_TEXT} more lines'
    assert view_hits([make_hit(text='a\r\nb')], 'a').text.splitlines()[2:] == ['    a', '    b']


def test_hits_are_copied_whole():
    hits = Hits([make_hit(voices={'minilm': .5})], 'a', 'a note')
    for again in (copy.deepcopy(hits), pickle.loads(pickle.dumps(hits))):
        assert again == hits and (again.query, again.note) == ('a', 'a note')


# the map

@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path/'bank', Hashed()) as bank:
        bank.add([f'function item{i}(x) {{ return x + {i} }}' for i in range(40)],
                 [{'source': 'git:app', 'path': f'src/{"net" if i % 3 else "text"}/f{i}.ts', 'name': f'item{i}'}
                  for i in range(40)])
        yield bank


def read_picture(seen):
    "The SVG of a map, and where its ranks stand."
    [source] = seen.get('img', 'src')
    svg = base64.b64decode(source.partition(',')[2]).decode()
    return svg, {int(n): (int(x), int(y)) for x, y, n in re.findall(r'<text x="(\d+)" y="(\d+)">(\d+)<', svg)}


def test_ranks_of_hits_are_those_on_the_map(bank):
    hits = bank.search('item7 return x', 6)
    seen = check_page(draw_bank(bank, hits).html)
    _, discs = read_picture(seen)
    assert sorted(discs) == [1, 2, 3, 4, 5, 6]
    assert all(0 < x < MAP_WIDTH and 0 < y < MAP_HEIGHT for x, y in discs.values())
    names = {title.split()[0]: title for title in seen.get('i', 'title') if re.match(r'\d+  ', title)}
    cards = Seen(view_hits(hits, hits.query).html).text
    for rank, hit in enumerate(hits, 1):
        assert f"{hit.metadata['name']} ·" in names[str(rank)]
        assert f"{rank} {hit.metadata['name']} git:app" in cards
    ringed = plot_bank(bank, hits).axes[0]
    assert [text.get_text() for text in ringed.texts] == list('123456')


def test_a_hit_without_a_place_keeps_its_rank(bank):
    hits = list(bank.search('item7', 3))
    hits[1] = make_hit(10_000)
    bank_map = map_bank(bank)
    assert list(locate_hits(bank, hits, bank_map)) == [1, 3]
    assert sorted(read_picture(Seen(draw_bank(bank, hits, bank_map).html))[1]) == [1, 3]
    assert [text.get_text() for text in plot_bank(bank, hits, bank_map).axes[0].texts] == ['1', '3']


def test_every_point_says_its_name(bank):
    drawn = draw_bank(bank)
    titles = '\n'.join(check_page(drawn.html).get('i', 'title')).split('\n')
    assert {f'item{i} · {"net" if i % 3 else "text"}/f{i}.ts' for i in range(40)} == set(titles)
    assert 'by folder' in drawn.text and drawn.html.count('●') == 2 and 'src/net' in drawn.text
    assert draw_bank(bank).html == drawn.html   # the same every time
    assert bank.search('item7', 1)[0].place.name == 'item7'


def test_a_large_map_is_small_and_says_that_it_is_a_sample(tmp_path):
    with Bank(tmp_path/'large', Hashed()) as large:
        about = [{'source': 'npm:' + 'long' * 99, 'name': f'{"name" * 99}{i}', 'path': 'p/' * 99 + 'q.ts'}
                 for i in range(4100)]
        large.add([f'let x{i} = {i}' for i in range(4100)], about)
        drawn = draw_bank(large, large.search('let x7', 9))
        assert '1,367 of 4,100 memories' in drawn.text and '1,367 of 4,100 memories' in drawn.html
        assert len(drawn.html) < 250_000


def test_all_in_one_point(tmp_path):
    with Bank(tmp_path/'same', Hashed()) as same:
        same.add(['let a = 1'] * 30)
        seen = check_page(draw_bank(same, same.search('let a', 9)).html)
        assert '… and 26 more' in ''.join(seen.get('i', 'title')) and 'nan' not in read_picture(seen)[0]
        assert len(set(read_picture(seen)[1].values())) == 9   # no disc on another one
    with Bank(tmp_path/'none') as none, pytest.raises(UserError, match='has none'): draw_bank(none)


def test_the_map_says_when_it_is_behind(bank):
    seen = Inspector(bank, 'item7', k=2)
    said = []
    seen.page.map.observe(lambda change: said.append(change['new']), 'value')
    seen.page.query.value = 'item8'
    assert len(said) == 1 and 'bank has changed' not in said[0]   # it follows the question
    seen.page.query.value = 'item9'
    bank.delete(40)
    said.clear()
    seen.search()
    assert ['bank has changed' in html for html in said] == [True, False]
    assert '39 memories' in said[1] and 'shutka-behind' not in seen.page.map._dom_classes


def test_a_map_follows_in_a_moment(bank):
    "Ten questions in the time of one picture of matplotlib."
    bank_map = map_bank(bank)
    hits = bank.search('item7', 5)
    began = time.process_time()
    for _ in range(10): draw_bank(bank, hits, bank_map)
    assert time.process_time() - began < 1
    np.testing.assert_allclose(list(locate_hits(bank, hits, bank_map).values()),
                               [bank_map.points[hit.id - 1] for hit in hits], atol=1e-6)

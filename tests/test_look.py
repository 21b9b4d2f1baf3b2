"The inspector: its buttons, pressed as a person would, its refusals, and what stays in a notebook that nobody watched."
import json
from pathlib import Path

import ipywidgets
import numpy as np
import papermill
import pytest

from shutka.core.errors import UserError
from shutka.memory.bank import Bank
from shutka.memory.hits import format_age
from shutka.memory.inspector import Inspector, find_undoable
from shutka.memory.map import MAP_POINTS, map_bank, plot_bank, project_vectors
from shutka.text.words import hash_words

ROOT = Path(__file__).parents[1]
TEXTS = ['function readDay(s) { return new Date(s) }', 'function total(xs) { return xs.reduce((a, b) => a - b) }',
         'function day() { return "<script>alert(1)</script>" }']


class Hashed:
    "An encoder without PyTorch: the mean of a random vector for each word."
    def __init__(self, seed=0):
        self.fingerprint = f'hashed {seed}'
        self.table = np.random.default_rng(seed).standard_normal((1024, 16)).astype(np.float32)

    def encode(self, texts, side='code'): return np.stack([self.table[hash_words(t, 1024, 64)].mean(0) for t in texts])


def parts(widget) -> list:
    "A widget and all it is made of."
    return [widget, *(part for child in getattr(widget, 'children', ()) for part in parts(child))]


def buttons(widget) -> dict:
    "Its buttons by the first word on them; of several, the first."
    found = [part for part in parts(widget) if isinstance(part, ipywidgets.Button)]
    return {button.description.split()[0]: button for button in reversed(found)}


def press(seen, name): buttons(seen.page.whole)[name].click()
def rewrite(seen, text): next(p for p in parts(seen.page.rows) if isinstance(p, ipywidgets.Textarea)).value = text


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path/'bank', Hashed()) as bank:
        bank.add(TEXTS, [{'source': 'git:app', 'path': 'a<b>.ts', 'version': '1.2'}, {'source': 'git:app'}, {}])
        yield bank


def test_a_mistake_is_found_corrected_and_taken_back(bank):
    seen = Inspector(bank, 'sum up the total', k=1)
    press(seen, 'edit')
    rewrite(seen, TEXTS[1].replace('a - b', 'a + b'))
    press(seen, 'save')
    assert 'a + b' in bank.search('sum up the total', 1)[0].text == seen.hits[0].text
    assert '[2] is now [4]' in seen.page.message.value and not seen.editors
    assert bank.get(4)[0].metadata == {'source': 'git:app'}
    assert buttons(seen.page.head)['undo'].description == 'undo update: +[4] −[2]'
    press(seen, 'undo')
    assert seen.hits[0].id == 2 and 'undone: update' in seen.page.said
    assert 'a - b' in seen.page.rows.children[0].children[0].value
    assert buttons(seen.page.head)['undo'].description == 'undo add: +3'


def test_delete_and_undo_until_nothing_is_left(bank):
    seen = Inspector(bank, 'day')
    gone = seen.hits[0].id
    press(seen, 'delete')
    assert gone not in {hit.id for hit in seen.hits} and f'[{gone}] is deleted' in seen.page.said and len(bank) == 2
    press(seen, 'undo')
    assert gone in {hit.id for hit in seen.hits} and len(bank) == 3
    press(seen, 'undo')
    assert len(bank) == 0 and seen.hits == [] and 'nothing matches in 0 memories' in seen.page.said
    assert 'undo' not in buttons(seen.page.head) and 'the bank is empty' in seen.page.map.value
    bank.add('let day')
    seen.search()
    assert len(seen.hits) == 1 and '<img' in seen.page.map.value


def test_fields_search(bank):
    seen = Inspector(bank)
    assert (seen.hits, seen.page.said) == ([], '3 memories')
    seen.page.query.value = 'day'
    assert len(seen.hits) == 3
    seen.page.count.value = 1
    assert len(seen.hits) == len(seen.page.rows.children) == 1
    seen.page.count.value = 0  # the field does not go below one
    assert len(seen.hits) == 1
    seen.page.query.value = '  '
    assert seen.hits == []


def test_refusals_are_shown(bank):
    "What somebody else did meanwhile, a text that cannot be, another encoder, a bank that was closed."
    seen = Inspector(bank, 'total', k=1)
    bank.delete(2)
    press(seen, 'delete')
    assert 'was deleted by operation 2' in seen.page.message.value and '#c53030' in seen.page.message.value
    assert seen.hits == []  # nothing else in this bank is near
    stale = buttons(seen.page.head)['undo']
    bank.undo()
    stale.click()
    assert 'was undone before' in seen.page.said and len(bank) == 3
    press(seen, 'edit')
    rewrite(seen, ' ')
    press(seen, 'save')
    assert 'must not be empty' in seen.page.said and 2 in seen.editors and len(bank) == 3
    bank.encoder = Hashed(1)
    seen.search()
    assert 'bank.reencode(encoder)' in seen.page.said and seen.hits == []
    bank.close()
    press(seen, 'undo')
    assert 'was closed' in seen.page.said


def test_an_editor_stays_until_it_is_closed(bank):
    seen = Inspector(bank, 'total', k=1)
    press(seen, 'edit')
    rewrite(seen, 'half a corr')
    seen.page.query.value = 'read day new date'
    assert seen.hits[0].id == 1 and len(seen.page.rows.children) == 2
    assert any(getattr(p, 'value', '') == 'half a corr' for p in parts(seen.page.rows))
    press(seen, 'cancel')
    assert '[2] stays as it is' in seen.page.said and len(seen.page.rows.children) == 1 and len(bank.operations()) == 1


def test_nothing_becomes_html(bank):
    seen = Inspector(bank, 'day <b>')
    rows = ''.join(getattr(p, 'value', '') for p in parts(seen.page.rows))
    page = rows + seen.page.message.value + seen.still()._repr_html_()
    assert '&lt;script&gt;alert' in page and '<script' not in page and 'a&lt;b&gt;.ts' in page
    assert '<b>.ts' not in page and 'day <b>' not in page
    seen.page.query.value = '<img src=x>'
    assert '<img src=x' not in seen.still().html
    seen.page.query.value = 'day'
    assert '<img' not in seen.hits[0].card(age='<img src=x>')


def test_a_click_on_what_was_replaced_goes_nowhere(bank):
    "Rows are closed, not filled anew; and a hundred searches leave no more widgets than one."
    seen = Inspector(bank, 'day')
    old = [p for p in parts(seen.page.rows) + list(seen.page.head.children[2:]) if isinstance(p, ipywidgets.Button)]
    count = len(ipywidgets.widgets.widget._instances)
    for word in ('total', 'date', 'day') * 3: seen.page.query.value = word
    assert len(ipywidgets.widgets.widget._instances) == count
    press(seen, 'delete')
    assert len(old) == 7 and all(button.comm is None for button in old)


def test_readonly_has_no_buttons(bank):
    with Bank(bank.folder, Hashed(), readonly=True) as reader:
        seen = Inspector(reader, 'day')
        assert seen.readonly and not Inspector(bank).readonly
        assert len(seen.hits) == 3 and buttons(seen.page.whole) == {} and '<img' in seen.page.map.value
        bank.delete(1)
        seen.search()
        assert len(seen.hits) == 2  # a reader sees what the writer did


def test_without_vectors(tmp_path):
    with Bank(tmp_path/'plain') as plain:
        plain.add(TEXTS)
        seen = Inspector(plain, 'day')
        assert 'by words only' in seen.page.said and 'bank.reencode(encoder)' in seen.page.map.value
        assert '<img' not in seen.still().html
        press(seen, 'delete')
        assert len(plain) == 2
        with pytest.raises(UserError, match='must have vectors'): plot_bank(plain)


def test_ages(bank):
    seen = Inspector(bank, 'read a day', 1, clock=lambda: bank.get(1)[0].created + 7300)
    assert '>2 h</span>' in seen.page.rows.children[0].children[0].value
    assert 'operation 1, 2 h' == buttons(seen.page.head)['undo'].tooltip
    assert '2 h' not in repr(seen.still()) + seen.still().html  # it would be wrong tomorrow
    ages = [format_age(s) for s in (59.9, 3599, 3600, 172_800, 364 * 86400, 730 * 86400)]
    assert ages == ['new', '59 min', '1 h', '2 d', '12 mo', '2 y']


def test_what_would_be_undone(bank):
    "Also beyond many operations that were undone; what undo passes over is passed over here."
    for i in range(12): bank.add(f'let x{i}')
    for _ in range(12): bank.undo()
    assert find_undoable(bank).id == 1
    bank.reencode(Hashed(1))
    bank.compact()
    assert find_undoable(bank).id == 1
    again = bank.undo()
    assert again.undoes == 1 and find_undoable(bank) is None


def test_the_plane(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 12)) * np.arange(12, 0, -1)
    at = project_vectors(vectors)
    assert at.shape == (500, 2) and np.allclose(at.mean(0), 0, atol=1e-9)
    assert at[:, 0].var() > at[:, 1].var() > vectors[:, 2].var() / 2
    for order in (np.arange(500)[::-1], rng.permutation(500)):
        np.testing.assert_allclose(project_vectors(vectors[order]), at[order], atol=1e-9)
    for few in (np.ones((1, 5)), np.ones((7, 5)), np.ones((3, 1))):
        assert project_vectors(few).tolist() == [[0, 0]] * len(few)


def test_a_large_bank(tmp_path):
    "A sample is drawn, and a hit that is not in it stands in its place all the same."
    with Bank(tmp_path/'large', Hashed()) as large:
        large.add([f'let x{i} = {i}' for i in range(MAP_POINTS + 100)], {'source': '$a_b$'})
        bank_map = map_bank(large)
        assert MAP_POINTS / 2 <= len(bank_map.points) <= MAP_POINTS
        hits = large.search('let x7', 3)
        figure = plot_bank(large, hits)
        ringed = figure.axes[0].collections[-1].get_offsets()
        _, vectors = large.store.vectors(ids=[hit.id for hit in hits])
        np.testing.assert_allclose(ringed, project_vectors(vectors, bank_map.plane))
        assert len(repr(bank_map)) < 500


CELLS = f'''
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_look import TEXTS, Hashed
from shutka.memory.bank import Bank
from shutka.memory.inspector import Inspector
bank = Bank('bank', Hashed())
bank.add(TEXTS, {{'source': 'git:app'}})
seen = Inspector(bank, 'day')
seen
---
seen.page.query.value = 'total'
'''.split('---')


def test_headless(tmp_path, monkeypatch):
    "Papermill has no browser: the still of the last search stays, with the map, also if a later cell has searched."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    cells = [dict(id=f'cell-{i}', cell_type='code', metadata={}, source=source.strip(), outputs=[],
                  execution_count=None) for i, source in enumerate(CELLS)]
    kernel = {'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}}
    Path('in.ipynb').write_text(json.dumps(dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5)))
    papermill.execute_notebook('in.ipynb', 'out.ipynb', progress_bar=False)
    live, still = [output['data'] for output in json.loads(Path('out.ipynb').read_text())['cells'][0]['outputs']]
    assert 'application/vnd.jupyter.widget-view+json' in live and set(still) == {'text/html', 'text/plain'}
    html = ''.join(still['text/html'])
    assert '<mark>total</mark>' in html and 'src="data:image/svg+xml;base64,' in html and '<button' not in html
    assert 'function <mark>total</mark>' in html
    assert ''.join(still['text/plain']).startswith("'total' 3 of 3 memories")

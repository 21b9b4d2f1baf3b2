"""The inspector in a real browser, JupyterLab and Chromium: clicks, keys, what the page and the saved notebook show.

Run by `make browser`.
"""
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.browser

SETUP = f'''
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_look import TEXTS, Hashed
from shutka.memory.bank import Bank
from shutka.memory.inspector import Inspector
bank = Bank('bank', Hashed())
bank.add(TEXTS, [{{'source': 'git:app', 'path': 'src/days.ts'}}, {{'source': 'git:app', 'path': 'src/<b>sums.ts'}},
                 {{'source': 'npm:evil'}}])
'''
SHOW = "seen = Inspector(bank, 'day')\nseen"


@pytest.fixture(scope='module')
def browser():
    "tools/browser.py, if there is what it needs."
    for name in ('jupyterlab', 'playwright'):
        if not importlib.util.find_spec(name): pytest.skip(f'needs {name}, which `make browser` installs')
    sys.path.insert(0, str(ROOT/'tools'))
    import browser
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        if not browser.chromium(play):
            pytest.skip("needs Chromium: the system's package, or `playwright install chromium`")
    return browser


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('lab')


@pytest.fixture(scope='module')
def lab(browser, folder):
    "The address of a JupyterLab, whose kernels find shutka."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(ROOT))
        with browser.jupyterlab(folder) as address: yield address


@pytest.fixture
def page(browser):
    with browser.browsing(1100, 1100) as page:
        page.set_default_timeout(20_000)
        yield page


@pytest.fixture
def inspector(browser, lab, folder, page, request):
    "A notebook of the test's own, open and run: the inspector in it."
    path = folder/f'{request.node.name}.ipynb'
    cells = [dict(id=f'cell-{i}', cell_type='code', metadata={}, source=source, outputs=[], execution_count=None)
             for i, source in enumerate([SETUP.strip().replace("'bank'", repr(request.node.name)), SHOW])]
    kernel = {'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}}
    path.write_text(json.dumps(dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5)))
    browser.run_all(page, f'{lab}/{path.name}')
    page.wait_for_function('window.over')
    found = page.locator('.shutka-bank')
    found.locator('img').wait_for()
    yield found
    page.screenshot(path=folder.parent/f'{path.stem}.png')


def ask(inspector, words):
    "Type a question, and Enter."
    field = inspector.locator('input[type=text]')
    field.fill(words)
    field.press('Enter')


def hit(inspector, words): return inspector.locator('.shutka-row', has_text=words)


def test_search_delete_undo(inspector, page):
    from playwright.sync_api import expect
    expect(inspector.locator('.shutka-row')).to_have_count(3)
    ask(inspector, 'sum up the total')
    expect(inspector.locator('.shutka-row mark').first).to_have_text('total')
    hit(inspector, 'xs.reduce').get_by_text('delete').click()
    expect(inspector).to_contain_text('[2] is deleted')
    expect(inspector.locator('.shutka-row')).to_have_count(2)
    expect(hit(inspector, 'xs.reduce')).to_have_count(0)
    inspector.get_by_text('undo delete: −[2]').click()
    expect(hit(inspector, 'xs.reduce')).to_have_count(1)
    expect(inspector.get_by_text('undo add: +3')).to_be_visible()


def test_edit(inspector, page):
    "What was typed last is saved too; what looks like HTML in a memory stays text."
    from playwright.sync_api import expect
    hit(inspector, 'xs.reduce').get_by_text('edit').click()
    field = inspector.locator('textarea')
    field.press('Control+a')
    harm = '<img src=x onerror="window.harmed = 1">'
    field.press_sequentially('function total(xs) { return xs.reduce((a, b) => a + b) } // ' + harm)
    inspector.get_by_text('save', exact=True).click()
    expect(inspector).to_contain_text('[2] is now [4]')
    expect(inspector.locator('textarea')).to_have_count(0)
    expect(hit(inspector, 'a + b) } // <img src=x onerror="window.harmed = 1">')).to_have_count(1)
    expect(hit(inspector, '<script>alert(1)</script>')).to_have_count(1)
    assert page.evaluate('window.harmed') is None
    inspector.get_by_text('undo update: +[4] −[2]').click()
    expect(hit(inspector, 'a - b')).to_have_count(1)


def test_typing_and_clicking_at_once(inspector, page):
    "A question that is typed but not yet asked, then a click: what is deleted is the hit that was clicked, or nothing."
    from playwright.sync_api import expect
    ask(inspector, 'new date')
    expect(hit(inspector, 'readDay').locator('mark').first).to_be_visible()
    inspector.locator('input[type=text]').fill('sum up the total')
    inspector.locator('.shutka-row').first.get_by_text('delete').click()
    expect(inspector.locator('.shutka-row mark').first).to_have_text('total')
    expect(hit(inspector, 'xs.reduce')).to_have_count(1)


def test_what_stays(inspector, browser, lab, folder, page):
    "While the widget lives its still is hidden; in the saved notebook, opened with another kernel, one sees the still."
    from playwright.sync_api import expect
    ask(inspector, 'sum up the total')
    expect(inspector.locator('.shutka-row mark').first).to_have_text('total')
    still = page.locator('[class^=shutka-] > p', has_text='sum up the total')
    expect(still).to_have_count(1)
    expect(still).to_be_hidden()
    page.evaluate(browser.SAVE)
    page.wait_for_function("document.querySelector('.jp-mod-current.jp-mod-dirty') === null")
    page.goto('about:blank')
    path = folder/'test_what_stays.ipynb'
    (folder/'again.ipynb').write_text(path.read_text())
    page.goto(f'{lab}/again.ipynb')
    expect(still).to_be_visible()
    expect(page.locator('mark', has_text='total').first).to_be_visible()
    expect(page.get_by_alt_text('map of the bank')).to_be_visible()


def read_boxes(page) -> list[str]:
    "What the browser finds in the middle of each box on the map in sight: its title, or None if another lies on it."
    return page.evaluate("""() => {
        const image = [...document.querySelectorAll('img[alt="map of the bank"]')].find(image => image.offsetParent)
        image.scrollIntoView({block: 'center'})
        return [...image.parentElement.querySelectorAll('i')].map(box => {
            const {left, top, width, height} = box.getBoundingClientRect()
            const found = document.elementFromPoint(left + width / 2, top + height / 2)
            return found === box ? found.title : null
        })
    }""")


def test_names_under_the_mouse(inspector, page):
    "The map says which hit is where, and its ranks are those of the cards."
    from playwright.sync_api import expect
    ask(inspector, 'sum up the total')
    expect(inspector.locator('.shutka-row mark').first).to_have_text('total')
    expect(inspector.locator('i[title^="1  function total"]').first).to_be_attached()   # the map comes after the hits
    names = [name for name in read_boxes(page) if name]
    for rank, place in ((1, 'function total'), (2, 'function'), (3, 'function')):
        assert any(name.startswith(f'{rank}  {place}') for name in names)
        expect(inspector.locator('.shutka-about').nth(rank - 1)).to_contain_text(str(rank))
    assert inspector.locator('.shutka-row span', has_text='function').first.evaluate(
        'span => getComputedStyle(span).color') == 'rgb(165, 83, 205)'


def test_a_stranger_sees_colours_and_names_too(inspector, browser, lab, folder, page):
    "JupyterLab does not trust a notebook that somebody else has run; the still is made for that."
    from playwright.sync_api import expect
    page.evaluate(browser.SAVE)
    page.wait_for_function("document.querySelector('.jp-mod-current.jp-mod-dirty') === null")
    page.goto('about:blank')
    notebook = json.loads((folder/'test_a_stranger_sees_colours_and_names_too.ipynb').read_text())
    notebook['cells'][0]['source'] = 'changed by somebody else'   # so its signature is wrong
    (folder/'strange.ipynb').write_text(json.dumps(notebook))
    page.goto(f'{lab}/strange.ipynb')
    expect(page.get_by_alt_text('map of the bank')).to_be_visible()
    assert any(name and name.startswith('1  function') for name in read_boxes(page))
    assert page.locator('pre span', has_text='function').first.evaluate(
        'span => getComputedStyle(span).color') == 'rgb(165, 83, 205)'
    page.screenshot(path=folder.parent/'strange.png')

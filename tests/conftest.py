"What every test may count on: two threads that sleep when idle, and no GPU test without a GPU."
import os
import signal
from pathlib import Path

# Tests that are started in the background would ignore Ctrl-C, and so would the processes they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault('OMP_NUM_THREADS', '2')  # before torch is imported; subprocesses inherit it
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import pytest


def pytest_collection_modifyitems(items):
    "Skip what is marked `gpu` where there is none."
    marked = [item for item in items if item.get_closest_marker('gpu')]
    if not marked: return
    import torch
    if torch.cuda.is_available(): return
    for item in marked: item.add_marker(pytest.mark.skip(reason='needs a GPU'))


@pytest.fixture(scope='session')
def pairs(tmp_path_factory):
    "A file of 400 pairs from the bundled corpus: quicker to read than the corpus."
    from shutka.core.files import write_jsonl
    from shutka.core.hashes import make_rng
    from shutka.data.pairs import Report, collect_pairs
    path = tmp_path_factory.mktemp('pairs')/'pairs.jsonl'
    write_jsonl(path, make_rng(0).sample(list(collect_pairs('bundled:typescript', Report())), 400))
    return path


@pytest.fixture(scope='session')
def phase1(tmp_path_factory, pairs):
    "The folder of a run of phase 1 with a small model that was never trained."
    import torch
    from small import SMALL

    from shutka.models.text_jepa import TextJEPA
    from shutka.models.text_jepa_files import save_model
    from shutka.train.folder import prepare
    from shutka.typescript.recipe import Typescript
    from shutka.typescript.settings import TypescriptSettings
    out = tmp_path_factory.mktemp('phase1')/'run'
    recipe = Typescript(TypescriptSettings(source=f'jsonl:{pairs}', max_samples=60, steps=1, batch_size=8, out=out))
    prepare(recipe, progress=lambda line: None)
    torch.manual_seed(0)
    save_model(TextJEPA(SMALL), Path(recipe.settings.out)/'model')
    return recipe.settings.out


@pytest.fixture
def small(tmp_path, monkeypatch, pairs):
    "Prepares runs of a model that trains in a second: `small(name, **settings)` is the recipe of one."
    from small import SMALL

    from shutka.models.shapes import SIZES
    from shutka.train.folder import prepare
    from shutka.typescript.recipe import Typescript
    from shutka.typescript.settings import TypescriptSettings
    monkeypatch.setitem(SIZES, 'tiny', SMALL)

    def make(name='run', **settings):
        usual = dict(source=f'jsonl:{pairs}', steps=10, batch_size=16, out=tmp_path/name)
        recipe = Typescript(TypescriptSettings(**usual | settings))
        prepare(recipe, progress=lambda line: None)
        return recipe
    return make

"A text-JEPA that starts from a pretrained sentence encoder: tuned by the one loop, judged by packages kept apart."
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import shutka
from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl, write_jsonl
from shutka.core.hashes import sha256
from shutka.data.pairs import Report, collect_pairs
from shutka.evaluate.comparison import evaluate_run
from shutka.evaluate.retrieval import Pool, evaluate_retrieval, fuse_scores, standardize_scores
from shutka.export.bundle import rebundle, write_bundle
from shutka.memory.bank import Bank
from shutka.models import sentences
from shutka.models.opening import find_model, open_model
from shutka.models.sentence_jepa import SentenceJEPA, write_small_sentences
from shutka.models.sentences import SentenceEncoder
from shutka.train.checkpoint import list_checkpoints
from shutka.train.fit import fit
from shutka.train.folder import prepare
from shutka.train.log import read_result
from shutka.train.phase import Phase
from shutka.train.report import write_report
from shutka.train.run import make_session, open_trained, read_steps, run_training, train_folder
from shutka.typescript.run import choose_recipe, plan_typescript
from shutka.typescript.settings import TypescriptSettings

pytest.importorskip('sentence_transformers')
TEXTS = ['parse a date', '{ return new Date(text); }', 'sort the users by name', 'x']


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with pairs of four packages, and an encoder that was never trained."
    place = tmp_path_factory.mktemp('tuned')
    pairs = [pair for pair in collect_pairs('bundled:typescript', Report())
             if pair['package'] in ('dates', 'arrays', 'trees', 'web')]
    write_jsonl(place/'pairs.jsonl', pairs)
    write_jsonl(place/'one.jsonl', [pair for pair in pairs if pair['package'] == 'dates'])
    write_small_sentences(place/'small', [pair['doc'] for pair in pairs])
    (place/'small'/'README.md').write_text('---\nlicense: mit\n---\n# Small\n')
    return place


def make(place, out, prepared=True, **settings):
    "The recipe of a short tuning."
    usual = dict(source=f"jsonl:{place/'pairs.jsonl'}", held_out='web', encoder=str(place/'small'), steps=6,
                 batch_size=8, out=str(out))
    recipe = choose_recipe(TypescriptSettings(**usual | settings))
    if prepared: prepare(recipe, progress=lambda line: None)
    return recipe


@pytest.fixture(scope='module')
def run(place):
    "A run that was trained, examined and bundled."
    out = place/'run'
    make(place, out)
    assert run_training(str(out)) == 0
    evaluate_run(out)
    write_bundle(out)
    return out


# --- from settings to a bundle

def test_a_run_ends_as_a_folder_of_sentence_transformers(run):
    from sentence_transformers import SentenceTransformer
    plain = SentenceTransformer(str(run/'model'), device='cpu')
    mine = open_model(run)
    assert (mine.kind, mine.run['data']['origin']['licence']) == ('sentences', 'mit')
    np.testing.assert_allclose(mine.model.encode(TEXTS), plain.encode(TEXTS), atol=1e-5)
    start = SentenceEncoder(run/'start').encode(TEXTS)
    kept = read_result(run)['kept_step']
    assert np.array_equal(start, mine.model.encode(TEXTS)) == (kept == 0)


@pytest.mark.parametrize('place_of_classes', [
    'sentence_transformers.models.', pytest.param('', marks=pytest.mark.faults)])
def test_a_fresh_process_opens_it(run, tmp_path, place_of_classes):
    "Version 6 of the library names its classes by new places; nothing has imported the old ones there."
    from sentence_transformers import SentenceTransformer
    parts = [part['type'] for part in read_json(run/'model'/'modules.json')]
    assert parts == ['sentence_transformers.models.Transformer', 'sentence_transformers.models.Pooling']
    name = run/'model'
    if not place_of_classes: SentenceTransformer(str(name), device='cpu').save(str(name := tmp_path/'theirs'))
    code = f"from shutka.models.opening import open_model; print(open_model({str(name)!r}).model.runs_in_batches)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == 'True', done.stderr


def test_packages_are_kept_apart_and_checks_ask_about_them(run):
    data = read_json(run/'run.json')['data']
    assert data['held_out'] == ['web'] and data['validation_packages'] == ['dates']
    parts = {name: {pair['package'] for pair in read_jsonl(run/'data'/f'{name}.jsonl')} for name in data['pairs']}
    assert parts['files'] <= parts['train'] == {'arrays', 'trees'}
    assert (parts['validation'], parts['packages']) == ({'dates'}, {'web'})
    rows = read_steps(run/'log.jsonl')
    assert len(rows) == 6 and all('mrr' in row for row in rows)   # a fifth of six steps is one
    assert {row['phase'] for row in rows} == {'tune'}


def test_the_table_has_the_untouched_encoder(run):
    rows = read_result(run)['rows']
    methods = [row['method'] for row in rows if row['pool'] == rows[0]['pool']]
    assert methods == ['chance', 'BM25', 'BM25 split', 'pretrained', 'dense', 'hybrid']
    assert all('not known' in row['note'] for row in rows)   # nobody says what the encoder has read


def test_the_report_has_the_table_and_its_note(run):
    page = next(path for path in write_report(run) if path.suffix == '.html').read_text()
    assert 'pretrained' in page and 'Note: what these weights have seen is not known.' in page


def test_the_bundle_gives_the_same_vectors(run, tmp_path):
    [packed] = run.glob('*.zip')
    shutil.unpack_archive(packed, tmp_path/'unpacked')
    vectors, marks = open_model(run).model.encode(TEXTS, side='words'), set()
    for name in (run, run/'model', packed, tmp_path/'unpacked'):
        opened = open_model(name)
        assert np.array_equal(opened.model.encode(TEXTS, side='words'), vectors)
        marks.add(opened.model.fingerprint)
    assert len(marks) == 1
    assert np.array_equal(shutka.load(packed).encode(TEXTS, side='words'), vectors)
    opened = open_model(packed)
    assert opened.model.source == str(packed) and str(run) not in str(opened.run)
    page = opened.content['README.md'].decode()
    assert 'Licence of what it was tuned from: mit' in page and 'sentence encoder small, tuned' in page
    assert opened.run['settings']['encoder'] == 'small'   # no path of this machine
    assert set(json.loads((tmp_path/'unpacked'/'manifest.json').read_text())) == opened.content.keys()


def test_whole_numbers_on_request(run, monkeypatch):
    monkeypatch.setattr(sentences, 'is_int8_quicker', lambda: True)   # the tests' processor may be slow at it
    [packed] = run.glob('*.zip')
    exact = open_model(run).model.encode(TEXTS)
    for name in (f'{run}#int8', f"{run/'model'}#int8", f'{packed}#int8'):
        found = open_model(name).model
        assert found.name.endswith('#int8') and np.abs(found.encode(TEXTS) - exact).max() < .1 * np.abs(exact).max()
        assert found.fingerprint == open_model(f'{run}#int8').model.fingerprint


def test_a_bank_takes_it_and_travels_with_it(run, tmp_path):
    [packed] = run.glob('*.zip')
    with Bank(tmp_path/'bank', open_model(packed).model) as bank:
        bank.add(['function add(a, b) { return a + b }', 'const now = () => Date.now()'])
    both = rebundle(packed, tmp_path/'bank', tmp_path/'both.zip')
    assert {'memory.jsonl', 'model/modules.json'} <= open_model(both).content.keys()
    with Bank(tmp_path/'bank', open_model(run).model, readonly=True) as bank:   # the run's folder is the same encoder
        assert len(bank.search('add', how='dense')) == 2
    with pytest.raises(UserError, match='encoder=model'): shutka.load(both, bank=tmp_path/'other')


def test_a_tuned_encoder_is_tuned_further_and_keeps_its_origin(place, run):
    recipe = make(place, place/'further', encoder=str(next(run.glob('*.zip'))), steps=1)
    data = read_json(place/'further'/'run.json')['data']
    assert data['origin']['name'] == 'small' and data['origin']['licence'] == 'mit'
    assert np.array_equal(recipe.build_model().encoder.encode(TEXTS), open_model(run).model.encode(TEXTS))


def test_same_settings_same_weights(place, run):
    make(place, place/'again')
    assert run_training(str(place/'again')) == 0
    assert sha256(place/'again'/'model'/'model.safetensors') == sha256(run/'model'/'model.safetensors')


# --- stopping and resuming

def test_a_run_that_was_stopped_goes_on_to_the_last_bit(place, run):
    out = place/'stopped'
    recipe = make(place, out)
    turns = iter([False, False, True])
    assert train_folder(out, make_session(recipe, 1), stop=lambda: next(turns)) == 'stopped'
    assert len(read_steps(out/'log.jsonl')) == 3
    assert run_training(str(out)) == 0
    wanted, found = read_steps(run/'log.jsonl'), read_steps(out/'log.jsonl')
    for one, other in zip(wanted, found, strict=True):
        for name in ('loss', 'grad_norm', 'lr', 'mrr', 'effective_rank'): assert one[name] == other[name]
    assert sha256(out/'model'/'model.safetensors') == sha256(run/'model'/'model.safetensors')


def test_memory_can_be_saved(place, run):
    make(place, place/'saving', gradient_checkpointing=True)
    assert run_training(str(place/'saving')) == 0
    wanted, found = read_steps(run/'log.jsonl'), read_steps(place/'saving'/'log.jsonl')
    np.testing.assert_allclose([row['loss'] for row in found], [row['loss'] for row in wanted], rtol=1e-4)


def test_patience_ends_a_tuning(place):
    recipe = make(place, place/'patient', steps=40, lr=1e-9, patience=2)   # nothing gets better
    assert run_training(str(recipe.settings.out)) == 0
    rows = read_steps(place/'patient'/'log.jsonl')
    assert rows[-1]['end'] == 'patience' and len(rows) < 40


def test_one_package_means_one_pass_and_no_checks(place):
    lines = []
    recipe = make(place, place/'one', prepared=False, source=f"jsonl:{place/'one.jsonl'}", held_out='', steps=0)
    prepare(recipe, progress=lines.append)
    assert any('no package can be kept apart' in line for line in lines)
    model, [phase] = recipe.build_training()
    pairs = read_json(place/'one'/'run.json')['data']['examples']
    assert phase.steps == -(-pairs // 8) and phase.check(model) == {}
    with pytest.raises(UserError, match='patience must be 0'):
        make(place, place/'none', source=f"jsonl:{place/'one.jsonl'}", held_out='', patience=2)


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
    def forward(self, x): return x * self.weight

def worse_each_step(judge_start, steps=5):
    "A phase whose weights are best before the first step."
    return Phase(name='p', batch=lambda step, rank, world: torch.ones(1, 2), lr=.1, steps=steps, every=1, score='mrr',
                 loss=lambda model, x: (model(x).sum(), {}), check=lambda model: {'mrr': float(model.weight.sum())},
                 judge_start=judge_start)


def test_the_first_weights_may_be_the_best_ones(tmp_path):
    model = Line()
    list(fit(model, [worse_each_step(True)], tmp_path/'judged'))
    assert model.weight.tolist() == [1, 1]
    assert len(list(fit(model := Line(), [worse_each_step(False)], tmp_path/'plain'))) == 5
    assert model.weight.tolist() != [1, 1]   # those after the first step


def test_the_first_weights_are_still_there_after_a_stop(tmp_path):
    phases = [worse_each_step(True, steps=9)]
    turns = iter([False] * 5 + [True])
    list(fit(Line(), phases, tmp_path, replace(make_plain_session(), save_every=0), stop=lambda: next(turns)))
    assert 0 in {int(path.name.split('-')[1]) for path in list_checkpoints(tmp_path)}
    rows = list(fit(model := Line(), phases, tmp_path, replace(make_plain_session(), save_every=0)))
    assert [row['step'] for row in rows] == [7, 8, 9] and model.weight.tolist() == [1, 1]

def make_plain_session():
    from shutka.train.trainer import Session
    return Session()


# --- plans and refusals

def test_a_plan_knows_the_encoder(place, tmp_path):
    settings = TypescriptSettings(encoder=str(place/'small'), source=f"jsonl:{place/'pairs.jsonl'}",
                                  out=str(tmp_path/'out'))
    plan = plan_typescript(settings)
    assert plan.batch == 64 and list(tmp_path.iterdir()) == []
    assert (settings.epochs, settings.lr) == (2, 5e-5)


@pytest.mark.parametrize('name, value', [('size', 'small'), ('tokenizer', 'cl100k_base'), ('ternary', .1),
                                         ('resume', 'runs/typescript')])
def test_what_an_encoder_does_not_leave_open(name, value):
    with pytest.raises(UserError, match=f'{name} must be .* with encoder'):
        TypescriptSettings(encoder='minilm', **{name: value})


def test_what_is_no_encoder_is_refused_before_anything_is_collected(place, run, phase1, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for encoder, why in [('./nowhere', 'does not exist'), (str(phase1), 'must be a sentence encoder'),
                         (str(place), 'must be a bundle'), ('http://127.0.0.1:9/v1#m', 'cannot be reached'),
                         (f"{place/'small'}#int8", 'in full numbers')]:
        with pytest.raises(UserError, match=why): make(place, tmp_path/'out', encoder=encoder)
    assert not (tmp_path/'out'/'run.json').exists()


def test_another_list_of_modules_is_refused(place, tmp_path):
    from sentence_transformers import SentenceTransformer, models
    parts = list(SentenceTransformer(str(place/'small'), device='cpu'))
    SentenceTransformer(modules=[*parts, models.Dense(32, 5)], device='cpu').save(str(tmp_path/'dense'))
    with pytest.raises(UserError, match='has other parts'): make(place, tmp_path/'out', encoder=str(tmp_path/'dense'))


def test_what_needs_a_decoder_refuses_it_in_one_sentence(run):
    from shutka.evaluate.model import _open_examinee
    from shutka.instructions import InstructionsSettings
    from shutka.instructions.recipe import Instructions
    [packed] = run.glob('*.zip')
    for name in (run, packed):
        recipe = Instructions(InstructionsSettings(resume=str(name)))
        with pytest.raises(UserError, match='is a sentence encoder') as caught: recipe.estimate_load(1)
        assert '\n' not in str(caught.value)
    assert find_model(run) == 'sentences'
    for name in (run, packed):
        with pytest.raises(UserError, match='a model that writes, and .* is a sentence encoder') as caught:
            _open_examinee('bundle', str(name))
        assert '\n' not in str(caught.value)


def test_a_checkpoint_opens(place, run):
    [checkpoint] = list_checkpoints(run/'checkpoints')
    opened = open_trained(checkpoint)
    assert opened.kind == 'sentences' and isinstance(opened.model, SentenceJEPA)
    assert opened.model.encode(TEXTS).shape == (4, 32)


# --- voices in tables

def test_fusing_takes_any_number_of_sides():
    rng = np.random.default_rng(0)
    sides = [rng.normal(size=(3, 5)) * scale for scale in (1, 10, .1)]
    np.testing.assert_allclose(fuse_scores(*sides), sum(map(standardize_scores, sides)))
    np.testing.assert_allclose(fuse_scores(sides[0]), standardize_scores(sides[0]))


def test_voices_get_rows_and_are_fused():
    rng = np.random.default_rng(0)
    pool = Pool(name='p', queries=tuple('abcdefgh'), bodies=tuple(f'{letter} x' for letter in 'abcdefgh'))
    true = rng.normal(size=(8, 16))
    noisy = lambda seed: lambda queries, bodies: (true + np.random.default_rng(seed).normal(size=true.shape) * 2, true)
    rows = evaluate_retrieval(pool, {'dense': noisy(1)}, {'one': noisy(2), 'two': noisy(3)})
    assert [row['method'] for row in rows][-5:] == ['dense', 'one', 'two', 'hybrid', 'fused']
    assert 'fused' not in [row['method'] for row in evaluate_retrieval(pool, {'dense': noisy(1)})]


def test_the_command_asks_voices(place, run, phase1):
    from shutka.faces.cli import shutka as command
    source = f"jsonl:{place/'pairs.jsonl'}"
    given = ['evaluate', 'retrieval', str(run), source, '--size', '16', '--voice', str(phase1), '--voice',
             str(place/'small'), '-o', str(place/'rows.json')]
    done = CliRunner().invoke(command, given)
    assert done.exit_code == 0, done.output
    methods = [row['method'] for row in read_json(place/'rows.json')]
    assert methods == ['chance', 'BM25', 'BM25 split', 'pretrained', 'dense', 'run', 'small', 'hybrid', 'fused']


def test_two_voices_of_one_name_are_refused(place, run, tmp_path):
    from shutka.faces.cli import run_command
    shutil.copytree(place/'small', tmp_path/'small')
    voices = ['--voice', str(place/'small'), '--voice', str(tmp_path/'small')]
    words = ['evaluate', 'retrieval', str(run), f"jsonl:{place/'pairs.jsonl'}", *voices]
    assert run_command(words) == 2

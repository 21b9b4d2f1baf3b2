"""A model learns a code data set: what is shown, how often, and in which order; the same however often it was killed.

Masked sequences by their labels, padding never; each language as a plain loop measures it; and what is refused.
"""
import json
import shlex
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from tuning import make_base

from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl, write_json
from shutka.dataset.build import build_dataset
from shutka.dataset.records import METADATA_FILE
from shutka.dataset.settings import DatasetSettings
from shutka.faces import cli
from shutka.faces.notebooks import (
    check_settings,
    convert_parameters,
    find_notebook,
    list_notebooks,
    read_commands,
    read_parameters,
)
from shutka.guides import code_data
from shutka.guides.code_data import build_code_data, plan_code_data, settle_dataset, show_code_result, train_on_code
from shutka.guides.code_examination import HeldOut, compare_by_language, measure_held_out
from shutka.guides.code_order import CodeBatches, make_code_loss
from shutka.guides.code_recipe import make_code_recipe
from shutka.guides.settings import CodeDataSettings
from shutka.models.lm import IGNORED_LABEL, CausalLM
from shutka.models.opening import open_model
from shutka.train.fit import fit
from shutka.train.folder import prepare, update_result

quiet = lambda *_: None
LENGTH = 48


def write_code(i: int, lines: int) -> str:
    rng = np.random.default_rng(i)
    pairs = rng.integers(0, 10_000, (lines, 2)).tolist()
    if i % 4 == 3:
        body = [f'  const value{a % 99} = work(x, {b}) // step {n}' for n, (a, b) in enumerate(pairs)]
        body = '\n'.join([f'export function task{i}(x: number) {{', *body])
        return f'{body}\n  return value{pairs[0][0] % 99}\n}}\n'
    body = [f'    value_{a % 99} = work(x, {b})  # step {n}' for n, (a, b) in enumerate(pairs)]
    return f'def task_{i}(x, other=None):\n' + '\n'.join(body) + f'\n    return value_{pairs[0][0] % 99}\n'


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    "Files of two languages: core code, tools and tests."
    folder = tmp_path_factory.mktemp('code')
    (folder/'LICENSE').write_text('SPDX-License-Identifier: MIT\n')
    for i in range(160):
        place = folder/('src', 'tools', 'tests')[i % 3]
        place.mkdir(exist_ok=True)
        (place/f"task{i}.{'ts' if i % 4 == 3 else 'py'}").write_text(write_code(i, 1 + i % 8))
    return folder


@pytest.fixture(scope='module')
def data(tree, tmp_path_factory):
    "The data set of these files."
    out = tmp_path_factory.mktemp('data')/'made'
    asked = DatasetSettings(source=f'dir:{tree}', out=str(out), length=LENGTH, vocabulary=600, workers=1)
    report = build_dataset(asked, quiet)
    assert report.passed, report.describe()
    return out


@pytest.fixture(scope='module')
def shape(tmp_path_factory):
    "The folder of a model of which only the shape is taken, and a very small one."
    return make_base(tmp_path_factory.mktemp('shape')/'tiny', hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=1)


def ask(shape: Path, data: Path, out: Path, **more) -> CodeDataSettings:
    "Settings of a training that takes seconds."
    usual = dict(preset=str(shape), pretrained=False, source='', dataset=str(data), processes=1, batch_size=8,
                 gradient_accumulation=1, scratch_lr=1e-2, out=str(out))
    return CodeDataSettings(**usual | more)


@pytest.fixture
def make(data, shape, tmp_path):
    "A recipe whose folder is prepared."
    def prepared(name='run', **more):
        recipe = make_code_recipe(ask(shape, data, tmp_path/name, **more))
        prepare(recipe, quiet)
        return recipe
    return prepared


def train(recipe, most=None) -> tuple[list[dict], CausalLM]:
    "The rows of a training, and the model."
    model, [phase] = recipe.build_training()
    return list(islice(fit(model, [phase], recipe.settings.checkpoint_folder, seed=recipe.settings.seed), most)), model


# --- what is shown --------------------------------------------------------------------------------

def test_what_the_loop_saw_has_the_weights(make):
    recipe = make(curriculum=False, max_samples=1_000, epochs=3, batch_size=40)
    rows, _ = train(recipe)
    there = recipe.read_facts()['priorities']
    seen = {name: sum(row[f'shown_{name}'] for row in rows) / there[name] for name in there}
    assert sum(row['shown_high'] + row['shown_medium'] + row['shown_low'] for row in rows) == len(rows) * 40 == 3_000
    assert abs(seen['high'] / seen['medium'] / 3 - 1) < .02 and abs(seen['low'] / seen['medium'] / .3 - 1) < .02, seen


def test_without_weights_all_are_seen_alike(make):
    rows, _ = train(recipe := make(curriculum=False, weights=False, max_samples=400, epochs=1, batch_size=40))
    assert {name: sum(row[f'shown_{name}'] for row in rows) for name in ('high', 'medium', 'low')} == \
        recipe.read_facts()['priorities']


def test_simple_code_comes_first_and_all_of_it_has_its_turn(make):
    recipe = make(max_samples=240, epochs=3, batch_size=20, weights=False)
    rows, _ = train(recipe)
    file = recipe.open_part('train')
    order, chosen, steps = recipe.lay_out(file)
    assert len(rows) == steps == 4 + 8 + 12
    complexity = np.sort(file.rows['complexity'][chosen])
    assert max(row['complexity'] for row in rows[:4]) <= complexity[79]
    shown = [np.mean([row['complexity'] for row in some]) for some in (rows[:4], rows[4:12], rows[12:])]
    assert shown == sorted(shown) and abs(shown[2] - complexity.mean()) < 1e-5


def test_a_short_training_has_three_stages_too(make):
    for given in (dict(epochs=1), dict(epochs=3, steps=3)):
        recipe = make(f'run{len(given)}', max_samples=90, batch_size=30, **given)
        order, chosen, steps = recipe.lay_out(recipe.open_part('train'))
        assert (steps, [order.count_draws(epoch) for epoch in range(3)]) == (3, [30, 30, 30])
        assert max(order.draw(2)) >= 60 > 30 > max(order.draw(0))


def test_augmentations_may_be_left_out_of_the_same_data_set(make):
    everything, nothing = make('all').read_facts(), make('none', augmentations='').read_facts()
    assert nothing['kinds']['base'] == everything['kinds']['base'] == nothing['examples'] < everything['examples']
    assert nothing['dataset'] == everything['dataset'] and nothing['parts']['holdout'] == everything['parts']['holdout']
    some = make('some', augmentations='token_masking').read_facts()
    assert {kind for kind, n in some['kinds'].items() if n} == {'base', 'token_masking'}


# --- the same however often it was killed ---------------------------------------------------------

def test_a_run_that_stops_goes_on_bitwise(make):
    settings = dict(max_samples=120, batch_size=10, epochs=3)
    whole, model = train(make('whole', **settings))
    recipe = make('stopped', **settings)
    begun, _ = train(recipe, 5)
    shutil.rmtree(recipe.settings.checkpoint_folder)   # killed before its first checkpoint but one
    rows = []
    for row in fit(*recipe.build_training(), recipe.settings.checkpoint_folder, seed=0,
                   stop=lambda: len(rows) == 8): rows.append(row)
    assert rows[-1]['end'] == 'stopped'
    later, again = train(make_code_recipe(recipe.settings))
    strip = lambda rows: [{key: row[key] for key in row if key not in ('seconds', 'tokens_s', 'memory_gb', 'end')}
                          for row in rows]
    assert strip(begun) == strip(whole)[:5] and strip(rows + later) == strip(whole)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))


def test_two_processes_share_the_batch_of_one(make):
    _, [phase] = make(batch_size=8).build_training()
    for step in (0, 7, 40):
        whole, halves = phase.batch(step, 0, 1), [phase.batch(step, rank, 2) for rank in (0, 1)]
        for name in ('kind', 'priority', 'complexity'):
            assert torch.equal(torch.cat([half[name] for half in halves]), whole[name])
        assert halves[0]['share'] == halves[1]['share'] == whole['share'] / 2
        counted = sum((half['labels'][:, 1:] != IGNORED_LABEL).sum() for half in halves)
        assert counted == (whole['labels'][:, 1:] != IGNORED_LABEL).sum() == whole['share']


@pytest.mark.faults   # half a minute
def test_two_processes_learn_the_same(data, shape, tmp_path):
    losses = []
    for processes in (1, 2):
        train_on_code(ask(shape, data, tmp_path/f'{processes}', steps=6, processes=processes), show=quiet)
        losses.append([(row['loss'], row['seen_base'], row['shown_high'], row['counted_base'])
                       for row in read_jsonl(tmp_path/f'{processes}'/'log.jsonl') if 'step' in row])
    assert np.allclose(*losses, rtol=1e-4)


# --- labels ---------------------------------------------------------------------------------------

def plain_nats(lm, tokens, labels) -> torch.Tensor:
    "Nats of each token that has a label, as one writes it in plain torch."
    logits = lm(input_ids=torch.tensor([tokens])).logits[0, :-1]
    return F.cross_entropy(logits.float(), torch.tensor(labels[1:]), ignore_index=-100, reduction='none')


def test_masked_sequences_are_learned_by_their_labels_and_padding_never(make, data):
    recipe = make()
    model, file = recipe.open_start().eval(), recipe.open_part('train')
    masked = file.index.names['kind'].index('token_masking')
    lines = list(read_jsonl(data/'training_data_train.jsonl'))
    plain = int(np.flatnonzero((file.rows['kind'] != masked) & (file.rows['length'] < LENGTH))[0])
    hidden = int(np.flatnonzero((file.rows['kind'] == masked) & (file.rows['length'] < LENGTH))[3])
    mask = read_json(data/METADATA_FILE)['mask_token_id']
    tokens, labels = file.read(hidden)
    assert (tokens == mask).any() and ((labels != IGNORED_LABEL) == (tokens == mask)).all()
    wanted = []
    for i in (plain, hidden):
        line, length = lines[i], lines[i]['metadata']['length']
        tokens = line['tokens'][:length]
        assert file.read(i)[0].tolist() == tokens
        wanted.append(plain_nats(model.lm, tokens, line.get('labels', line['tokens'])[:length]))

    order, _, _ = recipe.lay_out(file)
    order.draw = lambda step, rank=0, world=1: [0, 1]
    batch = CodeBatches(file, order, np.array([plain, hidden]))(0)
    batch = {name: torch.as_tensor(array) for name, array in batch.items()}
    loss, parts = make_code_loss(file.index)(model, batch)
    counted = [(nats > 0).sum() for nats in wanted]
    assert parts['counted_token_masking'] == counted[1] == (np.array(lines[hidden]['labels'])[1:] != -100).sum()
    assert parts['tokens'] == sum(counted) == batch['share']
    torch.testing.assert_close(loss, sum(nats.sum() for nats in wanted) / sum(counted))
    torch.testing.assert_close(parts['nats_token_masking'], wanted[1].sum())


def test_a_data_set_is_mapped_and_never_read_as_a_whole(make):
    file = make().open_part('train')
    assert isinstance(file.shard.tokens, np.memmap) and isinstance(file.lines, np.memmap)
    assert (file.rows['shard'] >= 0).sum() == len(file.shard) > 0


# --- the examination ------------------------------------------------------------------------------

def test_each_language_is_measured_as_by_a_plain_loop(make, data):
    recipe = make()
    model, held = recipe.open_start().eval(), HeldOut(recipe.open_part('test'))
    nobody = np.ones((len(held), 3))
    compared = compare_by_language(held, {'nobody': nobody, 'trained': measure_held_out(model, held)})
    rows = {row['pool']: row for row in compared if row['method'] == 'trained'}
    sums, ends = {}, {}
    lines = sorted(read_jsonl(data/'training_data_test.jsonl'),
                   key=lambda line: (line['metadata']['source_file'], line['metadata']['start']))
    with torch.no_grad():
        for line in lines:
            about = line['metadata']
            tokens = line['tokens'][:about['length']]
            seen = max(0, ends.get(about['source_file'], 0) - about['start'])   # of the windows before
            ends[about['source_file']] = about['start'] + len(tokens)
            nats = plain_nats(model.lm, tokens, [-100] * seen + tokens[seen:])
            for pool in ('all', about['language']):
                total, n = sums.get(pool, (0., 0))
                sums[pool] = total + float(nats.sum()), n + int((nats > 0).sum())
    assert set(rows) == set(sums) == {'all', 'python', 'typescript'}
    for pool, (nats, n) in sums.items():
        assert rows[pool]['tokens'] == n and abs(rows[pool]['loss'] - nats / n) < 1e-4
        assert rows[pool]['low'] <= rows[pool]['loss'] <= rows[pool]['high']


@pytest.fixture(scope='module')
def trained(data, shape, tmp_path_factory):
    "A run from its data set to its tables."
    settings = ask(shape, data, tmp_path_factory.mktemp('trained')/'run', steps=12)
    build_code_data(settings, quiet)
    return settings, train_on_code(settings, show=quiet)


def test_a_run_ends_with_tables_beside_baselines(trained):
    settings, result = trained
    assert result.status == 'ok'
    rows = [row for row in result.value['examination'] if row['pool'] == 'all']
    assert [row['method'] for row in rows] == ['uniform', 'unigram', 'trained'] and rows[2]['loss'] < rows[0]['loss']
    vocabulary = read_json(Path(settings.out)/'run.json')['data']['vocabulary']
    assert abs(rows[0]['perplexity'] / vocabulary - 1) < 1e-6
    [head, *kinds] = result.value['tables']['What was seen in training']
    assert {line[0] for line in kinds} == {'base', 'variable_renaming', 'comment_toggling', 'format_variation',
                                           'token_masking'}
    assert sum(int(line[2]) for line in kinds) == 12 * settings.step_size
    page = (Path(settings.out)/'report.html').read_text()
    assert 'What was seen in training' in page and 'token_masking' in page and 'How often code was seen' in page
    assert 'unigram' in show_code_result(settings.out)._repr_markdown_()


def test_a_model_from_nothing_opens_with_its_run(trained):
    opened = open_model(trained[0].out)
    assert opened.kind == 'causal' and opened.tokenizer.mask_token == '<|mask|>'


def test_only_evaluating_trains_nothing_and_measures_anew(trained):
    settings, result = trained
    log, before = (Path(settings.out)/'log.jsonl').read_bytes(), result.value['examination']
    few = replace(settings, eval_only=True, examined=4)
    build_code_data(few, quiet)
    again = train_on_code(few, show=quiet)
    assert (Path(settings.out)/'log.jsonl').read_bytes() == log and again.status == 'ok'
    few_tokens = again.value['examination'][0]['tokens']
    full = train_on_code(replace(settings, eval_only=True), show=quiet).value['examination']
    assert few_tokens < full[0]['tokens'] and full == before


def test_an_examination_older_than_the_weights_is_made_anew(trained):
    settings, result = trained
    update_result(settings.out, steps=13, examination=[])   # as if training had gone on in another session
    assert code_data.examine_code(settings.out)['examination'] != []
    update_result(settings.out, steps=12)
    assert code_data.examine_code(settings.out)['examined_step'] == 12 == result.value['steps']


def test_an_earlier_run_is_a_start(trained, make):
    settings, _ = trained
    recipe = make('more', resume=settings.out)
    before, start = open_model(settings.out).model, recipe.open_start().lm
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), start.state_dict().values()))
    assert recipe.lay_out(recipe.open_part('train'))[2] > 0


# --- what is refused ------------------------------------------------------------------------------

def test_a_data_set_that_fails_a_check_is_not_learned(make, data, shape, tmp_path):
    bad = tmp_path/'bad'
    shutil.copytree(data, bad)
    write_json(bad/METADATA_FILE, read_json(bad/METADATA_FILE) | {'train_sequences': 3})
    settings = ask(shape, bad, tmp_path/'run')
    with pytest.raises(UserError, match='must pass all checks before it is learned, and 1 failed: metadata_content'):
        build_code_data(settings, quiet)
    assert not (tmp_path/'run'/'run.json').exists()
    told = []
    build_code_data(replace(settings, accept_faults=True), told.append)
    assert any('is learned although' in line for line in told)


def test_a_leak_is_not_learned(data, shape, tmp_path):
    bad = tmp_path/'bad'
    shutil.copytree(data, bad)
    lines = (bad/'training_data_train.jsonl').read_text().splitlines(keepends=True)
    (bad/'training_data_test.jsonl').write_text(lines[0] + (bad/'training_data_test.jsonl').read_text())
    settings = ask(shape, bad, tmp_path/'run')
    with pytest.raises(UserError, match='no_sequence_in_two_parts'): build_code_data(settings, quiet)
    accepted = replace(settings, accept_faults=True)
    with pytest.raises(UserError, match='test.ds must hold the sequences'): prepare(make_code_recipe(accepted), quiet)


def test_longer_than_the_model_reads_is_refused_before_anything_is_read(shape, tree, tmp_path, monkeypatch):
    monkeypatch.setattr(code_data, 'build_dataset', lambda *_: pytest.fail('it was read'))
    settings = CodeDataSettings(preset=str(shape), source=f'dir:{tree}', length=512, out=str(tmp_path/'run'))
    said = 'length must be at most the 256 tokens that .* reads, got 512'
    for call in (build_code_data, plan_code_data, train_on_code):
        with pytest.raises(UserError, match=said): call(settings)
    assert not (tmp_path/'run').exists()
    assert cli.run_command(['plan', 'code_dataset', '-p', 'length', '9000']) == 2


def test_another_length_than_that_of_the_data_set_is_refused(data, tmp_path):
    settings = ask('gpt2_tiny', data, tmp_path/'run', length=64)
    with pytest.raises(UserError, match='length must be 48, as in the data set'): build_code_data(settings, quiet)


def test_a_pretrained_model_has_its_own_tokenizer_which_may_have_no_mask(shape, data, tree, tmp_path):
    told, settings = [], CodeDataSettings(preset=str(shape), source=f'dir:{tree}', length=64, out=str(tmp_path/'run'))
    settled = settle_dataset(settings, told.append)
    assert 'token_masking' not in settled.list_augmentations() and 'has no mask token' in told[0]
    asked = replace(settings, augmentations='token_masking')
    with pytest.raises(UserError, match='token_masking needs a tokenizer with a mask'): build_code_data(asked, quiet)
    other = replace(settings, source='', dataset=str(data), length=0)
    with pytest.raises(UserError, match='must be built with the tokenizer of tiny'):
        prepare(make_code_recipe(other), quiet)


def test_evaluating_needs_a_model(data, tmp_path):
    settings = ask('gpt2_tiny', data, tmp_path/'run', eval_only=True)
    with pytest.raises(UserError, match='eval_only needs a model'): build_code_data(settings, quiet)


def test_the_commands_that_help_shows_can_be_typed(capsys):
    assert cli.run_command(['run', 'code_dataset', '--help']) == 0
    assert 'shutka run code_dataset -p source dir:src' in capsys.readouterr().out
    for name, path in list_notebooks().items():
        for line in read_commands(find_notebook(name)):
            words = shlex.split(line)
            assert words[:3] == ['shutka', 'run', name]
            known, given = read_parameters(path), dict(zip(words[4::3], words[5::3]))
            check_settings(name, {p.name: p.default for p in known} | convert_parameters(known, given))


# --- all of it ------------------------------------------------------------------------------------

def run(**given) -> int:
    words = [word for name, value in given.items() for word in ('-p', name, str(value))]
    return cli.run_command(['run', 'code_dataset', *words])


@pytest.mark.faults   # a minute
def test_the_guide_from_a_folder_to_a_model(tree, tmp_path, capsys):
    given = dict(preset='gpt2_tiny', source=f'dir:{tree}', length=LENGTH, vocabulary=600, steps=8, workers=1,
                 processes=1, out=tmp_path/'run')
    assert run(**given) == 0
    assert 'unigram' in capsys.readouterr().out
    first = read_json(tmp_path/'run'/'result.json')
    assert first['status'] == 'ok' and first['steps'] == 8
    assert run(**given) == 0   # nothing is left to do
    assert read_json(tmp_path/'run'/'result.json')['examination'] == first['examination']
    assert run(**given | {'eval_only': True, 'examined': 8}) == 0
    assert run(**given | {'steps': 9}) == 2   # another run


@pytest.mark.faults   # a minute
def test_the_guide_tunes_a_pretrained_model(shape, tree, tmp_path):
    base = make_base(tmp_path/'base')
    given = dict(preset=base, source=f'dir:{tree}', length=LENGTH, steps=4, workers=1, processes=1, out=tmp_path/'run')
    assert run(**given) == 0
    result = read_json(tmp_path/'run'/'result.json')
    assert [row['method'] for row in result['examination'][:2]] == ['untouched', 'trained']
    assert result['status'] == 'ok' and open_model(tmp_path/'run'/result['bundle']['file']).kind == 'causal'
    assert 'token_masking' not in json.dumps(result['tables'])
    more = given | {'resume': tmp_path/'run', 'out': tmp_path/'more', 'source': '', 'dataset': tmp_path/'run'/'data'}
    assert run(**more) == 0
    assert [row['method'] for row in read_json(tmp_path/'more'/'result.json')['examination'][:3]] == \
        ['untouched', 'start', 'trained']

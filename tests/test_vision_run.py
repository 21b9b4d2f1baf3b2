"""A vision model from its source to its weights: trained, stopped, resumed, started from another, and refused."""
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from shutka.core.errors import UserError
from shutka.train.fit import fit
from shutka.train.folder import prepare
from shutka.train.launch import launch
from shutka.train.machine import inspect_machine
from shutka.train.recipe import check_processes, load_recipe
from shutka.train.rows import read_log
from shutka.vision import VisionSettings, train
from shutka.vision.manifest import VISION_FILE
from shutka.vision.scene_files import split_scenes
from shutka.vision.scenes import describe_scene, render_scene
from shutka.vision.vision_files import load_vision, read_passed
from shutka.vision.vision_recipe import Vision

SMALL = dict(source='scenes:40', steps=20, minutes=0, batch_size=16, vocabulary=400)
LARGER = SMALL | {'source': 'scenes:80'}   # enough held-out captions to look for one another


@pytest.fixture(autouse=True, scope='module')
def cache(tmp_path_factory):
    "Features go to a cache of these tests alone."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHUTKA_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


def make_recipe(out, **more):
    recipe = Vision(VisionSettings(**SMALL | more, out=str(out)))
    prepare(recipe, lambda line: None)
    return recipe

def train_here(recipe, stops=()):
    "Train in this process, stopped after each of these steps, and say all rows and the model."
    rows, stops = [], [*stops]
    while True:
        model, phases = recipe.build_training()
        wanted = stops.pop(0) if stops else None
        for row in fit(model, phases, recipe.settings.checkpoint_folder, seed=0, stop=lambda: len(rows) + 1 == wanted):
            rows.append(row)
        if wanted is None: return rows, model

def write_pictures(folder, count=40, **changed):
    "A folder of scenes with captions, as a person would have one."
    folder.mkdir()
    scenes, rows = split_scenes(count + 40)['train'][:count], []
    for i, scene in enumerate(scenes):
        Image.fromarray(render_scene(scene, 40)).save(folder/f'{i}.png')
        rows.append({'image': f'{i}.png', 'text': describe_scene(scene), 'group': f'group {i % 20}'})
    rows[3] |= changed
    (folder/VISION_FILE).write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return folder


# --- all of it ------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp('vision')/'run'
    return out, train(VisionSettings(**LARGER, out=str(out)), show=lambda *_: None)

def test_a_run_leaves_what_a_person_looks_for(trained):
    out, result = trained
    assert result.status == 'ok'
    for title in ('Pictures and texts found', 'Questions answered', 'Answers written', 'Confusion noticed, AUROC',
                  'Knowledge used'):
        for part in ('held-out pictures', 'held-out groups'): assert f'{title}: {part}' in result.tables
    assert {'said.png', 'gates.png', 'decodes.png', 'found.png'} == {path.name for path in (out/'pictures').iterdir()}
    assert 'Questions answered' in (out/'report.html').read_text()
    assert sorted(path.name for path in (out/'weights').glob('*.safetensors')) == [
        f'{name}.safetensors' for name in ('angn', 'predictor', 'recursion', 'y_decoder', 'y_encoder')]

def test_the_weights_say_what_pictures_and_texts_go_through(trained):
    out, _ = trained
    about = json.loads((out/'weights'/'config.json').read_text())
    assert about['calibration'] == 'real data'
    assert about['inputs'] == {'encoder': 'efficientnet-middle', 'encoder_digest': load_recipe(out).encoder.digest,
                               'picture_size': 48, 'tokens': 9, 'text_encoder': ''}
    assert (out/'weights'/'encoding.json').read_bytes() == (out/'encoding.json').read_bytes()

def test_every_table_has_its_controls(trained):
    found = trained[1].value['vision']['holdout']
    methods = {row['method'] for row in found['Pictures and texts found']}
    assert {'wrong picture', 'blank picture', 'shuffled text', 'chance', 'nearest picture', 'ridge to words',
            'ridge to embeddings', 'ridge of 16 x 16 pixels to words'} < methods
    assert {'frequent', 'wrong picture', 'blank picture', 'no question'} < {*found['Questions answered'][-1]}
    methods = {row['method'] for row in found['Confusion noticed, AUROC']}
    assert {'monitor', 'max cosine', 'entropy', 'shuffled labels'} < methods

def test_a_finished_run_is_not_done_again(trained):
    out, result = trained
    before = (out/'model'/'vision.safetensors').read_bytes()
    again = train(VisionSettings(**LARGER, out=str(out)), show=lambda *_: None)
    assert again.value == result.value and (out/'model'/'vision.safetensors').read_bytes() == before


# --- stopped and resumed --------------------------------------------------------------------------

def test_a_run_that_was_stopped_in_each_phase_goes_on_bitwise(tmp_path):
    whole, model = train_here(make_recipe(tmp_path/'whole'))
    assert [row['phase'] for row in whole] == ['see'] * 12 + ['say'] * 3 + ['doubt'] * 5
    rows, again = train_here(make_recipe(tmp_path/'stopped'), stops=(6, 14, 18))
    strip = lambda rows: [{key: row[key] for key in ('step', 'phase', 'loss')} for row in rows]
    assert strip(rows) == strip(whole)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))

def test_two_processes_learn_to_see_as_one(tmp_path):
    recipes = [make_recipe(tmp_path/str(n), phase=1, steps=8, processes=n) for n in (1, 2)]
    for recipe in recipes: launch(recipe)
    one, two = ([row for row in read_log(recipe.out/'log.jsonl')[0] if 'loss' in row] for recipe in recipes)
    assert len(one) == len(two) == 8
    for a, b in zip(one, two): assert b['loss'] == pytest.approx(a['loss'], rel=1e-5), a['step']

def test_drawn_scenes_take_a_process_for_each_core(tmp_path):
    here = replace(inspect_machine(tmp_path), devices=(), cores=6)
    count = lambda **more: check_processes(VisionSettings(**more), here)
    assert (count(), count(batch_size=9), count(processes=1), count(source='emoji:')) == (2, 3, 1, 1)
    assert check_processes(VisionSettings(), replace(here, cores=64)) == 8

def test_a_phase_learns_its_part_and_leaves_the_others(tmp_path):
    recipe = make_recipe(tmp_path/'run')
    model, phases = recipe.build_training()
    parts = {'see': ('predictor', 'angn', 'y_encoder', 'scale'), 'say': ('y_decoder',), 'doubt': ('recursion',)}
    before = {name: p.clone() for name, p in model.named_parameters()}
    for phase in phases:
        for _ in fit(model, [phase], tmp_path/phase.name): pass
        moved = {name.partition('.')[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved == {*parts[phase.name]}
        before = {name: p.clone() for name, p in model.named_parameters()}


def test_the_encoder_of_answers_may_learn_more_slowly(tmp_path):
    moved = {}
    for share in (1., .05):
        recipe = make_recipe(tmp_path/str(share), phase=1, steps=1, text_lr=share)
        before, _ = recipe.build_training()
        _, after = train_here(recipe)
        for part in ('predictor', 'y_encoder'):
            change = [(a - b).abs().max().item() for a, b in zip(getattr(after, part).parameters(),
                                                                 getattr(before, part).parameters())]
            moved[part, share] = max(change)
    assert moved['predictor', .05] == pytest.approx(moved['predictor', 1.], rel=1e-4)
    assert moved['y_encoder', .05] == pytest.approx(.05 * moved['y_encoder', 1.], rel=.02)


# --- one phase at a time --------------------------------------------------------------------------

def test_phases_may_be_runs_of_their_own(tmp_path):
    start = {}
    for phase, task in enumerate(('see', 'say', 'doubt'), 1):
        recipe = make_recipe(tmp_path/task, steps=6, phase=phase, **start)
        _, model = train_here(recipe)
        recipe.save(model)
        start = {f'phase{phase}_checkpoint': str(tmp_path/task)}
        assert read_passed(tmp_path/task/'model') == ['see', 'say', 'doubt'][:phase]
    first, last = (load_vision(tmp_path/task/'model').state_dict() for task in ('see', 'doubt'))
    assert all(torch.equal(first[name], last[name]) for name in first if name.startswith(('predictor', 'y_encoder')))

def test_a_phase_refuses_what_lacks_an_earlier_one(tmp_path, trained):
    recipe = make_recipe(tmp_path/'see', steps=4, phase=1)
    recipe.save(train_here(recipe)[1])
    with pytest.raises(UserError, match="must have passed the phase 'say', which trains y_decoder"):
        make_recipe(tmp_path/'doubt', phase=3, phase2_checkpoint=str(tmp_path/'see'))
    with pytest.raises(UserError, match='vision.json'):
        make_recipe(tmp_path/'other', phase=2, phase1_checkpoint=str(tmp_path))
    with pytest.raises(UserError, match='must have the shape'):
        make_recipe(tmp_path/'large', phase=2, size='mini', phase1_checkpoint=str(tmp_path/'see'))
    assert not (tmp_path/'large'/'run.json').exists()

def test_gates_that_are_not_wanted_stay_open(tmp_path):
    _, model = train_here(make_recipe(tmp_path/'run', phase=1, steps=4, angn_enabled=False))
    for gate in model.angn.gates:
        assert torch.equal(gate(torch.randn(3, 64)), torch.ones(3, 64))


# --- pictures of one's own ------------------------------------------------------------------------

def test_a_folder_of_pictures_with_captions(tmp_path):
    folder = write_pictures(tmp_path/'pictures')
    recipe = make_recipe(tmp_path/'run', source=str(folder), vit_checkpoint='patches', text_encoder='own', steps=6)
    assert recipe.read_facts()['tasks'] == ['see', 'say']   # there are no moments
    parts = recipe.read_parts(folder)
    groups = {part: {record.group for record in some} for part, some in parts.items()}
    assert len(groups['groups']) == 2 and not groups['groups'] & groups['train']
    train_here(recipe)

@pytest.mark.parametrize('changed, why', [
    ({'image': 'none.png'}, "manifest.jsonl:4: 'none.png' does not exist"),
    ({'image': '../0.png'}, 'must lie below the folder'), ({'text': ''}, "'text' must be a text with letters"),
    ({'image': VISION_FILE}, 'must be a picture that Pillow opens')])
def test_a_bad_line_is_named_before_anything_is_learned(tmp_path, changed, why):
    (tmp_path/'0.png').write_bytes(b'')
    folder = write_pictures(tmp_path/'pictures', **changed)
    with pytest.raises(UserError, match=why):
        make_recipe(tmp_path/'run', source=str(folder), vit_checkpoint='patches', text_encoder='own')
    assert not (tmp_path/'run'/'run.json').exists()

def test_a_bomb_is_refused(tmp_path):
    folder = write_pictures(tmp_path/'pictures')
    Image.new('1', (30_000, 30_000)).save(folder/'3.png')
    with pytest.raises(UserError, match='manifest.jsonl:4: 3.png must have at most'):
        make_recipe(tmp_path/'run', source=str(folder), vit_checkpoint='patches', text_encoder='own')

def test_equal_captions_and_equal_pictures(tmp_path):
    "Equal texts are not told apart, and equal pictures are in one part."
    folder = write_pictures(tmp_path/'pictures')
    rows = [json.loads(line) for line in (folder/VISION_FILE).read_text().splitlines()]
    for row in rows[:20]: row['text'] = 'a picture'
    for i in range(1, 6): shutil.copy(folder/'0.png', folder/f'{i}.png')
    (folder/VISION_FILE).write_text(''.join(json.dumps(row) + '\n' for row in rows))
    recipe = make_recipe(tmp_path/'run', source=str(folder), vit_checkpoint='patches', text_encoder='own', steps=4)
    where = [part for part, some in recipe.read_parts(folder).items() for r in some if r.image.name in
             [f'{i}.png' for i in range(6)]]
    assert len({*where}) == 1
    assert all(np.isfinite(row['loss']) for row in train_here(recipe)[0])

def test_a_source_that_changes_is_noticed(tmp_path):
    folder = write_pictures(tmp_path/'pictures')
    recipe = make_recipe(tmp_path/'run', source=str(folder), vit_checkpoint='patches', text_encoder='own', steps=4)
    (folder/VISION_FILE).write_text((folder/VISION_FILE).read_text() + '\n')
    with pytest.raises(UserError, match='holds others'): Vision(recipe.settings).build_training()

"What a model has seen is not asked: the same code in other layouts, other seeds, other starts, other bundles."
import subprocess
import time
from pathlib import Path

import pytest
from small import SMALL

from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl, write_jsonl
from shutka.data.corpus import deduplicate, find_leaks, split_corpus
from shutka.data.pairs import Report, collect_pairs
from shutka.data.parts import collect_parts, draw_validation
from shutka.data.same_code import (
    SEEN_FILE,
    fingerprint_code,
    join_seen,
    keep_out,
    normalize_body,
    pack_seen,
    read_seen,
    unpack_seen,
)
from shutka.evaluate.comparison import evaluate_run, read_pools
from shutka.evaluate.model import read_unseen_pairs
from shutka.evaluate.retrieval import retrieval_table
from shutka.export.bundle import rebundle, write_bundle
from shutka.instructions.recipe import Instructions
from shutka.instructions.settings import InstructionsSettings
from shutka.memory.bank import Bank
from shutka.models.archive import read_bundle, write_zip
from shutka.models.opening import open_model
from shutka.models.text_jepa import TextJEPA
from shutka.text.passages import assemble_code
from shutka.train.folder import prepare
from shutka.train.run import open_trained, run_training

EXAMINED = ('validation', 'files', 'packages')
LONG = '{ const all = names.filter(name => name.length > 2); return all.map(name => name.trim()).sort(byLength); }'


def quiet(line): pass


def read_part(out, part): return list(read_jsonl(Path(out)/'data'/f'{part}.jsonl'))


# the same code

@pytest.mark.parametrize('other', [
    LONG.replace(' ', '\n    '),
    LONG.replace('{ ', '{ // the long ones\n', 1),
    LONG.replace('return', '/* "sorted" */ return'),
    LONG.replace('; }', '}'),
    LONG.replace('byLength)', 'byLength,\n)'),
])
def test_layout_and_comments_do_not_matter(other):
    assert other != LONG and normalize_body(other) == normalize_body(LONG)
    assert fingerprint_code([LONG]).find([other]) == [True]


@pytest.mark.parametrize('other', [
    LONG.replace('return', 'report(all.length); return'),
    LONG.replace('{ ', '{ if (!names.length) return []; ', 1),
    LONG.replace('; }', '; console.log("done", all, names); }'),
])
@pytest.mark.parametrize('most', [0, 16])
def test_one_more_statement_is_the_same_code(other, most):
    assert fingerprint_code([LONG], most).find([other]) == [True]
    assert fingerprint_code([other], most).find([LONG]) == [True]


@pytest.mark.parametrize('other', [
    '{ const all = names.map(name => name.trim()); return all.filter(isWord); }', '{}', '',
    '{ return names.length > 2; }', LONG.replace('names', 'words').replace('name', 'word').replace('all', 'found'),
])
def test_other_code_is_not(other): assert fingerprint_code([LONG, '{ return a + b; }'], 0).find([other]) == [False]


@pytest.mark.parametrize('part', ['"', "'", '`', '\\', '//', '/*', '/', '"\\', '`\\', "'\\\n", '${', ', )', '\n', ';'])
def test_normal_forms_in_no_time(part):
    "A second or so of computing; quadratic in the length it would be hours."
    begin = time.process_time()   # others may be computing, too
    normalize_body('a' + part * 200_000)
    assert time.process_time() - begin < 5


def test_a_normal_form_has_nothing_left_to_normalize():
    "Except for a few regular expressions with a single quote, which looks like the beginning of a string."
    forms = [normalize_body(pair['body']) for pair in collect_pairs('bundled:typescript', Report())]
    assert sum(normalize_body(form) != form for form in forms) < .005 * len(forms)


def test_nothing_at_all():
    nothing = fingerprint_code([])
    assert len(nothing) == 0 and nothing.find([LONG, '']) == [False, False]
    assert len(join_seen(nothing, fingerprint_code([LONG, LONG]))) == 1
    assert keep_out([], []) == ([], 0)
    assert unpack_seen(pack_seen(nothing)).find([LONG]) == [False]


@pytest.mark.parametrize('damage', [
    lambda good: good[:40], lambda good: b'', lambda good: good[:-4],
    lambda good: good.replace(b'"U64"', b'"I64"'), lambda good: good.replace(b'forms', b'norms')])
def test_a_damaged_file_of_fingerprints(damage, tmp_path):
    (tmp_path/SEEN_FILE).write_bytes(damage(pack_seen(fingerprint_code([LONG]))))
    with pytest.raises(UserError, match=f'{SEEN_FILE} must hold fingerprints'): read_seen(tmp_path)


# splits

def test_a_split_leaves_no_copy_in_training():
    pairs = deduplicate(collect_pairs('bundled:typescript', Report()))[0]
    first = split_corpus(pairs, ['trees'])
    again = [p | {'path': 'copy.ts', 'body': p['body'].rstrip('} \n') + '; count(1); }'} for p in first.files]
    second = split_corpus(pairs + again, ['trees'])
    assert not find_leaks(second.train, second.files + second.packages)


def test_validation_is_the_same_with_every_seed_and_no_part_of_an_examination():
    found = [collect_parts('bundled:typescript', 'trees', seed, 0, quiet)[0] for seed in (0, 1)]
    assert found[0]['validation'] == found[1]['validation'] != []
    assert found[0]['files'] != found[1]['files']
    for parts in found:
        places = [{(p['package'], p['path']) for p in part} for part in parts.values()]
        assert sum(map(len, places)) == len(set().union(*places))
        assert not find_leaks(parts['train'], parts['validation'])


def test_a_small_corpus_has_nothing_to_validate_on_and_cannot_be_patient(small, tmp_path):
    pairs = [p for p in collect_pairs('bundled:typescript', Report()) if p['package'] == 'trees']
    assert draw_validation(pairs[:60], []) == (pairs[:60], [])
    write_jsonl(tmp_path/'few.jsonl', pairs[:60])
    recipe = small('few', source=f'jsonl:{tmp_path}/few.jsonl')
    assert recipe.build_training()[1][0].check(TextJEPA(SMALL).eval()) == {}
    with pytest.raises(UserError, match='patience must be 0.* it is 3'):
        small('patient', source=f'jsonl:{tmp_path}/few.jsonl', patience=3)


def test_checks_ask_the_validation_part_alone(small):
    "A check gives the same numbers when the examined parts are other ones."
    recipe, model = small(), TextJEPA(SMALL).eval()
    before, data = recipe.build_training()[1][0].check(model), Path(recipe.settings.out)/'data'
    for part in ('files', 'packages'): write_jsonl(data/f'{part}.jsonl', read_part(recipe.settings.out, part)[:1])
    assert recipe.build_training()[1][0].check(model) == before != {}
    (data/'validation.jsonl').rename(data/'files.jsonl')   # a run from before there was such a part
    assert recipe.build_training()[1][0].check(model) == before


# starts

@pytest.fixture
def trained(small):
    "A run that was trained for a step."
    recipe = small('first', steps=1)
    assert run_training(recipe.settings.out) == 0
    return recipe


@pytest.mark.parametrize('settings', [{'seed': 1}, {'seed': 7}, {'held_out': 'trees,web'}])
def test_what_the_start_has_learned_from_is_not_asked(trained, small, settings):
    first = trained.settings.out
    second = small('second', resume=first, **settings).settings.out
    learned = read_part(first, 'train')
    facts = read_json(Path(second)/'run.json')['data']
    assert facts['seen_is_known'] and sum(facts['seen_before'].values()) > 0
    for part in EXAMINED: assert not find_leaks(learned, read_part(second, part))
    # without fingerprints they would have been asked
    (Path(first)/SEEN_FILE).unlink()
    third = small('third', resume=first, **settings).settings.out
    assert not read_json(Path(third)/'run.json')['data']['seen_is_known']
    assert any(find_leaks(learned, read_part(third, part)) for part in EXAMINED)
    assert not (Path(third)/SEEN_FILE).exists()


def test_another_layout_of_the_source_is_not_asked_either(trained, small, pairs, tmp_path):
    again = [p | {'body': p['body'].replace('\n', '\n    ') + '\n'} for p in read_jsonl(pairs)]
    write_jsonl(tmp_path/'again.jsonl', again)
    second = small('second', resume=trained.settings.out, source=f'jsonl:{tmp_path}/again.jsonl', seed=3).settings.out
    learned = read_part(trained.settings.out, 'train')
    for part in EXAMINED: assert not find_leaks(learned, read_part(second, part))


def test_nothing_new_to_ask_is_refused(trained, small, tmp_path):
    learned = read_part(trained.settings.out, 'train')
    write_jsonl(tmp_path/'learned.jsonl', learned)
    with pytest.raises(UserError, match='0 are new to them'):
        small('second', resume=trained.settings.out, source=f'jsonl:{tmp_path}/learned.jsonl')
    assert not (tmp_path/'second'/'run.json').exists()


def test_fingerprints_go_through_every_start_and_bundle(trained, small, tmp_path):
    first = trained.settings.out
    evaluate_run(first)
    bundle = write_bundle(first)
    with Bank(tmp_path/'bank', open_model(bundle).model) as bank: bank.add([LONG])
    both = rebundle(bundle, tmp_path/'bank', tmp_path/'both.zip')
    one, two = open_model(both).seen, open_trained(first).seen
    learned = [p['body'] for p in read_part(first, 'train')]
    assert all(one.find(learned)) and len(one) == len(two)
    second = small('second', resume=str(both), seed=1, max_samples=9, steps=1).settings.out
    own = [p['body'] for p in read_part(second, 'train')]
    assert all(read_seen(second).find(learned + own))
    assert run_training(second) == 0
    assert all(open_model(f'{second}/model').seen.find(learned + own))
    checkpoint = sorted((Path(second)/'checkpoints').glob('step-*'))[-1]
    assert all(open_trained(checkpoint).seen.find(learned + own))
    third = InstructionsSettings(resume=second, code_samples=4, batch_size=2, steps=1, out=tmp_path/'third')
    prepare(Instructions(third), quiet)
    assert all(read_seen(tmp_path/'third').find(learned + own))


def test_a_bundle_without_fingerprints_says_that_nobody_knows(trained, small, tmp_path):
    first = trained.settings.out
    evaluate_run(first)
    content = read_bundle(write_bundle(first))
    write_zip(tmp_path/'old.zip', {name: data for name, data in content.items()
                                   if name not in (SEEN_FILE, 'manifest.json')})
    assert open_model(tmp_path/'old.zip').seen is None
    second = small('second', resume=str(tmp_path/'old.zip'), seed=1, steps=1).settings.out
    assert [pool.name.split(' (')[0] for pool in read_pools(second)] == ['held-out files', 'held-out packages']
    assert run_training(second) == 0
    table = retrieval_table(evaluate_run(second)['rows'])
    assert table.count('Note: what these weights have seen is not known.') == 2 and 'unseen' not in table
    assert 'not known' in read_bundle(write_bundle(second))['README.md'].decode()


# evaluation of a source

def test_an_evaluation_leaves_out_what_was_learned(trained, pairs, capsys):
    seen = read_seen(trained.settings.out)
    left = read_unseen_pairs(f'jsonl:{pairs}', seen, print)
    assert 'since the weights have learned from them' in capsys.readouterr().out
    learned = read_part(trained.settings.out, 'train')
    assert left and not find_leaks(learned, left)
    assert len(read_unseen_pairs(f'jsonl:{pairs}', None, print)) == 400
    assert 'what these weights have seen is not known' in capsys.readouterr().out


def test_an_evaluation_of_learned_code_is_refused(trained, tmp_path):
    write_jsonl(tmp_path/'learned.jsonl', read_part(trained.settings.out, 'train'))
    with pytest.raises(UserError, match='source must hold code that the weights have not learned from'):
        read_unseen_pairs(f'jsonl:{tmp_path}/learned.jsonl', read_seen(trained.settings.out), quiet)


# instructions

def answers(pairs, layout):
    return [{'prompt': f'Write the code number {i}, please.', 'completion': layout(assemble_code(p))}
            for i, p in enumerate(pairs)]


def add_statement(code):
    "One more statement before the last brace."
    head, brace, tail = code.rpartition('}')
    return f'{head}; report("and more"); {brace}{tail}' if brace else code


@pytest.mark.parametrize('layout', [
    lambda code: '\n'.join('    ' + line for line in code.splitlines()),
    lambda code: code.replace('{', '{ // begin\n', 1),
    lambda code: code.replace('\n', '\r\n\t'),
    add_statement])
def test_no_answer_is_held_out_code_in_another_layout(phase1, tmp_path, layout):
    held = [p for part in EXAMINED for p in read_part(phase1, part) if p['form'] == 'function']
    asked = [a for a in answers(held, layout) if len(a['completion'].split()) > 12]
    write_jsonl(tmp_path/'asked.jsonl', asked)
    recipe = Instructions(InstructionsSettings(
        resume=phase1, instructions=f'jsonl:{tmp_path}/asked.jsonl', batch_size=4, steps=1, out=tmp_path/'run'))
    prepare(recipe, quiet)
    train = read_part(tmp_path/'run', 'train')
    assert not [p for p in train if p['source'].startswith('jsonl:') and p['path'].startswith('asked')]
    assert read_json(tmp_path/'run'/'run.json')['data']['held_out_copies'] > .9 * len(asked) > 9
    assert not find_leaks(train, [p for part in EXAMINED for p in read_part(phase1, part)])


def test_commits_bring_back_no_held_out_code(phase1, tmp_path):
    "The same functions in a repository, whose last commit adds a statement to each."
    held = [p for part in EXAMINED for p in read_part(phase1, part) if p['form'] == 'function' and '}' in p['body']]
    repository = tmp_path/'repository'
    repository.mkdir()
    git = lambda *words: subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words], cwd=repository,
                                        check=True, capture_output=True)
    git('init', '-q')
    for layout, message in ((str, 'Sort and count words'), (add_statement, 'Report each of the counted words')):
        for i, p in enumerate(held[:12]):
            (repository/f'f{i}.ts').write_text(layout(assemble_code(p)) + '\n')
            git('add', '.')
            git('commit', '-qm', f'{message} {i}')
    recipe = Instructions(InstructionsSettings(
        resume=phase1, instructions=f'commits:{repository}', batch_size=4, steps=1, out=tmp_path/'run'))
    prepare(recipe, quiet)
    assert read_json(tmp_path/'run'/'run.json')['data']['held_out_copies'] >= 12
    assert not find_leaks(read_part(tmp_path/'run', 'train'), held)

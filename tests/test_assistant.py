"An assistant, from a repository to its page, with a tiny model: what is asked was not learned, and nothing is lost."
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import count
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from tuning import make_base

import shutka
from shutka.assistant.answers import AnswerFile
from shutka.assistant.building import RepoReading, build, read_repository
from shutka.assistant.files import RepoFile, read_learned, read_parts
from shutka.assistant.finding import (
    COMMIT_TASK,
    SEARCH_TASK,
    examine_commits,
    examine_search,
    list_ranks,
    rank_first,
    recall_learned,
)
from shutka.assistant.own_tests import run_tests
from shutka.assistant.parts import Notes
from shutka.assistant.questions import CodeQuestion, choose_questions, cut_answer
from shutka.assistant.remembering import MEMORY_FOLDER, KnownBank
from shutka.assistant.settings import AssistantSettings
from shutka.assistant.state import NOTES_FILE, CommitWords, State, read_state
from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl, write_json
from shutka.data.same_code import SEEN_FILE
from shutka.faces import cli
from shutka.history.example import import_stream, write_stream_commit
from shutka.memory.bank import Bank
from shutka.memory.queries import make_queries
from shutka.memory.snippets import name_source
from shutka.models.chat import FIM_MARKS

WORDS = 'edge corner angle face area border centre colour mark name point line'.split()
FUNCTION = '''def {0}_of(shape, factor):
    """Return every {0} of a shape, with {1} counted {2} times."""
    found = shape.{0}s({2})
    best = max(found, key=lambda part: part.{1})
    rest = [part for part in found if part is not best]
    return [part.{0} * factor + {2} for part in rest]


def drop_{0}(shape):
    """Take each {0} away that lies {2} steps from the {1}."""
    for part in list(shape.{0}s({2})):
        if part.{1} > {2}:
            shape.remove_{0}(part, {2})
    return shape
'''


def write_code(day: int) -> str: return FUNCTION.format(WORDS[day % 12], WORDS[(day * 5 + 1) % 12] + f'{day}', day)

def write_commit(day: int, files: dict | None = None) -> str:
    name = WORDS[day % 12]
    return write_stream_commit('main', 'Ada', '+0000', day, f'Add the {name} number {day} to shapes\n',
                               files or {f'src/{name}_{day}.py': write_code(day)})


@pytest.fixture(scope='module')
def base(tmp_path_factory): return make_base(tmp_path_factory.mktemp('base')/'tiny', max_position_embeddings=2048)


@pytest.fixture(scope='module')
def repo(tmp_path_factory):
    "A repository of 30 commits, each with a file; the last one adds a function to an old file."
    folder = tmp_path_factory.mktemp('repo')/'shapes'
    new = write_code(0) + '\n\n' + FUNCTION.format('newest', 'latest', 77)
    return import_stream(folder, ''.join(write_commit(day) for day in range(30))
                         + write_commit(30, {'src/edge_0.py': new}))


def read_again(settings: AssistantSettings) -> RepoReading:
    "Only read, as `build` does first."
    Path(settings.out).mkdir(parents=True, exist_ok=True)
    return read_repository(settings, Notes(settings), 0., lambda line: None, lambda share: None)


def settle(base, repo, out, **more) -> AssistantSettings:
    given = dict(preset=str(base), repo=str(repo), out=str(out), voice='', minutes=0, steps=2, asked=6, answer_tokens=8,
                 quantization='', max_length=512, commits=3)
    return AssistantSettings(**given | more)


@pytest.fixture(scope='module')
def built(base, repo, tmp_path_factory):
    out, said = tmp_path_factory.mktemp('built')/'out', []
    return out, build(repo, settle(base, repo, out), said.append), said


# --- what comes out -------------------------------------------------------------------------------

def test_there_are_five_ways_a_verdict_and_a_page(built):
    out, result, said = built
    value = result.value
    assert value['status'] == 'ok' and value['verdict'] in said[-1]
    assert value['verdict'].startswith('Too few functions to say')   # six questions of each kind
    assert {row['method'] for row in value['ways']} == {'base', 'memory', 'tuned', 'both', 'retrieval'}
    assert {row['task'] for row in value['ranks']} == {COMMIT_TASK, SEARCH_TASK}
    page = (out/'report.html').read_text(encoding='utf-8')
    assert value['verdict'] in page and 'shutka serve' in page
    assert set(value['minutes']) == {'read', 'remember', 'teach', 'prove', 'ship'}

def test_the_bundle_has_model_and_memory_of_today(base, built, monkeypatch):
    out, result, _ = built
    monkeypatch.setenv('SHUTKA_MODELS', str(base.parent))
    opened = shutka.load(out/result.value['bundle']['file'], bank=None)
    assert opened.kind == 'causal'
    with Bank(out/MEMORY_FOLDER, readonly=True) as bank:
        # it was held out, and is known by now
        assert 'newest_of' in {hit.metadata['name'] for hit in bank.search('newest of a shape', 10)}

def test_the_card_says_what_was_not_learned(built):
    out, result, _ = built
    with ZipFile(out/result.value['bundle']['file']) as bundle: card = bundle.read('README.md').decode()
    assert 'It has not learned the others' in card and 'tuned, with memory' in card


# --- nothing that is asked was learned ------------------------------------------------------------

def test_held_out_files_and_commits_are_in_no_lesson(built):
    out, _, _ = built
    parts = read_parts(out)
    held = {path for path, learned in parts.items() if not learned}
    assert held and len(held) < len(parts)
    lessons = (out/'lessons.jsonl').read_text(encoding='utf-8')
    assert not any(path in lessons for path in held) and 'newest' not in lessons
    assert {path.relative_to(out/'tree').as_posix() for path in (out/'tree').rglob('*.py')} == set(parts) - held

def test_no_answer_stands_in_what_was_learned(built):
    out, _, _ = built
    learned = ''.join(path.read_text(encoding='utf-8') for path in (out/'tree').rglob('*.py'))
    learned += '\n'.join(read_learned(out))
    questions = list(read_jsonl(out/'questions.jsonl'))
    assert {row['origin'] for row in questions} == {'file', 'commit'}
    assert {row['kind'] for row in questions} == {'body', 'lines'}
    assert not any(row['expected'].strip() in learned for row in questions)

def test_the_examination_finds_nothing_that_was_held_out(built):
    out, _, _ = built
    held = {path for path, learned in read_parts(out).items() if not learned}
    with Bank(out/MEMORY_FOLDER, readonly=True) as bank:
        source = bank.stats()['sources'][0]['source']
        known = KnownBank(bank, source, f"dir:{out/'tree'}")
        hits = known.search('shape', len(bank))
        assert hits and not held & {hit.metadata['path'] for hit in hits}
        assert not any('newest' in hit.text for hit in hits)


def test_a_model_with_marks_for_gaps_learns_them(repo, tmp_path):
    base, said = make_base(tmp_path/'base', marks=FIM_MARKS[0], max_position_embeddings=2048), []
    build(repo, settle(base, repo, tmp_path/'out', steps=1, asked=2), said.append)
    gaps = [row for row in read_jsonl(tmp_path/'out'/'lessons.jsonl') if 'middle' in row]
    held = {path for path, learned in read_parts(tmp_path/'out').items() if not learned}
    assert gaps and not {row['path'] for row in gaps} & held
    assert any(f'{len(gaps)} gaps' in line for line in said)


# --- nothing is lost, nothing is done twice -------------------------------------------------------

def test_a_second_call_does_nothing_again(built, base, repo):
    out, result, _ = built
    before = {name: (out/name).read_bytes() for name in ('answers.jsonl', 'proof.json', 'lessons.jsonl')}
    weights = (out/'writer'/'model'/'adapter_model.safetensors').stat().st_mtime_ns
    build(repo, settle(base, repo, out, minutes=9), lambda line: None)
    assert before == {name: (out/name).read_bytes() for name in before}
    assert weights == (out/'writer'/'model'/'adapter_model.safetensors').stat().st_mtime_ns

def test_a_training_that_was_begun_goes_on_with_its_lessons(base, repo, tmp_path):
    given = dict(steps=0, epochs=1, asked=2, minutes=30)
    build(repo, settle(base, repo, tmp_path/'out', **given), lambda line: None)
    notes = read_json(tmp_path/'out'/NOTES_FILE)
    write_json(tmp_path/'out'/NOTES_FILE, notes | {'done': ['read', 'remember']})   # as if it had been killed
    result = build(repo, settle(base, repo, tmp_path/'out', **given | {'minutes': 2}), lambda line: None)
    assert result.status == 'ok'   # fewer minutes would have drawn fewer lessons, which is another data set

def test_answers_that_were_torn_are_asked_again(tmp_path):
    file = AnswerFile(tmp_path/'answers.jsonl')
    file.add([{'key': 'a', 'text': 'x'}, {'key': 'b', 'text': 'y'}])
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-5])
    torn = AnswerFile(file.path)
    assert list(torn.known) == ['a']
    torn.add([{'key': 'b', 'text': 'y'}])
    assert file.path.read_bytes() == whole

@pytest.mark.faults   # three minutes
def test_killed_at_ten_moments_it_ends_with_the_same(base, repo, built, tmp_path):
    value, draw = read_json(built[0]/'result.json'), random.Random(0)
    code = ('import json, sys; from shutka.assistant import AssistantSettings, build\n'
            'given = json.loads(sys.argv[1]); build(given["repo"], AssistantSettings(**given))')
    env, kills, parts = os.environ | {'PYTHONPATH': str(Path(__file__).parents[1])}, 0, set()
    for n in count():   # an assistant may be ready before it was killed ten times; then another one is begun
        out = tmp_path/f'out{n}'
        given = json.dumps(asdict(settle(base, repo, out)))
        while not (out/'result.json').exists():
            running = subprocess.Popen([sys.executable, '-c', code, given], env=env, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
            try: assert running.wait(draw.uniform(3, 20) if kills < 10 else 600) == 0
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                time.sleep(1)
                kills += 1
                if (out/NOTES_FILE).exists(): parts.add(len(read_json(out/NOTES_FILE)['done']))
        killed = read_json(out/'result.json')
        assert all(killed[name] == value[name] for name in ('ways', 'ranks', 'verdict', 'samples', 'read'))
        if kills >= 10: break
    assert len(parts) >= 2   # most of the time goes into reading and teaching


def test_a_result_that_was_not_written_is_written(built, base, repo):
    out, _, _ = built
    before = read_json(out/'result.json')
    (out/'result.json').unlink()
    build(repo, settle(base, repo, out), lambda line: None)
    after = read_json(out/'result.json')
    assert {name for name in before if before[name] != after[name]} <= {'minutes', 'bundle'}

def test_what_is_refused_binds_a_folder_to_nothing(base, repo, tmp_path):
    words = import_stream(tmp_path/'words', ''.join(write_stream_commit('main', 'Ada', '+0000', day, f'Words {day}\n', {
        f'{day}.md': f'{day}\n'}) for day in range(12)))
    out, asked = tmp_path/'out', lambda repo, **more: read_again(settle(base, repo, tmp_path/'out', **more))
    with pytest.raises(UserError, match='must be a folder'): build(tmp_path/'typo', settle(base, 'typo', out))
    with pytest.raises(UserError, match='does not exist'): build(repo, settle('./typo', repo, out))
    with pytest.raises(UserError, match='lockfile must be'): build(repo, settle(base, repo, out, lockfile='typo.json'))
    with pytest.raises(UserError, match='test_command'): build(repo, settle(base, repo, out, test_command='typo --all'))
    with pytest.raises(UserError, match='answer_tokens must be below 2,048'):
        build(repo, settle(base, repo, out, answer_tokens=4_000))
    with pytest.raises(UserError, match='must hold code'): build(words, settle(base, words, out))
    import_stream(words, follow(words, [write_commit(day) for day in range(12, 31)]))
    assert len(asked(words).questions) > 2   # the commits that came since were read

def test_an_examination_asks_a_memory_of_the_base(base, tmp_path, monkeypatch):
    changed = {f'src/{WORDS[day % 12]}_{day}.py': write_code(day).replace('* factor', '* factor + 1')
               for day in range(12, 30)}
    repo = import_stream(tmp_path/'repo', ''.join(write_commit(day) for day in range(30))
                         + write_commit(30, changed | {'src/last.py': write_code(30)}))
    seen = []
    monkeypatch.setattr('shutka.assistant.building.examine_commits', lambda state, files, bank: seen.append(
        {hit.metadata['path'] for hit in bank.search('edges of a shape', 200)}) or [])
    build(repo, settle(base, repo, tmp_path/'out', steps=1, asked=2, commits=1), lambda line: None)
    assert changed.keys() <= seen[0] and 'src/last.py' not in seen[0]
    with Bank(tmp_path/'out'/MEMORY_FOLDER, readonly=True) as bank:   # and what is shipped is of today
        texts = [hit.text for hit in bank.search('edges of a shape', 200)]
        assert sum('factor + 1 + ' in text for text in texts) == len(changed)

def test_a_folder_that_changes_meanwhile_is_refused(base, repo, tmp_path):
    code, said = tmp_path/'code', []
    subprocess.run(['git', 'clone', '-q', str(repo), str(code)], check=True)
    shutil.rmtree(code/'.git')
    given = settle(base, code, tmp_path/'out', minutes=1, asked=2)
    build(code, given, said.append)
    assert any('no git of its own' in line for line in said)
    (code/'src'/'new.py').write_text(write_code(50))
    with pytest.raises(UserError, match='its files have changed'): build(code, given, said.append)
    later = build(code, settle(base, code, tmp_path/'next', asked=2, steps=1, resume=str(tmp_path/'out')), said.append)
    assert later.value['bundle']   # the earlier one had no time to learn, so there is nothing to go on from


# --- next week ------------------------------------------------------------------------------------

def follow(repo: Path, commits: list[str]) -> str:
    "The commits of a stream, the first one on top of what the repository has."
    head = subprocess.run(['git', '-C', str(repo), 'rev-parse', 'main'], check=True, capture_output=True,
                          text=True).stdout.strip()
    first, *rest = commits
    at = first.index('\nM 644')
    return first[:at] + f'\nfrom {head}' + first[at:] + ''.join(rest)

def test_next_week_it_reads_what_is_new_and_says_what_changed(base, repo, built, tmp_path):
    out, result, _ = built
    copy, said = tmp_path/'later', []
    subprocess.run(['git', 'clone', '-q', '--bare', str(repo), str(copy)], check=True)
    import_stream(copy, follow(copy, [write_commit(day) for day in range(31, 41)]))
    later = build(copy, settle(base, copy, tmp_path/'next', resume=str(out)), said.append)
    value = later.value
    assert value['read']['commits read'] > result.value['read']['commits read']
    # half as many questions, and those that both were asked are compared one by one
    asked = {row['id'] for row in read_jsonl(out/'questions.jsonl')}
    again = {row['id'] for row in read_jsonl(tmp_path/'next'/'questions.jsonl')}
    assert asked & again and len(again) <= len(asked) / 2 + 1
    line = next(line for line in value['changes'] if line[0] == 'tuned, with memory: edit similarity')
    assert int(line[1]) == len(asked & again)
    before, now = read_parts(out), read_parts(tmp_path/'next')
    assert all(now[path] == learned for path, learned in before.items() if path in now) and len(now) > len(before)
    with Bank(tmp_path/'next'/MEMORY_FOLDER, readonly=True) as bank:   # and not once more under the old path
        assert [known['source'] for known in bank.stats()['sources']] == [f'git:{copy}']
    lessons = list(read_jsonl(tmp_path/'next'/'new_lessons.jsonl'))
    assert 0 < len(lessons) < len(list(read_jsonl(tmp_path/'next'/'lessons.jsonl')))
    assert set(read_learned(out)) <= set(read_learned(tmp_path/'next'))   # for the week after next
    said.clear()
    import_stream(copy, follow(copy, [write_commit(41)]))
    build(copy, settle(base, copy, tmp_path/'next', resume=str(out)), said.append)
    assert any('commits that came after' in line for line in said)

def test_what_was_learned_is_not_asked_where_it_moved_to(base, repo, built, tmp_path):
    out, _, _ = built
    shutil.copytree(out, tmp_path/'out')
    with Bank(tmp_path/'out'/MEMORY_FOLDER) as bank: bank.add('a note of a person')
    parts, copy = read_parts(out), tmp_path/'later'
    subprocess.run(['git', 'clone', '-q', '--bare', str(repo), str(copy)], check=True)
    code = {path: subprocess.run(['git', '-C', str(repo), 'show', f'main:{path}'], check=True, capture_output=True,
                                 text=True).stdout for path in parts}
    first = next(path for path, learned in parts.items() if learned)
    held = next(path for path, learned in parts.items() if not learned)
    moved = {f'lib/{Path(path).name}': code[path] for path, learned in parts.items() if learned and path != first}
    new = write_commit(50, moved | {held: code[held] + '\n\n' + code[first]})   # and one goes into a held-out file
    gone = ''.join(f'D {path}\n' for path, learned in parts.items() if learned)
    import_stream(copy, follow(copy, [new + gone, *(write_commit(day) for day in range(51, 60))]))
    reading = read_again(settle(base, copy, tmp_path/'next', resume=str(tmp_path/'out'), asked=90))
    learned = ' '.join(' '.join(text.split()) for text in read_learned(out))
    assert reading.questions
    assert not any(' '.join(one.expected.split()) in learned for one in reading.questions)
    assert {file.path for file in reading.files if not file.learned}.isdisjoint(moved)
    half = tmp_path/'again'/f'{MEMORY_FOLDER}.half'   # as a kill leaves it, in the middle of a copy
    half.mkdir(parents=True)
    (half/'bank.sqlite').write_bytes((out/MEMORY_FOLDER/'bank.sqlite').read_bytes()[:20_000])
    build(copy, settle(base, copy, tmp_path/'again', resume=str(tmp_path/'out'), asked=4), lambda line: None)
    assert not half.exists()
    shutil.rmtree(tmp_path/'out'/MEMORY_FOLDER)
    with pytest.raises(UserError, match='has no memory'):
        build(copy, settle(base, copy, tmp_path/'third', resume=str(tmp_path/'out'), asked=4))

def test_the_printed_commands_can_be_pasted(base, repo, tmp_path):
    place = tmp_path/'it\'s $(a) "place"'
    place.mkdir()
    subprocess.run(['git', 'clone', '-q', '--bare', str(repo), str(place/'r')], check=True)
    use = build(place/'r', settle(base, place/'r', place/'out', minutes=1, asked=2)).value['use']
    words = shlex.split(use.strip().split('\n')[-1])
    assert words[:3] == ['shutka', 'run', 'assistant']
    given = dict(zip(words[4::3], words[5::3]))
    assert (given['repo'], given['resume'], given['preset']) == (str(place/'r'), str(place/'out'), str(base))
    assert given['out'] == f"{place/'out'}-next" and given['voice'] == '' and given['commits'] == '3'

def test_with_more_time_it_learns_after_all(base, repo, tmp_path):
    said, given = [], dict(asked=2, steps=1)
    assert not build(repo, settle(base, repo, tmp_path/'out', minutes=1, **given), said.append).value['bundle']
    assert build(repo, settle(base, repo, tmp_path/'out', minutes=0, **given), said.append).value['bundle']
    assert any('now there is time' in line for line in said)



# --- what is refused ------------------------------------------------------------------------------

def test_what_cannot_be_is_refused_before_anything_is_made(base, repo, built, tmp_path):
    out, _, _ = built
    with pytest.raises(UserError, match='repo must be a folder'):
        build(tmp_path/'none', settle(base, repo, tmp_path/'a'))
    for place in ('~nobody.of.that.name/x', 'a\0b'):
        with pytest.raises(UserError, match='repo must be the path of a folder'): AssistantSettings(repo=place)
    with pytest.raises(UserError, match='resume must be the folder of a finished assistant'):
        build(repo, settle(base, repo, tmp_path/'b', resume=str(tmp_path)))
    with pytest.raises(UserError, match='holds an assistant with seed 0'): build(repo, settle(base, repo, out, seed=1))
    with pytest.raises(UserError, match='settings or their fields'): build(repo, settle(base, repo, out), seed=1)
    (tmp_path/'words').mkdir()
    (tmp_path/'words'/'a.md').write_text('# Words\n')
    with pytest.raises(UserError, match='must hold code'):
        build(tmp_path/'words', settle(base, tmp_path/'words', tmp_path/'c'))

def test_without_time_nothing_is_tuned_and_it_is_said(base, repo, tmp_path):
    said = []
    result = build(repo, settle(base, repo, tmp_path/'out', minutes=1, asked=2), said.append)
    assert any('teach nothing' in line for line in said)
    assert {row['method'] for row in result.value['ways']} == {'base', 'memory', 'retrieval'}
    assert result.value['bundle'] is None and '--bank' in result.value['use']

@pytest.mark.faults   # a minute
def test_the_command_runs_it(base, repo, tmp_path):
    given = dict(preset=base, repo=repo, out=tmp_path/'out', voice='', steps=1, asked=2, answer_tokens=4,
                 quantization='F16', minutes=0, commits=3)
    assert cli.run_command(['run', 'assistant', *(w for k, v in given.items() for w in ('-p', k, str(v)))]) == 0
    assert (tmp_path/'out'/'model-f16.gguf').exists() and (tmp_path/'out'/NOTES_FILE).exists()


# --- parts ----------------------------------------------------------------------------------------

def test_a_command_that_tests_gets_no_secrets_and_ends(tmp_path, monkeypatch):
    monkeypatch.setenv('API_KEY', 'secret')
    (tmp_path/'check.py').write_text('import os, sys; sys.exit("API_KEY" in os.environ)')
    assert run_tests(f'{sys.executable} check.py', tmp_path)
    (tmp_path/'hang.py').write_text('import subprocess, time; subprocess.Popen(["sleep", "60"]); time.sleep(60)')
    begun = time.monotonic()
    assert not run_tests(f'{sys.executable} hang.py', tmp_path, seconds=2) and time.monotonic() - begun < 20

@pytest.mark.parametrize('language, head, text, kept', [
    ('python', '    def f(self):', '\n        return 1\n\n    def g(self):\n        pass', '\n        return 1'),
    ('go', 'func f() int ', '{\n\treturn 1\n}\n\nfunc g() {}\n', '{\n\treturn 1\n}'),
    ('typescript', 'export function f(): number ', '{\n  return 1;\n}\nexport const a = 1;', '{\n  return 1;\n}'),
    ('java', '    int f() ', '{\n        return 1;\n    }\n\n    int g() { return 2; }', '{\n        return 1;\n    }'),
    ('rust', 'fn f() -> i32 ', '{\n    1\n}\n\nfn g() {}', '{\n    1\n}')])
def test_an_answer_ends_where_the_function_ends(language, head, text, kept):
    question = CodeQuestion('body', 'file', f'a.{language}', language, 'f', '', head, head, '', kept)
    assert cut_answer(question, text).rstrip() == kept

def test_equal_scores_are_worth_no_more_than_chance():
    assert rank_first(np.zeros((1, 9)), [{4}])[0] == pytest.approx(np.full(9, 1 / 9))
    assert rank_first(np.zeros((1, 9)), [set(range(9))])[0].tolist() == [1] + 8 * [0]
    ranks = list_ranks('a', {'chance': rank_first(np.zeros((50, 100)), [{i} for i in range(50)])})[0]
    assert ranks['mrr'] == pytest.approx(np.mean(1 / np.arange(1, 101))) and ranks['recall_5'] == pytest.approx(.05)

def test_of_a_known_answer_nobody_is_asked(built):
    out, _, _ = built
    rows = [{key: value for key, value in row.items() if key != 'id'} for row in read_jsonl(out/'questions.jsonl')]
    questions = [CodeQuestion(**row) for row in rows]
    known = RepoFile('a.py', 'python', 'high', True, '\n'.join(one.expected for one in questions))
    assert choose_questions(questions, [known], 9) == []

def test_what_a_voice_has_learned_is_not_asked_of_it(phase1, tmp_path):
    (tmp_path/'code').mkdir()
    for part in ('train', 'packages'):
        rows = read_jsonl(Path(phase1)/'data'/f'{part}.jsonl')
        rows = [row for row in rows if row['doc'] and row['form'] == 'function']
        code = '\n'.join(f"/** {' '.join(row['doc'].split())} */\n{row['signature']} {row['body']}\n" for row in rows)
        (tmp_path/'code'/f'{part}.ts').write_text(code, encoding='utf-8')
    with Bank(tmp_path/'bank') as bank:
        bank.sync(f"dir:{tmp_path/'code'}")
        source = name_source(f"dir:{tmp_path/'code'}")
        known = KnownBank(bank, source, f"dir:{tmp_path/'code'}")
        with bank.store.reading(): items = bank.store.get(bank.store.live())
        items = [item for item in items if item.metadata['path'] == 'packages.ts']
        unseen = len(make_queries([item.text for item in items]))
        def count_asked(): return {row['method']: row['questions'] for row in examine_search(known, source, 999)}
        before = count_asked()['words']
        voice = bank.voices.add(str(phase1), name='tuned')
        for part in ('train', 'packages'):
            rows = list(read_jsonl(Path(phase1)/'data'/f'{part}.jsonl'))
            texts = [f"/** {' '.join(row['doc'].split())} */\n{row['signature']} {row['body']}" for row in rows]
            assert recall_learned(voice, texts) == [part == 'train'] * len(rows)
        after = count_asked()
        assert set(after) == {'words', 'tuned', 'memory'}
        assert 0 < after['words'] <= unseen < before
        # weights of a run that has noted nothing: it is said, and nothing can be left out
        shutil.copytree(phase1, tmp_path/'unknown')
        (tmp_path/'unknown'/SEEN_FILE).unlink()
        bank.voices.remove('tuned')
        bank.voices.add(str(tmp_path/'unknown'), name='unknown')
        assert count_asked() == {'words': before, 'unknown, may have learned the answers': before,
                           'memory, may have learned the answers': before}

def test_commits_that_touch_no_code_ask_nothing(tmp_path):
    repo = import_stream(tmp_path/'repo', ''.join(write_stream_commit('main', 'Ada', '+0000', day, f'Words {day}\n', {
        'README.md': f'{day}\n'}) for day in range(20)))
    state = read_state(AssistantSettings(repo=str(repo), out=str(tmp_path/'out')))
    assert len(state.newest) == 2 and examine_commits(state, [], None) == []
    silent = State(repo, 'a', 'b', newest=(CommitWords('b', ' \n', ('a.py',)),))   # a commit may say nothing
    assert examine_commits(silent, [RepoFile('a.py', 'python', 'high', True, 'a = 1')], None) == []

"Guides, from the first row to the last file, with a tiny model: what is learned is not asked, and all is kept."
import json
from pathlib import Path

import pytest
from tuning import make_base

from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl
from shutka.faces import cli
from shutka.faces.notebooks import check_settings
from shutka.generate.engines import has_engine
from shutka.guides import queries
from shutka.guides.queries import make_query_rows, summarize_verdicts
from shutka.guides.settings import CypherSettings, PatternSettings
from shutka.guides.teaching import read_rows_of, write_mixture

needs_engine = pytest.mark.skipif(not has_engine(), reason='needs arcadedb-embedded')
FUNCTION = '''def {0}_of(shape, factor):
    """Return every {0} of a shape, {1} after {1}."""
    found = shape.{0}s({2})
    return [part.{0} * factor for part in found]
'''


@pytest.fixture(scope='module')
def base(tmp_path_factory): return make_base(tmp_path_factory.mktemp('base')/'tiny', max_position_embeddings=4096)


@pytest.fixture(scope='module')
def repo(tmp_path_factory):
    "A folder with a licence and some functions."
    folder = tmp_path_factory.mktemp('repo')
    (folder/'LICENSE').write_text('MIT License\n\nPermission is hereby granted, free of charge, to any person')
    words = 'edge corner angle face area border centre colour mark name'.split()
    for i, word in enumerate(words):
        code = FUNCTION.format(word, words[-i], i) + f'\n\ndef count_{word}(shapes):\n    "How often {word} occurs."\n'
        code += ''.join(f'    print({words[(i * j) % 10]!r}, {i * j})\n' for j in range(1, 4))
        (folder/f'{word}.py').write_text(code + f'    return sum(shape.{word} for shape in shapes)\n')
    return folder


def run(name: str, **given) -> int:
    return cli.run_command(['run', name, *(word for key, value in given.items() for word in ('-p', key, str(value)))])


@pytest.mark.faults   # a minute, as the one below
def test_the_guide_of_patterns_ends_with_a_table_and_one_file(base, repo, tmp_path, capsys):
    given = dict(preset=base, repo=repo, out=tmp_path, steps=2, held_out=.2, asked=3, answer_tokens=8, batch_size=1,
                 gradient_accumulation=2, max_length=1024, quantization='F16')
    assert run('patterns', **given) == 0
    learned, asked = read_rows_of(tmp_path, 'train'), read_rows_of(tmp_path, 'held_out')
    mixture = read_rows_of(tmp_path, 'mixture')
    assert not {row['path'] for row in learned} & {row['path'] for row in asked}
    general = [row for row in mixture if row.get('general')]
    assert len(general) == round(len(learned) * .25) and len(mixture) == len(learned) + len(general)
    answers = list(read_jsonl(tmp_path/'rows'/'held_out-answers.jsonl'))
    assert len(answers) == 3 and all({'answer', 'exact', 'parses'} <= row['tuned'].keys() for row in answers)
    result, title = read_json(tmp_path/'result.json'), 'Code of files that were held out'
    assert result['status'] == 'ok' and len(result['tables'][title]) == 1 + 2 * 4
    assert title in (tmp_path/'report.html').read_text() and title in capsys.readouterr().out
    assert (tmp_path/'model-f16.gguf').is_file() and (tmp_path/'rows'/'validation.html').is_file()
    import zipfile
    [bundle] = tmp_path.glob('*.zip')
    with zipfile.ZipFile(bundle) as archive:
        assert title in archive.read(next(n for n in archive.namelist() if n.endswith('README.md'))).decode()


@pytest.mark.faults   # a minute; its parts are tested where they are made
@needs_engine
def test_the_guide_of_cypher_runs_what_both_models_answer(base, tmp_path):
    given = dict(preset=base, num_examples=60, out=tmp_path, steps=2, asked=2, answer_tokens=8, batch_size=1,
                 gradient_accumulation=2, max_length=3000, quantization='', turns=1)
    assert run('cypher', **given) == 0
    parts = {part: read_rows_of(tmp_path, part) for part in ('train', 'schemas', 'shapes')}
    assert not {row['schema'] for row in parts['train']} & {row['schema'] for row in parts['schemas']}
    assert not {row['shape'] for row in parts['train']} & {row['shape'] for row in parts['shapes']}
    questions = {(row['instruction'], row['input']) for row in read_rows_of(tmp_path, 'mixture')}
    assert not questions & {(row['instruction'], row['input']) for row in parts['schemas'] + parts['shapes']}
    [head, *lines] = read_json(tmp_path/'result.json')['tables']['Queries that return the right rows']
    assert [line[:2] for line in lines] == [['unknown graphs', 'untouched'], ['unknown graphs', 'tuned'],
                                            ['unknown shapes', 'untouched'], ['unknown shapes', 'tuned']]
    assert not list(tmp_path.glob('*.gguf'))
    for part in ('schemas', 'shapes'):
        [first, *_] = read_jsonl(tmp_path/'rows'/f'{part}-answers.jsonl')
        assert first['untouched']['verdict'] in ('refused', 'wrong', 'right', 'empty')


def test_without_an_engine_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(queries, 'has_engine', lambda: False)
    with pytest.raises(UserError, match=r"pip install 'shutka\[generate\]'"):
        make_query_rows(CypherSettings(out=str(tmp_path/'run')))
    assert not (tmp_path/'run').exists()


def test_general_examples_of_ones_own(tmp_path):
    mine = tmp_path/'mine.jsonl'
    mine.write_text(''.join(json.dumps({'instruction': f'Say {i}.', 'output': f'{i} it is'}) + '\n' for i in range(9)))
    rows = [{'instruction': f'Count {i}.', 'output': f'{i} and {i + 1}'} for i in range(6)]
    path = write_mixture(CypherSettings(out=str(tmp_path/'run'), general=.4, general_data=str(mine)), rows)
    assert sum(row.get('general', False) for row in read_jsonl(path)) == 4
    with pytest.raises(UserError, match='must hold 14 examples or more'):
        write_mixture(CypherSettings(out=str(tmp_path/'run'), general=.7, general_data=str(mine)), rows)
    with pytest.raises(UserError, match='does not exist'):
        write_mixture(CypherSettings(out=str(tmp_path/'run'), general_data=str(tmp_path/'none.jsonl')), rows)


def test_nothing_to_ask_is_said_before_anything_is_learned(tmp_path):
    (tmp_path/'LICENSE').write_text('MIT License\n\nPermission is hereby granted, free of charge, to any person')
    (tmp_path/'a.py').write_text(FUNCTION.format('edge', 'one', 1))
    (tmp_path/'b.py').write_text('x = 1\n')
    from shutka.guides.patterns import make_pattern_rows
    with pytest.raises(UserError, match='held_out|learn from'):
        make_pattern_rows(PatternSettings(repo=str(tmp_path), out=str(tmp_path/'run')))
    assert not (tmp_path/'run').exists()


def test_answers_without_rows_to_compare_are_not_counted():
    verdicts = {'untouched': ['empty', 'wrong', 'right'], 'tuned': ['empty', 'right', 'right']}
    [before, after] = summarize_verdicts('graphs', verdicts)
    assert before[2:6] == ['2', '1', '1', '0'] and after[2:6] == ['2', '2', '0', '0'] and after[-1].startswith('+50.0%')
    nothing = summarize_verdicts('graphs', {'untouched': ['empty'], 'tuned': ['empty']})
    assert [line[2] for line in nothing] == ['0', '0']


@pytest.mark.parametrize('name, given, says', [
    ('cypher', {'quantization': 'Q9'}, 'Q9'), ('cypher', {'general': -.1}, 'general must be from 0'),
    ('patterns', {'language': 'cobol'}, 'cobol'), ('patterns', {'held_out': 1}, 'held_out must be above 0')])
def test_bad_settings_are_refused_by_the_command(name, given, says, tmp_path, capsys):
    assert run(name, out=tmp_path/'run', **given) == 2
    assert says in capsys.readouterr().err and not Path(tmp_path/'run').exists()
    with pytest.raises(UserError, match=says): check_settings(name, given)


def test_conversations_hold_every_question_once_and_pass_the_checks(tmp_path):
    from shutka.generate.cypher import generate_cypher
    rows = generate_cypher(90, seed=1)
    path = write_mixture(CypherSettings(out=tmp_path), rows, turns=6)
    mixture = list(read_jsonl(path))
    asked = [message['content'] for row in mixture for message in row.get('messages', ())]
    asked += [text for row in mixture if 'messages' not in row for text in (row.get('input'), row['output'])]
    for row in rows:
        assert sum(text == row['input'] or text == f"{row['instruction']}\n\n{row['input']}" for text in asked) >= 1
        assert row['output'] in asked
    assert len(mixture) < 90 and max(len(row.get('messages', ())) for row in mixture) == 12
    for row in mixture:   # the schema is said once, and all questions are about it
        texts = [message['content'] for message in row.get('messages', ()) if message['role'] == 'user']
        said = [text.startswith('Write a Cypher query') for text in texts]
        assert said == [True, *[False] * len(texts)][:len(texts)]

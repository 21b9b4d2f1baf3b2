"What strangers' input may do on its way in and to the terminal: npm's settings, control characters, secrets, odd text."
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.core.files import read_json, read_jsonl
from shutka.core.terminal import replace_controls
from shutka.data.npm import fetch_tarball
from shutka.data.secrets import find_secrets, list_secrets, redact_secrets
from shutka.data.sources import open_source
from shutka.faces import cli
from shutka.memory.snippets import collect_snippets

ROOT = Path(__file__).parents[1]
CODE = '/** Adds two numbers. */\nexport function add(a: number, b: number) { return a + b; }\n'


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))


def put(path, content: str | bytes = CODE) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# npm's settings

@pytest.fixture
def hosts():
    "Two registries on this machine that know no package; each notes what it was asked."
    asked, servers = ([], []), []
    for notes in asked:
        class Registry(BaseHTTPRequestHandler):
            def do_GET(self, notes=notes):
                notes.append((self.path, self.headers.get('authorization')))
                self.send_response(404)
                self.end_headers()
            def log_message(self, *_): pass
        servers.append(HTTPServer(('127.0.0.1', 0), Registry))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
    yield [f'127.0.0.1:{server.server_port}' for server in servers], asked
    for server in servers: server.shutdown()

@pytest.mark.skipif(shutil.which('npm') is None, reason='npm is not installed')
@pytest.mark.parametrize('where', ['project', 'above', 'workspace'])
def test_the_settings_of_a_folder_reach_npm_only_when_asked(tmp_path, hosts, monkeypatch, where):
    (ours, theirs), (asked, stolen) = hosts
    put('home/npmrc', f'registry=http://{ours}/\n')
    settings = put(tmp_path/'project/.npmrc', f'registry=http://{theirs}/\n//{theirs}/:_authToken=${{SECRET}}\n')
    put('project/package.json', '{"name": "p"}' if where != 'workspace' else '{"name": "p", "workspaces": ["**"]}')
    put('project/inside/x.ts')
    monkeypatch.setenv('SECRET', 'canary')
    monkeypatch.setenv('npm_config_userconfig', str(tmp_path/'home/npmrc'))
    # a cache within the project is as bad as starting there
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path/('project/cache' if where != 'project' else 'cache')))
    monkeypatch.chdir('project/inside' if where == 'above' else 'project')
    with pytest.raises(UserError, match='npm knows no kit'): fetch_tarball('kit', 'latest')
    assert asked and not stolen
    monkeypatch.setenv('SHUTKA_NPMRC', '')   # so that it is unset afterwards
    assert cli.run_command(['data', 'pairs', 'npm:kit', '-o', 'x.jsonl', '--npmrc', str(settings)]) == 2
    assert os.environ['SHUTKA_NPMRC'] == str(settings)
    assert stolen and 'canary' in stolen[0][1]   # now it is what the user wants

def test_settings_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv('SHUTKA_NPMRC', 'nowhere')
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path))
    put('bin/npm', '#!/bin/sh\nexit 1\n').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path/'bin'))
    with pytest.raises(UserError, match="npm's settings, nowhere, must be a file"): fetch_tarball('kit', 'latest')


# the terminal

CANARIES = '\x1b]52;c;cm0gLXJmIH4=\x07', '\x1b]0;owned\x07', '\x9b2J', '\x1bc', 'a\rb', '\u202e', '\x1b[A\x1b[2K'

@pytest.mark.parametrize('text', CANARIES)
def test_control_characters_are_shown(text):
    shown = replace_controls(text)
    assert len(shown) == len(text) and not any(ord(c) < 32 or 0x7f <= ord(c) < 0xa0 or c == '\u202e' for c in shown)
    assert replace_controls('tab\tand line\n') == 'tab\tand line\n'

def run_in_terminal(*words, **environment) -> bytes:
    "What a terminal gets from a command."
    main, side = pty.openpty()
    with subprocess.Popen([sys.executable, '-m', 'shutka.faces.cli', *words], stdout=side, stderr=side, stdin=side,
                          env=os.environ | environment, close_fds=True) as process:
        os.close(side)
        got = b''
        try:
            while part := os.read(main, 1 << 16): got += part
        except OSError: pass   # that is how the end of a terminal is told
        finally: os.close(main)
        process.wait(60)
    return got

@pytest.mark.parametrize('encoding', ['utf-8', 'ascii'])
def test_nothing_of_a_stranger_commands_the_terminal(encoding):
    put('src/a.ts')
    for i, canary in enumerate(CANARIES):
        put(os.fsencode(f'src/{i}{canary.replace("/", "")}.ts').decode(errors='surrogateescape'), 'let = = 2')
    got = run_in_terminal('data', 'pairs', 'dir:src', '-o', 'x.jsonl', PYTHONIOENCODING=encoding)
    assert b'does not parse' in got and b'1 pairs' in got, got
    shown = got.decode(encoding, 'replace')
    plain = shown.replace('\r\n', '\n')
    assert not set(plain) & set(map(chr, [*range(9), *range(11, 13), *range(14, 32), *range(0x7f, 0xa0)])), plain
    assert '\u202e' not in plain
    # of an error, too
    assert b'\x1b' not in run_in_terminal('data', 'pairs', 'dir:\x1b]0;owned\x07', '-o', 'y.jsonl')

def test_a_pipe_gets_what_was_written():
    put('src/b\x07.ts', 'let = = 2'), put('src/a.ts')
    done = subprocess.run([sys.executable, '-m', 'shutka.faces.cli', 'data', 'pairs', 'dir:src', '-o', 'x.jsonl'],
                          capture_output=True, text=True)
    assert done.returncode == 0 and 'skipped src/b\x07.ts: ' in done.stdout


# two files of parameters

def test_a_later_file_overrides_an_earlier_one(capsys):
    put('a.yaml', 'steps: 7\nseed: 3\nlr: 0.001\n'), put('b.yaml', 'steps: 8\nbatch_size: 4\n')
    put('c.yaml', 'lr: 0.002')
    from shutka.faces.training_commands import read_given
    files = 'a.yaml', 'b.yaml', 'c.yaml'
    assert read_given(files, ()) == {'steps': '8', 'seed': '3', 'lr': '0.002', 'batch_size': '4'}
    assert read_given(files[::-1], (('seed', '5'),)) == {'steps': '7', 'seed': '5', 'lr': '0.001', 'batch_size': '4'}
    assert read_given((), ()) == {}
    put('d.yaml', 'out: ""')
    assert cli.run_command(['plan', 'typescript', '-f', 'a.yaml', '-f', 'd.yaml']) == 2
    assert 'out' in capsys.readouterr().err
    put('e.yaml', 'stepps: 1')
    for order in (['-f', 'a.yaml', '-f', 'e.yaml'], ['-f', 'e.yaml', '-f', 'a.yaml']):   # neither is dropped
        assert cli.run_command(['run', 'typescript', *order]) == 2
        assert "did you mean 'steps'" in capsys.readouterr().err


# secrets; put together here, or whoever looks for secrets in this project would find them

KEYS = {'AWS_KEY': 'AKIA' + 'IOSFODNN7EXAMPLE', 'GITHUB_TOKEN': 'ghp_' + 'a1B2' * 9,
        'GITLAB_TOKEN': 'glpat-' + 'x1y2' * 5,
        'SLACK_TOKEN': 'xoxb-' + '1234567890-abcdef', 'STRIPE_KEY': 'sk_live_' + 'a1B2c3D4' * 3,
        'GOOGLE_KEY': 'AIza' + 'Sy0' * 11 + 'ab', 'NPM_TOKEN': 'npm_' + 'a1B2' * 9,
        'MODEL_KEY': 'sk-ant-' + 'a1B2-' * 8,
        'JSON_WEB_TOKEN': 'eyJhbGciOiJ9.' + 'eyJzdWIiOiIx.' + 'SflKxwRJSMeKKF2QT4', 'EMAIL': 'ada@lovelace.org',
        'SENDGRID_KEY': 'SG.' + 'a' * 22 + '.' + 'b' * 43, 'IP_ADDRESS': '93.184.215.14',
        'PRIVATE_KEY': '-----BEGIN RSA PRIVATE' + ' KEY-----\\n' + 'MIIB' * 30 + '\\n-----END RSA PRIVATE KEY-----'}

@pytest.mark.parametrize('kind', KEYS)
def test_a_key_is_replaced_wherever_it_stands(kind):
    for around in ("const a = '{}';", '// ask {} about it', '`{}`', '{{"a": "{}"}}', '{}'):
        counts, text = Counter(), around.format(KEYS[kind])
        assert redact_secrets(text, counts) == around.format(f'REDACTED_{kind}') and counts == {kind: 1}, text
        assert redact_secrets(redact_secrets(text, counts), Counter()) == redact_secrets(text, Counter())

IS_SECRET = ['const password = "hunter2-Xq81";', '{"apiKey": "k9Jf73hQpZ02mLx"}', "API_KEY: string = 'k9Jf73hQpZ02mLx'",
             'postgres://app:s3cr3t-pw@db.internal/x']
IS_NONE = ["token: 'semicolon'", 'const password = process.env.PASSWORD', "tokenType = 'identifier'",
           'secret: `${a}b1c2d3e4f5`', 'import a from "@scope/kit"', 'zod@4.1.12', 'git@github.com:o/r.git',
           'a@example.com, 127.0.0.1, 192.168.1.1, 1.2.3, 10.0.0.1.2', '@Input() a@b', 'sha512-' + 'a1B2c3D4' * 10,
           'text.includes("-----BEGIN PRIVATE KEY-----")', '#a1b2c3d4e5f6']

@pytest.mark.parametrize('text, found', [*((text, 1) for text in IS_SECRET), *((text, 0) for text in IS_NONE)])
def test_what_is_a_secret_and_what_is_not(text, found):
    assert len(find_secrets(text)) == found

def test_secrets_are_replaced_in_pairs_and_memories(capsys, tmp_path):
    secret = KEYS['AWS_KEY']
    put('src/a.ts', CODE.replace('Adds', 'Ask ada@lovelace.org. Adds').replace('a + b', f"a + '{secret}' + b"))
    assert cli.run_command(['data', 'pairs', 'dir:src', '-o', 'x.jsonl']) == 0
    assert 'secrets replaced: 1 aws key, 1 email' in capsys.readouterr().out
    [pair] = read_jsonl('x.jsonl')
    assert pair['body'] == "{ return a + 'REDACTED_AWS_KEY' + b; }" and 'REDACTED_EMAIL' in pair['doc']
    put('y.jsonl', json.dumps(pair | {'body': f"{{ use('{secret}') }}"}))   # of a program that knows no better
    assert [p['body'] for p in open_source('jsonl:y.jsonl')] == ["{ use('REDACTED_AWS_KEY') }"]
    assert secret not in ''.join(text for text, _ in collect_snippets('dir:src'))
    assert cli.run_command(['memory', 'sync', 'dir:src', '--bank', 'bank']) == 0
    assert 'secrets replaced in dir:' in capsys.readouterr().err
    assert cli.run_command(['memory', 'export', 'all.jsonl', '--bank', 'bank']) == 0
    assert secret not in Path('all.jsonl').read_text()

def test_secrets_are_told_with_file_and_line():
    page = f"# Mine\n\n{KEYS['AWS_KEY']}\n{KEYS['EMAIL']}".encode()
    told = list_secrets({'README.md': page, 'model.safetensors': page})
    assert told == ['README.md:3: looks like a secret (aws key)', 'README.md:4: looks like a secret (email)']

def test_the_bundled_corpus_holds_no_secret():
    source = open_source('bundled:typescript')
    assert list(source) and not source.redacted


# JSON of strangers elsewhere

def test_deep_json_of_a_file_is_refused():
    put('x.json', '[' * 100_000)
    with pytest.raises(UserError, match=r'^x\.json: not valid JSON: it is nested too deeply'): read_json('x.json')

@pytest.mark.parametrize('line, code', [(r'{"text": "let \ud83d = 1"}', 0), ('{"text": ' + '[' * 100_000, 2)])
def test_memories_that_no_bank_can_hold(line, code, capsys):
    put('x.jsonl', '{"text": "one"}\n' + line)
    assert cli.run_command(['memory', 'add', '-i', 'x.jsonl', '--bank', 'bank']) == code
    if code: assert 'error: x.jsonl:2: not valid JSON' in capsys.readouterr().err

@pytest.mark.parametrize('given', [r'Adds \ud83d two numbers to each other', r'\udc00 Adds two numbers to each other'])
def test_answers_with_half_a_character(given):
    good = {'question': 'Adds two numbers to each other', 'answer': CODE}
    bad = json.dumps(good | {'question': 'HALF'}).replace('HALF', given)
    put('x.jsonl', '\n'.join([json.dumps(good), bad, json.dumps(good)]))
    assert cli.run_command(['data', 'instructions', 'jsonl:x.jsonl', '-o', 'y.jsonl']) == 0
    assert len(list(read_jsonl('y.jsonl'))) == 3

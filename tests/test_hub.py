"A bundle sent to a stand-in of the Hub, over HTTP: what arrives, and what is said when it cannot."
import base64
import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from shutka.core.errors import UserError
from shutka.export.bundle import warn_of_secrets
from shutka.export.hub import collect_hub_files, push_to_hub
from shutka.models.archive import read_bundle, write_zip

ROOT = Path(__file__).parents[1]
TOKEN = 'hf_good'


class Hub(ThreadingHTTPServer):
    "Speaks as much of the Hub's API as a commit takes: repositories, LFS objects, commits."

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server_port}'
        self.repos, self.objects, self.commits = {}, {}, []  # name -> private, oid -> bytes, [{path: bytes}]


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_): pass

    def answer(self, value, code=200):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes: return self.rfile.read(int(self.headers.get('Content-Length', 0)))

    def refused(self) -> bool:
        "Whether the token is wrong, in which case it has been said."
        if self.headers.get('Authorization') == f'Bearer {TOKEN}': return False
        self.answer({'error': 'Invalid username or password.'}, 401)
        return True

    def do_GET(self):
        self.body()
        name = self.path.removeprefix('/api/models/')
        if self.refused(): return
        if name not in self.server.repos: return self.answer({'error': 'Repository not found'}, 404)
        self.answer({'id': name, 'private': self.server.repos[name], 'sha': 'b' * 40, 'tags': [], 'siblings': []})

    def do_PUT(self):
        oid, data = self.path.rpartition('/')[2], self.body()
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.objects[oid] = data
        self.answer({})

    def do_POST(self):
        data, hub = self.body(), self.server
        if self.refused(): return
        if self.path == '/api/repos/create':
            asked = json.loads(data)
            name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
            if name.startswith('grace/'): return self.answer({'error': 'not yours'}, 403)
            there = name in hub.repos
            hub.repos.setdefault(name, asked.get('private', asked.get('visibility') == 'private'))
            return self.answer({'url': f'{hub.url}/{name}', 'name': name}, 409 if there else 200)
        if self.path == '/api/validate-yaml':
            header = json.loads(data)['content'].split('---\n')[1]
            errors = [] if isinstance(yaml.safe_load(header), dict) else [{'message': 'no header'}]
            return self.answer({'errors': errors, 'warnings': []})
        if '/preupload/' in self.path:
            mode = lambda path: 'lfs' if path.endswith(('.zip', '.safetensors')) else 'regular'
            paths = [f['path'] for f in json.loads(data)['files']]
            return self.answer({'files': [dict(path=p, uploadMode=mode(p), shouldIgnore=False) for p in paths]})
        if self.path.endswith('/info/lfs/objects/batch'):
            objects = json.loads(data)['objects']
            upload = lambda oid: {'actions': {'upload': {'href': f'{hub.url}/objects/{oid}'}}}
            return self.answer({'transfer': 'basic', 'objects': [o | upload(o['oid']) for o in objects]})
        if '/commit/' in self.path:
            files = {}
            for line in map(json.loads, data.decode().splitlines()):
                v = line['value']
                if line['key'] == 'file': files[v['path']] = base64.b64decode(v['content'])
                if line['key'] == 'lfsFile': files[v['path']] = hub.objects[v['oid']]
            hub.commits.append(files)
            oid = 'a' * 40
            return self.answer({'commitUrl': f'{hub.url}/ada/demo/commit/{oid}', 'commitOid': oid, 'hookOutput': ''})
        self.answer({'error': f'no such address: {self.path}'}, 404)


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub import constants
    monkeypatch.setattr(constants, 'ENDPOINT', server.url)
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
    for name in ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'): monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def bundle(tmp_path) -> Path:
    rows = [{'pool': 'unseen files', 'method': 'dense', 'mrr': .5, 'r@1': .4, 'r@5': .6, 'r@10': .7, 'ndcg@10': .55}]
    content = {'model.json': b'{}', 'model.safetensors': os.urandom(50_000), 'encoding.json': '{"a": "ü"}'.encode(),
               'run.json': b'{}', 'result.json': json.dumps({'rows': rows}).encode(),
               'README.md': '# demo\n\nFinds code by words – quickly.\n'.encode()}
    write_zip(tmp_path/'demo.zip', content)
    return tmp_path/'demo.zip'


def test_every_byte_arrives_in_one_commit(hub, bundle, tmp_path):
    told = []
    url = push_to_hub(bundle, 'ada/demo', TOKEN, progress=told.append)
    assert url.endswith('/commit/' + 'a' * 40) and 'private ada/demo' in told[0]
    [files] = hub.commits
    assert files == collect_hub_files(bundle, 'ada/demo') and hub.repos == {'ada/demo': True}
    (tmp_path/'back.zip').write_bytes(files['demo.zip'])
    content = read_bundle(tmp_path/'back.zip')
    for name in ('model.json', 'model.safetensors', 'encoding.json', 'run.json', 'result.json'):
        assert files[name] == content[name]


def test_the_card_is_what_the_hub_reads(hub, bundle):
    push_to_hub(bundle, 'ada/demo', TOKEN, license='mit', progress=lambda line: None)
    _, header, page = hub.commits[0]['README.md'].decode().split('---\n', 2)
    about = yaml.safe_load(header)
    assert (about['license'], about['library_name'], about['language']) == ('mit', 'shutka', ['code', 'en'])
    [result] = about['model-index'][0]['results']
    assert {m['type']: m['value'] for m in result['metrics']} == {
        'mrr': .5, 'recall_at_1': .4, 'recall_at_5': .6, 'recall_at_10': .7, 'ndcg_at_10': .55}
    assert '# demo' in page and "hf_hub_download('ada/demo', 'demo.zip')" in page


def test_again_and_public(hub, bundle):
    for _ in range(2): push_to_hub(bundle, 'ada/demo', TOKEN, private=False, progress=lambda line: None)
    assert hub.repos == {'ada/demo': False} and len(hub.commits) == 2
    with pytest.raises(UserError, match='there already, and public'): push_to_hub(bundle, 'ada/demo', TOKEN)
    assert len(hub.commits) == 2


@pytest.mark.parametrize('repo, token, why', [
    ('ada/demo', 'hf_wrong', '401: the token is not valid'),
    ('grace/demo', TOKEN, '403: the token may not write to grace/demo'),
])
def test_refusals(hub, bundle, repo, token, why):
    with pytest.raises(UserError, match=why): push_to_hub(bundle, repo, token)
    assert not hub.commits


def test_nobody(hub, bundle, monkeypatch):
    monkeypatch.setattr('huggingface_hub.get_token', lambda: None)
    with pytest.raises(UserError, match='hf auth login'): push_to_hub(bundle, 'ada/demo')


def test_a_bug_stays_a_bug(hub, bundle, monkeypatch):
    monkeypatch.setattr('huggingface_hub.HfApi.create_commit', lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError): push_to_hub(bundle, 'ada/demo', TOKEN, progress=lambda line: None)


def test_damaged_and_unpacked(hub, bundle, tmp_path):
    (tmp_path/'cut.zip').write_bytes(bundle.read_bytes()[:9_000])
    with pytest.raises(UserError, match='is damaged'): push_to_hub(tmp_path/'cut.zip', 'ada/demo', TOKEN)
    subprocess.run([sys.executable, '-m', 'zipfile', '-e', bundle, tmp_path/'open'], check=True)
    with pytest.raises(UserError, match='not the folder'): push_to_hub(tmp_path/'open', 'ada/demo', TOKEN)
    assert not hub.commits and not hub.repos


SECRETS = {   # put together here, so that they stand in no file
    'amazon': 'const id = "AKIA' + 'Q3ZJ7' * 3 + 'X"', 'github': 'ghp_' + 'a1B2' * 9,
    'password': 'const password = "' + 'x7' + 'Kp92Lm4Qz' + '"'}

@pytest.mark.parametrize('secret', SECRETS)
def test_what_looks_like_a_secret_is_told_with_its_place_and_not_itself(hub, bundle, tmp_path, secret):
    row = json.dumps({'text': SECRETS[secret], 'metadata': {}})
    write_zip(tmp_path/'told.zip', read_bundle(bundle) | {'memory.jsonl': f'{{}}\n{{}}\n{row}\n'.encode()})
    told = []
    push_to_hub(tmp_path/'told.zip', 'ada/demo', TOKEN, progress=told.append)
    [line] = [line for line in told if line.startswith('warning')]
    assert line.startswith('warning: memory.jsonl:3: ') and SECRETS[secret][-8:-1] not in ' '.join(told)


def test_at_most_twenty_are_told(bundle):
    told = []
    warn_of_secrets({'README.md': '\n'.join([SECRETS['github']] * 30).encode()}, told.append)
    assert len(told) == 21 and told[-1] == 'warning: and 10 more'
    warn_of_secrets(read_bundle(bundle), told.append)
    assert len(told) == 21


def test_a_result_of_others_is_no_traceback(bundle, tmp_path):
    for result in ([], {'rows': 7}, {'rows': [7, {'method': 'dense'}]}, {'rows': [{'method': 'dense', 'mrr': 'x'}]}):
        write_zip(tmp_path/'odd.zip', read_bundle(bundle) | {
            'result.json': json.dumps(result).encode(), 'README.md': b'# \xff'})
        if isinstance(result, dict): assert 'model-index' not in str(collect_hub_files(tmp_path/'odd.zip', 'ada/demo'))
        else:
            with pytest.raises(UserError, match='result.json must hold a JSON object'):
                collect_hub_files(tmp_path/'odd.zip', 'ada/demo')


def test_command(hub, bundle, tmp_path):
    env = os.environ | {'HF_ENDPOINT': hub.url, 'HF_TOKEN': TOKEN, 'HF_HUB_DISABLE_XET': '1',
                        'HF_HOME': str(tmp_path/'hf'), 'PYTHONPATH': str(ROOT)}
    push = [sys.executable, '-m', 'shutka.faces.cli', 'hub', 'push', bundle, 'ada/demo']
    here = dict(cwd=tmp_path, text=True, capture_output=True, timeout=60)
    ran = subprocess.run([*push, '--public'], env=env, **here)
    assert ran.returncode == 0, ran.stderr
    assert '/commit/' in ran.stdout and hub.repos == {'ada/demo': False}
    assert hub.commits == [collect_hub_files(bundle, 'ada/demo')]
    refused = subprocess.run(push, env=env | {'HF_TOKEN': 'hf_wrong'}, **here)
    assert refused.returncode == 2 and refused.stderr.startswith('error: ') and 'token is not valid' in refused.stderr

"Sources and corpus: bad input, other people's trees, and the npm client's refusals."
import json
import os
import stat
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.core.files import read_jsonl, write_jsonl
from shutka.data.corpus import deduplicate, find_leaks, split_corpus
from shutka.data.npm import fetch_tarball, prefetch_tarballs
from shutka.data.pairs import Report, collect_pairs
from shutka.data.records import Document
from shutka.data.sources import open_source

CODE = '/** Adds two numbers. */\nexport function add(a: number, b: number) { return a + b; }\n'


def put(path: Path, content: str | bytes = CODE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pack(path: Path, files: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w:gz') as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, BytesIO(text.encode()))
    return path


@pytest.fixture
def npm(tmp_path, monkeypatch):
    "Put a stand-in for npm first on the path: it prints an answer, and notes its arguments in `asked`."
    def install(answer, code=0, tarball: Path | None = None):
        asked = tmp_path/'asked'
        copy = ('for a in "$@"; do case "$a" in --pack-destination=*) '
                f'cp "{tarball}" "${{a#*=}}/any.tgz";; esac; done\n') if tarball else ''
        said = put(tmp_path/'answer', json.dumps(answer))
        script = put(tmp_path/'bin/npm',
                     f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{asked}"\n{copy}cat "{said}"\nexit {code}\n')
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv('PATH', f'{script.parent}{os.pathsep}{os.environ["PATH"]}')
        return asked
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path/'cache'))
    return install


# folders

def test_a_folder_without_typescript(tmp_path):
    put(tmp_path/'a.js'), put(tmp_path/'node_modules/x/a.ts'), put(tmp_path/'dist/a.ts'), put(tmp_path/'build/a.ts')
    with pytest.raises(UserError, match='no TypeScript'): open_source(f'dir:{tmp_path}')


def test_a_folder_with_only_declarations(tmp_path):
    put(tmp_path/'a.d.ts'), put(tmp_path/'b.d.mts'), put(tmp_path/'c.d.json.ts')
    with pytest.raises(UserError, match=r'only declarations \(3'): open_source(f'dir:{tmp_path}')


def test_encodings_are_read_or_named(tmp_path):
    encodings = ('utf-8', 'utf-8-sig', 'utf-16', 'latin-1', 'utf-16-be', 'cp1251')
    for name, encoding in zip('abcdef', encodings, strict=True):
        put(tmp_path/f'{name}.ts', (CODE + '// é' if encoding != 'cp1251' else CODE + '// шутка').encode(encoding))
    put(tmp_path/'g.ts', b'\xfe\xff' + (CODE + '// é').encode('utf-16-be'))
    source = open_source(f'dir:{tmp_path}')
    read = list(source)
    assert [d['path'] for d in read] == ['a.ts', 'b.ts', 'c.ts', 'g.ts'] and len({d['text'] for d in read}) == 1
    assert [s.split(':')[0] for s in source.skipped] == [f'{tmp_path.name}/{n}.ts' for n in 'def']
    report = Report()
    list(collect_pairs(f'dir:{tmp_path}', report))
    assert report.files == 7 and report.left_out['unreadable'] == 3 and len(report.skipped) == 3


def test_nothing_readable_is_refused_by_name(tmp_path):
    put(tmp_path/'a.ts', b'\xff\x00\x01')
    message = r'no record that can be read; the first of 1 skipped: .*a\.ts'
    with pytest.raises(UserError, match=message): open_source(f'dir:{tmp_path}')


def test_ten_megabytes_on_one_line(tmp_path):
    put(tmp_path/'big.ts', 'export const a = [' + '1234567,' * 1_250_000 + '];')
    put(tmp_path/'small.ts')
    report = Report()
    assert [p['path'] for p in collect_pairs(f'dir:{tmp_path}', report)] == ['small.ts']
    assert report.left_out == {'large': 1}
    (tmp_path/'small.ts').unlink()
    with pytest.raises(UserError, match='gives no pair to learn from .*1 large'):
        list(collect_pairs(f'dir:{tmp_path}', Report()))


def test_links_are_not_followed(tmp_path):
    put(tmp_path/'outside/secret.ts'), put(tmp_path/'tree/a.ts')
    os.symlink(tmp_path/'outside', tmp_path/'tree/folder')
    os.symlink(tmp_path/'outside/secret.ts', tmp_path/'tree/file.ts')
    os.symlink(tmp_path/'tree', tmp_path/'tree/loop')
    assert [d['path'] for d in open_source(f'dir:{tmp_path}/tree')] == ['a.ts']


def test_packages_of_a_tree(tmp_path):
    put(tmp_path/'package.json', '{"name": "top"}'), put(tmp_path/'x.ts')
    put(tmp_path/'packages/a/package.json', '{"name": "@o/a"}'), put(tmp_path/'packages/a/src/x.ts')
    put(tmp_path/'packages/a/src/esm/package.json', '{"type": "module"}'), put(tmp_path/'packages/a/src/esm/y.ts')
    put(tmp_path/'packages/b/package.json', 'not json'), put(tmp_path/'packages/b/z.ts')
    found = [('top', 'x.ts'), ('@o/a', 'src/x.ts'), ('@o/a', 'src/esm/y.ts'), ('top', 'packages/b/z.ts')]
    assert [(d['package'], d['path']) for d in open_source(f'dir:{tmp_path}')] == found
    assert {d['package'] for d in open_source(f'dir:{tmp_path}/packages/a/src')} == {'@o/a'}  # also from below


def test_a_name_with_strange_bytes(tmp_path):
    with open(os.fsencode(tmp_path) + b'/\xff.ts', 'w') as f: f.write(CODE)
    assert write_jsonl(tmp_path/'out.jsonl', open_source(f'dir:{tmp_path}')) == 1  # the name can be written


# git

def commit(folder: Path):
    me = ['-c', 'user.name=A', '-c', 'user.email=a@example.org']
    clean = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    for arguments in (['init', '-q'], ['add', '-A'], [*me, 'commit', '-qm', 'x']):
        subprocess.run(['git', '-C', folder, *arguments], check=True, env=clean)


def test_git_reads_the_commit_from_working_and_bare_repositories(tmp_path, monkeypatch):
    repo = tmp_path/'a@b'  # an @ in the folder's name
    put(repo/'src/ä b.ts', 'one'), put(repo/'latin.ts', 'é'.encode('latin-1')), put(repo/'node_modules/x/i.ts')
    os.symlink('src/ä b.ts', repo/'link.ts')
    commit(repo)
    put(repo/'src/ä b.ts', 'two')
    subprocess.run(['git', 'clone', '-q', '--bare', repo, tmp_path/'bare.git'], check=True)
    monkeypatch.setenv('GIT_DIR', '/nowhere')  # as inside a hook
    for source, package in ((f'git:{repo}', 'a@b'), (f'git:{repo}@HEAD', 'a@b'), (f'git:{tmp_path}/bare.git', 'bare')):
        source = open_source(source)
        found = [(d['package'], d['path'], d['text'], d['source']) for d in source]
        assert found == [(package, 'src/ä b.ts', 'one', source.resolved)]
        assert len(source.skipped) == 1 and list(source) == list(source)
    assert open_source(source.resolved).resolved == source.resolved


def test_git_refuses(tmp_path):
    put(tmp_path/'outer/inner/a.ts')
    commit(tmp_path/'outer')
    for spec, words in ((f'git:{tmp_path}/outer/inner', 'not a git repository'),
                        (f'git:{tmp_path}/outer@v1', "no commit 'v1'"),
                        (f'git:{tmp_path}/outer@--all', 'no commit'), (f'git:{tmp_path}/none', 'clone it first')):
        with pytest.raises(UserError, match=words): open_source(spec)


def test_a_revision_is_no_option(tmp_path):
    "A branch may begin with a dash, as `git push` from elsewhere makes one; what git takes for an option is none."
    put(tmp_path/'a.ts', 'one')
    commit(tmp_path)
    subprocess.run(['git', '-C', tmp_path, 'update-ref', 'refs/heads/-all', 'HEAD'], check=True)
    assert [d['text'] for d in open_source(f'git:{tmp_path}@-all')] == ['one']
    for revision in ('--all', '--branches', '--glob=*', '-h'):
        with pytest.raises(UserError, match='has no commit'): open_source(f'git:{tmp_path}@{revision}')


# npm

def test_a_range_is_resolved_and_an_exact_version_kept(tmp_path, npm, monkeypatch):
    files = {'package/src/a.ts': CODE, 'package/node_modules/x/b.ts': CODE, 'package/a.d.ts': ''}
    tarball = pack(tmp_path/'kit.tgz', files)
    asked = npm([{'version': '1.2.3'}], tarball=tarball)
    source = open_source('npm:@o/kit@^1')
    assert source.resolved == 'npm:@o/kit@1.2.3'
    assert [(d['package'], d['path']) for d in source] == [('@o/kit', 'src/a.ts'), ('@o/kit', 'a.d.ts')]
    arguments = asked.read_text().splitlines()
    assert arguments[:2] == ['pack', '@o/kit@^1'] and '--ignore-scripts' in arguments
    monkeypatch.setenv('PATH', '')
    assert list(open_source('npm:@o/kit@1.2.3')) == list(source)  # no npm is asked
    assert [p.name for p in (tmp_path/'cache/npm/@o').iterdir()] == ['kit@1.2.3.tgz']
    with pytest.raises(UserError, match='install Node.js'): open_source('npm:@o/kit@^1')


NPM = '''#!/bin/sh
echo "$*" >> "$ASKED"
for a in "$@"; do case "$a" in
  --pack-destination=*) to="${a#*=}";;
  none@*) echo '{"error": {"code": "E404", "summary": "Not Found"}}'; exit 1;;
esac; done
for a in "$@"; do case "$a" in
  ?*@*) file=$(echo "${a%@*}" | tr -d @ | tr / -)-${a##*@}.tgz; echo "$a" > "$to/$file";;
esac; done
echo '[{"version": "1.0.0"}]'
'''


def test_many_packages_with_one_call(tmp_path, monkeypatch):
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path/'cache'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('ASKED', str(tmp_path/'asked'))   # npm is started in a folder of its own
    put(tmp_path/'bin/npm', NPM).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}/bin{os.pathsep}{os.environ["PATH"]}')
    put(tmp_path/'cache/npm/old@1.0.0.tgz', 'old')
    cache = tmp_path/'cache/npm'
    cached = lambda: {path.relative_to(cache).as_posix(): path.read_text().strip()
                      for path in cache.rglob('*') if path.is_file()}
    prefetch_tarballs([(name, '1.0.0') for name in ('old', '@o/kit', 'kit', '@a/b-c', '@a-b/c')])
    found = cached()
    assert found.pop('old@1.0.0.tgz') == 'old'
    assert {f'{name}.tgz': name for name in found.values()} == found   # each under its own name
    assert len(found) == 3
    assert 'pack @o/kit@1.0.0 kit@1.0.0 ' in Path('asked').read_text()   # two of one file name do not go together
    before = cached()
    prefetch_tarballs([('none', '1.0.0'), ('more', '1.0.0')])   # all are refused
    prefetch_tarballs([('kit', '1.0.0'), ('last', '1.0.0')])    # one is no crowd
    assert cached() == before and len(Path('asked').read_text().splitlines()) == 2
    assert fetch_tarball('more', '1.0.0')[1] == '1.0.0'
    with pytest.raises(UserError, match='npm knows no none@1.0.0: Not Found'): fetch_tarball('none', '1.0.0')


@pytest.mark.parametrize('answer, words', [
    ({'error': {'code': 'E404', 'summary': 'Not Found - GET https://example.org/kit'}},
     r'^npm knows no kit@latest: Not Found$'),
    ({'error': {'code': 'ETARGET', 'summary': 'No matching version found for kit@9.'}},
     r'^npm knows no .* No matching version'),
    ({'error': {'code': 'ENOTFOUND', 'summary': 'request failed'}}, 'cannot reach its registry'),
    ({'error': {'code': 'E401', 'summary': 'Unable to authenticate'}}, r'cannot fetch kit@latest \(E401\): Unable'),
    ('nonsense', 'no reason given')])
def test_npm_refuses_in_its_own_words(npm, answer, words):
    npm(answer, code=1)
    with pytest.raises(UserError, match=words) as e: open_source('npm:kit')
    assert '\n' not in str(e.value) and '://' not in str(e.value)


@pytest.mark.parametrize('files, words', [
    ({}, 'no TypeScript'),
    ({'package/index.js': 'x'}, 'no TypeScript'),
    ({'package/index.js': 'x', 'package/index.d.ts': 'x'}, 'ships only declarations')])
def test_packages_without_code(tmp_path, npm, files, words):
    npm([{'version': '1.0.0'}], tarball=pack(tmp_path/'kit.tgz', files))
    with pytest.raises(UserError, match=rf'^npm:kit@1\.0\.0 .*{words}'): open_source('npm:kit')


@pytest.mark.parametrize('damage', [
    lambda b: b[:len(b) // 2], lambda b: b'not a tarball', lambda b: b[:200] + b'\0' * 20 + b[220:]])
def test_a_damaged_tarball_is_named(tmp_path, monkeypatch, damage):
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path))
    tarball = pack(tmp_path/'npm/kit@1.0.0.tgz', {f'package/{i}.ts': os.urandom(500).hex() for i in range(9)})
    tarball.write_bytes(damage(tarball.read_bytes()))
    with pytest.raises(UserError, match=r'kit@1\.0\.0\.tgz is damaged'): open_source('npm:kit@1.0.0')


@pytest.mark.net
def test_npm_for_real(tmp_path, monkeypatch):
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path))
    assert open_source('npm:zod@~4.1.12').resolved.startswith('npm:zod@4.1.')
    with pytest.raises(UserError, match='npm knows no zod@99'): open_source('npm:zod@99')


# records

def test_a_wrong_line_is_named(tmp_path):
    good = json.dumps(Document(kind='document', text=CODE, path='a.ts', package='p', source='s', language='typescript'))
    for line, words in (('{"kind": ', 'not valid JSON'), ('[]', 'JSON object'), ('{"kind": "pear"}', "must be one of"),
                        (b'\xff{}', 'not valid JSON')):
        put(tmp_path/'x.jsonl', good.encode() + b'\n\n' + (line if isinstance(line, bytes) else line.encode()) + b'\n')
        with pytest.raises(UserError, match=rf'x\.jsonl:3: .*{words}'): list(open_source(f'jsonl:{tmp_path}/x.jsonl'))
    put(tmp_path/'empty.jsonl', '\n')
    with pytest.raises(UserError, match='no record'): open_source(f'jsonl:{tmp_path}/empty.jsonl')


# hub layouts, from local files

ROWS = [('add', 'function add(a, b) { return a + b; }', 'function'),
        ('sum', 'async function (a, b) { return a + b + 1; }', 'arrow'),
        ('twice', 'x => { return x + x + 2; }', 'arrow'),
        ('', '(a, b) => { return a + b + 3; }', 'arrow'),
        ('a.b.Stack.push', 'push(item) { this.items.push(item); }', 'method'),
        ('Stack.of', 'static of(item) { return new Stack(item); }', 'method')]


@pytest.mark.parametrize('form', ['parquet', 'jsonl'])
def test_code_search_net_rows_become_pairs(tmp_path, form):
    about = {'repository_name': 'o/r', 'language': 'javascript', 'func_documentation_string': 'Does something.'}
    rows = [about | {'func_path_in_repository': f'{i}.js', 'func_name': name, 'func_code_string': code}
            for i, (name, code, _) in enumerate(ROWS)]
    if form == 'jsonl': write_jsonl(tmp_path/'train.jsonl', rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq
        pq.write_table(pa.Table.from_pylist(rows), tmp_path/'train-00000-of-00001.parquet')
    pairs = list(collect_pairs(f'hf:{tmp_path}', Report()))
    assert [p['form'] for p in pairs] == [f for _, _, f in ROWS]
    assert {(p['doc'], p['package']) for p in pairs} == {('Does something.', 'o/r')}
    assert [p['name'] for p in pairs] == ['add', 'sum', 'twice', 'unnamed', 'a_b_Stack.push', 'Stack.of']
    assert pairs[0]['body'] == '{ return a + b; }'


def test_rows_that_are_records_pass_and_others_are_refused(tmp_path):
    document = Document(kind='document', text=CODE, path='a.ts', package='p', source='s', language='typescript')
    write_jsonl(tmp_path/'a/train.jsonl', [document])
    assert list(open_source(f'hf:{tmp_path}/a')) == [document]
    write_jsonl(tmp_path/'b/train.jsonl', [{'text': 'x'}])
    with pytest.raises(UserError, match='row 1: .*it lacks func_code_string'): open_source(f'hf:{tmp_path}/b')
    with pytest.raises(UserError, match='does not exist'): open_source(f'hf:{tmp_path}/c')


def test_the_hub_out_of_reach(monkeypatch):
    def load_dataset(*_, **__): raise ConnectionError("no route")
    monkeypatch.setattr('datasets.load_dataset', load_dataset)
    with pytest.raises(UserError, match='go online, or give'): open_source('hf:owner/name/javascript')


# the bundled corpus, all the way

def test_bundled_corpus_is_whole_and_does_not_leak():
    report = Report()
    pairs = list(collect_pairs('bundled:typescript', report))
    assert not report.left_out and not report.skipped
    kept, dropped = deduplicate(pairs)
    assert len(kept) + dropped.total() == len(pairs) and (kept, dropped) == deduplicate(pairs)
    package = kept[0]['package']
    parts = split_corpus(kept, [package], files=64)
    assert len(parts.train) + len(parts.files) + len(parts.packages) + parts.copies == len(kept) > 100 * parts.copies
    assert {p['package'] for p in parts.packages} == {package}
    assert not {package} & {p['package'] for p in parts.train + parts.files}
    assert not find_leaks(parts.train, parts.files + parts.packages)
    assert find_leaks(parts.train, parts.train[:3]) == parts.train[:3]
    assert split_corpus(kept, [package], files=64) == parts


def test_a_mix_keeps_its_order(tmp_path):
    put(tmp_path/'d/a.ts')
    pairs = list(collect_pairs(f'dir:{tmp_path}/d', Report()))
    write_jsonl(tmp_path/'p.jsonl', pairs)
    lines, report = [], Report()
    assert list(collect_pairs(f'dir:{tmp_path}/d, jsonl:{tmp_path}/p.jsonl', report, lines.append)) == pairs + pairs
    assert lines == [f'dir:{tmp_path}/d: 1 pairs', f'jsonl:{tmp_path}/p.jsonl: 1 pairs']
    assert (report.pairs, report.documented) == (2, 2)
    assert list(read_jsonl(tmp_path/'p.jsonl')) == pairs


# what is too large

def sparse(path: Path, size: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'wb') as f: f.truncate(size)

class Zeros:
    "A file of many zeros that takes no room."
    def __init__(self, size): self.left = size
    def read(self, n):
        n = min(n, self.left)
        self.left -= n
        return bytes(n)

@pytest.fixture
def little_memory():
    "A process that may have half a gigabyte more than it has now."
    import resource
    now = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (512 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)

def test_a_sparse_file_of_gigabytes_is_left_out(tmp_path, little_memory):
    from shutka.memory.snippets import collect_snippets
    put(tmp_path/'src/a.ts')
    for name in ('b.ts', 'c.tsx', 'd.d.ts'): sparse(tmp_path/'src'/name, 6_000_000_000)
    sparse(tmp_path/'src/package.json', 6_000_000_000)
    report = Report()
    assert [p['path'] for p in collect_pairs(f'dir:{tmp_path}/src', report)] == ['a.ts']
    assert report.left_out == {'large': 3} and '3 large' in str(report)
    assert [about['path'] for _, about in collect_snippets(f'dir:{tmp_path}/src')] == ['a.ts']
    (tmp_path/'src/a.ts').unlink()
    with pytest.raises(UserError, match='gives no pair to learn from .*3 large'): open_source(f'dir:{tmp_path}/src')

def test_a_package_that_unpacks_to_gigabytes(tmp_path, monkeypatch, little_memory):
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path))
    (tmp_path/'npm').mkdir()
    with tarfile.open(tmp_path/'npm/kit@1.0.0.tgz', 'w:gz', compresslevel=1) as tar:
        for name, size in (('large.ts', 700_000_000), ('a.ts', len(CODE))):
            info = tarfile.TarInfo(f'package/{name}')
            info.size = size
            tar.addfile(info, Zeros(size) if name == 'large.ts' else BytesIO(CODE.encode()))
    report = Report()
    assert [p['path'] for p in collect_pairs('npm:kit@1.0.0', report)] == ['a.ts']
    assert report.left_out == {'large': 1}

@pytest.mark.parametrize('kind', [b'0', b'x', b'L'])   # a file, a header of its own length, a long name
def test_a_member_that_claims_fifty_gigabytes(tmp_path, monkeypatch, kind, little_memory):
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path))
    info = tarfile.TarInfo('package/a.ts')
    info.size, info.type = 50_000_000_000, kind
    import gzip
    (tmp_path/'npm').mkdir()
    with gzip.open(tmp_path/'npm/kit@1.0.0.tgz', 'wb') as f: f.write(info.tobuf(tarfile.GNU_FORMAT) + CODE.encode())
    with pytest.raises(UserError, match='is damaged'): list(open_source('npm:kit@1.0.0'))

def test_a_line_without_an_end_is_refused(tmp_path, little_memory):
    sparse(tmp_path/'x.jsonl', 6_000_000_000)
    with pytest.raises(UserError, match=r'x\.jsonl:1: a line must be shorter'): open_source(f'jsonl:{tmp_path}/x.jsonl')

def test_a_manifest_behind_a_link_is_not_read(tmp_path):
    put(tmp_path/'other/package.json', '{"name": "secret"}'), put(tmp_path/'src/a.ts'), put(tmp_path/'src/b/b.ts')
    os.symlink(tmp_path/'other/package.json', tmp_path/'src/package.json')
    os.symlink('../../other/package.json', tmp_path/'src/b/package.json')
    assert {d['package'] for d in open_source(f'dir:{tmp_path}/src')} == {'src'}


# what no file can hold

@pytest.mark.parametrize('given, kept', [
    (r'\ud83d', '\ufffd'), (r'\udc00 \ud83d\ude00 \ud83d', '\ufffd \U0001f600 \ufffd'), (b'\xed\xa0\xbd', None)])
def test_half_a_character_costs_nobody_anything(tmp_path, given, kept):
    good = dict(kind='document', text=CODE, path='a.ts', package='p', source='s', language='typescript')
    lines = [json.dumps(good | {'path': path}).encode() for path in ('a.ts', 'HALF', 'c.ts')]
    lines[1] = lines[1].replace(b'HALF', given if isinstance(given, bytes) else given.encode())
    put(tmp_path/'x.jsonl', b'\n'.join(lines))
    assert write_jsonl(tmp_path/'out.jsonl', open_source(f'jsonl:{tmp_path}/x.jsonl')) == 3
    found = list(read_jsonl(tmp_path/'out.jsonl'))[1]['path']
    assert found == kept if kept else '\ufffd' in found

@pytest.mark.parametrize('line, words', [
    ('[' * 100_000, 'nested too deeply'), ('{"a":' * 100_000, 'nested too deeply'),
    ('{"kind": "pair", "start": ' + '9' * 5_000 + '}', 'not valid JSON: Exceeds the limit')])
def test_json_that_ends_the_parser_is_refused_by_line(tmp_path, line, words):
    put(tmp_path/'x.jsonl', '\n' + line)
    with pytest.raises(UserError, match=rf'^{tmp_path}/x\.jsonl:2: .*{words}') as e:
        open_source(f'jsonl:{tmp_path}/x.jsonl')
    assert len(str(e.value)) < 300

@pytest.mark.parametrize('field, value', [('start', 10**30), ('end', -2**70), ('start', 2**63)])
def test_a_number_that_no_table_can_hold_is_refused(tmp_path, field, value):
    [pair] = collect_pairs(f'dir:{put(tmp_path/"src/a.ts").parent}', Report())
    write_jsonl(tmp_path/'x.jsonl', [pair, pair | {field: value}])
    wrong = rf"x\.jsonl:2: pair\['{field}'\] must"
    with pytest.raises(UserError, match=wrong): list(open_source(f'jsonl:{tmp_path}/x.jsonl'))

@pytest.mark.parametrize('value', [[7], [['zod']], [None]])
def test_imports_are_names(tmp_path, value):
    [pair] = collect_pairs(f'dir:{put(tmp_path/"src/a.ts").parent}', Report())
    write_jsonl(tmp_path/'x.jsonl', [pair | {'imports': value}])
    with pytest.raises(UserError, match=r"x\.jsonl:1: pair\['imports'\] must"): open_source(f'jsonl:{tmp_path}/x.jsonl')

@pytest.mark.parametrize('name', ['\\ud800kit', '[' * 100_000, '9' * 5_000])
def test_a_strange_manifest_costs_nobody_anything(tmp_path, name):
    put(tmp_path/'src/package.json', f'{{"name": "{name}"}}' if name[0] == '\\' else f'{{"name": {name}')
    put(tmp_path/'src/a.ts')
    assert write_jsonl(tmp_path/'out.jsonl', open_source(f'dir:{tmp_path}/src')) == 1

def test_a_folder_with_strange_bytes(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b'/\xff')
    os.mkdir(folder)
    put(Path(folder)/'a.ts')
    assert write_jsonl(tmp_path/'out.jsonl', open_source(f'dir:{folder}')) == 1

"Reading a stranger's repository runs nothing of theirs, and what comes out depends on hashes alone."
import os
import re
import subprocess
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.core.files import read_jsonl
from shutka.data.documents import LARGEST_BYTES, TooLarge
from shutka.data.git import Repository, list_commit_files, open_git, read_blobs
from shutka.data.pairs import Report
from shutka.faces import cli
from shutka.history.commit_file import write_commits
from shutka.history.commits import read_commits
from shutka.history.stats import measure_repository
from shutka.history.walk import walk_history
from shutka.instructions.collection import collect_instructions
from shutka.instructions.commit_pairs import open_commits

PACKAGE = Path(__file__).parents[1]/'shutka'
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
CLEAN |= {'GIT_CONFIG_GLOBAL': os.devnull, 'GIT_CONFIG_SYSTEM': os.devnull}
ME = ['-c', 'user.name=A', '-c', 'user.email=a@example.org', '-c', 'protocol.file.allow=always']
ADD = 'export function add(a: number, b: number) { return a + b; }\n'
TIMES = 'export function times(a: number, b: number) { return a * b; }\n'
LESS = 'export function less(a: number, b: number) { return a - b; }\n'


def git(repo, *words, given: bytes | None = None) -> str:
    done = subprocess.run(['git', '-C', str(repo), *ME, *words], input=given, capture_output=True, env=CLEAN)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode('utf-8', 'replace').strip()


def commit(repo: Path, message: str, **files: str) -> str:
    "A commit of TypeScript files, and its hash."
    for name, text in files.items(): (repo/f'{name}.ts').write_text(text)
    git(repo, 'add', '-A')
    git(repo, 'commit', '-q', '--allow-empty', '-F', '-', given=message.encode())
    return git(repo, 'rev-parse', 'HEAD')


@pytest.fixture
def repo(tmp_path) -> Path:
    "Three commits and a merge of two that changed the same file."
    folder = tmp_path/'app'
    git(tmp_path, 'init', '-q', '-b', 'main', 'app')
    commit(folder, 'Give the sum of two numbers', add=ADD)
    git(folder, 'checkout', '-q', '-b', 'side')
    commit(folder, 'Take one number from another', less=LESS, add='// side\n' + ADD)
    git(folder, 'checkout', '-q', 'main')
    commit(folder, 'Say where the sum is from', add=ADD + '// main\n')
    git(folder, 'merge', '-q', '--no-edit', 'side')
    return folder


def commit_raw(repo: Path, date: str, message: bytes, zone: str = '+0100') -> str:
    "A commit as a broken tool writes it, on top of main."
    tree, parent = git(repo, 'rev-parse', 'main^{tree}', 'main').split()
    who = f'A <a@example.org> {date} {zone}'
    data = f'tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\n'.encode() + message
    made = git(repo, 'hash-object', '-t', 'commit', '--literally', '-w', '--stdin', given=data)
    git(repo, 'update-ref', 'refs/heads/main', made)
    return made


# armed repositories

ATTRIBUTES = '* diff=armed merge=armed filter=armed\n'
KINDS = {   # settings that name a program; {} is a shell command that leaves a canary
    'fsmonitor': {'core.fsmonitor': '{}'},
    'merge driver': {'merge.armed.driver': '{}; false', 'merge.default': 'armed'},
    'textconv': {'diff.armed.textconv': '{}; cat'},
    'external diff': {'diff.external': '{}'},
    'diff command': {'diff.armed.command': '{}'},
    'clean and smudge': {'filter.armed.clean': '{}; cat', 'filter.armed.smudge': '{}; cat'},
    'filter process': {'filter.armed.process': '{}', 'filter.armed.required': 'true'},
    'pager': {'core.pager': '{}; cat', 'pager.log': '{}; cat', 'pager.diff-tree': '{}; cat'},
    'gpg': {'gpg.program': '{}', 'log.showSignature': 'true', 'gpg.ssh.program': '{}'},
    'alias': {f'alias.{name}': '!{}' for name in ('log', 'rev-list', 'diff-tree', 'cat-file', 'ls-tree')},
    'editor': {'core.editor': '{}', 'sequence.editor': '{}', 'core.askPass': '{}'},
    'credentials': {'credential.helper': '!{}'},
    'proxy': {'core.gitProxy': '{}', 'core.alternateRefsCommand': '{}'},
    'hooks': {'core.hooksPath': 'armed-hooks', 'uploadpack.packObjectsHook': '{}', 'gc.recentObjectsHook': '{}'},
    'submodule': {'submodule.less.update': '!{}', 'diff.ignoreSubmodules': 'all'},
    'mailmap and order': {'log.mailmap': 'true', 'diff.orderFile': 'armed-hooks', 'mailmap.file': 'armed-hooks'}}


def arm(repo: Path, kind: str, canary: Path):
    "Name a program in a repository's own settings."
    for name, value in KINDS[kind].items(): git(repo, 'config', name, value.format(f'touch {canary}'))
    (repo/'.git'/'info').mkdir(exist_ok=True)
    (repo/'.git'/'info'/'attributes').write_text(ATTRIBUTES)
    (repo/'armed-hooks').mkdir(exist_ok=True)
    for name in ('post-checkout', 'reference-transaction', 'post-index-change', 'fsmonitor-watchman'):
        (repo/'armed-hooks'/name).write_text(f'#!/bin/sh\ntouch {canary}\n')
        (repo/'armed-hooks'/name).chmod(0o755)


def read_all(repo: Path, folder: Path) -> tuple:
    "All that is read of a repository: as commits, as history, as a source and as instructions."
    assert cli.run_command(['data', 'commits', str(repo), '-o', str(folder/'commits.jsonl'), '--force']) == 0
    documents = [(d['path'], d['text']) for d in open_git(f'git:{repo}', f'{repo}')]
    pairs = [(p['doc'], p['body']) for p in open_commits(str(repo), Report())]
    return list(read_jsonl(folder/'commits.jsonl')), measure_repository(repo), documents, pairs


@pytest.mark.parametrize('kind', KINDS)
def test_no_program_of_the_repository_runs(repo, tmp_path, kind):
    before, canary = read_all(repo, tmp_path), tmp_path/'canary'
    arm(repo, kind, canary)
    if kind == 'fsmonitor':
        subprocess.run(['git', '-C', str(repo), 'status'], capture_output=True, env=CLEAN)
        assert canary.exists()   # armed it is
        canary.unlink()
    assert read_all(repo, tmp_path) == before
    assert not canary.exists()


PROMISES = {   # how a missing object would be fetched
    'ssh': {'url': 'ssh://nobody@localhost/nowhere', 'core.sshCommand': '{}'},
    'ext': {'url': 'ext::sh -c {}', 'protocol.ext.allow': 'always'},
    'uploadpack': {'url': 'file:///nowhere', 'remote.origin.uploadpack': '{}; false', 'protocol.allow': 'always'},
    'vcs': {'url': 'nowhere', 'remote.origin.vcs': 'ext', 'protocol.allow': 'always'}}


@pytest.mark.parametrize('missing', ['main:less.ts', 'main^{tree}', 'main~1'])
@pytest.mark.parametrize('promise', PROMISES)
def test_a_missing_object_is_not_fetched(repo, tmp_path, promise, missing, capsys):
    canary, script = tmp_path/'canary', tmp_path/'script'
    script.write_text(f'#!/bin/sh\ntouch {canary}\n')
    script.chmod(0o755)
    settings = {'remote.origin.promisor': 'true', 'extensions.partialClone': 'origin',
                'core.repositoryFormatVersion': '1', **PROMISES[promise]}
    settings = {'remote.origin.url' if name == 'url' else name: text for name, text in settings.items()}
    for name, value in settings.items(): git(repo, 'config', name, value.format(script))
    lost = git(repo, 'rev-parse', missing)
    (repo/'.git'/'objects'/lost[:2]/lost[2:]).unlink()
    subprocess.run(['git', '-C', str(repo), 'cat-file', '-p', lost], capture_output=True, env=CLEAN)
    if promise in ('ssh', 'ext'): assert canary.exists()   # armed it is
    canary.unlink(missing_ok=True)

    assert cli.run_command(['data', 'commits', str(repo), '-o', str(tmp_path/'c.jsonl')]) == 2
    assert cli.run_command(['data', 'instructions', f'commits:{repo}', '-o', str(tmp_path/'i.jsonl')]) == 2
    if missing != 'main~1':
        assert cli.run_command(['data', 'pairs', f'git:{repo}', '-o', str(tmp_path/'p.jsonl')]) == 2
    said = capsys.readouterr().err
    assert 'is the clone complete?' in said and 'Traceback' not in said
    assert not canary.exists() and not (tmp_path/'c.jsonl').exists()


def test_where_git_looks_is_ours(repo, monkeypatch):
    "Neither the caller's variables nor the caller's settings lead git elsewhere."
    monkeypatch.setenv('GIT_DIR', '/nowhere')
    monkeypatch.setenv('GIT_EXTERNAL_DIFF', 'false')
    opened = Repository(repo)
    assert opened.ask('rev-parse', '--git-dir').strip() == str(opened.folder)
    assert opened.ask('rev-list', '--count', 'main').strip() == '4'
    folder = opened.folder
    del opened
    assert not folder.exists()


def test_worktrees_alternates_and_odd_names(repo, tmp_path):
    git(repo, 'worktree', 'add', '-q', '--detach', tmp_path/'tree', 'main~1')
    git(repo, 'clone', '-q', '--shared', '--bare', repo, tmp_path/'shared "é".git')
    (tmp_path/'file').mkdir()
    (tmp_path/'file'/'.git').write_text(f'gitdir: {repo}/.git\n')
    whole = {c['hash'] for c in read_commits(repo)}
    assert resolve(tmp_path/'tree') == git(repo, 'rev-parse', 'main~1')
    for other in ('tree', 'shared "é".git', 'file'):
        assert {c['hash'] for c in read_commits(tmp_path/other)} == whole
        assert [c['merge_conflict_resolution'] for c in read_commits(tmp_path/other)][-1] is False


def resolve(repo: Path) -> str: return Repository(repo).ask('rev-parse', 'HEAD').strip()


def test_pipes_and_links_in_a_repository_are_no_refs(repo, tmp_path):
    whole = walk_history(repo).nodes
    os.mkfifo(repo/'.git'/'refs'/'heads'/'pipe')
    os.mkfifo(repo/'.git'/'packed-refs')
    (repo/'.git'/'refs'/'heads'/'away').symlink_to('/')
    assert walk_history(repo).nodes == whole
    with open(repo/'.git'/'shallow', 'wb') as f: f.truncate(1 << 40)   # a sparse file: no disk is taken
    with pytest.raises(UserError, match='must be at most'): walk_history(repo)


def test_refs_as_tables_are_refused(repo):
    (repo/'.git'/'config').write_text('[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefstorage = reftable\n')
    with pytest.raises(UserError, match='must keep its refs as files, got reftable'): Repository(repo)


# what is read depends on hashes alone

def test_replaced_commits_are_read_as_they_were_made(repo, tmp_path):
    before = read_all(repo, tmp_path)
    old, new = git(repo, 'rev-parse', 'main~1'), commit_raw(repo, '1700000000', b'Something else')
    git(repo, 'update-ref', 'refs/heads/main', f'{new}^')
    git(repo, 'replace', old, new)
    assert read_all(repo, tmp_path) == before
    git(repo, 'replace', '-d', old)
    git(repo, 'replace', '--graft', 'main')          # a commit that loses its parents
    assert read_all(repo, tmp_path) == before
    tree = git(repo, 'rev-parse', 'side^{tree}')
    git(repo, 'replace', git(repo, 'rev-parse', 'main^{tree}'), tree)
    assert read_all(repo, tmp_path) == before


def lasting(commits) -> list: return [{k: v for k, v in c.items() if k != 'branches'} for c in commits]


@pytest.mark.parametrize('path, content', [
    ('.gitattributes', '*.ts -diff\n'), ('.gitattributes', '*.ts diff=python merge=union\n'),
    ('.gitmodules', '[submodule "sub"]\n\tpath = sub\n\turl = ./x\n\tignore = all\n')])
def test_what_is_checked_out_changes_nothing(repo, tmp_path, path, content):
    git(repo, 'update-index', '--add', '--cacheinfo', f'160000,{"1" * 40},sub')
    git(repo, 'commit', '-qm', 'Take in another project')
    (repo/'sub').mkdir()
    (repo/path).write_text(content)
    git(repo, 'add', path)
    git(repo, 'commit', '-qm', 'Say how files are compared')
    git(repo, 'update-index', '--cacheinfo', f'160000,{"2" * 40},sub')
    git(repo, 'commit', '-qm', 'Take in a newer one')
    git(repo, 'clone', '-q', '--bare', repo, tmp_path/'bare.git')
    here, bare = list(read_commits(repo)), list(read_commits(tmp_path/'bare.git'))
    assert lasting(here) == lasting(bare)
    assert [s['path'] for s in here[-1]['diff_stats']] == ['sub']
    git(repo, 'checkout', '-q', 'main~3')
    assert lasting(read_commits(repo)) == lasting(here)


def test_notes_stash_and_other_book_keeping_are_no_history(repo):
    before = {c['hash'] for c in read_commits(repo)}
    stats = measure_repository(repo)
    git(repo, 'notes', 'add', '-m', 'a note', 'main')
    (repo/'add.ts').write_text('half done')
    git(repo, 'stash', '-q')
    def make(name):
        loose = git(repo, 'commit-tree', 'main^{tree}', '-p', 'main', '-m', name)
        git(repo, 'update-ref', name, loose)
        return loose
    for name in ('refs/original/refs/heads/main', 'refs/bisect/bad', 'refs/prefetch/remotes/origin/main'): make(name)
    assert {c['hash'] for c in read_commits(repo)} == before
    assert measure_repository(repo) == stats
    git(repo, 'pack-refs', '--all')
    assert {c['hash'] for c in read_commits(repo)} == before
    assert len(list(open_git(f'git:{repo}@refs/bisect/bad', f'{repo}@refs/bisect/bad'))) == 2   # asked for by name
    proposed = make('refs/pull/7/head')   # of a forge, in a mirror: somebody's work
    assert {c['hash'] for c in read_commits(repo)} == before | {proposed}


# clones that are not whole

def test_the_edge_of_a_shallow_clone_gives_no_pairs(repo, tmp_path, capsys):
    commit(repo, 'Give the product of two numbers', times=TIMES)
    git(tmp_path, 'clone', '-q', '--depth', '2', '--no-single-branch', f'file://{repo}', 'shallow')
    report = Report()
    found = [(p['name'], p['doc']) for p in open_commits(f'{tmp_path}/shallow', report)]
    assert found == [('times', 'Give the product of two numbers')]   # and nothing that the edge seems to have written
    assert report.left_out['edge of a shallow clone'] >= 1
    edges = (tmp_path/'shallow'/'.git'/'shallow').read_text().split()
    assert any(edge in line for edge in edges for line in report.skipped)
    git(tmp_path, 'clone', '-q', '--depth', '1', f'file://{repo}', 'one')
    with pytest.raises(UserError, match='edge of a shallow clone'):
        list(collect_instructions(f'commits:{tmp_path}/one', Report()))


@pytest.mark.parametrize('without', ['blob:none', 'tree:0', 'blob:limit=30'])
def test_a_partial_clone_says_what_to_do(repo, tmp_path, without, capsys):
    git(repo, 'config', 'uploadpack.allowFilter', 'true')
    git(tmp_path, 'clone', '-q', '--bare', f'--filter={without}', f'file://{repo}', 'part.git')
    part = tmp_path/'part.git'
    packs = sorted((part/'objects').rglob('*'))
    for words in (['data', 'commits', str(part), '-o', f'{tmp_path}/c.jsonl'],
                  ['data', 'pairs', f'git:{part}', '-o', f'{tmp_path}/p.jsonl'],
                  ['data', 'instructions', f'commits:{part}', '-o', f'{tmp_path}/i.jsonl']):
        assert cli.run_command(words) == 2
        assert 'this is a partial clone' in capsys.readouterr().err
    assert sorted((part/'objects').rglob('*')) == packs   # nothing was fetched
    git(part, 'fetch', '-q', '--refetch', '--no-filter')
    write_commits(part, tmp_path/'c.jsonl')
    assert len(list(open_git(f'git:{part}', str(part)))) == 2


@pytest.mark.parametrize('inside', ['src', 'packages/kit/src'])
def test_a_folder_inside_a_repository_is_told_apart(repo, tmp_path, inside, capsys):
    (repo/inside).mkdir(parents=True)
    for words in (['data', 'pairs', f'git:{repo}/{inside}', '-o', f'{tmp_path}/p.jsonl'],
                  ['data', 'commits', f'{repo}/{inside}', '-o', f'{tmp_path}/c.jsonl']):
        assert cli.run_command(words) == 2
        said = capsys.readouterr().err
        assert f'lies inside the repository {repo}, so name that folder' in said


# what others have written badly

@pytest.mark.parametrize('date', ['99999999999999999999', '9' * 5000, '9223372036854775808', '9223372036854775807'])
def test_an_impossible_date_costs_nothing_else(repo, tmp_path, date):
    before, bad = len(walk_history(repo).nodes), commit_raw(repo, date, b'From the far future')
    commit(repo, 'Give the product of two numbers', times='export const x = 1\n')
    fits = int(date[:25]) < 1 << 63
    if not fits:
        with pytest.warns(UserWarning, match=f'commit {bad} of app has no date'):
            write_commits(repo, tmp_path/'c.jsonl')
    else: write_commits(repo, tmp_path/'c.jsonl')
    found = {c['hash']: c for c in read_jsonl(tmp_path/'c.jsonl')}
    assert len(found) == before + 2
    assert found[bad]['commit_timestamp'] == found[bad]['author_timestamp'] == (int(date) if fits else 0)


@pytest.mark.parametrize('message', [
    'Gib die Größe zurück'.encode('latin-1'), b'Add \xff\xfe to it all', b'One\xed\xa0\xbd half of a pair',
    b'Cut here\0 and not there'])
def test_messages_and_names_in_any_bytes(repo, tmp_path, message):
    name = os.fsdecode(b'caf\xe9')
    (repo/f'{name}.ts').write_text(TIMES)
    git(repo, 'add', '-A')
    tree = git(repo, 'write-tree')
    head = git(repo, 'rev-parse', 'main')
    who = 'M <m@example.org> 1700000000 +0000'
    data = f'tree {tree}\nparent {head}\nauthor {who}\ncommitter {who}\n\n'.encode() + message
    made = git(repo, 'hash-object', '-t', 'commit', '--literally', '-w', '--stdin', given=data)
    git(repo, 'update-ref', 'refs/heads/main', made)

    assert cli.run_command(['data', 'commits', str(repo), '-o', str(tmp_path/'c.jsonl')]) == 0
    last = [c for c in read_jsonl(tmp_path/'c.jsonl') if c['hash'] == made][0]
    assert last['files_added'] == ['café.ts'] and last['subject']
    assert cli.run_command(['data', 'instructions', f'commits:{repo}', '-o', str(tmp_path/'i.jsonl')]) == 0
    pairs = [p for p in read_jsonl(tmp_path/'i.jsonl') if made in p['source']]
    assert [(p['path'], p['name']) for p in pairs] in ([('café.ts', 'times')], [])
    if b'Gr' in message: assert pairs[0]['doc'] == 'Gib die Größe zurück'
    assert cli.run_command(['data', 'pairs', f'git:{repo}', '-o', str(tmp_path/'p.jsonl')]) == 0
    assert 'café.ts' in list_commit_files(Repository(repo), 'main')


def test_one_process_hands_out_all_blobs(repo):
    opened = Repository(repo)
    ids = list_commit_files(opened, 'main')
    assert [fetch() for fetch in read_blobs(opened, ids.values())] == [(repo/path).read_bytes() for path in ids]


def test_what_no_person_has_written_is_passed_over(repo, tmp_path):
    "A blob that claims to be large is not taken into memory; those behind it are read."
    (repo/'big.ts').write_bytes(b' ' * (LARGEST_BYTES + 1))
    (repo/'package.json').write_bytes(b' ' * 3 * LARGEST_BYTES)
    commit(repo, 'Give the product of two numbers', times=TIMES)
    source = open_git(f'git:{repo}', str(repo))
    assert sorted(d['path'] for d in source) == ['add.ts', 'less.ts', 'times.ts']
    assert len(source.skipped) == 1 and 'big.ts: large' in source.skipped[0]
    report = Report()
    assert 'times' not in [p['name'] for p in open_commits(str(repo), report)] and report.left_out['large'] == 1
    ids = [git(repo, 'rev-parse', f'main:{name}') for name in ('big.ts', 'times.ts')]
    big, small = read_blobs(Repository(repo), ids)
    assert small() == TIMES.encode()
    with pytest.raises(TooLarge): big()


def test_git_is_called_in_one_place():
    "Whoever reads a repository goes through `Repository`; only what makes one runs git as it is."
    calls = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob('*.py')}
    assert [name for name, text in calls.items() if re.search(r"\['git', ", text)] == ['data/git.py']
    own = [name for name, text in calls.items() if 'run_git' in text or 'build_git_call' in text]
    assert sorted(own) == ['_modidx.py', 'data/git.py', 'history/example.py']

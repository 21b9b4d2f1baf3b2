"Sync: a bank that follows repositories, folders, packages and lockfiles."
import json
import os
import subprocess
import tarfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import shutka.memory.sync as sync_module
from shutka.core.errors import UserError
from shutka.core.hashes import sha256
from shutka.memory.bank import Bank
from shutka.memory.changes import Changes, Removed, read_known_sources, set_aside
from shutka.memory.memories import Memory
from shutka.memory.snippets import collect_snippets, open_source_files
from shutka.memory.sync import plan_sync


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# a bank

class Encoder:
    "Counts what it encodes."
    fingerprint = 'counts'

    def __init__(self): self.seen = []

    def encode(self, texts, side='code'):
        self.seen += [t for t in texts if t != 'a']  # with an 'a' the bank asks for the dimension
        hashes = [np.frombuffer(bytes.fromhex(sha256(t)[:16]), np.uint8) for t in texts]
        return np.array(hashes).reshape(len(texts), 8) + 1.

    def new(self):
        "Texts encoded since the last call."
        seen, self.seen = self.seen, []
        return seen


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path/'bank', Encoder()) as bank:
        yield bank
        assert bank.verify() == []


def names(bank): return sorted(i.metadata['name'] for i in bank.store.get(bank.store.live()))


def items(bank): return {i.id: (i.text, i.metadata) for i in bank.store.get(bank.store.live())}


def quiet(line): pass


def f(name, body='a + b', doc=''):
    comment = doc and f'/** {doc} */'
    return f'{comment}\nexport function {name}(a: number, b: number) {{ return {body}; }}\n'


def check_counts(bank, before, changes):
    "What a sync says is what the database has."
    c, after = changes.counts, items(bank)
    assert len(before) == c['unchanged'] + c['changed'] + c['deleted']
    assert len(after) == c['unchanged'] + c['changed'] + c['added']
    assert set(changes.kept) == before.keys() & after.keys() and set(changes.delete) == before.keys() - after.keys()
    assert len(changes.add) == len(after.keys() - before.keys())
    assert bank.store.counts() == Counter((about['source'], about.get('version')) for _, about in after.values())


def git(repo, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}
    command = ['git', '-C', repo, '-c', 'user.name=A', '-c', 'user.email=a@example.org', *arguments]
    subprocess.run(command, check=True, env=clean, capture_output=True)


def commit(repo):
    git(repo, 'add', '-A')
    git(repo, 'commit', '-qm', 'x')


@pytest.fixture
def repo(tmp_path):
    repo = tmp_path/'repo'
    put(repo/'src/add.ts', f('add', doc='Adds.') + f('plus'))
    put(repo/'src/sub ä.ts', f('sub', 'a - b')), put(repo/'src/mul.ts', f('mul', 'a * b'))
    put(repo/'src/index.ts', 'export * from "./add";\n')
    put(repo/'src/add.test.ts', f('test')), put(repo/'readme.md', 'x')
    git(tmp_path, 'init', '-q', 'repo')
    commit(repo)
    return repo


def test_a_repository_is_followed(bank, repo):
    lines = []
    changes = bank.sync(f'git:{repo}', progress=lines.append)
    assert names(bank) == ['add', 'mul', 'plus', 'sub'] and len(bank.encoder.new()) == 4
    assert lines == [f'git:{repo}: 4 added, 0 changed, 0 deleted, 0 unchanged']
    check_counts(bank, {}, changes)
    assert not bank.sync(f'git:{repo}', progress=quiet) and bank.store.last_operation() == 1

    first = items(bank)
    # one changed, one new, one as it was; one deleted; one renamed
    put(repo/'src/add.ts', f('plus') + f('add', doc='Adds two.') + f('more', 'a + b + 1'))
    (repo/'src/sub ä.ts').unlink()
    (repo/'src/mul.ts').rename(repo/'src/times.ts')
    put(repo/'new/div.ts', f('div', 'a / b')), put(repo/'src/add.test.ts', f('test2'))
    put(repo/'uncommitted.ts', f('later'))
    git(repo, 'add', 'src', 'new')
    git(repo, 'commit', '-qm', 'second')
    changes = bank.sync(f'git:{repo}', progress=quiet)
    assert names(bank) == ['add', 'div', 'more', 'mul', 'plus']
    encoded = bank.encoder.new()
    assert len(encoded) == 3 and all(any(word in text for text in encoded) for word in ('Adds two.', 'more', 'div'))
    check_counts(bank, first, changes)
    assert dict(changes.counts) == {'added': 3, 'changed': 1, 'deleted': 2, 'unchanged': 1}
    assert [first[i][1]['name'] for i in changes.kept] == ['plus']
    assert {a['path'] for _, a in items(bank).values() if a['name'] == 'mul'} == {'src/times.ts'}
    operation = bank.store.operations(1)[0]
    head = subprocess.run(['git', '-C', repo, 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout.strip()
    assert operation.kind == 'sync' and operation.detail['commit'] == head and operation.detail['encoded'] == 3

    bank.undo()
    assert items(bank) == first
    # it knows that it is behind again
    assert bank.sync(f'git:{repo}', dry=True, progress=quiet).counts == changes.counts
    assert items(bank) == first and not bank.encoder.new()
    bank.sync(f'git:{repo}', progress=quiet)
    assert names(bank) == ['add', 'div', 'more', 'mul', 'plus']


def test_any_commit_from_any_history(bank, repo):
    "Older commits, and a history written anew, need no common ground."
    bank.sync(f'git:{repo}', progress=quiet)
    put(repo/'src/mul.ts', f('mul', 'b * a'))
    commit(repo)
    bank.sync(f'git:{repo}', progress=quiet)
    bank.sync(f'git:{repo}@HEAD~1', progress=quiet)
    assert any('a * b' in text for text, _ in items(bank).values()) and len(bank.store) == 4
    git(repo, 'checkout', '-q', '--orphan', 'new')
    commit(repo)
    bank.encoder.new()
    changes = bank.sync(f'git:{repo}', progress=quiet)
    assert dict(changes.counts) == {'changed': 1, 'unchanged': 3} and len(bank.encoder.new()) == 1


def test_only_changed_files_are_read(bank, repo, monkeypatch):
    import shutka.memory.snippets as module
    bank.sync(f'git:{repo}', progress=quiet)
    read, original = [], module._file_snippets

    def noted(source_files, path, data):
        read.append(path)
        return original(source_files, path, data)

    monkeypatch.setattr(module, '_file_snippets', noted)
    bank.sync(f'git:{repo}', progress=quiet)
    assert read == []
    put(repo/'src/mul.ts', f('mul', 'a * b * 1'))
    commit(repo)
    bank.sync(f'git:{repo}', progress=quiet)
    assert read == ['src/mul.ts']


def test_a_folder_and_files_that_cannot_be_read(bank, tmp_path):
    folder = tmp_path/'app'
    put(folder/'a.ts', f('a1') + f('a2')), put(folder/'b.ts', f('b')), put(folder/'node_modules/x/c.ts', f('c'))
    bank.sync(f'dir:{folder}', progress=quiet)
    assert names(bank) == ['a1', 'a2', 'b']
    before, lines = items(bank), []
    put(folder/'a.ts', f('a1') + 'let = = 2'), put(folder/'b.ts', b'\xff\x00'), put(folder/'c.ts', f('c'))
    changes = bank.sync(f'dir:{folder}', progress=lines.append)
    # what cannot be read is left as it is
    assert names(bank) == ['a1', 'a2', 'b', 'c'] and before.items() <= items(bank).items()
    assert [line.split(':')[0] for line in lines[:2]] == ['left out a.ts', 'left out b.ts']
    check_counts(bank, before, changes)
    put(folder/'a.ts', f('a1')), (folder/'b.ts').unlink()
    before, _ = items(bank), bank.encoder.new()
    changes = bank.sync(f'dir:{folder}/../app/', progress=quiet)
    assert names(bank) == ['a1', 'c'] and not bank.encoder.new()
    check_counts(bank, before, changes)


def test_two_syncs_at_once_add_a_source_once(bank, tmp_path, monkeypatch):
    "What was planned counts only if nobody wrote meanwhile; what was encoded is not encoded again."
    put(tmp_path/'app/a.ts', f('a') + f('b'))
    with Bank(bank.folder, Encoder(), wait=0) as other:
        encode, lines = bank.encoder.encode, []

        def meddle(texts, side='code'):
            bank.encoder.encode = encode
            assert other.sync(f'dir:{tmp_path}/app', progress=quiet).counts == {'added': 2}
            return encode(texts, side)
        bank.encoder.encode = meddle
        changes = bank.sync(f'dir:{tmp_path}/app', progress=lines.append)
        assert changes.counts == {'unchanged': 2} and names(bank) == ['a', 'b']
        assert lines[0] == 'the bank was changed meanwhile; the source is compared again'
        assert bank.store.last_operation() == 1

        put(tmp_path/'app/a.ts', f('a') + f('b') + f('c'))
        bank.encoder.new()

        def refused(texts, side='code'):
            with pytest.raises(UserError, match='is being written by process'): other.add('another')
            return encode(texts, side)
        monkeypatch.setattr(sync_module, 'FREE_ATTEMPTS', 0)  # the last attempt keeps others waiting
        bank.encoder.encode = refused
        assert bank.sync(f'dir:{tmp_path}/app', progress=quiet).counts == {'added': 1, 'unchanged': 2}
        assert names(bank) == ['a', 'b', 'c'] and len(bank.encoder.new()) == 1


# what people changed

def find(bank, name): return next(i for i, (_, about) in items(bank).items() if about.get('name') == name)


def names_of(bank, source):
    return sorted(about['name'] for _, about in items(bank).values() if about['source'] == source)


def texts(bank, name): return [text for text, about in items(bank).values() if about.get('name') == name]


@pytest.fixture
def app(bank, tmp_path):
    "A folder that is in the bank, with functions a and b in one file; a was corrected and is marked, b deleted."
    put(tmp_path/'app/a.ts', f('a') + f('b') + f('c')), put(tmp_path/'app/d.ts', f('d'))
    bank.sync(f'dir:{tmp_path}/app', progress=quiet)
    bank.update(find(bank, 'a'), 'function a() {} // mind the sign')
    bank.delete(find(bank, 'b'))
    assert items(bank)[find(bank, 'a')][1]['corrected'] is True and names(bank) == ['a', 'c', 'd']
    return tmp_path/'app'


def test_what_people_changed_stays(bank, app):
    "When the rest of the file changes, and it is said."
    put(app/'a.ts', f('a') + f('b') + f('c', 'a + b + 1') + f('e'))
    before, lines = items(bank), []
    changes = bank.sync(f'dir:{app}', progress=lines.append)
    assert names(bank) == ['a', 'c', 'd', 'e'] and texts(bank, 'a') == ['function a() {} // mind the sign']
    assert lines[:2] == [f'dir:{app}: kept as corrected by hand: 1 (a.ts a)',
                         f'dir:{app}: left out as deleted by hand: 1 (a.ts b)']
    check_counts(bank, before, changes)
    assert changes.counts == {'changed': 1, 'added': 1, 'unchanged': 2}
    assert bank.sync(f'dir:{app}', progress=lines.append).counts == {'unchanged': 4} and len(lines) == 4


def test_what_the_source_changed_too_is_said_until_it_is_settled(bank, app):
    put(app/'a.ts', f('a', 'a - b') + f('b', 'b - a') + f('c'))
    for _ in range(2):
        lines = []
        assert not bank.sync(f'dir:{app}', progress=lines.append)
        assert lines[1] == (f'dir:{app}: changed since it was corrected or deleted by hand '
                            '(overwrite takes the new text): 2 (a.ts a, a.ts b)')
        assert texts(bank, 'a') == ['function a() {} // mind the sign'] and not texts(bank, 'b')
    bank.undo(bank.store.last_operation())  # b is not deleted any more, so its new text comes
    assert bank.sync(f'dir:{app}', progress=quiet).counts['changed'] == 1 and 'b - a' in texts(bank, 'b')[0]
    changes = bank.sync(f'dir:{app}', progress=quiet, overwrite=True)
    assert changes.counts['changed'] == 1 and 'a - b' in texts(bank, 'a')[0]
    assert not any(about.get('corrected') for _, about in items(bank).values())
    assert bank.sync(f'dir:{app}', progress=quiet).counts == {'unchanged': 4}
    bank.undo()
    assert texts(bank, 'a') == ['function a() {} // mind the sign']


def test_overwrite_brings_everything_back_once(bank, app):
    "From a file that did not change; what is deleted afterwards stays deleted again."
    changes = bank.sync(f'dir:{app}', progress=quiet, overwrite=True)
    assert names(bank) == ['a', 'b', 'c', 'd'] and 'sign' not in texts(bank, 'a')[0] and changes.counts['added'] == 1
    put(app/'a.ts', f('a') + f('b', 'b * a'))
    assert bank.sync(f'dir:{app}', progress=quiet).counts == {'changed': 1, 'deleted': 1, 'unchanged': 2}
    bank.delete(find(bank, 'b'))
    put(app/'a.ts', f('a', 'a / b') + f('b', 'b * a'))
    bank.sync(f'dir:{app}', progress=quiet)
    assert names(bank) == ['a', 'd']


def test_a_correction_that_the_source_adopts_is_none_any_more(bank, app):
    put(app/'a.ts', f('a', 'b - a') + f('c'))
    bank.update(find(bank, 'a'), next(text for text, about in collect_snippets(f'dir:{app}') if about['name'] == 'a'))
    lines = []
    changes = bank.sync(f'dir:{app}', progress=lines.append)
    assert len(lines) == 1 and changes.counts == {'unchanged': 3} and not bank.encoder.new()[6:]
    assert 'corrected' not in items(bank)[find(bank, 'a')][1]
    put(app/'a.ts', f('a', 'b / a') + f('c'))
    assert bank.sync(f'dir:{app}', progress=quiet).counts == {'changed': 1, 'unchanged': 2}


def test_a_correction_goes_with_its_function_and_comes_back_as_the_source_has_it(bank, app):
    put(app/'a.ts', f('c'))
    lines = []
    assert bank.sync(f'dir:{app}', progress=lines.append).counts == {'deleted': 1, 'unchanged': 2}
    assert lines[0] == f'dir:{app}: corrected by hand, and deleted with the source: 1 (a.ts a)'
    put(app/'a.ts', f('a') + f('b') + f('c'))
    bank.sync(f'dir:{app}', progress=quiet)
    assert names(bank) == ['a', 'c', 'd'] and 'sign' not in texts(bank, 'a')[0]


def test_a_deleted_correction_does_not_bring_back_what_it_replaced(bank, app):
    bank.delete(find(bank, 'a'))
    put(app/'a.ts', f('a') + f('b') + f('c', 'a + b + 1'))
    bank.sync(f'dir:{app}', progress=quiet)
    assert names(bank) == ['c', 'd']
    i, = bank.update(find(bank, 'c'), ['one half', 'the other'])[:1]
    bank.update(i, 'one half, again')
    put(app/'a.ts', f('a') + f('b') + f('c', 'a + b + 1') + f('e'))
    bank.sync(f'dir:{app}', progress=quiet)
    assert names(bank) == ['c', 'c', 'd', 'e'] and set(texts(bank, 'c')) == {'one half, again', 'the other'}


def test_of_two_of_one_name_only_the_deleted_one_is_left_out():
    "Two overloads, say: which one was deleted is told by its text, and if that is not known it is the last one."
    def about(i): return {'path': 'a.ts', 'name': 'f', **({} if i is None else {'corrected': True})}
    def memory(i, text, corrected=None): return Memory(i, text, about(corrected), 0., False)
    new = [('one', about(None)), ('two', about(None)), ('three', about(None))]
    gone = Removed('delete', False, sha256('two'))
    for old, removed, expected in (
            ([memory(1, 'one'), memory(3, 'three')], [gone], ['one', 'three']),
            ([memory(1, 'one'), memory(3, 'before')], [gone], ['one', 'three']),
            ([memory(1, 'one')], [gone, Removed('delete', False, '')], ['one']),
            ([memory(1, 'one')], [gone, gone, gone], ['one']),
            ([memory(4, 'better', True)], [Removed('update', False, sha256('three'))], ['one', 'two']),
            ([memory(4, 'better', True)], [], ['two', 'three']),   # a correction that came in an export
            ([memory(4, 'two', True)], [Removed('update', False, sha256('one'))], ['one', 'two', 'three']),
            ([], [Removed('update', False, sha256('one'))], ['one', 'two', 'three']),
            ([], [Removed('update', False, sha256('one')), Removed('delete', True, '')], ['two', 'three'])):
        aside, compared, left = set_aside(old, new, {('a.ts', 'f'): removed})
        assert [text for text, _ in left] == expected, (old, removed)
        assert {i.id for i in aside.kept} == {4} & {i.id for i in old if i.text == 'better'}
        assert len(compared) + len(aside.kept) == len(old)


def test_corrections_go_on_into_the_next_version(bank, pack):
    for version in '123': pack(f'kit@{version}.0.0', a_ts=f('a') + f('b') + f(f'c{version}'))
    bank.sync('npm:kit@1.0.0', progress=quiet)
    bank.update(find(bank, 'a'), 'function a() {} // mind the sign')
    bank.delete(find(bank, 'b'))
    for version in '23':
        lines, _ = [], bank.encoder.new()
        before = items(bank)
        changes = bank.sync(f'npm:kit@{version}.0.0', progress=lines.append)
        assert names(bank) == ['a', f'c{version}'] and bank.store.counts() == {('npm:kit', f'{version}.0.0'): 2}
        assert texts(bank, 'a') == ['function a() {} // mind the sign'] and len(bank.encoder.new()) == 1
        assert lines[0] == 'npm:kit: kept as corrected by hand: 1 (a.ts a)' and 'deleted by hand' in lines[1]
        check_counts(bank, before, changes)
    bank.sync('npm:kit@3.0.0', progress=quiet)
    assert names(bank) == ['a', 'c3']
    bank.sync('npm:kit@3.0.0', progress=quiet, overwrite=True)  # the version that is there is read again
    assert names(bank) == ['a', 'b', 'c3'] and 'sign' not in texts(bank, 'a')[0]


def test_deletions_are_remembered_after_a_compaction_and_without_a_live_memory(bank, app):
    bank.delete(list(items(bank)))
    bank.compact(0)
    put(app/'a.ts', f('a') + f('b') + f('c', 'a + b + 1'))
    lines = []
    assert not bank.sync(f'dir:{app}', progress=lines.append) and 'left out as deleted by hand: 4' in lines[0]
    last = bank.store.last_operation()
    assert not bank.sync(f'dir:{app}', progress=quiet) and bank.store.last_operation() == last
    bank.forget(f'dir:{app}', progress=quiet)
    assert bank.sync(f'dir:{app}', progress=quiet).counts == {'added': 4}


def test_memories_of_nobodys_source_are_not_marked(bank):
    about = {'source': 'git:app', 'path': 'a.ts', 'name': 'a'}
    for given, more, marked in ((about, None, True), ({'source': 'me'}, None, False), ({}, None, False),
                                (about, about | {'line': 7}, True), (about, {'mine': 1}, False)):
        i, = bank.add('let x', given)
        i, = bank.update(i, 'let y', more)
        assert bank.get(i)[0].metadata.get('corrected', False) is marked
    i, = bank.update_memory(bank.add('let x', about)[0], np.ones((1, 8)), 'let z')
    assert bank.get(i)[0].metadata == about | {'corrected': True}


# sources that are gone

def test_a_source_that_became_empty(bank, repo, tmp_path):
    "Its memories go, and that is said before; the next time there is nothing to say."
    put(tmp_path/'app/a.ts', f('a') + f('b'))
    for spec, empty, n in ((f'dir:{tmp_path}/app', lambda: (tmp_path/'app/a.ts').rename(tmp_path/'app/a.txt'), 2),
                           (f'git:{repo}', lambda: [git(repo, 'rm', '-qr', '.'), put(repo/'x.txt', ''), commit(repo)],
                            4)):
        bank.sync(spec, progress=quiet)
        empty()
        lines = []
        assert bank.sync(spec, dry=True, progress=quiet).counts == {'deleted': n} and len(bank.store) == n
        assert bank.sync(spec, progress=lines.append).counts == {'deleted': n}
        assert lines[0].endswith(f' holds nothing to read any more: {n} deleted') and len(bank.store) == 0
        last = bank.store.last_operation()
        assert not bank.sync(spec, progress=lines.append) and bank.store.last_operation() == last and len(lines) == 3
        bank.undo()
        assert len(bank.store) == n
        bank.undo(bank.store.last_operation())


def test_a_package_that_became_empty(bank, pack, tmp_path):
    pack('kit@1.0.0', a_ts=f('a')), pack('kit@2.0.0', index_js='x'), pack('kit@3.0.0', a_d_ts='declare function (('),
    pack('kit@4.0.0', a_ts='export const a = 1;\n'), pack('other@1.0.0', a_ts=f('o'))
    bank.sync('npm:kit@1.0.0', progress=quiet)
    with pytest.raises(UserError, match='1 of its 1 files do not parse'): bank.sync('npm:kit@3.0.0')
    assert len(bank.store) == 1
    for version in '24':
        lines = []
        assert bank.sync(f'npm:kit@{version}.0.0', progress=lines.append).counts == {'deleted': 1}
        assert lines[0] == f'npm:kit@{version}.0.0 holds nothing to read any more: 1 deleted'
        last = bank.store.last_operation()
        assert not bank.sync(f'npm:kit@{version}.0.0', progress=quiet) and bank.store.last_operation() == last
        bank.undo()
        assert len(bank.store) == 1
    path = lockfile(tmp_path/'app', kit='1.0.0', other='1.0.0')
    bank.sync(str(path), progress=quiet)
    lockfile(tmp_path/'app', kit='2.0.0', other='1.0.0')
    lines = []
    bank.sync(str(path), progress=lines.append)
    assert bank.store.counts() == {('npm:other', '1.0.0'): 1}
    assert 'npm:kit@2.0.0 holds nothing to read any more: 1 deleted' in lines


def test_a_source_that_vanished_says_how_to_forget_it(bank, repo, tmp_path, pack):
    put(tmp_path/'app/a.ts', f('a')), pack('kit@1.0.0', a_ts=f('k'))
    path = lockfile(tmp_path/'locks', kit='1.0.0')
    for spec in (f'dir:{tmp_path}/app', f'git:{repo}', str(path)): bank.sync(spec, progress=quiet)
    (tmp_path/'app').rename(tmp_path/'moved'), repo.rename(tmp_path/'moved repo'), path.unlink()
    n = len(bank.store)
    for spec, name, what in ((f'dir:{tmp_path}/x/../app', f'dir:{tmp_path}/app', '1 of its memories'),
                             (f'git:{repo}@HEAD', f'git:{repo}', '4 of its memories'),
                             (str(path), str(path), f'the libraries of {path}')):
        with pytest.raises(UserError, match='must be there to be followed, and is not; the bank keeps') as e:
            bank.sync(spec, progress=quiet)
        assert what in str(e.value) and str(e.value).endswith(f'`shutka memory forget {name}` deletes them')
    assert len(bank.store) == n
    with pytest.raises(UserError, match='does not exist'): bank.sync(f'dir:{tmp_path}/never', progress=quiet)
    for spec in (f'dir:{tmp_path}/x/../app', f'git:{repo}@HEAD', str(path)):
        before, lines = len(bank.store), []
        changes = bank.forget(spec, dry=True, progress=quiet)
        assert len(bank.store) == before and bank.forget(spec, progress=lines.append).delete == changes.delete
        assert len(bank.store) == before - len(changes.delete) < before and 'deleted' in lines[0]
    assert len(bank.store) == 0
    for _ in range(3): bank.undo()
    assert len(bank.store) == n


def test_what_is_forgotten_is_unknown(bank, pack, tmp_path):
    "A later lockfile decides alone; a correction is forgotten as well; whoever asks for it again gets all of it."
    pack('kit@1.0.0', a_ts=f('a') + f('b')), pack('other@1.0.0', a_ts=f('o'))
    bank.sync('npm:kit@1.0.0', progress=quiet)
    bank.update(find(bank, 'a'), 'corrected')
    bank.add('mine', {'source': 'me'})
    assert bank.forget('npm:kit@9', progress=quiet).source == 'npm:kit'
    assert bank.store.counts() == {('me', None): 1} and bank.store.operations(1)[0].kind == 'forget'
    with pytest.raises(UserError, match="unknown source 'npm:kat' .known: me"): bank.forget('npm:kat')
    path = lockfile(tmp_path, kit='1.0.0', other='1.0.0')
    bank.sync(str(path), progress=quiet)
    assert names_of(bank, 'npm:kit') == ['a', 'b'] and 'corrected' not in texts(bank, 'a')
    lockfile(tmp_path, other='1.0.0')
    bank.sync(str(path), progress=quiet)  # nobody asks for the kit by name any more
    assert bank.store.counts() == {('me', None): 1, ('npm:other', '1.0.0'): 1}
    bank.forget('me', progress=quiet)
    assert bank.store.counts() == {('npm:other', '1.0.0'): 1}
    with pytest.raises(UserError, match='unknown source'): bank.forget('me')


def test_a_bank_whose_log_knows_nothing(bank, tmp_path):
    put(tmp_path/'app/a.ts', f('a') + f('b'))
    found = list(collect_snippets(f'dir:{tmp_path}/app'))
    bank.add([text for text, _ in found], [about for _, about in found])
    before = items(bank)
    changes = plan_sync(bank, f'dir:{tmp_path}/app')
    [note] = changes.notes
    assert note == f'dir:{tmp_path}/app: the log does not say which state of it the bank saw, so all of it is compared'
    assert sorted(changes.kept) == sorted(before) and not changes
    gone, = bank.add('function old() {}', {'source': f'dir:{tmp_path}/app', 'path': 'old.ts', 'name': 'old'})
    changes = plan_sync(bank, f'dir:{tmp_path}/app')  # of a file that the log never saw, and that is not there
    assert changes.delete == [gone] and sorted(changes.kept) == sorted(before)


def test_an_empty_source_loses_also_what_the_log_never_saw(bank, tmp_path):
    put(tmp_path/'app/a.ts', f('a') + f('b'))
    bank.sync(f'dir:{tmp_path}/app', progress=quiet)
    bank.add('function old() {}', {'source': f'dir:{tmp_path}/app', 'path': 'old.ts', 'name': 'old'})
    (tmp_path/'app/a.ts').unlink()
    assert bank.sync(f'dir:{tmp_path}/app', progress=quiet).counts == {'deleted': 3} and not len(bank.store)


# packages

@pytest.fixture
def pack(tmp_path, monkeypatch):
    "Put packages into the cache, as npm would."
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path/'cache'))
    monkeypatch.setenv('PATH', '/usr/bin:/bin')

    def make(name_version, **files):
        path = tmp_path/f'cache/npm/{name_version}.tgz'
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, 'w:gz') as tar:
            for name, text in files.items():
                info = tarfile.TarInfo('package/' + name.replace('__', '/').replace('_', '.'))
                info.size = len(text.encode())
                tar.addfile(info, BytesIO(text.encode()))
    return make


def test_another_version_replaces_the_first(bank, pack):
    pack('kit@1.0.0', src__a_ts=f('same') + f('other') + f('old'), index_d_ts='declare function x(): void')
    pack('kit@2.0.0', src__a_ts=f('same') + f('other', 'b + a') + f('new', 'b + 1'))
    put_by_hand = bank.add('mine', {'source': 'me'})
    first = bank.sync('npm:kit@1.0.0', progress=quiet)
    assert first.counts == {'added': 3} and {a.get('version') for _, a in items(bank).values()} == {'1.0.0', None}
    before = items(bank)
    bank.encoder.new()
    dry = bank.sync('npm:kit@2.0.0', dry=True, progress=quiet)
    assert items(bank) == before and not bank.encoder.new() and bank.store.last_operation() == 2
    lines = []
    changes = bank.sync('npm:kit@2.0.0', progress=lines.append)
    assert changes == dry and lines == ['npm:kit 2.0.0: 1 added, 1 changed, 1 deleted, 1 unchanged']
    assert bank.store.counts() == {('me', None): 1, ('npm:kit', '2.0.0'): 3}
    assert len(bank.encoder.new()) == 2  # 'same' has its vector
    detail = bank.store.operations(1)[0].detail
    assert (detail['source'], detail['version']) == ('npm:kit', '2.0.0')
    assert [detail[kind] for kind in ('added', 'changed', 'deleted', 'unchanged')] == [1, 1, 1, 1]
    assert not bank.sync('npm:kit@2.0.0', progress=quiet) and bank.store.last_operation() == 3
    bank.undo()
    assert items(bank) == before
    assert bank.sync('npm:kit@2.0.0', dry=True, progress=quiet).counts == changes.counts
    assert put_by_hand[0] in items(bank)


def test_packages_without_sources_give_their_declarations(pack):
    text = '''
/** Splits a path. */
export declare function split(path: string): string[];
export declare function split(path: string, at: string): import("./types").List<string>;
declare const limit: 100;
export declare const map: <A, B>(f: (a: A) => B) => B[];
/** A queue. */
declare class Queue<T> {
  /** Adds at the end. */
  push(item: T): void;
  /** Adds many. */
  push(...items: T[]): void;
  size: number;
}
declare namespace deep {
  interface Clock { /** Milliseconds. */ now: () => number; }
  type Time = Clock | number;
}
export default Queue;
'''
    pack('kit@1.0.0', index_d_ts=text, esm__index_d_ts=text, index_d_mts=text, index_js='x')
    found = list(collect_snippets('npm:kit@1.0.0'))
    assert [m['name'] for _, m in found] == ['split', 'map', 'Queue', 'Queue.push', 'Clock', 'Clock.now', 'Time']
    about = {tuple(m[k] for k in ('source', 'version', 'kind')) for _, m in found}
    assert about == {('npm:kit', '1.0.0', 'declaration')}
    texts = {m['name']: t for t, m in found}
    assert texts['split'] == ('/** Splits a path. */\nexport declare function split(path: string): string[];\n'
                              'export declare function split(path: string, at: string): List<string>;')
    assert texts['Queue.push'] == ('// Queue.push\n/** Adds at the end. */\npush(item: T): void\n'
                                   '/** Adds many. */\npush(...items: T[]): void')
    assert 'Adds' not in texts['Queue'] and texts['Queue'].startswith('/** A queue. */\ndeclare class Queue<T> {')


def test_examples_do_not_hide_declarations(pack):
    pack('a@1.0.0', examples__server_ts=f('serve'), vite_config_ts=f('config'), types__index_tst_ts=f('test'),
         index_d_ts='declare function real(): void')
    pack('b@1.0.0', examples__server_ts=f('serve'), src__b_ts=f('real'), dist__b_d_ts='declare function built(): void')
    pack('c@1.0.0', scripts__only_ts=f('real'))
    found = {p: [m['name'] for _, m in collect_snippets(f'npm:{p}@1.0.0')] for p in 'abc'}
    assert found == {'a': ['real'], 'b': ['serve', 'real'], 'c': ['real']}


def test_a_member_says_whose_it_is(tmp_path, pack):
    "In its metadata and in its text, so that `ZodType.parse` finds it; with bodies and without."
    body = '''/** A schema. */
export class ZodType {
  /** Parses. */
  parse(data: unknown) { return this.run(data); }
  then = (f: Next) => { return f(this); };
}
'''
    pack('code@1.0.0', src__a_ts=body + f('parse', 'a + b + 1'))
    pack('declared@1.0.0', index_d_ts='''export declare class ZodType {
  /** Parses. */
  parse(data: unknown): this;
  /** More. */
  parse(): this;
}
''')
    for spec, wanted in (('npm:code@1.0.0', ['ZodType', 'ZodType.parse', 'ZodType.then', 'parse']),
                         ('npm:declared@1.0.0', ['ZodType', 'ZodType.parse'])):
        with Bank(tmp_path/spec.replace(':', '-')) as bank:
            bank.sync(spec, progress=quiet)
            assert names(bank) == wanted
            best = bank.search('ZodType.parse', 1)[0]
            assert best.metadata['name'] == 'ZodType.parse'
            assert best.text.startswith('// ZodType.parse\n/** Parses. */\nparse(data: unknown)')
            assert best.text.count('//') == 1


def test_packages_with_nothing_to_say(bank, pack):
    pack('plain@1.0.0', index_js='x'), pack('broken@1.0.0', index_d_ts='declare function ((')
    with pytest.raises(UserError, match='holds no TypeScript and no declarations'): bank.sync('npm:plain@1.0.0')
    with pytest.raises(UserError, match='holds no declaration that can be read'): bank.sync('npm:broken@1.0.0')
    for spec, words in (('npm:../x', "a package's name"), ('jsonl:x', 'unknown kind of source'),
                        ('dir:/nowhere/x', 'does not exist'), ('zod', 'begins with')):
        with pytest.raises(UserError, match=words): bank.sync(spec)
    assert bank.store.last_operation() == 0


def lockfile(path, **versions):
    packages = {f'node_modules/{name}': {'version': version} for name, version in versions.items()}
    return put(path/'package-lock.json', json.dumps({'lockfileVersion': 3, 'packages': packages}))


def test_a_lockfile_is_followed(bank, pack, tmp_path):
    for name in ('a', 'b', 'c'):
        for version in ('1.0.0', '2.0.0'):
            pack(f'{name}@{version}', index_ts=f(name) + f(f'{name}{version[0]}', 'b + 1'))
    pack('plain@1.0.0', index_js='x')
    bank.sync('npm:b@1.0.0', progress=quiet)
    path, lines = lockfile(tmp_path/'app', a='1.0.0', b='1.0.0', c='1.0.0', plain='1.0.0'), []
    changes = bank.sync(str(path), progress=lines.append)
    assert bank.store.counts() == {(f'npm:{n}', '1.0.0'): 2 for n in 'abc'}
    assert lines == ['npm:a 1.0.0: 2 added, 0 changed, 0 deleted, 0 unchanged',
                     'npm:c 1.0.0: 2 added, 0 changed, 0 deleted, 0 unchanged',
                     'left out npm:plain@1.0.0 holds no TypeScript and no declarations, build results aside',
                     f'{path}: 4 added, 0 changed, 0 deleted, 2 unchanged']
    assert bank.store.last_operation() == 2
    assert not bank.sync(str(path), progress=quiet) and bank.store.last_operation() == 2
    other = lockfile(tmp_path/'other', c='1.0.0')
    bank.sync(str(other), progress=quiet)

    lockfile(tmp_path/'app', a='2.0.0')  # b was asked for by name, c by the other lockfile
    changes = bank.sync(str(path), progress=quiet)
    assert bank.store.counts() == {('npm:a', '2.0.0'): 2, ('npm:b', '1.0.0'): 2, ('npm:c', '1.0.0'): 2}
    lockfile(tmp_path/'other', a='2.0.0')
    bank.sync(str(other), progress=quiet)
    assert bank.store.counts() == {('npm:a', '2.0.0'): 2, ('npm:b', '1.0.0'): 2}  # nobody wants c any more
    lockfile(tmp_path/'app')
    bank.sync(str(path), progress=quiet)
    assert ('npm:a', '2.0.0') in bank.store.counts()                              # the other lockfile has it
    lockfile(tmp_path/'other')
    changes = bank.sync(str(other), progress=quiet)
    assert bank.store.counts() == {('npm:b', '1.0.0'): 2} and changes.counts == {'deleted': 2}
    while bank.store.operations(1)[0].id < 100 and len(bank.store): bank.undo()
    assert not len(bank.store)


def test_a_lockfile_of_which_nothing_can_be_read(bank, pack, tmp_path):
    pack('plain@1.0.0', index_js='x')
    with pytest.raises(UserError, match='none of the 1 libraries .*; the first: npm:plain@1.0.0 holds no TypeScript'):
        bank.sync(str(lockfile(tmp_path, plain='1.0.0')))


def test_without_an_encoder_only_words(tmp_path, pack):
    pack('kit@1.0.0', a_ts=f('a')), pack('kit@2.0.0', a_ts=f('a') + f('b'))
    with Bank(tmp_path/'words') as bank:
        for version in '12': bank.sync(f'npm:kit@{version}.0.0', progress=quiet)
        assert bank.store.counts() == {('npm:kit', '2.0.0'): 2} and bank.store.encoder() is None
        bank.undo()
        assert bank.store.counts() == {('npm:kit', '1.0.0'): 1} and bank.verify() == []


def test_what_is_shown_of_a_large_folder(tmp_path):
    "One line, and a small table in a notebook, however much has changed."
    for i in range(200):
        put(tmp_path/f'app/{i}.ts', ''.join(f(f'f{i}_{j}', f'a + {j}') for j in range(5)))
    with Bank(tmp_path/'words') as bank:
        changes = bank.sync(f'dir:{tmp_path}/app', progress=quiet)
        assert len(changes.add) == 1000
        assert repr(changes) == str(changes) == f'dir:{tmp_path}/app: 1,000 added, 0 changed, 0 deleted, 0 unchanged'
        html = changes._repr_html_()
        assert html.count('<tr>') == 2 and len(html) < 1000 and f'dir:{tmp_path}/app' in html and '>1000<' in html
        assert len(repr(open_source_files(f'dir:{tmp_path}/app'))) < 500
        assert len(repr(read_known_sources(bank.store))) < 500
        assert len(repr(bank.stats())) < 500


def test_a_name_is_shown_as_text():
    "A folder may be called like a tag."
    changes = Changes('dir:/<b>', notes=['left out <b>'])
    assert '<b>' not in changes._repr_html_() and 'dir:/&lt;b&gt;' in changes._repr_html_()

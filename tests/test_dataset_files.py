"Which files a code data set is made of: odd and hostile trees, every kind of source, and the filters."
import io
import os
import subprocess
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.core.files import write_jsonl
from shutka.core.hashes import sha256
from shutka.data.documents import walk_folder
from shutka.dataset.code_files import FileCounts, explain_text, find_priority
from shutka.dataset.filters import filter_code_files
from shutka.dataset.ignored import AttributeRules, IgnoreRules
from shutka.dataset.languages import CODE_SUFFIXES, find_language, may_be_code
from shutka.dataset.licences import classify_licence, find_licence, find_notice
from shutka.dataset.reading import open_code_source, read_code_files

CODE = 'def add(a, b):\n    return a + b\n'
SECRET = 'AKIAIOSFODNN7REALKEY'


def put(path: Path, content: str | bytes = CODE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(specs, **settings):
    "The files of sources, and the counts."
    counts = FileCounts()
    return list(read_code_files(specs if isinstance(specs, list) else [str(specs)], counts, **settings)), counts


def paths(specs, **settings): return [file.path for file in read(specs, **settings)[0]]


def commit(folder: Path, subject: str = 'All'):
    "Commit all there is."
    call = ['git', '-C', str(folder), '-c', 'user.name=a', '-c', 'user.email=a@localhost',
            '-c', 'protocol.file.allow=always']
    if not (folder/'.git').exists(): subprocess.run([*call, 'init', '-q'], check=True)
    subprocess.run([*call, 'add', '-A'], check=True)
    subprocess.run([*call, 'commit', '-qm', subject], check=True)


def pack(path: Path, members: dict[str, str | None]):
    "A tarball as npm keeps it; None is a link to /etc/passwd."
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w:gz') as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            if text is None: info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
            else: info.size = len(text.encode())
            tar.addfile(info, io.BytesIO((text or '').encode()))


# odd and hostile trees

def test_a_loop_of_links_is_counted_and_not_followed(tmp_path):
    put(tmp_path/'app/a.py')
    (tmp_path/'app/again').symlink_to('.')
    (tmp_path/'app/b.py').symlink_to('a.py')
    (tmp_path/'app/gone.py').symlink_to('nowhere')
    files, counts = read(f"dir:{tmp_path/'app'}")
    assert [file.path for file in files] == ['a.py'] and counts.left_out == {'links': 3}


def test_links_of_a_commit_are_counted(tmp_path):
    put(tmp_path/'app/a.py')
    (tmp_path/'app/b.py').symlink_to('/etc/passwd')
    commit(tmp_path/'app')
    files, counts = read(f"git:{tmp_path/'app'}")
    assert [file.path for file in files] == ['a.py'] and counts.left_out == {'links': 1}


def test_a_submodule_is_another_repository(tmp_path):
    put(tmp_path/'other/o.py')
    commit(tmp_path/'other')
    put(tmp_path/'app/a.py')
    commit(tmp_path/'app')
    subprocess.run(['git', '-C', str(tmp_path/'app'), '-c', 'protocol.file.allow=always', 'submodule', 'add', '-q',
                    str(tmp_path/'other'), 'libs/other'], check=True, capture_output=True)
    commit(tmp_path/'app', 'With another')
    for kind, name in (('dir', 'libs/other/'), ('git', 'libs/other')):
        files, counts = read(f"{kind}:{tmp_path/'app'}")
        assert [file.path for file in files] == ['a.py'] and counts.left_out['submodules'] == 1
        assert counts.examples['submodules'][0].endswith(f': {name}')


def test_two_gigabytes_are_not_read(tmp_path):
    put(tmp_path/'a.py')
    with open(put(tmp_path/'large.py'), 'wb') as f: f.truncate(2_000_000_000)
    with open(put(tmp_path/'disk'), 'wb') as f: f.truncate(2_000_000_000)
    begun = time.perf_counter()
    files, counts = read(f'dir:{tmp_path}')
    assert len(files) == 1 and counts.left_out == {'large': 2} and time.perf_counter() - begun < 2


def test_names_may_hold_any_bytes(tmp_path):
    for name in (b'caf\xe9.py', b'caf\xc3\xa9.py', b'\xff\xfe/b.py'):
        path = os.path.join(os.fsencode(tmp_path/'app'), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f: f.write(CODE.encode())
    files, counts = read(f"dir:{tmp_path/'app'}")
    assert sorted(file.path for file in files) == ['café.py', 'café.py', 'ÿþ/b.py']
    for file in files: (file.path + file.source).encode()   # all can be written
    commit(tmp_path/'app')
    assert sorted(paths(f"git:{tmp_path/'app'}")) == sorted(file.path for file in files)


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    put(tmp_path/'a.py'), put(tmp_path/'locked/b.py'), put(tmp_path/'open/c.py')
    scan = os.scandir

    def refuse(path):   # to root everything is open
        if str(path).endswith('locked'): raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    files, counts = read(f'dir:{tmp_path}')
    assert [file.path for file in files] == ['a.py', 'open/c.py'] and counts.left_out == {'unreadable': 1}
    assert counts.examples['unreadable'] == [f'dir:{tmp_path}: locked/']


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    put(tmp_path/'a.py'), put(tmp_path/'b.py')
    from shutka.dataset import trees
    real = trees.read_limited
    def refuse(path):
        if path.name == 'a.py': raise PermissionError(13, 'Permission denied')
        return real(path)
    monkeypatch.setattr(trees, 'read_limited', refuse)
    files, counts = read(f'dir:{tmp_path}')
    assert [file.path for file in files] == ['b.py'] and counts.left_out == {'unreadable': 1}


def test_a_tree_two_thousand_folders_deep(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1_990):
            os.mkdir('d')
            os.chdir('d')
        with open('a.py', 'w') as f: f.write(CODE)
    finally: os.chdir(here)
    put(tmp_path/'b.py')
    begun = time.perf_counter()
    files, counts = read(f'dir:{tmp_path}')
    assert 'b.py' in [file.path for file in files] and time.perf_counter() - begun < 10
    assert len(list(walk_folder(tmp_path))) > 1_000
    subprocess.run(['rm', '-rf', str(tmp_path/'d')], check=True)


def test_an_empty_tree_ends_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r'must hold code in one of 14 languages, .* \(files left out: none\)'):
        read(f'dir:{tmp_path}')
    put(tmp_path/'notes.md'), put(tmp_path/'empty.py', '\n')
    with pytest.raises(UserError, match=r'left out: 1 empty, 1 no language\)'): read(f'dir:{tmp_path}')


def test_a_tree_with_only_tests(tmp_path):
    put(tmp_path/'tests/test_a.py'), put(tmp_path/'b_test.go', 'package b\n'), put(tmp_path/'src/c.spec.ts', 'it()\n')
    assert {file.priority for file in read(f'dir:{tmp_path}')[0]} == {'low'}


@pytest.mark.parametrize('content, text, why', [
    (CODE.encode('utf-16'), CODE, None), (CODE.encode('utf-8-sig'), CODE, None),
    (CODE.replace('\n', '\r\n').encode(), CODE, None), (b'x = 1\0', None, 'unreadable'),
    ('x = "é"'.encode('latin-1'), None, 'unreadable'), (CODE.encode('utf-16-le'), None, 'unreadable'),
    (b'', None, 'empty'), (b'\xff\xfe', None, 'empty'), (b'\xff\xfe\x00\xd8', None, 'unreadable'),
    (b'\x1b[2J\n', '\x1b[2J\n', None)])
def test_bytes_become_text_or_a_count(tmp_path, content, text, why):
    put(tmp_path/'a.py', content), put(tmp_path/'z.py', 'z = 1\n')
    files, counts = read(f'dir:{tmp_path}')
    if text is None: assert counts.left_out == {why: 1}
    else:
        assert files[0].text == text and files[0].sha256 == sha256(text) and files[0].size == len(text.encode())


def test_a_pipe_is_not_opened(tmp_path):
    put(tmp_path/'a.py')
    os.mkfifo(tmp_path/'b.py')
    os.mkfifo(tmp_path/'.gitignore')
    os.mkfifo(tmp_path/'LICENSE')
    files, counts = read(f'dir:{tmp_path}')
    assert len(files) == 1 and counts.left_out == {'no plain file': 3}


def test_hidden_folders_are_taken_when_asked_for(tmp_path):
    put(tmp_path/'.venv/lib/a.py'), put(tmp_path/'b.py')
    assert paths(f'dir:{tmp_path}') == ['b.py'] and paths(f'dir:{tmp_path}', hidden=True) == ['b.py', '.venv/lib/a.py']


# several sources

def test_two_sources_with_the_same_file(tmp_path):
    put(tmp_path/'one/src/a.py'), put(tmp_path/'two/src/a.py')
    one, two = f"dir:{tmp_path/'one'}", f"dir:{tmp_path/'two'}"
    files, counts = read([one, two])
    assert [(file.source, file.path) for file in files] == [(one, 'src/a.py'), (two, 'src/a.py')]
    assert files[0].sha256 == files[1].sha256 and counts.files == 2
    with pytest.raises(UserError, match='was given twice'): read([one, two, one])


def test_nothing_is_read_before_all_are_opened(tmp_path):
    put(tmp_path/'a.py')
    counts = FileCounts()
    with pytest.raises(UserError, match='nowhere does not exist'):
        read_code_files(f'dir:{tmp_path},dir:nowhere', counts)
    assert counts.files == 0


def test_a_folder_and_its_commit_hold_the_same_files(tmp_path):
    for path in ('src/a.py', 'src/b/c.go', 'vendor/d.go', 'z.rs', 'tests/t.rb', 'run', 'build/e.py', '.ci/f.py'):
        put(tmp_path/'app'/path, '#!/bin/sh\necho 1\n' if path == 'run' else CODE)
    put(tmp_path/'app/.gitignore', '*.gen.py\n')
    put(tmp_path/'app/.gitattributes', 'src/b/** linguist-vendored\n')
    put(tmp_path/'app/src/x.gen.py')
    commit(tmp_path/'app')
    (_, of_folder), (_, of_commit) = results = [read(f"{kind}:{tmp_path/'app'}") for kind in ('dir', 'git')]
    found = [{(file.path, file.language, file.priority, file.sha256) for file in files} for files, _ in results]
    assert found[0] == found[1] and {path for path, *_ in found[0]} == {'run', 'src/a.py', 'z.rs', 'tests/t.rb'}
    assert of_folder.left_out - of_commit.left_out == {'ignored': 1}


def test_the_order_is_the_same_each_time(tmp_path):
    for i in range(30): put(tmp_path/f'{i * 7 % 30}/{i}.py', f'x = {i}\n')
    assert paths(f'dir:{tmp_path}') == paths(f'dir:{tmp_path}') and len(paths(f'dir:{tmp_path}')) == 30


def test_a_package_with_what_it_should_not_hold(tmp_path, monkeypatch):
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path))
    pack(tmp_path/'npm/kit@1.0.0.tgz', {
        'package/src/a.ts': 'export const a = 1\n', 'package/LICENSE': 'MIT', 'package/dist/a.js': 'a',
        'package/link.ts': None, 'package/node_modules/b/c.js': 'c', 'package/../../evil.ts': 'x\n',
        'package/package.json': '{"license": "ISC"}', 'package/index.min.js': 'a()'})
    files, counts = read('npm:kit@1.0.0')
    assert [(file.path, file.repo, file.source) for file in files] == [('src/a.ts', 'kit', 'npm:kit@1.0.0')]
    assert counts.left_out == {'build results': 1, 'links': 1, 'vendored': 1, 'minified': 1, 'no language': 2,
                               'hidden': 1}


def test_rows_of_others(tmp_path):
    write_jsonl(tmp_path/'a.jsonl', [
        {'text': CODE, 'path': 'src/a.py', 'repo': 'me/a', 'license': 'GPL-3.0-only'}, {'text': 'x', 'path': 'b.md'},
        {'content': 'x = 1\0', 'path': 'c.py'}, {'text': 'x' * 5_000_000, 'path': 'd.py'}])
    files, counts = read(f"jsonl:{tmp_path/'a.jsonl'}")
    assert [(file.repo, file.path, file.licence) for file in files] == [('me/a', 'src/a.py', 'GPL-3.0-only')]
    assert counts.left_out == {'no language': 1, 'unreadable': 1, 'large': 1}


@pytest.mark.parametrize('row, why', [
    ({'path': 'a.py'}, "row 1: a row must have a text as 'text' and 'path', and has 'path'"), ({}, 'has nothing'),
    ({'text': 1, 'path': 'a.py'}, "and has 'text', 'path'"), ({'text': 'x', 'path': ''}, 'row 1')])
def test_a_row_without_a_text_ends_in_one_sentence(tmp_path, row, why):
    write_jsonl(tmp_path/'a.jsonl', [row])
    with pytest.raises(UserError, match=why): read(f"jsonl:{tmp_path/'a.jsonl'}")


def test_each_row_counts_for_itself(tmp_path):
    names = ('vendor/a.py', 'vendor/b.py', './c.py', '/home/d.py', 'd/' * 3_000)
    rows = [{'text': CODE, 'path': name} for name in names]
    write_jsonl(tmp_path/'a.jsonl', rows)
    files, counts = read(f"jsonl:{tmp_path/'a.jsonl'}")
    assert [file.path for file in files] == ['./c.py', '/home/d.py']
    assert counts.left_out == {'vendored': 2, 'unreadable': 1}


def test_a_commit_is_read_as_it_was(tmp_path):
    put(tmp_path/'app/a.py')
    commit(tmp_path/'app')
    put(tmp_path/'app/b.py'), put(tmp_path/'app/a.py', 'x = 1\n')
    commit(tmp_path/'app', 'More')
    (file,), _ = read(f"git:{tmp_path/'app'}@HEAD~1")
    assert (file.path, file.text, file.repo, len(file.commit)) == ('a.py', CODE, 'app', 40)
    assert file.source == f"git:{tmp_path/'app'}@{file.commit}"


def test_a_path_without_end_in_a_package(tmp_path, monkeypatch):
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path))
    pack(tmp_path/'npm/kit@1.0.0.tgz', {'package/a.js': 'a()\n', f"package/{'d/' * 300_000}b.js": 'b()\n'})
    begun = time.perf_counter()
    files, counts = read('npm:kit@1.0.0')
    assert [file.path for file in files] == ['a.js'] and counts.left_out == {'unreadable': 1}
    assert time.perf_counter() - begun < 2


def test_a_data_set_in_the_layout_of_the_hub(tmp_path):
    write_jsonl(tmp_path/'hub/train.jsonl', [{'text': CODE, 'path': 'a.py'}, {'text': 'package b\n', 'path': 'b.go'}])
    assert paths(f"hf:{tmp_path/'hub'}") == ['a.py', 'b.go']


def test_the_corpus_that_ships_with_shutka():
    files, counts = read('bundled:typescript')
    assert counts.files == len(files) > 50 and set(counts.languages) == {'typescript'}


@pytest.mark.parametrize('spec, why', [
    ('dir:nowhere', 'does not exist'), ('git:nowhere', 'not a folder'), ('jsonl:nowhere', 'not a file'),
    ('hf:./nowhere', 'does not exist'), ('npm:../x', "a package's name"), ('src', 'a source begins with'),
    ('ftp:x', 'unknown kind of source')])
def test_what_is_no_source(spec, why):
    with pytest.raises(UserError, match=why): open_code_source(spec)


# what a repository says of its files

def test_ignored_by_nested_rules(tmp_path):
    put(tmp_path/'.gitignore', '*.log.py\n!keep.log.py\nout/\n/top.py\n')
    put(tmp_path/'deep/.gitignore', '!*.log.py\nown.py\n')
    for path in ('a.log.py', 'keep.log.py', 'top.py', 'sub/top.py', 'out/a.py', 'deep/a.log.py', 'deep/own.py',
                 'deep/er/own.py', 'deep/er/a.py'): put(tmp_path/path)
    files, counts = read(f'dir:{tmp_path}')
    assert [file.path for file in files] == ['keep.log.py', 'deep/a.log.py', 'deep/er/a.py', 'sub/top.py']
    assert counts.left_out == {'ignored': 5, 'no language': 2}
    assert counts.examples['ignored'][:2] == [f'dir:{tmp_path}: a.log.py', f'dir:{tmp_path}: top.py']


def test_git_ignores_the_same_files(tmp_path):
    put(tmp_path/'.gitignore', 'a*.py\n!ab.py\n/c/\nd/*\n!d/keep.py\n**/e/f.py\n[gh].py\n\\#i.py\n j.py\nk.py \n')
    put(tmp_path/'c2/.gitignore', '/ab.py\n!ac.py\n')
    names = ('aa.py', 'ab.py', 'c/x.py', 'd/x.py', 'd/keep.py', 'q/e/f.py', 'e/f.py', 'g.py', 'k.py', '#i.py',
             'c2/ab.py', 'c2/ac.py', 'c2/c/x.py', 'z.py')
    for name in names: put(tmp_path/name)
    subprocess.run(['git', '-C', str(tmp_path), 'init', '-q'], check=True)
    listed = subprocess.run(['git', '-C', str(tmp_path), 'ls-files', '-z', '--others', '--exclude-standard', '*.py'],
                            capture_output=True, text=True, check=True).stdout.split('\0')
    assert sorted(paths(f'dir:{tmp_path}')) == sorted(filter(None, listed))


def test_rules_above_a_folder_hold_unless_they_ignore_it(tmp_path):
    put(tmp_path/'.gitignore', 'private/\n*.tmp.py\n')
    put(tmp_path/'LICENSE', 'SPDX-License-Identifier: MIT')
    for path in ('app/a.py', 'app/b.tmp.py', 'private/c.tmp.py', '.git/HEAD'): put(tmp_path/path)
    files, _ = read([f"dir:{tmp_path/'app'}", f"dir:{tmp_path/'private'}"])
    assert [(file.path, file.licence) for file in files] == [('a.py', 'MIT'), ('c.tmp.py', '')]


def test_attributes_say_what_is_whose(tmp_path):
    put(tmp_path/'.gitattributes', '*.gen.py linguist-generated\nmine.gen.py -linguist-generated\n'
                                   'docs/** linguist-documentation\nvendor/ours/** -linguist-vendored\n'
                                   'copied/** linguist-vendored=true\nmade.py linguist-generated=false\n')
    put(tmp_path/'made.py', '# Code generated by hand. Do not edit.\nx = 1\n')
    for path in ('a.gen.py', 'mine.gen.py', 'docs/conf.py', 'vendor/ours/b.py', 'vendor/theirs/c.py', 'copied/d.py'):
        put(tmp_path/path)
    files, counts = read(f'dir:{tmp_path}')
    assert [file.path for file in files] == ['made.py', 'mine.gen.py', 'vendor/ours/b.py']
    assert counts.left_out == {'generated': 1, 'documentation': 1, 'vendored': 2, 'no language': 1}


def test_a_hostile_pattern_takes_no_time():
    rules, said = IgnoreRules(), AttributeRules()
    stars = '*a' * 60
    lines = [f'{stars}b', '/'.join(['**', 'a'] * 40), f'{"[a-z]*" * 30}', 'a' * 5_000, '!' * 99, '\\', '[[[',
             '(((a+)+)+)+$']
    rules.add('', '\n'.join(lines * 100))
    said.add('', '\n'.join(f'{line} linguist-generated' for line in lines * 100))
    begun = time.perf_counter()
    for path in ('a' * 250, 'a/' * 2_000, 'a/' * 1_999 + 'b'):
        rules.covers(path)
        said.find(path, 'linguist-generated')
    assert time.perf_counter() - begun < 5


# languages, priorities, reasons

@pytest.mark.parametrize('language', CODE_SUFFIXES)
def test_each_suffix_is_known_in_any_folder(language):
    for suffix in CODE_SUFFIXES[language].split():
        assert find_language(f'a.b/c{suffix}') == language and may_be_code(f'c{suffix}')


@pytest.mark.parametrize('name', ['Dockerfile', 'Makefile', 'a.md', 'a.json', '.env', 'a.css', 'a.lua', 'a.', '..', ''])
def test_what_is_in_none_of_the_languages(name): assert find_language(name) == ''


def test_a_script_without_suffix(tmp_path):
    put(tmp_path/'run', '#!/usr/bin/env -S python3 -u\nx = 1\n'), put(tmp_path/'Makefile', 'all:\n')
    put(tmp_path/'prog', b'\x7fELF\0\xff'), put(tmp_path/'tool', '#!/usr/bin/perl\n')
    files, counts = read(f'dir:{tmp_path}')
    assert [(file.path, file.language) for file in files] == [('run', 'python')]
    assert counts.left_out == {'no language': 3}


@pytest.mark.parametrize('path, priority', [
    ('src/a.py', 'high'), ('crates/x/src/lib.rs', 'high'), ('packages/ui/index.ts', 'high'), ('a.py', 'medium'),
    ('src/__tests__/a.js', 'low'), ('lib/a_test.go', 'low'), ('src/ATest.java', 'low'), ('spec/a_spec.rb', 'low'),
    ('src/FooTests.cs', 'low'), ('conftest.py', 'low'), ('src/contest.py', 'high'), ('EDIT.py', 'medium')])
def test_what_a_file_counts_for(path, priority): assert find_priority(path) == priority


def test_the_folder_that_was_given_counts_for_the_priority(tmp_path):
    put(tmp_path/'src/a.py'), put(tmp_path/'tests/b.py'), put(tmp_path/'more/c.py')
    files, _ = read([f'dir:{tmp_path/name}' for name in ('src', 'tests', 'more')])
    assert [file.priority for file in files] == ['high', 'low', 'medium']


@pytest.mark.parametrize('path, text, why', [
    ('a.py', '# @generated\nx = 1\n', 'generated'), ('a.pb.go', 'package a\n', 'generated'),
    ('a.min.js', 'a()\n', 'minified'), ('a.js', 'a();' * 5_000, 'minified'), ('a.py', '"Berlin",\n' * 900, 'data'),
    ('a.c', '0x12, 0xff,\n' * 900, 'data'), ('a.py', CODE * 900, '')])
def test_why_a_file_is_left_out(path, text, why): assert explain_text(path, text) == why


# filters

def test_licences_of_files_and_folders(tmp_path):
    put(tmp_path/'COPYING', Path('/usr/share/common-licenses/GPL-3').read_text()
        if Path('/usr/share/common-licenses/GPL-3').exists() else 'SPDX-License-Identifier: GPL-3.0')
    put(tmp_path/'a.py')
    put(tmp_path/'b.py', '# SPDX-License-Identifier: MIT\n' + CODE)
    put(tmp_path/'lib/package.json', '{"license": "ISC"}'), put(tmp_path/'lib/c.js', 'c()\n')
    counts = FileCounts()
    files = list(read_code_files([f'dir:{tmp_path}'], counts))
    assert {file.path: file.licence for file in files} == {'a.py': 'GPL-3.0', 'b.py': 'MIT', 'lib/c.js': 'ISC'}
    assert [file.path for file in filter_code_files(files, counts)] == ['b.py', 'lib/c.js']
    assert counts.left_out['copyleft licence'] == 1 and counts.files == 2
    assert counts.bytes == sum(file.size for file in files[1:])


@pytest.mark.parametrize('licence, kind', [
    ('(MIT OR Apache-2.0) AND GPL-2.0-only', 'copyleft'), ('GPL-2.0-only WITH Classpath-exception-2.0', 'copyleft'),
    ('(GPL-2.0-only OR MIT) AND ISC', 'permissive'), ('((((', 'unknown'), ('CC-BY-NC-4.0', 'unknown'),
    ('AGPL-3.0-or-later', 'copyleft'), ('LicenseRef-mine', 'unknown')])
def test_kinds_of_licences(licence, kind): assert classify_licence(licence) == kind


def test_a_licence_file_of_a_stranger_takes_no_time():
    begun = time.perf_counter()
    for text in ('Redistribution and use in source and binary forms, ' * 80_000, '(' * 200_000, ' ' * 1_000_000,
                 'SPDX-License-Identifier: ' + '(MIT OR ' * 300): find_licence(text)
    find_notice('GNU General Public License as published by ' * 100)
    assert time.perf_counter() - begun < 5


def test_secrets_never_reach_what_is_said_of_them(tmp_path):
    put(tmp_path/'a.py', f"KEY = '{SECRET}'\nMAIL = 'ada@lovelace.org'\n"), put(tmp_path/'b.py')
    for way, n in (('redact', 2), ('drop', 1), ('keep', 2)):
        counts = FileCounts()
        files = list(filter_code_files(read_code_files(f'dir:{tmp_path}', counts), counts, secrets=way))
        assert len(files) == counts.files == n and counts.with_secrets == 1
        assert counts.secrets == {'AWS_KEY': 1, 'EMAIL': 1}
        assert SECRET not in repr(counts) and 'lovelace' not in repr(counts)
        assert (SECRET in files[0].text) == (way == 'keep')
        assert counts.bytes == sum(file.size for file in files)
        for file in files: assert file.sha256 == sha256(file.text) and file.size == len(file.text.encode())


def test_one_file_is_in_memory_at_a_time(tmp_path):
    text = '\n'.join(f'value_{i} = compute(value_{i % 7}, offset)' for i in range(8_000))
    for i in range(60): put(tmp_path/f'{i}.py', f'# {i}\n{text}')   # 20 MB
    counts = FileCounts()
    tracemalloc.start()
    try:
        for _ in filter_code_files(read_code_files(f'dir:{tmp_path}', counts), counts): pass
        peak = tracemalloc.get_traced_memory()[1]
    finally: tracemalloc.stop()
    assert counts.files == 60 and counts.bytes > 18_000_000 and peak < 9_000_000, peak

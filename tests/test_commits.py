"The reader of histories against git's own answers, on histories that hold whatever git allows."
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.data.commit import Commit
from shutka.data.git import Repository
from shutka.faces import cli
from shutka.history import commit_file, diffs, merges, patches, pipes
from shutka.history.commit_file import FileUpdate, dump_commit, scan_commit_file, write_commits
from shutka.history.commits import read_commits
from shutka.history.diffs import find_repeated
from shutka.history.facts import (
    classify_message,
    detect_language,
    find_related_commits,
    is_high_risk,
    score_complexity,
)
from shutka.history.patches import read_numstat
from shutka.history.stats import measure_repository
from shutka.history.walk import walk_history

ENV = {'PATH': os.environ['PATH'], 'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_SYSTEM': '/dev/null',
       'LC_ALL': 'C', 'HOME': '/nonexistent'}
ODD = 'tab\there "quoted"\nend'  # the name of a file
LATIN = 'caf\xe9'.encode('latin-1')


def git(repo, *words, given: bytes | None = None, code: int = 0, **more) -> bytes:
    "Git's answer, as anybody gets it who has no settings."
    done = subprocess.run(['git', '-C', repo, *words], input=given, capture_output=True, env=ENV | more)
    assert done.returncode == code, done.stderr
    return done.stdout


def ask(repo, *words) -> str: return git(repo, *words).decode('utf-8', 'replace').rstrip('\n')


class Story:
    "A stream for `git fast-import`, commit by commit."
    def __init__(self): self.stream, self.marks = b'', 0

    def blob(self, data: bytes) -> bytes: return b'data %d\n%s' % (len(data), data)

    def commit(self, branch, message, *changes, parents=(), who=b'Ada <ada@example.org>', when=b'+0100',
               author=None, encoding=None):
        "Add a commit and give its mark; a change is (path, content[, mode]), or a line of the stream."
        self.marks += 1
        second = 1_700_000_000 + 4_000 * self.marks
        lines = [b'commit refs/heads/%s\nmark :%d' % (branch, self.marks),
                 b'author %s %d %s' % (author or who, second - 60, when),
                 b'committer %s %d %s' % (who, second, when)]
        if encoding: lines.append(b'encoding %s' % encoding)
        lines.append(self.blob(message))
        for i, parent in enumerate(parents): lines.append((b'merge :%d' if i else b'from :%d') % parent)
        for change in changes:
            if isinstance(change, bytes): lines.append(change)
            else:
                lines.append(b'M %s inline %s\n%s' % ((change[2] if len(change) > 2 else b'100644'),
                                                      quoted(change[0]), self.blob(change[1])))
        self.stream += b'\n'.join(lines) + b'\n\n'
        return self.marks

    def into(self, path: Path, bare: bool = True) -> Path:
        subprocess.run(['git', 'init', '-q', *(['--bare'] if bare else []), '-b', 'main', path], check=True, env=ENV)
        git(path, 'fast-import', '--quiet', given=self.stream)
        return path


def quoted(path: str | bytes) -> bytes:
    data = path.encode() if isinstance(path, str) else path
    return b'"' + data.replace(b'\\', b'\\\\').replace(b'"', b'\\"').replace(b'\n', b'\\n').replace(b'\t',
                                                                                                    b'\\t') + b'"'


def body(*numbers) -> bytes: return b''.join(b'line %d of a text that is long enough\n' % n for n in numbers)


def odd_story() -> Story:
    s = Story()
    base = body(*range(30))
    c1 = s.commit(b'main', b'Root\n\nbody one\n\nbody two\n', ('a.txt', base),
                  ('crates/x/src/lib.rs', b'fn main() {}\n'), ('bin', b'\0\1\2'), ('empty', b''),
                  ('crlf', b'a\r\nb\r\n'))
    c2 = s.commit(b'main', b'Odd names #12, (#7) other/repo#9\nsecond line of the subject',
                  (ODD, b'end\n-- \n+++ x\n'), (LATIN, b'new'), ('\u00fcn\u00efcode.py', b'x = 1\n'), parents=[c1],
                  when=b'+0530', author=b'M\xfcller <m@example.org>')
    c3 = s.commit(b'main', b'Gr\xfc\xdfe', (ODD, b'end\n-- \n++++ x\n@@ -1 +1 @@\n'),
                  ('fold.py', b'for a in b:\n    c\n\n    d\n'), ('late', b'text\n' * 2000 + b'\0\nmore\n'),
                  parents=[c2], encoding=b'ISO-8859-1', who=b'J\xf6rg <j@example.org>', when=b'-0930')
    c4 = s.commit(b'main', b'no encoding named: caf\xe9', ('fold.py', b'for a in b:\n    c\n\n    d\n' * 2),
                  ('late', b'text\n' * 2000 + b'\0\nmore\nand more'), ('bin', b'\0\1\3'),
                  (LATIN, b'new\n' + LATIN), parents=[c3], when=b'+1400')
    c5 = s.commit(b'main', b'', parents=[c4])
    c6 = s.commit(b'main', b'fixup! Root', b'R a.txt ' + quoted('b/moved.txt'), b'D bin', parents=[c5])
    c7 = s.commit(b'main', b'rename and change', b'R ' + quoted('b/moved.txt') + b' '
                  + quoted('c/moved again.txt'), ('c/moved again.txt', base.replace(b'line 3 ', b'line three ')),
                  parents=[c6])
    c8 = s.commit(b'main', b'copies', ('c/moved again.txt', base),
                  ('copy of the old', base.replace(b'line 3 ', b'line three ')), ('copy of the new', base),
                  ('copy of nothing', b''), parents=[c7])
    c9 = s.commit(b'main', b'a link', ('link', b'crlf', b'120000'), ('same', b'crlf'),
                  (b'run', b'#!/bin/sh\n', b'100755'), b'M 160000 ' + b'1' * 40 + b' sub', parents=[c8])
    c10 = s.commit(b'main', b'squash! become something else', ('same', b'crlf', b'120000'), ('link', b'crlf\nx\n'),
                   ('run', b'#!/bin/sh\n'), b'M 160000 ' + b'2' * 40 + b' sub', ('bin', b'text', b'120000'),
                   parents=[c9])
    c11 = s.commit(b'main', b'Revert "a link"\n\nThis reverts commit nothing.\n', b'D link', ('sub', b'a file'),
                   ('bin', b'\0\0'), parents=[c10])
    one = s.commit(b'feature/one', b'one', ('one.py', b'1\n'), ('a.py', body(1, 2, 3)), parents=[c11])
    two = s.commit(b'two', b'two', ('two.py', b'2\n'), ('packages/@s/ui/i.ts', b'3\n'), parents=[c11])
    three = s.commit(b'three', b'three', ('three.py', b'3\n'), parents=[c11])
    octopus = s.commit(b'main', b'Octopus', ('one.py', b'1\n'), ('a.py', body(1, 2, 3)), ('two.py', b'2\n'),
                       ('packages/@s/ui/i.ts', b'3\n'), ('three.py', b'3\n'), parents=[c11, one, two, three])
    odder = s.commit(b'octopus', b'Evil octopus', ('one.py', b'1\n'), ('a.py', body(1, 2, 3)), ('two.py', b'22\n'),
                     ('packages/@s/ui/i.ts', b'3\n'), parents=[c11, one, two])
    left = s.commit(b'main', b'left', ('a.py', body(1, 4, 3)), parents=[octopus])
    right = s.commit(b'right', b'right', ('a.py', body(1, 5, 3)), ('r.py', b'r\n'), parents=[octopus])
    solved = s.commit(b'main', b'Merge: a conflict', ('a.py', body(1, 4, 5, 3)), ('r.py', b'r\n'),
                      parents=[left, right])
    crossed = s.commit(b'right', b'Merge: the other way', ('a.py', body(1, 4, 5, 3)), parents=[right, left])
    clean = s.commit(b'side', b'side', ('side.py', b's\n'), parents=[left])
    merged = s.commit(b'main', b'Merge: clean', ('side.py', b's\n'), parents=[solved, clean])
    evil = s.commit(b'evil', b'Merge: clean, and more', ('side.py', b's\n'), ('more.py', b'm\n'),
                    parents=[solved, clean])
    criss = s.commit(b'main', b'Merge: criss-cross', parents=[merged, crossed])
    solo = s.commit(b'solo', b'All of a branch', b'R side.py moved.py', ('solo.py', b's\n'), parents=[evil])
    for name, more in ((b'forward', ()), (b'again', ()), (b'beyond', (('more.py', b'mm\n'),))):
        s.commit(name, b'Merge: ' + name, b'R side.py moved.py', ('solo.py', b's\n'), *more, parents=[evil, solo])
    deeper = s.commit(b'deeper', b'All of a deeper branch', ('deep.py', b'd\n'), parents=[solo])
    outer = s.commit(b'outer', b'Merge: of a branch', ('deep.py', b'd\n'), parents=[solo, deeper])
    s.commit(b'outermost', b'Merge: of a merge', ('deep.py', b'd\n'), parents=[solo, outer])
    other = s.commit(b'alien', b'Another root', ('alien.py', b'a\n'))
    s.commit(b'main', b'Merge: no common past', ('alien.py', b'a\n'), parents=[criss, other])
    s.commit(b'tagged', b'Large', *((f'many/f{i}', body(i)) for i in range(30)), parents=[odder])
    s.commit(b'broken', b'diff --git a/x b/x\nend\n\nend\n', ('x', b'\n\n'), parents=[evil], author=b'Nameless <> ')
    return s


def add_refs(repo: Path):
    "Tags of all kinds, and remote branches."
    h = dict(line.split(' ', 1)[::-1] for line in ask(repo, 'log', '--all', '--format=%H %s').splitlines())
    who = {'GIT_COMMITTER_NAME': 'T', 'GIT_COMMITTER_EMAIL': 't@example.org', 'GIT_COMMITTER_DATE': '1700000000 +0000'}
    git(repo, 'tag', 'light', h['rename and change'])
    git(repo, 'tag', '-a', 'v1', '-m', 'one', h['rename and change'], **who)
    git(repo, 'tag', '-a', 'v1-again', '-m', 'a tag of a tag', 'v1', **who)
    git(repo, 'tag', 'a-blob', f'{h["rename and change"]}:empty')
    git(repo, 'tag', 'large', 'tagged')
    git(repo, 'update-ref', '-d', 'refs/heads/tagged')
    git(repo, 'update-ref', 'refs/remotes/origin/two', 'two')
    git(repo, 'update-ref', 'refs/remotes/origin/main', h['Octopus'])
    git(repo, 'symbolic-ref', 'refs/remotes/origin/HEAD', 'refs/remotes/origin/main')
    git(repo, 'symbolic-ref', 'refs/remotes/gone/HEAD', 'refs/remotes/gone/main')
    tree = ask(repo, 'rev-parse', f'{h["Large"]}^{{tree}}')
    blob = ask(repo, 'rev-parse', 'main:empty')[:9]
    message = f"As in {h['one'][:10]}, {h['two'].upper()}, {'7' * 12} and decade; not {blob}"
    last = ask(repo, '-c', 'user.name=A', '-c', 'user.email=a', 'commit-tree', tree, '-p', h['Large'], '-m', message)
    git(repo, 'update-ref', 'refs/heads/referring', last)


@pytest.fixture(scope='module')
def odd(tmp_path_factory) -> Path:
    "A bare repository that holds whatever git allows."
    repo = odd_story().into(tmp_path_factory.mktemp('odd')/'odd.git')
    add_refs(repo)
    return repo


@pytest.fixture(scope='module')
def records(odd) -> dict[str, Commit]: return {c['hash']: c for c in read_commits(odd)}


def simple(n: int, folder: Path) -> Path:
    "A straight history."
    s, last = Story(), []
    for i in range(n): last = [s.commit(b'main', b'commit %d' % i, (f'{i % 7}.txt', body(i, i + 1)), parents=last)]
    return s.into(folder)


def text(data: bytes) -> str:
    try: return data.decode()
    except UnicodeDecodeError: return data.decode('latin-1')


def test_forty_keys(records, odd):
    assert len(Commit.__annotations__) == 40
    assert all(list(c) == list(Commit.__annotations__) for c in records.values())
    assert sorted(records) == sorted(ask(odd, 'rev-list', '--all').split())
    seen = set()
    for c in records.values():
        assert set(c['parents']) <= seen
        seen.add(c['hash'])


def test_plain_fields_are_gits(records, odd):
    keys = dict(hash='%H', abbrev_hash='%h', tree_hash='%T', author_name='%an', author_email='%ae',
                committer_name='%cn', committer_email='%ce', subject='%s', body='%b', full_message='%B')
    for h, c in records.items():
        for key, code in keys.items():
            assert c[key] == text(git(odd, 'log', '-1', '--encoding=UTF-8', f'--format={code}',
                                      h)).rstrip('\n'), (key, h)
        assert c['parents'] == ask(odd, 'log', '-1', '--format=%P', h).split()
        assert c['commit_timestamp'] == int(ask(odd, 'log', '-1', '--format=%ct', h))
        assert c['author_timestamp'] == int(ask(odd, 'log', '-1', '--format=%at', h) or 0)
        assert re.fullmatch(r'[+-]\d{4}', c['author_timezone']) and re.fullmatch(r'[+-]\d{4}', c['committer_timezone'])
    names = {c['author_name'] for c in records.values()} | {c['committer_name'] for c in records.values()}
    assert {'Müller', 'Jörg'} <= names
    assert {'Grüße', 'no encoding named: café', ''} <= {c['subject'] for c in records.values()}


def test_time(records, odd):
    zones = {c['author_timezone'] for c in records.values()}
    assert {'+0530', '-0930', '+1400'} <= zones
    for h, c in records.items():
        sign = -1 if c['author_timezone'][0] == '-' else 1
        zone = timezone(sign * timedelta(hours=int(c['author_timezone'][1:3]), minutes=int(c['author_timezone'][3:])))
        wall = datetime.fromtimestamp(c['author_timestamp'], zone)
        assert (c['work_hour'], c['day_of_week']) == (wall.hour, wall.weekday())
        first = ask(odd, 'log', '-1', '--format=%P', h).split()[:1]
        assert (c['time_since_parent']
                == (c['commit_timestamp'] - int(ask(odd, 'log', '-1', '--format=%ct', first[0])) if first else None))


def compared(repo, h: str, *how: str) -> bytes:
    "What git says of a commit against its first parent, or against nothing."
    parents = ask(repo, 'log', '-1', '--format=%P', h).split()
    return git(repo, 'diff-tree', '-r', '-M', *how, *([parents[0], h] if parents else ['--root', '--no-commit-id', h]))


def counted(repo, h: str) -> dict[str, tuple]:
    "Path -> lines inserted and deleted, by --numstat."
    parts, found = compared(repo, h, '--numstat', '-z').split(b'\0')[:-1], {}
    parts = iter(parts)
    for part in parts:
        added, deleted, path = part.split(b'\t', 2)
        if not path: _, path = next(parts), next(parts)
        found[text(path)] = (added, deleted)
    return found


def test_counts_and_files(records, odd):
    for h, c in records.items():
        counts, numbers = counted(odd, h), lambda n: 0 if n == b'-' else int(n)
        assert {s['path']: (s['insertions'], s['deletions'])
                for s in c['diff_stats']} == {p: tuple(map(numbers, n)) for p, n in counts.items()}, c['subject']
        assert {s['path'] for s in c['diff_stats'] if s['binary']} == {p for p, n in counts.items() if n[0] == b'-'}
        assert c['files_changed'] == len(c['diff_stats']) == len(counts)
        assert (c['insertions'], c['deletions']) == tuple(sum(s[k] for s in c['diff_stats'])
                                                          for k in ('insertions', 'deletions'))
        lines = c['insertions'] + c['deletions']
        assert c['is_high_risk'] == (lines > 500 or len(counts) > 20)
        assert c['complexity_score'] == score_complexity(lines, len(counts), c['is_merge'])
        kinds = {'A': 'files_added', 'M': 'files_modified', 'T': 'files_modified', 'D': 'files_deleted'}
        files, parts = {k: [] for k in kinds.values()} | {'files_renamed': {}}, iter(compared(odd, h,
                                                                                              '--name-status',
                                                                                              '-z').split(b'\0')[:-1])
        for how in parts:
            if how[:1] == b'R': files['files_renamed'] |= {text(next(parts)): text(next(parts))}
            else: files[kinds[how.decode()]].append(text(next(parts)))
        assert {k: c[k] for k in files} == files
        assert sorted(p for paths in c['files_by_crate'].values() for p in paths) == sorted(counts)
    assert any(c['is_high_risk'] for c in records.values())


def test_patches_are_gits(records, odd):
    for h, c in records.items():
        sections = [b'diff --git ' + part
                    for part in (b'\n' + compared(odd, h, '-p', '--full-index')).split(b'\ndiff --git ')[1:]]
        assert (''.join(s['diff_text'] for s in c['diff_stats'])
                == ''.join(text(s.rstrip(b'\n') + b'\n') for s in sections))
        for s in c['diff_stats']:
            assert s['hunks'] == len(re.findall(r'^@@ ', s['diff_text'], re.M))
            assert s['lines_of_context'] == len(re.findall(r'^ ', s['diff_text'], re.M))
            assert not s['diff_capped'] and s['complexity'] == score_complexity(s['insertions'] + s['deletions'], 1)
            for side, commit in (('old_blob', f'{h}^'), ('new_blob', h)):
                path = s['original_path'] if side == 'old_blob' and s['change_type'] == 'rename' else s['path']
                if s[side] and path.isascii(): assert ask(odd, 'rev-parse', f'{commit}:{path}') == s[side]


def named(records, subject: str) -> Commit: return next(c for c in records.values() if c['subject'].startswith(subject))


def test_kinds_of_change(records):
    def kinds(subject):
        return {s['path']: (s['change_type'], s['original_path']) for s in named(records, subject)['diff_stats']}
    assert kinds('rename and change')['c/moved again.txt'] == ('rename', 'b/moved.txt')
    assert kinds('copies') == {'c/moved again.txt': ('modify', None),
                               'copy of the old': ('copy', 'c/moved again.txt'),
                               'copy of the new': ('copy', 'c/moved again.txt'), 'copy of nothing': ('add', None)}
    assert kinds('squash!')['same'] == ('modify', None) and kinds('squash!')['sub'] == ('modify', None)
    root = named(records, 'Root')
    assert root['files_added'] == ['a.txt', 'bin', 'crates/x/src/lib.rs', 'crlf', 'empty'] and root['insertions'] == 33
    assert root['files_by_crate'] == {'root': ['a.txt', 'bin', 'crlf', 'empty'], 'x': ['crates/x/src/lib.rs']}
    stats = {s['path']: s for s in root['diff_stats']}
    assert stats['a.txt']['hunks'] == 1
    assert stats['bin']['binary']
    assert stats['crates/x/src/lib.rs']['language'] == 'rust'
    odd_names = {s['path'] for s in named(records, 'Odd names')['diff_stats']}
    assert odd_names == {ODD, 'café', 'ünïcode.py'}
    became = {s['path']: s for s in named(records, 'squash!')['diff_stats']}
    assert (became['same']['insertions'], became['same']['deletions']) == (0, 0)
    assert became['same']['diff_text'].count('diff --git') == 2


def test_refs(records, odd):
    peeled = {t: ask(odd, 'rev-parse', f'{t}^{{}}') for t in ask(odd, 'tag').splitlines()}
    for h, c in records.items():
        names = ask(odd, 'for-each-ref', '--contains', h, '--format=%(refname) %(symref)', 'refs/heads',
                    'refs/remotes').splitlines()
        assert c['branches'] == sorted(n.split()[0].split('/', 2)[2] for n in names if len(n.split()) == 1)
        assert sorted(c['tags']) == sorted(t for t, to in peeled.items() if to == h)
    assert sorted(named(records, 'rename and')['tags']) == ['light', 'v1', 'v1-again']
    assert named(records, 'Large')['branches'] == ['referring'] and 'origin/two' in named(records, 'Root')['branches']


def test_merges(records, odd):
    seen = {}
    for h, c in records.items():
        parents = c['parents']
        assert c['is_merge'] == (len(parents) > 1) and c['merge_parents'] == (parents if len(parents) > 1 else [])
        if not c['is_merge']: assert c['merge_base'] is None and c['merge_conflict_resolution'] is None
        elif len(parents) == 2:
            base = subprocess.run(['git', '-C', odd, 'merge-base', *parents], capture_output=True,
                                  text=True).stdout.strip() or None
            assert c['merge_base'] == base
            if base:
                tree = subprocess.run(['git', '-C', odd, 'merge-tree', '--write-tree', *parents],
                                      capture_output=True, text=True).stdout.split()[0]
                assert c['merge_conflict_resolution'] == (tree != c['tree_hash'])
        else: assert c['merge_base'] == ask(odd, 'merge-base', '--octopus', *parents)
        if c['is_merge']: seen[c['subject']] = c['merge_conflict_resolution']
    assert seen == {'Octopus': False, 'Evil octopus': True, 'Merge: a conflict': True,
                    'Merge: the other way': True, 'Merge: clean': False, 'Merge: clean, and more': True,
                    'Merge: criss-cross': seen['Merge: criss-cross'], 'Merge: no common past': None,
                    'Merge: forward': False, 'Merge: again': False, 'Merge: beyond': True,
                    'Merge: of a branch': False, 'Merge: of a merge': False}


def test_words(records):
    assert [named(records, s)[k] for s, k in (('fixup!', 'is_fixup'), ('squash!', 'is_squash'),
                                              ('Revert', 'is_revert'), ('Root', 'is_fixup'), ('Root', 'is_squash'),
                                              ('Root', 'is_revert'))] == [True] * 3 + [False] * 3
    assert named(records, 'Odd names')['related_issues'] == ['#12', '#7']
    assert named(records, 'As in')['related_commits'] == [named(records, s)['hash'] for s in ('one', 'two')]
    assert all(c in records for r in records.values() for c in r['related_commits'])


def total(repo, *how) -> tuple[int, int]:
    rows = [line.split(b'\t') for line in git(repo, 'log', '--all', '--numstat', '--format=', *how).splitlines()
            if line.count(b'\t') >= 2]
    return tuple(sum(int(row[i]) for row in rows if row[i] != b'-') for i in (0, 1))


def test_totals_are_those_of_git_log(records, odd):
    def ours(commits): return tuple(sum(c[k] for c in commits) for k in ('insertions', 'deletions'))
    assert ours([c for c in records.values() if not c['is_merge']]) == total(odd)
    assert ours(records.values()) == total(odd, '--diff-merges=first-parent')


@pytest.mark.parametrize('workers', [1, 2, 3])
@pytest.mark.parametrize('prefetched', [1, 1 << 23])
def test_workers_change_nothing(workers, prefetched, odd, records, monkeypatch):
    monkeypatch.setattr(diffs, '_BLOCK', 3)
    monkeypatch.setattr(diffs, '_MOST_PREFETCHED', prefetched)
    assert list(read_commits(odd, workers=workers)) == list(records.values())


def test_chunks_change_nothing(odd, records, monkeypatch):
    monkeypatch.setattr(pipes, '_CHUNK', 50)
    assert list(read_commits(odd)) == list(records.values())


def test_settings_change_nothing(odd, records, tmp_path, monkeypatch):
    (tmp_path/'attributes').write_text('* -diff\n')
    (tmp_path/'map').write_text('Nobody <n@example.org> <ada@example.org>\n')
    (tmp_path/'config').write_text('\n'.join((
        '[diff]', ' renames = copies', ' noprefix = true', ' indentHeuristic = false',
        ' suppressBlankEmpty = true', ' algorithm = histogram', ' context = 9', ' external = false',
        ' ignoreSubmodules = all', ' renameLimit = 1',
        '[core]', ' quotePath = false', ' abbrev = 20', f' attributesFile = {tmp_path}/attributes',
        ' bigFileThreshold = 1',
        '[color]', ' ui = always',
        '[log]', ' mailmap = true',
        '[mailmap]', f' file = {tmp_path}/map',
        '[i18n]', ' logOutputEncoding = ISO-8859-1',
        '[merge]', ' renames = false', ' conflictStyle = diff3',
        '[format]', ' pretty = oneline',
        '[log]', ' date = relative', ' showSignature = true')) + '\n')
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path/'config').rename(tmp_path/'.gitconfig')
    monkeypatch.setenv('TZ', 'Asia/Tokyo')
    assert list(read_commits(odd)) == list(records.values())


@pytest.mark.parametrize('variables', [
    {'GIT_CONFIG_COUNT': '1', 'GIT_CONFIG_KEY_0': 'core.abbrev', 'GIT_CONFIG_VALUE_0': '20'},
    {'GIT_CONFIG_GLOBAL': 'settings'}, {'GIT_DIFF_OPTS': '--unified=9'}])
def test_variables_of_git_change_nothing(odd, records, tmp_path, monkeypatch, variables):
    "They are those of whoever calls: a hook, an editor, a test."
    (tmp_path/'settings').write_text('[core]\n abbrev = 20\n')
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path/value) if value == 'settings' else value)
    assert list(read_commits(odd)) == list(records.values())


def test_attributes_of_the_repository_do_not_count(tmp_path):
    "They are those of whatever is checked out; the counts are those of a bare clone, in which there are none."
    s = Story()
    s.commit(b'main', b'a', ('.gitattributes', b'*.lock -diff\n'), ('x.lock', b'1\n2\n'), ('y', b'1\n'))
    repo = s.into(tmp_path/'repo', bare=False)
    git(repo, 'reset', '-q', '--hard', 'main')
    git(tmp_path, 'clone', '-q', '--bare', str(repo), 'bare.git')
    [c] = read_commits(repo)
    assert (c['insertions'], c['deletions']) == total(tmp_path/'bare.git') == (4, 0)
    assert [s['binary'] for s in c['diff_stats']] == [False, False, False]


def test_shallow_and_ordinary_clones(odd, records, tmp_path):
    git(tmp_path, 'clone', '-q', '--depth', '3', f'file://{odd}', 'shallow')
    found = {c['hash']: c for c in read_commits(tmp_path/'shallow')}
    assert 3 <= len(found) < len(records)
    edge = [c for c in found.values() if not c['parents']]
    assert edge
    for c in edge:
        assert c['time_since_parent'] is None
        assert c['files_changed'] == len(git(odd, 'ls-tree', '-r', '--name-only', '-z', c['hash']).split(b'\0')) - 1
    git(tmp_path, 'clone', '-q', '--no-checkout', str(odd), 'clone')
    some = {c['hash']: c for c in read_commits(tmp_path/'clone')}
    def lasting(commit): return {k: v for k, v in commit.items() if k not in ('branches', 'tags', 'abbrev_hash')}
    assert all(lasting(c) == lasting(records[h]) for h, c in some.items())
    assert all(b == 'main' or b.startswith('origin/') for c in some.values() for b in c['branches'])


def test_sha256(tmp_path):
    subprocess.run(['git', 'init', '-q', '--bare', '-b', 'main', '--object-format=sha256', tmp_path/'new.git'],
                   check=True, env=ENV)
    s = Story()
    one = s.commit(b'main', b'one', ('a', b'1\n'))
    s.commit(b'main', b'two', ('a', b'2\n'), parents=[one])
    git(tmp_path/'new.git', 'fast-import', '--quiet', given=s.stream)
    first, second = read_commits(tmp_path/'new.git')
    assert len(first['hash']) == 64 and second['parents'] == [first['hash']] and second['insertions'] == 1
    write_commits(tmp_path/'new.git', tmp_path/'c.jsonl')
    assert not write_commits(tmp_path/'new.git', tmp_path/'c.jsonl').rewritten


def test_one_author_and_one_commit(tmp_path):
    [c] = read_commits(simple(1, tmp_path/'one.git'))
    assert ((c['subject'], c['insertions'], c['parents'], c['branches'], c['time_since_parent'])
            == ('commit 0', 2, [], ['main'], None))


def test_a_detached_head_counts(tmp_path):
    repo = simple(3, tmp_path/'repo.git')
    head = ask(repo, 'rev-parse', 'main')
    git(repo, 'update-ref', '--no-deref', 'HEAD', head)
    git(repo, 'update-ref', 'refs/heads/main', f'{head}~1')
    assert [c['branches'] for c in read_commits(repo)] == [['main'], ['main'], []]


def test_a_long_patch_is_capped_and_counted(tmp_path, monkeypatch):
    s = Story()
    one = s.commit(b'main', b'a', ('long.txt', b''.join(b'%d\n' % i for i in range(400_000))),
                   ('one line', b'x' * 3_000_000), ('z', b'z\n'))
    s.commit(b'main', b'b', ('long.txt', b''.join(b'%d\n' % i for i in range(0, 400_000, 2))), parents=[one])
    repo = s.into(tmp_path/'repo.git')
    first, second = read_commits(repo)
    stats = {c['path']: c for c in first['diff_stats']}
    assert [stats[p]['insertions'] for p in ('long.txt', 'one line', 'z')] == [400_000, 1, 1]
    assert [stats[p]['diff_capped'] for p in ('long.txt', 'one line', 'z')] == [True, True, False]
    assert stats['z']['diff_text'].endswith('+z\n')
    text = stats['long.txt']['diff_text']
    assert 99_000 < len(text) <= 100_100 and re.search(r'\n\+\d+\n$', text)
    assert (second['insertions'], second['deletions']) == (0, 200_000)
    monkeypatch.setattr(patches, 'COMMIT_CAP', 150_000)
    assert [c['diff_capped'] for c in next(read_commits(repo))['diff_stats']] == [True, True, True]
    assert ((second['insertions'], second['deletions'])
            == tuple(read_numstat(Repository(repo), second['hash'], first['hash'])['long.txt'][:2]))


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
def test_memory_stays_flat(tmp_path):
    s = Story()
    numbers = tuple(i % 999_983 for i in range(2_000_000))
    one = s.commit(b'main', b'a', ('long.txt', b'a line of a very long file, %06d\n' * 2_000_000 % numbers))
    s.commit(b'main', b'b', ('long.txt', b''), parents=[one])
    repo = s.into(tmp_path/'repo.git')
    code = ('import sys; from shutka.history.commit_file import write_commits; '
            "write_commits(sys.argv[1], sys.argv[2]); print(open('/proc/self/status').read())")
    done = subprocess.run([sys.executable, '-c', code, repo, tmp_path/'c.jsonl'], capture_output=True, text=True,
                          check=True, cwd=Path(__file__).parents[1])
    assert int(re.search(r'VmHWM:\s+(\d+) kB', done.stdout)[1]) <= 100_000
    assert [json.loads(line)['insertions'] for line in open(tmp_path/'c.jsonl')] == [2_000_000, 0]


def test_known_commits_are_not_read(odd, records):
    half = list(records)[:20]
    told = []
    assert [c['hash'] for c in read_commits(odd, known=half, progress=lambda *n: told.append(n))] == list(records)[20:]
    assert told == [(i, len(records) - 20) for i in range(1, len(records) - 19)]
    assert list(read_commits(odd, known=records)) == []


def test_a_file_follows(tmp_path):
    repo, path = simple(40, tmp_path/'repo.git'), tmp_path/'out'/'commits.jsonl'
    def same(): return [json.loads(line) for line in open(path)] == list(read_commits(repo))
    done = write_commits(repo, path)
    assert (done.read, done.kept, done.rewritten) == (40, 0, True) and same()
    inode = path.stat().st_ino
    assert write_commits(repo, path) == FileUpdate(0, 40, 0, False)
    s = Story()
    s.commit(b'main', b'more', b'from refs/heads/main^0', ('x', b'1\n'))
    git(repo, 'fast-import', '--quiet', given=s.stream)
    assert write_commits(repo, path) == FileUpdate(1, 40, 0, False) and same() and path.stat().st_ino == inode
    git(repo, 'branch', 'old,"branches"', 'main~5')
    git(repo, 'tag', 'v1', 'main~3')
    assert write_commits(repo, path) == FileUpdate(0, 41, 0, True) and same()
    git(repo, 'update-ref', 'refs/heads/main', 'main~7')
    git(repo, 'tag', '-d', 'v1')
    done = write_commits(repo, path)
    assert (done.read, done.dropped, done.rewritten) == (0, 5, True)
    assert len(open(path).readlines()) == done.kept == 36
    assert same()
    assert write_commits(repo, path, anew=True).read == done.kept and same()
    assert [p.name for p in path.parent.iterdir()] == ['commits.jsonl']


def test_a_torn_line_is_read_again(tmp_path):
    repo, path = simple(10, tmp_path/'repo.git'), tmp_path/'commits.jsonl'
    write_commits(repo, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert write_commits(repo, path).read == 1 and path.read_bytes() == whole


def broken(folder: Path) -> tuple[Path, str]:
    "A repository of 60 commits of which one cannot be read, and that one."
    repo = simple(60, folder)
    lost = ask(repo, 'rev-parse', 'main~10')
    pack = next((repo/'objects'/'pack').glob('*.pack'), None)
    if pack:
        data = pack.read_bytes()
        for p in (repo/'objects'/'pack').iterdir(): p.unlink()
        git(repo, 'unpack-objects', '-q', given=data)
    blob = ask(repo, 'rev-parse', f'{lost}:{49 % 7}.txt')
    (repo/'objects'/blob[:2]/blob[2:]).unlink()
    return repo, lost


def test_a_corrupt_object(tmp_path):
    repo, lost = broken(tmp_path/'repo.git')
    got = []
    with pytest.raises(UserError, match=f'cannot read commit {lost}') as e:
        for c in read_commits(repo, workers=2): got.append(c['hash'])
    assert 'unable to read' in str(e.value) and len(got) == 49
    with pytest.raises(UserError, match=lost): write_commits(repo, tmp_path/'new'/'deep'/'commits.jsonl')
    path = tmp_path/'commits.jsonl'
    with pytest.raises(UserError, match=lost): write_commits(repo, path)
    assert not path.exists() and [p.name for p in tmp_path.iterdir()] == ['repo.git']
    # what the caller has acknowledged
    path.write_bytes(b''.join(map(dump_commit, read_commits(repo, known=set(walk_history(repo).nodes) - set(got)))))
    before = path.read_bytes()
    with pytest.raises(UserError, match=lost): write_commits(repo, path)
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ['commits.jsonl', 'repo.git']
    assert scan_commit_file(path, walk_history(repo)).kept == set(got)


@pytest.mark.parametrize('seed', [0, 1, 2, 25])
def test_random_histories(seed, tmp_path):
    "Merges in all directions, many of them with the tree of a parent; what is read of a part is the same."
    chance, s, trees = random.Random(seed), Story(), {}
    for i in range(1, 31):
        parents = chance.sample(range(max(1, i - 5), i), min(i - 1,
                                                             chance.choice([1, 1, 1, 2, 2,
                                                                            3]))) if chance.random() < .95 else []
        before = trees[parents[0]] if parents else {}
        after = dict(trees[chance.choice(parents)]) if parents else {}
        if len(parents) < 2 or chance.random() < .3: after[chance.choice('abc')] = b'%d\n' % chance.randrange(9)
        changes = [(path, content) for path, content in after.items() if before.get(path) != content]
        changes += [b'D ' + path.encode() for path in before if path not in after]
        trees[s.commit(b'branch%d' % i, b'%d' % i, *changes, parents=parents)] = after
    repo = s.into(tmp_path/'repo.git')
    found = list(read_commits(repo, workers=2))
    for c in found:
        rows = [row.split('\t') for row in ask(repo, 'diff-tree', '-r', '--root', '-M', '--numstat',
                                               '--no-commit-id', *c['parents'][:1], c['hash']).splitlines()]
        assert (c['files_changed'], c['insertions'], c['deletions']) == (len(rows),
                                                                         sum(int(row[0]) for row in rows),
                                                                         sum(int(row[1])
                                                                             for row in rows)), c['subject']
        if len(c['parents']) == 2 and c['merge_base']:
            tree = subprocess.run(['git', '-C', repo, 'merge-tree', '--write-tree', *c['parents']],
                                  capture_output=True, text=True).stdout.split()[0]
            assert c['merge_conflict_resolution'] == (tree != c['tree_hash'])
    known = {c['hash'] for c in chance.sample(found, 15)}
    assert list(read_commits(repo, known)) == [c for c in found if c['hash'] not in known]


def test_prefetching_ends_where_there_are_no_patches(tmp_path, monkeypatch):
    s, last, answers = Story(), [], []
    for i in range(300): last = [s.commit(b'main', b'word ' * 2000, parents=last)]
    read = diffs.read_commit_diff
    monkeypatch.setattr(diffs, '_MOST_PREFETCHED', 1 << 19)
    monkeypatch.setattr(diffs, 'read_commit_diff', lambda *words: answers.append(1) or read(*words))
    reading = read_commits(s.into(tmp_path/'repo.git'), workers=1)
    next(reading)
    before = 0
    while len(answers) > before:
        before = len(answers)
        time.sleep(.3)
    assert len(answers) < 100
    assert len(list(reading)) == 299


def test_a_clone_that_was_deepened_is_read_again(odd, tmp_path):
    clone, path = tmp_path/'clone', tmp_path/'commits.jsonl'
    subprocess.run(['git', 'clone', '-q', '--bare', '--depth', '2', '--no-single-branch', f'file://{odd}', clone],
                   check=True)
    few = write_commits(clone, path).read
    git(clone, 'fetch', '-q', '--unshallow')
    found = write_commits(clone, path)
    assert found.kept == 0 and found.rewritten and found.read > few
    assert [json.loads(line) for line in path.read_text().splitlines()] == list(read_commits(clone))


def test_what_cannot_be_locked_is_refused(tmp_path, monkeypatch):
    def refuse(*ignored): raise OSError(9, 'Bad file descriptor')
    monkeypatch.setattr(commit_file.fcntl, 'flock', refuse)
    with pytest.raises(UserError, match='must be on a disk that can be locked'):
        write_commits(simple(2, tmp_path/'repo.git'), tmp_path/'out'/'c.jsonl')


def test_what_a_repository_holds_is_told_of_odd_names_too(tmp_path):
    s = Story()
    first = s.commit(b'caf\xe9', b'a', who=b'Ada <ada\x0c@example.org>')
    s.commit('two\u2028lines'.encode(), b'b', parents=[first])
    found = measure_repository(s.into(tmp_path/'repo.git'))
    assert found['commits_per_branch'] == {'café': 1, 'two\u2028lines': 2}
    assert found['unique_commits'] == 2
    assert found['unique_authors'] == 2
    json.dumps(found, ensure_ascii=False).encode()


def test_a_kernel_that_refuses_larger_pipes_changes_nothing(odd, records, monkeypatch):
    def refuse(*ignored): raise PermissionError(1, 'Operation not permitted')
    monkeypatch.setattr(pipes.fcntl, 'fcntl', refuse)
    assert list(read_commits(odd)) == list(records.values())


def test_a_process_with_many_open_files_reads_as_well(odd, records):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2_000), hard))
    held = []
    try:
        held += [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
        assert list(read_commits(odd)) == list(records.values())
    finally:
        for file in held: os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    repo, path = simple(3, tmp_path/'repo.git'), tmp_path/'out'/'commits.jsonl'
    path.parent.mkdir()
    (path.parent/'.commits.jsonl.half').write_text('half')
    assert write_commits(repo, path).read == 3 and [p.name for p in path.parent.iterdir()] == ['commits.jsonl']


def test_two_writers_do_not_mix(tmp_path):
    repo, path = simple(3, tmp_path/'repo.git'), tmp_path/'out'/'commits.jsonl'
    write_commits(repo, path)
    before = path.read_bytes()
    code = ('import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX); '
            "print('held', flush=True); input()")
    held = subprocess.Popen([sys.executable, '-c', code, path.parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)
    assert held.stdout.readline() == 'held\n'
    for anew in (False, True):
        with pytest.raises(UserError, match='one writer of commits at a time'): write_commits(repo, path, anew=anew)
    assert path.read_bytes() == before
    held.communicate('\n')
    assert write_commits(repo, path).read == 0


def test_a_merge_that_repeats_a_commit(odd, records):
    "Git is asked once; what it says is the same, also where the commit is known already and the merge is not."
    same = find_repeated(walk_history(odd), list(records))
    assert {records[c]['subject']: records[side]['subject'] for c,
            side in same.items()} == {'Merge: again': 'All of a branch', 'Merge: forward': 'All of a branch',
                                      'Merge: of a branch': 'All of a deeper branch',
                                      'Merge: of a merge': 'Merge: of a branch'}
    for merge, side in same.items():
        assert records[merge]['diff_stats'] == records[side]['diff_stats'] != []
        assert list(read_commits(odd, known=set(records) - {merge})) == [records[merge]]


def test_stopping_early_leaves_no_process(odd):
    threads = threading.active_count()
    reading = read_commits(odd, workers=2)
    next(reading)
    reading.close()
    children = subprocess.run(['ps', '-o', 'args=', '--ppid', str(os.getpid())], capture_output=True, text=True).stdout
    assert 'diff-tree' not in children and 'merge-tree' not in children and threading.active_count() == threads


def test_the_repository_stays_as_it_is(odd, records):
    def all_files(): return {p: p.is_file() and p.read_bytes() for p in odd.rglob('*')}
    before = all_files()
    list(read_commits(odd))
    assert all_files() == before


def test_refused(tmp_path, monkeypatch):
    (tmp_path/'plain').mkdir()
    empty = Story().into(tmp_path/'empty.git')
    for bad, told in ((tmp_path/'nowhere', 'no such folder'), (tmp_path/'plain', 'not a git repository'),
                      (empty, 'at least one commit')):
        with pytest.raises(UserError, match=told): write_commits(bad, tmp_path/'c.jsonl')
    repo = simple(2, tmp_path/'repo.git')
    with pytest.raises(UserError, match='workers must be at least 1, got 0'): read_commits(repo, workers=0)
    (repo/'refs'/'heads'/'lost').write_text('1' * 40 + '\n')
    with pytest.raises(UserError, match='refs/heads/lost'): write_commits(repo, tmp_path/'c.jsonl')
    (repo/'refs'/'heads'/'lost').write_text('nonsense\n')
    with pytest.raises(UserError, match='refs/heads/lost'): write_commits(repo, tmp_path/'c.jsonl')
    (repo/'refs'/'heads'/'lost').unlink()
    (repo/'refs'/'heads'/'main').write_text('\n')
    with pytest.raises(UserError, match='refs/heads/main'): write_commits(repo, tmp_path/'c.jsonl')
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='git, which is not installed'): write_commits(repo, tmp_path/'c.jsonl')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['empty.git', 'plain', 'repo.git']


def test_files_of_others_are_refused(tmp_path):
    repo, path = simple(3, tmp_path/'repo.git'), tmp_path/'mine.jsonl'
    s = Story()
    s.commit(b'main', b'another', ('a', b'b\n'))
    write_commits(s.into(tmp_path/'other.git'), path)
    mine = path.read_bytes()
    with pytest.raises(UserError, match='holds none of them'): write_commits(repo, path)
    assert path.read_bytes() == mine
    for content in ('my notes\n', '{"hash":"', '{"hash":"1"}\n', '\n'):
        path.write_text(content)
        with pytest.raises(UserError, match='must be a file of commits'): write_commits(repo, path)
        assert path.read_text() == content
    assert write_commits(repo, path, anew=True).read == 3


def test_an_old_git_says_so(odd, records, monkeypatch):
    real = merges.Repository.ask
    old = 'git version 2.34.1\n'
    monkeypatch.setattr(merges.Repository, 'ask',
                        lambda self, *words: old if words == ('version',) else real(self, *words))
    with pytest.warns(UserWarning, match='2.39, and this is git version 2.34.1'): found = list(read_commits(odd))
    alone = {'Merge: forward', 'Merge: again', 'Merge: beyond', 'Merge: of a branch', 'Merge: of a merge'}
    unknown = {'merge_conflict_resolution': None}
    assert found == [c if c['subject'] in alone else c | unknown for c in records.values()]  # one side alone changed


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    repo = simple(5, tmp_path/'repo.git')
    assert cli.run_command(['data', 'commits', 'repo.git', '-o', 'commits.jsonl']) == 0
    out, err = capsys.readouterr()
    assert out == '5 commits read, 0 kept: commits.jsonl\n' and '5/5' in err
    assert cli.run_command(['data', 'commits', 'repo.git', '-o', 'commits.jsonl']) == 0
    assert capsys.readouterr().out == '0 commits read, 5 kept: commits.jsonl\n'
    assert cli.run_command(['data', 'commits', 'repo.git', '-o', 'commits.jsonl', '--force']) == 0
    assert capsys.readouterr().out == '5 commits read, 0 kept: commits.jsonl\n'
    Path('mine').write_text('mine')
    assert cli.run_command(['data', 'commits', 'repo.git', '-o', 'mine']) == 2
    assert '--force' in capsys.readouterr().err and Path('mine').read_text() == 'mine'
    assert cli.run_command(['data', 'commits', 'nowhere', '-o', 'new.jsonl']) == 2
    assert 'nowhere' in capsys.readouterr().err and not Path('new.jsonl').exists()
    assert shutil.which('git') and len(walk_history(repo).nodes) == 5


def test_the_committer_has_a_clock_of_their_own(tmp_path):
    s = Story()
    s.commit(b'main', b'a', ('a', b'1\n'), when=b'-0800')
    s.stream = s.stream.replace(b'-0800\ncommitter', b'+0530\ncommitter')
    [c] = read_commits(s.into(tmp_path/'repo.git'))
    assert (c['author_timezone'], c['committer_timezone']) == ('+0530', '-0800')
    wall = datetime.fromtimestamp(c['author_timestamp'], timezone(timedelta(hours=5, minutes=30)))
    assert (c['work_hour'], c['day_of_week']) == (wall.hour, wall.weekday())


@pytest.mark.parametrize('lines, files, high', [(500, 20, False), (501, 1, True), (1, 21, True), (0, 0, False)])
def test_more_than_500_lines_or_20_files_are_a_risk(lines, files, high): assert is_high_risk(lines, files) == high


def test_how_much_a_change_asks_of_its_reader():
    scores = {(0, 0): 0, (250, 0): .3, (500, 25): .8, (5000, 500): 1, (0, 50): .4}
    assert {key: score_complexity(*key) for key in scores} == pytest.approx(scores)
    assert score_complexity(250, 0, True) == pytest.approx(.45) and score_complexity(500, 25, True) == 1


@pytest.mark.parametrize('subject, body, kinds', [
    ('fixup! a', '', 'is_fixup'), ('amend! a', '', 'is_fixup'), ('squash! a', '', 'is_squash'),
    ('Squashed commits: a', '', 'is_squash'), ('a', 'Squashed commit of the following:\n\nb', 'is_squash'),
    ('Revert "a"', '', 'is_revert'), ('a', 'This reverts commit 12.', 'is_revert'), ('Reverting a', '', ''),
    ('a fixup! b', '', ''), ('Squashing bugs', '', '')])
def test_what_a_message_says_of_its_commit(subject, body, kinds):
    assert [kind for kind, so in classify_message(subject, body).items() if so] == kinds.split()


def test_a_short_hash_that_two_commits_share_names_neither():
    hashes = sorted(['abcdef1' + '0' * 33, 'abcdef1' + '1' * 33, '1234567' + '0' * 33])
    assert find_related_commits('As in abcdef1, abcdef11 and 1234567', hashes) == [hashes[2], hashes[0]]


@pytest.mark.parametrize('path, language', [
    ('src/A.TS', 'typescript'), ('b.test.tsx', 'typescript'), ('Makefile', ''), ('a.py/README', ''), ('x.unknown', '')])
def test_languages_by_suffix(path, language): assert detect_language(path) == language


def test_lines_that_are_appended_reach_the_disk(tmp_path, monkeypatch):
    repo, path = simple(3, tmp_path/'repo.git'), tmp_path/'commits.jsonl'
    write_commits(repo, path)
    path.write_bytes(b''.join(path.read_bytes().splitlines(keepends=True)[:-1]))
    flushed, fsync = [], os.fsync

    def note(fd):
        flushed.append((os.readlink(f'/proc/self/fd/{fd}'), len(path.read_bytes().splitlines())))
        fsync(fd)
    monkeypatch.setattr(os, 'fsync', note)
    assert not write_commits(repo, path).rewritten
    assert flushed == [(str(path), 3)]


def test_lines_that_cannot_all_be_appended_leave_the_file_as_it_was(tmp_path, monkeypatch):
    repo, path = simple(3, tmp_path/'repo.git'), tmp_path/'commits.jsonl'
    write_commits(repo, path)
    before = b''.join(path.read_bytes().splitlines(keepends=True)[:-1])
    path.write_bytes(before)

    def fills_the_disk(source, target, length):
        target.write(source.read(100))
        target.flush()
        raise OSError(28, 'No space left on device')
    with monkeypatch.context() as full, pytest.raises(OSError, match='No space left'):
        full.setattr(commit_file.shutil, 'copyfileobj', fills_the_disk)
        write_commits(repo, path)
    assert path.read_bytes() == before
    assert write_commits(repo, path) == FileUpdate(1, 2, 0, False)

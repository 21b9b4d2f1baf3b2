"""How fast does a history become records, and how much memory does it take?

    python benchmarks/commits.py [REPO ...] [--rounds 5] [--commits 3000]

Without a repository one is made: small files, small commits, every tenth a merge. The records, all of their keys with
patch text, go as JSON lines to /dev/null, and once more to a file that is flushed to disk. Beside them stand
`git log -p --all > /dev/null`, which shows no patches of merges, and the same with `--diff-merges=first-parent`, which
compares just what we compare. PyDriller takes part if it can be imported; it needs no place in shutka's environment,
`PYTHONPATH=VENV/lib/python3.11/site-packages` suffices. It is asked for messages, people and the patch and counts of
each file; of merges it gives none.

In alternation, medians. Each reading is a process of its own: the seconds are those of the work without its start, and
peak memory is that of Python's process (git's own are git's, as with `git log`). The second run: one commit is added,
to a clone, and the file is brought up to date. The clone shares its objects with REPO, which stays as it is.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))


def git(repo, *words, given=None):
    "Git's answer."
    command = ['git', '-C', repo, '-c', 'user.name=a', '-c', 'user.email=a@b', *words]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout.decode().strip()

def make_repository(folder, n):
    "A history of n commits."
    subprocess.run(['git', 'init', '-q', '--bare', '-b', 'main', folder], check=True)
    files = {f'src/part{i % 10}/file{i}.py': [f'value{j} = {i * j}' for j in range(200)] for i in range(100)}
    names, lines = list(files), []
    for i in range(1, n + 1):
        merge = i > 20 and i % 10 == 0
        lines += [f'commit refs/heads/main\nmark :{i}\ncommitter A <a@b> {1_600_000_000 + 600 * i} +0000',
                  f'data <<.\nChange number {i}, see #{i // 3}\n\nIt was time.\n.']
        if i > 1: lines.append(f'from :{i - 2 if i > 20 and i % 10 == 9 else i - 1}')
        if merge: lines.append(f'merge :{i - 2}')
        for k in range(100 if i == 1 else 0 if merge else 3):
            name = names[k if i == 1 else (i * 7 + k * 31) % 100]
            files[name][(i * 13 + k * 57) % 200] = f'value = {i} + {k}'
            content = '\n'.join(files[name])
            lines.append(f'M 644 inline {name}\ndata {len(content)}\n{content}')
        lines.append('')
    git(folder, 'fast-import', '--quiet', given='\n'.join(lines).encode())
    git(folder, 'gc', '-q')
    return folder


def measure_peak():
    "The most memory this process ever held, in MB."
    return next((int(line.split()[1]) / 1e3 for line in open('/proc/self/status') if line.startswith('VmHWM')), 0)

def read_all(repo, workers):
    "In a process of its own: read everything."
    from shutka.history.commit_file import dump_commit
    from shutka.history.commits import read_commits
    began = time.perf_counter()
    with open('/dev/null', 'wb') as f: f.writelines(map(dump_commit, read_commits(repo, workers=int(workers))))
    print(json.dumps({'seconds': time.perf_counter() - began, 'peak': measure_peak()}))

def update_file(repo, file):
    "In a process of its own: bring a file up to date."
    from shutka.history.commit_file import write_commits
    began = time.perf_counter()
    write_commits(repo, file, workers=2)
    print(json.dumps({'seconds': time.perf_counter() - began, 'peak': measure_peak()}))

def run_pydriller(repo):
    "In a process of its own: read everything that PyDriller is good for."
    from pydriller import Repository
    began = time.perf_counter()
    for commit in Repository(repo, include_refs=True, include_remotes=True).traverse_commits():
        commit.hash, commit.msg, commit.author, commit.committer, commit.author_date, commit.committer_date
        commit.parents, commit.merge, commit.insertions, commit.deletions
        for file in commit.modified_files:
            file.diff, file.added_lines, file.deleted_lines, file.change_type, file.old_path, file.new_path
    print(json.dumps({'seconds': time.perf_counter() - began}))

def run_child(way, *words):
    "What a reading says, in a process of its own."
    command = [sys.executable, __file__, '--child', way, *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

def run_log(repo, *how):
    began = time.perf_counter()
    subprocess.run(['git', '-C', repo, 'log', '-p', '--all', *how], stdout=subprocess.DEVNULL, check=True)
    return {'seconds': time.perf_counter() - began}


def measure(repo, rounds, folder):
    "The rows of one repository."
    clone, file, numbers = folder/'clone.git', folder/'commits.jsonl', count()
    git('.', 'clone', '-q', '--mirror', '--shared', Path(repo).resolve(), clone)
    n = int(git(clone, 'rev-list', '--all', '--count'))
    merges = int(git(clone, 'rev-list', '--all', '--merges', '--count'))
    print(f'\n{Path(repo).resolve().name}: {n:,} commits, {merges:,} of them merges', flush=True)

    def fresh():
        file.unlink(missing_ok=True)
        return run_child('written', clone, file)

    def second():
        new = git(clone, 'commit-tree', 'HEAD^{tree}', '-p', 'HEAD', '-m', f'more {next(numbers)}')
        git(clone, 'update-ref', 'HEAD', new)
        return run_child('written', clone, file)

    ways = {'git log -p': lambda: run_log(clone),
            'git log -p, merges too': lambda: run_log(clone, '--diff-merges=first-parent'),
            'shutka, one worker': lambda: run_child('lines', clone, 1),
            'shutka, two workers': lambda: run_child('lines', clone, 2),
            'shutka, two, to a file': fresh, 'second run': second}
    if find_spec('pydriller'): ways['PyDriller'] = lambda: run_child('pydriller', clone)
    results = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items(): results[name].append(way())
    report(n, results, file)

def report(n, results, file):
    "Print medians and ratios."
    seconds = {name: median(r['seconds'] for r in rows) for name, rows in results.items()}
    peaks = {name: max(r.get('peak', 0) for r in rows) for name, rows in results.items()}
    others = ('git log -p', 'git log -p, merges too', 'PyDriller')
    head = f"{'':26}{'seconds':>9}{'commits/s':>11}{'x log -p':>10}{'x merges too':>14}"
    print(f"{head}{'x PyDriller':>13}{'peak MB':>9}")
    for name, s in seconds.items():
        if name == 'second run': continue
        ratios = [f'{seconds[other] / s:.2f}' if other in seconds else 'none' for other in others]
        peak = f'{peaks[name]:.0f}' if peaks[name] else ''
        print(f'{name:26}{s:>9.2f}{n / s:>11,.0f}{ratios[0]:>10}{ratios[1]:>14}{ratios[2]:>13}{peak:>9}')
    again, first = seconds['second run'], seconds['shutka, two, to a file']
    print(f"{'second run, a commit more':26}{again:>9.3f}   {first / again:.0f} times faster than the first; "
          f'the file has {file.stat().st_size / 1e6:.0f} MB', flush=True)



def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('repos', nargs='*', metavar='REPO')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--commits', type=int, default=3000, help='of the repository that is made')
    parser.add_argument('--child', nargs='+', help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        way, *words = asked.child
        return {'lines': read_all, 'written': update_file, 'pydriller': run_pydriller}[way](*words)
    if not find_spec('pydriller'): print('PyDriller cannot be imported here, and is left out')
    with tempfile.TemporaryDirectory(dir='.') as folder:
        for i, repo in enumerate(asked.repos or [make_repository(Path(folder)/'made.git', asked.commits)]):
            (own := Path(folder)/str(i)).mkdir()
            measure(repo, asked.rounds, own.resolve())


if __name__ == '__main__': main()

"The bundled corpus: real TypeScript for a strict compiler, and enough of it to learn from."
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from shutka.data.pairs import Report, stream_pairs
from shutka.data.same_code import SHORTEST_BODY, normalize_body
from shutka.data.sources import open_source

ROOT = Path(__file__).parents[1]
HERE = ROOT/'tests'/'typescript'
CORPUS = ROOT/'shutka'/'bundled'/'typescript'
FLAGS = ('--strict --noEmit --target es2022 --module esnext --moduleResolution bundler --lib es2022 '
         '--noUncheckedIndexedAccess').split()


@pytest.fixture(scope='module')
def tsc() -> Path:
    "The compiler of tests/typescript/package-lock.json, installed when it is missing."
    for program in ('node', 'npm'):
        if not shutil.which(program): pytest.skip(f'{program} is not installed')
    compiler = HERE/'node_modules'/'.bin'/'tsc'
    if not compiler.exists(): subprocess.run(['npm', 'ci', '--no-audit', '--no-fund'], cwd=HERE, check=True)
    return compiler


@pytest.fixture(scope='module')
def functions() -> list[dict]:
    "The documented functions and methods."
    report = Report()
    pairs = list(stream_pairs(open_source('bundled:typescript'), report))
    assert not report.skipped and not report.left_out
    return [pair for pair in pairs if pair['doc'] and pair['form'] in ('function', 'arrow', 'method')]


def compile_files(tsc, paths):
    return subprocess.run([tsc, *FLAGS, *paths], capture_output=True, text=True)


@pytest.mark.net
def test_type_checks(tsc):
    ran = compile_files(tsc, sorted(CORPUS.rglob('*.ts')))
    assert ran.returncode == 0, ran.stdout


@pytest.mark.net
def test_the_compiler_is_strict(tsc, tmp_path):
    (tmp_path/'wrong.ts').write_text('export const first = (xs: number[]): number => xs[0];\n')
    ran = compile_files(tsc, [tmp_path/'wrong.ts'])
    assert ran.returncode != 0 and 'TS2322' in ran.stdout


def test_enough_to_learn_from(functions):
    assert len(functions) >= 300
    assert len({pair['package'] for pair in functions}) >= 12


def test_every_file_is_its_own():
    files = [' '.join(path.read_text(encoding='utf-8').split()) for path in CORPUS.rglob('*.ts')]
    assert len(set(files)) == len(files)


def test_no_body_twice(functions):
    "Short ones may agree by chance; two comments for one longer body would be two answers to one question."
    bodies = Counter(normalize_body(pair['body']) for pair in functions if len(pair['body'].split()) >= SHORTEST_BODY)
    assert [body for body, times in bodies.items() if times > 1] == []

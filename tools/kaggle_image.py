"""Imitate Kaggle's image: does shutka install, train, evaluate and bundle there without replacing a package?

    python tools/kaggle_image.py    # exit code 0: yes; 2: no image can be made here, and the reason is told

It takes 12 GB of disk and some minutes: the image's torch brings what a GPU needs.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from shutka.core.errors import UserError
from shutka.export.kaggle import make_install_line
from shutka.export.wheels import IMAGE, PYTHON, build_wheel, fill_wheelhouse, normalize_package

ROOM = 12 * 10**9   # bytes that the image takes while it is installed
# as small as a run can be that trains, evaluates and bundles
RUN = ['-p', 'max_samples', '300', '-p', 'steps', '6', '-p', 'batch_size', '32', '-p', 'out', 'run']
# what is left to ask when the run has ended
CHECK = '''
import json
from importlib.metadata import requires
import shutka
from shutka.export.preflight import list_unmet
assert not list_unmet(requires('shutka')), list_unmet(requires('shutka'))
result = json.load(open('run/result.json'))
assert result['status'] == 'ok' and result['rows'], result['status']
assert shutka.load('run/' + result['bundle']['file']).encode(['add two numbers']).shape == (1, 1024)
'''


def find_python() -> str:
    "A Python of the image's version; raises `UserError` if there is none."
    name = f'python{PYTHON}'
    places = [shutil.which(name), *sorted(Path.home().glob(f'.pyenv/versions/{PYTHON}.*/bin/{name}'))]
    for path in filter(None, places):
        # a shim of pyenv is there for versions that are not chosen, too, and then fails
        if subprocess.run([path, '-c', 'import venv'], capture_output=True).returncode == 0: return str(path)
    raise UserError(f"Python {PYTHON} must be installed")


def run(*words: str | Path, **options) -> str:
    "What a command prints; raises `UserError` with its last words if it fails."
    ran = subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)
    if ran.returncode == 0: return ran.stdout
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    raise UserError(f"{' '.join(map(str, words[:4]))} ends with {ran.returncode}: {' | '.join(said[-5:])}")


def make_image(folder: Path) -> Path:
    "The image's packages in an environment of their own; its Python. Raises `UserError` if one cannot be had."
    run(find_python(), '-m', 'venv', folder)
    python, table = folder/'bin'/'python', folder/'table.txt'
    rows = {name: v.partition('+')[0] for name, v in IMAGE.items()}   # the index has no +cu128
    table.write_text(''.join(f'{name}=={v}\n' for name, v in rows.items()))
    install = [python, '-m', 'pip', 'install', '-q', '--no-compile', '--only-binary=:all:']
    run(*install, '-c', table, 'torch')             # with what a GPU needs
    run(*install, '--no-deps', '-r', table)         # whether they fit together, a test asks
    return python


def list_packages(python: Path) -> dict[str, str]:
    "Version by name of all that is installed."
    found = json.loads(run(python, '-m', 'pip', 'list', '--format=json'))
    return {normalize_package(one['name']): one['version'] for one in found}


def check_install(python: Path, folder: Path, *words: str | Path):
    "Raise `UserError` if pip would replace a package that is there."
    there, report = list_packages(python), folder/'report.json'
    run(python, '-m', 'pip', 'install', '-q', '--dry-run', '--report', report, *words)
    new = {normalize_package(one['metadata']['name']) for one in json.loads(report.read_text())['install']}
    print(f'{len(new):3} packages new, {len(new & there.keys())} replaced: pip install {" ".join(map(str, words))}')
    if new & there.keys(): raise UserError(f"pip would replace {', '.join(sorted(new & there.keys()))}")


def imitate(folder: Path, python: Path):
    "Install, train, evaluate and bundle; raises `UserError` if one of them fails or replaces a package."
    os.environ['PIP_NO_BUILD_ISOLATION'] = '0'   # means: build with the setuptools that is here
    (folder/'own').mkdir()
    build_wheel(str(Path(__file__).parents[1]), folder/'own')
    before, image = list_packages(python), folder/'image.txt'
    image.write_text(''.join(f'{name}=={v}\n' for name, v in before.items()))

    # three ways: a plain install, the line of the notebook that is pushed, and wheels without a network
    wanted = f"shutka=={version('shutka')}"
    check_install(python, folder, '--find-links', folder/'own', wanted)
    check_install(python, folder, '--find-links', folder/'own', '-c', image, wanted)
    assert make_install_line().endswith(f'-c /tmp/image.txt {wanted}')
    fill_wheelhouse(folder/'wheels', make_install_line('ada/wheels'), source=str(next((folder/'own').iterdir())))
    offline = ['--no-index', '--find-links', folder/'wheels', 'shutka']
    check_install(python, folder, *offline)
    run(python, '-m', 'pip', 'install', '-q', *offline)
    after = list_packages(python)
    changed = [name for name, v in before.items() if after.get(name) != v]
    if changed: raise UserError(f"the installation replaced {', '.join(changed)}")

    env = os.environ | {'PATH': f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    run(python.parent/'shutka', 'run', 'typescript', *RUN, '-o', 'out.ipynb', cwd=folder, env=env)
    run(python, '-c', CHECK, cwd=folder, env=env)
    print(f"torch {before['torch']}, transformers {before['transformers']}, nbclient {before['nbclient']}:"
          f" trained, evaluated and bundled; new are {', '.join(sorted(after.keys() - before.keys()))}")


def main() -> int:
    "Make the image and use it; the exit code."
    for name in ('PYTHONPATH', 'VIRTUAL_ENV'): os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as place:
        try:
            if shutil.disk_usage(place).free < ROOM: raise UserError(f"{place} must have {ROOM:,} bytes free")
            python = make_image(Path(place)/'image')
        except UserError as e:
            print(f"Kaggle's image is not imitated: {e}", file=sys.stderr)
            return 2
        imitate(Path(place), python)
    return 0


if __name__ == '__main__': sys.exit(main())

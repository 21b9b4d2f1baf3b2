"""Run a notebook in a real browser and take pictures of it: for eyes, not for `make test`.

    pip install jupyterlab playwright      # and Chromium, e.g. from the system's packages
    python tools/browser.py NOTEBOOK.ipynb SHOTS [SECONDS]

JupyterLab opens a copy of the notebook and runs all cells. Every so many SECONDS (10 unless given) a picture goes to the folder SHOTS, and one at the end;
the saved copy lies beside them. A page (`report.html`) instead of a notebook is just opened, and its picture taken.
"""
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

RUN_ALL = "() => { window.over = false; jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.over = true }) }"


@contextmanager
def jupyterlab(folder: Path):
    "The address of a JupyterLab of its own, on loopback, that serves a folder."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    words = [f'--ServerApp.port={port}', '--ServerApp.ip=127.0.0.1', f'--ServerApp.root_dir={folder}', '--IdentityProvider.token=', '--no-browser',
             '--allow-root', '--LabApp.expose_app_in_browser=True']
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try: urlopen(f'http://127.0.0.1:{port}/api').close()
            except OSError: time.sleep(.5)
            else: break
        yield f'http://127.0.0.1:{port}/doc/tree'
    finally:
        server.terminate()
        server.wait()


def run(page, address: str, shots: Path, seconds: float):
    "Open a notebook, run all its cells, take pictures on the way, and save it."
    page.goto(address)
    page.wait_for_selector('text=| Idle')  # the kernel has started
    page.evaluate(RUN_ALL)
    count = 0
    while not page.evaluate('window.over'):
        page.wait_for_timeout(1000 * seconds)
        page.screenshot(path=shots/f'{count:02}.png')
        count += 1
    page.wait_for_timeout(2000)
    page.screenshot(path=shots/'end.png')
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")


def main(source: str, shots: str, seconds: str = '10'):
    "Take the pictures, and say what the saved notebook holds."
    source, shots = Path(source).resolve(), Path(shots)
    shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        page = browser.new_page(viewport={'width': 1000, 'height': 2000})
        if source.suffix == '.html':
            page.goto(source.as_uri())
            page.screenshot(path=shots/f'{source.stem}.png', full_page=True)
        else:
            copy = Path(shutil.copy(source, folder))
            with jupyterlab(Path(folder)) as address: run(page, f'{address}/{copy.name}', shots, float(seconds))
            shutil.copy(copy, shots)
            outputs = [o for cell in json.loads(copy.read_text(encoding='utf-8'))['cells'] for o in cell.get('outputs', [])]
            print(*[', '.join(o.get('data', [o['output_type']])) for o in outputs], sep='\n')
        browser.close()


if __name__ == '__main__': main(*sys.argv[1:])

"""Run a notebook in a real browser: take pictures of it for eyes, or let a test click in it.

    make browser         # installs JupyterLab and playwright beside .venv, and runs tests/test_inspector.py
    .venv/browser/bin/python tools/browser.py NOTEBOOK.ipynb SHOTS [SECONDS]

JupyterLab opens a copy of the notebook and runs all cells. Every so many SECONDS (10 unless given) a
picture goes to the folder SHOTS, and one at the end; the saved copy lies beside them. A page
(`report.html`) instead of a notebook is just opened, and its picture taken.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

RUN_ALL = """() => {
    window.over = false
    jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.over = true })
}"""
SAVE = "jupyterapp.commands.execute('docmanager:save')"
SETTINGS_FOLDERS = ('JUPYTER_CONFIG_DIR', 'JUPYTERLAB_SETTINGS_DIR', 'JUPYTERLAB_WORKSPACES_DIR', 'IPYTHONDIR')


def chromium(play) -> str | None:
    "The program to start: the system's Chromium or Chrome, else the one that playwright has fetched, else None."
    found = (shutil.which(name) for name in ('chromium', 'google-chrome'))
    own = play.chromium.executable_path
    return next(filter(None, found), own if Path(own).exists() else None)


@contextmanager
def browsing(width: int = 1000, height: int = 2000):
    "A page of a browser without a window."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(play), args=['--no-sandbox'])
        yield browser.new_page(viewport={'width': width, 'height': height})
        browser.close()


@contextmanager
def jupyterlab(folder: Path):
    "The address of a JupyterLab on loopback that serves a folder and leaves the user's settings alone."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--IdentityProvider.token=',
               f'--ServerApp.port={port}', '--ServerApp.ip=127.0.0.1', f'--ServerApp.root_dir={folder}',
               '--LabApp.expose_app_in_browser=True']
    with tempfile.TemporaryDirectory() as settings:
        quiet = Path(settings)/'@jupyterlab'/'apputils-extension'/'notification.jupyterlab-settings'
        quiet.parent.mkdir(parents=True)
        quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
        env = os.environ | dict.fromkeys(SETTINGS_FOLDERS, settings)
        server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(120):
                try: urlopen(f'http://127.0.0.1:{port}/api').close()
                except OSError: time.sleep(.5)
                else: break
            else: raise TimeoutError('JupyterLab did not answer within a minute')
            yield f'http://127.0.0.1:{port}/doc/tree'
        finally:
            server.terminate()
            server.wait()


def run_all(page, address: str):
    "Open a notebook and begin to run all its cells; `window.over` says when they are through."
    page.goto(address)
    page.wait_for_selector('text=| Idle')  # the kernel has started
    page.evaluate(RUN_ALL)


def watch(page, shots: Path, seconds: float):
    "Take pictures until all cells are through, and save the notebook."
    count = 0
    while not page.evaluate('window.over'):
        page.wait_for_timeout(1000 * seconds)
        page.screenshot(path=shots/f'{count:02}.png')
        count += 1
    page.wait_for_timeout(2000)
    page.screenshot(path=shots/'end.png')
    page.evaluate(SAVE)


def main(source: str, shots: str, seconds: str = '10'):
    "Take the pictures, and say what the saved notebook holds."
    source, shots = Path(source).resolve(), Path(shots)
    shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browsing() as page:
        if source.suffix == '.html':
            page.goto(source.as_uri())
            return page.screenshot(path=shots/f'{source.stem}.png', full_page=True)
        copy = Path(shutil.copy(source, folder))
        with jupyterlab(Path(folder)) as address:
            run_all(page, f'{address}/{copy.name}')
            watch(page, shots, float(seconds))
        shutil.copy(copy, shots)
        outputs = [o for cell in json.loads(copy.read_text(encoding='utf-8'))['cells'] for o in cell.get('outputs', [])]
        print(*[', '.join(o.get('data', [o['output_type']])) for o in outputs], sep='\n')


if __name__ == '__main__': main(*sys.argv[1:])

"""Store the pictures of the notebooks with 128 colours: a fifth of the bytes, the same to the eye.

    python tools/pictures.py

The last digits of a computation differ between processors, and with them single points of a picture. So a picture of
the last commit stays if the new one looks the same. No two processors draw the end of a wild training alike: where a
cell is tagged `wild`, its picture stays as long as the cell does.
"""
import base64
import io
import json
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = 128
TILE, LOUDEST = 8, 16   # points; how much (of 255) a square of as many points may change unseen


def smaller(
    png: str,  # base64, as notebooks store it
) -> str:      # the same, unless the picture has few colours already
    "A picture with a palette instead of three bytes for each point."
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == 'P': return png
    white = Image.new('RGBA', picture.size, 'white')
    white.alpha_composite(picture.convert('RGBA'))
    out = io.BytesIO()
    white.convert('RGB').quantize(COLOURS, dither=Image.Dither.NONE).save(out, 'PNG', optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def read_points(png: str) -> np.ndarray:
    "A picture as (height, width, 3) numbers from 0 to 255."
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert('RGB'), dtype=float)


def look_alike(one: str, other: str) -> bool:
    "Whether no square of two pictures differs so much that an eye would see it."
    a, b = read_points(one), read_points(other)
    if a.shape != b.shape: return False
    h, w = (n // TILE for n in a.shape[:2])
    tiles = abs(a - b).max(axis=2)[:h * TILE, :w * TILE].reshape(h, TILE, w, TILE).mean(axis=(1, 3))
    return tiles.max() < LOUDEST


def list_pictures(cell: dict) -> list[dict]:
    "The outputs of a cell that are pictures; their data."
    return [output['data'] for output in cell.get('outputs', []) if 'image/png' in output.get('data', {})]


def read_committed(path: Path) -> dict[str, dict]:
    "The cells of a notebook in the last commit, by id; none if there is no commit of it."
    shown = subprocess.run(['git', 'show', f'HEAD:{path.as_posix()}'], capture_output=True)
    return {cell['id']: cell for cell in json.loads(shown.stdout)['cells']} if shown.returncode == 0 else {}


def store_pictures(cell: dict, committed: dict | None):
    "Make the pictures of a cell smaller, or leave those of the last commit."
    new, old = list_pictures(cell), list_pictures(committed or {})
    for data in new: data['image/png'] = smaller(''.join(data['image/png']))
    if len(new) != len(old): return
    wild = 'wild' in cell['metadata'].get('tags', ()) and cell['source'] == committed['source']
    for data, before in zip(new, old):
        was = smaller(''.join(before['image/png']))
        if wild or look_alike(data['image/png'], was): data['image/png'] = was


def main():
    "Rewrite the notebooks that have pictures; a second time changes nothing."
    for path in sorted(Path('nbs').rglob('*.ipynb')):
        before = path.read_text(encoding='utf-8')
        if '"image/png"' not in before: continue
        notebook, committed = json.loads(before), read_committed(path)
        for cell in notebook['cells']: store_pictures(cell, committed.get(cell['id']))
        after = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + '\n'
        if after != before: path.write_text(after, encoding='utf-8')


if __name__ == '__main__': main()

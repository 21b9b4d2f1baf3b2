"""Store the pictures of the notebooks with 128 colours: a fifth of the bytes, the same to the eye.

    python tools/pictures.py
"""
import base64
import io
import json
from pathlib import Path

from PIL import Image

COLOURS = 128


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


def main():
    "Rewrite the notebooks that have pictures; a second time changes nothing."
    for path in sorted(Path('nbs').rglob('*.ipynb')):
        before = path.read_text(encoding='utf-8')
        notebook = json.loads(before)
        for cell in notebook['cells']:
            for output in cell.get('outputs', []):
                data = output.get('data', {})
                if 'image/png' in data: data['image/png'] = smaller(''.join(data['image/png']))
        after = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + '\n'
        if after != before: path.write_text(after, encoding='utf-8')


if __name__ == '__main__': main()

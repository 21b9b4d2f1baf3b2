"""Ask a memory short questions as people type them, and say where the answers stand: file and line.

    python tools/look_up.py demo/memory --model demo/typescript/shutka-typescript.zip
"""
import sys
from pathlib import Path

from shutka.faces.memory_commands import align_columns, open_bank_folder, use_model
from shutka.memory.descriptions import split_snippet
from shutka.memory.hits import Hit, format_score

QUESTIONS = ('parse a date', 'remove duplicates from an array', 'wait before trying again', 'is this email valid',
             'shortest path between two nodes')


def find_line(hit: Hit) -> str:
    "The line of a hit in its file today; '?' if the file does not have it any more."
    file = Path(hit.metadata['source'].removeprefix('dir:'))/hit.metadata['path']
    first = split_snippet(hit.text)[2].splitlines()[0]
    lines = file.read_text('utf-8').splitlines()
    return next((str(n) for n, line in enumerate(lines, 1) if first.rstrip(' {') in line), '?')


def main(folder: str, model: str | None):
    with open_bank_folder(folder, readonly=True) as bank:
        use_model(bank, model)
        rows = [('question', 'score', 'found', 'file and line', 'by')]
        for question in QUESTIONS:
            hits = bank.search(question, k=1)
            if not hits: rows.append((question, '', 'nothing matches', '', ''))
            for hit in hits:
                by = ', '.join(f'{name} {format_score(score)}' for name, score in hit.list_scores().items())
                place = f"{hit.metadata['path']}:{find_line(hit)}"
                rows.append((question, format_score(hit.score), hit.metadata['name'], place, by))
        print(align_columns(rows))
        for note in {bank.search(question, k=1).note for question in QUESTIONS[:1]} - {''}: print(note)


if __name__ == '__main__':
    if len(sys.argv) != 4 or sys.argv[2] != '--model': sys.exit(__doc__)
    main(sys.argv[1], sys.argv[3])

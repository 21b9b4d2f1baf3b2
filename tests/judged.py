"What tests of TypeScript answers share: `needs_node` skips where there is no Node.js, `Strict` does without."
import pytest

from shutka.core.errors import UserError
from shutka.evaluate.node import find_node
from shutka.evaluate.sandbox import Outcome

try: find_node()
except UserError as e: no_node = str(e)
else: no_node = ''
needs_node = pytest.mark.skipif(bool(no_node), reason=no_node)


class Strict:
    "A judge that needs no Node: no call ends as it should."
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def check(self, code, uses=''): return []
    def run(self, code, calls, **limits): return [Outcome('time' if code else 'value') for _ in calls]

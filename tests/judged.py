"What tests of TypeScript answers share: `needs_node` skips where there is no Node.js."
import pytest

from shutka.core.errors import UserError
from shutka.evaluate.node import find_node

try: find_node()
except UserError as e: no_node = str(e)
else: no_node = ''
needs_node = pytest.mark.skipif(bool(no_node), reason=no_node)

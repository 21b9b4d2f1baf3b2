"""Phase 1: a text-JEPA learns from TypeScript which words lead to which code.

    from shutka.typescript import TypescriptSettings, train
    result = train(TypescriptSettings(source='dir:src', minutes=30))
"""

# Written by hand, like all `__init__.py` of products: settings load in an instant,
# and what trains loads PyTorch only when it is asked for.
from typing import TYPE_CHECKING

from .settings import TypescriptSettings

if TYPE_CHECKING: from .run import plan_typescript, train

__all__ = ['TypescriptSettings', 'plan_typescript', 'train']


def __getattr__(name: str):
    "What trains, on first use."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import run
    return getattr(run, name)


def __dir__() -> list[str]: return __all__

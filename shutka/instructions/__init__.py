"""Phase 2: a decoder learns to write the code that words ask for.

    from shutka.instructions import InstructionsSettings, train
    result = train(InstructionsSettings(resume='runs/typescript', minutes=30))
"""

# Written by hand, like all `__init__.py` of products: settings load in an instant,
# and what trains loads PyTorch only when it is asked for.
from typing import TYPE_CHECKING

from .settings import InstructionsSettings

if TYPE_CHECKING: from .run import plan_instructions, train

__all__ = ['InstructionsSettings', 'plan_instructions', 'train']


def __getattr__(name: str):
    "What trains, on first use."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import run
    return getattr(run, name)


def __dir__() -> list[str]: return __all__

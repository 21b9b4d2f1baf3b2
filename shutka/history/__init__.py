"""A repository becomes commits, tokens, embeddings, a trained model and one manifest.

    import shutka
    manifest = shutka.history.build('../project')
"""

# Written by hand, like all `__init__.py` of products: settings load in an instant,
# and what trains loads PyTorch only when it is asked for.
from typing import TYPE_CHECKING

from .settings import HistorySettings

if TYPE_CHECKING:
    from .pipeline import Manifest, build
    from .planning import plan_history

__all__ = ['HistorySettings', 'Manifest', 'build', 'plan_history']


def __getattr__(name: str):
    "What trains, on first use."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import pipeline, planning
    return getattr(planning if name == 'plan_history' else pipeline, name)


def __dir__() -> list[str]: return __all__

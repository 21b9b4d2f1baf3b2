"""Your repository becomes your own code assistant, and a page says what it is worth.

    import shutka
    result = shutka.assistant.build('../app')
"""

# Written by hand, like all `__init__.py` of products: settings load in an instant,
# and what trains loads PyTorch only when it is asked for.
from typing import TYPE_CHECKING

from .settings import AssistantSettings

if TYPE_CHECKING: from .building import build, show_assistant

__all__ = ['AssistantSettings', 'build', 'show_assistant']


def __getattr__(name: str):
    "What trains, on first use."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import building
    return getattr(building, name)


def __dir__() -> list[str]: return __all__

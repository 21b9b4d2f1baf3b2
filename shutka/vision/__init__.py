"""Pictures and words: a vision-language JEPA that sees, writes, and notices when it is lost.

    from shutka.vision import VisionSettings, train
    result = train(VisionSettings(source='emoji:', minutes=10))
"""

# Written by hand, like all `__init__.py` of products: settings load in an instant,
# and what trains loads PyTorch only when it is asked for.
from typing import TYPE_CHECKING

from .vision_settings import VisionSettings

if TYPE_CHECKING: from .vision_run import plan_vision, train

__all__ = ['VisionSettings', 'plan_vision', 'train']


def __getattr__(name: str):
    "What trains, on first use."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import vision_run
    return getattr(vision_run, name)


def __dir__() -> list[str]: return __all__

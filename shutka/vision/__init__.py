"""Pictures and words: a vision-language JEPA that sees, writes, and notices when it is lost.

    from shutka.vision import VisionSettings, train
    result = train(VisionSettings(source='emoji:', minutes=10))
    PictureInspector(open_picture_search(result.out), 'a red heart')   # a search box in a notebook
"""

# Written by hand, like all `__init__.py` of products: settings load in an instant,
# and what trains loads PyTorch only when it is asked for.
from typing import TYPE_CHECKING

from .vision_settings import VisionSettings

if TYPE_CHECKING:
    from .vision_run import plan_vision, train
    from .vision_search import PictureInspector, open_picture_search

__all__ = ['VisionSettings', 'PictureInspector', 'open_picture_search', 'plan_vision', 'train']


def __getattr__(name: str):
    "What trains, on first use."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import vision_run, vision_search
    return getattr(vision_run if name in ('plan_vision', 'train') else vision_search, name)


def __dir__() -> list[str]: return __all__

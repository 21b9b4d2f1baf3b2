"""A pretrained model learns your examples: LoRA and QLoRA, examined beside the untouched model, in one bundle.

    from shutka.finetune import FinetuneSettings, train
    result = train(FinetuneSettings(preset='qwen_coder_0_5b', dataset='data.jsonl'))
"""

# Written by hand, like all `__init__.py` of products: settings load in an instant,
# and what trains loads PyTorch only when it is asked for.
from typing import TYPE_CHECKING

from .settings import FinetuneSettings

if TYPE_CHECKING: from .run import plan_finetune, train

__all__ = ['FinetuneSettings', 'plan_finetune', 'train']


def __getattr__(name: str):
    "What trains, on first use."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import run
    return getattr(run, name)


def __dir__() -> list[str]: return __all__

"Your repository becomes your own code assistant, overnight, on free GPUs."

# Written by hand, as the `__init__.py` of each product is. It stays light, so that `import shutka` is instant and
# heavy packages load with what uses them.
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from . import assistant, finetune, history, instructions, typescript
    from .models.opening import Opened
    from .models.text_jepa import TextJEPA

PRODUCTS = ('typescript', 'instructions', 'history', 'finetune', 'assistant')

__all__ = ['load', *PRODUCTS]


def __getattr__(name: str):
    "`shutka.history` and the other products on first use; `shutka.__version__`, asked of the installed package."
    if name in PRODUCTS:
        from importlib import import_module
        return import_module(f'{__name__}.{name}')
    if name != '__version__': raise AttributeError(f"module 'shutka' has no attribute {name!r}")
    from importlib.metadata import version
    return version('shutka')


def __dir__() -> list[str]: return [*__all__, '__version__']


def load(
    path: str | Path,                # a bundle, or the folder of a run, a checkpoint or a text-JEPA
    bank: str | Path | None = None,  # folder of its memory, made if missing; None: a model without memory
) -> TextJEPA | Opened:              # in evaluation mode, on the CPU; of a fine-tune: its `model` and `tokenizer`
    "A verified model, ready to `encode`; its memory, if a folder is given, is `model.predictor.memory_bank`."
    from shutka.export.bundle import load
    return load(path, bank)

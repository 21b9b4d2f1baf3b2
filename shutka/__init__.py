"Train, feed and ship your own code model from a notebook on free GPUs."

# The one module of the library written by hand: it stays light, so that `import shutka` is instant and heavy packages load with what uses them.


def __getattr__(name: str):
    "`shutka.__version__`, asked of the installed package when somebody wants it."
    if name != '__version__': raise AttributeError(f"module 'shutka' has no attribute {name!r}")
    from importlib.metadata import version
    return version('shutka')


def load(path, bank=None):
    "The model of a bundle (a zip, or the folder it was unpacked to), ready to `encode`; with a folder for its memory, if one is given."
    from shutka.export.bundle import load
    return load(path, bank)

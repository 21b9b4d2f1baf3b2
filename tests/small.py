"""A text-JEPA small enough for tests.

As a script this is `python -m shutka.train.run FOLDER WORLD` with that model, a checkpoint after each step, and steps slow enough to be
killed; with SIGTERM_AT set, it tells itself to stop after that step.
"""
import os
import runpy
import signal
import sys
import time

from shutka.models.text_jepa import SIZES, Config

SMALL = Config(rows=1024, width=32, inner=16, source=24, target=48)

if __name__ == '__main__':
    import shutka.train.fit as loop
    fit = loop.fit

    def slowly(*args, **kw):
        for row in fit(*args, save_every=0, **kw):
            if row['step'] == int(os.environ.get('SIGTERM_AT', 0)): os.kill(os.getpid(), signal.SIGTERM)
            yield row
            time.sleep(.02)

    SIZES['tiny'], loop.fit = SMALL, slowly
    sys.argv[0] = 'shutka.train.run'
    runpy.run_module('shutka.train.run', run_name='__main__')

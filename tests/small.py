"""A text-JEPA small enough for tests.

As a script this is `python -m shutka.train.run FOLDER WORLD UNTIL` with that model, a checkpoint after each step, and
steps slow enough to be killed. What may go wrong is ordered by the environment: SIGTERM_AT=4 tells it to stop after
that step; REFUSE=8 is a device of the last rank that does not hold more than so many examples; HANG_AT=5 is a step of
the last rank that never ends, the first time; LATE_AT=12 lets the session's time be over after that step.
"""
import os
import runpy
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from shutka.models.shapes import SIZES, TextJEPAConfig

SMALL = TextJEPAConfig(rows=1024, width=32, inner=16, source=24, target=48)


def change(recipe, **settings):
    "The same recipe with other settings."
    return type(recipe)(replace(recipe.settings, **settings))


def refusing(forward, most):
    "A forward pass that takes no more than some examples."
    import torch

    def refuse(model, words, *more):
        if len(words) > most: raise torch.cuda.OutOfMemoryError('tried to allocate 90 GiB')
        return forward(model, words, *more)
    return refuse


def hanging(loss, words, mark):
    "A loss that never ends for one batch, unless the mark is there."
    def hang(model, given):
        if given['words'].equal(words) and not mark.exists():
            mark.touch()
            time.sleep(1_000)
        return loss(model, given)
    return hang


if __name__ == '__main__':
    import shutka.train.fit as loop
    from shutka.models.text_jepa import TextJEPA
    fit, out = loop.fit, Path(sys.argv[1])
    rank, world = (int(os.environ.get(name, default)) for name, default in (('RANK', 0), ('WORLD_SIZE', 1)))
    last = rank == world - 1
    if last and 'REFUSE' in os.environ: TextJEPA.forward = refusing(TextJEPA.forward, int(os.environ['REFUSE']))

    late, passed = int(os.environ.get('LATE_AT', 0)), 0   # an hour passes after that step

    def slowly(model, phases, folder, session, **hooks):
        global passed
        session = replace(session, save_every=0)
        if at := int(os.environ.get('HANG_AT', 0)):
            session, first = replace(session, stuck_after=1.), phases[0]
            if last:
                words = first.batch(at, rank, world)['words']
                phases = [replace(first, loss=hanging(first.loss, words, out/'hung')), *phases[1:]]
        for row in fit(model, phases, folder, session, clock=lambda: time.monotonic() + passed, **hooks):
            if late and row['step'] >= late: passed = 3_600
            if row['step'] == int(os.environ.get('SIGTERM_AT', 0)): os.kill(os.getpid(), signal.SIGTERM)
            yield row
            time.sleep(.02)

    SIZES['tiny'], loop.fit = SMALL, slowly
    sys.argv[0] = 'shutka.train.run'
    runpy.run_module('shutka.train.run', run_name='__main__')

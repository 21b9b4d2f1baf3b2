"What transformers draws while it reads and writes weights, and what it tells of its future, is shown to nobody."
import os
import subprocess
import sys
from pathlib import Path

from tuning import make_settings

HERE = Path(__file__).parent

CHILD = '''
import shutka.faces.cli
from shutka.faces.shell import run_command
from shutka.finetune import FinetuneSettings, train
from shutka.models.lm_tokenizers import import_transformers
from shutka.serve.seats import open_seat

open_seat('base')                                  # as `shutka serve` does, and the suites
assert not run_command(['export', 'gguf', 'base', '-o', 'model.gguf', '--quant', 'F16'])
settings = FinetuneSettings(preset='base', dataset='data.jsonl', out='run', max_length=128, epochs=1, patience=0)
train(settings, show=lambda rows, over: None)
open_seat('run/shutka-finetune.zip')
import_transformers()
about = {'__name__': 'transformers.somewhere'}     # code that tells of its future
exec("import warnings; warnings.warn('soon gone', FutureWarning)", about)
'''


def test_models_are_read_and_written_without_bars(tmp_path):
    make_settings(tmp_path)
    ran = subprocess.run([sys.executable, '-c', CHILD], cwd=tmp_path, capture_output=True, text=True,
                         env=os.environ | {'PYTHONPATH': f'{HERE}:{HERE.parent}'})
    assert ran.returncode == 0, ran.stderr
    for said in (ran.stderr, (tmp_path/'run'/'train.err').read_text()):
        assert '%|' not in said and 'Warning' not in said, said

"What every test may count on: two threads that sleep when idle, and no GPU test without a GPU."
import os

os.environ.setdefault('OMP_NUM_THREADS', '2')  # before torch is imported; subprocesses inherit it
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import pytest


def pytest_collection_modifyitems(items):
    "Skip what is marked `gpu` where there is none."
    marked = [item for item in items if item.get_closest_marker('gpu')]
    if not marked: return
    import torch
    if torch.cuda.is_available(): return
    for item in marked: item.add_marker(pytest.mark.skip(reason='needs a GPU'))

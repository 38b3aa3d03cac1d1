"""A disk that is full while a checkpoint is written: one clear line, and the run goes on when there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import resource, signal, sys
from pathlib import Path
from fakes import Digits, design
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.results.store import Store, StoreError
from parrotlab.run import Run, execute
from parrotlab.training.devices import device
from parrotlab.training.recipe import Recipe

recipe = Recipe(steps=20, rows=8, learning_rate=1e-2)
judges = (ExactMatch(split="train", count=40),)
run = Run(task=Digits(), model=design(), recipe=recipe, evaluations=judges, seed=0)
store = Store(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit then fails as on a full disk
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
try:
    execute([run], store, device("cpu"), save_seconds=0)
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
print(execute([run], store, device("cpu"))[0].status)
"""


def test_a_checkpoint_that_does_not_fit_is_one_clear_line_and_nothing_is_lost(tmp_path):
    paths = [str(Path(__file__).parents[1]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{SCRIPT}", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    error, status = done.stdout.splitlines()
    assert error.startswith(f"cannot write to {tmp_path}: File too large")
    assert status == "complete"

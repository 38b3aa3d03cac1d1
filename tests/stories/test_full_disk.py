"""A disk that is full while something is written: one clear line, and the work goes on when there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def said(program: str, folder: Path) -> list[str]:
    """The lines that a program prints in a process of its own, for a limit on files binds the whole process."""
    paths = [str(Path(__file__).parents[1]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{program}", folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


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


PREPARATION = """
import resource, signal, sys
from pathlib import Path
from shelves import Shelf, sentences
from parrotlab.text.hub import DataError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
shelf = Shelf(Path(sys.argv[1]))
sources = shelf.write("small", sentences("small", 20)), shelf.write("large", sentences("large", 400))
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
try:
    shelf.prepare(*sources, tokenizer="bytes")
except DataError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
print(*shelf.prepare(*sources, tokenizer="bytes")["parts"])
"""


def test_shards_that_do_not_fit_are_one_clear_line_and_finished_parts_are_kept(tmp_path):
    error, parts = said(PREPARATION, tmp_path)
    assert error.startswith(f"cannot write to {tmp_path}/prepared/small: File too large; finished parts are kept")
    assert parts == "small large"


def test_a_checkpoint_that_does_not_fit_is_one_clear_line_and_nothing_is_lost(tmp_path):
    error, status = said(SCRIPT, tmp_path)
    assert error.startswith(f"cannot write to {tmp_path}: File too large")
    assert status == "complete"

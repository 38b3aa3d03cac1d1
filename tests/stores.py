"""Something to write into a store, and processes of their own that share it."""

import subprocess
import sys
import textwrap

from parrotlab.results.measurement import Measurement
from parrotlab.training.recipe import Recipe

RECIPE = Recipe(steps=10, rows=2, learning_rate=0.001)
COUNTS = {"total_parameters": 100, "active_parameters": 50}
FACTS = {"seconds": 1.5, "device": "cpu", "versions": {"torch": "2.13.0"}}
LOSS = Measurement(evaluation="training", split="train", metric="loss", value=2.5, count=20, step=10)
LOAD = Measurement(evaluation="routing", split="train", metric="load", value=0.5, count=20, step=10, part="layer 1")


def write(store, recipe=RECIPE, status="complete", reason="", measurements=(LOSS, LOAD), files=None):
    return store.write(recipe, status, reason, COUNTS, FACTS, measurements, files)


def python(script, *arguments):
    """A process of its own that runs the script with ``store`` and ``recipe(steps)`` at hand."""
    prologue = """
    import os, signal, sys
    from pathlib import Path
    from parrotlab.results.measurement import Measurement
    from parrotlab.results.store import Busy, Store
    from parrotlab.spec import fingerprint
    from parrotlab.training.recipe import Recipe
    store = Store(Path(sys.argv[1]))
    def recipe(steps):
        return Recipe(steps=steps, rows=2, learning_rate=0.001)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prologue) + textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def visible(store):
    return sorted(path.name for path in store.root.iterdir() if not path.name.startswith("."))

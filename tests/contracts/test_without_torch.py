"""Stored results are read, judged and redrawn where there is no torch."""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib, pkgutil, sys
sys.modules["torch"] = None  # importing it is an error
room = importlib.import_module("parrotlab.{room}")
for module in pkgutil.walk_packages(getattr(room, "__path__", []), room.__name__ + "."):
    importlib.import_module(module.name)
"""


@pytest.mark.parametrize("room", ["spec", "seeds", "results", "analysis", "figures"])
def test_a_room_of_results_does_without_torch(room):
    subprocess.run([sys.executable, "-c", PROGRAM.format(room=room)], check=True)

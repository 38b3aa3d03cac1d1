"""Runs under way, as their checkpoints tell: what a store's workshops hold, read while others work in them.

A checkpoint carries the run's journal, so nothing is written for those who watch; what they see is as old as the
last checkpoint, half a minute at most while a run trains.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from parrotlab.analysis.points import label
from parrotlab.results.store import WORK, Store
from parrotlab.run import CHECKPOINT
from parrotlab.spec import flatten
from parrotlab.training import checkpoint
from parrotlab.training.journal import Journal


@dataclass(frozen=True)
class Underway:
    """One run that is being trained, or was interrupted."""

    fingerprint: str
    title: str
    """The design in words, and the seed."""
    step: int
    steps: int
    losses: tuple[tuple[int, float], ...]
    """Training loss of each window by its last step, nats a token."""


def underway(store: Store) -> list[Underway]:
    """Every run of which there is a checkpoint; those of a stack share one."""
    paths = sorted((store.root / WORK).glob(f"*/{CHECKPOINT}"))
    return [run for path in paths for run in _runs_of(path)]


def begun(store: Store) -> list[list[str]]:
    """The fingerprints of the runs that share a checkpoint, for each checkpoint there is."""
    members = []
    for path in sorted((store.root / WORK).glob(f"*/{CHECKPOINT}")):
        with contextlib.suppress(OSError, ValueError):  # its run has just ended
            members.append(checkpoint.read_notes(path)["members"])
    return members


def _runs_of(path: Path) -> list[Underway]:
    try:
        notes = checkpoint.read_notes(path)
    except (OSError, ValueError):  # its run has just ended
        return []
    journal = Journal.from_notes(notes["journal"])
    return [
        Underway(
            fingerprint=name,
            title=f"{spec['task']['type'].rpartition('.')[2]} {label(flatten(spec))} seed {spec['seed']}",
            step=notes["step"],
            steps=spec["recipe"]["steps"],
            losses=tuple(
                (row.step, row.value) for row in measurements if (row.evaluation, row.metric) == ("training", "loss")
            ),
        )
        for name, spec, measurements in zip(notes["members"], notes.get("specs", []), journal.measurements)
    ]

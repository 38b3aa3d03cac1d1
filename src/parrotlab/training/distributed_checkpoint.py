"""Checkpoints that all processes of a run write together, each its part, while training goes on.

    latest                          the name of the folder to resume from, put in place by a rename
    step-00001200/notes.json        step, seconds and journal
    step-00001200/.metadata         which tensor lies where
    step-00001200/__0_0.distcp      what process 0 wrote

A run resumes on another number of processes, or with its experts shared out otherwise: the tensors are kept as wholes.
The format is torch's own, whose metadata is pickled: read only checkpoints of your own.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from parrotlab.training.processes import Processes, host_group

LATEST, NOTES = "latest", "notes.json"


class DistributedCheckpoint:
    """The checkpoints of one run, named by its fingerprint, in one folder that all processes see."""

    def __init__(self, folder: Path, fingerprint: str, processes: Processes) -> None:
        self.folder, self.fingerprint, self.processes = folder, fingerprint, processes
        self.group = host_group()  # the writing threads' own, beside the training
        self.pending: tuple[Future, str] | None = None

    def read(self, state: dict[str, Tensor]) -> dict[str, Any] | None:
        """Fills the state from the last whole checkpoint and returns its notes; None where there is none."""
        found = self.processes.agree(self._latest)
        if found is None:
            return None
        name, notes = found
        try:
            dcp.load(state, checkpoint_id=self.folder / name, process_group=self.group)
        except (CheckpointException, OSError, RuntimeError) as error:
            raise ValueError(
                f"{self.folder / name} is not a whole checkpoint ({_first_line(error)}): "
                f"delete {self.folder} to train from the start"
            ) from None
        return notes

    def write(self, state: dict[str, Tensor], notes: dict[str, Any]) -> None:
        """Copies the state aside and begins to write it, once the one before is written; OSError if that one failed."""
        self.settle()
        name = f"step-{notes['step']:08d}"
        self.processes.agree(lambda: self._prepare(name, notes))
        self.pending = (dcp.async_save(state, checkpoint_id=self.folder / name, process_group=self.group), name)  # type: ignore[assignment]

    def poll(self) -> None:
        """Makes a checkpoint the one to resume from, once all have written their parts; never waits."""
        if self.pending and self.pending[0].done() and self.pending[0].exception() is None:
            self.settle()

    def settle(self) -> None:
        """Waits until the checkpoint that is being written is the one to resume from."""
        if self.pending is None:
            return
        (written, name), self.pending = self.pending, None
        try:
            written.result()
        except CheckpointException as error:
            raise _cause(error) from None
        if self.processes.is_first:
            self._publish(name)

    def _latest(self) -> tuple[str, dict[str, Any]] | None:
        """The first process's: name and notes of the last whole checkpoint."""
        pointer = self.folder / LATEST
        if not pointer.exists():
            return None
        name = pointer.read_text().strip()
        try:
            notes = json.loads((self.folder / name / NOTES).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.folder / name} is not a whole checkpoint ({_first_line(error)}): "
                f"delete {self.folder} to train from the start"
            ) from None
        if notes["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"the checkpoint {self.folder / name} is of run {notes['fingerprint']}, and this is run "
                f"{self.fingerprint}: give this run another store"
            )
        return name, notes

    def _prepare(self, name: str, notes: dict[str, Any]) -> None:
        """Makes the folder anew: what a killed run left half-written under that name goes."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _write(folder / NOTES, json.dumps(notes | {"fingerprint": self.fingerprint}))

    def _publish(self, name: str) -> None:
        """Points to the new checkpoint, and only then removes the others."""
        _write(self.folder / LATEST, name)
        for folder in self.folder.glob("step-*"):
            if folder.name != name:
                shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """The whole file or, if it cannot be written, the one that was there."""
    fresh = path.with_name(f".{path.name}.new")
    with open(fresh, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _cause(error: CheckpointException) -> OSError:
    """What the disk said to one of the processes, or the first of whatever went wrong."""
    causes = [cause for cause, _ in error.failures.values()]
    failed = next((cause for cause in causes if isinstance(cause, OSError)), None)
    return failed or OSError(errno.EIO, f"a checkpoint could not be written ({_first_line(causes[0])})")


def _first_line(error: BaseException) -> str:
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

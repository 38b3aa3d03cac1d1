"""The journal: what a run's progress says, as measurements, kept in its checkpoints so that no window is lost."""

from __future__ import annotations

import dataclasses

import numpy as np

from parrotlab.results.measurement import Measurement
from parrotlab.training.loop import Progress

LOAD_EVERY = 10  # windows: the load of each expert is the bulk of a run's measurements, and changes slowly


class Journal:
    """The measurements of R replicas, window by window."""

    def __init__(self, replicas: int) -> None:
        self.measurements: list[list[Measurement]] = [[] for _ in range(replicas)]
        self.diverged_at = [0] * replicas
        """The step at which a replica was given up; 0 while it is well."""
        self.windows = 0

    def note(self, progress: Progress) -> None:
        """Writes down a window. Of a diverged replica, nothing more."""
        self.windows += 1
        load_due = self.windows % LOAD_EVERY == 0 or progress.step == progress.steps
        for index, measurements in enumerate(self.measurements):
            if self.diverged_at[index]:
                continue
            if progress.diverged_R[index]:
                self.diverged_at[index] = progress.step
            measurements.extend(_training(progress, index))
            measurements.extend(_routing(progress, index, load_due))

    def reason(self, index: int) -> str:
        """Why a replica failed; empty if it did not."""
        if not self.diverged_at[index]:
            return ""
        loss = next(m.value for m in reversed(self.measurements[index]) if m.metric == "loss")
        return f"diverged at step {self.diverged_at[index]}: loss is {loss:.4g}"

    def notes(self) -> dict[str, object]:
        """The journal as JSON data."""
        rows = [[dataclasses.astuple(m) for m in measurements] for measurements in self.measurements]
        return {"windows": self.windows, "diverged_at": self.diverged_at, "measurements": rows}

    @classmethod
    def from_notes(cls, notes: dict) -> Journal:
        """The journal that ``notes`` wrote."""
        names = [field.name for field in dataclasses.fields(Measurement)]
        journal = cls(len(notes["diverged_at"]))
        journal.windows, journal.diverged_at = notes["windows"], notes["diverged_at"]
        journal.measurements = [
            [Measurement(**dict(zip(names, row))) for row in rows] for rows in notes["measurements"]
        ]
        return journal


def _training(progress: Progress, index: int) -> list[Measurement]:
    values = {"loss": progress.loss_R[index], "gradient_norm": progress.gradient_norm_R[index]}
    return [_row("training", metric, float(value), progress.step) for metric, value in values.items()]


def _routing(progress: Progress, index: int, load_due: bool) -> list[Measurement]:
    """Of each mixture layer: entropy of the load (nats), experts without a token, choices dropped, experts' loads."""
    rows = []
    for layer, choices_E in enumerate(progress.choices_LRE[:, index]):
        load_E = choices_E / max(choices_E.sum(), 1.0)
        chosen = load_E[load_E > 0]
        values = {
            "entropy": -(chosen * np.log(chosen)).sum(),
            "dead": (choices_E == 0).sum(),
            "dropped": progress.dropped_LR[layer, index],
        }
        rows += [
            _row("routing", metric, float(value), progress.step, f"layer {layer}") for metric, value in values.items()
        ]
        if load_due:
            rows += [
                _row("routing", "load", float(share), progress.step, f"layer {layer} expert {expert}")
                for expert, share in enumerate(load_E)
            ]
    return rows


def _row(evaluation: str, metric: str, value: float, step: int, part: str = "") -> Measurement:
    return Measurement(evaluation=evaluation, split="train", metric=metric, value=value, count=1, step=step, part=part)

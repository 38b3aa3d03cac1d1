"""An evaluation on another task than the one trained on: larger graphs, another encoding, another book."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from parrotlab.evals.evaluation import Evaluation, Logits
from parrotlab.results.measurement import Measurement
from parrotlab.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Measures as ``evaluation`` does, on ``task``; the measurements' ``part`` says so."""

    task: Task
    evaluation: Evaluation
    part: str
    """Names the task in results: ``vertices=9``."""

    def measure(self, logits: Logits, task: Task, seed: int, step: int) -> Iterator[Measurement]:
        """The measurements of the evaluation on the other task."""
        if self.task.vocabulary != task.vocabulary:
            raise ValueError(
                f"{self.part}: a model with {task.vocabulary} tokens cannot be asked about {self.task.vocabulary}"
            )
        for measurement in self.evaluation.measure(logits, self.task, seed, step):
            yield dataclasses.replace(measurement, part=self.part)

"""Exact match: every asked token of a row is the model's likeliest.

That is what greedy generation would answer: as long as all tokens so far are right, it has seen the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from parrotlab.evals._batches import readings
from parrotlab.evals.evaluation import Logits
from parrotlab.results.measurement import Measurement
from parrotlab.tasks.task import Split, Task


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """Fraction of rows answered without an error, as ``exact_match / accuracy``."""

    split: Split
    count: int
    """Rows judged, at most."""

    def measure(self, logits: Logits, task: Task, seed: int, step: int) -> Iterator[Measurement]:
        """One measurement."""
        rows = right = 0
        for reading in readings(logits, task, self.split, self.count, seed):
            right += int((reading.right_BT | ~reading.asked_BT).all(dim=-1).sum())
            rows += len(reading.right_BT)
        if rows:
            yield Measurement(
                evaluation="exact_match", split=self.split, metric="accuracy", value=right / rows, count=rows, step=step
            )

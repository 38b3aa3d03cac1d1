"""Bits memorized: how much less surprised a model is by the answers than one who knows only how they are drawn.

bits = Σ over entries of (entropy of the answer - the model's loss on it in bits). One run on a book well above
capacity gives the capacity; no search over book sizes is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from parrotlab.evals._batches import readings
from parrotlab.evals.evaluation import Logits
from parrotlab.results.measurement import Measurement
from parrotlab.tasks.task import Memorable, Split, Task


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits memorized over all entries read (``bits / bits_memorized``), and bits there were (``bits / entropy``)."""

    split: Split
    count: int
    """Entries read, at most."""

    def measure(self, logits: Logits, task: Task, seed: int, step: int) -> Iterator[Measurement]:
        """Two measurements, both sums over ``count`` entries. An entry known worse than by chance counts below 0."""
        if not isinstance(task, Memorable):
            raise ValueError(
                f"{type(task).__name__} has no answer_bits: its answers can be worked out, so none are memorized"
            )
        entropy = float(task.answer_bits(self.split, self.count, seed).sum())
        entries, nats = 0, 0.0
        for reading in readings(logits, task, self.split, self.count, seed):
            entries += len(reading.asked_BT)
            nats += float(reading.loss_BT.sum())
        for metric, value in (("bits_memorized", entropy - nats / math.log(2)), ("entropy", entropy)):
            yield Measurement(evaluation="bits", split=self.split, metric=metric, value=value, count=entries, step=step)

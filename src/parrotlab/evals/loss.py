"""Mean loss on the tokens asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from parrotlab.evals._batches import readings
from parrotlab.evals.evaluation import Logits
from parrotlab.results.measurement import Measurement
from parrotlab.tasks.task import Split, Task


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Nats a token, as ``loss / loss``."""

    split: Split
    count: int
    """Rows read, at most."""

    def measure(self, logits: Logits, task: Task, seed: int, step: int) -> Iterator[Measurement]:
        """One measurement; its count is of tokens."""
        tokens, nats = 0, 0.0
        for reading in readings(logits, task, self.split, self.count, seed):
            tokens += int(reading.asked_BT.sum())
            nats += float(reading.loss_BT.sum())
        if tokens:
            yield Measurement(
                evaluation="loss", split=self.split, metric="loss", value=nats / tokens, count=tokens, step=step
            )

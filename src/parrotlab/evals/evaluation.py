"""The contract of an evaluation: it asks a model for logits and answers with measurements.

An evaluation is a frozen spec in a file of its own. What it is given is a function, not a module, so that an
oracle of ten lines can be judged like a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor

from parrotlab.results.measurement import Measurement
from parrotlab.tasks.task import Task

Logits = Callable[[Tensor], Tensor]
"""[B, T] tokens (int64, on the CPU) -> [B, T, V] float32 logits on any device; position t speaks of token t + 1."""


@runtime_checkable
class Evaluation(Protocol):
    """How a trained model is judged."""

    def measure(self, logits: Logits, task: Task, seed: int, step: int) -> Iterator[Measurement]:
        """Measurements of a model after ``step`` steps of training on the task under this seed."""
        ...

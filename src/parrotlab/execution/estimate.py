"""What a run will cost in seconds, roughly, before it is run."""

from __future__ import annotations

from dataclasses import dataclass

from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.run import Run, costs


@dataclass(frozen=True)
class Speed:
    """How fast a kind of device trains. Small models wait for memory and launches more than for arithmetic."""

    flops_per_second: float
    layers_per_second: float
    """Tokens times layers that pass in a second where arithmetic costs nothing."""
    mixtures_per_second: float
    """The same for layers that route."""


SPEEDS = {"cpu": Speed(3e10, 4e5, 1.3e5), "cuda": Speed(2e14, 8e7, 3e7)}
"""Of one core, and of one H100 that trains a stack: rough, for plans and the order of work. No result reads them."""


def seconds(run: Run, device: str) -> float:
    """Time of the training on one worker, within a small factor."""
    speed, cost = SPEEDS[device.partition(":")[0]], costs(run)
    layers = speed.mixtures_per_second if isinstance(run.model.feedforward, Mixture) else speed.layers_per_second
    return cost["training_flops"] / speed.flops_per_second + cost["training_tokens"] * run.model.layers / layers

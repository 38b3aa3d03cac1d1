"""The recipe: how a model is trained, in numbers that do not depend on the machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

WINDOWS = 100
"""A run reports its losses and routing as means over this many stretches of its steps."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW with warm-up, decay and clipping, on batches of rows."""

    steps: int
    rows: int
    """Rows of a batch."""
    learning_rate: float
    """Peak learning rate."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """After the warm-up: a cosine to ``final``; stable, then a linear decay to it (warmup-stable-decay); or flat."""
    warmup: float = 0.05
    """Fraction of the steps in which the rate grows linearly from 0."""
    decay: float = 0.2
    """Fraction of the steps in which warmup-stable-decay decays."""
    final: float = 0.1
    """The last learning rate over the peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    """On matrices; norms are spared."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    load_balance: float = 0.01
    """Weight of the load-balancing loss (OLMoE, arXiv:2409.02060; the paper's value is unknown)."""
    z_loss: float = 0.001
    """Weight of the router's z-loss (OLMoE; the paper's value is unknown)."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of matrix products, where the device is fast at it; weights and optimizer are float32 always."""
    revision: int = 1
    """Raised when training comes to mean something else, so that old results are not taken for new ones."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rows < 1:
            raise ValueError(f"a recipe needs at least 1 step of 1 row, not steps={self.steps}, rows={self.rows}")
        if not self.learning_rate >= 0:
            raise ValueError(f"learning_rate must be 0 or more, not {self.learning_rate}")
        for name in ("warmup", "decay", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a fraction from 0 to 1, not {getattr(self, name)}")

    def rate(self, step: int) -> float:
        """The learning rate of a step as a fraction of its peak; steps count from 0."""
        warmup = self.warmup * self.steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.schedule == "cosine":
            progress = (step - warmup) / max(1.0, self.steps - warmup)
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "wsd":
            left = (self.steps - step) / max(1.0, self.decay * self.steps)
            return self.final + (1 - self.final) * min(1.0, left)
        return 1.0

    def windows(self) -> list[range]:
        """The steps in stretches of about equal length; the last may be shorter."""
        stride = max(1, math.ceil(self.steps / WINDOWS))
        return [range(start, min(start + stride, self.steps)) for start in range(0, self.steps, stride)]

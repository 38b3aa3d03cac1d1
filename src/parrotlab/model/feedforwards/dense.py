"""The dense feed-forward: every token passes through all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parrotlab.kernels.activation import activate
from parrotlab.model.feedforwards.feedforward import hidden_width


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Two matrices (GELU), or three (SwiGLU)."""

    expansion: float = 1.0
    """Hidden width over the model's width; 1 in the paper."""
    gated: bool = True
    """SwiGLU rather than GELU."""

    def hidden(self, width: int) -> int:
        """F, the hidden width at a model width."""
        return hidden_width(self.expansion, width)

    def build(self, width: int, stack: tuple[int, ...]) -> DenseLayer:
        """The layer of this spec."""
        return DenseLayer(self, width, stack)


class DenseLayer(nn.Module):
    """y = activation(x · up) · down."""

    def __init__(self, design: Dense, width: int, stack: tuple[int, ...]) -> None:
        super().__init__()
        hidden = design.hidden(width)
        self.gated = design.gated
        self.up_DG = nn.Parameter(torch.empty(*stack, width, 2 * hidden if design.gated else hidden))
        self.down_FD = nn.Parameter(torch.empty(*stack, hidden, width))

    def forward(self, x_ND: Tensor, tokens_N: Tensor) -> tuple[Tensor, None]:
        """[*R, N, D] -> [*R, N, D]."""
        return activate(x_ND @ self.up_DG, self.gated) @ self.down_FD, None

"""The contract of a feed-forward: what a token is turned into, and how it was routed.

A feed-forward is a frozen spec in a file of its own. ``build`` makes its layer; the layer returns
(y, routing), where routing is None if every token takes the same path.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

VECTOR = 16
"""Numbers that a CPU adds at once: a softmax of fewer goes down columns, which takes a fifth of the time."""


class Routing(NamedTuple):
    """Where the N tokens of a layer went: A of E experts each. With replicas, every field has a leading R."""

    weights_NA: Tensor
    """What the chosen experts' outputs are multiplied by."""
    experts_NA: Tensor
    """The chosen experts, no expert twice."""
    logits_NE: Tensor
    """The router's, before the softmax; float32."""
    choices_E: Tensor
    """How often each expert was chosen; float32, sums to N·A."""


@runtime_checkable
class Feedforward(Protocol):
    """The part of a block that works on each token alone."""

    def hidden(self, width: int) -> int:
        """F, the hidden width of the layer (of one expert) at a model width."""
        ...

    def build(self, width: int, stack: tuple[int, ...]) -> nn.Module:
        """The layer: ([*R, N, D] inputs, [*R, N] tokens) -> ([*R, N, D] outputs, Routing or None)."""
        ...


def hidden_width(expansion: float, width: int) -> int:
    """F = expansion · width, to the nearest whole number."""
    hidden = round(expansion * width)
    if hidden < 1:
        raise ValueError(f"expansion {expansion} leaves no hidden channel at width {width}")
    return hidden


def probabilities(logits_NE: Tensor) -> Tensor:
    """[*R, N, E] softmax over the experts."""
    if logits_NE.shape[-1] < VECTOR and not logits_NE.is_cuda:
        return logits_NE.mT.softmax(dim=-2).mT
    return logits_NE.softmax(dim=-1)

"""The contract of a router: which experts a token visits, and with what weight.

A router is a frozen spec in a file of its own. Its layer never looks at later tokens, so a model may be
asked token by token; expert-choice routing would.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from parrotlab.kernels import choosing, exact
from parrotlab.model.feedforwards.feedforward import Routing, probabilities


@runtime_checkable
class Router(Protocol):
    """How a mixture chooses."""

    def build(self, width: int, experts: int, active: int, renormalise: bool, stack: tuple[int, ...]) -> nn.Module:
        """The layer: ([*R, N, D] inputs, [*R, N] tokens) -> Routing.

        It may offer ``adjust_(choices_E)``, called after each training step with how often each expert was chosen.
        """
        ...


def scores(x_ND: Tensor, weight_DE: Tensor) -> Tensor:
    """[*R, N, E] logits in float32, whatever the precision around: a rounded logit changes who is chosen."""
    if exact.fused(x_ND, weight_DE):
        return exact.logits(x_ND, weight_DE)
    with torch.autocast(x_ND.device.type, enabled=False):
        return x_ND.float() @ weight_DE.float()


def routed(logits_NE: Tensor, ranked_NE: Tensor, active: int, renormalise: bool) -> Routing:
    """The ``active`` experts that rank highest, weighted by their softmax over all experts."""
    if choosing.fused(logits_NE):
        weights_NA, experts_NA, choices_E = choosing.chosen(logits_NE, ranked_NE, active, renormalise)
        return Routing(weights_NA, experts_NA, logits_NE, choices_E)
    experts_NA = highest(ranked_NE, active)
    weights_NA = probabilities(logits_NE).gather(-1, experts_NA)
    if renormalise:
        weights_NA = weights_NA / weights_NA.sum(dim=-1, keepdim=True)
    return Routing(weights_NA, experts_NA, logits_NE, choices(experts_NA, logits_NE.shape[-1]))


def highest(ranked_NE: Tensor, active: int) -> Tensor:
    """[*R, N, A] the experts that rank highest, the highest first; of equals, the one that comes first.

    One maximum after the other: for a few of a few dozen, a general top-k takes several times as long on a GPU.
    """
    experts = []
    for _ in range(active):
        best_N1 = ranked_NE.argmax(dim=-1, keepdim=True)
        experts.append(best_N1)
        ranked_NE = ranked_NE.scatter(-1, best_N1, -torch.inf)
    return torch.cat(experts, dim=-1)


def choices(experts_NA: Tensor, experts: int) -> Tensor:
    """[*R, E] how often each expert was chosen, exact in float32 below 2^24."""
    flat = experts_NA.flatten(-2)
    counts_E = torch.zeros(*flat.shape[:-1], experts, device=flat.device)
    return counts_E.scatter_add_(-1, flat, torch.ones_like(flat, dtype=counts_E.dtype))

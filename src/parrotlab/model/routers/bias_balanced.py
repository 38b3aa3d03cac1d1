"""Loss-free balancing: a bias on each expert's rank, raised while it is chosen too rarely (arXiv:2408.15664)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parrotlab.model.feedforwards.feedforward import Routing
from parrotlab.model.routers.router import routed, scores


@dataclass(frozen=True, kw_only=True)
class BiasBalanced:
    """Top-k whose ranks, not weights, carry a bias that follows the load. Use with ``load_balance=0``."""

    rate: float = 0.001
    """How far a bias moves in one step (u in the paper, algorithm 1)."""

    def build(
        self, width: int, experts: int, active: int, renormalise: bool, stack: tuple[int, ...]
    ) -> BiasBalancedRouter:
        """The layer of this spec."""
        return BiasBalancedRouter(self, width, experts, active, renormalise, stack)


class BiasBalancedRouter(nn.Module):
    """A linear router with a bias that no gradient reaches."""

    bias_E: Tensor

    def __init__(
        self, design: BiasBalanced, width: int, experts: int, active: int, renormalise: bool, stack: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.rate, self.active, self.renormalise = design.rate, active, renormalise
        self.weight_DE = nn.Parameter(torch.empty(*stack, width, experts))
        self.register_buffer("bias_E", torch.zeros(*stack, experts))

    def forward(self, x_ND: Tensor, tokens_N: Tensor) -> Routing:
        """[*R, N, D] -> Routing. Ranks are probability plus bias; weights are probabilities alone."""
        logits_NE = scores(x_ND, self.weight_DE)
        ranked_NE = logits_NE.detach().softmax(dim=-1) + self.bias_E.unsqueeze(-2)
        return routed(logits_NE, ranked_NE, self.active, self.renormalise)

    @torch.no_grad()
    def adjust_(self, choices_E: Tensor) -> None:
        """Raises the bias of experts chosen less than the mean and lowers the others', by ``rate``."""
        self.bias_E += self.rate * (choices_E.mean(dim=-1, keepdim=True) - choices_E).sign()

"""Token-choice top-k: softmax over all experts, then the k largest (arXiv:1701.06538; Mixtral, arXiv:2401.04088)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parrotlab.model.feedforwards.feedforward import Routing
from parrotlab.model.routers.router import routed, scores


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The paper's router."""

    def build(self, width: int, experts: int, active: int, renormalise: bool, stack: tuple[int, ...]) -> TopKRouter:
        """The layer of this spec."""
        return TopKRouter(width, experts, active, renormalise, stack)


class TopKRouter(nn.Module):
    """A linear map from a token to a logit for each expert."""

    def __init__(self, width: int, experts: int, active: int, renormalise: bool, stack: tuple[int, ...]) -> None:
        super().__init__()
        self.active, self.renormalise = active, renormalise
        self.weight_DE = nn.Parameter(torch.empty(*stack, width, experts))

    def forward(self, x_ND: Tensor, tokens_N: Tensor) -> Routing:
        """[*R, N, D] -> Routing."""
        logits_NE = scores(x_ND, self.weight_DE)
        return routed(logits_NE, logits_NE, self.active, self.renormalise)

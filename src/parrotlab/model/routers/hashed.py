"""Hash routing (arXiv:2106.04426): a fixed function of the token chooses, and nothing is learned. A control."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parrotlab.model.feedforwards.feedforward import Routing
from parrotlab.model.routers.router import choices, highest


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """A token's identity alone decides its experts, in equal shares."""

    def build(self, width: int, experts: int, active: int, renormalise: bool, stack: tuple[int, ...]) -> HashedRouter:
        """The layer of this spec; it has no weights, and its shares always sum to 1."""
        return HashedRouter(experts, active)


class HashedRouter(nn.Module):
    """Each pair (token, expert) has a hash; a token goes where its hash is highest (rendezvous hashing)."""

    def __init__(self, experts: int, active: int) -> None:
        super().__init__()
        self.experts, self.active = experts, active

    def forward(self, x_ND: Tensor, tokens_N: Tensor) -> Routing:
        """[*R, N] tokens -> Routing; logits are all 0, so that the auxiliary losses are constant."""
        expert_E = torch.arange(self.experts, device=tokens_N.device)
        hash_NE = _mix(_mix(tokens_N.long() + 1).unsqueeze(-1) + expert_E).double()
        experts_NA = highest(hash_NE, self.active)
        weights_NA = torch.full(experts_NA.shape, 1 / self.active, device=tokens_N.device)
        logits_NE = torch.zeros(hash_NE.shape, device=tokens_N.device)
        return Routing(weights_NA, experts_NA, logits_NE, choices(experts_NA, self.experts))


def _mix(x: Tensor) -> Tensor:
    """32 well-mixed bits of an integer (the finalizer of MurmurHash3, in int64 so that nothing overflows)."""
    x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
    x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)

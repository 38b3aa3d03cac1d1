"""The mixture of experts: each token passes through the experts that its router chooses, and no token is dropped."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from parrotlab.kernels.experts import expert_outputs
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.feedforward import Routing, hidden_width
from parrotlab.model.routers.router import Router
from parrotlab.model.routers.top_k import TopK

EXPERTS = ("up_EDG", "down_EFD")
"""The matrices that an expert has of its own."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """E experts, of which A serve each token."""

    experts: int
    active: int = 2
    """Experts a token visits; 2 in the paper."""
    expansion: float = 1.0
    """Hidden width of one expert over the model's width; 1 in the paper."""
    gated: bool = True
    """SwiGLU rather than GELU."""
    renormalise: bool = True
    """The chosen experts' weights sum to 1, as in Mixtral; else they are the softmax over all experts, as in OLMoE."""
    shared: int = 0
    """Further experts that serve every token (DeepSeekMoE, arXiv:2401.06066)."""
    router: Router = field(default=TopK())

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.experts:
            raise ValueError(
                f"a token cannot visit {self.active} of {self.experts} experts: ask for 1 to {self.experts}"
            )
        if self.active == 1 and self.renormalise:
            raise ValueError(
                "with active=1 a renormalised weight is always 1, so the router's gradient vanishes: "
                "set renormalise=False or active=2"
            )
        if self.shared < 0:
            raise ValueError(f"shared experts must be 0 or more, not {self.shared}")

    def hidden(self, width: int) -> int:
        """F, the hidden width of one expert at a model width."""
        return hidden_width(self.expansion, width)

    def build(self, width: int, stack: tuple[int, ...]) -> MixtureLayer:
        """The layer of this spec."""
        return MixtureLayer(self, width, stack)


class MixtureLayer(nn.Module):
    """y = Σ_a weight_a · expert_a(x), over the A chosen experts, plus the shared ones."""

    def __init__(self, design: Mixture, width: int, stack: tuple[int, ...]) -> None:
        super().__init__()
        self.design = design
        hidden = design.hidden(width)
        columns = 2 * hidden if design.gated else hidden
        self.router = design.router.build(width, design.experts, design.active, design.renormalise, stack)
        self.up_EDG = nn.Parameter(torch.empty(*stack, design.experts, width, columns))
        self.down_EFD = nn.Parameter(torch.empty(*stack, design.experts, hidden, width))
        self.copies: dict[str, Tensor] = {}
        """By name, what is multiplied in the experts' place, while a trainer keeps it in another precision."""
        self.expert_outputs = expert_outputs
        """How the experts are applied; where processes share them out, another function with the same meaning."""
        if design.shared:
            self.shared = Dense(expansion=design.shared * hidden / width, gated=design.gated).build(width, stack)

    def forward(self, x_ND: Tensor, tokens_N: Tensor) -> tuple[Tensor, Routing]:
        """[*R, N, D] -> [*R, N, D] and where the tokens went."""
        routing = self.router(x_ND, tokens_N)
        y_ND = self.expert_outputs(
            x_ND,
            routing.weights_NA,
            routing.experts_NA,
            routing.choices_E,
            self.copies.get("up_EDG", self.up_EDG),
            self.copies.get("down_EFD", self.down_EFD),
            self.design.gated,
        )
        if self.design.shared:
            y_ND = y_ND + self.shared(x_ND, tokens_N)[0]
        return y_ND, routing

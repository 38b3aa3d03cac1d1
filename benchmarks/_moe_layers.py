"""What ``moe_layer.py`` times: one feed-forward layer each, ours by every path, dense ones, and the peers'."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tables import MIXTRALS
from torch import Tensor, nn

from parrotlab.kernels._choice import PATHS, Path
from parrotlab.kernels.experts import expert_outputs_by, expert_outputs_reference
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.router import choices

ACTIVE = 2


@dataclass(frozen=True)
class Row:
    """A layer: E experts of hidden width F at model width D, of which 2 serve a token."""

    width: int
    hidden: int
    experts: int
    gated: bool


GATED = [
    Row(*sizes, gated=True)
    for sizes in (
        (256, 512, 8), (256, 512, 64), (512, 1024, 64), (1024, 2048, 64), (1024, 4096, 8), (2048, 4096, 64),
    )
]  # fmt: skip
PLAIN = [Row(width, width, experts, gated=False) for width in (256, 512, 1024) for experts in (8, 64)]
SMALL = [Row(64, 64, 32, True), Row(128, 128, 8, True)]
"""As in the studies."""
TINY = [Row(16, 32, 4, True), Row(16, 16, 4, False)]


@dataclass(frozen=True)
class Contender:
    """A layer from tokens to outputs, and the weights that it learns."""

    layer: Callable[[Tensor], Tensor]
    weights: list[Tensor]

    def both(self, x_ND: Tensor, grad_ND: Tensor) -> list[Tensor]:
        """Output and all gradients."""
        y_ND = self.layer(x_ND)
        grad_ND = grad_ND[:, : y_ND.shape[1]].to(y_ND.dtype)
        return [y_ND, *torch.autograd.grad(y_ND, [x_ND, *self.weights], grad_ND)]


def contenders(row: Row, device: str, compiled: Callable) -> dict[str, Callable[[], Contender]]:
    """By name, how each is made. ``compiled`` is torch.compile where it is worth it."""
    mixture = Mixture(experts=row.experts, active=ACTIVE, expansion=row.hidden / row.width, gated=row.gated)
    layer = _filled(mixture.build(row.width, ()), device)
    routed = compiled(_routed(layer))
    made: dict[str, Callable[[], Contender]] = {}
    for path in PATHS:
        made[path] = lambda path=path: _ours(layer, path, compiled)
    made["router alone"] = lambda: Contender(lambda x_ND: routed(x_ND)[0], list(layer.router.parameters()))
    made["sorted, not compiled"] = lambda: _ours(layer, "sorted", _as_it_is)
    dense = _filled(Dense(expansion=ACTIVE * row.hidden / row.width, gated=row.gated).build(row.width, ()), device)
    made["dense"] = lambda: _plain(compiled(dense), dense)
    made["dense, not compiled"] = lambda: _plain(dense, dense)
    if row.gated:
        made |= _peers(row, device, compiled)
    return made


def _peers(row: Row, device: str, compiled: Callable) -> dict[str, Callable[[], Contender]]:
    """Mixtral's layer; all have the same weights, made at the first use."""
    weights = functools.cache(lambda: _filled(_mixtral_block(row, "grouped_mm", device), device).state_dict())
    treated = {
        "transformers grouped_mm": ("grouped_mm", _as_it_is),
        "transformers grouped_mm, compiled": ("grouped_mm", compiled),
        "transformers eager": ("eager", _as_it_is),
    }
    if device == "cuda" and importlib.util.find_spec("liger_kernel"):
        treated["Liger"] = ("liger", _as_it_is)
    assert set(treated) <= set(MIXTRALS)
    return {name: (lambda how=how: _mixtral(row, weights(), *how)) for name, how in treated.items()}


def errors(row: Row, path: Path, tokens: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Relative distance from the plain loop in float32, of the output and of each gradient."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    columns = 2 * row.hidden if row.gated else row.hidden
    leaves = [
        normal(tokens, row.width).to(dtype),
        normal(tokens, ACTIVE).softmax(dim=-1),
        (normal(row.experts, row.width, columns) / row.width**0.5).to(dtype),
        (normal(row.experts, row.hidden, row.width) / row.hidden**0.5).to(dtype),
    ]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    exact = [leaf.detach().float().requires_grad_() for leaf in leaves]
    experts_NA = normal(tokens, row.experts).topk(ACTIVE).indices
    grad_ND = normal(tokens, row.width).to(dtype)

    def routed(x: Tensor, weights: Tensor, up: Tensor, down: Tensor) -> tuple:
        return x, weights, experts_NA, choices(experts_NA, row.experts), up, down, row.gated

    ours, theirs = expert_outputs_by(path, *routed(*leaves)), expert_outputs_reference(*routed(*exact))
    grads = torch.autograd.grad(ours, leaves, grad_ND), torch.autograd.grad(theirs, exact, grad_ND.float())
    names = ("output", "tokens", "weights", "up", "down")
    pairs = zip(names, (ours, *grads[0]), (theirs, *grads[1]))
    return {name: ((mine.float() - other).norm() / other.norm()).item() for name, mine, other in pairs}


def _ours(layer: Any, path: Path, compiled: Callable) -> Contender:
    """The routing and the experts, compiled as one as in a model."""
    routed = _routed(layer)

    def forward(x_ND: Tensor) -> Tensor:
        return expert_outputs_by(path, x_ND, *routed(x_ND), layer.up_EDG, layer.down_EFD, layer.design.gated)

    return Contender(compiled(forward), list(layer.parameters()))


def _routed(layer: Any) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Weights, experts and counts. The logits have no further use: an unused output would have a gradient of zeros."""

    def routed(x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        routing = layer.router(x_ND, x_ND)
        return routing.weights_NA, routing.experts_NA, routing.choices_E

    return routed


def _plain(function: Callable, dense: nn.Module) -> Contender:
    return Contender(lambda x_ND: function(x_ND, x_ND)[0], list(dense.parameters()))


def _mixtral(row: Row, weights: dict[str, Tensor], implementation: str, compiled: Callable) -> Contender:
    """transformers' mixture layer, or with Liger's experts in it. Its eager experts and Liger's ask the host which
    experts were chosen: no graph holds that.
    """
    block = _mixtral_block(row, implementation, "meta")
    block.load_state_dict(weights, assign=True)
    function = compiled(block)

    def forward(x_ND: Tensor) -> Tensor:
        y_1ND = function(x_ND.unsqueeze(0))
        return (y_1ND[0] if isinstance(y_1ND, tuple) else y_1ND).view_as(x_ND)

    return Contender(forward, list(block.parameters()))


def _mixtral_block(row: Row, implementation: str, device: str) -> nn.Module:
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=row.width,
        intermediate_size=row.hidden,
        num_local_experts=row.experts,
        num_experts_per_tok=ACTIVE,
    )
    config._experts_implementation = "eager" if implementation == "liger" else implementation
    with torch.device(device):
        block = MixtralSparseMoeBlock(config)
        if implementation == "liger":
            from liger_kernel.transformers.swiglu import LigerExperts

            block.experts = LigerExperts(config)
    return block


def _as_it_is(function: Callable) -> Callable:
    return function


def _filled(module: nn.Module, device: str) -> Any:
    """Random weights of variance 1 / inputs, in bfloat16 on a GPU."""
    module = module.to(device, torch.bfloat16 if device == "cuda" else torch.float32)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=weight.shape[-2] ** -0.5)
    return module

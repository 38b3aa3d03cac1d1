"""The experts of a mixture by Triton kernels: rows by expert, two products, and activation and weight between them.

The tokens' rows by choice, what goes into the activation and its weighted outcome are kept for the backward. Takes
[*R, N, D] tokens like ``experts.expert_outputs``, whose plain twin is its own. Nothing depends on the order in which
programs finish, and nothing asks the host: a step that runs it can be captured in a CUDA graph.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parrotlab.kernels.expert_products import Call, hidden_backward, hidden_forward, rows_product, weights_product
from parrotlab.kernels.routing import combined, route, spread

ALIGNED = 16
"""Other widths are padded to it. Triton would read them an element at a time, so many addresses at once that ptxas 12.8
took another value's register for a product's operand: an illegal memory access."""


def refusal(x_ND: Tensor, experts: int) -> str:
    """Why the kernels cannot take these tokens; empty if they can."""
    if importlib.util.find_spec("triton") is None:  # CPU builds of torch come without it
        return "triton is not installed"
    if x_ND.dtype not in (torch.bfloat16, torch.float32):
        return f"{x_ND.dtype} is neither bfloat16 nor float32"
    return "" if experts <= 1024 else f"{experts} experts are above 1024"


def fast_expert_outputs(
    x_ND: Tensor, weights_NA: Tensor, experts_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor, gated: bool
) -> Tensor:
    """``experts.expert_outputs`` by the kernels. The matrices are of the tokens' precision."""
    experts, active = up_EDG.shape[-3], experts_NA.shape[-1]
    padded_ND, up_EDG, down_EFD = padded(x_ND, up_EDG, down_EFD)
    y_ND, *_ = _forward(
        padded_ND.flatten(0, -2),
        weights_NA.reshape(-1, active),
        up_EDG.flatten(0, -3),
        down_EFD.flatten(0, -3),
        *route(experts_NA, experts),
        gated,
    )
    return y_ND[:, : x_ND.shape[-1]].reshape(x_ND.shape)


def padded(x_ND: Tensor, up_EDG: Tensor, down_EFD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens and matrices with zeros up to aligned widths: they add nothing, since an activation of zero is zero."""
    hidden, width = down_EFD.shape[-2:]
    spare_D, spare_F = -width % ALIGNED, -hidden % ALIGNED
    if not spare_D and not spare_F:
        return x_ND, up_EDG, down_EFD
    halves_EDHF = up_EDG.unflatten(-1, (-1, hidden))  # of gates and values, or one
    up_EDG = F.pad(halves_EDHF, (0, spare_F, 0, 0, 0, spare_D)).flatten(-2)
    return F.pad(x_ND, (0, spare_D)), up_EDG, F.pad(down_EFD, (0, spare_D, 0, spare_F))


@torch.library.custom_op("parrotlab::experts_forward", mutates_args=())
def _forward(
    x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, gated: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The output, and what is kept: rows by choice, what goes into the activation, what comes out of it, weighted."""
    call = Call.of(weights_NA, up_EDG, down_EFD, order_S, bounds_E, tiles_T3, gated)
    x_SD = spread(x_ND.contiguous(), place_S, weights_NA.shape[1])
    before_SG, hidden_SF = hidden_forward(call, x_SD)
    output_SD = rows_product(call, hidden_SF, call.down_EFD, turned=False)
    return combined(output_SD, place_S, weights_NA.shape[1]), x_SD, before_SG, hidden_SF


@_forward.register_fake
def _kept(
    x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor, order_S: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    columns = (x_ND.shape[1], up_EDG.shape[2], down_EFD.shape[1])
    x_SD, before_SG, hidden_SF = (x_ND.new_empty(order_S.shape[0], width) for width in columns)
    return _like(x_ND), x_SD, before_SG, hidden_SF


@torch.library.custom_op("parrotlab::experts_backward", mutates_args=())
def _backward(
    grad_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor,
    x_SD: Tensor, before_SG: Tensor, hidden_SF: Tensor, gated: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of tokens, weights and both matrices."""
    call = Call.of(weights_NA, up_EDG, down_EFD, order_S, bounds_E, tiles_T3, gated)
    grad_SD = spread(grad_ND.contiguous(), place_S, weights_NA.shape[1])
    grad_down_EFD = weights_product(call, hidden_SF, grad_SD)
    slope_SG, grad_weights_NA = hidden_backward(call, grad_SD, before_SG)
    del grad_SD
    grad_up_EDG = weights_product(call, x_SD, slope_SG)
    grad_x_ND = combined(rows_product(call, slope_SG, call.up_EDG, turned=True), place_S, weights_NA.shape[1])
    return grad_x_ND, grad_weights_NA, grad_up_EDG, grad_down_EFD


@_backward.register_fake
def _gradients(
    grad_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _like(grad_ND), _like(weights_NA), _like(up_EDG), _like(down_EFD)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _remember(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[1:8], *output[1:])
    ctx.gated = inputs[8]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_ND: Tensor, *unused: None) -> tuple[Tensor | None, ...]:
    return *_backward(grad_ND, *ctx.saved_tensors, ctx.gated), *(None,) * 5


_forward.register_autograd(_differentiate, setup_context=_remember)

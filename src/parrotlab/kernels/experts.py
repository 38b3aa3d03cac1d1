"""The experts of a mixture applied to their tokens: the plain loop that is read, and the paths that are run.

All take, with or without a leading replica dimension R,

- x_ND: N tokens; weights_NA, experts_NA: what each token's A choices weigh, and which experts they are;
- choices_E: how often each expert was chosen;
- up_EDG, down_EFD: the experts' matrices; gated: SwiGLU with G = 2F columns up, else GELU with G = F;

and return y_ND = Σ_a weights_NA[:, a] · activate(x · up[expert_a]) · down[expert_a].
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from parrotlab.kernels import _choice
from parrotlab.kernels.activation import activate
from parrotlab.kernels.fast_experts import fast_expert_outputs

BLACKWELL = (10, 0)
"""The first compute capability of that generation."""
ALIGNED_BYTES = 16
"""Of which the rows of a grouped product are multiples; other widths are padded."""
SMALL = 1 << 13
"""Numbers of a matrix up to which a CPU's grouped product in float32 is as fast as a product an expert, or faster."""
GROUPS = 1023
"""The most matrices that torch's grouped product takes at once: experts of all replicas together."""


def expert_outputs_reference(
    x_ND: Tensor,
    weights_NA: Tensor,
    experts_NA: Tensor,
    choices_E: Tensor,
    up_EDG: Tensor,
    down_EFD: Tensor,
    gated: bool,
) -> Tensor:
    """Every expert in turn, on the tokens that chose it. For one replica."""
    y_ND = torch.zeros_like(x_ND)
    # unbind, not up_EDG[e]: the backward of an index fills a gradient of all E experts, E times.
    for expert, (up_DG, down_FD) in enumerate(zip(up_EDG.unbind(0), down_EFD.unbind(0))):
        token, choice = (experts_NA == expert).nonzero(as_tuple=True)
        output = activate(x_ND[token] @ up_DG, gated) @ down_FD
        y_ND = y_ND.index_add(0, token, output * weights_NA[token, choice, None])
    return y_ND


def expert_outputs(
    x_ND: Tensor,
    weights_NA: Tensor,
    experts_NA: Tensor,
    choices_E: Tensor,
    up_EDG: Tensor,
    down_EFD: Tensor,
    gated: bool,
) -> Tensor:
    """The same by the path that is fastest for the device and the shape."""
    x_ND = x_ND.to(product_dtype(x_ND))  # before the gather, which then moves half the bytes
    path = _choice.path(x_ND, up_EDG.shape[-3], down_EFD.shape[-2])
    return expert_outputs_by(path, x_ND, weights_NA, experts_NA, choices_E, up_EDG, down_EFD, gated)


def expert_outputs_by(
    path: _choice.Path,
    x_ND: Tensor,
    weights_NA: Tensor,
    experts_NA: Tensor,
    choices_E: Tensor,
    up_EDG: Tensor,
    down_EFD: Tensor,
    gated: bool,
) -> Tensor:
    """The same by one path."""
    x_ND = x_ND.to(product_dtype(x_ND))
    if path == "sorted":
        return _sorted(x_ND, weights_NA, experts_NA, choices_E, up_EDG, down_EFD, gated)
    up_EDG, down_EFD = up_EDG.to(x_ND.dtype), down_EFD.to(x_ND.dtype)
    return fast_expert_outputs(x_ND, weights_NA, experts_NA, up_EDG, down_EFD, gated)


def _sorted(
    x_ND: Tensor,
    weights_NA: Tensor,
    experts_NA: Tensor,
    choices_E: Tensor,
    up_EDG: Tensor,
    down_EFD: Tensor,
    gated: bool,
) -> Tensor:
    """Choices sorted by expert, so that each expert's tokens lie together, and one grouped product a matrix.

    R replicas of E experts are R·E experts: replica r's choice e becomes expert e + E·r.
    """
    experts, active = up_EDG.shape[-3], experts_NA.shape[-1]
    if x_ND.dim() == 3:
        offsets = experts * torch.arange(x_ND.shape[0], device=x_ND.device)
        experts_NA = (experts_NA + offsets.view(-1, 1, 1)).flatten(0, 1)
    order_S, place_S = by_expert(experts_NA, math.prod(up_EDG.shape[:-2]))
    place_NA = place_S.view(-1, active)

    sorted_SD = Gather.apply(x_ND.reshape(-1, x_ND.shape[-1]), order_S // active, place_NA)
    hidden_SG = grouped_product(sorted_SD, up_EDG, choices_E)
    output_SD = grouped_product(activate(hidden_SG, gated), down_EFD, choices_E)
    y_ND = Combine.apply(output_SD, weights_NA.reshape(-1, active), order_S, place_NA)
    return y_ND.view_as(x_ND)


def grouped_product(x_SD: Tensor, weight_EDF: Tensor, choices_E: Tensor) -> Tensor:
    """[S, F]: the first choices_E[0] rows of x times the first matrix, the next choices_E[1] times the second...

    Rows behind the last group are not computed: in the product and in the gradient of x, they are unwritten memory.
    """
    small = x_SD.dtype == torch.float32 and not x_SD.is_cuda and weight_EDF.shape[-2] * weight_EDF.shape[-1] <= SMALL
    if x_SD.dtype == torch.bfloat16 or small:
        return _grouped_mm(x_SD, weight_EDF, choices_E.flatten().cumsum(0).to(torch.int32))
    sizes = [int(size) for size in choices_E.flatten().tolist()]
    return _LoopedProduct.apply(x_SD, weight_EDF, sizes)


def _grouped_mm(x_SD: Tensor, weight_EDF: Tensor, ends_E: Tensor) -> Tensor:
    """[S, F] by torch's grouped product; group e ends before row ends_E[e]."""
    weight_EDF = weight_EDF.flatten(0, -3).to(x_SD.dtype)
    (inputs, outputs), aligned = weight_EDF.shape[-2:], ALIGNED_BYTES // x_SD.element_size()
    spare_inputs, spare_outputs = -inputs % aligned, -outputs % aligned
    if not spare_inputs and not spare_outputs:  # by nothing, F.pad copies
        return _GroupedProduct.apply(x_SD, weight_EDF, ends_E)
    padded_SF = _GroupedProduct.apply(
        F.pad(x_SD, (0, spare_inputs)), F.pad(weight_EDF, (0, spare_outputs, 0, spare_inputs)), ends_E
    )
    return padded_SF[:, :outputs]


def by_expert(experts_NA: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """[S] the S = N·A choices ordered by expert, equal ones as they came; and each choice's place in that order."""
    order_S = _narrow(experts_NA, experts).flatten().argsort(stable=True)
    place_S = torch.empty_like(order_S).scatter_(0, order_S, torch.arange(len(order_S), device=order_S.device))
    return order_S, place_S


def _narrow(experts_NA: Tensor, experts: int) -> Tensor:
    """The same numbers in as few bytes as hold them: a radix sort passes over every byte of its keys."""
    if experts < 1 << 8:
        return experts_NA.to(torch.uint8)
    return experts_NA.to(torch.int16) if experts < 1 << 15 else experts_NA


def product_dtype(x: Tensor) -> torch.dtype:
    """What autocast would make of a product's operands; it does not know grouped products."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class _GroupedProduct(torch.autograd.Function):
    """torch's grouped product. On Blackwell GPUs its gradient of a matrix that no row met is whatever a sum held before
    (cutlass #2674), and is zeroed here; on an H100 it is zero.
    """

    @staticmethod
    def forward(ctx, x_SD: Tensor, weight_EDF: Tensor, ends_E: Tensor) -> Tensor:
        ctx.save_for_backward(x_SD, weight_EDF, ends_E)
        return F.grouped_mm(x_SD, weight_EDF, offs=ends_E)

    @staticmethod
    def backward(ctx, grad_SF: Tensor) -> tuple[Tensor, Tensor, None]:
        x_SD, weight_EDF, ends_E = ctx.saved_tensors
        grad_SF = grad_SF.contiguous()
        grad_x_SD = F.grouped_mm(grad_SF, weight_EDF.mT, offs=ends_E)
        grad_weight_EDF = F.grouped_mm(x_SD.mT, grad_SF, offs=ends_E)
        if grad_SF.is_cuda and torch.cuda.get_device_capability() >= BLACKWELL:
            visited_E11 = (torch.diff(ends_E, prepend=ends_E.new_zeros(1)) > 0).view(-1, 1, 1)
            grad_weight_EDF = torch.where(visited_E11, grad_weight_EDF, 0.0)
        return grad_x_SD, grad_weight_EDF, None


class _LoopedProduct(torch.autograd.Function):
    """A product a group. By hand, because autograd through split, unbind and cat costs more than the products."""

    @staticmethod
    def forward(ctx, x_SD: Tensor, weight_EDF: Tensor, sizes: list[int]) -> Tensor:
        ctx.save_for_backward(x_SD, weight_EDF)
        ctx.sizes = sizes = [*sizes, len(x_SD) - sum(sizes)]  # the last of no matrix
        y_SF = x_SD.new_empty(len(x_SD), weight_EDF.shape[-1])
        for x, weight, y in zip(x_SD.split(sizes), weight_EDF.flatten(0, -3), y_SF.split(sizes)):
            torch.mm(x, weight, out=y)
        return y_SF

    @staticmethod
    def backward(ctx, grad_SF: Tensor) -> tuple[Tensor, Tensor, None]:
        x_SD, weight_EDF = ctx.saved_tensors
        grad_x_SD, grad_weight_EDF = torch.empty_like(x_SD), torch.empty_like(weight_EDF)
        groups = (x_SD.split(ctx.sizes), grad_SF.split(ctx.sizes), grad_x_SD.split(ctx.sizes))
        for x, grad, grad_x, weight, grad_weight in zip(
            *groups, weight_EDF.flatten(0, -3), grad_weight_EDF.flatten(0, -3)
        ):
            torch.mm(grad, weight.T, out=grad_x)
            torch.mm(x.T, grad, out=grad_weight)  # of no rows: zeros
        return grad_x_SD, grad_weight_EDF, None


class Gather(torch.autograd.Function):
    """x[token_S]; backward gathers too, since each token's choices are known: no scattered additions."""

    @staticmethod
    def forward(ctx, x_ND: Tensor, token_S: Tensor, place_NA: Tensor) -> Tensor:
        ctx.save_for_backward(place_NA)
        return x_ND.index_select(0, token_S)

    @staticmethod
    def backward(ctx, grad_SD: Tensor) -> tuple[Tensor, None, None]:
        (place_NA,) = ctx.saved_tensors
        return _at(grad_SD, place_NA).sum(dim=1), None, None


class Combine(torch.autograd.Function):
    """y_n = Σ_a weight[n, a] · output[place[n, a]]."""

    @staticmethod
    def forward(ctx, output_SD: Tensor, weights_NA: Tensor, order_S: Tensor, place_NA: Tensor) -> Tensor:
        ctx.save_for_backward(output_SD, weights_NA, order_S, place_NA)
        return (_at(output_SD, place_NA) * weights_NA.unsqueeze(-1).to(output_SD.dtype)).sum(dim=1)

    @staticmethod
    def backward(ctx, grad_ND: Tensor) -> tuple[Tensor, Tensor, None, None]:
        output_SD, weights_NA, order_S, place_NA = ctx.saved_tensors
        spread_SD = grad_ND.index_select(0, order_S // weights_NA.shape[1])
        weight_S = weights_NA.flatten().index_select(0, order_S).to(grad_ND.dtype)
        grad_weight_NA = _at((output_SD * spread_SD).sum(dim=-1), place_NA)
        return spread_SD * weight_S.unsqueeze(-1), grad_weight_NA.to(weights_NA.dtype), None, None


def _at(x_SD: Tensor, place_NA: Tensor) -> Tensor:
    """x[place]; a general index takes several times as long on a CPU."""
    return x_SD.index_select(0, place_NA.flatten()).unflatten(0, place_NA.shape)

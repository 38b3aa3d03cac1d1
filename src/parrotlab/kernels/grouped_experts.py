"""The experts of a mixture by Triton kernels: products of rows that lie by expert, activation and weight fused in.

Takes [*R, N, D] tokens like ``experts.expert_outputs``, whose plain twin is its own. Nothing depends on the order in
which programs finish, and nothing asks the host: a step that runs it can be captured in a CUDA graph. It is two
operations, tokens to hidden layer and hidden layer to outputs: what one keeps is free before the other's backward.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parrotlab.kernels import _tiles
from parrotlab.kernels.fast_experts import padded
from parrotlab.kernels.parts import added
from parrotlab.kernels.routing import TILE, combined, route, spread

_triton: Any = None  # CPU builds of torch come without it
_hopper: Any = None
_hopper_weights: Any = None
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _grouped_triton as _triton
    from parrotlab.kernels import _hopper_gluon as _hopper
    from parrotlab.kernels import _hopper_weights_gluon as _hopper_weights


def grouped_expert_outputs(
    x_ND: Tensor, weights_NA: Tensor, experts_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor, gated: bool
) -> Tensor:
    """``experts.expert_outputs`` by the kernels. The matrices are of the tokens' precision."""
    experts, active = up_EDG.shape[-3], experts_NA.shape[-1]
    padded_ND, up_EDG, down_EFD = padded(x_ND, up_EDG, down_EFD)
    routed = route(experts_NA, experts)
    weights_NA = weights_NA.reshape(-1, active)
    before_SG, hidden_SF, _ = _up(padded_ND.flatten(0, -2), weights_NA.detach(), up_EDG.flatten(0, -3), *routed, gated)
    y_ND = _down(before_SG, hidden_SF, weights_NA, down_EFD.flatten(0, -3), *routed, gated)
    return y_ND[:, : x_ND.shape[-1]].reshape(x_ND.shape)


@torch.library.custom_op("parrotlab::experts_up", mutates_args=())
def _up(
    x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, gated: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """What goes into the activation; and, without gradients, its weighted outcome and the tokens' rows by choice."""
    before_SG, hidden_SF, _ = _hidden(x_ND, weights_NA, up_EDG, order_S, place_S, bounds_E, tiles_T3, gated)
    width, hidden, active = x_ND.shape[1], hidden_SF.shape[1], weights_NA.shape[1]
    x_SD, up_EDG = spread(x_ND.contiguous(), order_S, active), up_EDG.contiguous()
    launch = _Launch.of("hidden_forward", x_SD, gated, hidden, width)
    M, N, K, *_ = launch.cut
    launch(
        launch.blocks(x_SD, M, K), launch.blocks(up_EDG, K, N), weights_NA.contiguous(), order_S, tiles_T3,
        before_SG, hidden_SF, len(tiles_T3), width, hidden, GATED=gated, TILE=TILE,
    )  # fmt: skip
    return before_SG, hidden_SF, x_SD


@_up.register_fake
def _hidden(
    x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, gated: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    choices, columns = order_S.shape[0], up_EDG.shape[2]
    sizes = (columns, columns // 2 if gated else columns, x_ND.shape[1])
    before_SG, hidden_SF, x_SD = (x_ND.new_empty(choices, size) for size in sizes)
    return before_SG, hidden_SF, x_SD


@torch.library.custom_op("parrotlab::experts_up_backward", mutates_args=())
def _up_backward(
    slope_SG: Tensor, x_SD: Tensor, up_EDG: Tensor,
    place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, active: int, gated: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of tokens and matrices."""
    slope_SG, up_EDG = slope_SG.contiguous(), up_EDG.contiguous()
    grad_x_ND = combined(_rows_product(slope_SG, up_EDG, True, tiles_T3, gated), place_S, active)
    return grad_x_ND, _weights_product(x_SD, slope_SG, bounds_E, gated)


@_up_backward.register_fake
def _up_gradients(
    slope_SG: Tensor, x_SD: Tensor, up_EDG: Tensor,
    place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, active: int, gated: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return x_SD.new_empty(x_SD.shape[0] // active, x_SD.shape[1]), _like(up_EDG)


@torch.library.custom_op("parrotlab::experts_down", mutates_args=())
def _down(
    before_SG: Tensor, hidden_SF: Tensor, weights_NA: Tensor, down_EFD: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, gated: bool,
) -> Tensor:  # fmt: skip
    """The tokens' outputs: as a function of what goes into the activation, of weights and matrices."""
    output_SD = _rows_product(hidden_SF, down_EFD.contiguous(), False, tiles_T3, gated)
    return combined(output_SD, place_S, weights_NA.shape[1])


@_down.register_fake
def _outputs(before_SG: Tensor, hidden_SF: Tensor, weights_NA: Tensor, down_EFD: Tensor, *rest: object) -> Tensor:
    return hidden_SF.new_empty(weights_NA.shape[0], down_EFD.shape[2])


@torch.library.custom_op("parrotlab::experts_down_backward", mutates_args=())
def _down_backward(
    grad_ND: Tensor, before_SG: Tensor, hidden_SF: Tensor, weights_NA: Tensor, down_EFD: Tensor,
    order_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, gated: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of what goes into the activation, of weights and matrices."""
    (choices, hidden), active = hidden_SF.shape, weights_NA.shape[1]
    grad_SD, down_EFD, width = spread(grad_ND.contiguous(), order_S, active), down_EFD.contiguous(), grad_ND.shape[1]
    launch = _Launch.of("hidden_backward", grad_SD, gated, hidden, width)
    M, N, K, *_ = launch.cut
    slope_SG = torch.empty_like(before_SG)
    grad_weight_CS = torch.empty(-(-hidden // N), choices, device=grad_ND.device)
    launch(
        launch.blocks(grad_SD, M, K), launch.blocks(down_EFD, N, K), weights_NA.contiguous(), order_S, tiles_T3,
        before_SG, slope_SG, grad_weight_CS, len(tiles_T3), width, hidden, choices, GATED=gated, TILE=TILE,
    )  # fmt: skip
    grad_weights_NA = added(grad_weight_CS, weights_NA.dtype).view(-1, active)
    return slope_SG, grad_weights_NA, _weights_product(hidden_SF, grad_SD, bounds_E, gated)


@_down_backward.register_fake
def _down_gradients(
    grad_ND: Tensor, before_SG: Tensor, hidden_SF: Tensor, weights_NA: Tensor, down_EFD: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(before_SG), _like(weights_NA), _like(down_EFD)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _remember_up(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, weights_NA, up_EDG, _, place_S, bounds_E, tiles_T3, ctx.gated = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(output[2], up_EDG, place_S, bounds_E, tiles_T3)
    ctx.active = weights_NA.shape[1]
    ctx.set_materialize_grads(False)


def _differentiate_up(ctx: Any, slope_SG: Tensor | None, *unused: None) -> tuple[Tensor | None, ...]:
    if slope_SG is None:
        return (None,) * 8
    grad_x_ND, grad_up_EDG = _up_backward(slope_SG, *ctx.saved_tensors, ctx.active, ctx.gated)
    return grad_x_ND, None, grad_up_EDG, *(None,) * 5


def _remember_down(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *kept, order_S, _, bounds_E, tiles_T3, ctx.gated = inputs
    ctx.save_for_backward(*kept, order_S, bounds_E, tiles_T3)


def _differentiate_down(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
    slope_SG, grad_weights_NA, grad_down_EFD = _down_backward(grad_ND, *ctx.saved_tensors, ctx.gated)
    return slope_SG, None, grad_weights_NA, grad_down_EFD, *(None,) * 5


_up.register_autograd(_differentiate_up, setup_context=_remember_up)
_down.register_autograd(_differentiate_down, setup_context=_remember_down)


class _Launch(NamedTuple):
    """One kernel for these operands: how it is cut, and whether it is Hopper's own."""

    kernel: str
    cut: _tiles.Tiles
    hopper: bool
    programs: int

    @classmethod
    def of(cls, kernel: str, operand: Tensor, gated: bool, columns: int, depth: int) -> _Launch:
        """For so many columns of the result, and so deep a product."""
        fast = operand.dtype == torch.bfloat16
        hopper = operand.is_cuda and fast and torch.cuda.get_device_capability(operand.device)[0] == 9
        cut = _tiles.grouped(kernel, gated, fast, hopper)
        least = 64 if hopper else 16  # of what a descriptor's block may hold for tensor cores to read it
        cut = cut._replace(
            N=min(cut.N, max(least, _tiles.lanes(columns))), K=min(cut.K, max(least, _tiles.lanes(depth)))
        )
        programs = torch.cuda.get_device_properties(operand.device).multi_processor_count if operand.is_cuda else 3
        if hopper and cut.warps == 4:  # two share a processor: one multiplies while the other writes
            programs *= 2
        return cls(kernel, cut, hopper, programs)

    def blocks(self, tensor: Tensor, rows: int, columns: int) -> Any:
        """A descriptor through which blocks of a matrix are read; of experts' matrices, one below the other."""
        return (_hopper if self.hopper else _triton).blocks(tensor.flatten(0, -2), [rows, columns])

    def __call__(self, *operands: Any, **constants: Any) -> None:
        """One program a processor; in Triton's interpreter a few."""
        constants |= {"M": self.cut.M, "N": self.cut.N, "K": self.cut.K, "num_warps": self.cut.warps}
        if self.hopper:
            constants |= {"STAGES": self.cut.stages, "maxnreg": _hopper.REGISTERS[self.cut.warps]}
            constants["LINES"] = _hopper.lines(self.cut.M, self.cut.N, self.cut.warps)
            module = _hopper_weights if self.kernel == "weights_product" else _hopper
        else:
            constants |= {"num_stages": self.cut.stages}
            module = _triton
        getattr(module, self.kernel)[self.programs,](*operands, **constants)


def _rows_product(left_SK: Tensor, right_EKN: Tensor, turned: bool, tiles_T3: Tensor, gated: bool) -> Tensor:
    """[S, N] each row times its expert's matrix, or TURNED its transpose."""
    depth, columns = right_EKN.shape[:0:-1] if turned else right_EKN.shape[1:]
    out_SN = left_SK.new_empty(left_SK.shape[0], columns)
    launch = _Launch.of("rows_product", left_SK, gated, columns, depth)
    M, N, K, *_ = launch.cut
    right = launch.blocks(right_EKN, N, K) if turned else launch.blocks(right_EKN, K, N)
    launch(
        launch.blocks(left_SK, M, K), right, tiles_T3, out_SN, len(tiles_T3), depth, columns,
        TURNED=turned, TILE=TILE,
    )  # fmt: skip
    return out_SN


def _weights_product(left_SP: Tensor, right_SQ: Tensor, bounds_E: Tensor, gated: bool) -> Tensor:
    """[E, P, Q] leftᵀ · right of each expert's rows; in parts, which are added in order, where tiles are too few."""
    (choices, rows), columns, experts = left_SP.shape, right_SQ.shape[1], bounds_E.shape[0] - 1
    launch = _Launch.of("weights_product", left_SP, gated, columns, choices)
    M, N, K, *_ = launch.cut
    parts = min(8, max(1, launch.programs // (experts * -(-rows // M) * -(-columns // N))))
    out_CEPQ = left_SP.new_empty(parts, experts, rows, columns, dtype=torch.float32 if parts > 1 else left_SP.dtype)
    launch(
        launch.blocks(left_SP, K, M), launch.blocks(right_SQ, K, N), bounds_E, out_CEPQ, experts, parts, rows, columns
    )
    return added(out_CEPQ, left_SP.dtype)

"""The experts of a mixture by Triton kernels, with gather, activation and routing weight fused into the products.

A ``Way`` says what is written to memory between the products, and what the backward computes again instead. All take
[*R, N, D] tokens like ``experts.expert_outputs``, whose plain twin is theirs. Nothing depends on the order in which
programs finish, and nothing asks the host: a step that runs them can be captured in a CUDA graph.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from parrotlab.kernels import _tiles
from parrotlab.kernels.routing import TILE, combined, route

_tiled: Any = None  # CPU builds of torch come without Triton
_fused: Any = None
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _fused_triton as _fused
    from parrotlab.kernels import _tiled_triton as _tiled

Way = Literal["saved", "recomputed", "half_fused", "fused"]
"""saved: what goes into the activation is kept for the backward. recomputed: the backward computes it again.
half_fused: the forward makes both products in one kernel and keeps nothing. fused: the backward too, but for the
matrices' gradients."""
WAYS: tuple[Way, ...] = get_args(Way)
FUSED_WIDTH = 256
"""Up to this width a program holds whole rows of tokens and outputs."""
ALIGNED = 16
"""Other widths are padded to it. Triton would read them an element at a time, so many addresses at once that ptxas 12.8
took another value's register for a product's operand: an illegal memory access."""


def takes(way: Way, x_ND: Tensor, experts: int) -> str:
    """Why the kernels cannot take these tokens that way; empty if they can."""
    if _tiled is None:
        return "triton is not installed"
    if x_ND.dtype not in (torch.bfloat16, torch.float32):
        return f"{x_ND.dtype} is neither bfloat16 nor float32"
    if "fused" in way and x_ND.shape[-1] > FUSED_WIDTH:
        return f"a width of {x_ND.shape[-1]} is above {FUSED_WIDTH}"
    return "" if experts <= 1024 else f"{experts} experts are above 1024"


def fast_expert_outputs(
    x_ND: Tensor,
    weights_NA: Tensor,
    experts_NA: Tensor,
    up_EDG: Tensor,
    down_EFD: Tensor,
    gated: bool,
    way: Way,
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
        way,
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


class _Call(NamedTuple):
    """One call's tensors and sizes, and how kernels are launched on them."""

    x_ND: Tensor
    weights_NA: Tensor
    up_EDG: Tensor
    down_EFD: Tensor
    order_S: Tensor
    place_S: Tensor
    bounds_E: Tensor
    tiles_T3: Tensor
    gated: bool

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Width, hidden width, columns of the first product, active experts, choices."""
        hidden, width = self.down_EFD.shape[1:]
        return width, hidden, self.up_EDG.shape[-1], self.weights_NA.shape[1], self.order_S.shape[0]

    @property
    def where(self) -> tuple[Tensor, Tensor]:
        """What tells a program its expert and rows."""
        return self.bounds_E, self.tiles_T3

    def cut(self, kernel: str, columns: int, depth: int) -> _tiles.Tiles:
        """How a kernel is cut for these tokens."""
        cut = _tiles.tiles(kernel, self.x_ND.shape[1], self.gated, self.x_ND.dtype == torch.bfloat16)
        return cut._replace(N=min(cut.N, _tiles.lanes(columns)), K=min(cut.K, _tiles.lanes(depth)))

    def rows_by(self, columns: int, cut: _tiles.Tiles) -> tuple[int, int]:
        """The grid of tiles of columns, and tiles of rows."""
        return -(-columns // cut.N), self.tiles_T3.shape[0] * (TILE // cut.M)

    def empty(self, columns: int) -> Tensor:
        """[S, columns] of the tokens' precision."""
        return self.x_ND.new_empty(self.order_S.shape[0], columns)


@torch.library.custom_op("parrotlab::experts_forward", mutates_args=())
def _forward(
    x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor,
    gated: bool, way: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The output, and what the way keeps: what goes into the activation, and what comes out of it, weighted."""
    x_ND, weights_NA, up_EDG, down_EFD = _contiguous(x_ND, weights_NA, up_EDG, down_EFD)
    call = _Call(x_ND, weights_NA, up_EDG, down_EFD, order_S, place_S, bounds_E, tiles_T3, gated)
    active = weights_NA.shape[1]
    _, before_SG, hidden_SF = _kept(
        x_ND, weights_NA, up_EDG, down_EFD, order_S, place_S, bounds_E, tiles_T3, gated, way
    )
    if "fused" in way:
        return combined(_fused_forward(call), place_S, active), before_SG, hidden_SF
    _hidden_forward(call, before_SG, hidden_SF)
    return combined(_rows_product(call, hidden_SF, down_EFD, False), place_S, active), before_SG, hidden_SF


@_forward.register_fake
def _kept(
    x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor,
    gated: bool, way: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    choices = order_S.shape[0]
    before_SG = x_ND.new_empty(choices if way == "saved" else 0, up_EDG.shape[-1])
    hidden_SF = x_ND.new_empty(0 if "fused" in way else choices, down_EFD.shape[-2])
    return torch.empty_like(x_ND, memory_format=torch.contiguous_format), before_SG, hidden_SF


@torch.library.custom_op("parrotlab::experts_backward", mutates_args=())
def _backward(
    grad_ND: Tensor, x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor,
    order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor,
    before_SG: Tensor, hidden_SF: Tensor, gated: bool, way: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of tokens, weights and both matrices."""
    x_ND, weights_NA, up_EDG, down_EFD = _contiguous(x_ND, weights_NA, up_EDG, down_EFD)
    call = _Call(x_ND, weights_NA, up_EDG, down_EFD, order_S, place_S, bounds_E, tiles_T3, gated)
    grad_ND = grad_ND.contiguous()
    if way == "fused":
        slope_SG, hidden_SF, grad_x_SD, grad_weights_NA = _fused_backward(call, grad_ND)
    else:
        slope_SG, hidden_SF, grad_weights_NA = _hidden_backward(call, grad_ND, before_SG, hidden_SF)
        grad_x_SD = _rows_product(call, slope_SG, call.up_EDG, True)
    grad_x_ND = combined(grad_x_SD, place_S, weights_NA.shape[1])
    grad_up_EDG = _weights_product(call, call.x_ND, slope_SG, left_gathered=True)
    grad_down_EFD = _weights_product(call, hidden_SF, grad_ND, left_gathered=False)
    return grad_x_ND, grad_weights_NA.to(weights_NA.dtype), grad_up_EDG, grad_down_EFD


@_backward.register_fake
def _gradients(
    grad_ND: Tensor, x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weights, up, down = (
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        for tensor in (x_ND, weights_NA, up_EDG, down_EFD)
    )
    return x, weights, up, down


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in tensors)


def _remember(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:8], *output[1:])
    ctx.gated, ctx.way = inputs[8:]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_ND: Tensor, *unused: None) -> tuple[Tensor | None, ...]:
    return *_backward(grad_ND, *ctx.saved_tensors, ctx.gated, ctx.way), *(None,) * 6


_forward.register_autograd(_differentiate, setup_context=_remember)


def _hidden_forward(call: _Call, before_SG: Tensor, hidden_SF: Tensor) -> None:
    width, hidden, _, active, _ = call.sizes
    cut = call.cut("hidden_forward", hidden, width)
    _tiled.hidden_forward[call.rows_by(hidden, cut)](
        call.x_ND, call.weights_NA, call.order_S, *call.where, call.up_EDG, before_SG, hidden_SF, width, hidden,
        ACTIVE=active, GATED=call.gated, KEEP=len(before_SG) > 0, EVEN_D=width % cut.K == 0, EVEN_F=hidden % cut.N == 0,
        TILE=TILE, M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip


def _rows_product(call: _Call, left_SK: Tensor, right_EKN: Tensor, turned: bool) -> Tensor:
    depth, columns = right_EKN.shape[:0:-1] if turned else right_EKN.shape[1:]
    cut = call.cut("rows_product", columns, depth)
    out_SN = call.empty(columns)
    _tiled.rows_product[call.rows_by(columns, cut)](
        left_SK, *call.where, right_EKN, out_SN, depth, columns,
        TURNED=turned, EVEN_K=depth % cut.K == 0, EVEN_N=columns % cut.N == 0,
        TILE=TILE, M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip
    return out_SN


def _hidden_backward(
    call: _Call, grad_ND: Tensor, before_SG: Tensor, hidden_SF: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Slope before the activation, the weighted activation, and the gradient of the choices' weights."""
    width, hidden, columns, active, choices = call.sizes
    again, keep = len(before_SG) == 0, len(hidden_SF) == 0
    cut = call.cut("hidden_again" if again else "hidden_backward", hidden, width)
    grid = call.rows_by(hidden, cut)
    slope_SG = call.empty(columns)
    if keep:
        hidden_SF = call.empty(hidden)
    grad_weight_CS = torch.empty(grid[0], choices, device=grad_ND.device)
    _tiled.hidden_backward[grid](
        grad_ND, call.x_ND, call.weights_NA, call.order_S, *call.where, call.up_EDG, call.down_EFD, before_SG,
        slope_SG, hidden_SF, grad_weight_CS, width, hidden, choices,
        ACTIVE=active, GATED=call.gated, AGAIN=again, KEEP=keep,
        EVEN_D=width % cut.K == 0, EVEN_F=hidden % cut.N == 0,
        TILE=TILE, M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip
    return slope_SG, hidden_SF, grad_weight_CS.sum(dim=0).view(-1, active)


def _weights_product(call: _Call, left: Tensor, right: Tensor, left_gathered: bool) -> Tensor:
    """[E, P, Q] leftᵀ · right of each expert's rows, where one side is [N, ..] tokens and the other [S, ..] rows."""
    experts, rows, columns, choices = call.up_EDG.shape[0], left.shape[1], right.shape[1], call.order_S.shape[0]
    cut = call.cut("weights_product", columns, choices)
    cut = cut._replace(M=min(cut.M, _tiles.lanes(rows)))
    matrix = -(-rows // cut.M) * -(-columns // cut.N)
    parts = min(8, max(1, _tiles.PROCESSORS // (experts * matrix)))
    out_CEPQ = left.new_empty(parts, experts, rows, columns, dtype=torch.float32 if parts > 1 else left.dtype)
    _tiled.weights_product[matrix, experts, parts](
        left, right, call.order_S, call.bounds_E, out_CEPQ, experts, parts, rows, columns,
        ACTIVE=call.weights_NA.shape[1], LEFT_GATHERED=left_gathered,
        EVEN_P=rows % cut.M == 0, EVEN_Q=columns % cut.N == 0,
        M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip
    return out_CEPQ.sum(dim=0).to(left.dtype) if parts > 1 else out_CEPQ[0]


def _fused_sizes(call: _Call, cut: _tiles.Tiles) -> dict[str, int | bool]:
    width, hidden, _, active, _ = call.sizes
    lanes = _tiles.lanes(width)
    return {
        "ACTIVE": active, "GATED": call.gated, "LANES": lanes, "EVEN_D": width == lanes, "EVEN_F": hidden % cut.N == 0,
        "TILE": TILE, "M": cut.M, "N": cut.N, "num_warps": cut.warps, "num_stages": cut.stages,
    }  # fmt: skip


def _fused_forward(call: _Call) -> Tensor:
    width, hidden, *_ = call.sizes
    cut = call.cut("fused_forward", hidden, width)
    out_SD = call.empty(width)
    _fused.forward[1, call.rows_by(1, cut)[1]](
        call.x_ND, call.weights_NA, call.order_S, *call.where, call.up_EDG, call.down_EFD, out_SD, width, hidden,
        **_fused_sizes(call, cut),
    )  # fmt: skip
    return out_SD


def _fused_backward(call: _Call, grad_ND: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slope before the activation, the weighted activation, the tokens' gradient by choice, the choices' weights'."""
    width, hidden, columns, active, choices = call.sizes
    cut = call.cut("fused_backward", hidden, width)
    slope_SG, hidden_SF, grad_x_SD = call.empty(columns), call.empty(hidden), call.empty(width)
    grad_weight_CS = torch.empty(-(-hidden // cut.N), choices, device=grad_ND.device)
    _fused.backward[1, call.rows_by(1, cut)[1]](
        grad_ND, call.x_ND, call.weights_NA, call.order_S, *call.where, call.up_EDG, call.down_EFD, slope_SG,
        hidden_SF, grad_x_SD, grad_weight_CS, width, hidden, choices, **_fused_sizes(call, cut),
    )  # fmt: skip
    return slope_SG, hidden_SF, grad_x_SD, grad_weight_CS.sum(dim=0).view(-1, active)

"""What a mixture's experts compute, forward and backward: two kinds of products, and the pass between them.

On a Hopper GPU and in bfloat16 products are the kernels of ``_hopper_*_gluon``, which make the pass themselves where
that took less time, else those of ``_tiled_triton``. The rows of S choices lie by expert.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parrotlab.kernels import _tiles
from parrotlab.kernels.parts import added
from parrotlab.kernels.routing import TILE

_tiled: Any = None  # CPU builds of torch come without Triton
_activation: Any = None
_hopper: Any = None
_products: dict[str, Any] = {}
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _activation_triton as _activation
    from parrotlab.kernels import _hopper_gluon as _hopper
    from parrotlab.kernels import _hopper_hidden_gluon, _hopper_rows_gluon, _hopper_weights_gluon
    from parrotlab.kernels import _tiled_triton as _tiled

    _products = {
        "hidden_forward": _hopper_hidden_gluon.hidden_forward,
        "hidden_backward": _hopper_hidden_gluon.hidden_backward,
        "rows_product": _hopper_rows_gluon.rows_product,
        "weights_product": _hopper_weights_gluon.weights_product,
    }


ALIGNED_BYTES = 16
"""Of which a descriptor's address is a multiple."""
PASSED = 1024
"""Numbers of the hidden layer that a program passes over at once."""


class Call(NamedTuple):
    """One layer's tensors and sizes."""

    weights_NA: Tensor
    up_EDG: Tensor
    down_EFD: Tensor
    order_S: Tensor
    bounds_E: Tensor
    tiles_T3: Tensor
    gated: bool
    hopper: bool
    processors: int

    @classmethod
    def of(
        cls, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor,
        order_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, gated: bool,
    ) -> Call:  # fmt: skip
        """With what the device is."""
        hopper, processors = False, 3
        if up_EDG.is_cuda:
            facts = torch.cuda.get_device_properties(up_EDG.device)
            hopper, processors = facts.major == 9 and up_EDG.dtype == torch.bfloat16, facts.multi_processor_count
        return cls(
            weights_NA.contiguous(), up_EDG.contiguous(), down_EFD.contiguous(),
            order_S, bounds_E, tiles_T3, gated, hopper, processors,
        )  # fmt: skip

    def cut(self, kernel: str, columns: int, depth: int) -> _tiles.Tiles:
        """How a kernel is cut for these tokens."""
        width, low_precision = self.down_EFD.shape[2], self.down_EFD.dtype == torch.bfloat16
        cut = _tiles.tiles(kernel, width, low_precision, self.hopper)
        if self.hopper:  # blocks may reach beyond a matrix, and must not be too small for tensor cores to read
            return cut
        return cut._replace(N=min(cut.N, _tiles.lanes(columns)), K=min(cut.K, _tiles.lanes(depth)))

    def rows_by(self, columns: int, cut: _tiles.Tiles) -> tuple[int, int]:
        """The grid of tiles of columns, and tiles of rows."""
        return -(-columns // cut.N), self.tiles_T3.shape[0] * (TILE // cut.M)

    def empty(self, columns: int) -> Tensor:
        """[S, columns] of the matrices' precision."""
        return self.up_EDG.new_empty(self.order_S.shape[0], columns)

    def fuses(self, kernel: str) -> bool:
        """Whether a product and the pass after it are one kernel."""
        width = self.down_EFD.shape[2]
        return self.hopper and (kernel, self.gated) in _tiles.FUSED and width <= _tiles.FUSED_WIDTH

    def launch(self, kernel: str, cut: _tiles.Tiles, columns: int, *operands: Any, **constants: Any) -> None:
        """A Hopper kernel that writes so many columns at once."""
        _products[kernel][cut.programs * self.processors,](
            *operands, **constants, M=cut.M, N=cut.N, K=cut.K, STAGES=cut.stages,
            LINES=_hopper.lines(cut.M, columns, cut.warps),
            num_warps=cut.warps, maxnreg=_hopper.REGISTERS[cut.programs],
        )  # fmt: skip


def hidden_forward(call: Call, x_SD: Tensor) -> tuple[Tensor, Tensor]:
    """[S, G] x · up, and [S, F] weight · activation of it."""
    if not call.fuses("hidden_forward"):
        before_SG = rows_product(call, x_SD, call.up_EDG, turned=False)
        return before_SG, activated(call, before_SG)
    hidden, width = call.down_EFD.shape[1:]
    cut = call.cut("hidden_forward", hidden, width)
    before_SG, hidden_SF = call.empty(call.up_EDG.shape[2]), call.empty(hidden)
    across = cut.N // 2 if call.gated else cut.N  # gates and values of half a tile each
    call.launch(
        "hidden_forward", cut, cut.slice, _blocks(x_SD, cut.M, cut.K), _blocks(call.up_EDG, cut.K, across),
        call.weights_NA, call.order_S, call.tiles_T3, before_SG, hidden_SF, len(call.tiles_T3), width, hidden,
        GATED=call.gated, TILE=TILE, SLICE=_hopper.room([cut.M, cut.slice]), WHOLE=_hopper.room([cut.K, cut.N]),
    )  # fmt: skip
    return before_SG, hidden_SF


def hidden_backward(call: Call, grad_SD: Tensor, before_SG: Tensor) -> tuple[Tensor, Tensor]:
    """[S, G] the slope before the activation, and [N, A] the gradient of the choices' weights, given the output's."""
    if not call.fuses("hidden_backward"):
        return activated_backward(call, rows_product(call, grad_SD, call.down_EFD, turned=True), before_SG)
    hidden, width = call.down_EFD.shape[1:]
    cut = call.cut("hidden_backward", hidden, width)
    slope_SG = torch.empty_like(before_SG)
    grad_weight_CS = torch.empty(-(-hidden // cut.N), len(call.order_S), device=grad_SD.device)
    call.launch(
        "hidden_backward", cut, cut.slice, _blocks(grad_SD, cut.M, cut.K), _blocks(call.down_EFD, cut.N, cut.K),
        call.weights_NA, call.order_S, call.tiles_T3, before_SG, slope_SG, grad_weight_CS, len(call.tiles_T3),
        width, hidden, len(call.order_S), TILE=TILE, SLICE=_hopper.room([cut.M, cut.slice]),
    )  # fmt: skip
    return slope_SG, added(grad_weight_CS, call.weights_NA.dtype).view(call.weights_NA.shape)


def rows_product(call: Call, left_SK: Tensor, right_EKN: Tensor, turned: bool) -> Tensor:
    """[S, N] each row times its expert's matrix, or TURNED its transpose."""
    depth, columns = right_EKN.shape[:0:-1] if turned else right_EKN.shape[1:]
    cut = call.cut("rows_product", columns, depth)
    out_SN = call.empty(columns)
    if call.hopper:
        left = _blocks(left_SK, cut.M, cut.K)
        right = _blocks(right_EKN, cut.N, cut.K) if turned else _blocks(right_EKN, cut.K, cut.N)
        out = _blocks(out_SN, cut.M, cut.N) if cut.holds else left
        call.launch(
            "rows_product", cut, cut.N, left, right, out, call.tiles_T3, out_SN, len(call.tiles_T3), depth, columns,
            TURNED=turned, TILE=TILE, HELD=cut.holds,
        )  # fmt: skip
        return out_SN
    _tiled.rows_product[call.rows_by(columns, cut)](
        left_SK, call.tiles_T3, right_EKN, out_SN, depth, columns,
        TURNED=turned, EVEN_K=depth % cut.K == 0, EVEN_N=columns % cut.N == 0,
        TILE=TILE, M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip
    return out_SN


def activated(call: Call, before_SG: Tensor) -> Tensor:
    """[S, F] weight · activation of the first product's sums."""
    hidden_SF = call.empty(call.down_EFD.shape[1])
    grid, block = _pass(hidden_SF)
    _activation.activate[grid](
        before_SG, call.weights_NA, call.order_S, hidden_SF, *hidden_SF.shape,
        GATED=call.gated, EXACT=before_SG.dtype == torch.float32, **block,
    )  # fmt: skip
    return hidden_SF


def activated_backward(call: Call, grad_SF: Tensor, before_SG: Tensor) -> tuple[Tensor, Tensor]:
    """[S, G] the slope before the activation, and [N, A] the gradient of the choices' weights."""
    slope_SG, grad_weights_NA = torch.empty_like(before_SG), torch.empty_like(call.weights_NA)
    (rows, _), block = _pass(grad_SF)
    _activation.activate_backward[rows,](
        grad_SF, before_SG, call.weights_NA, call.order_S, slope_SG, grad_weights_NA, *grad_SF.shape,
        GATED=call.gated, EXACT=before_SG.dtype == torch.float32, **block,
    )  # fmt: skip
    return slope_SG, grad_weights_NA


def weights_product(call: Call, left_SP: Tensor, right_SQ: Tensor) -> Tensor:
    """[E, P, Q] leftᵀ · right of each expert's rows.

    In parts, which are added up in order, where tiles are too few to fill a GPU.
    """
    experts, rows, columns = call.up_EDG.shape[0], left_SP.shape[1], right_SQ.shape[1]
    cut = call.cut("weights_product", columns, call.order_S.shape[0])
    if not call.hopper:
        cut = cut._replace(M=min(cut.M, _tiles.lanes(rows)))
    elif 2 * experts * cut.cover(rows, columns) <= call.processors:  # rather smaller tiles than more parts
        cut = _tiles.SMALLER
    matrix = cut.cover(rows, columns)
    parts = min(8, max(1, call.processors // (experts * matrix)))
    out_CEPQ = left_SP.new_empty(parts, experts, rows, columns, dtype=torch.float32 if parts > 1 else left_SP.dtype)
    if call.hopper:
        left, right = _blocks(left_SP, cut.K, cut.M), _blocks(right_SQ, cut.K, cut.N)
        held = cut.holds and parts == 1 and rows % cut.M == 0
        out = _blocks(out_CEPQ, cut.M, cut.N) if held else left
        call.launch(
            "weights_product", cut, cut.N, left, right, out, call.bounds_E, out_CEPQ, experts, parts, rows, columns,
            HELD=held,
        )  # fmt: skip
    else:
        _tiled.weights_product[matrix, experts, parts](
            left_SP, right_SQ, call.bounds_E, out_CEPQ, experts, parts, rows, columns,
            EVEN_P=rows % cut.M == 0, EVEN_Q=columns % cut.N == 0,
            M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
        )  # fmt: skip
    return added(out_CEPQ, left_SP.dtype)


def _pass(hidden_SF: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid and the block of a pass over the hidden layer."""
    choices, hidden = hidden_SF.shape
    columns = min(1024, _tiles.lanes(hidden))
    rows = max(1, PASSED // columns)
    return (-(-choices // rows), -(-hidden // columns)), {"ROWS": rows, "COLUMNS": columns}


def _blocks(tensor: Tensor, rows: int, columns: int) -> Any:
    """A descriptor through which blocks of a matrix are read; of experts' matrices, one below the other."""
    if tensor.data_ptr() % ALIGNED_BYTES:  # a part of a larger tensor
        tensor = tensor.clone()
    return _hopper.blocks(tensor.flatten(0, -2), [rows, columns])

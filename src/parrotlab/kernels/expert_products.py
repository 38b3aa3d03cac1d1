"""The four kinds of products that a mixture's experts make, forward and backward, and how their kernels are launched.

On a Hopper GPU and in bfloat16 they are the kernels of ``_hopper_*_gluon``, else those of ``_tiled_triton``. S choices
lie by expert; x, and the output's gradient, lie by token and are read there.
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
_hopper: Any = None
_kernels: dict[str, Any] = {}
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _hopper_gluon as _hopper
    from parrotlab.kernels import _hopper_hidden_gluon, _hopper_rows_gluon, _hopper_weights_gluon
    from parrotlab.kernels import _tiled_triton as _tiled

    _kernels = {
        "hidden_forward": _hopper_hidden_gluon.hidden_forward,
        "hidden_backward": _hopper_hidden_gluon.hidden_backward,
        "rows_product": _hopper_rows_gluon.rows_product,
        "weights_product": _hopper_weights_gluon.weights_product,
    }


class Call(NamedTuple):
    """One layer's tensors and sizes."""

    x_ND: Tensor
    weights_NA: Tensor
    up_EDG: Tensor
    down_EFD: Tensor
    order_S: Tensor
    place_S: Tensor
    bounds_E: Tensor
    tiles_T3: Tensor
    gated: bool
    hopper: bool
    processors: int

    @classmethod
    def of(
        cls, x_ND: Tensor, weights_NA: Tensor, up_EDG: Tensor, down_EFD: Tensor,
        order_S: Tensor, place_S: Tensor, bounds_E: Tensor, tiles_T3: Tensor, gated: bool,
    ) -> Call:  # fmt: skip
        """With what the device is."""
        hopper, processors = False, 3
        if x_ND.is_cuda:
            facts = torch.cuda.get_device_properties(x_ND.device)
            hopper, processors = facts.major == 9 and x_ND.dtype == torch.bfloat16, facts.multi_processor_count
        return cls(
            x_ND.contiguous(), weights_NA.contiguous(), up_EDG.contiguous(), down_EFD.contiguous(),
            order_S, place_S, bounds_E, tiles_T3, gated, hopper, processors,
        )  # fmt: skip

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Width, hidden width, columns of the first product, active experts, choices."""
        hidden, width = self.down_EFD.shape[1:]
        return width, hidden, self.up_EDG.shape[-1], self.weights_NA.shape[1], self.order_S.shape[0]

    def cut(self, kernel: str, columns: int, depth: int) -> _tiles.Tiles:
        """How a kernel is cut for these tokens."""
        width = self.x_ND.shape[1]
        cut = _tiles.tiles(kernel, width, self.gated, self.x_ND.dtype == torch.bfloat16, self.hopper)
        least = 64 if self.hopper else 16  # of what a block in shared memory may hold for tensor cores to read it
        return cut._replace(
            N=min(cut.N, max(least, _tiles.lanes(columns))), K=min(cut.K, max(least, _tiles.lanes(depth)))
        )

    def rows_by(self, columns: int, cut: _tiles.Tiles) -> tuple[int, int]:
        """The grid of tiles of columns, and tiles of rows."""
        return -(-columns // cut.N), self.tiles_T3.shape[0] * (TILE // cut.M)

    def empty(self, columns: int) -> Tensor:
        """[S, columns] of the tokens' precision."""
        return self.x_ND.new_empty(self.order_S.shape[0], columns)

    def programs(self, cut: _tiles.Tiles) -> int:
        """Of a Hopper kernel: one a processor, or two, of which one multiplies while the other writes."""
        return self.processors * (2 if cut.warps == 4 else 1)

    def launch(self, kernel: str, cut: _tiles.Tiles, *operands: Any, **constants: Any) -> None:
        """A Hopper kernel."""
        _kernels[kernel][self.programs(cut),](
            *operands, **constants, M=cut.M, N=cut.N, K=cut.K, STAGES=cut.stages,
            LINES=_hopper.lines(cut.M, cut.N, cut.warps), num_warps=cut.warps, maxnreg=_hopper.REGISTERS[cut.warps],
        )  # fmt: skip


def hidden_forward(call: Call) -> tuple[Tensor, Tensor]:
    """[S, G] x · up, and [S, F] weight · activation of it."""
    width, hidden, columns, active, _ = call.sizes
    cut = call.cut("hidden_forward", hidden, width)
    before_SG, hidden_SF = call.empty(columns), call.empty(hidden)
    if call.hopper:
        call.launch(
            "hidden_forward", cut, call.x_ND, _blocks(call.up_EDG, cut.K, cut.N), call.weights_NA, call.order_S,
            call.tiles_T3, before_SG, hidden_SF, len(call.tiles_T3), width, hidden,
            ACTIVE=active, GATED=call.gated, TILE=TILE, GATHERED=_hopper.room([cut.M, cut.K]),
        )  # fmt: skip
        return before_SG, hidden_SF
    _tiled.hidden_forward[call.rows_by(hidden, cut)](
        call.x_ND, call.weights_NA, call.order_S, call.tiles_T3, call.up_EDG, before_SG, hidden_SF, width, hidden,
        ACTIVE=active, GATED=call.gated, EVEN_D=width % cut.K == 0, EVEN_F=hidden % cut.N == 0,
        TILE=TILE, M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip
    return before_SG, hidden_SF


def rows_product(call: Call, left_SK: Tensor, right_EKN: Tensor, turned: bool) -> Tensor:
    """[S, N] each row times its expert's matrix, or TURNED its transpose."""
    depth, columns = right_EKN.shape[:0:-1] if turned else right_EKN.shape[1:]
    cut = call.cut("rows_product", columns, depth)
    out_SN = call.empty(columns)
    if call.hopper:
        right = _blocks(right_EKN, cut.N, cut.K) if turned else _blocks(right_EKN, cut.K, cut.N)
        call.launch(
            "rows_product", cut, _blocks(left_SK, cut.M, cut.K), right, call.tiles_T3, out_SN, len(call.tiles_T3),
            depth, columns, TURNED=turned, TILE=TILE,
        )  # fmt: skip
        return out_SN
    _tiled.rows_product[call.rows_by(columns, cut)](
        left_SK, call.tiles_T3, right_EKN, out_SN, depth, columns,
        TURNED=turned, EVEN_K=depth % cut.K == 0, EVEN_N=columns % cut.N == 0,
        TILE=TILE, M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip
    return out_SN


def hidden_backward(call: Call, grad_ND: Tensor, before_SG: Tensor) -> tuple[Tensor, Tensor]:
    """[S, G] the slope before the activation, and [N, A] the gradient of the choices' weights."""
    width, hidden, columns, active, choices = call.sizes
    cut = call.cut("hidden_backward", hidden, width)
    slope_SG = call.empty(columns)
    grad_weight_CS = torch.empty(-(-hidden // cut.N), choices, device=grad_ND.device)
    if call.hopper:
        call.launch(
            "hidden_backward", cut, grad_ND, _blocks(call.down_EFD, cut.N, cut.K), call.weights_NA, call.order_S,
            call.tiles_T3, before_SG, slope_SG, grad_weight_CS, len(call.tiles_T3), width, hidden, choices,
            ACTIVE=active, GATED=call.gated, TILE=TILE, GATHERED=_hopper.room([cut.M, cut.K]),
        )  # fmt: skip
    else:
        _tiled.hidden_backward[call.rows_by(hidden, cut)](
            grad_ND, call.weights_NA, call.order_S, call.tiles_T3, call.down_EFD, before_SG, slope_SG, grad_weight_CS,
            width, hidden, choices,
            ACTIVE=active, GATED=call.gated, EVEN_D=width % cut.K == 0, EVEN_F=hidden % cut.N == 0,
            TILE=TILE, M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
        )  # fmt: skip
    return slope_SG, added(grad_weight_CS, call.weights_NA.dtype).view(-1, active)


def weights_product(call: Call, left: Tensor, right: Tensor, left_gathered: bool) -> Tensor:
    """[E, P, Q] leftᵀ · right of each expert's rows, where one side is [N, ..] tokens and the other [S, ..] rows.

    In parts, which are added up in order, where tiles are too few to fill a GPU.
    """
    experts, rows, columns, active = call.up_EDG.shape[0], left.shape[1], right.shape[1], call.weights_NA.shape[1]
    cut = call.cut("weights_product", columns, call.order_S.shape[0])
    if not call.hopper:
        cut = cut._replace(M=min(cut.M, _tiles.lanes(rows)))
    elif not left_gathered:  # 256 scattered columns take longer to gather than to multiply, 128 do not
        cut = _tiles.HOPPER["weights_product", call.gated][1]
    matrix = -(-rows // cut.M) * -(-columns // cut.N)
    parts = min(8, max(1, (call.programs(cut) if call.hopper else _tiles.PROCESSORS) // (experts * matrix)))
    out_CEPQ = left.new_empty(parts, experts, rows, columns, dtype=torch.float32 if parts > 1 else left.dtype)
    if call.hopper:
        scattered, lying, side, other = (left, right, cut.M, cut.N) if left_gathered else (right, left, cut.N, cut.M)
        call.launch(
            "weights_product", cut, scattered, _blocks(lying, cut.K, other), call.order_S, call.bounds_E, out_CEPQ,
            experts, parts, rows, columns,
            ACTIVE=active, LEFT_GATHERED=left_gathered, GATHERED=_hopper.room([cut.K, side]),
        )  # fmt: skip
    else:
        _tiled.weights_product[matrix, experts, parts](
            left, right, call.order_S, call.bounds_E, out_CEPQ, experts, parts, rows, columns,
            ACTIVE=active, LEFT_GATHERED=left_gathered, EVEN_P=rows % cut.M == 0, EVEN_Q=columns % cut.N == 0,
            M=cut.M, N=cut.N, K=cut.K, num_warps=cut.warps, num_stages=cut.stages,
        )  # fmt: skip
    return added(out_CEPQ, left.dtype)


def _blocks(tensor: Tensor, rows: int, columns: int) -> Any:
    """A descriptor through which blocks of a matrix are read; of experts' matrices, one below the other."""
    return _hopper.blocks(tensor.flatten(0, -2), [rows, columns])

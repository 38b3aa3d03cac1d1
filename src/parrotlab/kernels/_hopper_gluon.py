"""The kernels of ``_grouped_triton`` for Hopper GPUs, in Gluon: one warp reads, eight multiply and write.

The reader copies blocks through descriptors (TMA) into a ring of STAGES, waits where the ring is full, and is tiles
ahead while the others write. A stage is ``ready`` when its bytes have arrived and ``empty`` when its products are made.
Both sides count steps over all tiles of a program. Triton 3.6 can divide a loop among warps by itself, but then two
groups of warps get half a tile each while the host's descriptor still fills a whole one: more than there is room for.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from typing import Any

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

load_block = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared  # its name until Triton 3.6
REGISTERS = {8: 168, 4: 128}
"""Of a thread, by multiplying warps, before the reader lends them its own: 65,536 over three groups of four warps; or,
where two programs share a processor, over twice two."""


def blocks(matrix: Any, block: list[int]) -> Any:
    """A descriptor of a bfloat16 matrix, read in such blocks, which shared memory holds as tensor cores want them."""
    return TensorDescriptor.from_tensor(matrix, block, gl.NVMMASharedLayout.get_default_for(block, gl.bfloat16))


def lines(M: int, N: int, warps: int) -> gl.DistributedLinearLayout:
    """Of a tile that four or eight warps hold: 8 columns, 16 bytes, a thread, and 64 bytes of a line four threads.

    Tensor cores leave two columns a thread; to come from there, threads of four exchange registers.
    """
    wide = [[0, 1 << bit] for bit in range(5, N.bit_length() - 1)]
    apart = [[64 << bit, 0] for bit in range(M.bit_length() - 7)]  # rows beyond what four warps multiply at once
    registers, groups = (wide + apart, []) if warps == 4 else (wide + apart[1:], apart[:1])
    return gl.DistributedLinearLayout(
        [[0, 1], [0, 2], [0, 4], [8, 0], *registers],
        [[0, 8], [0, 16], [1, 0], [2, 0], [4, 0]],
        [[16, 0], [32, 0], *groups],
        [],
        [M, N],
    )


@gluon.jit
def write(out_SN, tile_MN, first, end, column, columns, stride, M: gl.constexpr, N: gl.constexpr, LINES: gl.constexpr):
    """A tile into lines of ``stride``, up to the expert's last row and the last column."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
    column_N = column + gl.arange(0, N, gl.SliceLayout(0, LINES))
    inside_MN = (row_M < end)[:, None] & (column_N < columns)[None, :]
    out = out_SN + row_M.to(gl.int64)[:, None] * stride + column_N[None, :]
    gl.store(out, gl.convert_layout(tile_MN.to(out_SN.dtype.element_ty), LINES), mask=inside_MN)


@gluon.jit
def _read_tile(
    out_SN, first, end, column, columns, stride,
    M: gl.constexpr, N: gl.constexpr, LINES: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """What ``write`` wrote, in float32, as tensor cores hold it."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
    column_N = column + gl.arange(0, N, gl.SliceLayout(0, LINES))
    inside_MN = (row_M < end)[:, None] & (column_N < columns)[None, :]
    at_MN = out_SN + row_M.to(gl.int64)[:, None] * stride + column_N[None, :]
    return gl.convert_layout(gl.load(at_MN, mask=inside_MN, other=0.0), LAYOUT).to(gl.float32)


@gluon.jit
def _tile_of(at, total, columns, tiles_T3, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr):
    """Expert, first row, where its rows end, and first column of a tile; the end is 0 if there is no such tile."""
    across = (columns + N - 1) // N
    part: gl.constexpr = TILE // M
    inside = gl.minimum(at, total - 1)
    tile = tiles_T3 + 3 * (inside // across // part)
    first, end = gl.load(tile + 1) + inside // across % part * M, gl.load(tile + 2)
    return gl.maximum(gl.load(tile), 0), first, gl.where((at < total) & (first < end), end, 0), inside % across * N


@gluon.jit
def ring(left, right, STAGES: gl.constexpr):
    """Room for STAGES blocks of either side, and the barriers."""
    left_ring = gl.allocate_shared_memory(left.dtype, [STAGES] + left.block_type.shape, left.layout)  # noqa: RUF005
    right_ring = gl.allocate_shared_memory(right.dtype, [STAGES] + right.block_type.shape, right.layout)  # noqa: RUF005
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(empty.index(stage), count=1)
        mbarrier.init(ready.index(stage), count=1)
    return left_ring, right_ring, empty, ready


@gluon.jit
def _read_rows(
    left, right, left_ring, right_ring, value_ring, empty, ready, tiles_T3, total, columns, depth,
    TURNED: gl.constexpr, GATED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Rows, and blocks of their expert's matrix: GATED two, whose columns are ``columns`` apart."""
    height = columns if TURNED else depth  # of a matrix
    step = 0
    following = _tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        expert, first, end, column = following
        following = _tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        for k in range(0, gl.where(end > 0, depth, 0), K):
            stage = step % STAGES
            mbarrier.wait(empty.index(stage), (step // STAGES & 1) ^ 1)
            bar = ready.index(stage)
            mbarrier.expect(bar, left.block_type.nbytes + right.block_type.nbytes * (2 if GATED else 1))
            load_block(left, [first, k], bar, left_ring.index(stage))
            if TURNED:
                at_right = [expert * height + column, k]
            else:
                at_right = [expert * height + k, column]
            load_block(right, at_right, bar, right_ring.index(stage))
            if GATED:
                at_value = [expert * height + k, columns + column]
                load_block(right, at_value, bar, value_ring.index(stage))
            step += 1


@gluon.jit
def _multiply(
    step, steps, left_ring, right_ring, value_ring, empty, ready,
    TURNED: gl.constexpr, GATED: gl.constexpr, M: gl.constexpr, N: gl.constexpr, STAGES: gl.constexpr,
    LAYOUT: gl.constexpr,
):  # fmt: skip
    """A tile's sums, GATED two, and the step after it; a stage is given back while the next one's products are made."""
    sum_MN = gl.zeros((M, N), gl.float32, LAYOUT)
    value_MN = sum_MN
    for k in range(steps):
        stage = step % STAGES
        mbarrier.wait(ready.index(stage), step // STAGES & 1)
        right = right_ring.index(stage)
        if TURNED:
            right = right.permute((1, 0))
        sum_MN = warpgroup_mma(left_ring.index(stage), right, sum_MN, is_async=True)
        if GATED:
            value_MN = warpgroup_mma(left_ring.index(stage), value_ring.index(stage), value_MN, is_async=True)
            sum_MN, value_MN = warpgroup_mma_wait(2, deps=(sum_MN, value_MN))
        else:
            sum_MN = warpgroup_mma_wait(1, deps=(sum_MN,))
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=k > 0)
        step += 1
    if GATED:
        sum_MN, value_MN = warpgroup_mma_wait(0, deps=(sum_MN, value_MN))
    else:
        sum_MN = warpgroup_mma_wait(0, deps=(sum_MN,))
        value_MN = sum_MN
    mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=steps > 0)
    return sum_MN, value_MN, step


@gluon.jit
def _write_rows(
    left_ring, right_ring, empty, ready, tiles_T3, out_SN, total, depth, columns,
    TURNED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    step = 0
    following = _tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following  # read a tile ahead: the way to memory is as long as a few steps
        following = _tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        steps = gl.where(end > 0, (depth + K - 1) // K, 0)
        out_MN, _, step = _multiply(
            step, steps, left_ring, right_ring, right_ring, empty, ready, TURNED, False, M, N, STAGES, LAYOUT
        )
        write(out_SN, out_MN, first, end, column, columns, columns, M, N, LINES)


@gluon.jit
def _write_hidden(
    left_ring, right_ring, value_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG, hidden_SF,
    total, width, hidden, GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    columns = hidden * 2 if GATED else hidden
    step = 0
    following = _tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following  # read a tile ahead: the way to memory is as long as a few steps
        following = _tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, N)
        steps = gl.where(end > 0, (width + K - 1) // K, 0)
        row_M = first + gl.arange(0, M, gl.SliceLayout(1, LAYOUT))
        choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
        weight_M = gl.load(weights_NA + choice_M).to(gl.float32)
        gate_MN, value_MN, step = _multiply(
            step, steps, left_ring, right_ring, value_ring, empty, ready, False, GATED, M, N, STAGES, LAYOUT
        )
        write(before_SG, gate_MN, first, end, column, hidden, columns, M, N, LINES)
        out_MN = gate_MN * weight_M[:, None]
        if GATED:
            write(before_SG + hidden, value_MN, first, end, column, hidden, columns, M, N, LINES)
            out_MN = out_MN * value_MN / (1.0 + gl.exp(-gate_MN))
        else:
            out_MN = out_MN * 0.5 * (1.0 + gl.erf(gate_MN * 0.7071067811865476))
        write(hidden_SF, out_MN, first, end, column, hidden, hidden, M, N, LINES)


@gluon.jit
def _write_slope(
    left_ring, right_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG, slope_SG, grad_weight_CS,
    total, width, hidden, choices, GATED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    columns = hidden * 2 if GATED else hidden
    step = 0
    following = _tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following  # read a tile ahead: the way to memory is as long as a few steps
        following = _tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, N)
        steps = gl.where(end > 0, (width + K - 1) // K, 0)
        row_M = first + gl.arange(0, M, gl.SliceLayout(1, LAYOUT))
        choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
        weight_M = gl.load(weights_NA + choice_M).to(gl.float32)
        grad_MN, _, step = _multiply(
            step, steps, left_ring, right_ring, right_ring, empty, ready, True, False, M, N, STAGES, LAYOUT
        )
        gate_MN = _read_tile(before_SG, first, end, column, hidden, columns, M, N, LINES, LAYOUT)
        part = grad_weight_CS + (column // N).to(gl.int64) * choices + choice_M
        if GATED:
            value_MN = _read_tile(before_SG + hidden, first, end, column, hidden, columns, M, N, LINES, LAYOUT)
            share_MN = 1.0 / (1.0 + gl.exp(-gate_MN))
            silu_MN = gate_MN * share_MN
            gl.store(part, gl.sum(grad_MN * silu_MN * value_MN, axis=1), mask=row_M < end)
            slope_MN = grad_MN * silu_MN * weight_M[:, None]
            write(slope_SG + hidden, slope_MN, first, end, column, hidden, columns, M, N, LINES)
            slope_MN = grad_MN * value_MN * (share_MN + silu_MN * (1.0 - share_MN))
        else:
            share_MN = 0.5 * (1.0 + gl.erf(gate_MN * 0.7071067811865476))
            gl.store(part, gl.sum(grad_MN * gate_MN * share_MN, axis=1), mask=row_M < end)
            slope_MN = grad_MN * (share_MN + gate_MN * 0.3989422804014327 * gl.exp(-0.5 * gate_MN * gate_MN))
        write(slope_SG, slope_MN * weight_M[:, None], first, end, column, hidden, columns, M, N, LINES)


@gluon.jit
def rows_product(
    left, right, tiles_T3, out_SN, tiles, depth, columns, TURNED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    LINES: gl.constexpr,
):  # fmt: skip
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring, right_ring, empty, ready = ring(left, right, STAGES)
    total = tiles * (TILE // M) * ((columns + N - 1) // N)
    gl.warp_specialize(
        [
            (_write_rows, (
                left_ring, right_ring, empty, ready, tiles_T3, out_SN, total, depth, columns,
                TURNED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_read_rows, (
                left, right, left_ring, right_ring, right_ring, empty, ready, tiles_T3, total, columns, depth,
                TURNED, False, TILE, M, N, K, STAGES,
            )),
        ],
        [1], [24],
    )  # fmt: skip


@gluon.jit
def hidden_forward(
    x, up, weights_NA, order_S, tiles_T3, before_SG, hidden_SF, tiles, width, hidden, GATED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    LINES: gl.constexpr,
):  # fmt: skip
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring, right_ring, empty, ready = ring(x, up, STAGES)
    value_ring = right_ring
    if GATED:
        value_ring = gl.allocate_shared_memory(up.dtype, [STAGES] + up.block_type.shape, up.layout)  # noqa: RUF005
    total = tiles * (TILE // M) * ((hidden + N - 1) // N)
    gl.warp_specialize(
        [
            (_write_hidden, (
                left_ring, right_ring, value_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG,
                hidden_SF, total, width, hidden, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_read_rows, (
                x, up, left_ring, right_ring, value_ring, empty, ready, tiles_T3, total, hidden, width,
                False, GATED, TILE, M, N, K, STAGES,
            )),
        ],
        [1], [24],
    )  # fmt: skip


@gluon.jit
def hidden_backward(
    grad, down, weights_NA, order_S, tiles_T3, before_SG, slope_SG, grad_weight_CS,
    tiles, width, hidden, choices, GATED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    LINES: gl.constexpr,
):  # fmt: skip
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring, right_ring, empty, ready = ring(grad, down, STAGES)
    total = tiles * (TILE // M) * ((hidden + N - 1) // N)
    gl.warp_specialize(
        [
            (_write_slope, (
                left_ring, right_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG, slope_SG,
                grad_weight_CS, total, width, hidden, choices, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_read_rows, (
                grad, down, left_ring, right_ring, right_ring, empty, ready, tiles_T3, total, hidden, width,
                True, False, TILE, M, N, K, STAGES,
            )),
        ],
        [1], [24],
    )  # fmt: skip

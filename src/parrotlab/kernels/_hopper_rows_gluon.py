"""out = left · right[expert] for Hopper GPUs, in Gluon, of rows that lie by expert: see ``_hopper_gluon``."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import tma

from parrotlab.kernels._hopper_gluon import READER, barriers, leave, multiply, read_rows, tile_of, write


@gluon.jit
def _write(
    left_ring, right_ring, held, out, empty, ready, tiles_T3, out_SN, total, depth, columns,
    TURNED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, HELD: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    step = 0
    following = tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        steps = gl.where(first < end, (depth + K - 1) // K, 0)
        sum_MN, step = multiply(
            step, steps, left_ring, right_ring, empty, ready, empty, TURNED, False, M, N, STAGES, LAYOUT
        )  # fmt: skip
        if HELD:
            if first + M <= end:
                leave(out, [first, column], sum_MN, held)
            else:  # the rows beyond are another expert's
                write(out_SN, sum_MN, first, end, column, columns, columns, M, N, LINES)
        else:
            write(out_SN, sum_MN, first, end, column, columns, columns, M, N, LINES)
    if HELD:
        tma.store_wait(0)


@gluon.jit
def rows_product(
    left, right, out, tiles_T3, out_SN, tiles, depth, columns, TURNED: gl.constexpr, TILE: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, HELD: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """Or TURNED: left · right[expert]ᵀ, of right matrices [columns, depth]."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(left.dtype, [STAGES] + left.block_type.shape, left.layout)  # noqa: RUF005
    right_ring = gl.allocate_shared_memory(right.dtype, [STAGES] + right.block_type.shape, right.layout)  # noqa: RUF005
    held = left_ring
    if HELD:
        held = gl.allocate_shared_memory(out.dtype, out.block_type.shape, out.layout)
    empty, ready = barriers(STAGES)
    total = tiles * (TILE // M) * ((columns + N - 1) // N)
    gl.warp_specialize(
        [
            (_write, (
                left_ring, right_ring, held, out, empty, ready, tiles_T3, out_SN, total, depth, columns,
                TURNED, TILE, M, N, K, STAGES, HELD, LAYOUT, LINES,
            )),
            (read_rows, (
                left, right, left_ring, right_ring, empty, ready, tiles_T3, total, columns, depth,
                TURNED, False, TILE, M, N, K, STAGES,
            )),
        ],
        [1], [READER],
    )  # fmt: skip

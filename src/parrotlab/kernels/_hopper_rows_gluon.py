"""out = left · right[expert] for Hopper GPUs, in Gluon, of rows that lie by expert: see ``_hopper_gluon``."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma

from parrotlab.kernels._hopper_gluon import READER, barriers, leave, load_block, multiply, write


@gluon.jit
def _tile_of(at, total, columns, tiles_T3, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr):
    """Expert, first row, where its rows end, and first column of a tile, which is none if it ends before its first row.

    Read a tile ahead, since the way to memory is as long as a few steps. What a loop carries that only bounds a loop
    within it, Triton 3.6 takes for dead, and keeps the first tile's: see that something else needs it too.
    """
    across = (columns + N - 1) // N
    part: gl.constexpr = TILE // M
    inside = gl.minimum(at, total - 1)
    tile = tiles_T3 + 3 * (inside // across // part)
    expert, first, end = gl.load(tile), gl.load(tile + 1), gl.load(tile + 2)
    return gl.maximum(expert, 0), first + inside // across % part * M, end, inside % across * N


@gluon.jit
def _read(
    left, right, left_ring, right_ring, empty, ready, tiles_T3, total, columns, depth,
    TURNED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Rows, and blocks of their expert's matrix."""
    height = columns if TURNED else depth  # of a matrix
    step = 0
    following = _tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        expert, first, end, column = following
        following = _tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        for k in range(0, gl.where(first < end, depth, 0), K):
            stage = step % STAGES
            mbarrier.wait(empty.index(stage), (step // STAGES & 1) ^ 1, pred=first < end)  # always: see _tile_of
            bar = ready.index(stage)
            mbarrier.expect(bar, left.block_type.nbytes + right.block_type.nbytes)
            load_block(left, [first, k], bar, left_ring.index(stage))
            if TURNED:
                load_block(right, [expert * height + column, k], bar, right_ring.index(stage))
            else:
                load_block(right, [expert * height + k, column], bar, right_ring.index(stage))
            step += 1


@gluon.jit
def _write(
    left_ring, right_ring, held, out, empty, ready, tiles_T3, out_SN, total, depth, columns,
    TURNED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, HELD: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    step = 0
    following = _tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = _tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        steps = gl.where(first < end, (depth + K - 1) // K, 0)
        sum_MN, step = multiply(step, steps, left_ring, right_ring, empty, ready, False, TURNED, M, N, STAGES, LAYOUT)
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
            (_read, (
                left, right, left_ring, right_ring, empty, ready, tiles_T3, total, columns, depth,
                TURNED, TILE, M, N, K, STAGES,
            )),
        ],
        [1], [READER],
    )  # fmt: skip

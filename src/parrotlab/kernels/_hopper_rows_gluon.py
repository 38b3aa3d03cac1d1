"""out = left · right[expert] for Hopper GPUs, in Gluon, of rows that lie by expert: see ``_hopper_gluon``."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from parrotlab.kernels._hopper_gluon import barriers, load_block, multiply, tile_of, write


@gluon.jit
def _read(
    left, right, left_ring, right_ring, empty, ready, tiles_T3, total, columns, depth,
    TURNED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    height = columns if TURNED else depth  # of a matrix
    step = 0
    following = tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        expert, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        for k in range(0, gl.where(first < end, depth, 0), K):
            stage = step % STAGES
            mbarrier.wait(empty.index(stage), (step // STAGES & 1) ^ 1, pred=first < end)  # always: see tile_of
            bar = ready.index(stage)
            mbarrier.expect(bar, left.block_type.nbytes + right.block_type.nbytes)
            load_block(left, [first, k], bar, left_ring.index(stage))
            if TURNED:
                at_right = [expert * height + column, k]
            else:
                at_right = [expert * height + k, column]
            load_block(right, at_right, bar, right_ring.index(stage))
            step += 1


@gluon.jit
def _write(
    left_ring, right_ring, empty, ready, tiles_T3, out_SN, total, depth, columns,
    TURNED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    step = 0
    following = tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        steps = gl.where(first < end, (depth + K - 1) // K, 0)
        out_MN, _, step = multiply(
            step, steps, left_ring, right_ring, right_ring, empty, ready,
            False, TURNED, False, False, M, N, STAGES, LAYOUT,
        )  # fmt: skip
        write(out_SN, out_MN, first, end, column, columns, columns, M, N, LINES)


@gluon.jit
def rows_product(
    left, right, tiles_T3, out_SN, tiles, depth, columns, TURNED: gl.constexpr, TILE: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """Or TURNED: left · right[expert]ᵀ, of right matrices [columns, depth]."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(left.dtype, [STAGES] + left.block_type.shape, left.layout)  # noqa: RUF005
    right_ring = gl.allocate_shared_memory(right.dtype, [STAGES] + right.block_type.shape, right.layout)  # noqa: RUF005
    empty, ready = barriers(1, STAGES)
    total = tiles * (TILE // M) * ((columns + N - 1) // N)
    gl.warp_specialize(
        [
            (_write, (
                left_ring, right_ring, empty, ready, tiles_T3, out_SN, total, depth, columns,
                TURNED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_read, (
                left, right, left_ring, right_ring, empty, ready, tiles_T3, total, columns, depth,
                TURNED, TILE, M, N, K, STAGES,
            )),
        ],
        [1], [24],
    )  # fmt: skip

"""What the kernels of experts have in common on Hopper GPUs, in Gluon: some warps read, others multiply and write.

The reader copies blocks through descriptors (TMA) into a ring of STAGES in shared memory, waits where it is full, and
is tiles ahead while the others write. A stage is ``ready`` when its bytes have arrived and ``empty`` when its products
are made. Both sides count steps over all tiles of a program. Programs stay and take one tile after the other; those at
work together share rows.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from typing import Any

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

load_block = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared  # their names until Triton 3.6
store_block = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global
READER = gl.constexpr(24)
"""Registers that the reader needs of each thread; the others get the rest."""
REGISTERS = {1: 168, 2: 128}
"""Of a thread before that, by programs on a processor: 65,536 over three groups of four warps, or over twice two."""


def room(block: list[int]) -> gl.NVMMASharedLayout:
    """How shared memory holds a block of bfloat16, as tensor cores want it."""
    return gl.NVMMASharedLayout.get_default_for(block, gl.bfloat16)


def blocks(matrix: Any, block: list[int]) -> Any:
    """A descriptor of a bfloat16 matrix that is read in such blocks; zeros outside of it."""
    return TensorDescriptor.from_tensor(matrix, block, room(block))


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
def barriers(STAGES: gl.constexpr):
    """Of stages that are empty, and ready."""
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(empty.index(stage), count=1)
        mbarrier.init(ready.index(stage), count=1)
    return empty, ready


@gluon.jit
def tile_of(at, total, columns, tiles_T3, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr):
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
def read_rows(
    left, right, left_ring, right_ring, empty, ready, tiles_T3, total, columns, depth,
    TURNED: gl.constexpr, PAIRED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Rows, and blocks of their expert's matrix; PAIRED: two for a stage, ``columns`` apart in twice as many."""
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
            mbarrier.expect(bar, left.block_type.nbytes + right.block_type.nbytes * (2 if PAIRED else 1))
            load_block(left, [first, k], bar, left_ring.index(stage))
            if PAIRED:
                load_block(right, [expert * height + k, column], bar, right_ring.index(2 * stage))
                load_block(right, [expert * height + k, columns + column], bar, right_ring.index(2 * stage + 1))
            elif TURNED:
                load_block(right, [expert * height + column, k], bar, right_ring.index(stage))
            else:
                load_block(right, [expert * height + k, column], bar, right_ring.index(stage))
            step += 1


@gluon.jit
def leave(out, at, tile_MN, held):
    """A whole tile by TMA, from shared memory, while the next one is multiplied."""
    tma.store_wait(0)  # what was held before has left
    held.store(tile_MN.to(held.dtype))
    fence_async_shared()
    store_block(out, at, held)


@gluon.jit
def multiply(
    step, steps, left_ring, right_ring, empty, ready, done,
    TURNED: gl.constexpr, TELLS: gl.constexpr, M: gl.constexpr, N: gl.constexpr, STAGES: gl.constexpr,
    LAYOUT: gl.constexpr,
):  # fmt: skip
    """A tile's sums, and the step after it; a stage is given back while the next one's products are made.

    TELLS: arrives at ``done`` when it has waited for its last stage.
    """
    sum_MN = gl.zeros((M, N), gl.float32, LAYOUT)
    for k in range(steps):
        stage = step % STAGES
        mbarrier.wait(ready.index(stage), step // STAGES & 1)
        right = right_ring.index(stage)
        if TURNED:
            right = right.permute((1, 0))
        sum_MN = warpgroup_mma(left_ring.index(stage), right, sum_MN, is_async=True)
        sum_MN = warpgroup_mma_wait(1, deps=(sum_MN,))
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=k > 0)
        step += 1
    if TELLS:
        mbarrier.arrive(done, count=1)
    sum_MN = warpgroup_mma_wait(0, deps=(sum_MN,))
    mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=steps > 0)
    return sum_MN, step

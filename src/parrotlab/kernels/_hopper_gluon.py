"""What the kernels of experts have in common on Hopper GPUs, in Gluon: some warps read, others multiply and write.

The readers fill a ring of STAGES in shared memory, wait where it is full, and are tiles ahead while the others write:
whole blocks through descriptors (TMA), and rows that lie scattered by copies of 16 bytes. A stage is ``ready`` when its
bytes have arrived and ``empty`` when its products are made. Both sides count steps over all tiles of a program.
Programs stay and take one tile after the other; those at work together share rows.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from typing import Any

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

load_block = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared  # their names until Triton 3.6
load_lines = getattr(async_copy, "async_load", None) or async_copy.async_copy_global_to_shared
REGISTERS = {8: 168, 4: 128}
"""Of a thread, by multiplying warps, before the readers lend them theirs: 65,536 over three groups of four warps; or,
where two programs share a processor, over twice two."""
GATHERERS = gl.constexpr(4)
"""Warps that read scattered rows."""
ARRIVALS = gl.constexpr(129)
"""At a stage that they fill: each thread's, and that of whoever asked for the block beside the rows."""


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
def barriers(ARRIVE: gl.constexpr, STAGES: gl.constexpr):
    """Of stages that are empty, and ready once so many have arrived."""
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(empty.index(stage), count=1)
        mbarrier.init(ready.index(stage), count=ARRIVE)
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
def copy_lines(line_KX, inside_KX, stage, bar):
    """Scattered lines into a stage, which their arrival completes."""
    load_lines(stage, line_KX, mask=inside_KX)
    async_copy.mbarrier_arrive(bar, increment_count=False)


@gluon.jit
def multiply(
    step, steps, left_ring, right_ring, value_ring, empty, ready,
    LEFT_TURNED: gl.constexpr, TURNED: gl.constexpr, GATED: gl.constexpr, GATHERED: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, STAGES: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """A tile's sums, GATED two, and the step after it; a stage is given back while the next one's products are made."""
    sum_MN = gl.zeros((M, N), gl.float32, LAYOUT)
    value_MN = sum_MN
    for k in range(steps):
        stage = step % STAGES
        mbarrier.wait(ready.index(stage), step // STAGES & 1)
        if GATHERED:
            fence_async_shared()  # what threads copied, tensor cores are to see
        left, right = left_ring.index(stage), right_ring.index(stage)
        if LEFT_TURNED:
            left = left.permute((1, 0))
        if TURNED:
            right = right.permute((1, 0))
        sum_MN = warpgroup_mma(left, right, sum_MN, is_async=True)
        if GATED:
            value_MN = warpgroup_mma(left, value_ring.index(stage), value_MN, is_async=True)
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

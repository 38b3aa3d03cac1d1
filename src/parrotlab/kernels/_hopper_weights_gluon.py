"""The gradients of the experts' matrices for Hopper GPUs, in Gluon: see ``_hopper_gluon``."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from parrotlab.kernels._hopper_gluon import READER, barriers, leave, load_block, write


@gluon.jit
def _part_of(at, total, bounds_E, experts, parts, matrix, across, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr):
    """Expert, part, where its rows begin and end, and the first row and column of a tile."""
    inside = gl.minimum(at, total - 1)
    expert, part = inside // matrix % experts, inside // matrix // experts
    begin, end = gl.load(bounds_E + expert), gl.load(bounds_E + expert + 1)
    length = (end - begin + parts * K - 1) // (parts * K) * K
    begin += part * length
    return expert, part, begin, gl.minimum(end, begin + length), inside % matrix // across * M, inside % across * N


@gluon.jit
def _read(
    left, right, left_ring, right_ring, empty, ready, bounds_E, experts, parts, matrix, across,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    total = parts * experts * matrix
    step = 0
    following = _part_of(gl.program_id(0), total, bounds_E, experts, parts, matrix, across, M, N, K)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, _, begin, end, row, column = following
        beyond = at + gl.num_programs(0)
        following = _part_of(beyond, total, bounds_E, experts, parts, matrix, across, M, N, K)
        for k in range(begin, end, K):
            stage = step % STAGES
            # Always: see _hopper_gluon.tile_of.
            mbarrier.wait(empty.index(stage), (step // STAGES & 1) ^ 1, pred=begin < end)
            bar = ready.index(stage)
            mbarrier.expect(bar, left.block_type.nbytes + right.block_type.nbytes)
            load_block(left, [k, row], bar, left_ring.index(stage))
            load_block(right, [k, column], bar, right_ring.index(stage))
            step += 1


@gluon.jit
def _write(
    left_ring, right_ring, held, out, empty, ready, bounds_E, out_CEPQ, experts, parts, matrix, across, rows, columns,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, HELD: gl.constexpr,
    LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    BLOCKED: gl.constexpr = gl.BlockedLayout([1, 8], [256 // M, M // 8], [gl.num_warps(), 1], [1, 0])
    total = parts * experts * matrix
    step = 0
    following = _part_of(gl.program_id(0), total, bounds_E, experts, parts, matrix, across, M, N, K)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        expert, part, begin, end, row, column = following
        beyond = at + gl.num_programs(0)
        following = _part_of(beyond, total, bounds_E, experts, parts, matrix, across, M, N, K)
        sum_MN = gl.zeros((M, N), gl.float32, LAYOUT)
        for k in range(begin, end, K):
            stage = step % STAGES
            mbarrier.wait(ready.index(stage), step // STAGES & 1)
            left = left_ring.index(stage)
            if k + K > end:  # the rows beyond are another expert's
                left_KM = left.load(BLOCKED)
                alive_K = k + gl.arange(0, K, gl.SliceLayout(1, BLOCKED)) < end
                left.store(gl.where(alive_K[:, None], left_KM, gl.zeros_like(left_KM)))
                fence_async_shared()
            sum_MN = warpgroup_mma(left.permute((1, 0)), right_ring.index(stage), sum_MN, is_async=True)
            sum_MN = warpgroup_mma_wait(1, deps=(sum_MN,))
            mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=k > begin)
            step += 1
        sum_MN = warpgroup_mma_wait(0, deps=(sum_MN,))
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=end > begin)
        if HELD:
            leave(out, [expert * rows + row, column], sum_MN, held)
        else:
            out_PQ = out_CEPQ + (part * experts + expert).to(gl.int64) * rows * columns
            write(out_PQ, sum_MN, row, rows, column, columns, columns, M, N, LINES)
    if HELD:
        tma.store_wait(0)


@gluon.jit
def weights_product(
    left, right, out, bounds_E, out_CEPQ, experts, parts, rows, columns,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, HELD: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """out[part, expert] = leftᵀ · right over a part of the expert's rows. HELD: of one part, and of whole tiles."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(left.dtype, [STAGES, K, M], left.layout)
    right_ring = gl.allocate_shared_memory(right.dtype, [STAGES, K, N], right.layout)
    held = left_ring
    if HELD:
        held = gl.allocate_shared_memory(out.dtype, out.block_type.shape, out.layout)
    empty, ready = barriers(STAGES)
    across = (columns + N - 1) // N
    matrix = (rows + M - 1) // M * across
    gl.warp_specialize(
        [
            (_write, (
                left_ring, right_ring, held, out, empty, ready, bounds_E, out_CEPQ, experts, parts, matrix, across,
                rows, columns, M, N, K, STAGES, HELD, LAYOUT, LINES,
            )),
            (_read, (
                left, right, left_ring, right_ring, empty, ready, bounds_E, experts, parts, matrix, across,
                M, N, K, STAGES,
            )),
        ],
        [1], [READER],
    )  # fmt: skip

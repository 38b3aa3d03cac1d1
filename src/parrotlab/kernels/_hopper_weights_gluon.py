"""The gradients of the experts' matrices for Hopper GPUs, in Gluon: see ``_hopper_gluon``."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from parrotlab.kernels._hopper_gluon import (
    ARRIVALS,
    GATHERERS,
    barriers,
    copy_lines,
    load_block,
    multiply,
    write,
)


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
def _gather(
    scattered, lying, scattered_ring, lying_ring, empty, ready, order_S, bounds_E, experts, parts, matrix, across,
    stride, ACTIVE: gl.constexpr, LEFT_GATHERED: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Rows of tokens, zeros beyond the expert's last, and rows that lie by expert."""
    SIDE: gl.constexpr = M if LEFT_GATHERED else N
    COPY: gl.constexpr = gl.BlockedLayout([1, 8], [256 // SIDE, SIDE // 8], [gl.num_warps(), 1], [1, 0])
    row_K = gl.arange(0, K, gl.SliceLayout(1, COPY))
    column_X = gl.arange(0, SIDE, gl.SliceLayout(0, COPY))
    total = parts * experts * matrix
    step = 0
    following = _part_of(gl.program_id(0), total, bounds_E, experts, parts, matrix, across, M, N, K)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, _, begin, end, row, column = following
        beyond = at + gl.num_programs(0)
        following = _part_of(beyond, total, bounds_E, experts, parts, matrix, across, M, N, K)
        gathered, beside = (row, column) if LEFT_GATHERED else (column, row)
        inside_X = gathered + column_X < stride
        token_K = gl.load(order_S + begin + row_K, mask=begin + row_K < end, other=0) // ACTIVE
        for k in range(begin, end, K):
            following_K = gl.load(order_S + k + K + row_K, mask=k + K + row_K < end, other=0) // ACTIVE
            stage = step % STAGES
            mbarrier.wait(empty.index(stage), (step // STAGES & 1) ^ 1)
            bar = ready.index(stage)
            mbarrier.expect(bar, lying.block_type.nbytes)
            load_block(lying, [k, beside], bar, lying_ring.index(stage))
            line_KX = scattered + token_K.to(gl.int64)[:, None] * stride + (gathered + column_X)[None, :]
            inside_KX = (k + row_K < end)[:, None] & inside_X[None, :]
            copy_lines(line_KX, inside_KX, scattered_ring.index(stage), bar)
            token_K = following_K
            step += 1


@gluon.jit
def _write(
    left_ring, right_ring, empty, ready, bounds_E, out_CEPQ, experts, parts, matrix, across, rows, columns,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    total = parts * experts * matrix
    step = 0
    following = _part_of(gl.program_id(0), total, bounds_E, experts, parts, matrix, across, M, N, K)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        expert, part, begin, end, row, column = following
        beyond = at + gl.num_programs(0)
        following = _part_of(beyond, total, bounds_E, experts, parts, matrix, across, M, N, K)
        steps = gl.maximum(end - begin + K - 1, 0) // K
        sum_MN, _, step = multiply(
            step, steps, left_ring, right_ring, right_ring, empty, ready,
            True, False, False, True, M, N, STAGES, LAYOUT,
        )  # fmt: skip
        out = out_CEPQ + (part * experts + expert).to(gl.int64) * rows * columns
        write(out, sum_MN, row, rows, column, columns, columns, M, N, LINES)


@gluon.jit
def weights_product(
    scattered, lying, order_S, bounds_E, out_CEPQ, experts, parts, rows, columns,
    ACTIVE: gl.constexpr, LEFT_GATHERED: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    GATHERED: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """out[part, expert] = leftᵀ · right over a part of the expert's rows; one side is scattered by token."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    SIDE: gl.constexpr = M if LEFT_GATHERED else N
    scattered_ring = gl.allocate_shared_memory(lying.dtype, [STAGES, K, SIDE], GATHERED)
    lying_ring = gl.allocate_shared_memory(lying.dtype, [STAGES] + lying.block_type.shape, lying.layout)  # noqa: RUF005
    empty, ready = barriers(ARRIVALS, STAGES)
    across = (columns + N - 1) // N
    matrix = (rows + M - 1) // M * across
    left_ring, right_ring = (scattered_ring, lying_ring) if LEFT_GATHERED else (lying_ring, scattered_ring)
    stride = rows if LEFT_GATHERED else columns
    gl.warp_specialize(
        [
            (_write, (
                left_ring, right_ring, empty, ready, bounds_E, out_CEPQ, experts, parts, matrix, across, rows, columns,
                M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_gather, (
                scattered, lying, scattered_ring, lying_ring, empty, ready, order_S, bounds_E, experts, parts, matrix,
                across, stride, ACTIVE, LEFT_GATHERED, M, N, K, STAGES,
            )),
        ],
        [GATHERERS], [56],
    )  # fmt: skip

"""The hidden layer of experts and its gradient for Hopper GPUs, in Gluon: see ``_hopper_gluon``.

The tokens' rows are read where they lie, and activation and routing weight are applied before anything is rounded.
"""

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
    tile_of,
    write,
)


@gluon.jit
def _normal(x_MN):
    """Φ(x) = (1 + erf(x / √2)) / 2 to 2e-5 in 12 instructions, a third of erf's: bfloat16 tells 4e-3 apart.

    A polynomial fitted to the least largest error up to 4.5, beyond which Φ is 0 or 1 to 4e-6.
    """
    x_MN = gl.minimum(gl.maximum(x_MN, -4.5), 4.5)
    square_MN = x_MN * x_MN
    sum_MN = square_MN * -1.72628535e-12 + 2.022398658e-10
    sum_MN = sum_MN * square_MN - 1.056693712e-08
    sum_MN = sum_MN * square_MN + 3.27888699e-07
    sum_MN = sum_MN * square_MN - 6.813682045e-06
    sum_MN = sum_MN * square_MN + 0.0001017337227
    sum_MN = sum_MN * square_MN - 0.001142713618
    sum_MN = sum_MN * square_MN + 0.009891770155
    sum_MN = sum_MN * square_MN - 0.06642067593
    sum_MN = sum_MN * square_MN + 0.3989246706
    return x_MN * sum_MN + 0.5


@gluon.jit
def _gather(
    x_ND, right, left_ring, right_ring, value_ring, empty, ready, order_S, tiles_T3, total, columns, depth,
    ACTIVE: gl.constexpr, TURNED: gl.constexpr, GATED: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Tokens' rows, and blocks of their expert's matrix: GATED two, whose columns are ``columns`` apart."""
    COPY: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [gl.num_warps(), 1], [1, 0])
    column_K = gl.arange(0, K, gl.SliceLayout(0, COPY))
    height = columns if TURNED else depth  # of a matrix
    step = 0
    following = tile_of(gl.program_id(0), total, columns, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        expert, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, columns, tiles_T3, TILE, M, N)
        row_M = first + gl.arange(0, M, gl.SliceLayout(1, COPY))
        token_M = gl.load(order_S + row_M, mask=row_M < end, other=0) // ACTIVE
        line_MK = x_ND + token_M.to(gl.int64)[:, None] * depth + column_K[None, :]
        for k in range(0, gl.where(first < end, depth, 0), K):
            stage = step % STAGES
            mbarrier.wait(empty.index(stage), (step // STAGES & 1) ^ 1)
            bar = ready.index(stage)
            mbarrier.expect(bar, right.block_type.nbytes * (2 if GATED else 1))
            if TURNED:
                at_right = [expert * height + column, k]
            else:
                at_right = [expert * height + k, column]
            load_block(right, at_right, bar, right_ring.index(stage))
            if GATED:
                at_value = [expert * height + k, columns + column]
                load_block(right, at_value, bar, value_ring.index(stage))
            copy_lines(line_MK + k, (k + column_K < depth)[None, :], left_ring.index(stage), bar)
            step += 1


@gluon.jit
def _weights_of(weights_NA, order_S, first, end, M: gl.constexpr, LAYOUT: gl.constexpr):
    """A tile's rows, the choices that they are, and what those weigh."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LAYOUT))
    choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
    return row_M, choice_M, gl.load(weights_NA + choice_M).to(gl.float32)


@gluon.jit
def _write_hidden(
    left_ring, right_ring, value_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG, hidden_SF,
    total, width, hidden, GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    columns = hidden * 2 if GATED else hidden
    step = 0
    following = tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, N)
        _, _, weight_M = _weights_of(weights_NA, order_S, first, end, M, LAYOUT)
        steps = gl.where(first < end, (width + K - 1) // K, 0)
        gate_MN, value_MN, step = multiply(
            step, steps, left_ring, right_ring, value_ring, empty, ready,
            False, False, GATED, True, M, N, STAGES, LAYOUT,
        )  # fmt: skip
        write(before_SG, gate_MN, first, end, column, hidden, columns, M, N, LINES)
        out_MN = gate_MN * weight_M[:, None]
        if GATED:
            write(before_SG + hidden, value_MN, first, end, column, hidden, columns, M, N, LINES)
            out_MN = out_MN * value_MN / (1.0 + gl.exp(-gate_MN))
        else:
            out_MN = out_MN * _normal(gate_MN)
        write(hidden_SF, out_MN, first, end, column, hidden, hidden, M, N, LINES)


@gluon.jit
def _read_tile(
    before_SG, first, end, column, columns, stride,
    M: gl.constexpr, N: gl.constexpr, LINES: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """What ``write`` wrote, in float32, as tensor cores hold it."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
    column_N = column + gl.arange(0, N, gl.SliceLayout(0, LINES))
    inside_MN = (row_M < end)[:, None] & (column_N < columns)[None, :]
    at_MN = before_SG + row_M.to(gl.int64)[:, None] * stride + column_N[None, :]
    return gl.convert_layout(gl.load(at_MN, mask=inside_MN, other=0.0), LAYOUT).to(gl.float32)


@gluon.jit
def _write_slope(
    left_ring, right_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG, slope_SG, grad_weight_CS,
    total, width, hidden, choices, GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr,
    K: gl.constexpr, STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    columns = hidden * 2 if GATED else hidden
    step = 0
    following = tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, N)
        row_M, choice_M, weight_M = _weights_of(weights_NA, order_S, first, end, M, LAYOUT)
        steps = gl.where(first < end, (width + K - 1) // K, 0)
        grad_MN, _, step = multiply(
            step, steps, left_ring, right_ring, right_ring, empty, ready,
            False, True, False, True, M, N, STAGES, LAYOUT,
        )  # fmt: skip
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
            share_MN = _normal(gate_MN)
            gl.store(part, gl.sum(grad_MN * gate_MN * share_MN, axis=1), mask=row_M < end)
            slope_MN = grad_MN * (share_MN + gate_MN * 0.3989422804014327 * gl.exp(-0.5 * gate_MN * gate_MN))
        write(slope_SG, slope_MN * weight_M[:, None], first, end, column, hidden, columns, M, N, LINES)


@gluon.jit
def hidden_forward(
    x_ND, up, weights_NA, order_S, tiles_T3, before_SG, hidden_SF, tiles, width, hidden,
    ACTIVE: gl.constexpr, GATED: gl.constexpr, TILE: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    GATHERED: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """before = x[token] · up[expert], and hidden = weight · activation(before)."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(up.dtype, [STAGES, M, K], GATHERED)
    right_ring = gl.allocate_shared_memory(up.dtype, [STAGES, K, N], up.layout)
    value_ring = right_ring
    if GATED:
        value_ring = gl.allocate_shared_memory(up.dtype, [STAGES, K, N], up.layout)
    empty, ready = barriers(ARRIVALS, STAGES)
    total = tiles * (TILE // M) * ((hidden + N - 1) // N)
    gl.warp_specialize(
        [
            (_write_hidden, (
                left_ring, right_ring, value_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG,
                hidden_SF, total, width, hidden, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_gather, (
                x_ND, up, left_ring, right_ring, value_ring, empty, ready, order_S, tiles_T3, total, hidden, width,
                ACTIVE, False, GATED, TILE, M, N, K, STAGES,
            )),
        ],
        [GATHERERS], [56],
    )  # fmt: skip


@gluon.jit
def hidden_backward(
    grad_ND, down, weights_NA, order_S, tiles_T3, before_SG, slope_SG, grad_weight_CS,
    tiles, width, hidden, choices,
    ACTIVE: gl.constexpr, GATED: gl.constexpr, TILE: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    GATHERED: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """slope, the gradient of ``before``, and these columns' part of each choice's weight's."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(down.dtype, [STAGES, M, K], GATHERED)
    right_ring = gl.allocate_shared_memory(down.dtype, [STAGES, N, K], down.layout)
    empty, ready = barriers(ARRIVALS, STAGES)
    total = tiles * (TILE // M) * ((hidden + N - 1) // N)
    gl.warp_specialize(
        [
            (_write_slope, (
                left_ring, right_ring, empty, ready, weights_NA, order_S, tiles_T3, before_SG, slope_SG,
                grad_weight_CS, total, width, hidden, choices, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_gather, (
                grad_ND, down, left_ring, right_ring, right_ring, empty, ready, order_S, tiles_T3, total, hidden,
                width, ACTIVE, True, False, TILE, M, N, K, STAGES,
            )),
        ],
        [GATHERERS], [56],
    )  # fmt: skip

"""The Triton kernels of ``grouped_experts``: products of rows that lie by expert with their experts' matrices.

Programs stay and take one tile of M rows and N columns after the other, K of the depth at a step; those at work
together share rows. ``x``, ``up``, ``left`` and so on are descriptors of matrices, the experts' one below the other.
Outside of a matrix they read zeros, so that what a block has of the next expert's meets zeros, or is not written.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from parrotlab.kernels._activation_triton import activated, activated_backward


def blocks(matrix: Any, block: list[int]) -> Any:
    """A descriptor of a matrix, read in such blocks."""
    return TensorDescriptor.from_tensor(matrix, block)


@triton.jit
def _tile_of(at, columns, tiles_T3, TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    """Expert, first row, where its rows end, and first column of a tile; the end is 0 if there is no such tile."""
    across = tl.cdiv(columns, N)
    part: tl.constexpr = TILE // M
    tile = tiles_T3 + 3 * (at // across // part)
    first, end = tl.load(tile + 1) + at // across % part * M, tl.load(tile + 2)
    return tl.maximum(tl.load(tile), 0), first, tl.where(first < end, end, 0), at % across * N


@triton.jit
def hidden_forward(
    x, up, weights_NA, order_S, tiles_T3, before_SG, hidden_SF, tiles, width, hidden,
    GATED: tl.constexpr, TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """before = x · up, and hidden = weight · activation(before). Gates and values are columns apart in ``up``."""
    columns = hidden * 2 if GATED else hidden
    total = tiles * (TILE // M) * tl.cdiv(hidden, N)
    for at in tl.range(tl.program_id(0), total, tl.num_programs(0)):
        expert, first, end, column = _tile_of(at, hidden, tiles_T3, TILE, M, N)
        gate_MN = tl.zeros((M, N), tl.float32)
        value_MN = tl.zeros((M, N), tl.float32)
        for k in range(0, tl.where(end > 0, width, 0), K):
            x_MK = x.load([first, k])
            gate_KN = up.load([expert * width + k, column])
            gate_MN = tl.dot(x_MK, gate_KN, gate_MN, input_precision="ieee")
            if GATED:
                value_KN = up.load([expert * width + k, hidden + column])
                value_MN = tl.dot(x_MK, value_KN, value_MN, input_precision="ieee")
        row_M = first + tl.arange(0, M)
        column_N = column + tl.arange(0, N)
        inside_MN = (row_M < end)[:, None] & (column_N < hidden)[None, :]
        row_M1 = row_M.to(tl.int64)[:, None]
        before = before_SG + row_M1 * columns + column_N[None, :]
        tl.store(before, gate_MN.to(before_SG.dtype.element_ty), mask=inside_MN)
        if GATED:
            tl.store(before + hidden, value_MN.to(before_SG.dtype.element_ty), mask=inside_MN)
        choice_M = tl.load(order_S + row_M, mask=row_M < end, other=0)
        weight_M1 = tl.load(weights_NA + choice_M).to(tl.float32)[:, None]
        hidden_MN = activated(gate_MN, value_MN, GATED) * weight_M1
        out = hidden_SF + row_M1 * hidden + column_N[None, :]
        tl.store(out, hidden_MN.to(hidden_SF.dtype.element_ty), mask=inside_MN)


@triton.jit
def rows_product(
    left, right, tiles_T3, out_SN, tiles, depth, columns,
    TURNED: tl.constexpr, TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out = left · right[expert], or TURNED: left · right[expert]ᵀ, of right matrices [columns, depth]."""
    total = tiles * (TILE // M) * tl.cdiv(columns, N)
    for at in tl.range(tl.program_id(0), total, tl.num_programs(0)):
        expert, first, end, column = _tile_of(at, columns, tiles_T3, TILE, M, N)
        out_MN = tl.zeros((M, N), tl.float32)
        for k in range(0, tl.where(end > 0, depth, 0), K):
            left_MK = left.load([first, k])
            if TURNED:
                right_KN = right.load([expert * columns + column, k]).T
            else:
                right_KN = right.load([expert * depth + k, column])
            out_MN = tl.dot(left_MK, right_KN, out_MN, input_precision="ieee")
        row_M = first + tl.arange(0, M)
        column_N = column + tl.arange(0, N)
        inside_MN = (row_M < end)[:, None] & (column_N < columns)[None, :]
        out = out_SN + row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
        tl.store(out, out_MN.to(out_SN.dtype.element_ty), mask=inside_MN)


@triton.jit
def hidden_backward(
    grad, down, weights_NA, order_S, tiles_T3, before_SG, slope_SG, grad_weight_CS,
    tiles, width, hidden, choices,
    GATED: tl.constexpr, TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """slope, the gradient of what went into the activation, and these columns' part of each choice's weight's."""
    columns = hidden * 2 if GATED else hidden
    total = tiles * (TILE // M) * tl.cdiv(hidden, N)
    for at in tl.range(tl.program_id(0), total, tl.num_programs(0)):
        expert, first, end, column = _tile_of(at, hidden, tiles_T3, TILE, M, N)
        grad_MN = tl.zeros((M, N), tl.float32)
        for k in range(0, tl.where(end > 0, width, 0), K):
            grad_MK = grad.load([first, k])
            down_NK = down.load([expert * hidden + column, k])
            grad_MN = tl.dot(grad_MK, down_NK.T, grad_MN, input_precision="ieee")
        row_M = first + tl.arange(0, M)
        column_N = column + tl.arange(0, N)
        inside_MN = (row_M < end)[:, None] & (column_N < hidden)[None, :]
        at_MN = row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
        gate_MN = tl.load(before_SG + at_MN, mask=inside_MN, other=0.0).to(tl.float32)
        value_MN = gate_MN
        if GATED:
            value_MN = tl.load(before_SG + at_MN + hidden, mask=inside_MN, other=0.0).to(tl.float32)
        choice_M = tl.load(order_S + row_M, mask=row_M < end, other=0)
        weight_M1 = tl.load(weights_NA + choice_M).to(tl.float32)[:, None]
        out_MN, gate_MN, value_MN = activated_backward(gate_MN, value_MN, grad_MN, GATED)
        part = grad_weight_CS + (column // N).to(tl.int64) * choices + choice_M
        tl.store(part, tl.sum(grad_MN * out_MN, axis=1), mask=row_M < end)
        tl.store(slope_SG + at_MN, (gate_MN * weight_M1).to(slope_SG.dtype.element_ty), mask=inside_MN)
        if GATED:
            slope = slope_SG + at_MN + hidden
            tl.store(slope, (value_MN * weight_M1).to(slope_SG.dtype.element_ty), mask=inside_MN)


@triton.jit
def weights_product(
    left, right, bounds_E, out_CEPQ, experts, parts, rows, columns,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out[part, expert] = leftᵀ · right over a part of the expert's rows."""
    across = tl.cdiv(columns, N)
    matrix = tl.cdiv(rows, M) * across
    for at in tl.range(tl.program_id(0), parts * experts * matrix, tl.num_programs(0)):
        expert, part = at // matrix % experts, at // matrix // experts
        row, column = at % matrix // across * M, at % across * N
        begin, end = tl.load(bounds_E + expert), tl.load(bounds_E + expert + 1)
        length = tl.cdiv(end - begin, parts * K) * K
        begin += part * length
        end = tl.minimum(end, begin + length)
        out_MN = tl.zeros((M, N), tl.float32)
        for k in range(begin, end, K):
            alive_K1 = (k + tl.arange(0, K) < end)[:, None]  # the rows beyond are another expert's
            right_KN = tl.where(alive_K1, right.load([k, column]), 0.0)
            out_MN = tl.dot(left.load([k, row]).T, right_KN, out_MN, input_precision="ieee")
        row_M, column_N = row + tl.arange(0, M), column + tl.arange(0, N)
        inside_MN = (row_M < rows)[:, None] & (column_N < columns)[None, :]
        at_MN = row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
        out = out_CEPQ + (part * experts + expert).to(tl.int64) * rows * columns + at_MN
        tl.store(out, out_MN.to(out_CEPQ.dtype.element_ty), mask=inside_MN)

"""The Triton kernels of ``fast_experts`` that make one product each, with gather and activation fused.

Axis 0 of a grid is columns, axis 1 tiles of rows, so that programs at work together share their rows. M rows, N columns
and K, the depth of a step, are a program's tile. Widths that a tile divides need no masks: EVEN_D and EVEN_F say so.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl

from parrotlab.kernels._activation_triton import activated, activated_backward


@triton.jit
def rows_of(tiles_T3, M: tl.constexpr, TILE: tl.constexpr):
    """Expert of this program's tile, its rows, and which of them exist; expert -1 where there is nothing to do."""
    part: tl.constexpr = TILE // M
    tile = tiles_T3 + 3 * (tl.program_id(1) // part)
    first = tl.load(tile + 1) + tl.program_id(1) % part * M
    end = tl.load(tile + 2)
    row_M = first + tl.arange(0, M)
    return tl.where(first < end, tl.load(tile), -1), row_M, row_M < end


@triton.jit
def block(base, row, column, stride, rows, columns, CHECKED: tl.constexpr):
    """[row, column] of a matrix; where CHECKED, zeros outside its rows and columns."""
    at = base + row[:, None] * stride + column[None, :]
    if CHECKED:
        out = tl.load(at, mask=(row < rows)[:, None] & (column < columns)[None, :], other=0.0)
    else:
        out = tl.load(at)
    return out


@triton.jit
def lines(base, start_M1, column_K, columns, EVEN: tl.constexpr):
    """The columns of the lines that start there; zeros beyond the last column, unless there are none: EVEN."""
    at = base + start_M1 + column_K[None, :]
    if EVEN:
        out = tl.load(at)
    else:
        out = tl.load(at, mask=(column_K < columns)[None, :], other=0.0)
    return out


@triton.jit
def hidden_forward(
    x_ND, weights_NA, order_S, tiles_T3, up_EDG, before_SG, hidden_SF, width, hidden,
    ACTIVE: tl.constexpr, GATED: tl.constexpr, EVEN_D: tl.constexpr, EVEN_F: tl.constexpr,
    TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """before = x[token] · up, and hidden = weight · activation(before)."""
    expert, row_M, alive_M = rows_of(tiles_T3, M, TILE)
    if expert < 0:
        return
    choice_M = tl.load(order_S + row_M, mask=alive_M, other=0)
    token_M1 = (choice_M // ACTIVE).to(tl.int64)[:, None]
    column_N = tl.program_id(0) * N + tl.arange(0, N)
    columns = hidden * 2 if GATED else hidden
    up = up_EDG + expert.to(tl.int64) * width * columns
    gate_MN = tl.zeros((M, N), tl.float32)
    value_MN = tl.zeros((M, N), tl.float32)
    checked: tl.constexpr = not (EVEN_D and EVEN_F)
    for k in range(0, width, K):
        at_K = k + tl.arange(0, K)
        x_MK = lines(x_ND, token_M1 * width, at_K, width, EVEN_D)
        gate_KN = block(up, at_K, column_N, columns, width, hidden, checked)
        gate_MN = tl.dot(x_MK, gate_KN, gate_MN, input_precision="ieee")
        if GATED:
            value_KN = block(up + hidden, at_K, column_N, columns, width, hidden, checked)
            value_MN = tl.dot(x_MK, value_KN, value_MN, input_precision="ieee")
    inside_MN = alive_M[:, None] & (column_N < hidden)[None, :]
    row_M1 = row_M.to(tl.int64)[:, None]
    before = before_SG + row_M1 * columns + column_N[None, :]
    tl.store(before, gate_MN.to(before_SG.dtype.element_ty), mask=inside_MN)
    if GATED:
        tl.store(before + hidden, value_MN.to(before_SG.dtype.element_ty), mask=inside_MN)
    weight_M = tl.load(weights_NA + choice_M).to(tl.float32)
    hidden_MN = activated(gate_MN, value_MN, GATED) * weight_M[:, None]
    tl.store(hidden_SF + row_M1 * hidden + column_N[None, :], hidden_MN.to(hidden_SF.dtype.element_ty), mask=inside_MN)


@triton.jit
def rows_product(
    left_SK, tiles_T3, right_EKN, out_SN, depth, columns,
    TURNED: tl.constexpr, EVEN_K: tl.constexpr, EVEN_N: tl.constexpr,
    TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out = left · right[expert], or TURNED: left · right[expert]ᵀ, of right matrices [columns, depth]."""
    expert, row_M, alive_M = rows_of(tiles_T3, M, TILE)
    if expert < 0:
        return
    column_N = tl.program_id(0) * N + tl.arange(0, N)
    right = right_EKN + expert.to(tl.int64) * depth * columns
    # Rows beyond the expert's last are read as row 0 and never written.
    start_M1 = tl.where(alive_M, row_M, 0).to(tl.int64)[:, None] * depth
    out_MN = tl.zeros((M, N), tl.float32)
    checked: tl.constexpr = not (EVEN_K and EVEN_N)
    for k in range(0, depth, K):
        at_K = k + tl.arange(0, K)
        left_MK = lines(left_SK, start_M1, at_K, depth, EVEN_K)
        if TURNED:
            right_KN = tl.trans(block(right, column_N, at_K, depth, columns, depth, checked))
        else:
            right_KN = block(right, at_K, column_N, columns, depth, columns, checked)
        out_MN = tl.dot(left_MK, right_KN, out_MN, input_precision="ieee")
    inside_MN = alive_M[:, None] & (column_N < columns)[None, :]
    at_MN = out_SN + row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    tl.store(at_MN, out_MN.to(out_SN.dtype.element_ty), mask=inside_MN)


@triton.jit
def hidden_backward(
    grad_ND, weights_NA, order_S, tiles_T3, down_EFD, before_SG, slope_SG, grad_weight_CS, width, hidden, choices,
    ACTIVE: tl.constexpr, GATED: tl.constexpr, EVEN_D: tl.constexpr, EVEN_F: tl.constexpr,
    TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """slope, the gradient before the activation, and these columns' part of each choice's weight's gradient."""
    expert, row_M, alive_M = rows_of(tiles_T3, M, TILE)
    if expert < 0:
        return
    choice_M = tl.load(order_S + row_M, mask=alive_M, other=0)
    token_M1 = (choice_M // ACTIVE).to(tl.int64)[:, None]
    column_N = tl.program_id(0) * N + tl.arange(0, N)
    columns = hidden * 2 if GATED else hidden
    down = down_EFD + expert.to(tl.int64) * hidden * width
    grad_MN = tl.zeros((M, N), tl.float32)
    checked: tl.constexpr = not (EVEN_D and EVEN_F)
    for k in range(0, width, K):
        at_K = k + tl.arange(0, K)
        grad_MK = lines(grad_ND, token_M1 * width, at_K, width, EVEN_D)
        down_NK = block(down, column_N, at_K, width, hidden, width, checked)
        grad_MN = tl.dot(grad_MK, tl.trans(down_NK), grad_MN, input_precision="ieee")
    inside_MN = alive_M[:, None] & (column_N < hidden)[None, :]
    at_MN = row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    gate_MN = tl.load(before_SG + at_MN, mask=inside_MN, other=0.0).to(tl.float32)
    value_MN = gate_MN
    if GATED:
        value_MN = tl.load(before_SG + at_MN + hidden, mask=inside_MN, other=0.0).to(tl.float32)
    weight_M1 = tl.load(weights_NA + choice_M).to(tl.float32)[:, None]
    out_MN, gate_MN, value_MN = activated_backward(gate_MN, value_MN, grad_MN, GATED)
    part = grad_weight_CS + tl.program_id(0).to(tl.int64) * choices + choice_M
    tl.store(part, tl.sum(grad_MN * out_MN, axis=1), mask=alive_M)
    tl.store(slope_SG + at_MN, (gate_MN * weight_M1).to(slope_SG.dtype.element_ty), mask=inside_MN)
    if GATED:
        slope = slope_SG + at_MN + hidden
        tl.store(slope, (value_MN * weight_M1).to(slope_SG.dtype.element_ty), mask=inside_MN)


@triton.jit
def weights_product(
    left, right, order_S, bounds_E, out_CEPQ, experts, parts, rows, columns,
    ACTIVE: tl.constexpr, LEFT_GATHERED: tl.constexpr, EVEN_P: tl.constexpr, EVEN_Q: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out[part, expert] = leftᵀ · right over a part of the expert's rows. One side is gathered by token.

    Axis 0 are tiles of the [P, Q] matrix, axis 1 experts, axis 2 parts of an expert's rows.
    """
    expert = tl.program_id(1).to(tl.int64)
    begin, end = tl.load(bounds_E + expert), tl.load(bounds_E + expert + 1)
    length = tl.cdiv(end - begin, parts * K) * K
    begin += tl.program_id(2) * length
    end = tl.minimum(end, begin + length)
    across = tl.cdiv(columns, N)
    row_M = tl.program_id(0) // across * M + tl.arange(0, M)
    column_N = tl.program_id(0) % across * N + tl.arange(0, N)
    out_MN = tl.zeros((M, N), tl.float32)
    for k in range(begin, end, K):
        row_K = k + tl.arange(0, K)
        alive_K = row_K < end
        token_K = (tl.load(order_S + row_K, mask=alive_K, other=0) // ACTIVE).to(tl.int64)
        left_K, right_K = row_K.to(tl.int64), token_K
        if LEFT_GATHERED:
            left_K, right_K = token_K, row_K.to(tl.int64)
        left_mask = alive_K[:, None] if EVEN_P else alive_K[:, None] & (row_M < rows)[None, :]
        right_mask = alive_K[:, None] if EVEN_Q else alive_K[:, None] & (column_N < columns)[None, :]
        left_KM = tl.load(left + left_K[:, None] * rows + row_M[None, :], mask=left_mask, other=0.0)
        right_KN = tl.load(right + right_K[:, None] * columns + column_N[None, :], mask=right_mask, other=0.0)
        out_MN = tl.dot(tl.trans(left_KM), right_KN, out_MN, input_precision="ieee")
    matrix = (tl.program_id(2) * experts + expert) * rows * columns
    at_MN = out_CEPQ + matrix + row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    inside_MN = (row_M < rows)[:, None] & (column_N < columns)[None, :]
    tl.store(at_MN, out_MN.to(out_CEPQ.dtype.element_ty), mask=inside_MN)

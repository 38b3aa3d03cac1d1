"""The kernels of ``expert_products`` in Triton, for any GPU.

Axis 0 of a grid is columns, axis 1 tiles of rows, so that programs at work together share their rows. M rows, N columns
and K, the depth of a step, are a program's tile. Sizes that a tile divides need no masks: EVEN_.. says so.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


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
def weights_product(
    left, right, bounds_E, out_CEPQ, experts, parts, rows, columns,
    EVEN_P: tl.constexpr, EVEN_Q: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out[part, expert] = leftᵀ · right over a part of the expert's rows.

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
        at_K1 = row_K.to(tl.int64)[:, None]
        left_mask = alive_K[:, None] if EVEN_P else alive_K[:, None] & (row_M < rows)[None, :]
        right_mask = alive_K[:, None] if EVEN_Q else alive_K[:, None] & (column_N < columns)[None, :]
        left_KM = tl.load(left + at_K1 * rows + row_M[None, :], mask=left_mask, other=0.0)
        right_KN = tl.load(right + at_K1 * columns + column_N[None, :], mask=right_mask, other=0.0)
        out_MN = tl.dot(tl.trans(left_KM), right_KN, out_MN, input_precision="ieee")
    matrix = (tl.program_id(2) * experts + expert) * rows * columns
    at_MN = out_CEPQ + matrix + row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    inside_MN = (row_M < rows)[:, None] & (column_N < columns)[None, :]
    tl.store(at_MN, out_MN.to(out_CEPQ.dtype.element_ty), mask=inside_MN)

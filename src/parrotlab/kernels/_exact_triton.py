"""The Triton kernel of ``exact``: a product as exact as float32's, on tensor cores, which multiply bfloat16.

A float32 number is the sum of three bfloat16 numbers to its last bit, and a product of two of those is exact in the
float32 that tensor cores add up in. Of the nine pairs of parts the three smallest are below what float32 rounds off.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _split(number):
    """A float32 number as one of 8 bits, which bfloat16 holds, and the rest.

    Rounded as a whole number, which saves a conversion and back. The rest of what is not a number is none.
    """
    first = ((number.to(tl.uint32, bitcast=True) + 0x8000) & 0xFFFF0000).to(tl.float32, bitcast=True)
    return first, number - first


@triton.jit
def _add_product(
    sum_MN, rest_MN, left_MK, right_KN,
    LEFT_SPLIT: tl.constexpr, RIGHT_SPLIT: tl.constexpr, THIRD: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """sum + left · right, whose smaller parts go to the rest, of operands that are split or are bfloat16 already.

    Tensor cores cut off what they add to a large sum: the smaller parts have a sum of their own. The THIRD parts, and
    what is as small, are left out where the result is rounded to bfloat16.
    """
    left_1, left_2 = _split(left_MK) if LEFT_SPLIT else (left_MK, left_MK)
    right_1, right_2 = _split(right_KN) if RIGHT_SPLIT else (right_KN, right_KN)
    if RIGHT_SPLIT and THIRD:
        right_2, right_3 = _split(right_2)
        rest_MN = tl.dot(left_1.to(PART), right_3.to(PART), rest_MN)
    if LEFT_SPLIT and THIRD:
        left_2, left_3 = _split(left_2)
        rest_MN = tl.dot(left_3.to(PART), right_1.to(PART), rest_MN)
    if RIGHT_SPLIT:
        rest_MN = tl.dot(left_1.to(PART), right_2.to(PART), rest_MN)
    if LEFT_SPLIT:
        rest_MN = tl.dot(left_2.to(PART), right_1.to(PART), rest_MN)
    if LEFT_SPLIT and RIGHT_SPLIT and THIRD:
        rest_MN = tl.dot(left_2.to(PART), right_2.to(PART), rest_MN)
    return tl.dot(left_1.to(PART), right_1.to(PART), sum_MN), rest_MN


@triton.jit
def product(
    left, right, out_CRMN, rows, columns, depth, share, parts,
    left_replica, left_row, left_step, right_replica, right_step, right_column,
    LEFT_SPLIT: tl.constexpr, RIGHT_SPLIT: tl.constexpr, THIRD: tl.constexpr, PART: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out[part, replica] = left · right over a part's ``share`` of the depth; operands of any strides.

    PART is what parts are multiplied in: bfloat16, or float32 in Triton's interpreter. Axis 0 are tiles of rows, axis 1
    tiles of columns, axis 2 replicas' parts.
    """
    replica, part = tl.program_id(2) // parts, tl.program_id(2) % parts
    row_M = tl.program_id(0) * M + tl.arange(0, M)
    column_N = tl.program_id(1) * N + tl.arange(0, N)
    left += replica.to(tl.int64) * left_replica
    right += replica.to(tl.int64) * right_replica
    begin = part * share
    end = tl.minimum(begin + share, depth)
    left_M1 = row_M.to(tl.int64)[:, None] * left_row
    right_1N = column_N.to(tl.int64)[None, :] * right_column
    sum_MN = tl.zeros((M, N), tl.float32)
    rest_MN = tl.zeros((M, N), tl.float32)
    for k in range(begin, end, K):
        at_K = (k + tl.arange(0, K)).to(tl.int64)
        inside_K = at_K < end
        left_mask = (row_M < rows)[:, None] & inside_K[None, :]
        right_mask = inside_K[:, None] & (column_N < columns)[None, :]
        left_MK = tl.load(left + left_M1 + at_K[None, :] * left_step, mask=left_mask, other=0.0)
        right_KN = tl.load(right + at_K[:, None] * right_step + right_1N, mask=right_mask, other=0.0)
        sum_MN, rest_MN = _add_product(sum_MN, rest_MN, left_MK, right_KN, LEFT_SPLIT, RIGHT_SPLIT, THIRD, PART)
    sum_MN += rest_MN
    replicas = tl.num_programs(2) // parts
    out = out_CRMN + (part * replicas + replica).to(tl.int64) * rows * columns
    inside_MN = (row_M < rows)[:, None] & (column_N < columns)[None, :]
    at_MN = row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    tl.store(out + at_MN, sum_MN.to(out_CRMN.dtype.element_ty), mask=inside_MN)


@triton.jit
def wide_product(
    left_RMK, right, out_RMN, rows, columns, depth, walkers, right_replica, right_step, right_column,
    RIGHT_SPLIT: tl.constexpr, PART: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out = left · right to bfloat16's last bit, of a depth that fits into one step; left is float32 and contiguous.

    Axis 1 are tiles of columns, whose block of the right operand is split once. Axis 0 are the walkers that share the
    tiles of rows, axis 2 replicas.
    """
    replica = tl.program_id(2).to(tl.int64)
    lane_M, at_K = tl.arange(0, M), tl.arange(0, K)
    column_N = tl.program_id(1) * N + tl.arange(0, N)
    inside_K, inside_N = at_K < depth, column_N < columns
    at_KN = at_K.to(tl.int64)[:, None] * right_step + column_N.to(tl.int64)[None, :] * right_column
    right_mask = inside_K[:, None] & inside_N[None, :]
    right_KN = tl.load(right + replica * right_replica + at_KN, mask=right_mask, other=0.0)
    right_1, right_2 = _split(right_KN) if RIGHT_SPLIT else (right_KN, right_KN)
    right_1, right_2 = right_1.to(PART), right_2.to(PART)
    left_RMK += replica * rows * depth
    out_RMN += replica * rows * columns
    for first in range(tl.program_id(0) * M, rows, walkers * M):
        row_M = (first + lane_M).to(tl.int64)
        inside_M = row_M < rows
        left_mask = inside_M[:, None] & inside_K[None, :]
        left_MK = tl.load(left_RMK + row_M[:, None] * depth + at_K[None, :], mask=left_mask, other=0.0)
        left_1, left_2 = _split(left_MK)
        sum_MN = tl.dot(left_2.to(PART), right_1)
        if RIGHT_SPLIT:
            sum_MN = tl.dot(left_1.to(PART), right_2, sum_MN)
        sum_MN = tl.dot(left_1.to(PART), right_1, sum_MN)
        at_MN = out_RMN + row_M[:, None] * columns + column_N[None, :]
        tl.store(at_MN, sum_MN.to(out_RMN.dtype.element_ty), mask=inside_M[:, None] & inside_N[None, :])

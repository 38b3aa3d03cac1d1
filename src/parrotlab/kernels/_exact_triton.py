"""The Triton kernel of ``exact``: a product as exact as float32's, on tensor cores, which multiply bfloat16.

A float32 number is the sum of three bfloat16 numbers to its last bit, and a product of two of those is exact in the
float32 that tensor cores add up in. Of the nine pairs of parts the three smallest are below what float32 rounds off.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _parts(number):
    """Three bfloat16 numbers whose sum is the float32 one."""
    first = number.to(tl.bfloat16)
    rest = number - first.to(tl.float32)
    second = rest.to(tl.bfloat16)
    return first, second, (rest - second.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def _add_product(
    sum_MN, rest_MN, left_MK, right_KN, LEFT_SPLIT: tl.constexpr, RIGHT_SPLIT: tl.constexpr, PART: tl.constexpr
):
    """sum + left · right, whose smaller parts go to the rest, of operands that are split or are bfloat16 already.

    Tensor cores cut off what they add to a large sum: the smaller parts have a sum of their own.
    """
    left_1, left_2, left_3 = _parts(left_MK.to(tl.float32))
    right_1, right_2, right_3 = _parts(right_KN.to(tl.float32))
    if RIGHT_SPLIT:
        rest_MN = tl.dot(left_1.to(PART), right_3.to(PART), rest_MN)
        rest_MN = tl.dot(left_1.to(PART), right_2.to(PART), rest_MN)
    if LEFT_SPLIT:
        rest_MN = tl.dot(left_3.to(PART), right_1.to(PART), rest_MN)
        rest_MN = tl.dot(left_2.to(PART), right_1.to(PART), rest_MN)
    if LEFT_SPLIT and RIGHT_SPLIT:
        rest_MN = tl.dot(left_2.to(PART), right_2.to(PART), rest_MN)
    return tl.dot(left_1.to(PART), right_1.to(PART), sum_MN), rest_MN


@triton.jit
def product(
    left, right, out_CRMN, rows, columns, depth, share,
    left_replica, left_row, left_step, right_replica, right_step, right_column,
    LEFT_SPLIT: tl.constexpr, RIGHT_SPLIT: tl.constexpr, PART: tl.constexpr,
    PARTS: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """out[part, replica] = left · right over a part's ``share`` of the depth; operands of any strides.

    PART is what parts are multiplied in: bfloat16, or float32 in Triton's interpreter. Axis 0 are tiles of rows, axis 1
    tiles of columns, axis 2 replicas' parts.
    """
    replica, part = tl.program_id(2) // PARTS, tl.program_id(2) % PARTS
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
        sum_MN, rest_MN = _add_product(sum_MN, rest_MN, left_MK, right_KN, LEFT_SPLIT, RIGHT_SPLIT, PART)
    sum_MN += rest_MN
    replicas = tl.num_programs(2) // PARTS
    out = out_CRMN + (part * replicas + replica).to(tl.int64) * rows * columns
    inside_MN = (row_M < rows)[:, None] & (column_N < columns)[None, :]
    at_MN = row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    tl.store(out + at_MN, sum_MN.to(out_CRMN.dtype.element_ty), mask=inside_MN)

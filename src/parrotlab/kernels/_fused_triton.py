"""The Triton kernels of ``fast_experts`` that make both products of an expert: the hidden layer is never written.

A program has M rows of one expert at their whole width, which LANES, a power of 2, holds; it goes through the expert's
hidden channels N at a time. EVEN_D: the width is LANES; EVEN_F: N divides the hidden width.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl

from parrotlab.kernels._activation_triton import activated, activated_backward
from parrotlab.kernels._tiled_triton import block, lines, rows_of


@triton.jit
def forward(
    x_ND, weights_NA, order_S, bounds_E, tiles_T3, up_EDG, down_EFD, out_SD, width, hidden,
    ACTIVE: tl.constexpr, GATED: tl.constexpr, LANES: tl.constexpr, EVEN_D: tl.constexpr, EVEN_F: tl.constexpr,
    TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """out = weight · activation(x[token] · up) · down."""
    expert, row_M, alive_M = rows_of(tiles_T3, bounds_E, M, TILE)
    if expert < 0:
        return
    choice_M = tl.load(order_S + row_M, mask=alive_M, other=0)
    lane_D = tl.arange(0, LANES)
    x_MD = lines(x_ND, (choice_M // ACTIVE).to(tl.int64)[:, None] * width, lane_D, width, EVEN_D)
    columns = hidden * 2 if GATED else hidden
    up = up_EDG + expert.to(tl.int64) * width * columns
    down = down_EFD + expert.to(tl.int64) * hidden * width
    checked: tl.constexpr = not (EVEN_D and EVEN_F)
    out_MD = tl.zeros((M, LANES), tl.float32)
    for first in range(0, hidden, N):
        column_N = first + tl.arange(0, N)
        gate_DN = block(up, lane_D, column_N, columns, width, hidden, checked)
        gate_MN = tl.dot(x_MD, gate_DN, input_precision="ieee")
        value_MN = gate_MN
        if GATED:
            value_DN = block(up + hidden, lane_D, column_N, columns, width, hidden, checked)
            value_MN = tl.dot(x_MD, value_DN, input_precision="ieee")
        hidden_MN = activated(gate_MN, value_MN, GATED).to(x_MD.dtype)
        down_ND = block(down, column_N, lane_D, width, hidden, width, checked)
        out_MD = tl.dot(hidden_MN, down_ND, out_MD, input_precision="ieee")
    weight_M = tl.load(weights_NA + choice_M).to(tl.float32)
    at_MD = out_SD + row_M.to(tl.int64)[:, None] * width + lane_D[None, :]
    inside_MD = alive_M[:, None] & (lane_D < width)[None, :]
    tl.store(at_MD, (out_MD * weight_M[:, None]).to(out_SD.dtype.element_ty), mask=inside_MD)


@triton.jit
def backward(
    grad_ND, x_ND, weights_NA, order_S, bounds_E, tiles_T3, up_EDG, down_EFD, slope_SG, hidden_SF, grad_x_SD,
    grad_weight_CS, width, hidden, choices,
    ACTIVE: tl.constexpr, GATED: tl.constexpr, LANES: tl.constexpr, EVEN_D: tl.constexpr, EVEN_F: tl.constexpr,
    TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """All but the matrices' gradients, and what these need: slope before the activation, weight · activation."""
    expert, row_M, alive_M = rows_of(tiles_T3, bounds_E, M, TILE)
    if expert < 0:
        return
    choice_M = tl.load(order_S + row_M, mask=alive_M, other=0)
    lane_D = tl.arange(0, LANES)
    start_M1 = (choice_M // ACTIVE).to(tl.int64)[:, None] * width
    x_MD = lines(x_ND, start_M1, lane_D, width, EVEN_D)
    grad_MD = lines(grad_ND, start_M1, lane_D, width, EVEN_D)
    weight_M1 = tl.load(weights_NA + choice_M).to(tl.float32)[:, None]
    columns = hidden * 2 if GATED else hidden
    up = up_EDG + expert.to(tl.int64) * width * columns
    down = down_EFD + expert.to(tl.int64) * hidden * width
    row_M1 = row_M.to(tl.int64)[:, None]
    checked: tl.constexpr = not (EVEN_D and EVEN_F)
    grad_x_MD = tl.zeros((M, LANES), tl.float32)
    part = grad_weight_CS + choice_M
    for first in range(0, hidden, N):
        column_N = first + tl.arange(0, N)
        inside_MN = alive_M[:, None] & (column_N < hidden)[None, :]
        down_ND = block(down, column_N, lane_D, width, hidden, width, checked)
        grad_MN = tl.dot(grad_MD, tl.trans(down_ND), input_precision="ieee")
        gate_DN = block(up, lane_D, column_N, columns, width, hidden, checked)
        gate_MN = tl.dot(x_MD, gate_DN, input_precision="ieee")
        value_DN, value_MN = gate_DN, gate_MN
        if GATED:
            value_DN = block(up + hidden, lane_D, column_N, columns, width, hidden, checked)
            value_MN = tl.dot(x_MD, value_DN, input_precision="ieee")
        hidden_MN, gate_MN, value_MN = activated_backward(gate_MN, value_MN, grad_MN, GATED)
        # Not added up from step to step: such a sum makes the compiler serialize the products.
        tl.store(part, tl.sum(grad_MN * hidden_MN, axis=1), mask=alive_M)
        part += choices
        hidden_at = hidden_SF + row_M1 * hidden + column_N[None, :]
        tl.store(hidden_at, (hidden_MN * weight_M1).to(hidden_SF.dtype.element_ty), mask=inside_MN)
        slope_at = slope_SG + row_M1 * columns + column_N[None, :]
        slope_gate_MN = (gate_MN * weight_M1).to(x_MD.dtype)
        tl.store(slope_at, slope_gate_MN, mask=inside_MN)
        grad_x_MD = tl.dot(slope_gate_MN, tl.trans(gate_DN), grad_x_MD, input_precision="ieee")
        if GATED:
            slope_value_MN = (value_MN * weight_M1).to(x_MD.dtype)
            tl.store(slope_at + hidden, slope_value_MN, mask=inside_MN)
            grad_x_MD = tl.dot(slope_value_MN, tl.trans(value_DN), grad_x_MD, input_precision="ieee")
    out_at = grad_x_SD + row_M1 * width + lane_D[None, :]
    inside_MD = alive_M[:, None] & (lane_D < width)[None, :]
    tl.store(out_at, grad_x_MD.to(grad_x_SD.dtype.element_ty), mask=inside_MD)

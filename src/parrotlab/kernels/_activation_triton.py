"""The pass between the two products of experts, forward and backward: activation and routing weight, in float32.

A row is a choice's, in the order of the experts. GATED: SwiGLU of gates and values, which lie beside each other; else
GELU. EXACT: for float32; bfloat16 tells 4e-3 apart.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normal(x, EXACT: tl.constexpr):
    """Φ(x) = (1 + erf(x / √2)) / 2; or, to 2e-5, in 12 instructions, a third of erf's.

    A polynomial fitted to the least largest error up to 4.5, beyond which Φ is 0 or 1 to 4e-6.
    """
    if EXACT:
        out = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    else:
        x = tl.minimum(tl.maximum(x, -4.5), 4.5)
        square = x * x
        out = square * -1.72628535e-12 + 2.022398658e-10
        out = out * square - 1.056693712e-08
        out = out * square + 3.27888699e-07
        out = out * square - 6.813682045e-06
        out = out * square + 0.0001017337227
        out = out * square - 0.001142713618
        out = out * square + 0.009891770155
        out = out * square - 0.06642067593
        out = out * square + 0.3989246706
        out = out * x + 0.5
    return out


@triton.jit
def _rows(order_S, weights_NA, choices, ROWS: tl.constexpr):
    """Rows, which of them exist, the choices that they are, and what those weigh."""
    row_S = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    alive_S = row_S < choices
    choice_S = tl.load(order_S + row_S, mask=alive_S, other=0)
    return row_S, alive_S, choice_S, tl.load(weights_NA + choice_S).to(tl.float32)


@triton.jit
def activate(
    before_SG, weights_NA, order_S, hidden_SF, choices, hidden,
    GATED: tl.constexpr, EXACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """hidden = weight · activation(before)."""
    row_S, alive_S, _, weight_S = _rows(order_S, weights_NA, choices, ROWS)
    column_F = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside_SF = alive_S[:, None] & (column_F < hidden)[None, :]
    columns = hidden * 2 if GATED else hidden
    before = before_SG + row_S[:, None] * columns + column_F[None, :]
    gate_SF = tl.load(before, mask=inside_SF, other=0.0).to(tl.float32)
    if GATED:
        value_SF = tl.load(before + hidden, mask=inside_SF, other=0.0).to(tl.float32)
        out_SF = gate_SF * tl.sigmoid(gate_SF) * value_SF
    else:
        out_SF = gate_SF * _normal(gate_SF, EXACT)
    at_SF = hidden_SF + row_S[:, None] * hidden + column_F[None, :]
    tl.store(at_SF, (out_SF * weight_S[:, None]).to(hidden_SF.dtype.element_ty), mask=inside_SF)


@triton.jit
def activate_backward(
    grad_SF, before_SG, weights_NA, order_S, slope_SG, grad_weights_NA, choices, hidden,
    GATED: tl.constexpr, EXACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """slope, the gradient of ``before``, and that of each choice's weight, given the hidden layer's."""
    row_S, alive_S, choice_S, weight_S = _rows(order_S, weights_NA, choices, ROWS)
    columns = hidden * 2 if GATED else hidden
    sum_S = tl.zeros((ROWS,), tl.float32)
    for first in range(0, hidden, COLUMNS):
        column_F = first + tl.arange(0, COLUMNS)
        inside_SF = alive_S[:, None] & (column_F < hidden)[None, :]
        given_SF = tl.load(grad_SF + row_S[:, None] * hidden + column_F[None, :], mask=inside_SF, other=0.0)
        slope_SF = given_SF.to(tl.float32) * weight_S[:, None]
        at_SF = row_S[:, None] * columns + column_F[None, :]
        gate_SF = tl.load(before_SG + at_SF, mask=inside_SF, other=0.0).to(tl.float32)
        if GATED:
            value_SF = tl.load(before_SG + at_SF + hidden, mask=inside_SF, other=0.0).to(tl.float32)
            share_SF = tl.sigmoid(gate_SF)
            silu_SF = gate_SF * share_SF
            out_SF = silu_SF * value_SF
            value_slope_SF = (slope_SF * silu_SF).to(slope_SG.dtype.element_ty)
            tl.store(slope_SG + at_SF + hidden, value_slope_SF, mask=inside_SF)
            slope_SF *= value_SF * (share_SF + silu_SF * (1.0 - share_SF))
        else:
            share_SF = _normal(gate_SF, EXACT)
            out_SF = gate_SF * share_SF
            slope_SF *= share_SF + gate_SF * 0.3989422804014327 * tl.exp(-0.5 * gate_SF * gate_SF)
        sum_S += tl.sum(given_SF.to(tl.float32) * out_SF, axis=1)
        tl.store(slope_SG + at_SF, slope_SF.to(slope_SG.dtype.element_ty), mask=inside_SF)
    tl.store(grad_weights_NA + choice_S, sum_S, mask=alive_S)

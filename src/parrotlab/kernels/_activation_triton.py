"""The activations within Triton kernels, forward and backward, in float32: SwiGLU of gate and value, or GELU."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activated(gate, value, GATED: tl.constexpr):
    """silu(gate) · value; or gelu(gate), without a value."""
    if GATED:
        out = gate * tl.sigmoid(gate) * value
    else:
        out = gate * 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))
    return out


@triton.jit
def activated_backward(gate, value, slope, GATED: tl.constexpr):
    """The activation, and the gradients of gate and value, given its own. Without a value, the gate's twice."""
    if GATED:
        sigmoid = tl.sigmoid(gate)
        silu = gate * sigmoid
        out = silu * value
        slope_gate = slope * value * (sigmoid + silu * (1.0 - sigmoid))
        slope_value = slope * silu
    else:
        share = 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))
        out = gate * share
        slope_gate = slope * (share + gate * 0.3989422804014327 * tl.exp(-0.5 * gate * gate))
        slope_value = slope_gate
    return out, slope_gate, slope_value

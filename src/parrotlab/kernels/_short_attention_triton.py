"""The Triton kernels of ``short_attention``: a program has one tile of whole rows and one head of keys and values.

Channels come in halves (c, c + C/2), which rotary positions turn into each other. M and N are places in the tile.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(
    n_tokens, T: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr, TILE: tl.constexpr, USED: tl.constexpr
):
    """Tokens of this tile, which of them exist, channels of a half, which exist, and who may look at whom."""
    place_M = tl.arange(0, TILE)
    token_M = tl.program_id(0).to(tl.int64) * USED + place_M
    alive_M = (place_M < USED) & (token_M < n_tokens)
    half_C = tl.arange(0, HALF)
    same_row = (place_M[:, None] // T) == (place_M[None, :] // T)
    looks_MN = same_row & (place_M[None, :] <= place_M[:, None])
    return token_M, place_M % T, alive_M, half_C, half_C < CHANNELS // 2, looks_MN


@triton.jit
def _halves(base, token_M, column, stride, inside_MC, half_C, CHANNELS: tl.constexpr):
    """Both halves of a head's channels, [M, C/2] each."""
    at = base + token_M[:, None] * stride + column + half_C[None, :]
    return tl.load(at, mask=inside_MC, other=0.0), tl.load(at + CHANNELS // 2, mask=inside_MC, other=0.0)


@triton.jit
def _rotated(first, second, cosine, sine):
    """Both halves turned by their position's angle, in the precision that they came in."""
    turned_first = first.to(tl.float32) * cosine - second.to(tl.float32) * sine
    turned_second = second.to(tl.float32) * cosine + first.to(tl.float32) * sine
    return turned_first.to(first.dtype), turned_second.to(second.dtype)


@triton.jit
def _weights(query1, query2, key1, key2, looks_MN, scale):
    """[M, N] softmax over the places that may be looked at."""
    score = tl.dot(query1, tl.trans(key1), input_precision="ieee")
    score += tl.dot(query2, tl.trans(key2), input_precision="ieee")
    score = tl.where(looks_MN, score * scale, float("-inf"))
    weight = tl.exp(score - tl.max(score, axis=1)[:, None])
    return weight / tl.sum(weight, axis=1)[:, None]


@triton.jit
def _store_halves(base, token_M, column, stride, inside_MC, half_C, first, second, CHANNELS: tl.constexpr):
    at = base + token_M[:, None] * stride + column + half_C[None, :]
    tl.store(at, first.to(base.dtype.element_ty), mask=inside_MC)
    tl.store(at + CHANNELS // 2, second.to(base.dtype.element_ty), mask=inside_MC)


@triton.jit
def forward(
    qkv, cosine_TC, sine_TC, out, n_tokens,
    T: tl.constexpr, HEADS: tl.constexpr, GROUP: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr,
    TILE: tl.constexpr, USED: tl.constexpr,
):  # fmt: skip
    token_M, position_M, alive_M, half_C, real_C, looks_MN = _place(n_tokens, T, CHANNELS, HALF, TILE, USED)
    inside_MC = alive_M[:, None] & real_C[None, :]
    key_heads: tl.constexpr = HEADS // GROUP
    stride: tl.constexpr = (HEADS + 2 * key_heads) * CHANNELS
    key_head = tl.program_id(1)
    turn = position_M[:, None] * CHANNELS + half_C[None, :]
    cosine = tl.load(cosine_TC + turn, mask=inside_MC, other=1.0)
    sine = tl.load(sine_TC + turn, mask=inside_MC, other=0.0)

    key1, key2 = _halves(qkv, token_M, (HEADS + key_head) * CHANNELS, stride, inside_MC, half_C, CHANNELS)
    key1, key2 = _rotated(key1, key2, cosine, sine)
    value_column = (HEADS + key_heads + key_head) * CHANNELS
    value1, value2 = _halves(qkv, token_M, value_column, stride, inside_MC, half_C, CHANNELS)
    for member in tl.static_range(GROUP):
        column = (key_head * GROUP + member) * CHANNELS
        query1, query2 = _halves(qkv, token_M, column, stride, inside_MC, half_C, CHANNELS)
        query1, query2 = _rotated(query1, query2, cosine, sine)
        weight = _weights(query1, query2, key1, key2, looks_MN, CHANNELS**-0.5).to(value1.dtype)
        out1 = tl.dot(weight, value1, input_precision="ieee")
        out2 = tl.dot(weight, value2, input_precision="ieee")
        _store_halves(out, token_M, column, HEADS * CHANNELS, inside_MC, half_C, out1, out2, CHANNELS)


@triton.jit
def backward(
    qkv, cosine_TC, sine_TC, grad_out, grad_qkv, n_tokens,
    T: tl.constexpr, HEADS: tl.constexpr, GROUP: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr,
    TILE: tl.constexpr, USED: tl.constexpr,
):  # fmt: skip
    token_M, position_M, alive_M, half_C, real_C, looks_MN = _place(n_tokens, T, CHANNELS, HALF, TILE, USED)
    inside_MC = alive_M[:, None] & real_C[None, :]
    key_heads: tl.constexpr = HEADS // GROUP
    stride: tl.constexpr = (HEADS + 2 * key_heads) * CHANNELS
    key_head = tl.program_id(1)
    turn = position_M[:, None] * CHANNELS + half_C[None, :]
    cosine = tl.load(cosine_TC + turn, mask=inside_MC, other=1.0)
    sine = tl.load(sine_TC + turn, mask=inside_MC, other=0.0)
    scale = CHANNELS**-0.5

    key_column, value_column = (HEADS + key_head) * CHANNELS, (HEADS + key_heads + key_head) * CHANNELS
    key1, key2 = _halves(qkv, token_M, key_column, stride, inside_MC, half_C, CHANNELS)
    key1, key2 = _rotated(key1, key2, cosine, sine)
    value1, value2 = _halves(qkv, token_M, value_column, stride, inside_MC, half_C, CHANNELS)
    grad_key1 = tl.zeros((TILE, HALF), tl.float32)
    grad_key2 = tl.zeros((TILE, HALF), tl.float32)
    grad_value1 = tl.zeros((TILE, HALF), tl.float32)
    grad_value2 = tl.zeros((TILE, HALF), tl.float32)
    for member in tl.static_range(GROUP):
        column = (key_head * GROUP + member) * CHANNELS
        query1, query2 = _halves(qkv, token_M, column, stride, inside_MC, half_C, CHANNELS)
        query1, query2 = _rotated(query1, query2, cosine, sine)
        grad1, grad2 = _halves(grad_out, token_M, column, HEADS * CHANNELS, inside_MC, half_C, CHANNELS)
        weight = _weights(query1, query2, key1, key2, looks_MN, scale)
        turned_weight = tl.trans(weight).to(grad1.dtype)
        grad_value1 += tl.dot(turned_weight, grad1, input_precision="ieee")
        grad_value2 += tl.dot(turned_weight, grad2, input_precision="ieee")
        grad_weight = tl.dot(grad1, tl.trans(value1), input_precision="ieee")
        grad_weight += tl.dot(grad2, tl.trans(value2), input_precision="ieee")
        # The softmax's backward: what a score gains is what its weight gains above the row's mean.
        mean = tl.sum(weight * grad_weight, axis=1)
        grad_score = (weight * (grad_weight - mean[:, None]) * scale).to(key1.dtype)
        grad_query1 = tl.dot(grad_score, key1, input_precision="ieee")
        grad_query2 = tl.dot(grad_score, key2, input_precision="ieee")
        grad_query1, grad_query2 = _rotated(grad_query1, grad_query2, cosine, -sine)
        _store_halves(grad_qkv, token_M, column, stride, inside_MC, half_C, grad_query1, grad_query2, CHANNELS)
        turned_score = tl.trans(grad_score)
        grad_key1 += tl.dot(turned_score, query1, input_precision="ieee")
        grad_key2 += tl.dot(turned_score, query2, input_precision="ieee")
    grad_key1, grad_key2 = _rotated(grad_key1, grad_key2, cosine, -sine)
    _store_halves(grad_qkv, token_M, key_column, stride, inside_MC, half_C, grad_key1, grad_key2, CHANNELS)
    _store_halves(grad_qkv, token_M, value_column, stride, inside_MC, half_C, grad_value1, grad_value2, CHANNELS)

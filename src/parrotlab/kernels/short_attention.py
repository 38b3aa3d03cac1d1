"""Causal attention for short rows, with rotary positions: a Triton kernel, and the plain twin that is read.

The studies' rows have 10 to 100 tokens. A general kernel gives each row and head a tile of its own, most of it
empty; here a tile holds as many whole rows as fit, and a mask keeps them apart. Queries, keys and values are
read where the projection left them, and nothing in between is written: the backward computes it again.
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parrotlab.kernels._tiles import lanes

_triton: Any = None  # CPU builds of torch come without it
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _short_attention_triton as _triton

TILES = (64, 128)
"""Tokens of a tile; longer rows go to the general kernels."""


def fits(qkv_NK: Tensor, positions: int, channels: int) -> bool:
    """Can the kernel take these rows? It computes in bfloat16, or float32 in Triton's interpreter."""
    usable = _triton is not None and qkv_NK.is_cuda and qkv_NK.dtype == torch.bfloat16
    return usable and positions <= TILES[-1] and channels <= 128


def short_attention(qkv_NK: Tensor, cosine_TC: Tensor, sine_TC: Tensor, heads: int, group: int) -> Tensor:
    """[N, H·C] what each head of each token gathers. N is rows of T tokens; K holds the queries' H·C channels,
    then the keys' and the values' H·C/group each. Cosines and sines as ``attention.rotation`` makes them.
    """
    return _ShortAttention.apply(qkv_NK.contiguous(), cosine_TC.contiguous(), sine_TC.contiguous(), heads, group)


def short_attention_reference(qkv_NK: Tensor, cosine_TC: Tensor, sine_TC: Tensor, heads: int, group: int) -> Tensor:
    """The same, plainly."""
    positions, channels = cosine_TC.shape
    keys = heads // group * channels
    query, key, value = (
        part.view(-1, positions, part.shape[-1] // channels, channels).transpose(1, 2)
        for part in qkv_NK.split((heads * channels, keys, keys), dim=-1)
    )

    def rotate(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cosine_TC + torch.cat((-second, first), dim=-1) * sine_TC

    gathered = F.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True, enable_gqa=group > 1)
    return gathered.transpose(1, 2).reshape(-1, heads * channels)


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv_NK: Tensor, cosine_TC: Tensor, sine_TC: Tensor, heads: int, group: int) -> Tensor:
        ctx.save_for_backward(qkv_NK, cosine_TC, sine_TC)
        ctx.heads, ctx.group = heads, group
        out_NK = qkv_NK.new_empty(qkv_NK.shape[0], heads * cosine_TC.shape[1])
        grid, sizes = _launch(qkv_NK, cosine_TC, heads, group)
        _triton.forward[grid](qkv_NK, cosine_TC, sine_TC, out_NK, qkv_NK.shape[0], **sizes)
        return out_NK

    @staticmethod
    def backward(ctx, grad_NK: Tensor) -> tuple[Tensor, None, None, None, None]:
        qkv_NK, cosine_TC, sine_TC = ctx.saved_tensors
        grad_qkv_NK = torch.empty_like(qkv_NK)
        grid, sizes = _launch(qkv_NK, cosine_TC, ctx.heads, ctx.group)
        _triton.backward[grid](qkv_NK, cosine_TC, sine_TC, grad_NK.contiguous(), grad_qkv_NK, qkv_NK.shape[0], **sizes)
        return grad_qkv_NK, None, None, None, None


def _launch(qkv_NK: Tensor, cosine_TC: Tensor, heads: int, group: int) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid (tiles of tokens, heads of keys), and the sizes that a kernel is compiled for."""
    positions, channels = cosine_TC.shape
    tile = next(tile for tile in TILES if positions <= tile)
    used = tile // positions * positions
    sizes = {
        "T": positions,
        "HEADS": heads,
        "GROUP": group,
        "CHANNELS": channels,
        "HALF": lanes(channels // 2),  # sides of a product: powers of 2, at least 16
        "TILE": tile,
        "USED": used,
        "num_warps": tile // 16,
    }
    return ((qkv_NK.shape[0] + used - 1) // used, heads // group), sizes

"""Causal self-attention with rotary positions (RoPE, arXiv:2104.09864), grouped queries and QK-norm as options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrotlab.kernels.short_attention import fits, short_attention
from parrotlab.model.norm import RMSNorm

Gather = Callable[[Tensor, Tensor, Tensor], Tensor]
"""[B, H, T, C] queries, keys and values (of H / group heads), rotated -> [B, H, T, C] what each query gathers."""

SHORT = 48
"""On a CPU, rows up to this length are two plain products: torch's kernel works in blocks that they leave empty."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Heads of ``width / heads`` channels each."""

    heads: int
    group: int = 1
    """Query heads that share one key and value head (grouped-query attention, arXiv:2305.13245)."""
    qk_norm: bool = False
    """Normalise queries and keys over a head's channels (as OLMoE does, but per head)."""
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ValueError(f"attention needs at least 1 head, not {self.heads}")
        if self.group < 1 or self.heads % self.group:
            raise ValueError(f"{self.heads} heads cannot be shared in groups of {self.group}")

    def columns(self, width: int) -> tuple[int, int, int]:
        """Columns of the query, key and value projections at a model width."""
        if width % self.heads:
            raise ValueError(f"width {width} cannot be divided among {self.heads} heads")
        channels = width // self.heads
        if channels % 2:
            raise ValueError(
                f"rotary positions need an even number of channels a head, not {width} / {self.heads} = {channels}"
            )
        shared = width // self.group
        return width, shared, shared


class AttentionLayer(nn.Module):
    """Each position gathers values from itself and the positions before it."""

    def __init__(self, design: Attention, width: int, epsilon: float, stack: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.design = design
        self.columns = design.columns(width)
        self.qkv_DK = nn.Parameter(torch.empty(*stack, width, sum(self.columns)))
        self.out_KD = nn.Parameter(torch.empty(*stack, width, width))
        if design.qk_norm:
            channels = width // design.heads
            self.query_norm = RMSNorm(channels, epsilon, stack)
            self.key_norm = RMSNorm(channels, epsilon, stack)

    def forward(self, x_ND: Tensor, rotation: tuple[Tensor, Tensor], gather: Gather | None = None) -> Tensor:
        """[*R, N, D] tokens of rows as long as the rotation -> the same shape.

        Each token looks at its row up to itself; where it looks elsewhere, ``gather`` says what it finds.
        """
        qkv_NK = x_ND @ self.qkv_DK
        heads, group = self.design.heads, self.design.group
        if gather is None and not self.design.qk_norm and fits(qkv_NK, *rotation[0].shape):
            gathered_NK = short_attention(qkv_NK.flatten(0, -2), *rotation, heads, group)
        else:
            gathered_NK = self._general(qkv_NK, rotation, gather)
        return gathered_NK.view(x_ND.shape) @ self.out_KD

    def _general(self, qkv_NK: Tensor, rotation: tuple[Tensor, Tensor], gather: Gather | None) -> Tensor:
        """Rows of any length, by torch's own kernels."""
        positions, channels = rotation[0].shape[-2:]
        query, key, value = (part.unflatten(-1, (-1, channels)) for part in qkv_NK.split(self.columns, dim=-1))
        if self.design.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        query_BHTC, key_BHTC, value_BHTC = (
            part.reshape(-1, positions, *part.shape[-2:]).transpose(1, 2) for part in (query, key, value)
        )
        query_BHTC, key_BHTC = rotate(query_BHTC, rotation), rotate(key_BHTC, rotation)
        if gather is not None:
            gathered_BHTC = gather(query_BHTC, key_BHTC, value_BHTC)
        elif positions <= SHORT and self.design.group == 1 and not qkv_NK.is_cuda:
            gathered_BHTC = plainly_gathered(query_BHTC, key_BHTC, value_BHTC)
        else:
            gathered_BHTC = F.scaled_dot_product_attention(
                query_BHTC, key_BHTC, value_BHTC, is_causal=True, enable_gqa=self.design.group > 1
            )
        return gathered_BHTC.transpose(1, 2).reshape(*qkv_NK.shape[:-1], self.columns[0])


def plainly_gathered(query_BHTC: Tensor, key_BHTC: Tensor, value_BHTC: Tensor) -> Tensor:
    """Causal ``scaled_dot_product_attention`` as the formula has it."""
    query, key, value = (part.flatten(0, 1) for part in (query_BHTC, key_BHTC, value_BHTC))
    positions, channels = query.shape[-2:]
    later_TT = query.new_full((positions, positions), -torch.inf).triu(1)
    weights = torch.baddbmm(later_TT, query, key.mT, alpha=channels**-0.5).softmax(dim=-1)
    return (weights @ value).view_as(query_BHTC)


def rotation(positions: int, channels: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """[T, C] cosines and sines of the angle by which each position turns each pair of channels (c, c + C/2)."""
    return turns(torch.arange(positions, device=device), channels, theta)


def turns(positions: Tensor, channels: int, theta: float) -> tuple[Tensor, Tensor]:
    """[...] positions -> [..., C] cosines and sines, as ``rotation`` has them for the positions from 0 on."""
    frequency = theta ** (-torch.arange(0, channels, 2, device=positions.device, dtype=torch.float32) / channels)
    angle = positions.to(torch.float32).unsqueeze(-1) * frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x_BHTC: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turns each pair of channels (c, c + C/2) by its position's angle."""
    cosine_TC, sine_TC = rotation
    first, second = x_BHTC.chunk(2, dim=-1)
    turned = x_BHTC * cosine_TC + torch.cat((-second, first), dim=-1) * sine_TC
    return turned.to(x_BHTC.dtype)

"""The likeliest token of a few rows: the largest of their logits, which are not kept.

A CPU's product copies a large matrix into the order in which it reads it, whatever the number of rows; for a few rows
that takes longer than the product. A head in panels, each a matrix that lies together and fits the cache, is read as it
lies. The plain twin is ``(x_ND @ head_DV).argmax(dim=-1)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PANEL = 256
"""Tokens of a panel. Of 128 to 512, all are as fast."""
LARGE = 1 << 21
"""Numbers of a head from which panels pay: twice as fast for 4 to 16 rows, a quarter faster for 64 and more."""
FEW = 2
"""Rows up to which a product reads a matrix as it lies anyway."""


def likeliest(head_DV: Tensor) -> Callable[[Tensor], Tensor]:
    """[N, D] normed hidden states -> [N] tokens. It copies a large head of a CPU once, and is to be kept."""
    if head_DV.is_cuda or head_DV.numel() < max(LARGE, PANEL * head_DV.shape[0]):
        return lambda x_ND: plainly(x_ND, head_DV)
    return in_panels(head_DV)


def plainly(x_ND: Tensor, head_DV: Tensor) -> Tensor:
    """By the formula."""
    return (x_ND @ head_DV).argmax(dim=-1)


def in_panels(head_DV: Tensor) -> Callable[[Tensor], Tensor]:
    """By panels of the head, one at least, and a last product for what is left of it."""
    panels, width = head_DV.shape[-1] // PANEL, head_DV.shape[0]
    split = panels * PANEL
    panels_PDC = head_DV[:, :split].unflatten(-1, (panels, PANEL)).transpose(0, 1).contiguous()

    def of(x_ND: Tensor) -> Tensor:
        if len(x_ND) <= FEW:
            return plainly(x_ND, head_DV)
        logits_PNC = torch.bmm(x_ND.expand(panels, len(x_ND), width), panels_PDC)
        most_PN = logits_PNC.amax(dim=-1)  # a maximum with its place takes several times as long
        panel_N = most_PN.argmax(dim=0)
        token_N = PANEL * panel_N + logits_PNC[panel_N, torch.arange(len(x_ND))].argmax(dim=-1)
        if split == head_DV.shape[-1]:
            return token_N
        last_N, place_N = (x_ND @ head_DV[:, split:]).max(dim=-1)
        return torch.where(last_N > most_PN.amax(dim=0), split + place_N, token_N)

    return of

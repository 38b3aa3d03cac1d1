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
    if head_DV.is_cuda or head_DV.numel() < LARGE:
        return lambda x_ND: plainly(x_ND, head_DV)
    return in_panels(head_DV)


def plainly(x_ND: Tensor, head_DV: Tensor) -> Tensor:
    """By the formula."""
    return (x_ND @ head_DV).argmax(dim=-1)


def in_panels(head_DV: Tensor) -> Callable[[Tensor], Tensor]:
    """By panels of the head, and a last product for what is left of it."""
    panels, width = head_DV.shape[-1] // PANEL, head_DV.shape[0]
    split = panels * PANEL
    panels_PDC = head_DV[:, :split].unflatten(-1, (panels, PANEL)).transpose(0, 1).contiguous()

    def of(x_ND: Tensor) -> Tensor:
        if len(x_ND) <= FEW:
            return plainly(x_ND, head_DV)
        most_PN, place_PN = torch.bmm(x_ND.expand(panels, len(x_ND), width), panels_PDC).max(dim=-1)
        place_PN += PANEL * torch.arange(panels).unsqueeze(-1)
        if split < head_DV.shape[-1]:
            most_N, place_N = (x_ND @ head_DV[:, split:]).max(dim=-1)
            most_PN = torch.cat((most_PN, most_N.unsqueeze(0)))
            place_PN = torch.cat((place_PN, split + place_N.unsqueeze(0)))
        return place_PN.gather(0, most_PN.argmax(dim=0, keepdim=True)).squeeze(0)

    return of

"""A product that was made in parts, because it has too few tiles to fill a GPU: its parts added up and rounded, once.

The plain twin is ``parts.sum(dim=0).to(dtype)``, which is two kernels where the parts are float32 and the sum is not.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from parrotlab.kernels._tiles import power

_triton: Any = None  # CPU builds of torch come without it
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _parts_triton as _triton

MOST = 128
"""Parts that a program reads at once."""
BLOCK = 4096
"""Numbers that it reads at once."""
FEW = 8
"""Parts of which it reads half as many numbers at once."""


def added(parts_CX: Tensor, dtype: torch.dtype) -> Tensor:
    """[...] the sum over the first dimension of contiguous float32 parts; a lone part is itself the sum."""
    if len(parts_CX) == 1:
        return parts_CX[0].to(dtype)
    out_X = parts_CX.new_empty(parts_CX.shape[1:], dtype=dtype)
    rows = min(MOST, power(len(parts_CX)))
    columns = (BLOCK if rows > FEW else BLOCK // 2) // rows
    grid = (-(-out_X.numel() // columns),)
    _triton.add[grid](parts_CX, out_X, len(parts_CX), out_X.numel(), ROWS=rows, COLUMNS=columns)
    return out_X

"""The activations of feed-forwards, dense or mixed."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def activate(hidden_NG: Tensor, gated: bool) -> Tensor:
    """[.., G] -> [.., F]. SwiGLU (arXiv:2002.05202) on G = 2F columns, gates first; or GELU on G = F."""
    if gated:
        gate, value = hidden_NG.chunk(2, dim=-1)
        return F.silu(gate) * value
    return F.gelu(hidden_NG)

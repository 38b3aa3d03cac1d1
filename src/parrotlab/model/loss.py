"""The loss on each token that a row asks for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def token_losses(logits_BTV: Tensor, tokens_BT: Tensor, asked_BT: Tensor) -> Tensor:
    """[..., B, T - 1] nats on each token that is asked for, from the logits before it; 0 on the others."""
    shape = (*tokens_BT.shape[:-1], tokens_BT.shape[-1] - 1)
    loss = F.cross_entropy(
        logits_BTV.reshape(-1, logits_BTV.shape[-1]).float(), tokens_BT[..., 1:].reshape(-1), reduction="none"
    )
    return loss.view(shape) * asked_BT[..., 1:]

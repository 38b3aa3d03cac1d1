"""The loss on each token that a row asks for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from parrotlab.kernels.experts import product_dtype
from parrotlab.kernels.linear_cross_entropy import linear_cross_entropy


def token_losses(logits_BTV: Tensor, tokens_BT: Tensor, asked_BT: Tensor) -> Tensor:
    """[..., B, T - 1] nats on each token that is asked for, from the logits before it; 0 on the others."""
    shape = (*tokens_BT.shape[:-1], tokens_BT.shape[-1] - 1)
    loss = F.cross_entropy(
        logits_BTV.reshape(-1, logits_BTV.shape[-1]).float(), tokens_BT[..., 1:].reshape(-1), reduction="none"
    )
    return loss.view(shape) * asked_BT[..., 1:]


def mean_loss(logits_BTV: Tensor, tokens_BT: Tensor, asked_BT: Tensor) -> Tensor:
    """[*R] nats a token asked for."""
    return token_losses(logits_BTV, tokens_BT, asked_BT).sum(dim=(-1, -2)) / asked_BT.sum(dim=(-1, -2))


def mean_loss_by_chunks(normed_ND: Tensor, head_DV: Tensor, tokens_BT: Tensor, asked_BT: Tensor) -> Tensor:
    """The same, of logits ``normed_ND @ head_DV`` that are never all there at once."""
    weights_BT = asked_BT[..., 1:] / asked_BT.sum(dim=(-1, -2), keepdim=True)
    return linear_cross_entropy(
        normed_ND, head_DV, tokens_BT[..., 1:].flatten(-2), weights_BT.flatten(-2), product_dtype(normed_ND)
    )

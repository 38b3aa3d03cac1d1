"""The cross-entropy of a linear head whose logits are never whole: a chunk of tokens at a time, in both directions.

The logits of 16,384 tokens over a vocabulary of 32,000 are 2 GB in float32, and their gradient as much again. The price
is the head's product once more in the backward.
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2048
"""Tokens whose logits exist at once."""


def linear_cross_entropy_reference(x_ND: Tensor, head_DV: Tensor, targets_N: Tensor) -> Tensor:
    """[N] nats that each token's target costs under the logits x · head."""
    return F.cross_entropy((x_ND @ head_DV).float(), targets_N, reduction="none")


def linear_cross_entropy(x_ND: Tensor, head_DV: Tensor, targets_N: Tensor, chunk: int = CHUNK) -> Tensor:
    """The same by chunks. Both factors are of one precision."""
    return _LinearCrossEntropy.apply(x_ND, head_DV, targets_N, chunk)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_ND: Tensor, head_DV: Tensor, targets_N: Tensor, chunk: int) -> Tensor:
        total_N = torch.empty(x_ND.shape[0], device=x_ND.device)  # log of the sum over the vocabulary
        loss_N = torch.empty_like(total_N)
        chunks = zip(*(tensor.split(chunk) for tensor in (x_ND, targets_N, total_N, loss_N)))
        for x_CD, targets_C, total_C, loss_C in chunks:
            logits_CV = (x_CD @ head_DV).float()
            total_C.copy_(logits_CV.logsumexp(dim=-1))
            loss_C.copy_(total_C - logits_CV.gather(-1, targets_C.unsqueeze(-1)).squeeze(-1))
        ctx.save_for_backward(x_ND, head_DV, targets_N, total_N)
        ctx.chunk = chunk
        return loss_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_N: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_ND, head_DV, targets_N, total_N = ctx.saved_tensors
        grad_x_ND = torch.empty_like(x_ND)
        grad_head_DV = torch.zeros_like(head_DV, dtype=torch.float32)  # a sum over chunks
        chunks = zip(*(tensor.split(ctx.chunk) for tensor in (x_ND, targets_N, total_N, grad_N, grad_x_ND)))
        for x_CD, targets_C, total_C, grad_C, grad_x_CD in chunks:
            slope_CV = ((x_CD @ head_DV).float() - total_C.unsqueeze(-1)).exp_()
            slope_CV.scatter_add_(-1, targets_C.unsqueeze(-1), -torch.ones_like(total_C).unsqueeze(-1))
            slope_CV = slope_CV.mul_(grad_C.unsqueeze(-1)).to(x_CD.dtype)
            grad_x_CD.copy_(slope_CV @ head_DV.mT)
            grad_head_DV += x_CD.mT @ slope_CV
        return grad_x_ND, grad_head_DV.to(head_DV.dtype), None, None

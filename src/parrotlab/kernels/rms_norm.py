"""Root-mean-square normalisation on a CPU, forward and backward by hand.

torch has no kernel for it there: its plain twin, ``F.rms_norm``, becomes a dozen passes over the tokens in both
directions together, and takes several times as long.
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(x_ND: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """[*R, ..., D] x / rms(x) · weight, of shape [D], or [R, D] for replicas that each have their own."""
    return _RMSNorm.apply(x_ND, weight_D, epsilon)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_ND: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        square_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True).square_()
        scale_N1 = square_N1.div_(x_ND.shape[-1]).add_(epsilon).rsqrt_()
        normed_ND = x_ND * scale_N1
        if weight_D.dim() > 1:
            weight_D = weight_D.view(len(weight_D), *(1,) * (x_ND.dim() - 2), -1)
        ctx.save_for_backward(normed_ND, scale_N1, weight_D)
        return normed_ND * weight_D

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_ND: Tensor) -> tuple[Tensor, Tensor, None]:
        normed_ND, scale_N1, weight_D = ctx.saved_tensors
        product_ND = grad_ND * normed_ND
        # What x gains along itself is taken back: the norm is the same at any length of x.
        if weight_D.dim() == 1:
            grad_weight_D = product_ND.flatten(0, -2).sum(dim=0)
            along_N1 = (product_ND @ weight_D).unsqueeze(-1)
        else:
            grad_weight_D = product_ND.flatten(1, -2).sum(dim=1)
            along_N1 = (product_ND.flatten(1, -2) @ weight_D.view(len(weight_D), -1, 1)).view_as(scale_N1)
        along_N1.div_(weight_D.shape[-1])
        grad_x_ND = (grad_ND * weight_D).addcmul_(normed_ND, along_N1, value=-1).mul_(scale_N1)
        return grad_x_ND, grad_weight_D, None

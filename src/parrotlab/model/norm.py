"""Root-mean-square normalisation (arXiv:1910.07467)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrotlab.kernels.rms_norm import rms_norm


class RMSNorm(nn.Module):
    """x / rms(x), times a learned weight for each channel; ``stack`` as in ``LanguageModel``."""

    def __init__(self, width: int, epsilon: float, stack: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight_D = nn.Parameter(torch.empty(*stack, width))

    def forward(self, x_ND: Tensor) -> Tensor:
        """[*R, ..., D] -> the same shape."""
        weight_D = self.weight_D
        if weight_D.device.type == "cpu":
            return rms_norm(x_ND, weight_D, self.epsilon)
        if weight_D.dim() == 1:
            return F.rms_norm(x_ND, weight_D.shape, weight_D, self.epsilon)
        between = (1,) * (x_ND.dim() - 2)
        return F.rms_norm(x_ND, weight_D.shape[-1:], None, self.epsilon) * weight_D.view(
            -1, *between, weight_D.shape[-1]
        )

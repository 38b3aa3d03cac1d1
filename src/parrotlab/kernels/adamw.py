"""AdamW for a whole model, or stack of replicas, in one pass over its memory, by a few launches for all tensors.

A gradient is read once for the norm, then it, the weight and both moments are read and the last three written: 32 bytes
a parameter. Where a model computes with a bfloat16 copy of a weight, its gradient is read as bfloat16 and the copy is
renewed: 30 bytes, and no passes that round the one and widen the other. The plain twin is
``training.optimizer.AdamW._plain_step_``. Sums are taken in the same order every time, and nothing asks the host:
the launches can be captured in a CUDA graph.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

_triton: Any = None  # CPU builds of torch come without it
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _adamw_triton as _triton

PIECE = 2048
"""Numbers of a program."""
SUMMERS = 2048
"""Programs, over all replicas, that add up squares: sixteen for each of an H100's processors."""
NOTED = 64
"""Addresses that one launch writes down."""


def takes(weights: Sequence[Tensor]) -> bool:
    """Whether the kernels can move these weights."""
    return _triton is not None and all(
        weight.is_cuda and weight.dtype == torch.float32 and weight.is_contiguous() for weight in weights
    )


class OnePass:
    """The step for weights and moments that stay where they are; their table is made once.

    ``stack`` is () for one model, (R,) for weights [R, ...] of replicas. ``decays`` and ``shares`` have one number a
    weight; its square counts by its share in the norm. ``copies`` are bfloat16 copies of some weights, each with its
    place among the weights.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        decays: Sequence[float],
        shares: Sequence[float],
        stack: tuple[int, ...],
        copies: Mapping[int, Tensor] = MappingProxyType({}),
    ) -> None:
        device, self.stack, self.replicas = weights[0].device, stack, math.prod(stack)
        self.shapes = [weight.shape for weight in weights]
        sizes_W = torch.tensor([weight.numel() // self.replicas for weight in weights])
        counts_W = (sizes_W + PIECE - 1) // PIECE
        tensors_P = torch.arange(len(weights)).repeat_interleave(counts_W)
        places_P = torch.arange(len(tensors_P)) - (counts_W.cumsum(0) - counts_W)[tensors_P]
        self.pieces_P2 = torch.stack([tensors_P, places_P], dim=1).int().to(device)
        self.sizes_W = sizes_W.to(device)
        self.decays_W, self.shares_W = (torch.tensor(each, device=device).float() for each in (decays, shares))
        self.held = [*weights, *first, *second, *copies.values()]  # addresses alone would keep nothing alive
        known = [0] * len(weights) + [tensor.data_ptr() for tensor in (*weights, *first, *second)]
        known += [copies[place].data_ptr() if place in copies else 0 for place in range(len(weights))]
        self.dtypes = [torch.bfloat16 if place in copies else torch.float32 for place in range(len(weights))]
        self.addresses_5W = torch.tensor(known, device=device)

    def square(self, gradients: Sequence[Tensor]) -> Tensor:
        """[*R] each replica's gradient, squared and added up. ``move_`` will take these gradients."""
        assert [gradient.shape for gradient in gradients] == self.shapes, "gradients of other weights"
        assert [gradient.dtype for gradient in gradients] == self.dtypes, "gradients of another precision"
        self.gradients = [gradient.contiguous() for gradient in gradients]
        for begin in range(0, len(gradients), NOTED):
            tensors = tuple(self.gradients[begin : begin + NOTED])
            _triton.note[(1,)](self.addresses_5W, begin, tensors, num_warps=1)
        pieces = len(self.pieces_P2)
        sums_RS = self.decays_W.new_empty(self.replicas, max(1, min(pieces, SUMMERS // self.replicas)))
        _triton.squares[sums_RS.shape[::-1]](
            self.addresses_5W, self.sizes_W, self.shares_W, self.pieces_P2, sums_RS, pieces, len(gradients),
            PIECE=PIECE, num_warps=4,
        )  # fmt: skip
        return sums_RS.sum(dim=-1).view(self.stack)

    def move_(
        self,
        norm_R: Tensor,
        rate_R: Tensor,
        schedule: Tensor,
        steps: Tensor,
        clip: float,
        betas: tuple[float, float],
        epsilon: float,
    ) -> None:
        """Moves weights and moments along the gradients, clipped to ``clip``, at the rates ``rate_R · schedule``.

        ``steps`` counts this one. All tensors lie on the device.
        """
        beta1, beta2 = betas
        _triton.move[len(self.pieces_P2), self.replicas](
            self.addresses_5W, self.sizes_W, self.decays_W, self.pieces_P2, norm_R, rate_R, schedule, steps,
            len(self.shapes), clip,
            BETA1=beta1, BETA2=beta2, LOG_BETA1=math.log(beta1), LOG_BETA2=math.log(beta2), EPSILON=epsilon,
            PIECE=PIECE, num_warps=4,
        )  # fmt: skip
        self.gradients = []

"""Expert parallelism: the experts of a mixture live on P processes, and tokens travel to them and back.

Each process holds E / P experts. Its S = N·A choices, sorted by expert, go to the experts' processes in one all-to-all,
and the outputs come back in another; no choice is dropped, so the processes first tell each other how many will come.
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from parrotlab.kernels.experts import by_expert, expert_outputs, product_dtype


class ExpertExchange:
    """``expert_outputs`` where a process of the group holds only its part of the experts."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(
        self,
        x_ND: Tensor,
        weights_NA: Tensor,
        experts_NA: Tensor,
        choices_E: Tensor,
        up_EDG: Tensor,
        down_EFD: Tensor,
        gated: bool,
    ) -> Tensor:
        """[N, D] -> [N, D]; experts and choices are of all E, ``up_EDG`` and ``down_EFD`` of this process's E / P.

        The sizes of the two exchanges are the one thing for which the host waits: 2 P numbers a layer.
        """
        active, mine = experts_NA.shape[1], len(up_EDG)
        order_S, place_S = by_expert(experts_NA, len(choices_E))
        leaving_PE = choices_E.long().view(-1, mine)
        coming_PE = torch.empty_like(leaving_PE)
        dist.all_to_all_single(coming_PE, leaving_PE, group=self.group)
        leaving, coming = torch.stack((leaving_PE.sum(dim=1), coming_PE.sum(dim=1))).tolist()

        x_ND = x_ND.to(product_dtype(x_ND))  # before the journey, which then moves half the bytes
        sorted_SD = _Permute.apply(x_ND.repeat_interleave(active, dim=0), order_S, place_S)
        guest_KD = _Exchange.apply(sorted_SD, leaving, coming, self.group)
        expert_PE = torch.arange(mine, device=x_ND.device).expand_as(coming_PE)
        expert_K = expert_PE.flatten().repeat_interleave(coming_PE.flatten(), output_size=len(guest_KD))
        output_KD = _outputs(guest_KD, expert_K, coming_PE.sum(dim=0).float(), up_EDG, down_EFD, gated)
        returned_SD = _Exchange.apply(output_KD, coming, leaving, self.group)
        chosen_NAD = _Permute.apply(returned_SD, place_S, order_S).view(-1, active, x_ND.shape[-1])
        return (chosen_NAD * weights_NA.unsqueeze(-1).to(chosen_NAD.dtype)).sum(dim=1)


def _outputs(
    guest_KD: Tensor, expert_K: Tensor, guests_E: Tensor, up_EDG: Tensor, down_EFD: Tensor, gated: bool
) -> Tensor:
    """[K, D] each guest's output of the one expert that it visits here."""
    if not len(guest_KD):  # a guest of zeros, so that the experts have gradients, for which others may be waiting
        nobody_1D, expert_1 = guest_KD.new_zeros(1, guest_KD.shape[1]), expert_K.new_zeros(1)
        one_E = torch.zeros_like(guests_E).index_fill_(0, expert_1, 1.0)
        return _outputs(nobody_1D, expert_1, one_E, up_EDG, down_EFD, gated)[:0] + guest_KD
    ones_K1 = torch.ones(len(guest_KD), 1, device=guest_KD.device)
    return expert_outputs(guest_KD, ones_K1, expert_K.unsqueeze(-1), guests_E, up_EDG, down_EFD, gated)


class _Permute(torch.autograd.Function):
    """x[order], where ``place`` is the inverse of ``order``: backward is a gather too."""

    @staticmethod
    def forward(ctx, x_SD: Tensor, order_S: Tensor, place_S: Tensor) -> Tensor:
        ctx.save_for_backward(place_S)
        return x_SD.index_select(0, order_S)

    @staticmethod
    def backward(ctx, grad_SD: Tensor) -> tuple[Tensor, None, None]:
        (place_S,) = ctx.saved_tensors
        return grad_SD.index_select(0, place_S), None, None


class _Exchange(torch.autograd.Function):
    """The first ``leaving[0]`` rows to the first process of the group, and so on; ``coming`` rows from each."""

    @staticmethod
    def forward(ctx, x_SD: Tensor, leaving: list[int], coming: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.leaving, ctx.coming, ctx.group = leaving, coming, group
        return _exchanged(x_SD, leaving, coming, group)

    @staticmethod
    def backward(ctx, grad_KD: Tensor) -> tuple[Tensor, None, None, None]:
        return _exchanged(grad_KD, ctx.coming, ctx.leaving, ctx.group), None, None, None


def _exchanged(x_SD: Tensor, leaving: list[int], coming: list[int], group: dist.ProcessGroup) -> Tensor:
    taken_KD = x_SD.new_empty(sum(coming), x_SD.shape[1])
    dist.all_to_all_single(taken_KD, x_SD.contiguous(), coming, leaving, group=group)
    return taken_KD

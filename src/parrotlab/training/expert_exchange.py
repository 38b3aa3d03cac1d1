"""Expert parallelism: the experts of a mixture live on P processes, and tokens travel to them and back.

Each process holds E / P experts. Its S = N·A choices, sorted by expert, go to the experts' processes in one all-to-all,
and the outputs come back in another; no choice is dropped, so the processes first tell each other how many will come.
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from parrotlab.kernels.activation import activate
from parrotlab.kernels.experts import Combine, Gather, by_expert, grouped_product, product_dtype


class ExpertExchange(nn.Module):
    """``expert_outputs`` where a process of the group holds only its part of the experts.

    ``depart`` and ``combine`` are what happens at home, on shapes that are always the same: they can be compiled.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.group = group

    def forward(
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

        The sizes of the two exchanges are the one thing for which the host waits: 2 P numbers a layer. They set out
        before the tokens are sorted, so that the device has something to do when the host goes on.
        """
        leaving_PE = choices_E.long().view(-1, len(up_EDG))
        coming_PE = torch.empty_like(leaving_PE)
        dist.all_to_all_single(coming_PE, leaving_PE, group=self.group)
        sizes = _OnItsWay(torch.stack((leaving_PE, coming_PE)).sum(dim=2))
        sorted_SD, order_S, place_NA = self.depart(x_ND, experts_NA, len(choices_E))
        leaving, coming = sizes.read()

        guest_KD = _Exchange.apply(sorted_SD, leaving, coming, self.group)
        output_KD = _guests_outputs(guest_KD, coming_PE, up_EDG, down_EFD, gated)
        returned_SD = _Exchange.apply(output_KD, coming, leaving, self.group)
        return self.combine(returned_SD, weights_NA, order_S, place_NA)

    @staticmethod
    def depart(x_ND: Tensor, experts_NA: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor]:
        """[S, D] a row for each choice, sorted by expert; [S] the choice of each row; [N, A] the row of each choice."""
        order_S, place_S = by_expert(experts_NA, experts)
        place_NA = place_S.view_as(experts_NA)
        x_ND = x_ND.to(product_dtype(x_ND))  # before the journey, which then moves half the bytes
        return Gather.apply(x_ND, order_S // experts_NA.shape[1], place_NA), order_S, place_NA

    @staticmethod
    def combine(returned_SD: Tensor, weights_NA: Tensor, order_S: Tensor, place_NA: Tensor) -> Tensor:
        """[N, D] the sum over each token's choices, weighted."""
        return Combine.apply(returned_SD, weights_NA, order_S, place_NA)


class _OnItsWay:
    """Numbers on their way to the host, which launches other work before it waits for them."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers.to("cpu", non_blocking=True)
        self.arrival = torch.cuda.current_stream(numbers.device).record_event() if numbers.is_cuda else None

    def read(self) -> list:
        """Waits for the numbers alone."""
        if self.arrival:
            self.arrival.synchronize()
        return self.numbers.tolist()


def _guests_outputs(guest_KD: Tensor, coming_PE: Tensor, up_EDG: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """[K, D] each guest's output of the one expert that it visits here; they came by process, then by expert."""
    if not len(guest_KD):  # a guest of zeros, so that the experts have gradients, for which others may be waiting
        one_PE = torch.zeros_like(coming_PE)
        one_PE[0, 0] = 1
        nobody_1D = guest_KD.new_zeros(1, guest_KD.shape[1])
        return _guests_outputs(nobody_1D, one_PE, up_EDG, down_EFD, gated)[:0] + guest_KD
    order_K, place_K = _by_expert_first(coming_PE, len(guest_KD))
    guests_E = coming_PE.sum(dim=0)
    hidden_KG = grouped_product(_Permute.apply(guest_KD, order_K, place_K), up_EDG, guests_E)
    output_KD = grouped_product(activate(hidden_KG, gated), down_EFD, guests_E)
    return _Permute.apply(output_KD, place_K, order_K)


def _by_expert_first(coming_PE: Tensor, guests: int) -> tuple[Tensor, Tensor]:
    """[K] who comes where, and each one's place, if those who lie by process and expert are to lie by expert, process.

    Those of one process and expert stay together, so the sizes tell how far they all move, and nothing is sorted.
    """
    ends_PE = coming_PE.flatten().cumsum(0).view_as(coming_PE)
    ends_EP = coming_PE.mT.flatten().cumsum(0).view_as(coming_PE.mT)
    moves_PE = ends_EP.mT - ends_PE
    row_K = torch.arange(guests, device=coming_PE.device)
    place_K = row_K + moves_PE.flatten().repeat_interleave(coming_PE.flatten(), output_size=guests)
    return torch.empty_like(place_K).scatter_(0, place_K, row_K), place_K


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

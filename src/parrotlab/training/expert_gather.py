"""Expert parallelism where a token visits at least as many experts as there are processes: all tokens go everywhere.

Each of the P processes gathers the M = P·N tokens of its group, applies its own E / P experts to those of the S = M·A
choices that are its own, and the outputs are summed over the processes, each of which keeps its part.

Of a process's tokens this sends P - 1 copies, and receives as many outputs, whoever was chosen; ``ExpertExchange``
sends A·(P - 1) / P copies, if choices are spread evenly. So where P <= A, no more bytes travel; and since shapes do
not depend on the choices, nothing comes to the host, and a block can be compiled in one piece. The price is memory
and element-wise work for S rows on each process, of which 1 / P are its own.
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from parrotlab.kernels.activation import activate
from parrotlab.kernels.experts import Combine, Gather, by_expert, grouped_product, product_dtype
from parrotlab.model.routers.router import choices

collectives = torch.ops._c10d_functional
"""What the compiler makes of collectives; their Python names change between torch's versions, these do not."""


class ExpertGather(nn.Module):
    """``expert_outputs`` where a process of the group holds only its part of the experts."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.name, self.rank, self.size = group.group_name, group.rank(), group.size()

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

        Choices of others' experts are sorted behind its own, where no group of the products reaches. What the products
        leave there is whatever lay in memory, so it is not multiplied by 0 but replaced, forward and backward.
        """
        experts, active = len(up_EDG), experts_NA.shape[1]
        x_MD = _Gathered.apply(x_ND.to(product_dtype(x_ND)), self.name, self.size)
        # In one journey: numbers of experts are exact in float32.
        routes_NC = torch.cat((weights_NA.float(), experts_NA.float()), dim=1)
        weights_MA, experts_MA = _Gathered.apply(routes_NC, self.name, self.size).chunk(2, dim=1)
        own_MA = experts_MA.long() - self.rank * experts
        own_MA = torch.where((own_MA >= 0) & (own_MA < experts), own_MA, experts)
        own_E = choices(own_MA, experts + 1)[:-1]
        order_S, place_S = by_expert(own_MA, experts + 1)
        place_MA = place_S.view_as(own_MA)
        is_own_S1 = (torch.arange(len(order_S), device=own_E.device) < own_E.sum()).unsqueeze(1)

        sorted_SD = torch.where(is_own_S1, Gather.apply(x_MD, order_S // active, place_MA), 0.0)
        hidden_SG = grouped_product(sorted_SD, up_EDG, own_E)
        output_SD = torch.where(is_own_S1, grouped_product(activate(hidden_SG, gated), down_EFD, own_E), 0.0)
        return _Scattered.apply(Combine.apply(output_SD, weights_MA, order_S, place_MA), self.name, self.size)


class _Gathered(torch.autograd.Function):
    """[N, ...] -> [M, ...] the rows of all processes, in their order; backward, the sum of what all make of mine."""

    @staticmethod
    def forward(ctx, x_ND: Tensor, group: str, size: int) -> Tensor:
        ctx.group, ctx.size = group, size
        return _gathered(x_ND, group, size)

    @staticmethod
    def backward(ctx, grad_MD: Tensor) -> tuple[Tensor, None, None]:
        return _scattered(grad_MD, ctx.group, ctx.size), None, None


class _Scattered(torch.autograd.Function):
    """[M, ...] -> [N, ...] my rows of the sum over all processes; backward, the rows of all."""

    @staticmethod
    def forward(ctx, x_MD: Tensor, group: str, size: int) -> Tensor:
        ctx.group, ctx.size = group, size
        return _scattered(x_MD, group, size)

    @staticmethod
    def backward(ctx, grad_ND: Tensor) -> tuple[Tensor, None, None]:
        return _gathered(grad_ND, ctx.group, ctx.size), None, None


def _gathered(x_ND: Tensor, group: str, size: int) -> Tensor:
    return collectives.wait_tensor(collectives.all_gather_into_tensor(x_ND.contiguous(), size, group))


def _scattered(x_MD: Tensor, group: str, size: int) -> Tensor:
    return collectives.wait_tensor(collectives.reduce_scatter_tensor(x_MD.contiguous(), "sum", size, group))

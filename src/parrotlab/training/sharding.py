"""Where the weights of one big model lie: spread over the processes, each weight in its own way.

- The matrices of a block, and the embedding and head: a slice on each of the N processes (FSDP2). The blocks' are
  gathered in the recipe's precision while they compute, a unit at a time; embedding and head in float32.
- The experts under expert parallelism: E / P on each process, and of these a slice on each of the N / P processes
  that hold the same; where P = N, they are whole on their one process.
- Norms and routers: whole on every process, in float32. They are a thousandth of a model, and rounding a router changes
  who is chosen.

Master weights are float32 everywhere.
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import Placement

from parrotlab.model.feedforwards.mixture import EXPERTS, MixtureLayer
from parrotlab.model.transformer import Block, LanguageModel, Transformer, fresh
from parrotlab.training.expert_exchange import ExpertExchange
from parrotlab.training.expert_gather import ExpertGather
from parrotlab.training.processes import Processes

AHEAD = 8
"""Weights that are drawn side by side, while another is put in its place."""
UNIT_BYTES = 64 << 20
"""Blocks are gathered together until they hold that much, in their precision. Each unit costs the host two gathers, a
scatter and their hooks at every step, and GPUs wait for it where blocks are small; a large block is a unit alone."""


@dataclass(frozen=True)
class Layout:
    """How one weight lies in the processes."""

    shape: torch.Size
    """Of the whole weight."""
    mesh: DeviceMesh
    placements: tuple[Placement, ...]
    """One for each dimension of the mesh."""

    @property
    def copies(self) -> int:
        """Processes that hold the same numbers."""
        return math.prod(size for size, placed in zip(self.mesh.shape, self.placements) if placed.is_replicate())

    def whole(self, mine: Tensor) -> DTensor:
        """The weight, or a tensor that lies as it does, as one distributed tensor; it shares this part's memory."""
        stride = torch.empty(self.shape, device="meta").stride()
        return DTensor.from_local(mine, self.mesh, self.placements, shape=self.shape, stride=stride)


@dataclass(frozen=True)
class Sharded:
    """A model in its place, and where that is."""

    model: LanguageModel
    layouts: dict[str, Layout]
    """Of every weight, by name."""
    unreduced: dict[dist.ProcessGroup, list[str]]
    """Weights whose gradients FSDP does not add up, by the processes over which to do it."""


def sharded(
    design: Transformer,
    vocabulary: int,
    seed: int,
    processes: Processes,
    fsdp: bool = True,
    block_dtype: torch.dtype = torch.float32,
) -> Sharded:
    """The very weights of ``build(design, vocabulary, seed)``; no process ever holds more than one whole unit.

    Without ``fsdp``, what would be a slice is whole on every process. A process alone has nothing to slice.
    """
    with torch.device("meta"):
        model = LanguageModel(design, vocabulary)
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    fsdp = fsdp and processes.size > 1
    drawn = _drawn(design, shapes, seed)
    _fill(model, "", drawn, processes, recurse=False)
    unit, units = [], []
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        if processes.experts > 1:
            _keep_own_experts(block, processes)
        _fill(block, f"blocks.{index}.", drawn, processes)
        unit.append(block)
        if fsdp and (block is model.blocks[-1] or _gathered_bytes(unit, processes, block_dtype) >= UNIT_BYTES):
            units.append(_shard_unit(unit, processes, block_dtype))
            unit = []
    _fill(model.norm, "norm.", drawn, processes)
    if fsdp:
        # It warns that the logits are a view, which nobody may write into. Nobody does.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        fully_shard(
            model, mesh=processes.everyone, ignored_params=_whole(model), shard_placement_fn=_even(processes.size)
        )
        register_fsdp_forward_method(model, "loss")
        _gather_ahead(model, units)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)  # a sum: each process's loss is its part of the mean
    layouts = {name: _layout(name, weight, shapes[name], processes) for name, weight in model.named_parameters()}
    unreduced: dict[dist.ProcessGroup, list[str]] = {}
    for name, weight in model.named_parameters():
        holders = processes.mesh["data"] if _is_shared_out(name, processes) else processes.everyone
        if not isinstance(weight, DTensor) and holders.size() > 1:
            unreduced.setdefault(holders.get_group(), []).append(name)
    return Sharded(model, layouts, unreduced)


def held(weight: Tensor) -> Tensor:
    """What this process keeps of a weight; it shares its memory."""
    with torch.no_grad():
        return weight.to_local() if isinstance(weight, DTensor) else weight.detach()


def _drawn(design: Transformer, shapes: dict[str, torch.Size], seed: int) -> Iterator[tuple[str, Tensor]]:
    """The weights in the order of their names, drawn by a few threads."""
    ahead: deque[tuple[str, Future[Tensor]]] = deque()
    with ThreadPoolExecutor(min(AHEAD, os.cpu_count() or 1)) as pool:
        for name, shape in shapes.items():
            ahead.append((name, pool.submit(fresh, design, name, shape, seed)))
            if len(ahead) > AHEAD:
                name, weight = ahead.popleft()
                yield name, weight.result()
        for name, weight in ahead:
            yield name, weight.result()


def _fill(
    module: nn.Module, prefix: str, drawn: Iterator[tuple[str, Tensor]], processes: Processes, recurse: bool = True
) -> None:
    """Moves the module from nowhere to the device, with the next of the weights drawn; buffers begin at 0."""
    module.to_empty(device=processes.device.name, recurse=recurse)
    with torch.no_grad():
        for name, weight in module.named_parameters(prefix.removesuffix("."), recurse=recurse):
            whose, whole = next(drawn)
            assert whose == name, f"{whose} was drawn for {name}"
            if _is_shared_out(name, processes):
                whole = whole.chunk(processes.experts)[processes.mesh["expert"].get_local_rank()]
            weight.copy_(whole)
        for buffer in module.buffers(recurse=recurse):
            buffer.zero_()


def _keep_own_experts(block: Block, processes: Processes) -> None:
    """Leaves the block's mixture E / P experts, and tells it how to reach the others."""
    layer = block.feedforward
    if not isinstance(layer, MixtureLayer):
        raise ValueError(
            f"expert_parallel={processes.experts} has no experts to share out: the feed-forwards are dense"
        )
    if layer.design.experts % processes.experts:
        raise ValueError(
            f"{layer.design.experts} experts cannot be shared out evenly over {processes.experts} processes"
        )
    for name in EXPERTS:
        whole = getattr(layer, name)
        setattr(layer, name, nn.Parameter(whole.new_empty(len(whole) // processes.experts, *whole.shape[1:])))
    way = ExpertGather if processes.experts <= layer.design.active else ExpertExchange
    layer.expert_outputs = way(processes.mesh["expert"].get_group())


def _gathered_bytes(unit: list[Block], processes: Processes, dtype: torch.dtype) -> int:
    """What blocks have gathered as one unit."""
    apart = {weight for block in unit for weight in _not_gathered(block, processes)}
    return dtype.itemsize * sum(w.numel() for block in unit for w in block.parameters() if w not in apart)


def _shard_unit(unit: list[Block], processes: Processes, dtype: torch.dtype) -> list[FSDPModule]:
    """The blocks' matrices over all processes, except experts that are shared out: these over those that hold them.

    Returns what is gathered, in the order in which it is needed: the unit, then each layer of experts.
    """
    precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    everyone = {"mesh": processes.everyone, "mp_policy": precision, "shard_placement_fn": _even(processes.size)}
    holders = processes.mesh["data"]
    layers = [block.feedforward for block in unit] if processes.experts > 1 and holders.size() > 1 else []
    for layer in layers:
        assert isinstance(layer, MixtureLayer)
        if layer.design.shared:
            fully_shard(layer.shared, **everyone)
        experts = {getattr(layer, name) for name in EXPERTS}
        fully_shard(
            layer,
            mesh=holders,
            mp_policy=precision,
            ignored_params={weight for weight in layer.parameters() if weight not in experts},
            shard_placement_fn=_even(holders.size(), first=1),
        )
    fully_shard(
        list(unit), ignored_params={weight for block in unit for weight in _not_gathered(block, processes)}, **everyone
    )
    return [module for module in (unit[0], *layers) if isinstance(module, FSDPModule)]


def _even(parts: int, first: int = 0):
    """Slices along the first dimension, from ``first`` on, of which each of ``parts`` processes gets as much."""

    def placement(weight: nn.Parameter) -> Shard:
        even = [dimension for dimension in range(first, weight.dim()) if weight.shape[dimension] % parts == 0]
        if first and not even:
            raise ValueError(
                f"experts of shape {tuple(weight.shape[1:])} cannot be sliced evenly for {parts} processes"
            )
        return Shard(even[0] if even else 0)

    return placement


def _gather_ahead(model: nn.Module, units: list[list[FSDPModule]]) -> None:
    """Each part asks for the next one's weights before it computes, also where the host has to wait inside a block.

    Backward, outputs are met from the outside in: a unit before its layers of experts, of which the last comes first.
    """
    assert isinstance(model, FSDPModule)
    forward = [model, *itertools.chain.from_iterable(units)]
    backward = itertools.chain.from_iterable((unit, *reversed(layers)) for unit, *layers in reversed(units))
    for part, following in itertools.pairwise(forward):
        part.set_modules_to_forward_prefetch([following])
    for part, following in itertools.pairwise(backward):
        part.set_modules_to_backward_prefetch([following])
    for part in units[-1]:  # the backward pass begins with it
        part.set_reshard_after_forward(False, recurse=False)


def _whole(module: nn.Module) -> set[nn.Parameter]:
    return {weight for name, weight in module.named_parameters() if name.endswith("norm.weight_D") or "router." in name}


def _not_gathered(block: Block, processes: Processes) -> set[nn.Parameter]:
    """The block's weights that its unit leaves alone."""
    return _whole(block) | {weight for name, weight in block.named_parameters() if _is_shared_out(name, processes)}


def _is_shared_out(name: str, processes: Processes) -> bool:
    return processes.experts > 1 and name.endswith(EXPERTS)


def _layout(name: str, weight: Tensor, shape: torch.Size, processes: Processes) -> Layout:
    data = weight.placements if isinstance(weight, DTensor) else (Replicate(),)
    if _is_shared_out(name, processes):
        return Layout(shape, processes.mesh, (*data, Shard(0)))
    return Layout(shape, processes.everyone, tuple(data))

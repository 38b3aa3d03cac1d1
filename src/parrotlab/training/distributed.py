"""One big run on many processes: the step they take together, and the run told as a generator.

A batch is the same whoever reads it: each process takes its rows of it, the losses are means over all rows, and the
load-balancing loss sees everybody's choices, so that N processes train as one does. In one step they exchange

- the blocks' matrices, gathered before their forward and backward passes, and their gradients, scattered (FSDP2);
- under expert parallelism the tokens of each mixture and their outputs, and the gradients of both;
- of every micro-batch, how often each expert was chosen (float32, L·E numbers);
- the gradients of norms and routers with the loss, in one sum; and one number, the gradient's norm.

Each process's objective is its part of the mean over all, so that whatever is exchanged is added up, never divided.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from parrotlab.kernels.experts import expert_outputs, expert_outputs_by
from parrotlab.model.feedforwards.feedforward import Routing
from parrotlab.model.feedforwards.mixture import MixtureLayer
from parrotlab.model.transformer import Block, Transformer
from parrotlab.tasks.task import Task
from parrotlab.training.compiler import compiled
from parrotlab.training.expert_exchange import ExpertExchange
from parrotlab.training.expert_gather import ExpertGather
from parrotlab.training.loop import Progress, summary
from parrotlab.training.optimizer import AdamW
from parrotlab.training.processes import Processes
from parrotlab.training.recipe import Recipe
from parrotlab.training.sharding import Sharded, held, sharded
from parrotlab.training.step import objective

LOSS = "loss"
"""What travels with the gradients."""
COMPILED = ("forward", "attend", "score", "depart", "combine")
"""Methods in whose place a module may have a compiled or a recomputing one."""


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """How a run is spread out. Results do not depend on it beyond rounding, so it is no part of a run's spec."""

    fsdp: bool = True
    """Keep slices of weights, gradients and moments, rather than all of them on every process."""
    checkpoint_activations: bool = False
    """Keep only what enters each block, and compute it again backward."""
    accumulate: int = 1
    """Micro-batches of a step. The load-balancing loss is then the mean of theirs, as everywhere in the field."""


class ShardedAdamW(AdamW):
    """AdamW on this process's part of every weight; the gradient is clipped by the norm of the whole one."""

    def __init__(self, spread: Sharded, recipe: Recipe, processes: Processes) -> None:
        rate = torch.tensor(recipe.learning_rate, device=processes.device.name)
        super().__init__(spread.model, recipe, rate)
        self.processes = processes
        self.shares = [1 / spread.layouts[name].copies for name in self.names]
        self.shares_W = torch.tensor(self.shares, device=processes.device.name)

    @staticmethod
    def held(weight: Tensor) -> Tensor:
        """This process's part."""
        return held(weight)

    def step_(self, gradients: list[Tensor], schedule: Tensor) -> Tensor:
        """As AdamW's, by kernels that need no memory of their own."""
        if self.one_pass is not None:
            return self._single_step_(self.one_pass, gradients, schedule)
        return self._fused_step_(gradients, schedule)

    def lone_norm(self, gradients: list[Tensor]) -> Tensor:
        """Of the whole gradient; what c processes hold counts 1/c for each of them."""
        if self.processes.size == 1:
            return super().lone_norm(gradients)
        squares = torch.stack(torch._foreach_norm(gradients)).square() * self.shares_W
        return self.total(squares.sum()).sqrt()

    def total(self, squares_R: Tensor) -> Tensor:
        """Of all processes."""
        return self.processes.sum_(squares_R)


class DistributedStep:
    """A model spread over processes, its optimizer, and what the current window adds up."""

    def __init__(
        self, design: Transformer, vocabulary: int, recipe: Recipe, seed: int, processes: Processes, how: Parallelism
    ) -> None:
        if how.accumulate < 1 or recipe.rows % (processes.size * how.accumulate):
            raise ValueError(
                f"rows={recipe.rows} cannot be divided among {processes.size} processes and accumulate="
                f"{how.accumulate} micro-batches: take a multiple of {processes.size * max(1, how.accumulate)}"
            )
        device = processes.device
        self.recipe, self.processes, self.how = recipe, processes, how
        dtype = getattr(torch, device.precision(recipe))
        self.spread = sharded(design, vocabulary, seed, processes, how.fsdp, dtype)
        self.model = self.spread.model
        self.optimizer = ShardedAdamW(self.spread, recipe, processes)
        self.parameters = list(self.model.named_parameters())
        self.unreduced = {group: list(names) for group, names in self.spread.unreduced.items()}
        if processes.size > 1:  # last, since a lone number in front would leave the others unaligned
            self.unreduced.setdefault(processes.everyone.get_group(), []).append(LOSS)
        self.loss_R, self.norm_R = (torch.zeros((), device=device.name) for _ in range(2))
        experts = getattr(design.feedforward, "experts", 0)
        self.choices_LE = [torch.zeros(experts, device=device.name) for _ in range(design.layers if experts else 0)]
        self.measure = objective
        if device.fast_steps:
            self._compile()
        if how.checkpoint_activations:
            for block in self.model.blocks:
                block.forward = _checkpointed(block.forward)

    def state(self) -> dict[str, Tensor]:
        """Weights, buffers, moments and the window's sums, by name, as tensors of all processes."""
        layouts = self.spread.layouts
        state = {f"model.{name}": layouts[name].whole(held(mine)) for name, mine in self.model.named_parameters()}
        state |= {f"model.{name}": buffer for name, buffer in self.model.named_buffers()}
        for name, moment in self.optimizer.state().items():
            layout = layouts.get(name.partition(".")[2])
            state[f"optimizer.{name}"] = layout.whole(moment) if layout else moment
        sums = {"loss": self.loss_R, "norm": self.norm_R} | {f"choices.{i}": c for i, c in enumerate(self.choices_LE)}
        return state | {f"window.{name}": tensor for name, tensor in sums.items()}

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight and buffer, whole and on the CPU, one after the other. All processes have to ask."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # after a forward pass without a backward, what comes last stays gathered
        for name, mine in self.model.named_parameters():
            yield name, self.spread.layouts[name].whole(held(mine)).full_tensor().cpu()
        for name, buffer in self.model.named_buffers():
            yield name, buffer.cpu()

    def forget(self) -> None:
        """Begins a window: its sums are empty."""
        for tensor in (self.loss_R, self.norm_R, *self.choices_LE):
            tensor.zero_()

    def take(self, tokens_BT: Tensor, asked_BT: Tensor, schedule: Tensor) -> None:
        """The next step, on this process's rows; ``schedule`` is the learning rate over its peak."""
        micros, loss, routings = self.how.accumulate, torch.zeros_like(self.loss_R), []
        for tokens, asked in zip(tokens_BT.chunk(micros), asked_BT.chunk(micros)):
            micro_loss, routings = self._backward(tokens.long(), asked, routings)
            loss += micro_loss / micros
        gradients, loss = self._gradients(loss)
        norm_R = self.optimizer.step_(gradients, schedule)
        with torch.no_grad():
            self.model.adjust_(routings)
            self.loss_R += loss
            self.norm_R += norm_R
            if routings:
                torch._foreach_add_(self.choices_LE, [routing.choices_E for routing in routings])

    def plain(self) -> None:
        """Takes compilation and recomputation away from the model, so that it answers on batches of any size."""
        for module in (self.model, *self.model.modules()):
            for name in COMPILED:
                module.__dict__.pop(name, None)

    def _backward(self, tokens_BT: Tensor, asked_BT: Tensor, before: list[Routing]) -> tuple[Tensor, list[Routing]]:
        """Adds the gradients of a micro-batch; returns its loss, and its routings with the choices of all so far."""
        with self.processes.device.autocast(self.recipe):
            loss, routings = self.model.loss(tokens_BT, asked_BT)
        if routings:
            choices_LE = self.processes.sum_(torch.stack([routing.choices_E for routing in routings]))
            routings = [routing._replace(choices_E=choices_E) for routing, choices_E in zip(routings, choices_LE)]
        objective_ = self.measure(self.recipe, loss, routings)
        # Its part of the mean over all processes and micro-batches: then what they exchange are sums.
        (objective_ / (self.how.accumulate * self.processes.size)).backward()
        earlier = [routing.choices_E for routing in before] or [0.0] * len(routings)
        return loss.detach(), [
            routing._replace(choices_E=routing.choices_E + sum_E) for routing, sum_E in zip(routings, earlier)
        ]

    @torch.no_grad()
    def _gradients(self, loss: Tensor) -> tuple[list[Tensor], Tensor]:
        """The parts of the gradient that belong to this process, and the mean of all processes' losses."""
        found = {}
        for name, weight in self.parameters:
            assert weight.grad is not None, f"{name} has no gradient"
            found[name] = weight.grad.to_local() if isinstance(weight.grad, DTensor) else weight.grad
            weight.grad = None
        found[LOSS] = loss / self.processes.size
        for group, names in self.unreduced.items():
            found.update(zip(names, _sums([found[name] for name in names], group)))
        loss = found.pop(LOSS)
        return list(found.values()), loss

    def _compile(self) -> None:
        """Block by block, inside of FSDP's doings; where these are inside a block too, or it waits, its parts."""
        torch.compiler.reset()  # the caches of another model's blocks: a few designs would overflow them
        self.model.score, self.measure = compiled(self.model.score), compiled(objective)
        depart, combine = compiled(ExpertExchange.depart), compiled(ExpertExchange.combine)
        for block in self.model.blocks:
            assert isinstance(block, Block)
            layer = block.feedforward
            apart = getattr(layer, "expert_outputs", None)
            if not isinstance(apart, ExpertExchange) and not isinstance(layer, FSDPModule):
                if isinstance(layer, MixtureLayer) and apart is expert_outputs:
                    # No graph captures this step, and there the kernels have not been faster (docs/notebook.md).
                    layer.expert_outputs = functools.partial(expert_outputs_by, "sorted")
                block.forward = compiled(type(block).forward.__get__(block))
                continue
            block.attend = compiled(type(block).attend.__get__(block))
            assert isinstance(layer, MixtureLayer)
            layer.router.forward = compiled(type(layer.router).forward.__get__(layer.router))
            if isinstance(apart, ExpertExchange):
                apart.__dict__.update(depart=depart, combine=combine)
            elif isinstance(apart, ExpertGather):
                apart.forward = compiled(ExpertGather.forward.__get__(apart))


def train(step: DistributedStep, task: Task, seed: int, start: int = 0) -> Iterator[tuple[int, Progress | None]]:
    """Trains until the recipe's end or until the loss diverges: after each step its number, and a window's means.

    ``start`` is the first step to take; within a window, the step's sums are those of the window so far.
    """
    recipe, device = step.recipe, step.processes.device
    windows = {window.stop: window for window in recipe.windows()}
    begins = {window.start for window in windows.values()}
    with ThreadPoolExecutor(max_workers=1) as stager:  # the next batch is made while this one trains
        ready = stager.submit(_rows, step, task, seed, start)
        for at in range(start, recipe.steps):
            if at in begins:
                step.forget()
            tokens_BT, asked_BT = ready.result()
            if device.is_cuda:  # pinned, the copy waits for nothing; by this thread, which knows its device
                tokens_BT, asked_BT = (
                    part.pin_memory().to(device.name, non_blocking=True) for part in (tokens_BT, asked_BT)
                )
            if at + 1 < recipe.steps:
                ready = stager.submit(_rows, step, task, seed, at + 1)
            step.take(tokens_BT, asked_BT, torch.full((), recipe.rate(at), device=device.name))
            window = windows.get(at + 1)
            if window is None:
                yield at + 1, None
                continue
            progress = summary(step, task, recipe, window, np.zeros(1, dtype=bool))
            yield at + 1, progress
            if progress.diverged_R.all():
                return


def _rows(step: DistributedStep, task: Task, seed: int, at: int) -> tuple[Tensor, Tensor]:
    """This process's rows of a step's batch."""
    batch = task.batch("train", at, step.recipe.rows, seed)
    rows = step.processes.rows
    return rows(torch.from_numpy(batch.tokens_BT)), rows(torch.from_numpy(batch.asked_BT))


def _sums(parts: list[Tensor], group: dist.ProcessGroup) -> list[Tensor]:
    """Each tensor added up over a group, all in one go."""
    flat = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(flat, group=group)
    totals = flat.split([part.numel() for part in parts])
    return [total.view_as(part) for part, total in zip(parts, totals)]


def _checkpointed(forward):
    def again(*inputs):
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False)

    return again

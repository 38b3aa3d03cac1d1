"""Where the time of a training step goes: by part of the model, against the data, and against the machine's ceiling.

Parts are told apart in the plain step, in which each has its own operations; a captured step is one launch. What
is timed of the captured one is its speed as a whole.
"""

# pyright: reportIncompatibleMethodOverride=false
# (an autograd function names the gradients that it takes)
from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, record_function

from parrotlab.model.count import count
from parrotlab.model.transformer import LanguageModel
from parrotlab.tasks.task import Task
from parrotlab.training.devices import Device
from parrotlab.training.graph import captured
from parrotlab.training.loop import stage
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step, Window

STEPS = 5
"""Steps whose parts are timed, and as many before them that are not."""
PREFIX = "parrotlab: "
REST = "embedding, norms and the rest"


@dataclass(frozen=True)
class Profile:
    """What a step costs."""

    seconds: dict[str, float]
    """Of one plain step, by part: of kernels on CUDA, of the clock on a CPU."""
    data_seconds: float
    """To make and move one step's data; it happens beside the training."""
    step_seconds: float
    """Of a step as training takes it."""
    tokens_per_second: float
    """Of all replicas."""
    flops_per_second: float
    """Analytic FLOPs, in training."""
    ceiling_flops_per_second: float
    """Of a large matrix product here and now, in the same precision."""

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: the fraction of the ceiling that training reaches."""
        return self.flops_per_second / self.ceiling_flops_per_second


def profile(
    model: LanguageModel,
    task: Task,
    recipe: Recipe,
    rates: Sequence[float],
    seeds: Sequence[int],
    device: Device,
    seconds: float = 2.0,
) -> Profile:
    """Trains for about ``seconds``; the model's weights change."""
    step = Step(model, recipe, rates, device)
    window = recipe.windows()[0]
    began = time.perf_counter()
    staged = stage(task, recipe, window, seeds, step, device)
    _wait(device)
    data_seconds = (time.perf_counter() - began) / len(window)
    parts = _parts(Step(copy.deepcopy(model), recipe, rates, device), staged, device)  # watching changes a model
    step_seconds = _step_seconds(step, staged, device, seconds)
    length = task.length - 1
    speed = len(seeds) * recipe.rows * length / step_seconds
    flops = speed * count(model.design, task.vocabulary).training_flops_per_token(length)
    return Profile(parts, data_seconds, step_seconds, speed, flops, ceiling(device, recipe))


def ceiling(device: Device, recipe: Recipe) -> float:
    """FLOPs a second of a large matrix product, the best of a few."""
    size = 8192 if device.is_cuda else 1024
    left, right = (torch.ones(size, size, device=device.name) for _ in range(2))
    best = float("inf")
    with device.autocast(recipe):
        dtype = (left[:8, :8] @ right[:8, :8]).dtype
    left, right = left.to(dtype), right.to(dtype)
    for _ in range(10):
        _wait(device)
        began = time.perf_counter()
        left.mm(right)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _step_seconds(step: Step, staged: Window, device: Device, seconds: float) -> float:
    """Of a step as training takes it: the median of many, each of which may wait for the host."""
    step.begin(staged)
    take = captured(step) if device.fast_steps else step.take
    spent, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(spent) < 4:
        step.forget()
        _wait(device)
        start = time.perf_counter()
        take()
        _wait(device)
        spent.append(time.perf_counter() - start)
    return sorted(spent[1:])[len(spent) // 2 - 1]


def _parts(step: Step, staged: Window, device: Device) -> dict[str, float]:
    """Seconds of one plain step by part."""
    step.begin(staged)
    ranges = _Ranges()
    ranges.watch(step)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * device.is_cuda
    # One thread for both directions, or the backward's ranges would end on a thread on which they did not begin.
    with torch.autograd.set_multithreading_enabled(False):
        for _ in range(STEPS):
            _take(step, ranges)
        with torch.profiler.profile(activities=activities) as seen:
            for _ in range(STEPS):
                _take(step, ranges)
            _wait(device)
    seconds: Counter[str] = Counter()
    for event in seen.events() or []:
        if event.name.startswith(PREFIX) and event.device_type == torch.autograd.DeviceType.CPU:
            spent = event.device_time_total if device.is_cuda else event.cpu_time_total
            seconds[event.name.removeprefix(PREFIX)] += spent / 1e6 / STEPS
    return dict(seconds.most_common())


def _take(step: Step, ranges: _Ranges) -> None:
    step.forget()
    ranges.enter(REST)
    step.take()
    ranges.enter("")


class _Ranges:
    """The stretch of a step that is under way; one ends where the next begins, forward and backward."""

    def __init__(self) -> None:
        self.name, self.open = "", record_function("")

    def enter(self, name: str) -> None:
        """The current stretch ends, and one of this name begins; an empty name is none."""
        if self.name:
            self.open.__exit__(None, None, None)
        self.name, self.open = name, record_function(PREFIX + name)
        if name:
            self.open.__enter__()

    def watch(self, step: Step) -> None:
        """Names the parts of this step's model, loss and optimizer."""
        model = step.model
        for block in model.blocks:
            parts: dict[str, object] = {"attention": block.attention, "feed-forward": block.feedforward}
            parts["routing"] = getattr(block.feedforward, "router", None)
            for name, layer in parts.items():
                if isinstance(layer, nn.Module):
                    layer.forward = self._named(layer.forward, name)
        model.score = self._named(model.score, "head and loss")
        step.measure = self._named(step.objective, "head and loss")
        step.update = self._named(step.optimizer.step_, "optimizer")

    def _named(self, part: Callable, name: str) -> Callable:
        def named(x: Tensor | list[Tensor], *others):
            outer = self.name
            if isinstance(x, Tensor):
                (x,) = _Border.apply(self, name, outer, x)
            self.enter(name)
            result = part(x, *others)
            self.enter(outer)
            if isinstance(result, Tensor):
                return _Border.apply(self, outer, name, result)[0] if _learns(result) else result
            crossed = iter(_Border.apply(self, outer, name, *(each for each in result if _learns(each))))
            fields = [next(crossed) if _learns(each) else each for each in result]
            return type(result)(*fields) if hasattr(result, "_fields") else tuple(fields)

        return named


def _learns(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


class _Border(torch.autograd.Function):
    """Tensors as they are: enters one stretch on the way forward, and another on the way back."""

    @staticmethod
    def forward(ctx, ranges: _Ranges, ahead: str, back: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.ranges, ctx.back = ranges, back
        ranges.enter(ahead)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.ranges.enter(ctx.back)
        return (None, None, None, *gradients)


def _wait(device: Device) -> None:
    if device.is_cuda:
        torch.cuda.synchronize(device.name)

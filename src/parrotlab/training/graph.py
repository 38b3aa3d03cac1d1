"""The whole step as one CUDA graph: forward, backward, clipping, AdamW and statistics, launched at once.

A small model's step is hundreds of kernels of a few microseconds; launched one by one they wait for the host.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from parrotlab.training.compiler import compiled
from parrotlab.training.step import Step

WARM_UP = 3  # steps before the capture: compilation, autotuning and library handles must not be captured


def captured(step: Step) -> Callable[[], None]:
    """``step.take``, compiled and captured at its first call; where that fails, plain, with one warning."""
    launch: Callable[[], None] | None = None

    def take() -> None:
        nonlocal launch
        if launch is None:
            saved = {name: tensor.to("cpu", copy=True) for name, tensor in step.state().items()}
            try:
                launch = _capture(step)
            except Exception as error:  # whatever the compiler or the driver refuses, the plain step still works
                _compile(step, lambda function: function)
                reason = str(error).strip().partition("\n")[0]
                warnings.warn(f"no CUDA graph of the step, going on without: {reason}", stacklevel=2)
                launch = step.take
            step.load(saved)
            step.forget()
        launch()

    return take


def _capture(step: Step) -> Callable[[], None]:
    torch.compiler.reset()  # the caches of the last model's step: a few dozen designs would overflow them
    _compile(step, compiled)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step.take()
            step.place.zero_()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.take()
    return graph.replay


def _compile(step: Step, treated: Callable) -> None:
    """Block by block: all blocks share one compilation, where the model as a whole takes a minute."""
    model = step.model
    model.embed, model.score = (treated(part.__get__(model)) for part in (type(model).embed, type(model).score))
    for block in model.blocks:
        block.forward = treated(type(block).forward.__get__(block))
    step.measure = treated(step.objective)
    step.update = step.optimizer.step_ if step.optimizer.one_pass else treated(step.optimizer.step_)

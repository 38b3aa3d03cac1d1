"""Training, told as a generator of progress: the caller logs, saves and evaluates.

There is no loader state and no random state: what a step sees is a function of (task, seed, step).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from parrotlab.model.transformer import LanguageModel
from parrotlab.tasks.task import Task
from parrotlab.training.devices import Device
from parrotlab.training.graph import captured
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step, Window

DIVERGED = 3.0
"""A loss this many times that of a uniform guess ends a run: it was on its way to infinity."""


@dataclass(frozen=True)
class Progress:
    """Means over the window that ends before ``step``; R = 1 for a lone model."""

    step: int
    steps: int
    loss_R: np.ndarray
    """Nats a token asked for."""
    gradient_norm_R: np.ndarray
    """Before clipping."""
    choices_LRE: np.ndarray
    """Of the window's choices in each mixture layer, how many fell on each expert."""
    dropped_LR: np.ndarray
    """Fraction of the choices that no expert served; a dropless mixture has none."""
    diverged_R: np.ndarray
    """Has the replica's loss left the finite, or grown beyond ``DIVERGED`` uniform guesses?"""


def train(
    step: Step, task: Task, recipe: Recipe, seeds: Sequence[int], device: Device, start: int = 0
) -> Iterator[Progress]:
    """Trains until the recipe's end, or until every replica has diverged; one Progress a window.

    ``start`` is the first step to take, at a window's beginning: a run resumes with its checkpoint's step.
    """
    windows = [window for window in recipe.windows() if window.start >= start]
    take = captured(step) if device.fast_steps else step.take
    diverged_R = np.zeros(len(seeds), dtype=bool)
    with ThreadPoolExecutor(max_workers=1) as stager:  # the next window is made while this one trains
        ready = [stager.submit(stage, task, recipe, window, seeds, step, device) for window in windows[:1]]
        for window, following in itertools.zip_longest(windows, windows[1:]):
            step.begin(ready.pop().result())
            if following:
                ready.append(stager.submit(stage, task, recipe, following, seeds, step, device))
            for _ in window:
                take()
            progress = summary(step, task, recipe, window, diverged_R)
            diverged_R = progress.diverged_R
            yield progress
            if diverged_R.all():
                return


def stage(task: Task, recipe: Recipe, window: range, seeds: Sequence[int], step: Step, device: Device) -> Window:
    """The batches of a window, each replica with its own, on the device."""
    batches = [[task.batch("train", at, recipe.rows, seed) for seed in seeds] for at in window]
    tokens = np.stack([np.stack([batch.tokens_BT for batch in batches_R]) for batches_R in batches])
    asked = np.stack([np.stack([batch.asked_BT for batch in batches_R]) for batches_R in batches])
    if not step.model.stack:
        tokens, asked = tokens.squeeze(1), asked.squeeze(1)
    schedule = torch.tensor([recipe.rate(at) for at in window])
    return Window(
        torch.from_numpy(tokens).to(device.name),
        torch.from_numpy(asked).to(device.name),
        schedule.to(device.name),
    )


class Tally(Protocol):
    """What a step adds up in a window."""

    loss_R: torch.Tensor
    norm_R: torch.Tensor
    choices_LE: list[torch.Tensor]
    model: LanguageModel


def summary(step: Tally, task: Task, recipe: Recipe, window: range, diverged_R: np.ndarray) -> Progress:
    """The means of a window that a step has gone through."""
    loss_R = _numpy(step.loss_R) / len(window)
    layers = [_numpy(choices_E, 2) for choices_E in step.choices_LE]
    choices_LRE = np.stack(layers) if layers else np.zeros((0, len(loss_R), 1))
    tokens = len(window) * recipe.rows * (task.length - 1)
    active = getattr(step.model.design.feedforward, "active", 1)
    with np.errstate(invalid="ignore"):
        out_of_hand_R = ~(loss_R < DIVERGED * math.log(task.vocabulary))
    return Progress(
        step=window.stop,
        steps=recipe.steps,
        loss_R=loss_R,
        gradient_norm_R=_numpy(step.norm_R) / len(window),
        choices_LRE=choices_LRE,
        dropped_LR=1 - choices_LRE.sum(axis=-1) / (tokens * active),
        diverged_R=diverged_R | out_of_hand_R,
    )


def _numpy(tensor: torch.Tensor, dimensions: int = 1) -> np.ndarray:
    """On the host, with the replica dimension that a lone model lacks."""
    array = tensor.detach().double().cpu().numpy()
    return array if array.ndim == dimensions else array[None]

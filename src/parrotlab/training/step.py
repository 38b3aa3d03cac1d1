"""One training step, and everything it changes: weights, moments, and the statistics of the current window.

The step reads its place in the staged window from a tensor and never asks the host anything, so that the
very same code runs line by line on a CPU and, captured once, as one CUDA graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from parrotlab.model import balance
from parrotlab.model.feedforwards.feedforward import Routing
from parrotlab.model.feedforwards.mixture import EXPERTS, MixtureLayer
from parrotlab.model.transformer import LanguageModel
from parrotlab.training.devices import Device
from parrotlab.training.optimizer import AdamW
from parrotlab.training.recipe import Recipe


class Window(NamedTuple):
    """The data of S steps."""

    tokens_SBT: Tensor
    """[S, *R, B, T]"""
    asked_SBT: Tensor
    """[S, *R, B, T] bool: tokens on which the loss is taken."""
    schedule_S: Tensor
    """Learning rate over its peak."""


class Step:
    """A model, its optimizer, and how they take one step. ``rates`` has one learning rate a replica."""

    def __init__(self, model: LanguageModel, recipe: Recipe, rates: Sequence[float], device: Device) -> None:
        where = torch.device(device.name)
        self.model, self.recipe, self.device = model, recipe, device
        rate_R = torch.tensor(rates if model.stack else rates[0], device=where)
        self.optimizer = AdamW(model, recipe, rate_R)
        self.loss_R = torch.zeros(model.stack, device=where)
        self.norm_R = torch.zeros(model.stack, device=where)
        experts = getattr(model.design.feedforward, "experts", 0)
        layers = model.design.layers if experts else 0
        self.choices_LE = [torch.zeros(*model.stack, experts, device=where) for _ in range(layers)]
        self.place = torch.zeros(1, dtype=torch.int64, device=where)
        self.window: Window | None = None
        self.measure, self.update = self.objective, self.optimizer.step_
        self.rounded = self._rounded()

    def state(self) -> dict[str, Tensor]:
        """Weights, buffers and moments, by name: what a checkpoint holds."""
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return weights | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over a state, in place."""
        mine = self.state()
        assert mine.keys() == state.keys(), "a checkpoint of another model"
        with torch.no_grad():
            for name, tensor in mine.items():
                tensor.copy_(state[name])
        self.optimizer.renew_copies()

    def begin(self, window: Window) -> None:
        """Takes in the data of the next steps."""
        if self.window is None:
            self.window = Window(*(torch.empty_like(part) for part in window))
        for mine, theirs in zip(self.window, window):
            mine[: len(theirs)].copy_(theirs)  # in place: a captured step knows this memory; the last window is shorter
        self.forget()

    def forget(self) -> None:
        """Returns to the window's first step, its statistics empty."""
        for tensor in (self.loss_R, self.norm_R, self.place, *self.choices_LE):
            tensor.zero_()

    def take(self) -> None:
        """The next step of the window."""
        assert self.window is not None, "begin a window first"
        tokens_BT, asked_BT, schedule = (part.index_select(0, self.place).squeeze(0) for part in self.window)
        tokens_BT = tokens_BT.long()
        with self.device.autocast(self.recipe), computing_with(self.rounded):
            loss_R, routings = self.model.loss(tokens_BT, asked_BT)
        objective_R = self.measure(loss_R, routings)
        copies, named = self.optimizer.copies, zip(self.optimizer.names, self.optimizer.weights)
        # A sum over replicas: no weight is shared, so each gets its own gradient.
        gradients = torch.autograd.grad(objective_R.sum(), [copies.get(name, weight) for name, weight in named])
        norm_R = self.update(list(gradients), schedule)
        with torch.no_grad():
            self.model.adjust_(routings)
            self.loss_R += loss_R.detach()
            self.norm_R += norm_R
            for total_E, routing in zip(self.choices_LE, routings):
                total_E += routing.choices_E
            self.place += 1

    def _rounded(self) -> list[tuple[MixtureLayer, dict[str, Tensor]]]:
        """Each mixture, and copies of its experts in the precision in which they are multiplied, if not float32.

        They are most of a mixture's weights; to round them at every step, and to widen their gradients, would move
        nearly as many bytes as AdamW does.
        """
        if self.device.precision(self.recipe) == "float32":
            return []
        layers = {name: layer for name, layer in self.model.named_modules() if isinstance(layer, MixtureLayer)}
        copies = self.optimizer.keep_copies({f"{name}.{matrix}" for name in layers for matrix in EXPERTS})
        if not copies:
            return []
        return [(layer, {each: copies[f"{name}.{each}"] for each in EXPERTS}) for name, layer in layers.items()]

    def objective(self, loss_R: Tensor, routings: list[Routing]) -> Tensor:
        """``objective`` by this step's recipe."""
        return objective(self.recipe, loss_R, routings)


@contextlib.contextmanager
def computing_with(rounded: list[tuple[MixtureLayer, dict[str, Tensor]]]) -> Iterator[None]:
    """Within, mixtures multiply by these matrices in the place of their own."""
    for layer, copies in rounded:
        layer.copies.update(copies)
    try:
        yield
    finally:
        for layer, _ in rounded:
            layer.copies.clear()


def objective(recipe: Recipe, loss_R: Tensor, routings: list[Routing]) -> Tensor:
    """[*R] what is minimised: the loss, and what the routers' balance adds to it."""
    if not routings:
        return loss_R
    load_balance = torch.stack([balance.load_balance(routing) for routing in routings]).mean(dim=0)
    z_loss = torch.stack([balance.z_loss(routing) for routing in routings]).mean(dim=0)
    return loss_R + recipe.load_balance * load_balance + recipe.z_loss * z_loss

"""AdamW (arXiv:1711.05101) for one model or a stack of replicas, each with its own learning rate and clipping.

torch's own has one learning rate for a whole tensor; here a tensor holds R replicas. With R = 1 both agree
(tests/training/test_optimizer.py).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import torch
from torch import Tensor, nn

from parrotlab.kernels.adamw import OnePass, takes
from parrotlab.training.recipe import Recipe


class AdamW:
    """The moments of every weight, and the step that uses them. Holds no Python numbers that change: capturable."""

    def __init__(self, model: nn.Module, recipe: Recipe, rate_R: Tensor) -> None:
        named = [(name, self.held(weight)) for name, weight in model.named_parameters() if weight.requires_grad]
        self.recipe, self.rate_R = recipe, rate_R
        self.weights: list[Tensor] = [weight for _, weight in named]
        self.first = [torch.zeros_like(weight) for weight in self.weights]
        self.second = [torch.zeros_like(weight) for weight in self.weights]
        self.decays = [0.0 if name.endswith("norm.weight_D") else recipe.weight_decay for name, _ in named]
        self.shares = [1.0] * len(named)
        """Of each weight, what its gradient counts in the norm."""
        self.steps = torch.zeros((), device=rate_R.device)
        self.names = [name for name, _ in named]
        self.copies: dict[str, Tensor] = {}
        """bfloat16 copies of some weights, which every step renews: see ``keep_copies``."""
        self.groups = [
            (decay, [place for place, theirs in enumerate(self.decays) if theirs == decay])
            for decay in dict.fromkeys(self.decays)
        ]
        self.replicas = list(zip(*(self._apart(tensors) for tensors in (self.weights, self.first, self.second))))

    @cached_property
    def one_pass(self) -> OnePass | None:
        """The kernels of a GPU, which launch themselves: no compiler is to look into them."""
        if not takes(self.weights):
            return None
        state = self.weights, self.first, self.second
        copies = {self.names.index(name): copy for name, copy in self.copies.items()}
        return OnePass(*state, self.decays, self.shares, tuple(self.rate_R.shape), copies)

    def keep_copies(self, names: Collection[str]) -> dict[str, Tensor]:
        """From now on, bfloat16 copies of these weights to compute with, whose gradients a step takes; by name.

        Empty where no kernel of a GPU makes the step. To be called before the first step.
        """
        if takes(self.weights):
            mine = {name: weight for name, weight in zip(self.names, self.weights) if name in names}
            self.copies = {name: weight.detach().bfloat16().requires_grad_() for name, weight in mine.items()}
        return self.copies

    @torch.no_grad()
    def renew_copies(self) -> None:
        """After somebody else has changed the weights."""
        for name, copy in self.copies.items():
            copy.copy_(self.weights[self.names.index(name)])

    @staticmethod
    def held(weight: Tensor) -> Tensor:
        """What this process keeps of a weight: here, all of it."""
        return weight

    def state(self) -> dict[str, Tensor]:
        """Everything to be saved, by name; loading copies into these tensors."""
        moments = {f"first.{name}": moment for name, moment in zip(self.names, self.first)}
        moments |= {f"second.{name}": moment for name, moment in zip(self.names, self.second)}
        return moments | {"steps": self.steps}

    @torch.no_grad()
    def step_(self, gradients: list[Tensor], schedule: Tensor) -> Tensor:
        """Clips the gradients and moves the weights; returns the gradient's norm before clipping, [*R].

        ``schedule`` is the learning rate of this step over its peak. The gradients may be overwritten.
        """
        if self.rate_R.device.type == "cpu":
            return self._fused_step_(gradients, schedule)
        if self.one_pass is not None:
            return self._single_step_(self.one_pass, gradients, schedule)
        return self._plain_step_(gradients, schedule)

    def _single_step_(self, one_pass: OnePass, gradients: list[Tensor], schedule: Tensor) -> Tensor:
        recipe = self.recipe
        self.steps += 1
        norm_R = self.total(one_pass.square(gradients)).sqrt()
        one_pass.move_(norm_R, self.rate_R, schedule, self.steps, recipe.clip, recipe.betas, recipe.epsilon)
        return norm_R

    @torch.no_grad()
    def _plain_step_(self, gradients: list[Tensor], schedule: Tensor) -> Tensor:
        beta1, beta2 = self.recipe.betas
        self.steps += 1
        norm_R = self.norm(gradients)
        torch._foreach_mul_(gradients, self._spread((self.recipe.clip / (norm_R + 1e-6)).clamp(max=1.0)))
        torch._foreach_lerp_(self.first, gradients, 1 - beta1)
        torch._foreach_mul_(self.second, beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - beta2)

        rate_R = self.rate_R * schedule
        denominators = torch._foreach_div(self.second, 1 - beta2**self.steps)
        torch._foreach_sqrt_(denominators)
        torch._foreach_add_(denominators, self.recipe.epsilon)
        updates = torch._foreach_div(self.first, denominators)
        torch._foreach_mul_(updates, self._spread(rate_R / (1 - beta1**self.steps)))
        shrinks = [1 - rate * decay for rate, decay in zip(self._spread(rate_R), self.decays)]
        torch._foreach_mul_(self.weights, shrinks)
        torch._foreach_sub_(self.weights, updates)
        return norm_R

    @torch.no_grad()
    def _fused_step_(self, gradients: list[Tensor], schedule: Tensor) -> Tensor:
        """The same by torch's kernel, which passes over each weight once; replica by replica."""
        beta1, beta2 = self.recipe.betas
        self.steps += 1
        rate_R, norms = (self.rate_R * schedule).view(-1), []
        for state, slopes, rate in zip(self.replicas, self._apart(gradients), rate_R):
            norms.append(self.lone_norm(slopes))
            excess = ((norms[-1] + 1e-6) / self.recipe.clip).clamp(min=1.0)
            for decay, places in self.groups:
                weights, mine, first, second = (
                    [tensors[place] for place in places] for tensors in (state[0], slopes, *state[1:])
                )
                torch._fused_adamw_(
                    weights,
                    mine,
                    first,
                    second,
                    [],
                    [self.steps] * len(places),
                    lr=rate,
                    beta1=beta1,
                    beta2=beta2,
                    weight_decay=decay,
                    eps=self.recipe.epsilon,
                    amsgrad=False,
                    maximize=False,
                    grad_scale=excess,
                )
        return torch.stack(norms).view_as(self.rate_R)

    def total(self, squares_R: Tensor) -> Tensor:
        """Of all gradients' squares, of those that this process holds: here, the same."""
        return squares_R

    def _apart(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        """Each replica's part of tensors that are shaped like the weights; it shares their memory."""
        if not self.rate_R.dim():
            return [tensors]
        return [list(parts) for parts in zip(*(tensor.detach().unbind() for tensor in tensors))]

    def lone_norm(self, gradients: list[Tensor]) -> Tensor:
        """Euclidean norm of a lone model's whole gradient."""
        return torch.stack(torch._foreach_norm(gradients)).norm()

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """[*R] Euclidean norm of each replica's whole gradient."""
        squares = [g.square().sum(dim=tuple(range(self.rate_R.dim(), g.dim()))) for g in gradients]
        return torch.stack(squares).sum(dim=0).sqrt()

    def _spread(self, value_R: Tensor) -> list[Tensor]:
        """A number for each replica, shaped to multiply each of the weights."""
        return [value_R.view(value_R.shape + (1,) * (weight.dim() - value_R.dim())) for weight in self.weights]

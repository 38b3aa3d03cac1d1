"""Losses that keep routers in order, each for one layer; a model's is the mean over its layers.

Pooling the layers before measuring would hide a collapse: four layers, each collapsed on another expert,
look balanced together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from parrotlab.model.feedforwards.feedforward import Routing, probabilities


def load_balance(routing: Routing) -> Tensor:
    """E · Σ_e f_e p_e: 1 when every expert gets its share, E when one gets all; [*R].

    f_e is the fraction of choices that fall on expert e (no gradient), p_e the mean router probability
    of e (Fedus et al. 2022, arXiv:2101.03961, equations 4-6).
    """
    probability_E = probabilities(routing.logits_NE).mean(dim=-2)
    return routing.logits_NE.shape[-1] * (load(routing) * probability_E).sum(dim=-1)


def z_loss(routing: Routing) -> Tensor:
    """Mean over tokens of (log Σ_e exp logit_e)²; [*R] (Zoph et al. 2022, arXiv:2202.08906, equation 5)."""
    return routing.logits_NE.logsumexp(dim=-1).square().mean(dim=-1)


def load(routing: Routing) -> Tensor:
    """[*R, E] fraction of all choices that fall on each expert; sums to 1."""
    return routing.choices_E / routing.choices_E.sum(dim=-1, keepdim=True)


def entropy(load_E: Tensor) -> Tensor:
    """[*R] entropy of a load in nats: log E when balanced, 0 when collapsed."""
    return -torch.special.xlogy(load_E, load_E).sum(dim=-1)

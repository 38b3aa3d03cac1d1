"""From the options of a command to the design that they describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they import torch
    from parrotlab.model.feedforwards.dense import Dense
    from parrotlab.model.feedforwards.mixture import Mixture


def feedforward(experts: int, active: int, shared: int, expansion: float, gated: bool) -> Dense | Mixture:
    """A mixture of that many experts, or for 0 a dense feed-forward."""
    from parrotlab.model.feedforwards.dense import Dense
    from parrotlab.model.feedforwards.mixture import Mixture

    if not experts:
        return Dense(expansion=expansion, gated=gated)
    return Mixture(
        experts=experts, active=active, shared=shared, expansion=expansion, gated=gated, renormalise=active > 1
    )

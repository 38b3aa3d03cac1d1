"""The paper's pre-training family: its designs, and the sizes that it lists for them.

20 layers, feed-forwards as wide as the model and two experts a token are stated by the paper. Matrices without a gate,
a head tied to the embedding and a vocabulary of 32,000 are what its listed sizes imply; heads of 64 channels are ours.

>>> dense(256).feedforward.hidden(256), mixture(256, 8).feedforward.hidden(256)
(256, 256)
"""

from __future__ import annotations

from dataclasses import dataclass

from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer

LAYERS = 20
VOCABULARY = 32_000
CHANNELS = 64
"""Of a head; the paper's value is unknown, and no size depends on it."""

DENSE_WIDTHS = (256, 512, 1024, 2048, 4096)
WIDTHS = (256, 512, 1024)
"""Of the mixtures."""
EXPERTS = (8, 16, 32, 64)

DENSE_MILLIONS = {256: 16, 512: 48, 1024: 159, 2048: 569, 4096: 2144}
"""Parameters that the paper lists for its dense models, by width."""
TOTAL_MILLIONS = {256: (34, 55, 97, 182), 512: (121, 205, 373, 709), 1024: (452, 788, 1459, 2802)}
"""What it lists in total for its mixtures, by width, for each of ``EXPERTS``."""
ACTIVE_MILLIONS = {256: 18, 512: 58, 1024: 200}
"""What it lists as active, whatever the number of experts."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One model of the paper: the sizes it lists in millions, and ours of the same design in parameters."""

    width: int
    experts: int
    """1 is dense."""
    listed_total: int
    listed_active: int
    total: int
    """Without norms, as the paper counts."""
    active: int
    """Without norms and routers, as the paper counts."""

    @property
    def total_off_by(self) -> float:
        """Our total over the listed one, less 1; the paper rounds to millions."""
        return self.total / (1e6 * self.listed_total) - 1

    @property
    def active_off_by(self) -> float:
        """Our active parameters over the listed ones, less 1."""
        return self.active / (1e6 * self.listed_active) - 1


def dense(width: int) -> Transformer:
    """The dense model of that width."""
    return _design(width, Dense(expansion=1.0, gated=False))


def mixture(width: int, experts: int) -> Transformer:
    """The mixture of that width."""
    return _design(width, Mixture(experts=experts, active=2, expansion=1.0, gated=False))


def family() -> tuple[Transformer, ...]:
    """All 17 models, dense ones first."""
    mixtures = (mixture(width, experts) for width in WIDTHS for experts in EXPERTS)
    return (*(dense(width) for width in DENSE_WIDTHS), *mixtures)


def listed() -> tuple[Listed, ...]:
    """The models with both countings."""
    return tuple(_listed(design) for design in family())


def _design(width: int, feedforward: Dense | Mixture) -> Transformer:
    attention = Attention(heads=width // CHANNELS)
    return Transformer(layers=LAYERS, width=width, attention=attention, feedforward=feedforward, tied=True)


def _listed(design: Transformer) -> Listed:
    counts, width = count(design, VOCABULARY), design.width
    experts = design.feedforward.experts if isinstance(design.feedforward, Mixture) else 1
    total = DENSE_MILLIONS[width] if experts == 1 else TOTAL_MILLIONS[width][EXPERTS.index(experts)]
    return Listed(
        width=width,
        experts=experts,
        listed_total=total,
        listed_active=total if experts == 1 else ACTIVE_MILLIONS[width],
        total=counts.total - counts.norms,
        active=counts.active - counts.norms - counts.routers,
    )

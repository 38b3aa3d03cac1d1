"""What scores of single items say: intervals of a mean, differences between models asked the same, and what is noise.

Items are taken as drawn from more items of their kind, so intervals speak of the benchmark and not of a model's seeds;
answers to neighbouring questions about one text are not independent, and intervals are then too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from parrotlab.analysis._bootstrap import CONFIDENCE, SAMPLES, interval
from parrotlab.seeds import stream

POWER = 0.8
DRAWN = 1 << 22
"""Numbers drawn at once; bounds memory, changes nothing else."""
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One model's mean score less another's on the same items."""

    value: float
    low: float
    high: float
    p: float
    """Chance of a difference as large where there is none."""
    items: int
    detectable: float
    """The difference that so many items of this spread show with a power of 80%."""


def mean(scores_I: np.ndarray) -> Estimate:
    """The mean of scores in 0-1: of right and wrong with Wilson's interval (1927), of others with a bootstrap.

    >>> f"{mean(np.array([1.0, 0.0, 0.0, 0.0])).high:.3f}"
    '0.699'
    """
    scores_I = _checked(scores_I)
    value, items = float(scores_I.mean()), len(scores_I)
    if _is_binary(scores_I):
        middle = (value + Z**2 / (2 * items)) / (1 + Z**2 / items)
        half = Z / (1 + Z**2 / items) * math.sqrt(value * (1 - value) / items + Z**2 / (4 * items**2))
        return Estimate(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))
    means_S = _resampled(scores_I)
    return Estimate(value, *interval(means_S, means_S))


def difference(one_I: np.ndarray, other_I: np.ndarray) -> Difference:
    """One less the other, item by item in the same order; the interval is a bootstrap over items.

    ``p`` is McNemar's exact test where scores are right or wrong, else that of a thousand random exchanges of the
    two models' scores, item by item.
    """
    one_I, other_I = _checked(one_I), _checked(other_I)
    if len(one_I) != len(other_I):
        raise ValueError(f"paired scores need the same items: there are {len(one_I)} and {len(other_I)}")
    gains_I = one_I - other_I
    binary = _is_binary(one_I) and _is_binary(other_I)
    p = mcnemar(int((gains_I > 0).sum()), int((gains_I < 0).sum())) if binary else _exchanged(gains_I)
    means_S = _resampled(gains_I)
    low, high = interval(means_S, means_S)
    return Difference(float(gains_I.mean()), low, high, p, len(gains_I), detectable(float(gains_I.std()), len(gains_I)))


def gain(gains_I: np.ndarray) -> Estimate:
    """The mean of gains in -1 to 1 with the interval of Agresti and Min (2005, Stat. Med. 24:729).

    It imagines two more items, one gained and one lost, and so stays honest where few items differ or none.
    """
    if not len(gains_I):
        raise ValueError("there are no items that all answered")
    items = len(gains_I) + 2
    middle = float(gains_I.sum()) / items
    half = Z * math.sqrt(((float((gains_I**2).sum()) + 1) / items - middle**2) / items)
    return Estimate(float(gains_I.mean()), middle - half, middle + half)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: how likely are so uneven numbers if each item was a fair coin?

    >>> mcnemar(1, 9), mcnemar(0, 0)
    (0.021484375, 1.0)
    """
    items, fewer = gained + lost, min(gained, lost)
    ways = term = 1
    for k in range(1, fewer + 1):
        term = term * (items - k + 1) // k
        ways += term
    return min(1.0, 2 * _ratio(ways, items))


def detectable(deviation: float, items: int, power: float = POWER) -> float:
    """The smallest difference that a two-sided test at 5% finds with this power, for differences of that standard
    deviation from item to item: (z_0.975 + z_power) · deviation / √items."""
    return (Z + NormalDist().inv_cdf(power)) * deviation / math.sqrt(items)


def combination(parts: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Σ weight · part of independent estimates, with the interval of MOVER (Zou and Donner 2008, Stat. Med. 27:1693).

    It squares and adds the parts' half widths, each end for itself, so it stays honest where all answers are wrong.

    >>> f"{combination([Estimate(0.5, 0.4, 0.8), Estimate(0.1, 0.0, 0.5)], [1, 1]).high:.2f}"
    '1.10'
    """
    value = sum(weight * part.value for part, weight in zip(parts, weights))
    down = up = 0.0
    for part, weight in zip(parts, weights):
        below, above = weight * (part.value - part.low), weight * (part.high - part.value)
        down += (below if weight > 0 else above) ** 2
        up += (above if weight > 0 else below) ** 2
    return Estimate(value, value - math.sqrt(down), value + math.sqrt(up))


def average(parts: Sequence[Estimate]) -> Estimate:
    """The macro-average: every benchmark counts alike, whatever its number of items."""
    return combination(parts, [1 / len(parts)] * len(parts))


def _checked(scores_I: np.ndarray) -> np.ndarray:
    scores_I = np.asarray(scores_I, dtype=float)
    if not len(scores_I):
        raise ValueError("there are no scores to average: no item was asked")
    if not ((scores_I >= 0) & (scores_I <= 1)).all():
        raise ValueError(f"scores lie between 0 and 1, and one is {scores_I[~((scores_I >= 0) & (scores_I <= 1))][0]}")
    return scores_I


def _is_binary(scores_I: np.ndarray) -> bool:
    return bool(np.isin(scores_I, (0.0, 1.0)).all())


def _resampled(values_I: np.ndarray) -> np.ndarray:
    """[SAMPLES] means of items drawn with replacement, by the counts with which distinct values are drawn."""
    values_V, counts_V = np.unique(values_I, return_counts=True)
    items, generator = len(values_I), stream("paired", len(values_I))
    if len(values_V) <= items // 4:  # the same draw, faster: most scores are 0, 1 or a simple fraction
        return generator.multinomial(items, counts_V / items, size=SAMPLES) @ values_V / items
    rows = max(1, DRAWN // items)
    sizes = [min(rows, SAMPLES - start) for start in range(0, SAMPLES, rows)]
    return np.concatenate([values_I[generator.integers(items, size=(size, items))].mean(axis=1) for size in sizes])


def _exchanged(gains_I: np.ndarray, samples: int = 999) -> float:
    """The p of a permutation test that changes the sign of each gain at random (Fisher's randomization)."""
    generator = stream("exchanged", len(gains_I))
    told_I = gains_I[gains_I != 0]
    signs_SI = generator.integers(2, size=(samples, len(told_I)), dtype=np.int8) * 2 - 1
    reached = np.abs(signs_SI @ told_I) >= abs(told_I.sum()) - 1e-9
    return (1 + int(reached.sum())) / (samples + 1)


def _ratio(ways: int, items: int) -> float:
    """ways / 2^items, which as floats would overflow."""
    excess = max(0, ways.bit_length() - 64)
    return math.ldexp(float(ways >> excess), excess - items)

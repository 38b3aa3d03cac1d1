"""Matched comparisons: what a mixture scores more than a dense model of equal size, or of equal perplexity.

Between dense models the score is taken as linear in the logarithm of what is matched; beyond them nothing is said. The
difference is taken item by item, on the items that all answered, so what makes an item hard for everyone drops out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from parrotlab.analysis.paired import combination, gain

Axis = Literal["total", "active", "perplexity"]
KIN = ["group", "trained_on"]
"""What mixtures and dense models share to be compared."""
DESIGN = [*KIN, "label", "family", "experts", "total", "active"]
COLUMNS = [*KIN, "label", "experts", "total", "active", "at", "score", "dense", "difference", "low", "high", "real"]


@dataclass(frozen=True)
class _Design:
    """A design's item scores, mean over seeds, part by part."""

    about: dict[str, Any]
    at: float
    scores: dict[str, pd.Series]


def against_dense(parts: pd.DataFrame, items: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """One row for each group and mixture within the dense models' range, with the columns of ``COLUMNS``.

    ``parts`` has a row for each examination that enters a group's score: the columns of ``DESIGN`` and of the axis,
    ``part`` (which benchmark and split), its ``weight`` in the sum, ``fingerprint`` and ``metric``. ``items`` is
    ``evals.item_scores.item_scores``. ``at`` is the mixture's place on the axis, ``dense`` the score of dense models
    there; ``real`` says that the interval excludes 0. A design that lacks a part of its group is left out.
    """
    rows = []
    for _, own in parts.dropna(subset=[axis]).groupby(KIN, sort=False):
        of_group = parts.loc[parts["group"] == own["group"].iloc[0]]
        weights = of_group.drop_duplicates("part").set_index("part")["weight"].to_dict()
        designs = _designs(own, items, axis, len(weights))
        dense = sorted((each for each in designs if each.about["family"] == "dense"), key=lambda each: each.at)
        for mixture in (each for each in designs if each.about["family"] == "moe"):
            between = _neighbours(dense, mixture.at)
            if between is None:
                continue
            gains = [gain(_gains(mixture, *between, part)) for part in weights]
            found = combination(gains, list(weights.values()))
            score = sum(weight * float(mixture.scores[part].mean()) for part, weight in weights.items())
            rows.append(
                {name: mixture.about[name] for name in (*KIN, "label", "experts", "total", "active")}
                | {"at": mixture.at, "score": score, "dense": score - found.value, "difference": found.value}
                | {"low": found.low, "high": found.high, "real": found.low > 0 or found.high < 0}
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def by_design(scores: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Means over seeds, of intervals too: seeds answer the same items, so their errors do not average out."""
    values = [name for name in ("score", "low", "high", axis) if name not in DESIGN]
    scored = scores.dropna(subset=["score", axis])
    return scored.groupby(DESIGN, as_index=False, sort=False, dropna=False)[values].mean()


def _designs(parts: pd.DataFrame, items: pd.DataFrame, axis: Axis, complete: int) -> list[_Design]:
    scored = items.merge(parts[["fingerprint", "metric", "part"]], on=["fingerprint", "metric"])
    designs = []
    for about, own in parts.groupby(DESIGN, sort=False):
        answered = scored.loc[scored["fingerprint"].isin(own["fingerprint"])]
        scores = {str(part): each.groupby("item")["score"].mean() for part, each in answered.groupby("part")}
        if len(scores) == complete:
            designs.append(_Design(dict(zip(DESIGN, about)), float(own[axis].mean()), scores))
    return designs


def _neighbours(dense: list[_Design], at: float) -> tuple[_Design, _Design, float] | None:
    """The dense designs below and above, and how far between them the place is, 0-1."""
    below = [each for each in dense if each.at <= at]
    above = [each for each in dense if each.at >= at]
    if not below or not above:
        return None
    low, high = below[-1], above[0]
    share = np.log(at / low.at) / np.log(high.at / low.at) if high.at > low.at else 0.0
    return low, high, float(share)


def _gains(mixture: _Design, low: _Design, high: _Design, share: float, part: str) -> np.ndarray:
    both = pd.concat([each.scores[part] for each in (mixture, low, high)], axis=1, join="inner").to_numpy()
    return both @ np.array([1.0, share - 1.0, -share])

"""Matched comparisons: what a mixture scores more than a dense model of equal size, or of equal perplexity.

Between dense models the score is taken as linear in the logarithm of what is matched; beyond them nothing is said.
Models answered the same items, so their errors agree in part and the interval of their difference is, if anything,
too wide.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from parrotlab.analysis.paired import Estimate, combination

DESIGN = ["group", "label", "family", "experts", "total", "active"]
COLUMNS = ["group", "label", "experts", "total", "active", "at", "score", "dense", "difference", "low", "high", "real"]


def against_dense(scores: pd.DataFrame, axis: Literal["total", "active", "perplexity"]) -> pd.DataFrame:
    """One row for each mixture within the dense models' range, with the columns of ``COLUMNS``.

    ``scores`` has one row for each group, model and seed, with a score and its interval. ``at`` is the mixture's value
    of ``axis``, ``dense`` the score of dense models there; ``real`` says that the interval excludes 0.
    """
    rows = []
    for group, designs in by_design(scores, axis).groupby("group", sort=False):
        dense = designs.loc[designs["family"] == "dense"].groupby(axis, as_index=False)[["score", "low", "high"]].mean()
        for mixture in designs.loc[designs["family"] == "moe"].to_dict("records"):
            there = _between(dense, axis, float(mixture[axis]))
            if there is None:
                continue
            own = Estimate(mixture["score"], mixture["low"], mixture["high"])
            found = combination([own, there], [1, -1])
            rows.append(
                {"group": group}
                | {name: mixture[name] for name in ("label", "experts", "total", "active", "score")}
                | {"at": mixture[axis], "dense": there.value, "difference": found.value}
                | {"low": found.low, "high": found.high, "real": found.low > 0 or found.high < 0}
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def by_design(scores: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Means over seeds, of intervals too: seeds answer the same items, so their errors do not average out."""
    values = [name for name in ("score", "low", "high", axis) if name not in DESIGN]
    scored = scores.dropna(subset=["score", axis])
    return scored.groupby(DESIGN, as_index=False, sort=False, dropna=False)[values].mean()


def _between(dense: pd.DataFrame, axis: str, at: float) -> Estimate | None:
    """The score of dense models at this place, if there are some on both sides or one is there."""
    places_P = np.log(dense[axis].to_numpy(dtype=float))
    if not len(places_P) or not places_P[0] <= np.log(at) <= places_P[-1]:
        return None
    above = int(np.searchsorted(places_P, np.log(at)))
    ends = [Estimate(*map(float, end)) for end in dense[["score", "low", "high"]].to_numpy()]
    if places_P[above] == np.log(at):
        return ends[above]
    share = (np.log(at) - places_P[above - 1]) / (places_P[above] - places_P[above - 1])
    return combination([ends[above - 1], ends[above]], [1 - share, share])

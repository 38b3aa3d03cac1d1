"""The exchange rate: what a parameter inside an expert is worth, in parameters of a dense model.

At one task, the dense ladder gives a score for each number of parameters. The size at which it scores like a given
mixture is the mixture's number of *effective* dense parameters, and

    rate = (effective - active) / (total - active)

is 1 where the parameters that a token does not touch are worth dense ones, and 0 where they are worth nothing.

Between its rungs the ladder is linear in log2(parameters), after isotonic regression has taken out the falls that
noise put in. Beyond its ends it says nothing: a mixture that scores like the top rung or better has *at least* that
many effective parameters, one that scores like the bottom rung or worse has *at most* that many.

Intervals are percentiles of a bootstrap over seeds, within every rung and the mixture. They know of the seeds' spread
alone, not of the ladder's curvature between rungs, and a percentile of few seeds is a coarse thing: on normal noise an
interval of 95% in name holds the truth in about 80, 88 and 90 of 100 cases with 2, 3 and 4 seeds. Of 1 seed there is
no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from parrotlab.analysis._bootstrap import SAMPLES, interval, resampled_means
from parrotlab.analysis.points import merit
from parrotlab.seeds import stream

FLAT = 0.01
"""Rungs at an end of the ladder within this fraction of its height are one plateau: a score there tells no size."""

DESIGN = ["task", "label", "family", "width", "experts", "active_experts", "total", "active"]
COLUMNS = [*DESIGN, "score", "effective", "rate", "low", "high", "bound", "seeds"]


class LadderError(ValueError):
    """There is no dense ladder on which a mixture could be placed."""


@dataclass(frozen=True)
class Place:
    """Where a score stands on the ladder."""

    size: float
    """Effective dense parameters, or the bound that is known."""
    bound: str
    """``at least``, ``at most``, or empty where the size is known."""


@dataclass(frozen=True)
class Ladder:
    """Scores of dense models by their parameters: R rungs, sizes growing, scores never falling, higher is better."""

    sizes_R: np.ndarray
    scores_R: np.ndarray

    def place(self, score: float) -> Place:
        """The dense size of that score."""
        bottom, top = self.scores_R[0], self.scores_R[-1]
        if not top > bottom:
            return Place(math.nan, "")
        slack = FLAT * (top - bottom)
        if score > top + slack:
            return Place(self.sizes_R[-1], "at least")
        if score < bottom - slack:
            return Place(self.sizes_R[0], "at most")
        high = self.scores_R >= top - slack
        if score >= self.scores_R[high][0]:
            return Place(self.sizes_R[high][0], "at least")
        low = self.scores_R <= bottom + slack
        if score <= self.scores_R[low][-1]:
            return Place(self.sizes_R[low][-1], "at most")
        return Place(2 ** self._log_size(score), "")

    def _log_size(self, score: float) -> float:
        logs_R = np.log2(self.sizes_R)
        level = self.scores_R == score
        if level.any():
            return float(logs_R[level].mean())  # of a flat stretch, the middle
        above = int(np.searchsorted(self.scores_R, score))
        return float(np.interp(score, self.scores_R[above - 1 : above + 1], logs_R[above - 1 : above + 1]))


def exchange_rates(points: pd.DataFrame, samples: int = SAMPLES) -> pd.DataFrame:
    """One row for each mixture of each task, with the columns of ``COLUMNS``.

    ``points`` is ``analysis.points.points(...)``; points without a score are left out, and ``seeds`` is the smallest
    number of scores behind a row's interval, rungs included. An infinite end of an interval is open: that share of
    the resamples fell off the ladder. Raises LadderError where a task with mixtures has no ladder, or a flat one.
    """
    scored = points[points["score"].notna()]
    rows = [
        row for task, group in scored.groupby("task", sort=False) for row in _rates_of_task(str(task), group, samples)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def monotone(scores_R: np.ndarray, weights_R: np.ndarray) -> np.ndarray:
    """The nearest scores that never fall, by weighted squares: pool adjacent violators.

    >>> monotone(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4))
    array([1. , 2.5, 2.5, 4. ])
    """
    blocks: list[tuple[float, float, int]] = []  # score, weight, rungs
    for score, weight in zip(scores_R, weights_R):
        blocks.append((score, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, one_weight, one_rungs), (other, other_weight, other_rungs) = blocks[-2:]
            weight = one_weight + other_weight
            blocks[-2:] = [((one * one_weight + other * other_weight) / weight, weight, one_rungs + other_rungs)]
    return np.repeat([score for score, _, _ in blocks], [rungs for _, _, rungs in blocks])


def _rates_of_task(task: str, points: pd.DataFrame, samples: int) -> list[dict]:
    points = points.assign(merit=merit(points))
    rungs = {size: rung["merit"].to_numpy() for size, rung in points[points["family"] == "dense"].groupby("total")}
    mixtures = points[points["family"] == "moe"]
    if mixtures.empty:
        return []
    if len(rungs) < 2:
        raise LadderError(f"{task}: a ladder needs dense models of 2 sizes with a score, there are {len(rungs)}")
    sizes_R = np.array(list(rungs), dtype=float)
    weights_R = np.array([len(scores_S) for scores_S in rungs.values()], dtype=float)
    ladder = Ladder(sizes_R, monotone(np.array([scores_S.mean() for scores_S in rungs.values()]), weights_R))
    if not ladder.scores_R[-1] > ladder.scores_R[0]:
        raise LadderError(
            f"{task}: dense models of {sizes_R[0]:,.0f} to {sizes_R[-1]:,.0f} parameters all score "
            f"{abs(ladder.scores_R[0]):.3g}, which tells no size: take a harder or an easier task, or other sizes"
        )
    resampled = [resampled_means(rungs[size], stream("exchange rate", task, int(size)), samples) for size in rungs]
    ladders = [Ladder(sizes_R, monotone(scores_R, weights_R)) for scores_R in np.stack(resampled, axis=1)]
    return [
        dict(zip(DESIGN, design))
        | _rate(mixture, ladder, ladders if weights_R.min() > 1 else [])
        | {"seeds": int(min(weights_R.min(), len(mixture)))}
        for design, mixture in mixtures.groupby(DESIGN, sort=False)
    ]


def _rate(mixture: pd.DataFrame, ladder: Ladder, ladders: list[Ladder]) -> dict:
    first, merits_S = mixture.iloc[0], mixture["merit"].to_numpy()
    idle = first["total"] - first["active"]
    place = ladder.place(merits_S.mean())
    low, high = math.nan, math.nan
    if ladders and len(merits_S) > 1 and idle > 0:
        generator = stream("exchange rate", first["task"], first["label"])
        means = resampled_means(merits_S, generator, len(ladders))
        places = [resampled.place(score) for resampled, score in zip(ladders, means)]
        rates = np.array([_worth(other.size, first["active"], idle) for other in places])
        bounds = np.array([other.bound for other in places])
        unknown = np.isnan(rates)  # a resampled ladder that is flat tells nothing
        low, high = interval(
            np.where(unknown | (bounds == "at most"), -math.inf, rates),
            np.where(unknown | (bounds == "at least"), math.inf, rates),
        )
    return {
        "score": mixture["score"].mean(),
        "effective": place.size,
        "rate": _worth(place.size, first["active"], idle),
        "low": -math.inf if place.bound == "at most" and not math.isnan(low) else low,
        "high": math.inf if place.bound == "at least" and not math.isnan(high) else high,
        "bound": place.bound,
    }


def _worth(effective: float, active: float, idle: float) -> float:
    """NaN for a mixture whose tokens touch every parameter: there is nothing to be worth anything."""
    return (effective - active) / idle if idle > 0 else math.nan

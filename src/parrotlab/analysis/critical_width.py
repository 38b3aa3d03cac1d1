"""The critical width: how wide a one-layer model must be to learn graphs of |V| vertices, for each number of experts.

Accuracy is taken as growing with the width, linear in log2(width) between the widths that were trained, after isotonic
regression has taken out the falls that noise put in. The critical width is where it passes 95%. Nothing is
extrapolated: it is *at most* the narrowest width if that one passes, *more than* the widest if none does.

It is a width at which training succeeded, not one that weights exist for: longer training, or another recipe, may
make do with less.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from parrotlab.analysis._bootstrap import SAMPLES, interval, resampled_means
from parrotlab.analysis.exchange_rate import monotone
from parrotlab.seeds import stream

PASSED = 0.95
"""The accuracy from which a graph problem counts as learned."""

SIZE = "task.vertices"
COLUMNS = ["vertices", "experts", "width", "low", "high", "bound", "seeds"]


def critical_widths(points: pd.DataFrame, samples: int = SAMPLES) -> pd.DataFrame:
    """One row per |V| and E, with the columns of ``COLUMNS``; ``points`` is ``analysis.points.points(...)``.

    ``bound`` is ``at most``, ``more than`` or empty. The interval is a bootstrap over the seeds of every width; where a
    resample passes at the narrowest width or nowhere, its end is open: 0 or infinite. Of 1 seed there is none.
    """
    rows = []
    for (vertices, experts), tried in points.dropna(subset=["score"]).groupby([SIZE, "experts"]):
        scores = {width: seeds.to_numpy(dtype=float) for width, seeds in tried.groupby("width")["score"]}
        seeds = min(len(scores_S) for scores_S in scores.values())
        width, bound = crossing(list(scores), [scores_S.mean() for scores_S in scores.values()])
        low, high = _interval(scores, str((vertices, experts)), samples) if seeds > 1 else (math.nan, math.nan)
        rows.append((int(vertices), int(experts), width, low, high, bound, seeds))
    return pd.DataFrame(rows, columns=COLUMNS)


def crossing(widths: list[float], accuracies: list[float]) -> tuple[float, str]:
    """The width at which accuracy passes 95%, and the bound that it is, if it is one; widths grow.

    >>> crossing([8, 16, 32], [0.6, 0.95, 1.0])
    (16.0, '')
    >>> crossing([8, 16, 32], [0.6, 0.7, 0.8])
    (32.0, 'more than')
    """
    scores_W = monotone(np.asarray(accuracies, dtype=float), np.ones(len(widths)))
    if scores_W[0] >= PASSED:
        return float(widths[0]), "at most"
    if scores_W[-1] < PASSED:
        return float(widths[-1]), "more than"
    above = int(np.argmax(scores_W >= PASSED))
    here = slice(above - 1, above + 1)
    return float(2 ** np.interp(PASSED, scores_W[here], np.log2(widths[here]))), ""


def _interval(scores: dict[float, np.ndarray], name: str, samples: int) -> tuple[float, float]:
    widths = list(scores)
    means_WS = [
        resampled_means(scores_S, stream("critical width", name, int(width)), samples)
        for width, scores_S in scores.items()
    ]
    places = [crossing(widths, list(means_W)) for means_W in zip(*means_WS)]
    return interval(
        np.array([0.0 if bound == "at most" else width for width, bound in places]),
        np.array([math.inf if bound == "more than" else width for width, bound in places]),
    )

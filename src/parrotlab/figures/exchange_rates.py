"""Exchange rates: what a parameter inside an expert is worth, in dense parameters, task by task."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from parrotlab.figures.picture import Picture
from parrotlab.figures.style import INK, MUTED, PAPER, canvas, mixture_colour, style

SIGNS = {"": "", "at least": "≥ ", "at most": "≤ "}

SHOWN = (-0.6, 1.8)
"""The rates between which the axis stays; what lies beyond is drawn as an arrow at its edge."""


def exchange_rates(rates: pd.DataFrame) -> Picture:
    """A dot with its 95% interval per task and mixture.

    A bound is a hollow dot whose arrow points where the rate may lie; an interval that ends in an arrow is open
    or leaves the axis.

    ``rates`` is ``analysis.exchange_rate.exchange_rates`` of one task or of several.
    """
    plotted = rates.loc[rates.rate.notna()].reset_index(drop=True)
    groups = list(plotted.groupby("task", sort=False)) or [("no rate measured yet", plotted)]
    heights = [max(1, len(group)) + 1 for _, group in groups]
    with style():
        figure, panels = canvas(0.9 + 0.23 * sum(heights), rows=len(groups), sharex=True, height_ratios=heights)
        limits = _limits(plotted)
        panels[0].set_xlim(*limits)
        for axes, (task, group) in zip(panels, groups):
            axes.set_title(str(task))
            axes.grid(False, axis="y")
            for x in (0, 1):
                axes.axvline(x, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            for place, row in enumerate(group.itertuples()):
                _dot(axes, len(group) - 1 - place, row, limits)
            axes.set_yticks(range(len(group)), list(group.label)[::-1])
            axes.set_ylim(-0.7, max(len(group), 1) - 0.3)
            axes.tick_params(axis="y", length=0)
        panels[-1].set_xlabel("exchange rate\n(0: worth nothing, 1: worth a dense parameter)")
    return Picture(figure, plotted, _words(plotted))


def _limits(rates: pd.DataFrame) -> tuple[float, float]:
    values = [x for column in ("rate", "low", "high") for x in rates[column] if math.isfinite(x)]
    lowest, highest = min([0, *values]) - 0.15, max([1, *values]) + 0.15
    return max(SHOWN[0], lowest), min(SHOWN[1], highest)


def _dot(axes: Axes, y: int, row: Any, limits: tuple[float, float]) -> None:
    """The rate as a dot, hollow if it is a bound, and its interval; an arrow where that leaves the axis or is open."""
    hue = mixture_colour(int(row.experts))
    inside = functools.partial(np.clip, a_min=limits[0] + 0.03, a_max=limits[1] - 0.03)
    place = float(inside(row.rate))
    low, high = (place if math.isnan(end) else float(inside(end)) for end in (row.low, row.high))
    if row.bound and low == high:  # of one seed: a bound without an interval
        low, high = (place, place + 0.15) if row.bound == "at least" else (place - 0.15, place)
    axes.plot([low, high], [y, y], color=hue, linewidth=2, solid_capstyle="butt", zorder=2)
    if row.low < low or row.bound == "at most":
        axes.plot([low], [y], marker="<", color=hue, markersize=6, clip_on=False)
    if row.high > high or row.bound == "at least":
        axes.plot([high], [y], marker=">", color=hue, markersize=6, clip_on=False)
    axes.scatter([place], [y], s=36, c=PAPER if row.bound else hue, edgecolors=hue, linewidths=1.4, zorder=3)
    text = f"{SIGNS[row.bound]}{round(row.rate, 2) + 0.0:.2f}".replace("-", "−")  # no -0.00
    axes.annotate(text, (place, y), (0, 5), textcoords="offset points", ha="center", fontsize=7.5, color=INK)


def _words(rates: pd.DataFrame) -> str:
    if not len(rates):
        return "Exchange rates: none measured yet."
    rows = zip(rates.task, rates.label, rates.bound, rates.rate)
    parts = [f"{task}, {label}: {bound} {rate:.2f}".replace(":  ", ": ") for task, label, bound, rate in rows]
    return "Exchange rate of an expert's parameter, 1 is as good as dense. " + "; ".join(parts) + "."

"""How every picture of the house looks: two hues that no common colour blindness confuses, and little ink.

Dense models are orange; mixtures are blue, the deeper the more experts. Each colour has a twin for dark
pages, so that a page may swap one for the other (``COLOURS``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from parrotlab.analysis.exchange_rate import monotone

WIDTH = 5.2
"""Inches: narrow enough that a phone shows the letters nearly at their size."""

COLOURS = {
    "paper": ("#ffffff", "#15181d"),
    "ink": ("#1b1f24", "#e8eaed"),
    "muted": ("#59616b", "#a3abb6"),
    "grid": ("#e4e7eb", "#2b3038"),
    "dense": ("#c2500a", "#ff9a57"),
    "moe-1": ("#4a97c6", "#37749c"),
    "moe-2": ("#3c8ec4", "#438bb8"),
    "moe-3": ("#2877b0", "#57a1cf"),
    "moe-4": ("#1b6199", "#76b7e0"),
    "moe-5": ("#144b7d", "#9acdee"),
    "moe-6": ("#0e3560", "#c3e3f9"),
}
"""name -> (on a light page, on a dark page)."""

PAPER, INK, MUTED, GRID, DENSE = (COLOURS[name][0] for name in ("paper", "ink", "muted", "grid", "dense"))

MARKERS = ("D", "s", "^", "v", "P", "X")
"""Shapes of the mixture lines; dense points are circles."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "parrotlab",
    "pdf.fonttype": 42,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "axes.facecolor": PAPER,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
}


@contextmanager
def style() -> Iterator[None]:
    """Inside, matplotlib draws in the style of the house; outside, nothing has changed."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def mixture_colour(experts: int) -> str:
    """The blue of a mixture with this many experts: one step a doubling, from 2 to 64."""
    return COLOURS[f"moe-{min(6, max(1, round(math.log2(max(experts, 2)))))}"][0]


def colour(family: str, experts: int) -> str:
    """The colour of a design."""
    return DENSE if family == "dense" else mixture_colour(experts)


def parameter_axis(axes: Axes, label: str, values: Sequence[float]) -> None:
    """A logarithmic x axis in thousands and millions of parameters, with few enough ticks to read."""
    axes.set_xscale("log")
    lowest, highest = min(values), max(values)
    axes.set_xlim(lowest / 1.4, highest * 1.6)
    narrow = highest / lowest < 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1, 3) if highest / lowest < 300 else (1,)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_xlabel(label)


def canvas(height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    """An empty figure of the house's width and its axes, row by row; ``grid`` is for ``Figure.subplots``."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, list(figure.subplots(rows, columns, squeeze=False, **grid).flat)


def apart(heights: Sequence[float], distance: float) -> list[float]:
    """The heights, moved as little as lets labels of that distance stand beside each other without touching.

    Least squares under ``next - this >= distance`` is isotonic regression of the heights less their due distances.
    """
    order = np.argsort(heights, kind="stable")
    due = distance * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = monotone(np.asarray(heights, dtype=float)[order] - due, np.ones(len(order))) + due
    return list(moved)

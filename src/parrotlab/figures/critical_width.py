"""Critical widths: how wide a layer must be to learn graphs of |V| vertices, beside what theory forbids and gives."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from parrotlab.figures.picture import Picture
from parrotlab.figures.style import DENSE, MARKERS, MUTED, PAPER, canvas, mixture_colour, style

BEYOND = (1, 2**20)
"""Outside of every plot: where open intervals end."""

SIGNS = {"": "", "at most": "≤ ", "more than": "> "}

DODGE = 1.045
"""Lines of neighbouring E stand this factor apart, or their bars would hide each other."""


def critical_width(widths: pd.DataFrame, bounds: pd.DataFrame) -> Picture:
    """The width at which accuracy passes 95% against |V|: a line per E with 95% intervals, between the two bounds.

    ``widths`` is ``analysis.critical_width.critical_widths``, ``bounds`` ``theory.bounds.critical_widths``. A hollow
    mark is a bound: an arrow up where no width passed, down where the narrowest did.
    """
    plotted = widths.sort_values(["experts", "vertices"]).reset_index(drop=True)
    with style():
        figure, (axes,) = canvas(4.2)
        lines = list(plotted.groupby("experts"))
        for place, (marker, (experts, line)) in enumerate(zip(("o", *MARKERS) * len(lines), lines)):
            _line(axes, line, int(experts), marker, DODGE ** (place - (len(lines) - 1) / 2))  # type: ignore[arg-type]
        _bounds(axes, bounds)
        _axes(axes, sorted(set(plotted.vertices)), plotted, bounds)
        if len(plotted):
            figure.legend(loc="outside upper left", ncols=2, handletextpad=0.5, columnspacing=1.2, fontsize=8)
    return Picture(figure, plotted, _words(plotted))


def _bounds(axes: Axes, bounds: pd.DataFrame) -> None:
    if not len(bounds):
        return
    told = "a construction's width (theorem 3.3)"
    axes.plot(bounds.vertices, bounds.construction_width, color=MUTED, linestyle=(0, (5, 3)), linewidth=1.2, label=told)
    told = f"below, every model fails (theorem 3.2, {bounds.precision.iloc[0]} bits)"
    axes.plot(bounds.vertices, bounds.least_width, color=MUTED, linestyle=(0, (1, 2)), linewidth=1.2, label=told)
    axes.fill_between(bounds.vertices, bounds.least_width, 1, color=MUTED, alpha=0.15, linewidth=0)


def _line(axes: Axes, line: pd.DataFrame, experts: int, marker: str, dodge: float) -> None:
    hue = DENSE if experts == 1 else mixture_colour(experts)
    place = line.vertices * dodge
    known = line.low.notna()
    ends = line.low.clip(lower=BEYOND[0])[known], line.high.clip(upper=BEYOND[1])[known]
    axes.vlines(place[known], *ends, color=hue, linewidth=1.4, zorder=2)
    axes.plot(place, line.width, color=hue, linewidth=1.4, zorder=2)
    fills = [PAPER if bound else hue for bound in line.bound]
    axes.scatter(place, line.width, c=fills, marker=marker, s=38, edgecolors=hue, linewidths=1.3, zorder=4)
    axes.plot([], [], color=hue, marker=marker, label="dense" if experts == 1 else f"E = {experts}")
    for at, width, bound in zip(place, line.width, line.bound):
        if bound:
            stretch = 1.18 if bound == "more than" else 1 / 1.18
            axes.plot([at], [width * stretch], marker="^" if bound == "more than" else "v", color=hue, markersize=5)


def _axes(axes: Axes, sizes: list[int], plotted: pd.DataFrame, bounds: pd.DataFrame) -> None:
    axes.set_xlabel("|V|, vertices of the graph")
    axes.set_ylabel("width at which accuracy passes 95%")
    if not sizes:
        return
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.set_xlim(sizes[0] / 1.15, sizes[-1] * 1.15)
    highest = max(plotted.width.max(), bounds.construction_width.max())
    axes.set_ylim(1.4, highest * 1.6)


def _words(plotted: pd.DataFrame) -> str:
    if not len(plotted):
        return "Width at which accuracy passes 95%, against |V|: no finished run yet."
    parts = [
        f"|V| = {row.vertices}, {'dense' if row.experts == 1 else f'E = {row.experts}'}: "
        f"{SIGNS[row.bound]}{row.width:.3g}"
        for row in plotted.itertuples()
    ]
    return f"Width at which accuracy passes 95%. {'; '.join(parts)}."

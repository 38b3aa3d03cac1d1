"""Benchmarks: the paper's figures 1, 5 and 6, each score with its interval, and grey where it is no more than noise."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from parrotlab.analysis.matched import by_design
from parrotlab.figures.picture import Picture
from parrotlab.figures.style import DENSE, INK, MUTED, PAPER, canvas, mixture_colour, style

PANEL = 2.15
"""Inches, of the height of a panel."""
MARKS = {"dense": "o", "moe": "D", "other": "^"}

Axis = Literal["total", "active", "perplexity"]
NAMES: dict[Axis, str] = {
    "total": "total parameters",
    "active": "active parameters",
    "perplexity": "validation perplexity, better to the right",
}


def group_scores(groups: pd.DataFrame) -> Picture:
    """Each group's mean score against total and against active parameters (figure 1), over its floor.

    ``groups`` is ``analysis.benchmarks.group_scores``. A hollow grey mark is not above the floor.
    """
    return _panels(groups, ("total", "active"), "mean score")


def matched_perplexity(groups: pd.DataFrame) -> Picture:
    """Each group's mean score against validation perplexity (figure 6); ``groups`` have that column."""
    return _panels(groups, ("perplexity",), "mean score")


def train_test_gap(gaps: pd.DataFrame) -> Picture:
    """What models score more on training problems than on test problems, against total parameters (figure 5).

    ``gaps`` is ``analysis.benchmarks.train_test_gaps``. A hollow grey mark's interval holds 0.
    """
    real = (gaps["low"] > 0) | (gaps["high"] < 0)
    return _panels(gaps.assign(floor=0.0, above_floor=real), ("total",), "training − test", "no gap")


def _panels(scores: pd.DataFrame, axes_of: tuple[Axis, ...], what: str, line: str = "floor") -> Picture:
    groups = list(dict.fromkeys(scores["group"])) or ["no model examined yet"]
    plotted = pd.concat([_told(scores, axis) for axis in axes_of], ignore_index=True)
    with style():
        size = {"rows": len(groups), "columns": len(axes_of), "sharey": "row", "sharex": "col"}
        figure, panels = canvas(0.9 + PANEL * len(groups), **size)
        for place, panel in enumerate(panels):
            group, axis = groups[place // len(axes_of)], axes_of[place % len(axes_of)]
            own = plotted.loc[(plotted["group"] == group) & (plotted["axis"] == axis)]
            if place % len(axes_of) == 0:
                panel.set_title(group)
                panel.set_ylabel(what)
            _panel(panel, own)
            if place // len(axes_of) == len(groups) - 1:
                panel.set_xlabel(NAMES[axis])
        for column, axis in enumerate(axes_of):
            _scale(panels[column], axis, plotted.loc[plotted["axis"] == axis, "at"])
        if len(plotted):
            _legend(panels[0], set(plotted["family"]), set(plotted["above_floor"]), line)
            figure.legend(loc="outside upper left", ncols=3, handletextpad=0.4, columnspacing=1.2, fontsize=8)
    return Picture(figure, plotted, _words(plotted, axes_of[0], what, line))


def _told(scores: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """One row a design, at its place on the axis; a design is above the floor if it is so on average over seeds."""
    designs = by_design(scores, axis)
    floors = scores.groupby("group")["floor"].mean()
    above = scores.groupby(["group", "label", "total"], dropna=False)["above_floor"].mean() > 0.5
    designs["above_floor"] = [bool(above[row.group, row.label, row.total]) for row in designs.itertuples()]
    designs["floor"] = designs["group"].map(floors)
    return designs.assign(axis=axis, at=designs[axis]).sort_values(["group", "family", "at"], ignore_index=True)


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    if not len(rows):
        return
    axes.axhline(rows["floor"].iloc[0], color=MUTED, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    dense = rows.loc[rows["family"] == "dense"]
    axes.plot(dense["at"], dense["score"], color=DENSE, linewidth=1.3, zorder=2)
    for row in rows.to_dict("records"):
        hue = _colour(row)
        axes.vlines(row["at"], row["low"], row["high"], color=hue, linewidth=1.2, zorder=2)
        fill = hue if row["above_floor"] else PAPER
        mark = MARKS[row["family"]]
        axes.scatter(row["at"], row["score"], c=fill, marker=mark, s=26, edgecolors=hue, linewidths=1.1, zorder=3)
        if row["family"] == "moe":
            offset = {"xytext": (4, -3), "textcoords": "offset points", "fontsize": 7, "color": INK}
            axes.annotate(f"{row['experts']:.0f}", (row["at"], row["score"]), **offset)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _colour(row: dict) -> str:
    if not row["above_floor"] or row["family"] == "other":
        return MUTED
    return DENSE if row["family"] == "dense" else mixture_colour(int(row["experts"]))


def _scale(axes: Axes, axis: Axis, values: pd.Series) -> None:
    """A logarithmic axis with a few round ticks; models are read from left to right as they get better."""
    if not len(values):
        return
    axes.set_xscale("log")
    low, high = float(values.min()), float(values.max())
    steps = (1, 2, 5) if high / low < 30 else (1, 3) if high / low < 300 else (1,)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low / 1.3 <= tick <= high * 1.4]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}") if axis == "perplexity" else EngFormatter(sep=""))
    ends = (low / 1.3, high * 1.4)
    axes.set_xlim(*(reversed(ends) if axis == "perplexity" else ends))


def _legend(axes: Axes, families: set[str], above: set[bool], line: str) -> None:
    told = {"dense": ("dense", DENSE), "moe": ("MoE, with its number of experts", mixture_colour(16))}
    told["other"] = ("model from elsewhere", MUTED)
    for family in (family for family in told if family in families):
        name, hue = told[family]
        axes.plot([], [], color=hue, marker=MARKS[family], linestyle="", label=name)
    axes.plot([], [], color=MUTED, linestyle=(0, (4, 3)), linewidth=1, label=line)
    if False in above:
        axes.plot([], [], color=MUTED, marker="o", markerfacecolor=PAPER, linestyle="", label="no more than noise")


def _words(plotted: pd.DataFrame, axis: Axis, what: str, line: str) -> str:
    if not len(plotted):
        return f"{what} against {NAMES[axis]}: no model examined yet."
    parts = []
    for group, rows in plotted.loc[plotted["axis"] == axis].groupby("group", sort=False):
        told = [
            f"{row.label} {row.score:.3f}{'' if row.above_floor else ' (no more than noise)'}"
            for row in rows.itertuples()
        ]
        parts.append(f"{group}, {line} at {rows['floor'].iloc[0]:.3f}: {', '.join(told)}")
    return f"{what} against {NAMES[axis]}. {'; '.join(parts)}."

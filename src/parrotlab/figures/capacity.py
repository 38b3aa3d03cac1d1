"""Capacity: bits known by heart against total parameters, and the lines of what others measured and of what can be."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from parrotlab.figures.picture import Picture
from parrotlab.figures.style import DENSE, MARKERS, MUTED, PAPER, canvas, mixture_colour, parameter_axis, style

DASHES = ((0, (1, 2)), (0, (5, 3)), "solid")
"""Of the lines, in their order."""


def capacity(bits: pd.DataFrame, lines: pd.DataFrame) -> Picture:
    """The bits of every design (mean over seeds, with its 95% interval) and the named lines, on logarithmic axes.

    ``bits`` is ``analysis.capacity.bits_per_parameter`` of one task, ``lines`` ``theory.counting.capacity_lines`` with
    a ``source`` for each line. Models that know nearly all there was are hollow: they may have had room for more.
    """
    plotted = bits.sort_values(["family", "width", "experts"]).reset_index(drop=True)
    with style():
        figure, (axes,) = canvas(4.8)
        mixtures = list(plotted.loc[plotted.family != "dense"].groupby(["width", "active_experts"]))
        _points(axes, plotted.loc[plotted.family == "dense"], "o", "dense")
        for marker, ((width, active), group) in zip(MARKERS * len(mixtures), mixtures):
            _points(axes, group, marker, f"MoE d={width} top-{active}, E = {_numbers(group.experts)}")
        if len(plotted):
            parameter_axis(axes, "total parameters", list(plotted.total))
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
            axes.set_ylim(plotted.bits.min() / 2, max(lines.bits.max(), plotted.bits.max()) * 1.5)
            _lines(axes, lines)
            figure.legend(loc="outside upper left", handletextpad=0.5, labelspacing=0.3, fontsize=8)
        axes.set_ylabel("bits memorized")
    return Picture(figure, plotted, _words(plotted, lines))


def _points(axes: Axes, group: pd.DataFrame, marker: str, name: str) -> None:
    if not len(group):
        return
    hues = [DENSE if row.family == "dense" else mixture_colour(int(row.experts)) for row in group.itertuples()]
    fills = [PAPER if row.bound else hue for row, hue in zip(group.itertuples(), hues)]
    known = group.low.notna()
    axes.vlines(group.total[known], (group.low * group.total)[known], (group.high * group.total)[known], color=MUTED)
    axes.scatter(group.total, group.bits, c=fills, marker=marker, s=38, edgecolors=hues, linewidths=1.3, zorder=3)
    axes.plot([], [], color=hues[-1], marker=marker, linestyle="", label=name)


def _lines(axes: Axes, lines: pd.DataFrame) -> None:
    """Straight through the whole plot, each with its source in the legend, where no point hides it."""
    left_right = axes.get_xlim()
    for dash, (name, line) in zip(DASHES * len(lines), lines.groupby("line", sort=False)):
        rate = line.bits.iloc[0] / line.parameters.iloc[0]
        bits = [rate * size for size in left_right]
        told = f"{name} ({line.source.iloc[0]})"
        axes.plot(left_right, bits, color=MUTED, linewidth=1.2, linestyle=dash, zorder=1, label=told)
    axes.set_xlim(*left_right)


def _numbers(experts: pd.Series) -> str:
    return ", ".join(str(number) for number in sorted(set(experts)))


def _words(plotted: pd.DataFrame, lines: pd.DataFrame) -> str:
    if not len(plotted):
        return "Bits memorized against total parameters: no finished run yet."
    parts = [f"{row.label}: {row.bound} {row.rate:.2f}".replace(":  ", ": ") for row in plotted.itertuples()]
    named = ", ".join(f"{name} ({group.source.iloc[0]})" for name, group in lines.groupby("line", sort=False))
    return f"Bits memorized over total parameters. {'; '.join(parts)}. Lines: {named}."

"""Score against parameters, the paper's figures 4a and 4b, and against the FLOPs of the training.

On the axis of total parameters memorization puts dense models and mixtures on one curve; on the axis of
active parameters reasoning does. Models with equal active parameters need about the same FLOPs.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from parrotlab.figures.picture import Picture
from parrotlab.figures.style import DENSE, INK, MARKERS, PAPER, apart, canvas, mixture_colour, parameter_axis, style

Axis = Literal["total", "active", "training_flops"]
AXES: dict[Axis, str] = {
    "total": "total parameters",
    "active": "active parameters",
    "training_flops": "training FLOPs",
}
"""A column of the points, and its name on the axis."""

PLOT_POINTS = 230
"""About the height of the plot, in points of 1/72 inch."""


def score_by_parameters(points: pd.DataFrame, axis: Axis, score_label: str) -> Picture:
    """Mean score of each design against its size; the bars reach from the lowest seed to the highest.

    ``points`` is one row per design and seed (``analysis.points``). One line per width of mixture, its points
    marked with their number of experts E.
    """
    plotted = means(points)
    with style():
        figure, (axes,) = canvas(4.0)
        dense = plotted.loc[plotted.family == "dense"]
        _line(axes, dense, axis, "o", "dense", [DENSE] * len(dense), DENSE)
        mixtures = list(plotted.loc[plotted.family != "dense"].groupby(["layers", "width", "active_experts"]))
        for marker, (_, line) in zip(MARKERS * len(mixtures), mixtures):
            first = line.iloc[0]
            colours = [mixture_colour(int(experts)) for experts in line.experts]
            _line(
                axes, line, axis, marker, f"MoE d={first.width} top-{first.active_experts}", colours, mixture_colour(16)
            )
        if len(plotted):
            parameter_axis(axes, AXES[axis], list(plotted[axis]))
        axes.set_ylabel(score_label)
        if len(plotted) and plotted.highest.max() >= 1000:  # bits rather than a fraction
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        if len(plotted) and plotted.lowest.min() >= 0 and not plotted.lower_is_better.any():  # of a loss, 0 is far away
            axes.set_ylim(0, plotted.highest.max() * 1.08 or 1)
        for _, line in mixtures:
            _annotate(axes, line, axis)
        if len(plotted):
            figure.legend(loc="outside upper left", ncols=3, handletextpad=0.4, columnspacing=1.2)
    return Picture(figure, plotted, _words(plotted, axis, score_label))


def means(points: pd.DataFrame) -> pd.DataFrame:
    """One row per design, small ones first: the mean, lowest and highest score over its seeds.

    A point without a score, of a run that failed, is left out.
    """
    design = ["label", "family", "layers", "width", "experts", "active_experts", "total", "active", "training_flops"]
    return (
        points.loc[points.score.notna()]
        .groupby(design, as_index=False)
        .agg(
            score=("score", "mean"),
            lowest=("score", "min"),
            highest=("score", "max"),
            lower_is_better=("lower_is_better", "first"),
            seeds=("seed", "nunique"),
            learning_rate=("learning_rate", "first"),
        )
        .sort_values(["family", "layers", "width", "active_experts", "experts", "total"])
        .reset_index(drop=True)
    )


def _line(
    axes: Axes, line: pd.DataFrame, axis: str, marker: str, label: str, colours: list[str], line_colour: str
) -> None:
    if not len(line):
        return
    axes.plot(line[axis], line.score, color=line_colour, linewidth=1.4, zorder=2)
    axes.vlines(line[axis], line.lowest, line.highest, color=colours, linewidth=1.4, zorder=2)
    axes.scatter(line[axis], line.score, c=colours, marker=marker, s=36, edgecolors=PAPER, linewidths=0.6, zorder=3)
    axes.plot([], [], color=line_colour, marker=marker, label=label)  # the legend shows one marker, not each colour's


def _annotate(axes: Axes, line: pd.DataFrame, axis: str) -> None:
    """E beside each point: below it where lines run to the right, to its right where they climb in place."""
    below = axis == "total"
    heights = [PLOT_POINTS * score / (axes.get_ylim()[1] - axes.get_ylim()[0]) for score in line.score]
    moved = heights if below else apart(heights, 8)
    for place, (size, score, experts) in enumerate(zip(line[axis], line.score, line.experts)):
        axes.annotate(
            f"E={experts}" if place == 0 else f"{experts}",
            (size, score),
            xytext=(0, -7) if below else (6, moved[place] - heights[place]),
            textcoords="offset points",
            ha="center" if below else "left",
            va="top" if below else "center",
            fontsize=7.5,
            color=INK,
        )


def _words(plotted: pd.DataFrame, axis: Axis, score_label: str) -> str:
    if not len(plotted):
        return f"{score_label} against {AXES[axis]}: no finished run yet."
    rows = zip(plotted.label, plotted.score, plotted[axis])
    parts = [f"{label}: {score:.3g} at {size:,.0f}" for label, score, size in rows]
    return f"{score_label} against {AXES[axis]}, mean over seeds. " + "; ".join(parts) + "."

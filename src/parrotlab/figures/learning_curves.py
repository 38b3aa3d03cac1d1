"""Learning curves: the training loss of every design, step by step."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

from parrotlab.figures.picture import Picture
from parrotlab.figures.style import INK, apart, canvas, colour, style

PANEL_POINTS = 110
"""About the height of a panel, in points of 1/72 inch."""


def learning_curves(table: pd.DataFrame) -> Picture:
    """Loss in nats a token against steps: a panel of dense models, and one per width of mixture.

    ``table`` holds measurements (``training``, ``loss``) with their run's ``label``, ``family``, ``width``,
    ``experts`` and ``total``. Lines are means over seeds; the band reaches from the lowest seed to the highest.
    """
    plotted = _curves(table)
    panels = list(plotted.groupby("panel", sort=False)) or [("no run has been trained yet", plotted)]
    columns = len(panels) if len(panels) <= 3 else 2
    rows = math.ceil(len(panels) / columns)
    with style():
        figure, grid = canvas(0.5 + 2.3 * rows, rows=rows, columns=columns, sharex=True, sharey=True)
        for axes, (title, curves) in zip(grid, panels):
            axes.set_title(str(title))
            for _, curve in curves.groupby("label", sort=False):
                _curve(axes, curve, curves)
            _name_ends(axes, curves)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[: len(panels)]:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("steps")
        for axes in grid[::columns]:
            axes.set_ylabel("training loss, nats a token")
        _loss_axis(grid[0], plotted)
    return Picture(figure, plotted, _words(plotted))


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """One row per design and step: mean, lowest and highest loss over the seeds."""
    losses = table.loc[(table.evaluation == "training") & (table.metric == "loss")]
    design = ["label", "family", "width", "experts", "total", "step"]
    curves = losses.groupby(design, as_index=False).value.agg(["mean", "min", "max"])
    curves = curves.rename(columns={"mean": "loss", "min": "lowest", "max": "highest"})
    curves["panel"] = np.where(curves.family == "dense", "dense", "MoE d=" + curves.width.astype(int).astype(str))
    return curves.sort_values(["family", "width", "experts", "total", "label", "step"]).reset_index(drop=True)


def _curve(axes: Axes, curve: pd.DataFrame, siblings: pd.DataFrame) -> None:
    """Dense models share one hue, so the smaller of them are drawn thinner."""
    first = curve.iloc[0]
    sizes = sorted(siblings.total.unique())
    strength = (sizes.index(first.total) + 1) / len(sizes)
    hue = colour(first.family, int(first.experts))
    axes.plot(curve.step, curve.loss, color=hue, linewidth=0.7 + 1.3 * strength)
    axes.fill_between(curve.step, curve.lowest, curve.highest, color=hue, alpha=0.15, linewidth=0)


def _name_ends(axes: Axes, curves: pd.DataFrame) -> None:
    """Names the lines where they end, pushed apart where they would touch."""
    if not len(curves):
        return
    ends = curves.groupby("label", sort=False).last()
    span = np.log(curves.highest.max() / max(curves.lowest.min(), 1e-9)) or 1.0
    heights = [PANEL_POINTS * np.log(max(loss, 1e-9)) / span for loss in ends.loss]
    for (_, end), height, moved in zip(ends.iterrows(), heights, apart(heights, 8)):
        name = f"d={end.width:.0f}" if end.family == "dense" else f"E={end.experts:.0f}"
        place, offset = (end.step, end.loss), (4, moved - height)
        axes.annotate(name, place, offset, textcoords="offset points", va="center", fontsize=7, color=INK)
    axes.set_xlim(0, curves.step.max() * 1.2)


def _loss_axis(axes: Axes, curves: pd.DataFrame) -> None:
    if len(curves) and curves.lowest.min() > 0:
        axes.set_yscale("log")
        decades = math.log10(curves.highest.max() / curves.lowest.min())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _words(curves: pd.DataFrame) -> str:
    if not len(curves):
        return "Learning curves: no run has been trained yet."
    ends = curves.groupby("label", sort=False).last()
    parts = [f"{label} {loss:.3g}" for label, loss in ends.loss.items()]
    return f"Training loss by step; at the end {'; '.join(parts)}."

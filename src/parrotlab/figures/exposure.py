"""Accuracy by exposure: what models know of facts, by how many training documents hold them."""

from __future__ import annotations

import pandas as pd

from parrotlab.analysis.exposure import EDGES, bucket
from parrotlab.figures.picture import Picture
from parrotlab.figures.style import MARKERS, canvas, colour, style

BUCKETS = [bucket(least) for least in EDGES]


def accuracy_by_exposure(exposed: pd.DataFrame) -> Picture:
    """A line for each model with 95% intervals, a panel for each benchmark.

    ``exposed`` is ``analysis.exposure.by_exposure``; seeds of one design are averaged.
    """
    design = ["benchmark", "label", "family", "experts", "total", "least", "bucket"]
    values = {name: (name, "mean") for name in ("score", "low", "high")} | {"count": ("count", "sum")}
    plotted = exposed.groupby(design, as_index=False, sort=False, dropna=False).agg(**values)
    panels = list(plotted.groupby("benchmark", sort=False)) or [("no model examined yet", plotted)]
    with style():
        figure, axes_of = canvas(1.2 + 2.6 * len(panels), rows=len(panels), sharex=True)
        for axes, (benchmark, rows) in zip(axes_of, panels):
            axes.set_title(str(benchmark))
            axes.set_ylabel("right answers")
            lines = list(rows.sort_values(["family", "total"]).groupby(["label", "total"], sort=False, dropna=False))
            for place, (marker, ((label, _), line)) in enumerate(zip(("o", *MARKERS) * len(lines), lines)):
                hue = colour(line["family"].iloc[0], int(line["experts"].fillna(2).iloc[0]))
                at = line["least"].map(EDGES.index) + 0.06 * (place - (len(lines) - 1) / 2)
                axes.vlines(at, line["low"], line["high"], color=hue, linewidth=1.1)
                axes.plot(at, line["score"], color=hue, marker=marker, linewidth=1.3, label=label)
            axes.set_ylim(bottom=0)
        axes_of[-1].set_xticks(range(len(BUCKETS)), BUCKETS)
        axes_of[-1].set_xlabel("training documents that hold the fact")
        if len(plotted):
            handles = {label: handle for axes in axes_of for handle, label in zip(*axes.get_legend_handles_labels())}
            figure.legend(handles.values(), handles, loc="outside upper left", ncols=3, fontsize=8)
    return Picture(figure, plotted, _words(plotted))


def _words(plotted: pd.DataFrame) -> str:
    if not len(plotted):
        return "Right answers by exposure: no model examined yet."
    parts = [f"{row.label} on {row.benchmark} at {row.bucket}: {row.score:.3f}" for row in plotted.itertuples()]
    return f"Right answers by the number of training documents that hold the fact. {'; '.join(parts)}."

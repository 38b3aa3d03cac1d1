"""Expert load: who gets the tokens? A collapsed router would look like poor capacity, so it is shown."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from parrotlab.figures.picture import Picture
from parrotlab.figures.style import INK, PAPER, canvas, style

BANDS = (0.25, 0.5, 0.8, 1.25, 2, 4)
"""Edges of the colours, in uniform shares (1/E)."""

BAND_COLOURS = ("#1d5a92", "#5b98c8", "#b5d2e8", "#efeeea", "#f6c9a4", "#e08a4b", "#b0460b")
BAND_NAMES = ("under ¼", "¼–½", "½–0.8", "uniform share (0.8–1.25)", "1.25–2", "2–4", "over 4")
PANELS_A_ROW = 2
COLUMNS = ["label", "seed", "layer", "rank", "expert", "load", "uniform_shares"]


def expert_load(table: pd.DataFrame) -> Picture:
    """The share of the choices that each expert gets at the end of training, in uniform shares, layer by layer.

    ``table`` holds measurements (``routing``, ``load``) with their run's ``label``, ``width``, ``experts`` and
    ``seed``; the first seed of each design is shown. Within a layer the experts are sorted by load, for their
    numbers mean nothing.
    """
    plotted = _loads(table)
    designs = list(plotted.groupby("label", sort=False)) or [("no mixture has been trained yet", plotted)]
    rows = math.ceil(len(designs) / PANELS_A_ROW)
    layers = int(plotted.layer.max()) + 1 if len(plotted) else 1
    with style():
        figure, panels = canvas(0.8 + rows * (0.5 + 0.17 * layers), rows=rows, columns=min(PANELS_A_ROW, len(designs)))
        for axes, (label, loads) in zip(panels, designs):
            _panel(axes, str(label), loads)
        for axes in panels[len(designs) :]:
            axes.set_axis_off()
        keys = [Patch(facecolor=colour, label=name) for colour, name in zip(BAND_COLOURS, BAND_NAMES)]
        figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=7.5, handlelength=1.2)
    return Picture(figure, plotted, _words(plotted))


def _loads(table: pd.DataFrame) -> pd.DataFrame:
    """Label, seed, layer, rank, expert, load and load in uniform shares, from the last step and the first seed."""
    load = table.loc[(table.evaluation == "routing") & (table.metric == "load")]
    if not len(load):
        return pd.DataFrame(columns=COLUMNS)
    load = load.loc[load.seed == load.groupby("label").seed.transform("min")]
    load = load.loc[load.step == load.groupby("label").step.transform("max")]
    places = load.part.str.extract(r"layer (?P<layer>\d+) expert (?P<expert>\d+)").astype(int)
    load = load.loc[:, ["label", "width", "experts", "seed"]].assign(**places, load=load.value)
    layer = load.groupby(["label", "layer"], sort=False).load
    load["uniform_shares"] = load.load * layer.transform("size")
    load["rank"] = layer.rank(ascending=False, method="first").astype(int)
    return load.sort_values(["width", "experts", "label", "layer", "rank"]).loc[:, COLUMNS].reset_index(drop=True)


def _panel(axes: Axes, label: str, loads: pd.DataFrame) -> None:
    axes.set_title(label)
    axes.grid(False)
    if not len(loads):
        axes.set_axis_off()
        return
    shares_LE = loads.pivot(index="layer", columns="rank", values="uniform_shares").to_numpy()
    bands_LE = np.digitize(shares_LE, BANDS)
    cells = axes.pcolormesh(bands_LE, cmap=ListedColormap(list(BAND_COLOURS)), edgecolors=PAPER, linewidth=0.6)
    cells.set_clim(0, len(BAND_COLOURS) - 1)
    for layer, rank in np.argwhere(shares_LE == 0):
        axes.text(rank + 0.5, layer + 0.5, "×", ha="center", va="center", color="#fffffe", fontsize=8)
    axes.set_yticks(np.arange(len(shares_LE)) + 0.5, [f"layer {layer}" for layer in range(len(shares_LE))])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.invert_yaxis()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(f"{shares_LE.shape[1]} experts, busiest first", fontsize=7.5, color=INK)


def _words(loads: pd.DataFrame) -> str:
    if not len(loads):
        return "Load of the experts: no mixture has been trained yet."
    busiest = loads.groupby("label", sort=False).uniform_shares.agg(["max", "min"])
    parts = [f"{label}: from {low:.2f} to {high:.2f}" for label, high, low in busiest.itertuples()]
    return "Load of each expert in uniform shares, 1 is even. " + "; ".join(parts) + "."

"""Equal total parameters: the more experts, the less width is left, until the lower bound excludes the mixture."""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import StrMethodFormatter

from parrotlab.figures.picture import Picture
from parrotlab.figures.style import DENSE, INK, MARKERS, MUTED, PAPER, canvas, mixture_colour, style


def equal_total(curve: pd.DataFrame) -> Picture:
    """The width of a mixture as large as the dense construction, against its number of experts K (corollary 3.4).

    ``curve`` is ``theory.bounds.equal_total`` of one |V|, at one precision or at several. A mark stands at the first K
    drawn at which theorem 3.2 excludes the mixture.
    """
    hue = mixture_colour(16)
    first = curve.iloc[0]
    with style():
        figure, (axes,) = canvas(3.7)
        widths = curve.drop_duplicates("experts")
        axes.plot(widths.experts, widths.sparse_width, color=hue, label="width left to K experts")
        axes.axhline(first.dense_width, color=DENSE, label="width of the dense construction")
        for marker, (precision, group) in zip(MARKERS, curve.groupby("precision")):
            least = group.least_width.iloc[0]
            axes.axhline(least, color=MUTED, linestyle=(0, (5, 3)), linewidth=1.1)
            text = f"at {precision} bits a number no width below {least} will do"
            axes.annotate(text, (1.1, least), (0, 3), textcoords="offset points", fontsize=7.5, color=INK)
            failing = group.loc[group.fails].head(1)
            axes.scatter(failing.experts, failing.sparse_width, marker=marker, s=46, c=hue, edgecolors=PAPER, zorder=3)
            for row in failing.itertuples():
                told = {"textcoords": "offset points", "fontsize": 7.5, "color": INK, "ha": "right", "va": "top"}
                axes.annotate(f"fails from K = {row.experts}", (row.experts, row.sparse_width), (-6, 2), **told)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xlim(1, widths.experts.max())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axes.set_xlabel(f"K, experts (|V| = {first.vertices}, equal total parameters)")
        axes.set_ylabel("width")
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.5, columnspacing=1.2)
    return Picture(figure, curve, _words(curve))


def _words(curve: pd.DataFrame) -> str:
    first = curve.iloc[0]
    parts = []
    for precision, group in curve.groupby("precision"):
        failing = group.loc[group.fails].experts
        parts.append(
            f"at {precision} bits a number it fails from K = {failing.min()}"
            if len(failing)
            else f"at {precision} bits a number none of those drawn is excluded"
        )
    return (
        f"Width left to a mixture of K experts as large as the dense construction for {first.vertices} vertices: from "
        f"{curve.sparse_width.max()} with K = {curve.experts.min()} to {curve.sparse_width.min()} "
        f"with K = {curve.experts.max()}; {', '.join(parts)}."
    )

"""A picture: what is drawn, the numbers that were drawn, and a sentence for those who cannot see it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from parrotlab.figures.style import COLOURS, style


@dataclass(frozen=True)
class Picture:
    """A figure and its plotted points, one row each."""

    figure: Figure
    plotted: pd.DataFrame
    says: str
    """The picture in words: the alternative text of a page."""

    def __post_init__(self) -> None:
        with style():  # laid out once, or each format would do it again
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine("none")


def svg(picture: Picture) -> str:
    """The picture as SVG with its text as text; equal tables give equal bytes."""
    return _rendered(picture, "svg", {"Date": None, "Creator": None, "Format": None, "Type": None}).decode()


def pdf(picture: Picture) -> bytes:
    """The picture as PDF, with no date in it."""
    return _rendered(picture, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})


def csv(picture: Picture) -> str:
    """The plotted points as CSV."""
    return picture.plotted.to_csv(index=False, lineterminator="\n", float_format="%.6g")


def save(picture: Picture, stem: Path) -> list[Path]:
    """Writes ``stem``.svg, .pdf and .csv and says where they lie."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    contents = {".svg": svg(picture).encode(), ".pdf": pdf(picture), ".csv": csv(picture).encode()}
    paths = [stem.with_name(stem.name + suffix) for suffix in contents]
    for path, content in zip(paths, contents.values()):
        path.write_bytes(content)
    return paths


def themed(drawing: str) -> str:
    """The SVG with CSS variables (``--paper``, ``--ink``...) for colours, for a page with a light and a dark side."""
    for name, (light, _) in COLOURS.items():
        drawing = drawing.replace(light, f"var(--{name})")
    return drawing


def _rendered(picture: Picture, kind: str, metadata: dict[str, None]) -> bytes:
    target = io.BytesIO()
    with style():
        picture.figure.savefig(target, format=kind, metadata=metadata)
    return target.getvalue()

import math

import pandas as pd
import pytest

from parrotlab.figures.critical_width import critical_width
from parrotlab.figures.picture import svg

BOUNDS = pd.DataFrame(
    {"vertices": [8, 16, 32], "precision": 16, "least_width": [2, 2, 4], "construction_width": [8, 16, 32]}
)


@pytest.fixture
def widths():
    rows = [(8, 1, 7.0, 6.0, 8.0, ""), (16, 1, 20.0, 18.0, 25.0, ""), (32, 1, 64.0, 60.0, math.inf, "more than")]
    rows += [(8, 4, 4.0, 0.0, 4.0, "at most"), (16, 4, 22.0, 20.0, 30.0, ""), (32, 4, 60.0, 50.0, 70.0, "")]
    return pd.DataFrame(rows, columns=["vertices", "experts", "width", "low", "high", "bound"]).assign(seeds=2)


def marks(picture, marker):
    """The heights at which a lone marker is drawn."""
    lines = picture.figure.axes[0].lines
    return [float(y) for line in lines if line.get_marker() == marker for y in line.get_ydata()]


def test_there_is_a_line_for_the_dense_models_and_one_for_each_number_of_experts(widths):
    drawing = svg(critical_width(widths, BOUNDS))
    assert ">dense</text>" in drawing
    assert ">E = 4</text>" in drawing


def test_widths_that_are_bounds_have_an_arrow_where_the_truth_lies(widths):
    picture = critical_width(widths, BOUNDS)
    assert len(marks(picture, "^")) == 1
    assert marks(picture, "^")[0] > 64
    assert len(marks(picture, "v")) == 1
    assert marks(picture, "v")[0] < 4


def test_both_bounds_are_drawn_and_named(widths):
    picture = critical_width(widths, BOUNDS)
    heights = {tuple(line.get_ydata()) for line in picture.figure.axes[0].lines}
    assert {(2, 2, 4), (8, 16, 32)} <= heights
    assert "theorem 3.2, 16 bits" in svg(picture)


def test_all_widths_lie_inside_of_the_plot(widths):
    low, high = critical_width(widths, BOUNDS).figure.axes[0].get_ylim()
    assert low < widths.width.min() <= widths.width.max() < high


def test_the_picture_is_told_in_words(widths):
    says = critical_width(widths, BOUNDS).says
    assert "|V| = 32, dense: > 64" in says
    assert "|V| = 8, E = 4: ≤ 4" in says


def test_without_widths_the_picture_says_so(widths):
    picture = critical_width(widths.iloc[:0], BOUNDS)
    assert "no finished run" in picture.says
    assert svg(picture).startswith("<?xml")

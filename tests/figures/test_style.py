import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrotlab.figures.style import COLOURS, apart, colour, mixture_colour

heights = st.lists(st.floats(-100, 100), min_size=1, max_size=12)


def luminance(hexadecimal):
    channels = np.array([int(hexadecimal[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_marks_and_letters_stand_out_from_the_page(side):
    """WCAG 2.1: 3 for marks, 4.5 for text."""
    paper = COLOURS["paper"][side]
    marks = [name for name in COLOURS if name.startswith("moe-")] + ["dense"]
    assert min(contrast(COLOURS[name][side], paper) for name in marks) >= 3
    assert min(contrast(COLOURS[name][side], paper) for name in ("ink", "muted")) >= 4.5


def test_more_experts_are_deeper_and_dense_is_apart():
    blues = [luminance(mixture_colour(2**power)) for power in range(1, 7)]
    assert blues == sorted(blues, reverse=True)
    assert len(set(blues)) == 6
    assert colour("dense", 1) not in {mixture_colour(experts) for experts in range(1, 129)}


@given(heights)
def test_labels_moved_apart_keep_their_order_and_their_distance(heights):
    moved = apart(heights, 8)
    assert all(np.diff(np.array(moved)[np.argsort(heights, kind="stable")]) >= 8 - 1e-9)


@given(heights)
def test_moving_labels_apart_keeps_their_mean(heights):
    assert np.mean(apart(heights, 8)) == pytest.approx(np.mean(heights), abs=1e-6)


def test_labels_that_do_not_touch_stay_where_they_are():
    assert apart([30, 0, 10], 8) == [30, 0, 10]

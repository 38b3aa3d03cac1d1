import pandas as pd
import pytest

from parrotlab.figures.capacity import capacity
from parrotlab.figures.picture import svg
from parrotlab.figures.style import PAPER


@pytest.fixture
def bits():
    """Three dense models and two mixtures, the larger of which knows nearly all there was."""
    rows = [("dense d=8", "dense", 8, 1, 4000, 1.5, ""), ("dense d=16", "dense", 16, 1, 16000, 1.6, "")]
    rows += [("MoE E=4", "moe", 8, 4, 12000, 1.2, ""), ("MoE E=8", "moe", 8, 8, 24000, 1.4, "at least")]
    columns = ["label", "family", "width", "experts", "total", "rate", "bound"]
    table = pd.DataFrame(rows, columns=columns).assign(active_experts=2, seeds=2)
    return table.assign(bits=table.rate * table.total, low=table.rate - 0.1, high=table.rate + 0.1)


@pytest.fixture
def lines():
    rows = [(f"{rate:g} bits", size, rate * size) for rate in (2, 3.6, 32) for size in (4000, 24000)]
    return pd.DataFrame(rows, columns=["line", "parameters", "bits"]).assign(source="a paper")


def test_bits_stand_over_the_total_parameters(bits, lines):
    picture = capacity(bits, lines)
    drawn = {tuple(spot) for cloud in picture.figure.axes[0].collections for spot in cloud.get_offsets().tolist()}
    assert {(row.total, row.bits) for row in bits.itertuples()} <= drawn


def test_every_line_has_its_slope_and_names_its_source(bits, lines):
    picture = capacity(bits, lines)
    drawn = {line.get_label(): line for line in picture.figure.axes[0].lines}
    for rate in (2, 3.6, 32):
        line = drawn[f"{rate:g} bits (a paper)"]
        assert (line.get_ydata() / line.get_xdata()).tolist() == pytest.approx([rate, rate])
        assert f">{rate:g} bits (a paper)</text>" in svg(picture)


def test_a_model_that_may_have_had_room_for_more_is_hollow(bits, lines):
    clouds = capacity(bits, lines).figure.axes[0].collections
    fills = {
        tuple(spot): tuple(round(255 * part) for part in fill[:3])
        for cloud in clouds
        for spot, fill in zip(cloud.get_offsets().tolist(), cloud.get_facecolor().tolist())
    }
    paper = tuple(int(PAPER[place : place + 2], 16) for place in (1, 3, 5))
    assert [spot[0] for spot, fill in fills.items() if fill == paper] == [24000]


def test_the_numbers_behind_the_picture_are_those_of_the_table(bits, lines):
    assert sorted(capacity(bits, lines).plotted.rate) == sorted(bits.rate)


def test_without_points_the_picture_says_so(bits, lines):
    picture = capacity(bits.iloc[:0], lines)
    assert "no finished run" in picture.says
    assert svg(picture).startswith("<?xml")

import pytest

from parrotlab.figures.picture import svg
from parrotlab.figures.score_by_parameters import AXES, means, score_by_parameters


def test_a_design_stands_at_the_mean_of_its_seeds_with_bars_to_the_extremes(points):
    points.loc[points.label == "dense d=16", "score"] = [0.2, 0.4]
    row = means(points).set_index("label").loc["dense d=16"]
    assert (row.score, row.lowest, row.highest, row.seeds) == (pytest.approx(0.3), 0.2, 0.4, 2)


def test_a_failed_run_does_not_count(points):
    points.loc[(points.label == "dense d=16") & (points.seed == 1), "score"] = float("nan")
    row = means(points).set_index("label").loc["dense d=16"]
    assert row.seeds == 1
    assert row.lowest == row.highest


@pytest.mark.parametrize("axis", AXES)
def test_every_mixture_says_how_many_experts_it_has(points, axis):
    drawing = svg(score_by_parameters(points, axis, "recall"))
    assert drawing.count(">E=4</text>") == 2  # once for each width
    assert drawing.count(">32</text>") == 2
    assert f">{AXES[axis]}</text>" in drawing


@pytest.mark.parametrize("axis", AXES)
def test_points_are_drawn_at_their_parameters(points, axis):
    picture = score_by_parameters(points, axis, "recall")
    drawn = [tuple(spot) for cloud in picture.figure.axes[0].collections for spot in cloud.get_offsets().tolist()]
    assert {(row[axis], row["score"]) for row in picture.plotted.to_dict("records")} <= set(drawn)


def test_bits_are_told_in_thousands(points):
    points["score"] *= 50_000
    assert ">40k</text>" in svg(score_by_parameters(points, "total", "bits memorized"))


@pytest.mark.parametrize(("lower_is_better", "from_zero"), [(False, True), (True, False)])
def test_the_axis_of_a_loss_stays_near_the_losses(points, lower_is_better, from_zero):
    points = points.assign(score=points.score + 3, lower_is_better=lower_is_better)
    axes = score_by_parameters(points, "total", "loss").figure.axes[0]
    assert bool(axes.get_ylim()[0] == 0) is from_zero


def test_without_points_the_picture_says_so(points):
    picture = score_by_parameters(points.iloc[:0], "total", "recall")
    assert "no finished run" in picture.says
    assert svg(picture).startswith("<?xml")

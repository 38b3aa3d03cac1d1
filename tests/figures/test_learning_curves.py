import pytest

from parrotlab.figures.learning_curves import learning_curves
from parrotlab.figures.picture import svg


def test_a_curve_is_the_mean_over_seeds_between_the_extremes(measurements):
    losses = (measurements.label == "dense d=16") & (measurements.step == 25)
    measurements.loc[losses, "value"] = [1.0, 3.0]
    first = learning_curves(measurements).plotted.set_index(["label", "step"]).loc[("dense d=16", 25)]
    assert (first.loss, first.lowest, first.highest) == (2.0, 1.0, 3.0)


def test_dense_models_and_each_width_of_mixture_have_a_panel(measurements):
    picture = learning_curves(measurements)
    assert [axes.get_title(loc="left") for axes in picture.figure.axes] == ["dense", "MoE d=16", "MoE d=32"]


@pytest.mark.parametrize("name", ["d=16", "d=96", "E=4", "E=32"])
def test_curves_are_named_where_they_end(measurements, name):
    assert f">{name}</text>" in svg(learning_curves(measurements))


def test_without_runs_the_picture_says_so(measurements):
    assert "no run" in learning_curves(measurements.iloc[:0]).says

import pandas as pd
import pytest

from parrotlab.figures.expert_load import expert_load
from parrotlab.figures.picture import svg


def test_the_loads_of_a_layer_are_one_uniform_share_on_average(measurements):
    shares = expert_load(measurements).plotted.groupby(["label", "layer"]).uniform_shares.mean()
    assert shares.to_numpy() == pytest.approx(1)


def test_experts_are_sorted_by_load_and_keep_their_number(measurements):
    plotted = expert_load(measurements).plotted
    for _, layer in plotted.groupby(["label", "layer"]):
        assert layer.load.is_monotonic_decreasing
        assert sorted(layer.expert) == list(range(len(layer)))


def test_only_the_end_of_the_first_seed_is_shown(measurements):
    early = measurements.assign(step=measurements.step - 500, value=-1.0)
    picture = expert_load(pd.concat([early, measurements]))
    assert set(picture.plotted.seed) == {1}
    assert picture.plotted.load.min() >= 0


def test_an_expert_without_tokens_is_crossed_out(measurements):
    mixtures = measurements[measurements.evaluation == "routing"].label.nunique()
    assert svg(expert_load(measurements)).count(">×</text>") == mixtures


def test_without_mixtures_the_picture_says_so(measurements):
    dense = measurements[measurements.family == "dense"]
    assert "no mixture" in expert_load(dense).says

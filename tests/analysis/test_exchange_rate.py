"""The exchange rate: 1 where an expert's parameter is worth a dense one, 0 where it is worth nothing."""

import doctest
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrotlab.analysis import exchange_rate
from parrotlab.analysis.exchange_rate import COLUMNS, Ladder, LadderError, exchange_rates, monotone


def logarithm(size):
    return math.log2(size) / 20


def plateau_from_4000(size):
    return min(1.0, math.log2(size) / 12)


scores = st.lists(st.floats(-100, 100), min_size=1, max_size=8)


def test_the_docstrings_tell_the_truth():
    assert doctest.testmod(exchange_rate) == (0, 1)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.2, 0.0])
def test_a_known_rate_is_found(ladder_points, rate):
    found = exchange_rates(ladder_points(rate, logarithm))
    assert list(found) == COLUMNS
    assert found["rate"].tolist() == pytest.approx([rate, rate], abs=0.06)  # a chord cuts the curve's corner
    assert found["bound"].tolist() == ["", ""]
    assert found["seeds"].tolist() == [3, 3]


@pytest.mark.parametrize("rate", [1.0, 0.0])
def test_on_a_rung_the_rate_is_exact(ladder_points, rate):
    found = exchange_rates(ladder_points(rate, logarithm))
    assert found["rate"].tolist() == pytest.approx([rate, rate])
    assert found["low"].tolist() == pytest.approx([rate, rate])
    assert found["high"].tolist() == pytest.approx([rate, rate])


def test_an_example_by_hand():
    ladder = Ladder(np.array([1000.0, 4000.0, 16000.0]), np.array([0.1, 0.3, 0.7]))
    place = ladder.place(0.5)  # halfway between 4000 and 16000 in logarithms
    assert (place.size, place.bound) == (pytest.approx(8000), "")
    rows = [
        {"task": "t", "family": "dense", "label": f"dense {size}", "width": 1, "experts": 1, "active_experts": 1}
        | {"total": size, "active": size, "score": score, "lower_is_better": False}
        for size, score in [(1000, 0.1), (4000, 0.3), (16000, 0.7)]
    ]
    rows.append(
        {"task": "t", "family": "moe", "label": "MoE", "width": 1, "experts": 4, "active_experts": 2}
        | {"total": 14000, "active": 6000, "score": 0.5, "lower_is_better": False}
    )
    found = exchange_rates(pd.DataFrame(rows)).iloc[0]
    assert found["effective"] == pytest.approx(8000)
    assert found["rate"] == pytest.approx((8000 - 6000) / (14000 - 6000))
    assert found["seeds"] == 1
    assert math.isnan(found["low"])  # one seed shows no spread
    assert math.isnan(found["high"])


def test_a_better_score_never_has_a_smaller_rate(ladder_points):
    rates = [exchange_rates(ladder_points(rate, logarithm), samples=2)["rate"] for rate in np.linspace(-0.3, 2.2, 30)]
    assert (np.diff(np.array(rates), axis=0) >= 0).all()


def test_beyond_the_ladder_there_are_only_bounds(ladder_points):
    above = exchange_rates(ladder_points(3.0, logarithm, totals=(8000,))).iloc[0]
    assert (above["bound"], above["effective"]) == ("at least", 16000)
    assert above["rate"] == pytest.approx((16000 - 2000) / 6000)
    assert above["high"] == math.inf
    below = exchange_rates(ladder_points(-0.3, logarithm, totals=(8000,))).iloc[0]
    assert (below["bound"], below["effective"]) == ("at most", 1000)
    assert below["rate"] == pytest.approx((1000 - 2000) / 6000)
    assert below["low"] == -math.inf


def test_a_score_at_the_plateau_is_at_least_the_smallest_size_that_reaches_it(ladder_points):
    found = exchange_rates(ladder_points(1.0, plateau_from_4000, totals=(8000,), sizes=(1000, 2000, 4096, 8000, 16000)))
    assert found["bound"].tolist() == ["at least"]
    assert found["effective"].tolist() == [4096]


def test_a_score_at_the_floor_is_at_most_the_largest_size_that_stays_there():
    ladder = Ladder(np.array([1000.0, 2000.0, 4000.0, 8000.0]), np.array([0.1, 0.1, 0.5, 0.9]))
    place = ladder.place(0.1)
    assert (place.size, place.bound) == (2000, "at most")


def test_an_interval_that_leaves_the_ladder_is_open_at_that_end(ladder_points):
    generator = np.random.default_rng(0)
    points = ladder_points(1.0, logarithm, totals=(15500,), noise=lambda: generator.normal() * 0.01)
    found = exchange_rates(points).iloc[0]
    assert found["high"] == math.inf
    assert math.isfinite(found["low"])


@pytest.mark.parametrize("curve", [lambda size: 1.0, lambda size: -logarithm(size)])
def test_a_ladder_without_slope_is_refused(ladder_points, curve):
    with pytest.raises(LadderError, match=r"phone book: dense models of 1,000 to 16,000 parameters all score"):
        exchange_rates(ladder_points(0.5, curve))


def test_a_ladder_of_one_rung_is_refused(ladder_points):
    with pytest.raises(LadderError, match="2 sizes"):
        exchange_rates(ladder_points(0.5, logarithm, sizes=(1000,)))


def test_without_mixtures_there_are_no_rates(ladder_points):
    assert exchange_rates(ladder_points(0.5, logarithm, totals=())).empty
    assert list(exchange_rates(pd.DataFrame(columns=COLUMNS))) == COLUMNS


def test_a_loss_is_placed_where_the_score_that_is_its_opposite_would_be(ladder_points):
    points = ladder_points(0.3, logarithm, noise=iter(np.random.default_rng(0).normal(0, 0.02, 99)).__next__)
    score, loss = (
        exchange_rates(points.assign(score=sign * points["score"], lower_is_better=sign < 0)) for sign in (1, -1)
    )
    pd.testing.assert_frame_equal(score.assign(score=-score["score"]), loss)


def test_a_failed_seed_is_left_out_and_counted_as_absent(ladder_points):
    points = ladder_points(0.5, logarithm)
    points.loc[(points["family"] == "moe") & (points["seed"] == 0), "score"] = math.nan
    found = exchange_rates(points)
    assert found["rate"].tolist() == pytest.approx([0.5, 0.5], abs=0.06)
    assert found["seeds"].tolist() == [2, 2]


def test_tokens_that_touch_every_parameter_have_no_rate(ladder_points):
    assert math.isnan(exchange_rates(ladder_points(0.5, logarithm, totals=(2000,)))["rate"].iloc[0])


def test_each_task_is_judged_on_its_own_ladder(ladder_points):
    one = ladder_points(1.0, logarithm)
    other = ladder_points(0.0, lambda size: 5 + logarithm(size)).assign(task="shortest path")
    found = exchange_rates(pd.concat([one, other]))
    assert found["rate"].tolist() == pytest.approx([1, 1, 0, 0])


def test_the_same_points_give_the_same_interval(ladder_points):
    generator = np.random.default_rng(0)
    points = ladder_points(0.5, logarithm, noise=lambda: generator.normal() * 0.01)
    pd.testing.assert_frame_equal(exchange_rates(points), exchange_rates(points))


def test_more_noise_widens_the_interval(ladder_points):
    widths = []
    for scale in (0.001, 0.01):
        generator = np.random.default_rng(0)
        found = exchange_rates(ladder_points(0.5, logarithm, noise=lambda: generator.normal() * scale))  # noqa: B023
        widths.append((found["high"] - found["low"]).iloc[0])
    assert 5 < widths[1] / widths[0] < 20


def test_intervals_of_four_seeds_cover_the_truth_about_as_often_as_they_say(ladder_points):
    generator = np.random.default_rng(1)
    truth = exchange_rates(ladder_points(0.6, logarithm, totals=(8000,)), samples=2)["rate"].iloc[0]
    covered = 0
    for _ in range(60):
        points = ladder_points(0.6, logarithm, seeds=4, totals=(8000,), noise=lambda: generator.normal() * 0.004)
        found = exchange_rates(points, samples=200).iloc[0]
        covered += found["low"] <= truth <= found["high"]
    assert covered >= 0.8 * 60


@given(scores)
def test_pooled_scores_never_fall_and_keep_their_mean(values):
    pooled = monotone(np.array(values), np.ones(len(values)))
    assert (np.diff(pooled) >= 0).all()
    assert pooled.mean() == pytest.approx(np.mean(values), abs=1e-9)


@given(scores)
def test_scores_that_never_fall_are_left_as_they_are(values):
    assert monotone(np.sort(values), np.ones(len(values))).tolist() == sorted(values)


@given(scores, st.integers(0, 1000))
def test_pooling_is_the_nearest_monotone_fit(values, seed):
    values, generator = np.array(values), np.random.default_rng(seed)
    weights = generator.integers(1, 5, size=len(values)).astype(float)
    pooled = monotone(values, weights)
    for _ in range(20):
        other = np.sort(pooled + generator.normal(size=len(values)))
        assert (weights * (pooled - values) ** 2).sum() <= (weights * (other - values) ** 2).sum() + 1e-9

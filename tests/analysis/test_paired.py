"""Paired statistics: laws, and agreement with scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from parrotlab.analysis.paired import (
    Estimate,
    average,
    combination,
    detectable,
    difference,
    gain,
    mcnemar,
    mean,
)
from parrotlab.seeds import stream


def answers(rate, items, *names):
    return (stream("answers", *names).random(items) < rate).astype(float)


@pytest.mark.parametrize("scores", [answers(0.3, 200, "self"), stream("f1").random(200)])
def test_a_model_differs_from_itself_by_nothing_and_p_is_1(scores):
    found = difference(scores, scores)
    assert (found.value, found.low, found.high, found.p, found.detectable) == (0, 0, 0, 1, 0)


def test_exchanging_the_models_turns_the_sign_and_nothing_else():
    one, other = answers(0.5, 500, "one"), answers(0.3, 500, "other")
    there, back = difference(one, other), difference(other, one)
    assert there.value == -back.value
    assert there.p == back.p
    assert there.low == pytest.approx(-back.high, abs=0.01)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 8), (8, 3), (10, 10), (40, 75), (1500, 1620)])
def test_mcnemar_is_the_exact_binomial_test_of_the_items_that_changed(gained, lost):
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("right", "items"), [(0, 50), (50, 50), (13, 50), (1, 1000)])
def test_the_interval_of_right_and_wrong_is_wilsons(right, items):
    scores = np.array([1.0] * right + [0.0] * (items - right))
    expected = stats.binomtest(right, items).proportion_ci(0.95, method="wilson")
    assert (mean(scores).low, mean(scores).high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_right_answer_at_all_still_leaves_room_above_nothing():
    assert mean(np.zeros(100)).high > 0.03
    assert average([mean(np.zeros(100))] * 4).high > 0.01


@pytest.mark.parametrize("spread", ["binary", "continuous"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(spread):
    held = []
    for trial in range(200):
        draw = stream("coverage", spread, trial).random(300)
        scores, truth = ((draw < 0.3).astype(float), 0.3) if spread == "binary" else (draw**2, 1 / 3)
        found = mean(scores)
        held.append(found.low <= truth <= found.high)
    assert 0.9 <= np.mean(held) <= 0.99


def test_intervals_of_differences_hold_the_truth_and_p_is_uniform_where_there_is_none():
    found = [difference(answers(0.4, 200, "a", trial), answers(0.4, 200, "b", trial)) for trial in range(200)]
    assert 0.9 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.99
    assert np.mean([each.p < 0.05 for each in found]) <= 0.08


def test_on_fractions_the_exchange_test_agrees_with_scipys():
    one, other = stream("one").random(60), stream("other").random(60) * 0.9
    expected = stats.permutation_test(
        (one, other), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=4999, rng=1
    ).pvalue
    assert difference(one, other).p == pytest.approx(expected, abs=0.05)


def test_the_bootstrap_agrees_with_scipys():
    scores = stream("scipy").random(200) ** 3
    expected = stats.bootstrap((scores,), np.mean, method="percentile", rng=1).confidence_interval
    assert (mean(scores).low, mean(scores).high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_drawing_by_counts_is_drawing_items():
    few = np.tile([0.0, 0.5, 1.0, 0.25], 100)
    plain = [stream("plain", draw).choice(few, len(few)).mean() for draw in range(2000)]
    assert mean(few).low == pytest.approx(np.percentile(plain, 2.5), abs=0.006)


def test_what_can_be_detected_shrinks_with_the_root_of_the_items():
    assert detectable(0.5, 400) == pytest.approx(detectable(0.5, 100) / 2)
    assert detectable(0.0, 10) == 0


def test_a_detectable_difference_is_found_in_four_of_five_trials():
    items = 400
    gap = detectable(math.sqrt(0.5), items)  # of two models at about 50%, independent of each other
    found = [
        difference(answers(0.5 + gap / 2, items, "up", trial), answers(0.5 - gap / 2, items, "down", trial)).p < 0.05
        for trial in range(300)
    ]
    assert 0.7 <= np.mean(found) <= 0.88


def test_an_average_of_equal_parts_is_narrower_by_the_root_of_their_number():
    part = Estimate(0.5, 0.4, 0.6)
    assert average([part] * 4) == Estimate(0.5, pytest.approx(0.45), pytest.approx(0.55))
    assert average([part]).high == pytest.approx(part.high)


def test_a_difference_of_estimates_is_that_of_normal_theory_where_intervals_are_even():
    found = combination([Estimate(0.5, 0.47, 0.53), Estimate(0.2, 0.16, 0.24)], [1, -1])
    assert (found.value, found.high - found.value) == pytest.approx((0.3, 0.05))


def test_scores_that_cannot_be_compared_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match="2 and 3"):
        difference(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="no item was asked"):
        mean(np.array([]))
    with pytest.raises(ValueError, match=r"one is 1\.5"):
        mean(np.array([0.0, 1.5]))
    with pytest.raises(ValueError, match="one is nan"):
        mean(np.array([np.nan]))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 1), (30, 50)])
def test_the_interval_of_gains_is_that_of_agresti_and_min(gained, lost):
    items = 200
    found = gain(np.array([1.0] * gained + [-1.0] * lost + [0.0] * (items - gained - lost)))
    up, down, all_ = gained + 0.5, lost + 0.5, items + 2  # half an item to each of the four cells
    half = stats.norm.ppf(0.975) * math.sqrt(up + down - (up - down) ** 2 / all_) / all_
    assert (found.low, found.high) == pytest.approx(((up - down) / all_ - half, (up - down) / all_ + half))
    assert found.value == (gained - lost) / items


def test_gains_of_no_item_are_refused():
    with pytest.raises(ValueError, match="no items that all answered"):
        gain(np.array([]))

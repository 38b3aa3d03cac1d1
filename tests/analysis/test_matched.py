"""Mixtures against dense models of equal size or perplexity."""

import numpy as np
import pandas as pd
import pytest

from parrotlab.analysis.matched import against_dense


def rows(dense, mixtures, half=0.01, seeds=1):
    """Scores of dense models and of mixtures, by their total parameters."""
    designs = [("dense", size, score) for size, score in dense] + [("moe", size, score) for size, score in mixtures]
    return pd.DataFrame(
        {"group": "knowledge", "label": f"{family} {size}", "family": family, "experts": 8}
        | {"total": size, "active": size // 2, "perplexity": 1e6 / size, "seed": seed}
        | {"score": score, "low": score - half, "high": score + half}
        for family, size, score in designs
        for seed in range(seeds)
    )


LADDER = [(100, 0.1), (1000, 0.2), (10_000, 0.3)]


@pytest.mark.parametrize("axis", ["total", "active", "perplexity"])
def test_a_mixture_on_the_dense_line_differs_by_nothing(axis):
    (found,) = against_dense(rows(LADDER, [(1000, 0.2)]), axis).to_dict("records")
    assert found["difference"] == pytest.approx(0)
    assert not found["real"]


def test_between_dense_models_the_line_is_straight_in_the_logarithm():
    (found,) = against_dense(rows(LADDER, [(round(np.sqrt(1e5)), 0.25)]), "total").to_dict("records")
    assert found["dense"] == pytest.approx(0.15, abs=1e-4)
    assert found["difference"] == pytest.approx(0.1, abs=1e-4)
    assert found["real"]


@pytest.mark.parametrize("size", [99, 10_001])
def test_beyond_the_dense_models_nothing_is_said(size):
    assert against_dense(rows(LADDER, [(size, 0.5)]), "total").empty


def test_a_difference_within_the_errors_of_both_is_not_real():
    (found,) = against_dense(rows(LADDER, [(1000, 0.24)], half=0.03), "total").to_dict("records")
    assert (found["low"], found["high"]) == pytest.approx((0.04 - 0.0424, 0.04 + 0.0424), abs=1e-3)
    assert not found["real"]


def test_more_seeds_on_the_same_items_do_not_narrow_an_interval():
    one, three = (against_dense(rows(LADDER, [(1000, 0.24)], seeds=seeds), "total").iloc[0] for seeds in (1, 3))
    assert three["high"] - three["low"] == pytest.approx(one["high"] - one["low"])


def test_without_dense_models_or_scores_there_is_no_row():
    assert against_dense(rows([], [(1000, 0.2)]), "total").empty
    assert against_dense(rows(LADDER, [(1000, np.nan)]), "total").empty

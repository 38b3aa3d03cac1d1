"""Mixtures against dense models of equal size or perplexity, item by item."""

import itertools

import numpy as np
import pandas as pd
import pytest

from parrotlab.analysis.matched import against_dense
from parrotlab.seeds import stream

LADDER = [(100, 0.2), (1000, 0.4), (10_000, 0.6)]
ITEMS = 2000


def examined(dense, mixtures, seeds=1, benchmarks=("one", "two"), weights=None):
    """Parts and item scores of models that answer the easiest items up to their score, by total parameters."""
    parts, items = [], []
    designs = [("dense", *each) for each in dense] + [("moe", *each) for each in mixtures]
    for (family, size, score), seed, benchmark in itertools.product(designs, range(seeds), benchmarks):
        name = f"{family} {size} {seed} {benchmark}"
        weight = (weights or {}).get(benchmark, 1 / len(benchmarks))
        parts.append(
            {"group": "knowledge", "trained_on": "text", "label": f"{family} {size}", "family": family, "experts": 8}
            | {"total": size, "active": size // 2, "perplexity": 1e6 / size}
            | {"part": benchmark, "weight": weight, "fingerprint": name, "metric": "f1"}
        )
        hard_I = stream("items", benchmark).permutation(ITEMS) / ITEMS
        items += [
            {"fingerprint": name, "metric": "f1", "item": f"{benchmark} {item}", "score": float(hard < score)}
            for item, hard in enumerate(hard_I)
        ]
    return pd.DataFrame(parts), pd.DataFrame(items)


@pytest.mark.parametrize("axis", ["total", "active", "perplexity"])
def test_a_mixture_that_answers_as_the_dense_model_of_its_place_differs_by_nothing(axis):
    (found,) = against_dense(*examined(LADDER, [(1000, 0.4)]), axis).to_dict("records")
    assert (found["difference"], found["dense"]) == (0, pytest.approx(0.4))
    assert found["low"] < 0 < found["high"]  # of few items that differ, little is known
    assert not found["real"]


def test_between_dense_models_the_line_is_straight_in_the_logarithm():
    (found,) = against_dense(*examined(LADDER, [(round(np.sqrt(1e5)), 0.5)]), "total").to_dict("records")
    assert (found["score"], found["dense"]) == (pytest.approx(0.5), pytest.approx(0.3, abs=1e-3))
    assert found["difference"] == pytest.approx(0.2, abs=1e-3)
    assert found["real"]


@pytest.mark.parametrize("size", [99, 10_001])
def test_beyond_the_dense_models_nothing_is_said(size):
    assert against_dense(*examined(LADDER, [(size, 0.5)]), "total").empty


def test_items_that_all_find_easy_or_hard_do_not_blur_a_difference():
    (found,) = against_dense(*examined(LADDER, [(1000, 0.42)]), "total").to_dict("records")
    independent = 1.96 * np.sqrt(2 * 0.4 * 0.6 / ITEMS / 2)
    assert found["high"] - found["low"] < independent
    assert found["real"]


def test_seeds_that_answer_alike_do_not_narrow_an_interval():
    one, three = (against_dense(*examined(LADDER, [(1000, 0.42)], seeds=n), "total").iloc[0] for n in (1, 3))
    assert three["high"] - three["low"] == pytest.approx(one["high"] - one["low"])


def test_parts_of_opposite_weight_make_a_gap_and_equal_gaps_differ_by_nothing():
    weights = {"train": 1.0, "test": -1.0}
    (found,) = against_dense(
        *examined(LADDER, [(1000, 0.6)], benchmarks=("train", "test"), weights=weights), "total"
    ).to_dict("records")
    assert (found["score"], found["difference"]) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))


def test_a_design_that_lacks_a_part_is_left_out():
    parts, items = examined(LADDER, [(1000, 0.4)])
    lacking = parts.drop(parts.index[(parts["family"] == "moe") & (parts["part"] == "two")])
    assert against_dense(lacking, items, "total").empty


def test_models_are_compared_with_those_trained_on_the_same_alone():
    parts, items = examined(LADDER, [(1000, 0.4)])
    other = parts.assign(trained_on=parts["family"].map({"dense": "text", "moe": "mathematics"}))
    assert against_dense(other, items, "total").empty


def test_without_dense_models_or_a_place_there_is_no_row():
    assert against_dense(*examined([], [(1000, 0.2)]), "total").empty
    parts, items = examined(LADDER, [(1000, 0.4)])
    assert against_dense(parts.assign(perplexity=np.nan), items, "perplexity").empty

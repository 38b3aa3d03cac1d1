"""Each mixture beside the dense model nearest to it in size."""

import pandas as pd
import pytest

from parrotlab.analysis.nearest_dense import nearest_dense


def world(scores, above=True):
    """Models as (name, family, total, seed) with their items' scores."""
    rows, items = [], []
    for (name, family, total, seed), values in scores.items():
        rows.append(
            {
                "benchmark": "sciq",
                "group": "commonsense",
                "trained_on": "text",
                "label": name,
                "family": family,
                "total": total,
            }
            | {"active": total, "seed": seed, "fingerprint": f"{name} {seed}", "metric": "acc", "above_floor": above}
        )
        items += [
            {"fingerprint": f"{name} {seed}", "metric": "acc", "item": str(place), "score": value}
            for place, value in enumerate(values)
        ]
    return pd.DataFrame(rows), pd.DataFrame(items)


MIXTURE = ("MoE", "moe", 1000, 1)


def test_the_nearest_in_size_is_taken_and_of_equally_near_ones_the_same_seed():
    scores = {MIXTURE: [1.0] * 20, ("far", "dense", 100, 1): [1.0] * 20}
    scores |= {("near", "dense", 1200, 0): [1.0] * 20, ("near", "dense", 1200, 1): [0.0] * 20}
    (found,) = nearest_dense(*world(scores), "total").to_dict("records")
    assert (found["dense"], found["difference"], found["items"]) == ("near", 1.0, 20)
    assert found["p"] == pytest.approx(2 * 0.5**20)
    assert found["real"]


def test_a_model_beside_its_twin_differs_by_nothing():
    same = [1.0, 0.0] * 30
    (found,) = nearest_dense(*world({MIXTURE: same, ("d", "dense", 1000, 1): same}), "total").to_dict("records")
    assert (found["difference"], found["p"], found["real"]) == (0, 1, False)


def test_below_the_floor_no_difference_is_real():
    scores = {MIXTURE: [1.0] * 20, ("d", "dense", 1000, 1): [0.0] * 20}
    assert not nearest_dense(*world(scores, above=False), "total")["real"].any()


def test_only_items_that_both_answered_count():
    scores = {MIXTURE: [1.0] * 20, ("d", "dense", 1000, 1): [0.0] * 5}
    assert nearest_dense(*world(scores), "total")["items"].tolist() == [5]


def test_without_dense_models_there_is_no_row():
    assert nearest_dense(*world({MIXTURE: [1.0]}), "total").empty

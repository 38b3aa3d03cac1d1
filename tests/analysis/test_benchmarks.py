"""Scores of benchmarks from stored examinations: floors, settings, averages, gaps."""

import numpy as np
import pandas as pd
import pytest
from examinations import examine

from parrotlab.analysis.benchmarks import (
    ALL_MATH,
    GUESS,
    benchmark_scores,
    group_scores,
    held_out,
    parts_of_gaps,
    parts_of_groups,
    train_test_gaps,
)
from parrotlab.evals.item_scores import item_scores
from parrotlab.results.store import Store

NO_RUNS = pd.DataFrame({"fingerprint": []})


def scores_of(store):
    return benchmark_scores(store.examinations(), item_scores(store), NO_RUNS)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_the_oracle_scores_1_and_a_guesser_does_not_rise_above_the_floor(store):
    examine(store, "oracle", "arc_easy", 1.0)
    examine(store, "hf:a/guesser", "arc_easy", 0.0)
    scores = scores_of(store).set_index("model")
    assert (scores.loc["oracle", "score"], scores.loc["oracle", "above_floor"]) == (1.0, True)
    assert not scores.loc["hf:a/guesser", "above_floor"]
    assert scores.loc["hf:a/guesser", "floor"] == 0.25
    assert scores.loc["hf:a/guesser", "floor_by"] == GUESS


def test_the_best_reference_is_the_floor_of_its_own_items_alone(store):
    examine(store, "longest", "arc_easy", 0.6)
    examine(store, "majority", "arc_easy", 0.1)
    examine(store, "oracle", "arc_easy", 1.0)
    examine(store, "hf:a/b", "arc_easy", 0.5, shots=5)
    examine(store, "hf:a/b", "arc_easy", 0.5, items=50)
    scores = scores_of(store)
    longest = scores.loc[scores.model == "longest", "score"].item()
    floors = scores.loc[scores.model == "hf:a/b"].set_index("limit")
    assert (floors.loc[100, "floor"], floors.loc[100, "floor_by"]) == (longest, "longest")
    assert (floors.loc[50, "floor"], floors.loc[50, "floor_by"]) == (0.25, GUESS)


def test_models_are_compared_in_the_setting_that_most_of_them_took(store):
    for model in ("hf:a/b", "hf:c/d"):
        examine(store, model, "triviaqa", 0.5, shots=5)
    examine(store, "hf:a/b", "triviaqa", 0.5)
    examine(store, "hf:a/b", "triviaqa", 0.5, split="train")
    assert held_out(scores_of(store))[["shots", "split"]].to_numpy().tolist() == [[5, "test"]] * 2


def test_a_group_is_the_mean_of_its_benchmarks_each_counting_alike(store):
    examine(store, "hf:a/b", "triviaqa", 0.8, items=200)
    examine(store, "hf:a/b", "nq_open", 0.2, items=50)
    scores = held_out(scores_of(store))
    (group,) = group_scores(scores).to_dict("records")
    assert group["score"] == pytest.approx(scores["score"].mean())
    assert group["high"] - group["low"] < (scores["high"] - scores["low"]).max()
    assert group["benchmarks"] == 2


def test_a_model_that_lacks_a_benchmark_has_no_average_and_it_is_told_which(store):
    examine(store, "hf:a/b", "triviaqa", 0.8)
    examine(store, "hf:a/b", "nq_open", 0.2)
    examine(store, "hf:c/d", "triviaqa", 0.8)
    groups = group_scores(held_out(scores_of(store))).set_index("model")
    assert groups.loc["hf:c/d", "missing"] == "nq_open"
    assert np.isnan(groups.loc["hf:c/d", "score"])
    assert not groups.loc["hf:c/d", "above_floor"]
    assert groups.loc["hf:a/b", "missing"] == ""


def test_a_benchmark_that_only_models_from_elsewhere_took_does_not_count(store):
    examine(store, "hf:a/b", "triviaqa", 0.8)
    examine(store, "hf:a/b", "nq_open", 0.2)
    examine(store, "hf:c/d", "triviaqa", 0.8)
    scores = held_out(scores_of(store))
    scores["family"] = scores["model"].map({"hf:a/b": "other", "hf:c/d": "dense"})
    assert group_scores(scores)["benchmarks"].tolist() == [1, 1]
    assert parts_of_groups(scores)["part"].unique().tolist() == ["triviaqa"]


def test_the_gap_is_the_training_splits_score_less_the_tests_and_none_where_both_are_alike(store):
    for benchmark, train in (("gsm8k", 0.9), ("math", 0.3)):
        examine(store, "hf:a/b", f"{benchmark}_train", train, split="train", items=300)
        examine(store, "hf:a/b", benchmark, 0.3, items=300)
    gaps = train_test_gaps(parts_of_gaps(scores_of(store))).set_index("group")
    assert gaps.loc["gsm8k", "score"] == pytest.approx(gaps.loc["gsm8k", "train"] - gaps.loc["gsm8k", "test"])
    assert gaps.loc["gsm8k", "low"] > 0.4
    assert gaps.loc["math", "low"] < 0 < gaps.loc["math", "high"]
    assert gaps.loc[ALL_MATH, "score"] == pytest.approx(gaps.loc[["gsm8k", "math"], "score"].mean())
    assert len(gaps) == 3  # each alone, and both together


def test_nothing_examined_gives_empty_tables(store):
    scores = scores_of(store)
    assert scores.empty
    assert group_scores(held_out(scores)).empty
    assert train_test_gaps(parts_of_gaps(scores)).empty

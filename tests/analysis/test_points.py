"""Points: one row per design and seed, at the learning rate with the lowest training loss."""

import math

import pandas as pd
import pytest

from parrotlab.analysis.points import COLUMNS, Score, label, points

ACCURACY = Score(evaluation="exact_match", split="test", metric="accuracy", label="accuracy")


def test_an_empty_table_has_no_points_but_their_columns():
    assert list(points(pd.DataFrame(), ACCURACY)) == list(COLUMNS)


def test_a_point_drawn_by_hand(book):
    book.run(16, experts=8, seed=3, rate=0.02, score=0.75)
    point = points(book.table(), ACCURACY).iloc[0]
    assert point[list(COLUMNS)].to_dict() == {
        "task": "phone book",
        "label": "MoE d=16 E=8 top-2",
        "family": "moe",
        "width": 16,
        "layers": 2,
        "experts": 8,
        "active_experts": 2,
        "total": 2048,
        "active": 512,
        "total_body": 2038,
        "active_body": 502,
        "training_flops": 1536,
        "learning_rate": 0.02,
        "seed": 3,
        "score": 0.75,
        "lower_is_better": False,
        "fingerprint": "0" * 16,
    }
    assert point["task.entries"] == 100


def test_there_is_one_point_per_design_and_seed(book):
    for seed in (0, 1):
        book.run(16, seed)
        book.run(32, seed)
        book.run(16, seed, experts=4)
        book.run(16, seed, experts=8)
    table = points(book.table(), ACCURACY)
    assert list(zip(table["label"], table["seed"])) == [
        (name, seed)
        for name in ("dense d=16", "dense d=32", "MoE d=16 E=4 top-2", "MoE d=16 E=8 top-2")
        for seed in (0, 1)
    ]


def test_the_best_rate_has_the_lowest_training_loss_whatever_the_score(book):
    for seed, (low, high) in enumerate([(1.0, 3.0), (2.0, 0.5)]):  # on average the low rate is better
        book.run(16, seed, rate=0.01, loss=low, score=0.1)
        book.run(16, seed, rate=0.1, loss=high, score=0.9)
    table = points(book.table(), ACCURACY)
    assert table["learning_rate"].tolist() == [0.01, 0.01]
    assert table["score"].tolist() == [0.1, 0.1]


@pytest.mark.parametrize("status", ["failed", "complete"])
def test_a_rate_at_which_a_seed_diverged_is_never_best(book, status):
    for seed in (0, 1):
        book.run(16, seed, rate=0.01, loss=2.0)
    book.run(16, 0, rate=0.1, loss=0.1)
    book.run(16, 1, rate=0.1, loss=math.nan if status == "complete" else 0.1, status=status)
    assert set(points(book.table(), ACCURACY)["learning_rate"]) == {0.01}


def test_where_every_rate_diverged_the_one_that_failed_least_stands_with_a_missing_score(book):
    for seed in (0, 1):
        book.run(16, seed, rate=0.1, status="failed", score=0.9)
    book.run(16, 0, rate=0.2, score=0.3)
    book.run(16, 1, rate=0.2, status="failed", score=0.9)
    table = points(book.table(), ACCURACY)
    assert table["learning_rate"].tolist() == [0.2, 0.2]
    assert table["score"].iloc[0] == 0.3
    assert math.isnan(table["score"].iloc[1])


def test_a_failed_run_without_any_measurement_is_shown_as_missing(book):
    book.run(16)
    book.run(32, status="failed")
    table = book.table()
    bare = table["model.width"] == 32
    table.loc[bare, ["evaluation", "split", "metric", "part", "step", "value", "count"]] = None
    table = table.drop_duplicates(["fingerprint", "metric", "step", "part"])
    assert points(table, ACCURACY)["score"].isna().tolist() == [False, True]


def test_a_score_is_the_last_one_of_the_whole_and_of_no_part(book):
    earlier = ("exact_match", "test", "accuracy", "", 3, 0.2)
    elsewhere = ("exact_match", "train", "accuracy", "", 10, 1.0)
    book.run(16, score=0.5, measured=[earlier, elsewhere])
    assert points(book.table(), ACCURACY)["score"].tolist() == [0.5]


def test_the_same_training_judged_in_two_ways_is_one_point(book):
    book.run(16, evaluations="one")
    book.run(16, evaluations="another")
    assert len(points(book.table(), ACCURACY)) == 1


def test_designs_of_one_name_are_told_apart_by_the_fields_in_which_they_differ(book):
    book.run(16)
    book.run(16, **{"model.layers": 4})
    book.run(32)
    router = "model.feedforward.router.type"
    book.run(16, experts=4, **{router: "TopK"})
    book.run(16, experts=4, **{router: "BiasBalanced", "model.feedforward.router.speed": 0.5})
    assert points(book.table(), ACCURACY)["label"].tolist() == [
        "dense d=16 layers=2",
        "dense d=16 layers=4",
        "dense d=32",
        "MoE d=16 E=4 top-2 router=BiasBalanced speed=0.5",
        "MoE d=16 E=4 top-2 router=TopK",
    ]


def test_books_of_two_sizes_are_two_tasks_with_the_same_designs(book):
    for entries in (100, 200):
        book.run(16, entries=entries, rate=0.01 if entries == 100 else 0.1)
    table = points(book.table(), ACCURACY)
    assert table["task"].tolist() == ["phone book entries=100", "phone book entries=200"]
    assert table["label"].tolist() == ["dense d=16"] * 2
    assert table["learning_rate"].tolist() == [0.01, 0.1]


def test_a_label_is_read_from_a_flattened_spec():
    assert label({"model.width": 64, "model.feedforward.type": "Dense"}) == "dense d=64"


def test_a_task_that_reads_a_corpus_is_called_by_it(book):
    book.run(16)
    book.run(32)
    table = book.table()
    table["task.corpus"] = ["local_math" if width == 16 else None for width in table["model.width"]]
    assert points(table, ACCURACY).set_index("width")["task"].to_dict() == {16: "local math", 32: "phone book"}

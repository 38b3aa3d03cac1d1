"""The critical width: where accuracy passes 95%, and what is said where it does not."""

import doctest
import math

import numpy as np
import pandas as pd
import pytest

from parrotlab.analysis import critical_width
from parrotlab.analysis.critical_width import PASSED, critical_widths, crossing


def points(accuracy, widths=(8, 16, 32, 64), vertices=(8, 16), experts=(1, 4), seeds=2):
    """One row a run, whose accuracy is ``accuracy(vertices, experts, width, seed)``."""
    rows = [
        {"task.vertices": size, "experts": number, "width": width, "seed": seed}
        | {"score": accuracy(size, number, width, seed)}
        for size in vertices
        for number in experts
        for width in widths
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=3)


def passing_at(critical):
    """Accuracies that grow by 0.1 with each doubling of the width, and pass 95% at ``critical(vertices, experts)``."""

    def accuracy(vertices, experts, width, seed):
        return PASSED + 0.1 * math.log2(width / critical(vertices, experts))

    return accuracy


def test_the_width_at_which_accuracy_passes_is_found_between_those_that_were_trained():
    found = critical_widths(points(passing_at(lambda vertices, experts: vertices * 1.3 + experts)))
    assert found[["vertices", "experts"]].to_numpy().tolist() == [[8, 1], [8, 4], [16, 1], [16, 4]]
    assert found["width"].tolist() == pytest.approx([11.4, 14.4, 21.8, 24.8])
    assert set(found["bound"]) == {""}
    assert set(found["seeds"]) == {2}


def test_equal_seeds_leave_no_spread():
    found = critical_widths(points(passing_at(lambda vertices, experts: 20)))
    assert found["low"].tolist() == pytest.approx(found["width"].tolist())
    assert found["high"].tolist() == pytest.approx(found["width"].tolist())


def test_unequal_seeds_spread_around_the_width_of_their_mean():
    even = passing_at(lambda vertices, experts: 20)
    found = critical_widths(points(lambda v, e, width, seed: even(v, e, width, seed) + 0.02 * (seed - 1), seeds=3))
    assert (found["low"] < found["width"]).all()
    assert (found["width"] < found["high"]).all()
    assert (found["high"] < 2 * found["low"]).all()


def test_of_one_seed_there_is_no_interval():
    found = critical_widths(points(passing_at(lambda vertices, experts: 20), seeds=1))
    assert found[["low", "high"]].isna().to_numpy().all()


@pytest.mark.parametrize(("critical", "width", "bound"), [(5, 8, "at most"), (100, 64, "more than")])
def test_beyond_the_widths_that_were_trained_it_is_a_bound_with_an_open_end(critical, width, bound):
    found = critical_widths(points(passing_at(lambda vertices, experts: critical)))
    assert set(found["width"]) == {width}
    assert set(found["bound"]) == {bound}
    assert set(found["low" if bound == "at most" else "high"]) == {0 if bound == "at most" else math.inf}


def test_runs_that_failed_do_not_count():
    table = points(passing_at(lambda vertices, experts: 20), seeds=3)
    table.loc[(table.width == 64) & (table.seed == 1), "score"] = float("nan")
    assert set(critical_widths(table)["seeds"]) == {2}


def test_wider_never_counts_as_worse():
    accuracies = [0.5, 0.97, 0.93, 1.0]
    width, _ = crossing([8, 16, 32, 64], accuracies)
    assert width == pytest.approx(crossing([8, 16, 32, 64], [0.5, 0.95, 0.95, 1.0])[0])


def test_the_width_falls_as_accuracies_rise():
    widths, rng = [8, 16, 32, 64], np.random.default_rng(0)
    for _ in range(200):
        scores = list(np.sort(rng.uniform(0.4, 1, 4)))
        better = [score + rng.uniform(0, 0.2) for score in scores]
        assert crossing(widths, better)[0] <= crossing(widths, scores)[0] + 1e-9


def test_without_points_there_is_no_width():
    empty = points(lambda *_: float("nan"))
    assert list(critical_widths(empty)) == critical_width.COLUMNS
    assert critical_widths(empty).empty


def test_its_examples_are_true():
    assert doctest.testmod(critical_width).failed == 0

"""The critical-width study: what it trains, and what its claims say of made-up points."""

import pandas as pd
import pytest

from parrotlab.model.count import count
from parrotlab.studies.critical_width import (
    RATES,
    SEEDS,
    SWEEPS,
    design,
    does_not_shrink_with_experts,
    grows_with_vertices,
    runs,
)


def points(critical, widths=(4, 8, 16, 32, 64, 128), seeds=2):
    """Accuracies that pass 95% at ``critical[vertices, experts]``."""
    rows = [
        {"task.vertices": vertices, "experts": experts, "width": width, "seed": seed}
        | {"score": 1.0 if width >= passing else 0.6 + 0.01 * seed}
        for (vertices, experts), passing in critical.items()
        for width in widths
        for seed in range(seeds)
    ]
    return {"critical_width": pd.DataFrame(rows)}


def test_an_expert_is_as_wide_at_every_number_of_experts():
    hidden = {design(24, experts).feedforward.hidden(24) for experts in (4, 16)}
    assert hidden == {24}
    assert design(24, 1).feedforward.hidden(24) == 48


@pytest.mark.parametrize("experts", [4, 16])
def test_dense_and_mixture_differ_in_active_parameters_by_the_router_alone(experts):
    dense, mixture = count(design(24, 1), 50), count(design(24, experts), 50)
    assert mixture.active - mixture.routers == dense.active
    assert mixture.total > dense.total


@pytest.mark.parametrize("scale", SWEEPS)
def test_each_size_is_tried_at_each_width_with_each_number_of_experts(scale):
    planned = runs(scale)
    assert len(planned) == len({run.fingerprint for run in planned})
    widths = {sweep.vertices: set(sweep.widths) for sweep in SWEEPS[scale]}
    assert {run.task.vertices: None for run in planned}.keys() == widths.keys()
    for vertices, expected in widths.items():
        own = [run for run in planned if run.task.vertices == vertices]
        assert {run.model.width for run in own} == expected
        experts = {getattr(run.model.feedforward, "experts", 1) for run in own}
        assert 1 in experts
        assert len(own) == len(expected) * len(experts) * len(RATES[scale]) * len(SEEDS[scale])


def test_it_is_the_theorems_setting():
    for scale in SWEEPS:
        for run in runs(scale):
            assert (run.model.layers, run.model.attention.heads, run.task.encoding) == (1, 1, "split")


@pytest.mark.parametrize(
    ("critical", "outcome"),
    [
        ({(8, 1): 8, (16, 1): 16, (32, 1): 64, (8, 4): 8, (16, 4): 32, (32, 4): 64}, "holds"),
        ({(8, 1): 16, (16, 1): 16, (8, 4): 8, (16, 4): 16}, "does not hold"),
        ({(8, 1): 8, (16, 1): 32, (32, 1): 16}, "undecided"),
        ({(8, 1): 8, (16, 1): 999}, "holds"),  # more than the widest is more
        ({(8, 1): 999, (16, 1): 999}, "undecided"),
        ({(8, 1): 8}, "not run"),
    ],
)
def test_the_width_grows_if_it_rises_with_every_size_for_every_number_of_experts(critical, outcome):
    assert grows_with_vertices(points(critical)).outcome == outcome


@pytest.mark.parametrize(
    ("critical", "outcome"),
    [
        ({(8, 1): 16, (8, 4): 16, (16, 1): 32, (16, 4): 64}, "holds"),
        ({(8, 1): 32, (8, 4): 16, (16, 1): 32, (16, 4): 64}, "does not hold"),
        ({(8, 1): 16, (8, 4): 999}, "holds"),
        ({(8, 1): 999, (8, 4): 16}, "does not hold"),
        ({(8, 1): 999, (8, 4): 999}, "undecided"),
        ({(8, 1): 16, (16, 1): 32}, "not run"),
    ],
)
def test_experts_do_not_help_if_the_width_is_nowhere_less_with_most_of_them(critical, outcome):
    assert does_not_shrink_with_experts(points(critical)).outcome == outcome


def test_verdicts_tell_the_widths():
    told = does_not_shrink_with_experts(points({(8, 1): 8, (8, 4): 4})).measured
    assert "dense" in told
    assert "at most 4 with 4 experts" in told


@pytest.mark.parametrize("judge", [grows_with_vertices, does_not_shrink_with_experts])
def test_without_runs_nothing_is_claimed(judge):
    assert judge({}).outcome == "not run"
    assert judge({"critical_width": pd.DataFrame()}).outcome == "not run"

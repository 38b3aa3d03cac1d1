"""Claims are judged by rules that are stated, on points made by hand."""

import math
import re

import pandas as pd
import pytest

from parrotlab.studies._claims import (
    follows_active,
    follows_total,
    grows_with_experts,
    worth_less_than_dense,
    worth_more_than,
)

ACTIVE = 2_000
LADDER = {1_000: 0.1, 2_000: 0.2, 4_000: 0.3, 8_000: 0.4, 16_000: 0.5, 32_000: 0.6}
"""Dense parameters and the score they reach: a tenth more each time they double."""


def score_of(parameters):
    return 0.1 * math.log2(parameters / 500)


def design(task, family, experts, total, active, scores, flops):
    return [
        {"task": task, "label": f"{family} {total}", "family": family, "width": 8, "layers": 1, "experts": experts}
        | {"active_experts": min(experts, 2), "total": total, "active": active, "seed": seed, "score": score}
        | {"training_flops": flops * active, "lower_is_better": False}
        for seed, score in enumerate(scores)
    ]


def table(task="book", noise=0.002, rate=None, scores=None, flops=1.0):
    """A ladder, and mixtures with 4, 8 and 16 experts whose parameters are worth ``rate``, or that score as told."""
    rows = []
    for size, score in LADDER.items():
        rows += design(task, "dense", 1, size, size, [score - noise, score, score + noise], flops)
    for index, experts in enumerate((4, 8, 16)):
        total = ACTIVE * experts // 2
        mean = scores[index] if scores else score_of(ACTIVE + rate * (total - ACTIVE))
        told = mean if isinstance(mean, tuple) else (mean - noise, mean, mean + noise)
        rows += design(task, "moe", experts, total, ACTIVE, told, flops)
    return pd.DataFrame(rows)


def dense_alone(points):
    return points[points["family"] == "dense"]


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        ((0.2, 0.3, 0.4), "holds"),
        ((0.4, 0.3, 0.2), "does not hold"),
        ((0.3, 0.3, 0.3), "undecided"),
        ((0.2, 0.4, 0.3), "undecided"),  # it rises and falls
        (((0.1, 0.2, 0.3), 0.25, (0.29, 0.3, 0.31)), "undecided"),  # the seeds of 4 and 16 experts overlap
        (((0.29, 0.3, 0.31), 0.25, (0.1, 0.2, 0.3)), "undecided"),
    ],
    ids=["rising", "falling", "level", "a hump", "rising in noise", "falling in noise"],
)
def test_more_experts_help_if_every_step_does_and_the_ends_are_apart(scores, outcome):
    verdict = grows_with_experts("book", "Bits")({"book": table(scores=scores)})
    assert verdict.outcome == outcome
    assert verdict.measured.startswith("Bits at fixed active parameters: ")
    assert "with 16 experts" in verdict.measured


@pytest.mark.parametrize(("scores", "outcome"), [((0.4, 0.3, 0.2), "holds"), ((0.2, 0.3, 0.4), "does not hold")])
def test_of_a_loss_more_experts_must_leave_less(scores, outcome):
    points = table(scores=scores).assign(lower_is_better=True)
    verdict = grows_with_experts("book", "Loss")({"book": points})
    assert verdict.outcome == outcome
    assert f"{scores[0]:.3g} with 4" in verdict.measured


@pytest.mark.parametrize(("rate", "outcome"), [(0.3, "holds"), (1.6, "does not hold"), (1.0, "undecided")])
def test_an_expert_parameter_is_worth_less_than_a_dense_one_below_a_rate_of_one(rate, outcome):
    assert worth_less_than_dense("book")({"book": table(rate=rate, noise=0.01)}).outcome == outcome


@pytest.mark.parametrize(
    ("rate", "total", "active"), [(1.0, "holds", "does not hold"), (0.1, "does not hold", "holds")]
)
def test_a_score_follows_the_parameters_that_the_exchange_rate_says(rate, total, active):
    points = {"book": table(rate=rate)}
    assert follows_total("book")(points).outcome == total
    assert follows_active("book")(points).outcome == active
    assert follows_total("book")(points).measured.startswith("Exchange rates: E = 4: ")


def test_an_interval_across_one_half_decides_nothing():
    points = {"book": table(rate=0.5, noise=0.03)}
    assert follows_total("book")(points).outcome == "undecided"
    assert follows_active("book")(points).outcome == "undecided"


def test_one_mixture_on_the_other_side_is_enough_to_fail():
    follows = [score_of(ACTIVE * experts // 2) for experts in (4, 8)]
    points = {"book": table(scores=[*follows, score_of(ACTIVE)])}
    assert follows_total("book")(points).outcome == "does not hold"
    assert follows_active("book")(points).outcome == "does not hold"


@pytest.mark.parametrize(
    ("book", "graph", "outcome"), [(1.0, 0.1, "holds"), (0.1, 1.0, "does not hold"), (0.5, 0.5, "undecided")]
)
def test_experts_are_worth_more_where_the_whole_interval_is_above(book, graph, outcome):
    points = {"book": table(rate=book), "graph": table("paths", rate=graph)}
    verdict = worth_more_than("book", "graph")(points)
    assert verdict.outcome == outcome
    assert "dense ones on book (moe 16000)" in verdict.measured  # at the largest E
    assert "on paths (moe 16000)" in verdict.measured


def test_a_score_beyond_the_ladder_is_told_as_a_bound_with_an_open_end():
    told = follows_total("book")({"book": table(scores=(0.4, 0.5, 0.9))}).measured
    assert re.search(r"E = 16: at least \d.*to open\)", told)
    assert "inf" not in told


def test_of_several_tasks_the_one_that_costs_the_most_is_judged():
    small, large = table("small book", rate=0.0), table("large book", rate=1.0, flops=10.0)
    points = {"book": pd.concat([small, large], ignore_index=True)}
    for claim in (follows_total("book"), follows_active("book"), grows_with_experts("book", "Bits")):
        assert claim(points) == claim({"book": large})
        assert claim(points) != claim({"book": small})


JUDGES = {
    "grows": grows_with_experts("book", "Bits"),
    "total": follows_total("book"),
    "active": follows_active("book"),
    "worth": worth_more_than("book", "graph"),
}


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
def test_what_cannot_be_judged_was_not_run(judge):
    flat = table(rate=0.5)
    flat.loc[flat["family"] == "dense", "score"] = 0.3  # a ladder without a slope places nothing
    nothing = table(rate=0.5).iloc[:0]
    for points in ({}, {"book": nothing}, {"book": dense_alone(table(rate=1.0))}, {"graph": table(rate=1.0)}):
        assert judge(points).outcome == "not run"
    if judge is not JUDGES["grows"]:
        assert judge({"book": flat, "graph": flat}).outcome == "not run"


def test_failed_runs_have_no_say():
    points = table(rate=1.0)
    lost = points.copy()
    lost.loc[(lost["family"] == "moe") & (lost["seed"] == 2), "score"] = math.nan
    assert follows_total("book")({"book": lost}).outcome == "holds"
    lost.loc[lost["family"] == "moe", "score"] = math.nan
    assert follows_total("book")({"book": lost}).outcome == "not run"

"""Claims about benchmarks: what holds, what fails, and what is noise."""

import pandas as pd
import pytest

from parrotlab.studies._benchmarks import (
    CLAIMS,
    EQUAL_TOTAL,
    GROUPS,
    against_equal,
    exceeds,
    falls_short,
    keeps_up,
    matches,
)

BETTER, WORSE, EQUAL, BLURRED = (0.05, 0.15), (-0.15, -0.05), (-0.01, 0.01), (-0.1, 0.1)


def tables(intervals, above=(True, True, True)):
    rows = [
        {"group": "knowledge", "label": f"MoE {n}", "difference": (low + high) / 2, "low": low, "high": high}
        for n, (low, high) in enumerate(intervals)
    ]
    return {EQUAL_TOTAL: pd.DataFrame(rows), GROUPS: pd.DataFrame({"group": "knowledge", "above_floor": above})}


@pytest.mark.parametrize(
    ("rule", "outcomes"),
    [
        (exceeds, ["holds", "does not hold", "undecided", "undecided"]),
        (falls_short, ["does not hold", "holds", "does not hold", "undecided"]),
        (keeps_up, ["holds", "does not hold", "holds", "undecided"]),
        (matches, ["does not hold", "does not hold", "holds", "undecided"]),
    ],
)
def test_a_rule_decides_where_intervals_do(rule, outcomes):
    judge = against_equal(EQUAL_TOTAL, "knowledge", rule, "F1")
    assert [judge(tables([each])).outcome for each in (BETTER, WORSE, EQUAL, BLURRED)] == outcomes


def test_one_mixture_that_is_undecided_leaves_the_claim_so():
    judge = against_equal(EQUAL_TOTAL, "knowledge", exceeds, "F1")
    verdict = judge(tables([BETTER, BLURRED]))
    assert verdict.outcome == "undecided"
    assert "MoE 0 +0.100 (+0.050 to +0.150); MoE 1 +0.000 (−0.100 to +0.100)" in verdict.measured


def test_where_models_stand_on_the_floor_nothing_is_decided_however_narrow_the_intervals():
    verdict = against_equal(EQUAL_TOTAL, "knowledge", exceeds, "F1")(tables([BETTER], above=(True, False, False)))
    assert verdict.outcome == "undecided"
    assert "1 of 3 models score above the floor" in verdict.measured


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.says)
def test_without_examinations_no_claim_is_judged(claim):
    assert claim.judge({}).outcome == "not run"
    assert claim.judge({EQUAL_TOTAL: pd.DataFrame({"group": []})}).outcome == "not run"
    assert claim.says.endswith(".")
    assert claim.source.startswith("figure")

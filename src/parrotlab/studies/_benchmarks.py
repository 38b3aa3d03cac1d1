"""What the paper claims of benchmarks, and the rules by which stored examinations are held against it.

Its models are pre-trained and then asked; ours may be any that were examined. A verdict needs mixtures between dense
models, and scores above the floor: where models guess, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from parrotlab.analysis.benchmarks import ALL_MATH, COMMONSENSE, KNOWLEDGE, MATH
from parrotlab.studies._claims import NOT_RUN
from parrotlab.studies.study import Claim, Verdict

MATCH = 0.02
"""Scores that differ by less are called a match: two points of a hundred. The paper states no margin."""

GROUPS = "groups"
EQUAL_TOTAL, EQUAL_PERPLEXITY, GAP = "equal total", "equal perplexity", "gap at equal total"
"""Names of the tables that judges read: ``analysis.benchmarks.group_scores``, and ``analysis.matched.against_dense`` at
equal total parameters, at equal perplexity, and of the gaps between training and test problems."""

Rule = Callable[[pd.Series, pd.Series], tuple[bool, bool]]
"""(low, high) of all differences -> does the claim hold? does it fail?"""


def exceeds(low: pd.Series, high: pd.Series) -> tuple[bool, bool]:
    """Holds if every mixture is above dense models with its whole interval, fails if one is below with its own."""
    return bool((low > 0).all()), bool((high < 0).any())


def falls_short(low: pd.Series, high: pd.Series) -> tuple[bool, bool]:
    """Holds if every mixture is below, fails if one is above or if all are within the margin."""
    return bool((high < 0).all()), bool((low > 0).any() or ((low > -MATCH) & (high < MATCH)).all())


def keeps_up(low: pd.Series, high: pd.Series) -> tuple[bool, bool]:
    """Holds if no mixture is below by more than the margin, fails if one surely is."""
    return bool((low > -MATCH).all()), bool((high < -MATCH).any())


def matches(low: pd.Series, high: pd.Series) -> tuple[bool, bool]:
    """Holds if every mixture is within the margin, fails if one is surely outside."""
    return bool(((low > -MATCH) & (high < MATCH)).all()), bool(((high < -MATCH) | (low > MATCH)).any())


def against_equal(table: str, group: str, rule: Rule, what: str) -> Callable[..., Verdict]:
    """The judge of a claim about mixtures and dense models that are equal in something."""

    def judge(tables: Mapping[str, pd.DataFrame]) -> Verdict:
        nothing = pd.DataFrame({"group": [], "above_floor": []})
        asked = (tables.get(name, nothing) for name in (table, GROUPS))
        rows, models = (each.loc[each["group"] == group] for each in asked)
        if rows.empty:
            return NOT_RUN
        if table != GAP and int(models["above_floor"].sum()) < 2:
            told = f"{int(models['above_floor'].sum())} of {len(models)} models score above the floor"
            return Verdict(outcome="undecided", measured=f"{what}: {told}, so their differences are noise.")
        holds, fails = rule(rows["low"], rows["high"])
        told = "; ".join(
            f"{row['label']} {_signed(row['difference'])} ({_signed(row['low'])} to {_signed(row['high'])})"
            for row in rows.to_dict("records")
        )
        outcome = "holds" if holds else "does not hold" if fails else "undecided"
        return Verdict(outcome=outcome, measured=f"{what} over dense models of {TOLD[table]}: {told}.")

    return judge


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")


TOLD = {
    EQUAL_TOTAL: "equal total parameters",
    EQUAL_PERPLEXITY: "equal validation perplexity",
    GAP: "equal total parameters",
}

CLAIMS = (
    Claim(
        says="At equal total parameters, mixtures with far fewer active ones about match dense models on knowledge.",
        source="figure 1a",
        judge=against_equal(EQUAL_TOTAL, KNOWLEDGE, keeps_up, "Mean F1"),
    ),
    Claim(
        says="At equal total parameters they are worse on commonsense.",
        source="figure 1b",
        judge=against_equal(EQUAL_TOTAL, COMMONSENSE, falls_short, "Mean accuracy"),
    ),
    Claim(
        says="At equal total parameters they are worse on mathematics.",
        source="figure 1c",
        judge=against_equal(EQUAL_TOTAL, MATH, falls_short, "Mean accuracy"),
    ),
    Claim(
        says="At equal validation perplexity, mixtures beat dense models on world knowledge.",
        source="figure 6",
        judge=against_equal(EQUAL_PERPLEXITY, KNOWLEDGE, exceeds, "Mean F1"),
    ),
    Claim(
        says="At equal validation perplexity, mixtures match dense models on commonsense.",
        source="figure 6",
        judge=against_equal(EQUAL_PERPLEXITY, COMMONSENSE, matches, "Mean accuracy"),
    ),
    Claim(
        says="At equal validation perplexity, mixtures match dense models on mathematics.",
        source="figure 6",
        judge=against_equal(EQUAL_PERPLEXITY, MATH, matches, "Mean accuracy"),
    ),
    Claim(
        says="At equal total parameters, mixtures show a larger gap between training and test problems of mathematics.",
        source="figure 5",
        judge=against_equal(GAP, ALL_MATH, exceeds, "Training less test accuracy"),
    ),
)

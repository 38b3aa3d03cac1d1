"""How claims are judged: from the points of the studies at hand to a verdict, by rules stated here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pandas as pd

from parrotlab.analysis.exchange_rate import LadderError, exchange_rates
from parrotlab.analysis.points import merit
from parrotlab.studies.study import Verdict

Points = Mapping[str, pd.DataFrame]
"""For each study by name, its points (``analysis.points.points``); a study that was not run has no rows or no entry."""

NOT_RUN = Verdict(outcome="not run", measured="")


def grows_with_experts(study: str, unit: str) -> Callable[[Points], Verdict]:
    """Holds if the mean score gets better from each number of experts to the next and every seed of the most experts
    is better than every seed of the fewest; fails if every one is worse; else undecided."""

    def judge(points: Points) -> Verdict:
        mixtures = _mixtures(points, study)
        if mixtures.empty or mixtures["experts"].nunique() < 2:
            return NOT_RUN
        by_experts = mixtures.assign(merit=merit(mixtures)).groupby("experts")
        means, worst, best = (by_experts["merit"].agg(how) for how in ("mean", "min", "max"))
        fewest, most = means.index[0], means.index[-1]
        told = ", ".join(f"{_score(mean)} with {experts:.0f}" for experts, mean in by_experts["score"].mean().items())
        outcome = "undecided"
        if means.is_monotonic_increasing and worst[most] > best[fewest]:
            outcome = "holds"
        elif best[most] < worst[fewest]:
            outcome = "does not hold"
        return Verdict(outcome=outcome, measured=f"{unit} at fixed active parameters: {told} experts.")

    return judge


def follows_total(study: str) -> Callable[[Points], Verdict]:
    """Holds if the exchange rate of every mixture is above 1/2 with its whole interval, so that its parameters count
    as dense ones more than not; fails if one is below 1/2 with its whole interval."""
    return _rates_on_one_side(study, lambda low, high: low > 0.5, lambda low, high: high < 0.5)


def follows_active(study: str) -> Callable[[Points], Verdict]:
    """Holds if the exchange rate of every mixture is below 1/2 with its whole interval; fails if one is above 1/2."""
    return _rates_on_one_side(study, lambda low, high: high < 0.5, lambda low, high: low > 0.5)


def worth_less_than_dense(study: str) -> Callable[[Points], Verdict]:
    """Holds if the exchange rate of every mixture is below 1 with its whole interval: a dense model of as many total
    parameters does better; fails if one is above 1 with its whole interval."""
    return _rates_on_one_side(study, lambda low, high: high < 1, lambda low, high: low > 1)


def worth_more_than(memory: str, reasoning: str) -> Callable[[Points], Verdict]:
    """Holds if, at the largest E of each study, the whole interval of the one's rate lies above the other's."""

    def judge(points: Points) -> Verdict:
        one, other = (_largest(_rates(points, study)) for study in (memory, reasoning))
        if one is None or other is None:
            return NOT_RUN
        outcome = "holds" if one["low"] > other["high"] else "undecided"
        if one["high"] < other["low"]:
            outcome = "does not hold"
        told = (
            f"An expert parameter is worth {_interval(one)} dense ones on {one['task']} ({one['label']}), "
            f"{_interval(other)} on {other['task']} ({other['label']})."
        )
        return Verdict(outcome=outcome, measured=told)

    return judge


def _rates_on_one_side(
    study: str, right: Callable[[float, float], bool], wrong: Callable[[float, float], bool]
) -> Callable[[Points], Verdict]:
    def judge(points: Points) -> Verdict:
        rates = _rates(points, study)
        if rates.empty:
            return NOT_RUN
        sides = [(right(row["low"], row["high"]), wrong(row["low"], row["high"])) for _, row in rates.iterrows()]
        outcome = "holds" if all(r for r, _ in sides) else "does not hold" if any(w for _, w in sides) else "undecided"
        told = "; ".join(f"E = {row['experts']:.0f}: {_interval(row)}" for _, row in rates.iterrows())
        return Verdict(outcome=outcome, measured=f"Exchange rates: {told}.")

    return judge


def _rates(points: Points, study: str) -> pd.DataFrame:
    """The study's exchange rates, or none where there is no ladder to place a mixture on."""
    if _mixtures(points, study).empty:
        return pd.DataFrame()
    try:
        return exchange_rates(_own(points, study)).dropna(subset=["rate", "low", "high"]).sort_values("experts")
    except LadderError:
        return pd.DataFrame()


def _mixtures(points: Points, study: str) -> pd.DataFrame:
    own = _own(points, study)
    return own.loc[(own["family"] == "moe") & own["score"].notna(), :]


def _own(points: Points, study: str) -> pd.DataFrame:
    """The study's points on its largest task, the one that costs the most to train on."""
    own = points.get(study)
    if own is None or own.empty:
        return pd.DataFrame(columns=["family", "experts", "score"])
    return own.loc[own["task"] == own.loc[own["training_flops"].idxmax(), "task"], :]


def _largest(rates: pd.DataFrame) -> pd.Series | None:
    return None if rates.empty else rates.iloc[-1]


def _interval(row: pd.Series) -> str:
    """The rate and its interval; an end of which the ladder says nothing is open."""
    bound = f"{row['bound']} " if row["bound"] else ""
    low, high = (_rate(end) if math.isfinite(end) else "open" for end in (row["low"], row["high"]))
    return f"{bound}{_rate(row['rate'])} ({low} to {high})"


def _rate(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no -0.00


def _score(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

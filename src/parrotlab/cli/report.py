"""``parrotlab report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from parrotlab.cli._plans import ALL
from parrotlab.cli._show import say, show_json, show_table

if TYPE_CHECKING:  # they import torch
    from parrotlab.results.store import Store
    from parrotlab.run import Run
    from parrotlab.studies.study import Study


def report(
    studies: Positional[tuple[str, ...]] = (ALL,),
    *,
    scale: str = "laptop",
    store: Path = Path("results"),
    output: Path | None = None,
    json: bool = False,
) -> int:
    """Write the report of a store: one page, its figures, RESULTS.md. Print the verdicts.

    Args:
        studies: Names of studies, or all.
        scale: Whose plan the report follows: smoke, laptop, gpu or paper. What is not run is shown as missing.
        store: The folder of results.
        output: The folder that receives report.html, RESULTS.md and figures; None for report inside the store.
        json: Print the verdicts as JSON.
    """
    from parrotlab.cli._plans import chosen, planned
    from parrotlab.cli.sql import existing
    from parrotlab.report.report import write_report
    from parrotlab.results.store import Store
    from parrotlab.studies.study import corpora_of

    results, asked = Store(existing(store)), chosen(studies)
    plans = planned(asked, scale, corpora_of(results.runs()))
    page = write_report(results, asked, scale, output or store / "report")  # type: ignore[arg-type] # planned() knows the scale
    rows = verdicts(results, asked, plans)
    (show_json if json else show_table)(rows)
    say(f"the report: {page}")
    return 0


def verdicts(store: Store, studies: dict[str, Study], plans: dict[str, tuple[Run, ...]]) -> list[dict[str, Any]]:
    """Each claim and what became of it."""
    from parrotlab.analysis.points import points

    table = store.table()
    measured = {
        name: points(table.loc[table.fingerprint.isin([run.fingerprint for run in runs]), :], studies[name].score)
        for name, runs in plans.items()
    }
    judged = [(name, claim, claim.judge(measured)) for name, study in studies.items() for claim in study.claims]
    return [
        {"study": name, "says": claim.says, "verdict": verdict.outcome, "measured": verdict.measured}
        for name, claim, verdict in judged
    ]

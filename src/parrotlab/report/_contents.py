"""What a report says, gathered from the store and the studies before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from parrotlab.analysis.capacity import bits_per_parameter, largest_book
from parrotlab.analysis.critical_width import SIZE, critical_widths
from parrotlab.analysis.exchange_rate import exchange_rates
from parrotlab.analysis.points import label, points
from parrotlab.report._words import effective_text, interval_text, plain, rate_text, width_interval_text, width_text
from parrotlab.results.store import Store
from parrotlab.spec import encode, flatten
from parrotlab.studies.study import Claim, Scale, Study, Verdict, corpora_of

MISSING = {"status": "missing", "reason": ""} | dict.fromkeys(("total", "active", "score", "seconds"))


@dataclass(frozen=True, kw_only=True)
class Part:
    """One task of a study: models are compared within a task only."""

    name: str
    """Of its files: ``phone_book``, or ``phone_book_entries_2000`` where the study has several tasks."""
    task: str
    points: pd.DataFrame
    rates: pd.DataFrame
    refusal: str
    """Why there is no exchange rate; empty where there is one."""
    bits: pd.DataFrame
    """Of the section's bits, those of this task."""
    measurements: pd.DataFrame
    """Those of the points' runs, with what figures need of the points' columns."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One study's part of the report."""

    name: str
    study: Study
    points: pd.DataFrame
    parts: tuple[Part, ...]
    bits: pd.DataFrame
    """Bits memorized per parameter; empty where nobody counted bits."""
    books: pd.DataFrame
    """The largest book that each design knows; empty unless several sizes were planned."""
    widths: pd.DataFrame
    """The critical width for each size of graph and number of experts; empty unless several sizes were planned."""
    runs: tuple[dict[str, Any], ...]
    """Every planned run: status ``complete``, ``failed`` or ``missing``."""

    @property
    def title(self) -> str:
        return self.name.replace("_", " ")


def section(name: str, study: Study, scale: Scale, stored: pd.DataFrame, table: pd.DataFrame) -> Section:
    """The study at that scale; of the store only what the study's own plan names is looked at."""
    planned = study.plan(scale, corpora_of(stored))
    names = {run.fingerprint for run in planned}
    table = table.loc[table.fingerprint.isin(names)]
    chosen = points(table, study.score)
    tasks = list(chosen.groupby("task")) or [(name.replace("_", " "), chosen)]
    bits = bits_per_parameter(table) if len(table) else pd.DataFrame(columns=["task"])
    widths = critical_widths(chosen) if _several(chosen, SIZE) else pd.DataFrame()
    parts = [_part(name, str(task), group, table, bits, alone=len(tasks) == 1) for task, group in tasks]
    return Section(
        name=name,
        study=study,
        points=chosen,
        bits=bits,
        books=largest_book(chosen) if _several(chosen, "task.entries") else pd.DataFrame(),
        widths=widths,
        parts=tuple(_of_widths(part) if len(widths) else part for part in parts),
        runs=tuple(_run(run, stored, table, study) | {"study": name.replace("_", " ")} for run in planned),
    )


def answer(sections: list[Section]) -> str:
    """The report in one sentence: each task's rate at its largest number of experts."""
    says = []
    for part in parts(sections):
        rates = part.rates.loc[part.rates.rate.notna()].sort_values(["experts", "total"])
        if len(rates):
            row = rates.iloc[-1].to_dict()
            interval = interval_text(row)
            worth = rate_text(row).replace("≥", "at least").replace("≤", "at most")
            says.append(f"{worth}{f' [{interval}]' if interval else ''} on {part.task} ({row['label']})")
    if not says:
        return "Not answered yet: the runs that would tell are missing; the list below says which."
    return (
        "With the most experts tried, a parameter inside an expert is worth this many dense parameters: "
        f"{', '.join(says)}."
    )


def verdicts(sections: list[Section]) -> dict[str, list[tuple[Claim, Verdict]]]:
    """Each study's claims with what became of them; a claim may look at the points of every study in the report."""
    points = {section.name: section.points for section in sections}
    return {section.name: [(claim, claim.judge(points)) for claim in section.study.claims] for section in sections}


def parts(sections: list[Section]) -> list[Part]:
    """Every task of every study."""
    return [part for section in sections for part in section.parts]


def rate_rows(sections: list[Section]) -> list[dict[str, Any]]:
    """The exchange-rate table, with its numbers also as text."""
    return [
        plain(row)
        | {"rate_text": rate_text(row), "interval_text": interval_text(row), "effective_text": effective_text(row)}
        for part in parts(sections)
        for row in part.rates.loc[part.rates.rate.notna()].to_dict("records")
    ]


def bits_rows(sections: list[Section]) -> list[dict[str, Any]]:
    """The table of memorized bits, with its numbers also as text."""
    return [
        plain(row) | {"rate_text": rate_text(row), "interval_text": interval_text(row)}
        for section in sections
        for row in section.bits.to_dict("records")
    ]


def width_rows(sections: list[Section]) -> list[dict[str, Any]]:
    """The table of critical widths, with its numbers also as text."""
    return [
        plain(row) | {"width_text": width_text(row), "interval_text": width_interval_text(row)}
        for section in sections
        for row in section.widths.to_dict("records")
    ]


def explorer(sections: list[Section]) -> list[dict[str, Any]]:
    """What the page's explorer draws: the designs of each study with their seeds."""
    return [
        {"title": part.task, "score": section.study.score.label, "designs": list(_designs(part.points))}
        | {"lower_is_better": section.study.score.lower_is_better}
        for section in sections
        for part in section.parts
    ]


def tally(sections: list[Section]) -> str:
    """How many runs there are, and of which kind."""
    statuses = [run["status"] for section in sections for run in section.runs]
    counts = {status: statuses.count(status) for status in ("complete", "failed", "missing")}
    return f"{len(statuses)} planned: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + "."


def provenance(sections: list[Section], stored: pd.DataFrame, scale: Scale, store: Store) -> list[tuple[str, str]]:
    """Where the numbers come from. No clock is read, so the same store gives the same page."""
    names = {run["fingerprint"] for section in sections for run in section.runs}
    runs = stored.loc[stored.fingerprint.isin(names)]
    studies = ", ".join(section.title for section in sections)
    facts: list[tuple[str, str]] = [("scale", scale), ("store", store.root.name), ("studies", studies)]
    if not len(runs):
        return [*facts, ("runs", "none in the store")]
    facts.append(("made", _span(runs)))
    for name in ("commit", "device", "precision", "threads"):
        facts.append((name, _distinct(runs, name)))
    versions = [column for column in runs.columns if column.startswith("versions.")]
    facts.append(("versions", ", ".join(f"{c.removeprefix('versions.')} {_distinct(runs, c)}" for c in versions)))
    if "seconds" in runs:
        facts.append(("computing time", f"{runs.seconds.sum():,.0f} seconds over {len(runs)} runs"))
    return [(name, value) for name, value in facts if value]


def _several(chosen: pd.DataFrame, size: str) -> bool:
    return size in chosen and len(set(chosen[size].dropna())) > 1


def _of_widths(part: Part) -> Part:
    """The part of a study that sweeps the width on tasks of several sizes, where every ladder ends at 100%."""
    refusal = "a sweep of the width: read its critical width, under Theory, and no rate"
    return replace(part, rates=part.rates.iloc[:0], refusal=refusal)


def _part(name: str, task: str, chosen: pd.DataFrame, table: pd.DataFrame, bits: pd.DataFrame, alone: bool) -> Part:
    told = ["label", "family", "width", "experts", "total", "seed", "fingerprint"]
    measured = ["fingerprint", "evaluation", "split", "metric", "part", "step", "value"]
    rates, refusal = _rates(chosen)
    slug = re.sub("[^a-z0-9]+", "_", task.lower())
    return Part(
        name=name if alone or slug == name else f"{name}_{slug.removeprefix(f'{name}_')}",
        task=task,
        points=chosen,
        rates=rates.assign(task=task),
        refusal=refusal,
        bits=bits.loc[bits.task == task],
        measurements=table.reindex(columns=measured).merge(chosen.reindex(columns=told), on="fingerprint"),
    )


def _rates(chosen: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    columns = ["label", "experts", "total", "active", "score", "effective", "rate", "low", "high", "bound", "seeds"]
    try:
        return exchange_rates(chosen), ""
    except ValueError as error:
        return pd.DataFrame(columns=columns), str(error)


def _run(run: Any, stored: pd.DataFrame, table: pd.DataFrame, study: Study) -> dict[str, Any]:
    spec = flatten(encode(run))
    row = {"fingerprint": run.fingerprint, "label": label(spec)}
    row |= {"seed": run.seed, "learning_rate": run.recipe.learning_rate}
    found = stored.loc[stored.fingerprint == run.fingerprint]
    if not len(found):
        return row | MISSING
    record, score = found.iloc[0], study.score
    mine = table.loc[table.fingerprint == run.fingerprint]
    values = mine.loc[
        (mine.evaluation == score.evaluation) & (mine.split == score.split) & (mine.metric == score.metric)
    ]
    return plain(
        row
        | {"status": record.status, "reason": record.reason, "seconds": record.get("seconds")}
        | {"total": record.get("total_parameters"), "active": record.get("active_parameters")}
        | {"score": values.value.iloc[-1] if len(values) else None}
    )


def _designs(chosen: pd.DataFrame) -> Iterator[dict[str, Any]]:
    numbers = ["layers", "width", "experts", "active_experts", "total", "active", "training_flops", "learning_rate"]
    for name, group in chosen.loc[chosen.score.notna()].groupby("label", sort=False):
        runs = group.loc[:, ["seed", "score", "fingerprint"]].to_dict("records")
        first: Mapping[str, Any] = group.iloc[0].to_dict()
        yield (
            {"label": name, "family": first["family"], "score": float(group.score.mean())}
            | plain({number: first[number] for number in numbers})
            | {"seeds": [plain(run) for run in runs]}
        )


def _distinct(runs: pd.DataFrame, column: str) -> str:
    if column not in runs:
        return ""
    return ", ".join(sorted({str(value) for value in runs[column].dropna() if value != ""}))


def _span(runs: pd.DataFrame) -> str:
    if "started" not in runs:
        return ""
    days = sorted(str(value)[:10] for value in runs.started.dropna())
    return "" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"

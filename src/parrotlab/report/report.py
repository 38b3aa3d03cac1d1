"""The report: claims with verdicts, exchange rates, figures, runs and provenance, bound into one page.

The page is a function of the store and of the studies' plans: it reads no clock, loads nothing from elsewhere,
and shows what failed and what is missing beside what was measured. The theory's checks are run when it is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape

from parrotlab.analysis.capacity import FACTS, RANDOM_STRINGS
from parrotlab.figures.capacity import capacity
from parrotlab.figures.critical_width import critical_width
from parrotlab.figures.equal_total import equal_total
from parrotlab.figures.exchange_rates import exchange_rates
from parrotlab.figures.expert_load import expert_load
from parrotlab.figures.learning_curves import learning_curves
from parrotlab.figures.picture import Picture, save, themed
from parrotlab.figures.score_by_parameters import score_by_parameters
from parrotlab.figures.style import COLOURS
from parrotlab.report import _benchmarks as examined
from parrotlab.report import _contents as contents
from parrotlab.report import _theory as theory
from parrotlab.report._words import gain, number, score, si
from parrotlab.results.store import Store
from parrotlab.studies.study import Scale, Study

KNOWN = (
    f"Others measured about {FACTS:g} bits per parameter on facts seen 1000 times (arXiv 2404.05405) "
    f"and about {RANDOM_STRINGS:g} on random strings (arXiv 2505.24832)."
)

SYMBOLS = {"holds": "✓", "does not hold": "✗", "undecided": "≈", "not run": "–"}


def write_report(store: Store, studies: Mapping[str, Study], scale: Scale, folder: Path) -> Path:
    """Writes ``report.html``, ``RESULTS.md`` and ``figures/`` into the folder, and returns the page's path."""
    stored, table = store.runs(), store.table()
    sections = [contents.section(name, study, scale, stored, table) for name, study in studies.items()]
    pictures = _pictures(sections)
    pictures["exchange_rates"] = exchange_rates(
        pd.concat([part.rates for part in contents.parts(sections)], ignore_index=True)
    )
    pictures["equal_total"] = equal_total(theory.curve())
    benchmarks = examined.gathered(store, table)
    pictures |= benchmarks.pictures if benchmarks else {}
    drawings = {}
    for name, picture in pictures.items():
        vector, *_ = save(picture, folder / "figures" / name)
        drawings[name] = inline(vector.read_text(encoding="utf-8"), picture.says, name)
    words = {
        "scale": scale,
        "answer": contents.answer(sections),
        "sections": sections,
        "verdicts": contents.verdicts(sections),
        "parts": contents.parts(sections),
        "rates": contents.rate_rows(sections),
        "bits": contents.bits_rows(sections),
        "books": [row for section in sections for row in section.books.to_dict("records")],
        "widths": contents.width_rows(sections),
        "benchmarks": benchmarks,
        "benchmark_captions": examined.CAPTIONS,
        "checks": theory.rows(theory.checks()),
        "checked": theory.tally(theory.checks()),
        "drawings": drawings,
        "explorer": contents.explorer(sections),
        "runs": [run for section in sections for run in section.runs],
        "tally": contents.tally(sections),
        "provenance": contents.provenance(sections, stored, scale, store),
    }
    page = folder / "report.html"
    page.write_text(_rendered("page.html.jinja", words), encoding="utf-8")
    (folder / "RESULTS.md").write_text(_rendered("results.md.jinja", words), encoding="utf-8")
    return page


def inline(drawing: str, says: str, name: str) -> str:
    """A picture's SVG inside a page: its own words for those who cannot see it, the page's colours, its own ids."""
    drawing = themed(drawing)
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\bid="', f'id="{name}-', drawing)
    drawing = re.sub(r'(url\(|href=")#', rf"\1#{name}-", drawing)
    told = f' role="img" aria-label="{escape(says)}"'
    return re.sub(r' width="[^"]*" height="[^"]*"', lambda size: told, drawing, count=1)


def _pictures(sections: list[contents.Section]) -> dict[str, Picture]:
    pictures = {}
    for section in sections:
        label = section.study.score.label
        for part in (part for part in section.parts if len(part.points)):
            pictures[f"{part.name}_total"] = score_by_parameters(part.points, "total", label)
            pictures[f"{part.name}_active"] = score_by_parameters(part.points, "active", label)
            pictures[f"{part.name}_load"] = expert_load(part.measurements)
            pictures[f"{part.name}_curves"] = learning_curves(part.measurements)
            if len(part.bits):
                pictures[f"{part.name}_capacity"] = capacity(part.bits, theory.memory_lines(part.bits.total))
        if len(section.widths):
            bounds = theory.width_bounds(section.widths.vertices)
            pictures[f"{section.name}_widths"] = critical_width(section.widths, bounds)
    return pictures


def _rendered(template: str, words: Mapping[str, object]) -> str:
    environment = Environment(
        loader=PackageLoader("parrotlab", "report"),
        autoescape=template.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters |= {"si": si, "number": number, "score": score, "gain": gain}
    return environment.get_template(template).render(**words, colours=COLOURS, symbols=SYMBOLS, known=KNOWN)

"""The contract of a study: a question, its runs at each scale, the score it compares, and its claims.

A study is a file in this folder that defines ``STUDY``; the file's name is the study's.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import pandas as pd

from parrotlab.analysis.points import Score
from parrotlab.run import Run
from parrotlab.spec import nearest
from parrotlab.tasks.language import Language

FOLDER = __name__.rpartition(".")[0]

Scale = Literal["smoke", "laptop", "gpu", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a claim."""

    outcome: Literal["holds", "does not hold", "undecided", "not run"]
    measured: str
    """One sentence with the numbers and their intervals."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of the paper, and the function that holds our measurements against it."""

    says: str
    source: str
    """Where the paper says it: ``abstract``, ``figure 4a``, ``theorem 3.2``; or which other work does."""
    judge: Callable[[Mapping[str, pd.DataFrame]], Verdict]
    """From the points (``analysis.points.points``) of the studies at hand, by name, to a verdict; a study that is
    not there, or without rows, is "not run"."""
    of_the_paper: bool = True
    """Is it the paper's, rather than other work's?"""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question and everything needed to answer it."""

    question: str
    runs: Callable[[Scale], tuple[Run, ...]]
    score: Score
    claims: tuple[Claim, ...]
    notes: str = ""
    """What a reader of the results must know: how learning rates were found, what was made smaller."""

    def plan(self, scale: Scale, corpora: Mapping[str, str]) -> tuple[Run, ...]:
        """The runs of a scale, those that read a corpus with its hash: a run's name says which text it was trained on.

        ``corpora`` has the hashes by name: of those prepared here for runs to come (``text.corpus.hashes``), of those
        that stored runs have read for a report (``corpora_of``). A run whose corpus is in neither stays without.
        """
        return tuple(_with_hash(run, corpora) for run in self.runs(scale))


def corpora_of(stored: pd.DataFrame) -> dict[str, str]:
    """The hash of each corpus that stored runs (``Store.runs()``) have read; of several by one name, the most read."""
    if "task.sha256" not in stored:
        return {}
    readers = stored[stored["task.sha256"].fillna("") != ""]
    return {str(name): group.mode().iloc[0] for name, group in readers.groupby("task.corpus")["task.sha256"]}


def _with_hash(run: Run, corpora: Mapping[str, str]) -> Run:
    task = run.task
    if not isinstance(task, Language) or task.sha256:
        return run
    return replace(run, task=replace(task, sha256=corpora.get(task.corpus, "")))


def names() -> tuple[str, ...]:
    """The studies there are: the files of this folder."""
    folder = importlib.import_module(FOLDER)
    modules = (module.name for module in pkgutil.iter_modules(folder.__path__))
    return tuple(sorted(name for name in modules if name != "study" and not name.startswith("_")))


def load(name: str) -> Study:
    """The study of that name."""
    if name not in names():
        raise ValueError(f"there is no study {name!r}: {nearest(name, names())}")
    return importlib.import_module(f"{FOLDER}.{name}").STUDY

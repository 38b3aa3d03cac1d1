"""From the words of a command to the runs that they name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they import torch
    from parrotlab.run import Run
    from parrotlab.studies.study import Study

ALL = "all"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen(names: Sequence[str]) -> dict[str, Study]:
    """The studies of these names; ``all`` is every one."""
    from parrotlab.studies import study

    wanted = study.names() if ALL in names else names
    if not wanted:
        raise ValueError(f"name a study, or {ALL!r}: {', '.join(study.names())}")
    return {name: study.load(name) for name in wanted}


def planned(studies: dict[str, Study], scale: str, corpora: dict[str, str] | None = None) -> dict[str, tuple[Run, ...]]:
    """Every run of each study at a scale, on the corpora that are prepared here or on those told (name: hash)."""
    from parrotlab.spec import nearest
    from parrotlab.studies.study import SCALES
    from parrotlab.text.corpus import hashes

    if scale not in SCALES:
        raise ValueError(f"there is no scale {scale!r}: {nearest(scale, SCALES)}")
    corpora = hashes() if corpora is None else corpora
    return {name: study.plan(scale, corpora) for name, study in studies.items()}


def check_corpora(plans: dict[str, tuple[Run, ...]]) -> None:
    """Refuses runs that read a corpus which is not prepared here, before any of them begins."""
    from parrotlab.tasks.language import Language
    from parrotlab.text.corpus import open_corpus

    for task in {run.task for runs in plans.values() for run in runs if isinstance(run.task, Language)}:
        open_corpus(task.corpus, task.sha256)

"""Training as a person watches it: bars in a terminal, a plain line now and then elsewhere; on standard error."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from parrotlab.cli._show import duration, say, words

if TYPE_CHECKING:  # they import torch
    from parrotlab.execution.local import News
    from parrotlab.run import Run

LINE_SECONDS = 30.0
"""Between two lines about work that goes on, where there is no terminal."""
UNFINISHED = ("interrupted", "busy", "lost")
"""States of runs that are not over, but over for us."""


class Bars:
    """One bar for all the work, and one for each worker's present stack; runs weigh what they are estimated to take."""

    def __init__(self, weights: Mapping[Run, float]) -> None:
        self.weights, self.total = weights, sum(weights.values()) or 1.0
        self.ended: Counter[str] = Counter()
        self.done: dict[Run, float] = {}
        self.resumed: dict[Run, float] = {}
        self.started = self.last_line = time.monotonic()
        self.console = words()
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}")
        self.bars = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.all = self.bars.add_task(f"0 of {len(weights)} runs", total=1.0, note="starting")
        self.workers: dict[int, TaskID] = {}

    def hear(self, news: News) -> None:
        """Draws what the news changes."""
        for run in news.runs:
            if news.state not in UNFINISHED:
                self.done[run] = news.fraction
            self.resumed.setdefault(run, news.fraction if news.state == "training" else 0.0)
        if news.state != "training":
            self.ended[news.state] += 1
        if news.state not in ("training", "complete"):
            self.console.print(Text.assemble((news.state, "bold red"), f": {label(news.runs[0])}: {news.reason}"))
        self._draw(news)

    def _draw(self, news: News) -> None:
        finished = sum(count for state, count in self.ended.items() if state not in UNFINISHED)
        count = f"{finished} of {len(self.weights)} runs"
        fraction = self._work(self.done) / self.total
        left = self._time_left()
        self.bars.update(self.all, completed=fraction, description=count, note=left)
        note = f"loss {news.loss:.3f}" if news.state == "training" else news.state
        if news.worker not in self.workers:
            self.workers[news.worker] = self.bars.add_task("", total=1.0, note="")
        first, *others = news.runs
        description = f"{label(first)} and {len(others)} more" if others else label(first)
        done = self.done.get(first, 0.0)
        self.bars.update(self.workers[news.worker], completed=done, description=description, note=note)
        now = time.monotonic()
        if not self.console.is_terminal and (news.state == "complete" or now - self.last_line > LINE_SECONDS):
            self.last_line = now
            say(f"{count}, {fraction:.0%}{', ' + left if left else ''}: {description}: {note}")

    def _time_left(self) -> str:
        """From the work done so far; what a checkpoint had done already is not our speed."""
        now_done = self._work(self.done) - self._work(self.resumed)
        if not now_done:
            return ""
        seconds = (self.total - self._work(self.done)) * (time.monotonic() - self.started) / now_done
        return f"{duration(max(0.0, seconds))} left"

    def _work(self, fractions: Mapping[Run, float]) -> float:
        return sum(self.weights[run] * fraction for run, fraction in fractions.items())


def label(run: Run) -> str:
    """A run in a few words: ``phone_book, dense d=32, learning rate 0.008, seed 1``."""
    task = getattr(run.task, "corpus", type(run.task).__module__.rpartition(".")[2])
    return f"{task}, {design(run)}, learning rate {run.recipe.learning_rate:.3g}, seed {run.seed}"


def design(run: Run) -> str:
    """The model as figures and reports call it: ``MoE d=32 E=8 top-2``."""
    from parrotlab.analysis.points import label as label_of
    from parrotlab.spec import encode, flatten

    return label_of(flatten({"model": encode(run.model)}))

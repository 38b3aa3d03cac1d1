"""Trackers: runs shown as they train in TensorBoard, Weights & Biases or trackio. The store's files stay the truth.

A tracker hears the training loss of each run window by window, and what the store holds of it once it is finished.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow.compute as pc

from parrotlab.analysis.points import label
from parrotlab.execution.local import News
from parrotlab.results.store import Store
from parrotlab.run import Run
from parrotlab.spec import encode, flatten, nearest

PROJECT = "parrotlab"
FOLDER = "tracking"
"""In the store: where trackers that write files put them, a folder for each."""


class Tracker(Protocol):
    """One place where runs are shown."""

    def note(self, run: Run, step: int, values: dict[str, float]) -> None:
        """Numbers of a run at a step; steps of a run come in order."""
        ...

    def end(self, run: Run) -> None:
        """Nothing more comes of this run."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


@contextlib.contextmanager
def tracker(name: str, store: Store) -> Iterator[Tracker]:
    """The tracker of that name; ``none`` shows nothing. ValueError where its package is missing."""
    if name not in TRACKERS:
        raise ValueError(f"there is no tracker {name!r}: {nearest(name, TRACKERS)}")
    try:
        made = TRACKERS[name](store.root / FOLDER / name)
    except ImportError:
        raise ValueError(f"tracking with {name} needs its package: pip install {name}") from None
    with contextlib.closing(made):
        yield made


def tell(tracker: Tracker, news: News, store: Store) -> None:
    """Passes on what the news says: losses of a window, or the measurements of runs that are finished."""
    for run in news.runs:
        if news.state == "training" and run.fingerprint in news.losses:
            tracker.note(run, news.step, {"training/loss": news.losses[run.fingerprint]})
        elif news.state in ("complete", "failed"):
            tracker.note(run, run.recipe.steps, _measured(run, store))
            tracker.end(run)


def _measured(run: Run, store: Store) -> dict[str, float]:
    """The evaluations of a finished run, by names such as ``perplexity/test/bits_per_byte/source=gsm8k``."""
    everything = store.measurements()
    mine = everything.filter(pc.equal(everything["fingerprint"], run.fingerprint)).to_pylist()
    judged = [row for row in mine if row["evaluation"] not in ("training", "routing")]
    names = ("evaluation", "split", "metric", "part")
    return {"/".join(row[name] for name in names if row[name]): row["value"] for row in judged}


def _title(run: Run) -> str:
    spec = flatten(encode(run))
    return f"{type(run.task).__name__} {label(spec)} seed {run.seed}"


class Nowhere:
    """Shows nothing."""

    def __init__(self, folder: Path) -> None:
        pass

    def note(self, run: Run, step: int, values: dict[str, float]) -> None:
        """Nothing."""

    def end(self, run: Run) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Sessions:
    """What the trackers have in common: a session for each run, opened when the run is first heard of."""

    def __init__(self) -> None:
        self._open: dict[Run, Any] = {}

    def note(self, run: Run, step: int, values: dict[str, float]) -> None:
        """Numbers of a run at a step."""
        if run not in self._open:
            self._open[run] = self._begin(run)
        self._log(self._open[run], step, values)

    def end(self, run: Run) -> None:
        """Closes the run's session."""
        if run in self._open:
            self._finish(self._open.pop(run))

    def close(self) -> None:
        """Closes every session."""
        for run in list(self._open):
            self.end(run)

    def _begin(self, run: Run) -> Any:
        raise NotImplementedError

    def _log(self, session: Any, step: int, values: dict[str, float]) -> None:
        session.log(values, step=step)

    def _finish(self, session: Any) -> None:
        session.finish()


class TensorBoard(_Sessions):
    """Event files, a folder for each run: ``tensorboard --logdir results/tracking/tensorboard``."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._writer = folder, importlib.import_module("torch.utils.tensorboard").SummaryWriter

    def _begin(self, run: Run) -> Any:
        writer = self._writer(str(self._folder / run.fingerprint))
        writer.add_text("run", _title(run))
        return writer

    def _log(self, session: Any, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            session.add_scalar(name, value, step)
        session.flush()

    def _finish(self, session: Any) -> None:
        session.close()


class WeightsAndBiases(_Sessions):
    """A run of the project ``parrotlab`` each, under its fingerprint; with WANDB_MODE=offline, files alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._package = folder, importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)

    def _begin(self, run: Run) -> Any:
        try:
            return self._package.init(
                project=PROJECT,
                id=run.fingerprint,
                name=_title(run),
                config=flatten(encode(run)),
                dir=str(self._folder),
                resume="allow",
                reinit="create_new",  # stacks train side by side
                settings=self._package.Settings(console="off", silent=True),
            )
        except self._package.errors.UsageError as error:
            raise ValueError(f"wandb refuses: {error} Or set WANDB_MODE=offline, which needs no account.") from None


class Trackio(_Sessions):
    """A run of the project ``parrotlab`` each, in trackio's own data base; ``trackio show`` draws them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._package = importlib.import_module("trackio")

    def _begin(self, run: Run) -> Any:
        name = f"{_title(run)} {run.fingerprint}"
        return self._package.init(project=PROJECT, name=name, config=flatten(encode(run)), resume="allow", embed=False)


TRACKERS = {"none": Nowhere, "tensorboard": TensorBoard, "wandb": WeightsAndBiases, "trackio": Trackio}

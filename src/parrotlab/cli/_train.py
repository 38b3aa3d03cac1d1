"""Training that a person can stop: one Ctrl-C saves and ends, a second one ends at once."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from parrotlab.cli._bars import Bars
from parrotlab.cli._show import complain, say

if TYPE_CHECKING:  # they import torch
    from parrotlab.results.store import Store
    from parrotlab.run import Run


INTERRUPTED = 130
"""The exit code of what Ctrl-C ended."""


def train(
    runs: Sequence[Run],
    store: Store,
    device_name: str,
    workers: int,
    retry: bool = False,
    keep_weights: bool = False,
    track: str = "none",
) -> int:
    """Trains the runs that the store lacks, tells how it went, and returns the exit code."""
    from parrotlab.execution import estimate, local, tracking
    from parrotlab.run import execute
    from parrotlab.training.devices import device

    where, train_all = device(device_name), local.train_all
    if keep_weights:
        train_all = functools.partial(train_all, execute=functools.partial(execute, keep_weights=True))
    found = {run: store.find(run) for run in dict.fromkeys(runs)}
    if retry:
        for run, record in found.items():
            if record and record.status == "failed":
                store.discard(record.fingerprint)
                found[run] = None
    missing = [run for run, record in found.items() if record is None]
    states = Counter(record.status for record in found.values() if record)
    if states:
        say(f"{states.total()} of {len(found)} runs are in {store.root} already")
    bars = Bars({run: estimate.seconds(run, where.name) for run in missing})
    with tracking.tracker(track, store) as tracker, asked_to_stop() as stopping, bars.bars:
        with contextlib.closing(train_all(missing, store, where, workers, stopping)) as all_news:
            for news in all_news:
                bars.hear(news)
                tracking.tell(tracker, news, store)
        interrupted = stopping()
    return _verdict(states + bars.ended, len(found), interrupted, store)


def _verdict(states: Counter[str], planned: int, interrupted: bool, store: Store) -> int:
    """The last line, and the exit code."""
    others = "".join(f", {count} {state}" for state, count in states.items() if state != "complete")
    say(f"{states['complete']} of {planned} runs complete{others}: {store.root}")
    if states["complete"] == planned:
        return 0
    if interrupted:
        complain(f"interrupted; go on with the same command: {' '.join(['parrotlab', *sys.argv[1:]])}")
        return INTERRUPTED
    if states["failed"]:
        say("failed runs stay in the store as results; --retry runs them again")
    return 1


@contextlib.contextmanager
def asked_to_stop(speak: Callable[[str], None] = say) -> Iterator[Callable[[], bool]]:
    """Has Ctrl-C or SIGTERM come? The second one is not waited for."""
    asked = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        speak("stopping as soon as checkpoints are saved; once more to stop at once")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

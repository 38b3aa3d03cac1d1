"""``parrotlab watch``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from parrotlab.cli._plot import curve
from parrotlab.cli._show import say

if TYPE_CHECKING:  # they import torch
    from parrotlab.execution.watching import Underway
    from parrotlab.results.store import Store

HEIGHT = 4
"""Lines of a curve."""
MARGIN = 12
"""Columns to the left of a curve, for its highest and lowest loss."""


def watch(store: Path = Path("results"), *, every: float = 2.0, once: bool = False) -> int:
    """Draw the losses of a store's runs under way, as their last checkpoints tell; Ctrl-C ends it.

    Args:
        store: The folder of results, while another process trains into it.
        every: Seconds between two looks.
        once: Look once, print, and end.
    """
    from parrotlab.cli.sql import existing
    from parrotlab.execution.watching import underway
    from parrotlab.results.store import Store

    if every <= 0:
        raise ValueError(f"every must be above 0 seconds, not {every}")
    results, console = Store(existing(store)), Console(highlight=False)
    if once:
        console.print(_screen(underway(results), results, console))
        return 0
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                live.update(_screen(underway(results), results, console), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        say("no longer watching; the runs go on")
        return 0


def _screen(runs: list[Underway], store: Store, console: Console) -> RenderableType:
    """As many runs as the terminal has room for, those that were least far on first."""
    finished = len(store.records())
    head = Text(f"{finished} runs finished, {len(runs)} with a checkpoint: {store.root}", style="bold", no_wrap=True)
    room = max(1, (console.height - 2) // (HEIGHT + 1)) if console.is_terminal else len(runs)
    shown = sorted(runs, key=lambda run: run.step / run.steps)[:room]
    return Group(head, *(line for run in shown for line in _lines(run, console.width)))


def _lines(run: Underway, width: int) -> list[Text]:
    """A run's title and its curve."""
    losses = [loss for _, loss in run.losses]
    last = f"loss {losses[-1]:.3f}" if losses else "no window yet"
    title = Text.assemble((run.title, "bold"), f"  step {run.step:,} of {run.steps:,}  {last}")
    title.truncate(width)
    drawn = curve(run.losses, max(10, width - MARGIN), HEIGHT, run.steps)
    sides = [""] * HEIGHT
    if losses:
        sides[0], sides[-1] = f"{max(losses):.3f}", f"{min(losses):.3f}"
    return [title, *(Text(f"{side:>{MARGIN - 2}}  {line}") for side, line in zip(sides, drawn))]

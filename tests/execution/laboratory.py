"""A laboratory of toys: runs that need no training, and ways in which executing them goes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.transformer import Transformer
from parrotlab.results.store import Busy
from parrotlab.run import Interrupted, Outcome, Run
from parrotlab.training.loop import Progress
from parrotlab.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Toy:
    vocabulary: int = 7
    length: int = 5
    way: str = "well"


def toy(way: str = "well", seed: int = 0, steps: int = 4) -> Run:
    """A run that goes that way."""
    design = Transformer(layers=1, width=4, attention=Attention(heads=1), feedforward=Dense())
    recipe = Recipe(steps=steps, rows=2, learning_rate=0.1)
    return Run(task=Toy(way=way), model=design, recipe=recipe, evaluations=(), seed=seed)


def progress(step: int, steps: int) -> Progress:
    zero = np.zeros(1)
    return Progress(step, steps, zero + 1 / step, zero, np.zeros((0, 1, 1)), np.zeros((0, 1)), zero > 1)


def execute(runs, store, device, watch, stopping) -> list[Outcome]:
    """Goes the way that its task says, and leaves a note that it was here."""
    run = runs[0]
    store.root.mkdir(exist_ok=True)
    with open(store.root / "journal", "a") as journal:
        journal.write(f"{run.task.way} {run.seed} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")
    if run.task.way == "crashes":
        raise RuntimeError("the floor is wet")
    if len(runs) > {"crowded": 1, "too large": 0}.get(run.task.way, len(runs)):
        raise torch.OutOfMemoryError("CUDA out of memory")
    if run.task.way == "busy":
        raise Busy("someone else is at it")
    if run.task.way == "deaf":
        time.sleep(3600)
    if run.task.way == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    for step in range(1, run.recipe.steps + 1):
        watch(runs, progress(step, run.recipe.steps))
        if stopping():
            Path(store.root / f"saved {run.seed}").write_text(str(step))
            raise Interrupted(f"stopped at step {step}")
        if run.task.way == "endless":
            time.sleep(0.05)
    failed = run.task.way == "diverges"
    return [Outcome(each, "failed" if failed else "complete", "loss is nan" if failed else "") for each in runs]

"""One run on many processes: trained from its last checkpoint, judged by all of them together, and put into the store.

The stored run is the one that ``run.execute`` would store: the same spec under the same name.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from parrotlab.results._files import clear_errors
from parrotlab.results.provenance import provenance
from parrotlab.results.store import Store
from parrotlab.run import WEIGHTS, Interrupted, Outcome, Run, costs, judge
from parrotlab.training.distributed import DistributedStep, Parallelism, train
from parrotlab.training.distributed_checkpoint import DistributedCheckpoint
from parrotlab.training.journal import Journal
from parrotlab.training.loop import Progress
from parrotlab.training.processes import Processes
from parrotlab.training.profile import ceiling

GO_ON, SAVE, STOP = range(3)
"""What a process may wish at the end of a step; the strongest wish of all is everyone's."""


@dataclass
class Clock:
    """Seconds of training, of this attempt and of those before, and the speed of this one."""

    before: float
    began: float = field(default_factory=time.monotonic)
    warm_step: int = 0
    """Step after which the speed is measured: the first one compiles, and waits for its data."""
    warm_at: float = 0.0
    speed: float = 0.0
    """Steps a second."""

    @property
    def seconds(self) -> float:
        """Of all attempts."""
        return self.before + time.monotonic() - self.began

    def tick(self, step: int, last: bool, processes: Processes) -> None:
        """A step is done."""
        if not self.warm_at or last:
            if processes.device.is_cuda:
                torch.cuda.synchronize()
            now = time.monotonic()
            if not self.warm_at:
                self.warm_step, self.warm_at = step, now
            else:
                self.speed = (step - self.warm_step) / (now - self.warm_at)


def pretrain(
    run: Run,
    store: Store,
    processes: Processes,
    how: Parallelism,
    save_every: int,
    watch: Callable[[int, Progress | None], None] = lambda step, progress: None,
    stopping: Callable[[], bool] = lambda: False,
    keep_weights: bool = False,
) -> Outcome:
    """Trains and judges one run into the store; all processes call it alike, and ``watch`` hears of every step.

    It goes on from the last checkpoint, whatever number of processes wrote it. Raises ``Interrupted`` once a checkpoint
    is saved because ``stopping`` said so to any of the processes.
    """
    if save_every < 1:
        raise ValueError(f"save_every must be 1 step or more, not {save_every}")
    record = processes.agree(lambda: store.find(run))
    with contextlib.ExitStack() as stack:
        if record is None:
            folder = processes.agree(lambda: stack.enter_context(store.workshop(run.fingerprint)))
            record = processes.agree(lambda: store.find(run))  # another process may have just finished it
            if record is None:
                _pretrain(run, store, processes, how, save_every, watch, stopping, keep_weights, folder)
                record = processes.agree(lambda: store.find(run))
    assert record is not None
    return Outcome(run, record.status, record.reason)


def _pretrain(
    run: Run,
    store: Store,
    processes: Processes,
    how: Parallelism,
    save_every: int,
    watch: Callable[[int, Progress | None], None],
    stopping: Callable[[], bool],
    keep_weights: bool,
    folder: Path,
) -> None:
    limit = ceiling(processes.device, run.recipe)  # now, while there is memory for it
    step = DistributedStep(run.model, run.task.vocabulary, run.recipe, run.seed, processes, how)
    checkpoint = DistributedCheckpoint(folder, run.fingerprint, processes)
    notes = checkpoint.read(step.state()) or {"step": 0, "seconds": 0.0, "journal": Journal(1).notes()}
    journal, clock, steps = Journal.from_notes(notes["journal"]), Clock(notes["seconds"]), run.recipe.steps
    for at, progress in train(step, run.task, run.seed, notes["step"]):
        if progress:
            journal.note(progress)
        clock.tick(at, at == steps or bool(journal.reason(0)), processes)
        watch(at, progress)
        with clear_errors(store.root):
            checkpoint.poll()
        wish = processes.largest(STOP if stopping() else SAVE if at % save_every == 0 else GO_ON)
        if wish == GO_ON or at == steps or journal.reason(0):
            continue
        with clear_errors(store.root):
            checkpoint.write(step.state(), {"step": at, "seconds": clock.seconds, "journal": journal.notes()})
            if wish == STOP:
                checkpoint.settle()
        if wish == STOP:
            raise Interrupted(f"stopped at step {at} of {steps}")
    with clear_errors(store.root):
        checkpoint.settle()
    _store(run, store, step, journal, clock, limit, keep_weights)


def _store(
    run: Run,
    store: Store,
    step: DistributedStep,
    journal: Journal,
    clock: Clock,
    limit: float,
    keep_weights: bool,
) -> None:
    """Judges the trained run and puts it into the store. All processes judge alike: it answers only to all of them."""
    training_seconds, began = clock.seconds, time.monotonic()
    processes, (measurements,), reason = step.processes, journal.measurements, journal.reason(0)
    if not reason:
        step.plain()
        measurements = measurements + list(judge(run, step.model, processes.device))
    weights: dict[str, Tensor] = {}
    if keep_weights and not reason:
        for name, weight in step.weights():
            if processes.is_first:
                weights[name] = weight.contiguous()
    facts = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": training_seconds + time.monotonic() - began,
        "training_seconds": training_seconds,
        "stacked": 1,
        "precision_used": processes.device.precision(run.recipe),
    }
    facts |= _facts(run, step, clock, limit) | processes.device.facts() | provenance()
    status = "failed" if reason else "complete"
    processes.agree(
        lambda: store.write(
            run, status, reason, costs(run), facts, measurements, {WEIGHTS: save(weights)} if weights else {}
        )
    )


def _facts(run: Run, step: DistributedStep, clock: Clock, limit: float) -> dict[str, Any]:
    """How the run was spread out, its speed, also against the devices' ``limit``, and the most memory of a process."""
    processes, how = step.processes, step.how
    tokens_per_second = clock.speed * run.recipe.rows * (run.task.length - 1)
    flops_per_second = tokens_per_second * costs(run)["training_flops_per_token"]
    return {
        "processes": processes.size,
        "expert_parallel": processes.experts,
        "fsdp": how.fsdp and processes.size > 1,
        "checkpoint_activations": how.checkpoint_activations,
        "accumulate": how.accumulate,
        "tokens_per_second": tokens_per_second,
        "mfu": flops_per_second / (processes.size * limit),
        "peak_memory_bytes": processes.largest(processes.device.peak_memory_bytes()),
    }

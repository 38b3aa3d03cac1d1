"""Run and execute: the one place where task, model, recipe, evaluations and store meet."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from parrotlab.evals.evaluation import Evaluation
from parrotlab.kernels.experts import GROUPS
from parrotlab.kernels.linear_cross_entropy import room_bytes
from parrotlab.model.count import count
from parrotlab.model.transformer import LanguageModel, Transformer, build
from parrotlab.results._files import clear_errors
from parrotlab.results.measurement import Measurement
from parrotlab.results.provenance import provenance
from parrotlab.results.store import Store
from parrotlab.spec import decode, encode, fingerprint
from parrotlab.tasks.task import Task
from parrotlab.training import checkpoint
from parrotlab.training.devices import Device
from parrotlab.training.journal import Journal
from parrotlab.training.loop import Progress, train
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

MEMORY_SHARE = 0.7
"""Of a device's memory that a stack's estimate may fill: the rest is for what the estimate and the allocator miss."""
WORKSPACE_BYTES = 4 << 25
"""Of a process that trains on CUDA, however large its stack: four of cuBLAS's workspaces of 32 MiB."""
WINDOW_BYTES = 3
"""Of a token in a staged window, about: an int16, and whether it is asked for."""
STACKED_NUMBERS = 50_000
"""Of a batch's residual stream, tokens times width, up to which a CPU's step waits for launches, and is shared."""
STACKED_RUNS = 3
"""Of a stack on a CPU: each that joins gains less than the one before, and all are lost with their worker."""
SAVE_SECONDS = 30.0
"""Training time between two checkpoints."""

CHECKPOINT = "checkpoint.safetensors"
"""The file in a run's workshop from which it goes on; that of a stack lies with its first run."""
WEIGHTS = "weights.safetensors"
"""The file of a run's folder that holds its trained weights in float32, where they were to be kept."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model trained on one task by one recipe under one seed, and how it is judged."""

    task: Task
    model: Transformer
    recipe: Recipe
    evaluations: tuple[Evaluation, ...]
    seed: int

    @property
    def fingerprint(self) -> str:
        """The run's name in every store."""
        return fingerprint(self)


class Interrupted(Exception):
    """A stop was asked for. A checkpoint is written; the same call goes on from there."""


class Outcome(NamedTuple):
    """What became of a run."""

    run: Run
    status: Literal["complete", "failed"]
    reason: str
    """Why it failed; empty otherwise."""


def execute(
    runs: Sequence[Run],
    store: Store,
    device: Device,
    watch: Callable[[Sequence[Run], Progress], None] = lambda runs, progress: None,
    stopping: Callable[[], bool] = lambda: False,
    save_seconds: float = SAVE_SECONDS,
    keep_weights: bool = False,
) -> list[Outcome]:
    """Trains and judges runs that differ only in seed and learning rate, as one stack, into the store.

    What the store has is skipped; what was begun goes on from its checkpoint. A run that diverges is stored
    as failed, and does not stop the others of its stack. Raises ``Interrupted`` when ``stopping`` says so.
    ``keep_weights`` stores the trained weights beside the results, for ``trained`` to read.
    """
    assert len({_without_rate_and_seed(run) for run in runs}) == 1, "a stack differs in seed and learning rate alone"
    missing = [run for run in runs if store.find(run) is None]
    if not missing:
        return [_outcome(run, store) for run in runs]
    with contextlib.ExitStack() as locks:
        folders = [locks.enter_context(store.workshop(run.fingerprint)) for run in missing]
        missing = [run for run in missing if store.find(run) is None]  # another process may have just finished it
        if missing:
            saved = folders[0] / CHECKPOINT
            _execute(missing, store, device, watch, stopping, save_seconds, keep_weights, saved)
    return [_outcome(run, store) for run in runs]


def stacks(runs: Sequence[Run], device: Device) -> list[tuple[Run, ...]]:
    """The runs in groups to be trained together: those that differ only in seed and learning rate; on a CPU, where
    their steps are small.

    A group that the device's memory would not hold is split into as few as it does, of about equal size.
    """
    groups: dict[Run, list[Run]] = {}
    for run in runs:
        shared = device.is_cuda or run.recipe.rows * (run.task.length - 1) * run.model.width <= STACKED_NUMBERS
        groups.setdefault(_without_rate_and_seed(run) if shared else run, []).append(run)
    return [stack for group in groups.values() for stack in _split(group, device)]


def bytes_needed(run: Run, replicas: float = 1) -> int:
    """Memory of a stack's captured step: weights, gradients and moments in float32; what is kept for the backward pass,
    in the recipe's precision; a chunk of a large vocabulary's logits; two windows of data, the present one and the
    next; and what any process takes.

    Measured: benchmarks/memory.py. A step that is not compiled keeps more.
    """
    counts = count(run.model, run.task.vocabulary)
    tokens = run.recipe.rows * (run.task.length - 1)
    number = 2 if run.recipe.precision == "bfloat16" else 4
    kept, logits = counts.activation_bytes(tokens, number), room_bytes(replicas, tokens, run.task.vocabulary, number)
    window = len(run.recipe.windows()[0]) * run.recipe.rows * run.task.length * WINDOW_BYTES
    replica = counts.weight_bytes + counts.optimizer_bytes + kept + 2 * window
    return round(WORKSPACE_BYTES + logits + replicas * replica)


def checkpoint_bytes(run: Run) -> int:
    """Disk that a run takes while it trains: its checkpoint of weights and AdamW's two moments, all float32."""
    return 3 * count(run.model, run.task.vocabulary).weight_bytes


def _split(group: list[Run], device: Device) -> list[tuple[Run, ...]]:
    """The group in stacks that fit the memory and the grouped product; a single run is not split, and may fail."""
    one, two = (bytes_needed(group[0], replicas) for replicas in (1, 2))
    room = max(1.0, 1 + (MEMORY_SHARE * device.memory_bytes - one) / (two - one))
    room = min(room, max(1, GROUPS // getattr(group[0].model.feedforward, "experts", 1)))
    if not device.is_cuda:
        room = min(room, STACKED_RUNS)
    stacks = math.ceil(len(group) / math.floor(min(room, len(group))))
    ends = [len(group) * index // stacks for index in range(stacks + 1)]
    return [tuple(group[start:end]) for start, end in itertools.pairwise(ends)]


def _execute(
    runs: list[Run],
    store: Store,
    device: Device,
    watch: Callable[[Sequence[Run], Progress], None],
    stopping: Callable[[], bool],
    save_seconds: float,
    keep_weights: bool,
    saved: Path,
) -> None:
    """Trains runs that the store lacks from ``saved``, if that is their checkpoint, or from the start."""
    began = time.monotonic()
    device.forget_peak()
    task, recipe, seeds = runs[0].task, runs[0].recipe, [run.seed for run in runs]
    model = build(runs[0].model, task.vocabulary, seeds if len(runs) > 1 else seeds[0], device.name)
    step = Step(model, recipe, [run.recipe.learning_rate for run in runs], device)
    members = [run.fingerprint for run in runs]
    journal, start, spent = Journal(len(runs)), 0, 0.0
    if saved.exists():
        tensors, notes = checkpoint.read(saved)
        if notes["members"] == members:  # else it is of another grouping of these runs: begin again
            step.load(tensors)
            journal, start, spent = Journal.from_notes(notes["journal"]), notes["step"], notes["seconds"]
    saved_at = began
    for progress in train(step, task, recipe, seeds, device, start):
        journal.note(progress)
        watch(runs, progress)
        stop = stopping() and progress.step < recipe.steps
        if stop or time.monotonic() - saved_at >= save_seconds:
            saved_at = time.monotonic()
            seconds = spent + saved_at - began
            notes = {"members": members, "step": progress.step, "seconds": seconds, "journal": journal.notes()}
            notes["specs"] = [encode(run) for run in runs]  # for those who watch
            with clear_errors(store.root):
                checkpoint.write(saved, step.state(), notes)
        if stop:
            raise Interrupted(f"stopped at step {progress.step} of {recipe.steps}")
    seconds = spent + time.monotonic() - began
    for index, run in enumerate(runs):
        _store(run, model.replica(index), journal, index, store, device, seconds, keep_weights)


def _store(
    run: Run,
    model: LanguageModel,
    journal: Journal,
    index: int,
    store: Store,
    device: Device,
    training_seconds: float,
    keep_weights: bool,
) -> None:
    """Judges one trained run and puts it into the store; time and memory of a stack are shared out."""
    began = time.monotonic()
    replicas = len(journal.measurements)
    measurements, reason = journal.measurements[index], journal.reason(index)
    if not reason:
        measurements = measurements + list(judge(run, model, device))
    facts = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": training_seconds / replicas + time.monotonic() - began,
        "training_seconds": training_seconds / replicas,
        "stacked": replicas,
        "peak_memory_bytes": device.peak_memory_bytes() // replicas,
        "precision_used": device.precision(run.recipe),
    }
    store.write(
        run,
        "failed" if reason else "complete",
        reason,
        costs(run),
        facts | device.facts() | provenance(),
        measurements,
        {WEIGHTS: save(model.state_dict())} if keep_weights and not reason else {},
    )


def trained(name: str, store: Store) -> tuple[Run, LanguageModel]:
    """The run of that fingerprint and its trained model, on the CPU; ValueError where its weights were not kept."""
    record = next((record for record in store.records() if record.fingerprint == name and record.is_run), None)
    if record is None:
        raise ValueError(
            f"there is no run {name} in {store.root}: parrotlab sql 'select fingerprint from runs' lists all"
        )
    run, path = decode(record.spec), store.root / name / WEIGHTS
    if not path.exists():
        raise ValueError(
            f"run {name} in {store.root} is {record.status} and has no weights: run its study with --keep-weights "
            "into another --store, for what is stored is never replaced"
        )
    model = LanguageModel(run.model, run.task.vocabulary)
    try:
        model.load_state_dict(load(path.read_bytes()))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights of its run: {error}") from None
    return run, model


def costs(run: Run) -> dict[str, int]:
    """Parameters, FLOPs and bytes of a run, and the tokens it trains on, before it has run."""
    length = run.task.length - 1  # the last token of a row is asked for and never read
    counts = count(run.model, run.task.vocabulary).row(length)
    tokens = run.recipe.steps * run.recipe.rows * length
    return counts | {"training_tokens": tokens, "training_flops": tokens * counts["training_flops_per_token"]}


def judge(run: Run, model: LanguageModel, device: Device) -> Iterator[Measurement]:
    """The measurements of a run's evaluations on its trained model."""
    model.eval()

    def logits(tokens_BT: Tensor) -> Tensor:
        with device.autocast(run.recipe):
            return model(tokens_BT.to(device.name))[0].float()

    for evaluation in run.evaluations:
        yield from evaluation.measure(logits, run.task, run.seed, run.recipe.steps)


def _without_rate_and_seed(run: Run) -> Run:
    return dataclasses.replace(run, seed=0, recipe=dataclasses.replace(run.recipe, learning_rate=0.0))


def _outcome(run: Run, store: Store) -> Outcome:
    record = store.find(run)
    assert record is not None
    return Outcome(run, record.status, record.reason)

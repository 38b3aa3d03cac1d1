"""``parrotlab pretrain``: one run, and with torchrun on many processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from parrotlab.cli._bars import LINE_SECONDS, label
from parrotlab.cli._designs import feedforward
from parrotlab.cli._show import complain, duration, say, short, words
from parrotlab.cli._train import INTERRUPTED, asked_to_stop

if TYPE_CHECKING:  # they import torch
    from parrotlab.run import Outcome, Run
    from parrotlab.training.loop import Progress

JUDGED_ROWS = 1_000
"""Of the test split; perplexity is judged on whole documents beside it."""


def pretrain(
    corpus: Positional[str],
    *,
    mixture: str = "",
    downstream: bool = True,
    width: int = 256,
    layers: int = 4,
    heads: int = 4,
    group: int = 1,
    qk_norm: bool = False,
    experts: int = 0,
    active: int = 2,
    shared: int = 0,
    expansion: float = 1.0,
    gated: bool = False,
    tied: bool = False,
    steps: int = 1_000,
    rows: int = 32,
    length: int = 512,
    learning_rate: float = 1e-3,
    seed: int = 0,
    accumulate: int = 1,
    checkpoint_activations: bool = False,
    expert_parallel: int = 1,
    fsdp: bool = True,
    compile: bool = True,  # noqa: A002 (torch's word)
    save_every: int = 500,
    store: Path = Path("results"),
    keep_weights: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> int:
    """Train one model on a prepared corpus; on many processes: torchrun --nproc-per-node 8 -m parrotlab pretrain ...

    The same command goes on from the last checkpoint, also on another number of processes.

    Args:
        corpus: The name of a prepared corpus.
        mixture: The recipe whose weights its parts get, such as local_language; without it they weigh by their tokens.
        downstream: Read the benchmarks' training sets of the mixture too.
        width: Channels of the residual stream.
        layers: Blocks.
        heads: Attention heads.
        group: Query heads that share one key and value head.
        qk_norm: Normalise queries and keys.
        experts: Experts of each mixture; 0 for dense feed-forwards.
        active: Experts that a token visits.
        shared: Further experts that serve every token.
        expansion: Hidden width of a feed-forward, or of one expert, over the width.
        gated: Feed-forwards are SwiGLU rather than GELU.
        tied: The head is the embedding.
        steps: Batches to train on.
        rows: Rows of a batch, over all processes and micro-batches.
        length: Tokens of a row that the model reads.
        learning_rate: At its peak.
        seed: Of weights and data.
        accumulate: Micro-batches of a step.
        checkpoint_activations: Keep only what enters each block, and compute it again in the backward pass.
        expert_parallel: Processes over which the experts of each mixture are shared out.
        fsdp: Keep slices of weights and moments on each process, rather than all.
        compile: Compile the blocks, on CUDA.
        save_every: Steps between two checkpoints.
        store: The folder of results; all processes have to see it.
        keep_weights: Store the trained weights too, in float32.
        device: cpu, cuda, or auto for CUDA where there is one.
    """
    from parrotlab.execution.pretrain import pretrain as pretrained
    from parrotlab.model.attention import Attention
    from parrotlab.model.transformer import Transformer
    from parrotlab.results.store import Store, StoreError
    from parrotlab.run import Interrupted
    from parrotlab.training.distributed import Parallelism
    from parrotlab.training.processes import is_loss_of_another, joined
    from parrotlab.training.recipe import Recipe

    first = os.environ.get("RANK", "0") == "0"
    speak: Callable[[str], None] = say if first else lambda line: None
    design = Transformer(
        layers=layers,
        width=width,
        attention=Attention(heads=heads, group=group, qk_norm=qk_norm),
        feedforward=feedforward(experts, active, shared, expansion, gated),
        tied=tied,
    )
    how = Parallelism(fsdp=fsdp, checkpoint_activations=checkpoint_activations, accumulate=accumulate)
    recipe = Recipe(steps=steps, rows=rows, learning_rate=learning_rate)
    try:
        run = _run(corpus, mixture, downstream, length, design, recipe, seed)
        with (
            asked_to_stop(speak) as stopping,
            joined(device, expert_parallel, compile) as processes,
            _watched(run, first) as watch,
        ):
            outcome = pretrained(run, Store(store), processes, how, save_every, watch, stopping, keep_weights)
    except Interrupted as stop:
        if first:
            complain(f"{stop}; the same command goes on from there, on any number of processes: {_command()}")
        return INTERRUPTED
    except (ValueError, StoreError):
        if first:
            raise
        return 1  # all processes know of it, and one says it
    except RuntimeError as error:
        if not is_loss_of_another(error):
            raise
        complain(f"another process was lost; the same command goes on from the last checkpoint: {_command()}")
        return 1
    speak(_verdict(outcome, Store(store)))
    return 0 if outcome.status == "complete" else 1


def _run(corpus: str, mixture: str, downstream: bool, length: int, design, recipe, seed: int) -> Run:
    """The run on that corpus as it lies there: the spec holds its hash."""
    from parrotlab.evals.loss import Loss
    from parrotlab.evals.perplexity import Perplexity
    from parrotlab.run import Run
    from parrotlab.tasks.language import Language
    from parrotlab.text import mixtures
    from parrotlab.text.corpus import open_corpus

    if not downstream and not mixture:
        raise ValueError("--no-downstream needs --mixture, which says what parts are training sets of benchmarks")
    prepared = open_corpus(corpus)
    task = Language(
        corpus=corpus,
        vocabulary=prepared.vocabulary,
        length=length + 1,
        weights=mixtures.mixture(mixture).weights(downstream) if mixture else (),
        sha256=prepared.sha256,
    )
    task.batch("train", 0, recipe.rows, seed)
    task.examples("test", 1, seed)  # what cannot be read or judged is said now, not after the training
    evaluations = (Loss(split="test", count=JUDGED_ROWS), Perplexity())
    return Run(task=task, model=design, recipe=recipe, evaluations=evaluations, seed=seed)


@contextmanager
def _watched(run: Run, first: bool) -> Iterator[Callable[[int, Progress | None], None]]:
    """A bar in a terminal, a line now and then elsewhere; the first process's only."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console, steps, name = words(), run.recipe.steps, label(run)
    tokens = run.recipe.rows * (run.task.length - 1)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
    with Bar(*columns, console=console, disable=not (first and console.is_terminal)) as bar:
        task = bar.add_task(name, total=steps, note="starting")
        seen: list[tuple[int, float]] = []
        loss, spoke_at = "", time.monotonic()

        def watch(step: int, progress: Progress | None) -> None:
            nonlocal loss, spoke_at
            now = time.monotonic()
            seen.append((step, now))
            if progress:
                loss = f"loss {progress.loss_R[0]:.3f}, "
            (step0, began), note = seen[0], loss
            if step > step0:
                seconds = (now - began) / (step - step0)
                note += f"{short(tokens / seconds)} tokens/s, {duration(seconds * (steps - step))} left"
                del seen[1:]
            bar.update(task, completed=step, note=note)
            if first and not console.is_terminal and (step == steps or now - spoke_at > LINE_SECONDS):
                spoke_at = now
                say(f"step {step} of {steps}: {note}")

        yield watch


def _verdict(outcome: Outcome, store) -> str:
    """The last line."""
    run = outcome.run
    if outcome.status == "failed":
        return f"run {run.fingerprint} failed: {outcome.reason}: {store.root}"
    facts = store.find(run).facts
    if "tokens_per_second" not in facts:
        return f"run {run.fingerprint} is in {store.root}"
    return (
        f"run {run.fingerprint} is in {store.root}: {short(facts['tokens_per_second'])} tokens/s, processes: "
        f"{facts['processes']}, {facts['mfu']:.1%} of what large matrix products reach on them"
    )


def _command() -> str:
    return " ".join(["parrotlab", *sys.argv[1:]])

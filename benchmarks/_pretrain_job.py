"""What one process of ``pretrain.py`` does: it trains for a few steps; the first process says what it saw."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STRETCH = 10
"""Steps over which a loss is a mean; between two stretches the host looks at the device."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model, its batch, and how it is spread out."""

    name: str = ""
    engine: str = "distributed"
    device: str = "cuda"
    gpus: int = 1
    width: int = 1024
    layers: int = 20
    heads: int = 16
    experts: int = 64
    active: int = 2
    expansion: float = 1.0
    gated: bool = False
    tied: bool = True
    vocabulary: int = 32_000
    rows: int = 64
    length: int = 1024
    steps: int = 30
    corpus: str = ""
    accumulate: int = 1
    expert_parallel: int = 1
    checkpoint_activations: bool = False
    compile: bool = True
    checkpoint: str = ""
    """A folder to write to after the first half of the steps."""
    resume: bool = False
    """Go on from that folder instead."""


@dataclass(frozen=True)
class PowerLaw:
    """Random rows in which small tokens are frequent, so that there is something to learn at once."""

    vocabulary: int
    length: int
    prompt: int = 1

    def batch(self, split: str, step: int, rows: int, seed: int):
        """A pure function of (seed, step)."""
        from parrotlab.seeds import stream
        from parrotlab.tasks.task import Batch

        tokens_BT = (self.vocabulary * stream("power law", seed, step).random((rows, self.length)) ** 4).astype(
            np.int32
        )
        return Batch(tokens_BT, np.broadcast_to(np.arange(self.length) > 0, tokens_BT.shape).copy())


def work(job: Job, result: Path) -> None:
    """Trains, and writes the result."""
    import torch

    from parrotlab.model.count import count
    from parrotlab.tasks.language import Language
    from parrotlab.text.corpus import open_corpus
    from parrotlab.training.processes import joined
    from parrotlab.training.profile import ceiling
    from parrotlab.training.recipe import Recipe

    vocabulary = open_corpus(job.corpus).vocabulary if job.corpus else job.vocabulary
    kind = Language if job.corpus else PowerLaw
    task = kind(**({"corpus": job.corpus} if job.corpus else {}), vocabulary=vocabulary, length=job.length + 1)
    recipe = Recipe(steps=100 * STRETCH, rows=job.rows, learning_rate=1e-3)
    with joined(job.device, job.expert_parallel, job.compile) as processes:
        device = processes.device
        limit = ceiling(device, recipe)  # now, while there is memory for it
        losses, marks = [], [time.perf_counter()]
        told: dict[str, object] = {"parameters": count(design(job), vocabulary).total}
        for progress in stretches(job, task, recipe, processes, told):
            losses.append(float(progress.loss_R[0]))
            marks.append(time.perf_counter())
            if progress.step >= job.steps:
                break
        if len(losses) > 1:  # the first stretch compiles
            speed = STRETCH * job.rows * job.length * (len(losses) - 1) / (marks[-1] - marks[1])
            flops = speed * count(design(job), vocabulary).training_flops_per_token(job.length)
            told |= {"tokens_per_second": speed, "mfu": flops / (limit * processes.size)}
        told |= {
            "losses": losses,
            "seconds_to_the_first_stretch": marks[1] - marks[0],
            "ceiling_flops_per_second": limit,
            "gigabytes": processes.largest(device.peak_memory_bytes()) / 1e9,
            "device": torch.cuda.get_device_name() if device.is_cuda else "cpu",
        }
        if processes.is_first:
            fresh = result.with_suffix(".new")
            fresh.write_text(json.dumps(told))
            fresh.rename(result)


def design(job: Job):
    """The model; a dense one has the mixture's active FLOPs in its feed-forwards."""
    from parrotlab.model.attention import Attention
    from parrotlab.model.feedforwards.dense import Dense
    from parrotlab.model.feedforwards.mixture import Mixture
    from parrotlab.model.transformer import Transformer

    if job.experts:
        feedforward = Mixture(experts=job.experts, active=job.active, expansion=job.expansion, gated=job.gated)
    else:
        feedforward = Dense(expansion=job.active * job.expansion, gated=job.gated)
    attention = Attention(heads=job.heads)
    return Transformer(layers=job.layers, width=job.width, attention=attention, feedforward=feedforward, tied=job.tied)


def stretches(job: Job, task, recipe, processes, told: dict[str, object]) -> Iterator:
    """The progress of each stretch; notes down what checkpoints cost."""
    from parrotlab.model.transformer import build
    from parrotlab.training.distributed import DistributedStep, Parallelism, train
    from parrotlab.training.distributed_checkpoint import DistributedCheckpoint
    from parrotlab.training.loop import train as train_alone
    from parrotlab.training.step import Step

    began = time.perf_counter()
    if job.engine == "plain":
        model = build(design(job), task.vocabulary, 0, processes.device.name)
        step = Step(model, recipe, [recipe.learning_rate], processes.device)
        told["seconds_to_build"] = time.perf_counter() - began
        yield from train_alone(step, task, recipe, [0], processes.device)
        return
    how = Parallelism(checkpoint_activations=job.checkpoint_activations, accumulate=job.accumulate)
    step = DistributedStep(design(job), task.vocabulary, recipe, 0, processes, how)
    told["seconds_to_build"] = time.perf_counter() - began
    start, folder = 0, Path(job.checkpoint)
    if job.checkpoint:
        folder.mkdir(exist_ok=True)
        checkpoint = DistributedCheckpoint(folder, "benchmark", processes)
    if job.resume:
        began = time.perf_counter()
        notes = checkpoint.read(step.state())
        assert notes is not None, "there is no checkpoint to resume from"
        start, told["seconds_to_read"] = notes["step"], time.perf_counter() - began
    for at, progress in train(step, task, 0, start):
        if progress:
            yield progress
        if job.checkpoint and not job.resume and at == job.steps // 2:
            began = time.perf_counter()
            checkpoint.write(step.state(), {"step": at})
            told["seconds_training_waited"] = time.perf_counter() - began
            checkpoint.settle()
            told["seconds_to_write"] = time.perf_counter() - began
            told["checkpoint_bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    work(Job(**json.loads(sys.argv[1])), Path(sys.argv[2]))

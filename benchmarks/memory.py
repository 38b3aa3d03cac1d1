"""What a stack of runs takes of a GPU's memory: the estimate that plans stacks, and the peak that was measured.

    PYTHONPATH=src python benchmarks/memory.py [--scale gpu] [--workers 6] [--output FILE]
    PYTHONPATH=src python benchmarks/memory.py --estimates     needs no GPU: today's estimates beside the file's peaks

Of each study the smallest and the largest dense design and the mixtures of fewest and of most experts, each as the
stack in which it trains, a process each: a few windows of the step as training takes it, captured where it can be.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from _facts import write

from parrotlab import run as house
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.transformer import build
from parrotlab.run import Run
from parrotlab.studies import study
from parrotlab.training.devices import Device, device
from parrotlab.training.loop import train
from parrotlab.training.step import Step

STUDIES = ("phone_book", "shortest_path", "critical_width")
WINDOWS = 2


def extremes(stacks: Sequence[tuple[Run, ...]]) -> list[tuple[Run, ...]]:
    """Of each family of designs the stacks of fewest and of most parameters."""
    families: dict[bool, list[tuple[Run, ...]]] = {}
    for stack in sorted(stacks, key=lambda stack: house.costs(stack[0])["total_parameters"]):
        families.setdefault(isinstance(stack[0].model.feedforward, Dense), []).append(stack)
    return [stack for family in families.values() for stack in (family[0], family[-1])]


def measured(name: str, runs: tuple[Run, ...], where: Device) -> dict[str, Any]:
    """Estimate and peak of one stack, in bytes."""
    run, seeds = runs[0], [run.seed for run in runs]
    torch.cuda.reset_peak_memory_stats()
    model = build(run.model, run.task.vocabulary, seeds if len(runs) > 1 else seeds[0], where.name)
    step = Step(model, run.recipe, [run.recipe.learning_rate for run in runs], where)
    held = torch.cuda.memory_allocated()
    for _ in itertools.islice(train(step, run.task, run.recipe, seeds, where), WINDOWS):
        pass
    peak, estimate = where.peak_memory_bytes(), house.bytes_needed(run, len(runs))
    return {
        "study": name,
        "width": run.model.width,
        "layers": run.model.layers,
        "experts": getattr(run.model.feedforward, "experts", 1),
        "replicas": len(runs),
        "tokens": run.recipe.rows * (run.task.length - 1),
        "parameters": house.costs(run)["total_parameters"],
        "window_bytes": sum(part.nbytes for part in step.window or ()),
        "weights_and_moments_bytes": held,
        "peak_bytes": peak,
        "estimate_bytes": estimate,
        "ratio": estimate / peak,
    }


def estimated(row: dict[str, Any], scale: study.Scale) -> dict[str, Any]:
    """The row with what is expected of its stack today."""
    run = next(
        run
        for run in study.load(row["study"]).runs(scale)
        if (run.model.width, getattr(run.model.feedforward, "experts", 1)) == (row["width"], row["experts"])
        and house.costs(run)["total_parameters"] == row["parameters"]
    )
    estimate = house.bytes_needed(run, row["replicas"])
    return row | {"estimate_bytes": estimate, "ratio": estimate / row["peak_bytes"]}


def main() -> None:
    """Measures every stack and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=study.SCALES, default="gpu")
    parser.add_argument("--studies", nargs="+", default=STUDIES)
    parser.add_argument("--workers", type=int, default=6, help="processes that share the GPU")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/memory.json"))
    parser.add_argument("--estimates", action="store_true", help="measure nothing: estimate the file's rows again")
    options = parser.parse_args()
    if options.estimates:
        told = json.loads(options.output.read_text())
        told["results"]["rows"] = [estimated(row, options.scale) for row in told["results"]["rows"]]
        options.output.write_text(json.dumps(told, indent=2) + "\n")
        return
    where = device("cuda")
    jobs = [
        (name, stack, where)
        for name in options.studies
        for stack in extremes(house.stacks(study.load(name).runs(options.scale), where))
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context, max_tasks_per_child=1) as pool:
        rows = list(pool.map(measured, *zip(*jobs)))
    for row in rows:
        print(row)
    write(options.output, {"unit": "bytes", "rows": rows}, "triton")


if __name__ == "__main__":
    main()

"""``parrotlab plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from parrotlab.cli._bars import design
from parrotlab.cli._plans import CORES
from parrotlab.cli._show import duration, say, short, show_json, show_table

if TYPE_CHECKING:  # they import torch
    from parrotlab.results.store import Record
    from parrotlab.run import Run
    from parrotlab.training.devices import Device

H100_BYTES = 80e9


def plan(
    studies: Positional[tuple[str, ...]],
    *,
    scale: str = "laptop",
    store: Path = Path("results"),
    workers: int = CORES,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: bool = False,
) -> int:
    """Print every run of studies: parameters, FLOPs, rough time, memory and disk, and whether the store has it.

    Nothing is trained. Runs with the same number of a stack will train together; those that the store has are in
    none. Memory is that of one step of the whole batch, which the GPUs that share a batch divide; disk is what the
    checkpoint takes while a run trains.

    Args:
        studies: Names of studies, or all.
        scale: smoke, laptop, gpu or paper.
        store: The folder of results.
        workers: Processes side by side on a CPU; a GPU is shared by three, or ten under MPS.
        device: What the times are estimated for; it need not be here.
        json: Print JSON.
    """
    import torch

    from parrotlab.cli._plans import chosen, planned
    from parrotlab.execution import estimate, local
    from parrotlab.execution.watching import begun
    from parrotlab.results.store import Store
    from parrotlab.run import bytes_needed, checkpoint_bytes, costs

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    plans = planned(chosen(studies), scale)
    found = {run: Store(store).find(run) for runs in plans.values() for run in runs}
    missing = [run for run, record in found.items() if record is None]
    stacks = local.stacks(missing, _device(device), workers, begun(Store(store)))
    places = {run: (number, len(stack)) for number, stack in enumerate(stacks, 1) for run in stack}
    rows = [
        _row(name, run, found[run], device, *places.get(run, (0, 0))) for name, runs in plans.items() for run in runs
    ]
    if json:
        show_json(rows)
    else:
        for name in plans:
            show_table([_line(row) for row in rows if row["study"] == name], title=name)
    flops = short(sum(costs(run)["training_flops"] for run in missing))
    seconds = sum(estimate.seconds(run, device) for run in missing)
    many = "" if device == "cuda" else f", {duration(seconds / workers)} on {workers}"
    unit = "an H100" if device == "cuda" else "a CPU core"
    here = f"{len(found)} runs, {len(missing)} of them not in {store}"
    here += f", in {len(stacks)} stacks" if len(stacks) < len(missing) else ""
    say(f"{here}: {flops}FLOP, very roughly {duration(seconds)} of {unit}{many}")
    memory = max(map(bytes_needed, missing), default=0)
    disk = sum(map(checkpoint_bytes, missing))
    say(f"a step needs up to {short(float(memory))}B of memory, all checkpoints {short(float(disk))}B of disk")
    return 0


def _device(name: str) -> Device:
    """The device of that name, if it is here; else an H100, which has nothing else to hold."""
    import torch

    from parrotlab.training.devices import Device, device

    if name == "cuda" and not torch.cuda.is_available():
        return Device(name, fast_steps=True, memory_bytes=H100_BYTES)
    return device(name)


def _row(study: str, run: Run, record: Record | None, device: str, stack: int, replicas: int) -> dict[str, Any]:
    from parrotlab.execution import estimate
    from parrotlab.run import bytes_needed, checkpoint_bytes, costs

    cost, seconds = costs(run), estimate.seconds(run, device)
    return {
        "study": study,
        "design": design(run),
        "rate": run.recipe.learning_rate,
        "seed": run.seed,
        "total": cost["total_parameters"],
        "active": cost["active_parameters"],
        "steps": run.recipe.steps,
        "FLOPs": cost["training_flops"],
        "stack": stack,
        "replicas": replicas,
        "seconds": round(seconds, 1),
        "hours": round(seconds / 3600, 4),
        "memory": bytes_needed(run),
        "disk": checkpoint_bytes(run),
        "stored": record.status if record else "no",
        "fingerprint": run.fingerprint,
    }


def _line(row: dict[str, Any]) -> dict[str, Any]:
    long = row["seconds"] >= 3600
    left_out = ("study", "fingerprint", "seconds" if long else "hours")
    line = {name: value for name, value in row.items() if name not in left_out}
    return line | {name: f"{short(float(row[name]))}B" for name in ("memory", "disk")}

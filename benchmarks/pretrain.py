"""One big run on one and on two GPUs: speed, agreement of the losses, memory, and a checkpoint that changes hands.

    python benchmarks/pretrain.py --output results/benchmarks/pretrain.json

A dense model and a mixture are trained on the same rows alone, sliced over two GPUs (FSDP2), and sliced with their
experts shared out. All take the same rows a step: one GPU in two parts, or, where it holds a whole mixture, in four.
Each is a job in processes of its own: one that fails is recorded, and the others go on. ``--smoke``
does everything on the CPU with a tiny model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from _facts import write
from _pretrain_job import Job

JOB_SECONDS = 100.0
"""After which a job has failed."""
JOBS = ("dense", "mixture", "checkpoint")


@dataclass(frozen=True)
class Running:
    """A job's processes, and where they leave what they found."""

    job: Job
    processes: list[subprocess.Popen]
    result: Path
    words: Path
    began: float

    def ended(self) -> dict:
        """Waits for the result; what went wrong is a result too."""
        deadline, problem = self.began + JOB_SECONDS, ""
        while not problem and any(process.poll() is None for process in self.processes):
            if any(process.poll() for process in self.processes):
                break  # the others wait for it in vain
            if time.monotonic() > deadline:
                problem = f"not done after {JOB_SECONDS:.0f} s"
            time.sleep(0.1)
        for process in self.processes:
            process.kill()
            process.wait()
        told = {
            "name": self.job.name,
            "gpus": self.job.gpus,
            "layers": self.job.layers,
            "rows": self.job.rows,
            "accumulate": self.job.accumulate,
        }
        told["job_seconds"] = time.monotonic() - self.began
        if self.result.exists():
            return told | json.loads(self.result.read_text())
        lines = re.findall(r"^(?:\[rank\d+\]: )?[\w.]*Error\b.*", self.words.read_text(), re.MULTILINE)
        return told | {"error": problem or (lines[0][:300] if lines else "died without a word")}


def start(job: Job, folder: Path, first_gpu: int = 0) -> Running:
    """Starts the job's processes, as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stem = f"{time.monotonic_ns()}"
    result, words = folder / f"{stem}.json", folder / f"{stem}.log"
    gpus = ",".join(str(first_gpu + index) for index in range(job.gpus))
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(job.gpus)}
    shared |= {"CUDA_VISIBLE_DEVICES": gpus} if job.device == "cuda" else {"OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(Path(__file__).with_name("_pretrain_job.py")), json.dumps(asdict(job)), str(result)]
    processes = []
    with words.open("w") as log:
        for rank in range(job.gpus):
            environment = os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(subprocess.Popen(program, env=environment, stdout=log, stderr=subprocess.STDOUT))
    return Running(job, processes, result, words, time.monotonic())


def fitted(job: Job, folder: Path, gpu: int) -> list[dict]:
    """A one-GPU job, with smaller micro-batches and then fewer layers until it fits; the last attempt counts."""
    attempts = []
    smaller = replace(job, accumulate=2 * job.accumulate)
    for attempt in (job, smaller, replace(smaller, layers=max(1, job.layers // 2))):
        attempts.append(start(attempt, folder, gpu).ended())
        if "OutOfMemory" not in attempts[-1].get("error", ""):
            break
    return attempts


def dense(base: Job, gpus: int, folder: Path) -> Iterator[dict]:
    """A dense model on one GPU, and sliced over two."""
    alone = replace(base, name="dense, alone", experts=0, accumulate=2)
    yield start(alone, folder).ended()
    if gpus > 1:
        yield start(replace(alone, name="dense, sliced", gpus=2, accumulate=1), folder).ended()


def mixture(base: Job, gpus: int, folder: Path) -> Iterator[dict]:
    """A mixture on one GPU; and sliced over two, with its experts sliced too or shared out."""
    attempts = fitted(replace(base, name="mixture, alone", accumulate=4), folder, 0)
    yield from attempts
    if gpus > 1:
        sliced = replace(base, name="mixture, sliced", layers=attempts[-1]["layers"], gpus=2)
        yield start(sliced, folder).ended()
        yield start(replace(sliced, name="mixture, sliced, experts shared out", expert_parallel=2), folder).ended()


def checkpoint(base: Job, folder: Path, layers: int) -> Iterator[dict]:
    """A mixture's checkpoint is written on two GPUs and resumed on one, with the plain trainer on the other."""
    written = replace(
        base,
        name="checkpoint written on 2",
        layers=layers,
        gpus=2,
        expert_parallel=2,
        checkpoint=str(folder / "checkpoint"),
    )
    yield start(written, folder).ended()
    resumed = replace(written, name="checkpoint resumed on 1", gpus=1, expert_parallel=1, resume=True)
    beside = start(replace(base, name="dense, plain trainer", experts=0, engine="plain"), folder, 1)
    yield start(resumed, folder).ended()
    yield beside.ended()


def compare(rows: list[dict]) -> None:
    """Adds to each row how far its losses are from those of one GPU, and how much of twice its speed two GPUs reach."""
    alone = {row["name"].partition(",")[0]: row for row in rows if row["name"].endswith("alone") and "losses" in row}
    written = next((row for row in rows if row["name"] == "checkpoint written on 2"), {})
    for row in rows:
        peer = written if row["name"] == "checkpoint resumed on 1" else alone.get(row["name"].partition(",")[0], {})
        if row is peer or not {"losses"} <= row.keys() & peer.keys():
            continue
        theirs = peer["losses"][-len(row["losses"]) :]
        row["largest_relative_loss_difference"] = max(abs(a / b - 1) for a, b in zip(row["losses"], theirs))
        speeds = {"tokens_per_second"} <= row.keys() & peer.keys()
        if speeds and peer is not written and row["layers"] == peer["layers"]:
            row["scaling_efficiency"] = row["tokens_per_second"] / (row["gpus"] * peer["tokens_per_second"])


def show(rows: list[dict]) -> None:
    """A line a job."""
    print(f"{'job':38} GPUs layers  ktok/s    MFU  scaling  GB/GPU  last loss  off by")
    for row in rows:
        line = f"{row['name']:38} {row['gpus']:4} {row['layers']:6}"
        if "error" in row:
            print(f"{line}  {row['error'][:80]}")
            continue
        quantities = {"tokens_per_second": 1e-3, "mfu": 100, "scaling_efficiency": 100}
        numbers = [factor * row.get(name, float("nan")) for name, factor in quantities.items()]
        off = row.get("largest_relative_loss_difference", float("nan"))
        print(
            "{} {:7.1f} {:5.1f}% {:7.0f}% {:7.1f} {:10.4f} {:7.0e}".format(
                line, *numbers, row["gigabytes"], row["losses"][-1], off
            )
        )


def main() -> None:
    """Runs the jobs, and writes the table after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/pretrain.json"))
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--add", action="store_true", help="keep what the output has of other jobs")
    parser.add_argument("--smoke", action="store_true", help="tiny, on the CPU, two processes")
    parser.add_argument("--corpus", default="", help="a prepared corpus; without it, tokens drawn by a power law")
    parser.add_argument("--checkpoint-layers", type=int, default=2, help="of the mixture whose checkpoint is written")
    for field in ("width", "layers", "heads", "experts", "active", "vocabulary", "rows", "length", "steps"):
        parser.add_argument(f"--{field}", type=int, default=getattr(Job, field))
    parser.add_argument("--expansion", type=float, default=Job.expansion)
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--untied", action="store_true")
    parser.add_argument("--checkpoint-activations", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    base = Job(
        **{name: getattr(options, name) for name in Job.__dataclass_fields__ if hasattr(options, name)},
        tied=not options.untied,
        compile=not options.no_compile,
    )
    if options.smoke:
        tiny = {"width": 32, "layers": 2, "heads": 2, "experts": 8, "vocabulary": 64, "rows": 8, "length": 16}
        base = replace(base, device="cpu", **tiny)
        options.checkpoint_layers = 1
    gpus = 2 if options.smoke else min(2, torch.cuda.device_count())
    if not gpus:
        parser.error("there is no CUDA device here: --smoke runs on the CPU")
    settings = asdict(base) | {"note": "losses are means over stretches of steps; the first stretch is not timed"}
    began = time.monotonic()
    rows = json.loads(options.output.read_text())["results"]["rows"] if options.add and options.output.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        jobs = {"dense": dense(base, gpus, Path(folder)), "mixture": mixture(base, gpus, Path(folder))}
        if gpus > 1:
            jobs["checkpoint"] = checkpoint(base, Path(folder), options.checkpoint_layers)
        for row in itertools.chain.from_iterable(jobs[name] for name in options.jobs if name in jobs):
            rows = [*(other for other in rows if other["name"] != row["name"] or "error" in row), row]
            compare(rows)
            seconds = time.monotonic() - began
            write(options.output, {"settings": settings, "seconds": seconds, "rows": rows}, "triton")
    show(rows)


if __name__ == "__main__":
    main()

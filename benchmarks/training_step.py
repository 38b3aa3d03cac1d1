"""Tokens a second of one training step: ours step by step, as one CUDA graph, and stacked; and transformers' Trainer.

    python benchmarks/training_step.py --output results/benchmarks/training_step.json

The peer trains the same Mistral and Mixtral at its fastest settings: bfloat16, torch.compile, fused AdamW and,
for mixtures, grouped_mm experts. Its load-balancing loss breaks the compiled graph of each layer, so it is timed with
that loss, which ours always has, and without, and the faster counts. All numbers of a row come from one process.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _facts import write

from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer, build
from parrotlab.seeds import stream
from parrotlab.tasks.task import Batch
from parrotlab.training.devices import Device
from parrotlab.training.loop import train
from parrotlab.training.profile import ceiling
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

VOCABULARY = 512


@dataclass(frozen=True)
class Geometry:
    """A model and a batch; ``kind`` is dense or mixture (8 experts, top-2, the same active FLOPs)."""

    kind: str
    width: int
    layers: int
    rows: int
    length: int
    replicas: int

    @property
    def design(self) -> Transformer:
        """The model, SwiGLU as in Mistral and Mixtral."""
        feedforward = Dense(expansion=2.0) if self.kind == "dense" else Mixture(experts=8)
        return Transformer(
            layers=self.layers, width=self.width, attention=Attention(heads=self.width // 32), feedforward=feedforward
        )

    @property
    def training_flops_per_token(self) -> int:
        """Analytic: torch's own counter does not know grouped products."""
        return count(self.design, VOCABULARY).training_flops_per_token(self.length)


GEOMETRIES = [
    Geometry(kind, *sizes)
    for sizes in ((128, 2, 64, 64, 8), (256, 4, 64, 128, 8), (256, 8, 32, 512, 4), (512, 8, 16, 1024, 2))
    for kind in ("dense", "mixture")
]
TINY = [Geometry(kind, 32, 2, 8, 16, 2) for kind in ("dense", "mixture")]


@dataclass(frozen=True)
class Noise:
    """Random rows, made beforehand: the step is timed, not a generator."""

    length: int
    vocabulary: int = VOCABULARY
    prompt: int = 1

    def batch(self, split: str, step: int, rows: int, seed: int) -> Batch:
        """The same rows at every step."""
        tokens_BT = stream("noise", seed).integers(VOCABULARY, size=(rows, self.length))
        return Batch(tokens_BT, np.arange(self.length) > np.zeros((rows, 1)))


def ours(geometry: Geometry, device: Device, replicas: int, seconds: float) -> float:
    """Million tokens a second over all replicas, once warm."""
    recipe = Recipe(steps=100 * WINDOW, rows=geometry.rows, learning_rate=1e-3)
    seeds = list(range(max(1, replicas)))
    model = build(geometry.design, VOCABULARY, seeds if replicas else 0, device.name)
    step = Step(model, recipe, [1e-3] * len(seeds), device)
    progress = train(step, Noise(geometry.length + 1), recipe, seeds, device)
    next(progress)
    began, windows = time.perf_counter(), 0
    while time.perf_counter() - began < seconds and windows < 90:
        next(progress)
        windows += 1
    spent = time.perf_counter() - began
    return windows * WINDOW * geometry.rows * geometry.length * len(seeds) / spent / 1e6


WINDOW = 50  # steps between two looks at the clock


def theirs(geometry: Geometry, device: Device, seconds: float, balanced: bool = True) -> float:
    """Million tokens a second of transformers' Trainer; ``balanced``: a mixture's with its load-balancing loss."""
    import transformers

    common = {
        "hidden_size": geometry.width,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.width // 32,
        "num_key_value_heads": geometry.width // 32,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": geometry.length,
        "sliding_window": None,
    }
    if geometry.kind == "dense":
        config = transformers.MistralConfig(intermediate_size=2 * geometry.width, **common)
    else:
        config = transformers.MixtralConfig(
            intermediate_size=geometry.width,
            num_local_experts=8,
            num_experts_per_tok=2,
            output_router_logits=balanced,
            **common,
        )
        config._experts_implementation = "grouped_mm"
    model = transformers.AutoModelForCausalLM.from_config(config)
    rows = torch.from_numpy(stream("noise", 0).integers(VOCABULARY, size=(geometry.rows, geometry.length)))
    dataset = [{"input_ids": row, "labels": row} for row in rows] * 4096
    clock = _clock(seconds)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=geometry.rows,
            max_steps=4000,
            bf16=device.is_cuda,
            use_cpu=not device.is_cuda,
            torch_compile=device.is_cuda,
            optim="adamw_torch_fused",
            learning_rate=1e-3,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=device.is_cuda,
        )
        transformers.Trainer(model=model, args=arguments, train_dataset=dataset, callbacks=[clock]).train()
    return clock.steps * geometry.rows * geometry.length / clock.spent / 1e6


def _clock(seconds: float):
    """A Trainer callback that times the steps after the warm-up, and stops the Trainer when it has seen enough."""
    import transformers

    class Clock(transformers.TrainerCallback):
        steps, spent = 0, 0.0

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 20:
                _synchronize()
                self.began = time.perf_counter()
            elif state.global_step > 20 and time.perf_counter() - self.began > seconds:
                _synchronize()
                self.steps, self.spent = state.global_step - 20, time.perf_counter() - self.began
                control.should_training_stop = True

    return Clock()


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def peak_memory(row: dict, name: str) -> Iterator[None]:
    """Notes the most memory in use inside the block, in MB; on CUDA only."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if torch.cuda.is_available():
        row[f"{name}_megabytes"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)


def main() -> None:
    """Times every geometry and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/training_step.json"))
    parser.add_argument("--seconds", type=float, default=3.0, help="timed seconds for each number")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many of the geometries")
    parser.add_argument("--every", type=int, default=1, help="take one geometry in so many: 2 parts dense from mixture")
    parser.add_argument("--add", action="store_true", help="keep what the output file says of other geometries")
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    plain, fast = Device("cuda" if cuda else "cpu", False), Device("cuda" if cuda else "cpu", cuda)
    roof = ceiling(fast, Recipe(steps=1, rows=1, learning_rate=0.0))
    rows = json.loads(options.output.read_text())["results"]["rows"] if options.add else []
    for geometry in (GEOMETRIES if cuda else TINY)[options.skip :: options.every]:
        row: dict = dict(vars(geometry))
        with peak_memory(row, "plain"):
            row["plain"] = ours(geometry, plain, 0, options.seconds)
        with peak_memory(row, "graph"):
            row["graph"] = ours(geometry, fast, 0, options.seconds)
        with peak_memory(row, "stacked"):
            row["stacked"] = ours(geometry, fast, geometry.replicas, options.seconds)
        if not options.no_peer:
            with peak_memory(row, "trainer"):
                row["trainer"] = theirs(geometry, plain, options.seconds)
            if geometry.kind == "mixture":
                row["trainer_unbalanced"] = theirs(geometry, plain, options.seconds, balanced=False)
            fastest = max(row["trainer"], row.get("trainer_unbalanced", 0.0))
            row["ratio"] = max(row["graph"], row["stacked"]) / fastest
        row["mfu"] = max(row["graph"], row["stacked"]) * 1e6 * geometry.training_flops_per_token / roof
        rows = [other for other in rows if any(other[name] != value for name, value in vars(geometry).items())] + [row]
        print({name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()}, flush=True)
        results = {"unit": "million tokens a second", "ceiling_flops_per_second": roof, "rows": rows}
        write(options.output, results, "transformers", "triton")  # after each row: a lost machine loses one


if __name__ == "__main__":
    main()

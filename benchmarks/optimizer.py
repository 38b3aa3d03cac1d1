"""One AdamW step with clipping: ours in one pass, our plain operations compiled, and torch's fused kernel.

    PYTHONPATH=src python benchmarks/optimizer.py [--output FILE]

on a machine with a GPU. Each as a replayed graph, on random weights and gradients: of a small stack, whose many small
tensors wait for launches, and of one large model, which waits for its memory. torch's has one rate for all replicas and
clips their gradients as one; the others each replica's own.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _facts import write
from _timing import kernels, milliseconds

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import LanguageModel, Transformer
from parrotlab.training.compiler import compiled
from parrotlab.training.optimizer import AdamW
from parrotlab.training.recipe import Recipe

BYTES = 32
"""Of a parameter that a step has to move: four float32 numbers read, three written, the gradient read for its norm."""
RECIPE = Recipe(steps=1000, rows=1, learning_rate=1e-3)


@dataclass(frozen=True)
class Case:
    """A stack of mixtures, top-2, SwiGLU."""

    layers: int
    width: int
    experts: int
    replicas: int
    vocabulary: int

    def model(self, device: str) -> LanguageModel:
        """With weights of about the usual size."""
        design = Transformer(
            layers=self.layers,
            width=self.width,
            attention=Attention(heads=max(1, self.width // 64)),
            feedforward=Mixture(experts=self.experts),
            tied=True,
        )
        with torch.device(device), torch.no_grad():
            model = LanguageModel(design, self.vocabulary, (self.replicas,) if self.replicas > 1 else ())
            for weight in model.parameters():
                weight.normal_(std=self.width**-0.5)
        return model

    @property
    def parameters(self) -> int:
        """Of all replicas."""
        return sum(weight.numel() for weight in self.model("meta").parameters())


CASES = [Case(2, 32, 64, 8, 64), Case(20, 512, 64, 1, 32_000)]


def contenders(case: Case, device: str) -> dict[str, Callable[[], Callable[[], object]]]:
    """Each makes a model of its own, and what takes a step of it."""

    def ours(step: Callable[[AdamW], Callable]) -> Callable[[], object]:
        model = case.model(device)
        rates = torch.full(model.stack, RECIPE.learning_rate, device=device)
        optimizer, schedule = AdamW(model, RECIPE, rates), torch.ones((), device=device)
        gradients = [torch.randn_like(weight) for weight in model.parameters()]
        step_ = step(optimizer)
        return lambda: step_(gradients, schedule)

    def theirs() -> Callable[[], object]:
        weights = list(case.model(device).parameters())
        rate = torch.tensor(RECIPE.learning_rate, device=device)
        optimizer = torch.optim.AdamW(weights, lr=rate, betas=RECIPE.betas, fused=True, capturable=True)
        for weight in weights:
            weight.grad = torch.randn_like(weight)

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(weights, RECIPE.clip, foreach=True)
            optimizer.step()

        return step

    return {
        "one pass": lambda: ours(lambda optimizer: optimizer.step_),
        "torch fused": theirs,
        "compiled": lambda: ours(lambda optimizer: compiled(optimizer._plain_step_)),
    }


def measured(case: Case, name: str, device: str) -> dict[str, Any]:
    """Milliseconds, launches and speed of memory of one contender."""
    step = contenders(case, device)[name]()
    spent = milliseconds(step, 20)
    return {
        "milliseconds": spent,
        "launches": kernels(step).total(),
        "terabytes_per_second": BYTES * case.parameters / spent / 1e9,
    }


def main() -> None:
    """Times every case and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/optimizer.json"))
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))))
    parser.add_argument("--contenders", nargs="+", default=["one pass", "torch fused", "compiled"])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in (CASES[at] for at in options.cases):
        tensors = len(list(case.model("meta").parameters()))
        rows.append(dict(vars(case)) | {"parameters": case.parameters, "tensors": tensors})
        for name in options.contenders:
            rows[-1][name] = measured(case, name, "cuda")
            print(case, name, rows[-1][name], flush=True)
            write(options.output, {"unit": "milliseconds", "bytes_per_parameter": BYTES, "rows": rows}, "triton")
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

"""Tokens a second of one training step on one CPU core: ours, and transformers' in a plain loop.

    python benchmarks/cpu.py [--output FILE]

The peer is the same Mistral or Mixtral in float32 with torch's fused AdamW and clipping, forward, backward and step,
with no Trainer around it; of its attention and experts implementations, the one that is fastest at each size. All are
timed in turns, in seconds of one process that has one thread, and the fastest step of each counts: what else the
machine does comes and goes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the studies train on a CPU: a thread a process

import argparse
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from _facts import write

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer, build
from parrotlab.seeds import stream
from parrotlab.studies import study
from parrotlab.training.devices import Device
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step, Window

CPU = Device("cpu", fast_steps=False)
TURNS = 3
ATTENTIONS = ("sdpa", "eager")
EXPERTS = ("eager", "grouped_mm", "batched_mm")


@dataclass(frozen=True)
class Geometry:
    """A model of two layers and a batch; ``experts`` is 0 for a dense one. A token's two experts are as wide as it."""

    task: str
    rows: int
    length: int
    vocabulary: int
    width: int
    experts: int

    @property
    def design(self) -> Transformer:
        """The model, SwiGLU as in Mistral and Mixtral."""
        feedforward = Mixture(experts=self.experts) if self.experts else Dense(expansion=2.0)
        attention = Attention(heads=max(1, self.width // 32))
        return Transformer(layers=2, width=self.width, attention=attention, feedforward=feedforward)

    @property
    def tokens_BT(self) -> torch.Tensor:
        """One random batch, which every step sees: steps are timed, not generators."""
        rows = stream("noise", self.rows, self.length).integers(self.vocabulary, size=(self.rows, self.length + 1))
        return torch.from_numpy(rows)


def geometries() -> list[Geometry]:
    """The batch shapes of two studies, at sizes around theirs."""
    found = []
    for name, scale in (("phone_book", "laptop"), ("shortest_path", "gpu")):
        run = study.load(name).runs(scale)[0]
        shape = (name, run.recipe.rows, run.task.length - 1, run.task.vocabulary)
        found += [Geometry(*shape, width, experts) for width in (16, 32, 64, 128) for experts in (0, 8, 32)]
    return found


def ours(geometry: Geometry) -> Callable[[], None]:
    """Our step."""
    recipe = Recipe(steps=1_000, rows=geometry.rows, learning_rate=1e-3)
    step = Step(build(geometry.design, geometry.vocabulary, 0), recipe, [1e-3], CPU)
    tokens_SBT = geometry.tokens_BT[None]
    asked_SBT = torch.ones_like(tokens_SBT, dtype=torch.bool)
    step.begin(Window(tokens_SBT, asked_SBT, torch.ones(1)))

    def take() -> None:
        step.place.zero_()
        step.take()

    return take


def theirs(geometry: Geometry, attention: str, experts: str) -> Callable[[], None]:
    """Their step."""
    design = geometry.design
    common = {
        "hidden_size": design.width,
        "num_hidden_layers": design.layers,
        "num_attention_heads": design.attention.heads,
        "num_key_value_heads": design.attention.heads,
        "intermediate_size": design.feedforward.hidden(design.width),
        "vocab_size": geometry.vocabulary,
        "max_position_embeddings": geometry.length,
        "sliding_window": None,
        "use_cache": False,
        "attn_implementation": attention,
    }
    if geometry.experts:
        mixture = {"num_local_experts": geometry.experts, "num_experts_per_tok": 2, "output_router_logits": True}
        config = transformers.MixtralConfig(**common, **mixture, experts_implementation=experts)
    else:
        config = transformers.MistralConfig(**common)
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert model.config._attn_implementation == attention
    assert not geometry.experts or model.config._experts_implementation == experts
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens_BT = geometry.tokens_BT[:, :-1].contiguous()

    def take() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens_BT, labels=tokens_BT).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return take


def best(take: Callable[[], None], seconds: float) -> float:
    """Seconds of this process that its fastest step took, of as many as fit into ``seconds`` and at least two."""
    spent: list[float] = []
    while sum(spent) < seconds or len(spent) < 2:
        began = time.process_time()
        take()
        spent.append(time.process_time() - began)
    return min(spent)


def compare(geometry: Geometry, seconds: float) -> dict[str, object]:
    """Both sides' tokens a second, and the peer's fastest choice."""
    variants = {
        f"{attention} attention" + (f", {experts} experts" if geometry.experts else ""): (attention, experts)
        for attention, experts in itertools.product(ATTENTIONS, EXPERTS if geometry.experts else EXPERTS[:1])
    }
    steps = {"ours": ours(geometry)} | {name: theirs(geometry, *choice) for name, choice in variants.items()}
    spent = dict.fromkeys(steps, math.inf)
    for _ in range(TURNS):
        for name, take in steps.items():
            spent[name] = min(spent[name], best(take, seconds))
    tokens = geometry.rows * geometry.length
    fastest = min(variants, key=lambda name: spent[name])
    return vars(geometry) | {
        "tokens_per_second": tokens / spent["ours"],
        "transformers_tokens_per_second": tokens / spent[fastest],
        "transformers_variant": fastest,
        "ratio": spent[fastest] / spent["ours"],
    }


def main() -> None:
    """Times every geometry and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/cpu.json"))
    parser.add_argument("--seconds", type=float, default=0.06, help="timed seconds of each turn")
    parser.add_argument("--task", default="", help="only the batch shape of this task")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    rows = []
    for geometry in geometries():
        if options.task in ("", geometry.task):
            rows.append(compare(geometry, options.seconds))
            print(rows[-1], flush=True)
    write(options.output, {"threads": 1, "rows": rows}, "transformers")


if __name__ == "__main__":
    main()

"""The expert tax: training speed of a mixture over that of a dense model with the same active FLOPs, and a peer's.

    python benchmarks/expert_tax.py --output results/benchmarks/expert_tax.json

Ours are trained as studies train them (one captured, compiled step). The peer is transformers' Mixtral of the same
configuration at its fastest: bfloat16, each layer compiled, grouped_mm experts, fused AdamW, no load-balancing loss.
Where a model of all layers does not fit, all three get half as many, and the row says how many. ``--smoke`` does
everything on the CPU with tiny models.
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from _facts import write
from _pretrain_job import PowerLaw

from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import LanguageModel, Transformer
from parrotlab.training.devices import Device
from parrotlab.training.graph import captured
from parrotlab.training.loop import stage
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

HEAD = 64
"""Channels of a head."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A mixture, and its batch; SwiGLU as in Mixtral."""

    width: int
    experts: int
    active: int
    expansion: float
    layers: int
    rows: int
    length: int
    vocabulary: int

    @property
    def heads(self) -> int:
        """At least one."""
        return max(1, self.width // HEAD)

    def design(self, dense: bool) -> Transformer:
        """The mixture, or the dense model in which a token meets as many weights but for the router's."""
        feedforward = (
            Dense(expansion=self.active * self.expansion)
            if dense
            else Mixture(experts=self.experts, active=self.active, expansion=self.expansion)
        )
        return Transformer(
            layers=self.layers,
            width=self.width,
            attention=Attention(heads=self.heads),
            feedforward=feedforward,
            tied=True,
        )


def ours(geometry: Geometry, dense: bool, device: Device, seconds: float) -> float:
    """Tokens a second of the studies' trainer."""
    task = PowerLaw(geometry.vocabulary, geometry.length + 1)
    recipe = Recipe(steps=400, rows=geometry.rows, learning_rate=1e-3)
    step = Step(_random(geometry, dense, device), recipe, [recipe.learning_rate], device)
    step.begin(stage(task, recipe, range(1), [0], step, device))
    take = captured(step) if device.fast_steps else step.take

    def once() -> None:
        step.place.zero_()
        take()

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no CUDA graph")
        return _tokens_per_second(once, geometry, seconds)


def _random(geometry: Geometry, dense: bool, device: Device) -> LanguageModel:
    """A model with weights of the usual size, drawn on the device: billions of reproducible ones take minutes."""
    with torch.device(device.name), torch.no_grad():
        model = LanguageModel(geometry.design(dense), geometry.vocabulary)
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight.shape[-2] ** -0.5)
            else:
                weight.fill_(1.0)
        model.embedding_VD.normal_(std=geometry.width**-0.5)
    return model


def mixtral(geometry: Geometry, device: Device, seconds: float) -> float:
    """Tokens a second of transformers' Mixtral."""
    import transformers

    config = transformers.MixtralConfig(
        hidden_size=geometry.width,
        intermediate_size=round(geometry.expansion * geometry.width),
        num_hidden_layers=geometry.layers,
        num_attention_heads=geometry.heads,
        num_key_value_heads=geometry.heads,
        num_local_experts=geometry.experts,
        num_experts_per_tok=geometry.active,
        output_router_logits=False,  # its load-balancing loss breaks the compiled graph of each layer
        vocab_size=geometry.vocabulary,
        max_position_embeddings=geometry.length,
        sliding_window=None,
        tie_word_embeddings=True,
        use_cache=False,
    )
    config._experts_implementation = "grouped_mm"
    with torch.device(device.name):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model.train()
    if device.is_cuda:
        torch.compiler.reset()
        torch._dynamo.config.recompile_limit = max(8, 2 * geometry.layers)  # else later layers would go uncompiled
        for layer in model.model.layers:
            layer.forward = torch.compile(layer.forward, dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    batch = PowerLaw(geometry.vocabulary, geometry.length).batch("train", 0, geometry.rows, 0)
    tokens_BT = torch.from_numpy(batch.tokens_BT).long().to(device.name)

    def once() -> None:
        with torch.autocast(device.name, dtype=torch.bfloat16, enabled=device.is_cuda):
            loss = model(input_ids=tokens_BT, labels=tokens_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return _tokens_per_second(once, geometry, seconds)


def _tokens_per_second(once: Callable[[], None], geometry: Geometry, seconds: float) -> float:
    """Of steps that follow each other without a look at the clock, ten at a time, once warm."""
    for _ in range(3):
        once()
    _synchronize()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(10):
            once()
        steps += 10
        _synchronize()
    return steps * geometry.rows * geometry.length / (time.perf_counter() - began)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured(geometry: Geometry, device: Device, seconds: float, peer: bool) -> dict:
    """The three speeds of a geometry, at as many layers as all of them fit with; an error is noted in its place."""
    contenders: dict[str, Callable[[Geometry], float]] = {
        "mixture": lambda geometry: ours(geometry, False, device, seconds),
        "dense": lambda geometry: ours(geometry, True, device, seconds),
    }
    if peer:
        contenders["mixtral"] = lambda geometry: mixtral(geometry, device, seconds)
    while (
        device.is_cuda and geometry.layers > 1 and _bytes(geometry) > torch.cuda.get_device_properties(0).total_memory
    ):
        geometry = replace(geometry, layers=geometry.layers // 2)
    while True:
        row: dict = dict(vars(geometry))
        fits = True
        for name, contender in contenders.items():
            _clear()
            try:
                row[name] = contender(geometry)
            except Exception as error:
                fits = "out of memory" not in str(error)
                row[f"{name}_error"] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
            if device.is_cuda:
                row[f"{name}_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
            if not fits:
                break
        if fits or geometry.layers == 1:
            break
        geometry = replace(geometry, layers=geometry.layers // 2)
    for name, dense in (("mixture", False), ("dense", True)):
        flops = count(geometry.design(dense), geometry.vocabulary).training_flops_per_token(geometry.length)
        row[f"{name}_flops_per_token"] = flops
    if "mixture" in row and "dense" in row:
        row["expert_tax"] = row["dense"] / row["mixture"]
    if "mixture" in row and "mixtral" in row:
        row["times_mixtral"] = row["mixture"] / row["mixtral"]
    return row


def _bytes(geometry: Geometry) -> int:
    """Of the mixture's weights, gradients and moments, and the copy of all but gradients while the step is captured."""
    counts = count(geometry.design(dense=False), geometry.vocabulary)
    return 2 * (counts.weight_bytes + counts.optimizer_bytes) - counts.weight_bytes


def _clear() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def main() -> None:
    """Times every geometry and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/expert_tax.json"))
    parser.add_argument("--smoke", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--seconds", type=float, default=2.0, help="timed seconds for each number")
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--active", type=int, default=2)
    parser.add_argument("--expansion", type=float, default=1.0)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    options = parser.parse_args()
    if options.smoke:
        options.widths, options.experts, options.layers = [32], [4], 2
        options.rows, options.length, options.vocabulary, options.seconds = 2, 16, 64, 0.2
    elif not torch.cuda.is_available():
        parser.error("there is no CUDA device here: --smoke runs on the CPU")
    device = Device("cpu", False) if options.smoke else Device("cuda", True)
    fields = {name: getattr(options, name) for name in Geometry.__dataclass_fields__ if hasattr(options, name)}
    rows = []
    for width in options.widths:
        for experts in options.experts:
            geometry = Geometry(**fields | {"width": width, "experts": experts})
            rows.append(measured(geometry, device, options.seconds, not options.no_peer))
            print(rows[-1], flush=True)
            write(options.output, {"unit": "tokens a second", "rows": rows}, "transformers", "triton")
    print("width experts layers  mixture    dense  mixtral (ktok/s)  expert tax  times mixtral")
    for row in rows:
        speeds = " ".join(f"{row.get(name, float('nan')) / 1e3:8.1f}" for name in ("mixture", "dense", "mixtral"))
        ratios = [row.get(name, float("nan")) for name in ("expert_tax", "times_mixtral")]
        print(
            "{width:5} {experts:7} {layers:6} ".format(**row)
            + f"{speeds}           {ratios[0]:10.2f} {ratios[1]:14.2f}"
        )


if __name__ == "__main__":
    main()

"""The three models of ``expert_tax.py``, and their speeds in one process, one model after the other."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from _pretrain_job import PowerLaw
from _workers import line

from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import LanguageModel, Transformer
from parrotlab.training.devices import Device
from parrotlab.training.graph import _capture
from parrotlab.training.loop import stage
from parrotlab.training.profile import ceiling
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

HEAD = 64
"""Channels of a head."""
FEW_WORDS = 256
"""A vocabulary whose logits need little memory."""
FILLED = 0.9
"""Of a GPU's memory: a model that is expected to need more gets fewer layers at once."""


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
    def tokens(self) -> int:
        """Of one step."""
        return self.rows * self.length

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
    take = _capture(step) if device.fast_steps else step.take  # which, unlike ``captured``, saves no weights before

    def once() -> None:
        step.place.zero_()
        take()

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
    return steps * geometry.tokens / (time.perf_counter() - began)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Contest:
    """A mixture, the dense model of its active FLOPs, and transformers' Mixtral, at one geometry after the other."""

    def __init__(self, device: Device, seconds: float, peer: bool) -> None:
        self.device, self.seconds, self.peer = device, seconds, peer
        self.ceiling = ceiling(device, Recipe(steps=1, rows=1, learning_rate=1e-3))

    def compile(self, geometry: Geometry) -> None:
        """Fills the compiler's caches: a layer is compiled once, however many there are."""
        geometry = replace(geometry, layers=min(2, geometry.layers))
        for dense in (False, True):
            ours(geometry, dense, self.device, seconds=0.0)
            _clear()
        if self.peer:  # its logits, of all tokens at once, are not compiled, and many processes share a GPU now
            mixtral(replace(geometry, vocabulary=FEW_WORDS), self.device, seconds=0.0)

    def measured(self, geometry: Geometry) -> dict:
        """The speeds, at as many layers as all models fit with; an error is noted in its place."""
        while geometry.layers > 1 and self.device.is_cuda and self._expected_bytes(geometry) > self._memory_bytes():
            geometry = replace(geometry, layers=geometry.layers // 2)
        row = self._speeds(geometry)
        while geometry.layers > 1 and any("out of memory" in str(value) for value in row.values()):
            geometry = replace(geometry, layers=geometry.layers // 2)
            row = self._speeds(geometry)
        return row | self._derived(geometry, row)

    def _speeds(self, geometry: Geometry) -> dict:
        contenders: dict[str, Callable[[], float]] = {
            "mixture": lambda: ours(geometry, False, self.device, self.seconds),
            "dense": lambda: ours(geometry, True, self.device, self.seconds),
        }
        if self.peer:
            contenders["mixtral"] = lambda: mixtral(geometry, self.device, self.seconds)
        row: dict = asdict(geometry)
        for name, contender in contenders.items():
            _clear()
            try:
                row[name] = contender()
            except Exception as error:
                row[f"{name}_error"] = line(error)
            if self.device.is_cuda:
                row[f"{name}_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
            if "out of memory" in row.get(f"{name}_error", ""):
                break
        _clear()
        return row

    def _derived(self, geometry: Geometry, row: dict) -> dict:
        told: dict = {"tokens_per_step": geometry.tokens, "ceiling_flops_per_second": self.ceiling}
        for name, dense in (("mixture", False), ("dense", True)):
            flops = count(geometry.design(dense), geometry.vocabulary).training_flops_per_token(geometry.length)
            told[f"{name}_flops_per_token"] = flops
            if name in row:
                told[f"{name}_mfu"] = row[name] * flops / self.ceiling
        for ratio, other in (("mixture_over_dense", "dense"), ("times_mixtral", "mixtral")):
            if "mixture" in row and other in row:
                told[ratio] = row["mixture"] / row[other]
        return told

    def _expected_bytes(self, geometry: Geometry) -> int:
        """Of the mixture in training, with its matrices in bfloat16 too; and of the peer's logits in float32, their
        softmax and their gradient, of all tokens at once.
        """
        counts = count(geometry.design(dense=False), geometry.vocabulary)
        model = counts.weight_bytes + counts.optimizer_bytes + counts.weight_bytes // 2
        logits = self.peer * 12 * geometry.tokens * geometry.vocabulary
        return model + counts.activation_bytes(geometry.tokens, 2) + logits

    @staticmethod
    def _memory_bytes() -> float:
        return FILLED * torch.cuda.get_device_properties(0).total_memory


def _clear() -> None:
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

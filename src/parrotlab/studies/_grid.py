"""The grid of models that a study compares: a dense ladder, and mixtures of growing E at fixed active parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parrotlab.evals.evaluation import Evaluation
from parrotlab.model.attention import Attention
from parrotlab.model.family import dense_ladder, mixtures
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.transformer import Transformer
from parrotlab.run import Run
from parrotlab.tasks.task import Task
from parrotlab.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Designs, learning rates and seeds of a scale, and how long each run trains."""

    layers: int
    heads: int
    widths: tuple[int, ...]
    """Of the dense ladder; it should bracket the mixtures' scores."""
    width: int
    """Of the mixtures, and of the dense model whose active parameters they match."""
    experts: tuple[int, ...]
    rates: tuple[float, ...]
    """Learning rates at width 32; at others they fall with the root of the width."""
    seeds: tuple[int, ...]
    epochs: int
    rows: int
    """Of a batch."""
    gated: bool = True
    """SwiGLU, as in Mistral and Mixtral, rather than GELU."""
    tied: bool = False
    """The head is the embedding."""

    def designs(self, vocabulary: int) -> tuple[Transformer, ...]:
        """The dense hidden width is 2d, so that an expert's is about d, as in the paper: the two experts of a token
        are each a little narrower, to make room for the router."""
        base = Transformer(
            layers=self.layers,
            width=self.width,
            attention=Attention(heads=self.heads),
            feedforward=Dense(expansion=2.0, gated=self.gated),
            tied=self.tied,
        )
        return (*dense_ladder(base, widths=self.widths), *mixtures(base, experts=self.experts, vocabulary=vocabulary))

    def runs(
        self, task: Task, examples: int, evaluations: Sequence[Evaluation], weight_decay: float = 0.1
    ) -> tuple[Run, ...]:
        """Every design at every learning rate and seed, on ``examples`` training examples."""
        return tuple(
            Run(
                task=task,
                model=design,
                recipe=Recipe(
                    steps=examples * self.epochs // self.rows,
                    rows=self.rows,
                    learning_rate=float(f"{rate * (32 / design.width) ** 0.5:.3g}"),
                    weight_decay=weight_decay,
                ),
                evaluations=tuple(evaluations),
                seed=seed,
            )
            for design in self.designs(task.vocabulary)
            for rate in self.rates
            for seed in self.seeds
        )

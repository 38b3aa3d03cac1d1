"""What the two pre-training studies share: their models, their recipe and how they are judged, at each scale.

The score is bits per byte of held-out documents, of which less is better: it does not depend on the tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from parrotlab.analysis.points import Score
from parrotlab.evals.loss import Loss
from parrotlab.evals.perplexity import Perplexity
from parrotlab.model import paper
from parrotlab.run import Run
from parrotlab.studies._claims import grows_with_experts, worth_less_than_dense
from parrotlab.studies._grid import Grid
from parrotlab.studies.study import Claim, Scale
from parrotlab.tasks.language import Language
from parrotlab.text.mixtures import TextMixture
from parrotlab.training.recipe import Recipe

SCORE = Score(
    evaluation="perplexity",
    split="test",
    metric="bits_per_byte",
    label="bits per byte of held-out text",
    lower_is_better=True,
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a corpus is read at a scale."""

    vocabulary: int
    length: int
    """Tokens of a row; the model reads one fewer."""
    steps: int
    rows: int
    documents: int
    """Held-out ones that are judged, of each source."""
    tokens: int
    """Of these documents, at most; a single novel would outweigh all else."""

    @property
    def trained_tokens(self) -> int:
        """Of the whole training."""
        return self.steps * self.rows * (self.length - 1)


READINGS: dict[Scale, Reading] = {
    "smoke": Reading(vocabulary=257, length=33, steps=20, rows=8, documents=4, tokens=400),
    "laptop": Reading(vocabulary=257, length=129, steps=1_000, rows=16, documents=100, tokens=10_000),
    "gpu": Reading(vocabulary=8_192, length=513, steps=800, rows=16, documents=200, tokens=50_000),
    # OLMoE's batch and length (arXiv:2409.02060); 65 billion tokens are the paper's.
    "paper": Reading(
        vocabulary=paper.VOCABULARY,
        length=4_097,
        steps=round(65e9 / (1_024 * 4_096)),
        rows=1_024,
        documents=1_000,
        tokens=1_000_000,
    ),
}

MATCHED = Grid(
    layers=6,
    heads=4,
    widths=(192, 256, 384, 512, 640),
    width=256,
    experts=(8, 16, 32, 64),
    rates=(5e-3,),
    seeds=(0, 1),
    epochs=1,
    rows=READINGS["gpu"].rows,
    gated=False,
    tied=True,
)
GRIDS: dict[Scale, Grid] = {
    "smoke": replace(MATCHED, layers=1, heads=1, widths=(8, 16), width=16, experts=(2, 4), rows=READINGS["smoke"].rows),
    "laptop": replace(
        MATCHED, layers=2, heads=2, widths=(16, 32, 64, 96), width=32, experts=(8, 16, 32), rows=READINGS["laptop"].rows
    ),
    "gpu": replace(MATCHED, rates=(1.25e-3, 2.5e-3)),
}
"""Matched models of the paper's geometry; its own family, which is not matched, is trained at its own scale alone."""

PAPER_RATE = 4e-4
"""OLMoE's (arXiv:2409.02060); the paper's is unknown."""

NOTES = (
    "The paper's mixture of texts, batch, length of rows, learning rates and vocabulary are unknown. Where it reads 65 "
    f"billion tokens, the gpu scale reads {READINGS['gpu'].trained_tokens / 1e6:.1f} million: models are compared "
    "early in training, on texts of a few hundred megabytes. Learning rates fall with the root of the width: at the "
    "gpu scale the better of two (1.25e-3 and 2.5e-3 at width 32), at the laptop's 5e-3 alone, which is too high for "
    "the gpu scale's models. The paper scale is a plan: the paper's 17 models, "
    "not matched in active parameters, with OLMoE's batch, length of rows and learning rate (4e-4)."
)


def runs(scale: Scale, corpus: str, mixture: TextMixture | None) -> tuple[Run, ...]:
    """Every design at every seed, on a corpus of the mixture's parts; None is all parts that there are."""
    reading = READINGS[scale]
    task = Language(
        corpus=corpus,
        vocabulary=reading.vocabulary,
        length=reading.length,
        weights=mixture.weights() if mixture else (),
    )
    evaluations = (
        Perplexity(split="test", documents=reading.documents, tokens=reading.tokens),
        Loss(split="test", count=500),
        Loss(split="train", count=500),
    )
    if scale != "paper":
        return GRIDS[scale].runs(task, reading.steps * reading.rows, evaluations)
    recipe = Recipe(steps=reading.steps, rows=reading.rows, learning_rate=PAPER_RATE)
    return tuple(
        Run(task=task, model=design, recipe=recipe, evaluations=evaluations, seed=0) for design in paper.family()
    )


def claims(study: str) -> tuple[Claim, ...]:
    """What other work says of the loss; the paper's own claims are about downstream tasks, which no loss decides."""
    source = "arXiv 2605.13769, of models below 25M parameters"
    return (
        Claim(
            says="With the active parameters fixed, a mixture has a lower loss than a dense model; here: the lower, "
            "the more experts.",
            source=source,
            judge=grows_with_experts(study, "Bits per byte of held-out text"),
            of_the_paper=False,
        ),
        Claim(
            says="With the total parameters fixed, a mixture has a higher loss than a dense model.",
            source=source,
            judge=worth_less_than_dense(study),
            of_the_paper=False,
        ),
    )

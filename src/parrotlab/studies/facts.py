"""Do experts buy knowledge? Real facts, asked without the book (the paper's world knowledge, in small)."""

from __future__ import annotations

from parrotlab.analysis.points import Score
from parrotlab.evals.bits import Bits
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.loss import Loss
from parrotlab.run import Run
from parrotlab.studies._claims import follows_total, grows_with_experts
from parrotlab.studies._grid import Grid
from parrotlab.studies.study import Claim, Scale, Study
from parrotlab.tasks.facts import Facts

TASKS: dict[Scale, Facts] = {
    "smoke": Facts(file="sample", entries=32),
    "laptop": Facts(file="trex_pararel", entries=2_000),
    "gpu": Facts(file="trex_pararel", entries=20_000),
    "paper": Facts(file="geonames_cities5000", entries=60_000),
}

GRIDS: dict[Scale, Grid] = {
    "smoke": Grid(
        layers=1, heads=1, widths=(8, 16), width=16, experts=(2, 4), rates=(8e-3,), seeds=(0, 1), epochs=5, rows=16
    ),
    "laptop": Grid(
        layers=2,
        heads=1,
        widths=(12, 16, 24, 32, 48),
        width=16,
        experts=(4, 8, 16),
        rates=(8e-3,),
        seeds=(0, 1),
        epochs=40,
        rows=100,
    ),
    "gpu": Grid(
        layers=4,
        heads=4,
        widths=(48, 64, 96, 128, 192, 256),
        width=64,
        experts=(8, 16, 32, 64),
        rates=(4e-3, 8e-3),
        seeds=(0, 1, 2),
        epochs=100,
        rows=500,
    ),
    "paper": Grid(
        layers=12,
        heads=16,
        widths=(192, 256, 384, 512, 768, 1024, 1536),
        width=256,
        experts=(8, 16, 32, 64),
        rates=(2e-3, 4e-3, 8e-3),
        seeds=(0, 1, 2),
        epochs=200,
        rows=1_000,
    ),
}


def runs(scale: Scale) -> tuple[Run, ...]:
    """Every design at every learning rate and seed."""
    task = TASKS[scale]
    evaluations = (
        ExactMatch(split="train", count=task.entries),
        ExactMatch(split="test", count=task.entries),
        Bits(split="train", count=task.entries),
        Loss(split="train", count=task.entries),
        Loss(split="test", count=task.entries),
    )
    # Weight decay takes away what a model is asked to keep.
    return GRIDS[scale].runs(task, task.entries, evaluations, weight_decay=0.0)


STUDY = Study(
    question="Do experts buy knowledge?",
    runs=runs,
    score=Score(evaluation="bits", split="train", metric="bits_memorized", label="bits memorized"),
    claims=(
        Claim(
            says="With the active parameters fixed, more experts keep improving memorization: here, of real facts.",
            source="abstract",
            judge=grows_with_experts("facts", "Bits memorized"),
        ),
        Claim(
            says="Mixtures match dense models of equal total parameters on world knowledge.",
            source="abstract, figure 1a",
            judge=follows_total("facts"),
        ),
    ),
    notes=(
        "The paper asks pre-trained models; here models see the facts alone, as characters, and are asked for what "
        "they saw. An answer that its relation makes likely counts fewer bits. Held-out facts are asked as a control."
    ),
)

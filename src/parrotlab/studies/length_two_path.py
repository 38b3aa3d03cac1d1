"""Do experts buy one step of reasoning? Is there a path of length two, in models of one layer (theorem 3.2's task)."""

from __future__ import annotations

from parrotlab.analysis.points import Score
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.loss import Loss
from parrotlab.run import Run
from parrotlab.studies._claims import follows_active
from parrotlab.studies._grid import Grid
from parrotlab.studies.study import Claim, Scale, Study
from parrotlab.tasks.length_two_path import LengthTwoPath

TASKS: dict[Scale, LengthTwoPath] = {
    "smoke": LengthTwoPath(vertices=8, encoding="split", train_examples=256),
    "laptop": LengthTwoPath(vertices=12, encoding="split", train_examples=100_000),
    "gpu": LengthTwoPath(vertices=24, encoding="split", train_examples=500_000),
    "paper": LengthTwoPath(vertices=64, encoding="split", train_examples=1_000_000),
}
QUESTIONS = 2_000
"""Held-out graphs asked."""

GRIDS: dict[Scale, Grid] = {
    "smoke": Grid(
        layers=1, heads=1, widths=(8, 16), width=16, experts=(2, 4), rates=(5e-3,), seeds=(0, 1), epochs=1, rows=32
    ),
    "laptop": Grid(
        layers=1,
        heads=1,
        widths=(8, 12, 16, 24, 32),
        width=12,
        experts=(4, 8, 16),
        rates=(5e-3,),
        seeds=(0, 1),
        epochs=1,
        rows=128,
    ),
    "gpu": Grid(
        layers=1,
        heads=1,
        widths=(16, 32, 64, 128),
        width=32,
        experts=(4, 16, 32),
        rates=(2.5e-3, 5e-3),
        seeds=(0, 1, 2),
        epochs=4,
        rows=512,
    ),
    "paper": Grid(
        layers=1,
        heads=1,
        widths=(16, 32, 64, 128, 256),
        width=32,
        experts=(4, 16, 64),
        rates=(1e-3, 2.5e-3, 5e-3),
        seeds=(0, 1, 2, 3, 4),
        epochs=10,
        rows=512,
    ),
}


def runs(scale: Scale) -> tuple[Run, ...]:
    """Every design at every learning rate and seed."""
    task = TASKS[scale]
    evaluations = (
        ExactMatch(split="test", count=QUESTIONS),
        ExactMatch(split="train", count=QUESTIONS),
        Loss(split="test", count=QUESTIONS),
        Loss(split="train", count=QUESTIONS),
    )
    return GRIDS[scale].runs(task, task.train_examples, evaluations)


STUDY = Study(
    question="Do experts buy one step of reasoning?",
    runs=runs,
    score=Score(evaluation="exact_match", split="test", metric="accuracy", label="right answers"),
    claims=(
        Claim(
            says="Some graph problems no number of experts of a given width can solve, while a wider dense model can.",
            source="theorems 3.2 and 3.3",
            judge=follows_active("length_two_path"),
        ),
    ),
    notes=(
        "Half of the answers are yes, so a guess is right half of the time. The paper states theorems on this task and "
        "trains nothing on it; that its mixtures should track active parameters here is our reading of them."
    ),
)

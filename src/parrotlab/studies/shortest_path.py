"""Do experts buy reasoning? Shortest paths in random graphs that no run has seen (the paper's figure 4b)."""

from __future__ import annotations

from dataclasses import replace

from parrotlab.analysis.points import Score
from parrotlab.evals.elsewhere import Elsewhere
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.loss import Loss
from parrotlab.evals.valid_path import ValidPath
from parrotlab.run import Run
from parrotlab.studies._claims import follows_active, grows_with_experts, worth_more_than
from parrotlab.studies._grid import Grid
from parrotlab.studies.study import Claim, Scale, Study
from parrotlab.tasks.shortest_path import ShortestPath

TASKS: dict[Scale, ShortestPath] = {
    "smoke": ShortestPath(vertices=5, edge_probability=0.4, max_hops=3, train_examples=256, spare_labels=1),
    "laptop": ShortestPath(vertices=6, mean_degree=2.0, max_hops=2, train_examples=200_000),
    "gpu": ShortestPath(vertices=12, mean_degree=2.5, max_hops=4, train_examples=500_000, spare_labels=2),
    "paper": ShortestPath(vertices=30, edge_probability=0.1, max_hops=8, train_examples=1_000_000, spare_labels=4),
}
QUESTIONS = 2_000
"""Held-out graphs asked; 1,000 in the paper."""

GRIDS: dict[Scale, Grid] = {
    "smoke": Grid(
        layers=1, heads=1, widths=(8, 16), width=16, experts=(2, 4), rates=(5e-3,), seeds=(0, 1), epochs=1, rows=32
    ),
    "laptop": Grid(
        layers=2,
        heads=4,
        widths=(8, 16, 24, 32),
        width=16,
        experts=(8, 32),
        rates=(5e-3,),
        seeds=(0, 1, 2),
        epochs=1,
        rows=64,
    ),
    "gpu": Grid(
        layers=4,
        heads=4,
        widths=(16, 24, 32, 48, 64, 96),
        width=32,
        experts=(8, 32, 64),
        rates=(2.5e-3, 5e-3),
        seeds=(0, 1, 2, 3),
        epochs=6,
        rows=128,
    ),
    "paper": Grid(
        layers=12,
        heads=16,
        widths=(192, 256, 384, 512, 768, 1024),
        width=256,
        experts=(8, 16, 32, 64),
        rates=(1e-3, 2.5e-3, 5e-3),
        seeds=(0, 1, 2),
        epochs=10,
        rows=512,
    ),
}


def runs(scale: Scale) -> tuple[Run, ...]:
    """Every design at every learning rate and seed; with a spare label, also asked about graphs of one vertex more."""
    task = TASKS[scale]
    valid = ValidPath(split="test", count=QUESTIONS)
    elsewhere: tuple[Elsewhere, ...] = ()
    if task.spare_labels:
        larger = replace(task, vertices=task.vertices + 1, spare_labels=task.spare_labels - 1)
        elsewhere = (Elsewhere(task=larger, evaluation=valid, part=f"vertices={larger.vertices}"),)
    evaluations = (
        valid,
        *elsewhere,
        ExactMatch(split="test", count=QUESTIONS),
        ExactMatch(split="train", count=QUESTIONS),
        Loss(split="test", count=QUESTIONS),
        Loss(split="train", count=QUESTIONS),
    )
    return GRIDS[scale].runs(task, task.train_examples, evaluations)


STUDY = Study(
    question="Do experts buy reasoning?",
    runs=runs,
    score=Score(evaluation="valid_path", split="test", metric="accuracy", label="valid shortest paths"),
    claims=(
        Claim(
            says="Shortest-path accuracy tracks active parameters.",
            source="figure 4b",
            judge=follows_active("shortest_path"),
        ),
        Claim(
            says="At fixed active parameters it has a small positive slope in the number of experts.",
            source="figure 4b",
            judge=grows_with_experts("shortest_path", "Valid shortest paths"),
        ),
        Claim(
            says="Experts improve memorization more than reasoning.",
            source="title",
            judge=worth_more_than("phone_book", "shortest_path"),
        ),
    ),
    notes=(
        "The paper trains on 10^6 graphs and asks about 10^3 held-out ones of the same distribution; its number of "
        "vertices, edge probability and serialization are unknown. Any shortest path counts, not the label alone. "
        "Graphs of one vertex more than trained on are asked too. Learning rates as in the phone book's study."
    ),
)

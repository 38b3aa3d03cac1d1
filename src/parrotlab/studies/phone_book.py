"""Do experts buy memory? Names and numbers that can only be known by heart (the paper's figure 4a).

Dense models of growing width against mixtures of growing E that activate as many parameters as one of them. Each
run trains on one book well above the smaller models' capacity, so that the bits it holds are its capacity.
"""

from __future__ import annotations

from parrotlab.analysis.points import Score
from parrotlab.evals.bits import Bits
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.loss import Loss
from parrotlab.run import Run
from parrotlab.studies._claims import follows_total, grows_with_experts
from parrotlab.studies._grid import Grid
from parrotlab.studies.study import Claim, Scale, Study
from parrotlab.tasks.phone_book import PhoneBook

ENTRIES: dict[Scale, tuple[int, ...]] = {
    "smoke": (64,),
    "laptop": (2_000,),
    "gpu": (40_000,),
    "paper": (100_000, 500_000, 1_000_000, 1_500_000, 2_000_000),  # for the paper's measure, the largest book recalled
}

GRIDS: dict[Scale, Grid] = {
    "smoke": Grid(
        layers=1, heads=1, widths=(8, 16), width=16, experts=(2, 4), rates=(8e-3,), seeds=(0, 1), epochs=5, rows=32
    ),
    "laptop": Grid(
        layers=2,
        heads=1,
        widths=(12, 16, 24, 32, 48),
        width=16,
        experts=(4, 8, 16, 32),
        rates=(8e-3,),
        seeds=(0, 1),
        epochs=100,
        rows=125,
    ),
    "gpu": Grid(
        layers=4,
        heads=2,
        widths=(32, 48, 64, 96, 128),
        width=32,
        experts=(4, 8, 16, 32, 64),
        rates=(1.25e-3, 2.5e-3, 5e-3),
        seeds=(0, 1, 2, 3),
        epochs=120,
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
        epochs=100,
        rows=2_000,
    ),
}


def runs(scale: Scale) -> tuple[Run, ...]:
    """Every book, design, learning rate and seed; each seed has a book of its own."""
    return tuple(run for entries in ENTRIES[scale] for run in _runs_on(PhoneBook(entries=entries), GRIDS[scale]))


def _runs_on(book: PhoneBook, grid: Grid) -> tuple[Run, ...]:
    some, unknown = min(book.entries, 20_000), min(book.entries, 2_000)  # bits need the whole book, the others do not
    evaluations = (
        ExactMatch(split="train", count=some),
        ExactMatch(split="test", count=unknown),
        Bits(split="train", count=book.entries),
        Loss(split="train", count=some),
        Loss(split="test", count=unknown),
    )
    # Weight decay takes away what a model is asked to keep.
    return grid.runs(book, book.entries, evaluations, weight_decay=0.0)


STUDY = Study(
    question="Do experts buy memory?",
    runs=runs,
    score=Score(evaluation="bits", split="train", metric="bits_memorized", label="bits memorized"),
    claims=(
        Claim(
            says="With the active parameters fixed, more experts keep improving memorization.",
            source="abstract",
            judge=grows_with_experts("phone_book", "Bits memorized"),
        ),
        Claim(
            says="Phone-book accuracy tracks total parameters: the families' curves overlap on that axis.",
            source="figure 4a",
            judge=follows_total("phone_book"),
        ),
    ),
    notes=(
        "The paper's books hold 10^5 to 2·10^6 entries; its name and number lengths are unknown, ours are 5 letters "
        "and 8 digits. The gpu and paper scales take the best of several learning rates, by training loss; the laptop "
        "scale has one, found beforehand at width 32 and scaled with the root of the width."
    ),
)

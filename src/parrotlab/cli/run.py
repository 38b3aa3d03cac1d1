"""``parrotlab run``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from parrotlab.cli._plans import CORES


def run(
    studies: Positional[tuple[str, ...]],
    *,
    scale: str = "laptop",
    store: Path = Path("results"),
    workers: int = CORES,
    device: str = "auto",
    retry: bool = False,
    keep_weights: bool = False,
    track: Literal["none", "tensorboard", "wandb", "trackio"] = "none",
) -> int:
    """Train and judge the runs of studies. What the store has is skipped, what was interrupted goes on.

    Args:
        studies: Names of studies, or all.
        scale: smoke, laptop, gpu or paper.
        store: The folder of results.
        workers: Processes side by side on a CPU, of one thread each; a GPU is shared by three, or ten under MPS.
        device: cpu, cuda, or auto for CUDA where there is one.
        retry: Run failed runs again.
        keep_weights: Store trained weights too, in float32; export needs them.
        track: Show the runs elsewhere too: tensorboard, in the store's folder tracking; wandb, also offline with
            WANDB_MODE=offline; trackio. Results are the store's files, whatever a tracker shows.
    """
    from parrotlab.cli._plans import check_corpora, chosen, planned
    from parrotlab.cli._train import train
    from parrotlab.results.store import Store

    plans = planned(chosen(studies), scale)
    check_corpora(plans)
    runs = [run for runs in plans.values() for run in runs]
    return train(runs, Store(store), device, workers, retry, keep_weights, track)

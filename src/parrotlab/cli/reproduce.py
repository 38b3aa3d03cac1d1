"""``parrotlab reproduce``."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from parrotlab.cli._plans import CORES


def reproduce(
    studies: Positional[tuple[str, ...]] = ("phone_book", "shortest_path"),
    *,
    scale: str = "laptop",
    store: Path = Path("results/laptop"),
    output: Path | None = None,
    workers: int = CORES,
) -> int:
    """Do experts buy memory and not reasoning? Train both families on two tasks, and write the report.

    Args:
        studies: Names of studies.
        scale: smoke, laptop, gpu or paper.
        store: The folder of results.
        output: The folder that receives the report; None for report inside the store.
        workers: Processes side by side on a CPU, of one thread each.
    """
    from parrotlab.cli.report import report
    from parrotlab.cli.run import run

    code = run(studies, scale=scale, store=store, workers=workers)
    if (code == 1 and not store.is_dir()) or code == 130:
        return code
    return report(studies, scale=scale, store=store, output=output) or code

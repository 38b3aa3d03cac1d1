"""``parrotlab studies``."""

from __future__ import annotations

from parrotlab.cli._show import show_json, show_table


def studies(*, json: bool = False) -> int:
    """List the studies: their questions, and how many runs each scale has.

    Args:
        json: Print JSON.
    """
    from parrotlab.cli._plans import ALL, chosen
    from parrotlab.studies.study import SCALES

    rows = [
        {"study": name, "question": study.question} | {scale: len(study.runs(scale)) for scale in SCALES}
        for name, study in chosen([ALL]).items()
    ]
    (show_json if json else show_table)(rows)
    return 0

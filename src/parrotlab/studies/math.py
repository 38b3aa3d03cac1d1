"""What do experts buy in mathematics? Pre-training on its texts, judged by its loss on held-out documents.

The second of the paper's two pre-training families: mathematical texts, exercises, and the training sets of the tasks
on which its figure 1c judges the models.
"""

from __future__ import annotations

from parrotlab.run import Run
from parrotlab.studies import _language
from parrotlab.studies.study import Scale, Study
from parrotlab.text.mixtures import LOCAL_MATH, PAPER_MATH, TextMixture

CORPORA: dict[Scale, tuple[str, TextMixture | None]] = {
    "smoke": ("sample_math", None),
    "laptop": ("local_math_bytes", LOCAL_MATH),
    "gpu": ("local_math", LOCAL_MATH),
    "paper": ("paper_math", PAPER_MATH),
}
GRIDS = _language.GRIDS


def runs(scale: Scale) -> tuple[Run, ...]:
    """Every design at every seed."""
    return _language.runs(scale, *CORPORA[scale])


STUDY = Study(
    question="What do experts buy in mathematics?",
    runs=runs,
    score=_language.SCORE,
    claims=_language.claims("math"),
    notes=(
        f"{_language.NOTES} Corpora are made by `parrotlab prepare local_math --vocabulary 8192` for the gpu scale "
        "and `parrotlab prepare local_math --tokenizer bytes --name local_math_bytes` for the laptop's."
    ),
)

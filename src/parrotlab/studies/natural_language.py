"""What do experts buy in language? Pre-training on text, judged by its loss on held-out documents.

The first of the paper's two pre-training families: one mixture of texts, and the training sets of the tasks on which
its figures 1a and 1b judge the models.
"""

from __future__ import annotations

from parrotlab.run import Run
from parrotlab.studies import _language
from parrotlab.studies.study import Scale, Study
from parrotlab.text.mixtures import LOCAL_LANGUAGE, PAPER_LANGUAGE, TextMixture

CORPORA: dict[Scale, tuple[str, TextMixture | None]] = {
    "smoke": ("sample_language", None),
    "laptop": ("local_language_bytes", LOCAL_LANGUAGE),
    "gpu": ("local_language", LOCAL_LANGUAGE),
    "paper": ("paper_language", PAPER_LANGUAGE),
}
GRIDS = _language.GRIDS


def runs(scale: Scale) -> tuple[Run, ...]:
    """Every design at every seed."""
    return _language.runs(scale, *CORPORA[scale])


STUDY = Study(
    question="What do experts buy in language?",
    runs=runs,
    score=_language.SCORE,
    claims=_language.claims("natural_language"),
    notes=(
        f"{_language.NOTES} Corpora are made by `parrotlab prepare local_language --vocabulary 8192` for the gpu scale "
        "(of the two collections of novels, 280 and 260 chapters: `--documents english_novels_100=280 "
        "eltec_english_novels=260`) and by `parrotlab prepare local_language --tokenizer bytes --name "
        "local_language_bytes` for the laptop's."
    ),
)

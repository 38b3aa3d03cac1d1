"""Scores: what an answer is worth, computed from what was stored of it and from no model.

Every score lies between 0 and 1 and is the mean over items in the end. Model text is compared, and never executed.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

from parrotlab.evals.answers import Answer, Kind
from parrotlab.evals.final_answer import flexible, strict

Mode = Literal["strict", "flexible", "normalised"]
MODES: tuple[Mode, ...] = get_args(Mode)

METRIC: dict[Mode, dict[Kind, str]] = {
    "strict": {"choice": "acc", "words": "exact_match", "math": "strict"},
    "flexible": {"choice": "acc", "words": "f1", "math": "exact_match"},
    "normalised": {"choice": "acc_norm", "words": "f1", "math": "exact_match"},
}
"""Which score a mode reads of each kind of item: ``flexible`` is what most papers report, ``normalised`` divides a
choice's log-likelihood by its length."""

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation + "‘’´`“”")


def scores(answer: Answer) -> dict[str, float]:
    """Every score of one answer, by metric; which ones depends on its kind."""
    if answer.kind == "choice":
        return choice_scores(answer.loglikelihoods, answer.choice_bytes, answer.gold)
    if answer.kind == "words":
        return words_scores(answer.text, answer.gold)
    if answer.kind == "math":
        return math_scores(answer.text, answer.gold)
    raise ValueError(f"item {answer.item} of {answer.benchmark} is of kind {answer.kind!r}: {get_args(Kind)} are known")


def score_all(answers: Iterable[Answer], workers: int = 1) -> list[dict[str, float]]:
    """The scores of each answer, in order; ``workers`` processes compare symbolic answers side by side."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(scores, answers))


def choice_scores(
    loglikelihoods: Sequence[float], choice_bytes: Sequence[int], gold: Sequence[str]
) -> dict[str, float]:
    """``acc``: is the likeliest choice right? ``acc_norm``: and the likeliest for each of its bytes? Ties go to the
    first, as in lm-evaluation-harness; a model that answers with NaN is wrong."""
    if not loglikelihoods or len(loglikelihoods) != len(choice_bytes):
        raise ValueError(
            f"a choice needs as many log-likelihoods as lengths, and has {len(loglikelihoods)} and {len(choice_bytes)}"
        )
    per_byte = [value / max(1, size) for value, size in zip(loglikelihoods, choice_bytes)]
    return {"acc": float(_likeliest(loglikelihoods) in gold), "acc_norm": float(_likeliest(per_byte) in gold)}


def words_scores(text: str, gold: Sequence[str]) -> dict[str, float]:
    """``exact_match`` and ``f1`` of SQuAD (arXiv:1606.05250) against the nearest of the right answers.

    Of a text its first line with something in it counts: what a base model writes behind it is another question.
    """
    line = next((line for line in text.splitlines() if line.strip()), "")
    words = normalised(line).split()
    rights = [normalised(right).split() for right in gold]
    return {
        "exact_match": max((float(words == right) for right in rights), default=0.0),
        "f1": max((_f1(words, right) for right in rights), default=0.0),
    }


def math_scores(text: str, gold: Sequence[str]) -> dict[str, float]:
    """``exact_match``: is the final answer, wherever it stands, equal to a right one? ``strict``: is it marked as
    final, and written like a right one?"""
    return {
        "exact_match": max((float(flexible(text, right)) for right in gold), default=0.0),
        "strict": max((float(strict(text, right)) for right in gold), default=0.0),
    }


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous space, as SQuAD and TriviaQA compare answers.

    >>> normalised("The  Beatles!")
    'beatles'
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def _likeliest(values: Sequence[float]) -> str:
    if any(value != value for value in values):
        return ""
    return str(max(range(len(values)), key=values.__getitem__))


def _f1(words: list[str], right: list[str]) -> float:
    if not words or not right:
        return float(words == right)
    common = sum((Counter(words) & Counter(right)).values())
    return 2 * common / (len(words) + len(right))

"""Judging: how a task file of lm-evaluation-harness scores what a model said to one item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parrotlab.evals.answers import Answer
from parrotlab.evals.scoring import scores
from parrotlab.evals.sets import ending


def choice(row: dict[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """``acc`` and ``acc_norm`` of the log-likelihoods of all choices."""
    return scores(choice_answer(row, results))


def words(row: dict[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """``exact_match`` and ``f1`` of a generated text."""
    return scores(words_answer(row, results))


def final(row: dict[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """``exact_match`` and ``strict`` of a generated solution's final answer."""
    return scores(final_answer(row, results))


def choice_answer(row: dict[str, Any], results: Sequence[Any], **about: Any) -> Answer:
    """The answer to keep. Where choices fill a blank, what follows is scored, and is equally long for each."""
    options: list[str] = row["choices"]
    scored = [ending(row)] * len(options) if is_blank(row) else options
    return Answer(
        **_named(row, about),
        kind="choice",
        gold=(str(row["label"]),),
        loglikelihoods=tuple(float(nats) for nats, _ in results),
        choice_bytes=tuple(len(text.encode()) for text in scored),
    )


def words_answer(row: dict[str, Any], results: Sequence[Any], **about: Any) -> Answer:
    """The answer to keep."""
    return Answer(**_named(row, about), kind="words", gold=tuple(row["answers"]), text=results[0])


def final_answer(row: dict[str, Any], results: Sequence[Any], **about: Any) -> Answer:
    """The answer to keep."""
    return Answer(**_named(row, about), kind="math", gold=tuple(row["answers"]), text=results[0])


def is_blank(row: dict[str, Any]) -> bool:
    """Do the choices of this row fill a blank?"""
    return bool(row.get("blank"))


def _named(row: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    return {"benchmark": "", "split": "", "item": row["item"]} | about

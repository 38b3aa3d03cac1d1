"""Made-up examinations: models of given skill answer made-up items, and their answers lie in a store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from parrotlab.evals import answers, item_scores
from parrotlab.evals.answers import Answer
from parrotlab.evals.examination import Examination
from parrotlab.evals.scoring import scores
from parrotlab.results.measurement import Measurement
from parrotlab.results.store import Record, Store
from parrotlab.seeds import stream

KINDS = {"arc_easy": "choice", "piqa": "choice", "triviaqa": "words", "nq_open": "words", "facts": "words"}
"""The others are mathematics."""
CHOICES = 4


def examine(
    store: Store,
    model: str,
    benchmark: str,
    skill: float,
    *,
    split: str = "test",
    items: int = 100,
    shots: int = 0,
    kept: Callable[[dict[str, float]], dict[str, float]] | None = None,
) -> Record:
    """A model that knows an item with probability ``skill`` and otherwise guesses or errs, as its stored record.

    What ``kept`` makes of each answer's scores is kept beside the answers.
    """
    examination = Examination(
        model=model,
        benchmark=benchmark,
        split=split,
        shots=shots,
        limit=items,
        data_sha256=hashlib.sha256(f"{benchmark} {split}".encode()).hexdigest(),
        tokenizer="",
        revision=1,
    )
    given = [answer(model, benchmark, split, item, skill) for item in range(items)]
    files = {answers.FILE: answers.encode(given)}
    if kept is not None:
        files[item_scores.FILE] = item_scores.encode(given, [kept(scores(each)) for each in given])
    return store.write(examination, "complete", "", {}, {}, measurements(benchmark, split, given), files)


def answer(model: str, benchmark: str, split: str, item: int, skill: float) -> Answer:
    """What that model says to that item; the same items are hard for every model."""
    hard = stream("hard", benchmark, split, item).random()
    guess = stream("guess", model, benchmark, split, item)
    name = hashlib.sha256(f"{benchmark} {split} {item}".encode()).hexdigest()[:16]
    kind, knows, right = KINDS.get(benchmark, "math"), hard < skill, str(item % CHOICES)
    about = {"benchmark": benchmark, "split": split, "item": name, "kind": kind, "gold": (right,)}
    if kind != "choice":
        return Answer(**about, text=right if knows else "nobody knows")
    likely = guess.normal(size=CHOICES) + (10 * (np.arange(CHOICES) == int(right)) if knows else 0)
    return Answer(**about, loglikelihoods=tuple(likely.tolist()), choice_bytes=(5,) * CHOICES)


def measurements(benchmark: str, split: str, given: list[Answer]) -> list[Measurement]:
    """The mean of every score."""
    scored = [scores(each) for each in given]
    return [
        Measurement(
            evaluation=benchmark,
            split=split,
            metric=metric,
            value=float(np.mean([each[metric] for each in scored])),
            count=len(scored),
            step=0,
        )
        for metric in scored[0]
    ]

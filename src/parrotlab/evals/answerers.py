"""Models of lm-evaluation-harness that read nothing: the floors and the ceiling of a benchmark.

| `oracle`   | knows every answer: it scores 1 everywhere, or the benchmark is wrong        |
| `longest`  | takes the longest choice; it has no words of its own                         |
| `majority` | gives the answer that is right most often, whatever the question             |

What a model that has learned nothing scores is asked of one: ``random``, in ``cli/eval.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parrotlab.evals import sets
from parrotlab.evals.judging import is_blank

Row = dict[str, Any]


def oracle(row: Row) -> str:
    """The right answer: a choice's index, or a text."""
    return str(row["label"]) if "choices" in row else row["answers"][0]


def longest(row: Row) -> str:
    """The index of the choice of the most bytes."""
    lengths = [len(choice.encode()) for choice in row["choices"]]
    return str(lengths.index(max(lengths)))


def always(answer: str) -> Callable[[Row], str]:
    """The same answer to every row."""
    return lambda row: answer


def answerer(answer: Callable[[Row], str]) -> Any:
    """lm-eval's model that says what the function says: a choice by its index, or a text."""
    from lm_eval.api.model import LM  # type: ignore[import-not-found]

    class Answerer(LM):
        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """0 for a choice that is taken, less for the others by as much as a text of its length may weigh."""
            told = [
                (str(request.idx) == answer(request.doc), _scored_bytes(request.doc, request.idx))
                for request in requests
            ]
            return [(0.0 if taken else -float(size), taken) for taken, size in told]

        def generate_until(self, requests: list[Any]) -> list[str]:
            return [answer(request.doc) for request in requests]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise NotImplementedError("no benchmark asks for it")

    return Answerer()


def _scored_bytes(row: Row, index: int) -> int:
    text = sets.ending(row) if is_blank(row) else row["choices"][index]
    return len(text.encode())

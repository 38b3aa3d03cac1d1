"""Perplexity and bits per byte on documents, for each source of a corpus and for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from parrotlab.evals.evaluation import Logits
from parrotlab.model.loss import token_losses
from parrotlab.results.measurement import Measurement
from parrotlab.tasks.language import Language
from parrotlab.tasks.task import Split, Task

LOGITS = 1 << 27  # of one forward pass; bounds memory, changes nothing else


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Each document is read from its beginning; one longer than the context, in windows that slide over it."""

    split: Split = "test"
    documents: int = 100
    """Of each source, at most."""
    tokens: int = 0
    """Of each source's documents together, at most; 0 is all. The last document is cut."""
    stride: float = 0.5
    """How far a window slides, as a fraction of its length: from the second on, the rest of it is context only."""

    def __post_init__(self) -> None:
        if not 0 < self.stride <= 1:
            raise ValueError(f"stride must lie above 0 and be at most 1, not {self.stride}")
        if self.documents < 1 or self.tokens < 0:
            raise ValueError(
                f"documents must be 1 or more and tokens 0 or more, not {self.documents} and {self.tokens}"
            )

    def measure(self, logits: Logits, task: Task, seed: int, step: int) -> Iterator[Measurement]:
        """``perplexity`` per token (END, too) and ``bits_per_byte`` of text, which compares tokenizers."""
        if not isinstance(task, Language):
            raise ValueError(f"perplexity reads the documents of the language task, and {type(task).__name__} has none")
        total = np.zeros(3)
        for part in task.parts(self.split):
            documents = list(self._cut(task.documents(part, self.split, self.documents)))
            nats, tokens = self._nats(logits, task, documents)
            sums = np.array([nats, tokens, sum(map(task.text_bytes, documents))])
            total += sums
            yield from self._measurements(sums, f"source={part}", step)
        if not total[1]:
            raise ValueError(f"the {self.split} split of corpus {task.corpus!r} holds no document to read")
        yield from self._measurements(total, "", step)

    def _cut(self, documents: list[np.ndarray]) -> Iterator[np.ndarray]:
        """The documents up to the number of tokens that are asked for: all of each but its first, which is END."""
        left = self.tokens or sum(map(len, documents))
        for document in documents:
            if left > 0:
                yield document[: left + 1]
                left -= len(document) - 1

    def _nats(self, logits: Logits, task: Language, documents: list[np.ndarray]) -> tuple[float, int]:
        """Loss and number of all tokens of the documents but their first END."""
        pieces = [piece for document in documents for piece in windows(document, task.length, self.stride)]
        tokens_BT = np.zeros((len(pieces), task.length), dtype=np.int64)
        asked_BT = np.zeros(tokens_BT.shape, dtype=bool)
        for row, (tokens_T, context) in enumerate(pieces):
            tokens_BT[row, : len(tokens_T)] = tokens_T
            asked_BT[row, context : len(tokens_T)] = True
        nats = 0.0
        rows = max(1, LOGITS // (task.length * task.vocabulary))
        for start in range(0, len(pieces), rows):
            tokens, asked = (torch.from_numpy(array_BT[start : start + rows]) for array_BT in (tokens_BT, asked_BT))
            with torch.no_grad():
                logits_BTV = logits(tokens[:, :-1])
                device = logits_BTV.device
                nats += float(token_losses(logits_BTV, tokens.to(device), asked.to(device)).double().sum())
        return nats, int(asked_BT.sum())

    def _measurements(self, sums: np.ndarray, part: str, step: int) -> Iterator[Measurement]:
        nats, tokens, text_bytes = sums.tolist()
        values = (
            ("perplexity", math.exp(min(nats / max(1, tokens), 700)), tokens),
            ("bits_per_byte", nats / math.log(2) / max(1, text_bytes), text_bytes),
        )
        for metric, value, count in values:
            yield Measurement(
                evaluation="perplexity",
                split=self.split,
                metric=metric,
                value=value,
                count=int(count),
                step=step,
                part=part,
            )


def windows(tokens_T: np.ndarray, length: int, stride: float) -> Iterator[tuple[np.ndarray, int]]:
    """The document in windows of at most ``length``, each with how many of its tokens are context only.

    >>> [(tokens_T.tolist(), context) for tokens_T, context in windows(np.arange(7), 4, 0.5)]
    [([0, 1, 2, 3], 1), ([2, 3, 4, 5], 2), ([4, 5, 6], 2)]
    """
    step = min(length - 1, max(1, round(stride * length)))  # a window's first token is never asked for
    for start in range(0, max(1, len(tokens_T) - length + step), step):
        yield tokens_T[start : start + length], length - step if start else 1

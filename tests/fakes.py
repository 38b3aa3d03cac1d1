"""Small stand-ins for tests: a book of random digits, and models that know everything or nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer
from parrotlab.seeds import stream
from parrotlab.tasks.task import Batch, rows_of_step


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Entries of three digits and the two that belong to them; both splits are the book."""

    entries: int = 40
    vocabulary: int = 10
    prompt: int = 3
    length: int = 5

    def batch(self, split, step, rows, seed):
        return self._rows(rows_of_step(self.entries, step, rows, seed), seed)

    def examples(self, split, count, seed):
        return self._rows(np.arange(min(count, self.entries)), seed)

    def answer_bits(self, split, count, seed):
        return np.full(min(count, self.entries), 2 * np.log2(10))

    def text(self, tokens_T):
        return "".join(map(str, tokens_T))

    def _rows(self, entries, seed):
        tokens_BT = stream("digits", seed).integers(10, size=(self.entries, 5), dtype=np.uint8)[entries]
        return Batch(tokens_BT, np.broadcast_to(np.arange(5) >= 3, tokens_BT.shape).copy())


def oracle(task, split="train", seed=0):
    """Logits of one who knows every row of a split by its first tokens."""
    rows_BT = torch.from_numpy(task.examples(split, 10**6, seed).tokens_BT).long()

    def logits(tokens_BT):
        known = (
            (rows_BT[None, :, : task.prompt] == tokens_BT[:, None, : task.prompt]).all(dim=-1).float().argmax(dim=-1)
        )
        following = rows_BT[known][:, 1 : tokens_BT.shape[1] + 1]
        return 100.0 * torch.nn.functional.one_hot(following, task.vocabulary).float()

    return logits


def design(feedforward=None, layers=2, width=16, **fields):
    """A small transformer."""
    return Transformer(
        layers=layers, width=width, attention=Attention(heads=2), feedforward=feedforward or Dense(), **fields
    )


def mixture(experts=4, **fields):
    """A small mixture."""
    return design(Mixture(experts=experts, **fields))


def guesser(task):
    """Logits of one who knows nothing."""
    return lambda tokens_BT: torch.zeros(*tokens_BT.shape, task.vocabulary)

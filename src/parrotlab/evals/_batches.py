"""Reading a split in batches that fit in memory, with the loss and the guesses on each asked token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from parrotlab.evals.evaluation import Logits
from parrotlab.model.loss import token_losses
from parrotlab.tasks.task import Batch, Split, Task

TOKENS, LOGITS = 2**16, 2**26  # of one forward pass: they bound memory and change nothing else


@dataclass(frozen=True)
class Reading:
    """What a model made of B rows when it was shown the right tokens so far (teacher forcing)."""

    loss_BT: Tensor
    """[B, T - 1] nats on each asked token, 0 elsewhere; float64."""
    asked_BT: Tensor
    """[B, T - 1] bool"""
    right_BT: Tensor
    """[B, T - 1] bool: is the likeliest token the right one?"""


def readings(logits: Logits, task: Task, split: Split, count: int, seed: int) -> Iterator[Reading]:
    """The first ``count`` examples of a split, a batch at a time."""
    for batch in batches(task.examples(split, count, seed), task.vocabulary):
        tokens_BT = torch.from_numpy(batch.tokens_BT).long()
        asked_BT = torch.from_numpy(batch.asked_BT)
        with torch.no_grad():
            logits_BTV = logits(tokens_BT[:, :-1])
            tokens_BT, asked_BT = tokens_BT.to(logits_BTV.device), asked_BT.to(logits_BTV.device)
            loss_BT = token_losses(logits_BTV, tokens_BT, asked_BT).double()
            right_BT = logits_BTV.argmax(dim=-1) == tokens_BT[:, 1:]
        yield Reading(loss_BT.cpu(), asked_BT[:, 1:].cpu(), right_BT.cpu())


def batches(examples: Batch, vocabulary: int) -> Iterator[Batch]:
    """The rows in pieces of at most ``TOKENS`` tokens and ``LOGITS`` logits, one row at least."""
    rows = max(1, min(TOKENS, LOGITS // vocabulary) // examples.tokens_BT.shape[1])
    for start in range(0, len(examples.tokens_BT), rows):
        yield Batch(examples.tokens_BT[start : start + rows], examples.asked_BT[start : start + rows])

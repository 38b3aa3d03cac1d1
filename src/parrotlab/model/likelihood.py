"""Log-likelihoods of endings: many texts at once, what they share computed once.

Texts that begin alike, such as a question with each of its choices, make one row: a trunk and its branches. What all
rows begin with, such as the examples before every question, is a prefix that is computed before any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from parrotlab.model.cache import Branches, Prefix
from parrotlab.model.transformer import LanguageModel

BATCH_TOKENS = 16_384
"""Of one forward pass, at most; it bounds memory and changes nothing else."""
LOGITS = 1 << 22
"""Computed at a time, at most: on a CPU they then stay near it for the passes that follow."""
PADDED = 1 / 8
"""Of a row, at most, where there is enough else to do."""
ENOUGH = {"cpu": 1 << 9, "cuda": 1 << 14}
"""Tokens of a forward pass that keep a device busy."""
ALIGNED = 8
"""Kernels of a GPU want rows of masks of a multiple of so many columns."""


@dataclass(frozen=True)
class Text:
    """A text of which the last tokens are asked for."""

    tokens_T: np.ndarray
    asked: int
    """At least 1, and fewer than all: the first token of a text has nothing before it."""

    def __post_init__(self) -> None:
        assert 1 <= self.asked < len(self.tokens_T), f"{self.asked} of {len(self.tokens_T)} tokens asked for"


class Likelihood(NamedTuple):
    """How likely the model finds the end of a text."""

    nats: float
    """The logarithm of its probability."""
    greedy: bool
    """Is each of its tokens the likeliest?"""


class _Row(NamedTuple):
    """Texts laid out as one tree, without the prefix that all rows share."""

    tokens_T: np.ndarray
    branch_T: np.ndarray
    places: list[np.ndarray]
    """For each text, the columns whose logits speak of the tokens that are asked for."""


def likelihoods(
    model: LanguageModel, groups: Sequence[Sequence[Text]], batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[int, list[Likelihood]]]:
    """The index of each group and the likelihoods of its texts, as batches are done: the longest rows first."""
    device = model.embedding_VD.device
    texts = [text for group in groups for text in group]
    prefix = shared_prefix(
        model, [text.tokens_T[:-1] for text in texts], min((len(t.tokens_T) - t.asked - 1 for t in texts), default=0)
    )
    rows = [_row(group, prefix.length) for group in groups]
    for batch in batches([len(row.tokens_T) for row in rows], batch_tokens, enough(model)):
        columns = len(rows[batch[0]].tokens_T)
        columns += -columns % ALIGNED if device.type == "cuda" else 0
        tokens_BT = np.zeros((len(batch), columns), dtype=np.int64)
        branch_BT = np.full((len(batch), columns), -1)
        for place, index in enumerate(batch):
            row = rows[index]
            tokens_BT[place, : len(row.tokens_T)], branch_BT[place, : len(row.branch_T)] = row.tokens_T, row.branch_T
        cache = Branches(prefix, torch.from_numpy(branch_BT).to(device))
        with torch.no_grad():
            x_ND, _ = model.hidden(torch.from_numpy(tokens_BT).to(device), cache)
        told = iter(
            _judge(
                model,
                x_ND,
                [line * columns + places for line, index in enumerate(batch) for places in rows[index].places],
                [text.tokens_T[-text.asked :] for index in batch for text in groups[index]],
            )
        )
        for index in batch:
            yield index, [next(told) for _ in groups[index]]


def shared_prefix(model: LanguageModel, texts: Sequence[np.ndarray], most: int) -> Prefix:
    """The keys and values of what all texts begin with, of at most ``most`` tokens."""
    length = most if texts else 0
    for tokens_T in texts:
        length = common(texts[0][:length], tokens_T)
    device = model.embedding_VD.device
    prefix = Prefix(length, device)
    if length:
        with torch.no_grad():
            model.hidden(torch.from_numpy(texts[0][None, :length].astype(np.int64)).to(device), prefix)
    return prefix


def common(one_T: np.ndarray, other_T: np.ndarray) -> int:
    """How many tokens two texts have in common from their beginning."""
    length = min(len(one_T), len(other_T))
    differ_T = one_T[:length] != other_T[:length]
    return int(differ_T.argmax()) if differ_T.any() else length


def batches(lengths: Sequence[int], batch_tokens: int, enough: int) -> Iterator[list[int]]:
    """Indices of rows, the longest first, in batches of at most so many tokens with their padding, one row at least.

    A batch that has ``enough`` tokens to keep its device busy takes no row that would be padded by much.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[batch[0]] if batch else 0
        padded = len(batch) * longest >= enough and lengths[index] < (1 - PADDED) * longest
        if batch and (padded or (len(batch) + 1) * longest > batch_tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def enough(model: LanguageModel) -> int:
    """Tokens of a forward pass that keep the model's device busy."""
    return ENOUGH["cuda" if model.embedding_VD.is_cuda else "cpu"]


def _row(group: Sequence[Text], prefix: int) -> _Row:
    """A group as a tree. The last token of a text is asked for and never read."""
    read = [text.tokens_T[prefix:-1] for text in group]
    trunk = min(common(read[0], tokens_T) for tokens_T in read)
    pieces, branches, places, end = [read[0][:trunk]], [np.zeros(trunk, dtype=np.int64)], [], trunk
    for number, (text, tokens_T) in enumerate(zip(group, read), 1):
        column_T = np.concatenate((np.arange(trunk), np.arange(end, end + len(tokens_T) - trunk)))
        places.append(column_T[len(column_T) - text.asked :])
        pieces.append(tokens_T[trunk:])
        branches.append(np.full(len(tokens_T) - trunk, number))
        end += len(tokens_T) - trunk
    return _Row(np.concatenate(pieces), np.concatenate(branches), places)


def _judge(
    model: LanguageModel, x_ND: Tensor, places: Sequence[np.ndarray], asked: Sequence[np.ndarray]
) -> list[Likelihood]:
    """The likelihood of each ending, of whose tokens the hidden states at its places speak."""
    place_M = torch.from_numpy(np.concatenate(places)).to(x_ND.device)
    token_M = torch.from_numpy(np.concatenate(asked).astype(np.int64)).to(x_ND.device)
    nats, right = [], []
    step = max(1, LOGITS // model.vocabulary)
    with torch.no_grad():
        for place, token in zip(place_M.split(step), token_M.split(step)):
            logits_MV = model.unembed(x_ND[place]).float()
            asked_M1 = logits_MV.gather(-1, token.unsqueeze(-1))
            most_M1 = logits_MV.amax(dim=-1, keepdim=True)
            nats.append(
                (asked_M1 - most_M1 - logits_MV.sub_(most_M1).exp_().sum(dim=-1, keepdim=True).log()).squeeze(-1)
            )
            right.append((asked_M1 == most_M1).squeeze(-1))
    ends = np.cumsum([len(tokens) for tokens in asked])[:-1]
    nats_M = torch.cat(nats).double().cpu().numpy()
    right_M = torch.cat(right).cpu().numpy()
    return [
        Likelihood(float(nats_T.sum()), bool(right_T.all()))
        for nats_T, right_T in zip(np.split(nats_M, ends), np.split(right_M, ends))
    ]

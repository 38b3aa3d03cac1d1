"""Decoding: the steps of greedy generation, each a token for every row of a batch.

OneByOne    a step is launched kernel by kernel, on what the rows have grown to
Captured    a step is one CUDA graph: a small model's is hundreds of kernels of a few microseconds, which launched
            one by one wait for the host
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from parrotlab.kernels.experts import product_dtype
from parrotlab.model.cache import Growing, Stepping
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.transformer import LanguageModel

WARM_UP = 2
"""Steps before a capture: library handles and casts of weights must not be captured."""

Choose = Callable[[Tensor], Tensor]
"""[B, D] hidden states -> [B] the likeliest tokens."""


class OneByOne:
    """Steps on rows that have been read up to ``next_B``, their next tokens."""

    LEAVING = 1 / 8
    """Rows that are over leave when they are this fraction: leaving copies the cache of those that stay."""
    STRIDE = 1
    """Steps that are taken before anyone looks."""

    def __init__(self, model: LanguageModel, choose: Choose, cache: Growing, next_B: Tensor) -> None:
        self.model, self.choose, self.cache, self.next_B = model, choose, cache, next_B

    def take(self, steps: int) -> list[list[int]]:
        """The tokens of all rows, step by step."""
        said = []
        for _ in range(steps):
            self.cache.extend(1)
            with torch.no_grad():
                x_BD, _ = self.model.hidden(self.next_B.unsqueeze(-1), self.cache)
                self.next_B = self.choose(x_BD)
            said.append(self.next_B.tolist())
        return said

    def keep(self, rows: list[int]) -> None:
        """Goes on with these rows only."""
        kept = torch.tensor(rows, device=self.next_B.device)
        self.cache.keep(kept)
        self.next_B = self.next_B[kept]


class Captured:
    """The same as one CUDA graph, replayed. Rows leave late, for another number of rows is another graph."""

    LEAVING = 1 / 2
    STRIDE = 8

    def __init__(self, model: LanguageModel, choose: Choose, cache: Growing, next_B: Tensor) -> None:
        self.model, self.choose, self.cache, self.next_B = model, choose, cache, next_B
        self._capture()

    def take(self, steps: int) -> list[list[int]]:
        """The tokens of all rows, step by step; the host waits once."""
        first = self.cache.length
        for _ in range(steps):
            self.graph.replay()
        self.cache.length += steps
        return self.said_SB[first : self.cache.length].tolist()

    def keep(self, rows: list[int]) -> None:
        """Goes on with these rows only."""
        kept = torch.tensor(rows, device=self.next_B.device)
        self.cache.keep(kept)
        self.next_B = self.next_B[kept]
        self._capture()

    def _capture(self) -> None:
        begin_B = self.next_B.clone()
        self.said_SB = self.next_B.new_zeros(self.cache.capacity, len(self.next_B))
        """What was said at the step whose token stands in each column of the cache."""
        stepping = Stepping(self.cache)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._step(stepping)
                stepping.column_1 -= 1
        torch.cuda.current_stream().wait_stream(side)
        self.next_B.copy_(begin_B)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._step(stepping)

    def _step(self, cache: Stepping) -> None:
        cache.extend()
        with torch.no_grad():
            x_BD, _ = self.model.hidden(self.next_B.unsqueeze(-1), cache)
            self.next_B.copy_(self.choose(x_BD))
        self.said_SB.index_copy_(0, cache.column_1, self.next_B.unsqueeze(0))
        cache.advance()


Decoding = OneByOne | Captured


def decoding(model: LanguageModel, choose: Choose, cache: Growing, next_B: Tensor, capture: bool = True) -> Decoding:
    """Captured on CUDA, where it can be; where that fails, one by one, with one warning."""
    if capture and capturable(model):
        try:
            return Captured(model, choose, cache, next_B.clone())
        except Exception as error:  # whatever the driver refuses, plain steps still work
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"no CUDA graph of generation's step, going on without: {reason}", stacklevel=2)
    return OneByOne(model, choose, cache, next_B)


def capturable(model: LanguageModel) -> bool:
    """Is the model on CUDA, and does none of its products ask the host for sizes, as those of experts in float32 do?"""
    weight = model.embedding_VD
    return weight.is_cuda and (isinstance(model.design.feedforward, Dense) or product_dtype(weight) == torch.bfloat16)

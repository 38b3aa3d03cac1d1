"""The contract of a task: rows of tokens, a pure function of (split, step, seed).

A row is a prompt and its answer. ``asked_BT`` marks the tokens of the answer: the loss is taken on them,
and the evaluations judge them. Within a task the prompt has one length, so answers can be generated for
whole batches. Tokens that are neither prompt nor answer (padding behind an answer) come last.

A task is a frozen spec in a file of its own; the file's name is the task's.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from parrotlab.seeds import stream

Split = Literal["train", "test"]

HELD_OUT = 16
"""One example in 16, chosen by its own hash, is held out for the test split."""

TEST_EXAMPLES = 10_000
"""A task that could hold out any number of examples holds out this many."""


@dataclass(frozen=True)
class Batch:
    """B rows of T tokens."""

    tokens_BT: np.ndarray
    """Integers below the task's vocabulary."""
    asked_BT: np.ndarray
    """True at tokens of the answer. The first position is never asked: nothing stands before it."""


@runtime_checkable
class Task(Protocol):
    """What is learned."""

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        ...

    @property
    def prompt(self) -> int:
        """Tokens of a row before its answer begins."""
        ...

    @property
    def length(self) -> int:
        """Tokens of a row, T: prompt, answer and padding."""
        ...

    def batch(self, split: Split, step: int, rows: int, seed: int) -> Batch:
        """The rows of one step. Train rows go through the training set epoch by epoch, each in an order of its own."""
        ...

    def examples(self, split: Split, count: int, seed: int) -> Batch:
        """The first ``count`` examples of a split, or all if there are fewer: what evaluations read."""
        ...

    def text(self, tokens_T: np.ndarray) -> str:
        """One row as a person would read it."""
        ...


@runtime_checkable
class Memorable(Task, Protocol):
    """A task whose answers can only be known by heart."""

    def answer_bits(self, split: Split, count: int, seed: int) -> np.ndarray:
        """[B] entropy in bits of the answer of each of ``examples(split, count, seed)``, given its prompt."""
        ...


@runtime_checkable
class Judged(Task, Protocol):
    """A task with more than one right answer."""

    def right(self, prompt_BP: np.ndarray, answer_BT: np.ndarray) -> np.ndarray:
        """[B] bool: is the generated answer, read up to its end, right? P tokens of prompt, then the answer's."""
        ...


class Listed(ABC):
    """A task whose splits are lists of rows, made once: training goes through its list in epochs."""

    @property
    @abstractmethod
    def prompt(self) -> int:
        """Tokens of a row before its answer begins."""

    @abstractmethod
    def listing(self, split: Split, seed: int) -> np.ndarray:
        """[N, T] all rows of a split."""

    def asked(self, tokens_BT: np.ndarray) -> np.ndarray:
        """[B, T] bool: the tokens of the answer; a task that pads behind it takes the padding out."""
        return np.broadcast_to(np.arange(tokens_BT.shape[1]) >= self.prompt, tokens_BT.shape).copy()

    def batch(self, split: Split, step: int, rows: int, seed: int) -> Batch:
        """The rows of one step: every row of the split once an epoch."""
        tokens_NT = _listing(self, split, seed)
        tokens_BT = tokens_NT[rows_of_step(len(tokens_NT), step, rows, seed)]
        return Batch(tokens_BT, self.asked(tokens_BT))

    def examples(self, split: Split, count: int, seed: int) -> Batch:
        """The beginning of a split's list."""
        tokens_BT = _listing(self, split, seed)[:count].copy()
        return Batch(tokens_BT, self.asked(tokens_BT))


@functools.lru_cache(maxsize=8)
def _listing(task: Listed, split: Split, seed: int) -> np.ndarray:
    tokens_NT = task.listing(split, seed)
    if not len(tokens_NT):
        raise ValueError(f"no example of {task} falls into the {split} split: make the task larger")
    return tokens_NT


def first_of_split(split: Split, count: int, chunks: Iterator[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """[count, T] the first rows that belong to a split, out of endless chunks of rows and their hashes."""
    parts: list[np.ndarray] = []
    found = barren = 0
    while found < count:
        rows_NT, hash_N = next(chunks)
        parts.append(rows_NT.compress(is_held_out(hash_N) == (split == "test"), axis=0))
        found += len(parts[-1])
        barren = 0 if len(parts[-1]) else barren + 1
        if barren == HELD_OUT:
            raise ValueError(f"no example for the {split} split in {barren} chunks of draws: the task is too narrow")
    return np.concatenate(parts)[:count]


def is_held_out(hash_N: np.ndarray) -> np.ndarray:
    """[N] bool: do examples with these 64-bit hashes belong to the test split?"""
    return hash_N % np.uint64(HELD_OUT) == 0


def hash_rows(tokens_NT: np.ndarray) -> np.ndarray:
    """[N] uint64 hash of each row of integers, the same on every machine (FNV-1a over columns, then a finalizer)."""
    hash_N = np.full(len(tokens_NT), 0xCBF29CE484222325, dtype=np.uint64)
    for column_N in tokens_NT.T:
        hash_N = (hash_N ^ column_N.astype(np.uint64)) * np.uint64(0x100000001B3)
    hash_N ^= hash_N >> np.uint64(33)
    hash_N *= np.uint64(0xFF51AFD7ED558CCD)
    return hash_N ^ (hash_N >> np.uint64(33))


def rows_of_step(examples: int, step: int, rows: int, seed: int) -> np.ndarray:
    """[rows] indices of the training examples that a step visits: every example once an epoch, in shuffled order."""
    places = np.arange(step * rows, (step + 1) * rows)
    epochs = places // examples
    parts = [
        _epoch_order(examples, int(epoch), seed)[places[epochs == epoch] % examples] for epoch in np.unique(epochs)
    ]
    return np.concatenate(parts)


@functools.lru_cache(maxsize=16)
def _epoch_order(examples: int, epoch: int, seed: int) -> np.ndarray:
    return stream("epoch", seed, examples, epoch).permutation(examples)

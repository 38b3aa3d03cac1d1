"""Phone book: names of random letters, each with a number of random digits, to be known by heart.

>>> task = PhoneBook(entries=100)
>>> task.text(task.examples("train", 1, seed=0).tokens_BT[0])
'xqfao 45946315'

Nothing about a name tells its number, so the test split, names whose own hash holds them out with numbers never
trained on, is a control: a model is at chance there. Book sizes are the paper's; its lengths are unknown.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np

from parrotlab.seeds import stream
from parrotlab.tasks.task import HELD_OUT, TEST_EXAMPLES, Batch, Listed, Split, hash_rows, is_held_out

LETTERS = 26
DIGITS = 10
LONGEST_NAME = 13  # 26^13 still fits a machine word


@dataclass(frozen=True, kw_only=True)
class PhoneBook(Listed):
    """Rows of a name and a number, without separators: both have fixed lengths. Names are distinct within a book."""

    entries: int
    """Names to train on."""
    letters: int = 5
    """Of a name."""
    digits: int = 8
    """Of a number."""
    ask_name: bool = False
    """Train on the letters of the name, too, all but the first; evaluations ask for the number alone always."""

    def __post_init__(self) -> None:
        if not 1 <= self.letters <= LONGEST_NAME:
            raise ValueError(f"names have 1 to {LONGEST_NAME} letters, not letters={self.letters}")
        if self.digits < 1 or self.entries < 1:
            raise ValueError(
                f"a book needs at least 1 entry of 1 digit, not entries={self.entries}, digits={self.digits}"
            )
        # The hash holds out about one name in 16: up to half of all names there is no need to count them.
        if self.entries > LETTERS**self.letters // 2 and self.entries > _train_names(self.letters):
            raise ValueError(
                f"names are exhausted: of {LETTERS**self.letters} names of {self.letters} letters "
                f"{_train_names(self.letters)} can be trained on, not entries={self.entries}; ask for more letters"
            )

    @property
    def vocabulary(self) -> int:
        """Letters first, then digits."""
        return LETTERS + DIGITS

    @property
    def prompt(self) -> int:
        """The name."""
        return self.letters

    @property
    def length(self) -> int:
        """Name and number."""
        return self.letters + self.digits

    def batch(self, split: Split, step: int, rows: int, seed: int) -> Batch:
        """The rows of one step: every entry once an epoch."""
        batch = super().batch(split, step, rows, seed)
        if not self.ask_name:
            return batch
        return replace(batch, asked_BT=np.broadcast_to(np.arange(self.length) > 0, batch.tokens_BT.shape).copy())

    def listing(self, split: Split, seed: int) -> np.ndarray:
        """[N, T] uint8 the book's entries, or others."""
        generator = stream("phone_book", seed, split)
        names_NL = _names(self.letters, self.entries if split == "train" else TEST_EXAMPLES, split, generator)
        numbers_ND = generator.integers(DIGITS, size=(len(names_NL), self.digits), dtype=np.uint8)
        return np.concatenate([names_NL, numbers_ND + np.uint8(LETTERS)], axis=1)

    def answer_bits(self, split: Split, count: int, seed: int) -> np.ndarray:
        """[B] log2(10) for each digit: numbers are uniform, whatever the name."""
        return np.full(len(self.examples(split, count, seed).tokens_BT), self.digits * math.log2(DIGITS))

    def text(self, tokens_T: np.ndarray) -> str:
        """Name and number."""
        shown = "".join("abcdefghijklmnopqrstuvwxyz0123456789"[token] for token in tokens_T)
        return f"{shown[: self.letters]} {shown[self.letters :]}"


def _names(letters: int, count: int, split: Split, generator: np.random.Generator) -> np.ndarray:
    """[N, L] distinct names of a split in random order: ``count`` of them, or all if there are fewer."""
    everything = LETTERS**letters
    share = 1 - 1 / HELD_OUT if split == "train" else 1 / HELD_OUT  # of all names, about
    if count > everything * share / 2:
        return _of_split(generator.permutation(everything), letters, split)[0][:count]
    names_NL, numbers_N = np.empty((0, letters), dtype=np.uint8), np.empty(0, dtype=np.int64)
    while len(names_NL) < count:
        wanted = int(1.5 * (count - len(names_NL)) / share) + 16
        drawn = _of_split(generator.integers(everything, size=wanted), letters, split)
        names_NL, numbers_N = np.concatenate([names_NL, drawn[0]]), np.concatenate([numbers_N, drawn[1]])
        first_N = np.sort(np.unique(numbers_N, return_index=True)[1])
        names_NL, numbers_N = names_NL[first_N], numbers_N[first_N]
    return names_NL[:count]


def _of_split(numbers_N: np.ndarray, letters: int, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """[n, L] the names with these numbers, in base 26, that belong to the split, and [n] their numbers."""
    names_NL = np.empty((len(numbers_N), letters), dtype=np.uint8)
    rest_N = numbers_N
    for place in reversed(range(letters)):
        rest_N, names_NL[:, place] = np.divmod(rest_N, LETTERS)
    belongs_N = is_held_out(hash_rows(names_NL)) == (split == "test")
    return names_NL[belongs_N], numbers_N[belongs_N]


@functools.cache
def _train_names(letters: int) -> int:
    """How many names of that length can be trained on."""
    everything, chunk = LETTERS**letters, 1 << 20
    return sum(
        len(_of_split(np.arange(start, min(start + chunk, everything)), letters, "train")[0])
        for start in range(0, everything, chunk)
    )

"""Language: the next token of real text, out of a corpus that ``parrotlab prepare`` made.

    ... <|endoftext|> Ostrava is a city in the north-east of the Czech Republic ...

Rows are windows of the corpus; documents follow each other with END between them. Every token of a row is asked for
but the first, which is the last of the window before: so an epoch asks for each token once.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from parrotlab.seeds import stream
from parrotlab.spec import nearest
from parrotlab.tasks.task import Batch, Split
from parrotlab.text import corpus, hub
from parrotlab.text.corpus import Corpus
from parrotlab.text.mixtures import Weights, check_weights

CYCLE = 10_000
"""Weights are kept exactly, to 1 in so many, in every stretch of so many rows."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """Windows of a prepared corpus, from each part its share. Documents are held out by their own hash."""

    corpus: str
    """Name of a prepared corpus, such as ``local_language``."""
    vocabulary: int
    """That of the corpus's tokenizer, or more (rows of the embedding that no token uses)."""
    length: int = 513
    """Tokens of a row; the model reads one fewer."""
    weights: Weights = ()
    """Parts with their shares of the rows (``TextMixture.weights``); none is all parts, by their tokens."""
    sha256: str = ""
    """Of the corpus's manifest; where given, another corpus of that name is refused."""

    def __post_init__(self) -> None:
        if self.length < 2 or self.vocabulary < 2:
            raise ValueError(
                f"length and vocabulary must be 2 or more, not length={self.length}, vocabulary={self.vocabulary}"
            )
        if self.weights:
            check_weights(self.weights, f"corpus {self.corpus!r}")

    @property
    def prompt(self) -> int:
        """One token, so that something stands before the first that is asked for."""
        return 1

    def batch(self, split: Split, step: int, rows: int, seed: int) -> Batch:
        """The rows of one step. Each part goes through its windows epoch by epoch, at the pace of its weight."""
        prepared, parts = self._corpus(), self._windows(split)
        if rows > sum(parts.values()):
            raise hub.DataError(
                f"the {split} split of {self.corpus!r} holds {sum(parts.values())} rows of {self.length} tokens, "
                f"fewer than one batch of {rows}: take fewer rows, or prepare more text"
            )
        place_B = np.arange(step * rows, (step + 1) * rows)
        quotas = self._quotas(split)
        part_B, index_B = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
        for cycle in np.unique(place_B // CYCLE):
            part_C, rank_C = _cycle(quotas, int(cycle), split, seed)
            inside_B = place_B // CYCLE == cycle
            part_B[inside_B] = part_C[place_B[inside_B] % CYCLE]
            index_B[inside_B] = rank_C[place_B[inside_B] % CYCLE] + cycle * np.array(quotas)[part_B[inside_B]]
        window_B = np.empty(rows, dtype=np.int64)
        for part, windows in enumerate(parts.values()):
            for row in np.flatnonzero(part_B == part):
                epoch, place = divmod(int(index_B[row]), windows)
                window_B[row] = _order(windows, epoch, split, list(parts)[part], seed)[place]
        return self._rows(prepared, split, part_B, window_B)

    def examples(self, split: Split, count: int, seed: int) -> Batch:
        """Windows of all parts, each part by its tokens, in an order of their own; they are the same for every seed."""
        parts = self._windows(split)
        first_P = np.cumsum([0, *parts.values()])
        chosen_B = stream("language", "examples", split).permutation(first_P[-1])[:count]
        part_B = np.searchsorted(first_P, chosen_B, side="right") - 1
        return self._rows(self._corpus(), split, part_B, chosen_B - first_P[part_B])

    def text(self, tokens_T: np.ndarray) -> str:
        """The row on one line."""
        return " ".join(self._corpus().tokenizer.decode(tokens_T).split())

    def parts(self, split: Split) -> tuple[str, ...]:
        """The parts that have documents in the split."""
        prepared = self._corpus()
        return tuple(part for part in self._chosen(prepared) if prepared.size(part, split, "documents"))

    def documents(self, part: str, split: Split, count: int) -> list[np.ndarray]:
        """[T] each of the part's first documents, between two ENDs."""
        return list(itertools.islice(self._corpus().documents(part, split), count))

    def text_bytes(self, tokens_T: np.ndarray) -> int:
        """Bytes of the text that these tokens stand for; END has none."""
        prepared = self._corpus()
        return len(prepared.tokenizer.decode(tokens_T[tokens_T != prepared.end]).encode())

    def _corpus(self) -> Corpus:
        prepared = corpus.open_corpus(self.corpus, self.sha256)
        if prepared.vocabulary > self.vocabulary:
            raise hub.DataError(
                f"corpus {self.corpus!r} has a vocabulary of {prepared.vocabulary}, "
                f"and the task one of {self.vocabulary}: set vocabulary={prepared.vocabulary}"
            )
        return prepared

    def _chosen(self, prepared: Corpus) -> tuple[str, ...]:
        for part, _ in self.weights:
            if part not in prepared.parts:
                raise hub.DataError(f"corpus {self.corpus!r} has no part {part!r}: {nearest(part, prepared.parts)}")
        return tuple(part for part, _ in self.weights) or tuple(prepared.parts)

    def _windows(self, split: Split) -> dict[str, int]:
        """The rows that each part has to give; a part that has none in the split is passed over if it may be."""
        prepared = self._corpus()
        windows = {part: prepared.windows(part, split, self.length) for part in self._chosen(prepared)}
        lacking = [part for part, count in windows.items() if not count]
        if split == "train" and self.weights and lacking:
            raise hub.DataError(
                f"part {lacking[0]!r} of corpus {self.corpus!r} is shorter than a row of {self.length} tokens"
            )
        if len(lacking) == len(windows):
            raise hub.DataError(f"the {split} split of corpus {self.corpus!r} holds no row of {self.length} tokens")
        return {part: count for part, count in windows.items() if count}

    def _quotas(self, split: Split) -> tuple[int, ...]:
        """Rows of each part in a cycle, by largest remainders."""
        windows = self._windows(split)
        share_P = np.array(
            [dict(self.weights).get(part, 0) for part in windows] if self.weights else [*windows.values()]
        )
        exact_P = CYCLE * share_P / share_P.sum()
        quota_P = np.floor(exact_P).astype(int)
        for part in np.argsort(quota_P - exact_P, kind="stable")[: CYCLE - quota_P.sum()]:
            quota_P[part] += 1
        return tuple(quota_P.tolist())

    def _rows(self, prepared: Corpus, split: Split, part_B: np.ndarray, window_B: np.ndarray) -> Batch:
        tokens_BT = np.empty((len(part_B), self.length), dtype=np.int32)
        for index, part in enumerate(self._windows(split)):
            if (part_B == index).any():
                tokens_BT[part_B == index] = prepared.rows(part, split, self.length, window_B[part_B == index])
        return Batch(tokens_BT, np.broadcast_to(np.arange(self.length) > 0, tokens_BT.shape).copy())


@functools.lru_cache(maxsize=8)
def _cycle(quotas: tuple[int, ...], cycle: int, split: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[C] the part of each place of a cycle, and how many places before it in the cycle belong to the same part."""
    part_C = stream("language", seed, split, "cycle", cycle).permutation(np.repeat(np.arange(len(quotas)), quotas))
    rank_C = np.empty(CYCLE, dtype=np.int64)
    for part, quota in enumerate(quotas):
        rank_C[part_C == part] = np.arange(quota)
    return part_C, rank_C


@functools.lru_cache(maxsize=64)
def _order(windows: int, epoch: int, split: str, part: str, seed: int) -> np.ndarray:
    return stream("language", seed, split, part, windows, epoch).permutation(windows)

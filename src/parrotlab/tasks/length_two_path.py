"""Length-2 path: is there a vertex v with edges source - v - destination? The problem of theorems 3.2 and 3.3.

The neighbours of source and of destination are two sets of vertices; a path of length 2 is a common element, so the
question is set disjointness. It comes in two encodings.

``split``, the theorems': with M = vertices - 2 vertices between source and destination, a row is

    position   0 ... M-1            M ... 2M-1           2M         2M+1
    token      2v + (s-v an edge)   2M + 2v + (v-d an edge)   QUESTION   NO or YES

so Alice's tokens, ``alice_positions``, depend on the source's edges alone, Bob's, ``bob_positions``, on the
destination's alone, and no single token sees both ends. QUESTION is token 4M, NO 4M + 1, YES 4M + 2.

``edge_list``: the edges as pairs of vertex tokens in random order and orientation, padded on the left, then source and
destination, then NO or YES; the vertices are named at random.

>>> task = LengthTwoPath(vertices=6, encoding="split", train_examples=100)
>>> task.text(task.examples("train", 1, seed=0).tokens_BT[0])
'source 0101 destination 1010: no'

Answers are balanced and nothing but a common element gives them away: the numbers of neighbours a and b are drawn
first, each uniform from 1 to M // 2; then a random set of a vertices, and one of b that is disjoint from it (no) or has
exactly one vertex in common (yes). Each set alone, and the number of edges, are distributed alike in both cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from parrotlab.seeds import stream
from parrotlab.tasks import _graphs
from parrotlab.tasks.task import TEST_EXAMPLES, Batch, Listed, Split, first_of_split, hash_rows

CHUNK = 8192
"""Rows drawn at once."""


@dataclass(frozen=True, kw_only=True)
class LengthTwoPath(Listed):
    """Balanced questions of one bit."""

    vertices: int
    """Of the graph, source and destination among them."""
    encoding: Literal["split", "edge_list"] = "split"
    """See above."""
    other_edges: int = 0
    """Edges of an edge list that touch neither source nor destination, and so say nothing."""
    train_examples: int = 100_000
    """Size of the training set."""

    def __post_init__(self) -> None:
        if not 4 <= self.vertices <= 254:
            raise ValueError(
                "length-2 paths need 4 to 254 vertices (with 3, the numbers of edges tell the answer), "
                f"not vertices={self.vertices}"
            )
        if self.encoding not in ("split", "edge_list"):
            raise ValueError(f"encoding is 'split' or 'edge_list', not {self.encoding!r}")
        most = len(_graphs.pairs(self.middle)) if self.encoding == "edge_list" else 0
        if not 0 <= self.other_edges <= most:
            raise ValueError(
                f"{self.encoding} of {self.vertices} vertices has room for other_edges 0 to {most}, "
                f"not {self.other_edges}"
            )
        if self.train_examples < 1:
            raise ValueError(f"a task needs 1 example or more, not train_examples={self.train_examples}")

    @property
    def middle(self) -> int:
        """M, the vertices that may lie between source and destination."""
        return self.vertices - 2

    @property
    def question(self) -> int:
        """The token before the answer of the split encoding; in an edge list it is the padding."""
        return 4 * self.middle if self.encoding == "split" else self.vertices

    @property
    def no(self) -> int:
        """The answer: no path of length 2."""
        return self.question + 1

    @property
    def yes(self) -> int:
        """The answer: there is one."""
        return self.question + 2

    @property
    def vocabulary(self) -> int:
        """Vertices, in the split encoding with side and edge; question or padding; two answers."""
        return self.question + 3

    @property
    def edge_slots(self) -> int:
        """Edges that an edge list can show."""
        return 2 * (self.middle // 2) + self.other_edges

    @property
    def prompt(self) -> int:
        """All but the answer."""
        return 2 * self.middle + 1 if self.encoding == "split" else 2 * self.edge_slots + 2

    @property
    def length(self) -> int:
        """Prompt and answer."""
        return self.prompt + 1

    @property
    def alice_positions(self) -> range:
        """Positions of the split encoding whose tokens depend on the source's edges alone."""
        self._require_split("alice_positions")
        return range(self.middle)

    @property
    def bob_positions(self) -> range:
        """Positions of the split encoding whose tokens depend on the destination's edges alone."""
        self._require_split("bob_positions")
        return range(self.middle, 2 * self.middle)

    def rows(self, source_NM: np.ndarray, destination_NM: np.ndarray) -> Batch:
        """The rows for given neighbours (bool) of source and destination among the M vertices between them.

        In an edge list the vertices between are 0 to M - 1, the source is M, the destination M + 1, and the edges come
        in this order.
        """
        for name, sets_NM in (("source_NM", source_NM), ("destination_NM", destination_NM)):
            if sets_NM.ndim != 2 or sets_NM.shape[1] != self.middle or sets_NM.dtype != bool:
                raise ValueError(f"{name} must be bool [N, {self.middle}], not {sets_NM.dtype} {sets_NM.shape}")
        if self.encoding == "split":
            tokens_NT = self._split_rows(source_NM, destination_NM)
        else:
            tokens_NT = self._edge_rows(source_NM, destination_NM)
        tokens_NT[:, -1] = np.where((source_NM & destination_NM).any(axis=1), self.yes, self.no)
        return Batch(tokens_NT, self.asked(tokens_NT))

    def listing(self, split: Split, seed: int) -> np.ndarray:
        """[N, T] uint16 rows, no and yes in turn."""
        count = self.train_examples if split == "train" else TEST_EXAMPLES
        halves = [
            first_of_split(
                split, (count + 1) // 2, self._chunks(stream("length_two_path", seed, split, answer), answer)
            )
            for answer in (0, 1)
        ]
        return np.stack(halves, axis=1).reshape(-1, self.length)[:count]

    def hashes(self, tokens_NT: np.ndarray) -> np.ndarray:
        """[N] uint64 hash of the question, whatever the order and orientation of edges."""
        if self.encoding == "split":
            return hash_rows(tokens_NT[:, : self.prompt])
        edges_N = _graphs.hash_edges(tokens_NT[:, : self.prompt - 2].reshape(-1, self.edge_slots, 2))
        return hash_rows(np.stack([edges_N, *tokens_NT[:, self.prompt - 2 : self.prompt].T], axis=1))

    def text(self, tokens_T: np.ndarray) -> str:
        """The two sets or the edges, and the answer."""
        answer = "yes" if tokens_T[-1] == self.yes else "no"
        if self.encoding == "split":
            sets = "".join(str(token % 2) for token in tokens_T[: self.prompt - 1].tolist())
            return f"source {sets[: self.middle]} destination {sets[self.middle :]}: {answer}"
        ends = tokens_T[: self.prompt - 2].reshape(-1, 2).tolist()
        edges = [f"{u}-{v}" for u, v in ends if u != self.question]
        source, destination = tokens_T[self.prompt - 2 : self.prompt]
        return f"{' '.join(edges)} · {source} to {destination}: {answer}"

    def _require_split(self, what: str) -> None:
        if self.encoding != "split":
            raise ValueError(f"{what} exist in the split encoding only, not in encoding={self.encoding!r}")

    def _split_rows(self, source_NM: np.ndarray, destination_NM: np.ndarray) -> np.ndarray:
        tokens_NT = np.full((len(source_NM), self.length), self.question, dtype=np.uint16)
        tokens_NT[:, : 2 * self.middle] = 2 * np.arange(2 * self.middle)
        tokens_NT[:, : self.middle] += source_NM
        tokens_NT[:, self.middle : 2 * self.middle] += destination_NM
        return tokens_NT

    def _edge_rows(self, source_NM: np.ndarray, destination_NM: np.ndarray) -> np.ndarray:
        present_N2M = np.concatenate([source_NM, destination_NM], axis=1)
        if present_N2M.sum(axis=1).max(initial=0) > self.edge_slots:
            raise ValueError(f"a row shows {self.edge_slots} edges, not {present_N2M.sum(axis=1).max()}")
        ends_M2 = np.stack(
            [np.tile(np.arange(self.middle), 2), np.repeat([self.middle, self.middle + 1], self.middle)], 1
        )
        order = np.argsort(present_N2M, axis=1, kind="stable")[:, -self.edge_slots :]
        ends_NS2 = ends_M2[order]
        ends_NS2[~np.take_along_axis(present_N2M, order, axis=1)] = self.question
        tokens_NT = np.full((len(source_NM), self.length), self.question, dtype=np.uint16)
        ends = 2 * ends_NS2.shape[1]
        tokens_NT[:, self.prompt - 2 - ends : self.prompt - 2] = ends_NS2.reshape(-1, ends)
        tokens_NT[:, self.prompt - 2 : self.prompt] = self.middle, self.middle + 1
        return tokens_NT

    def _chunks(self, generator: np.random.Generator, answer: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and hashes, chunk by chunk, all with one answer."""
        while True:
            source_N1, destination_N1 = generator.integers(1, self.middle // 2, size=(2, CHUNK, 1), endpoint=True)
            rank_NM = generator.random((CHUNK, self.middle)).argsort(axis=1)
            first_N1 = (
                source_N1 - answer
            )  # where the destination's neighbours begin: one before the source's end, or there
            tokens_NT = self.rows(
                rank_NM < source_N1, (rank_NM >= first_N1) & (rank_NM < first_N1 + destination_N1)
            ).tokens_BT
            if self.encoding == "edge_list":
                tokens_NT = self._shuffle(tokens_NT, generator)
            yield tokens_NT, self.hashes(tokens_NT)

    def _shuffle(self, tokens_NT: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The same edge lists with other edges added, in random order and orientation, the vertices named at random."""
        rows = len(tokens_NT)
        ends_NS2 = tokens_NT[:, : self.prompt - 2].reshape(rows, -1, 2).copy()
        between = _graphs.pairs(self.middle)
        chosen = generator.random((rows, len(between))).argsort(axis=1)[:, : self.other_edges]
        ends_NS2[:, : self.other_edges] = between[chosen]  # padding stood there
        turned_NS1 = generator.integers(2, size=(rows, self.edge_slots, 1), dtype=bool)
        ends_NS2 = np.where(turned_NS1, ends_NS2[..., ::-1], ends_NS2)
        order_NS = generator.random((rows, self.edge_slots))
        order_NS[ends_NS2[..., 0] == self.question] = -1
        ends_NS2 = np.take_along_axis(ends_NS2, order_NS.argsort(axis=1)[..., None], axis=1)
        names_NV = np.tile(np.arange(self.vocabulary, dtype=np.uint16), (rows, 1))
        names_NV[:, : self.vertices] = generator.random((rows, self.vertices)).argsort(axis=1)
        unnamed_NT = np.concatenate([ends_NS2.reshape(rows, -1), tokens_NT[:, self.prompt - 2 :]], axis=1)
        return np.take_along_axis(names_NV, unnamed_NT, axis=1)

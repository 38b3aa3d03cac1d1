"""Shortest path: a random graph, a source and a target; the answer is a shortest path between them.

A row shows the edges, two tokens each, in random order and orientation, then source and target. The answer is the
path behind its source, the target included, and END. Fewer edges than slots are padded on the left, so that the
question always stands at the same place. The label is the lexicographically smallest of the shortest paths.

The second vertex of an edge is a token of its own kind. Rotary positions tell distances alone, so that without it no
token would know whether its edge began with it or with the token before; our models then learned nothing for
thousands of steps.

>>> task = ShortestPath(vertices=6, mean_degree=2.0, train_examples=100)
>>> task.text(task.examples("train", 1, seed=0).tokens_BT[0])
'5-3 1-5 1-0 2-1 3-1 5-0 · 5 to 2: 1 2 END'

The graphs of the paper (number of vertices, edge probability, serialization) are unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parrotlab.seeds import stream
from parrotlab.tasks import _graphs
from parrotlab.tasks.task import TEST_EXAMPLES, Listed, Split, first_of_split, hash_rows

CHUNK = 4096
"""Graphs drawn at once: what one core's cache holds."""


@dataclass(frozen=True, kw_only=True)
class ShortestPath(Listed):
    """Random graphs by edge probability (Erdős-Rényi) or by mean degree (every graph has the same number of edges).

    A graph with its source and target is drawn again until they are ``min_hops`` to ``max_hops`` apart and its edges
    fit the slots. So within a graph the question is uniform among the ordered pairs of vertices at such a distance.
    """

    vertices: int
    edge_probability: float = 0.0
    """Of each pair of vertices, rounded to a multiple of 2^-16; 0 where ``mean_degree`` is given."""
    mean_degree: float = 0.0
    """Edges at a vertex on average, fixed: ``vertices * mean_degree / 2`` edges in all; 0 where the other is given."""
    min_hops: int = 1
    """Least distance asked; 2 leaves out questions that one edge answers."""
    max_hops: int = 8
    """Largest distance asked; it fixes the length of the answer."""
    train_examples: int = 1_000_000
    """Size of the training set."""
    spare_labels: int = 0
    """Names that a graph leaves unused, others each time: larger graphs can then be asked of the same model,
    ``replace(task, vertices=task.vertices + 2, spare_labels=task.spare_labels - 2)``."""

    def __post_init__(self) -> None:
        if not 3 <= self.vertices <= _graphs.MOST_VERTICES:
            raise ValueError(f"a graph has 3 to {_graphs.MOST_VERTICES} vertices, not vertices={self.vertices}")
        if not 0 <= self.edge_probability <= 1:
            raise ValueError(f"edge_probability is a probability, from 0 to 1, not {self.edge_probability}")
        if not 0 <= self.mean_degree <= self.vertices - 1:
            raise ValueError(f"mean_degree is 0 to vertices - 1 = {self.vertices - 1}, not {self.mean_degree}")
        if (self.edge_probability > 0) == (self.mean_degree > 0):
            raise ValueError(
                "give either edge_probability or mean_degree above 0, "
                f"not edge_probability={self.edge_probability}, mean_degree={self.mean_degree}"
            )
        if not 1 <= self.min_hops <= self.max_hops or self.min_hops >= self.vertices:
            raise ValueError(
                f"distances asked are 1 <= min_hops <= max_hops and min_hops < vertices = {self.vertices}, "
                f"not min_hops={self.min_hops}, max_hops={self.max_hops}"
            )
        if self.train_examples < 1 or not 0 <= self.spare_labels <= 127 - self.vertices:
            raise ValueError(
                f"a task needs 1 example or more and at most 127 labels, not train_examples={self.train_examples}, "
                f"vertices + spare_labels = {self.vertices + self.spare_labels}"
            )

    @property
    def pad(self) -> int:
        """The token that fills slots without an edge and what follows END."""
        return self.vertices + self.spare_labels

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.pad + 1

    @property
    def vocabulary(self) -> int:
        """Labels, padding, END, and the labels again as second vertices of an edge."""
        return self.second + self.pad

    @property
    def second(self) -> int:
        """What is added to a label that is the second vertex of an edge."""
        return self.pad + 2

    @property
    def edge_slots(self) -> int:
        """Edges that a row can show: the mean number and three standard deviations, at most every pair."""
        count = len(_graphs.pairs(self.vertices))
        if self.mean_degree:
            return max(1, round(self.vertices * self.mean_degree / 2))
        mean, variance = count * self.edge_probability, count * self.edge_probability * (1 - self.edge_probability)
        return min(count, math.ceil(mean + 3 * math.sqrt(variance)))

    @property
    def hops(self) -> int:
        """Edges of the longest answer."""
        return min(self.max_hops, self.vertices - 1)

    @property
    def prompt(self) -> int:
        """Two tokens an edge, then source and target."""
        return 2 * self.edge_slots + 2

    @property
    def length(self) -> int:
        """Prompt, the longest path behind its source, END."""
        return self.prompt + self.hops + 1

    def asked(self, tokens_BT: np.ndarray) -> np.ndarray:
        """The path and END."""
        return super().asked(tokens_BT) & (tokens_BT != self.pad)

    def listing(self, split: Split, seed: int) -> np.ndarray:
        """[N, T] uint8 ``train_examples`` rows, or the test rows."""
        count = self.train_examples if split == "train" else TEST_EXAMPLES
        return first_of_split(split, count, self._chunks(stream("shortest_path", seed, split)))

    def hashes(self, tokens_NT: np.ndarray) -> np.ndarray:
        """[N] uint64 hash of the question, whatever the order and orientation of its edges."""
        edges_N = _graphs.hash_edges(self._edges(tokens_NT))
        return _question_hash(edges_N, *tokens_NT[:, self.prompt - 2 : self.prompt].T)

    def right(self, prompt_BP: np.ndarray, answer_BT: np.ndarray) -> np.ndarray:
        """[B] bool: is the answer, up to its END, any shortest path from source to target?"""
        rows_B = np.arange(len(prompt_BP))
        ends_BS2 = self._edges(prompt_BP)
        joined_BLL = np.zeros((len(prompt_BP), self.vocabulary, self.vocabulary), dtype=bool)
        joined_BLL[rows_B[:, None], ends_BS2[..., 0], ends_BS2[..., 1]] = True
        joined_BLL |= joined_BLL.transpose(0, 2, 1)
        joined_BLL[:, self.pad] = joined_BLL[:, self.end] = False
        here_B, target_B = prompt_BP[:, -2].astype(np.intp), prompt_BP[:, -1]
        reached_BL = np.arange(self.vocabulary) == here_B[:, None]
        walking_B, right_B = np.ones(len(rows_B), dtype=bool), np.zeros(len(rows_B), dtype=bool)
        for token_B in answer_BT.T:
            arrived_B = reached_BL[rows_B, target_B]  # a path ends as soon as the target can be reached, not later
            right_B |= walking_B & arrived_B & (here_B == target_B) & (token_B == self.end)
            walking_B &= ~arrived_B & joined_BLL[rows_B, here_B, token_B]
            reached_BL |= np.einsum("bl,blm->bm", reached_BL, joined_BLL)
            here_B = token_B.astype(np.intp)
        return right_B

    def text(self, tokens_T: np.ndarray) -> str:
        """Edges, question, answer."""
        names = [str(token) if token < self.pad else "END" for token in tokens_T.tolist()]
        shown = tokens_T != self.pad
        edges = [f"{one}-{other}" for one, other in self._edges(tokens_T[None])[0].tolist() if one != self.pad]
        answer = [name for name, is_shown in zip(names[self.prompt :], shown[self.prompt :]) if is_shown]
        source, target = names[self.prompt - 2 : self.prompt]
        return f"{' '.join(edges)} · {source} to {target}: {' '.join(answer)}"

    def _edges(self, tokens_NT: np.ndarray) -> np.ndarray:
        """[N, slots, 2] the labels that each edge joins, or padding."""
        edges_NP = tokens_NT[:, : self.prompt - 2]
        return np.where(edges_NP >= self.second, edges_NP - self.second, edges_NP).reshape(-1, self.edge_slots, 2)

    def _chunks(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and hashes, chunk by chunk, without the graphs whose question or number of edges does not fit."""
        # Both arrays are kept over the chunks: fresh memory costs as much as the arithmetic.
        keys_NP = np.empty((CHUNK, len(_graphs.pairs(self.vertices))), dtype=np.uint32)
        present_NP = np.empty(keys_NP.shape, dtype=np.float32)
        while True:
            _graphs.draw_keys(keys_NP, self.vertices, generator)
            limit = self._limit(keys_NP)
            present_NP[...] = keys_NP > limit
            masks_VN = _graphs.neighbours(present_NP, self.vertices)
            keys_NP.sort(axis=1)  # edges come last, in random order, padding before them
            question_N = generator.integers(self.vertices * (self.vertices - 1), size=CHUNK, dtype=np.uint16)
            source_N, other_N = np.divmod(question_N, np.uint16(self.vertices - 1))
            target_N = other_N + (other_N >= source_N)  # any vertex but the source
            paths_NH, hops_N = _graphs.shortest_paths(masks_VN, source_N, target_N, self.hops)
            fits_N = (keys_NP[:, : -self.edge_slots][:, -1:] <= limit).all(axis=1) & (hops_N >= self.min_hops)
            slots_NS = np.maximum(keys_NP[:, -self.edge_slots :], limit)
            tokens_NT = self._rows(slots_NS, source_N, target_N, paths_NH, hops_N)
            hash_N = _question_hash(_graphs.hash_masks(masks_VN), source_N, target_N)
            if self.spare_labels:
                tokens_NT = self._rename(tokens_NT, generator)
                hash_N = self.hashes(tokens_NT)
            yield tokens_NT.compress(fits_N, axis=0), hash_N.compress(fits_N)

    def _rows(
        self,
        slots_NS: np.ndarray,
        source_N: np.ndarray,
        target_N: np.ndarray,
        paths_NH: np.ndarray,
        hops_N: np.ndarray,
    ) -> np.ndarray:
        """[N, T] rows from the keys of edges (or of padding), question and path, with labels as without spare ones."""
        pad = self.vertices
        edges = _graphs.edge_tokens(self.vertices, pad, second=pad + 2)
        numbers_NS = (slots_NS & np.uint32(len(edges) - 1)).astype(np.intp)
        tokens_NT = np.empty((len(slots_NS), self.length), dtype=np.uint8)
        tokens_NT[:, : self.prompt - 2] = edges.take(numbers_NS).view(np.uint8)
        tokens_NT[:, self.prompt - 2] = source_N
        tokens_NT[:, self.prompt - 1] = target_N
        tokens_NT[:, self.prompt : -1] = np.minimum(paths_NH.view(np.uint8), np.uint8(pad))  # -1 becomes padding
        tokens_NT[:, -1] = pad
        tokens_NT[np.arange(len(tokens_NT)), self.prompt + hops_N] = pad + 1
        return tokens_NT

    def _limit(self, keys_NP: np.ndarray) -> np.ndarray:
        """The key above which edges are present: one for all graphs, or [N, 1]."""
        if self.edge_probability:
            return np.asarray(_graphs.key_above(self.edge_probability, self.vertices))
        if self.edge_slots == keys_NP.shape[1]:
            return np.zeros((), dtype=np.uint32)
        return np.partition(keys_NP, -self.edge_slots - 1, axis=1)[:, -self.edge_slots - 1, None]

    def _rename(self, tokens_NT: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The same rows with vertices named by random labels in ascending order, so that smallest stays smallest."""
        shuffled_NL = generator.random((len(tokens_NT), self.pad)).argsort(axis=1)[:, : self.vertices]
        labels_NV = np.sort(shuffled_NL, axis=1)
        ends_N2 = np.broadcast_to((self.pad, self.end), (len(tokens_NT), 2))
        names_NL = np.concatenate(
            (labels_NV, ends_N2, labels_NV + self.second), axis=1, dtype=np.uint8, casting="unsafe"
        )
        return np.take_along_axis(names_NL, tokens_NT, axis=1)


def _question_hash(edges_N: np.ndarray, source_N: np.ndarray, target_N: np.ndarray) -> np.ndarray:
    return hash_rows(np.stack([edges_N, source_N, target_N], axis=1))

"""Random graphs in batches: keys that draw and shuffle edges, neighbours as bit masks, shortest paths by bits.

N graphs of V vertices · P pairs of vertices, possible edges · S slots for edges · H hops. Where a loop runs over
vertices or hops the graphs are the last axis, so that numpy works on long vectors.
"""

from __future__ import annotations

import functools

import numpy as np

from parrotlab.tasks.task import hash_rows

MOST_VERTICES = 64
"""Sets of vertices are bit masks of one machine word."""
RANDOM_BITS = 16
"""Of a key: edge probabilities are multiples of 2^-16."""
EXACT_BITS = 24
"""A float32 holds any sum of this many distinct powers of two."""


@functools.cache
def pairs(vertices: int) -> np.ndarray:
    """[P, 2] every pair of vertices, the smaller first."""
    return np.stack(np.triu_indices(vertices, 1), axis=1)


@functools.cache
def number_bits(vertices: int) -> int:
    """Low bits of a key that number its edge, counted from 1; 0 is no edge."""
    return len(pairs(vertices)).bit_length()


def draw_keys(keys_NP: np.ndarray, vertices: int, generator: np.random.Generator) -> None:
    """Fills [N, P] uint32 with an integer per possible edge: 16 random bits above the number of the edge.

    It draws the edge (large keys are present), orders it among the others, so that one sort does the work of a shuffle
    per graph, and orients it by its lowest random bit. Two edges of equal random bits stay in the order of numbers.
    """
    raw = generator.bit_generator.random_raw(-(-keys_NP.size // 4)).view(np.uint16)
    keys_NP[...] = raw[: keys_NP.size].reshape(keys_NP.shape)
    keys_NP <<= np.uint32(number_bits(vertices))
    keys_NP |= np.arange(1, keys_NP.shape[1] + 1, dtype=np.uint32)


def key_above(probability: float, vertices: int) -> np.uint32:
    """The key above which lies this fraction of ``draw_keys``; itself it says "no edge"."""
    return np.uint32(round((1 - probability) * 2**RANDOM_BITS) << number_bits(vertices))


@functools.cache
def edge_tokens(vertices: int, pad: int, second: int) -> np.ndarray:
    """[2 · 2^number_bits] uint16: the two end tokens (bytes) of an edge by its orientation and number; 0 is padding.

    The second end is its vertex plus ``second``.
    """
    numbered = np.full((2, 1 << number_bits(vertices), 2), pad, dtype=np.uint8)
    numbered[0, 1 : len(pairs(vertices)) + 1] = pairs(vertices)
    numbered[1, 1 : len(pairs(vertices)) + 1] = pairs(vertices)[:, ::-1]
    numbered[:, 1 : len(pairs(vertices)) + 1, 1] += np.uint8(second)
    return numbered.view(np.uint16).reshape(-1)


def neighbours(present_NP: np.ndarray, vertices: int) -> np.ndarray:
    """[V, N] the neighbours of each vertex as a bit mask: matrix products of 0s and 1s (float32) with powers of two."""
    if vertices <= EXACT_BITS:
        return (_powers(vertices, 0) @ present_NP.T).astype(np.int32).view(np.uint32)
    masks_VN = np.zeros((vertices, len(present_NP)), dtype=np.uint64)
    for start in range(0, vertices, EXACT_BITS):
        masks_VN |= (_powers(vertices, start) @ present_NP.T).astype(np.uint64) << np.uint64(start)
    return masks_VN


@functools.cache
def _powers(vertices: int, start: int) -> np.ndarray:
    """[V, P] for either end of a pair the bit of the other end, counted from ``start``, if it is one of the next 24."""
    powers_VP = np.zeros((vertices, len(pairs(vertices))), dtype=np.float32)
    for number, (u, v) in enumerate(pairs(vertices)):
        for one, other in ((u, v), (v, u)):
            if start <= other < start + EXACT_BITS:
                powers_VP[one, number] = 2.0 ** (other - start)
    return powers_VP


def hash_edges(tokens_NS2: np.ndarray) -> np.ndarray:
    """[N] uint32 hash of a set of edges, whatever their order and orientation; two equal tokens are padding."""
    codes_NS = np.ascontiguousarray(tokens_NS2, dtype=np.uint8).view(np.uint16)[..., 0]
    return _edge_hashes().take(codes_NS).sum(axis=1, dtype=np.uint32)


def hash_masks(masks_VN: np.ndarray) -> np.ndarray:
    """[N] the same hash, of graphs given as masks: the sum over vertices of a number times the mask."""
    if masks_VN.dtype == np.uint64:
        masks_VN = masks_VN.astype(np.uint32) + (masks_VN >> np.uint64(32)).astype(np.uint32)
    return np.einsum("v,vn->n", _vertex_hashes()[: len(masks_VN)], masks_VN)


@functools.cache
def _vertex_hashes() -> np.ndarray:
    return hash_rows(np.arange(256)[:, None]).astype(np.uint32)


@functools.cache
def _edge_hashes() -> np.ndarray:
    """[256 · 256] by the two bytes of an edge: what it adds to the sum, a bit to the mask of either end."""
    bits_V = np.uint32(1) << (np.arange(256, dtype=np.uint32) % np.uint32(32))
    hash_VV = np.outer(_vertex_hashes(), bits_V)
    hash_VV += hash_VV.T
    np.fill_diagonal(hash_VV, 0)
    return hash_VV.reshape(-1)


def shortest_paths(
    masks_VN: np.ndarray, source_N: np.ndarray, target_N: np.ndarray, most_hops: int
) -> tuple[np.ndarray, np.ndarray]:
    """[N, H] int8 the vertices behind the source on the lexicographically smallest shortest path, then -1; [N] hops.

    0 hops where no path of at most ``most_hops`` edges joins source and target, which must differ.
    """
    balls_HN, hops_N = _balls(masks_VN, target_N, source_N, most_hops)
    paths_NH = np.full((len(source_N), most_hops), -1, dtype=np.int8)
    rows = np.flatnonzero(hops_N)
    here, left = source_N[rows].astype(np.intp), hops_N[rows]
    for step in range(most_hops):
        left -= 1
        nearer = balls_HN.reshape(-1).take(left * len(source_N) + rows)
        nearer &= masks_VN.reshape(-1).take(here * len(source_N) + rows)
        here = np.bitwise_count((nearer & -nearer) - masks_VN.dtype.type(1)).astype(np.intp)  # the smallest of the set
        paths_NH.reshape(-1)[rows * most_hops + step] = here
        on = np.flatnonzero(left)
        rows, here, left = rows[on], here[on], left[on]
    return paths_NH, hops_N


def _balls(
    masks_VN: np.ndarray, centre_N: np.ndarray, goal_N: np.ndarray, most_hops: int
) -> tuple[np.ndarray, np.ndarray]:
    """[H + 1, N] the vertices within 0, 1, ... hops of a centre, as far as its goal, and [N] the distance or 0."""
    word = masks_VN.dtype.type
    vertices_V1 = np.arange(len(masks_VN), dtype=word)[:, None]
    goal_N = word(1) << goal_N.astype(word)
    balls_HN = np.zeros((most_hops + 1, len(centre_N)), dtype=word)
    balls_HN[0] = word(1) << centre_N.astype(word)
    hops_N = np.zeros(len(centre_N), dtype=np.intp)
    rows, near_VN, ball_N = np.arange(len(centre_N)), masks_VN, balls_HN[0]
    for hops in range(1, most_hops + 1):
        inside_VN = -((ball_N >> vertices_V1) & word(1))  # all ones for a vertex in the ball, else 0
        grown_N = ball_N | np.bitwise_or.reduce(inside_VN & near_VN, axis=0)
        balls_HN[hops, rows] = grown_N
        arrived_N = grown_N & goal_N[rows] != 0
        hops_N[rows[arrived_N]] = hops
        on = np.flatnonzero(~arrived_N & (grown_N != ball_N))
        rows, ball_N = rows[on], grown_N[on]
        near_VN = masks_VN.take(rows, axis=1)
    return balls_HN, hops_N

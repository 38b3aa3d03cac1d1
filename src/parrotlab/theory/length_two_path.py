"""Theorem 3.3: a dense one-layer transformer of width |V| that solves length-2 path, its weights written down.

Attention is uniform (queries and keys are 0), so the question's position reads how many ends each vertex neighbours;
the feed-forward has one hidden unit a vertex, which opens where it is both. Constants and margins: docs/theory.md.

    vertex            0     1     2     3    constant
    token s-v        -1    +1    +1    -1           0    each token speaks in its vertex's channel alone
    token v-d        -1    -1    +1    +1           0
    question          0     0     0     0           1
    after attention  -1     0    +1     0           1    half the sum of the first two rows
    hidden unit    shut  shut  open  shut                2 neighbours both: the constant turns negative, and that is YES
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.transformer import LanguageModel, Transformer
from parrotlab.seeds import stream
from parrotlab.tasks.length_two_path import LengthTwoPath
from parrotlab.theory.precision import LEAST_BITS, MOST_BITS, Rounded
from parrotlab.theory.protocol import evaluate

BITS_PER_LOG = 2
"""The construction works with p = 2 · ceil(log2 N) bits a number, N = 2 |V| - 3 tokens; 1 is too small (ours)."""
MOST_ENUMERATED = 5
"""Vertices up to which every graph is enumerated: 2^10 graphs of 5."""
ROWS = 4096
"""Inputs judged at once."""


class Pairs(NamedTuple):
    """Neighbour sets of source and destination, one pair a row: what the split encoding shows."""

    source_NM: np.ndarray
    destination_NM: np.ndarray


LastLogits = Callable[[Pairs], Tensor]
"""Pairs -> [N, V] logits behind the question."""


def split_task(vertices: int) -> LengthTwoPath:
    """The task in the theorem's encoding: one token for each possible edge of either end, then the question."""
    return LengthTwoPath(vertices=vertices, encoding="split")


def design(vertices: int) -> Transformer:
    """One layer, one head, width |V| - 1 (or |V|: a head has an even number of channels), |V| - 2 hidden units."""
    if vertices < 3:
        raise ValueError(f"length-2 path needs at least 3 vertices, not {vertices}")
    middle = vertices - 2
    width = 2 * math.ceil((middle + 1) / 2)
    return Transformer(
        layers=1,
        width=width,
        attention=Attention(heads=1),
        feedforward=Dense(expansion=middle / width),
        epsilon=1e-9,  # one channel of many has a mean square of 1 / D, and the default would weigh in at D > 1000
    )


def construction(vertices: int) -> LanguageModel:
    """The theorem's model: its ``state_dict`` is an ordinary checkpoint."""
    model = LanguageModel(design(vertices), split_task(vertices).vocabulary)
    model.load_state_dict(weights(vertices))
    return model.eval()


def weights(vertices: int) -> dict[str, Tensor]:
    """The checkpoint. Gates are β (x - 1/2), β = 2 ceil(ln 3M) for M = |V| - 2; δ is the least power of 2 >= 8 / β."""
    task, width, constant = split_task(vertices), design(vertices).width, vertices - 2
    middle = task.middle
    steepness = 2 * math.ceil(math.log(3 * middle))
    strength = 2.0 ** math.ceil(math.log2(8 / steepness))
    speaks_MD = torch.eye(width)[:middle]

    embedding_VD = torch.zeros(task.vocabulary, width)
    absent_T, present_T = (_prompt(task, Pairs(*[np.full((1, middle), edge)] * 2))[0] for edge in (False, True))
    for positions in (task.alice_positions, task.bob_positions):
        embedding_VD[absent_T[positions]] = -speaks_MD
        embedding_VD[present_T[positions]] = speaks_MD
    embedding_VD[task.question, constant] = 1

    vertex_channels_DD = speaks_MD.mT @ speaks_MD
    qkv_DK = torch.cat((torch.zeros(width, 2 * width), vertex_channels_DD), dim=1)
    gates_DF, values_DF = steepness * speaks_MD.mT, torch.zeros(width, middle)
    gates_DF[constant], values_DF[constant] = -steepness / 2, 1
    down_FD, head_DV = torch.zeros(middle, width), torch.zeros(width, task.vocabulary)
    down_FD[:, constant] = -strength
    head_DV[constant, task.no], head_DV[constant, task.yes] = 1, -1
    return {
        "embedding_VD": embedding_VD,
        "blocks.0.attention_norm.weight_D": torch.ones(width),
        "blocks.0.attention.qkv_DK": qkv_DK,
        # A normed token is ±sqrt(D), and the mean over the T tokens of the prompt divides by T.
        "blocks.0.attention.out_KD": vertex_channels_DD * task.prompt / (2 * math.sqrt(width)),
        "blocks.0.feedforward_norm.weight_D": torch.ones(width),
        "blocks.0.feedforward.up_DG": torch.cat((gates_DF, values_DF), dim=1),
        "blocks.0.feedforward.down_FD": down_FD,
        "norm.weight_D": torch.ones(width),
        "head_DV": head_DV,
    }


def in_float32(model: LanguageModel) -> LastLogits:
    """The model as it is, asked for its logits behind the question."""
    return lambda pairs: model(_prompt(_task_of(pairs), pairs))[0][:, -1]


def at_precision(model: LanguageModel, bits: int) -> LastLogits:
    """The model with every weight and every activation rounded to p bits (``precision.Rounded``)."""
    small = Rounded(model, bits)
    return lambda pairs: evaluate(small, _task_of(pairs), *pairs)


@torch.no_grad()
def mistakes(last_logits: LastLogits, pairs: Pairs) -> int:
    """How many pairs get another answer than whether the two sets meet, over the whole vocabulary."""
    task, wrong = _task_of(pairs), 0
    answer_of = torch.tensor([task.no, task.yes])
    for start in range(0, len(pairs.source_NM), ROWS):
        some = Pairs(*(sets_NM[start : start + ROWS] for sets_NM in pairs))
        logits_NV = last_logits(some)
        meet_N = torch.from_numpy((some.source_NM & some.destination_NM).any(axis=1))
        right_N = logits_NV.argmax(dim=-1) == answer_of[meet_N.long()]
        right_N &= (logits_NV == logits_NV.amax(dim=-1, keepdim=True)).sum(dim=-1) == 1  # a tie is no answer
        wrong += int((~right_N).sum())
    return wrong


def every_pair(vertices: int) -> Pairs:
    """All 4^M pairs of sets of the M = |V| - 2 vertices between source and destination."""
    sets_NM = np.array(list(itertools.product((False, True), repeat=vertices - 2)))
    return Pairs(np.repeat(sets_NM, len(sets_NM), axis=0), np.tile(sets_NM, (len(sets_NM), 1)))


def every_graph(vertices: int) -> Pairs:
    """Every graph, with every source and every other destination: their neighbours among the other vertices."""
    if vertices > MOST_ENUMERATED:
        raise ValueError(
            f"{vertices} vertices have 2^{math.comb(vertices, 2)} graphs: enumerate at most {MOST_ENUMERATED}"
        )
    upper = np.triu_indices(vertices, 1)
    present_NP = np.array(list(itertools.product((False, True), repeat=len(upper[0]))))
    adjacency_NVV = np.zeros((len(present_NP), vertices, vertices), dtype=bool)
    adjacency_NVV[:, *upper] = present_NP
    adjacency_NVV |= adjacency_NVV.swapaxes(1, 2)
    questions = [
        np.delete(adjacency_NVV[:, [source, destination]], [source, destination], axis=2)
        for source, destination in itertools.permutations(range(vertices), 2)
    ]
    return Pairs(*np.concatenate(questions).swapaxes(0, 1))


def every_kind(vertices: int) -> Pairs:
    """One pair for each number of vertices that neighbour both ends, one, or none: (M + 1)(M + 2) / 2 pairs.

    The construction treats all M vertices and both ends alike, so its logits depend on these numbers only (up to the
    order of floating-point sums): right on these pairs with a margin, right on all 4^M.
    """
    middle = vertices - 2
    kinds = [(both, one) for both in range(middle + 1) for one in range(middle + 1 - both)]
    both_N1, one_N1 = (np.array(numbers)[:, None] for numbers in zip(*kinds))
    vertex_M = np.arange(middle)
    return Pairs(vertex_M < both_N1 + one_N1, vertex_M < both_N1)


def random_pairs(vertices: int, count: int, seed: int) -> Pairs:
    """Random pairs of all densities; of three, one covers all vertices without meeting, one meets in one alone."""
    generator = stream("theory", "length_two_path", seed, vertices)
    shape = (count, vertices - 2)
    source_NM, destination_NM = (generator.random(shape) < generator.random((count, 1)) for _ in range(2))
    destination_NM[0::3], destination_NM[1::3] = ~source_NM[0::3], ~source_NM[1::3]
    rows_N = np.arange(1, count, 3)
    meeting_N = generator.integers(vertices - 2, size=len(rows_N))
    source_NM[rows_N, meeting_N] = True
    destination_NM[rows_N, meeting_N] = True
    return Pairs(source_NM, destination_NM)


def smallest_precision(vertices: int, bits: int = LEAST_BITS) -> int:
    """The fewest bits a number, from ``bits`` on, at which the construction is right on every kind of pair.

    Found by trying: at so few bits a rounding may help by luck, so that 4 may work where 5 do not.
    """
    model, pairs = construction(vertices), every_kind(vertices)
    return next(b for b in range(bits, max(bits, MOST_BITS) + 1) if not mistakes(at_precision(model, b), pairs))


def check_precision(vertices: int, bits: int) -> None:
    """Refuses a precision at which the construction errs."""
    smallest = smallest_precision(vertices, max(bits, LEAST_BITS))
    if bits < smallest:
        raise ValueError(
            f"{bits} bits a number are too few for the construction at {vertices} vertices: "
            f"the smallest precision from there on that works is {smallest}"
        )


def stated_precision(vertices: int) -> int:
    """p = 2 · ceil(log2 N) bits, the precision that we state for the construction."""
    return BITS_PER_LOG * math.ceil(math.log2(split_task(vertices).prompt))


def _task_of(pairs: Pairs) -> LengthTwoPath:
    return split_task(pairs.source_NM.shape[1] + 2)


def _prompt(task: LengthTwoPath, pairs: Pairs) -> Tensor:
    return torch.from_numpy(task.rows(*pairs).tokens_BT[:, : task.prompt].astype(np.int64))

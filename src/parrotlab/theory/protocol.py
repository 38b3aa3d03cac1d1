"""Theorem 3.2 as a protocol: two parties who each hold one end's edges run a one-layer model, and few bits pass.

Alice holds the tokens of the source's edges, Bob those of the destination's; position and question are public.
Alice sends what her tokens tell the last position, for each head one weight and one mean, at p bits a number. Bob
does the rest alone: his own tokens, the feed-forward with all its experts, the answer. So the model answers at most
what (D + H) · p bits allow, however many experts it has; ``bounds`` says what that is. See docs/theory.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from parrotlab.tasks.length_two_path import LengthTwoPath
from parrotlab.theory.precision import Message, Rounded, decode, encode

MOST_MIDDLE = 16
"""Vertices between source and destination up to which all neighbour sets are tried."""


class Transcript(NamedTuple):
    """What passed between the parties for B inputs, and what Bob answered."""

    codes_BK: Tensor
    """Alice's message: K integers of p bits."""
    bits: int
    """Bits of one message, K · p."""
    logits_BV: Tensor
    """Bob's answer: the model's logits behind the question."""


class Fooled(NamedTuple):
    """Two inputs that a model cannot tell apart, though the answer to one is yes and to the other no."""

    source_2M: np.ndarray
    destination_2M: np.ndarray


class _Parties(NamedTuple):
    alice_P: Tensor
    bob_P: Tensor
    public_P: Tensor


def converse(model: Rounded, task: LengthTwoPath, source_BM: np.ndarray, destination_BM: np.ndarray) -> Transcript:
    """Runs the protocol on B pairs of neighbour sets of M vertices; neither party sees the other's."""
    codes_BK = alice(model, task, source_BM)
    return Transcript(codes_BK, codes_BK.shape[1] * model.bits, bob(model, task, destination_BM, codes_BK))


def alice(model: Rounded, task: LengthTwoPath, source_BM: np.ndarray) -> Tensor:
    """[B, K] codes of p bits: everything that Bob learns of the source's edges; K = H · (C + 1)."""
    tokens_BT = _tokens(task, source_BM, np.zeros_like(source_BM))
    log_weight_BH, mean_BHC = _message(model, task, tokens_BT, _parties(task).alice_P)
    return encode(torch.cat((log_weight_BH, mean_BHC.flatten(-2)), dim=-1), model.bits)


def bob(model: Rounded, task: LengthTwoPath, destination_BM: np.ndarray, codes_BK: Tensor) -> Tensor:
    """[B, V] logits, from the destination's edges and Alice's codes."""
    heads = model.design.attention.heads
    numbers_BK = decode(codes_BK, model.bits)
    hers = Message(numbers_BK[:, :heads], numbers_BK[:, heads:].unflatten(-1, (heads, -1)))
    tokens_BT = _tokens(task, np.zeros_like(destination_BM), destination_BM)
    _, bob_P, public_P = _parties(task)
    own, known = (_message(model, task, tokens_BT, positions_P) for positions_P in (bob_P, public_P))
    return model.logits([hers, own, known], int(tokens_BT[0, -1]))


def evaluate(model: Rounded, task: LengthTwoPath, source_BM: np.ndarray, destination_BM: np.ndarray) -> Tensor:
    """[B, V] logits of the model at p bits on whole rows, with nobody between: what the protocol must reproduce."""
    tokens_BT = _tokens(task, source_BM, destination_BM)
    messages = [_message(model, task, tokens_BT, positions_P) for positions_P in _parties(task)]
    return model.logits(messages, int(tokens_BT[0, -1]))


def fooled(model: Rounded, task: LengthTwoPath) -> Fooled:
    """The lower bound at work: two sets with the same message, and a vertex of one alone to be Bob's only neighbour.

    There are such sets, whatever the weights and however many experts, once the message has fewer than M bits: 2^M
    sets, fewer messages. All of them are tried, so M is at most ``MOST_MIDDLE``.
    """
    if task.middle > MOST_MIDDLE:
        raise ValueError(f"2^{task.middle} neighbour sets are too many to try: at most {MOST_MIDDLE} vertices between")
    sets_NM = (np.arange(2**task.middle)[:, None] >> np.arange(task.middle)) % 2 == 1
    message_N = alice(model, task, sets_NM).unique(dim=0, return_inverse=True)[1].numpy()
    order_N = message_N.argsort(kind="stable")
    (alike_N,) = np.nonzero(np.diff(message_N[order_N]) == 0)
    if not len(alike_N):
        raise ValueError(f"every one of the 2^{task.middle} neighbour sets has a message of its own")
    source_2M = sets_NM[order_N[alike_N[0] : alike_N[0] + 2]]
    vertex = np.flatnonzero(source_2M[0] != source_2M[1])[0]
    return Fooled(source_2M, np.tile(np.arange(task.middle) == vertex, (2, 1)))


def _message(model: Rounded, task: LengthTwoPath, tokens_BT: Tensor, positions_P: Tensor) -> Message:
    return model.message(tokens_BT[:, positions_P], positions_P, int(tokens_BT[0, -1]), task.prompt - 1)


def _tokens(task: LengthTwoPath, source_BM: np.ndarray, destination_BM: np.ndarray) -> Tensor:
    tokens_BT = task.rows(source_BM, destination_BM).tokens_BT[:, : task.prompt]
    return torch.from_numpy(tokens_BT.astype(np.int64))


def _parties(task: LengthTwoPath) -> _Parties:
    alice_P, bob_P = np.asarray(task.alice_positions), np.asarray(task.bob_positions)
    public_P = np.setdiff1d(np.arange(task.prompt), np.concatenate((alice_P, bob_P)))
    return _Parties(*(torch.from_numpy(positions.astype(np.int64)) for positions in (alice_P, bob_P, public_P)))

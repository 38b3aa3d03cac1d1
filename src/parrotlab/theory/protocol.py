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


class Transcript(NamedTuple):
    """What passed between the parties for B inputs, and what Bob answered."""

    codes_BM: Tensor
    """Alice's message: M integers of p bits."""
    bits: int
    """Bits of one message, M · p."""
    logits_BV: Tensor
    """Bob's answer: the model's logits behind the question."""


class _Parties(NamedTuple):
    alice_P: Tensor
    bob_P: Tensor
    public_P: Tensor


def converse(model: Rounded, task: LengthTwoPath, source_BV: np.ndarray, destination_BV: np.ndarray) -> Transcript:
    """Runs the protocol on B pairs of neighbour sets; neither party sees the other's."""
    codes_BM = alice(model, task, source_BV)
    return Transcript(codes_BM, codes_BM.shape[1] * model.bits, bob(model, task, destination_BV, codes_BM))


def alice(model: Rounded, task: LengthTwoPath, source_BV: np.ndarray) -> Tensor:
    """[B, M] codes of p bits: everything that Bob learns of the source's edges; M = H · (C + 1)."""
    tokens_BT = _tokens(task, source_BV, np.zeros_like(source_BV))
    log_weight_BH, mean_BHC = _message(model, task, tokens_BT, _parties(task).alice_P)
    return encode(torch.cat((log_weight_BH, mean_BHC.flatten(-2)), dim=-1), model.bits)


def bob(model: Rounded, task: LengthTwoPath, destination_BV: np.ndarray, codes_BM: Tensor) -> Tensor:
    """[B, V] logits, from the destination's edges and Alice's codes."""
    heads = model.design.attention.heads
    numbers_BM = decode(codes_BM, model.bits)
    hers = Message(numbers_BM[:, :heads], numbers_BM[:, heads:].unflatten(-1, (heads, -1)))
    tokens_BT = _tokens(task, np.zeros_like(destination_BV), destination_BV)
    _, bob_P, public_P = _parties(task)
    own, known = (_message(model, task, tokens_BT, positions_P) for positions_P in (bob_P, public_P))
    return model.logits([hers, own, known], int(tokens_BT[0, -1]))


def evaluate(model: Rounded, task: LengthTwoPath, source_BV: np.ndarray, destination_BV: np.ndarray) -> Tensor:
    """[B, V] logits of the model at p bits on whole rows, with nobody between: what the protocol must reproduce."""
    tokens_BT = _tokens(task, source_BV, destination_BV)
    messages = [_message(model, task, tokens_BT, positions_P) for positions_P in _parties(task)]
    return model.logits(messages, int(tokens_BT[0, -1]))


def _message(model: Rounded, task: LengthTwoPath, tokens_BT: Tensor, positions_P: Tensor) -> Message:
    return model.message(tokens_BT[:, positions_P], positions_P, int(tokens_BT[0, -1]), task.prompt - 1)


def _tokens(task: LengthTwoPath, source_BV: np.ndarray, destination_BV: np.ndarray) -> Tensor:
    tokens_BT = task.rows(source_BV, destination_BV).tokens_BT[:, : task.prompt]
    return torch.from_numpy(tokens_BT.astype(np.int64))


def _parties(task: LengthTwoPath) -> _Parties:
    alice_P, bob_P = np.asarray(task.alice_positions), np.asarray(task.bob_positions)
    public_P = np.setdiff1d(np.arange(task.prompt), np.concatenate((alice_P, bob_P)))
    return _Parties(*(torch.from_numpy(positions.astype(np.int64)) for positions in (alice_P, bob_P, public_P)))

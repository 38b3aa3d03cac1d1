"""The theorems at small size, run: every check that ``parrotlab theory verify`` makes, in a minute or so."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import LanguageModel, Transformer, build
from parrotlab.theory import bounds, memorization
from parrotlab.theory.check import Check
from parrotlab.theory.length_two_path import (
    Pairs,
    at_precision,
    construction,
    every_graph,
    every_kind,
    every_pair,
    in_float32,
    mistakes,
    random_pairs,
    split_task,
    stated_precision,
)
from parrotlab.theory.precision import Rounded
from parrotlab.theory.protocol import converse, evaluate, fooled

RANDOM_SIZES = (8, 16, 32, 64)
"""Vertices of the random inputs, which are shared out evenly."""
RANDOM_PAIRS = 10_000
NARROW = {"vertices": 16, "width": 2, "heads": 1, "bits": 4}
"""A model that theorem 3.2 excludes: a message of (2 + 1) · 4 = 12 bits for 2^14 neighbour sets."""


def verify(seed: int = 0) -> Iterator[Check]:
    """One row a check, as they are made."""
    yield from lower_bound(seed)
    yield from dense_construction(seed)
    yield from equal_total_parameters()
    yield from memorization.checks(seed)


def lower_bound(seed: int = 0) -> Iterator[Check]:
    """Theorem 3.2: the protocol reproduces random models bit for bit, its bits ignore experts, narrow models err."""
    task, bits, heads = split_task(16), 16, 2
    pairs = random_pairs(16, 500, seed)
    for experts in (0, 1, 4, 16):
        model = Rounded(random_model(split_task(16).vocabulary, 16, heads, experts, seed), bits)
        transcript = converse(model, task, *pairs)
        alike = torch.equal(transcript.logits_BV, evaluate(model, task, *pairs))
        formula = bounds.message_bits(16, heads, bits)
        what = f"{_name(experts)} of width 16 at {bits} bits answers as its protocol does, in {transcript.bits} bits"
        yield Check("theorem 3.2", what, len(pairs.source_NM), alike and transcript.bits == formula)
    for experts in (0, 1, 64):
        yield excluded(experts, seed)


def excluded(experts: int, seed: int) -> Check:
    """Theorem 3.2 against one model that is too narrow: an input on which it errs, found through its messages."""
    task = split_task(NARROW["vertices"])
    model = Rounded(random_model(task.vocabulary, NARROW["width"], NARROW["heads"], experts, seed), NARROW["bits"])
    pair = fooled(model, task)
    first_V, second_V = evaluate(model, task, *pair)
    differ = (pair.source_2M & pair.destination_2M).any(axis=1).tolist() in ([False, True], [True, False])
    what = (
        f"{_name(experts)} of width {NARROW['width']} at {NARROW['bits']} bits cannot tell two graphs "
        f"of {NARROW['vertices']} vertices apart that differ in their answer"
    )
    return Check("theorem 3.2", what, 2**task.middle, differ and torch.equal(first_V, second_V))


def dense_construction(seed: int = 0) -> Iterator[Check]:
    """Theorem 3.3: the construction is right everywhere it is asked, in float32 and at the stated precision."""
    for what, inputs in {
        "every graph of 4 and 5 vertices, every source and destination": [every_graph(4), every_graph(5)],
        "every pair of neighbour sets up to 7 vertices": [every_pair(vertices) for vertices in range(4, 8)],
        "random neighbour sets of 8 to 64 vertices": [
            random_pairs(vertices, RANDOM_PAIRS // len(RANDOM_SIZES), seed) for vertices in RANDOM_SIZES
        ],
        "every kind of neighbour sets of 8 to 64 vertices": [every_kind(vertices) for vertices in RANDOM_SIZES],
    }.items():
        wrong = {"float32": 0, "2 ceil(log2 N) bits": 0}
        for pairs in inputs:
            vertices = pairs.source_NM.shape[1] + 2
            model = construction(vertices)
            wrong["float32"] += mistakes(in_float32(model), pairs)
            wrong["2 ceil(log2 N) bits"] += mistakes(at_precision(model, stated_precision(vertices)), pairs)
        for numbers, count in wrong.items():
            yield Check("theorem 3.3", f"{what}, in {numbers}: {count} wrong", _rows(inputs), count == 0)


def equal_total_parameters() -> Iterator[Check]:
    """Corollary 3.4: from the number of experts it names, and not before, the bound excludes the mixture."""
    for vertices, precision in ((64, 16), (64, 8), (128, 16)):
        first = bounds.failing_experts(vertices, precision=precision)
        experts = [first // 4, first // 2, first - 1, first, 2 * first, 4 * first]
        fails = bounds.equal_total(vertices, experts, precision=precision).fails.tolist()
        what = (
            f"at {vertices} vertices and {precision} bits a mixture as large as the dense model fails from K = {first}"
        )
        yield Check("corollary 3.4", what, len(experts), fails == [number >= first for number in experts])


def random_model(vocabulary: int, width: int, heads: int, experts: int, seed: int) -> LanguageModel:
    """One layer with fresh weights, dense for 0 experts, else a top-1 mixture."""
    feedforward = Mixture(experts=experts, active=1, renormalise=False) if experts else Dense()
    design = Transformer(layers=1, width=width, attention=Attention(heads=heads), feedforward=feedforward)
    return build(design, vocabulary, seed)


def _name(experts: int) -> str:
    return f"a mixture of {experts}" if experts else "a dense model"


def _rows(inputs: list[Pairs]) -> int:
    return sum(len(pairs.source_NM) for pairs in inputs)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer, build
from parrotlab.theory.bounds import message_bits
from parrotlab.theory.length_two_path import (
    at_precision,
    construction,
    every_kind,
    every_pair,
    mistakes,
    random_pairs,
    split_task,
)
from parrotlab.theory.precision import Rounded
from parrotlab.theory.protocol import alice, bob, converse, evaluate, fooled
from parrotlab.theory.verify import random_model

TASK = split_task(10)
PAIRS = random_pairs(10, 200, seed=0)


@settings(max_examples=25, deadline=None)
@given(
    heads=st.integers(1, 3),
    channels=st.sampled_from([2, 4]),
    experts=st.integers(0, 6),
    bits=st.integers(4, 32),
    seed=st.integers(0, 5),
)
def test_bob_answers_what_the_model_answers_bit_for_bit(heads, channels, experts, bits, seed):
    model = Rounded(random_model(TASK.vocabulary, heads * channels, heads, experts, seed), bits)
    transcript = converse(model, TASK, *PAIRS)
    assert torch.equal(transcript.logits_BV, evaluate(model, TASK, *PAIRS))
    assert len(transcript.logits_BV.unique(dim=0)) > 1 or bits < 8, "a model that always says the same proves nothing"


@settings(max_examples=15, deadline=None)
@given(heads=st.integers(1, 4), experts=st.integers(0, 12), active=st.integers(1, 2), bits=st.integers(4, 20))
def test_the_bits_do_not_depend_on_the_experts(heads, experts, active, bits):
    width = 4 * heads
    feedforward = Mixture(experts=experts, active=active, renormalise=False) if experts >= active else Dense()
    design = Transformer(layers=1, width=width, attention=Attention(heads=heads), feedforward=feedforward)
    transcript = converse(Rounded(build(design, TASK.vocabulary, seeds=0), bits), TASK, *PAIRS)
    assert transcript.bits == message_bits(width, heads, bits)
    assert transcript.codes_BK.max() < 2**bits


def test_experts_that_differ_answer_differently_to_the_same_message():
    one, other = (random_model(TASK.vocabulary, 8, 2, experts, seed=0) for experts in (1, 16))
    other.load_state_dict({n: t for n, t in one.state_dict().items() if "feedforward." not in n}, strict=False)
    one, other = Rounded(one, 16), Rounded(other, 16)
    assert torch.equal(alice(one, TASK, PAIRS.source_NM), alice(other, TASK, PAIRS.source_NM))
    assert not torch.equal(evaluate(one, TASK, *PAIRS), evaluate(other, TASK, *PAIRS))


def test_bob_needs_alices_message():
    model = Rounded(random_model(TASK.vocabulary, 8, 2, 4, seed=0), 16)
    codes_BK = alice(model, TASK, PAIRS.source_NM)
    empty_BK = alice(model, TASK, np.zeros_like(PAIRS.source_NM))
    told, untold = (bob(model, TASK, PAIRS.destination_NM, codes) for codes in (codes_BK, empty_BK))
    assert not torch.equal(told, untold)


def test_the_construction_is_right_through_the_protocol():
    task, pairs = split_task(7), every_pair(7)
    model = Rounded(construction(7), 8)
    assert mistakes(lambda some: converse(model, task, *some).logits_BV, pairs) == 0


@pytest.mark.parametrize("experts", [0, 1, 8, 64])
def test_a_model_whose_message_is_too_short_errs_whatever_its_experts(experts):
    task = split_task(16)
    model = Rounded(random_model(task.vocabulary, 2, 1, experts, seed=3), bits=4)
    pair = fooled(model, task)
    assert (pair.source_2M & pair.destination_2M).any(axis=1).sum() == 1
    first_V, second_V = evaluate(model, task, *pair)
    assert torch.equal(first_V, second_V)


def test_the_construction_is_not_fooled():
    with pytest.raises(ValueError, match=r"every one of the 2\^5 neighbour sets has a message of its own"):
        fooled(Rounded(construction(7), 8), split_task(7))


def test_too_many_sets_are_not_tried():
    with pytest.raises(ValueError, match=r"2\^18 neighbour sets are too many to try: at most 16"):
        fooled(Rounded(construction(20), 8), split_task(20))


def test_two_layers_are_refused():
    design = Transformer(layers=2, width=8, attention=Attention(heads=1), feedforward=Dense())
    with pytest.raises(ValueError, match="models of 1 layer, not 2"):
        at_precision(build(design, TASK.vocabulary, seeds=0), 16)(every_kind(10))

"""Randomness has names."""

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parrotlab import seeds
from parrotlab.seeds import key, stream

names = st.lists(st.integers() | st.text(max_size=5), min_size=1, max_size=4).map(tuple)


def test_the_docstring_tells_the_truth():
    assert doctest.testmod(seeds) == (0, 1)


@given(names, names)
def test_only_equal_names_share_a_stream(one, other):
    assert (key(*one) == key(*other)) == (one == other)


def test_a_number_and_its_text_are_different_names():
    assert key(1) != key("1")
    assert key("a", "b") != key("ab")


def test_a_number_is_the_same_name_whatever_library_holds_it():
    assert key("train", np.int64(3)) == key("train", 3)


def test_neighbouring_seeds_share_no_number():
    draws = [set(stream("phone_book", seed, "train", 0).integers(1 << 62, size=1000).tolist()) for seed in (0, 1, 2)]
    assert len(set.union(*draws)) == 3000

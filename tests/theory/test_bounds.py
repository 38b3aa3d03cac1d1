import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrotlab.theory.bounds import (
    critical_widths,
    equal_total,
    failing_experts,
    least_message_bits,
    least_width,
    message_bits,
    sparse_width,
)

sizes, heads, precisions = st.integers(3, 5000), st.integers(1, 8), st.integers(4, 32)


@given(vertices=sizes, heads=heads, precision=precisions)
def test_the_least_width_can_say_enough_and_the_next_smaller_one_cannot(vertices, heads, precision):
    width = least_width(vertices, heads, precision)
    assert width % (2 * heads) == 0
    assert message_bits(width, heads, precision) >= least_message_bits(vertices)
    narrower = width - 2 * heads
    assert narrower == 0 or message_bits(narrower, heads, precision) < least_message_bits(vertices)


@given(vertices=sizes, heads=heads, precision=precisions)
def test_the_construction_is_never_excluded(vertices, heads, precision):
    (row,) = critical_widths([vertices], 1, precision).itertuples()
    assert row.least_width <= row.construction_width


@given(vertices=sizes, heads=heads, precision=precisions, error=st.floats(0, 0.5))
def test_mistakes_and_bits_can_only_lower_the_bound(vertices, heads, precision, error):
    width = least_width(vertices, heads, precision, error)
    assert width <= least_width(vertices, heads, precision)
    assert width >= least_width(vertices, heads, precision + 1, error)
    assert width <= least_width(vertices + 1, heads, precision, error)


def test_a_coin_needs_no_message():
    assert least_message_bits(100, error=0.5) == 0


@pytest.mark.parametrize("middle", [1, 2, 3])
def test_no_shorter_message_solves_disjointness(middle):
    # All functions from sets to messages: with fewer than 2^M messages some two sets collide, and Bob must err.
    sets = range(2**middle)
    answers = {one: tuple(bool(one & other) for other in sets) for one in sets}
    messages = 2 ** math.ceil(least_message_bits(middle + 2))
    assert len(set(answers.values())) == messages
    if middle < 3:
        for assignment in itertools.product(range(messages - 1), repeat=len(sets)):
            told = {(message, answers[one]) for one, message in zip(sets, assignment)}
            assert len({message for message, _ in told}) < len(told)


@pytest.mark.parametrize("error", [0.0, 0.05, 0.2])
def test_fano_holds_for_a_message_that_keeps_some_bits_and_guesses_the_rest(error):
    # Sending k of M bits errs on half of the others: its error is (1 - k / M) / 2, and k must obey the bound.
    middle = 200
    kept = math.ceil(middle * (1 - 2 * error))
    assert kept >= least_message_bits(middle + 2, error)


@pytest.mark.parametrize(("vertices", "precision"), [(64, 16), (64, 8), (200, 16)])
def test_a_mixture_fails_from_the_named_number_of_experts_on(vertices, precision):
    first = failing_experts(vertices, precision=precision)
    experts = [1, first // 2, first - 1, first, first + 1, 2 * first]
    table = equal_total(vertices, experts, precision=precision)
    assert table.fails.tolist() == [number >= first for number in experts]
    assert (table.fails == (table.sparse_width < table.least_width)).all()


def test_the_number_of_failing_experts_grows_like_the_square_of_the_precision():
    vertices = 6000  # so many that widths are nearly continuous
    few, many = (failing_experts(vertices, precision=precision) for precision in (10, 20))
    assert many / few == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("vertices", [64, 500])
def test_the_sparse_width_shrinks_like_the_root_of_the_experts(vertices):
    first, second = sparse_width(vertices, 16), sparse_width(vertices, 64)
    assert first / second == pytest.approx(2, rel=0.15)


def test_one_bit_example():
    # 62 vertices between, 16 bits: D + 1 >= 62 / 16 = 3.875, so D >= 2.875, and the next even width is 4.
    assert least_width(64, heads=1, precision=16) == 4
    assert message_bits(4, 1, 16) == 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((2, 1, 16), "at least 3 vertices, not 2"),
        ((8, 0, 16), "at least 1 head"),
        ((8, 1, 0), "1 bit a number"),
        ((8, 1, 16, 0.7), "from 0 to 0.5, not 0.7"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        least_width(*arguments)


def test_a_bound_that_excludes_no_width_names_no_experts():
    with pytest.raises(ValueError, match="ask for more than 50 vertices"):
        failing_experts(16)
    assert failing_experts(51) > 1

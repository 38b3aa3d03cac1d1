"""The counting bound is exact where it can be counted by hand, and needs no torch to be drawn."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrotlab.theory.counting import FLOAT_BITS, capacity_bits, capacity_lines, least_parameters


@given(st.integers(0, 10**9), st.integers(1, 64))
def test_least_parameters_hold_the_bits_and_one_fewer_does_not(bits, bits_per_parameter):
    least = least_parameters(bits, bits_per_parameter)
    assert capacity_bits(least - 1, bits_per_parameter) < bits <= capacity_bits(least, bits_per_parameter)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.1, 32), st.floats(0.1, 32))
def test_more_bits_need_more_parameters_and_better_parameters_fewer(bits, more, rate, better):
    assert least_parameters(bits + more, rate) >= least_parameters(bits, rate)
    assert least_parameters(bits, rate + better) <= least_parameters(bits, rate)


def test_tiny_cases_by_hand():
    assert [least_parameters(labels, 32) for labels in (0, 1, 32, 33)] == [0, 1, 1, 2]
    assert least_parameters(1000 * 26.575, 2) == 13288  # a book of 1000 numbers of 8 digits at 2 bits a parameter


def test_impossible_rates_are_refused():
    with pytest.raises(ValueError, match="bits_per_parameter positive, not 8 and 0"):
        least_parameters(8, 0)


def test_a_line_is_straight_and_named_and_has_a_point_for_each_size():
    table = capacity_lines([0, 10, 20], {"two": 2.0, **FLOAT_BITS})
    assert table["line"].unique().tolist() == ["two", "float32", "bfloat16"]
    assert table.groupby("line")["bits"].apply(list).to_dict() == {
        "two": [0, 20, 40],
        "float32": [0, 320, 640],
        "bfloat16": [0, 160, 320],
    }


def test_the_lines_are_drawn_where_there_is_no_torch():
    code = "import sys, parrotlab.theory.counting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

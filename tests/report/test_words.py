import math

import pytest

from parrotlab.report._words import interval_text, number, plain, rate_text, si, width_interval_text, width_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (999.6, "1k"), (14_500, "14.5k"), (3_410_000, "3.41M"), (2.5e18, "2.5E")],
)
def test_parameters_have_three_digits_and_a_unit(value, text):
    assert si(value) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_absent_is_a_dash(value):
    assert si(value) == number(value) == "–"


def test_a_number_has_three_digits_and_no_exponent_where_none_is_needed():
    assert [number(value) for value in (0.00512, 0.5, 12345.6)] == ["0.00512", "0.5", "12,346"]


def test_an_open_interval_says_where_it_is_open():
    assert interval_text({"low": 0.5, "high": math.inf}) == "0.50 to open"
    assert interval_text({"low": math.nan, "high": math.nan}) == ""


def test_bounds_are_marked():
    assert [rate_text({"rate": 1, "bound": bound}) for bound in ("", "at least", "at most")] == [
        "1.00",
        "≥ 1.00",
        "≤ 1.00",
    ]


def test_a_critical_width_beyond_those_trained_is_marked_and_open():
    assert width_text({"width": 64.0, "bound": "more than"}) == "> 64"
    assert width_text({"width": 14.21, "bound": ""}) == "14.2"
    assert width_interval_text({"low": 12.0, "high": math.inf}) == "12 to open"
    assert width_interval_text({"low": 0.0, "high": 4.0}) == "open to 4"
    assert width_interval_text({"low": math.nan, "high": math.nan}) == ""


def test_a_plain_row_holds_nothing_that_json_does_not_know():
    assert plain({"a": math.inf, "b": math.nan, "c": 1.5, "d": "x"}) == {"a": None, "b": None, "c": 1.5, "d": "x"}

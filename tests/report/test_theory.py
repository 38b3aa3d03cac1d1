"""What the report takes from the theory."""

from parrotlab.report import _theory
from parrotlab.theory import bounds
from parrotlab.theory.check import Check


def test_the_curve_shows_the_first_mixture_that_fails_at_each_precision():
    for precision, group in _theory.curve().groupby("precision"):
        first = bounds.failing_experts(_theory.CURVE_VERTICES, precision=precision)
        assert group.loc[group.fails, "experts"].min() == first
        assert group.experts.is_monotonic_increasing


def test_every_line_of_memory_names_its_source():
    lines = _theory.memory_lines([2000, 1000, 1000])
    assert (lines.bits / lines.parameters).drop_duplicates().tolist() == [2.0, 3.6, 32.0]
    assert lines.parameters.tolist() == [1000, 2000] * 3
    assert lines.groupby("line").source.nunique().tolist() == [1, 1, 1]


def test_a_check_that_fails_is_not_counted_as_holding():
    made = [Check("theorem 3.2", "one", 1, True), Check("theorem 3.2", "other", 1, False)]
    assert _theory.tally(made) == "1 of 2 checks hold."
    assert [row["verdict"] for row in _theory.rows(made)] == ["holds", "does not hold"]

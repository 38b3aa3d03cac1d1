"""Capacity: bits per parameter, and the largest book known by heart."""

import math

import pytest

from parrotlab.analysis.capacity import bits_per_parameter, largest_book
from parrotlab.analysis.points import Score, points

ACCURACY = Score(evaluation="exact_match", split="test", metric="accuracy", label="accuracy")


def bits(memorized, entropy):
    return [("bits", "train", "bits_memorized", "", 10, memorized), ("bits", "train", "entropy", "", 10, entropy)]


def test_bits_per_parameter_is_bits_over_total_parameters(book):
    book.run(10, seed=0, measured=bits(180.0, 1000.0))
    book.run(10, seed=1, measured=bits(220.0, 1000.0))
    book.run(10, experts=4, measured=bits(960.0, 1000.0))
    dense, mixture = (row for _, row in bits_per_parameter(book.table()).iterrows())
    assert (dense["total"], dense["rate"], dense["seeds"], dense["bound"]) == (100, pytest.approx(2.0), 2, "")
    assert 1.7 < dense["low"] < 2.0 < dense["high"] < 2.3
    assert (mixture["total"], mixture["rate"]) == (400, pytest.approx(2.4))
    assert mixture["bound"] == "at least"  # the book was nearly known: there may have been room for more
    assert math.isnan(mixture["low"])


def test_a_task_without_bits_has_no_capacity(book):
    book.run(10)
    assert bits_per_parameter(book.table()).empty


@pytest.mark.parametrize(
    ("accuracies", "known", "unknown", "text"),
    [
        ({100: 1.0, 1000: 0.9, 2000: 0.89}, 1000, 2000, "1,000 to 2,000"),
        ({100: 0.8, 1000: 0.1}, 0, 100, "less than the smallest tested, 100"),
        ({100: 1.0, 1000: 0.95}, 1000, math.inf, "at least the largest tested, 1,000"),
    ],
)
def test_the_largest_book_lies_between_the_last_known_and_the_next_tried(book, accuracies, known, unknown, text):
    for entries, accuracy in accuracies.items():
        for seed, noise in enumerate((-0.05, 0.05)):
            book.run(10, seed, entries=entries, score=accuracy + noise)
    found = largest_book(points(book.table(), ACCURACY))
    assert found[["label", "known", "unknown", "text"]].to_numpy().tolist() == [["dense d=10", known, unknown, text]]

from __future__ import annotations

import math

import numpy as np
import pytest

from parrotlab.tasks.phone_book import PhoneBook


def test_names_within_a_book_are_distinct():
    book = PhoneBook(entries=500, letters=2)  # of 676
    names_BL = book.examples("train", 500, 0).tokens_BT[:, :2]
    assert len(np.unique(names_BL, axis=0)) == 500


def test_letters_come_first_then_digits():
    tokens_BT = PhoneBook(entries=200, letters=3, digits=4).examples("train", 200, 0).tokens_BT
    assert tokens_BT[:, :3].max() == 25
    assert set(tokens_BT[:, 3:].flatten().tolist()) == set(range(26, 36))


def test_every_digit_counts_its_entropy():
    book = PhoneBook(entries=20, digits=8)
    assert book.answer_bits("train", 20, 0) == pytest.approx(np.full(20, 8 * math.log2(10)))


def test_only_the_number_is_asked_unless_the_name_is_asked_too():
    plain, named = (PhoneBook(entries=20, ask_name=ask).batch("train", 0, 4, 0).asked_BT for ask in (False, True))
    assert (plain.sum(axis=1) == 8).all()
    assert (named.sum(axis=1) == 12).all()  # all but the first letter
    assert (PhoneBook(entries=20, ask_name=True).examples("train", 4, 0).asked_BT.sum(axis=1) == 8).all()


def test_every_trainable_name_can_be_used_and_not_one_more():
    full = PhoneBook(entries=623, letters=2)
    train = {row_T.tobytes() for row_T in full.examples("train", 1000, 0).tokens_BT[:, :2]}
    held_out = {row_T.tobytes() for row_T in full.examples("test", 1000, 0).tokens_BT[:, :2]}
    assert len(train) == 623
    assert len(train | held_out) == 26**2
    with pytest.raises(
        ValueError, match="names are exhausted: of 676 names of 2 letters 623 can be trained on, not ent"
    ):
        PhoneBook(entries=624, letters=2)


def test_more_names_than_there_are_are_refused_before_any_is_made():
    with pytest.raises(ValueError, match="entries=27"):
        PhoneBook(entries=27, letters=1)
    with pytest.raises(ValueError, match="letters=14"):
        PhoneBook(entries=27, letters=14)


def test_numbers_of_two_seeds_are_told_apart_even_where_names_coincide():
    books = [PhoneBook(entries=600, letters=2).examples("train", 600, seed).tokens_BT for seed in (0, 1)]
    numbers = [{row_T[:2].tobytes(): row_T[2:].tobytes() for row_T in book_BT} for book_BT in books]
    shared = numbers[0].keys() & numbers[1].keys()
    assert len(shared) > 500
    assert not any(numbers[0][name] == numbers[1][name] for name in shared)

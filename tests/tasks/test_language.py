from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from shelves import Shelf, sentences

from parrotlab import spec
from parrotlab.tasks import language
from parrotlab.tasks.language import Language
from parrotlab.tasks.task import Task
from parrotlab.text import hub
from parrotlab.text.corpus import open_corpus

SMALL = Language(corpus="small", vocabulary=257, length=33)
WEIGHED = Language(corpus="small", vocabulary=257, length=33, weights=(("a", 0.3), ("b", 0.7)))


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    shelf = Shelf(tmp_path)
    shelf.prepare(shelf.write("a", sentences("a", 300)), shelf.write("b", sentences("b", 200)), tokenizer="bytes")
    return shelf


def rows_of(tokens_BT):
    return {row_T.tobytes() for row_T in tokens_BT}


@pytest.mark.parametrize("task", [SMALL, WEIGHED], ids=["all parts", "weighed"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_task_keeps_the_contract(task, split):
    assert isinstance(task, Task)
    assert spec.decode(spec.encode(task)) == task
    one, other = task.batch(split, 3, 4, 7), task.batch(split, 3, 4, 7)
    assert np.array_equal(one.tokens_BT, other.tokens_BT)
    assert one.tokens_BT.shape == (4, task.length)
    assert one.tokens_BT.max() < task.vocabulary
    assert not one.asked_BT[:, 0].any()
    assert one.asked_BT[:, 1:].all()
    examples = task.examples(split, 10**6, 7)
    assert rows_of(one.tokens_BT) <= rows_of(examples.tokens_BT)
    assert np.array_equal(task.examples(split, 3, 0).tokens_BT, examples.tokens_BT[:3])


def test_no_row_of_one_split_is_in_the_other():
    train, test = (rows_of(SMALL.examples(split, 10**6, 0).tokens_BT) for split in ("train", "test"))
    assert train
    assert test
    assert not train & test


def test_an_epoch_visits_every_window_of_a_part_once_in_an_order_of_its_own():
    task = Language(corpus="small", vocabulary=257, length=33, weights=(("a", 1.0),))
    windows = open_corpus("small").windows("a", "train", task.length)
    orders = [task.batch("train", epoch, windows, 0).tokens_BT for epoch in range(2)]
    assert sorted(map(bytes, orders[0])) == sorted(map(bytes, orders[1]))
    assert len(rows_of(orders[0])) == windows
    assert not np.array_equal(*orders)


def test_steps_of_another_size_visit_the_same_rows_in_the_same_order(monkeypatch):
    monkeypatch.setattr(language, "CYCLE", 50)  # so that steps cross cycles
    whole = WEIGHED.batch("train", 0, 120, 5).tokens_BT
    pieces = [WEIGHED.batch("train", step, 12, 5).tokens_BT for step in range(10)]
    assert np.array_equal(whole, np.concatenate(pieces))


def test_every_stretch_of_rows_keeps_the_weights_exactly(monkeypatch):
    monkeypatch.setattr(language, "CYCLE", 100)
    of_a = rows_of(
        open_corpus("small").rows("a", "train", 33, np.arange(open_corpus("small").windows("a", "train", 33)))
    )
    for cycle in range(3):
        rows_BT = WEIGHED.batch("train", cycle, 100, 0).tokens_BT
        assert Counter(row_T.tobytes() in of_a for row_T in rows_BT) == {True: 30, False: 70}


def test_seeds_read_in_different_orders_and_are_judged_on_the_same_rows():
    assert not np.array_equal(SMALL.batch("train", 0, 20, 0).tokens_BT, SMALL.batch("train", 0, 20, 1).tokens_BT)
    assert np.array_equal(SMALL.examples("test", 20, 0).tokens_BT, SMALL.examples("test", 20, 1).tokens_BT)


def test_a_row_can_be_read_by_a_person():
    assert "parrot" in SMALL.text(SMALL.batch("train", 0, 200, 0).tokens_BT.reshape(-1))
    assert SMALL.text(SMALL.examples("test", 1, 0).tokens_BT[0]).isprintable()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"corpus": "smal"}, "no prepared corpus 'smal'"),
        ({"sha256": "12ab"}, "the task asks for 12ab"),
        ({"vocabulary": 256}, "has a vocabulary of 257, and the task one of 256: set vocabulary=257"),
        ({"weights": (("c", 1.0),)}, "has no part 'c': known are a, b"),
        ({"length": 100_000}, "holds no row of 100000 tokens"),
        ({"length": 100_000, "weights": (("a", 1.0),)}, "part 'a' .* is shorter than a row of 100000 tokens"),
        ({"length": 4_000}, "fewer than one batch of 50: take fewer rows"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(fields, message):
    task = Language(**{"corpus": "small", "vocabulary": 257, "length": 33} | fields)
    with pytest.raises(hub.DataError, match=message) as raised:
        task.batch("train", 0, 50, 0)
    assert "\n" not in str(raised.value)


def test_impossible_specs_refuse_themselves():
    with pytest.raises(ValueError, match=r"weights must sum to 1, not 0\.9"):
        Language(corpus="small", vocabulary=257, weights=(("a", 0.4), ("b", 0.5)))
    with pytest.raises(ValueError, match="length and vocabulary must be 2 or more, not length=1"):
        Language(corpus="small", vocabulary=257, length=1)

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrotlab.training.recipe import WINDOWS, Recipe

SCHEDULES = ["cosine", "wsd", "constant"]
RECIPE = Recipe(steps=200, rows=1, learning_rate=1.0, warmup=0.1, decay=0.25, final=0.05)


def rates(schedule, **fields):
    recipe = dataclasses.replace(RECIPE, schedule=schedule, **fields)
    return [recipe.rate(step) for step in range(recipe.steps + 1)]


recipes = st.builds(
    Recipe,
    steps=st.integers(1, 2_000),
    rows=st.just(1),
    learning_rate=st.just(1.0),
    schedule=st.sampled_from(SCHEDULES),
    warmup=st.floats(0, 1),
    decay=st.floats(0, 1),
    final=st.floats(0, 1),
)


@given(recipes)
def test_every_rate_is_between_zero_and_the_peak_and_the_first_is_not_zero(recipe):
    for step in (0, recipe.steps // 3, recipe.steps - 1):
        assert 0 <= recipe.rate(step) <= 1
    if recipe.warmup > 0:
        assert recipe.rate(0) > 0


@given(st.integers(1, 5_000))
def test_windows_cover_every_step_once_in_order(steps):
    windows = dataclasses.replace(RECIPE, steps=steps).windows()
    assert [step for window in windows for step in window] == list(range(steps))
    assert len(windows) <= WINDOWS
    assert len({len(window) for window in windows[:-1]} | {len(windows[0])}) == 1
    assert 0 < len(windows[-1]) <= len(windows[0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_warm_up_is_linear_and_never_zero(schedule):
    assert rates(schedule)[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.05), ("wsd", 0.05), ("constant", 1.0)])
def test_after_the_warm_up_the_rate_never_rises_and_ends_where_it_should(schedule, last):
    after = rates(schedule)[20:]
    assert after[0] == 1
    assert all(earlier >= later for earlier, later in itertools.pairwise(after))
    assert after[-1] == pytest.approx(last)
    assert after[-2] - after[-1] < 0.02  # the last step that is taken is one before


def test_a_cosine_is_halfway_down_halfway():
    assert rates("cosine")[110] == pytest.approx((1 + 0.05) / 2)


def test_warmup_stable_decay_is_stable_then_falls_in_a_line():
    stable, falling = rates("wsd")[20:151], rates("wsd")[150:]
    assert set(stable) == {1.0}
    assert falling == pytest.approx([1 - 0.95 * step / 50 for step in range(51)])


def test_without_warm_up_the_peak_comes_first():
    assert rates("cosine", warmup=0.0)[0] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "at least 1 step of 1 row, not steps=0, rows=1"),
        ({"rows": 0}, "at least 1 step of 1 row"),
        ({"learning_rate": -1e-3}, "0 or more, not -0.001"),
        ({"learning_rate": math.nan}, "0 or more, not nan"),
        ({"warmup": 5}, "warmup is a fraction from 0 to 1, not 5"),
        ({"decay": -0.1}, "decay is a fraction"),
        ({"final": 1.5}, "final is a fraction"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_impossible_recipes_are_refused_with_their_numbers(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **fields)

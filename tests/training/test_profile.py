import pytest
import torch
from fakes import Digits, design, mixture

from parrotlab.model.transformer import build
from parrotlab.training.devices import Device
from parrotlab.training.loop import stage
from parrotlab.training.profile import REST, STEPS, _Ranges, profile
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

CPU = Device("cpu", fast_steps=False)
RECIPE = Recipe(steps=500, rows=8, learning_rate=1e-2)
DENSE_PARTS = {"attention", "feed-forward", "head and loss", "optimizer", REST}


@pytest.mark.parametrize(("model", "more"), [(design(), set()), (mixture(), {"routing"})], ids=["dense", "mixture"])
def test_every_part_of_a_step_takes_time_and_no_mfu_is_above_one(model, more):
    seen = profile(build(model, 10, 0), Digits(), RECIPE, [1e-2], [0], CPU, seconds=0.01)
    assert seen.seconds.keys() == DENSE_PARTS | more
    assert min(seen.seconds.values()) > 0
    assert 0 < seen.mfu < 1
    assert seen.tokens_per_second == pytest.approx(8 * 4 / seen.step_seconds)


@pytest.mark.parametrize("model", [design(), mixture(shared=1)], ids=["dense", "mixture"])
@pytest.mark.parametrize("seeds", [0, [0, 1]], ids=["alone", "stacked"])
def test_a_watched_step_learns_what_an_unwatched_one_learns(model, seeds):
    assert RECIPE.windows()[0].stop >= STEPS
    many = seeds if isinstance(seeds, list) else [seeds]
    watched, plain = (Step(build(model, 10, seeds), RECIPE, [1e-2] * len(many), CPU) for _ in range(2))
    _Ranges().watch(watched)
    for step in (watched, plain):
        step.begin(stage(Digits(), RECIPE, RECIPE.windows()[0], many, step, CPU))
        for _ in range(STEPS):
            step.take()
    for mine, other in zip(watched.state().values(), plain.state().values()):
        torch.testing.assert_close(mine, other)

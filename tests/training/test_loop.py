import dataclasses

import numpy as np
import pytest
import torch
from fakes import Digits, design, mixture

from parrotlab.kernels import linear_cross_entropy
from parrotlab.model.transformer import build
from parrotlab.training.devices import device
from parrotlab.training.loop import train
from parrotlab.training.optimizer import AdamW
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step, computing_with

CPU = device("cpu")
RECIPE = Recipe(steps=30, rows=8, learning_rate=1e-2)


def begin(model_design, seeds, rates, recipe=RECIPE, where=CPU, vocabulary=10):
    model = build(model_design, vocabulary, seeds if len(seeds) > 1 else seeds[0], where.name)
    return Step(model, recipe, rates, where)


@pytest.mark.parametrize("model_design", [design(), mixture(), mixture(shared=1, gated=False)])
def test_the_loss_falls(model_design):
    losses = [p.loss_R[0] for p in train(begin(model_design, [0], [1e-2]), Digits(), RECIPE, [0], CPU)]
    assert len(losses) == RECIPE.steps
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


@pytest.mark.parametrize("model_design", [design(), mixture()])
def test_a_replica_trains_as_it_would_alone(model_design):
    seeds, rates = [3, 4, 3], [1e-2, 1e-2, 3e-3]
    together = list(train(begin(model_design, seeds, rates), Digits(), RECIPE, seeds, CPU))
    for index, (seed, rate) in enumerate(zip(seeds, rates)):
        alone = list(train(begin(model_design, [seed], [rate]), Digits(), RECIPE, [seed], CPU))
        np.testing.assert_allclose([p.loss_R[index] for p in together], [p.loss_R[0] for p in alone], rtol=1e-4)
        choices = [p.choices_LRE[:, index] for p in together]
        np.testing.assert_array_equal(choices, [p.choices_LRE[:, 0] for p in alone])


def test_a_replica_that_diverges_leaves_the_others_as_they_were():
    recipe = dataclasses.replace(RECIPE, warmup=0.0, weight_decay=0.0)
    seeds, rates = [0, 1], [1e12, 1e-2]
    together = list(train(begin(mixture(), seeds, rates, recipe), Digits(), recipe, seeds, CPU))
    assert together[-1].diverged_R.tolist() == [True, False]
    alone = list(train(begin(mixture(), [1], [1e-2], recipe), Digits(), recipe, [1], CPU))
    np.testing.assert_allclose(together[-1].loss_R[1], alone[-1].loss_R[0], rtol=1e-4)


def test_training_ends_when_every_replica_has_diverged():
    recipe = dataclasses.replace(RECIPE, warmup=0.0, weight_decay=0.0)
    progress = list(train(begin(design(), [0], [1e12], recipe), Digits(), recipe, [0], CPU))
    assert progress[-1].diverged_R.all()
    assert progress[-1].step < recipe.steps


def test_every_choice_falls_on_some_expert():
    for progress in train(begin(mixture(), [0], [1e-2]), Digits(), RECIPE, [0], CPU):
        np.testing.assert_array_equal(progress.choices_LRE.sum(axis=-1), 8 * 4 * 2)  # rows, positions, choices
        np.testing.assert_array_equal(progress.dropped_LR, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model_design", [design(width=32), mixture(), mixture(shared=1)])
@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_captured_step_trains_as_the_plain_one(model_design, seeds):
    # Windows of three steps, and a shorter last one. At 1e-2, noise of 1e-3 in the weights moved the mean by 0.1.
    recipe, rates = dataclasses.replace(RECIPE, steps=250), [3e-3] * len(seeds)
    plain, fast = device("cuda", fast_steps=False), device("cuda")
    losses = [
        np.stack(
            [p.loss_R for p in train(begin(model_design, seeds, rates, recipe, where), Digits(), recipe, seeds, where)]
        )
        for where in (plain, fast)
    ]
    np.testing.assert_allclose(losses[1][:3], losses[0][:3], rtol=0.01)  # bfloat16 rounds to 1 in 256; then they drift
    np.testing.assert_allclose(losses[1].mean(), losses[0].mean(), rtol=0.15)


def test_mixtures_compute_with_copies_within_a_step_alone():
    layer = mixture().feedforward.build(16, ())
    x_ND = torch.randn(5, 16)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_()
        own = layer(x_ND, x_ND)[0]
        copies = {"up_EDG": torch.zeros_like(layer.up_EDG), "down_EFD": layer.down_EFD}
        with computing_with([(layer, copies)]):
            assert not layer(x_ND, x_ND)[0].any()
        assert torch.equal(layer(x_ND, x_ND)[0], own)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_experts_rounded_once_a_step_train_as_those_that_are_rounded_where_they_are_used(seeds, monkeypatch):
    where, states = device("cuda", fast_steps=False), []
    for kept in (True, False):
        if not kept:
            monkeypatch.setattr(AdamW, "keep_copies", lambda self, names: {})
        step = begin(mixture(), seeds, [3e-3] * len(seeds), where=where)
        assert bool(step.rounded) == kept
        list(train(step, Digits(), RECIPE, seeds, where))
        states.append(step.state())
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model_design", [design(width=32, tied=True), mixture()])
@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_a_large_vocabulary_trains_by_chunks_as_by_logits(model_design, seeds, monkeypatch):
    vocabulary, fast = linear_cross_entropy.LARGE, device("cuda")
    losses = []
    for chunks in (True, False):
        if not chunks:
            monkeypatch.setattr(linear_cross_entropy, "takes", lambda *arguments: False)
        step = begin(model_design, seeds, [1e-2] * len(seeds), RECIPE, fast, vocabulary)
        progress = train(step, Digits(vocabulary=vocabulary), RECIPE, seeds, fast)
        losses.append(np.stack([p.loss_R for p in progress]))
    np.testing.assert_allclose(losses[1][:3], losses[0][:3], rtol=0.01)  # bfloat16 rounds to 1 in 256; then they drift
    np.testing.assert_allclose(losses[1].mean(), losses[0].mean(), rtol=0.15)

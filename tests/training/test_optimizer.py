import pytest
import torch
from fakes import design

from parrotlab.model.transformer import build
from parrotlab.training.optimizer import AdamW
from parrotlab.training.recipe import Recipe

RECIPE = Recipe(steps=10, rows=1, learning_rate=1e-2, clip=0.5)


def noise(model, step, index=0):
    generator = torch.Generator().manual_seed(1000 * step + index)
    return [torch.randn(weight.shape, generator=generator) for weight in model.parameters()]


def test_a_lone_model_moves_as_under_torchs_adamw():
    ours, theirs = build(design(), 10, 0), build(design(), 10, 0)
    optimizer = AdamW(ours, RECIPE, torch.tensor(RECIPE.learning_rate))
    decayed = [w for n, w in theirs.named_parameters() if not n.endswith("norm.weight_D")]
    spared = [w for n, w in theirs.named_parameters() if n.endswith("norm.weight_D")]
    peer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": RECIPE.weight_decay}, {"params": spared, "weight_decay": 0.0}],
        lr=RECIPE.learning_rate,
        betas=RECIPE.betas,
    )
    for step in range(5):
        optimizer.step_(noise(ours, step), torch.tensor(1.0))
        for weight, gradient in zip(theirs.parameters(), noise(theirs, step)):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), RECIPE.clip)
        peer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_each_replica_moves_as_it_would_alone():
    rates = [1e-2, 3e-3]
    stack = build(design(), 10, [0, 1])
    optimizer = AdamW(stack, RECIPE, torch.tensor(rates))
    lone = [build(design(), 10, seed) for seed in (0, 1)]
    alone = [AdamW(model, RECIPE, torch.tensor(rate)) for model, rate in zip(lone, rates)]
    for step in range(3):
        gradients = [noise(model, step, index) for index, model in enumerate(lone)]
        optimizer.step_([torch.stack(pair) for pair in zip(*gradients)], torch.tensor(1.0))
        for each, gradient in zip(alone, gradients):
            each.step_(gradient, torch.tensor(1.0))
    for index, model in enumerate(lone):
        for name, weight in model.named_parameters():
            torch.testing.assert_close(stack.get_parameter(name)[index], weight, rtol=1e-6, atol=1e-8)


def test_a_gradient_above_the_clip_is_shortened_to_it_and_its_norm_is_told():
    model = build(design(), 10, 0)
    optimizer = AdamW(model, RECIPE, torch.tensor(0.0))
    gradients = noise(model, 0)
    length = torch.cat([g.flatten() for g in gradients]).norm()
    assert optimizer.step_(gradients, torch.tensor(1.0)) == pytest.approx(length.item())
    clipped = torch.cat([g.flatten() for g in gradients]).norm()
    assert clipped.item() == pytest.approx(RECIPE.clip, rel=1e-4)


def test_the_fused_step_and_its_plain_twin_move_alike():
    fused, plain = build(design(), 10, 0), build(design(), 10, 0)
    quick, slow = (AdamW(model, RECIPE, torch.tensor(RECIPE.learning_rate)) for model in (fused, plain))
    for step in range(5):
        schedule = torch.tensor(1 / (1 + step))
        norm = quick._fused_step_(noise(fused, step), schedule)
        torch.testing.assert_close(norm, slow._plain_step_(noise(plain, step), schedule))
    for name, tensor in quick.state().items():
        torch.testing.assert_close(tensor, slow.state()[name], rtol=1e-5, atol=1e-7)
    for mine, other in zip(fused.parameters(), plain.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)

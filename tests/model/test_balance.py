import math

import pytest
import torch
from fakes import design

from parrotlab.model.balance import entropy, load, load_balance, z_loss
from parrotlab.model.feedforwards.feedforward import Routing
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.router import choices
from parrotlab.model.transformer import build
from parrotlab.training.devices import device
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

EXPERTS = 4


def one_choice(experts_N, sharpness=50.0):
    """The routing of a router that is sure of one expert for each token."""
    experts_NA = torch.as_tensor(experts_N).unsqueeze(-1)
    logits_NE = sharpness * torch.nn.functional.one_hot(experts_NA[..., 0], EXPERTS).float()
    return Routing(torch.ones(experts_NA.shape), experts_NA, logits_NE, choices(experts_NA, EXPERTS))


BALANCED = one_choice([0, 1, 2, 3] * 5)
COLLAPSED = [one_choice([expert] * 20) for expert in range(EXPERTS)]


def test_the_loss_is_one_when_every_expert_gets_its_share_and_e_when_one_gets_all():
    assert load_balance(BALANCED).item() == pytest.approx(1)
    for routing in COLLAPSED:
        assert load_balance(routing).item() == pytest.approx(EXPERTS)


def test_an_example_by_hand():
    probability_E = torch.tensor([0.1, 0.2, 0.3, 0.4])
    routing = one_choice([0, 0, 0, 1])._replace(logits_NE=probability_E.log().expand(4, EXPERTS))
    assert load_balance(routing).item() == pytest.approx(4 * (3 / 4 * 0.1 + 1 / 4 * 0.2))


def test_layers_that_collapse_on_different_experts_score_worst_though_they_look_balanced_together():
    layers = torch.stack([load_balance(routing) for routing in COLLAPSED])
    assert layers.mean().item() == pytest.approx(EXPERTS)
    weights_NA, experts_NA, logits_NE, _ = (torch.cat(parts) for parts in zip(*COLLAPSED))
    pooled = Routing(weights_NA, experts_NA, logits_NE, choices(experts_NA, EXPERTS))
    assert load_balance(pooled).item() == pytest.approx(1)


def test_training_sees_the_collapse_of_each_layer():
    recipe = Recipe(steps=1, rows=1, learning_rate=0.0, load_balance=0.5, z_loss=0.0)
    step = Step(build(design(Mixture(experts=EXPERTS), layers=4), 10, 0), recipe, [0.0], device("cpu"))
    loss = torch.tensor(math.log(10))
    for routings, expected in ((COLLAPSED, EXPERTS), ([BALANCED] * 4, 1)):
        assert (step.objective(loss, routings) - loss).item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_the_gradient_takes_probability_from_the_expert_that_has_too_much():
    routing = one_choice([0] * 15 + [1, 2, 3, 1, 2], sharpness=1.0)
    logits_NE = routing.logits_NE.requires_grad_()
    load_balance(routing._replace(logits_NE=logits_NE)).backward()
    push_E = logits_NE.grad.sum(dim=0)
    assert push_E[0] > 0
    assert (push_E[1:] < 0).all()


def test_the_z_loss_is_the_squared_logarithm_of_the_partition_function():
    flat = BALANCED._replace(logits_NE=torch.zeros(20, EXPERTS))
    assert z_loss(flat).item() == pytest.approx(math.log(EXPERTS) ** 2)
    shifted = BALANCED._replace(logits_NE=torch.full((20, EXPERTS), 3 - math.log(EXPERTS)))
    assert z_loss(shifted).item() == pytest.approx(9, rel=1e-5)


def test_entropy_is_the_logarithm_of_e_when_balanced_and_zero_when_collapsed():
    assert entropy(load(BALANCED)).item() == pytest.approx(math.log(EXPERTS))
    assert [entropy(load(routing)).item() for routing in COLLAPSED] == [0] * EXPERTS


def test_replicas_have_losses_of_their_own():
    stack = Routing(*(torch.stack(pair) for pair in zip(BALANCED, COLLAPSED[0])))
    assert load_balance(stack).tolist() == pytest.approx([1, EXPERTS])
    assert z_loss(stack).shape == (2,)
    assert load(stack).sum(dim=-1).tolist() == [1, 1]

"""Every router of the folder keeps the contract of model/routers/router.py."""

from __future__ import annotations

import pkgutil

import pytest
import torch

import parrotlab.model.routers
from parrotlab import spec
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.routers.router import Router
from parrotlab.model.routers.top_k import TopK

SPECIMENS = {"top_k": TopK(), "bias_balanced": BiasBalanced(), "hashed": Hashed()}
MODULES = {module.name for module in pkgutil.iter_modules(parrotlab.model.routers.__path__)} - {"router"}
WIDTH, EXPERTS, TOKENS = 8, 5, 40


@pytest.fixture(params=SPECIMENS)
def design(request: pytest.FixtureRequest) -> Router:
    return SPECIMENS[request.param]


def layer_of(design: Router, active=2, renormalise=True, stack=()):
    """A router in the midst of its training: weights, and what else it keeps, are anything."""
    layer = design.build(WIDTH, EXPERTS, active, renormalise, stack)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return layer


def tokens_and_inputs(*stack: int):
    generator = torch.Generator().manual_seed(1)
    tokens_N = torch.randint(30, (*stack, TOKENS), generator=generator)
    return torch.randn(*stack, TOKENS, WIDTH, generator=generator), tokens_N


def test_every_router_of_the_folder_has_a_specimen_here():
    assert SPECIMENS.keys() == MODULES


def test_a_router_is_a_router_and_survives_its_codec(design):
    assert isinstance(design, Router)
    assert spec.decode(spec.encode(design)) == design


@pytest.mark.parametrize("active", range(1, EXPERTS + 1))
def test_a_token_visits_as_many_different_experts_as_asked(design, active):
    routing = layer_of(design, active, renormalise=active > 1)(*tokens_and_inputs())
    assert routing.experts_NA.shape == routing.weights_NA.shape == (TOKENS, active)
    assert all(len(set(row)) == active for row in routing.experts_NA.tolist())
    assert set(routing.experts_NA.flatten().tolist()) <= set(range(EXPERTS))


@pytest.mark.parametrize("active", [1, 2, EXPERTS])
def test_every_choice_is_counted_once(design, active):
    routing = layer_of(design, active, renormalise=False)(*tokens_and_inputs())
    assert routing.choices_E.tolist() == torch.bincount(routing.experts_NA.flatten(), minlength=EXPERTS).tolist()
    assert routing.choices_E.sum() == TOKENS * active


def test_weights_are_shares_and_sum_to_one_when_renormalised(design):
    for renormalise in (True, False):
        weights_NA = layer_of(design, 2, renormalise)(*tokens_and_inputs()).weights_NA
        assert (weights_NA >= 0).all()
        assert (weights_NA.sum(dim=-1) <= 1 + 1e-6).all()
        if renormalise:
            torch.testing.assert_close(weights_NA.sum(dim=-1), torch.ones(TOKENS))


def test_later_tokens_change_nothing(design):
    layer, (x_ND, tokens_N) = layer_of(design), tokens_and_inputs()
    one = layer(x_ND, tokens_N)
    for now in (TOKENS // 2, 1):  # the later half, then all but the first
        x_ND[now:], tokens_N[now:] = 7.0, 3
        other = layer(x_ND, tokens_N)
        assert torch.equal(one.experts_NA[:now], other.experts_NA[:now])
        torch.testing.assert_close(one.weights_NA[:now], other.weights_NA[:now])


def test_a_replica_routes_as_it_would_alone(design):
    stack, inputs = layer_of(design, stack=(2,)), tokens_and_inputs(2)
    together = stack(*inputs)
    for index in range(2):
        alone = layer_of(design)
        alone.load_state_dict({name: tensor[index] for name, tensor in stack.state_dict().items()})
        routing = alone(*(part[index] for part in inputs))
        assert torch.equal(together.experts_NA[index], routing.experts_NA)
        assert torch.equal(together.choices_E[index], routing.choices_E)
        torch.testing.assert_close(together.weights_NA[index], routing.weights_NA)


def test_choices_are_made_in_float32_whatever_the_precision_around(design):
    layer, inputs = layer_of(design), tokens_and_inputs()
    exact = layer(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(*inputs)
    assert rounded.logits_NE.dtype == rounded.choices_E.dtype == torch.float32
    assert torch.equal(rounded.logits_NE, exact.logits_NE)
    assert torch.equal(rounded.experts_NA, exact.experts_NA)

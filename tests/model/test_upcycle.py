import pytest
import torch
from fakes import design, mixture

from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.transformer import build
from parrotlab.model.upcycle import upcycle

VOCABULARY = 19
TOKENS_BT = torch.randint(VOCABULARY, (4, 12), generator=torch.Generator().manual_seed(1))


def dense(**fields):
    model = build(design(Dense(expansion=1.5, **fields)), VOCABULARY, seeds=3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # fresh norms are 1, and would hide one that was not copied
                weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    return model


@torch.no_grad()
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(("experts", "active"), [(2, 2), (8, 2), (5, 3)])
def test_an_upcycled_model_computes_the_same_function(gated, experts, active):
    model = dense(gated=gated)
    sparse = upcycle(model, experts, active)
    assert sparse.design.feedforward.experts == experts
    # in float64, so that only the router's float32 weights, which sum to 1 within 1e-7, are rounded
    before_BTV, after_BTV = model.double()(TOKENS_BT)[0], sparse.double()(TOKENS_BT)[0]
    assert before_BTV.std() > 0.1
    torch.testing.assert_close(after_BTV, before_BTV, rtol=0, atol=1e-6)


@torch.no_grad()
def test_its_tokens_choose_different_experts_and_layers_and_seeds_choose_differently():
    model = dense()
    one, other = (upcycle(model, 8, 2, seed)(TOKENS_BT)[1] for seed in (0, 1))
    assert all((routing.choices_E > 0).sum() > 4 for routing in one)
    assert (one[0].experts_NA != one[1].experts_NA).any()
    assert (one[0].experts_NA != other[0].experts_NA).any()


def test_it_shares_no_memory_with_the_dense_model():
    model = dense()
    sparse = upcycle(model, 4, 2)
    before_BTV = model(TOKENS_BT)[0].detach()
    with torch.no_grad():
        for weight in sparse.parameters():
            weight.zero_()
    assert torch.equal(model(TOKENS_BT)[0], before_BTV)


def test_only_a_dense_model_is_upcycled_and_one_active_expert_is_refused():
    with pytest.raises(ValueError, match="not one of Mixture"):
        upcycle(build(mixture(), VOCABULARY, seeds=0), 8, 2)
    with pytest.raises(ValueError, match="router's gradient vanishes"):
        upcycle(dense(), 8, 1)

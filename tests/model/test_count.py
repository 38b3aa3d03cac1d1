import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.routers.top_k import TopK
from parrotlab.model.transformer import LanguageModel, Transformer, build


@st.composite
def feedforwards(draw):
    expansion, gated = draw(st.sampled_from([0.5, 1.0, 1.7, 4.0])), draw(st.booleans())
    if draw(st.booleans()):
        return Dense(expansion=expansion, gated=gated)
    experts = draw(st.integers(1, 6))
    active = draw(st.integers(1, experts))
    return Mixture(
        experts=experts,
        active=active,
        expansion=expansion,
        gated=gated,
        renormalise=active > 1,
        shared=draw(st.integers(0, 2)),
        router=draw(st.sampled_from([TopK(), BiasBalanced(), Hashed()])),
    )


@st.composite
def designs(draw):
    group = draw(st.integers(1, 3))
    heads = group * draw(st.integers(1, 2))
    return Transformer(
        layers=draw(st.integers(1, 3)),
        width=heads * 2 * draw(st.integers(1, 4)),
        attention=Attention(heads=heads, group=group, qk_norm=draw(st.booleans())),
        feedforward=draw(feedforwards()),
        tied=draw(st.booleans()),
    )


def backward_of_one_token(model: LanguageModel) -> None:
    logits_BTV, _ = model(torch.tensor([[1]]))
    (logits_BTV * torch.randn(logits_BTV.shape, generator=torch.Generator().manual_seed(0))).sum().backward()


@settings(deadline=None, max_examples=60)
@given(designs(), st.integers(1, 50))
def test_counts_equal_the_built_modules(design, vocabulary):
    with torch.device("meta"):
        weights = dict(LanguageModel(design, vocabulary).named_parameters())

    def numbers(*parts: str) -> int:
        return sum(weight.numel() for name, weight in weights.items() if any(part in name for part in parts))

    counts = count(design, vocabulary)
    assert counts.total == numbers("")
    assert counts.total - counts.total_body == numbers("embedding", "head_DV") == counts.active - counts.active_body
    assert counts.norms == numbers("norm")
    assert counts.routers == numbers("router")


@settings(deadline=None, max_examples=30)
@given(designs())
def test_active_parameters_are_those_that_one_token_teaches(design):
    model = build(design, vocabulary=7, seeds=0)
    backward_of_one_token(model)
    taught = 0
    for name, weight in model.named_parameters():
        if name.endswith(("up_EDG", "down_EFD")):
            taught += sum(expert.numel() for expert, slope in zip(weight, weight.grad) if slope.any())
        elif weight.grad is not None:
            taught += weight.numel()
    assert count(design, 7).active == taught


@settings(deadline=None, max_examples=30)
@given(designs())
def test_flops_of_one_token_are_those_that_torch_counts(design):
    model = build(design, vocabulary=7, seeds=0).double()  # grouped products, of float32 alone, torch does not count
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.tensor([[1]]))
    assert count(design, 7).forward_flops_per_token(1) == counter.get_total_flops()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        backward_of_one_token(model)
    assert count(design, 7).training_flops_per_token(1) == counter.get_total_flops()


@settings(deadline=None, max_examples=20)
@given(designs(), st.integers(1, 40))
def test_attention_costs_four_flops_a_channel_for_each_position_looked_at(design, length):
    counts = count(design, 7)
    looked_at = [position + 1 for position in range(length)]
    row_flops = sum(2 * counts.multiplied + 4 * design.layers * design.width * seen for seen in looked_at)
    assert length * counts.forward_flops_per_token(length) == row_flops


@pytest.mark.parametrize(
    "feedforward",
    [Dense(), Dense(gated=False, expansion=4.0), Mixture(experts=8), Mixture(experts=8, gated=False, shared=1)],
    ids=["dense", "ungated", "mixture", "shared"],
)
def test_activation_bytes_are_within_a_factor_of_two_of_what_autograd_keeps(feedforward):
    design = Transformer(layers=3, width=32, attention=Attention(heads=4), feedforward=feedforward)
    model = build(design, vocabulary=40, seeds=0)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens_BT = torch.arange(16 * 12).view(16, 12) % 40
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits_BTV, _ = model(tokens_BT)
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT.flatten())
    assert loss.requires_grad
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert 0.5 < count(design, 40).activation_bytes(16 * 12) / held < 2


def test_one_design_counted_by_hand():
    design = Transformer(layers=1, width=4, attention=Attention(heads=2), feedforward=Mixture(experts=3), tied=True)
    counts = count(design, vocabulary=10)
    qkv_and_out, expert, router, norms, embedding = 4 * 12 + 16, 3 * 4 * 4, 4 * 3, 3 * 4, 10 * 4
    assert counts.total == qkv_and_out + 3 * expert + router + norms + embedding
    assert counts.active == qkv_and_out + 2 * expert + router + norms + embedding
    assert counts.forward_flops_per_token(1) == 2 * (qkv_and_out + 2 * expert + router + embedding) + 4 * 4
    assert counts.weight_bytes == 4 * counts.total
    assert counts.optimizer_bytes == 12 * counts.total

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parrotlab.kernels.experts import expert_outputs, expert_outputs_by, expert_outputs_reference
from parrotlab.model.routers.router import choices


def case(tokens, width, hidden, experts, active, seed=0, dtype=torch.float64):
    """Tokens, their routing and the experts' matrices, all with gradients."""
    generator = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(tokens, width, generator=generator, dtype=dtype, requires_grad=True)
    weights_NA = torch.rand(tokens, active, generator=generator, dtype=dtype, requires_grad=True)
    experts_NA = torch.rand(tokens, experts, generator=generator).topk(active).indices
    up_EDG = torch.randn(experts, width, 2 * hidden, generator=generator, dtype=dtype, requires_grad=True)
    down_EFD = torch.randn(experts, hidden, width, generator=generator, dtype=dtype, requires_grad=True)
    return x_ND, weights_NA, experts_NA, choices(experts_NA, experts), up_EDG, down_EFD


def output_and_gradients(function, arguments):
    y_ND = function(*arguments, True)
    leaves = [argument for argument in arguments if argument.requires_grad]
    ramp_ND = torch.linspace(-1, 1, y_ND.numel(), device=y_ND.device).view_as(y_ND).to(y_ND.dtype)
    return y_ND, *torch.autograd.grad((y_ND * ramp_ND).sum(), leaves)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.data())
def test_the_sorted_path_is_the_plain_loop(tokens, width, hidden, experts, data):
    active = data.draw(st.integers(1, experts))
    arguments = case(tokens, width, hidden, experts, active)
    for ours, theirs in zip(
        output_and_gradients(expert_outputs, arguments), output_and_gradients(expert_outputs_reference, arguments)
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("experts", [255, 256, 300])
def test_more_experts_than_a_byte_holds_are_sorted_alike(experts):
    arguments = case(400, 2, 2, experts, 2)
    assert arguments[2].max() > 250
    for ours, theirs in zip(
        output_and_gradients(expert_outputs, arguments), output_and_gradients(expert_outputs_reference, arguments)
    ):
        torch.testing.assert_close(ours, theirs)


def test_all_tokens_on_one_expert_leave_the_others_without_gradient():
    x_ND, weights_NA, _, _, up_EDG, down_EFD = case(6, 4, 3, 3, 1)
    experts_NA = torch.ones(6, 1, dtype=torch.int64)
    arguments = (x_ND, weights_NA, experts_NA, choices(experts_NA, 3), up_EDG, down_EFD)
    *_, grad_up_EDG, grad_down_EFD = output_and_gradients(expert_outputs, arguments)
    for gradient in (grad_up_EDG, grad_down_EFD):
        assert gradient[1].any()
        assert not gradient[[0, 2]].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", ["sorted", "folded", "fused"])
def test_whatever_lies_in_memory_is_no_gradient_of_an_expert_that_nobody_visits(path):
    x_ND, weights_NA, _, _, up_EDG, down_EFD = case(600, 256, 512, 8, 1, dtype=torch.bfloat16)
    experts_NA = torch.tensor([1, 6]).repeat(300).unsqueeze(-1)
    arguments = (x_ND, weights_NA, experts_NA, choices(experts_NA, 8), up_EDG, down_EFD)
    there = [argument.detach().cuda().requires_grad_(argument.requires_grad) for argument in arguments]

    rubbish = [
        torch.full((size,), torch.nan, device="cuda") for size in (1 << 8, 1 << 12, 1 << 16, 1 << 20, 1 << 24) * 4
    ]
    del rubbish  # the allocator keeps it, and hands it out as it is
    *_, grad_up_EDG, grad_down_EFD = output_and_gradients(functools.partial(expert_outputs_by, path), there)
    for gradient in (grad_up_EDG, grad_down_EFD):
        assert gradient.isfinite().all()
        assert gradient[[1, 6]].flatten(1).any(dim=1).all()
        assert not gradient[[0, 2, 3, 4, 5, 7]].any()


@pytest.mark.parametrize(("width", "hidden"), [(8, 8), (16, 11), (7, 3), (128, 70)])
def test_in_float32_any_width_is_the_plain_loop(width, hidden):
    arguments = case(50, width, hidden, 4, 2, dtype=torch.float32)
    for ours, theirs in zip(
        output_and_gradients(expert_outputs, arguments), output_and_gradients(expert_outputs_reference, arguments)
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "hidden"), [(8, 8), (16, 11), (8, 3)])
def test_in_bfloat16_any_width_is_the_plain_loop_to_rounding(width, hidden):
    rounded = case(50, width, hidden, 4, 2, dtype=torch.bfloat16)
    exact = [a.detach().double().requires_grad_() if a.requires_grad else a for a in rounded]
    for ours, theirs in zip(
        output_and_gradients(expert_outputs, rounded), output_and_gradients(expert_outputs_reference, exact)
    ):
        assert (ours.double() - theirs).norm() <= 2e-2 * theirs.norm()


def test_replicas_do_not_mix():
    lone = [case(10, 4, 3, 3, 2, seed) for seed in (0, 1)]
    together = [torch.stack(pair).detach() for pair in zip(*lone)]
    y_RND = expert_outputs(*together, True)
    for y_ND, arguments in zip(y_RND, lone):
        torch.testing.assert_close(y_ND, output_and_gradients(expert_outputs, arguments)[0].detach())

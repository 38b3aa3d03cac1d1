import pytest
import torch

from parrotlab.kernels.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_reference


def case(tokens=23, width=8, vocabulary=50):
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(tokens, width, generator=generator).requires_grad_()
    head_DV = torch.randn(width, vocabulary, generator=generator).requires_grad_()
    return x_ND, head_DV, torch.randint(vocabulary, (tokens,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 7, 23, 100])
def test_losses_and_gradients_are_those_of_the_whole_logits(chunk):
    x_ND, head_DV, targets_N = case()
    slope_N = torch.linspace(-1, 2, len(x_ND))
    ours_N = linear_cross_entropy(x_ND, head_DV, targets_N, chunk)
    theirs_N = linear_cross_entropy_reference(x_ND, head_DV, targets_N)
    torch.testing.assert_close(ours_N, theirs_N)
    pairs = zip(*(torch.autograd.grad(loss_N, (x_ND, head_DV), slope_N) for loss_N in (ours_N, theirs_N)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_no_logits_are_kept_for_the_backward():
    x_ND, head_DV, targets_N = case()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda kept: kept
    ):
        linear_cross_entropy(x_ND, head_DV, targets_N, 4)
    assert sum(kept) == x_ND.numel() + head_DV.numel() + 2 * len(x_ND)


def test_logits_that_overflow_an_exponential_give_finite_losses():
    x_ND, head_DV, targets_N = case()
    loss_N = linear_cross_entropy(x_ND * 1e3, head_DV, targets_N)
    assert loss_N.isfinite().all()
    assert torch.autograd.grad(loss_N.sum(), head_DV)[0].isfinite().all()

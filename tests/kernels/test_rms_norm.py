import pytest
import torch
import torch.nn.functional as F

from parrotlab.kernels.rms_norm import rms_norm


@pytest.mark.parametrize("shape", [(7, 8), (2, 3, 5)])
def test_the_kernel_and_its_plain_twin_agree_forward_and_backward(shape):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=generator, dtype=torch.double) for size in (shape, shape[-1:]))
    slope = torch.randn(shape, generator=generator, dtype=torch.double)
    x.requires_grad_()
    weight.requires_grad_()
    ours, theirs = rms_norm(x, weight, 1e-2), F.rms_norm(x, weight.shape, weight, 1e-2)
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(
        torch.autograd.grad(ours, (x, weight), slope), torch.autograd.grad(theirs, (x, weight), slope)
    ):
        torch.testing.assert_close(mine, other)


def test_replicas_with_weights_of_their_own_do_not_mix():
    generator = torch.Generator().manual_seed(0)
    x, weight, slope = (torch.randn(size, generator=generator) for size in ((3, 2, 5, 8), (3, 8), (3, 2, 5, 8)))
    leaves = x.requires_grad_(), weight.requires_grad_()
    together = rms_norm(x, weight, 1e-2)
    gradients = torch.autograd.grad(together, leaves, slope)
    for index in range(3):
        alone = rms_norm(x[index], weight[index], 1e-2)
        torch.testing.assert_close(together[index], alone)
        for mine, other in zip(torch.autograd.grad(alone, leaves, slope[index]), gradients):
            torch.testing.assert_close(mine[index], other[index])


def test_a_row_of_zeros_stays_one_and_has_finite_slopes():
    x = torch.zeros(1, 4, requires_grad=True)
    output = rms_norm(x, torch.ones(4), 1e-5)
    assert not output.any()
    output.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()

"""The kernel against its plain twin; without a GPU under Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from parrotlab.kernels.short_attention import short_attention, short_attention_reference
from parrotlab.model.attention import rotation

# rows, positions, heads, group, channels: tiles of several rows, of one, ragged ends, half-empty products
SHAPES = [
    (7, 12, 2, 1, 32),
    (3, 33, 4, 2, 16),
    (1, 1, 1, 1, 32),
    (2, 64, 2, 2, 64),
    (2, 70, 1, 1, 32),
    (9, 5, 3, 3, 16),
    (4, 9, 2, 1, 24),
    (3, 20, 1, 1, 48),
]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pair_of_gradients(shape, dtype, device):
    """Output and gradient of the kernel, and of its twin in float32."""
    rows, positions, heads, group, channels = shape
    torch.manual_seed(0)
    cosine, sine = rotation(positions, channels, 100.0, torch.device(device))
    columns = (heads + 2 * heads // group) * channels
    qkv = torch.randn(rows * positions, columns, device=device).to(dtype).requires_grad_()
    twin = qkv.detach().float().requires_grad_()
    ours, theirs = (
        short_attention(qkv, cosine, sine, heads, group),
        short_attention_reference(twin, cosine, sine, heads, group),
    )
    grad = torch.randn_like(theirs)
    ours.backward(grad.to(dtype))
    theirs.backward(grad)
    return (ours.float(), theirs), (qkv.grad.float(), twin.grad)


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_kernel_is_its_twin_under_the_interpreter")
@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted(shape):
    for ours, theirs in pair_of_gradients(shape, torch.float32, "cpu"):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernel_is_its_twin_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES)} passed" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_is_its_twin_on_a_gpu(shape):
    for ours, theirs in pair_of_gradients(shape, torch.bfloat16, "cuda"):
        assert (ours - theirs).norm() <= 1e-2 * theirs.norm()

"""A sum of parts against its plain twin; without a GPU under Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from parrotlab.kernels.parts import added

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHAPES = [(1, 7), (2, 3, 5), (9, 4000), (66, 130)]


def check(shape, dtype, device):
    parts_CX = torch.randn(shape, device=device)
    assert torch.allclose(added(parts_CX, dtype), parts_CX.sum(dim=0).to(dtype), atol=1e-5, rtol=1e-2)
    assert torch.equal(added(parts_CX, dtype), added(parts_CX, dtype))


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_sum_is_its_twin_under_the_interpreter")
@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted(shape):
    check(shape, torch.float32, "cpu")


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_sum_is_its_twin_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES)} passed" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_sum_is_its_twin_on_a_gpu(shape):
    check(shape, torch.bfloat16, "cuda")

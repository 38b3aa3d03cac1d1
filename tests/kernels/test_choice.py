"""The path of a mixture's experts: chosen by device, precision and shape."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from parrotlab.kernels import _choice


@pytest.fixture
def on_gpu():
    """Tokens as if on a GPU, without one."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield lambda width, dtype=torch.bfloat16, tokens=4096: torch.empty(tokens, width, dtype=dtype, device="cuda")


def test_a_processor_takes_the_path_of_the_golden_losses_whatever_was_chosen_for_gpus():
    for dtype in (torch.float32, torch.bfloat16):
        assert _choice.path(torch.empty(4096, 256, dtype=dtype), 4, 256) == "sorted"


def test_a_gpu_takes_the_kernels_for_bfloat16_at_the_shapes_that_were_timed(on_gpu, monkeypatch):
    monkeypatch.setattr(_choice.fast_experts, "refusal", lambda x_ND, experts: "")
    for width, path in ((64, "sorted"), (256, "fused"), (2048, "fused"), (4096, "sorted")):
        assert _choice.path(on_gpu(width), 4, width) == path
        assert _choice.path(on_gpu(width, torch.float32), 4, width) == "sorted"
        assert _choice.path(on_gpu(width, tokens=64), 4, width) == "sorted"
        assert _choice.path(on_gpu(width), 4, 8 * width) == "sorted"
    monkeypatch.setattr(_choice, "GPU", "sorted")
    assert _choice.path(on_gpu(256), 4, 256) == "sorted"


def test_a_shape_that_the_kernels_cannot_take_is_told_and_sorted(on_gpu):
    with pytest.warns(UserWarning, match=r"experts of tokens \(4096, 512\): .*; sorted instead"):
        assert _choice.path(on_gpu(512), 2000, 512) == "sorted"

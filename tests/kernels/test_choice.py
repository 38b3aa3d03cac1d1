import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from parrotlab.kernels import _choice


@pytest.fixture
def on_gpu():
    """Tokens as if on a GPU, without one."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield lambda width, dtype=torch.bfloat16, tokens=4096: torch.empty(tokens, width, dtype=dtype, device="cuda")


def test_a_processor_takes_the_path_of_the_golden_losses_whatever_was_chosen_for_gpus(monkeypatch):
    monkeypatch.setattr(_choice, "GPU", "fused")
    assert _choice.path(torch.empty(3, 8), 4, 32, True) == "sorted"


def test_a_gpu_takes_the_kernels_for_bfloat16_at_the_widths_that_were_timed(on_gpu, monkeypatch):
    monkeypatch.setattr(_choice.fast_experts, "refusal", lambda x_ND, experts: "")
    for width, path in ((64, "sorted"), (256, "fused"), (1024, "fused"), (2048, "sorted")):
        assert _choice.path(on_gpu(width), 4, 32, True) == path
        assert _choice.path(on_gpu(width, torch.float32), 4, 32, True) == "sorted"
        assert _choice.path(on_gpu(width, tokens=64), 4, 32, True) == "sorted"
        assert _choice.path(on_gpu(width), 4, 4 * width, True) == "sorted"


def test_by_shape_every_width_takes_the_first_path_that_is_wide_enough(on_gpu, monkeypatch):
    monkeypatch.setattr(_choice, "GPU", "by_shape")
    fastest = {True: [(64, "fused"), (128, "folded"), (math.inf, "sorted")], False: [(64, "folded")]}
    monkeypatch.setattr(_choice, "FASTEST", fastest)
    widths = (32, 64, 65, 129)
    assert [_choice.path(on_gpu(width), 4, 32, True) for width in widths] == ["fused", "fused", "folded", "sorted"]
    assert [_choice.path(on_gpu(width), 4, 32, False) for width in widths] == ["folded", "folded", "sorted", "sorted"]


def test_a_shape_that_the_chosen_path_cannot_take_is_told_and_sorted(on_gpu, monkeypatch):
    monkeypatch.setattr(_choice, "GPU", "fused")
    with pytest.warns(UserWarning, match=r"fused experts of tokens \(4096, 512\): .*; sorted instead"):
        assert _choice.path(on_gpu(512), 2000, 32, True) == "sorted"
    monkeypatch.setattr(_choice, "GPU", "folded")
    with pytest.warns(UserWarning, match="bfloat16"):
        assert _choice.path(on_gpu(64, torch.float32), 4, 32, True) == "sorted"


def test_by_shape_a_precision_without_a_kernel_is_sorted(on_gpu, monkeypatch):
    monkeypatch.setattr(_choice, "GPU", "by_shape")
    assert _choice.path(on_gpu(64, torch.float64), 4, 32, True) == "sorted"

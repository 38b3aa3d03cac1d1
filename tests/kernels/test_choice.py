import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from parrotlab.kernels import _choice


@pytest.fixture
def on_gpu():
    """Tokens as if on a GPU, without one."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield lambda width, dtype=torch.bfloat16: torch.empty(4, width, dtype=dtype, device="cuda")


def test_a_processor_takes_the_path_of_the_golden_losses_whatever_was_chosen_for_gpus():
    assert _choice.path(torch.empty(3, 8), 4) == "sorted"
    assert _choice.path(torch.empty(3, 8, dtype=torch.bfloat16), 4) == "sorted"


def test_a_gpu_takes_the_kernels_for_bfloat16_alone(on_gpu, monkeypatch):
    monkeypatch.setattr(_choice.fast_experts, "refusal", lambda x_ND, experts: "")
    assert _choice.path(on_gpu(64), 4) == "fused"
    assert _choice.path(on_gpu(64, torch.float32), 4) == "sorted"
    monkeypatch.setattr(_choice, "GPU", "sorted")
    assert _choice.path(on_gpu(64), 4) == "sorted"


def test_a_shape_that_the_kernels_cannot_take_is_told_and_sorted(on_gpu):
    with pytest.warns(UserWarning, match=r"experts of tokens \(4, 512\): .*; sorted instead"):
        assert _choice.path(on_gpu(512), 2000) == "sorted"

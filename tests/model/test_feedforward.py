import pytest
import torch

from parrotlab.model.feedforwards.feedforward import VECTOR, probabilities


@pytest.mark.parametrize("shape", [(5, VECTOR - 1), (3, 5, 2), (5, VECTOR)])
def test_probabilities_are_a_softmax_over_the_experts_however_few(shape):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(probabilities(logits), logits.softmax(dim=-1))

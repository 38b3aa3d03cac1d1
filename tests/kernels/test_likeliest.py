import pytest
import torch

from parrotlab.kernels import likeliest as likely
from parrotlab.kernels.likeliest import PANEL, in_panels, likeliest, plainly

WIDTH = 6


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("vocabulary", [PANEL, PANEL + 1, 3 * PANEL + 7])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_panels_choose_the_token_of_the_largest_logit(vocabulary, rows):
    x_ND, head_DV = drawn(rows, WIDTH), drawn(WIDTH, vocabulary)
    assert torch.equal(in_panels(head_DV)(x_ND), plainly(x_ND, head_DV))


def test_a_token_behind_the_last_panel_wins_where_all_logits_are_negative():
    head_DV = -torch.ones(1, 2 * PANEL + 3)
    head_DV[0, -2] = -0.5
    assert in_panels(head_DV)(torch.ones(4, 1)).tolist() == [2 * PANEL + 1] * 4


def test_a_head_that_is_the_embedding_transposed_is_as_good():
    x_ND, embedding_VD = drawn(9, WIDTH), drawn(2 * PANEL + 5, WIDTH)
    assert torch.equal(in_panels(embedding_VD.mT)(x_ND), plainly(x_ND, embedding_VD.mT))


def test_only_a_large_head_is_copied(monkeypatch):
    copied = []
    monkeypatch.setattr(likely, "in_panels", lambda head_DV: copied.append(head_DV.numel()))
    monkeypatch.setattr(likely, "LARGE", 100)
    monkeypatch.setattr(likely, "PANEL", 1)
    for vocabulary in (9, 10, 11):
        likeliest(drawn(10, vocabulary))
    assert copied == [100, 110]

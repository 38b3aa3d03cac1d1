import torch

from parrotlab.theory import length_two_path, verify
from parrotlab.theory.check import Check


def test_every_check_holds():
    checks = list(verify.verify())
    assert [check for check in checks if not check.passed] == []
    assert {check.theorem for check in checks} == {
        "theorem 3.2",
        "theorem 3.3",
        "corollary 3.4",
        "theorem 3.5",
        "theorem 3.6",
    }
    assert all(isinstance(check, Check) and check.inputs > 0 for check in checks)


def test_a_broken_weight_fails(monkeypatch):
    def broken(vertices):
        weights = sound(vertices)
        weights["blocks.0.feedforward.up_DG"][0, 0] *= -1  # the first vertex's gate looks the wrong way
        return weights

    sound = length_two_path.weights
    monkeypatch.setattr(length_two_path, "weights", broken)
    checks = list(verify.dense_construction())
    assert not any(check.passed for check in checks)


def test_a_message_of_another_length_than_the_bound_says_fails(monkeypatch):
    monkeypatch.setattr(verify.bounds, "message_bits", lambda width, heads, precision: width * precision)
    rows = verify.lower_bound()
    assert not any(next(rows).passed for _ in range(4))


def test_random_models_differ_by_seed():
    one, other = (verify.random_model(20, 8, 2, 4, seed).embedding_VD for seed in (0, 1))
    assert not torch.equal(one, other)

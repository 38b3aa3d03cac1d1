import json

from safetensors.torch import load_file

from parrotlab.cli.theory import bound, construct, experts, verify
from parrotlab.model.transformer import LanguageModel
from parrotlab.theory import length_two_path
from parrotlab.theory import verify as checks
from parrotlab.theory.check import Check
from parrotlab.theory.length_two_path import design, every_pair, in_float32, mistakes, split_task


def test_the_bound_is_printed_for_a_machine(capsys):
    assert bound(vertices=64, heads=1, precision=16, json=True) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["least_width"], row["construction_width"]) == (4, 64)


def test_the_curve_ends_in_failure(capsys):
    assert experts(vertices=64, json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["fails"] for row in told["curve"]] == [
        row["experts"] >= told["failing_experts"] for row in told["curve"]
    ]
    assert any(row["fails"] for row in told["curve"])


def test_the_construction_is_written_as_a_checkpoint_of_ours(tmp_path):
    assert construct(output=tmp_path / "model.safetensors", vertices=6, precision=8) == 0
    model = LanguageModel(design(6), split_task(6).vocabulary)
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert mistakes(in_float32(model), every_pair(6)) == 0


def test_verify_fails_if_one_check_does(monkeypatch, capsys):
    def broken(vertices):
        weights = sound(vertices)
        weights["head_DV"] *= -1
        return weights

    sound = length_two_path.weights
    monkeypatch.setattr(checks, "verify", checks.dense_construction)
    assert verify() == 0
    monkeypatch.setattr(length_two_path, "weights", broken)
    assert verify() == 1
    assert "theorem 3.3 fails" in capsys.readouterr().err


def test_verify_prints_its_checks_for_a_machine(monkeypatch, capsys):
    monkeypatch.setattr(checks, "verify", lambda: iter([Check("theorem 3.2", "nothing", 1, True)]))
    assert verify(json=True) == 0
    row = {"theorem": "theorem 3.2", "what": "nothing", "inputs": 1, "passed": True}
    assert json.loads(capsys.readouterr().out) == [row]

import dataclasses
import json
import shutil

import pytest
import torch
from fakes import design, mixture

from parrotlab import cli
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.results.store import Store
from parrotlab.run import WEIGHTS, Run, execute, trained
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.training.devices import Device
from parrotlab.training.recipe import Recipe

transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install parrotlab[test]")

CPU = Device("cpu", fast_steps=False)


BOOK = PhoneBook(entries=40, letters=2, digits=2)


def stored(folder, model=None, keep_weights=True, seed=0) -> Run:
    recipe = Recipe(steps=40, rows=20, learning_rate=0.02, precision="float32")
    judges = (ExactMatch(split="train", count=40),)
    run = Run(task=BOOK, model=model or mixture(), recipe=recipe, evaluations=judges, seed=seed)
    execute([run], Store(folder), CPU, keep_weights=keep_weights)
    return run


def said(capsys, words, code):
    assert cli.main([str(word) for word in words]) == code
    return capsys.readouterr()


def test_a_run_that_kept_its_weights_is_exported_and_imported(tmp_path, capsys):
    run = stored(tmp_path / "results")
    words = ["export", run.fingerprint, tmp_path / "out", "--store", tmp_path / "results", "--license", "mit", "--json"]
    certificate = json.loads(said(capsys, words, 0).out)
    assert certificate["architecture"] == "mixtral"
    assert run.fingerprint in (tmp_path / "out" / "README.md").read_text()

    told = json.loads(said(capsys, ["import", tmp_path / "out", "--json"], 0).out)
    assert told["certificate"] == certificate
    assert told["design"]["feedforward"]["experts"] == 4
    record = Store(tmp_path / "results").find(run)
    assert told["counts"]["total_parameters"] == record.counts["total_parameters"]
    assert "largest difference" in said(capsys, ["import", tmp_path / "out"], 0).out

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    rows = run.task.examples("train", 40, seed=0)
    tokens_BT = torch.from_numpy(rows.tokens_BT).long()
    answers_BT = theirs.generate(tokens_BT[:, : BOOK.prompt], max_new_tokens=2, do_sample=False)
    right = (answers_BT == tokens_BT).all(dim=-1).float().mean().item()
    table = Store(tmp_path / "results").table()
    measured = table[table.evaluation == "exact_match"]
    assert right == pytest.approx(measured.value.item())
    assert right > 0.05, "a model that knows nothing agrees with anything"


def test_each_replica_of_a_stack_keeps_its_own_weights(tmp_path):
    alone = stored(tmp_path / "alone", seed=1)
    runs = [dataclasses.replace(alone, seed=seed) for seed in (0, 1)]
    execute(runs, Store(tmp_path / "stack"), CPU, keep_weights=True)
    one, other = (trained(alone.fingerprint, Store(tmp_path / name))[1] for name in ("alone", "stack"))
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight, rtol=0, atol=2e-3)


def test_weights_are_kept_only_where_they_were_asked_for(tmp_path, capsys):
    run = stored(tmp_path / "results", keep_weights=False)
    assert not (tmp_path / "results" / run.fingerprint / WEIGHTS).exists()
    error = said(capsys, ["export", run.fingerprint, tmp_path / "out", "--store", tmp_path / "results"], 2).err
    assert "has no weights: run its study with --keep-weights" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_one_line(tmp_path, capsys):
    store = ["--store", tmp_path / "results"]
    run = stored(tmp_path / "results", design(Dense(gated=False)))
    assert "cannot express ungated" in said(capsys, ["export", run.fingerprint, tmp_path / "out", *store], 2).err
    assert "there is no run 0123" in said(capsys, ["export", "0123", tmp_path / "out", *store], 2).err
    path = tmp_path / "results" / run.fingerprint / WEIGHTS
    path.write_bytes(path.read_bytes()[:-10])
    error = said(capsys, ["export", run.fingerprint, tmp_path / "out", *store], 2).err
    assert "does not hold the weights of its run" in error
    shutil.rmtree(tmp_path / "results")
    assert "no store at" in said(capsys, ["export", run.fingerprint, tmp_path / "out", *store], 2).err
    assert "has no config.json" in said(capsys, ["import", tmp_path], 2).err
    assert not (tmp_path / "out").exists()

import json
import os
import signal
import threading
import time

import pytest
from shelves import Shelf, sentences

from parrotlab import cli
from parrotlab.results.store import Store

TINY = ["--width=16", "--layers=1", "--heads=2", "--experts=4", "--rows=4", "--length=16", "--device=cpu"]


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    shelf = Shelf(tmp_path)
    shelf.prepare(*(shelf.write(name, sentences(name, 200)) for name in "ab"), tokenizer="bytes")


def words(tmp_path, steps):
    return ["pretrain", "small", *TINY, "--steps", str(steps), "--save-every", "5", "--store", str(tmp_path / "store")]


def test_a_prepared_corpus_becomes_a_judged_run(tmp_path, capsys):
    assert cli.main(words(tmp_path, 12)) == 0
    assert "tokens/s, processes: 1" in capsys.readouterr().err
    (record,) = Store(tmp_path / "store").records()
    assert record.spec["task"]["corpus"] == "small"
    assert record.spec["model"]["feedforward"]["experts"] == 4
    judged = Store(tmp_path / "store").measurements().to_pandas().query("split == 'test'")
    assert {"loss", "perplexity", "bits_per_byte"} == set(judged["metric"])
    assert cli.main(words(tmp_path, 12)) == 0  # what is finished is not trained again
    assert len(Store(tmp_path / "store").records()) == 1


def test_a_signal_saves_and_ends_with_130_and_the_same_command_goes_on(tmp_path, capsys):
    work = tmp_path / "store" / ".work"

    def interrupt():
        while not list(work.glob("*/latest")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    assert cli.main(words(tmp_path, 100_000)) == 130
    thread.join()
    (pointer,) = work.glob("*/latest")
    step = json.loads((pointer.parent / pointer.read_text() / "notes.json").read_text())["step"]
    said = capsys.readouterr().err
    assert f"stopped at step {step} of 100000; the same command goes on from there" in said
    assert step > 5


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--mixture", "local_langauge"], "there is no mixture 'local_langauge': did you mean 'local_language'?"),
        (["--no-downstream"], "--no-downstream needs --mixture"),
        (["--accumulate", "3"], "rows=4 cannot be divided among 1 processes and accumulate=3 micro-batches"),
        (["--expert-parallel", "2"], "expert_parallel must divide the 1 processes, and 2 does not"),
        (["--save-every", "0"], "save_every must be 1 step or more, not 0"),
        (["--length", "100000"], "holds no row of 100001 tokens"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, options, line):
    assert cli.main([*words(tmp_path, 10), *options]) == 2
    said = capsys.readouterr().err
    assert line in " ".join(said.split())
    assert said.count("\n") == 1

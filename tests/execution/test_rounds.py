"""Models of ten lines are asked made-up rows in rounds."""

from dataclasses import replace

import pytest
import rows
from fakes import mixture

from parrotlab.evals import answers, harness
from parrotlab.evals.examination import Examination
from parrotlab.execution.examine import examinee
from parrotlab.execution.rounds import Round, examine_all, with_weights
from parrotlab.results.store import Store
from parrotlab.run import Run, execute
from parrotlab.spec import decode, fingerprint
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.training.devices import Device
from parrotlab.training.recipe import Recipe

pytest.importorskip("lm_eval", reason="asks with lm-evaluation-harness: pip install parrotlab[eval]")

CPU = Device("cpu", fast_steps=False)
KNOWN = harness.benchmarks()
FIRST = Round(benchmarks=(KNOWN["arc_easy"], KNOWN["piqa"]), limit=3)
SECOND = Round(benchmarks=(KNOWN["triviaqa"],), limit=2, shots=0)
NAMES = ("oracle", "random")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "data"))
    return rows.fill(tmp_path / "data")


def told(store, names=NAMES, **words):
    def meet(name):
        return examinee(name, store, CPU)

    found = examine_all(names, [FIRST, SECOND], store, CPU, meet, **words)
    return [(record.spec["model"], record.spec["benchmark"]) for record in found]


def test_every_model_is_through_a_round_before_the_next_begins(data, tmp_path):
    first = [(name, benchmark.name) for name in NAMES for benchmark in FIRST.benchmarks]
    assert told(Store(tmp_path)) == [*first, ("oracle", "triviaqa"), ("random", "triviaqa")]


def test_who_stops_early_goes_on_where_they_stopped(data, tmp_path, monkeypatch):
    whole, parts = Store(tmp_path / "whole"), Store(tmp_path / "parts")
    everything, begun = told(whole), []
    early = told(
        parts, begin=lambda name, benchmark: begun.append((name, benchmark.name)), stopping=lambda: len(begun) == 3
    )
    assert early == begun == everything[:3]
    asked, ask = [], harness.ask
    monkeypatch.setattr(harness, "ask", lambda *words: asked.append(words[1].name) or ask(*words))
    assert told(parts) == everything
    assert asked == [benchmark for _, benchmark in everything[3:]]
    for record in whole.records():
        one, other = (answers.decode(store.file(record.fingerprint, answers.FILE)) for store in (whole, parts))
        assert one == other


def test_rows_are_read_once_for_all_models(data, tmp_path, monkeypatch):
    read, task = [], harness.task
    monkeypatch.setattr(harness, "task", lambda *words: read.append(words[0].name) or task(*words))
    told(Store(tmp_path))
    assert sorted(read) == ["arc_easy", "piqa", "triviaqa"]


def test_what_another_process_is_at_is_passed_over(data, tmp_path):
    there, store = Store(tmp_path / "there"), Store(tmp_path / "here")
    everything = told(there)
    record = next(record for record in there.records() if record.spec["benchmark"] == "piqa")
    examination = decode(record.spec)
    assert isinstance(examination, Examination)
    with store.workshop(fingerprint(examination)):
        assert told(store) == [pair for pair in everything if pair != (examination.model, "piqa")]
    assert told(store) == everything


def test_of_several_learning_rates_only_the_best_is_asked(tmp_path):
    recipe = Recipe(steps=8, rows=4, learning_rate=0.01, precision="float32")
    learns, stays = (
        Run(
            task=PhoneBook(entries=20),
            model=mixture(),
            recipe=replace(recipe, learning_rate=rate),
            evaluations=(),
            seed=0,
        )
        for rate in (0.01, 1e-9)
    )
    store = Store(tmp_path)
    execute([stays, learns], store, CPU, keep_weights=True)
    assert with_weights([stays, learns], store) == [learns.fingerprint]


def test_only_models_with_weights_can_be_asked(tmp_path):
    recipe = Recipe(steps=2, rows=4, learning_rate=0.01, precision="float32")
    kept, dropped, never = (
        Run(task=PhoneBook(entries=20), model=mixture(), recipe=recipe, evaluations=(), seed=seed) for seed in range(3)
    )
    store = Store(tmp_path)
    execute([kept], store, CPU, keep_weights=True)
    execute([dropped], store, CPU)
    assert with_weights([kept, dropped, never], store) == [kept.fingerprint]

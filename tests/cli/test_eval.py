"""parrotlab pack and parrotlab eval, from the first word to the stored answer."""

import json

import pytest
import rows
import torch
from fakes import mixture
from shelves import Shelf, sentences

from parrotlab import cli
from parrotlab.evals import answers, harness
from parrotlab.evals.item_scores import item_scores
from parrotlab.evals.loss import Loss
from parrotlab.results.store import Store
from parrotlab.run import Run, execute
from parrotlab.studies import study
from parrotlab.tasks.language import Language
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.text.corpus import hashes
from parrotlab.training.devices import Device
from parrotlab.training.recipe import Recipe

pytest.importorskip("lm_eval", reason="asks with lm-evaluation-harness: pip install parrotlab[eval]")

CPU = Device("cpu", fast_steps=False)
KNOWN = harness.benchmarks()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with rows of every benchmark and a corpus."""
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    return rows.fill(tmp_path / "data")


def said(capsys, code, *words):
    assert cli.main([str(word) for word in words]) == code
    return capsys.readouterr()


def stored(store, task):
    recipe = Recipe(steps=2, rows=4, learning_rate=0.01, precision="float32")
    run = Run(task=task, model=mixture(), recipe=recipe, evaluations=(Loss(split="train", count=4),), seed=0)
    execute([run], Store(store), CPU, keep_weights=True)
    return run.fingerprint


@pytest.fixture
def trained(data, tmp_path):
    """The fingerprint of a stored mixture that has read a few documents."""
    shelf = Shelf(data)
    shelf.prepare(shelf.write("a", sentences("a", 300)), shelf.write("b", sentences("b", 200)), tokenizer="bytes")
    return stored(tmp_path / "store", Language(corpus="small", vocabulary=257, length=129))


def test_a_stored_run_is_asked_once_and_every_answer_is_kept(trained, tmp_path, capsys, monkeypatch):
    command = ["eval", trained, "--benchmarks", "arc_easy", "triviaqa", "--limit", 3, "--store", tmp_path / "store"]
    told = said(capsys, 0, *command, "--json")
    rows_ = json.loads(told.out)
    assert [(row["model"], row["benchmark"], row["items"]) for row in rows_] == [
        (trained, "arc_easy", 3),
        (trained, "triviaqa", 3),
    ]
    assert "triviaqa: 3 of 3 contexts were too long and cut from the left" in told.err
    store = Store(tmp_path / "store")
    run = next(record for record in store.records() if record.fingerprint == trained)
    for row in rows_:
        record = next(record for record in store.records() if record.fingerprint == row["fingerprint"])
        kept = answers.decode(store.file(row["fingerprint"], answers.FILE))
        assert len(kept) == 3
        assert {answer.benchmark for answer in kept} == {row["benchmark"]}
        assert record.counts["active_parameters"] == run.counts["active_parameters"] < record.counts["total_parameters"]
        assert record.spec["tokenizer"]
    monkeypatch.setattr(harness, "ask", None)  # who is asked again fails
    assert json.loads(said(capsys, 0, *command, "--json").out) == rows_
    assert len(store.runs()) == 1
    assert len(store.examinations()) == 2
    kept, again = (item_scores(store, again=again) for again in (False, True))
    assert kept.equals(again)


def test_a_study_stands_for_its_runs_with_weights(data, tmp_path, capsys, monkeypatch):
    (first, second, *_) = study.load("natural_language").plan("smoke", hashes())
    execute([first], Store(tmp_path / "store"), CPU, keep_weights=True)
    execute([second], Store(tmp_path / "store"), CPU)
    command = ["eval", "natural_language", "--scale", "smoke", "--benchmarks", "piqa", "--store", tmp_path / "store"]
    told = said(capsys, 0, *command, "--limit", 2, "--json")
    assert [row["model"] for row in json.loads(told.out)] == [first.fingerprint]
    assert "natural_language: of 8 runs at scale smoke, 1 at their best learning rates have weights" in told.err


def test_all_benchmarks_are_asked_of_a_pack_and_of_nothing_else(data, tmp_path, capsys, monkeypatch):
    said(capsys, 0, "pack", tmp_path / "pack")
    said(capsys, 0, "pack", tmp_path / "pack", "--group", "probes")
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "nothing"))
    command = ["--limit", 3, "--pack", tmp_path / "pack", "--store", tmp_path / "store", "--json"]
    told = json.loads(said(capsys, 0, "eval", "oracle", "majority", "random", *command, "--shots", 0).out)
    assert len(told) == 3 * 19
    store = Store(tmp_path / "store")
    values = store.measurements().to_pandas().merge(store.examinations(), on="fingerprint")
    assert set(values[values.model == "oracle"].value) == {1.0}
    assert set(values[values.model != "oracle"].groupby("benchmark").model.nunique()) == {2}
    assert {len(row["scores"].split()) for row in told} == {2}


def test_the_longest_choice_says_which_benchmarks_offer_none(data, tmp_path, capsys):
    command = ["eval", "longest", "--benchmarks", "piqa", "svamp", "--store", tmp_path / "store", "--json"]
    told = said(capsys, 0, *command)
    assert [row["benchmark"] for row in json.loads(told.out)] == ["piqa"]
    assert "no answer to svamp" in told.err


def test_the_list_says_group_metrics_shots_and_where_the_rows_stand(data, tmp_path, capsys):
    (data / "piqa" / "dev.jsonl").unlink()
    listed = {row["benchmark"]: row for row in json.loads(said(capsys, 0, "eval", "--list", "--json").out)}
    assert listed.keys() == KNOWN.keys()
    assert listed["gsm8k"]["shots"] == 8
    assert listed["triviaqa"]["metrics"] == "exact_match, f1"
    assert listed["arc_easy"]["rows"] == str(data / "arc_easy" / "test.jsonl")
    assert listed["piqa"]["rows"] == "missing: parrotlab pack FOLDER --benchmarks piqa"
    few = json.loads(said(capsys, 0, "eval", "--list", "--group", "math", "--json").out)
    assert {row["group"] for row in few} == {"math"}


def break_last_row(data):
    path = data / "winogrande" / "dev.jsonl"
    *_, last = path.read_text().splitlines()
    path.write_text(path.read_text() + json.dumps(json.loads(last) | {"label": 2}) + "\n")


def remove(data):
    (data / "winogrande" / "dev.jsonl").unlink()


@pytest.mark.parametrize(
    ("damage", "words", "reason"),
    [
        (break_last_row, ["oracle"], 'dev.jsonl, line 13: "label" must be one of 0 to 1, not 2'),
        (remove, ["oracle"], "no set winogrande/dev"),
        (None, ["oracle", "--benchmarks", "winogrand"], "did you mean 'winogrande'"),
        (None, ["oracle", "--group", "commonsence"], "did you mean 'commonsense'"),
        (None, ["oracle", "--shots", "13"], "12 examples to show, not 13"),
        (None, ["oracle", "--limit", "-1"], "limit, shots and batch-tokens count"),
        (None, ["oracle", "--pack", "."], "is not a pack"),
        (None, ["0123456789abcdef"], "no run 0123456789abcdef"),
        (None, ["hf:nobody/parrot"], "run `hf download nobody/parrot`"),
        (None, [], "name a model"),
        (None, ["oracle", "--include-path", "nowhere"], "nowhere is not a folder of task files"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_asked(damage, words, reason, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(harness, "ask", None)
    if damage:
        damage(data)
    words = words if "--benchmarks" in words or "--group" in words else [*words, "--benchmarks", "piqa", "winogrande"]
    told = said(capsys, 2, "eval", *words, "--store", tmp_path / "store")
    assert reason in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_a_run_of_another_task_reads_no_text(data, tmp_path, capsys):
    name = stored(tmp_path / "store", PhoneBook(entries=40, letters=2, digits=2))
    told = said(capsys, 2, "eval", name, "--benchmarks", "piqa", "--store", tmp_path / "store")
    assert "task PhoneBook, which reads no text" in told.err


def test_a_model_of_hugging_face_is_asked_and_named_by_its_weights(data, tmp_path, capsys):
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install parrotlab[eval]")
    from parrotlab.text import tokenizer

    folder = tmp_path / "tiny"
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    configuration = transformers.MixtralConfig(
        vocab_size=300, num_key_value_heads=2, num_local_experts=4, max_position_embeddings=256, **shape, **ends
    )
    transformers.AutoModelForCausalLM.from_config(configuration, dtype=torch.float32).save_pretrained(folder)
    tokenizer.train(["the parrot says five"], 300, folder / "tokenizer.json")
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tokenizer.END}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    command = ["eval", f"hf:{folder}", "--benchmarks", "piqa", "facts", "--limit", 2, "--store", tmp_path / "store"]
    rows_ = json.loads(said(capsys, 0, *command, "--json").out)
    assert {row["model"].partition("@")[0] for row in rows_} == {"hf:tiny"}
    for record in Store(tmp_path / "store").records():
        assert record.counts["active_parameters"] < record.counts["total_parameters"]


def test_a_set_of_ones_own_is_packed_and_asked_with_the_others(data, tmp_path, capsys):
    own = tmp_path / "own"
    rows.write(own / "quiz.jsonl", [rows.varied(KNOWN["arc_easy"].about["example"], n) for n in range(5)])
    content = (harness.FOLDER / "arc_easy.yaml").read_text()
    content = content.replace("include: _choice_yaml", f"include: {harness.FOLDER / '_choice_yaml'}")
    content = content.replace("task: arc_easy", "task: quiz").replace("tag: parrotlab_commonsense", "tag: mine")
    content = content.replace("items: arc_easy/test, shots: arc_easy/train", "items: quiz")
    (own / "quiz.yaml").write_text(content)
    command = ["--include-path", own, "--group", "own"]
    said(capsys, 0, "pack", tmp_path / "pack", *command)
    told = said(capsys, 0, "eval", "oracle", *command, "--pack", tmp_path / "pack", "--store", tmp_path / "s", "--json")
    assert [(row["benchmark"], row["items"]) for row in json.loads(told.out)] == [("quiz", 5)]

import hashlib
import json
import sys
import types

import pytest
import rows

from parrotlab.evals import answerers, harness, packing, sets
from parrotlab.text.hub import DataError

pytest.importorskip("lm_eval", reason="asks with lm-evaluation-harness: pip install parrotlab[eval]")

KNOWN = harness.benchmarks()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder, filled."""
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "data"))
    return rows.fill(tmp_path / "data")


def pack(folder, *names):
    asked = [KNOWN[name] for name in names] or list(KNOWN.values())
    return list(packing.pack(folder, asked, KNOWN))


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())["files"]


def test_a_pack_of_everything_is_asked_where_nothing_else_is(data, tmp_path, monkeypatch):
    named = pack(tmp_path / "pack")
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "nothing"))
    packing.check(tmp_path / "pack")
    assert named == sorted(set(named), key=named.index)
    for benchmark in KNOWN.values():
        task = harness.task(benchmark, str(tmp_path / "pack"))
        asked = harness.ask(answerers.answerer(answerers.oracle), benchmark, task, 3)
        assert {measurement.value for measurement in asked.measurements} == {1.0}


def test_the_manifest_says_hash_rows_licence_source_and_readers_of_each_file(data, tmp_path):
    pack(tmp_path / "pack", "gsm8k", "math", "minerva_math")
    facts = manifest(tmp_path / "pack")
    assert set(facts) == {"gsm8k/test.jsonl", "math/test.jsonl", "math/train.jsonl", "prompts/cot_fewshot.json"}
    test = facts["math/test.jsonl"]
    assert test["sha256"] == hashlib.sha256((data / "math" / "test.jsonl").read_bytes()).hexdigest()
    assert (test["rows"], test["licence"]) == (12, KNOWN["math"].about["licence"])
    assert test["benchmarks"] == ["math", "minerva_math"]
    assert test["source"]


def test_an_older_pack_is_added_to_and_keeps_what_it_knew(data, tmp_path):
    pack(tmp_path / "pack", "math")
    pack(tmp_path / "pack", "minerva_math")
    facts = manifest(tmp_path / "pack")
    assert facts["math/test.jsonl"]["benchmarks"] == ["math", "minerva_math"]
    assert len(facts) == 3


def test_a_changed_or_missing_file_is_named(data, tmp_path):
    pack(tmp_path / "pack", "piqa")
    (tmp_path / "pack" / "piqa" / "dev.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"piqa/dev\.jsonl has sha256 .* and the manifest says"):
        packing.check(tmp_path / "pack")
    (tmp_path / "pack" / "piqa" / "dev.jsonl").unlink()
    with pytest.raises(DataError, match=r"lacks piqa/dev\.jsonl"):
        packing.check(tmp_path / "pack")


def test_a_folder_that_is_no_pack_says_so(tmp_path):
    with pytest.raises(DataError, match="is not a pack"):
        packing.check(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="not the manifest of a pack"):
        packing.check(tmp_path)


LETTERED = {"text": ["a pear", "a parrot"], "label": ["A", "B"]}
HUB = {
    "arc_easy": {"question": "Which sings?", "choices": LETTERED, "answerKey": "B"},
    "commonsense_qa": {"question": "Which sings?", "choices": LETTERED, "answerKey": "A"},
    "hellaswag": {"activity_label": "Birds", "ctx": "It [title]", "endings": ["sings.", "melts."], "label": "1"},
    "openbookqa": {"question_stem": "It", "choices": LETTERED, "answerKey": "A"},
    "piqa": {"goal": "Sing", "sol1": "a", "sol2": "b", "label": 1},
    "sciq": {
        "question": "Q",
        **{f"distractor{n}": f"no {n}" for n in (1, 2, 3)},
        "correct_answer": "yes",
        "support": "",
    },
    "social_iqa": {"context": "C.", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
    "winogrande": {"sentence": "The _ sang.", "option1": "parrot", "option2": "pear", "answer": "1"},
    "triviaqa": {"question": "Who sang?", "answer": {"value": "Parrot", "aliases": ["parrots"]}},
    "nq_open": {"question": "who sang", "answer": ["5", "parrot"]},
    "hotpotqa": {"question": "5", "answer": "parrot"},
    "web_questions": {"question": "who sang?", "answers": ["parrot"]},
    "gsm8k": {"question": "2 + 2?", "answer": "It is <<2+2=4>>4.\n#### 4"},
    "gsm_hard": {"input": "2 + 2?", "target": 4.0, "code": "def solution(): ..."},
    "svamp": {"Body": "2 birds and 2.", "Question": "How many?", "Answer": "4", "Equation": "( 2 + 2 )"},
}
"""A row in the form that the hub has it in."""
RIGHT = {"arc_easy": 1, "hellaswag": 1, "piqa": 1, "sciq": 3, "social_iqa": 2, "winogrande": 0, "openbookqa": 0}


def offline(*words, **named):
    raise ConnectionError("no network\nat all")


@pytest.mark.parametrize("name", HUB)
def test_rows_of_the_hub_become_rows_of_ours(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "nothing"))
    asked = []

    def load_dataset(path, configuration=None, split=""):
        asked.append((path, configuration, split))
        return [HUB[name], HUB[name] | {"more": 1}]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    place, source = packing._gather(KNOWN[name].items, tmp_path / "pack", KNOWN)
    monkeypatch.undo()
    row = getattr(sets, KNOWN[name].reader)(str(place))["items"][0]
    assert len(asked) == 1
    assert asked[0][0] in source
    if name in RIGHT:
        assert row["label"] == RIGHT[name]
    if "answers" in row:
        assert row["answers"]
        assert all(isinstance(answer, str) for answer in row["answers"])


def test_a_set_of_the_hub_without_a_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "nothing"))
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(DataError, match=r"piqa/dev is not in .*nothing, and baber/piqa cannot be fetched") as caught:
        pack(tmp_path / "pack", "piqa")
    assert "\n" not in str(caught.value)


def test_a_set_that_the_hub_does_not_have_says_where_it_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"no set math/test.*the hub has it in no form we know: set PARROTLAB_DATA"):
        pack(tmp_path / "pack", "math")

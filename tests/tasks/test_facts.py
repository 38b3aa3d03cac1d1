from __future__ import annotations

import gzip
import hashlib
import json
import math
import os

import pyarrow as pa
import pytest

from parrotlab.tasks.facts import END, PAD, Facts
from parrotlab.text.hub import DataError

DATA = os.environ.get("PARROTLAB_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="PARROTLAB_DATA is not set: no real facts here")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder."""
    (tmp_path / "facts").mkdir()
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    return tmp_path / "facts"


def triples(*lines: tuple[str, str, str]) -> str:
    return "\n".join(json.dumps(dict(zip(("subject", "relation", "object"), line))) for line in lines)


def test_a_row_is_the_padded_question_then_the_answer_and_its_end():
    task = Facts(entries=50, max_prompt=40, max_answer=24)
    row_T = next(row_T for row_T in task.examples("train", 50, 0).tokens_BT if "France" in task.text(row_T)).tolist()
    assert row_T[:25] == [PAD] * 25
    assert bytes(row_T[25:40]) == b"France\tcapital\t"
    assert row_T[40:46] == [*b"Paris", END]
    assert row_T[46:] == [PAD] * 19


def test_three_forms_of_lines_are_read(folder):
    (folder / "mixed.jsonl").write_text(
        '{"subject": "Andorra", "relation": "capital", "object": "Andorra la Vella", "source": "a book"}\n\n'
        '{"subject": "Shanghai", "country": "China", "population": 24874500, "timezone": "Asia/Shanghai"}\n'
        '{"prompt": "The native language of Anna of Bohemia is", "answer": "Czech"}\n'
        '{"prompt": "dialect is studied by", "answer": "linguistics"}\n'
    )
    facts = Facts(file="mixed", entries=1).reading().facts
    assert [(fact.subject, fact.relation, fact.object) for fact in facts] == [
        ("Andorra", "capital", "Andorra la Vella"),
        ("Shanghai", "country", "China"),
        ("Shanghai", "timezone", "Asia/Shanghai"),
        ("Anna of Bohemia", "native language", "Czech"),
        ("dialect is studied by", "", "linguistics"),
    ]


def test_compressed_files_read_like_plain_ones(folder):
    lines = triples(("a", "r", "x"), ("b", "r", "y")).encode()
    (folder / "plain.jsonl").write_bytes(lines)
    (folder / "gz.jsonl.gz").write_bytes(gzip.compress(lines))
    with pa.output_stream(str(folder / "zst.jsonl.zst"), compression="zstd") as stream:
        stream.write(lines)
    readings = [Facts(file=name, entries=1).reading() for name in ("plain", "gz", "zst", str(folder / "plain.jsonl"))]
    assert all(reading == readings[0] for reading in readings)
    assert len(readings[0].facts) == 2


def test_of_several_objects_the_first_counts_and_what_is_left_out_is_counted(folder):
    lines = triples(("a", "r", "x"), ("a", "r", "y"), ("b" * 70, "r", "x"), ("c", "r", "x" * 40), ("d", "r", "é" * 20))
    (folder / "some.jsonl").write_text(lines)
    reading = Facts(file="some", entries=1).reading()
    assert [fact.object for fact in reading.facts] == ["x"]
    assert (reading.repeated, reading.too_long) == (1, 3)
    with pytest.raises(
        ValueError, match="has 1 facts to train on, not entries=5: 0 are held out, 3 exceed max_prompt=64"
    ):
        Facts(file="some", entries=5).examples("train", 5, 0)


def test_who_knows_only_the_frequencies_of_a_relation_has_no_bits(folder):
    (folder / "skewed.jsonl").write_text(
        triples(
            *[(f"s{i}", "r", "often" if i % 4 else "rare") for i in range(400)],
            *[(f"t{i}", "q", "same") for i in range(99)],
        )
    )
    task = Facts(file="skewed", entries=400)
    rows, bits = task.examples("train", 400, 0).tokens_BT, task.answer_bits("train", 400, 0)
    answers = [task.text(row_T).partition(" -> ")[2] for row_T in rows]
    frequency = {
        name: answers.count(name) / (answers.count("often") + answers.count("rare")) for name in ("often", "rare")
    }
    for answer, bit in zip(answers, bits):
        assert bit == pytest.approx(0 if answer == "same" else -math.log2(frequency[answer]))


def test_the_split_of_a_fact_does_not_depend_on_padding_or_seed():
    def questions(task: Facts, seed: int) -> set[str]:
        return {task.text(row_T) for row_T in task.examples("test", 99, seed).tokens_BT}

    assert questions(Facts(entries=9), 0) == questions(Facts(entries=9, max_prompt=80), 5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"subject": "b", ', "bad.jsonl, line 2: not JSON"),
        ('["b"]', "bad.jsonl, line 2: expected an object"),
        ('{"words": ["b"]}', "bad.jsonl, line 2: expected .* got fields 'words'"),
        ('{"subject": "b", "object": "c"}', "bad.jsonl, line 2: relation must be a text, not None"),
        ('{"subject": "b", "relation": "r", "object": 3}', "bad.jsonl, line 2: object must be a text, not 3"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(folder, line, message):
    (folder / "bad.jsonl").write_text(triples(("a", "r", "x")) + "\n" + line)
    with pytest.raises(DataError, match=message) as raised:
        Facts(file="bad", entries=1).reading()
    assert "\n" not in str(raised.value)


def test_another_file_of_the_same_name_is_refused(folder):
    (folder / "pinned.jsonl").write_text(triples(("a", "r", "x")))
    right = hashlib.sha256((folder / "pinned.jsonl").read_bytes()).hexdigest()
    assert len(Facts(file="pinned", entries=1, sha256=right).reading().facts) == 1
    with pytest.raises(DataError, match=f"its sha256 is {right}, not 00"):
        Facts(file="pinned", entries=1, sha256="00").reading()


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="entries must be 1 or more, not 0"):
        Facts(entries=0)


@needs_data
@pytest.mark.parametrize(
    "file", ["trex_pararel", "trex_kilt", "geonames_countries", "cia_world_factbook", "bigbench_qa_wikidata"]
)
def test_real_facts_are_read(file):
    task = Facts(file=file, entries=1000)
    assert len(task.examples("train", 1000, 0).tokens_BT) == 1000
    assert task.answer_bits("train", 1000, 0).sum() > 500

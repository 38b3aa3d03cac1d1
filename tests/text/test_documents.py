from __future__ import annotations

import doctest
import gzip
import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from parrotlab.text import documents, hub
from parrotlab.text.mixtures import Source

TEXTS = ["one", "two\nlines", "drei Äpfel"]


def source(path, **fields):
    return Source(name="some", place=str(path), weight=1.0, **fields)


def lines(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def test_a_document_reads_the_same_out_of_every_kind_of_file(tmp_path):
    (tmp_path / "plain.jsonl").write_bytes(lines(TEXTS))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(lines(TEXTS)))
    with pa.output_stream(str(tmp_path / "packed.jsonl.zst"), compression="zstd") as stream:
        stream.write(lines(TEXTS))
    parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "table.parquet")
    for path in tmp_path.iterdir():
        assert list(documents.read(source(path))) == TEXTS


def test_lines_that_are_no_documents_are_named_and_the_others_read(tmp_path):
    (tmp_path / "torn.jsonl").write_text('{"text": "good"}\n{"text": \n[1]\n{"title": "x"}\n\n{"text": "again"}\n')
    read = list(documents.read(source(tmp_path / "torn.jsonl")))
    assert [item for item in read if isinstance(item, str)] == ["good", "again"]
    malformed = [item for item in read if isinstance(item, documents.Malformed)]
    assert [item.where for item in malformed] == [f"torn.jsonl, line {line}" for line in (2, 3, 4)]
    assert malformed[2].why == "no text in it, but title"


def test_a_damaged_table_is_one_clear_line(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(hub.DataError, match=r"bad\.parquet, after row 0: cannot read") as raised:
        list(documents.read(source(tmp_path / "bad.parquet")))
    assert "\n" not in str(raised.value)


def test_streaming_from_the_hub_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(hub.DataError, match=r"streaming a/b needs the package datasets"):
        list(documents.read(source("hub:a/b")))


def test_a_data_set_is_streamed_record_by_record(tmp_path):
    pytest.importorskip("datasets", reason="the package datasets is not installed")
    (tmp_path / "train.jsonl").write_bytes(lines(TEXTS) + b'{"question": "2 + 2?", "answer": "4"}\n{"title": "none"}\n')
    *read, last = documents.read(source(f"hub:{tmp_path}"))  # a folder of files stands in for the hub's
    assert read == [*TEXTS, "Question: 2 + 2?\nAnswer: 4"]
    assert isinstance(last, documents.Malformed)
    assert last.where == f"{tmp_path}, row 5"
    assert list(documents.read(source(f"hub:{tmp_path}", documents=2))) == TEXTS[:2]


def test_without_a_network_the_hub_is_one_clear_line(tmp_path):
    pytest.importorskip("datasets", reason="the package datasets is not installed")
    program = (
        "from parrotlab.text import documents, mixtures\n"
        "source = mixtures.Source(name='some', place='hub:nobody/nothing', weight=1.0)\n"
        "try:\n    list(documents.read(source))\nexcept documents.hub.DataError as error:\n    print(error)\n"
    )
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nobody/nothing: cannot stream: ")
    assert done.stdout.count("\n") == 1


def test_a_source_gives_no_more_documents_than_asked_for(tmp_path):
    (tmp_path / "plain.jsonl").write_bytes(lines(TEXTS))
    assert list(documents.read(source(tmp_path / "plain.jsonl", documents=2))) == TEXTS[:2]


def test_cleaning_is_done_once_and_for_all():
    raw = "\ufeff Cafe\u0301\r\nbar\x00\x07\ttab\u0085\ud800 "
    assert documents.clean(raw) == "Caf\u00e9\nbar\ttab"
    assert documents.clean(documents.clean(raw)) == documents.clean(raw)


def test_one_document_in_a_hundred_is_held_out_by_its_own_hash():
    held_out = sum(documents.is_held_out(documents.text_hash(f"document {n}")) for n in range(20_000))
    assert 150 < held_out < 250  # 200, give or take more than three standard deviations


def test_a_benchmarks_record_is_written_out_with_its_right_answer():
    assert doctest.testmod(documents).failed == 0
    assert documents.text_of({"context": "He ran and", "choices": ["sat.", "fell."], "label": 1}) == "He ran and fell."
    assert documents.text_of({"question": "who?", "answers": ["Ada", "A."]}) == "Question: who?\nAnswer: Ada"
    assert documents.text_of({"question": "who?", "choices": ["Ada"], "label": None}) is None

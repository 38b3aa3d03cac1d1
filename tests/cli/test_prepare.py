from __future__ import annotations

import json

import pytest
from shelves import Shelf, sentences

from parrotlab import cli
from parrotlab.text.corpus import open_corpus


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    return Shelf(tmp_path)


def said(capsys, words, code):
    assert cli.main(["prepare", *words]) == code
    return capsys.readouterr()


def test_files_become_a_corpus_weighed_by_their_sizes(shelf, capsys):
    one, other = (shelf.write(name, sentences(name, count)).place for name, count in (("one", 30), ("other", 10)))
    words = [one, other, "--tokenizer", "bytes", "--workers", "1", "--name", "mine"]
    parts = json.loads(said(capsys, [*words, "--json"], 0).out)["parts"]
    assert parts["one"]["weight"] > 2 * parts["other"]["weight"]
    again = said(capsys, words, 0)  # nothing is left to do
    assert f"sha256={open_corpus('mine').sha256}" in again.err
    assert "other" in again.out


def test_documents_are_limited_in_all_sources_or_in_one(shelf, capsys):
    files = [shelf.write(name, sentences(name, 30)).place for name in ("one", "other")]
    words = [
        *files,
        "--tokenizer",
        "bytes",
        "--workers",
        "1",
        "--name",
        "mine",
        "--json",
        "--documents",
        "20",
        "other=5",
    ]
    parts = json.loads(said(capsys, words, 0).out)["parts"]
    assert {name: sum(facts["documents"].values()) for name, facts in parts.items()} == {"one": 20, "other": 5}


def test_malformed_lines_are_named(shelf, tmp_path, capsys):
    place = shelf.write("one", sentences("one", 5)).place
    (tmp_path / "raw" / "one.jsonl").open("a").write("oh no")
    assert (
        "malformed: one.jsonl, line 6: not JSON"
        in said(capsys, [place, "--tokenizer", "bytes", "--workers", "1"], 0).err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a mixture (local_language"),
        (["local_lang"], "did you mean 'local_language'?"),
        (["local_math"], "there is no data file corpora/stacks_project_tex"),
        (["gone.jsonl", "gone too.jsonl"], "gone.jsonl is not a file"),
        (["FILE", "--documents", "few"], "documents must be a number or NAME=NUMBER, not 'few'"),
        (["FILE", "--documents", "onee=3"], "has no source 'onee': did you mean 'one'?"),
        (["FILE", "--tokenizer", "gtp2"], "there is no tokenizer 'gtp2'"),
        (["FILE", "--vocabulary", "200"], "a BPE vocabulary holds 256 bytes, END and more, not 200"),
    ],
)
def test_bad_input_is_one_clear_line(shelf, capsys, words, message):
    place = shelf.write("one", sentences("one", 5)).place
    err = said(capsys, [place if word == "FILE" else word for word in words] + ["--workers", "1"], 2).err
    assert message in err
    assert err.rstrip().splitlines()[-1].startswith("error:")

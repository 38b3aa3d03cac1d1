from __future__ import annotations

import json

from parrotlab.text import overlap

QUESTION = "How many of the seventeen parrots that Anna bought in May can still say their own name?"


def test_thirteen_words_in_a_row_are_found_whatever_stands_around_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    for folder, file in (("quiz", "test"), ("quiz", "train"), ("corpora", "test")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{file}.jsonl").write_text(json.dumps({"question": QUESTION, "choices": ["a", "b"]}))
    assert [path.name for path in overlap.test_files()] == ["test.jsonl"]
    known_G = overlap.grams_of(overlap.test_files())
    words = QUESTION.rstrip("?").split()
    assert len(known_G) == len(words) - 12
    assert overlap.overlaps("Before. " + " -- ".join(words[2:15]).upper() + " after", known_G)
    assert not overlap.overlaps("Before. " + " ".join(words[2:14]) + " after", known_G)
    assert not overlap.overlaps(" ".join(reversed(words)), known_G)


def test_where_there_are_no_test_sets_nothing_overlaps(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    assert not overlap.overlaps(QUESTION, overlap.grams_of(overlap.test_files()))

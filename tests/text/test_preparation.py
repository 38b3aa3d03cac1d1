from __future__ import annotations

import json

import pytest
from shelves import sentences

from parrotlab.text import corpus, hub, preparation
from parrotlab.text.corpus import open_corpus
from parrotlab.text.mixtures import TextMixture


def decoded(part, split, name="small"):
    made = open_corpus(name)
    return [made.tokenizer.decode(tokens_T[1:-1]) for tokens_T in made.documents(part, split)]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_every_document_comes_out_once_in_one_split_as_it_went_in(shelf, tokenizer):
    texts = sentences("a", 400)
    facts = shelf.prepare(shelf.write("a", texts), shelf.write("b", ["only this"]), tokenizer=tokenizer)["parts"]["a"]
    train, test = decoded("a", "train"), decoded("a", "test")
    assert sorted(train + test) == sorted(texts)
    assert test
    assert facts["documents"] == {"train": len(train), "test": len(test)}
    assert facts["bytes"]["train"] == sum(len(text.encode()) for text in train)


def test_exact_duplicates_are_dropped_within_and_between_parts(shelf):
    texts = sentences("a", 30)
    facts = shelf.prepare(
        shelf.write("a", texts + texts[:5]), shelf.write("b", ["new", *texts[:7], " new\r\n"]), tokenizer="bytes"
    )["parts"]
    assert (facts["a"]["duplicates"], facts["b"]["duplicates"]) == (5, 8)
    assert decoded("b", "train") + decoded("b", "test") == ["new"]


def test_shards_are_bounded_and_lose_no_token(shelf, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_TOKENS", 300)
    texts = [*sentences("a", 50), "long " * 100]  # the last is cut: it fits in no shard
    facts = shelf.prepare(shelf.write("a", texts), shelf.write("b", ["b"]), tokenizer="bytes")["parts"]["a"]
    sizes = [shard["tokens"] for split in ("train", "test") for shard in facts["shards"][split]]
    assert max(sizes) <= 300
    assert len(sizes) > 5
    assert sum(sizes) == sum(facts["tokens"].values()) + len(sizes)  # each shard begins with an END of its own
    assert sum(facts["tokens"].values()) == sum(facts["bytes"].values()) + len(texts)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_preparation_ends_as_if_it_had_not_been(shelf, tmp_path, workers):
    sources = shelf.write("a", sentences("a", 60)), shelf.write("b", sentences("b", 60) + sentences("a", 5))
    whole = shelf.prepare(*sources, name="whole", vocabulary=300)
    mixture, folder = TextMixture(name="whole", sources=sources), tmp_path / "prepared" / "again"
    for progress in preparation.prepare(mixture, folder, preparation.Settings(vocabulary=300), 1):
        if progress.facts is not None:
            break  # the first part is whole, and the process dies
    kept = (folder / "parts" / "a" / "part.json").stat().st_mtime_ns
    assert not (folder / "manifest.json").exists()
    list(preparation.prepare(mixture, folder, preparation.Settings(vocabulary=300), workers))
    assert json.loads((folder / "manifest.json").read_text()) == whole
    assert (folder / "parts" / "a" / "part.json").stat().st_mtime_ns == kept


def test_a_folder_of_other_settings_is_not_mixed_up(shelf):
    source, other = shelf.write("a", sentences("a", 5)), shelf.write("b", ["b"])
    shelf.prepare(source, other, tokenizer="bytes")
    assert shelf.prepare(source, other, tokenizer="bytes")["parts"]
    with pytest.raises(hub.DataError, match="holds a preparation of other sources or settings"):
        shelf.prepare(source, other, tokenizer="bytes", decontaminate=True)


def test_malformed_lines_are_told_up_to_the_limit(shelf, tmp_path):
    source, other = shelf.write("a", sentences("a", 5)), shelf.write("b", ["b"])
    with (tmp_path / "raw" / "a.jsonl").open("a") as file:
        file.write("no\nnor this\n")
    facts = shelf.prepare(source, other, tokenizer="bytes", malformed_limit=2)["parts"]["a"]
    assert facts["malformed"] == 2
    assert facts["malformed_lines"][1].startswith("a.jsonl, line 7: not JSON")
    with pytest.raises(hub.DataError, match=r"more than 1 malformed lines in 'a'; the last: a\.jsonl, line 7"):
        shelf.prepare(source, other, name="strict", tokenizer="bytes", malformed_limit=1)


def test_what_overlaps_with_a_test_set_is_counted_and_on_request_removed(shelf, tmp_path):
    question = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    (tmp_path / "quiz").mkdir()
    (tmp_path / "quiz" / "test.jsonl").write_text(json.dumps({"question": question}))
    sources = shelf.write("a", [f"We read: {question}!", "something else"]), shelf.write("b", ["b"])
    for decontaminate in (False, True):
        name = f"clean_{decontaminate}"
        facts = shelf.prepare(*sources, name=name, tokenizer="bytes", decontaminate=decontaminate)["parts"]["a"]
        assert facts["overlapping"] == 1
        assert facts["removed"] == decontaminate
        assert len(decoded("a", "train", name) + decoded("a", "test", name)) == 2 - decontaminate


def test_an_empty_corpus_is_one_clear_line(shelf):
    with pytest.raises(hub.DataError, match=r"'small' is empty: none of its sources holds a document"):
        shelf.prepare(shelf.write("a", []), shelf.write("b", [" \n"]), tokenizer="bytes")


def test_a_manifest_tells_source_licence_and_hashes_and_no_path(shelf, tmp_path):
    manifest = shelf.prepare(shelf.write("a", sentences("a", 9)), shelf.write("b", ["b"]), tokenizer="bytes")
    facts = manifest["parts"]["a"]
    assert (facts["source"], facts["licence"]) == ("a.jsonl", "unknown")
    assert facts["sha256"] == corpus.file_sha256(tmp_path / "raw" / "a.jsonl")
    assert str(tmp_path) not in json.dumps(manifest)

from __future__ import annotations

import json

import numpy as np
import pytest
from shelves import sentences

from parrotlab.text import corpus, hub
from parrotlab.text.corpus import open_corpus


@pytest.fixture
def small(shelf, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_TOKENS", 700)
    shelf.prepare(shelf.write("a", sentences("a", 40)), shelf.write("b", ["b"]), tokenizer="bytes")
    return open_corpus("small")


def test_windows_ask_for_each_token_of_a_shard_once_but_for_its_tail(small):
    length = 50
    rows_BT = small.rows("a", "train", length, np.arange(small.windows("a", "train", length)))
    place = 0
    for shard in small.shards("a", "train"):
        count = (len(shard) - 1) // (length - 1)
        asked = rows_BT[place : place + count, 1:].reshape(-1)
        assert np.array_equal(asked, shard[1 : 1 + count * (length - 1)])
        assert len(shard) - 1 - len(asked) < length - 1
        place += count
    assert place == len(rows_BT)


def test_documents_stand_between_two_ends(small):
    for document_T in small.documents("a", "train"):
        assert np.flatnonzero(document_T == small.end).tolist() == [0, len(document_T) - 1]


def test_tokens_take_two_bytes_where_they_can():
    assert corpus.token_type(65_536).itemsize == 2
    assert corpus.token_type(65_537).itemsize == 4


def test_a_damaged_or_missing_shard_is_one_clear_line(small):
    path = small.folder / "parts" / "a" / "train-00000.bin"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(hub.DataError, match=r"train-00000\.bin has sha256 .* and the manifest says"):
        small.shards("a", "train")
    path.unlink()
    with pytest.raises(hub.DataError, match=r"train-00000\.bin is missing"):
        small.shards("a", "train")


def test_a_corpus_that_is_not_there_or_another_is_one_clear_line(small):
    with pytest.raises(
        hub.DataError, match=r"no prepared corpus 'smal' .* make it with `parrotlab prepare .* --name smal`"
    ):
        open_corpus("smal")
    assert open_corpus("small", small.sha256) is small
    with pytest.raises(hub.DataError, match="and the task asks for 1234"):
        open_corpus("small", "1234")


def test_a_manifest_that_is_no_json_is_one_clear_line(small):
    (small.folder / "manifest.json").write_text(json.dumps(small.manifest)[:-5])
    with pytest.raises(hub.DataError, match=r"manifest\.json: not a manifest"):
        open_corpus("small")

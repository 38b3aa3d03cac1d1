from __future__ import annotations

import doctest

import pytest

from parrotlab.text import hub, tokenizer

STRANGE = ["plain words", "naïve Ünicode 漢字 🦜", "tabs\tand\n\nlines  ", tokenizer.END]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    return tokenizer.train(["the parrot repeats the words"] * 50, 300, path), path


def test_what_is_encoded_can_be_read_again(own):
    for made in (tokenizer.BYTES, own[0]):
        assert [made.decode(tokens_T) for tokens_T in made.encode(STRANGE)] == STRANGE


def test_a_document_that_spells_out_the_end_does_not_end(own):
    for made in (tokenizer.BYTES, own[0]):
        assert made.end not in made.encode([tokenizer.END])[0]


def test_every_token_lies_below_the_vocabulary(own):
    for made in (tokenizer.BYTES, own[0]):
        assert made.end < made.vocabulary
        assert max(tokens_T.max() for tokens_T in made.encode(STRANGE)) < made.vocabulary


def test_a_trained_vocabulary_has_the_size_asked_for_and_shortens_what_it_knows(own):
    assert own[0].vocabulary <= 300
    assert len(own[0].encode(["the parrot repeats"])[0]) < 6


def test_a_written_tokenizer_is_the_same_when_loaded(own):
    loaded = tokenizer.load(str(own[1]))
    assert loaded.sha256 == own[0].sha256
    assert loaded.encode(STRANGE)[1].tolist() == own[0].encode(STRANGE)[1].tolist()


def test_own_vocabularies_grow_with_the_text():
    assert doctest.testmod(tokenizer).failed == 0
    sizes = [tokenizer.own_vocabulary(10**digits) for digits in range(12)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (tokenizer.SMALLEST_VOCABULARY, tokenizer.LARGEST_VOCABULARY)


def test_unknown_and_damaged_tokenizers_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    with pytest.raises(hub.DataError, match=r"there is no tokenizer 'gtp2': give bytes, bpe"):
        tokenizer.load("gtp2")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(hub.DataError, match=r"not a tokenizer\.json"):
        tokenizer.load(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="256 bytes, END and more, not 256"):
        tokenizer.train([], 256, tmp_path / "own.json")

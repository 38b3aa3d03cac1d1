from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from fakes import Digits, guesser
from shelves import Shelf, sentences

from parrotlab import spec
from parrotlab.evals import perplexity
from parrotlab.evals.evaluation import Evaluation
from parrotlab.evals.perplexity import Perplexity
from parrotlab.tasks.language import Language

TASK = Language(corpus="small", vocabulary=257, length=33)


@pytest.fixture
def facts(tmp_path, monkeypatch):
    """What the manifest says of the parts of a small corpus with Äpfel, which take more bytes than letters."""
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    shelf = Shelf(tmp_path)
    sources = [shelf.write(name, [text + " Äpfel" for text in sentences(name, 500)]) for name in "ab"]
    return shelf.prepare(*sources, tokenizer="bytes")["parts"]


def measured(logits, **fields):
    rows = list(Perplexity(**fields).measure(logits, TASK, 0, 7))
    return {(row.part, row.metric): row for row in rows}


def test_who_knows_nothing_is_as_perplexed_as_there_are_tokens(facts):
    rows = measured(guesser(TASK), documents=10**6)
    for part in "ab":
        tokens, text_bytes = facts[part]["tokens"]["test"], facts[part]["bytes"]["test"]
        row = rows[f"source={part}", "perplexity"]
        assert (row.value, row.count) == (pytest.approx(257), tokens)
        bits = rows[f"source={part}", "bits_per_byte"]
        assert (bits.value, bits.count) == (pytest.approx(math.log2(257) * tokens / text_bytes), text_bytes)
    assert rows["", "perplexity"].count == sum(facts[part]["tokens"]["test"] for part in "ab")
    assert {(row.evaluation, row.split, row.step) for row in rows.values()} == {("perplexity", "test", 7)}


def test_how_windows_slide_changes_nothing_for_who_needs_no_context(facts):
    table_VV = torch.randn(257, 257, generator=torch.Generator().manual_seed(0))

    def bigrams(tokens_BT):
        return table_VV[tokens_BT]

    values = [measured(bigrams, stride=stride)["", "perplexity"] for stride in (0.1, 0.5, 1.0)]
    assert [row.value for row in values] == pytest.approx([values[0].value] * 3)
    assert len({row.count for row in values}) == 1


def test_the_size_of_a_batch_changes_nothing(facts, monkeypatch):
    table_VV = torch.randn(257, 257, generator=torch.Generator().manual_seed(0))
    whole = measured(lambda tokens_BT: table_VV[tokens_BT])
    monkeypatch.setattr(perplexity, "LOGITS", 2 * 33 * 257)
    batched = measured(lambda tokens_BT: table_VV[tokens_BT])
    assert [row.value for row in batched.values()] == pytest.approx([row.value for row in whole.values()])


def test_every_token_is_asked_for_once_with_the_most_context_there_is():
    assert doctest.testmod(perplexity).failed == 0
    for tokens in range(2, 40):
        for stride in (0.1, 0.5, 1.0):
            pieces = list(perplexity.windows(np.arange(tokens), 9, stride))
            asked = np.concatenate([piece_T[context:] for piece_T, context in pieces])
            assert asked.tolist() == list(range(1, tokens))
            assert all(len(piece_T) <= 9 and context >= 1 for piece_T, context in pieces)


def test_no_more_documents_are_read_than_asked_for(facts):
    first = [TASK.documents(part, "test", 1)[0] for part in TASK.parts("test")]
    assert measured(guesser(TASK), documents=1)["", "perplexity"].count == sum(len(tokens_T) - 1 for tokens_T in first)


@pytest.mark.parametrize("tokens", [1, 40, 200])
def test_no_more_tokens_of_a_source_are_judged_than_asked_for(facts, tokens):
    rows = measured(guesser(TASK), documents=10**6, tokens=tokens)
    for part in "ab":
        assert rows[f"source={part}", "perplexity"].count == min(tokens, facts[part]["tokens"]["test"])


def test_a_limit_above_what_there_is_changes_nothing(facts):
    assert measured(guesser(TASK), tokens=10**9) == measured(guesser(TASK))


def test_an_evaluation_is_an_evaluation_and_refuses_what_it_cannot_judge(facts, tmp_path):
    assert isinstance(Perplexity(), Evaluation)
    assert spec.decode(spec.encode(Perplexity(stride=0.25))) == Perplexity(stride=0.25)
    with pytest.raises(ValueError, match="documents of the language task, and Digits has none"):
        list(Perplexity().measure(guesser(Digits()), Digits(), 0, 0))
    Shelf(tmp_path).prepare(*(Shelf(tmp_path).write(name, [name]) for name in "ab"), name="tiny", tokenizer="bytes")
    with pytest.raises(ValueError, match="the test split of corpus 'tiny' holds no document to read"):
        list(Perplexity().measure(guesser(TASK), Language(corpus="tiny", vocabulary=257), 0, 0))
    with pytest.raises(ValueError, match="stride must lie above 0 and be at most 1, not 0"):
        Perplexity(stride=0)
    with pytest.raises(ValueError, match="documents must be 1 or more and tokens 0 or more, not 0 and -1"):
        Perplexity(documents=0, tokens=-1)

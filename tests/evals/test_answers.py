"""Answers survive being written."""

from parrotlab.evals.answers import Answer, decode, encode

CHOICE = Answer(
    benchmark="arc_easy",
    split="test",
    item="00ff00ff00ff00ff",
    kind="choice",
    gold=("1",),
    loglikelihoods=(-3.5, -1.25),
    choice_bytes=(4, 9),
    truncated=True,
)
WORDS = Answer(
    benchmark="nq_open", split="dev", item="12ab12ab12ab12ab", kind="words", gold=("Köln", "Cologne"), text=" Köln\n"
)


def test_answers_are_read_as_they_were_written():
    assert decode(encode([CHOICE, WORDS])) == [CHOICE, WORDS]


def test_no_answers_are_an_empty_file():
    assert decode(encode([])) == []

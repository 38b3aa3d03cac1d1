"""An answer's scores: by kind, against the conventions of the field."""

import dataclasses

import pytest

from parrotlab.evals.answers import Answer
from parrotlab.evals.scoring import METRIC, MODES, choice_scores, normalised, score_all, scores, words_scores

CHOICE = Answer(
    benchmark="arc_easy",
    split="test",
    item="00",
    kind="choice",
    gold=("1",),
    loglikelihoods=(-4.0, -6.0, -9.0),
    choice_bytes=(2, 6, 3),
)


def test_the_likeliest_choice_counts_and_length_may_change_which_that_is():
    assert scores(CHOICE) == {"acc": 0.0, "acc_norm": 1.0}


def test_the_oracle_has_every_score_1_in_every_mode():
    answers = [
        dataclasses.replace(CHOICE, loglikelihoods=(-100.0, 0.0, -100.0)),
        Answer(benchmark="triviaqa", split="dev", item="01", kind="words", gold=("The Nile", "Nile"), text="The Nile"),
        Answer(benchmark="svamp", split="test", item="02", kind="math", gold=("12",), text="12"),
        Answer(benchmark="math", split="test", item="03", kind="math", gold=(r"\frac{x}{2}",), text=r"\frac{x}{2}"),
    ]
    assert {METRIC[mode][a.kind]: scores(a)[METRIC[mode][a.kind]] for mode in MODES for a in answers} == dict.fromkeys(
        ("acc", "acc_norm", "exact_match", "f1", "strict"), 1.0
    )


def test_equal_choices_leave_the_first_and_one_without_a_likelihood_is_wrong():
    assert choice_scores((-1.0, -1.0), (1, 1), ("0",)) == {"acc": 1.0, "acc_norm": 1.0}
    assert choice_scores((float("nan"), -1.0), (1, 1), ("1",)) == {"acc": 0.0, "acc_norm": 0.0}


def test_a_choice_without_likelihoods_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match="has 0 and 3"):
        choice_scores((), (1, 2, 3), ("0",))


def test_normalisation_is_blind_to_case_articles_punctuation_and_space_and_twice_is_once():
    assert normalised("  The   U.S.A., “an” empire! ") == "usa empire"
    assert normalised(normalised("A-ha, the band")) == normalised("A-ha, the band")


def test_f1_is_the_harmonic_mean_of_precision_and_recall_of_words():
    precision, recall = 1 / 3, 1 / 2
    found = words_scores("Barack Hussein of Kenya", ("Barack Obama",))["f1"]
    assert found == pytest.approx(2 * (1 / 4) * recall / (1 / 4 + recall))
    assert words_scores("Barack Hussein Kenya", ("Barack Obama",))["f1"] == pytest.approx(
        2 * precision * recall / (precision + recall)
    )


def test_words_repeated_count_as_often_as_they_are_in_both():
    assert words_scores("new new new york", ("new york",))["f1"] == pytest.approx(2 * 2 / 6)


def test_the_nearest_alias_counts_and_a_further_alias_never_harms():
    few, many = words_scores("Nile river", ("Amazon",)), words_scores("Nile river", ("Amazon", "Nile River"))
    assert few == {"exact_match": 0.0, "f1": 0.0}
    assert many == {"exact_match": 1.0, "f1": 1.0}


def test_what_follows_the_first_line_with_words_is_not_judged():
    assert words_scores("\n  Paris\nQuestion: Who wrote Faust?", ("Paris",)) == {"exact_match": 1.0, "f1": 1.0}


def test_an_empty_answer_is_worth_nothing_unless_nothing_is_right():
    assert words_scores("", ("Paris",)) == {"exact_match": 0.0, "f1": 0.0}
    assert words_scores("the", ("The",)) == {"exact_match": 1.0, "f1": 1.0}


def test_answers_scored_together_keep_their_order():
    answers = [dataclasses.replace(CHOICE, gold=(str(right),)) for right in (0, 1, 2)]
    assert score_all(answers, workers=3) == [scores(answer) for answer in answers]


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="'essay'"):
        scores(dataclasses.replace(CHOICE, kind="essay"))  # type: ignore[arg-type]

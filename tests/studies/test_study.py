"""A run that reads a corpus is named by the corpus's hash, in plans and in reports."""

import pandas as pd
import pytest

from parrotlab.studies.study import corpora_of, load


@pytest.mark.parametrize("name", ["natural_language", "math"])
def test_runs_on_another_corpus_of_the_same_name_are_other_runs(name):
    study = load(name)
    (corpus,) = {run.task.corpus for run in study.runs("gpu")}
    one, other = (study.plan("gpu", {corpus: digest}) for digest in ("12ab", "34cd"))
    assert {run.task.sha256 for run in one} == {"12ab"}
    assert not {run.fingerprint for run in one} & {run.fingerprint for run in other}


def test_a_corpus_that_is_not_known_leaves_the_plan_without_its_hash():
    study = load("natural_language")
    assert study.plan("gpu", {"some_other": "12ab"}) == study.runs("gpu")


def test_what_reads_no_corpus_is_planned_as_it_is():
    study = load("phone_book")
    assert study.plan("gpu", {"local_language": "12ab"}) == study.runs("gpu")


def test_a_report_names_each_corpus_as_most_of_the_stored_runs_do():
    stored = pd.DataFrame(
        {
            "task.corpus": ["a", "a", "a", "b", None, "c"],
            "task.sha256": ["1", "2", "2", "3", None, ""],
        }
    )
    assert corpora_of(stored) == {"a": "2", "b": "3"}
    assert corpora_of(pd.DataFrame({"seed": [0]})) == {}

"""The report's section on benchmarks: made-up models know more the larger they are, and guess among choices."""

import re

import pandas as pd
import pytest

from parrotlab.analysis.benchmarks import ALL_MATH, MATH
from parrotlab.report._benchmarks import _of_best_task, gathered
from parrotlab.report._words import gain, score


@pytest.fixture(scope="module")
def found(examined):
    return gathered(examined, examined.table())


@pytest.fixture(scope="module")
def page(examined_folder):
    return (examined_folder / "report.html").read_text()


@pytest.fixture(scope="module")
def markdown(examined_folder):
    return (examined_folder / "RESULTS.md").read_text()


def test_the_summary_says_where_everything_is_noise(found):
    above, level = found.summary.split("On arc_easy, piqa no model does")
    assert "triviaqa" in above
    assert "noise" in level


def test_every_examination_is_a_row_and_what_does_not_rise_above_its_floor_is_grey(found, examined, page):
    assert len(found.scores) == len(examined.examinations())
    assert all(row["noise"] for row in found.scores if row["benchmark"] in ("arc_easy", "piqa") and row["total"])
    assert not any(row["noise"] for row in found.scores if row["model"] == "oracle")
    greys = len([row for table in (found.scores,) for row in table if row["noise"]])
    greys += len([row for table in (found.matched, found.pairs, found.gaps) for row in table if not row["real"]])
    assert page.count('<tr class="noise">') == greys > 20


def test_claims_are_judged_where_there_is_something_to_judge(found):
    outcomes = [(claim.source, verdict.outcome, verdict.measured) for claim, verdict in found.verdicts]
    assert outcomes[0][:2] == ("figure 1a", "holds")
    assert outcomes[1][1] == "undecided"
    assert "differences are noise" in outcomes[1][2]
    assert "not run" not in [outcome for _, outcome, _ in outcomes]


def test_knowledge_that_follows_the_total_has_a_rate_of_about_1_and_chance_has_none(found):
    rates = {(row["task"], row["label"]): row["rate"] for row in found.rates}
    assert rates["triviaqa", "MoE d=16 E=8 top-2"] == pytest.approx(1, abs=0.3)
    assert {"arc_easy", "piqa"} <= set(found.refusals["fewer than two dense models score above the floor"])


def test_the_best_design_of_each_family_stands_beside_the_floor(found, page, markdown):
    best = {(row["benchmark"], row["trained_on"]): row["best"] for row in found.best}
    scores = [row for row in found.scores if row["benchmark"] == "triviaqa" and row["split"] != "train"]
    (trained_on,) = {row["trained_on"] for row in scores if row["trained_on"]}
    for family in ("dense", "moe"):
        cell = best["triviaqa", trained_on][family]
        means = {}
        for row in scores:
            if row["family"] == family:
                means.setdefault(row["label"], []).append(row["score"])
        assert cell["score"] == pytest.approx(max(sum(each) / len(each) for each in means.values()))
        assert cell["label"] in markdown
    assert all(best["piqa", trained_on][family]["noise"] for family in ("dense", "moe"))


def test_claims_are_judged_on_the_models_whose_training_lifts_most_of_them_above_the_floor():
    rows = [
        {"group": "knowledge", "trained_on": task, "label": f"{task} {n}", "above_floor": risen}
        for task, risings in (("novels", (True, True)), ("numbers", (False, True, False)), ("", (True, True, True)))
        for n, risen in enumerate(risings)
    ]
    groups = pd.DataFrame(rows)
    assert set(_of_best_task(groups, groups)["trained_on"]) == {"novels"}
    gaps = groups.assign(group=ALL_MATH)
    assert set(_of_best_task(gaps, groups.assign(group=MATH))["trained_on"]) == {"novels"}


def test_figures_are_drawn_and_the_drawings_say_what_is_noise(found):
    assert list(found.pictures) == [
        "benchmark_groups",
        "benchmark_perplexity",
        "benchmark_gaps",
        "benchmark_exposure",
    ]
    assert "commonsense, floor at 0.2" in found.pictures["benchmark_groups"].says
    assert "(no more than noise)" in found.pictures["benchmark_groups"].says


def test_the_same_store_gives_the_same_numbers(examined, found):
    again = gathered(examined, examined.table())
    for table in ("scores", "matched", "pairs", "rates", "gaps", "verdicts"):
        assert getattr(again, table) == getattr(found, table)


def test_no_id_stands_twice_and_the_contents_lead_to_the_section(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert 'href="#benchmarks"' in page


def test_the_markdown_has_the_verdicts_and_whole_tables(markdown, examined_folder):
    assert "## Benchmarks" in markdown
    assert "**undecided**" in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({re.sub(r"\\\|", "", row).count("|") for row in table.splitlines()}) == 1, table
    for target in re.findall(r"\]\(([^)]+)\)", markdown):
        assert (examined_folder / target).is_file()


def test_examinations_leave_the_rest_of_the_report_as_it_is(page):
    assert "9 planned: 8 complete, 1 failed, 0 missing." in page
    assert "oracle" not in page[page.index('<section id="runs"') :]


def test_a_store_without_examinations_has_no_such_section(store, folder):
    assert gathered(store, store.table()) is None
    assert "enchmarks" not in (folder / "report.html").read_text().replace("benchmarks.", "")
    assert "Benchmarks" not in (folder / "RESULTS.md").read_text()


def test_scores_and_gains_are_told_with_three_digits_and_a_sign():
    assert (score(0.25), score(None), gain(0.0411), gain(-0.0034), gain(-0.0001)) == (
        "0.250",
        "–",
        "+0.041",
        "−0.003",
        "+0.000",
    )

import dataclasses
import html
import re

import pytest

from parrotlab.report._contents import section
from parrotlab.report.report import write_report


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def markdown(folder):
    return (folder / "RESULTS.md").read_text()


def rows(page, place):
    """The cells of a section's table, without their tags."""
    table = page[page.index(f'<section id="{place}"') :]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    cells = (re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL))
    return [[html.unescape(re.sub(r"<.*?>", "", cell)).strip() for cell in row] for row in cells]


def test_the_same_store_gives_the_same_page(store, studies, folder, tmp_path):
    write_report(store, studies, "laptop", tmp_path)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    # Page and Markdown; five pictures a task, the book's capacity, rates and the theory's curve, in three formats.
    assert len(files) == 2 + 3 * (2 * 5 + 3)
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_the_page_asks_nobody_for_anything(page):
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"""(?:https?:)?//[a-z][^"'\s<)]+""", re.sub(r"// .*", "", page))) <= namespaces
    assert not re.search(r"<(link|img|iframe)\b|<script[^>]+src=|@import", page)


def test_no_id_stands_twice(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_planned_run_is_listed_whatever_became_of_it(page, studies):
    listed = {row[-1]: row[2] for row in rows(page, "runs")}
    for study in studies.values():
        *made, missing = study.runs("laptop")
        assert {listed[run.fingerprint] for run in made} == {"complete", "failed: diverged at step 120: loss is nan"}
        assert listed[missing.fingerprint] == "missing"
    assert "46 planned: 42 complete, 2 failed, 2 missing." in page


def test_failures_are_told_in_the_markdown_too(markdown):
    assert "46 planned: 42 complete, 2 failed, 2 missing." in markdown
    assert markdown.count("diverged at step 120: loss is nan") == 2


def test_verdicts_come_with_what_the_paper_says_and_what_we_measured(page, markdown):
    assert page.count("while reasoning saturates.") == 2
    assert page.count("42 points of phone_book, shortest_path: &lt;at E=16&gt; &amp; above.") == 2  # text, never tags
    assert markdown.count("&lt;at E=16> & above. | **holds** |") == 2


def test_rates_are_near_one_for_memorization_and_near_nothing_for_reasoning(page):
    table = {(task, design): rate for task, design, rate, *_ in rows(page, "rates")}
    assert len(table) == 12
    assert float(table["phone book", "MoE d=16 E=8 top-2"]) == pytest.approx(1, abs=0.25)
    assert float(table["shortest path", "MoE d=16 E=8 top-2"]) == pytest.approx(0, abs=0.25)


def test_a_mixture_above_the_ladder_is_a_bound_and_has_no_closed_interval(page):
    rates = {(task, design): (rate, interval) for task, design, rate, interval, *_ in rows(page, "rates")}
    rate, _ = rates["phone book", "MoE d=32 E=16 top-2"]
    assert rate.startswith("≥")
    assert rates["phone book", "MoE d=32 E=8 top-2"][1].endswith("to open")


def test_bits_are_told_where_they_were_counted(page):
    assert {task for task, *_ in rows(page, "memory")} == {"phone book"}


def test_every_link_of_the_markdown_leads_to_a_file(folder, markdown):
    targets = re.findall(r"\]\(([^)]+)\)", markdown)
    assert len(targets) == 2 * (5 + 5 * 2) + 3
    assert all((folder / target).is_file() for target in targets)


def test_tables_of_the_markdown_have_as_many_cells_as_their_heads(markdown):
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({re.sub(r"\\\|", "", row).count("|") for row in table.splitlines()}) == 1, table


def test_runs_outside_the_plan_play_no_part(store, studies):
    """A plan without the mixtures has no rate, although the store holds their runs."""
    study = studies["phone_book"]
    dense = dataclasses.replace(study, runs=lambda scale: study.runs(scale)[:9])
    part = section("phone_book", dense, "laptop", store.runs(), store.table())
    assert len(part.runs) == 9
    assert set(part.parts[0].points.family) == {"dense"}
    assert not len(part.parts[0].rates)


def test_mixtures_without_a_ladder_say_why_they_have_no_rate(store, studies):
    study = studies["phone_book"]
    mixtures = dataclasses.replace(study, runs=lambda scale: study.runs(scale)[-5:])
    (part,) = section("phone_book", mixtures, "laptop", store.runs(), store.table()).parts
    assert "a ladder needs dense models" in part.refusal


def test_books_of_several_sizes_are_compared_size_by_size(two_books):
    store, study = two_books
    both = section("phone_book", study, "laptop", store.runs(), store.table())
    assert [part.name for part in both.parts] == ["phone_book_entries_1000", "phone_book_entries_2000"]
    assert all(set(part.measurements.fingerprint) == set(part.points.fingerprint) for part in both.parts)
    known = both.books.set_index("label").text
    assert known["MoE d=32 E=16 top-2"] == "at least the largest tested, 2,000"
    assert known["dense d=8"] == "less than the smallest tested, 1,000"


def test_the_checks_of_the_theory_are_listed_with_their_verdicts(page, markdown):
    assert [row[0] for row in rows(page, "theory")] == ["theorem 3.3", "theorem 3.5"]
    assert rows(page, "theory")[0][1:] == ["every graph of <4> & 5 vertices: 0 wrong", "21,248", "✓ holds"]
    assert rows(page, "theory")[1][-1] == "✗ does not hold"
    assert "1 of 2 checks hold." in page
    assert "| theorem 3.5 | 2 experts forget their labels | 1,000 | does not hold |" in markdown


def test_memorized_bits_are_drawn_under_the_lines_of_their_sources(page):
    for source in ("arXiv:2404.05405", "arXiv:2505.24832", "counting bound, float32, theorem 3.6"):
        assert page.count(f"{source})</text>") == 1  # of the phone book, and of no other task


def test_a_sweep_of_the_width_tells_critical_widths_and_no_rates(swept_folder):
    page = (swept_folder / "report.html").read_text()
    widths = page[page.index('aria-label="Critical widths') :]
    table = rows(widths.replace("<tbody>", '<section id="widths"><tbody>', 1), "widths")
    assert {(vertices, experts) for vertices, experts, *_ in table} == {
        (vertices, experts) for vertices in ("8", "16") for experts in ("dense", "4", "8", "16")
    }
    assert page.count("read its critical width, under Theory") == 1  # of both sizes
    assert "No mixture can be compared with a dense ladder yet." in page
    assert (swept_folder / "figures" / "critical_width_widths.svg").is_file()
    assert "figures/critical_width_widths.svg" in (swept_folder / "RESULTS.md").read_text()


def test_without_a_sweep_its_absence_is_told(page):
    assert "No sweep of the width has been run yet" in page


def test_an_empty_store_is_reported_as_not_run(empty_folder):
    page = (empty_folder / "report.html").read_text()
    assert "Not answered yet" in page
    assert page.count("not run</p>") == 2
    assert {row[2] for row in rows(page, "runs")} == {"missing"}
    assert "none in the store" in page


def test_provenance_comes_from_the_runs_and_not_from_the_clock(page):
    for fact in ("2026-01-02", "0123456789ab", "a made-up machine", "torch 2.13.0", "550 seconds over 44 runs"):
        assert fact in page

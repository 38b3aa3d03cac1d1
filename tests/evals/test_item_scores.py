import pandas as pd
import pytest
from examinations import examine

from parrotlab.cli import main
from parrotlab.cli.rescore import rescored
from parrotlab.evals.item_scores import item_scores
from parrotlab.results.store import Store

BENCHMARKS = ("arc_easy", "triviaqa", "gsm8k")


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    for benchmark in BENCHMARKS:
        examine(store, "oracle", benchmark, 1.0, items=40)
        examine(store, "hf:somebody/something", benchmark, 0.4, items=40)
    return store


def test_scoring_again_gives_what_was_stored(store):
    rows = rescored(store, None)
    assert len(rows) == 2 * 3 * 2
    assert all(row["score"] == pytest.approx(row["stored"], abs=1e-12) for row in rows)
    assert all(row["low"] <= row["score"] <= row["high"] for row in rows)


@pytest.mark.parametrize("mode", ["strict", "flexible", "normalised"])
def test_a_mode_reads_one_score_of_each_item_and_the_oracle_has_them_all(store, mode):
    rows = rescored(store, mode)
    assert len(rows) == 2 * 3
    assert {row["score"] for row in rows if row["model"] == "oracle"} == {1.0}


def test_kept_scores_are_read_and_rescoring_does_not_read_them(tmp_path):
    store = Store(tmp_path)
    examine(store, "hf:a/b", "gsm8k", 0.5, kept=lambda scores: dict.fromkeys(scores, 0.125))
    assert set(item_scores(store)["score"]) == {0.125}
    assert set(item_scores(store, again=True)["score"]) == {0.0, 1.0}
    assert {row["stored"] for row in rescored(store, None)} != {0.125}


def test_kept_scores_are_those_of_the_answers(store, tmp_path):
    kept = Store(tmp_path / "kept")
    for benchmark in BENCHMARKS:
        examine(kept, "oracle", benchmark, 1.0, items=40, kept=dict)
        examine(kept, "hf:somebody/something", benchmark, 0.4, items=40, kept=dict)
    pd.testing.assert_frame_equal(item_scores(kept), item_scores(store))


def test_chance_is_that_of_a_guess_among_the_choices(store):
    chances = item_scores(store).groupby("kind")["chance"].unique().map(list).to_dict()
    assert chances == {"choice": [0.25], "words": [0.0], "math": [0.0]}


def test_rescoring_leaves_every_byte_of_the_store(store, capsys):
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    assert main(["rescore", "--store", str(store.root), "--json"]) == 0
    assert '"stored": 1.0' in capsys.readouterr().out
    assert main(["rescore", "strict", "--store", str(store.root)]) == 0
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_a_store_without_examinations_says_so(tmp_path, capsys):
    assert main(["rescore", "--store", str(tmp_path)]) == 2
    assert "holds no examination" in capsys.readouterr().err

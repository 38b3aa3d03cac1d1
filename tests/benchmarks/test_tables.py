import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_say_what_the_files_say(tables):
    for path in tables.PAGES:
        page = path.read_text()
        assert page == tables.filled(page), "run python benchmarks/tables.py --write"


def test_every_table_has_one_place(tables):
    text = "".join(path.read_text() for path in tables.PAGES)
    assert all(text.count(f"<!-- table: {name} -->") == 1 for name in tables.TABLES)


def test_a_mixture_layers_row_compares_with_dense_and_its_memory_with_the_leanest_peers(tables):
    layers = {
        "dense": {"both": 2.0, "launched": 2.5, "megabytes": 50.0},
        "fused": {"both": 3.0, "errors": {"output": 0.004, "up": 0.001}, "megabytes": 60.0},
        "sorted": {"failed": {"both": "no"}, "megabytes": 10.0},
        "Liger": {"launched": 10.0, "megabytes": 80.0},
        "transformers eager": {"megabytes": 75.0},
    }
    row = {"width": 256, "hidden": 256, "experts": 8, "gated": True, "tokens": 16384, "layers": layers}
    (line,) = tables.moe_layer({"rows": [row]})
    assert (line["kernels"], line["Liger, launched"]) == ("1.5", "4")
    assert (line["their MB"], line["over the leanest peer's"]) == ("60", "0.8")
    assert line["error of the kernels"] == "4.0e-03"
    assert line["sorted"] == line["transformers, compiled"] == tables.ABSENT


def test_a_mixture_layer_without_gates_has_no_peers(tables):
    row = {"width": 256, "hidden": 256, "experts": 8, "gated": False, "tokens": 16384, "layers": {}}
    (line,) = tables.moe_layer({"rows": [row]})
    assert line["transformers, compiled"] == line["Liger, launched"] == line["over the leanest peer's"] == ""


def test_an_expert_taxs_row_says_what_each_model_reached_or_why_not(tables):
    row = {"width": 512, "experts": 64, "layers": 20, "rows": 8, "length": 2048, "mixture_over_dense": 0.5}
    row |= {"mixture": 1e5, "mixture_mfu": 0.25, "dense": 2e5, "mixtral_error": "OutOfMemoryError: no"}
    (line,) = tables.expert_tax({"rows": [row]})
    assert line["tokens a step"] == "16,384"
    assert (line["mixture, ktok/s (MFU)"], line["dense, ktok/s (MFU)"]) == ("100 (25.0%)", "200")
    assert (line["mixture / dense"], line["times Mixtral"]) == ("0.5", tables.ABSENT)
    assert line["Mixtral, ktok/s"] == "OutOfMemoryError: no"


def test_an_evaluations_means_stand_below_its_rows(tables):
    asked = {"benchmark": "piqa", "shots": 0, "model": "dense", "items": 60, "items_per_second": 12.0, "ratio": 2.0}
    *rows, likelihoods, texts = tables.evaluation({"rows": [asked], "likelihood_ratio": 2.0})
    assert [(row["question"], row["lm-eval's backend"], row["ratio"]) for row in rows] == [
        ("piqa, 0 examples", tables.ABSENT, "2")
    ]
    assert (likelihoods["ratio"], texts["ratio"]) == ("2", tables.ABSENT)
    assert likelihoods.keys() == rows[0].keys()


def test_a_number_of_a_page_comes_from_its_file_and_from_nowhere_else(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    page = "".join(path.read_text() for path in tables.PAGES)
    assert tables.filled(page).count(tables.ABSENT) == len(tables.TABLES)
    row = {"study": "phone_book", "scale": "gpu", "runs": 54, "stacks": 9, "seconds": 12.3, "ratio": 45.6}
    told = {
        "hardware": {"device": "Abacus", "processor": "beads", "cores": 10},
        "versions": {"torch": "0"},
        "results": {"rows": [row]},
    }
    (tmp_path / "study.json").write_text(json.dumps(told))
    filled = tables.filled(page)
    assert "Abacus, beads, 10 cores; torch 0." in filled
    assert f"| phone_book, gpu | 54 | 9 | 12.3 | {tables.ABSENT} | 45.6 |" in filled
    assert tables.filled(filled) == filled

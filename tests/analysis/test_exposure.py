import pandas as pd
import pytest
from examinations import examine

from parrotlab.analysis.benchmarks import benchmark_scores
from parrotlab.analysis.exposure import EDGES, by_exposure
from parrotlab.evals.item_scores import item_scores
from parrotlab.results.store import Store


def test_buckets_share_out_every_counted_item_and_keep_the_mean(tmp_path):
    store = Store(tmp_path)
    examine(store, "hf:a/b", "facts", 0.5, items=120)
    items = item_scores(store)
    scores = benchmark_scores(store.examinations(), items, pd.DataFrame({"fingerprint": []}))
    names = items["item"].drop_duplicates()
    exposures = pd.DataFrame({"item": names, "documents": range(len(names))})
    found = by_exposure(scores, items, exposures)
    assert found["least"].tolist() == list(EDGES)
    assert found["count"].tolist() == [1, 2, 7, 20, 70, 20]
    assert (found["score"] * found["count"]).sum() / 120 == pytest.approx(scores["score"].item())
    assert by_exposure(scores, items, exposures.iloc[:3])["count"].sum() == 3

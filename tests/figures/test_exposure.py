import pandas as pd

from parrotlab.analysis.exposure import EDGES, bucket
from parrotlab.figures.exposure import BUCKETS, accuracy_by_exposure


def test_a_design_is_a_line_over_buckets_and_its_seeds_are_averaged():
    rows = [
        {"benchmark": "facts", "label": "dense", "family": "dense", "experts": 1, "total": 10, "seed": seed}
        | {"least": least, "bucket": bucket(least), "score": 0.2 * seed, "low": 0.0, "high": 1.0, "count": 5}
        for seed in (1, 2)
        for least in EDGES[:3]
    ]
    picture = accuracy_by_exposure(pd.DataFrame(rows))
    assert picture.plotted["score"].round(6).tolist() == [0.3] * 3
    assert picture.plotted["count"].tolist() == [10] * 3
    (axes,) = picture.figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == BUCKETS
    assert "dense on facts at 1–2: 0.300" in picture.says

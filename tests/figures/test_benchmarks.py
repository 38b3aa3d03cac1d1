"""Figures of benchmarks: what is drawn, what is grey, what is said."""

import numpy as np
import pandas as pd
import pytest

from parrotlab.figures.benchmarks import group_scores, matched_perplexity, train_test_gap
from parrotlab.figures.picture import svg
from parrotlab.figures.style import MUTED


@pytest.fixture
def groups():
    rows = [
        {
            "group": group,
            "trained_on": "text",
            "label": f"{family} {size}",
            "family": family,
            "experts": 8 if family == "moe" else 1,
        }
        | {"total": size, "active": size / 2, "perplexity": 1e5 / size, "seed": seed, "floor": 0.25}
        | {"score": size / 10_000, "low": size / 10_000 - 0.05, "high": size / 10_000 + 0.05}
        for group in ("knowledge", "math")
        for family, size in (("dense", 1000), ("dense", 4000), ("moe", 2000), ("moe", 8000))
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(above_floor=table["low"] > table["floor"])


def test_a_design_is_one_mark_on_each_axis_at_its_mean(groups):
    plotted = group_scores(groups).plotted
    assert len(plotted) == 2 * 4 * 2
    assert plotted.loc[plotted["axis"] == "active", "at"].max() == 4000
    assert plotted["score"].max() == pytest.approx(0.8)


def test_what_is_not_above_the_floor_is_grey_and_is_called_noise(groups):
    picture = group_scores(groups)
    assert picture.plotted.loc[picture.plotted["above_floor"], "label"].unique().tolist() == ["dense 4000", "moe 8000"]
    assert "knowledge, floor at 0.250: dense 1000 0.100 (no more than noise), dense 4000 0.400," in picture.says
    assert "no more than noise" in svg(picture)
    assert MUTED in svg(picture)


def test_perplexity_falls_to_the_right(groups):
    picture = matched_perplexity(groups)
    left, right = picture.figure.axes[0].get_xlim()
    assert left > right
    assert set(picture.plotted["axis"]) == {"perplexity"}


def test_models_of_unknown_perplexity_are_left_out(groups):
    groups.loc[groups["label"] == "moe 8000", "perplexity"] = np.nan
    assert "moe 8000" not in set(matched_perplexity(groups).plotted["label"])


def test_a_gap_whose_interval_holds_nothing_is_noise(groups):
    gaps = groups.drop(columns=["floor", "above_floor"]).assign(low=groups["score"] - 0.2, high=groups["score"] + 0.2)
    picture = train_test_gap(gaps)
    assert dict(zip(picture.plotted["label"], picture.plotted["above_floor"])) == {
        "dense 1000": False,
        "dense 4000": True,
        "moe 2000": False,
        "moe 8000": True,
    }
    assert "no gap at 0.000" in picture.says


def test_a_model_from_elsewhere_is_drawn_where_its_size_is_known(groups):
    other = groups.iloc[:1].assign(family="other", label="hf:a/b", experts=np.nan, active=np.nan)
    plotted = group_scores(pd.concat([groups, other])).plotted
    assert plotted.loc[plotted["label"] == "hf:a/b", "axis"].tolist() == ["total"]


def test_equal_tables_give_equal_pictures(groups):
    assert svg(group_scores(groups)) == svg(group_scores(groups))


def test_nothing_examined_is_said(groups):
    assert "no model examined yet" in group_scores(groups.iloc[:0]).says

"""Tables as analysis would give them, made up: memorization follows total parameters, reasoning active ones."""

import itertools

import numpy as np
import pandas as pd
import pytest


def designs():
    for width in (16, 32, 48, 64, 96):
        size = 20 * width * width
        yield {
            "label": f"dense d={width}",
            "family": "dense",
            "width": width,
            "experts": 1,
            "active_experts": 1,
            "total": size,
            "active": size,
        }
    for width, experts in itertools.product((16, 32), (4, 8, 16, 32)):
        active = 24 * width * width
        yield {
            "label": f"MoE d={width} E={experts} top-2",
            "family": "moe",
            "width": width,
            "experts": experts,
            "active_experts": 2,
            "total": active + 6 * width * width * (experts - 2),
            "active": active + 2 * width * experts,
        }  # fmt: skip


@pytest.fixture
def points():
    rows = []
    for place, (design, seed) in enumerate(itertools.product(designs(), (1, 2))):
        noise = 0.02 * np.sin(place * 1.7)
        rows.append(
            {"task": "phone_book", "layers": 2, **design}
            | {"training_flops": design["active"] * 6.0, "learning_rate": 0.005, "lower_is_better": False}
            | {"seed": seed, "fingerprint": f"{place:016x}"}
            | {"score": float(np.clip(0.25 * np.log2(design["total"] / 4000) + noise, 0, 1))}
        )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def measurements(points):
    """Training loss in 40 windows of every run, and the load of every expert of the mixtures."""
    rows = []
    for point in points.to_dict("records"):
        run = {key: point[key] for key in ("label", "family", "width", "experts", "total", "seed", "fingerprint")}
        for step in range(25, 1001, 25):
            loss = 2.3 * np.exp(-step / 1000 * np.log2(point["total"] / 4000)) + 0.01
            rows.append(run | {"evaluation": "training", "metric": "loss", "part": "", "step": step, "value": loss})
        if point["family"] == "moe":
            for layer in range(2):
                share = np.exp(0.8 * np.sin(np.arange(point["experts"]) * (layer + 1) + point["seed"]))
                share[0] *= layer  # the first expert of the first layer is dead
                for expert, load in enumerate(share / share.sum()):
                    part = f"layer {layer} expert {expert}"
                    rows.append(
                        run | {"evaluation": "routing", "metric": "load", "part": part, "step": 1000, "value": load}
                    )
    return pd.DataFrame(rows)


@pytest.fixture
def rates():
    """As ``analysis.exchange_rate`` gives them, for two tasks."""
    rows = []
    for task, worth in (("phone book", 0.9), ("shortest path", 0.12)):
        for design in designs():
            if design["family"] == "moe":
                spread = 3 / design["experts"]
                rows.append(
                    {"task": task, **design, "score": 0.5, "effective": 1e5, "bound": "", "seeds": 2}
                    | {"rate": worth, "low": worth - spread, "high": worth + spread}
                )  # fmt: skip
    rows[3] |= {"rate": 1.1, "low": 0.8, "high": float("inf"), "bound": "at least"}
    rows[8] |= {"rate": -0.1, "low": float("-inf"), "high": 0.2, "bound": "at most"}
    return pd.DataFrame(rows)

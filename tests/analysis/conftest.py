"""Tables as ``Store.table()`` gives them, made by hand."""

import itertools

import pandas as pd
import pytest


class Book:
    """Gathers runs with their measurements into a tidy table."""

    def __init__(self):
        self.rows = []

    def run(
        self,
        width,
        seed=0,
        rate=0.01,
        experts=1,
        loss=1.0,
        score=0.5,
        status="complete",
        measured=(),
        entries=100,
        **more,
    ):
        """A run with the final training loss ``loss`` and the exact match ``score``."""
        name = f"{len({row['fingerprint'] for row in self.rows}):016x}"
        mixture = {"model.feedforward.experts": experts, "model.feedforward.active": 2}
        size = width * width
        run = {
            "fingerprint": name,
            "status": status,
            "seed": seed,
            "task.type": "PhoneBook",
            "task.entries": entries,
            "model.layers": 2,
            "model.width": width,
            "model.feedforward.type": "Dense" if experts == 1 else "Mixture",
            "recipe.learning_rate": rate,
            "total_parameters": size * experts,
            "active_parameters": size * min(experts, 2),
            "total_body_parameters": size * experts - 10,
            "active_body_parameters": size * min(experts, 2) - 10,
            "training_flops": 6 * size,
        } | (mixture if experts > 1 else {})
        values = [
            ("training", "train", "loss", "", 5, 9.0),
            ("training", "train", "loss", "", 10, loss),
            ("exact_match", "test", "accuracy", "", 10, score),
            ("exact_match", "test", "accuracy", "vertices=9", 10, -1.0),
            *measured,
        ]
        names = ["evaluation", "split", "metric", "part", "step", "value"]
        self.rows += [run | more | dict(zip(names, value)) | {"count": 10} for value in values]

    def table(self):
        return pd.DataFrame(self.rows)


@pytest.fixture
def book():
    return Book()


@pytest.fixture
def ladder_points():
    """Points whose dense score is ``curve`` of the parameters, and whose mixtures score like ``rate`` says.

    A mixture of rate r scores as a dense model of active + r · (total - active) parameters does.
    """

    def make(rate, curve, seeds=3, noise=lambda: 0.0, sizes=(1000, 2000, 4000, 8000, 16000), totals=(4000, 8000)):
        designs = [("dense", 1, size, size) for size in sizes] + [
            ("moe", total // 500, total, 2000) for total in totals
        ]
        rows = []
        for (family, experts, total, active), seed in itertools.product(designs, range(seeds)):
            worth = total if family == "dense" else active + rate * (total - active)
            rows.append(
                {"task": "phone book", "label": f"{family} {total}", "family": family, "width": 10, "layers": 1}
                | {"experts": experts, "active_experts": min(experts, 2), "total": total, "active": active}
                | {"seed": seed, "score": curve(worth) + noise(), "lower_is_better": False}
            )
        return pd.DataFrame(rows)

    return make

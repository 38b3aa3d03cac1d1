"""``parrotlab sql``."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from parrotlab.cli._show import show_json, show_table


def sql(query: Positional[str], *, store: Path = Path("results"), json: bool = False) -> int:
    """Ask the store a question in SQL, over its views runs, examinations and measurements.

    Args:
        query: For instance "select model_width, avg(value) from runs join measurements using (fingerprint) group by 1".
        store: The folder of results.
        json: Print JSON.
    """
    from parrotlab.results.store import Store

    rows = Store(existing(store)).sql(query).to_pylist()
    (show_json if json else show_table)(rows)
    return 0


def existing(store: Path) -> Path:
    """The folder, which must be there: a store that is only read is not made up."""
    if not store.is_dir():
        raise FileNotFoundError(f"there is no store at {store}: name one with --store, or make one with parrotlab run")
    return store

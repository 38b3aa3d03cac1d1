import pytest

from parrotlab.results.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")

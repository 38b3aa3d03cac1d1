import pytest
from shelves import Shelf


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    return Shelf(tmp_path)

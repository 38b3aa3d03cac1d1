from __future__ import annotations

import gzip

import pytest

from parrotlab.text import hub


def test_data_lie_in_the_users_cache_unless_the_variable_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("PARROTLAB_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.data_folder() == tmp_path / ".cache" / "parrotlab"
    monkeypatch.setenv("PARROTLAB_DATA", "/elsewhere")
    assert str(hub.data_folder()) == "/elsewhere"


def test_a_missing_file_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    with pytest.raises(
        hub.DataError, match=r"no data file facts/nope.* set PARROTLAB_DATA .* or run `parrotlab prepare`"
    ):
        hub.find("facts/nope")
    with pytest.raises(hub.DataError, match=r"gone\.jsonl, after line 0: cannot read"):
        list(hub.records(tmp_path / "gone.jsonl"))


def test_endings_may_be_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    (tmp_path / "some.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n\n{"a": 2}'))
    assert hub.find("some") == hub.find("some.jsonl.gz")
    assert list(hub.records(hub.find("some"))) == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_damaged_archive_is_one_clear_line(tmp_path):
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 10_000)[:40])
    with pytest.raises(hub.DataError, match=r"torn\.jsonl\.gz") as raised:
        list(hub.records(tmp_path / "torn.jsonl.gz"))
    assert "\n" not in str(raised.value)

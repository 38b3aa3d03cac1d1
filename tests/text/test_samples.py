"""The corpora that ship with the package are what preparing the rows that ship with it gives."""

import json
from pathlib import Path

import pytest

from parrotlab.tasks.language import Language
from parrotlab.text import corpus
from parrotlab.text.mixtures import Source, TextMixture
from parrotlab.text.preparation import Settings, prepare

SAMPLES = ("sample_language", "sample_math")


@pytest.fixture(autouse=True)
def nothing_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)


@pytest.mark.parametrize("name", SAMPLES)
def test_preparing_the_shipped_rows_gives_the_shipped_corpus(name, tmp_path):
    shipped = corpus.open_corpus(name)
    sources = tuple(
        Source(name=part, place=str(corpus.SAMPLES / facts["source"]), weight=facts["weight"], licence=facts["licence"])
        for part, facts in shipped.parts.items()
    )
    for _ in prepare(TextMixture(name=name, sources=sources), tmp_path / name, Settings(tokenizer="bytes"), workers=1):
        pass
    assert corpus.file_sha256(tmp_path / name / corpus.MANIFEST) == shipped.sha256
    shards = [Path(path).relative_to(shipped.folder) for path in shipped.folder.rglob("*.bin")]
    assert shards
    for shard in shards:
        assert (tmp_path / name / shard).read_bytes() == (shipped.folder / shard).read_bytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_where_nothing_is_prepared_there_are_the_samples(name):
    assert set(corpus.hashes()) == set(SAMPLES)
    task = Language(corpus=name, vocabulary=257, length=33, sha256=corpus.hashes()[name])
    for split in ("train", "test"):
        assert task.batch(split, 0, 2, 0).tokens_BT.shape == (2, 33)


def test_a_corpus_prepared_under_a_samples_name_goes_before_it(tmp_path):
    folder = tmp_path / "prepared" / "sample_math"
    folder.mkdir(parents=True)
    manifest = json.loads((corpus.SAMPLES / "sample_math" / corpus.MANIFEST).read_text())
    (folder / corpus.MANIFEST).write_text(json.dumps(manifest))
    assert corpus.open_corpus("sample_math").folder == folder
    assert corpus.hashes()["sample_math"] == corpus.file_sha256(folder / corpus.MANIFEST)

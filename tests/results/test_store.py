"""The store: complete or absent, never edited."""

import dataclasses
import json

import pandas as pd
import pytest
from stores import COUNTS, FACTS, LOAD, LOSS, RECIPE, write

from parrotlab.evals.examination import Examination
from parrotlab.results.measurement import Measurement
from parrotlab.results.store import StoreError
from parrotlab.spec import Drift, fingerprint


def test_what_was_written_is_found_as_it_was(store):
    assert store.find(RECIPE) is None
    assert not store.has(fingerprint(RECIPE))
    record = write(store, files={"answers.txt": b"42"})
    assert store.find(RECIPE) == record
    assert store.has(record.fingerprint)
    assert (record.counts, record.facts, record.status) == (COUNTS, FACTS, "complete")
    assert (store.root / record.fingerprint / "answers.txt").read_bytes() == b"42"
    columns = [field.name for field in dataclasses.fields(Measurement)]
    rows = store.measurements().select(columns).to_pylist()
    assert rows == [vars(LOSS), vars(LOAD)]


def test_reading_an_empty_store_makes_no_folder(store):
    assert store.runs().empty
    assert store.table().empty
    assert {"fingerprint", "evaluation", "value", "part"} <= set(store.table().columns)
    assert store.sql("select count(*) as runs from runs").to_pylist() == [{"runs": 0}]
    assert not store.root.exists()


def test_a_run_is_one_row_of_spec_counts_and_facts(store):
    write(store)
    row = store.runs().iloc[0]
    assert (row["type"], row["steps"], row["learning_rate"]) == ("Recipe", 10, 0.001)
    assert (row["total_parameters"], row["device"], row["versions.torch"]) == (100, "cpu", "2.13.0")


def test_a_measurement_carries_the_columns_of_its_run(store):
    write(store)
    write(store, dataclasses.replace(RECIPE, steps=20), measurements=[LOSS])
    table = store.table()
    assert sorted(zip(table["steps"], table["metric"])) == [(10, "load"), (10, "loss"), (20, "loss")]


def test_an_examination_lies_among_the_runs_and_in_no_table_of_theirs(store):
    asked = Examination(
        model="oracle",
        benchmark="arc_easy",
        split="test",
        shots=0,
        limit=0,
        data_sha256="0" * 64,
        tokenizer="",
        revision=1,
    )
    write(store)
    before = store.table()
    examined = store.write(asked, "complete", "", {}, FACTS, [], {"answers.parquet": b"42"})
    pd.testing.assert_frame_equal(store.table(), before)
    assert examined in store.records()
    assert store.examinations()[["fingerprint", "model", "split"]].to_numpy().tolist() == [
        [examined.fingerprint, "oracle", "test"]
    ]
    assert store.sql("select model from examinations").to_pylist() == [{"model": "oracle"}]
    assert len(store.sql("select * from runs")) == 1
    assert store.file(examined.fingerprint, "answers.parquet") == b"42"
    with pytest.raises(StoreError, match="damaged"):
        store.file(examined.fingerprint, "weights.safetensors")


def test_a_failed_run_is_kept_and_keeps_a_row_though_nothing_was_measured(store):
    record = write(store, status="failed", reason="diverged at step 3: loss is nan", measurements=[])
    assert store.find(RECIPE) == record
    row = store.table().iloc[0]
    assert (row["status"], row["reason"]) == ("failed", "diverged at step 3: loss is nan")
    assert row[["value", "metric"]].isna().all()


def test_only_a_failed_run_can_be_discarded(store):
    name = write(store, status="failed", reason="diverged").fingerprint
    store.discard(name)
    assert store.find(RECIPE) is None
    write(store)
    with pytest.raises(StoreError, match="is complete"):
        store.discard(name)
    assert store.has(name)
    with pytest.raises(StoreError, match="there is no run"):
        store.discard("0" * 16)
    with pytest.raises(StoreError, match="expected 16 hexadecimal digits"):
        store.discard("../../home")


def test_the_first_to_finish_is_kept(store):
    first = write(store)
    second = store.write(RECIPE, "failed", "too late", COUNTS, FACTS, [])
    assert second == first == store.find(RECIPE)
    assert list((store.root / ".work").iterdir()) == []


def test_a_changed_default_is_drift(store):
    path = store.root / write(store).fingerprint / "run.json"
    data = json.loads(path.read_text())
    data["spec"]["clip"] = 2.0  # as if the default had been 2 when the run was made
    path.write_text(json.dumps(data))
    with pytest.raises(Drift, match=r"clip was 2.0 and is now 1.0"):
        store.find(RECIPE)


def test_other_folders_do_not_confuse_the_store(store):
    record = write(store)
    for name in ("benchmarks", "figures", "0123", "not-hexadecimal-"):
        (store.root / name).mkdir()
    (store.root / "README.md").write_text("hello")
    assert [found.fingerprint for found in store.records()] == [record.fingerprint]
    assert len(store.table()) == 2


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "run.json").unlink(),
        lambda folder: (folder / "run.json").write_text('{"fingerprint": '),
        lambda folder: (folder / "run.json").write_text("{}"),
        lambda folder: (folder / "measurements.parquet").unlink(),
        lambda folder: (folder / "measurements.parquet").write_bytes(b"PAR1"),
        lambda folder: folder.rename(folder.with_name("f" * 16)),
    ],
)
def test_a_damaged_folder_is_named_and_not_skipped(store, harm):
    write(store, dataclasses.replace(RECIPE, steps=20))
    harm(store.root / write(store).fingerprint)
    with pytest.raises(StoreError, match=r"run folder .*[0-9a-f]{16} is damaged .*restore it, or remove it") as error:
        store.table()
    assert "\n" not in str(error.value)


def test_sql_reads_runs_and_measurements(store):
    write(store)
    write(store, dataclasses.replace(RECIPE, steps=20), measurements=[LOSS])
    answer = store.sql(
        "select steps, versions_torch, value from runs join measurements using (fingerprint) "
        "where metric = 'loss' order by steps"
    )
    assert answer.to_pylist() == [{"steps": steps, "versions_torch": "2.13.0", "value": 2.5} for steps in (10, 20)]


def test_in_sql_whole_numbers_stay_whole_and_mixed_columns_become_text(store):
    store.write(RECIPE, "complete", "", {"experts": 8}, {"size": 1}, [])
    store.write(dataclasses.replace(RECIPE, steps=20), "complete", "", {}, {"size": "large"}, [])
    rows = store.sql("select experts, size from runs order by steps").to_pylist()
    assert rows == [{"experts": 8, "size": "1"}, {"experts": None, "size": "large"}]


@pytest.mark.parametrize("query", ["select nothing from runs", "selct 1", ""])
def test_a_query_that_cannot_be_answered_is_one_clear_line(store, query):
    with pytest.raises(StoreError) as error:
        store.sql(query)
    assert "\n" not in str(error.value)

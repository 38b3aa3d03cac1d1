"""The store: complete or absent, never edited, shared by many processes."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap

import pandas as pd
import pytest

from parrotlab.evals.examination import Examination
from parrotlab.results.measurement import Measurement
from parrotlab.results.store import Busy, Store, StoreError
from parrotlab.spec import Drift, fingerprint
from parrotlab.training.recipe import Recipe

RECIPE = Recipe(steps=10, rows=2, learning_rate=0.001)
COUNTS = {"total_parameters": 100, "active_parameters": 50}
FACTS = {"seconds": 1.5, "device": "cpu", "versions": {"torch": "2.13.0"}}
LOSS = Measurement(evaluation="training", split="train", metric="loss", value=2.5, count=20, step=10)
LOAD = Measurement(evaluation="routing", split="train", metric="load", value=0.5, count=20, step=10, part="layer 1")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def write(store, recipe=RECIPE, status="complete", reason="", measurements=(LOSS, LOAD), files=None):
    return store.write(recipe, status, reason, COUNTS, FACTS, measurements, files)


def python(script, *arguments):
    """A process of its own that runs the script with ``store`` and ``recipe(steps)`` at hand."""
    prologue = """
    import os, signal, sys
    from pathlib import Path
    from parrotlab.results.measurement import Measurement
    from parrotlab.results.store import Busy, Store
    from parrotlab.spec import fingerprint
    from parrotlab.training.recipe import Recipe
    store = Store(Path(sys.argv[1]))
    def recipe(steps):
        return Recipe(steps=steps, rows=2, learning_rate=0.001)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prologue) + textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def visible(store):
    return sorted(path.name for path in store.root.iterdir() if not path.name.startswith("."))


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


def test_two_processes_that_finish_the_same_runs_lose_nothing(store):
    script = """
    sys.stdin.readline()
    for steps in range(1, 41):
        value = float(sys.argv[2])
        loss = Measurement(evaluation="training", split="train", metric="loss", value=value, count=1, step=steps)
        store.write(recipe(steps), "complete", "", {}, {"writer": sys.argv[2]}, [loss] * 3)
    """
    processes = [python(script, store.root, writer) for writer in (1, 2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    table = store.table()
    assert sorted(table["steps"]) == sorted(list(range(1, 41)) * 3)
    assert (table["writer"].astype(float) == table["value"]).all()  # each folder is of one hand
    assert list((store.root / ".work").iterdir()) == []


@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_killed_while_writing_leaves_nothing_half_and_the_next_one_clears_up(store, moment):
    script = f"""
    with store.workshop(fingerprint(recipe(10))) as folder:
        (folder / "checkpoint").write_text("step 5")
        os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        store.write(recipe(10), "complete", "", {{}}, {{}}, [], {{"large": b"x" * 1_000_000}})
    """
    assert python(script, store.root).wait(timeout=60) == -signal.SIGKILL
    assert visible(store) == []
    assert store.find(RECIPE) is None
    with store.workshop(fingerprint(RECIPE)) as folder:
        assert (folder / "checkpoint").read_text() == "step 5"
        write(store)
    assert visible(store) == [fingerprint(RECIPE)]
    assert list((store.root / ".work").iterdir()) == []


def test_a_workshop_is_for_one_process_and_a_killed_one_lets_go(store):
    script = """
    with store.workshop(fingerprint(recipe(10))):
        print("inside", flush=True)
        sys.stdin.readline()
    """
    process = python(script, store.root)
    assert process.stdout.readline() == "inside\n"
    with pytest.raises(Busy, match="another process"), store.workshop(fingerprint(RECIPE)):
        pass
    with store.workshop(fingerprint(dataclasses.replace(RECIPE, steps=20))):
        pass  # other runs are free
    process.kill()
    process.wait(timeout=60)
    with store.workshop(fingerprint(RECIPE)):
        pass


def test_of_many_processes_at_one_workshop_only_one_is_inside(store):
    script = """
    marker = store.root / "inside"
    entered = 0
    while entered < 50:
        try:
            with store.workshop(fingerprint(recipe(10))):
                marker.touch(exist_ok=False)
                marker.unlink()
                entered += 1
        except Busy:
            pass
    """
    processes = [python(script, store.root) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]


def test_a_workshop_outlives_an_interruption_and_goes_when_its_run_is_finished(store):
    name = fingerprint(RECIPE)
    with contextlib.suppress(KeyboardInterrupt), store.workshop(name) as folder:
        (folder / "checkpoint").write_text("step 5")
        raise KeyboardInterrupt
    with store.workshop(name) as folder:
        assert (folder / "checkpoint").read_text() == "step 5"
        write(store)
        assert folder.exists()
    assert not folder.exists()


def test_a_full_disk_is_one_clear_line_and_loses_nothing(store):
    write(store)
    script = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    with store.workshop(fingerprint(recipe(20))) as folder:
        (folder / "checkpoint").write_text("step 5")
        try:
            store.write(recipe(20), "complete", "", {}, {}, [], {"large": b"x" * 1_000_000})
        except Exception as error:
            print(type(error).__name__, error)
    """
    output, _ = python(script, store.root).communicate(timeout=60)
    assert output.startswith(f"StoreError cannot write to {store.root}: File too large")
    assert output.count("\n") == 1
    assert visible(store) == [fingerprint(RECIPE)]
    checkpoint = store.root / ".work" / fingerprint(dataclasses.replace(RECIPE, steps=20)) / "checkpoint"
    assert checkpoint.read_text() == "step 5"
    assert sorted(path.name for path in checkpoint.parent.parent.iterdir()) == [checkpoint.parent.name]


def test_a_store_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = Store(tmp_path / "file" / "results")
    with pytest.raises(StoreError, match=r"cannot write to .*: Not a directory"):
        write(store)
    with pytest.raises(StoreError, match="cannot write to"), store.workshop(fingerprint(RECIPE)):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write to read-only folders")
def test_a_read_only_store_can_be_read(store):
    write(store)
    store.root.chmod(0o500)
    try:
        assert len(store.table()) == 2
        with pytest.raises(StoreError, match="Permission denied"):
            write(store, dataclasses.replace(RECIPE, steps=20))
    finally:
        store.root.chmod(0o700)


def test_results_are_read_without_torch(store):
    write(store)
    script = "store.table(); store.sql('from runs'); assert 'torch' not in sys.modules"
    assert python(script, store.root).wait(timeout=60) == 0

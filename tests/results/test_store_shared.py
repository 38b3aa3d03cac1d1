"""The store in the hands of many processes, of those that die, and on disks that are full or may not be written."""

import contextlib
import dataclasses
import os
import signal

import pytest
from stores import RECIPE, python, visible, write

from parrotlab.results.store import Busy, Store, StoreError
from parrotlab.spec import fingerprint


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

"""Trackers show what the store holds and nothing else; each is read back from the files that it wrote."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest
from fakes import Digits, design

from parrotlab.evals.loss import Loss
from parrotlab.execution import tracking
from parrotlab.execution.local import News
from parrotlab.results.store import Store
from parrotlab.run import Run, execute
from parrotlab.training.devices import device
from parrotlab.training.recipe import Recipe

RUNS = [
    Run(
        task=Digits(),
        model=design(),
        recipe=Recipe(steps=4, rows=8, learning_rate=1e-2),
        evaluations=(Loss(split="train", count=40),),
        seed=seed,
    )
    for seed in (0, 1)
]


class Ear:
    """A tracker that remembers."""

    def __init__(self):
        self.heard = []

    def note(self, run, step, values):
        self.heard.append((run.seed, step, values))

    def end(self, run):
        self.heard.append((run.seed, "end"))

    def close(self):
        self.heard.append("close")


def show(tracker, store):
    """Trains the runs one by one, and tells the tracker as the command line does."""
    for run in RUNS:

        def watch(runs, progress):
            losses = {each.fingerprint: float(loss) for each, loss in zip(runs, progress.loss_R)}
            tracking.tell(
                tracker, News(worker=0, runs=tuple(runs), state="training", step=progress.step, losses=losses), store
            )

        execute([run], store, device("cpu"), watch)
        tracking.tell(tracker, News(worker=0, runs=(run,), state="complete"), store)


def stored_losses(store, run):
    rows = store.measurements().to_pylist()
    mine = [row for row in rows if row["fingerprint"] == run.fingerprint and row["metric"] == "loss"]
    training = [(row["step"], row["value"]) for row in mine if row["evaluation"] == "training"]
    (judged,) = [row["value"] for row in mine if row["evaluation"] == "loss"]
    return training, judged


def test_a_tracker_hears_each_window_and_what_the_store_holds_in_the_end(tmp_path):
    store, ear = Store(tmp_path), Ear()
    show(ear, store)
    for run in RUNS:
        training, judged = stored_losses(store, run)
        heard = [row for row in ear.heard if row[0] == run.seed]
        assert heard[:-2] == [(run.seed, step, {"training/loss": pytest.approx(value)}) for step, value in training]
        assert heard[-2:] == [(run.seed, 4, {"loss/train/loss": pytest.approx(judged)}), (run.seed, "end")]


def test_what_was_interrupted_or_broke_tells_no_tracker_anything(tmp_path):
    ear = Ear()
    for state in ("interrupted", "busy", "broken", "lost"):
        tracking.tell(ear, News(worker=0, runs=(RUNS[0],), state=state), Store(tmp_path))
    assert ear.heard == []


def test_tensorboards_files_hold_the_losses_of_the_store(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    store = Store(tmp_path)
    with tracking.tracker("tensorboard", store) as tracker:
        show(tracker, store)
    for run in RUNS:
        events = EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / run.fingerprint)).Reload()
        training, judged = stored_losses(store, run)
        found = [(event.step, event.value) for event in events.Scalars("training/loss")]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in training]
        assert events.Scalars("loss/train/loss")[-1].value == pytest.approx(judged, rel=1e-6)


def test_weights_and_biases_offline_files_hold_the_losses_of_the_store(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    store = Store(tmp_path)
    with tracking.tracker("wandb", store) as tracker:
        show(tracker, store)
    for run in RUNS:
        (path,) = (tmp_path / "tracking").rglob(f"run-{run.fingerprint}.wandb")
        histories = [
            record.history for record in map(Record.FromString, logged(path.read_bytes())) if record.history.item
        ]
        rows = [{"/".join(item.nested_key) or item.key: item.value_json for item in each.item} for each in histories]
        training, judged = stored_losses(store, run)
        found = [float(row["training/loss"]) for row in rows if "training/loss" in row]
        assert found == pytest.approx([value for _, value in training])
        assert float(rows[-1]["loss/train/loss"]) == pytest.approx(judged)


def test_weights_and_biases_without_an_account_is_one_clear_line(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")

    def refuse(**fields):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with (
        tracking.tracker("wandb", Store(tmp_path)) as tracker,
        pytest.raises(ValueError, match=r"wandb refuses: No API key configured\. .*WANDB_MODE=offline"),
    ):
        tracker.note(RUNS[0], 1, {"training/loss": 1.0})


def logged(content):
    """The records of a file in LevelDB's log format, as wandb writes it: pieces of records in blocks of 32 KiB."""
    place, whole = 7, b""  # behind the magic
    while place + 7 <= len(content):
        _, length, kind = struct.unpack_from("<IHB", content, place)
        if not kind:  # padding up to the next block
            place += 32768 - place % 32768
            continue
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768


def test_trackios_data_base_holds_the_losses_of_the_store(tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="trackio is not installed")
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": os.pathsep.join(sys.path)}
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_tracking import RUNS, show, stored_losses
from parrotlab.execution import tracking
from parrotlab.results.store import Store
store = Store(Path({str(tmp_path / "store")!r}))
with tracking.tracker("trackio", store) as tracker:
    show(tracker, store)
from trackio.sqlite_storage import SQLiteStorage
for run in RUNS:
    (name,) = [name for name in SQLiteStorage.get_runs(tracking.PROJECT) if name.endswith(run.fingerprint)]
    rows = SQLiteStorage.get_logs(tracking.PROJECT, name)
    training, judged = stored_losses(store, run)
    assert [row["training/loss"] for row in rows if "training/loss" in row] == [value for _, value in training]
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_missing_package_is_one_clear_line(name, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with (
        pytest.raises(ValueError, match=rf"tracking with {name} needs its package: pip install"),
        tracking.tracker(name, Store(tmp_path)),
    ):
        pass


def test_an_unknown_tracker_is_told_the_nearest(tmp_path):
    with (
        pytest.raises(ValueError, match="there is no tracker 'tensorbord': did you mean 'tensorboard'"),
        tracking.tracker("tensorbord", Store(tmp_path)),
    ):
        pass

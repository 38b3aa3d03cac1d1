import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the workers too, which import the toys by name

from laboratory import execute, toy  # type: ignore[import-not-found]

from parrotlab.execution import estimate
from parrotlab.execution.local import stacks, train_all
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.results.store import Store
from parrotlab.run import MEMORY_SHARE, bytes_needed
from parrotlab.training.devices import Device

CPU = Device("cpu", fast_steps=False)


def news_of(runs, folder, workers=1, stopping=lambda: False):
    return list(train_all(runs, Store(folder), CPU, workers, stopping, execute))


def ends(news):
    return Counter(each.state for each in news if each.state != "training")


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2] if Path("/proc").exists() else True


def journal(folder) -> list[list[str]]:
    path = folder / "journal"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, seconds=60.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def test_whatever_becomes_of_a_run_the_others_go_on(tmp_path):
    ways = ["well", "crashes", "diverges", "dies", "busy", "well"]
    runs = [toy(way, seed) for seed, way in enumerate(ways)]
    news = news_of(runs, tmp_path)
    assert ends(news) == {"complete": 2, "broken": 1, "failed": 1, "lost": 1, "busy": 1}
    assert {each.runs[0] for each in news if each.state != "training"} == set(runs)
    said = {each.state: each.reason for each in news}
    assert said["failed"] == "loss is nan"
    assert "signal 9" in said["lost"]
    assert "RuntimeError: the floor is wet" in said["broken"]
    traceback = tmp_path / ".work" / runs[1].fingerprint / "traceback.txt"
    assert str(traceback) in said["broken"]
    assert "in execute" in traceback.read_text()


def test_a_stack_that_runs_out_of_memory_is_halved_and_a_run_that_does_is_told_what_to_lower(tmp_path):
    gpu = Device("cuda", fast_steps=True)
    crowded = [toy("crowded", seed) for seed in range(3)]
    too_large, well = toy("too large"), toy("well", steps=1)
    news = list(train_all([too_large, *crowded, well], Store(tmp_path), gpu, 1, lambda: False, execute))
    told = {each.runs[0]: each for each in news if each.state != "training"}
    assert {run: each.state for run, each in told.items()} == {
        too_large: "broken",
        well: "complete",
        **dict.fromkeys(crowded, "complete"),
    }
    reason = told[too_large].reason
    assert reason.startswith(f"out of memory: run {too_large.fingerprint} needs about")
    assert "lower the recipe's rows" in reason


def test_workers_share_the_memory_of_a_gpu():
    runs = [toy(seed=seed) for seed in range(6)]
    gpu = Device("cuda", fast_steps=True, memory_bytes=2 * (bytes_needed(runs[0], 3) + 1) / MEMORY_SHARE)
    assert [len(stack) for stack in stacks(runs, gpu, 1)] == [6]
    assert [len(stack) for stack in stacks(runs, gpu, 2)] == [3, 3]


def test_more_workers_share_a_gpu_where_the_multi_process_service_runs(tmp_path, monkeypatch):
    runs = [toy(seed=seed) for seed in range(8)]
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    gpu = Device("cuda", fast_steps=True, memory_bytes=8 * (bytes_needed(runs[0]) + 1) / MEMORY_SHARE)
    alone = stacks(runs, gpu, 64)
    (tmp_path / "control").touch()
    assert len(alone) < len(stacks(runs, gpu, 64)) == len(runs)


def test_no_more_workers_share_a_gpu_than_it_holds_of_the_largest_run(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    (tmp_path / "control").touch()
    runs = [toy(seed=seed) for seed in range(4)]
    gpu = Device("cuda", fast_steps=True, memory_bytes=4 * (bytes_needed(runs[0]) + 1) / MEMORY_SHARE)
    large = replace(runs[0], model=replace(runs[0].model, width=2048))
    assert bytes_needed(large) > MEMORY_SHARE * gpu.memory_bytes / 2
    assert sorted(map(len, stacks(runs, gpu, 64))) == [1, 1, 1, 1]
    assert sorted(map(len, stacks([*runs, large], gpu, 64))) == [1, 4]


def test_on_a_cpu_small_runs_share_a_step_but_leave_no_worker_idle():
    runs = [toy(seed=seed) for seed in range(3)]
    for workers, sizes in ((1, [3]), (2, [1, 2]), (3, [1, 1, 1]), (4, [1, 1, 1])):
        assert sorted(map(len, stacks(runs, CPU, workers))) == sizes


def test_runs_that_have_begun_together_stay_together():
    runs = [toy(seed=seed) for seed in range(4)]
    pair = [run.fingerprint for run in (runs[3], runs[1])]
    assert stacks(runs, CPU, 1, [pair, [runs[1].fingerprint], ["of another study"]]) == [
        (runs[3], runs[1]),
        (runs[0], runs[2]),
    ]
    assert stacks(runs[1:2], CPU, 2, [pair]) == [(runs[1],)]  # the other one is in the store by now


def test_the_longest_stack_is_begun_first_and_workers_have_one_thread(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    runs = [toy(seed=steps, steps=steps) for steps in (2, 8, 4)]
    news_of(runs, tmp_path)
    assert [line[1] for line in journal(tmp_path)] == ["8", "4", "2"]
    assert {line[3] for line in journal(tmp_path)} == {"1"}
    assert "OMP_NUM_THREADS" not in os.environ
    assert len({line[2] for line in journal(tmp_path)}) == 1


def test_progress_is_a_fraction_that_grows_to_one(tmp_path):
    fractions = [each.fraction for each in news_of([toy(steps=4)], tmp_path)]
    assert fractions == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_asked_to_stop_each_worker_saves_and_no_new_run_begins(tmp_path):
    runs = [toy("endless", seed, steps=10**9 + seed) for seed in range(3)]
    heard = []
    for each in train_all(runs, Store(tmp_path), CPU, 2, lambda: len(heard) >= 4, execute):
        heard.append(each)
    assert ends(heard) == {"interrupted": 2}
    assert len(list(tmp_path.glob("saved *"))) == len(journal(tmp_path)) == 2


def test_whoever_stops_listening_leaves_no_process_behind(tmp_path):
    news = train_all([toy("endless", steps=10**9)], Store(tmp_path), CPU, 1, lambda: False, execute)
    next(news)
    worker = int(journal(tmp_path)[0][2])
    assert is_alive(worker)
    news.close()
    assert not is_alive(worker)


def test_workers_of_a_killed_parent_save_and_end(tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_local import *\n"
        "if __name__ == '__main__':\n"
        f"    news_of([toy('endless', steps=10**9)], Path({str(tmp_path)!r}))\n"
    )
    (tmp_path / "parent.py").write_text(program)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"])
    wait_for(lambda: journal(tmp_path))
    worker = int(journal(tmp_path)[0][2])
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not is_alive(worker))


def test_nobody_cannot_do_the_work(tmp_path):
    with pytest.raises(ValueError, match="at least 1 worker"):
        news_of([toy()], tmp_path, workers=0)


def test_nothing_to_do_is_done_at_once(tmp_path):
    assert news_of([], tmp_path) == []


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_estimates_grow_with_every_step_and_routing_takes_time(device):
    assert estimate.seconds(toy(steps=6), device) == pytest.approx(6 * estimate.seconds(toy(steps=1), device))
    routed = replace(toy(), model=replace(toy().model, feedforward=Mixture(experts=2)))
    assert estimate.seconds(routed, device) > estimate.seconds(toy(), device)

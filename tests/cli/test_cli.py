import doctest
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parrotlab import __version__, cli
from parrotlab.cli import _show
from parrotlab.cli._show import show_json, show_table

LABORATORY = Path(__file__).parent.parent / "execution"


def said(capsys, words, code):
    """What a command printed, having ended with that code."""
    assert cli.main(words) == code
    return capsys.readouterr()


def test_importing_and_helping_need_no_torch():
    program = (
        "import sys, parrotlab\n"
        "from parrotlab.cli import main\n"
        "try:\n    main(['run', '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'pandas', 'matplotlib'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verb_explains_itself_and_each_of_its_options(verb, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert " ".join(cli.VERBS[verb].__doc__.split("\n")[0].split()) in text
    arguments = cli.VERBS[verb].__doc__.partition("Args:")[2]
    names = cli.VERBS[verb].__annotations__.keys() - {"return"}
    assert all(f"{name}:" in arguments for name in names)


def test_no_words_ask_for_help(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    assert "reproduce" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    assert said(capsys, ["--version"], 0).out == f"parrotlab {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run"], "name a study"),
        (["run", "phone_bok"], "did you mean 'phone_book'"),
        (["plan", "phone_book", "--scale", "labtop"], "did you mean 'laptop'"),
        (["run", "math", "--scale", "gpu"], "no prepared corpus 'local_math'"),
        (["run", "phone_book", "--scale", "smoke", "--workers", "0"], "at least 1 worker"),
        (["run", "phone_book", "--scale", "smoke", "--device", "abacus"], "'auto', 'cpu' or 'cuda'"),
        (["sql", "select 1", "--store", "/nowhere"], "no store at /nowhere"),
        (["report", "--store", "/nowhere"], "no store at /nowhere"),
        (["size", "--experts", "8", "--active", "9"], "cannot visit 9 of 8 experts"),
        (["size", "--width", "100", "--heads", "3"], "cannot be divided among 3 heads"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_with_a_way_out(words, hint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARROTLAB_PREPARED", str(tmp_path))
    error = said(capsys, words, 2).err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert hint in error
    assert not list(tmp_path.iterdir())


def test_a_query_that_duckdb_refuses_is_one_line(capsys, tmp_path):
    assert said(capsys, ["sql", "selekt", "--store", str(tmp_path)], 2).err.count("\n") == 1


def test_a_fault_of_ours_is_one_line_and_a_traceback_only_when_debugging(capsys, monkeypatch):
    def crash() -> int:
        """Crash."""
        raise RuntimeError("the floor\nis wet")

    monkeypatch.setitem(cli.VERBS, "sql", crash)
    error = said(capsys, ["sql"], 1).err
    assert error.startswith("error: RuntimeError: the floor is wet")
    assert error.count("\n") == 1
    with pytest.raises(RuntimeError, match="the floor"):
        cli.main(["sql", "--debug"])
    monkeypatch.setenv("PARROTLAB_DEBUG", "1")
    with pytest.raises(RuntimeError, match="the floor"):
        cli.main(["sql"])


def test_a_size_is_what_count_counts(capsys):
    from parrotlab.model.attention import Attention
    from parrotlab.model.count import count
    from parrotlab.model.feedforwards.mixture import Mixture
    from parrotlab.model.transformer import Transformer

    design = "--width 64 --layers 2 --heads 2 --experts 8 --vocabulary 100"
    words = ["size", *design.split(), "--length", "16", "--json"]
    answer = json.loads(said(capsys, words, 0).out)
    feedforward = Mixture(experts=8, gated=False)
    design = Transformer(layers=2, width=64, attention=Attention(heads=2), feedforward=feedforward)
    assert answer["counts"].items() >= count(design, 100).row(16).items()
    for match in answer["matches"]:
        assert abs(match["off_by"][match["same"]]) <= 0.02


def test_the_papers_family_is_listed_with_both_countings(capsys):
    from parrotlab.model import paper

    answer = json.loads(said(capsys, ["size", "--family", "paper", "--json"], 0).out)
    assert [(row["width"], row["experts"], row["total"]) for row in answer["models"]] == [
        (model.width, model.experts, model.total) for model in paper.listed()
    ]
    table = said(capsys, ["size", "--family", "paper"], 0).out
    assert "2802M" in table
    assert "2802.32M" in table


def test_a_plan_says_what_every_run_and_all_of_them_need(capsys, tmp_path):
    from parrotlab.run import bytes_needed, checkpoint_bytes
    from parrotlab.studies.study import load

    words = ["plan", "math", "--scale", "paper", "--device", "cuda", "--store", str(tmp_path)]
    rows = json.loads(said(capsys, [*words, "--json"], 0).out)
    runs = load("math").runs("paper")
    assert [(row["memory"], row["disk"]) for row in rows] == [
        (bytes_needed(run), checkpoint_bytes(run)) for run in runs
    ]
    assert all(row["hours"] == pytest.approx(row["seconds"] / 3600, abs=1e-3) for row in rows)
    told = said(capsys, words, 0)
    assert "hours" in told.out
    assert "of an H100" in told.err
    assert f"{sum(map(checkpoint_bytes, runs)) / 1e9:.3g}GB of disk" in told.err


def test_a_size_that_nothing_matches_says_so(capsys):
    design = "--width 8 --layers 1 --heads 1 --experts 2 --vocabulary 4"
    spoken = said(capsys, ["size", *design.split(), "--free", "width"], 0)
    assert "same total: no design of this kind" in spoken.err


def test_tables_shorten_for_the_eye_and_keep_whole_lines_in_a_pipe(capsys):
    show_table([{"name": "x" * 300, "total": 3_412_345, "stored": True}])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "x" * 300 in lines[1]
    assert "3.41M" in lines[1]


def test_numbers_are_said_as_the_docstrings_show():
    assert doctest.testmod(_show).failed == 0


def test_json_has_no_nan(capsys):
    show_json([{"value": float("nan"), "path": Path("x")}])
    assert json.loads(capsys.readouterr().out) == [{"value": None, "path": "x"}]


def training(tmp_path, ways, signals=(), steps=4):
    """A process that trains toys; it is sent the signals once each worker is at work, and then waited for."""
    program = f"""
import functools, sys
sys.path.insert(0, {str(LABORATORY)!r})
from pathlib import Path
from laboratory import execute, toy
from parrotlab import cli
from parrotlab.cli._train import train
from parrotlab.execution import local
from parrotlab.results.store import Store

def toys() -> int:
    runs = [toy(way, seed, steps={steps}) for seed, way in enumerate({ways!r})]
    return train(runs, Store(Path({str(tmp_path)!r})), "cpu", 1)

local.train_all = functools.partial(local.train_all, execute=execute)
cli.VERBS["toys"] = toys
if __name__ == "__main__":
    sys.exit(cli.main(["toys"]))
"""
    (tmp_path / "program.py").write_text(program)
    words = [sys.executable, tmp_path / "program.py", "the", "words"]
    # A group of its own, as a terminal gives: Ctrl-C reaches the parent and its workers.
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    limit = time.monotonic() + 60
    while signals and not (tmp_path / "journal").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    for number in signals:
        os.killpg(process.pid, number)
        time.sleep(0.3)
    error = process.communicate(timeout=60)[1]
    return process.returncode, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_asked_once_training_saves_and_says_how_to_go_on(number, tmp_path):
    code, error = training(tmp_path, ["endless"], [number], steps=10**6)
    assert code == 130
    assert (tmp_path / "saved 0").exists()
    assert "go on with the same command: parrotlab the words" in error
    assert "Traceback" not in error


def test_asked_twice_training_ends_at_once(tmp_path):
    code, error = training(tmp_path, ["deaf"], [signal.SIGINT, signal.SIGINT])
    assert code == 130
    assert "once more to stop at once" in error
    assert "Traceback" not in error
    worker = int((tmp_path / "journal").read_text().split()[2])
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_training_that_ends_well_is_code_0_and_any_loss_is_code_1(tmp_path):
    code, error = training(tmp_path, ["well"])
    assert code == 0
    assert "1 of 1 runs complete" in error
    code, error = training(tmp_path, ["well", "diverges"])
    assert code == 1
    assert "1 of 2 runs complete, 1 failed" in error
    assert "loss is nan" in error


def test_verdicts_follow_the_claims_and_a_study_that_was_not_run_says_so(tmp_path):
    from parrotlab.cli.report import verdicts
    from parrotlab.results.store import Store
    from parrotlab.studies.study import load

    studies = {name: load(name) for name in ("phone_book", "shortest_path")}
    rows = verdicts(Store(tmp_path), studies, {name: study.runs("smoke") for name, study in studies.items()})
    assert [row["says"] for row in rows] == [claim.says for study in studies.values() for claim in study.claims]
    assert {row["verdict"] for row in rows} == {"not run"}

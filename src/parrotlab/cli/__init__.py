"""The command line: ``parrotlab VERB``. A verb is a function in the file of its name; its docstring is its help.

Verbs import what they need when they are called, so that ``parrotlab --help`` needs no torch.
Exit codes: 0 done, 1 something failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import tyro

from parrotlab import __version__
from parrotlab.cli._show import complain, say
from parrotlab.cli._train import INTERRUPTED
from parrotlab.cli.eval import evaluate
from parrotlab.cli.export import export
from parrotlab.cli.exposure import exposure
from parrotlab.cli.import_ import import_
from parrotlab.cli.pack import pack
from parrotlab.cli.plan import plan
from parrotlab.cli.prepare import prepare
from parrotlab.cli.pretrain import pretrain
from parrotlab.cli.profile import profile
from parrotlab.cli.report import report
from parrotlab.cli.reproduce import reproduce
from parrotlab.cli.rescore import rescore
from parrotlab.cli.run import run
from parrotlab.cli.size import size
from parrotlab.cli.sql import sql
from parrotlab.cli.studies import studies
from parrotlab.cli.theory import theory
from parrotlab.cli.watch import watch

VERBS = {
    "reproduce": reproduce,
    "studies": studies,
    "plan": plan,
    "prepare": prepare,
    "run": run,
    "watch": watch,
    "pretrain": pretrain,
    "profile": profile,
    "report": report,
    "rescore": rescore,
    "exposure": exposure,
    "size": size,
    "pack": pack,
    "eval": evaluate,
    "sql": sql,
    "export": export,
    "import": import_,
    "theory": theory,
}

DESCRIPTION = """The open laboratory for one question: what do experts buy?

`parrotlab VERB --help` explains a verb; --version and --debug (tracebacks, also PARROTLAB_DEBUG=1) work everywhere."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; whatever goes wrong is one line, a traceback only when debugging."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        sys.stdout.write(f"parrotlab {__version__}\n")
        return 0
    debugging = "--debug" in words or os.environ.get("PARROTLAB_DEBUG", "0") not in ("", "0")
    words = [word for word in words if word != "--debug"] or ["--help"]
    try:
        return tyro.extras.subcommand_cli_from_dict(
            VERBS,
            prog="parrotlab",
            description=DESCRIPTION,
            args=words,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debugging:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    """One line on standard error; 2 where the input was at fault, 1 where something broke."""
    if _is_bad_input(error):
        complain(str(error))
        return 2
    complain(f"{type(error).__name__}: {error} (repeat with --debug for the traceback)")
    return 1


def _is_bad_input(error: Exception) -> bool:
    from parrotlab.results.store import StoreError

    return isinstance(error, (ValueError, StoreError, FileNotFoundError))

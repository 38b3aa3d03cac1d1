"""The child of ``evals.symbolic``: reads ``[gold, answer]`` as JSON, a line each, and writes ``equal`` or ``unequal``.

math-verify is asked for LaTeX only: its other reader, of plain expressions, hands the text to sympy's ``parse_expr``,
which hands it to Python's ``eval``. LaTeX's numbers go that way too, so ``parse_expr`` is replaced by a reader of
numbers alone: no route leads from what a model wrote to ``eval``.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from typing import Any

MEMORY = 2 << 30
CPU_SECONDS = 20
"""Of each question; the parent kills sooner. It ends a child that is alone."""


def main() -> None:
    """Serves until its input ends."""
    from math_verify import LatexExtractionConfig, parse, verify

    _without_eval()
    _limit()
    print("ready", flush=True)  # noqa: T201 # its output is its answer

    def formula(text: str) -> list:
        return parse(f"\\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=None)  # type: ignore[arg-type]

    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = int(used.ru_utime + used.ru_stime) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS, resource.RLIM_INFINITY))
        try:
            gold, answer = json.loads(line)
            right = verify(formula(gold), formula(answer), timeout_seconds=None)
        except (Exception, RecursionError, MemoryError):  # whatever a hostile text provokes: it is wrong
            right = False
        print("equal" if right else "unequal", flush=True)  # noqa: T201


def _without_eval() -> None:
    import latex2sympy2_extended.latex2sympy2 as latex
    import math_verify.parser as expressions
    import sympy
    import sympy.parsing.sympy_parser as parser
    import sympy.physics.units  # its tables are read as expressions, once, when they are first asked for

    def number(text: str, *_: Any, **__: Any) -> Any:
        if re.fullmatch(r"[+-]?\d+", text):
            return sympy.Integer(text)
        if re.fullmatch(r"[+-]?\d*\.\d+|[+-]?\d+\.", text):
            return sympy.Float(text)
        raise ValueError("text of a model is not evaluated")

    for module in (parser, expressions, latex):
        assert hasattr(module, "parse_expr"), f"{module.__name__} reads expressions in another way than it did"
        setattr(module, "parse_expr", number)  # noqa: B010 # a type checker knows these modules better than we
    parser.eval_expr = number


def _limit() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()

"""What a person or a machine sees: tables and JSON on standard output, words on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 1_000
"""Columns of a table that no terminal limits: a pipe gets every line whole."""


def words() -> Console:
    """Standard error: what is said to a person while standard output may go to a file."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """A line for a person."""
    words().print(Text(message))


def complain(message: str) -> None:
    """One red line, whatever the message's own line breaks."""
    words().print(Text.assemble(("error: ", "bold red"), " ".join(message.split())))


def show_table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """Rows under the names of their fields; numbers to the right, shortened for the eye."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], (int, float)) and not isinstance(row[name], bool) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    terminal = sys.stdout.isatty()
    Console(highlight=False, width=None if terminal else WIDE).print(table)


def show_json(value: Any) -> None:
    """The same for a machine; what is not finite becomes null, for JSON knows no NaN."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def short(number: float) -> str:
    """A number as a person says it: 3.41M, 12.5k, 0.0312; whole numbers of four digits stay whole.

    >>> [short(number) for number in (3_412_345, 12_500, 2048, 0.03125, 4.2e17, 2.06e21)]
    ['3.41M', '12.5k', '2048', '0.0312', '420P', '2.06Z']
    """
    if not math.isfinite(number) or (isinstance(number, int) and abs(number) < 10_000):
        return str(number)
    for unit, size in (("Z", 1e21), ("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> [duration(seconds) for seconds in (8, 90, 3 * 3600 + 60)]
    ['8 s', '2 min', '3 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value) if isinstance(value, (int, float)) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)

"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

UNITS = ("", "k", "M", "G", "T", "P", "E")
ABSENT = "–"


def si(value: float | None) -> str:
    """Three digits and a unit: 14.5k, 3.41M."""
    if value is None or not math.isfinite(value):
        return ABSENT
    power = 0
    while abs(value) >= 999.5 and power < len(UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{UNITS[power]}"


def number(value: float | None) -> str:
    """Three significant digits, and no exponent where none is needed."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def score(value: float | None) -> str:
    """A score in 0-1 with three digits behind the point."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.3f}"


def gain(value: float | None) -> str:
    """A difference of scores with its sign: +0.041, −0.003."""
    return ABSENT if value is None or not math.isfinite(value) else f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")


def rate_text(row: Mapping[str, Any]) -> str:
    """The rate, or the bound that stands for it."""
    return {"at least": "≥ ", "at most": "≤ ", "": ""}[row["bound"]] + _rate(row["rate"])


def interval_text(row: Mapping[str, Any]) -> str:
    """``0.71 to 1.02``; an end that lies beyond the ladder is open."""
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return ""
    low = _rate(row["low"]) if math.isfinite(row["low"]) else "open"
    high = _rate(row["high"]) if math.isfinite(row["high"]) else "open"
    return f"{low} to {high}"


def effective_text(row: Mapping[str, Any]) -> str:
    """The dense parameters that score the same, or their bound."""
    return {"at least": "≥ ", "at most": "≤ ", "": ""}[row["bound"]] + si(row["effective"])


def width_text(row: Mapping[str, Any]) -> str:
    """The critical width, or the bound that stands for it."""
    return {"more than": "> ", "at most": "≤ ", "": ""}[row["bound"]] + number(row["width"])


def width_interval_text(row: Mapping[str, Any]) -> str:
    """``14 to 21``; an end beyond the widths that were trained is open."""
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return ""
    low, high = (number(end) if 0 < end < math.inf else "open" for end in (row["low"], row["high"]))
    return f"{low} to {high}"


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with plain Python numbers, and None for what is not a finite one: JSON knows no other."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rate(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no -0.00

"""Specs: immutable descriptions of tasks, models, recipes and runs, with a strict codec and a fingerprint.

A spec is a frozen dataclass of literals and other specs. Encoded, it is plain JSON in which every spec
carries its ``type``: the place of its class in the package, such as ``tasks.phone_book.PhoneBook``.

>>> from parrotlab.tasks.phone_book import PhoneBook
>>> encode(PhoneBook(entries=100))["type"]
'tasks.phone_book.PhoneBook'
>>> decode({"type": "tasks.phone_book.PhoneBook", "entires": 100})
Traceback (most recent call last):
...
parrotlab.spec.SpecError: PhoneBook has no field 'entires': did you mean 'entries'?
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import json
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal

PACKAGE = __name__.rpartition(".")[0]
FINGERPRINT_DIGITS = 16  # 64 bits: a chance of 3e-8 that any two of a million runs share a name

type_hints = functools.cache(typing.get_type_hints)


class SpecError(ValueError):
    """A spec that cannot be read; the message names the field, the value and what would be accepted."""


class Drift(ValueError):
    """A stored spec and today's spec share a fingerprint and yet differ: a default has changed its value."""


def encode(spec: Any) -> dict[str, Any]:
    """The spec as plain JSON data, every field written out, defaults too."""
    return {"type": _tag(type(spec))} | {
        field.name: _encode_value(getattr(spec, field.name)) for field in dataclasses.fields(spec)
    }


def decode(data: Any, where: str = "spec") -> Any:
    """The spec that ``encode`` wrote; fields that are absent take their defaults, unknown ones are refused."""
    if not isinstance(data, dict) or "type" not in data:
        raise SpecError(f"{where}: expected a spec, an object with a 'type', got {data!r}")
    cls = _class(data["type"], where)
    names = [field.name for field in dataclasses.fields(cls)]
    for name in data:
        if name != "type" and name not in names:
            raise SpecError(f"{cls.__name__} has no field {name!r}: {nearest(name, names)}")
    hints = type_hints(cls)
    values = {name: _decode_value(data[name], hints[name], f"{cls.__name__}.{name}") for name in names if name in data}
    try:
        return cls(**values)
    except TypeError as error:  # a field without a default is absent
        raise SpecError(f"{cls.__name__}: {error}") from None


def fingerprint(spec: Any) -> str:
    """The name of a spec: a hash of every field that differs from its default.

    A new field with a default therefore leaves all old names as they are. That its default keeps the
    old behaviour is the author's promise; ``check_drift`` notices where a default itself was changed.
    """
    canonical = json.dumps(_essence(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def check_drift(stored: dict[str, Any], spec: Any) -> None:
    """Raises Drift where a stored encoding disagrees with the spec that claims the same fingerprint."""
    differing = [
        f"{path} was {before!r} and is now {now!r}" for path, before, now in _differences(stored, encode(spec))
    ]
    if differing:
        raise Drift(
            f"stored run {fingerprint(spec)} was made under other defaults: {'; '.join(differing)}. "
            "Set the field explicitly, or raise the spec's revision."
        )


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """An encoded spec as one flat row: ``{"model.width": 64, ...}``; a spec's type becomes the class's name."""
    row: dict[str, Any] = {}
    for name, value in data.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict):
            row |= flatten(value, path)
        elif name == "type":
            row[path] = value.rpartition(".")[2]
        elif isinstance(value, list):
            row[path] = json.dumps(value)
        else:
            row[path] = value
    return row


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest of the known ones, or all of them."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _tag(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix(f"{PACKAGE}.")


def _class(tag: Any, where: str) -> type:
    module_name, _, name = str(tag).rpartition(".")
    try:
        cls = getattr(importlib.import_module(f"{PACKAGE}.{module_name}"), name)
    except (ImportError, AttributeError):
        raise SpecError(f"{where}: there is no spec of type {tag!r} in {PACKAGE}") from None
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise SpecError(f"{where}: {tag!r} is not a spec")
    return cls


def _encode_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return encode(value)
    if isinstance(value, tuple):
        return [_encode_value(item) for item in value]
    assert isinstance(value, (bool, int, float, str)), f"a spec holds literals and specs only, not {value!r}"
    return value


def _decode_value(value: Any, hint: Any, where: str) -> Any:
    if isinstance(value, dict):
        value = decode(value, where)
    elif isinstance(value, list) and typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        if len(items) != len(value):
            raise SpecError(f"{where}: expected {len(items)} values, got {value!r}")
        return tuple(_decode_value(item, item_hint, where) for item, item_hint in zip(value, items))
    if not _fits(value, hint):
        raise SpecError(f"{where}: expected {_hint_name(hint)}, got {value!r}")
    return float(value) if isinstance(value, int) and hint is float else value


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or (isinstance(hint, type) and isinstance(value, hint))


def _hint_name(hint: Any) -> str:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(repr(option) for option in options)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_hint_name(option) for option in options)
    return str(hint) if origin else getattr(hint, "__name__", str(hint))


def _essence(value: Any) -> Any:
    """The spec without the fields that stand at their defaults."""
    if isinstance(value, tuple):
        return [_essence(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # equal specs share a name, though one says 1 and the other 1.0
    if not dataclasses.is_dataclass(value):
        return value
    told = [field for field in dataclasses.fields(value) if getattr(value, field.name) != field.default]
    return {"type": _tag(type(value))} | {field.name: _essence(getattr(value, field.name)) for field in told}  # type: ignore[arg-type]


def _differences(stored: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields of both that differ. A field that the stored spec lacks is new, and promised to be harmless."""
    for name, before in stored.items():
        path = f"{prefix}{name}"
        after = now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{path}.")
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            for index, (one, other) in enumerate(zip(before, after)):
                yield from _differences({f"{name}[{index}]": one}, {f"{name}[{index}]": other}, prefix)
        elif before != after:
            yield path, before, after

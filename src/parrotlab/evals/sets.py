"""Sets: the rows of a benchmark, read from JSON Lines, checked, and handed to lm-evaluation-harness as its documents.

A task file names one of the readers below as its ``custom_dataset`` and the files as its ``dataset_kwargs``:

| reader     | a row                                                                                            |
|------------|--------------------------------------------------------------------------------------------------|
| `choices`  | {"question": ..., "choices": [..., ...], "label": 0}, with "context" instead of the question, or both |
| `blanks`   | the same with "_" in the question, where each choice is tried                                    |
| `words`    | {"question": ..., "answers": [..., ...]}, or {"prompt": ..., "answer": ...}                      |
| `finals`   | {"question": ..., "answer": "12", "solution": ...}; the solution is shown in examples alone      |

A problem whose answer is empty (MATH's training split has two, with an empty box) cannot be graded: it is passed over.

A file is looked for in the folder that is given; where none is, in the data folder
(``PARROTLAB_DATA``), then from here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from parrotlab.seeds import stream
from parrotlab.text import hub
from parrotlab.text.hub import DataError

ITEMS, SHOTS = "items", "shots"
"""The splits that every reader returns: what is asked, and what may be shown before it."""
ITEM_DIGITS = 16
POOL, SHOWN = 1_000, 32
"""Examples are drawn from the first rows of their file, and so many of them are kept."""

Row = dict[str, Any]


def choices(items: str, shots: str = "", folder: str = "", **about: Any) -> dict[str, Any]:
    """A set of questions with several choices, one of them right."""
    return _splits(_choice, items, shots, folder)


def blanks(items: str, shots: str = "", folder: str = "", **about: Any) -> dict[str, Any]:
    """A set of sentences with a blank and several choices for it."""
    return _splits(_blank, items, shots, folder)


def words(items: str, shots: str = "", folder: str = "", **about: Any) -> dict[str, Any]:
    """A set of questions that are answered in a few words, of which several may be right."""
    return _splits(_words, items, shots, folder)


def finals(items: str, shots: str = "", folder: str = "", **about: Any) -> dict[str, Any]:
    """A set of problems of which the final answer counts."""
    return _splits(_final, items, shots, folder)


def filled(row: Row) -> list[str]:
    """The beginning of a sentence up to its blank, with each choice in it."""
    return [row["question"].partition("_")[0] + choice for choice in row["choices"]]


def ending(row: Row) -> str:
    """What follows the blank of a sentence: the same for each choice."""
    return row["question"].partition("_")[2].strip()


def find(name: str, folder: str = "") -> Path:
    """The file of a set, such as ``arc_easy/test``; its ending may be left out."""
    path = look_for(name, folder)
    if path is not None:
        return path
    raise DataError(
        f"there is no set {name}[.jsonl[.zst|.gz]] in {folder or hub.data_folder()}: set {hub.VARIABLE} to the folder "
        f"that holds it, or fetch it with `parrotlab pack FOLDER --benchmarks {name.partition('/')[0]}`"
    )


def look_for(name: str, folder: str = "") -> Path | None:
    """The same, or None."""
    paths = (place / Path(f"{name}{ending}").expanduser() for place in _places(folder) for ending in hub.ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def _places(folder: str) -> tuple[Path, ...]:
    return (Path(folder),) if folder else (hub.data_folder(), Path())


def split_of(items: str) -> str:
    """The split that a file holds: ``test`` for ``triviaqa/test_unfiltered_dev``; ``all`` where its name says none."""
    word = Path(items).name.partition(".")[0].partition("_")[0]
    return word if word in ("train", "dev", "test") else "all"


def identity(record: Row) -> str:
    """Names an item by its own row, whatever the order of its keys: the same for every model and machine."""
    row = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(row.encode()).hexdigest()[:ITEM_DIGITS]


Check = Callable[[Row, str], Row | None]
"""(a record, where it stands) -> the row as the task files read it, or None to pass it over; raises DataError."""


def _splits(check: Check, items: str, shots: str, folder: str) -> dict[str, Any]:
    import datasets

    shown = shots_of(shots, folder, check)
    asked = list(read(find(items, folder), check))
    if shots == items:  # of a small file, half is shown at most
        shown = shown[: len(asked) // 2]
        known = {row["item"] for row in shown}
        asked = [row for row in asked if row["item"] not in known]
    if not asked:
        raise DataError(f"{find(items, folder)} holds no row to ask")
    names = dict.fromkeys(name for row in asked + shown for name in row)
    return {
        split: datasets.Dataset.from_list([{name: row.get(name, "") for name in names} for row in rows])
        for split, rows in ((ITEMS, asked), (SHOTS, shown))
    }


def read(path: Path, check: Check) -> Iterator[Row]:
    """The rows of a file, checked, each with the name of its item."""
    for number, record in hub.records(path):
        row = check(record, f"{path}, line {number}")
        if row is not None:
            texts = {name: value for name, value in record.items() if isinstance(value, str)}
            yield texts | row | {"item": identity(record)}


def shots_of(shots: str, folder: str, check: Check) -> list[Row]:
    """The rows that may be shown: a fixed list (``prompts/cot_fewshot#gsm8k``), or drawn from a file once for all."""
    name, fixed, key = shots.partition("#")
    if not shots:
        return []
    if fixed:
        return list(_fixed(name, key, folder))
    path = look_for(name, folder)
    if path is None:
        return []  # who asks for examples is told by the harness that there are none
    pool = [row for row, _ in zip(read(path, check), range(POOL))]
    return [pool[index] for index in stream("shots", name).permutation(len(pool))[:SHOWN]]


def _fixed(name: str, key: str, folder: str) -> Iterator[Row]:
    """[question, solution] pairs that the field shows before every problem."""
    path = prompts(name, folder)
    if path is None:
        return
    try:
        pairs = json.loads(path.read_text())[key]
        for question, solution in pairs:
            row = {"question": question, "target": solution, "answers": [""]}
            yield row | {"item": identity(row)}
    except (ValueError, KeyError, TypeError):
        raise DataError(f'{path}: expected {{"{key}": [["question", "solution"], ...]}}') from None


def prompts(name: str, folder: str) -> Path | None:
    """The file of fixed examples, if it is there."""
    return next((path for place in _places(folder) if (path := place / f"{name}.json").is_file()), None)


def _choice(record: Row, where: str) -> Row:
    question, context = _text(record, "question", where, ""), _text(record, "context", where, "")
    if not (question or context):
        raise DataError(f'{where}: a row needs a "question" or a "context", and has {_keys(record)}')
    options, label = record.get("choices"), record.get("label")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) and o for o in options):
        raise DataError(f'{where}: "choices" must be a list of 2 or more texts, not {_shortly(options)}')
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(options):
        raise DataError(f'{where}: "label" must be one of 0 to {len(options) - 1}, not {_shortly(label)}')
    return {"question": question, "context": context, "choices": options, "label": label}


def _blank(record: Row, where: str) -> Row:
    row = _choice(record, where)
    if not ending(row):
        raise DataError(f'{where}: "question" must have a blank, _, and words behind it: {_shortly(row["question"])}')
    return row | {"blank": True}


def _words(record: Row, where: str) -> Row:
    question = _text(record, "question", where, _text(record, "prompt", where, ""))
    answers = record.get("answers", [record["answer"]] if "answer" in record else None)
    if not question:
        raise DataError(f'{where}: a row needs a "question" or a "prompt", and has {_keys(record)}')
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a for a in answers):
        raise DataError(f'{where}: "answers" must be a list of 1 or more texts, not {_shortly(answers)}')
    return {"question": question, "answers": answers, "target": answers[0]}


def _final(record: Row, where: str) -> Row | None:
    question, answer = _text(record, "question", where, ""), record.get("answer")
    if not question:
        raise DataError(f'{where}: a row needs a "question", and has {_keys(record)}')
    if answer == "":
        return None
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        raise DataError(f'{where}: "answer" must be a text or a number, not {_shortly(answer)}')
    solution = _text(record, "solution", where, "")
    return {"question": question, "answers": [str(answer)], "target": solution or str(answer)}


def _text(record: Row, name: str, where: str, otherwise: str) -> str:
    value = record.get(name) or otherwise
    if not isinstance(value, str):
        raise DataError(f'{where}: "{name}" must be a text, not {_shortly(value)}')
    return value


def _keys(record: Row) -> str:
    return ", ".join(record) or "nothing"


def _shortly(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 40 else f"{words[:37]}..."

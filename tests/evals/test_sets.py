import json

import pytest

from parrotlab.evals import sets
from parrotlab.text.hub import DataError

datasets = pytest.importorskip("datasets", reason="reads rows for lm-eval: pip install parrotlab[eval]")

CHOICE = {"question": "Which is a bird?", "choices": ["a parrot", "a pear"], "label": 0}
BLANK = {"question": "The _ sang in its cage.", "choices": ["parrot", "pear"], "label": 0}
WORDS = {"question": "Who sang?", "answers": ["the parrot", "a parrot"]}
FINAL = {"question": "2 + 2?", "answer": 4, "solution": "It is 4."}


def written(folder, *lines, name="quiz"):
    path = folder / f"{name}.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def test_each_reader_gives_rows_with_what_is_asked_and_what_is_right(tmp_path):
    choice = sets.choices(written(tmp_path, CHOICE))["items"][0]
    assert (choice["question"], choice["choices"], choice["label"]) == tuple(CHOICE.values())
    blank = sets.blanks(written(tmp_path, BLANK))["items"][0]
    assert sets.filled(blank) == ["The parrot", "The pear"]
    assert sets.ending(blank) == "sang in its cage."
    words = sets.words(written(tmp_path, WORDS))["items"][0]
    assert (words["answers"], words["target"]) == (WORDS["answers"], "the parrot")
    final = sets.finals(written(tmp_path, FINAL))["items"][0]
    assert (final["answers"], final["target"]) == (["4"], "It is 4.")


@pytest.mark.parametrize(
    ("reader", "row", "reason"),
    [
        (sets.choices, CHOICE | {"label": 2}, r'quiz.jsonl, line 2: "label" must be one of 0 to 1, not 2'),
        (sets.choices, CHOICE | {"label": None}, '"label" must be one of 0 to 1, not None'),
        (sets.choices, CHOICE | {"choices": ["one"]}, '"choices" must be a list of 2 or more texts'),
        (
            sets.choices,
            {"choices": ["a", "b"], "label": 0},
            'needs a "question" or a "context", and has choices, label',
        ),
        (sets.blanks, CHOICE, "must have a blank"),
        (sets.words, WORDS | {"answers": []}, '"answers" must be a list of 1 or more texts'),
        (sets.words, WORDS | {"question": 3}, '"question" must be a text, not 3'),
        (sets.finals, {"question": "2 + 2?"}, '"answer" must be a text or a number, not None'),
        (sets.finals, "{", "line 2: not JSON"),
    ],
)
def test_a_malformed_row_is_one_line_with_its_file_and_line(reader, row, reason, tmp_path):
    good = {sets.choices: CHOICE, sets.blanks: BLANK, sets.words: WORDS, sets.finals: FINAL}[reader]
    with pytest.raises(DataError, match=reason) as caught:
        reader(written(tmp_path, good, row))
    assert "\n" not in str(caught.value)


def test_a_missing_set_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"no set arc_easy/test.*PARROTLAB_DATA.*pack FOLDER --benchmarks arc_easy"):
        sets.choices("arc_easy/test", folder=str(tmp_path))


def test_a_set_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="no row to ask"):
        sets.choices(written(tmp_path))


def test_a_problem_whose_answer_is_empty_is_passed_over(tmp_path):
    items = sets.finals(written(tmp_path, FINAL | {"answer": ""}, FINAL))["items"]
    assert [row["answers"] for row in items] == [["4"]]


def test_what_is_shown_is_never_asked(tmp_path):
    rows = [WORDS | {"question": f"Who sang {n}?"} for n in range(50)]
    path = written(tmp_path, *rows)
    splits = sets.words(path, shots=path)
    assert len(splits["shots"]) == 25  # half of a small file, at most
    assert len(splits["items"]) == 25
    assert not set(splits["shots"]["item"]) & set(splits["items"]["item"])


def test_examples_are_the_same_every_time_and_not_the_first_of_their_file(tmp_path):
    rows = [WORDS | {"question": f"Who sang {n}?"} for n in range(50)]
    items, shots = written(tmp_path, WORDS), written(tmp_path, *rows, name="train")
    once, again = (sets.words(items, shots=shots)["shots"]["question"] for _ in range(2))
    assert list(once) == list(again)
    assert list(once) != [row["question"] for row in rows[: sets.SHOWN]]


def test_fixed_examples_keep_their_order(tmp_path):
    (tmp_path / "worked.json").write_text(json.dumps({"sums": [["1 + 1?", "It is 2."], ["1 + 2?", "It is 3."]]}))
    shots = sets.finals(written(tmp_path, FINAL), shots="worked#sums", folder=str(tmp_path))["shots"]
    assert list(shots["target"]) == ["It is 2.", "It is 3."]
    (tmp_path / "worked.json").write_text("[]")
    with pytest.raises(DataError, match=r"worked.json: expected"):
        sets.finals(written(tmp_path, FINAL), shots="worked#sums", folder=str(tmp_path))


def test_an_item_is_named_by_what_it_says_and_not_by_the_order_of_its_keys():
    assert sets.identity(CHOICE) == sets.identity(dict(reversed(CHOICE.items())))
    assert sets.identity(CHOICE) != sets.identity(CHOICE | {"label": 1})
    assert len(sets.identity(CHOICE)) == sets.ITEM_DIGITS


@pytest.mark.parametrize(
    ("items", "split"),
    [("arc_easy/test", "test"), ("triviaqa/test_unfiltered_dev", "test"), ("a/dev.jsonl", "dev"), ("facts/x", "all")],
)
def test_the_split_is_read_from_the_name_of_the_file(items, split):
    assert sets.split_of(items) == split

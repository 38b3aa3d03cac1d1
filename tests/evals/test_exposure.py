"""Exposure: documents counted against a plain reading of them, and stored."""

import io
import json

import pyarrow.parquet as pq
import pytest
from shelves import Shelf

from parrotlab.cli import main
from parrotlab.evals.exposure import FILE, Sought, exposures, sought, texts
from parrotlab.evals.sets import identity
from parrotlab.results.store import Store
from parrotlab.seeds import stream
from parrotlab.text.corpus import open_corpus

FACTS = [
    {"subject": "Polly", "relation": "home", "object": "New York"},
    {"subject": "Polly", "relation": "colour", "object": "green"},
    {"prompt": "The native language of Jean Dupont is", "answer": "French"},
]
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def of(*phrases):
    return Sought("0", phrases)


def test_a_document_counts_if_it_holds_subject_and_object_whatever_stands_between_them():
    documents = [
        "Polly lives in New York.",
        "In new   york, one day, POLLY fell.",
        "Polly left York, anew.",
        "New York",
    ]
    assert exposures([of("Polly", "New York")], documents).tolist() == [2]


def test_a_document_counts_once_however_often_it_says_so():
    assert exposures([of("a b", "c")], ["a b c a b c", "c a b"]).tolist() == [2]


def test_words_are_whole():
    assert exposures([of("art"), of("art of")], ["party of arts", "The art of war"]).tolist() == [1, 1]


def test_a_long_text_is_held_by_who_shares_thirteen_of_its_words_in_a_row():
    words = LONG.split()
    documents = [f"so {' '.join(words[:13])}!", " ".join(words[1:]), " ".join(words[:12]), f"{LONG} and {LONG}"]
    assert exposures([of(LONG)], documents).tolist() == [3]


def test_counting_agrees_with_a_plain_search_in_every_document():
    draw = stream("exposure")
    names = [" ".join(draw.choice(list("abcd"), size=1 + n % 3)) for n in range(40)]
    items = [of(one, other) for one, other in zip(names, reversed(names))]
    documents = [" ".join(draw.choice(list("abcd"), size=draw.integers(1, 15))) for _ in range(60)]
    plain = [sum(all(f" {p} " in f" {d} " for p in item.phrases) for d in documents) for item in items]
    assert exposures(items, documents).tolist() == plain
    assert 0 < sum(plain) < 60 * 40


@pytest.mark.parametrize(
    ("record", "phrases"),
    [
        (FACTS[0], ("Polly", "New York")),
        (FACTS[2], ("Jean Dupont", "French")),
        ({"question": "Two and two?", "answer": "4"}, ("Two and two?",)),
        ({"context": "A parrot", "choices": []}, ("A parrot",)),
    ],
)
def test_a_fact_is_looked_for_by_its_ends_and_a_problem_by_its_text(record, phrases):
    assert sought(record) == (identity(record), phrases)


@pytest.mark.parametrize("record", [{"prompt": "The bird that talks is a", "answer": "parrot"}, {"answer": "4"}, {}])
def test_what_has_no_name_and_no_text_is_not_counted(record):
    assert sought(record) is None


def test_an_item_keeps_its_name_whatever_the_order_of_its_keys():
    assert identity({"a": 1, "b": "é"}) == identity({"b": "é", "a": 1}) != identity({"a": 1, "b": "e"})


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    shelf = Shelf(tmp_path)
    texts = [f"Polly of New York is seen {'again ' * n}" for n in range(7)] + ["Jean Dupont is not French."]
    shelf.prepare(shelf.write("seen", texts), shelf.write("unseen", ["Nobody."]), tokenizer="bytes")
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "ours.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in FACTS))
    return shelf


def test_counts_are_those_of_the_training_shards_and_lie_in_the_store(shelf, tmp_path, capsys):
    training = list(texts(open_corpus("small")))
    expected = [sum("Polly" in text for text in training), 0, sum("French" in text for text in training)]
    store = Store(tmp_path / "results")
    command = ["exposure", "facts/ours", "--corpus", "small", "--store", str(store.root), "--json"]
    assert main(command) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["items"], told["counted"], told["most"]) == (3, 3, expected[0])
    (record,) = store.records()
    table = pq.read_table(io.BytesIO(store.file(record.fingerprint, FILE)))
    assert dict(zip(*table.to_pydict().values())) == dict(zip(map(identity, FACTS), expected))
    assert expected[0] > 0
    assert main(command) == 0  # the second time it is there
    assert store.runs().empty
    assert store.examinations().empty


def test_a_corpus_that_is_not_prepared_is_one_clear_line(shelf, tmp_path, capsys):
    assert main(["exposure", "facts/ours", "--corpus", "large", "--store", str(tmp_path / "results")]) == 2
    assert "there is no prepared corpus 'large'" in capsys.readouterr().err

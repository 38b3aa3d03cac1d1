"""Our model gives lm-eval the answers that lm-eval's own backend gets from the same weights in transformers."""

import numpy as np
import pytest
import rows
from fakes import design

from parrotlab.evals import answerers, harness
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.huggingface import export
from parrotlab.model.transformer import build
from parrotlab.text import tokenizer
from parrotlab.text.tokenizer import BYTES

pytest.importorskip("lm_eval", reason="asks with lm-evaluation-harness: pip install parrotlab[eval]")

from parrotlab.evals.hugging_face_model import HuggingFaceModel
from parrotlab.evals.our_model import OurModel, Stops

KNOWN = harness.benchmarks()
LENGTH, LIMIT = 512, 6
DESIGNS = {"mistral": design(Dense(expansion=2.0), layers=3, width=32), "mixtral": design(Mixture(experts=4), width=32)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(rows.fill(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    texts = [repr(one.about["example"]) for one in KNOWN.values()]
    return tokenizer.train(texts, 400, tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture(scope="module", params=DESIGNS.values(), ids=DESIGNS)
def both(request, reader, tmp_path_factory):
    """Ours, and theirs of the same weights."""
    model = build(request.param, reader.vocabulary, 3)
    out = tmp_path_factory.mktemp("export") / "model"
    export(model, out, tokenizer=reader.content, positions=LENGTH)
    return OurModel(model, reader, LENGTH), HuggingFaceModel(out, "cpu", 4 * 512)


def ask(model, name, folder, shots=None):
    benchmark = KNOWN[name]
    return harness.ask(model, benchmark, harness.task(benchmark, folder, shots), LIMIT)


@pytest.mark.parametrize(
    ("name", "shots"), [("arc_easy", 0), ("arc_easy", 3), ("hellaswag", 0), ("piqa", 0), ("winogrande", 2)]
)
def test_likelihoods_are_those_of_lm_evals_own_backend_item_by_item(both, folder, name, shots):
    ours, theirs = (ask(model, name, folder, shots) for model in both)
    for our, their in zip(ours.answers, theirs.answers, strict=True):
        assert our.loglikelihoods == pytest.approx(their.loglikelihoods, abs=1e-4)
        assert (our.item, our.gold, our.truncated) == (their.item, their.gold, their.truncated)
    assert ours.measurements == theirs.measurements


@pytest.mark.parametrize(("name", "shots"), [("triviaqa", 1), ("gsm8k", 0), ("facts", 4)])
def test_greedy_texts_are_those_of_lm_evals_own_backend_item_by_item(both, folder, name, shots):
    ours, theirs = (ask(model, name, folder, shots) for model in both)
    assert [answer.text for answer in ours.answers] == [answer.text for answer in theirs.answers]
    assert any(answer.text for answer in ours.answers)
    assert ours.measurements == theirs.measurements


def test_a_context_that_is_too_long_is_cut_from_the_left_and_counted_by_both(both, folder):
    ours, theirs = both
    long, short = (ask(ours, "arc_easy", folder, shots) for shots in (12, 0))
    assert all(answer.truncated for answer in long.answers)
    assert not any(answer.truncated for answer in short.answers)
    for our, their in zip(long.answers, ask(theirs, "arc_easy", folder, 12).answers, strict=True):
        assert their.truncated
        assert our.loglikelihoods == pytest.approx(their.loglikelihoods, abs=1e-4)
    generated = [ask(model, "triviaqa", folder, 12).answers for model in both]
    assert all(answer.truncated for answers in generated for answer in answers)
    assert [answer.text for answer in generated[0]] == [answer.text for answer in generated[1]]


def test_a_choice_longer_than_the_model_can_read_is_judged_by_its_end(reader):
    model = OurModel(build(design(), reader.vocabulary, 0), reader, 8)
    request = type("Request", (), {"args": ("", " the parrot" * 20), "doc_id": 7, "task_name": "quiz"})
    [(nats, _)] = model.loglikelihood([request])
    assert nats < 0
    assert model.cut == {7}


def test_whole_texts_are_likelier_by_pieces_than_the_sum_says_nothing_else(reader):
    """A text in windows: the nats of its windows, each begun anew."""
    model = OurModel(build(design(), reader.vocabulary, 0), reader, 16)
    text = "the parrot says what the parrot heard, " * 4
    request = type("Request", (), {"args": (text,)})
    [whole] = model.loglikelihood_rolling([request])
    tokens = np.concatenate(([reader.end], reader.encode([text])[0].astype(np.int64)))
    import torch

    parts = 0.0
    for begin in range(0, len(tokens) - 1, 16):
        window = torch.from_numpy(tokens[begin : begin + 17])
        with torch.no_grad():
            nats = model.model(window[None, :-1])[0][0].log_softmax(dim=-1)
        parts += nats.gather(-1, window[1:, None]).sum().item()
    assert whole == pytest.approx(parts, abs=1e-3)


def test_a_text_ends_at_the_first_of_its_stops_or_at_end():
    stops = Stops(BYTES, ("\nQ:", "é"))
    said = []
    for token in b"abc\nQ: more":
        said.append(token)
        if stops.over(said):
            break
    assert bytes(said) == b"abc\nQ:"
    assert stops.text(said) == "abc"
    assert stops.over(list("aé".encode()))
    assert not stops.over(list(b"a\nQ"))
    assert stops.over([97, BYTES.end])
    assert stops.text([97, BYTES.end]) == "a"


def test_the_bytes_of_a_vocabulary_need_no_file(folder):
    ours = OurModel(build(design(), BYTES.vocabulary, 0), BYTES, LENGTH)
    assert len(ask(ours, "piqa", folder).answers) == LIMIT
    assert len(ask(ours, "triviaqa", folder, 1).answers) == LIMIT


def test_an_answerer_reads_nothing(folder):
    with pytest.raises(NotImplementedError):
        answerers.answerer(answerers.oracle).loglikelihood_rolling([])

"""Final answers: found where models leave them, compared as numbers and as formulas, and never executed."""

import resource
import time

import pytest

from parrotlab.evals import symbolic
from parrotlab.evals._symbolic_worker import MEMORY
from parrotlab.evals.final_answer import flexible, number, strict, writing
from parrotlab.evals.scoring import math_scores

needs_math_verify = pytest.mark.skipif(not symbolic.available(), reason="math-verify is not installed")


@pytest.fixture
def no_child(monkeypatch):
    """Any comparison by math-verify fails the test."""
    monkeypatch.setattr(symbolic, "Child", None)
    symbolic.equal.cache_clear()


@pytest.mark.parametrize(
    "text",
    ["#### 1,234", "So it is 1234 dollars.", "The answer is $1,234.00.", r"\boxed{1234}", r"\boxed 1234", "1234"],
)
def test_a_number_is_right_wherever_and_however_it_is_written(text, no_child):
    assert flexible(text, "1234")


@pytest.mark.parametrize("text", ["", "no idea", "12345", "-1234", "The answer is 7. Then 1234", "1234/5 + 6"])
def test_another_number_is_wrong(text, no_child):
    assert not flexible(text, "1234")


def test_strict_asks_for_a_mark_and_flexible_does_not():
    assert math_scores("It costs 5", ("5",)) == {"exact_match": 1.0, "strict": 0.0}
    assert math_scores("It costs 7\n#### 5", ("5",)) == {"exact_match": 1.0, "strict": 1.0}


def test_whole_numbers_must_agree_exactly_and_others_to_three_digits_behind_the_point(no_child):
    assert not flexible("123456790", "123456789")
    assert flexible("2.6667", "2.6666666666666665")
    assert not flexible("0.0005", "0.0001")
    assert flexible("2.0107e-06", "2.0107e-06")


def test_a_number_is_read_whole_or_not_at_all():
    assert (number("1,2"), number("1,200"), number("twelve"), number("3 4")) == (None, 1200, None, None)


def test_looks_of_latex_do_not_count():
    assert writing(r"\left( 3,\; \dfrac{1}{2} \right)") == writing(r"(3, \frac{1}{2})")
    assert strict(r"So $x = \boxed{\text{(C)}}$.", "(C)") == (writing(r"\text{(C)}") == "(C)")


@needs_math_verify
@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("0.5", r"\frac{1}{2}"),
        ("5^2", "25"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"\frac{10}{2}", "5"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
    ],
)
def test_formulas_that_are_equal_are_right_in_flexible_mode_alone(answer, gold):
    assert math_scores(f"Hence \\boxed{{{answer}}}.", (gold,)) == {"exact_match": 1.0, "strict": 0.0}


@needs_math_verify
@pytest.mark.parametrize("answer", [r"\frac{1}{3}", "x^2+1", r"\text{Tuesday}"])
def test_formulas_that_differ_are_wrong(answer):
    assert not flexible(f"\\boxed{{{answer}}}", r"\frac{1}{2}")


@needs_math_verify
def test_an_answer_that_never_ends_is_wrong_in_time_and_the_next_one_is_judged(monkeypatch):
    monkeypatch.setattr(symbolic, "SECONDS", 1.0)
    began = time.monotonic()
    assert not flexible(r"\boxed{9^{9^{9^{9}}}}", "42")
    assert time.monotonic() - began < symbolic.SECONDS + 3
    assert flexible(r"\boxed{\frac{84}{2}}", "42")


@needs_math_verify
@pytest.mark.parametrize(
    "answer",
    [
        "__import__('os').system('echo 42')",
        "9**9**9",
        "{" * 100 + "}" * 100,
        "}" * 50 + "{" * 50,
        r"\frac{" * 40 + "1" + "}{2}" * 40,
        "42\x00",
        "\ud800",
        "'" * 200,
    ],
)
def test_hostile_answers_are_wrong(answer):
    assert not flexible(f"\\boxed{{{answer}}}", "42.5")


@needs_math_verify
def test_code_in_an_answer_leaves_no_trace(tmp_path):
    trace = tmp_path / "trace"
    for code in (
        f"open('{trace}','w')",
        f"__import__('pathlib').Path('{trace}').touch()",
        f"\\text{{open('{trace}')}}",
    ):
        assert not symbolic.equal("x", code)
    assert not trace.exists()


@pytest.mark.parametrize("text", ["(" * 2_000_000, r"\boxed{" * 300_000, "7" * 2_000_000, "a " * 1_000_000])
def test_megabytes_are_wrong_at_once(text, no_child):
    began = time.monotonic()
    assert math_scores(text, ("42",)) == {"exact_match": 0.0, "strict": 0.0}
    assert time.monotonic() - began < 2


@needs_math_verify
def test_a_child_may_not_grow_nor_write_nor_have_children():
    child = symbolic.Child()
    limits = [resource.prlimit(child.process.pid, limit)[0] for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
    assert limits == [MEMORY, 0]
    assert resource.prlimit(child.process.pid, resource.RLIMIT_NPROC)[0] == 0
    child.kill()


@needs_math_verify
def test_a_question_without_an_answer_in_time_or_of_a_dead_child_has_no_verdict():
    child = symbolic.Child()
    assert child.ask("1", "1", seconds=5) is True
    assert child.ask("1", "9^{9^{9^{9}}}", seconds=0.2) is None
    child.process.kill()
    assert child.ask("1", "1", seconds=5) is None
    child.kill()

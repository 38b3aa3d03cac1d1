"""The final answer of a worked problem: where it stands in the text, and whether it equals the right one.

It is compared as a number, then as normalised LaTeX; only where that does not decide is it parsed, in a process of its
own (``evals.symbolic``). Text is never handed to an interpreter.
"""

from __future__ import annotations

import re
from decimal import Decimal

from parrotlab.evals import symbolic

READ = 16_384
"""Of a longer text only its last characters are read: a final answer stands at the end."""
LONGEST = 300
"""An answer of more characters is wrong."""
TOLERANCE = Decimal("1e-3")
"""Between a number that is not whole and the right one, as PAL grades GSM-Hard (arXiv:2211.10435)."""

NUMBER = re.compile(r"-?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|-?\.\d+")
MARK = re.compile(r"####|answer is:?|answer:", re.IGNORECASE)
MATHS = re.compile(r"\$([^$\n]+)\$")
BOXES = ("\\boxed{", "\\fbox{")
BARE_BOX = re.compile(r"\\boxed ([^\s${}]+)")
DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;: ]|\^\\circ|\^\{\\circ\}|\\?%|\\?\$|\\(?:text|mathrm|textbf|mbox)(?=\{)"
)


def strict(text: str, gold: str) -> bool:
    """Is the answer marked as final (``#### 5``, ``answer is 5``, a box), or alone, and written like the right one?"""
    text = text[-READ:]
    return _same_writing(_boxed(text) or _marked(text) or text, gold)


def flexible(text: str, gold: str) -> bool:
    """Does the boxed or marked answer, or else the last number or formula, equal the right one?

    >>> flexible("He pays 3 times 4, so $12 in all.", "12")
    True
    """
    text = text[-READ:]
    if _same_writing(text, gold):
        return True
    plain = number(gold) is not None
    answer = _boxed(text)
    if not answer:
        answer = _marked(text)
        if plain and number(answer) is None and "\\" not in answer:
            answer = _last_number(answer)  # "5 apples" is 5; a fraction is left to be parsed
        if not plain and not answer:
            answer = (MATHS.findall(text) or [""])[-1].strip()
    answer = answer or _last_number(text)
    if not answer or len(answer) > LONGEST:
        return False
    if _same_writing(answer, gold):
        return True
    if plain and number(answer) is not None:
        return False
    return _balanced(answer) and symbolic.equal(gold, answer)


def number(text: str) -> Decimal | None:
    """The number that the text is, whole; None of anything else.

    >>> number("$1,234.50"), number("12 apples")
    (Decimal('1234.50'), None)
    """
    text = text.strip().rstrip(".")
    if len(text) > LONGEST or not NUMBER.fullmatch(text):
        return None
    return Decimal(text.replace(",", "").replace("$", ""))


def writing(answer: str) -> str:
    """The answer without what LaTeX and units add to its looks.

    >>> writing(r"$\\dfrac{1}{2}$."), writing(r"90^\\circ")
    ('\\\\frac{1}{2}', '90')
    """
    answer = DROPPED.sub("", answer.strip().rstrip("."))
    answer = answer.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return "".join(answer.split())


def _same_writing(answer: str, gold: str) -> bool:
    if len(answer) > LONGEST:
        return False
    one, other = number(answer), number(gold)
    if one is None or other is None:
        return writing(answer) == writing(gold)
    whole = other == other.to_integral_value()
    return one == other if whole else abs(one - other) <= TOLERANCE * min(Decimal(1), abs(other))


def _boxed(text: str) -> str:
    """What stands in the last box, its braces balanced; empty where there is none."""
    start = max(text.rfind(box) + len(box) if box in text else -1 for box in BOXES)
    if start < 0:
        return (BARE_BOX.findall(text) or [""])[-1]
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start:place].strip()
    return ""


def _marked(text: str) -> str:
    """What stands behind the first mark, to the end of its line or sentence."""
    mark = MARK.search(text)
    if mark is None:
        return ""
    line = text[mark.end() :].lstrip().partition("\n")[0].replace("\\$", "$")
    return re.split(r"\.(?:\s|$)", line, maxsplit=1)[0].strip("* $")


def _last_number(text: str) -> str:
    found = NUMBER.findall(text)
    return found[-1] if found else ""


def _balanced(answer: str) -> bool:
    depth = 0
    for letter in answer:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth < 0:
            return False
    return not depth

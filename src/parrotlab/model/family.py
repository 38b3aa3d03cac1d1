"""Families: designs that are equal by one rule, so that a comparison is fair by construction.

There are four rules, because "equal" has four meanings: active parameters, total parameters, training FLOPs,
and width. Given a design and another feed-forward, a match is the same transformer with that feed-forward, sized
by one dial: its hidden width (``free="expansion"``), or the model's width (``free="width"``). Whole numbers
rarely match to the last parameter; a match off by more than 2% is refused.

>>> from parrotlab.model.attention import Attention
>>> dense = Transformer(layers=4, width=128, attention=Attention(heads=4), feedforward=Dense())
>>> same_active(dense, Mixture(experts=16), vocabulary=512).feedforward.hidden(128)  # two of them, and a router
61
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, get_args

from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer

Rule = Literal["active", "total", "flops", "width"]
RULES: tuple[Rule, ...] = get_args(Rule)
Dial = Literal["expansion", "width"]

TOLERANCE = 0.02
"""Largest residual of a match, as a fraction."""


def same_active(
    base: Transformer, feedforward: Dense | Mixture, *, vocabulary: int, free: Dial = "expansion"
) -> Transformer:
    """``base`` with this feed-forward, sized so that a token touches as many parameters."""
    return matched(base, feedforward, "active", vocabulary=vocabulary, length=1, free=free)


def same_total(
    base: Transformer, feedforward: Dense | Mixture, *, vocabulary: int, free: Dial = "expansion"
) -> Transformer:
    """``base`` with this feed-forward, sized so that there are as many parameters in all."""
    return matched(base, feedforward, "total", vocabulary=vocabulary, length=1, free=free)


def same_flops(
    base: Transformer, feedforward: Dense | Mixture, *, vocabulary: int, length: int, free: Dial = "expansion"
) -> Transformer:
    """``base`` with this feed-forward, sized so that training on rows of ``length`` costs as many FLOPs a token."""
    return matched(base, feedforward, "flops", vocabulary=vocabulary, length=length, free=free)


def same_width(base: Transformer, feedforward: Dense | Mixture) -> Transformer:
    """``base`` with this feed-forward as it is: as wide, whatever it comes to hold or to cost."""
    return replace(base, feedforward=feedforward)


def mixtures(
    dense: Transformer, *, experts: Iterable[int], vocabulary: int, active: int = 2
) -> tuple[Transformer, ...]:
    """One mixture for each number of experts: the width and active parameters of ``dense``, ever more in total.

    The A experts of a token share the dense hidden width, less what the router takes.
    """
    gated = _feedforward(dense).gated
    return tuple(
        same_active(
            dense, Mixture(experts=number, active=active, gated=gated, renormalise=active > 1), vocabulary=vocabulary
        )
        for number in experts
    )


def dense_ladder(base: Transformer, *, widths: Iterable[int]) -> tuple[Transformer, ...]:
    """``base`` at several widths, with as many heads and with dense feed-forwards.

    A dense base lends its expansion; of a mixture, the experts that serve a token are laid side by side.
    """
    feedforward = _feedforward(base)
    if isinstance(feedforward, Mixture):
        serving = feedforward.active + feedforward.shared
        feedforward = Dense(expansion=serving * feedforward.expansion, gated=feedforward.gated)
    return tuple(replace(base, width=width, feedforward=feedforward) for width in widths)


def residuals(a: Transformer, b: Transformer, *, vocabulary: int, length: int) -> dict[Rule, float]:
    """By how much ``b`` exceeds ``a`` under each rule, as a fraction of ``a``."""
    return {rule: size(b, rule, vocabulary, length) / size(a, rule, vocabulary, length) - 1 for rule in RULES}


def size(design: Transformer, rule: Rule, vocabulary: int, length: int) -> int:
    """What the rule counts: parameters, FLOPs a token in training on rows of ``length``, or channels."""
    counts = count(design, vocabulary)
    if rule == "flops":
        return counts.training_flops_per_token(length)
    return {"active": counts.active, "total": counts.total, "width": design.width}[rule]


def matched(
    base: Transformer,
    feedforward: Dense | Mixture,
    rule: Rule,
    *,
    vocabulary: int,
    length: int,
    free: Dial = "expansion",
) -> Transformer:
    """``base`` with this feed-forward, equal to it by the rule within 2%. ``length`` matters to FLOPs alone."""
    if rule == "width":
        return same_width(base, feedforward)
    sized = _dial(base, feedforward, free)
    target = size(base, rule, vocabulary, length)
    nearest = _nearest(lambda step: size(sized(step), rule, vocabulary, length), target)
    design = sized(nearest)
    residual = size(design, rule, vocabulary, length) / target - 1
    if abs(residual) > TOLERANCE:
        raise ValueError(
            f"no design of this kind is within {TOLERANCE:.0%} of {target:,} {_UNITS[rule]}: the nearest feasible one "
            f"has {size(design, rule, vocabulary, length):,} ({residual:+.1%}), with {_description(design)}. "
            f"Start from that one, or let the other dial turn: free={'width' if free == 'expansion' else 'expansion'!r}"
        )
    return design


_UNITS: dict[Rule, str] = {
    "active": "active parameters",
    "total": "total parameters",
    "flops": "training FLOPs a token",
    "width": "width",
}


def _feedforward(design: Transformer) -> Dense | Mixture:
    assert isinstance(design.feedforward, (Dense, Mixture))
    return design.feedforward


def _description(design: Transformer) -> str:
    feedforward = _feedforward(design)
    hidden = feedforward.hidden(design.width)
    kind = f"{feedforward.experts} experts" if isinstance(feedforward, Mixture) else "a dense feed-forward"
    return f"width {design.width}, {kind} of hidden width {hidden} (expansion {hidden / design.width:g})"


def _dial(base: Transformer, feedforward: Dense | Mixture, free: Dial) -> Callable[[int], Transformer]:
    """The designs that a dial runs through, from its first step, 1, on; each step is larger by every rule."""
    if free == "expansion":
        return lambda step: replace(base, feedforward=replace(feedforward, expansion=step / base.width))
    grain = 2 * base.attention.heads  # rotary positions turn pairs of channels, in each head
    feedforward.hidden(base.width)  # refuses an expansion that leaves no hidden channel
    first = 1 + int(0.5 / (feedforward.expansion * grain))
    return lambda step: replace(base, width=grain * (first + step - 1), feedforward=feedforward)


def _nearest(size_of: Callable[[int], int], target: int) -> int:
    """The step whose size is nearest to the target; sizes grow with the steps."""
    above = 1
    while size_of(above) < target:
        above *= 2
    below = above // 2  # 0, or a step that is too small
    while above - below > 1:
        middle = (below + above) // 2
        if size_of(middle) < target:
            below = middle
        else:
            above = middle
    if below and target - size_of(below) <= size_of(above) - target:
        return below
    return above

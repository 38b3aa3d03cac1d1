"""``parrotlab theory``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg, subcommand

from parrotlab.cli._show import say, show_json, show_table


def bound(*, vertices: int = 64, heads: int = 1, precision: int = 16, error: float = 0.0, json: bool = False) -> int:
    """Print the width below which a one-layer model must fail at length-2 path, and one that suffices (3.2, 3.3).

    Args:
        vertices: Of the graph, source and destination among them.
        heads: Of the model; each sends its own message.
        precision: Bits a number.
        error: The fraction it may answer wrongly, of random source neighbours against one random destination neighbour.
        json: Print JSON.
    """
    from parrotlab.theory import bounds

    width = bounds.least_width(vertices, heads, precision, error)
    needed = bounds.least_message_bits(vertices, error)
    row = {
        "vertices": vertices,
        "heads": heads,
        "precision": precision,
        "error": error,
        "least_message_bits": needed,
        "least_width": width,
        "message_bits": bounds.message_bits(width, heads, precision),
        "construction_width": int(bounds.critical_widths([vertices]).construction_width[0]),
    }
    if json:
        show_json(row)
        return 0
    show_table([{name.replace("_", " "): value for name, value in row.items()}])
    say(f"(D + H) p >= {needed:.4g} bits: no width below {width} will do, with any number of experts")
    return 0


def experts(*, vertices: int = 64, heads: int = 1, precision: int = 16, json: bool = False) -> int:
    """Print the number of experts from which a mixture as large as the dense construction must fail (corollary 3.4).

    Args:
        vertices: Of the graph, source and destination among them.
        heads: Of the mixture.
        precision: Bits a number.
        json: Print JSON.
    """
    from parrotlab.theory import bounds

    first = bounds.failing_experts(vertices, heads, precision)
    numbers = sorted({2**power for power in range(first.bit_length() + 1)} | {first})
    rows = bounds.equal_total(vertices, numbers, heads, precision).to_dict("records")
    if json:
        show_json({"failing_experts": first, "curve": rows})
        return 0
    show_table([{str(name).replace("_", " "): value for name, value in row.items()} for row in rows])
    say(f"at equal total parameters a mixture must fail from {first} experts on")
    return 0


def construct(*, output: Path, vertices: int = 64, precision: int = 16) -> int:
    """Write the dense construction (theorem 3.3) as a checkpoint, having tried it at a precision.

    Args:
        output: The safetensors file to write.
        vertices: Of the graph, source and destination among them.
        precision: Bits a number at which it must be right on every kind of input.
    """
    from safetensors.torch import save_file

    from parrotlab.theory import length_two_path

    length_two_path.check_precision(vertices, precision)
    save_file({name: weight.contiguous() for name, weight in length_two_path.weights(vertices).items()}, output)
    width = length_two_path.design(vertices).width
    say(f"{output}: width {width}, right on every kind of question at {precision} bits a number")
    return 0


def verify(*, json: bool = False) -> int:
    """Run the theorems at small size; exit with 1 if a check fails.

    Args:
        json: Print JSON.
    """
    from parrotlab.theory.verify import verify as checks

    rows = [check._asdict() for check in checks()]
    failed = [row for row in rows if not row["passed"]]
    (show_json if json else show_table)(rows)
    for row in failed:
        say(f"{row['theorem']} fails: {row['what']}")
    say(f"{len(rows) - len(failed)} of {len(rows)} checks hold")
    return 1 if failed else 0


Asked = (
    Annotated[int, subcommand("bound", constructor=bound)]
    | Annotated[int, subcommand("experts", constructor=experts)]
    | Annotated[int, subcommand("construct", constructor=construct)]
    | Annotated[int, subcommand("verify", constructor=verify)]
)


def theory(asked: Annotated[Asked, arg(name="")]) -> int:
    """Print the bounds of the paper's theorems, write its construction, or run them all.

    Args:
        asked: What to do; ``parrotlab theory bound --help`` explains the first.
    """
    return asked

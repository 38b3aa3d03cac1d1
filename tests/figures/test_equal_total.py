import pandas as pd
import pytest

from parrotlab.figures.equal_total import equal_total
from parrotlab.figures.picture import svg


@pytest.fixture
def curve():
    """Widths that fall as the square root, excluded below 20 at 8 bits and below 10 at 16."""
    experts = [1, 4, 16, 64, 256]
    widths = [int(160 / number**0.5) for number in experts]  # 160, 80, 40, 20, 10
    return pd.concat(
        pd.DataFrame(
            {"vertices": 100, "precision": precision, "experts": experts, "dense_width": 160}
            | {"sparse_width": widths, "least_width": least, "fails": [width < least for width in widths]}
        )
        for precision, least in ((8, 24), (16, 8))
    )


def test_the_width_left_is_drawn_against_the_number_of_experts(curve):
    lines = equal_total(curve).figure.axes[0].lines
    assert [160, 80, 40, 20, 10] in [list(line.get_ydata()) for line in lines]


def test_the_first_mixture_that_must_fail_is_marked_at_each_precision(curve):
    picture = equal_total(curve)
    spots = [tuple(spot) for cloud in picture.figure.axes[0].collections for spot in cloud.get_offsets().tolist()]
    assert spots == [(64, 20)]  # at 16 bits none is excluded
    assert "fails from K = 64" in svg(picture)


def test_the_picture_is_told_in_words_also_where_nothing_fails(curve):
    says = equal_total(curve).says
    assert "at 8 bits a number it fails from K = 64" in says
    assert "at 16 bits a number none of those drawn is excluded" in says

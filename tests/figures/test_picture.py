import io

import pandas as pd

from parrotlab.figures.picture import pdf, save, svg, themed
from parrotlab.figures.score_by_parameters import score_by_parameters
from parrotlab.figures.style import COLOURS


def test_equal_tables_give_equal_bytes(points):
    one, other = (score_by_parameters(points.copy(), "total", "recall") for _ in range(2))
    assert svg(one) == svg(other)
    assert pdf(one) == pdf(other)


def test_the_text_of_a_picture_is_text(points):
    drawing = svg(score_by_parameters(points, "total", "recall of numbers"))
    assert ">recall of numbers</text>" in drawing


def test_the_csv_holds_the_plotted_points(points, tmp_path):
    picture = score_by_parameters(points, "total", "recall")
    vector, document, numbers = save(picture, tmp_path / "a" / "recall.by.total")
    assert [path.name for path in (vector, document, numbers)] == [
        f"recall.by.total.{kind}" for kind in ("svg", "pdf", "csv")
    ]
    assert document.read_bytes().startswith(b"%PDF")
    read = pd.read_csv(io.StringIO(numbers.read_text()))
    pd.testing.assert_frame_equal(read, picture.plotted, check_dtype=False, rtol=1e-5)


def test_a_themed_picture_leaves_every_colour_of_the_house_to_the_page(points):
    drawing = themed(svg(score_by_parameters(points, "total", "recall")))
    assert "var(--dense)" in drawing
    assert not [name for name, (light, _) in COLOURS.items() if light in drawing]

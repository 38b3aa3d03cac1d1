from parrotlab.figures.exchange_rates import SHOWN, exchange_rates
from parrotlab.figures.picture import svg


def drawn(picture):
    """The places of the dots, panel by panel."""
    return [[float(dot.get_offsets()[0][0]) for dot in axes.collections] for axes in picture.figure.axes]


def test_every_task_has_a_panel_and_every_mixture_a_dot(rates):
    picture = exchange_rates(rates)
    assert [axes.get_title(loc="left") for axes in picture.figure.axes] == ["phone book", "shortest path"]
    assert drawn(picture)[0] == list(rates.rate[rates.task == "phone book"])


def test_nothing_and_a_whole_dense_parameter_are_marked_in_every_panel(rates):
    for axes in exchange_rates(rates).figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0, 1]


def test_a_bound_is_marked_as_one(rates):
    drawing = svg(exchange_rates(rates))
    assert "≥ 1.10" in drawing
    assert "≤ −0.10" in drawing


def test_a_rate_beyond_the_axis_is_drawn_at_its_edge_and_told_in_full(rates):
    rates.loc[0, ["rate", "low", "high"]] = [7.5, 6.0, 9.0]
    picture = exchange_rates(rates)
    assert drawn(picture)[0][0] < SHOWN[1]
    assert ">7.50</text>" in svg(picture)


def test_a_single_seed_has_no_interval(rates):
    rates[["low", "high"]] = float("nan")
    rates["bound"] = ""
    for axes in exchange_rates(rates).figure.axes:
        assert all(line.get_xdata()[0] == line.get_xdata()[1] for line in axes.lines)


def test_without_rates_the_picture_says_so(rates):
    assert "none measured" in exchange_rates(rates.iloc[:0]).says

"""Figures of the readings and of where masked images go: what is printed and drawn is what the tables hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from lib.figures.masked_predictions import draw_predicted_shares, draw_where_masked_go
from lib.figures.readings import OUTCOME_STYLES, draw_claims_by_reading, reading_label
from lib.figures.style import PHASE_COLOURS
from lib.paper import PHASES

plt.switch_backend("agg")
OUTCOMES = {("C52", "a"): "supported", ("C52", "b"): "contradicted", ("C51", "a"): "inconclusive",
            ("C57", "a"): "supported", ("C57", "sam_no_blur"): "contradicted"}  # fmt: skip
DIFFERENCES = {"a": {}, "b": {"fill": "zero", "fraction": 0.05}}


def claims(outcomes=True):
    rows = [(claim, reading, outcome if outcomes else "", 1, 3, -12.4 + 20 * n)
            for n, ((claim, reading), outcome) in enumerate(OUTCOMES.items())]  # fmt: skip
    return pd.DataFrame(rows, columns=["claim", "reading", "outcome", "supported", "of_parts", "mean"])


def texts(figure):
    figure.canvas.draw()
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def test_each_claim_and_reading_has_the_colour_and_the_sign_of_its_outcome():
    figure = draw_claims_by_reading(claims(), DIFFERENCES)
    panel = figure.axes[0]
    colours = [to_hex(cell.get_facecolor()) for cell in panel.patches if isinstance(cell, Rectangle)]
    assert colours == [OUTCOME_STYLES[outcome][0] for outcome in OUTCOMES.values()]
    printed = texts(figure)
    assert printed.count("1/3") == 5
    assert [printed.count(symbol) for _, _, symbol in OUTCOME_STYLES.values()] == [2, 1, 2]
    labels = [label.get_text() for label in panel.get_xticklabels()]
    assert labels == ["as in 06", "zero, 5 %", "SAM without blur"]
    assert {"Default", "Several at once", "In place of SAM"} <= set(printed)
    rows = [label.get_text()[-3:] for label in panel.get_yticklabels()]
    assert rows == ["C51", "C52", "C57"], "claims in the order of their numbers"


def test_a_single_network_shows_numbers_and_no_verdict():
    figure = draw_claims_by_reading(claims(outcomes=False), DIFFERENCES)
    printed = texts(figure)
    assert [text for text in printed if text in ("−12", "8", "28", "48", "68")] == ["−12", "8", "28", "48", "68"]
    assert not {"+", "?", "−", "1/3"} & set(printed) and not figure.legends


@pytest.mark.parametrize(
    ("differs", "words"),
    [({}, "as in 06"), ({"score": "probability"}, "probability"), ({"fraction": 0.2, "within": "body"}, "20 %, body")],
)
def test_a_reading_is_named_by_what_differs(differs, words):
    assert reading_label(differs) == words


def example_shares():
    shares = np.random.default_rng(0).dirichlet(np.ones(5), 10).reshape(2, 5, 5)
    rows = [(*mask, phase, predicted, shares[m, i, j])
            for m, mask in enumerate([("cam", "conv6", "top"), ("random_body", "-", "random")])
            for i, phase in enumerate(PHASES) for j, predicted in enumerate(PHASES)]  # fmt: skip
    return shares, pd.DataFrame(rows, columns=["method", "layer", "region", "phase", "predicted", "share"])


def test_heat_maps_have_labelled_phases_in_rows_and_their_shares_in_per_cent():
    shares, table = example_shares()
    rows = [("cam", "conv6", measure, less, phase, 10.0 * n)
            for measure in ("relative_probability", "log_odds") for less in (False, True)
            for n, phase in enumerate((*PHASES, "mean"))]  # fmt: skip
    changes = pd.DataFrame(rows, columns=["method", "layer", "measure", "less_control", "phase", "value"])
    figure = draw_where_masked_go(table, changes, [("random_body", "-", "random"), ("cam", "conv6", "top")])
    drawn = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title() for panel in drawn[:2]] == ["Random, body", "CAM, 6"]
    for panel, expected in zip(drawn, shares[::-1], strict=False):
        np.testing.assert_allclose(panel.images[0].get_array(), 100 * expected)
    title = "Relative probability\nminus its control (points)"
    (panel,) = (panel for panel in figure.axes if panel.get_title() == title)
    points = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"]
    assert points == [0.0, 10.0, 20.0, 30.0, 40.0]


def test_bars_of_a_fill_fill_the_row():
    rows = [(network, fill, phase, share) for network in ("one", "two") for fill in ("none", "zero")
            for phase, share in zip(PHASES, (0.1, 0.2, 0.3, 0.15, 0.25), strict=True)]  # fmt: skip
    figure = draw_predicted_shares(pd.DataFrame(rows, columns=["network", "fill", "predicted", "share"]))
    assert [panel.get_title() for panel in figure.axes] == ["one", "two"]
    bars = figure.axes[1].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], np.repeat([10, 20, 30, 15, 25], 2))
    assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(100)
    assert [to_hex(bar.get_facecolor()) for bar in bars[::2]] == list(PHASE_COLOURS.values())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["not masked", "zero"]

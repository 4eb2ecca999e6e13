"""Figures of the sanity checks and of the deletion curves, from fixed tables."""

import numpy as np
import pandas as pd
import pytest

from lib.figures.deletion import draw_deletion
from lib.figures.sanity import draw_sanity
from lib.figures.style import STYLE

baseline = pytest.mark.mpl_image_compare(style=STYLE, tolerance=5, savefig_kwargs={"dpi": 60})
MAPS = [("saliency", "input"), ("cam", "conv6"), ("grad_cam", "conv2b"), ("grad_cam", "conv6"), ("sam", "conv2b"),
        ("sam", "conv6")]  # fmt: skip
STAGES = ["phase", "conv6", "conv3a", "conv1a"]


def example_sanity():
    rows, compared = [], []
    for n, (method, layer) in enumerate(MAPS):
        for measure, floor in (("rank_correlation", 0.0), ("ssim", 0.2), ("overlap", 0.1)):
            for at, stage in enumerate(STAGES):
                mean = floor + (1 - floor) * np.exp(-0.25 * (n + 1) * (at + 1))
                intact = layer != "input" and (at == 0 or (layer == "conv2b" and at < 3))
                rows.append((method, layer, stage, intact, measure, mean, mean - 0.1, mean + 0.1))
        for m, against in enumerate(("all", "intact", "other seeds", "edges")):
            if (against, layer) != ("intact", "input"):
                mean = np.sin(n + 2 * m)
                compared.append((method, layer, against, mean, mean - 0.1, mean + 0.1))
    bounds = ["mean", "low", "high"]
    return (
        pd.DataFrame(rows, columns=["method", "layer", "stage", "intact", "measure", *bounds]),
        pd.DataFrame(compared, columns=["method", "layer", "against", *bounds]),
    )


def example_deletion():
    shares, rows, areas = np.array([0, 0.02, 0.1, 0.3, 0.6, 1]), [], []
    controls = {name: ("blocks", name[1]) if name[1] != "input" else ("random", "-") for name in MAPS}
    speeds = {(*name, "top"): 3 + n for n, name in enumerate(MAPS)} | {(*name, "bottom"): 1.0 for name in MAPS}
    speeds |= {(*name, "random"): 2.0 for name in controls.values()} | {("disc", "-", "top"): 2.5}
    for (method, layer, region), speed in speeds.items():
        values = 100 * np.exp(-speed * shares)
        rows += [("mean", method, layer, region, f, v, 0.8 * v, 1.2 * v) for f, v in zip(shares, values, strict=True)]
    areas = [("mean", *name, "between", 10.0 * n - 5, 10.0 * n - 9, 10.0 * n) for n, name in enumerate(MAPS)]
    bounds = ["value", "low", "high"]
    return (
        pd.DataFrame(rows, columns=["phase", "method", "layer", "region", "fraction", *bounds]),
        pd.DataFrame(areas, columns=["phase", "method", "layer", "area", *bounds]),
        controls,
    )


@baseline
def test_sanity_figure():
    return draw_sanity(*example_sanity(), stages=STAGES, threshold=0.5)


@baseline
def test_deletion_figure():
    return draw_deletion(*example_deletion())


def test_points_are_open_where_the_maps_own_layer_is_random():
    figure = draw_sanity(*example_sanity(), stages=STAGES, threshold=0.5)
    panel = next(axes for axes in figure.axes if axes.get_title() == "SAM")
    points = [line for line in panel.lines if line.get_label() == "_points"]
    filled = [list(line.get_xdata()) for line in points if line.get_markerfacecolor() != "white"]
    assert filled == [[0, 1, 2, 3], [0, 1]]  # 2b until conv1a, 6 until conv6
    assert [len(line.get_xdata()) for line in points if line.get_markerfacecolor() == "white"] == [1, 3]


def test_numbers_above_the_threshold_are_bold():
    figure = draw_sanity(*example_sanity(), stages=STAGES, threshold=0.5)
    printed = {text.get_text(): text.get_fontweight() for axes in figure.axes for text in axes.texts}
    assert printed["0.91"] == "bold" and printed["0.00"] == "normal"
    numbers = sum("." in text.get_text() for axes in figure.axes for text in axes.texts)
    assert numbers == len(example_sanity()[1])


def test_each_map_has_its_own_control_and_its_area():
    curves, areas, controls = example_deletion()
    figure = draw_deletion(curves, areas, controls)
    shown = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    names = [title.partition("\n")[0] for title in shown]
    assert names == ["Saliency", "CAM, 6", "Grad-CAM, 2b", "Grad-CAM, 6", "SAM, 2b", "SAM, 6"]
    assert "Saliency\n−5 [−9, 0]" in shown
    control = next(line for line in shown["SAM, 6\n45 [41, 50]"].lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(control.get_ydata(), 100 * np.exp(-2 * control.get_xdata() ** 2))

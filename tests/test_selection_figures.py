"""Figures of many networks against small baseline images (pytest --mpl)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.figures.prediction import draw_confusions
from lib.figures.selection import draw_learning, draw_metrics, draw_stages
from lib.figures.style import STYLE
from lib.paper import PHASES

plt.switch_backend("agg")
baseline = pytest.mark.mpl_image_compare(style=STYLE, tolerance=5, savefig_kwargs={"dpi": 60})
COLUMNS = ["stage", "size", "channels", "layers", "weights", "reads"]


def example_stages(blocks):
    stages = [(str(n + 1), 128 >> n, 16 << (n // 2), 2, 100, "") for n in range(blocks)]
    rows = [("image", 128, 1, 0, 0, ""), *stages, ("head", 1, 5, 1, 325, "average")]
    return pd.DataFrame(rows, columns=COLUMNS)


def example_metrics():
    rng, rows = np.random.default_rng(0), []
    groups = {"a": "grid", "b": "grid", "c": "three_slices", "VGG16": "references"}
    for name, group in groups.items():
        for split in ("val", "test"):
            rows.append((name, group, split, *rng.uniform(0.7, 1, 4)))
    return pd.DataFrame(rows, columns=["network", "group", "split", "precision", "recall", "f1", "auc"])


@baseline
def test_stages_figure():
    return draw_stages({f"{n} blocks": example_stages(n) for n in (4, 5, 6)})


@baseline
def test_metrics_figure():
    return draw_metrics(example_metrics(), {name: f"network {name}" for name in ("a", "b", "c", "VGG16")}, "b")


@baseline
def test_learning_figure():
    epochs = np.arange(1, 11)
    learned = pd.DataFrame({"epoch": epochs, "loss": 1.6 / epochs, "val_loss": 0.2 + 1.4 / epochs + 0.01 * epochs})
    stuck = pd.DataFrame({"epoch": epochs[:3], "loss": 1.61, "val_loss": [1.61, 1.62, 9.0]})
    curves = []
    for k, phase in enumerate(PHASES):
        for x in np.linspace(0, 1, 9):
            curves += [("ours", phase, x, x ** (0.1 * (k + 1))), ("VGG16", phase, x, x)]
    roc = pd.DataFrame(curves, columns=["network", "phase", "false_positive_rate", "true_positive_rate"])
    return draw_learning({"ours": learned, "VGG16": stuck}, roc, {"ours": 0.9, "VGG16": 0.5})


def test_confusion_matrices_stand_in_rows():
    matrix = pd.DataFrame(np.diag(range(1, 6)), PHASES, PHASES)
    figure = draw_confusions({str(n): matrix for n in range(4)}, columns=3)
    panels = [panel for panel in figure.axes if panel.get_title()]
    tops = [round(panel.get_subplotspec().rowspan.start) for panel in panels]
    assert [panel.get_title() for panel in panels] == list("0123") and tops == [0, 0, 0, 1]

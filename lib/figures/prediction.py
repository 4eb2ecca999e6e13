"""Figures of how well a network predicts: training curves, ROC curves, confusion matrices."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from lib.figures.style import PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

SCHEME_TITLES = {"single": "Single slices", "voting": "Voting"}


def draw_training_and_roc(history: pd.DataFrame, roc: pd.DataFrame, table2: pd.DataFrame) -> Figure:
    """Draw S4: loss and accuracy by epoch, and ROC curves one against all.

    Parameters
    ----------
    history : DataFrame
        `epoch`, `loss`, `val_loss`, `accuracy`, `val_accuracy`.
    roc : DataFrame
        `scheme` (single, voting), `phase`, `false_positive_rate`, `true_positive_rate`.
    table2 : DataFrame
        Index (scheme, phase); `roc_auc`.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 130, 2, 2)
        for panel, name, label in zip(axes[0], ("loss", "accuracy"), ("Loss (cross-entropy)", "Accuracy"), strict=True):
            for prefix, title, style in (("", "training", "-"), ("val_", "validation", "--")):
                panel.plot(history["epoch"], history[prefix + name], style, color="black", label=title)
            panel.set(xlabel="Epoch", ylabel=label)
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.legend()
        axes[0, 1].set_ylim(0, 1)
        for panel, (scheme, title) in zip(axes[1], SCHEME_TITLES.items(), strict=True):
            for phase, points in roc[roc["scheme"] == scheme].groupby("phase", sort=False):
                rates = points["false_positive_rate"], points["true_positive_rate"]
                label = f"{PHASE_TITLES[phase]}, {table2.loc[(scheme, phase), 'roc_auc']:.3f}"
                panel.plot(*rates, color=PHASE_COLOURS[phase], label=label)
            panel.plot([0, 1], [0, 1], ":", color="0.6", linewidth=0.6)
            panel.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="False-positive rate", ylabel="True-positive rate")
            panel.set_title(title)
            panel.set_box_aspect(1)
            panel.legend(title="Phase against all, AUC", loc="lower right", frameon=True, edgecolor="none")
    return figure


def draw_confusions(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw confusion matrices, rows predicted and columns labelled, shaded by the share of the labelled phase."""
    names = [PHASE_TITLES[phase] for phase in PHASES]
    with paper_style():
        height = 3 + (TWO_COLUMNS_MM - 22) / len(matrices)  # that of square panels with their labels
        figure, axes = axes_mm(TWO_COLUMNS_MM, height, 1, len(matrices), squeeze=False, layout="compressed")
        for panel, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
            counts = matrix.loc[list(PHASES), list(PHASES)].to_numpy()
            shares = counts / np.maximum(counts.sum(axis=0), 1)
            seaborn.heatmap(
                shares, annot=counts, fmt="d", cmap="Greys", vmin=0, vmax=1, cbar=False, square=True, ax=panel
            )
            panel.set_xticks(np.arange(5) + 0.5, names, rotation=30, ha="right", rotation_mode="anchor")
            panel.set_yticks(np.arange(5) + 0.5, names, rotation=0)
            panel.set(xlabel="Labelled phase", ylabel="Predicted phase", title=title)
            panel.spines[:].set_visible(True)
        figure.colorbar(axes[0, -1].collections[0], ax=axes, shrink=0.7, label="Share of the labelled phase")
    return figure

"""Figures of how well a network predicts: training curves, ROC curves and confusion matrices."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures.style import CHANCE_COLOUR, ONE_COLUMN_MM, PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, count, paper_style
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

SCHEME_TITLES = {"single": "Single slices", "voting": "Voting"}


def draw_training_and_roc(history: pd.DataFrame, roc: pd.DataFrame, table2: pd.DataFrame) -> Figure:
    """Draw Fig S4: loss and accuracy by epoch, and ROC curves of each phase with the upper left corner enlarged.

    Parameters
    ----------
    history : DataFrame
        `epoch`, `loss`, `val_loss`, `accuracy`, `val_accuracy`, `stage`; a grey line stands where a stage begins.
    roc : DataFrame
        `scheme` (single, voting), `phase`, `false_positive_rate`, `true_positive_rate`, `threshold`. The part of a
        curve that no threshold divides, since all cases there have the score 0, is dotted.
    table2 : DataFrame
        Index (scheme, phase); `roc_auc`.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 138, 2, 2, height_ratios=(1, 1.35))
        guess = {"loss": np.log(len(PHASES)), "accuracy": 1 / len(PHASES)}
        for panel, name, label in zip(axes[0], guess, ("Loss (cross-entropy)", "Accuracy"), strict=True):
            for prefix, title, style in (("", "training", "-"), ("val_", "validation", "--")):
                panel.plot(history["epoch"], history[prefix + name], style, color="black", label=title)
            panel.axhline(guess[name], color=CHANCE_COLOUR, linewidth=0.6, linestyle=":", label="guessing")
            for epoch in history["epoch"][history["stage"].diff() > 0]:
                panel.axvline(epoch - 0.5, color="0.6", linewidth=0.8)
            panel.set(xlabel="Epoch", ylabel=label, ylim=(0, 1 if name == "accuracy" else None))
            panel.xaxis.get_major_locator().set_params(integer=True)
        axes[0, 0].legend(loc=(0.7, 0.55))
        for panel, (scheme, title) in zip(axes[1], SCHEME_TITLES.items(), strict=True):
            panel.plot([0, 1], [0, 1], ":", color=CHANCE_COLOUR, linewidth=0.6)
            inset = panel.inset_axes((0.36, 0.31, 0.58, 0.58))
            rows = roc[roc["scheme"] == scheme]
            for axes_of in (panel, inset):
                _draw_roc(axes_of, rows, [table2.loc[(scheme, phase), "roc_auc"] for phase in PHASES])
            low, high = _corner(rows)
            inset.set(xlim=(-0.03 * low, low), ylim=(high, 1 + 0.03 * (1 - high)))
            inset.spines[:].set_visible(True)
            words = "upper left corner,\nenlarged"
            inset.text(0.97, 0.04, words, fontsize=6, ha="right", va="bottom", transform=inset.transAxes)
            inset.tick_params(labelsize=6)
            panel.indicate_inset_zoom(inset, edgecolor="0.5", linewidth=0.6, alpha=1)
            panel.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="False-positive rate", ylabel="True-positive rate")
            panel.set_title(title)
            panel.set_box_aspect(1)
            panel.legend(*panel.get_legend_handles_labels(), loc="lower right", ncols=2, columnspacing=1,
                         title="Phase against all others, AUC")  # fmt: skip
    return figure


def draw_f1_differences(table: pd.DataFrame, reference: str = "network") -> Figure:
    """Draw F1 by phase of several classifiers, and the difference of each from the reference.

    Parameters
    ----------
    table : DataFrame
        As from `lib.organ_baseline.compare_rulers`: `classifier`, `phase` (and "mean"), `f1`, `f1_difference`
        from the reference, `low`, `high` (95 % interval of the difference), `n_slices`, `n_patients`.
    reference : str
        The classifier that the others are compared with.
    """
    rows = [phase for phase in (*PHASES, "mean") if phase in set(table["phase"])]
    others = [name for name in dict.fromkeys(table["classifier"]) if name != reference]
    styles = dict(
        zip([reference, *others], (("o", "black"), ("s", "#997700"), ("D", "#ccaa44"), ("^", "0.5")), strict=False)
    )
    facts = table[table["classifier"] == reference].set_index("phase")
    with paper_style():
        figure, (left, right) = axes_mm(TWO_COLUMNS_MM, 16 + 9 * len(rows), 1, 2, sharey=True, width_ratios=(1, 1.4))
        for n, (name, (marker, colour)) in enumerate(styles.items()):
            mine = table[table["classifier"] == name].set_index("phase").loc[rows]
            at = np.arange(len(rows)) + 0.22 * (n - (len(styles) - 1) / 2)
            style = {"color": colour, "marker": marker, "markersize": 3.5, "linestyle": "none"}
            left.plot(mine["f1"], at, label=name.capitalize(), **style)
            if name != reference:
                right.plot(mine["f1_difference"], at, **style)
                right.hlines(at, mine["low"], mine["high"], color=colour, linewidth=1)
        right.axvline(0, color="0.6", linewidth=0.6)
        names = [PHASE_TITLES.get(phase, "Mean of the phases") for phase in rows]
        counts = [count(*facts.loc[phase, ["n_slices", "n_patients"]]) for phase in rows]
        left.set_yticks(range(len(rows)), [f"{name}\n{fact}" for name, fact in zip(names, counts, strict=True)])
        left.set_ylim(len(rows) - 0.5, -0.5)
        for panel in (left, right):
            panel.hlines(np.arange(len(rows) - 1) + 0.5, 0, 1, color="0.9", linewidth=0.5,
                         transform=panel.get_yaxis_transform())  # fmt: skip
            panel.tick_params(axis="y", length=0)
        left.set(xlabel="F1, single slices", xlim=(min(0.8, table["f1"].min() - 0.02), 1.01))
        right.set_xlabel(f"F1 minus that of the {reference}, with 95 % interval\n"
                         f"← {reference} better                better than the {reference} →")  # fmt: skip
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(styles))
    return figure


def draw_confusions(matrices: Mapping[str, pd.DataFrame], columns: int = 0) -> Figure:
    """Draw confusion matrices (rows predicted, columns labelled), shaded by the share of the labelled phase.

    With `columns`, the matrices stand in rows of so many; otherwise in a single row.
    """
    names, columns = [PHASE_TITLES[phase] for phase in PHASES], columns or len(matrices)
    rows = -(-len(matrices) // columns)
    with paper_style():
        height = 3 + (TWO_COLUMNS_MM - 22) / columns  # that of square panels with their labels
        figure, axes = axes_mm(TWO_COLUMNS_MM, height * rows, rows, columns, squeeze=False, layout="compressed")
        for panel in axes.flat[len(matrices) :]:
            panel.set_axis_off()
        for panel, (title, matrix) in zip(axes.flat, matrices.items(), strict=False):
            counts = matrix.loc[list(PHASES), list(PHASES)].to_numpy()
            shares = counts / np.maximum(counts.sum(axis=0), 1)
            seaborn.heatmap(
                shares, annot=counts, fmt="d", cmap="Greys", vmin=0, vmax=1, cbar=False, square=True, ax=panel
            )
            panel.set_xticks(np.arange(5) + 0.5, names, rotation=30, ha="right", rotation_mode="anchor")
            panel.set_yticks(np.arange(5) + 0.5, names, rotation=0)
            panel.set(xlabel="Labelled phase", ylabel="Predicted phase", title=title)
            panel.spines[:].set_visible(True)
        figure.colorbar(axes[0, 0].collections[0], ax=axes, shrink=0.7, label="Share of the labelled phase")
    return figure


def draw_voting_curve(curve: pd.DataFrame) -> Figure:
    """Draw how often the labelled phase wins against the number of slices that vote.

    Parameters
    ----------
    curve : DataFrame
        As from `lib.voting.voting_curve`. The bands are 95 % intervals.
    """
    with paper_style():
        figure, panel = axes_mm(ONE_COLUMN_MM, 60)
        for choice, colour, style in (("scattered", "black", "-"), ("neighbouring", "#aa3377", "--")):
            mine = curve[curve["choice"] == choice]
            panel.fill_between(mine["slices"], mine["low"], mine["high"], color=colour, alpha=0.12, linewidth=0)
            panel.plot(mine["slices"], mine["accuracy"], style, color=colour, marker="o", markersize=2.5, label=choice)
        panel.set(xlabel="Slices that vote", ylabel="Series with the right phase", xlim=(0, curve["slices"].max() + 1))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.legend(loc="lower right", title="Slices of a series")
    return figure


def _draw_roc(panel: Axes, roc: pd.DataFrame, areas: list[float]) -> None:
    """Draw one curve per phase; the first is the widest, so that curves that coincide can all be seen."""
    curves = dict(iter(roc.groupby("phase", sort=False)))
    for n, (phase, area) in enumerate(zip(PHASES, areas, strict=True)):
        if phase not in curves:
            continue
        x, y = curves[phase]["false_positive_rate"].to_numpy(), curves[phase]["true_positive_rate"].to_numpy()
        line = {"color": PHASE_COLOURS[phase], "linewidth": 3.0 - 0.5 * n, "solid_capstyle": "butt"}
        tied = len(x) - 1 if curves[phase]["threshold"].iloc[-1] <= 0 else len(x)
        panel.plot(x[:tied], y[:tied], label=f"{PHASE_TITLES[phase]}, {area:.3f}", **line)
        panel.plot(x[tied - 1 :], y[tied - 1 :], color=PHASE_COLOURS[phase], linewidth=1, linestyle=(0, (1, 1.5)))


def _corner(roc: pd.DataFrame) -> tuple[float, float]:
    """Return the largest false-positive rate and the smallest true-positive rate of the enlarged corner."""
    near = 0.0
    for _, curve in roc.groupby("phase"):
        x, y = curve["false_positive_rate"].to_numpy(), curve["true_positive_rate"].to_numpy()
        near = max(near, np.min(np.maximum(x, 1 - y)))
    size = float(np.clip(np.ceil(2.5 * near / 0.05) * 0.05, 0.1, 0.5))
    return size, 1 - size

"""Figures of many networks: block diagrams (S1), their metrics (S2, S3), and how they learned (S5)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.figures.style import CHANCE_COLOUR, PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

METRIC_TITLES = {"precision": "Precision", "recall": "Recall", "f1": "F1", "auc": "ROC AUC"}
SPLIT_STYLES = {"val": ("validation", {"markerfacecolor": "white"}), "test": ("test", {"markerfacecolor": "black"})}
GROUP_TITLES = {"grid": "grid", "three_slices": "three slices", "references": "references"}
IMAGE, STAGE, HEAD, CHOSEN = "0.8", "#8ed3ca", "#e6cf8b", "#e3f5f2"
LOSS_LIMIT = 3.0  # losses above this are cut off
LEARNING_COLUMNS = 4  # networks beside each other


def draw_stages(networks: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw block diagrams, one per network, in two columns.

    Parameters
    ----------
    networks : mapping of str to DataFrame
        Stages by title, as from `lib.network_stages.stages_of`.

    Notes
    -----
    A box is a stage. Its height grows with the logarithm of the rows of its output, which stand in it, and its width
    with the logarithm of the channels. Below it are the number of convolutions and the channels.
    """
    rows = -(-len(networks) // 2)
    longest = max(len(stages) for stages in networks.values())
    tallest = max(np.log2(stages["size"].max()) for stages in networks.values())
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 4 + 18 * rows, rows, 2, squeeze=False)
        for panel in axes.flat:
            panel.set_axis_off()
        for panel, (title, stages) in zip(axes.T.flat, networks.items(), strict=False):
            panel.set(xlim=(-0.5, longest - 0.5), ylim=(-0.9, 1.05))
            panel.set_title(title, loc="left", pad=1, fontweight="bold", fontsize=6.5)
            panel.plot([0, len(stages) - 1], [0.5, 0.5], color="0.5", linewidth=0.6, zorder=0)
            for x, stage in enumerate(stages.itertuples()):
                _draw_stage(panel, x, stage, tallest)
    return figure


def _draw_stage(panel: Axes, x: int, stage, tallest: float) -> None:
    """Draw the box of a stage and what it consists of."""
    height = 0.25 + 0.75 * np.log2(stage.size) / tallest
    width = 0.46 + 0.03 * np.log2(stage.channels)
    colour = {"image": IMAGE, "head": HEAD}.get(stage.stage, STAGE)
    if stage.stage == "head":
        inside, below = "", (stage.reads, f"{stage.layers} dense, {stage.channels}")
    else:
        inside = str(stage.size)
        channels = f"{stage.channels} slice{'s' * (stage.channels > 1)}"
        below = ("image", channels) if stage.stage == "image" else (f"{stage.layers} conv", str(stage.channels))
    box = Rectangle(
        (x - width / 2, 0.5 - height / 2), width, height, facecolor=colour, edgecolor="black", linewidth=0.6
    )
    panel.add_patch(box)
    panel.text(x, 0.5, inside, ha="center", va="center", fontsize=6)
    for y, line in zip((-0.42, -0.82), below, strict=True):
        panel.text(x, y, line, ha="center", va="baseline", fontsize=6)


def draw_metrics(metrics: pd.DataFrame, labels: Mapping[str, str], chosen: str) -> Figure:
    """Draw the metrics of every network on validation and test, for single slices (S2) or after voting (S3).

    Parameters
    ----------
    metrics : DataFrame
        Of one scheme: `network`, `group`, `split`, `precision`, `recall`, `f1`, `auc`.
    labels : mapping of str to str
        What is printed for each network; the networks are drawn in this order.
    chosen : str
        Network to be shaded.
    """
    names = list(labels)
    group = metrics.drop_duplicates("network").set_index("network")["group"]
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 17 + 3.7 * len(names), 1, len(METRIC_TITLES), sharey=True)
        for panel, (metric, title) in zip(axes, METRIC_TITLES.items(), strict=True):
            wide = metrics.pivot_table(index="network", columns="split", values=metric).loc[names]
            panel.axhspan(names.index(chosen) - 0.5, names.index(chosen) + 0.5, color=CHOSEN, zorder=0)
            panel.hlines(range(len(names)), wide.min(axis=1), wide.max(axis=1), color="0.6", linewidth=0.6, zorder=1)
            for split, (words, style) in SPLIT_STYLES.items():
                panel.plot(wide[split], range(len(names)), "o", color="black", markersize=3, label=words, **style)
            for n in range(1, len(names)):
                if group[names[n]] != group[names[n - 1]]:
                    panel.axhline(n - 0.5, color="0.6", linewidth=0.6)
            panel.set(xlabel=title, ylim=(len(names) - 0.5, -0.5))
            panel.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(names)), labels.values())
        axes[0].get_yticklabels()[names.index(chosen)].set_fontweight("bold")
        for part in dict.fromkeys(group[names]):
            first = next(n for n, name in enumerate(names) if group[name] == part)
            axes[-1].annotate(GROUP_TITLES[part], (1.03, first), xycoords=("axes fraction", "data"), va="center",
                              fontsize=6)  # fmt: skip
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def draw_learning(histories: Mapping[str, pd.DataFrame], roc: pd.DataFrame, auc: Mapping[str, float]) -> Figure:
    """Draw Fig S5: of each network the loss by epoch, and below it the ROC curves on single test slices.

    Parameters
    ----------
    histories : mapping of str to DataFrame
        `epoch`, `loss`, `val_loss` by the network's title.
    roc : DataFrame
        `network` (its title), `phase`, `false_positive_rate`, `true_positive_rate`.
    auc : mapping of str to float
        Area under the curve by title, mean over the phases.
    """
    guess = np.log(len(PHASES))
    with paper_style():
        columns = min(len(histories), LEARNING_COLUMNS)
        rows = 2 * -(-len(histories) // columns)
        width = min(TWO_COLUMNS_MM, 12 + 34 * columns)
        figure, axes = axes_mm(width, 12 + 36 * rows, rows, columns, squeeze=False, sharey="row")
        pairs = [pair for n in range(0, rows, 2) for pair in axes[n : n + 2].T]
        for empty in np.ravel(pairs[len(histories) :]):
            empty.set_visible(False)
        for (upper, lower), (title, history) in zip(pairs, histories.items(), strict=False):
            best = history.loc[history["val_loss"].idxmin()]
            upper.axhline(guess, color=CHANCE_COLOUR, linewidth=0.6, linestyle=":", label="guessing")
            marks = "." if len(history) < 6 else ""
            upper.plot(history["epoch"], history["loss"], f"{marks}-", color="black", label="training", markersize=3)
            upper.plot(history["epoch"], history["val_loss"], f"{marks}--", color="black", label="validation",
                       markersize=3)  # fmt: skip
            upper.plot(best["epoch"], min(best["val_loss"], LOSS_LIMIT), "o", markersize=5, markerfacecolor="none",
                       color="#cc3311", label="lowest validation loss")  # fmt: skip
            upper.set(xlabel="Epoch", title=title, ylim=(0, _top(histories)))
            upper.xaxis.get_major_locator().set_params(integer=True, nbins=4)
            lower.plot([0, 1], [0, 1], ":", color=CHANCE_COLOUR, linewidth=0.6)
            for phase, curve in roc[roc["network"] == title].groupby("phase", sort=False):
                lower.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=PHASE_COLOURS[phase],
                           label=PHASE_TITLES[phase], linewidth=0.8)  # fmt: skip
            lower.text(0.97, 0.04, f"mean AUC\n{auc[title]:.3f}", ha="right", va="bottom", fontsize=6,
                       transform=lower.transAxes)  # fmt: skip
            lower.set(xlabel="False-positive rate", xlim=(-0.01, 1), ylim=(0, 1.01), xticks=(0, 0.5, 1))
            lower.set_box_aspect(1)
        for loss, rate in zip(axes[::2, 0], axes[1::2, 0], strict=True):
            loss.set_ylabel("Loss (cross-entropy)")
            rate.set_ylabel("True-positive rate")
        ncols = 4 if len(histories) > 2 else 2
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=ncols)
        figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=ncols + 1)
    return figure


def _top(histories: Mapping[str, pd.DataFrame]) -> float:
    """Return the upper end of the axis of losses: a tenth above the highest one, and never above the limit."""
    highest = max(history[["loss", "val_loss"]].max(axis=None) for history in histories.values())
    return min(LOSS_LIMIT, 1.1 * max(highest, np.log(len(PHASES))))

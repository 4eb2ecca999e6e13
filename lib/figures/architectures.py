"""Figures of 21_grad_cam_architectures, drawn from its tables and images; nothing is computed there."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from lib.figures.picture_grid import name_row, picture_grid, title_columns
from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style

KIND_COLOURS = {"resnet": "#4477aa", "vgg": "#228833", "vit": "#ee6677"}


OWN_CELLS = {"mean_mask": (0, (3, 1)), "ceiling": "-"}  # maps on a network's own cells, by the line that shows them


def kind_of(network: str) -> str:
    """Return "resnet", "vgg" or "vit"."""
    return next(kind for kind in KIND_COLOURS if network.startswith(kind))


def title_of(network: str) -> str:
    """Return a network's name as it is printed, such as "ResNet18" or "ViT tiny"."""
    kind = kind_of(network)
    return {"resnet": "ResNet", "vgg": "VGG", "vit": "ViT"}[kind] + network.removeprefix(kind).replace("_", " ")


def draw_quality(table: pd.DataFrame, references: Mapping[str, float]) -> Figure:
    """Draw accuracy (A) and EHR of Grad-CAM (B) by network, and one against the other (C).

    Parameters
    ----------
    table : DataFrame
        A row for each network and seed: network, accuracy, ehr, untrained, and what maps on the network's own cells
        reach: mean_mask, which sees no image, and ceiling, the mask itself.
    references : mapping of str to float
        EHR of maps that see no image, whatever the network.
    """
    names = list(dict.fromkeys(table["network"]))
    with paper_style():
        figure, (first, second, third) = axes_mm(TWO_COLUMNS_MM, 70, 1, 3)
        for panel, column, label, title in (
            (first, "accuracy", "Accuracy", "A"),
            (second, "ehr", "EHR of Grad-CAM", "B"),
        ):
            for at, name in enumerate(names):
                values = table.loc[table["network"] == name, column]
                colour = KIND_COLOURS[kind_of(name)]
                panel.plot(np.full(len(values), at), values, "o", markersize=3, color=colour)
                panel.plot([at - 0.3, at + 0.3], [values.mean()] * 2, color=colour)
                if column == "ehr":
                    blank = table.loc[table["network"] == name, "untrained"]
                    panel.plot(np.full(len(blank), at), blank, "x", markersize=3, color="0.4")
                    for own, style in OWN_CELLS.items():
                        level = table.loc[table["network"] == name, own].iloc[0]
                        panel.plot([at - 0.4, at + 0.4], [level] * 2, color="black", linewidth=0.8, linestyle=style)
            panel.set_xticks(range(len(names)), [title_of(name) for name in names], rotation=60, ha="right")
            panel.set(ylabel=label)
            panel.set_title(title, loc="left", fontweight="bold")
        for name, value in references.items():
            second.axhline(value, color="black", linewidth=0.6, linestyle=":", label=name)
        for own, style in OWN_CELLS.items():
            second.plot(
                [], [], color="black", linewidth=0.8, linestyle=style, label=f"{own.replace('_', ' ')}, own cells"
            )
        second.plot([], [], "x", markersize=3, color="0.4", linestyle="", label="untrained")
        second.set_yscale("log")
        second.legend(fontsize=5.5, loc="lower left")
        means = table.groupby("network", sort=False)[["accuracy", "ehr"]].mean()
        for name, row in means.iterrows():
            third.plot(row["accuracy"], row["ehr"], "o", markersize=4, color=KIND_COLOURS[kind_of(name)])
            side = -1 if row["accuracy"] > means["accuracy"].mean() else 1  # names stay within the panel
            third.annotate(title_of(name), (row["accuracy"], row["ehr"]), fontsize=5.5, textcoords="offset points",
                           xytext=(3 * side, 2), ha="left" if side > 0 else "right")  # fmt: skip
        third.set(xlabel="Accuracy", ylabel="EHR of Grad-CAM")
        third.set_title("C", loc="left", fontweight="bold")
    return figure


def draw_examples(
    images: np.ndarray, masks: np.ndarray, maps: Mapping[str, np.ndarray], titles: Sequence[str] = ()
) -> Figure:
    """Draw radiographs (rows) and the map of each network (columns), masks outlined.

    Parameters
    ----------
    images : float array (n, H, W)
    masks : bool array (n, H, W)
    maps : mapping of str to float array (n, H, W)
    titles : sequence of str
        Of the rows.
    """
    with paper_style():
        width = min(TWO_COLUMNS_MM, 38.0 * (len(maps) + 1))  # with one network, five rows are still a page
        names = 14 if titles else 0
        figure, axes = picture_grid(len(images), len(maps) + 1, 1.0, names_mm=names, titles_mm=5, width_mm=width)
        for r, panels in enumerate(axes):
            for panel in panels:
                panel.imshow(images[r], cmap="gray", vmin=0, vmax=1)
            if titles:
                name_row(panels[0], titles[r])
            panels[0].contour(masks[r], [0.5], colors="#ee6677", linewidths=0.6)
            for panel, held in zip(panels[1:], maps.values(), strict=True):
                span = np.ptp(held[r])
                panel.imshow((held[r] - held[r].min()) / (span or 1), cmap="inferno", alpha=0.6, vmin=0, vmax=1)
                panel.contour(masks[r], [0.5], colors="#66ccee", linewidths=0.6)
        title_columns(axes[0], ["Radiograph", *(title_of(name) for name in maps)])
    return figure


def draw_causes(table: pd.DataFrame) -> Figure:
    """Draw what p owes to the finding against EHR, image by image.

    Parameters
    ----------
    table : DataFrame
        network, p_lost, ehr.
    """
    with paper_style():
        figure, panel = axes_mm(86, 66)
        for mark, (network, part) in zip(itertools.cycle("os^Dv<"), table.groupby("network", sort=False), strict=False):
            panel.plot(part["p_lost"], part["ehr"], mark, markersize=2.5, alpha=0.6, markeredgewidth=0,
                       color=KIND_COLOURS[kind_of(network)], label=title_of(network))  # fmt: skip
        panel.set(xlabel="p that is lost without the pneumothorax", ylabel="EHR of Grad-CAM")
        panel.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def draw_shortcut(answers: pd.DataFrame, heats: pd.DataFrame) -> Figure:
    """Draw what networks answer to the same patients in four states (A), and the density of their heat by region (B).

    Parameters
    ----------
    answers : DataFrame
        training, state, patient, p.
    heats : DataFrame
        training, region, density: a row for each map; NaN where it is zero throughout.
    """
    colours = ("#4477aa", "#ee6677")
    with paper_style():
        figure, panels = axes_mm(TWO_COLUMNS_MM, 62, 1, 2)
        for panel, table, group, value, label in (
            (panels[0], answers, "state", "p", "p of a pneumothorax"),
            (panels[1], heats, "region", "density", "Density of heat"),
        ):
            groups, arms = list(dict.fromkeys(table[group])), list(dict.fromkeys(table["training"]))
            for k, arm in enumerate(arms):
                parts = [table.loc[(table["training"] == arm) & (table[group] == name), value].dropna()
                         for name in groups]  # fmt: skip
                half = [stats.t.ppf(0.975, max(len(part) - 1, 1)) * part.sem() for part in parts]
                panel.bar(np.arange(len(groups)) + 0.4 * k - 0.2, [part.mean() for part in parts], 0.38, yerr=half,
                          color=colours[k % 2], label=f"trained: {arm}", error_kw={"elinewidth": 0.7})  # fmt: skip
            panel.set_xticks(range(len(groups)), [name.replace(" alone", "\nalone") for name in groups])
            panel.set(ylabel=label)
        panels[0].set(ylim=(0, 1.25), yticks=np.linspace(0, 1, 6))
        panels[1].axhline(1.0, color="black", linewidth=0.6, linestyle=":")
        for panel, letter in zip(panels, "AB", strict=True):
            panel.set_title(letter, loc="left", fontweight="bold")
        panels[0].legend(fontsize=6, ncols=2, loc="upper left")
    return figure

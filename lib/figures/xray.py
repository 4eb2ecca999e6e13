"""Figures of radiographs: images with masks and maps, sizes of pneumothorax, attenuation; nothing is computed there."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures.picture_grid import name_row, picture_grid, title_columns
from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style

MASK_COLOURS = ("#ee6677", "#66ccee", "#ccbb44")


def draw_radiographs(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    names: Sequence[str] = (),
    masks: Sequence[Sequence[Sequence[np.ndarray] | None]] | None = None,
    labels: Sequence[Sequence[str]] = (),
) -> Figure:
    """Draw radiographs in a grid, with the outlines of masks.

    Parameters
    ----------
    rows : sequence of sequence of float array (H, W)
        Grey values from 0 (black) to 1 (white).
    titles, names : sequence of str
        Of the columns and of the rows.
    masks : sequence of sequence of (sequence of bool array or None), optional
        For each image the masks whose outlines are drawn, each in a colour of its own.
    labels : sequence of sequence of str
        For each image the words in its upper left corner.
    """
    count = max(len(row) for row in rows)
    height, width = rows[0][0].shape
    with paper_style():
        figure, axes = picture_grid(
            *(len(rows), count, height / width), names_mm=22 if names else 0, titles_mm=5 if titles else 0.5
        )
        for r, (panels, images) in enumerate(zip(axes, rows, strict=True)):
            for c, panel in enumerate(panels[: len(images)]):
                panel.imshow(images[c], cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
                drawn = masks[r][c] if masks is not None else None
                for colour, mask in zip(MASK_COLOURS, drawn or (), strict=False):
                    if mask.any():
                        panel.contour(mask, [0.5], colors=colour, linewidths=1.0)
                if r < len(labels):
                    panel.text(0.04, 0.93, labels[r][c], transform=panel.transAxes, va="top", color="white", fontsize=6,
                               bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.6, "pad": 1})  # fmt: skip
            if r < len(names):
                name_row(panels[0], names[r])
        title_columns(axes[0], titles)
    return figure


def draw_sizes(table: pd.DataFrame, published: Mapping[str, float]) -> Figure:
    """Draw the volume of pneumothoraces against Collins' sum (A), and the shares of the image they cover (B).

    Parameters
    ----------
    table : DataFrame
        A row per patient: sum_cm, volume_percent, gap_percent.
    published : mapping of str to float
        Quantiles of the share in patients, by name.
    """
    with paper_style():
        figure, (left, right) = axes_mm(TWO_COLUMNS_MM, 62, 1, 2)
        left.plot(table["sum_cm"], table["volume_percent"], "o", markersize=2.2, color="#4477aa", label="phantoms")
        at = np.array([0, table["sum_cm"].max()])
        left.plot(at, 4.2 + 4.7 * at, color="black", label="Collins 1995: 4.2 + 4.7 (A + B + C)")
        left.set(xlabel="A + B + C (cm)", ylabel="Volume of the pneumothorax (%)", title="A")
        left.legend(loc="upper left")
        right.hist(table["gap_percent"], np.geomspace(0.02, 20, 25), color="#4477aa")
        for name, value in published.items():
            right.axvline(value, color="black", linewidth=0.7, linestyle=":")
            right.text(value, right.get_ylim()[1], f" {name}", rotation=90, va="top", ha="right", fontsize=6)
        right.set(xscale="log", xlabel="Share of the image that the mask covers (%)", ylabel="Phantoms", title="B")
    return figure


def draw_attenuation(table: pd.DataFrame) -> Figure:
    """Draw attenuation over energy: XrayDB (symbols) and what water and hydroxyapatite make of it (lines).

    Parameters
    ----------
    table : DataFrame
        beam, energy_kev, tissue, table_per_cm, basis_per_cm.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 60, 1, table["beam"].nunique(), squeeze=False)
        colours = plt.get_cmap("tab10")(range(table["tissue"].nunique()))
        for panel, (name, part) in zip(axes[0], table.groupby("beam", sort=False), strict=True):
            for colour, (tissue, one) in zip(colours, part.groupby("tissue", sort=False), strict=True):
                panel.plot(one["energy_kev"], one["basis_per_cm"], color=colour)
                panel.plot(one["energy_kev"], one["table_per_cm"], "o", markersize=2.2, color=colour,
                           label=tissue.replace("_", " "))  # fmt: skip
            panel.set(yscale="log", xlabel="Energy (keV)", ylabel="Attenuation (1/cm)", title=f"{name} beam")
        axes[0, -1].plot([], [], "ko", markersize=2.2, label="points: the table")
        axes[0, -1].plot([], [], color="black", label="lines: two materials")
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def draw_power(spectra: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw power spectra of images: (frequency in 1/mm, power) by name."""
    with paper_style():
        figure, panel = axes_mm(86, 60)
        for name, (frequency, power) in spectra.items():
            panel.plot(frequency, power, label=name)
        panel.set(xscale="log", yscale="log", xlabel="Frequency (1/mm)", ylabel="Power of grey values (mm²)")
        panel.legend()
    return figure

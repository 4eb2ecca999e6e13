"""Figures of 22_grad_cam_dental_layers: maps of plates by layer, and what they show, as means over plates."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from lib.figures.picture_grid import name_row, picture_grid, title_columns
from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style

SHEET_MM = 144.0  # so that seventeen rows fit on a page
NETWORK_COLOURS = {"competent": "#4477aa", "undertrained": "#ccbb44", "shuffled labels": "#ee6677"}


def draw_map_sheet(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], maps: Mapping[str, np.ndarray], kinds: Sequence[str],
    what: str = "plate",
) -> Figure:  # fmt: skip
    """Draw images (rows) and their maps of each layer (columns), each map stretched to its own range.

    Parameters
    ----------
    images : sequence of float array (H, W)
        Grey values, 0 to 1.
    masks : sequence of bool array (H, W)
        Artifacts, outlined unless they cover three tenths of the image.
    maps : mapping of str to float array (n, H, W)
        By layer.
    kinds : sequence of str
        Of the rows.
    what : str
        The title of the first column.
    """
    height, width = images[0].shape
    with paper_style():
        figure, axes = picture_grid(
            *(len(images), len(maps) + 1, height / width), names_mm=27, titles_mm=5, width_mm=SHEET_MM
        )
        for r, panels in enumerate(axes):
            panels[0].imshow(images[r], cmap="gray", vmin=0, vmax=1)
            name_row(panels[0], kinds[r])
            for panel, held in zip(panels[1:], maps.values(), strict=True):
                panel.imshow(images[r], cmap="gray", vmin=0, vmax=1)
                span = np.ptp(held[r])
                panel.imshow((held[r] - held[r].min()) / (span or 1), cmap="inferno", alpha=0.65, vmin=0, vmax=1)
                if masks[r].any() and masks[r].mean() < 0.3:
                    panel.contour(masks[r], [0.5], colors="#66ccee", linewidths=0.35)
        title_columns(axes[0], [what, *maps])
    return figure


def draw_layers(clean: pd.DataFrame, spoiled: pd.DataFrame, band: str = "2 mm around teeth") -> Figure:
    """Draw what maps show by layer and network: means over plates with 95 % intervals (t).

    Parameters
    ----------
    clean, spoiled : DataFrame
        Rows of `lib.xray.plate_maps.on_clean` and `on_artifact` with network, plate and layer.
    band : str
        What is enriched in D.
    """
    panels_of = (
        (clean, "edge_rank", "Correlation with edges", None), (clean, "edge_band", "Enrichment of the outline", 1),
        (clean, "half_mass", "Share with half the heat", None),
        (clean, "band", f"Enrichment, {band}", 1), (spoiled, "enrichment", "Enrichment of the artifact", 1),
        (spoiled, "same", "Correlation with the clean map", None),
    )  # fmt: skip
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 102, 2, 3)
        for letter, panel, (table, column, label, chance) in zip("ABCDEF", axes.flat, panels_of, strict=True):
            for k, (network, colour) in enumerate(NETWORK_COLOURS.items()):
                part = table[table["network"] == network]
                means = part.groupby(["layer", "plate"])[column].mean().groupby("layer").agg(["mean", "std", "count"])
                error = stats.t.ppf(0.975, means["count"] - 1) * means["std"] / np.sqrt(means["count"])
                at = means.index.to_numpy() + 1 + 0.08 * (k - 1)
                panel.errorbar(
                    at, means["mean"], error, color=colour, marker="o", markersize=2.5, elinewidth=0.6, label=network
                )
            if chance is not None:
                panel.axhline(chance, color="black", linewidth=0.6, linestyle=":")
            panel.set(xlabel="Layer (block)", ylabel=label, xticks=sorted(table["layer"].unique() + 1))
            panel.set_title(letter, loc="left", fontweight="bold")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    return figure


def draw_kinds_by_layer(table: pd.DataFrame, layers: Sequence[str]) -> Figure:
    """Draw enrichment by artifact and layer, and how much of p is lost without the artifact.

    Parameters
    ----------
    table : DataFrame
        Index: artifacts; columns 0, 1, ... (layers) and p_lost.
    layers : sequence of str
    """
    values = table[list(range(len(layers)))].to_numpy(float)
    with paper_style():
        figure, panel = axes_mm(120, max(10 + 5.6 * len(table), 42))
        shown = panel.imshow(np.log2(np.maximum(values, 1 / 16)), cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            panel.text(
                column,
                row,
                f"{value:.1f}",
                ha="center",
                va="center",
                color="white" if value > 4 or value < 0.3 else "black",
            )
        for row, value in enumerate(table["p_lost"]):
            panel.text(len(layers) - 0.4, row, f"{value:+.2f}", ha="left", va="center")
        panel.text(len(layers) - 0.4, -0.8, "lost p", ha="left", va="center")
        panel.set_xticks(range(len(layers)), layers)
        panel.set_yticks(range(len(table)), table.index)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        bar = figure.colorbar(
            shown, label="Enrichment of the artifact", shrink=0.7, pad=0.16, ticks=[-3, -2, -1, 0, 1, 2, 3]
        )
        bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    return figure


def draw_causes(table: pd.DataFrame) -> Figure:
    """Draw, for each spoiled image, the enrichment of its artifact against what p owes to the artifact.

    Parameters
    ----------
    table : DataFrame
        p_lost, enrichment.
    """
    with paper_style():
        figure, panel = axes_mm(86, 66)
        panel.plot(table["p_lost"], table["enrichment"], "o", markersize=2, alpha=0.5, color="#4477aa")
        panel.axhline(1.2, color="black", linewidth=0.6, linestyle=":")
        panel.axvline(0.25, color="black", linewidth=0.6, linestyle=":")
        panel.set(
            xlabel="p (spoiled) that is lost without the artifact", ylabel="Enrichment of the artifact, last layer"
        )
    return figure

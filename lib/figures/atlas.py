"""Figures of 20_method_atlas: drawn from its maps and tables; nothing is computed there."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures.display import body_box, overlay, scaled, window
from lib.figures.picture_grid import name_row, picture_grid, title_columns
from lib.figures.style import PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

FAMILY_COLOURS = {"gradient": "#4477aa", "activation": "#228833", "relevance": "#aa3377", "perturbation": "#cc8800"}
RANKED = ("gradient", "relevance")  # families whose maps are shown by rank, since few pixels hold most of the sum
HALVES = 2


def draw_atlas(
    images: Mapping[str, np.ndarray], maps: Mapping[str, Mapping[str, np.ndarray]], families: Mapping[str, str]
) -> Figure:
    """Draw the maps of all methods (rows, in two halves) over one slice of each phase (columns).

    Maps of gradients and of relevance are shown by the rank of their absolute value, the others within their range.

    Parameters
    ----------
    images : mapping of str to array (H, W)
        HU by phase, NaN outside the body.
    maps : mapping of str to mapping of str to array (H, W)
        By the method's title, then by phase, at the image's size.
    families : mapping of str to str
        Of the titles.
    """
    phases, boxes = list(images), body_box(images)
    rows = -(-(len(maps) + 1) // HALVES)
    box = next(iter(boxes.values()))
    aspect = (box[0].stop - box[0].start) / (box[1].stop - box[1].start)
    cells = [("CT image", None), *maps.items()]
    with paper_style():
        figure, axes = picture_grid(rows, len(phases), aspect, names_mm=25, titles_mm=5, blocks=HALVES)
        title_columns(axes[0], [PHASE_TITLES[phase] for phase in phases] * HALVES, fontsize=6)
        for number, (title, held) in enumerate(cells):
            half, row = divmod(number, rows)
            panels = axes[row, half * len(phases) : (half + 1) * len(phases)]
            name_row(panels[0], title, fontsize=6, color=FAMILY_COLOURS[families[title]] if held else "black")
            for panel, phase in zip(panels, phases, strict=True):
                if held is None:
                    panel.imshow(window(images[phase])[boxes[phase]], cmap="gray", vmin=0, vmax=1)
                    continue
                how = "magnitude rank" if families[title] in RANKED else "range"
                values = np.abs(held[phase]) if how == "range" else held[phase]
                heat = scaled(values, how, np.isfinite(images[phase]))
                panel.imshow(overlay(images[phase], heat, cmap="viridis", opacity=0.7)[boxes[phase]])
    return figure


def draw_embeddings(panels: Mapping[str, np.ndarray], phases: Sequence[str], wrong: np.ndarray) -> Figure:
    """Draw slices as points in two dimensions, coloured by phase; slices that the network gets wrong have a black ring.

    Parameters
    ----------
    panels : mapping of str to array (n, 2)
        By title.
    phases : sequence of str (n,)
    wrong : bool array (n,)
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 66, 1, len(panels), squeeze=False)
        for panel, (title, points) in zip(axes[0], panels.items(), strict=True):
            for phase in PHASES:
                here = np.asarray(phases) == phase
                label = PHASE_TITLES[phase]
                panel.plot(*points[here].T, "o", markersize=2.2, color=PHASE_COLOURS[phase], label=label, mew=0)
            panel.plot(*points[wrong].T, "o", markersize=3.6, mfc="none", mec="black", mew=0.4, label="network wrong")
            panel.set(xticks=[], yticks=[])
            panel.set_title(title)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncol=6)
    return figure


def draw_pictures(rows: Mapping[str, np.ndarray], titles: Sequence[str] = (), limit: float = 2.5) -> Figure:
    """Draw rows of standardised images (n, H, W) in grey, from `limit` SD below to `limit` SD above the mean.

    Parameters
    ----------
    rows : mapping of str to array (n, H, W)
        By the title of the row.
    titles : sequence of str
        Of the columns.
    limit : float
    """
    count = max(len(images) for images in rows.values())
    height, width = next(iter(rows.values())).shape[1:]
    with paper_style():
        figure, axes = picture_grid(len(rows), count, height / width, names_mm=20, titles_mm=5 if len(titles) else 1)
        for panels, (name, images) in zip(axes, rows.items(), strict=True):
            name_row(panels[0], name)
            for panel, image in zip(panels, images, strict=False):
                panel.imshow(image, cmap="gray", vmin=-limit, vmax=limit)
        title_columns(axes[0], titles, fontsize=6)
    return figure


def draw_agreement(matrix: pd.DataFrame) -> Figure:
    """Draw the mean correlation of each pair of methods, in the order of the table."""
    with paper_style():
        figure, panel = axes_mm(132, 116)
        shown = panel.imshow(matrix.to_numpy(float), cmap="RdBu_r", vmin=-1, vmax=1)
        for (row, column), value in np.ndenumerate(matrix.to_numpy(float)):
            if row != column and np.isfinite(value):
                text = f"{value:.1f}".replace("0.", ".").replace("-.0", ".0")
                panel.text(column, row, text, ha="center", va="center", fontsize=5,
                           color="white" if abs(value) > 0.65 else "black")  # fmt: skip
        panel.set_xticks(range(len(matrix)), matrix.columns, rotation=60, ha="right", rotation_mode="anchor")
        panel.set_yticks(range(len(matrix)), matrix.index)
        panel.tick_params(length=0, labelsize=6)
        panel.spines[:].set_visible(False)
        figure.colorbar(shown, label="Spearman's correlation in the body", shrink=0.7)
    return figure


def draw_effects(weights: pd.DataFrame) -> Figure:
    """Draw by how much the score of each phase changes when one organ is moved to another phase.

    Parameters
    ----------
    weights : DataFrame
        Organs in rows, phases of the slice in columns: mean size of the change, in logits.
    """
    values = weights.to_numpy(float)
    with paper_style():
        figure, panel = axes_mm(104, 8 + 5.4 * len(weights))
        shown = panel.imshow(values, cmap="Reds", vmin=0, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                strong = value > 0.6 * np.nanmax(values)
                panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6,
                           color="white" if strong else "black")  # fmt: skip
        panel.set_xticks(range(values.shape[1]), [PHASE_TITLES[phase] for phase in weights.columns])
        panel.set_yticks(range(len(weights)), weights.index)
        panel.set_xlabel("Phase of the slice, whose score is followed")
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        figure.colorbar(shown, label="Mean change of the score (logit)", shrink=0.8)
    return figure


def draw_ranking(table: pd.DataFrame, columns: Mapping[str, tuple[str, float | None]], nulls: Mapping) -> Figure:
    """Draw measures (panels) of methods (rows) with 95 % intervals, in the order of the table.

    Parameters
    ----------
    table : DataFrame
        Indexed by the method's title: `family`, and for each measure m columns `m`, `m_low`, `m_high` (NaN: no line).
    columns : mapping of str to (label, reference)
        The measures; the reference is a dotted line where it is not None.
    nulls : mapping of str to mapping of str to float
        By measure: values of maps that see no network, drawn as dashed lines.
    """
    places = np.arange(len(table))[::-1]
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 20 + 4.4 * len(table), 1, len(columns), sharey=True, squeeze=False)
        for panel, letter, (name, (label, reference)) in zip(axes[0], "ABCDEF", columns.items(), strict=False):
            for at, (_, row) in zip(places, table.iterrows(), strict=True):
                colour = FAMILY_COLOURS[row["family"]]
                panel.plot([row[f"{name}_low"], row[f"{name}_high"]], [at, at], color=colour, linewidth=0.8)
                panel.plot(row[name], at, "o", markersize=3, color=colour)
            if reference is not None:
                panel.axvline(reference, color="black", linewidth=0.6, linestyle=":")
            for k, (title, value) in enumerate(nulls.get(name, {}).items()):
                panel.axvline(
                    value, color="0.45", linewidth=0.7, linestyle=("--", "-.", (0, (1, 2)))[k % 3], label=title
                )
            panel.set(xlabel=label)
            panel.set_title(letter, loc="left", fontweight="bold")
            panel.tick_params(labelsize=6)
        axes[0, 0].set_yticks(places, table.index)
        if "seconds" in columns:
            axes[0, list(columns).index("seconds")].set_xscale("log")
        if nulls:
            handles, names = axes[0, list(columns).index(next(iter(nulls)))].get_legend_handles_labels()
            where = dict(loc="outside lower left", ncol=len(handles), fontsize=6, title_fontsize=6)
            figure.legend(handles, names, title="Maps without a network", **where)
        for tick, family in zip(axes[0, 0].get_yticklabels(), table["family"], strict=True):
            tick.set_color(FAMILY_COLOURS[family])
    return figure

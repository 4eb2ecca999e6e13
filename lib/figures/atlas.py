"""Figures of 20_method_atlas: drawn from its maps and tables; nothing is computed there."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures.display import body_box, overlay, scaled, window
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
        across = HALVES * len(phases)
        tall = (TWO_COLUMNS_MM - 46) / across * aspect * rows * 1.06 + 6
        figure, axes = axes_mm(TWO_COLUMNS_MM, tall, rows, across, squeeze=False, layout="compressed")
        figure.get_layout_engine().set(w_pad=0.004, h_pad=0.004, wspace=0, hspace=0)
        for panel in axes.flat:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        for number, (title, held) in enumerate(cells):
            half, row = divmod(number, rows)
            panels = axes[row, half * len(phases) : (half + 1) * len(phases)]
            colour = FAMILY_COLOURS[families[title]] if held else "black"
            panels[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=6, color=colour)
            for panel, phase in zip(panels, phases, strict=True):
                if row == 0:
                    panel.set_title(PHASE_TITLES[phase], fontsize=6, pad=2)
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
    with paper_style():
        tall = (TWO_COLUMNS_MM - 26) / count * len(rows) * 1.03 + (6 if titles else 2)
        figure, axes = axes_mm(TWO_COLUMNS_MM, tall, len(rows), count, squeeze=False, layout="compressed")
        figure.get_layout_engine().set(w_pad=0.005, h_pad=0.005, wspace=0, hspace=0)
        for panels, (name, images) in zip(axes, rows.items(), strict=True):
            for panel in panels:
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
            panels[0].set_ylabel(name, rotation=0, ha="right", va="center")
            for panel, image in zip(panels, images, strict=False):
                panel.imshow(image, cmap="gray", vmin=-limit, vmax=limit)
        for panel, title in zip(axes[0], titles, strict=False):
            panel.set_title(title, fontsize=6)
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
        figure, axes = axes_mm(TWO_COLUMNS_MM, 14 + 4.4 * len(table), 1, len(columns), sharey=True, squeeze=False)
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
            if nulls.get(name):
                panel.legend(fontsize=5, loc="lower right", title="without a network", title_fontsize=5)
            panel.set(xlabel=label)
            panel.set_title(letter, loc="left", fontweight="bold")
            panel.tick_params(labelsize=6)
        axes[0, 0].set_yticks(places, table.index)
        if "seconds" in columns:
            axes[0, list(columns).index("seconds")].set_xscale("log")
        for tick, family in zip(axes[0, 0].get_yticklabels(), table["family"], strict=True):
            tick.set_color(FAMILY_COLOURS[family])
    return figure

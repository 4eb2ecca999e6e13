"""Figures of the step from phantoms to patients, drawn from images, tables and features."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from lib.figures.display import body_box, overlay, scaled, window
from lib.figures.style import PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

PHANTOM_COLOUR = "#6699cc"
REAL_COLOURS = ("#cc3311", "#000000", "#ee7733", "#009988", "#aa3377", "#999933")


class Panel(NamedTuple):
    """A slice, its map (or None), where metal lies (or None), and what is printed below it."""

    hu: np.ndarray
    heat: np.ndarray | None = None
    metal: np.ndarray | None = None
    text: str = ""


def draw_panels(rows: Mapping[str, Sequence[Panel | None]], titles: Sequence[str]) -> Figure:
    """Draw slices with maps over them, cropped to the body, with metal outlined.

    Parameters
    ----------
    rows : mapping of str to sequence of Panel or None
        Panels of each row by its title; None leaves a panel empty. Maps have the size of their slice and are scaled to
        their own range.
    titles : sequence of str
        Titles of the columns.
    """
    present = {
        (name, n): panel.hu for name, panels in rows.items() for n, panel in enumerate(panels) if panel is not None
    }
    boxes = body_box(present)
    with paper_style():
        tall = 0.78 * TWO_COLUMNS_MM / len(titles) * len(rows) + 6
        figure, axes = axes_mm(TWO_COLUMNS_MM, tall, len(rows), len(titles), squeeze=False, layout="compressed")
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
        for shown, (name, panels) in zip(axes, rows.items(), strict=True):
            shown[0].set_ylabel(name)
            for n, axis in enumerate(shown):
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                if (name, n) in present:
                    _draw_panel(axis, panels[n], boxes[name, n])
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title)
    return figure


def _draw_panel(axis, panel: Panel, box: tuple[slice, slice]) -> None:
    if panel.heat is None:
        axis.imshow(window(panel.hu)[box], cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    else:
        heat = scaled(panel.heat, "range", np.isfinite(panel.hu))
        axis.imshow(overlay(panel.hu, heat)[box], interpolation="antialiased")
    if panel.metal is not None and panel.metal[box].any():
        axis.contour(panel.metal[box], [0.5], colors="#00ffff", linewidths=0.9)
    axis.set_xlabel(panel.text, labelpad=1)


def draw_inputs(
    edges: np.ndarray,
    histograms: Mapping[str, np.ndarray],
    frequency: np.ndarray,
    spectra: Mapping[str, np.ndarray],
    phantom: str = "phantom",
) -> Figure:
    """Draw HU histograms of the body (A) and the power of the network's input by frequency (B).

    Parameters
    ----------
    edges : float array (n + 1,)
        Of the bins, HU.
    histograms, spectra : mapping of str to float array (slices, bins)
        Of each source. That of the phantom is drawn as median and range of 95 % of the slices; of any other, every
        slice is a line.
    frequency : float array (bins,)
        Cycles per pixel.
    phantom : str
        Name of the source that is drawn as a range.
    """
    with paper_style():
        figure, (left, right) = axes_mm(TWO_COLUMNS_MM, 74, 1, 2, width_ratios=(1.4, 1))
        middle, key = 0.5 * (edges[1:] + edges[:-1]), []
        for axis, x, curves in ((left, middle, histograms), (right, frequency, spectra)):
            low, half, high = np.percentile(curves[phantom], [2.5, 50, 97.5], axis=0)
            axis.fill_between(x, low, high, color=PHANTOM_COLOUR, alpha=0.35, linewidth=0)
            axis.plot(x, half, color=PHANTOM_COLOUR)
            others = [(name, line) for name, lines in curves.items() if name != phantom for line in lines]
            for k, (_, line) in enumerate(others):
                axis.plot(x, line, color=REAL_COLOURS[k % len(REAL_COLOURS)], linewidth=0.8)
            axis.set_yscale("log")
        key = [Patch(color=PHANTOM_COLOUR, alpha=0.35, label=f"{phantom}, 95 % of {len(histograms[phantom])} slices"),
               Line2D([], [], color=PHANTOM_COLOUR, label=f"{phantom}, median")]  # fmt: skip
        names = [name for name, lines in histograms.items() if name != phantom for _ in lines]
        key += [Line2D([], [], color=REAL_COLOURS[k % len(REAL_COLOURS)], label=name) for k, name in enumerate(names)]
        left.set(xlabel="HU", ylabel="Share of the body per 20 HU", ylim=(1e-6, 1))
        left.set_title("A  Hounsfield units", loc="left")
        right.set(xlabel="Frequency (cycles per pixel of the input)", ylabel="Power of the input (SD², arbitrary unit)")
        right.set_title("B  Texture", loc="left")
        figure.legend(handles=key, loc="outside lower center", ncols=4)
    return figure


def draw_ranks(ranks: pd.DataFrame, titles: Mapping[str, str], slices: int) -> Figure:
    """Draw where each real slice lies among the phantom's, measure by measure.

    Parameters
    ----------
    ranks : DataFrame
        As from `lib.domain_gap.ranks`, one row per real slice.
    titles : mapping of str to str
        Names of its columns.
    slices : int
        Number of the phantom's slices.
    """
    with paper_style():
        figure, panel = axes_mm(150, 14 + 6.5 * len(titles))
        panel.axvspan(0.025, 0.975, color="0.92", zorder=0)
        panel.axvline(0.5, color="0.6", linewidth=0.6, linestyle=":")
        for k, name in enumerate(ranks.index):
            shift = 0.14 * (k - (len(ranks) - 1) / 2)
            colour = REAL_COLOURS[k % len(REAL_COLOURS)]
            panel.plot(ranks.loc[name, list(titles)], np.arange(len(titles)) + shift, "o", markersize=4, label=name,
                       color=colour, clip_on=False)  # fmt: skip
        panel.set_yticks(range(len(titles)), titles.values())
        panel.invert_yaxis()
        panel.set(xlim=(0, 1), xlabel=f"Share of {slices} phantom slices with a lower value (grey: the middle 95 %)")
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def draw_features(planes: Mapping[str, tuple[np.ndarray, Sequence[str], np.ndarray]], names: Sequence[str]) -> Figure:
    """Draw the features of the last layer of each network in their first two principal components.

    Parameters
    ----------
    planes : mapping of str to (float array (n, 2), sequence of str, float array (m, 2))
        By network: phantom slices, the phases of these, and real slices.
    names : sequence of str
        Names of the real slices; each is a letter in the figure, in this order.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 74, 1, len(planes), squeeze=False)
        for axis, (network, (phantom, phases, real)) in zip(axes[0], planes.items(), strict=True):
            for phase in PHASES:
                chosen = np.asarray(phases) == phase
                axis.plot(*phantom[chosen].T, ".", markersize=2.5, alpha=0.6, color=PHASE_COLOURS[phase])
            for k, (x, y) in enumerate(real):
                axis.plot(x, y, "o", markersize=8, color="white", markeredgecolor="black", markeredgewidth=0.8)
                axis.annotate("ABCDEFGH"[k % 8], (x, y), ha="center", va="center", fontsize=6)
            axis.set(title=network, xlabel="First component", xticks=[], yticks=[])
        axes[0, 0].set_ylabel("Second component")
        key = [Line2D([], [], color=PHASE_COLOURS[phase], linestyle="", marker=".", label=PHASE_TITLES[phase])
               for phase in PHASES]  # fmt: skip
        key += [Line2D([], [], linestyle="", label=f"{'ABCDEFGH'[k % 8]}: {name}") for k, name in enumerate(names)]
        figure.legend(handles=key, loc="outside lower center", ncols=5)
    return figure


def draw_votes(table: pd.DataFrame) -> Figure:
    """Draw which phases the networks give to each slice: how many of them, and their mean probability.

    Parameters
    ----------
    table : DataFrame
        One row per slice and network: `slice` (and kind of network, where there are several), `phase` (or "" if not
        known), `network`, `predicted`, and a column of probabilities per phase.
    """
    slices = list(dict.fromkeys(table["slice"]))
    asked = table.groupby("slice")["network"].nunique()
    means = table.groupby("slice")[list(PHASES)].mean().loc[slices]
    counts = pd.crosstab(table["slice"], table["predicted"]).reindex(index=slices, columns=PHASES, fill_value=0)
    known = table.drop_duplicates("slice").set_index("slice")["phase"]
    with paper_style():
        figure, panel = axes_mm(140, 16 + 6.5 * len(slices))
        shown = panel.imshow(means, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), mean in np.ndenumerate(means.to_numpy()):
            number = counts.iloc[row, column]
            panel.text(column, row, f"{number}" if number else "-", ha="center", va="center",
                       color="white" if mean > 0.55 else "black")  # fmt: skip
            if known[slices[row]] == PHASES[column]:
                panel.add_patch(_frame(column, row))
        panel.set_xticks(range(len(PHASES)), [PHASE_TITLES[phase] for phase in PHASES])
        panel.set_yticks(range(len(slices)), [f"{name} (n = {asked[name]})" for name in slices])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set_title("Numbers: how many of n networks; frames: the phase by a reader")
        figure.colorbar(shown, label="Mean probability", shrink=0.9)
    return figure


def _frame(column: int, row: int) -> Rectangle:
    return Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, fill=False, edgecolor="#cc3311", linewidth=1.2)


def draw_across(table: pd.DataFrame) -> Figure:
    """Draw the F1 of networks by what they were trained on (rows) and tested on (columns).

    Parameters
    ----------
    table : DataFrame
        From `lib.cross_test.cross_test`.
    """
    rows, columns = (list(dict.fromkeys(table[name])) for name in ("trained_on", "tested_on"))
    scores = table.groupby(["trained_on", "tested_on"])["f1"].agg(["mean", "min", "max", "size"])
    with paper_style():
        figure, panel = axes_mm(50 + 28 * len(columns), 24 + 12 * len(rows))
        means = table.pivot_table("f1", "trained_on", "tested_on").loc[rows, columns]
        shown = panel.imshow(means, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), mean in np.ndenumerate(means.to_numpy()):
            cell, colour = scores.loc[rows[row], columns[column]], "white" if mean > 0.55 else "black"
            panel.text(column, row - 0.08, f"{mean:.2f}", ha="center", va="center", color=colour, fontsize=9)
            if cell["size"] > 1:
                panel.text(column, row + 0.3, f"{cell['min']:.2f} to {cell['max']:.2f}", ha="center", va="center",
                           color=colour, fontsize=6)  # fmt: skip
        panel.set_xticks(range(len(columns)), columns)
        panel.set_yticks(range(len(rows)), rows)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set(xlabel="Tested on", ylabel="Trained on")
        figure.colorbar(shown, label="F1 of single slices")
    return figure

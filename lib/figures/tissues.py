"""Figures of the tissues that maps mark, drawn from the tables of 13_anatomy_of_maps."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures.style import (
    CONTROL_COLOUR,
    PAPER_COLOUR,
    PHASE_COLOURS,
    TWO_COLUMNS_MM,
    axes_mm,
    count,
    figure_mm,
    letter,
    paper_style,
)
from lib.paper import PHASES
from lib.titles import CONTROL_TITLES, PHASE_TITLES, map_title

LIMIT = 8  # times the image's share, where the colours of the heat map end
PARTS = ("kidney and vessels", "rest of the body")  # what panel A sets against each other


def draw_anatomy(anatomy: pd.DataFrame, tissues: pd.DataFrame) -> Figure:
    """Draw how much more densely maps mark kidneys and vessels (A, by phase), and the share of each tissue (B).

    Parameters
    ----------
    anatomy : DataFrame
        As from `lib.maps.tissue_shares.summarise_shares`. Part B prints the mean share over the phases; the colour is
        the enrichment. A number is bold if in at least four phases the interval of the share lies on one side of the
        tissue's share of the image.
    tissues : DataFrame
        As from `lib.maps.tissue_contrasts.contrast_tissues`. Part A shows the rows that compare kidney and vessels with
        the rest of the body. Control maps (disc, edges, brightness, untrained network), if there are any, come last.
    """
    maps = _order(anatomy)
    names = list(anatomy["tissue"].drop_duplicates())
    with paper_style():
        figure = figure_mm(TWO_COLUMNS_MM, 62 + 8.2 * len(maps))
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
        _draw_times(above, tissues, maps)
        _heat_map(below.subplots(), anatomy, maps, names)
        letter(above, "A")
        letter(below, "B")
    return figure


def draw_signs(signs: pd.DataFrame) -> Figure:
    """Draw by how much 10 HU more in a tissue would change the score, by phase, and the signs that the paper names.

    Parameters
    ----------
    signs : DataFrame
        As from `lib.maps.tissue_shares.summarise_signs`: `score_per_10_hu` with `score_low` and `score_high`.
    """
    tissues = list(signs["tissue"].drop_duplicates())
    with paper_style():
        figure, panels = axes_mm(TWO_COLUMNS_MM, 66, 1, len(tissues), squeeze=False, sharey=True)
        for panel, tissue in zip(panels[0], tissues, strict=True):
            rows = signs[signs["tissue"] == tissue].set_index("phase").reindex(PHASES)
            mean, low, high = (rows[name].to_numpy(float) for name in ("score_per_10_hu", "score_low", "score_high"))
            panel.axhline(0, color="0.6", linewidth=0.6)
            for x, phase in enumerate(PHASES):
                panel.plot([x, x], [low[x], high[x]], color=PHASE_COLOURS[phase], linewidth=1.5)
                panel.plot(x, mean[x], "o", color=PHASE_COLOURS[phase], markersize=4)
                if np.isfinite(mean[x]):
                    panel.annotate(_short(mean[x]), (x, max(mean[x], high[x])), (0, 4), ha="center",
                                   textcoords="offset points", fontsize=6, color="0.3")  # fmt: skip
            for sign, marker in ((1, "^"), (-1, "v")):
                at = np.flatnonzero(rows["expected"] == sign)
                panel.plot(at, np.full(len(at), 0.96), marker, color=PAPER_COLOUR, markersize=5,
                           transform=panel.get_xaxis_transform(), label=f"_{tissue}{sign}")  # fmt: skip
            panel.set_title(tissue.capitalize())
            panel.set_xticks(range(len(PHASES)), [PHASE_TITLES[phase] for phase in PHASES], rotation=40)
            panel.set_xlim(-0.5, len(PHASES) - 0.5)
            panel.margins(y=0.14)
        panels[0, 0].set_ylabel("Change of the phase's score (logit)\nif the whole tissue were 10 HU brighter")
        key = [panels[0, 0].plot([], [], marker, color=PAPER_COLOUR, markersize=5, label=label)[0]
               for marker, label in (("^", "the paper reads: the phase expects it bright"), ("v", "dark"))]  # fmt: skip
        interval = panels[0, 0].errorbar([], [], yerr=[], fmt="o", color="0.3", markersize=4, elinewidth=1.5,
                                         label="mean with 95 % interval by patient")  # fmt: skip
        figure.legend(handles=[interval, *key], loc="outside upper center", ncols=3)
    return figure


def _short(value: float) -> str:
    """Return a number with two decimals, or with one significant digit if these would be 0."""
    return (f"{value:.2f}" if abs(value) >= 0.005 else f"{value:.1g}").replace("-", "−")


def _order(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the maps of a table, with controls last."""
    maps = list(table[["method", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    return sorted((name for name in maps if name[0] != "image"), key=lambda name: name[0] in CONTROL_TITLES)


def _draw_times(part, tissues: pd.DataFrame, maps: list[tuple[str, str]]) -> None:
    """Draw the enrichment of kidney and vessels over the rest of the body, one panel per phase, with intervals."""
    chosen = tissues[(tissues["tissue"] == PARTS[0]) & (tissues["against"] == PARTS[1])]
    phases = [phase for phase in PHASES if phase in set(chosen["phase"])]
    panels = np.atleast_1d(part.subplots(1, len(phases), sharey=True, sharex=True))
    floor = 0.1
    for panel, phase in zip(panels, phases, strict=True):
        rows = chosen[chosen["phase"] == phase].set_index(["method", "layer"]).reindex(maps)
        mean, low, high = (rows[name].to_numpy(float) for name in ("times", "low", "high"))
        for y, name in enumerate(maps):
            colour = CONTROL_COLOUR if name[0] in CONTROL_TITLES else "black"
            if not np.isfinite(mean[y]):
                continue
            shown = np.clip([mean[y], low[y], high[y]], floor, None)
            panel.plot(shown[1:], [y, y], color=colour, linewidth=1)
            panel.plot(shown[0], y, "o" if mean[y] >= floor else "<", color=colour, markersize=3)
        panel.axvline(1, color="0.6", linewidth=0.6, zorder=0)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        first = rows.dropna(subset="n_slices").iloc[0]
        panel.set_title(f"{PHASE_TITLES[phase]}\n{count(first['n_slices'], first['n_patients'])}")
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", color="0.93", linewidth=0.5)
        panel.set_axisbelow(True)
    panels[0].set_yticks(range(len(maps)), [map_title(*name) for name in maps])
    panels[0].set_ylim(len(maps) - 0.5, -0.5)
    words = "Times as dense in kidneys and vessels as in the rest of the body (1: blind to them)"
    part.supxlabel(words, fontsize=7)


def _heat_map(panel: Axes, anatomy: pd.DataFrame, maps: list[tuple[str, str]], tissues: list[str]) -> None:
    """Print shares, coloured by their ratio to the share of the image; bold if four phases agree on the side."""
    table = anatomy.assign(side=(anatomy["low"] > anatomy["area"]).astype(int) - (anatomy["high"] < anatomy["area"]))
    wide = table.pivot_table(index=["method", "layer"], columns="tissue", values=["share", "side"],
                             aggfunc={"share": "mean", "side": "sum"})  # fmt: skip
    area = anatomy.groupby("tissue")["area"].mean()[tissues]
    shares = np.vstack([area, wide["share"].loc[maps, tissues]])
    sure = np.vstack([np.zeros(len(tissues)), wide["side"].loc[maps, tissues]])
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(shares[0] > 0, shares / shares[0], np.nan)
        logs = np.clip(np.log2(times), -np.log2(LIMIT), np.log2(LIMIT))
    bound = np.log2(LIMIT)
    shown = panel.imshow(logs, cmap="PuOr_r", vmin=-bound, vmax=bound, aspect="auto")
    for (row, column), share in np.ndenumerate(100 * shares):
        colour = "white" if abs(logs[row, column]) > 0.65 * bound else "black"
        text = f"{share:.0f}" if share >= 9.95 else f"{share:.1f}"
        weight = "bold" if abs(sure[row, column]) >= 4 else "normal"
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=6, fontweight=weight)
    panel.axhline(0.5, color="black", linewidth=0.6)
    panel.set_xticks(range(len(tissues)), tissues, rotation=40, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(len(maps) + 1), ["Image", *(map_title(*name) for name in maps)])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    bar = panel.figure.colorbar(shown, ax=panel, pad=0.01, aspect=30, label="Times the tissue's share of the image")
    steps = np.arange(-bound, bound + 1)
    names = [f"1/{2 ** -int(step)}" if step < 0 else f"{2 ** int(step)}" for step in steps]
    bar.set_ticks(steps, labels=[f"≤{names[0]}", *names[1:-1], f"≥{names[-1]}"])
    panel.set_title("Share of each map's highest tenth, mean of the phases (%); bold: interval on one side of the "
                    "image's share in four phases", loc="left")  # fmt: skip

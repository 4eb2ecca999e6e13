"""Figures of where masked images go, drawn from the tables of lib.masking.predictions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures.style import CONTROL_COLOUR, PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, figure_mm, letter, paper_style
from lib.paper import PHASES
from lib.titles import CONTROL_TITLES, FILL_TITLES, LAYER_TITLES, PHASE_TITLES, map_title

MEASURE_TITLES = {  # (measure, minus its control)
    ("relative_probability", False): "Relative probability (%)",
    ("relative_probability", True): "Relative probability\nminus its control (points)",
    ("log_odds", False): "Change in log-odds",
    ("log_odds", True): "Change in log-odds\nminus its control",
}


def draw_where_masked_go(shares: pd.DataFrame, changes: pd.DataFrame, masks: Sequence[tuple[str, str, str]]) -> Figure:
    """Draw the phases that are named after masking (A), and what masking costs beside the controls (B).

    Parameters
    ----------
    shares : DataFrame
        As from `lib.masking.predictions.predicted_after`.
    changes : DataFrame
        As from `lib.masking.predictions.less_controls`.
    masks : sequence of (method, layer, region)
        What part A shows, four panels in a row.
    """
    maps = list(changes[["method", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    rows = -(-len(masks) // 4)
    with paper_style():
        heights = (44.0 * rows + 8, 26 + 4.2 * len(maps))
        figure = figure_mm(TWO_COLUMNS_MM, sum(heights))
        above, below = figure.subfigures(2, 1, height_ratios=heights)
        panels = above.subplots(rows, 4, squeeze=False, sharex=True, sharey=True)
        for panel, mask in zip(panels.flat, masks, strict=False):
            drawn = _heat_map(panel, shares, mask)
        for panel in panels.flat[len(masks) :]:
            panel.set_axis_off()
        above.supxlabel("Phase named after masking", fontsize=7)
        above.supylabel("Labelled phase", fontsize=7)
        above.colorbar(drawn, ax=panels, label="Share of the labelled phase (%)", shrink=0.7, pad=0.01)
        _draw_changes(below, changes, maps)
        letter(above, "A")
        letter(below, "B")
    return figure


def draw_predicted_shares(table: pd.DataFrame) -> Figure:
    """Draw how often each phase is named after masking, by network and fill, as stacked bars.

    Parameters
    ----------
    table : DataFrame
        `network`, `fill` ("none" before masking), `predicted`, `share` (the five of a fill sum to 1).
    """
    networks, fills = (list(dict.fromkeys(table[name])) for name in ("network", "fill"))
    with paper_style():
        height = 24 + 5.2 * len(fills)
        figure, axes = axes_mm(TWO_COLUMNS_MM, height, 1, len(networks), sharex=True, sharey=True, squeeze=False)
        for panel, network in zip(axes[0], networks, strict=True):
            mine = table[table["network"] == network]
            wide = mine.pivot_table(index="fill", columns="predicted", values="share")
            wide = 100 * wide.reindex(index=fills, columns=list(PHASES)).fillna(0)
            left = np.zeros(len(fills))
            for phase in PHASES:
                width = wide[phase].to_numpy()
                panel.barh(range(len(fills)), width, 0.8, left, color=PHASE_COLOURS[phase], edgecolor="white",
                           linewidth=0.4)  # fmt: skip
                for y in np.flatnonzero(width >= 14):
                    panel.text(left[y] + width[y] / 2, y, f"{width[y]:.0f}", ha="center", va="center", fontsize=6,
                               color="black" if phase == "neph" else "white")  # fmt: skip
                left = left + width
            panel.set_title(network)
            panel.tick_params(axis="y", length=0)
            panel.set_xlim(0, 100)
        axes[0, 0].set_yticks(range(len(fills)), [FILL_TITLES.get(fill, "not masked") for fill in fills])
        axes[0, 0].set_ylim(len(fills) - 0.5, -0.5)
        figure.supxlabel("Share of the slices that the network calls so (%)", fontsize=7)
        key = [Patch(facecolor=PHASE_COLOURS[phase], label=PHASE_TITLES[phase]) for phase in PHASES]
        figure.legend(handles=key, loc="outside upper center", ncols=len(PHASES))
    return figure


def _heat_map(panel: Axes, shares: pd.DataFrame, mask: tuple[str, str, str]):
    """Draw the five shares of each labelled phase, in percent."""
    chosen = shares[(shares[["method", "layer", "region"]] == mask).all(axis=1)]
    wide = chosen.pivot_table(index="phase", columns="predicted", values="share")
    values = wide.reindex(index=PHASES, columns=PHASES)
    drawn = panel.imshow(100 * values, cmap="Greys", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(100 * values.to_numpy(float)):
        if np.isfinite(share) and share >= 0.5:
            panel.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6,
                       color="white" if share > 55 else "black")  # fmt: skip
    names = [PHASE_TITLES[phase] for phase in PHASES]
    panel.set_xticks(range(len(PHASES)), names, rotation=40, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(len(PHASES)), names)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(True)
    panel.set_title(mask_title(*mask), color=CONTROL_COLOUR if mask[0] in CONTROL_TITLES else "black")
    return drawn


def mask_title(method: str, layer: str, region: str) -> str:
    """Return the title of a mask: a map, or a control with the layer whose cells it takes."""
    if method in CONTROL_TITLES:
        return CONTROL_TITLES[method] + (f" like {LAYER_TITLES[layer]}" if layer in LAYER_TITLES else "")
    return map_title(method, layer) + (", bottom" if region == "bottom" else "")


def _draw_changes(part, changes: pd.DataFrame, maps: list[tuple[str, str]]) -> None:
    """Draw the four measures, one panel each: phases as coloured points, their mean in black."""
    panels = part.subplots(1, len(MEASURE_TITLES), sharey=True)
    for panel, ((measure, less), title) in zip(panels, MEASURE_TITLES.items(), strict=True):
        rows = changes[(changes["measure"] == measure) & (changes["less_control"] == less)]
        for y, name in enumerate(maps):
            mine = rows[(rows["method"] == name[0]) & (rows["layer"] == name[1])].set_index("phase")["value"]
            for n, phase in enumerate(phase for phase in PHASES if phase in mine.index):
                panel.plot(mine[phase], y + 0.13 * (n - 2), "o", markersize=2.6, color=PHASE_COLOURS[phase])
            if "mean" in mine.index:
                panel.plot([mine["mean"]] * 2, [y - 0.4, y + 0.4], color="black", linewidth=1.4)
        if less or measure == "log_odds":
            panel.axvline(0, color="0.5", linewidth=0.6, zorder=0)
        panel.set_title(title)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", color="0.93", linewidth=0.5)
        panel.set_axisbelow(True)
    panels[0].set_yticks(range(len(maps)), [map_title(*name) for name in maps])
    panels[0].set_ylim(len(maps) - 0.5, -0.5)
    part.supxlabel("← masking by the map costs more", fontsize=7)
    key = [Line2D([], [], linestyle="", marker="o", markersize=2.6, color=PHASE_COLOURS[phase],
                  label=PHASE_TITLES[phase]) for phase in PHASES]  # fmt: skip
    mean = Line2D([], [], linestyle="", marker="|", markersize=7, markeredgewidth=1.4, color="black",
                  label="mean of the phases")  # fmt: skip
    part.legend(handles=[*key, mean], loc="outside upper center", ncols=len(key) + 1)

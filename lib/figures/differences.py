"""Figure of the maps by phase, each minus its control, with every network as a point."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures.style import METHOD_COLOURS, SAM_COLOURS, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.masking.networks import ALL
from lib.paper import PHASES
from lib.titles import PHASE_TITLES, map_title


def draw_differences(
    table: pd.DataFrame, *, label: str = "Relative probability minus that of the control (points)"
) -> Figure:
    """Draw the difference of each map from its control, with one panel per phase and one row per map.

    Parameters
    ----------
    table : DataFrame
        One row per network, phase and map: `network`, `phase`, `method`, `layer`, `value`, `low`, `high` (points;
        below 0, masking by the map lowers the probability more than masking by its control). Rows of the network "all"
        hold the mean over the networks and its interval; these are drawn in strong colours, and the networks as light
        points. With a single network, its own interval is drawn. `phase` may also be "mean", the mean over the phases,
        which is the last panel.
    label : str
        Label of the horizontal axis.

    Raises
    ------
    ValueError
        If there are several networks and no rows of the network "all".
    """
    networks = [name for name in table["network"].unique() if name != ALL]
    if len(networks) > 1 and ALL not in set(table["network"]):
        raise ValueError(f"table holds {len(networks)} networks and no rows of the network 'all' with their mean.")
    strong = table[table["network"] == (ALL if ALL in set(table["network"]) else networks[0])]
    phases = [phase for phase in (*PHASES, "mean") if phase in set(table["phase"])]
    maps = list(table[["method", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    with paper_style():
        height = 26 + 4.6 * len(maps)
        figure, axes = axes_mm(TWO_COLUMNS_MM, height, 1, len(phases), sharex=True, sharey=True, squeeze=False)
        for panel, phase in zip(axes[0], phases, strict=True):
            panel.axvline(0, color="0.5", linewidth=0.6, zorder=0)
            for y, name in enumerate(maps):
                if len(networks) > 1:
                    _networks(panel, y, _rows(table[table["network"] != ALL], phase, name)["value"].to_numpy(float))
                for row in _rows(strong, phase, name).itertuples():
                    style = {"markerfacecolor": _colour(*name), "markeredgecolor": "black", "markeredgewidth": 0.5}
                    panel.plot([row.low, row.high], [y, y], color="black", linewidth=1.1)
                    panel.plot(row.value, y, "o", markersize=4, **style)
            panel.set_title(PHASE_TITLES.get(phase, "Mean"))
            panel.tick_params(axis="y", length=0)
            panel.grid(axis="y", color="0.93", linewidth=0.5)
            panel.set_axisbelow(True)
        axes[0, 0].set_yticks(range(len(maps)), [map_title(*name) for name in maps])
        axes[0, 0].set_ylim(len(maps) - 0.5, -0.5)
        figure.supxlabel(
            f"{label}\n← the map found more of what the network needs        the control did →", fontsize=7
        )
        figure.legend(handles=_key(len(networks)), loc="outside upper center", ncols=2)
    return figure


def _rows(table: pd.DataFrame, phase: str, name: tuple[str, str]) -> pd.DataFrame:
    return table[(table["phase"] == phase) & (table["method"] == name[0]) & (table["layer"] == name[1])]


def _networks(panel: Axes, y: float, values: np.ndarray) -> None:
    """Draw the networks as light points, slightly apart from each other."""
    spread = (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.5
    panel.plot(values, y + spread, "o", markersize=1.8, color="0.7", markeredgewidth=0, zorder=1)


def _colour(method: str, layer: str) -> str:
    return SAM_COLOURS.get(layer, METHOD_COLOURS["sam"]) if method == "sam" else METHOD_COLOURS.get(method, "0.5")


def _key(networks: int) -> list[Line2D]:
    """Return the legend entries."""
    strong = {"color": "black", "marker": "o", "markersize": 4, "markerfacecolor": "0.5", "linewidth": 1.1}
    if networks == 1:
        return [Line2D([], [], label="one network, 95 % interval by patient", **strong)]
    light = Line2D([], [], linestyle="", marker="o", markersize=1.8, color="0.7", label="one network")
    return [Line2D([], [], label=f"mean of {networks} networks, 95 % interval", **strong), light]

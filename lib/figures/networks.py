"""Figures of masking over networks: every network a point; the claims with their outcomes, and one among others."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.claims.networks import MARGIN, NULL_MARGIN
from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style
from lib.titles import contrast_title, map_title

COLOURS = {"supported": "#228833", "contradicted": "#cc3311", "inconclusive": "#7a7a7a", "": "black"}
SIDE = {"lower": "#dcebdd", "same": "#dde6f0"}  # where the interval has to lie


def draw_over_networks(contrasts: pd.DataFrame, parts: pd.DataFrame) -> Figure:
    """Draw every part of every claim: what the networks measured, the interval over them, and the outcome.

    Parameters
    ----------
    contrasts : DataFrame
        As from `lib.claims.networks.contrasts`; each network is a point, its mean over the phases.
    parts : DataFrame
        As from `lib.claims.networks.judge`; without an interval (a single network) there is no outcome.
    """
    values = contrasts.groupby(["claim", "part", "network"], sort=False)["value"].mean().sort_index()
    networks = contrasts["network"].nunique()
    with paper_style():
        figure, panel = axes_mm(TWO_COLUMNS_MM, 26 + 3.9 * len(parts))
        low = min(values.min(), np.nanmin([0.0, *parts["low"]]))
        high = max(values.max(), np.nanmax([0.0, *parts["high"]]))
        panel.set_xlim(low - 4, high + 4)
        for y, row in enumerate(parts.itertuples()):
            _expectation(panel, y, row.kind)
            points = values[row.claim, row.part].to_numpy()
            spread = (np.arange(len(points)) * 0.618 % 1 - 0.5) * 0.55 if len(points) > 1 else 0
            panel.plot(points, y + spread, "o", markersize=1.8, color="0.55", markeredgewidth=0)
            panel.plot([row.low, row.high], [y, y], color=COLOURS[row.outcome], linewidth=1.4)
            panel.plot(row.mean, y, "D", color=COLOURS[row.outcome], markersize=3)
            share = f"{row.cells} of {row.of}"
            words = f"{row.outcome}, {share}" if row.outcome else share
            panel.annotate(words, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=6,
                           color=COLOURS[row.outcome], annotation_clip=False)  # fmt: skip
        panel.axvline(0, color="0.4", linewidth=0.6, zorder=0)
        starts = np.flatnonzero(~parts["claim"].duplicated())
        for y in starts[1:]:
            panel.axhline(y - 0.5, color="0.7", linewidth=0.5)
        names = [
            f"{claim if y in starts else ''}   {contrast_title(part)}".strip()
            for y, (claim, part) in enumerate(parts[["claim", "part"]].to_numpy())
        ]
        panel.set_yticks(range(len(parts)), names)
        panel.set_ylim(len(parts) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.set_xlabel("Difference in relative probability (points; below 0: the first mask costs more)")
        figure.legend(handles=_key(networks), loc="outside upper center", ncols=3)
    return figure


def draw_among(place: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Draw what each mask leaves in one network, among what it leaves in published ones.

    Parameters
    ----------
    place : DataFrame
        As from `lib.masking.networks.among`; one row of the figure each.
    published : DataFrame
        As from `lib.masking.networks.network_levels`, of the published networks.
    """
    points = published[published["phase"] == "mean"].set_index(["method", "layer", "region"])["value"].sort_index()
    with paper_style():
        figure, panel = axes_mm(TWO_COLUMNS_MM, 24 + 3.6 * len(place))
        for y, row in enumerate(place.itertuples()):
            values = points.loc[(row.method, row.layer, row.region)].to_numpy()
            panel.plot([row.lowest, row.highest], [y, y], color="0.85", linewidth=3, solid_capstyle="round", zorder=0)
            panel.plot(values, np.full(len(values), y), "o", markersize=2.2, color="0.5", markeredgewidth=0)
            outside = not row.lowest <= row.value <= row.highest
            colour = COLOURS["contradicted"] if outside else "black"
            panel.plot(row.value, y, "D", markersize=3.5, color=colour)
            panel.annotate(f"{row.lower} of {row.networks} lower", (1.01, y), xycoords=("axes fraction", "data"),
                           va="center", fontsize=6, color=colour, annotation_clip=False)  # fmt: skip
        panel.set_yticks(range(len(place)), [map_title(*row) for row in place[["method", "layer"]].to_numpy()])
        panel.set_ylim(len(place) - 0.5, -0.5)
        panel.set_xlim(left=0)
        panel.tick_params(axis="y", length=0)
        panel.set_xlabel("Relative probability after masking, mean of the phases (%)")
        marks = {"marker": "o", "color": "0.5", "markersize": 2.2, "label": "a published network, and their range"}
        here = {"marker": "D", "color": "black", "markersize": 3.5, "label": "this network; red: outside their range"}
        figure.legend(handles=[Line2D([], [], linestyle="", **entry) for entry in (marks, here)],
                      loc="outside upper center", ncols=2)  # fmt: skip
    return figure


def _expectation(panel: Axes, y: float, kind: str) -> None:
    """Shade where the interval has to lie for the claim to be supported."""
    left, right = (-NULL_MARGIN, NULL_MARGIN) if kind == "same" else (panel.get_xlim()[0], -MARGIN)
    panel.fill_between([left, right], y - 0.5, y + 0.5, color=SIDE[kind], linewidth=0, zorder=-1)


def _key(networks: int) -> list:
    """Return the entries of the legend."""
    point = Line2D([], [], marker="o", linestyle="none", markersize=2.5, color="0.55", label="one network")
    label = f"mean of {networks} networks, 95 % interval" if networks > 1 else "the network"
    mean = Line2D([], [], marker="D", markersize=3, color="black", label=label)
    lower = Patch(color=SIDE["lower"], label="here the paper's difference lies")
    same = Patch(color=SIDE["same"], label="here no difference lies")
    right = Line2D([], [], linestyle="none", label="right: outcome; networks x phases on the paper's side")
    return [point, mean, right, lower, same] if networks > 1 else [mean, right, lower, same]

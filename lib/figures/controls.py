"""Controls of the masking figures, drawn as red marks at or beside the bars; slices of a bar, drawn as points."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lib.figures.bar_groups import draw_points
from lib.figures.style import CONTROL_COLOUR
from lib.paper import PHASES
from lib.titles import CONTROL_TITLES

CONTROL_MARKERS = dict(zip(CONTROL_TITLES, "osDP^vX*", strict=True))
OF_A_MAP = ("other_patient", "untrained")  # regions: the same map's highest voxels elsewhere, or without training
OF_A_LAYER = ("blocks",)  # as large as a layer's cells
SIDES = {"blocks": 0.0, "other_patient": -0.27, "untrained": 0.27}  # where on its bar, shares of the bar's width


def is_control(table: pd.DataFrame) -> pd.Series:
    """Return which rows of a masking table (columns `method` and `region`) are controls."""
    return table["method"].isin(list(CONTROL_TITLES)) | table["region"].isin(OF_A_MAP)


def named_controls(control: pd.DataFrame | None) -> pd.DataFrame:
    """Return the controls of a table (see :func:`is_control`) with a column `name`; None gives an empty table."""
    if control is None or control.empty:
        return pd.DataFrame({name: [] for name in ("name", "phase", "method", "layer", "region", "mean")})
    name = control["region"].where(control["region"].isin(OF_A_MAP), control["method"])
    return control.assign(name=name)[name.isin(list(CONTROL_TITLES))]


def beside(control: pd.DataFrame) -> list[str]:
    """Return the controls that belong to no map and no layer; they are drawn at separate places."""
    return [name for name in _present(control) if name not in (*OF_A_MAP, *OF_A_LAYER)]


def draw_at_bar(panel: Axes, x: float, step: float, control: pd.DataFrame, method: str, layer: str) -> None:
    """Draw the controls of one bar, a map or a layer; `control` holds the rows of a single phase."""
    of_map = control["name"].isin(OF_A_MAP) & (control["method"] == method)
    for row in control[(control["layer"] == layer) & (of_map | control["name"].isin(OF_A_LAYER))].itertuples():
        _marker(panel, x + SIDES[row.name] * step, row.mean, row.name)


def draw_beside(panel: Axes, x: float, step: float, control: pd.DataFrame, name: str, slices) -> None:
    """Draw a control of a phase at a separate place, with its slices."""
    for row in control[control["name"] == name].head(1).itertuples():
        draw_points(panel, x, slices_of(slices, name, row.layer, row.region, row.phase), step)
        _marker(panel, x, row.mean, name)


def draw_phase_controls(panel: Axes, control: pd.DataFrame, maps: Sequence, places: np.ndarray, slices) -> None:
    """Draw the controls in a figure in which each group of bars is a phase."""
    step = places[1, 0] - places[0, 0] if len(places) > 1 else 0.8
    for phase_at, phase in enumerate(PHASES):
        found = control[control["phase"] == phase]
        for at, name in enumerate(maps):
            draw_at_bar(panel, places[at, phase_at], step, found, *name)
        for slot, name in enumerate(beside(control)):
            draw_beside(panel, places[len(maps) + slot, phase_at], step, found, name, slices)


def draw_layer_controls(
    panel: Axes, control: pd.DataFrame, methods: Sequence[str], layers: Sequence[str], places: np.ndarray, slices
) -> None:
    """Draw the controls of one phase where each group is a layer: at the bars, and to the right of all layers."""
    step, others = places[1, 0] - places[0, 0], beside(control)
    for (bar, method), (group, layer) in product(enumerate(methods), enumerate(layers)):
        draw_at_bar(panel, places[bar, group], step, control, method, layer)
    for at, name in enumerate(others):
        draw_beside(panel, len(layers) - 0.1 + 0.6 * at, 0.45, control, name, slices)
    if others:
        panel.axvline(len(layers) - 0.5, color="0.8", linewidth=0.5)
        panel.set_xlim(-0.5, len(layers) - 0.1 + 0.6 * len(others) - 0.15)
        panel.text(len(layers) - 0.4 + 0.3 * len(others), -0.035, "controls", ha="center", va="top", fontsize=6.5,
                   transform=panel.get_xaxis_transform())  # fmt: skip


def controls_key(control: pd.DataFrame) -> list[Line2D]:
    """Return the legend entries, one for each control that a table holds."""
    return [
        Line2D([], [], linestyle="", marker=CONTROL_MARKERS[name], label=CONTROL_TITLES[name], **_style(name))
        for name in _present(control)
    ]


def slices_by_phase(slices: pd.DataFrame | None, method: str, layer: str, region: str) -> list[np.ndarray]:
    """Return the values of the slices of a map, one array per phase."""
    return [slices_of(slices, method, layer, region, phase) for phase in PHASES]


def slices_of(slices: pd.DataFrame | None, method: str, layer: str, region: str, phase: str) -> np.ndarray:
    """Return the values of the slices of a bar in percent; none if no table is given."""
    if slices is None:
        return np.zeros(0)
    wanted = {"method": method, "layer": layer, "region": region, "phase": phase}
    chosen = np.logical_and.reduce([slices[name] == value for name, value in wanted.items()])
    return slices.loc[chosen, "relative_probability"].to_numpy(float)


def _present(control: pd.DataFrame) -> list[str]:
    """Return the controls that a table holds, in a fixed order."""
    return [name for name in CONTROL_TITLES if name in set(control["name"])]


def _marker(panel: Axes, x: float, mean: float, name: str) -> None:
    """Draw the mean of a control."""
    panel.plot([x], [mean], CONTROL_MARKERS[name], zorder=6, **_style(name))


def _style(name: str) -> dict:
    size = 6.0 if name == "untrained" else 4.0  # a star is small for its size
    return {"color": CONTROL_COLOUR, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.5}

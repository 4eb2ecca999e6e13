"""Controls of the masking figures, as red marks at or beside the bars; slices of a bar, as points."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lib.figures.bar_groups import draw_points
from lib.figures.style import CONTROL_COLOUR
from lib.paper import PHASES
from lib.titles import CONTROL_TITLES

CONTROL_MARKERS = dict(zip(CONTROL_TITLES, "osDP^vX*", strict=True))


def draw_layer_controls(
    panel: Axes, control: pd.DataFrame, layers: Sequence[str], beside: Sequence[str], places: np.ndarray, slices
) -> None:
    """Draw the controls of one phase: those of a layer at its bars, the others right of all layers."""
    for row in control[control["method"].isin(list(CONTROL_MARKERS))].itertuples():
        if row.layer in layers:
            _marker(panel, places[:, list(layers).index(row.layer)].mean(), row.mean, row.method)
    for at, name in enumerate(beside):
        x = len(layers) - 0.1 + 0.6 * at
        for row in control[control["method"] == name].head(1).itertuples():
            draw_points(panel, x, slices_of(slices, name, row.layer, "", row.phase), 0.45)
            _marker(panel, x, row.mean, name)
    if beside:
        panel.axvline(len(layers) - 0.5, color="0.8", linewidth=0.5)
        panel.set_xlim(-0.5, len(layers) - 0.1 + 0.6 * len(beside) - 0.15)
        panel.text(len(layers) - 0.4 + 0.3 * len(beside), -0.035, "controls", ha="center", va="top", fontsize=6.5,
                   transform=panel.get_xaxis_transform())  # fmt: skip


def draw_phase_controls(panel: Axes, control: pd.DataFrame, maps: Sequence, places: np.ndarray, slices) -> None:
    """Draw controls in a figure with a group of bars for each phase."""
    step = places[1, 0] - places[0, 0] if len(places) > 1 else 0.8
    for phase_at, phase in enumerate(PHASES):
        found = control[(control["phase"] == phase) & control["method"].isin(list(CONTROL_MARKERS))]
        for row in found.itertuples():
            for at in [at for at, (_, layer) in enumerate(maps) if layer == row.layer]:
                _marker(panel, places[at, phase_at], row.mean, row.method)
        for slot, name in enumerate(beside_layers(control, maps)):
            for row in found[found["method"] == name].head(1).itertuples():
                x = places[len(maps) + slot, phase_at]
                draw_points(panel, x, slices_of(slices, name, row.layer, "", phase), step)
                _marker(panel, x, row.mean, name)


def controls_key(control: pd.DataFrame) -> list[Line2D]:
    """Return the entries of a legend, one for each control that a table holds."""
    return [
        Line2D([], [], linestyle="", marker=CONTROL_MARKERS[name], label=CONTROL_TITLES[name], **_control_style(name))
        for name in present(control)
    ]


def present(control: pd.DataFrame) -> list[str]:
    """Return the controls that a table holds, in their order."""
    return [name for name in CONTROL_TITLES if name in set(control["method"])]


def beside_layers(control: pd.DataFrame, maps: Sequence) -> list[str]:
    """Return the controls that belong to no layer of the bars and get a place of their own."""
    layers = {layer for _, layer in maps}
    return [name for name in present(control)
            if not layers & set(control.loc[control["method"] == name, "layer"])]  # fmt: skip


def slices_by_phase(slices: pd.DataFrame | None, method: str, layer: str, region: str) -> list[np.ndarray]:
    """Return the slices of a map's bars, one array per phase."""
    return [slices_of(slices, method, layer, region, phase) for phase in PHASES]


def slices_of(slices: pd.DataFrame | None, method: str, layer: str, region: str, phase: str) -> np.ndarray:
    """Return the slices of a bar; of any region where none is named."""
    if slices is None:
        return np.zeros(0)
    chosen = (slices["method"] == method) & (slices["layer"] == layer) & (slices["phase"] == phase)
    chosen &= (slices["region"] == region) | (not region)
    return slices.loc[chosen, "relative_probability"].to_numpy(float)


def no_control() -> pd.DataFrame:
    """Return a table without a control."""
    return pd.DataFrame({"phase": [], "method": [], "layer": [], "mean": []})


def _marker(panel: Axes, x: float, mean: float, name: str):
    """Draw the mean of a control."""
    return panel.plot([x], [mean], CONTROL_MARKERS[name], zorder=6, **_control_style(name))[0]


def _control_style(name: str) -> dict:
    size = 6.5 if name == "untrained" else 4  # a star is small for its size
    return {"color": CONTROL_COLOUR, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.5}

"""Maps laid over CT slices: Figs 1, 3, 4 and S7."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib.figures.display import overlay, scaled, window
from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style
from lib.saved_maps import Maps
from lib.titles import METHOD_TITLES, PHASE_TITLES
from lib.voxels import upsample

DISPLAY = {"saliency": "magnitude rank", "guided_backprop": "rank"}  # all others: "range"


class MapRow(NamedTuple):
    """One row of a figure of maps: its title, which map, and how it is scaled for display."""

    title: str
    method: str
    layer: str
    display: str


def draw_maps(
    maps: Maps, rows: Sequence[MapRow], *, cmap: str = "rainbow", opacity: float = 0.6, how: str = "nearest"
) -> Figure:
    """Draw maps over CT: the image in the first row, one map a further row, one phase (or series) a column.

    Parameters
    ----------
    maps : Maps
        A phase without an image leaves an empty column; of many series the first eight are drawn.
    rows : sequence of MapRow
        Maps from top to bottom.
    cmap : str
        Colour map; "rainbow" is the paper's.
    opacity : float
        Of the map over the image.
    how : {"nearest", "bilinear"}
        How maps of a lower resolution are brought to that of the image.
    """
    names = list(maps.phases)[:8]
    side = (TWO_COLUMNS_MM - 26) / max(len(names), 5)
    with paper_style():
        height = side * (len(rows) + 1) + 12
        figure, axes = axes_mm(TWO_COLUMNS_MM, height, len(rows) + 1, len(names), squeeze=False, layout="compressed")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.04, wspace=0, hspace=0)
        for panel in axes.flat:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        for panel, title in zip(axes[:, 0], ["CT image", *(row.title for row in rows)], strict=True):
            panel.set_ylabel(title)
        for column, name in zip(axes.T, names, strict=True):
            column[0].set_title(_title(name, maps.phases[name]))
            if name not in maps.images:
                column[0].text(0.5, 0.5, "no slice\nclassified\ncorrectly", ha="center", va="center")
                continue
            image = maps.images[name]
            column[0].imshow(window(image), cmap="gray", vmin=0, vmax=1)
            for panel, row in zip(column[1:], rows, strict=True):
                values = _map_of(maps, name, row)
                if row.display == "range":
                    values = upsample(values, image.shape, how)
                panel.imshow(overlay(image, scaled(values, row.display), cmap=cmap, opacity=opacity))
        colours = plt.cm.ScalarMappable(mpl.colors.Normalize(0, 1), cmap)
        bar = figure.colorbar(colours, ax=axes, shrink=0.5, aspect=30, pad=0.01)
        bar.set_label(_scale_label(rows))
        bar.set_ticks([0, 0.5, 1])
    return figure


def map_row(method: str, layer: str, title: str | None = None) -> MapRow:
    """Return the row of a map with the paper's title and scaling."""
    return MapRow(title or METHOD_TITLES[method], method, layer, DISPLAY.get(method, "range"))


def _title(name: str, phase: str) -> str:
    """Return the phase's title, below the name where that is a series."""
    return PHASE_TITLES[phase] if name == phase else f"{name}\n{PHASE_TITLES[phase]}"


def _map_of(maps: Maps, name: str, row: MapRow) -> np.ndarray:
    """Return a saved map, or say which ones there are."""
    key = (name, row.method, row.layer)
    if key not in maps.maps:
        known = sorted("/".join(key) for key in maps.maps)
        raise ValueError(f"maps.npz has no {'/'.join(key)}; it has {known}. Run 05_compute_maps again.")
    return maps.maps[key]


def _scale_label(rows: Sequence[MapRow]) -> str:
    """Say what 0 and 1 mean on the colour bar."""
    ranks = any("rank" in row.display for row in rows)
    values = any(row.display == "range" for row in rows)
    parts = ["rank of the voxel"] * ranks + ["value within the map's range"] * values
    return f"{' or '.join(parts).capitalize()} (0 lowest, 1 highest)"

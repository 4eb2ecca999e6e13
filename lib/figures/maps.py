"""Figures of maps over CT slices: Figs 1, 3, 4 and S7."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from scipy.ndimage import gaussian_filter

from lib.figures.display import body_box, colour_key, highest, overlay, scaled, window
from lib.figures.style import TWO_COLUMNS_MM, figure_mm, paper_style
from lib.maps.saved import Maps
from lib.titles import METHOD_TITLES, PHASE_TITLES
from lib.voxels import centre_channel, top_shares, upsample

DISPLAY = {"saliency": "magnitude rank", "guided_backprop": "rank"}  # all others: "range"
SCALE_LABELS = {  # on the colour bar: what 0 to 1 is, the ticks
    "magnitude rank": ("Rank of the\nabsolute value", ("0", "0.5", "1")),
    "rank": ("Rank of\nthe value", ("0", "0.5", "1")),
    "range": ("Value within\nthe panel's range", ("min", "", "max")),
}
LABELS_MM, BARS_MM, GAP_MM = 6.0, 19.0, 0.8
AIR_SHOWN = 0.05  # share of the highest tenth outside the body from which on it is printed


class MapRow(NamedTuple):
    """One row of a figure of maps: its title, which map, and how it is scaled for display."""

    title: str
    method: str
    layer: str
    display: str


def draw_maps(
    maps: Maps,
    rows: Sequence[MapRow],
    *,
    cmap: str = "rainbow",
    opacity: float = 0.6,
    how: str = "nearest",
    outline: float = 0.1,
) -> Figure:
    """Draw maps over CT slices: the image in the first row, one map per further row, one phase or series per column.

    Panels are cropped to the body and have the same scale. Colours can be compared within a panel only. A line
    surrounds the highest voxels of the map. Each colour bar shows its colours over dark tissue (left) to bright tissue
    (right).

    Parameters
    ----------
    maps : Maps
        A phase without an image leaves an empty column. If there are many series, the first eight are drawn.
    rows : sequence of MapRow
        Maps from top to bottom.
    cmap : str
        Colour map; "rainbow" is the paper's.
    opacity : float
        Opacity of the map over the image.
    how : {"nearest", "bilinear"}
        How maps of a lower resolution are enlarged to the size of the image.
    outline : float
        Share of the image's voxels, air included, that the line surrounds: the voxels of highest absolute value,
        which the masking experiment overwrites. If they are scattered, the line surrounds the places where they are the
        majority. If some lie outside the body, the panel says how many. 0 draws no line.
    """
    names = list(maps.phases)[:8]
    boxes = body_box({name: maps.images[name] for name in names if name in maps.images})
    shape = next(iter(boxes.values()))
    aspect = (shape[0].stop - shape[0].start) / (shape[1].stop - shape[1].start)
    with paper_style():
        figure, axes = _panels(len(rows) + 1, len(names), aspect, title_mm=5.0 + 3.0 * (names[0] not in PHASE_TITLES))
        for panel, title in zip(axes[:, 0], ["CT image", *(row.title for row in rows)], strict=True):
            panel.set_ylabel(title, labelpad=3)
        for column, name in zip(axes.T, names, strict=True):
            column[0].set_title(_title(name, maps.phases[name]), pad=3)
            if name not in maps.images:
                column[0].text(0.5, 0.5, "no slice\nclassified\ncorrectly", ha="center", va="center")
                continue
            image, box = maps.images[name], boxes[name]
            column[0].imshow(window(image)[box], cmap="gray", vmin=0, vmax=1)
            for panel, row in zip(column[1:], rows, strict=True):
                raw = centre_channel(_map_of(maps, name, row))
                heat = scaled(upsample(raw, image.shape, how), row.display, np.isfinite(image))
                panel.imshow(overlay(image, heat, cmap=cmap, opacity=opacity)[box])
                if outline:
                    _outline(panel, raw, image, box, outline)
        start = 1
        for display, group in groupby(row.display for row in rows):
            stop = start + len(list(group))
            _colour_bar(figure, axes[start:stop, -1], display, colour_key(cmap, opacity))
            start = stop
    return figure


def map_row(method: str, layer: str, title: str | None = None, display: str | None = None) -> MapRow:
    """Return the row of a map with the paper's title and scaling."""
    return MapRow(title or METHOD_TITLES[method], method, layer, display or DISPLAY.get(method, "range"))


def _panels(rows: int, columns: int, aspect: float, title_mm: float) -> tuple[Figure, np.ndarray]:
    """Return a figure of equal panels, with room for column titles, row titles (left) and colour bars (right)."""
    width = (TWO_COLUMNS_MM - LABELS_MM - BARS_MM) / max(columns, 5) - GAP_MM
    height = title_mm + rows * (width * aspect + GAP_MM)
    figure = figure_mm(TWO_COLUMNS_MM, height, layout="none")
    axes = np.empty((rows, columns), object)
    for row, column in np.ndindex(rows, columns):
        left = LABELS_MM + column * (width + GAP_MM)
        bottom = height - title_mm - (row + 1) * width * aspect - row * GAP_MM
        axes[row, column] = panel = figure.add_axes(_share(figure, left, bottom, width, width * aspect))
        panel.set(xticks=[], yticks=[], aspect="equal")
        panel.spines[:].set_visible(False)
    return figure, axes


def _share(figure: Figure, *millimetres: float) -> tuple[float, ...]:
    """Return left, bottom, width and height as shares of the figure."""
    width, height = 25.4 * figure.get_size_inches()
    return tuple(length / total for length, total in zip(millimetres, (width, height) * 2, strict=True))


def _outline(panel: Axes, raw: np.ndarray, image: np.ndarray, box: tuple[slice, slice], fraction: float) -> None:
    """Draw a line around the highest voxels of the map, and print how many of them lie outside the body."""
    chosen = highest(raw, image.shape, fraction).astype(float)
    if image.shape[0] / raw.shape[0] <= 2:  # scattered voxels: where they are dense
        chosen = gaussian_filter(chosen, image.shape[0] / 85, mode="nearest")
    if np.ptp(chosen[box]) > 0 and chosen[box].max() > 0.5:
        line = panel.contour(chosen[box], levels=[0.5], colors="white", linewidths=0.6)
        line.set_path_effects([Stroke(linewidth=1.3, foreground="black"), Normal()])
    air = top_shares(upsample(np.abs(raw), image.shape), ~np.isfinite(image), 2, fraction)[1]
    if air >= AIR_SHOWN:
        text = f"{100 * air:.0f} % in air"
        box = {"facecolor": "black", "edgecolor": "none", "pad": 0.8}  # so that no outline runs through the words
        panel.text(0.012, 0.012, text, color="white", fontsize=6, va="bottom", transform=panel.transAxes, bbox=box,
                   zorder=5)  # fmt: skip


def _colour_bar(figure: Figure, panels: Sequence[Axes], display: str, key: np.ndarray) -> None:
    """Draw a colour bar to the right of its rows."""
    width, height = 25.4 * figure.get_size_inches()
    top, bottom = panels[0].get_position().y1 * height, panels[-1].get_position().y0 * height
    length = min(top - bottom - 2, 45)
    bar = figure.add_axes(_share(figure, width - BARS_MM + 1.5, (top + bottom - length) / 2, 3.5, length))
    bar.imshow(key, origin="lower", aspect="auto", extent=(0, 1, 0, 1))
    label, ticks = SCALE_LABELS[display]
    bar.set(xticks=[])
    bar.set_yticks([0, 0.5, 1], ticks)
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set_ylabel(label, labelpad=1 if display == "range" else 2)
    bar.spines[:].set_visible(True)


def _title(name: str, phase: str) -> str:
    """Return the title of the phase; if the name is a series, below this name."""
    return PHASE_TITLES[phase] if name == phase else f"{name}\n{PHASE_TITLES[phase]}"


def _map_of(maps: Maps, name: str, row: MapRow) -> np.ndarray:
    """Return a saved map; if it is missing, raise an error that lists those that exist."""
    key = (name, row.method, row.layer)
    if key not in maps.maps:
        known = sorted("/".join(key) for key in maps.maps)
        raise ValueError(f"maps.npz has no {'/'.join(key)}; it has {known}. Run 05_compute_maps again.")
    return maps.maps[key]

"""The paper's figures, drawn from saved arrays and tables; nothing is computed here."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from lib.figures.display import overlay, scaled, window
from lib.paper import METHOD_TITLES, PHASE_TITLES, PHASES
from lib.provenance import atomic_path, resolve
from lib.voxels import upsample

STYLE = str(Path(__file__).with_name("paper.mplstyle"))
ONE_COLUMN_MM, TWO_COLUMNS_MM = 86.0, 178.0
PHASE_COLOURS = dict(zip(PHASES, ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377"), strict=True))
SCHEME_TITLES = {"single": "Single slices", "voting": "Voting"}
DISPLAY = {"saliency": "magnitude rank", "guided_backprop": "rank"}  # all others: "range"


class MapRow(NamedTuple):
    """One row of a figure of maps: its title, which map, and how it is scaled for display."""

    title: str
    method: str
    layer: str
    display: str


class Maps(NamedTuple):
    """Saved maps: HU `images` (H, W) by name, raw `maps` by (name, method, layer), `titles` by name.

    A name is a phase, or a series where every series of somebody's own CT got its maps.
    """

    images: dict[str, np.ndarray]
    maps: dict[tuple[str, str, str], np.ndarray]
    titles: dict[str, str]


def read_maps(folder: str | Path) -> Maps:
    """Read the maps of the representative slices that 05_compute_maps saved in a folder."""
    folder = resolve(folder)
    images, maps = {}, {}
    with np.load(folder / "maps.npz") as arrays:
        for key in arrays.files:
            name, *which = key.split("/")
            if which == ["image"]:
                images[name] = arrays[key]
            elif len(which) == 2:
                maps[name, which[0], which[1]] = arrays[key]
    if not images:
        raise ValueError(f"{folder / 'maps.npz'} holds no <phase>/image: run 05_compute_maps again.")
    if set(images) <= set(PHASES):
        return Maps(images, maps, PHASE_TITLES)
    phases = pd.read_csv(folder / "slices.csv", dtype=str).set_index("name")["phase"]
    return Maps(images, maps, {name: f"{name}\n{PHASE_TITLES[phases[name]]}" for name in images})


@contextmanager
def paper_style():
    """Draw in the paper's style, whatever is set outside."""
    with mpl.rc_context(), plt.style.context(STYLE, after_reset=True):
        yield


def save_figure(figure: Figure, path: str | Path, *, limit: int = 1_000_000) -> list[Path]:
    """Write a figure as PNG and PDF, the same bytes each time.

    Parameters
    ----------
    figure : Figure
    path : path
        Of the PNG; the PDF goes beside it.
    limit : int
        Bytes that the PNG may have. It has 300 dpi, and fewer where it would be larger (noisy maps). The PDF keeps
        every voxel.

    Returns
    -------
    list of Path
        The two files.
    """
    png, pdf = (resolve(path).with_suffix(suffix) for suffix in (".png", ".pdf"))
    with paper_style():
        with atomic_path(png) as temporary:
            dpi, size = 300.0, 0
            while not size or (size > limit and dpi > 72):
                dpi *= min(1.0, 0.95 * np.sqrt(limit / size)) if size else 1.0
                figure.savefig(temporary, dpi=int(dpi), metadata={"Software": None})
                size = temporary.stat().st_size
        with atomic_path(pdf) as temporary:
            figure.savefig(temporary, metadata={"CreationDate": None, "Producer": None})
    return [png, pdf]


def axes_mm(width: float, height: float, rows: int = 1, columns: int = 1, *, layout: str | None = None, **keywords):
    """Return a figure of a size in millimetres, and its panels; unknown to pyplot, so that nothing shows it twice."""
    figure = Figure(figsize=inches(width, height), layout=layout)
    return figure, figure.subplots(rows, columns, **keywords)


def inches(*millimetres: float) -> tuple[float, ...]:
    """Return lengths in inches."""
    return tuple(length / 25.4 for length in millimetres)


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
    names = list(maps.titles)[:8]
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
            column[0].set_title(maps.titles[name])
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


def draw_training_and_roc(history: pd.DataFrame, roc: pd.DataFrame, table2: pd.DataFrame) -> Figure:
    """Draw S4: loss and accuracy by epoch, and ROC curves one against all.

    Parameters
    ----------
    history : DataFrame
        `epoch`, `loss`, `val_loss`, `accuracy`, `val_accuracy`.
    roc : DataFrame
        `scheme` (single, voting), `phase`, `false_positive_rate`, `true_positive_rate`.
    table2 : DataFrame
        Index (scheme, phase); `roc_auc`.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 130, 2, 2)
        for panel, name, label in zip(axes[0], ("loss", "accuracy"), ("Loss (cross-entropy)", "Accuracy"), strict=True):
            for prefix, title, style in (("", "training", "-"), ("val_", "validation", "--")):
                panel.plot(history["epoch"], history[prefix + name], style, color="black", label=title)
            panel.set(xlabel="Epoch", ylabel=label)
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.legend()
        axes[0, 1].set_ylim(0, 1)
        for panel, (scheme, title) in zip(axes[1], SCHEME_TITLES.items(), strict=True):
            for phase, points in roc[roc["scheme"] == scheme].groupby("phase", sort=False):
                rates = points["false_positive_rate"], points["true_positive_rate"]
                label = f"{PHASE_TITLES[phase]}, {table2.loc[(scheme, phase), 'roc_auc']:.3f}"
                panel.plot(*rates, color=PHASE_COLOURS[phase], label=label)
            panel.plot([0, 1], [0, 1], ":", color="0.6", linewidth=0.6)
            panel.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="False-positive rate", ylabel="True-positive rate")
            panel.set_title(title)
            panel.set_box_aspect(1)
            panel.legend(title="Phase against all, AUC", loc="lower right", frameon=True, edgecolor="none")
    return figure


def draw_confusions(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw confusion matrices, rows predicted and columns labelled, shaded by the share of the labelled phase."""
    names = [PHASE_TITLES[phase] for phase in PHASES]
    with paper_style():
        height = 3 + (TWO_COLUMNS_MM - 22) / len(matrices)  # that of square panels with their labels
        figure, axes = axes_mm(TWO_COLUMNS_MM, height, 1, len(matrices), squeeze=False, layout="compressed")
        for panel, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
            counts = matrix.loc[list(PHASES), list(PHASES)].to_numpy()
            shares = counts / np.maximum(counts.sum(axis=0), 1)
            seaborn.heatmap(
                shares, annot=counts, fmt="d", cmap="Greys", vmin=0, vmax=1, cbar=False, square=True, ax=panel
            )
            panel.set_xticks(np.arange(5) + 0.5, names, rotation=30, ha="right", rotation_mode="anchor")
            panel.set_yticks(np.arange(5) + 0.5, names, rotation=0)
            panel.set(xlabel="Labelled phase", ylabel="Predicted phase", title=title)
            panel.spines[:].set_visible(True)
        figure.colorbar(axes[0, -1].collections[0], ax=axes, shrink=0.7, label="Share of the labelled phase")
    return figure


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

"""Figure of the sanity checks: how alike maps stay while the weights of the network become random."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures.style import CONTROL_COLOUR, TWO_COLUMNS_MM, figure_mm, letter, paper_style
from lib.paper import LAYERS
from lib.titles import CONTROL_TITLES, LAYER_TITLES, map_title

LAYER_COLOURS = dict(zip(LAYERS, ("#440154", "#3b528b", "#21918c", "#3fae5d", "#c8a415"), strict=True))
MEASURE_TITLES = {
    "rank_correlation": "Rank correlation",
    "ssim": "Structural similarity",
    "overlap": "Overlap of the\nhighest tenth",
}
FAMILIES = {
    "Saliency, guided backprop, CAM": ("saliency", "guided_backprop", "cam"),
    "Grad-CAM": ("grad_cam",),
    "SAM": ("sam",),
}
INPUT_STYLES = {"saliency": ("black", "-"), "guided_backprop": ("0.55", "-"), "cam": (LAYER_COLOURS["conv6"], "-")}
COLUMN_TITLES = {
    "output": "Dense\nlayer\nrandom",
    "intact": "Random\nbehind\nthe layer",
    "all": "Network\nrandom",
    "random labels": "Trained\non random\nlabels",
    "other seeds": "Trained\nfrom other\nseeds",
    **CONTROL_TITLES,
}


def draw_sanity(cascade: pd.DataFrame, compared: pd.DataFrame, *, stages: Sequence[str], threshold: float) -> Figure:
    """Draw the agreement with the trained network's maps along the cascade (A), and with other maps (B).

    Parameters
    ----------
    cascade : DataFrame
        `method`, `layer`, `stage`, `intact` (whether the map's own layer and all before it are as trained), `measure`,
        `mean`, `low`, `high`.
    compared : DataFrame
        `method`, `layer`, `against` (a key of COLUMN_TITLES), `mean`, `low`, `high`: rank correlations.
    stages : sequence of str
        Stages of the cascade from the output to the input, in the order of the axis.
    threshold : float
        Rank correlation from which a map counts as unchanged.
    """
    maps = list(cascade[["method", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    with paper_style():
        figure = figure_mm(TWO_COLUMNS_MM, 130 + 5 * len(maps))
        above, below = figure.subfigures(2, 1, height_ratios=(122, 8 + 5 * len(maps)))
        panels = above.subplots(len(MEASURE_TITLES), len(FAMILIES), sharex=True, sharey="row")
        for row, measure in enumerate(MEASURE_TITLES):
            for panel, (title, methods) in zip(panels[row], FAMILIES.items(), strict=True):
                _draw_cascade(panel, cascade[(cascade["measure"] == measure)], methods, stages)
                if row == 0:
                    panel.axhline(threshold, color=CONTROL_COLOUR, linewidth=0.8, linestyle="--", zorder=0)
                    panel.set_title(title)
            lowest = cascade.loc[cascade["measure"] == measure, "mean"].min()
            panels[row, 0].set_ylim(min(-0.1, lowest - 0.1), 1.05)
            panels[row, 0].set_ylabel(MEASURE_TITLES[measure])
        for panel in panels[-1]:
            panel.set_xticks(range(len(stages) + 1), ["–", *map(_stage_title, stages)])
        for panel, place in zip(panels[0], ("lower left", "upper right", "upper right"), strict=True):
            panel.legend(loc=place, ncols=2 if "right" in place else 1, fontsize=6, handlelength=1.4)
        above.supxlabel("Weights random from the output to this layer (–: none)", fontsize=7)
        _heat_map(below.subplots(), compared, maps, threshold)
        letter(above, "A")
        letter(below, "B")
    return figure


def _stage_title(layer: str) -> str:
    return "dense" if layer == "phase" else LAYER_TITLES.get(layer, layer.removeprefix("conv"))


def _draw_cascade(panel: Axes, rows: pd.DataFrame, methods: Sequence[str], stages: Sequence[str]) -> None:
    """Draw one line per map: filled points while the map's own layer is as trained, open ones after it is random."""
    panel.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    chosen = rows[rows["method"].isin(methods)]
    for (method, layer), line in chosen.groupby(["method", "layer"], sort=False):
        line = line.set_index("stage").reindex(stages)
        colour, style = INPUT_STYLES.get(method, (LAYER_COLOURS.get(layer, "0.4"), "-"))
        label = map_title(method, layer) if method in INPUT_STYLES else LAYER_TITLES.get(layer, layer)
        x, mean = np.arange(len(stages) + 1), np.r_[1.0, line["mean"].to_numpy(float)]
        low, high = (np.r_[1.0, line[name].to_numpy(float)] for name in ("low", "high"))
        panel.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        panel.plot(x, mean, style, color=colour, linewidth=1.1, label=label)
        intact = np.r_[True, line["intact"].fillna(False).to_numpy(bool)]
        for which, face in ((intact, colour), (~intact, "white")):
            panel.plot(x[which], mean[which], "o", color=colour, markerfacecolor=face, markersize=3,
                       markeredgewidth=0.8, label="_points")  # fmt: skip
    panel.set_xlim(-0.3, len(stages) + 0.3)


def _heat_map(panel: Axes, compared: pd.DataFrame, maps: Sequence, threshold: float) -> None:
    """Print the rank correlations; bold if the interval lies above the threshold."""
    columns = [name for name in COLUMN_TITLES if name in set(compared["against"])]
    table = compared.set_index(["method", "layer", "against"])
    means = np.full((len(maps), len(columns)), np.nan)
    for row, name in enumerate(maps):
        for column, against in enumerate(columns):
            if (*name, against) in table.index:
                found = table.loc[(*name, against)]
                means[row, column] = found["mean"]
                colour = "white" if abs(found["mean"]) > 0.75 else "black"
                weight = "bold" if found["low"] > threshold else "normal"
                panel.text(column, row, f"{found['mean']:z.2f}".replace("-", "−"), ha="center", va="center", fontsize=6,
                           color=colour, fontweight=weight)  # fmt: skip
    shown = panel.imshow(means, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    panel.set_xticks(range(len(columns)), [COLUMN_TITLES[name] for name in columns])
    panel.xaxis.tick_top()
    panel.set_yticks(range(len(maps)), [map_title(*name) for name in maps])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.figure.colorbar(shown, ax=panel, pad=0.01, aspect=25, label="Rank correlation")

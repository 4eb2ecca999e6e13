"""The figure of 90_measure_speed, drawn from its table."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures.style import METHOD_COLOURS, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.titles import METHOD_TITLES

OURS, PLAIN = "this repository", "plain gradient"
LIMIT = 2.0  # times a plain gradient: what this project allows all maps to take
STYLES = {  # colour, marker, line
    PLAIN: ("#9a9a9a", "s", "--"),
    "saliency": (METHOD_COLOURS["saliency"], "o", "-"),
    "three": (METHOD_COLOURS["guided_backprop"], "^", "-"),
    "all": (METHOD_COLOURS["sam"], "D", "-"),
    "tf-keras-vis": ("#aa3377", "v", "-"),
    "captum": ("#997700", "P", "-"),
}


def draw_speed(table: pd.DataFrame) -> Figure:
    """Draw the time per image by image size (A), and relative to a plain gradient by the number of layers (B).

    Parameters
    ----------
    table : DataFrame
        As written by 90_measure_speed: `library`, `maps` (names of methods, separated by spaces), `image_size`,
        `batch`, `layers`, `ms_an_image`, `ratio` (time over that of a plain gradient). Of several backends the first
        is drawn.
    """
    if "backend" in table:
        table = table[table["backend"] == table["backend"].iloc[0]]
    table = table[table["maps"].map(lambda maps: set(maps.split()) <= set(METHOD_TITLES))]
    largest, five = table["image_size"].max(), table["layers"].max()
    sizes = table[(table["batch"] == 8) & (table["layers"] == five)].sort_values("image_size")
    depth = table[(table["batch"] == 8) & (table["image_size"] == largest)].sort_values("layers")
    with paper_style():
        figure, (left, right) = axes_mm(TWO_COLUMNS_MM, 92, columns=2)
        for (library, maps), rows in sizes.groupby(["library", "maps"], sort=False):
            _line(left, rows["image_size"], rows["ms_an_image"], library, maps)
        for (library, maps), rows in depth[depth["library"] == OURS].groupby(["library", "maps"], sort=False):
            _line(right, rows["layers"], rows["ratio"], library, maps)
        left.set(xscale="log", yscale="log", xlabel="Image size (pixels)", ylabel="Time per image, batches of 8 (ms)")
        ticks = sorted(sizes["image_size"].unique())
        left.set_xticks(ticks, [f"{size:g}" for size in ticks])
        left.minorticks_off()
        left.yaxis.set_major_formatter("{x:g}")
        right.axhline(1, color=STYLES[PLAIN][0], linestyle=STYLES[PLAIN][2], linewidth=1, zorder=0)
        right.axhline(LIMIT, color="black", linewidth=0.6, linestyle=":")
        right.text(
            right.get_xlim()[1], LIMIT, f"limit set for all maps: {LIMIT:g}", ha="right", va="bottom", fontsize=6
        )
        right.set(xlabel=f"Layers with maps ({largest:g} pixels)", ylabel="Time / time of a plain gradient")
        right.set(ylim=(0, 1.15 * LIMIT), xticks=sorted(depth["layers"].unique()))
        for panel, letter in ((left, "A"), (right, "B")):
            panel.set_title(letter, loc="left", fontweight="bold", fontsize=9)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _line(panel: Axes, x: pd.Series, y: pd.Series, library: str, maps: str) -> None:
    """Draw one line in the colour and with the marker and name of the computation that was timed."""
    methods = maps.split()
    kind = "saliency" if len(methods) == 1 else "all" if "sam" in methods else "three"
    style = STYLES.get(library, STYLES[kind])
    what = ", ".join(METHOD_TITLES[method] for method in methods)
    name = "Plain gradient: one forward and one backward pass" if library == PLAIN else f"{what} ({library})"
    panel.plot(x, y, color=style[0], marker=style[1], linestyle=style[2], markersize=3.5, linewidth=1, label=name)

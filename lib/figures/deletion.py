"""Figure of deletion curves: the probability of the right phase against the share of the voxels overwritten."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures.style import CONTROL_COLOUR, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.titles import map_title

HIGHEST, LOWEST, DISC_COLOUR, BETWEEN = "black", "#009988", "0.55", "#009988"
COLUMNS = 5


def draw_deletion(curves: pd.DataFrame, areas: pd.DataFrame, controls: dict, *, phase: str = "mean") -> Figure:
    """Draw the curves of every map with its control, and print the area between the two orders.

    Parameters
    ----------
    curves : DataFrame
        As from `lib.masking.deletion.summarise_curves`: `phase`, `method`, `layer`, `region`, `fraction`, `value` (per
        cent).
    areas : DataFrame
        As from `lib.masking.deletion.summarise_areas`; the area "between" is printed with its interval.
    controls : dict of (method, layer) to (method, layer)
        The control of each map.
    phase : str
        The phase that is drawn, or "mean".
    """
    curves, areas = curves[curves["phase"] == phase], areas[(areas["phase"] == phase) & (areas["area"] == "between")]
    between = areas.set_index(["method", "layer"])
    maps = [name for name in controls if name in between.index]
    rows = _rows(maps)
    with paper_style():
        columns = max(map(len, rows))
        figure, panels = axes_mm(TWO_COLUMNS_MM, 12 + 36 * len(rows), len(rows), columns, sharex=True, sharey=True,
                                 squeeze=False)  # fmt: skip
        for panel in panels.ravel():
            panel.set_visible(False)
        for line, names in zip(panels, rows, strict=True):
            for panel, name in zip(line, names, strict=False):
                panel.set_visible(True)
                _draw_map(panel, curves, name, controls[name])
                found = between.loc[name]
                value, low, high = (_whole(found[column]) for column in ("value", "low", "high"))
                panel.set_title(f"{map_title(*name)}\n{value} [{low}, {high}]")
                panel.tick_params(labelbottom=True, labelleft=True)
        figure.supxlabel("Voxels overwritten, % of those ranked (square-root scale)", fontsize=7)
        figure.supylabel("Relative probability, %", fontsize=7)
        _key(figure)
    return figure


def _rows(maps: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Return the maps by row: those without a choice of layers first, then one row per method."""
    several = {method for method, _ in maps if sum(method == other for other, _ in maps) > 1}
    single = [name for name in maps if name[0] not in several]
    found = [single[at : at + COLUMNS] for at in range(0, len(single), COLUMNS)]
    for method in dict.fromkeys(method for method, _ in maps if method in several):
        mine = [name for name in maps if name[0] == method]
        found += [mine[at : at + COLUMNS] for at in range(0, len(mine), COLUMNS)]
    return found


def _curve(curves: pd.DataFrame, name: tuple[str, str], region: str) -> tuple[np.ndarray, ...]:
    chosen = curves[(curves["method"] == name[0]) & (curves["layer"] == name[1]) & (curves["region"] == region)]
    chosen = chosen.sort_values("fraction")
    return tuple(chosen[column].to_numpy(float) for column in ("fraction", "value"))


def _whole(number: float) -> str:
    """Return a number without decimals; there is no minus zero."""
    return "–" if np.isnan(number) else f"{round(number) + 0}".replace("-", "−")


def _draw_map(panel: Axes, curves: pd.DataFrame, name: tuple[str, str], control: tuple[str, str]) -> None:
    top, bottom = _curve(curves, name, "top"), _curve(curves, name, "bottom")
    x = np.sqrt(top[0])
    panel.fill_between(x, top[1], bottom[1], color=BETWEEN, alpha=0.18, linewidth=0)
    drawn = ((bottom, LOWEST, "-"), (_curve(curves, control, "random"), CONTROL_COLOUR, "--"),
             (_curve(curves, ("disc", "-"), "top"), DISC_COLOUR, ":"), (top, HIGHEST, "-"))  # fmt: skip
    for (_, value), colour, style in drawn:
        if len(value):
            panel.plot(x, value, style, color=colour, linewidth=1.1)
    ticks = (0, 0.05, 0.2, 0.5, 1.0)
    panel.set_xticks(np.sqrt(ticks), [f"{100 * tick:g}" for tick in ticks])
    panel.set_xlim(0, 1)
    panel.set_ylim(bottom=0)


def _key(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=HIGHEST, label="highest first (deletion)"),
        Line2D([], [], color=LOWEST, label="lowest first (insertion, read from the right)"),
        Patch(facecolor=BETWEEN, alpha=0.2, label="area between (number above: %, with 95 % interval)"),
        Line2D([], [], color=CONTROL_COLOUR, linestyle="--", label="control: random cells of the same size"),
        Line2D([], [], color=DISC_COLOUR, linestyle=":", label="disc about the body's centroid"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)

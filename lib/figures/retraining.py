"""Figure of remove and retrain: the accuracy of networks that were trained without the highest voxels of a map."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures.style import CONTROL_COLOUR, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.masking.retraining_summary import NOTHING, ORDERS, control_of
from lib.paper import PHASES
from lib.titles import map_title

ORDER_STYLES = dict(zip(ORDERS, (("0.55", ":"), ("#0077bb", "-.")), strict=True))
GUESSING = 100 / len(PHASES)


def draw_retraining(summary: pd.DataFrame, maps: list[tuple[str, str]]) -> Figure:
    """Draw one panel per map: accuracy against the share that was removed, beside the control of the same shape.

    Parameters
    ----------
    summary : DataFrame
        As from `lib.masking.retraining.summarise_retrained`.
    maps : list of (method, layer)
    """
    with paper_style():
        figure, panels = axes_mm(TWO_COLUMNS_MM, 62, 1, len(maps), sharey=True, squeeze=False)
        for panel, name in zip(panels[0], maps, strict=True):
            for what, (colour, style) in (ORDER_STYLES | {control_of(name): (CONTROL_COLOUR, "--"),
                                                          name: ("black", "-")}).items():  # fmt: skip
                rows = _from_nothing(summary, what)
                x = 100 * rows["fraction"]
                panel.plot(x, rows["accuracy"], style, color=colour, linewidth=1.2)
                if what not in ORDER_STYLES:
                    panel.vlines(x, rows["lowest"], rows["highest"], color=colour, linewidth=2.2, alpha=0.45)
            panel.axhline(GUESSING, color="0.8", linewidth=0.8, zorder=0)
            panel.set_title(map_title(*name))
            panel.set_xticks([0, *(100 * summary.loc[summary["fraction"] > 0, "fraction"].unique())])
        panels[0, 0].set_ylabel("Accuracy on test slices, %")
        figure.supxlabel("Voxels of the body removed before training, %", fontsize=7)
        handles = [
            Line2D([], [], color="black", label="highest voxels of the map"),
            Line2D([], [], color=CONTROL_COLOUR, linestyle="--", label="random cells of the same size"),
            Line2D([], [], color="0.55", linestyle=":", label="disc about the body's centroid"),
            Line2D([], [], color="#0077bb", linestyle="-.", label="brightest voxels"),
            Line2D([], [], color="0.8", label="guessing"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _from_nothing(summary: pd.DataFrame, name: tuple[str, str]) -> pd.DataFrame:
    """Return the rows of a map or control by share, the networks without any removal first."""
    methods = list(zip(summary["method"], summary["layer"], strict=True))
    return summary[[method in (name, NOTHING) for method in methods]].sort_values("fraction")

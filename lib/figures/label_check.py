"""Figure of the kidneys' attenuation by label, with the limits beyond which a label is unlikely."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures.style import CONTROL_COLOUR, PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, paper_style
from lib.label_check import ENHANCED_HU, EXCRETED_HU, GAP_HU, gap_limits
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

ALLOWED = "0.88"  # grey of the ranges in which a label is likely


def draw_label_check(table: pd.DataFrame) -> Figure:
    """Draw enhancement (A), excretion (B) and the gap between outer and inner parenchyma (C) of every series.

    Parameters
    ----------
    table : DataFrame
        As from `lib.label_check.check_labels`; series that could not be measured are left out.
    """
    table = table[table["unmeasured"] == ""]
    table = table.assign(excess_hu=table["pelvis_hu"] - table["cortex_hu"])
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 68, 1, 3)
        parts = (
            ("cortex_hu", "A  Enhancement", "Outer parenchyma (HU)", _enhancement),
            ("excess_hu", "B  Excretion", "Pelvis minus outer parenchyma (HU)", _excretion),
            ("gap_hu", "C  Cortex and medulla", "Outer minus inner parenchyma (HU)", gap_limits),
        )
        for axis, (name, title, label, limits) in zip(axes, parts, strict=True):
            _draw_part(axis, table, name, limits)
            axis.set_title(title, loc="left")
            axis.set_ylabel(label)
        axes[1].set_yscale("symlog", linthresh=200)
        key = [
            Line2D([], [], color="0.4", linestyle="", marker="o", markersize=3, label="label likely"),
            Line2D([], [], color=CONTROL_COLOUR, linestyle="", marker="x", markersize=4.5, label="label unlikely"),
            Line2D([], [], color=ALLOWED, linewidth=6, label="range in which the label is likely"),
        ]
        figure.legend(handles=key, loc="outside lower center", ncols=3)
    return figure


def _enhancement(phase: str) -> tuple[float, float]:
    return (-np.inf, ENHANCED_HU) if phase == "noncon" else (ENHANCED_HU, np.inf)


def _excretion(phase: str) -> tuple[float, float]:
    return (
        (EXCRETED_HU, np.inf) if phase == "pyelo" else (-np.inf, EXCRETED_HU) if phase in GAP_HU else (-np.inf, np.inf)
    )


def _draw_part(axis: Axes, table: pd.DataFrame, name: str, limits) -> None:
    values = table[name].to_numpy(float)
    low, high = (float(np.min(values, initial=0)), float(np.max(values, initial=1)))
    low, high = low - 0.05 * (high - low), high + 0.15 * (high - low)
    for place, phase in enumerate(PHASES):
        bottom, top = limits(phase)
        axis.fill_between((place - 0.42, place + 0.42), max(bottom, low), min(top, high), color=ALLOWED, linewidth=0)
        chosen = table[table["phase"] == phase]
        side = np.linspace(-0.3, 0.3, len(chosen)) if len(chosen) > 1 else np.zeros(len(chosen))
        unlikely = (chosen["doubt"] != "").to_numpy()
        for these, style in (
            (~unlikely, {"marker": "o", "markersize": 2.5, "color": PHASE_COLOURS[phase]}),
            (unlikely, {"marker": "x", "markersize": 4.5, "color": CONTROL_COLOUR}),
        ):
            axis.plot(place + side[these], chosen[name].to_numpy()[these], linestyle="", **style)
    axis.set_xticks(range(len(PHASES)), [PHASE_TITLES[phase] for phase in PHASES])
    axis.set(xlim=(-0.6, len(PHASES) - 0.4), ylim=(low, high), xlabel="Label")

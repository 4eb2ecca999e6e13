"""The figure of 23_compare_four_studies: maps beside maps that see no network; nothing is computed there."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style

LINES, MARKS = ("--", "-.", ":"), ("|", "x")


def draw_against_nulls(
    panels: Mapping[tuple[str, str], tuple[pd.Series, pd.Series, Mapping[str, pd.Series]]],
) -> Figure:
    """Draw what maps reach (points) and what controls reach, one panel a study.

    Parameters
    ----------
    panels : mapping of (letter, label) to (Series, Series, mapping of str to Series)
        Values by method or network; by control, drawn as lines; and of controls that differ from row to row, drawn as
        marks.
    """
    tallest = max(len(values) for values, *_ in panels.values())
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 34 + 3.4 * tallest, 1, len(panels), squeeze=False)
        for panel, ((letter, label), (values, controls, own)) in zip(axes[0], panels.items(), strict=True):
            values = values.dropna().sort_values()
            places = np.arange(len(values))
            panel.plot(values, places, "o", markersize=3, color="#4477aa")
            for line, (name, value) in zip(itertools.cycle(LINES), controls.items(), strict=False):
                panel.axvline(value, color="0.3", linewidth=0.8, linestyle=line, label=name)
            for mark, (name, held) in zip(itertools.cycle(MARKS), own.items(), strict=False):
                panel.plot(held[values.index], places, mark, color="0.3", markersize=4, label=name)
            panel.set_yticks(places, [str(name).replace("_", " ") for name in values.index])
            panel.set_ylim(-0.8, max(len(values), 4) - 0.2)
            panel.tick_params(labelsize=6)
            panel.set(xlabel=label)
            panel.set_title(letter, loc="left", fontweight="bold")
            panel.legend(fontsize=5.5, loc="upper center", bbox_to_anchor=(0.5, -0.22 if tallest > 8 else -0.35))
    return figure

"""Figs 2, 5 and 6: bars of relative probability, drawn from the tables of lib.masking.statistics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures.bar_groups import draw_bars, draw_mark
from lib.figures.controls import (
    beside,
    controls_key,
    draw_layer_controls,
    draw_phase_controls,
    named_controls,
    slices_by_phase,
    slices_of,
)
from lib.figures.style import (
    METHOD_COLOURS,
    SAM_COLOURS,
    TWO_COLUMNS_MM,
    axes_mm,
    count,
    figure_mm,
    letter,
    paper_style,
)
from lib.paper import PHASES
from lib.titles import LAYER_TITLES, METHOD_TITLES, PHASE_TITLES

LEVEL_LABEL = "Relative probability (%)"


def draw_specificity(
    levels: pd.DataFrame, letters: pd.DataFrame, maps: Sequence, *, control: pd.DataFrame | None = None,
    slices: pd.DataFrame | None = None, fraction: float = 0.1,
) -> Figure:  # fmt: skip
    """Draw Fig 2: masking by map and phase (A), and all maps with their controls (B).

    Parameters
    ----------
    levels : DataFrame
        `method`, `layer`, `region` (top, bottom), `phase`, `mean`, `sd`, `n_slices`, `n_patients`, `p_bonferroni`.
    letters : DataFrame
        `phase`, `method`, `layer`, `letters`.
    maps : sequence of (method, layer)
        Maps in the order of the panels.
    control : DataFrame, optional
        `phase`, `method`, `layer`, `region`, `mean`: the rows of `lib.figures.controls.is_control`. Blocks are drawn at
        the bars of their layer. The mask of another patient and of the untrained network are drawn at the bar of their
        map. All other controls are drawn beside the bars, with their slices.
    slices : DataFrame, optional
        As from `lib.masking.statistics.slice_means`; the slices that a bar is the mean of are drawn as points.
    fraction : float
        Share of the voxels that was masked.
    """
    part, control = f"{100 * fraction:g} %", named_controls(control)
    with paper_style():
        figure = figure_mm(TWO_COLUMNS_MM, 140)
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.12))
        panels = np.atleast_1d(above.subplots(1, len(maps), sharey=True))
        for panel, (method, layer) in zip(panels, maps, strict=True):
            bars = [_bars(levels, method, layer, region) for region in ("top", "bottom")]
            _phase_bars(
                panel, bars, labels=["", ""], colours=[METHOD_COLOURS[method], "white"], hatches=["", "/////"],
                marks=[_stars(bar) for bar in bars], width=0.84,
                values=[slices_by_phase(slices, method, layer, region) for region in ("top", "bottom")],
            )  # fmt: skip
            panel.set_title(METHOD_TITLES[method])
            panel.tick_params(axis="x", rotation=40)
        _fit_height(*panels, lines=1)
        panels[0].set_ylabel(f"{LEVEL_LABEL}\nafter masking")
        line = {"edgecolor": "black", "linewidth": 0.5}
        key = [Patch(facecolor="0.4", label=f"top {part} of the voxels", **line),
               Patch(facecolor="white", hatch="/////", label=f"bottom {part}", **line)]  # fmt: skip
        _legend(above, [*key, *_signs(slices, "* differs from 100 %")], letter_of_part="A")
        panel = below.subplots()
        bars = [_bars(levels, method, layer, "top") for method, layer in maps]
        marks = [_letters(letters, method, layer) for method, layer in maps]
        places = _phase_bars(
            panel, bars, labels=_lettered([METHOD_TITLES[method] for method, _ in maps]),
            colours=[METHOD_COLOURS[method] for method, _ in maps], marks=marks, counts=True,
            values=[slices_by_phase(slices, *name, "top") for name in maps], slots=len(beside(control)),
        )  # fmt: skip
        draw_phase_controls(panel, control, maps, places, slices)
        _fit_height(panel, lines=_lines(marks))
        panel.set_ylabel(f"{LEVEL_LABEL},\ntop {part} masked")
        _legend(below, panel.get_legend_handles_labels()[0], controls_key(control), letter_of_part="B")
    return figure


def draw_layer_comparison(
    levels: pd.DataFrame, pairs: pd.DataFrame, layers: Sequence[str], *, control: pd.DataFrame | None = None,
    slices: pd.DataFrame | None = None, fraction: float = 0.1,
) -> Figure:  # fmt: skip
    """Draw Fig 5: SAM and Grad-CAM by layer, with one panel per phase.

    Parameters
    ----------
    levels : DataFrame
        As for :func:`draw_specificity`, without `p_bonferroni`.
    pairs : DataFrame
        `phase`, `layer`, `p_bonferroni` of the comparison of SAM with Grad-CAM.
    layers : sequence of str
        Layers from shallow to deep.
    control, slices, fraction
        As for :func:`draw_specificity`. The controls of a layer are drawn at its bars, the others to the right of all
        layers.
    """
    control, methods = named_controls(control), ("sam", "grad_cam")
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 118, 2, 3, sharey=True)
        for panel, phase in zip(axes.flat, PHASES, strict=False):
            chosen = levels[(levels["phase"] == phase) & (levels["region"] == "top")].set_index(["method", "layer"])
            bars = [chosen.reindex([(method, layer) for layer in layers]) for method in methods]
            means, sds = (np.stack([bar[name].to_numpy(dtype=float) for bar in bars]) for name in ("mean", "sd"))
            places = draw_bars(
                panel, means, sds, labels=[METHOD_TITLES[method] for method in methods], width=0.86,
                values=[[slices_of(slices, method, layer, "top", phase) for layer in layers] for method in methods],
                colours=[METHOD_COLOURS[method] for method in methods], groups=[LAYER_TITLES[name] for name in layers],
            )  # fmt: skip
            low = pairs[pairs["phase"] == phase].set_index("layer")["p_bonferroni"].reindex(layers) < 0.05
            for at in np.flatnonzero(low):
                draw_mark(panel, at, "*")
            draw_layer_controls(panel, control[control["phase"] == phase], methods, layers, places, slices)
            panel.set_title(f"{PHASE_TITLES[phase]}: {count(*bars[0].iloc[0][['n_slices', 'n_patients']])}")
            panel.set_xlabel("Layer")
        _fit_height(*axes.flat[: len(PHASES)], lines=1)
        for panel in axes[:, 0]:
            panel.set_ylabel(f"{LEVEL_LABEL},\ntop {100 * fraction:g} % masked")
        key = [*axes[0, 0].get_legend_handles_labels()[0], *controls_key(control), *_signs(slices, "* SAM differs")]
        axes[-1, -1].set_axis_off()
        axes[-1, -1].legend(handles=key, loc="center", handlelength=1.6, labelspacing=0.6)
    return figure


def draw_layers(
    levels: pd.DataFrame, letters: pd.DataFrame, layers: Sequence[str], method: str = "sam", *,
    control: pd.DataFrame | None = None, slices: pd.DataFrame | None = None, fraction: float = 0.1,
) -> Figure:  # fmt: skip
    """Draw Fig 6: one map by layer and phase, with letters. The arguments are those of :func:`draw_specificity`."""
    control, maps = named_controls(control), [(method, layer) for layer in layers]
    with paper_style():
        figure, panel = axes_mm(TWO_COLUMNS_MM, 78)
        bars = [_bars(levels, *name, "top") for name in maps]
        marks = [_letters(letters, *name) for name in maps]
        places = _phase_bars(
            panel, bars, labels=_lettered([f"Layer {LAYER_TITLES[layer]}" for layer in layers]),
            colours=[SAM_COLOURS[layer] for layer in layers], marks=marks, counts=True,
            values=[slices_by_phase(slices, *name, "top") for name in maps], slots=len(beside(control)),
        )  # fmt: skip
        draw_phase_controls(panel, control, maps, places, slices)
        _fit_height(panel, lines=_lines(marks))
        panel.set_ylabel(f"{LEVEL_LABEL},\ntop {100 * fraction:g} % masked")
        _legend(figure, panel.get_legend_handles_labels()[0], [*controls_key(control), *_signs(slices)])
    return figure


def _signs(slices: pd.DataFrame | None, *words: str) -> list[Line2D]:
    """Return the legend entries of points and of marks."""
    point = Line2D([], [], linestyle="", marker="o", markersize=2, markerfacecolor="white", markeredgecolor="0.5",
                   markeredgewidth=0.4, label="one slice")  # fmt: skip
    texts = [Line2D([], [], linestyle="", label=word) for word in words]
    return [*([] if slices is None else [point]), *texts]


def _bars(table: pd.DataFrame, method: str, layer: str, region: str) -> pd.DataFrame:
    """Return the bars of a map, one row per phase in the paper's order."""
    chosen = (table["method"] == method) & (table["layer"] == layer) & (table["region"] == region)
    return table[chosen].set_index("phase").reindex(PHASES)


def _phase_bars(panel: Axes, bars: Sequence[pd.DataFrame], *, counts: bool = False, **keywords) -> np.ndarray:
    """Draw bars by phase from tables of :func:`_bars`; with `counts`, print the numbers of slices and patients."""
    facts = [bars[0].loc[phase, ["n_slices", "n_patients"]] for phase in PHASES]
    groups = [PHASE_TITLES[phase] + (f"\n{count(*fact)}" if counts else "")
              for phase, fact in zip(PHASES, facts, strict=True)]  # fmt: skip
    means, sds = (np.stack([bar[name].to_numpy(dtype=float) for bar in bars]) for name in ("mean", "sd"))
    return draw_bars(panel, means, sds, groups=groups, **keywords)


def _stars(bars: pd.DataFrame) -> list[str]:
    return ["*" if p < 0.05 else "" for p in bars["p_bonferroni"]]


def _letters(letters: pd.DataFrame, method: str, layer: str) -> list[str]:
    """Return the letters of a map by phase, one below the other so that those of narrow bars do not overlap."""
    chosen = letters[(letters["method"] == method) & (letters["layer"] == layer)].set_index("phase")["letters"]
    return ["\n".join(text) for text in chosen.reindex(PHASES).fillna("")]


def _lines(marks: Sequence[Sequence[str]]) -> int:
    """Return how many lines the longest mark has."""
    return max((mark.count("\n") + 1 for bar in marks for mark in bar if mark), default=0)


def _fit_height(*panels: Axes, lines: int) -> None:
    """Start at 0 and leave room for a row of marks above everything that is drawn."""
    top = max([100.0, *(panel.dataLim.y1 for panel in panels)])
    for panel in panels:
        panel.set_ylim(0, top * (1.06 + 0.055 * lines))
        panel.set_yticks(np.arange(0, top * 1.03, 25 if top < 160 else 50))


def _lettered(titles: Sequence[str]) -> list[str]:
    """Return titles with their letters, as assigned by `lib.masking.statistics.letters`."""
    return [f"{title} ({sign})" for title, sign in zip(titles, "abcdefghij", strict=False)]


def _legend(figure, *rows: Sequence, letter_of_part: str = "") -> None:
    """Place the legend above a figure, row by row, with the letter of the part beside it."""
    rows = [list(row) for row in rows if len(row)]
    longest = max(map(len, rows))
    empty = Line2D([], [], linestyle="", label=" ")
    padded = [row + [empty] * (longest - len(row)) for row in rows]
    keys = [row[column] for column in range(longest) for row in padded]  # matplotlib fills columns first
    figure.legend(handles=keys, loc="outside upper center", ncols=longest, handlelength=1.6, columnspacing=1.2)
    letter(figure, letter_of_part)

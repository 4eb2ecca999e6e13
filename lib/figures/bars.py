"""Bars of relative probability, as in Figs 2, 5 and 6; tables come from lib.masking_tests, nothing is computed here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lib.figures.style import TWO_COLUMNS_MM, axes_mm, inches, paper_style
from lib.paper import PHASES
from lib.titles import LAYER_TITLES, METHOD_TITLES, PHASE_TITLES

LEVEL_LABEL = "Relative probability (%)"
CONTROLS = {  # method: label, colour, line
    "random": ("random {}", "#cc3311", "solid"),
    "random_body": ("random {}, all in the body", "#ee7733", (0, (2, 1))),
}
MARK_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}


def draw_bars(panel, means, sds, *, labels, colours, groups, marks=None, width: float = 0.8) -> None:
    """Draw groups of bars with whiskers of one standard deviation.

    Parameters
    ----------
    panel : Axes
    means, sds : array (n_bars, n_groups)
        Percent; NaN leaves a gap.
    labels, colours : sequence of str (n_bars,)
        Of the bars in a group.
    groups : sequence of str (n_groups,)
        Ticks.
    marks : array of str (n_bars, n_groups), optional
        Asterisks or letters above the whiskers.
    width : float
        Of a group, 1 is the distance between groups.
    """
    means, sds = np.asarray(means, dtype=float), np.nan_to_num(np.asarray(sds, dtype=float))
    step = width / len(means)
    centres = np.arange(means.shape[1])
    marks = np.full(means.shape, "") if marks is None else marks
    for i, (mean, sd) in enumerate(zip(means, sds, strict=True)):
        x = centres + (i - (len(means) - 1) / 2) * step
        panel.bar(x, mean, step, color=colours[i], edgecolor="black", linewidth=0.5, label=labels[i])
        panel.errorbar(x, mean, sd, fmt="none", ecolor="0.5", elinewidth=0.7, capsize=1.2, capthick=0.7)
        for left, top, mark in zip(x, mean + sd, marks[i], strict=True):
            if mark and np.isfinite(top):
                panel.text(left, top + 1, mark, ha="center", va="bottom", fontsize=6, linespacing=0.8, bbox=MARK_BOX)
    panel.set_xticks(centres, groups)
    panel.set_xlim(-0.5, means.shape[1] - 0.5)
    panel.axhline(100, color="0.6", linewidth=0.5, linestyle=":", zorder=0)


def draw_specificity(
    levels: pd.DataFrame, letters: pd.DataFrame, maps: Sequence, *, control: pd.DataFrame, fraction: float = 0.1
) -> Figure:
    """Draw Fig 2: masking by map and phase (A), and the maps beside each other (B).

    Parameters
    ----------
    levels : DataFrame
        `method`, `layer`, `region` (top, bottom), `phase`, `mean`, `sd`, `n_slices`, `n_patients`, `p_bonferroni`.
    letters : DataFrame
        `phase`, `method`, `layer`, `letters`.
    maps : sequence of (method, layer)
        In the order of the panels.
    control : DataFrame
        `phase`, `mean`, `method`: as many voxels masked at random, anywhere in the image ("random") or in the body
        ("random_body"); may be empty.
    fraction : float
        Of the voxels that was masked.
    """
    part = f"{100 * fraction:g} %"
    with paper_style():
        figure = Figure(figsize=inches(TWO_COLUMNS_MM, 128))
        above, below = figure.subfigures(2, 1, height_ratios=(1.05, 1))
        panels = np.atleast_1d(above.subplots(1, len(maps), sharey=True))
        for panel, (method, layer) in zip(panels, maps, strict=True):
            bars = [_bars(levels, method, layer, region) for region in ("top", "bottom")]
            labels, colours = [f"top {part}", f"bottom {part}"], ["black", "white"]
            _phase_bars(panel, bars, labels=labels, colours=colours, marks=[_stars(bar) for bar in bars])
            _draw_controls(panel, control, part)
            panel.set_title(METHOD_TITLES[method])
            panel.tick_params(axis="x", rotation=50)
        _fit_height(*panels)
        panels[0].set_ylabel(LEVEL_LABEL)
        _legend(above, panels[0], "A")
        panel = below.subplots()
        bars = [_bars(levels, method, layer, "top") for method, layer in maps]
        marks = [_letters(letters, method, layer) for method, layer in maps]
        names = [METHOD_TITLES[method] for method, _ in maps]
        _phase_bars(panel, bars, labels=names, colours=_shades(len(maps)), marks=marks, counts=True)
        _fit_height(panel)
        panel.set_ylabel(f"{LEVEL_LABEL},\ntop {part} masked")
        _legend(below, panel, "B")
    return figure


def draw_layer_comparison(
    levels: pd.DataFrame, pairs: pd.DataFrame, layers: Sequence[str], *, fraction: float = 0.1
) -> Figure:
    """Draw Fig 5: SAM (black) beside Grad-CAM (white) by layer, one panel a phase.

    Parameters
    ----------
    levels : DataFrame
        As for :func:`draw_specificity`, without `p_bonferroni`.
    pairs : DataFrame
        `phase`, `layer`, `p_bonferroni` of SAM against Grad-CAM.
    layers : sequence of str
        From shallow to deep.
    fraction : float
        Of the voxels that was masked.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 62, 1, len(PHASES), sharey=True)
        for panel, phase in zip(axes, PHASES, strict=True):
            chosen = levels[(levels["phase"] == phase) & (levels["region"] == "top")].set_index(["method", "layer"])
            bars = [chosen.reindex([(method, layer) for layer in layers]) for method in ("sam", "grad_cam")]
            means, sds = (np.stack([bar[name].to_numpy(dtype=float) for bar in bars]) for name in ("mean", "sd"))
            low = (pairs[pairs["phase"] == phase].set_index("layer")["p_bonferroni"].reindex(layers) < 0.05).to_numpy()
            highest = np.nan_to_num(means + np.nan_to_num(sds)).argmax(axis=0)
            marks = [["*" if mark else "" for mark in low & (highest == i)] for i in (0, 1)]
            ticks = [LAYER_TITLES[layer] for layer in layers]
            draw_bars(
                panel, means, sds, labels=["SAM", "Grad-CAM"], colours=["black", "white"], groups=ticks, marks=marks
            )
            panel.set_title(f"{PHASE_TITLES[phase]}\n{_count(bars[0].iloc[:1])}")
            panel.set_xlabel("Layer")
        _fit_height(*axes)
        axes[0].set_ylabel(f"{LEVEL_LABEL},\ntop {100 * fraction:g} % masked")
        _legend(figure, axes[0])
    return figure


def draw_layers(
    levels: pd.DataFrame, letters: pd.DataFrame, layers: Sequence[str], method: str = "sam", *, fraction: float = 0.1
) -> Figure:
    """Draw Fig 6: one map by layer and phase, with letters; arguments as for :func:`draw_layer_comparison`."""
    with paper_style():
        figure, panel = axes_mm(TWO_COLUMNS_MM, 66)
        bars = [_bars(levels, method, layer, "top") for layer in layers]
        marks = [_letters(letters, method, layer) for layer in layers]
        names = [f"layer {LAYER_TITLES[layer]}" for layer in layers]
        _phase_bars(panel, bars, labels=names, colours=_shades(len(layers)), marks=marks, counts=True)
        _fit_height(panel)
        panel.set_ylabel(f"{LEVEL_LABEL},\ntop {100 * fraction:g} % masked")
        _legend(figure, panel)
    return figure


def _draw_controls(panel, control: pd.DataFrame, part: str) -> None:
    """Draw what as many random voxels cost as a line over each phase."""
    at = np.arange(len(PHASES))
    for method, (label, colour, line) in CONTROLS.items():
        level = control[control["method"] == method].set_index("phase")["mean"].reindex(PHASES).astype(float)
        if level.notna().any():
            panel.hlines(
                level, at - 0.45, at + 0.45, color=colour, linewidth=1.2, linestyle=line, label=label.format(part)
            )


def _bars(table: pd.DataFrame, method: str, layer: str, region: str) -> pd.DataFrame:
    """Return the bars of a map, one row a phase in order."""
    chosen = (table["method"] == method) & (table["layer"] == layer) & (table["region"] == region)
    return table[chosen].set_index("phase").reindex(PHASES)


def _phase_bars(panel, bars: Sequence[pd.DataFrame], *, labels, colours, marks=None, counts: bool = False) -> None:
    """Draw bars by phase from tables of :func:`_bars`; with counts, say how many slices and patients there are."""
    groups = [PHASE_TITLES[phase] + (f"\n{_count(bars[0].loc[[phase]])}" if counts else "") for phase in PHASES]
    means, sds = (np.stack([bar[name].to_numpy(dtype=float) for bar in bars]) for name in ("mean", "sd"))
    draw_bars(panel, means, sds, labels=labels, colours=colours, groups=groups, marks=marks)


def _count(rows: pd.DataFrame) -> str:
    """Say how many slices of how many patients a bar stands for."""
    if rows.empty or rows["n_slices"].isna().any():
        return "no slice"
    slices, patients = int(rows["n_slices"].iloc[0]), int(rows["n_patients"].iloc[0])
    return f"{slices} slice{'s' * (slices != 1)}, {patients} patient{'s' * (patients != 1)}"


def _stars(bars: pd.DataFrame) -> list[str]:
    return ["*" if p < 0.05 else "" for p in bars["p_bonferroni"]]


def _letters(letters: pd.DataFrame, method: str, layer: str) -> list[str]:
    """Return a map's letters by phase, one below the other so that narrow bars stay apart."""
    chosen = letters[(letters["method"] == method) & (letters["layer"] == layer)].set_index("phase")["letters"]
    return ["\n".join(text) for text in chosen.reindex(PHASES).fillna("")]


def _shades(n: int) -> list[str]:
    """Return greys from black to white."""
    return [str(round(i / max(n - 1, 1), 2)) for i in range(n)]


def _fit_height(*panels) -> None:
    """Start at 0 and leave room for marks above the highest whisker."""
    top = max(panel.dataLim.y1 for panel in panels)
    for panel in panels:
        panel.set_ylim(0, 1.15 * top)
        panel.set_yticks(np.arange(0, 1.15 * top, 25 if top < 160 else 50))


def _legend(figure, panel, letter: str = "") -> None:
    """Set the legend of a panel above the figure, bars before lines, and the letter of the part beside it."""
    entries = sorted(
        zip(*panel.get_legend_handles_labels(), strict=True), key=lambda entry: isinstance(entry[0], LineCollection)
    )
    figure.legend(*zip(*entries, strict=True), loc="outside upper center", ncols=len(entries))
    figure.text(0.005, 0.99, letter, va="top", fontsize=9, fontweight="bold")

"""Bars of relative probability, as in Figs 2, 5 and 6; tables come from lib.masking_tests, nothing is computed here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from lib.figures.style import (
    CONTROL_COLOUR,
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
from lib.titles import CONTROL_TITLES, LAYER_TITLES, METHOD_TITLES, PHASE_TITLES

LEVEL_LABEL = "Relative probability (%)"
CONTROL_MARKERS = dict(zip(CONTROL_TITLES, "osDP^vX*", strict=True))
CASING = [Stroke(linewidth=1.6, foreground="white"), Normal()]  # keeps a black whisker visible on a black bar
LOW = 3.0  # percent; a lower bar hardly stands, so that its value is printed
MARKS = 6.0  # points, the smallest text of the figures


def draw_bars(
    panel: Axes, means, sds, *, labels, colours, groups, marks=None, values=None, hatches=None, width: float = 0.8,
    slots: int = 0,
) -> np.ndarray:  # fmt: skip
    """Draw groups of bars with whiskers of one standard deviation, and the slices as points.

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
        Asterisks or letters, in a row above all bars.
    values : array of float arrays (n_bars, n_groups), optional
        What each bar is the mean of, drawn as points. A whisker ends, without a cap, at the last of them where the
        standard deviation would pass it: nothing was measured beyond.
    hatches : sequence of str (n_bars,), optional
        Of the bars.
    width : float
        Of a group, 1 is the distance between groups.
    slots : int
        Free places of a bar's width that follow the bars of each group, for controls.

    Returns
    -------
    array (n_bars + slots, n_groups)
        Where the middle of each bar and each free place is.
    """
    means, sds = np.asarray(means, dtype=float), np.nan_to_num(np.asarray(sds, dtype=float))
    bars, columns = means.shape
    step = width / (bars + slots + (0.5 if slots else 0))
    offsets = (np.arange(bars + slots) + 0.5 * (np.arange(bars + slots) >= bars) + 0.5) * step - width / 2
    places = offsets[:, None] + np.arange(columns)
    marks = np.full(means.shape, "") if marks is None else np.asarray(marks, dtype=object)
    for i in range(bars):
        hatch = {"hatch": hatches[i]} if hatches is not None else {}
        style = {"color": colours[i], "edgecolor": "black", "linewidth": 0.5, "label": labels[i], **hatch}
        panel.bar(places[i], means[i], step, **style)
        for j in range(columns):
            points = np.zeros(0) if values is None else np.asarray(values[i][j], dtype=float)
            _points(panel, places[i, j], points, step)
            top = _whisker(panel, places[i, j], means[i, j], sds[i, j], points)
            if means[i, j] < LOW:
                _print_value(panel, places[i, j], means[i, j], top, step)
            if marks[i, j] and np.isfinite(means[i, j]):
                _mark(panel, places[i, j], marks[i, j])
    for j in np.flatnonzero(np.isnan(means).all(axis=0)):
        panel.text(j, 0.5, "no slice", transform=panel.get_xaxis_transform(), ha="center", color="0.4")
    panel.set_xticks(np.arange(columns), groups)
    panel.set_xlim(-0.5, columns - 0.5)
    panel.axhline(100, color="0.6", linewidth=0.5, linestyle=":", zorder=0)
    return places


def draw_specificity(
    levels: pd.DataFrame, letters: pd.DataFrame, maps: Sequence, *, control: pd.DataFrame,
    slices: pd.DataFrame | None = None, fraction: float = 0.1,
) -> Figure:  # fmt: skip
    """Draw Fig 2: masking by map and phase (A), and the maps beside each other and beside their controls (B).

    Parameters
    ----------
    levels : DataFrame
        `method`, `layer`, `region` (top, bottom), `phase`, `mean`, `sd`, `n_slices`, `n_patients`, `p_bonferroni`.
    letters : DataFrame
        `phase`, `method`, `layer`, `letters`.
    maps : sequence of (method, layer)
        In the order of the panels.
    control : DataFrame
        `phase`, `method` (a key of `lib.titles.CONTROL_TITLES`), `layer`, `mean`, `sd`: what masking costs that follows
        no map of this network and slice; may be empty. A control of a layer is drawn at the bars of that layer, any
        other beside the bars.
    slices : DataFrame, optional
        As from `lib.masking_tests.slice_means`: the slices behind the bars, drawn as points.
    fraction : float
        Of the voxels that was masked.
    """
    part = f"{100 * fraction:g} %"
    with paper_style():
        figure = figure_mm(TWO_COLUMNS_MM, 140)
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.12))
        panels = np.atleast_1d(above.subplots(1, len(maps), sharey=True))
        for panel, (method, layer) in zip(panels, maps, strict=True):
            bars = [_bars(levels, method, layer, region) for region in ("top", "bottom")]
            _phase_bars(
                panel, bars, labels=["", ""], colours=[METHOD_COLOURS[method], "white"], hatches=["", "/////"],
                marks=[_stars(bar) for bar in bars], width=0.84,
                values=[_by_phase(slices, method, layer, region) for region in ("top", "bottom")],
            )  # fmt: skip
            panel.set_title(METHOD_TITLES[method])
            panel.tick_params(axis="x", rotation=40)
        _fit_height(*panels, lines=1)
        panels[0].set_ylabel(f"{LEVEL_LABEL}\nafter masking")
        key = [Patch(facecolor="0.4", edgecolor="black", linewidth=0.5, label=f"top {part} of the voxels"),
               Patch(facecolor="white", edgecolor="black", linewidth=0.5, hatch="/////", label=f"bottom {part}")]  # fmt: skip
        _legend(above, [*key, *_signs(slices, "* differs from 100 %")], letter_of_part="A")
        panel = below.subplots()
        bars = [_bars(levels, method, layer, "top") for method, layer in maps]
        marks = [_letters(letters, method, layer) for method, layer in maps]
        places = _phase_bars(
            panel, bars, labels=_lettered([METHOD_TITLES[method] for method, _ in maps]),
            colours=[METHOD_COLOURS[method] for method, _ in maps], marks=marks, counts=True,
            values=[_by_phase(slices, *name, "top") for name in maps], slots=len(_beside(control, maps)),
        )  # fmt: skip
        shown = _phase_controls(panel, control, maps, places, slices)
        _fit_height(panel, lines=_lines(marks))
        panel.set_ylabel(f"{LEVEL_LABEL},\ntop {part} masked")
        _legend(below, panel.get_legend_handles_labels()[0], shown, letter_of_part="B")
    return figure


def draw_layer_comparison(
    levels: pd.DataFrame, pairs: pd.DataFrame, layers: Sequence[str], *, control: pd.DataFrame | None = None,
    slices: pd.DataFrame | None = None, fraction: float = 0.1,
) -> Figure:  # fmt: skip
    """Draw Fig 5: SAM beside Grad-CAM by layer, one panel per phase.

    Parameters
    ----------
    levels : DataFrame
        As for :func:`draw_specificity`, without `p_bonferroni`.
    pairs : DataFrame
        `phase`, `layer`, `p_bonferroni` of SAM against Grad-CAM.
    layers : sequence of str
        From shallow to deep.
    control, slices, fraction
        As for :func:`draw_specificity`. A control of a layer stands at its bars, the others stand right of all layers.
    """
    control = _no_control() if control is None else control
    methods, beside = ("sam", "grad_cam"), _beside(control, [("", layer) for layer in layers])
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 118, 2, 3, sharey=True)
        for panel, phase in zip(axes.flat, PHASES, strict=False):
            chosen = levels[(levels["phase"] == phase) & (levels["region"] == "top")].set_index(["method", "layer"])
            bars = [chosen.reindex([(method, layer) for layer in layers]) for method in methods]
            means, sds = (np.stack([bar[name].to_numpy(dtype=float) for bar in bars]) for name in ("mean", "sd"))
            places = draw_bars(
                panel, means, sds, labels=[METHOD_TITLES[method] for method in methods], width=0.86,
                values=[[_values(slices, method, layer, "top", phase) for layer in layers] for method in methods],
                colours=[METHOD_COLOURS[method] for method in methods], groups=[LAYER_TITLES[name] for name in layers],
            )  # fmt: skip
            low = pairs[pairs["phase"] == phase].set_index("layer")["p_bonferroni"].reindex(layers) < 0.05
            for at in np.flatnonzero(low):
                _mark(panel, at, "*")
            _layer_controls(panel, control[control["phase"] == phase], layers, beside, places, slices)
            panel.set_title(f"{PHASE_TITLES[phase]}: {count(*bars[0].iloc[0][['n_slices', 'n_patients']])}")
            panel.set_xlabel("Layer" + ("                    Controls" if beside else ""))
        _fit_height(*axes.flat[: len(PHASES)], lines=1)
        for panel in axes[:, 0]:
            panel.set_ylabel(f"{LEVEL_LABEL},\ntop {100 * fraction:g} % masked")
        key = [*axes[0, 0].get_legend_handles_labels()[0], *_controls_key(control), *_signs(slices, "* SAM differs")]
        axes[-1, -1].set_axis_off()
        axes[-1, -1].legend(handles=key, loc="center", handlelength=1.6, labelspacing=0.6)
    return figure


def draw_layers(
    levels: pd.DataFrame, letters: pd.DataFrame, layers: Sequence[str], method: str = "sam", *,
    control: pd.DataFrame | None = None, slices: pd.DataFrame | None = None, fraction: float = 0.1,
) -> Figure:  # fmt: skip
    """Draw Fig 6: one map by layer and phase, with letters; arguments as for :func:`draw_specificity`."""
    control, maps = _no_control() if control is None else control, [(method, layer) for layer in layers]
    with paper_style():
        figure, panel = axes_mm(TWO_COLUMNS_MM, 78)
        bars = [_bars(levels, *name, "top") for name in maps]
        marks = [_letters(letters, *name) for name in maps]
        places = _phase_bars(
            panel, bars, labels=_lettered([f"Layer {LAYER_TITLES[layer]}" for layer in layers]),
            colours=[SAM_COLOURS[layer] for layer in layers], marks=marks, counts=True,
            values=[_by_phase(slices, *name, "top") for name in maps], slots=len(_beside(control, maps)),
        )  # fmt: skip
        shown = _phase_controls(panel, control, maps, places, slices)
        _fit_height(panel, lines=_lines(marks))
        panel.set_ylabel(f"{LEVEL_LABEL},\ntop {100 * fraction:g} % masked")
        _legend(figure, panel.get_legend_handles_labels()[0], shown)
    return figure


def _mark(panel: Axes, x: float, text: str) -> None:
    """Print an asterisk or letters in the row above all bars."""
    at = {"transform": panel.get_xaxis_transform(), "ha": "center", "va": "top"}
    panel.text(x, 0.995, text, fontsize=MARKS, linespacing=0.85, **at)


def _points(panel: Axes, x: float, values: np.ndarray, step: float) -> None:
    """Draw slices as light points, spread over two thirds of a bar's width in a fixed order."""
    if len(values):
        spread = (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.66 * step
        panel.plot(x + spread, values, "o", markersize=1.5, markerfacecolor="white", markeredgecolor="0.5",
                   markeredgewidth=0.3, alpha=0.9, zorder=3, label="_slices")  # fmt: skip


def _whisker(panel: Axes, x: float, mean: float, sd: float, points: np.ndarray) -> float:
    """Draw one standard deviation up and down, cut where nothing was measured, and return the upper end."""
    if not np.isfinite(mean):
        return 0.0
    least, most = (points.min(), points.max()) if len(points) else (0.0, np.inf)
    low, high = max(mean - sd, least), min(mean + sd, most)
    panel.plot([x, x], [low, high], color="black", linewidth=0.7, zorder=4, path_effects=CASING)
    for end, whole in ((low, mean - sd), (high, mean + sd)):
        if end == whole and sd > 0:
            panel.plot([x], [end], "_", markersize=3, markeredgewidth=0.7, color="black", zorder=4, path_effects=CASING)
    return max(high, points.max() if len(points) else high)


def _print_value(panel: Axes, x: float, mean: float, top: float, step: float) -> None:
    """Print the mean of a bar that hardly stands."""
    text = f"{mean:.1f}" if mean >= 0.05 else "<0.1" if mean > 0 else "0"
    panel.annotate(text, (x, min(top, 30.0)), (0, 2), textcoords="offset points", ha="center", va="bottom",
                   fontsize=MARKS, rotation=90, zorder=5)  # fmt: skip


def _marker(panel: Axes, x: float, mean: float, name: str):
    """Draw the mean of a control."""
    return panel.plot([x], [mean], CONTROL_MARKERS[name], zorder=6, **_control_style(name))[0]


def _control_style(name: str) -> dict:
    size = 6.5 if name == "untrained" else 4  # a star is small for its size
    return {"color": CONTROL_COLOUR, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.5}


def _layer_controls(
    panel: Axes, control: pd.DataFrame, layers: Sequence[str], beside: Sequence[str], places: np.ndarray, slices
) -> None:
    """Draw the controls of one phase: those of a layer at its bars, the others right of all layers."""
    for row in control[control["method"].isin(list(CONTROL_MARKERS))].itertuples():
        if row.layer in layers:
            _marker(panel, places[:, list(layers).index(row.layer)].mean(), row.mean, row.method)
    for at, name in enumerate(beside):
        x = len(layers) - 0.1 + 0.6 * at
        for row in control[control["method"] == name].head(1).itertuples():
            _points(panel, x, _values(slices, name, row.layer, "", row.phase), 0.45)
            _marker(panel, x, row.mean, name)
    if beside:
        panel.axvline(len(layers) - 0.5, color="0.8", linewidth=0.5)
        panel.set_xlim(-0.5, len(layers) - 0.1 + 0.6 * len(beside) - 0.15)


def _phase_controls(panel: Axes, control: pd.DataFrame, maps: Sequence, places: np.ndarray, slices) -> list:
    """Draw controls in a figure with a group of bars for each phase; return their keys."""
    step = places[1, 0] - places[0, 0] if len(places) > 1 else 0.8
    for phase_at, phase in enumerate(PHASES):
        found = control[(control["phase"] == phase) & control["method"].isin(list(CONTROL_MARKERS))]
        for row in found.itertuples():
            for at in [at for at, (_, layer) in enumerate(maps) if layer == row.layer]:
                _marker(panel, places[at, phase_at], row.mean, row.method)
        for slot, name in enumerate(_beside(control, maps)):
            for row in found[found["method"] == name].head(1).itertuples():
                x = places[len(maps) + slot, phase_at]
                _points(panel, x, _values(slices, name, row.layer, "", phase), step)
                _marker(panel, x, row.mean, name)
    return [*_controls_key(control), *_signs(slices)]


def _controls_key(control: pd.DataFrame) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", marker=CONTROL_MARKERS[name], label=CONTROL_TITLES[name], **_control_style(name))
        for name in _present(control)
    ]


def _signs(slices: pd.DataFrame | None, *words: str) -> list[Line2D]:
    """Return the keys of points and of marks."""
    point = Line2D([], [], linestyle="", marker="o", markersize=2, markerfacecolor="white", markeredgecolor="0.5",
                   markeredgewidth=0.4, label="one slice")  # fmt: skip
    texts = [Line2D([], [], linestyle="", label=word) for word in words]
    return [*([] if slices is None else [point]), *texts]


def _no_control() -> pd.DataFrame:
    return pd.DataFrame({"phase": [], "method": [], "layer": [], "mean": []})


def _present(control: pd.DataFrame) -> list[str]:
    """Return the controls that a table holds, in their order."""
    return [name for name in CONTROL_TITLES if name in set(control["method"])]


def _beside(control: pd.DataFrame, maps: Sequence) -> list[str]:
    """Return the controls that belong to no layer of the bars and get a place of their own."""
    layers = {layer for _, layer in maps}
    return [name for name in _present(control)
            if not layers & set(control.loc[control["method"] == name, "layer"])]  # fmt: skip


def _bars(table: pd.DataFrame, method: str, layer: str, region: str) -> pd.DataFrame:
    """Return the bars of a map, one row per phase in order."""
    chosen = (table["method"] == method) & (table["layer"] == layer) & (table["region"] == region)
    return table[chosen].set_index("phase").reindex(PHASES)


def _values(slices: pd.DataFrame | None, method: str, layer: str, region: str, phase: str) -> np.ndarray:
    """Return the slices of a bar; of any region where none is named."""
    if slices is None:
        return np.zeros(0)
    chosen = (slices["method"] == method) & (slices["layer"] == layer) & (slices["phase"] == phase)
    chosen &= (slices["region"] == region) | (not region)
    return slices.loc[chosen, "relative_probability"].to_numpy(float)


def _by_phase(slices: pd.DataFrame | None, method: str, layer: str, region: str) -> list[np.ndarray]:
    """Return the slices of a map's bars, one array per phase."""
    return [_values(slices, method, layer, region, phase) for phase in PHASES]


def _phase_bars(panel: Axes, bars: Sequence[pd.DataFrame], *, counts: bool = False, **keywords) -> np.ndarray:
    """Draw bars by phase from tables of :func:`_bars`; with counts, say how many slices and patients there are."""
    facts = [bars[0].loc[phase, ["n_slices", "n_patients"]] for phase in PHASES]
    groups = [PHASE_TITLES[phase] + (f"\n{count(*fact)}" if counts else "")
              for phase, fact in zip(PHASES, facts, strict=True)]  # fmt: skip
    means, sds = (np.stack([bar[name].to_numpy(dtype=float) for bar in bars]) for name in ("mean", "sd"))
    return draw_bars(panel, means, sds, groups=groups, **keywords)


def _stars(bars: pd.DataFrame) -> list[str]:
    return ["*" if p < 0.05 else "" for p in bars["p_bonferroni"]]


def _letters(letters: pd.DataFrame, method: str, layer: str) -> list[str]:
    """Return a map's letters by phase, one below the other so that narrow bars stay apart."""
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
    """Return titles with the letters that stand for them, as `lib.masking_tests.letters` gives them."""
    return [f"{title} ({sign})" for title, sign in zip(titles, "abcdefghij", strict=False)][:-1] + [titles[-1]]


def _legend(figure, *rows: Sequence, letter_of_part: str = "") -> None:
    """Set the legend above a figure, row by row, and the letter of the part beside it."""
    rows = [list(row) for row in rows if len(row)]
    longest = max(map(len, rows))
    empty = Line2D([], [], linestyle="", label=" ")
    padded = [row + [empty] * (longest - len(row)) for row in rows]
    keys = [row[column] for column in range(longest) for row in padded]  # matplotlib fills columns first
    figure.legend(handles=keys, loc="outside upper center", ncols=longest, handlelength=1.6, columnspacing=1.2)
    letter(figure, letter_of_part)

"""Groups of bars with whiskers, points for slices, printed values and marks, as in Figs 2, 5 and 6."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke

LOW = 3.0  # percent; a lower bar hardly stands, so that its value is printed
MARKS = 6.0  # points, the smallest text of the figures
CASING = [Stroke(linewidth=1.6, foreground="white"), Normal()]  # keeps a black whisker visible on a black bar


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
        Labels and colours of the bars in a group.
    groups : sequence of str (n_groups,)
        Labels of the ticks.
    marks : array of str (n_bars, n_groups), optional
        Asterisks or letters that are printed in a row above all bars.
    values : array of float arrays (n_bars, n_groups), optional
        The values whose mean a bar shows, drawn as points. If the standard deviation reaches beyond the last point, the
        whisker ends there without a cap, since nothing was measured beyond.
    hatches : sequence of str (n_bars,), optional
        Hatching of the bars.
    width : float
        Width of a group, as a share of the distance between groups.
    slots : int
        Number of free places, as wide as a bar, that follow the bars of each group and take controls.

    Returns
    -------
    array (n_bars + slots, n_groups)
        Position of the middle of each bar and of each free place.
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
            draw_points(panel, places[i, j], points, step)
            top = _whisker(panel, places[i, j], means[i, j], sds[i, j], points)
            if means[i, j] < LOW:
                _print_value(panel, places[i, j], means[i, j], top, step)
            if marks[i, j] and np.isfinite(means[i, j]):
                draw_mark(panel, places[i, j], marks[i, j])
    for j in np.flatnonzero(np.isnan(means).all(axis=0)):
        panel.text(j, 0.5, "no slice", transform=panel.get_xaxis_transform(), ha="center", va="center", color="0.4",
                   rotation=90)  # fmt: skip
    panel.set_xticks(np.arange(columns), groups)
    panel.set_xlim(-0.5, columns - 0.5)
    panel.axhline(100, color="0.6", linewidth=0.5, linestyle=":", zorder=0)
    return places


def draw_mark(panel: Axes, x: float, text: str) -> None:
    """Print an asterisk or letters in the row above all bars."""
    at = {"transform": panel.get_xaxis_transform(), "ha": "center", "va": "top"}
    panel.text(x, 0.995, text, fontsize=MARKS, linespacing=0.85, **at)


def draw_points(panel: Axes, x: float, values: np.ndarray, step: float) -> None:
    """Draw slices as light points, spread over two thirds of the width of a bar in a fixed order."""
    if len(values):
        spread = (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.66 * step
        panel.plot(x + spread, values, "o", markersize=1.5, markerfacecolor="white", markeredgecolor="0.5",
                   markeredgewidth=0.3, alpha=0.9, zorder=3, label="_slices")  # fmt: skip


def _whisker(panel: Axes, x: float, mean: float, sd: float, points: np.ndarray) -> float:
    """Draw one standard deviation up and down, cut off where nothing was measured, and return the upper end."""
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
    """Print the mean of a bar that is too low to be seen."""
    text = f"{mean:.1f}" if mean >= 0.05 else "<0.1" if mean > 0 else "0"
    panel.annotate(text, (x, min(top, 30.0)), (0, 2), textcoords="offset points", ha="center", va="bottom",
                   fontsize=MARKS, rotation=90, zorder=5)  # fmt: skip

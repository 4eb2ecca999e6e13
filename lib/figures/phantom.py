"""Figures that compare the phantom with patients, drawn from tables and images."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures.display import body_box, window
from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

ORGAN_COLOURS = {"aorta": "#cc3311", "cortex": "#882255", "medulla": "#cc6677", "renal_vein": "#004488",
                 "portal_vein": "#6699cc", "liver": "#997700"}  # fmt: skip
ARTERY_COLOUR, GAP_COLOUR = "#ee7766", "#777777"
CURVE_END = 180  # s, where the curves end
KITS23_KIDNEYS = 317
PUBLISHED = dict(color="black", linestyle="none", marker="o", markersize=2.5, capsize=1.5, elinewidth=0.6)


def draw_images(rows: Mapping[str, Sequence[np.ndarray | None]], titles: Sequence[str]) -> Figure:
    """Draw CT images at level 40, width 400 HU, cropped to the body.

    Parameters
    ----------
    rows : mapping of str to sequence of float array (H, W)
        Images of each row by its name: HU, NaN outside the body; None leaves a panel empty.
    titles : sequence of str
        Titles of the columns.
    """
    present = {(name, n): image for name, images in rows.items() for n, image in enumerate(images) if image is not None}
    boxes = body_box(present)
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 0.74 * TWO_COLUMNS_MM / len(titles) * len(rows) + 6,
                               len(rows), len(titles), squeeze=False, layout="compressed")  # fmt: skip
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
        for panels, name in zip(axes, rows, strict=True):
            panels[0].set_ylabel(name)
            for n, panel in enumerate(panels):
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if (name, n) in present:
                    image = window(present[name, n])[boxes[name, n]]
                    panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        for panel, title in zip(axes[0], titles, strict=True):
            panel.set_title(title)
    return figure


def draw_curves(
    times: np.ndarray,
    curves: Mapping[str, np.ndarray],
    trigger: float,
    by_output: Mapping[float, np.ndarray],
) -> Figure:
    """Draw enhancement over time with Goshima's measurements (A), and that of the aorta by cardiac output (B).

    Parameters
    ----------
    times : float array (n,)
        Times after the start of the injection, s.
    curves : mapping of str to float array (n,)
        Enhancement of organs of the median adult, HU.
    trigger : float
        Time at which the aorta has risen by 50 HU, s.
    by_output : mapping of float to float array (n,)
        Enhancement of the aorta, HU, by the ratio of the cardiac output to the expected one.
    """
    with paper_style():
        figure, (left, right) = axes_mm(TWO_COLUMNS_MM, 74, 1, 2, width_ratios=(1.3, 1))
        ends = {organ: float(curves[organ][times <= CURVE_END][-1]) for organ in ORGAN_COLOURS}
        for organ, colour in ORGAN_COLOURS.items():
            left.plot(times, curves[organ], color=colour)
        gap = curves["cortex"] - curves["medulla"]
        left.plot(times, gap, "--", color=GAP_COLOUR)
        ends["cortex − medulla"] = float(gap[times <= CURVE_END][-1])
        for (organ, _), y in zip(ends.items(), _apart(list(ends.values()), 20), strict=True):
            colour = ORGAN_COLOURS.get(organ, GAP_COLOUR)
            left.text(CURVE_END + 3, y, organ.replace("_", " "), color=colour, va="center", clip_on=False)
        _goshima(left, trigger)
        left.set(xlabel="Time after the start of the injection (s)", ylabel="Enhancement (HU)", xlim=(0, CURVE_END))
        left.set_ylim(-30, 340)
        left.set_title("A  Median adult; marks: Goshima 2007, 128 patients", loc="left")
        shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(by_output)))
        for (factor, curve), colour in zip(by_output.items(), shades, strict=True):
            label = f"{factor:.1f}: {curve.max():.0f} HU at {times[curve.argmax()]:.0f} s"
            right.plot(times, curve, color=colour, label=label)
        right.set(xlabel="Time after the start of the injection (s)", ylabel="Enhancement of the aorta (HU)")
        right.set(xlim=(0, 180), ylim=(0, 1.1 * max(curve.max() for curve in by_output.values())))
        right.set_title("B  Aorta, by cardiac output", loc="left")
        right.legend(title="Output / expected output: peak", loc="upper right")
    return figure


def _goshima(panel: Axes, trigger: float) -> None:
    """Mark renal artery, cortex, medulla and cortex minus medulla as measured after the trigger, with ranges."""
    for start, stop, low, high, colour, name in (
        (5, 15, 240, 288, ARTERY_COLOUR, "renal artery"), (10, 30, 195, 217, ORGAN_COLOURS["cortex"], "cortex"),
        (5, 30, 110, 140, GAP_COLOUR, "cortex − medulla"),
    ):  # fmt: skip
        middle = (trigger + (start + stop) / 2, (low + high) / 2)
        ranges = {"xerr": (stop - start) / 2, "yerr": (high - low) / 2}
        panel.errorbar(*middle, **ranges, **(PUBLISHED | {"color": colour}))
        if name == "cortex":  # beside its range, the others above or below
            panel.annotate(name, (trigger + start, middle[1]), (-3, 0), ha="right", va="center", **_label(colour))
        else:
            side = 1 if name == "renal artery" else -1
            panel.annotate(name, (middle[0], high if side > 0 else low), (0, 3 * side), ha="center",
                           va="bottom" if side > 0 else "top", **_label(colour))  # fmt: skip
    for at, value, marker, colour, name in (
        (55, 145, "s", ORGAN_COLOURS["medulla"], "medulla"), (45, 30, "v", GAP_COLOUR, "less than 30"),
    ):  # fmt: skip
        panel.plot(
            trigger + at, value, marker, markersize=4, color=colour, markeredgecolor="black", markeredgewidth=0.4
        )
        panel.annotate(name, (trigger + at, value), (0, 5 if value > 100 else -9), ha="center", **_label(colour))


def _label(colour: str) -> dict:
    """Return the style of a label beside a mark, which is legible over curves."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4}
    return {"textcoords": "offset points", "color": colour, "fontsize": 6, "bbox": box}


def _apart(places: Sequence[float], distance: float) -> list[float]:
    """Return places for labels; each is moved up until it has a given distance from the one below."""
    moved, below = [0.0] * len(places), -np.inf
    for n in np.argsort(places):
        below = moved[n] = max(places[n], below + distance)
    return moved


def draw_hu(table: pd.DataFrame) -> Figure:
    """Draw the differences between the phantom's HU and the published ones, in published SD between patients.

    Parameters
    ----------
    table : DataFrame
        As from `lib.phantom.measures.compare_hu`.
    """
    tissues = list(dict.fromkeys(table["tissue"]))
    wide = table.pivot_table(index="tissue", columns="phase", values=["in_sd", "difference", "n"], dropna=False)
    with paper_style():
        figure, panel = axes_mm(120, 8 + 7.2 * len(tissues))
        values = wide["in_sd"].loc[tissues, list(PHASES)].to_numpy()
        shown = panel.imshow(values, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
        texts = wide["difference"].loc[tissues, list(PHASES)].to_numpy()
        few = wide["n"].loc[tissues, list(PHASES)].to_numpy() < 10
        for (row, column), text in np.ndenumerate(texts):
            colour = "white" if abs(values[row, column]) > 1.2 else "black"
            label = "-" if np.isnan(text) else f"({round(text):+d})" if few[row, column] else f"{round(text):+d}"
            panel.text(column, row, label, ha="center", va="center", color=colour)
        panel.set_xticks(range(len(PHASES)), [PHASE_TITLES[phase] for phase in PHASES])
        panel.set_yticks(range(len(tissues)), tissues)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set_title("Phantom - patients (HU); in brackets: fewer than 10 series")
        figure.colorbar(shown, label="Difference (SD between patients)", shrink=0.8)
    return figure


def draw_spectra(spectra: pd.DataFrame, published: pd.DataFrame, matches: Mapping[str, Sequence[str]]) -> Figure:
    """Draw the noise in the liver of phantom and patients by kernel and slice thickness: power spectra above, SD below.

    Parameters
    ----------
    spectra : DataFrame
        `manufacturer` (as in DICOM), `kernel`, `thickness_mm`, `frequency`, `power`, `sd_hu`.
    published : DataFrame
        `published("renal_ct_noise")`.
    matches : mapping of str to sequence of str
        Names of published scanners by kernel.
    """
    kernels = list(spectra[["manufacturer", "kernel"]].drop_duplicates().itertuples(index=False))
    thicknesses = sorted(spectra["thickness_mm"].unique())
    colours = dict(zip(thicknesses, plt.get_cmap("viridis")(np.linspace(0, 0.88, len(thicknesses))), strict=True))
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 92, 2, len(kernels), sharey="row", squeeze=False, height_ratios=(1.3, 1))
        for (above, below), (manufacturer, kernel) in zip(axes.T, kernels, strict=True):
            mine = spectra[(spectra["manufacturer"] == manufacturer) & (spectra["kernel"] == kernel)]
            for thickness, one in mine.groupby("thickness_mm"):
                above.plot(one["frequency"], one["power"] / one["power"].max(), color=colours[thickness])
                below.plot(thickness, one["sd_hu"].iloc[0], "o", color=colours[thickness], markersize=4)
            for real in published[published["scanner"].isin(matches.get(kernel, ()))].itertuples(index=False):
                above.axvspan(real.peak_low_per_mm - 0.01, real.peak_high_per_mm + 0.01, color="0.87", zorder=0)
                above.axvline(real.mean_per_mm, linestyle=":", color="black", linewidth=0.8)
                if np.isfinite(real.thickness_mm):
                    below.plot(real.thickness_mm, real.sd_hu, "x", color="black", markersize=4)
                else:
                    below.axhline(real.sd_hu, color="black", linestyle=":", linewidth=0.8)
            if kernel == "STANDARD":  # GE, 2.5 mm, the one spectrum that was published bin by bin
                points = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5], [0.71, 0.86, 0.86, 1, 0.77, 0.70, 0.32, 0.15]
                above.plot(*points, "x", markersize=3, color="black")
            make = {"GE MEDICAL SYSTEMS": "GE"}.get(manufacturer, manufacturer.title())
            above.set(xlim=(0, 0.7), ylim=(0, 1.05), xlabel="Frequency (1/mm)", title=f"{make} {kernel}")
            below.set(xlim=(0, max(thicknesses) + 0.7), ylim=(0, None), xlabel="Slice thickness (mm)")
        axes[0, 0].set_ylabel("Noise power / its peak")
        axes[1, 0].set_ylabel("Noise in the liver (SD, HU)")
        key = [Line2D([], [], color=colours[mm], marker="o", markersize=4, label=f"phantom, {mm:g} mm")
               for mm in thicknesses]  # fmt: skip
        line, cross = {"linestyle": ":", "linewidth": 0.8}, {"linestyle": "", "marker": "x", "markersize": 4}
        key += [Patch(color="0.87", label="patients: range of the peak"),
                Line2D([], [], color="black", label="patients: mean (above), SD (below)", **line),
                Line2D([], [], color="black", label="patients, measured", **cross)]  # fmt: skip
        figure.legend(handles=key, loc="outside lower center", ncols=4)
    return figure


def draw_geometry(measured: pd.DataFrame, published: pd.DataFrame, n_published: int = KITS23_KIDNEYS) -> Figure:
    """Draw measures of the kidneys as histograms, with mean, SD and 5th and 95th percentiles of patients.

    Parameters
    ----------
    measured : DataFrame
        One row per patient, one column per quantity.
    published : DataFrame
        `published("kidney_geometry")`.
    n_published : int
        Number of kidneys that the published values come from.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 95, 3, len(published) // 3 + 1, squeeze=False)  # one panel for the key
        for panel in axes.flat[len(published) :]:
            panel.set_axis_off()
        key = [Patch(color="#6699cc", label=f"phantom, {len(measured)} patients"),
               Patch(color="0.88", label=f"patients, mean ± SD\n({n_published} kidneys)"),
               Line2D([], [], color="black", linewidth=0.8, label="patients, mean"),
               Line2D([], [], color="black", linewidth=0.6, linestyle=":", label="5th, 95th percentile")]  # fmt: skip
        axes.flat[-1].legend(handles=key, loc="center")
        for panel, row in zip(axes.flat, published.itertuples(index=False), strict=False):
            values = measured[row.quantity]
            panel.hist(values, 14, color="#6699cc")
            panel.axvspan(row.mean - row.sd, row.mean + row.sd, color="0.88", zorder=0)
            panel.axvline(row.mean, color="black", linewidth=0.8)
            for end in (row.p5, row.p95):
                panel.axvline(end, color="black", linewidth=0.6, linestyle=":")
            title = f"{row.quantity.capitalize()}\n{values.mean():.0f} ± {values.std():.0f}, "
            panel.set_title(f"{title}patients {row.mean:g} ± {row.sd:g}", fontsize=6.5)
            panel.set(xlabel=row.unit.replace("mm2", "mm²"), yticks=[])
            panel.spines["left"].set_visible(False)
    return figure

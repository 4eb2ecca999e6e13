"""Figures that hold the phantom against patients, drawn from measured tables and images; nothing is computed there."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures.display import window
from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

ORGAN_COLOURS = {"aorta": "#cc3311", "cortex": "#882255", "medulla": "#cc6677", "renal_vein": "#004488",
                 "portal_vein": "#6699cc", "liver": "#997700"}  # fmt: skip
PUBLISHED = dict(color="black", linestyle="none", marker="o", markersize=2.5, capsize=1.5, elinewidth=0.6)


def draw_images(rows: Mapping[str, Sequence[np.ndarray | None]], titles: Sequence[str]) -> Figure:
    """Draw CT images at level 40, width 400 HU, cropped to the body.

    Parameters
    ----------
    rows : mapping of str to sequence of float array (H, W)
        Images of each row by its name; HU, NaN outside the body, None where there is none.
    titles : sequence of str
        Of the columns.
    """
    with paper_style():
        height = 0.72 * TWO_COLUMNS_MM / len(titles) * len(rows) + 6
        figure, axes = axes_mm(TWO_COLUMNS_MM, height, len(rows), len(titles), squeeze=False, layout="compressed")
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
        for panels, (name, images) in zip(axes, rows.items(), strict=True):
            panels[0].set_ylabel(name)
            for panel, image in zip(panels, images, strict=True):
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if image is not None:
                    panel.imshow(window(_crop(image)), cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        for panel, title in zip(axes[0], titles, strict=True):
            panel.set_title(title)
    return figure


def draw_curves(
    times: np.ndarray,
    curves: Mapping[str, np.ndarray],
    trigger: float,
    by_output: Mapping[float, np.ndarray],
) -> Figure:
    """Draw enhancement over time beside Goshima's measurements (A), and the aorta's by cardiac output (B).

    Parameters
    ----------
    times : float array (n,)
        s after the start of the injection.
    curves : mapping of str to float array (n,)
        Enhancement of organs of the median adult, HU.
    trigger : float
        When the aorta has risen by 50 HU, s.
    by_output : mapping of float to float array (n,)
        Enhancement of the aorta by the cardiac output relative to the expected one.
    """
    with paper_style():
        figure, (left, right) = axes_mm(TWO_COLUMNS_MM, 72, 1, 2, width_ratios=(1.35, 1))
        for organ, colour in ORGAN_COLOURS.items():
            left.plot(times, curves[organ], color=colour, label=organ.replace("_", " "))
        gap = curves["cortex"] - curves["medulla"]
        left.plot(times, gap, "--", color="0.5", label="cortex - medulla")
        _goshima(left, trigger)
        left.set(xlabel="Time after the start of the injection (s)", ylabel="Enhancement (HU)", xlim=(0, 200))
        left.set_ylim(-40, 460)
        left.set_title("A  Median adult")
        left.legend(ncols=2, loc="upper right")
        shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(by_output)))
        for (factor, curve), colour in zip(by_output.items(), shades, strict=True):
            label = f"{factor:.1f}: {curve.max():.0f} HU at {times[curve.argmax()]:.0f} s"
            right.plot(times, curve, color=colour, label=label)
        right.set(xlabel="Time after the start of the injection (s)", ylabel="Enhancement of the aorta (HU)")
        right.set(xlim=(0, 120), ylim=(0, 1.45 * max(curve.max() for curve in by_output.values())))
        right.set_title("B  Aorta by relative cardiac output")
        right.legend(title="Output: peak")
    return figure


def _goshima(panel: Axes, trigger: float) -> None:
    """Mark renal artery, cortex, their difference and medulla as measured after the trigger, with the ranges."""
    for start, stop, low, high, colour in (
        (5, 15, 240, 288, ORGAN_COLOURS["aorta"]), (10, 30, 195, 217, ORGAN_COLOURS["cortex"]),
        (5, 30, 110, 140, "0.5"),
    ):  # fmt: skip
        middle = (trigger + (start + stop) / 2, (low + high) / 2)
        ranges = {"xerr": (stop - start) / 2, "yerr": (high - low) / 2}
        panel.errorbar(*middle, **ranges, **(PUBLISHED | {"color": colour}))
    panel.plot([], [], "o", markersize=2.5, color="black", label="Goshima 2007, range")
    panel.plot(trigger + 55, 145, "s", markersize=3.5, color=ORGAN_COLOURS["medulla"], label="medulla, Goshima")
    panel.plot(trigger + 45, 30, "v", markersize=3.5, color="0.5", label="less than this, Goshima")


def draw_hu(table: pd.DataFrame) -> Figure:
    """Draw how far the phantom's HU lie from the published ones, in published SD between patients.

    Parameters
    ----------
    table : DataFrame
        As `lib.phantom.measures.compare_hu` returns it.
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
    """Draw noise power spectra of the liver by kernel and thickness, with the peak and mean frequency of patients.

    Parameters
    ----------
    spectra : DataFrame
        manufacturer (as in DICOM), kernel, thickness_mm, frequency, power, sd_hu.
    published : DataFrame
        `published("renal_ct_noise")`.
    matches : mapping of str to sequence of str
        Published scanners by kernel.
    """
    kernels = list(spectra[["manufacturer", "kernel"]].drop_duplicates().itertuples(index=False))
    top = 1.9  # the legend stands above all curves
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 68, 1, len(kernels), sharey=True, squeeze=False, layout="constrained")
        for panel, (manufacturer, kernel) in zip(axes[0], kernels, strict=True):
            mine = spectra[(spectra["manufacturer"] == manufacturer) & (spectra["kernel"] == kernel)]
            shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, mine["thickness_mm"].nunique()))
            groups = mine.groupby("thickness_mm")
            for (thickness, one), colour in zip(groups, shades, strict=True):
                label = f"{thickness:g} mm, {one['sd_hu'].iloc[0]:.0f} HU"
                panel.plot(one["frequency"], one["power"] / one["power"].max(), color=colour, label=label)
            for real in published[published["scanner"].isin(matches.get(kernel, ()))].itertuples(index=False):
                span = real.peak_low_per_mm - 0.01, real.peak_high_per_mm + 0.01
                panel.axvspan(*span, 0, 1 / top, color="0.85", zorder=0)
                panel.axvline(real.mean_per_mm, 0, 1 / top, linestyle=":", color="black")
            if kernel == "STANDARD":  # GE, 2.5 mm, the one spectrum that was published bin by bin
                points = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5], [0.71, 0.86, 0.86, 1, 0.77, 0.70, 0.32, 0.15]
                panel.plot(*points, "o", markersize=2.5, color="black")
            make = {"GE MEDICAL SYSTEMS": "GE"}.get(manufacturer, manufacturer.title())
            panel.set(xlim=(0, 0.7), ylim=(0, top), yticks=np.linspace(0, 1, 6), xlabel="Frequency (1/mm)")
            panel.set_title(f"{make} {kernel}")
            panel.legend(fontsize=6, loc="upper right")
        axes[0, 0].set_ylabel("Noise power / its peak", loc="bottom")
        key = [
            Patch(color="0.85", label="public scans: peak"),
            Line2D([], [], linestyle=":", color="black", label="mean frequency"),
            Line2D([], [], linestyle="", marker="o", markersize=2.5, color="black", label="spectrum, GE 2.5 mm"),
        ]
        figure.legend(handles=key, loc="outside lower center", ncols=3)
    return figure


def draw_geometry(measured: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Draw the kidneys' measures as histograms over mean +- SD and p5-p95 of patients.

    Parameters
    ----------
    measured : DataFrame
        A row a patient, a column a quantity.
    published : DataFrame
        `published("kidney_geometry")`.
    """
    with paper_style():
        figure, axes = axes_mm(TWO_COLUMNS_MM, 95, 3, len(published) // 3 + 1, squeeze=False)  # one panel for the key
        for panel in axes.flat[len(published) :]:
            panel.set_axis_off()
        key = [Patch(color="#6699cc", label="phantom"), Patch(color="0.88", label="patients, mean ± SD"),
               Line2D([], [], color="black", linewidth=0.8, label="their mean"),
               Line2D([], [], color="black", linewidth=0.6, linestyle=":", label="5th, 95th percentile")]  # fmt: skip
        axes.flat[-1].legend(handles=key, loc="center")
        for panel, row in zip(axes.flat, published.itertuples(index=False), strict=False):
            values = measured[row.quantity]
            panel.hist(values, 14, color="#6699cc")
            panel.axvspan(row.mean - row.sd, row.mean + row.sd, color="0.88", zorder=0)
            panel.axvline(row.mean, color="black", linewidth=0.8)
            for end in (row.p5, row.p95):
                panel.axvline(end, color="black", linewidth=0.6, linestyle=":")
            panel.set_title(f"{row.quantity}\n{values.mean():.0f} ± {values.std():.0f} ({row.mean:g} ± {row.sd:g})")
            panel.set(xlabel=row.unit.replace("mm2", "mm²"), yticks=[])
            panel.spines["left"].set_visible(False)
    return figure


def _crop(image: np.ndarray) -> np.ndarray:
    """Cut an image to the rows and columns that hold body."""
    body = ~np.isnan(image)
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

"""Figures of where maps lie in the body, drawn from the tables of 13_anatomy_of_maps; nothing is computed there."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures.style import PHASE_COLOURS, TWO_COLUMNS_MM, axes_mm, inches, paper_style
from lib.paper import PHASES
from lib.titles import LAYER_TITLES, METHOD_TITLES, PHASE_TITLES

COLOURS = {  # one hue a family: kidney, arteries, veins, organs, frame, rest
    "kidney cortex": "#882255",
    "kidney medulla": "#cc6677",
    "urine in the pelvis": "#eeaabb",
    "kidney sinus, cyst, tumour": "#f5dde2",
    "aorta": "#cc3311",
    "arteries and renal veins": "#ee9988",
    "vena cava": "#004488",
    "portal and hepatic veins": "#6699cc",
    "liver": "#997700",
    "spleen": "#ccaa44",
    "bowel": "#66aa55",
    "muscle": "#aa8866",
    "bone": "#ddccaa",
    "fat": "#eeeebb",
    "other": "#cccccc",
    "outside": "#333333",
}
LIMIT = 8  # times the image's share, where the colours of the heat map end


def draw_anatomy(anatomy: pd.DataFrame) -> Figure:
    """Draw the tissues under each map's highest voxels: by phase (A), and beside the image's own shares (B).

    Parameters
    ----------
    anatomy : DataFrame
        As `lib.tissue_shares.summarise_shares` returns it. B averages over the phases.
    """
    maps = list(anatomy[["method", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    tissues = list(anatomy["tissue"].drop_duplicates())
    phases = [phase for phase in PHASES if phase in set(anatomy["phase"])]
    titles = ["Image", *(_title(*which) for which in maps)]
    with paper_style():
        figure = Figure(figsize=inches(TWO_COLUMNS_MM, 64 + 7.4 * len(titles)))
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.05))
        panels = np.atleast_1d(above.subplots(1, len(phases), sharey=True))
        for panel, phase in zip(panels, phases, strict=True):
            rows = anatomy[anatomy["phase"] == phase]
            _stack(panel, _wide(rows, maps, tissues), tissues)
            slices, patients = rows[["n_slices", "n_patients"]].iloc[0]
            panel.set_title(f"{PHASE_TITLES[phase]}\n{slices} slices, {patients} patients")
        panels[0].set_yticks(range(len(titles)), titles)
        panels[0].invert_yaxis()
        panels[len(panels) // 2].set_xlabel("Share of the highest tenth of the map's voxels, by tissue (%)")
        above.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
        mean = anatomy.groupby(["method", "layer", "tissue"], sort=False)[["share", "area"]].mean().reset_index()
        _heat_map(below.subplots(), _wide(mean, maps, tissues), tissues, titles)
        for part, letter in ((above, "A"), (below, "B")):
            part.text(0.005, 0.99, letter, va="top", fontsize=9, fontweight="bold")
    return figure


def draw_signs(signs: pd.DataFrame) -> Figure:
    """Draw the mean signed saliency by tissue and phase with its interval, and the signs that the paper names.

    Parameters
    ----------
    signs : DataFrame
        As `lib.tissue_shares.summarise_signs` returns it.
    """
    tissues = list(signs["tissue"].drop_duplicates())
    with paper_style():
        figure, panels = axes_mm(TWO_COLUMNS_MM, 56, 1, len(tissues), squeeze=False)
        figure.get_layout_engine().set(rect=(0, 0, 1, 0.95))
        for panel, tissue in zip(panels[0], tissues, strict=True):
            rows = signs[signs["tissue"] == tissue].set_index("phase").reindex(PHASES)
            mean, low, high = (1000 * rows[name].to_numpy(float) for name in ("mean_signed", "low", "high"))
            panel.axhline(0, color="0.6", linewidth=0.6)
            for x, phase in enumerate(PHASES):
                panel.plot([x, x], [low[x], high[x]], color=PHASE_COLOURS[phase], linewidth=1.5)
                panel.plot(x, mean[x], "o", color=PHASE_COLOURS[phase], markersize=4)
            for sign, marker in ((1, "^"), (-1, "v")):
                at = np.flatnonzero(rows["expected"] == sign)
                panel.plot(at, np.full(len(at), 0.96), marker, color="0.4", transform=panel.get_xaxis_transform())
            panel.set_title(tissue.capitalize())
            panel.set_xticks(range(len(PHASES)), [PHASE_TITLES[phase] for phase in PHASES], rotation=50)
            panel.set_xlim(-0.5, len(PHASES) - 0.5)
            panel.margins(y=0.16)
        panels[0, 0].set_ylabel("Mean signed saliency\n(score per voxel and SD, 1/1000)")
        words = "as the paper reads its maps: ▲ the phase wants it bright, ▼ dark"
        figure.text(0.995, 0.995, words, ha="right", va="top", color="0.4", fontsize=6)
    return figure


def _title(method: str, layer: str) -> str:
    return METHOD_TITLES[method] + (f", {LAYER_TITLES[layer]}" if layer in LAYER_TITLES else "")


def _wide(table: pd.DataFrame, maps: list[tuple[str, str]], tissues: list[str]) -> np.ndarray:
    """Return shares (1 + maps, tissues); the image's own come first."""
    shares = table.pivot_table(index=["method", "layer"], columns="tissue", values="share").loc[maps, tissues]
    area = table.drop_duplicates("tissue").set_index("tissue")["area"][tissues]
    return np.vstack([area, shares])


def _stack(panel, shares: np.ndarray, tissues: list[str]) -> None:
    """Draw one bar a map, the image's a little apart."""
    start = np.zeros(len(shares))
    for tissue, width in zip(tissues, 100 * shares.T, strict=True):
        panel.barh(range(len(shares)), width, 0.82, left=start, color=COLOURS[tissue], label=tissue, linewidth=0)
        start += width
    panel.axhline(0.5, color="black", linewidth=0.6)
    panel.set(xlim=(0, 100), xticks=(0, 50, 100))
    panel.tick_params(axis="y", length=0)


def _heat_map(panel, shares: np.ndarray, tissues: list[str], titles: list[str]) -> None:
    """Print shares, coloured by how often they exceed the image's."""
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(shares[0] > 0, shares / shares[0], np.nan)
        logs = np.clip(np.log2(times), -np.log2(LIMIT), np.log2(LIMIT))
    bound = np.log2(LIMIT)
    shown = panel.imshow(logs, cmap="PuOr_r", vmin=-bound, vmax=bound, aspect="auto")
    for (row, column), share in np.ndenumerate(100 * shares):
        colour = "white" if abs(logs[row, column]) > 0.65 * bound else "black"
        text = f"{share:.0f}" if share >= 9.95 else f"{share:.1f}"
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
    panel.axhline(0.5, color="black", linewidth=0.6)
    panel.set_xticks(range(len(tissues)), tissues, rotation=40, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(len(titles)), titles)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    bar = panel.figure.colorbar(shown, ax=panel, pad=0.01, aspect=30, label="Times the tissue's share of the image")
    steps = np.arange(-bound, bound + 1)
    names = [f"1/{2 ** -int(step)}" if step < 0 else f"{2 ** int(step)}" for step in steps]
    bar.set_ticks(steps, labels=[f"≤{names[0]}", *names[1:-1], f"≥{names[-1]}"])
    panel.set_title("Mean of the phases: share of the highest tenth (numbers, %) and enrichment (colour)", loc="left")

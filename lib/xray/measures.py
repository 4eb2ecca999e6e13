"""What is measured on simulated radiographs to hold them against published numbers."""

import time

import numpy as np
import pandas as pd

from lib.files import ROOT
from lib.xray.beam import TISSUES, beam, density, in_basis
from lib.xray.chest import Chest
from lib.xray.detector import scattered
from lib.xray.geometry import View


def attenuation_table() -> pd.DataFrame:
    """Return attenuation by energy from the table and from the two basis materials: 1/cm, a row per bin and tissue."""
    table = pd.read_csv(ROOT / "lib" / "published" / "xray_beams.csv")
    rows = []
    for tissue in TISSUES:
        water, mineral = in_basis(tissue)
        rows.append(pd.DataFrame({
            "beam": table["beam"], "energy_kev": table["energy_kev"], "tissue": tissue,
            "table_per_cm": table[tissue] * density(tissue),
            "basis_per_cm": water * table["water"] + mineral * table["hydroxyapatite"],
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def pneumothorax_sizes(seeds: range, pixels: int = 64) -> pd.DataFrame:
    """Return A + B + C (cm), volume (%) and share of the image (%) of the pneumothorax of each seed."""
    rows = []
    for seed in seeds:
        chest = Chest(seed)
        truth = chest.truth(pixels)
        rows.append({"seed": seed, "sum_cm": chest.pneumothorax.gap.sum_cm, "volume_percent": 100 * truth["lost"],
                     "gap_percent": 100 * truth["masks"]["gap"].mean()})  # fmt: skip
    return pd.DataFrame(rows)


def scatter_fractions(seed: int, pixels: int = 96) -> dict[str, float]:
    """Return the shares of scatter without a grid behind the mediastinum and behind the lungs of a patient."""
    view = View(pixels)
    thickness, truth = Chest(seed).line_integrals(view, False)
    primary = beam("chest").transmission(thickness)
    tissue = thickness["water"] + 1.6 * thickness["hydroxyapatite"]
    share = scattered(primary, tissue, view.pixel_mm)
    share = share / (share + primary)
    n = pixels
    lungs = truth["masks"]["lungs"] & (tissue < 13)
    return {
        "mediastinum": float(share[round(0.46 * n) : round(0.62 * n), round(0.48 * n) : round(0.53 * n)].mean()),
        "lungs": float(np.median(share[lungs])),
    }


def power_spectrum(grey: np.ndarray, pixel_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the radial power spectrum of the middle of an image: frequencies (1/mm) and power (mm2).

    A plane is not taken off; a Hann window keeps the border out.
    """
    side = min(grey.shape) // 2 * 2
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    part = grey[top : top + side, left : left + side].astype(float)
    window = np.outer(np.hanning(side), np.hanning(side))
    spectrum = np.abs(np.fft.fft2((part - part.mean()) * window)) ** 2 * pixel_mm**2 / (window**2).sum()
    f = np.fft.fftfreq(side, pixel_mm)
    radius = np.hypot(f[:, None], f[None])
    edges = np.geomspace(2 / (side * pixel_mm), 0.5 / pixel_mm, 24)
    which = np.digitize(radius.ravel(), edges)
    counts = np.bincount(which, minlength=len(edges) + 1)[1:-1]
    power = np.bincount(which, spectrum.ravel(), minlength=len(edges) + 1)[1:-1] / np.maximum(counts, 1)
    return np.sqrt(edges[1:] * edges[:-1])[counts > 0], power[counts > 0]


def seconds_per_image(make, repeats: int = 3) -> float:
    """Return the median CPU seconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        make()
        times.append(time.process_time() - start)
    return float(np.median(times))

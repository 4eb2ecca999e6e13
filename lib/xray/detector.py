"""From the beam behind the patient to an image for display: scatter, grid, quanta, blur, processing."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from lib.xray.beam import Beam


@dataclass(frozen=True)
class Detector:
    """A flat digital detector and the grid in front of it.

    Attributes
    ----------
    quanta_per_mm2 : float
        Detected quanta in the open field, after the grid.
    grid : bool
        Whether an anti-scatter grid is used.
    grid_primary, grid_scatter : float
        Shares of primary and scattered signal that a grid lets pass (ratio about 10:1).
    blur_mm : float
        SD of the detector's and the focal spot's blur.
    electronic : float
        SD of the electronic noise of a mm2, in quanta.
    """

    quanta_per_mm2: float = 7.0e5
    grid: bool = True
    grid_primary: float = 0.70
    grid_scatter: float = 0.12
    blur_mm: float = 0.16
    electronic: float = 60.0


def scattered(primary: np.ndarray, tissue_cm: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Return the scattered signal at the detector without a grid, in units of the open field's primary.

    Parameters
    ----------
    primary : float array (n, n)
        Share of the primary signal that passes.
    tissue_cm : float array (n, n)
        Water-equivalent thickness, cm.
    pixel_mm : float

    Notes
    -----
    Where a ray crosses t cm, what it scatters grows as the primary times a scatter-to-primary ratio .09 t^1.3, and
    lands in a wide bell (half 10 mm, half 40 mm SD): thick parts are lit by their bright neighbours too. The constants
    are fitted to measured scatter fractions without a grid, about .9 in the mediastinum and .6 to .7 in the lungs
    (Niklason, Sorenson, Nelson, Med Phys 1981;8:677).
    """
    source = primary * (0.09 * np.maximum(tissue_cm, 0) ** 1.3)
    step = max(1, round(4.0 / pixel_mm))  # the bell is wide: a coarse grid does
    n = source.shape[0] // step * step
    coarse = source[:n, :n].reshape(n // step, step, n // step, step).mean((1, 3))
    size = step * pixel_mm
    wide = 0.5 * sum(gaussian_filter(coarse, sd / size, mode="nearest") for sd in (10, 40))
    return resize(wide, source.shape[0])


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return a square image (n, n) at (size, size), bilinear."""
    n = image.shape[0]
    at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    low = np.minimum(at.astype(int), n - 2)
    share = (at - low).astype(np.float32)
    rows = image[low] * (1 - share)[:, None] + image[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def expose(
    primary: np.ndarray, scatter: np.ndarray, beam: Beam, detector: Detector, pixel_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the detector's signal, (n, n) float32: 1 where nothing is in the beam's way.

    Notes
    -----
    Quanta are counted, their noise is that of a Poisson process scaled by the spread of energies (`Beam.swank`); both
    the image and the quantum noise are blurred by the detector, the electronic noise is not.
    """
    passed = primary * detector.grid_primary + scatter * detector.grid_scatter if detector.grid else primary + scatter
    passed = passed / (detector.grid_primary if detector.grid else 1.0)
    per_pixel = detector.quanta_per_mm2 * pixel_mm**2 * beam.swank
    counted = rng.poisson(np.maximum(passed, 0) * per_pixel).astype(np.float32) / np.float32(per_pixel)
    signal = gaussian_filter(counted, detector.blur_mm / pixel_mm)
    sd = detector.electronic / (detector.quanta_per_mm2 * pixel_mm)
    return signal + np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)


@dataclass(frozen=True)
class Look:
    """How a vendor turns signal into grey values.

    Attributes
    ----------
    compress : float
        How much of the slow changes over the image is kept.
    slow_mm : float
        What counts as slow: SD in mm.
    boost : float
        Amplification of detail finer than `fine_mm`, and half as much of that finer than `middle_mm`.
    fine_mm, middle_mm : float
    contrast : float
        Slope of the S-shaped curve.
    """

    compress: float = 0.72
    slow_mm: float = 26.0
    boost: float = 0.9
    fine_mm: float = 2.2
    middle_mm: float = 9.0
    contrast: float = 1.0


def display(signal: np.ndarray, body: np.ndarray, pixel_mm: float, look: Look) -> np.ndarray:
    """Return grey values from 0 (black, much signal) to 1 (white), (n, n) float32.

    Parameters
    ----------
    signal : float array (n, n)
        Of :func:`expose`.
    body : bool array (n, n)
        Where the patient is: the curve is fitted to its grey values.
    pixel_mm : float
    look : Look
    """
    log = -np.log(np.maximum(signal, 2e-4))
    inside = np.minimum(log, np.quantile(log[body], 0.995))
    slow = gaussian_filter(inside, look.slow_mm / pixel_mm, mode="nearest")
    level = float(np.median(slow[body]))
    mixed = log - (1 - look.compress) * (slow - level)
    for size, amount in ((look.fine_mm, look.boost), (look.middle_mm, 0.5 * look.boost)):
        mixed += amount * np.clip(inside - gaussian_filter(inside, size / pixel_mm, mode="nearest"), -0.3, 0.3)
    low, high = np.quantile(mixed[body], [0.03, 0.97])
    share = (mixed - low) / (high - low)
    black, middle, white = (
        -0.35,
        0.30,
        1.16,
    )  # lungs in the steep part, the mediastinum in the shoulder
    grey, ends = (expit(3.1 * look.contrast * (x - middle)) for x in (share, np.array([black, white])))
    return np.clip((grey - ends[0]) / (ends[1] - ends[0]), 0, 1).astype(np.float32)

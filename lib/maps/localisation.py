"""How well a heat map marks a known region: measures, maps that see no image, ceilings, and masks as run lengths."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score

QUANTILES = np.linspace(0, 1, 11)
FLOOR = 0.1  # heat below this share of the range counts as none


def scaled(heat: np.ndarray) -> np.ndarray | None:
    """Return a map (H, W) stretched to 0..1; ones where it has one positive value; None where it is zero throughout.

    Raises
    ------
    ValueError
        If it holds NaN or infinity.
    """
    heat = np.asarray(heat, dtype=float)
    if not np.isfinite(heat).all():
        raise ValueError(f"the map holds {np.count_nonzero(~np.isfinite(heat))} values that are NaN or infinite.")
    low, high = heat.min(), heat.max()
    if high - low <= 1e-12 * max(abs(high), abs(low), 1e-30):
        return np.ones_like(heat) if high > 0 else None
    return (heat - low) / (high - low)


def effective_heat_ratio(heat: np.ndarray, mask: np.ndarray, *, weighted: bool = True) -> float:
    """Return the area under the effective heat ratio over its thresholds.

    Parameters
    ----------
    heat : float array (H, W)
    mask : bool array (H, W)
        The region that should be marked.
    weighted : bool
        Whether the numerator sums heat (as published) or counts pixels.

    Returns
    -------
    float
        NaN for a map that is zero throughout: it marks nothing.

    Notes
    -----
    h is the map in 0..1, values below .1 set to 0, v those that are left, t_q = min(quantile(v, q), .99 max h) for q =
    0, .1 ... 1: EHR(q) = sum of h over mask and h >= t_q, divided by the number of pixels with h >= t_q; the area by
    trapezoids (Zhang et al., Fine-grained neural network explanation by identifying input features with predictive
    information, NeurIPS 2021; formula of the authors' code InputIBA). A sum of heat over a number of pixels mixes the
    scale of the map with its place, hence `weighted=False` beside it.
    """
    heat, mask = scaled(heat), np.asarray(mask, bool)
    if heat is None:
        return float("nan")
    heat = np.where(heat >= FLOOR, heat, 0.0)
    left, top = heat[heat > 0], heat.max()
    ratios = []
    for threshold in np.minimum(np.quantile(left, QUANTILES), 0.99 * top):
        marked = heat >= threshold
        ratios.append((heat[marked & mask].sum() if weighted else np.count_nonzero(marked & mask)) / marked.sum())
    return float(np.trapezoid(ratios, QUANTILES))


def top_pixels(heat: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` hottest pixels of a map (H, W), bool; equal ones in a fixed random order."""
    values = np.asarray(heat, float).ravel()
    limit = np.partition(values, values.size - count)[values.size - count]
    chosen = values > limit
    ties = np.flatnonzero(values == limit)
    chosen[np.random.default_rng(0).permutation(ties)[: count - np.count_nonzero(chosen)]] = True
    return chosen.reshape(np.shape(heat))


def enrichment(heat: np.ndarray, mask: np.ndarray, fraction: float = 0.1, within: np.ndarray | None = None) -> float:
    """Return how much denser the mask is in a map's hottest pixels than in the image (or in `within`); 1 is chance."""
    inside = np.ones(np.shape(mask), bool) if within is None else np.asarray(within, bool)
    values, mask = np.asarray(heat, float)[inside], np.asarray(mask, bool)[inside]
    share = mask.mean()
    if not share:
        return float("nan")
    chosen = top_pixels(values, max(1, round(fraction * values.size)))
    return float(mask[chosen].mean() / share)


def localisation(heat: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return every measure of a map against a mask.

    Parameters
    ----------
    heat : float array (H, W)
        At the mask's size.
    mask : bool array (H, W)
        Not empty.

    Returns
    -------
    dict
        ehr, ehr_unweighted : see :func:`effective_heat_ratio`.
        auprc : average precision of heat as a score of the mask.
        pointing : whether the hottest pixel lies in the mask, 0 or 1.
        mass : share of the heat in the mask over the mask's share of the image.
        iou_10, iou_mask : overlap of the hottest 10 %, and of as many pixels as the mask has, over their union.
        diff : mean heat inside less mean heat outside (one reading of Diff_GradCAM, whose form is not public).

        All NaN for a map that is zero throughout.

    Raises
    ------
    ValueError
        If shapes differ or the mask is empty.
    """
    heat, mask = np.asarray(heat, float), np.asarray(mask, bool)
    if heat.shape != mask.shape or heat.ndim != 2:
        raise ValueError(
            f"map and mask have shapes {heat.shape} and {mask.shape}, expected the same two-dimensional one."
        )
    if not mask.any():
        raise ValueError("the mask is empty: there is nothing to localise.")
    names = ("ehr", "ehr_unweighted", "auprc", "pointing", "mass", "iou_10", "iou_mask", "diff")
    unit = scaled(heat)
    if unit is None:
        return dict.fromkeys(names, float("nan"))

    def overlap(count: int) -> float:
        chosen = top_pixels(unit, count)
        return np.count_nonzero(chosen & mask) / np.count_nonzero(chosen | mask)

    values = (
        effective_heat_ratio(unit, mask),
        effective_heat_ratio(unit, mask, weighted=False),
        average_precision_score(mask.ravel(), unit.ravel()),
        float(mask[top_pixels(unit, 1)].all()),
        unit[mask].sum() / unit.sum() / mask.mean(),
        overlap(round(0.1 * mask.size)),
        overlap(np.count_nonzero(mask)),
        unit[mask].mean() - (unit[~mask].mean() if (~mask).any() else 0.0),
    )
    return dict(zip(names, map(float, values), strict=True))


def null_maps(shape: tuple[int, int], masks: np.ndarray) -> dict[str, np.ndarray]:
    """Return maps that see no image: uniform, a bell at the centre, the mean of other patients' masks.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    masks : bool array (n, H, W)
        Of patients other than those who are evaluated.
    """
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
    mean = np.mean(masks, axis=0, dtype=float)
    return {
        "uniform": np.ones(shape),
        "centre": np.exp(-(x[None] ** 2 + y[:, None] ** 2) / (2 * 0.2**2)),
        "mean mask": mean,
        "mean mask, 8 x 8 cells": on_grid(mean, 8),
    }


def edges(image: np.ndarray) -> np.ndarray:
    """Return the magnitude of the Sobel gradient of an image (H, W)."""
    image = np.asarray(image, float)
    return np.hypot(ndimage.sobel(image, 0), ndimage.sobel(image, 1))


def on_grid(image: np.ndarray, cells: int) -> np.ndarray:
    """Return an image (H, W) averaged in `cells` x `cells` cells and drawn back bilinearly.

    Of a mask this is the best that a map of that grid can show: a ceiling.
    """
    image = np.asarray(image, float)
    rows = np.array_split(np.arange(image.shape[0]), cells)
    columns = np.array_split(np.arange(image.shape[1]), cells)
    coarse = np.array([[image[r[0] : r[-1] + 1, c[0] : c[-1] + 1].mean() for c in columns] for r in rows])
    zoomed = ndimage.zoom(coarse, [n / cells for n in image.shape], order=1, grid_mode=True, mode="nearest")
    return np.clip(zoomed, 0, None)


def decode_runs(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of relative run lengths as SIIM-ACR has them, bool (rows, columns).

    Parameters
    ----------
    text : str
        Pairs of numbers: the gap since the last run's end, the run's length; pixels are counted down the columns.
        "-1": no pixel.
    shape : tuple of int
        Rows and columns.

    Raises
    ------
    ValueError
        If the runs leave the image or do not come in pairs.
    """
    numbers = np.array(text.split(), int)
    flat = np.zeros(shape[0] * shape[1], bool)
    if numbers.size == 1 and numbers[0] == -1:
        return flat.reshape(shape[::-1]).T
    if numbers.size % 2 or (numbers < 0).any():
        raise ValueError(f"{numbers.size} numbers, the least {numbers.min()}: expected pairs of gap and length.")
    ends = np.cumsum(numbers)
    if ends.size and ends[-1] > flat.size:
        raise ValueError(f"the runs end at pixel {ends[-1]}, the image of {shape} has {flat.size}.")
    for start, end in zip(ends[0::2], ends[1::2], strict=True):
        flat[start:end] = True
    return flat.reshape(shape[::-1]).T


def encode_runs(mask: np.ndarray) -> str:
    """Return a mask (rows, columns) as relative run lengths, the inverse of :func:`decode_runs`."""
    flat = np.concatenate([[0], np.asarray(mask, bool).T.ravel().astype(np.int8), [0]])
    turns = np.flatnonzero(np.diff(flat))
    if not turns.size:
        return "-1"
    return " ".join(map(str, np.diff(np.concatenate([[0], turns]))))


def read_runs(path: str | Path) -> dict[str, list[str]]:
    """Return the runs of each image of a table `ImageId, EncodedPixels` (CSV, also .gz); [] where there is no mask.

    Raises
    ------
    ValueError
        If the header is another one.
    """
    path = Path(path)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows)]
        if header[:2] != ["ImageId", "EncodedPixels"]:
            raise ValueError(f"{path.name} has columns {header}, expected ImageId, EncodedPixels.")
        images: dict[str, list[str]] = {}
        for row in rows:
            images.setdefault(row[0].strip(), []).extend([] if row[1].strip() == "-1" else [row[1].strip()])
    return images


def union_of_runs(runs: Sequence[str], shape: tuple[int, int] = (1024, 1024), step: int = 1) -> np.ndarray:
    """Return the union of an image's masks, bool, by the majority of squares of `step` x `step` pixels."""
    mask = np.zeros(shape, bool)
    for text in runs:
        mask |= decode_runs(text, shape)
    if step == 1:
        return mask
    return mask.reshape(shape[0] // step, step, shape[1] // step, step).mean((1, 3)) >= 0.5


def mean_measures(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Return each measure's mean over (map, mask) pairs, `n`, and `dead`: how many maps are zero throughout."""
    rows = [localisation(heat, mask) for heat, mask in pairs]
    alive = [row for row in rows if not np.isnan(row["ehr"])]
    means = {name: float(np.mean([row[name] for row in alive])) if alive else float("nan") for name in rows[0]}
    return means | {"n": len(rows), "dead": len(rows) - len(alive)}

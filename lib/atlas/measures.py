"""How maps of many methods compare: agreement, classes, random weights, deletion, organs, interventions."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr

from lib.atlas.interventions import causal_weights, organ_sums
from lib.maps.localisation import edges
from lib.voxels import upsample


def at_image(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return maps (..., h, w) at the image's size: cells of a layer become blocks of pixels."""
    return upsample(np.asarray(maps, np.float32), shape, "nearest")


def on_cells(heat: np.ndarray, body: np.ndarray, cells: int = 32) -> np.ndarray:
    """Return the mean size of a map (H, W) in each of cells x cells squares that lie in the body for at least a half.

    Maps are compared on these cells: fine enough for organs, and coarse enough that noise of single pixels counts less.
    """

    def means(values: np.ndarray) -> np.ndarray:
        rows, columns = (np.linspace(0, n, cells + 1).round().astype(int)[:-1] for n in values.shape)
        sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
        sizes = np.diff([*rows, values.shape[0]])[:, None] * np.diff([*columns, values.shape[1]])
        return sums / sizes

    return means(np.abs(np.asarray(heat, float)))[means(np.asarray(body, float)) >= 0.5]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation of two vectors, NaN where one of them has a single value."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one, other)[0])


def structural_similarity(one: np.ndarray, other: np.ndarray, window: int = 7) -> float:
    r"""Return the mean structural similarity of two maps (H, W), each stretched to 0..1.

    Notes
    -----
    With means :math:`\mu`, variances :math:`v` and the covariance :math:`v_{12}` in each window, the mean of

    .. math:: \frac{(2 \mu_1 \mu_2 + C_1)(2 v_{12} + C_2)}{(\mu_1^2 + \mu_2^2 + C_1)(v_1 + v_2 + C_2)}

    with :math:`C_1 = .01^2` and :math:`C_2 = .03^2` (Wang et al. 2004). Maps of a single value count as 0.
    """

    def unit(values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, float)
        span = np.ptp(values)
        return (values - values.min()) / span if span else np.zeros_like(values)

    def local(values: np.ndarray) -> np.ndarray:
        inner = slice(window // 2, -(window // 2))
        return uniform_filter(values, window)[inner, inner]

    a, b = unit(one), unit(other)
    mean_a, mean_b = local(a), local(b)
    var_a, var_b, both = local(a * a) - mean_a**2, local(b * b) - mean_b**2, local(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return float((luminance * (2 * both + 0.03**2) / (var_a + var_b + 0.03**2)).mean())


def replacement_curve(
    answer: Callable, image: np.ndarray, other: np.ndarray, heat: np.ndarray, body: np.ndarray, steps: int
) -> np.ndarray:
    """Return the answer while the pixels of an image are replaced by those of another, hottest first, (steps + 1,).

    Parameters
    ----------
    answer : callable
        From images (n, H, W, C) to numbers (n,).
    image, other : array (H, W, C)
        Deletion replaces the image by a baseline; insertion the baseline by the image.
    heat : array (H, W)
        Sizes count; equal values are ordered at random, the same way each time.
    body : bool array (H, W)
        The pixels that are replaced.
    steps : int
    """
    rows, columns = np.nonzero(body)
    shuffled = np.random.default_rng(0).permutation(len(rows))
    order = shuffled[np.argsort(-np.abs(heat[rows, columns])[shuffled], kind="stable")]
    ends = np.linspace(0, len(order), steps + 1).round().astype(int)
    images = np.repeat(image[None], steps + 1, axis=0)
    for n, end in enumerate(ends):
        chosen = rows[order[:end]], columns[order[:end]]
        images[n][chosen] = other[chosen]
    return np.asarray(answer(images))


def faithfulness(
    answer: Callable, image: np.ndarray, baseline: np.ndarray, heat: np.ndarray, body: np.ndarray, steps: int
) -> tuple[float, float]:
    """Return the areas under the curves of deletion (low: the map marks what counts) and insertion (high)."""
    deleted = replacement_curve(answer, image, baseline, heat, body, steps)
    inserted = replacement_curve(answer, baseline, image, heat, body, steps)
    return float(np.trapezoid(deleted, dx=1 / steps)), float(np.trapezoid(inserted, dx=1 / steps))


def another_patient(patients: Sequence[str]) -> list[int]:
    """Return, for each slice, the number of the next one of another patient: whose map serves as a control."""
    n = len(patients)
    found = []
    for k in range(n):
        others = [(k + step) % n for step in range(1, n) if patients[(k + step) % n] != patients[k]]
        if not others:
            raise ValueError(f"{n} slices of {len(set(patients))} patient: the control needs slices of two or more.")
        found.append(others[0])
    return found


def agreement(cells: Mapping[str, Sequence[np.ndarray]]) -> pd.DataFrame:
    """Return Spearman's correlation of each pair of methods on each slice: `one`, `other`, `image`, `correlation`.

    Parameters
    ----------
    cells : mapping of str to sequence of array
        :func:`on_cells` of each slice, by method.
    """
    rows = []
    for one, other in itertools.combinations(cells, 2):
        for n, (a, b) in enumerate(zip(cells[one], cells[other], strict=True)):
            rows.append((one, other, n, rank_correlation(a, b)))
    return pd.DataFrame(rows, columns=["one", "other", "image", "correlation"])


def content_free(images: np.ndarray, bodies: np.ndarray) -> dict[str, np.ndarray]:
    """Return maps (n, H, W) that see no network: uniform in the body, edges, brightness (distance from the mean)."""
    grey = images[..., 0]
    return {
        "uniform": bodies.astype(np.float32),
        "edges": np.stack([edges(image) * body for image, body in zip(grey, bodies, strict=True)]),
        "brightness": np.abs(grey) * bodies,
    }


def against_interventions(
    maps: Mapping[str, np.ndarray], codes: np.ndarray, effects: pd.DataFrame, least: int = 12
) -> pd.DataFrame:
    """Compare what maps give to organs with what the score owes to them.

    Parameters
    ----------
    maps : mapping of str to array (n, H, W)
        By method, at the image's size.
    codes : int array (n, H, W)
        Tissue codes.
    effects : DataFrame
        Rows of :func:`lib.atlas.interventions.organ_effects`, with `image`.
    least : int
        Pixels that an organ needs at the size of the maps.

    Returns
    -------
    DataFrame
        `method`, `image`, `rank` (Spearman's correlation over organs of the map's absolute sum with the size of the
        falls), `signed` (that of the signed sum with the mean fall), `first` (whether the organ of the largest sum is
        that of the largest fall), `organs` (their number).
    """
    weights, rows = causal_weights(effects), []
    for method, stack in maps.items():
        for n, heat in enumerate(stack):
            here = organ_sums(heat, codes[n]).merge(weights[weights["image"] == n], on="organ")
            here = here[here["pixels"] >= least]
            if len(here) < 3:
                continue
            rank = rank_correlation(here["size"].to_numpy(), here["weight"].to_numpy())
            signed = rank_correlation(here["signed"].to_numpy(), here["fall"].to_numpy())
            first = here["organ"].iloc[here["size"].argmax()] == here["organ"].iloc[here["weight"].argmax()]
            rows.append((method, n, rank, signed, bool(first and np.ptp(here["size"]) > 0), len(here)))
    return pd.DataFrame(rows, columns=["method", "image", "rank", "signed", "first", "organs"])

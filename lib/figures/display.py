"""Scaling, cropping and overlay of images and maps before they are drawn."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from scipy import stats

from lib.voxels import centre_channel, upsample

HIDDEN = 0.025  # lowest share of a map that is not shown


def window(hu: np.ndarray, centre: float = 40.0, width: float = 400.0) -> np.ndarray:
    """Return grey values in [0, 1] of an image (H, W) in Hounsfield units; NaN (outside the body) becomes black."""
    return np.nan_to_num(np.clip((np.asarray(hu, dtype=float) - centre) / width + 0.5, 0, 1), nan=0.0)


def to_range(values: np.ndarray) -> np.ndarray:
    """Return a map scaled from its own minimum (0) to its own maximum (1); a map with one value becomes 0."""
    values = _finite(values)
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def to_rank(values: np.ndarray) -> np.ndarray:
    """Return each value's rank, from 0 (lowest) to 1 (highest); equal values share the lowest of their ranks."""
    values = _finite(values)
    return ((stats.rankdata(values, method="min") - 1) / max(values.size - 1, 1)).reshape(values.shape)


def scaled(values: np.ndarray, display: str, within: np.ndarray | None = None) -> np.ndarray:
    """Scale a map to [0, 1] for display.

    Parameters
    ----------
    values : array (H, W) or (H, W, C)
        Raw map; if it has several channels (neighbouring slices), the middle one is shown.
    display : {"magnitude rank", "rank", "range"}
        Rank of the absolute value (the paper's saliency), rank of the value (guided backprop, signed saliency), or the
        value within the map's range (CAM, Grad-CAM, SAM).
    within : bool array (H, W), optional
        Voxels that are ranked or scaled, such as those of the body. All others become NaN.

    Returns
    -------
    array (H, W)
    """
    values = centre_channel(np.asarray(values, dtype=float))
    if display not in SCALES:
        raise ValueError(f"display is {display!r}; expected {', '.join(map(repr, SCALES))}.")
    within = np.ones(values.shape, bool) if within is None else within
    heat = np.full(values.shape, np.nan)
    heat[within] = SCALES[display](values[within])
    return heat


def overlay(
    hu: np.ndarray, heat: np.ndarray, *, cmap: str = "rainbow", opacity: float = 0.6, hidden: float = HIDDEN
) -> np.ndarray:
    """Lay a map over an image.

    Parameters
    ----------
    hu : array (H, W), Hounsfield units
        NaN outside the body, where the map is not shown and air stays black.
    heat : array (H, W) in [0, 1]
        Scaled map; NaN is not shown.
    cmap : str
        Colour map of matplotlib; the paper's runs from purple (low) to red (high).
    opacity : float in [0, 1]
        Opacity of the colours over the image.
    hidden : float in [0, 1]
        Values below this are not shown; the paper hides the lowest 2.5 %.

    Returns
    -------
    array (H, W, 3) of uint8
    """
    shown = np.isfinite(hu) & (np.nan_to_num(heat, nan=-1.0) >= hidden)
    return _blend(window(hu), np.where(shown, heat, 0.0), np.where(shown, opacity, 0.0), cmap)


def colour_key(cmap: str = "rainbow", opacity: float = 0.6, *, hidden: float = HIDDEN, greys: int = 32) -> np.ndarray:
    """Return the colours of :func:`overlay` for values from 0 (first row) to 1, over grey values from black to white.

    Returns
    -------
    array (256, greys, 3) of uint8
    """
    heat, grey = np.meshgrid(np.linspace(0, 1, 256), np.linspace(0, 1, greys), indexing="ij")
    return _blend(grey, heat, np.where(heat >= hidden, opacity, 0.0), cmap)


def highest(values: np.ndarray, shape: tuple[int, int], fraction: float = 0.1) -> np.ndarray:
    """Return where the highest absolute values of a map lie, ranked as in the masking experiment.

    Parameters
    ----------
    values : array (h, w) or (h, w, C)
        Raw map.
    shape : (H, W)
        Shape of the image.
    fraction : float
        Share of the image's voxels. Masking chooses at random among equal values at the boundary; here these are all
        included or all left out, whichever is nearer to the fraction.

    Returns
    -------
    bool array (H, W)
    """
    values = upsample(np.abs(centre_channel(values)), shape, "nearest")
    count = round(fraction * values.size)
    boundary = np.partition(values.ravel(), -count)[-count]
    return min((values >= boundary, values > boundary), key=lambda chosen: abs(int(chosen.sum()) - count))


def body_box(images: Mapping[str, np.ndarray], margin: float = 0.03) -> dict[str, tuple[slice, slice]]:
    """Return the rows and columns around the body in each image; all boxes have one size, so that scales are equal.

    Parameters
    ----------
    images : mapping of str to array (H, W)
        NaN outside the body.
    margin : float
        Margin around the largest body, as a share of its size.
    """
    boxes = {name: _bounds(np.isfinite(image)) for name, image in images.items()}
    sizes = np.array([(bottom - top, right - left) for top, bottom, left, right in boxes.values()])
    height, width = np.ceil(sizes.max(axis=0) * (1 + 2 * margin)).astype(int)
    cut = {}
    for name, (top, bottom, left, right) in boxes.items():
        rows, columns = images[name].shape
        ends = (_interval(top, bottom, height, rows), _interval(left, right, width, columns))
        cut[name] = tuple(slice(start, start + size) for start, size in ends)
    return cut


def _blend(grey: np.ndarray, heat: np.ndarray, weight: np.ndarray, cmap: str) -> np.ndarray:
    """Mix the colours of a map into grey values with weights, (H, W, 3) of uint8."""
    weight = weight[..., None]
    return np.round(255 * ((1 - weight) * grey[..., None] + weight * colormaps[cmap](heat)[..., :3])).astype(np.uint8)


def _bounds(body: np.ndarray) -> tuple[int, int, int, int]:
    """Return the bounds of a mask in rows and columns (end excluded), or those of the image if it is empty."""
    if not body.any():
        return 0, body.shape[0], 0, body.shape[1]
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _interval(start: int, stop: int, size: int, available: int) -> tuple[int, int]:
    """Return the start and size of an interval around [start, stop), inside what is available."""
    size = min(size, available)
    return int(np.clip((start + stop - size) // 2, 0, available - size)), size


def _finite(values: np.ndarray) -> np.ndarray:
    """Return values as floats; raise an error if they are not finite."""
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"the map holds {np.count_nonzero(~np.isfinite(values))} values that are NaN or infinite.")
    return values


SCALES = {"magnitude rank": lambda values: to_rank(np.abs(values)), "rank": to_rank, "range": to_range}

"""Slices at another size: area means, means over the body, nearest codes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

OUTSIDE = -32768  # in the store: outside the body


def resample(image: np.ndarray, size: int, outside: float = 0.0) -> np.ndarray:
    """Bring an image to size x size: area means where it shrinks, linear interpolation where it grows.

    Parameters
    ----------
    image : float32 array (H, W)
        Padded to a square with `outside` first.
    """
    if image.shape[0] != image.shape[1]:
        image = _square(image, outside)
    native = image.shape[0]
    if native == size:
        return image
    if native % size == 0:
        step = native // size
        rows = sum(image[i::step] for i in range(step))
        return sum(rows[:, i::step] for i in range(step)) * np.float32(1 / step**2)
    weights = _weights(native, size)
    return (weights @ (weights @ image).T).T


@lru_cache(maxsize=16)
def _weights(native: int, size: int) -> sparse.csr_array:
    """Return the (size, native) matrix of area means, or of linear interpolation between pixel centres."""
    edges = np.arange(size + 1) * native / size
    pixels = np.arange(native)
    if size < native:
        weights = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, None)
    else:
        centres = np.clip((edges[1:] + edges[:-1]) / 2 - 0.5, 0, native - 1)
        weights = np.clip(1 - np.abs(centres[:, None] - pixels), 0, None)
    return sparse.csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def resample_hu(stored: np.ndarray, size: int | None) -> np.ndarray:
    """Return stored HU as float32, nan outside the body; at another size the mean over the body, where it is half."""
    hu = stored.astype(np.float32)
    outside = stored == OUTSIDE
    if size is None or (size == stored.shape[0] == stored.shape[1]):
        hu[outside] = np.nan
        return hu
    hu[outside] = 0
    share = resample((~outside).astype(np.float32), size)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(share >= 0.5, resample(hu, size) / share, np.float32(np.nan))


def _square(image: np.ndarray, fill: float) -> np.ndarray:
    side = max(image.shape)
    padding = [((side - n) // 2, side - n - (side - n) // 2) for n in image.shape]
    return np.pad(image, padding, constant_values=fill)


def resample_codes(codes: np.ndarray, size: int) -> np.ndarray:
    """Return the codes at the centres of size x size pixels."""
    codes = _square(codes, 0)
    centres = ((np.arange(size) + 0.5) * codes.shape[0] / size).astype(int)
    return codes[np.ix_(centres, centres)]

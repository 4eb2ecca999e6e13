"""A map over its image, as a picture: one line, for a quick look. The figures of the study have rooms of their own."""

import matplotlib
import numpy as np

from lib.voxels import upsample


def overlay(
    images: np.ndarray,
    maps: np.ndarray,
    *,
    colours: str = "inferno",
    strength: float = 0.6,
    magnitude: bool = True,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Return each map, brought to its image's size, laid over the image in grey.

    Parameters
    ----------
    images : array, (n, H, W) or (n, H, W, C)
        In any unit; the mean over channels is shown, black the least value of the image and white the greatest.
    maps : array, (n, H', W')
        One for each image, at any resolution; of a map with channels (n, H, W, C) the greatest magnitude is shown.
    colours : str
        A colour map of Matplotlib's.
    strength : float
        In [0, 1]: how much of the colour is seen where the map is greatest. Where the map is 0 the image alone is seen.
    magnitude : bool
        Whether |map| is shown; otherwise its positive part.
    interpolation : {"nearest", "bilinear"}
        See `lib.voxels.upsample`.

    Returns
    -------
    float array, (n, H, W, 3)
        Red, green and blue in [0, 1]: what `matplotlib.pyplot.imshow` takes. Every map is shown on its own scale, so
        that two pictures cannot be compared by their colours.

    Raises
    ------
    ValueError
        If images and maps do not fit, or the strength is not in [0, 1].

    Examples
    --------
    >>> picture = overlay(np.zeros((1, 4, 4)), np.float32([[[0, 1], [0, 0]]]), interpolation="nearest")
    >>> picture.shape, bool(picture[0, 0, 3].sum() > picture[0, 3, 0].sum())
    ((1, 4, 4, 3), True)
    """
    images, maps = np.asarray(images, float), np.asarray(maps, float)
    if images.ndim not in (3, 4) or maps.ndim not in (3, 4) or len(images) != len(maps):
        raise ValueError(
            f"images {images.shape} and maps {maps.shape} do not fit: expected (n, H, W[, C]) and (n, H', W')."
        )
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}, expected 0 to 1.")
    images = images.mean(axis=-1) if images.ndim == 4 else images
    maps = np.abs(maps) if magnitude else np.maximum(maps, 0)
    maps = upsample(maps.max(axis=-1) if maps.ndim == 4 else maps, images.shape[1:], interpolation)
    grey, share = _to_unit(images)[..., None], _to_unit(maps, lowest=0)
    opacity = strength * share[..., None]
    return (1 - opacity) * grey + opacity * matplotlib.colormaps[colours](share)[..., :3]


def _to_unit(values: np.ndarray, lowest: float | None = None) -> np.ndarray:
    """Return values in [0, 1], image by image; 0 where an image has one value only."""
    low = values.min(axis=(1, 2), keepdims=True) if lowest is None else lowest
    span = values.max(axis=(1, 2), keepdims=True) - low
    return np.divide(values - low, span, out=np.zeros_like(values), where=span > 0)

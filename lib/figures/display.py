"""What is done to an image or a map before it is drawn."""

import numpy as np
from matplotlib import colormaps

from lib.voxels import centre_channel, rank_order

HIDDEN = 0.025  # lowest share of a map that is not shown


def window(hu: np.ndarray, centre: float = 40.0, width: float = 400.0) -> np.ndarray:
    """Return grey values in [0, 1] of an image (H, W) in Hounsfield units; NaN (outside the body) is black."""
    return np.nan_to_num(np.clip((np.asarray(hu, dtype=float) - centre) / width + 0.5, 0, 1), nan=0.0)


def to_range(values: np.ndarray) -> np.ndarray:
    """Return a map scaled from its own minimum (0) to its own maximum (1); a map of one value gives 0 everywhere."""
    values = _finite(values)
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def scaled(values: np.ndarray, display: str) -> np.ndarray:
    """Scale a map to [0, 1] for display.

    Parameters
    ----------
    values : array (H, W) or (H, W, C)
        Raw map; of several input channels (neighbouring slices) the centre one is shown.
    display : {"magnitude rank", "rank", "range"}
        Rank order of the absolute value (the paper's saliency), rank order (guided backprop, signed saliency), or the
        value within the map's range (CAM, Grad-CAM, SAM).
    """
    values = centre_channel(np.asarray(values, dtype=float))
    if display == "magnitude rank":
        return rank_order(np.abs(values))
    if display == "rank":
        return rank_order(values)
    if display == "range":
        return to_range(values)
    raise ValueError(f"display is {display!r}; expected 'magnitude rank', 'rank' or 'range'.")


def overlay(hu: np.ndarray, heat: np.ndarray, *, cmap: str = "rainbow", opacity: float = 0.6) -> np.ndarray:
    """Lay a map over an image.

    Parameters
    ----------
    hu : array (H, W), Hounsfield units
        NaN outside the body.
    heat : array (H, W) in [0, 1]
        Scaled map; values below 0.025 are not shown.
    cmap : str
        Colour map of matplotlib; the paper's runs from purple (low) to red (high).
    opacity : float in [0, 1]
        Of the colours over the image.

    Returns
    -------
    array (H, W, 3) of uint8
    """
    grey = np.repeat(window(hu)[..., None], 3, axis=2)
    weight = np.where(heat < HIDDEN, 0.0, opacity)[..., None]
    mixed = (1 - weight) * grey + weight * colormaps[cmap](heat)[..., :3]
    return np.round(255 * mixed).astype(np.uint8)


def _finite(values: np.ndarray) -> np.ndarray:
    """Return values as floats, or say that they are not finite."""
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"the map holds {np.count_nonzero(~np.isfinite(values))} values that are NaN or infinite.")
    return values

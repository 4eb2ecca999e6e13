"""The patient's body on an axial slice: table, blankets and separate arms gone, gas inside kept."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

TISSUE_HU = -250  # skin and fat lie above, foam and cloth below
THIN_MM = 4.0  # half the thickness of what hangs on the body and is removed: table plates, sheets, tubes
NECK_MM = 10.0  # half the width of a contact that is cut: an arm that touches the trunk
MAX_COARSE_MM = 2.0  # pixel of the grid on which the body is found


def body_mask(hu: np.ndarray, pixel_mm: float = 0.8) -> np.ndarray:
    """Return the body on each slice.

    Parameters
    ----------
    hu : array (..., H, W)
        Hounsfield units, one slice or several.
    pixel_mm : float
        Pixel size in mm: what is thinner than 8 mm and hangs on the body is removed, and so is what a neck of less
        than 20 mm joins to it.

    Returns
    -------
    bool array (..., H, W)
        True inside the body: the largest connected component of tissue after openings, holes filled. All False
        on a slice without tissue.

    Notes
    -----
    Philbrick et al. removed voxels outside the body without saying how. The component is found on a grid
    of half the resolution (at pixels up to 1 mm); only its border is decided pixel by pixel.
    """
    hu = np.asarray(hu)
    if hu.ndim > 2:
        return np.stack([body_mask(image, pixel_mm) for image in hu])
    tissue = hu > TISSUE_HU
    step = 2 if 2 * pixel_mm <= MAX_COARSE_MM and min(hu.shape) >= 64 else 1
    padded = np.pad(tissue, [(0, -size % step) for size in hu.shape], mode="edge").view(np.uint8)
    share = sum(padded[i::step, j::step] for i in range(step) for j in range(step))
    coarse = _majority(share * 2 > step * step)
    body = ndimage.binary_fill_holes(_open(coarse, round(THIN_MM / (pixel_mm * step))))
    body = _open(body, round(NECK_MM / (pixel_mm * step)))
    inside = _enlarge(_erode(body, 1), step, hu.shape)
    near = _enlarge(_dilate(body, 1), step, hu.shape)
    return inside | (near & tissue)


def _majority(mask: np.ndarray) -> np.ndarray:
    """Return what most of the 3 x 3 pixels around are: noise in fat makes holes that an erosion would tear open."""
    count = np.pad(mask, 1, mode="edge").view(np.uint8)
    count = count[:-2] + count[1:-1] + count[2:]
    return count[:, :-2] + count[:, 1:-1] + count[:, 2:] >= 5


def _open(mask: np.ndarray, radius: int) -> np.ndarray:
    """Erode, keep the largest component, grow back inside the mask; a body too small for it stays as it is."""
    core = _largest(_erode(mask, radius))
    return _dilate(core, radius) & mask if core.any() else _largest(mask)


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def _erode(mask: np.ndarray, radius: int) -> np.ndarray:
    """Erode by about a disc (an octagon); outside the image counts as body, so that a cut-off patient stays whole."""
    return ~_dilate(~mask, radius)


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilate by an octagon: a square and a diamond, both from shifts along rows and columns."""
    radius = min(radius, sum(mask.shape))  # beyond that nothing changes
    square = round(radius * 0.41)
    for axis in (0, 1):
        mask = _spread(mask, square, axis)
    for _ in range(radius - square):
        mask = _spread(mask, 1, 0) | _spread(mask, 1, 1)
    return mask


def _spread(mask: np.ndarray, steps: int, axis: int) -> np.ndarray:
    for _ in range(steps):
        wide = mask.copy()
        ahead = [slice(None), slice(None)]
        behind = [slice(None), slice(None)]
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        wide[tuple(ahead)] |= mask[tuple(behind)]
        wide[tuple(behind)] |= mask[tuple(ahead)]
        mask = wide
    return mask


def _enlarge(mask: np.ndarray, step: int, shape: tuple[int, int]) -> np.ndarray:
    return mask.repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]] if step > 1 else mask

"""Whether a slice can lie at the height of the kidneys, by the body's size and by how much lung and bone it holds."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Adults at the height of the kidneys: 220 to 450 mm wide, 160 to 380 mm deep. A head is 140 to 165 mm wide.
LEAST_WIDTH_MM = 190.0
# Aerated lung is -910 to -500 HU. The recesses of the pleura beside the upper poles hold a few per cent of the section;
# gas in bowel is darker, but its border passes through these values.
LUNG_HU = (-910, -500)
MOST_LUNG = 0.12
# One vertebra and the ends of ribs are 2 to 5 per cent of the section, filled calyces and oral contrast 1 or 2 more.
# Skull and brain: 15 to 30. Pelvis with both wings of the ilium: 9 to 14.
BONE_HU = 250
MOST_BONE = 0.09


def doubts(hu: np.ndarray, body: np.ndarray, pixel_mm: tuple[float, float]) -> str:
    """Return why a slice cannot lie at the height of the kidneys of an adult, or "".

    Parameters
    ----------
    hu : array (H, W)
        Hounsfield units.
    body : bool array (H, W)
        From `lib.body_mask.body_mask`.
    pixel_mm : (float, float)
        Between rows, between columns.

    Returns
    -------
    str
        "narrow" (a head, a neck, a limb, a child), "lung" (a chest), "bone" (a head, a pelvis), joined by " and ".

    Notes
    -----
    Width is that of the middle half of the body's rows, so that an arm or a table's edge doesn't count. Lung is counted
    where it is at least 10 mm thick, so that skin, the border of bowel gas and noise in fat don't count. The bounds
    are wide: the warning is for a head, a chest, a pelvis or a knee, and says nothing about a slice a few centimetres
    above or below the kidneys.
    """
    if not body.any():
        return ""
    found = []
    rows = np.flatnonzero(body.any(axis=1))
    middle = body[rows[0] : rows[-1] + 1][len(rows) // 4 : max(len(rows) * 3 // 4, len(rows) // 4 + 1)]
    columns = np.flatnonzero(middle.any(axis=0))
    if (columns[-1] - columns[0] + 1) * pixel_mm[1] < LEAST_WIDTH_MM:
        found.append("narrow")
    area = body.sum()
    lung = body & (hu > LUNG_HU[0]) & (hu < LUNG_HU[1])
    if lung.sum() > MOST_LUNG * area:
        solid = [max(1, round(10 / mm)) for mm in pixel_mm]
        if ndimage.uniform_filter(lung.astype(np.float32), solid)[lung].mean() > 0.5:
            found.append("lung")
    if (body & (hu > BONE_HU)).sum() > MOST_BONE * area:
        found.append("bone")
    return " and ".join(found)

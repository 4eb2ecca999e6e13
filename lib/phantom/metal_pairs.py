"""Slices of one phantom with and without its electrodes: all else is the same, the noise included."""

from typing import NamedTuple

import numpy as np

from lib.body_mask import body_mask
from lib.phantom.study import Examination, Scan
from lib.phantom.tissues import Tissue


class MetalPair(NamedTuple):
    """One slice twice.

    Attributes
    ----------
    plain, worn : float32 array (H, W)
        HU without and with electrodes, wires and clips; NaN outside the body.
    metal : bool array (H, W)
        Where the metal is that the network gets to see.
    pixel_mm : float
    """

    plain: np.ndarray
    worn: np.ndarray
    metal: np.ndarray
    pixel_mm: float


def metal_pair(
    patient_id: str, seed: int, matrix: int, phase: str = "noncon", time: float | None = None
) -> MetalPair | None:
    """Scan one slice through an electrode at the height of the kidneys, with and without what the patient wears.

    Parameters
    ----------
    patient_id : str
    seed : int
        Of the patient, as in truth.csv.
    matrix : int
        Rows and columns.
    phase : str
        Names the random numbers of the noise.
    time : float or None
        Time after the start of the injection, s; None before it.

    Returns
    -------
    MetalPair or None
        None if the patient wears no electrode between the ends of the kidneys.
    """
    worn = Examination(patient_id, seed, 1, "middle", matrix, attachments=True)
    bottom, top = worn.anatomy.kidney_extent
    heights = [electrode.z for electrode in worn.anatomy.attachments.electrodes if bottom < electrode.z < top]
    if not heights:
        return None
    z = min(heights, key=lambda height: abs(height - (bottom + top) / 2))
    scan, pixel_mm = Scan(phase, time, 0.0), worn.protocol.fov_mm / matrix
    step = round(z / worn.protocol.spacing_mm)
    hu, tissues = worn.scan_slice(scan, step)
    plain, _ = Examination(patient_id, seed, 1, "middle", matrix).scan_slice(scan, step)
    images = []
    for image in (plain, hu):
        images.append(np.where(body_mask(image, pixel_mm), image, np.float32(np.nan)).astype(np.float32))
    return MetalPair(*images, (tissues == Tissue.METAL) & np.isfinite(images[1]), pixel_mm)

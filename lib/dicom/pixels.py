"""The pixels of a DICOM file: whether they are all there, and what they are in Hounsfield units."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lib.dicom.errors import DicomError
from lib.dicom.geometry import Turn

AIR = -1024  # the lowest HU that is returned
TISSUE_HU = (-1000, 3072)  # a padding value declared inside this range is a mistake in the header: it is ignored
# Where an intercept of 0 is right, the air around a patient lies below the first value (HU), and 98 % of the pixels lie
# below the second; stored with an offset of 1000 or more, soft tissue alone is brighter than that.
SURELY_NEGATIVE, SURELY_BONE = -500, 700
NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
UNDEFINED = 0xFFFFFFFF
TRUNCATED = "truncated: pixels are missing"


def missing_pixels(dataset: Dataset, file: BinaryIO, path: Path, frames: int) -> str | None:
    """Say what is wrong with the pixel data, `file` standing at its tag, without reading or decoding it."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8 * frames
    if syntax == DeflatedExplicitVRLittleEndian:
        return None if len(dcmread(path).get("PixelData", b"")) >= expected else TRUNCATED
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    head = file.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12):
        return TRUNCATED
    if struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        return "no PixelData"
    length = struct.unpack(order + "L", head[-4:])[0]
    size = path.stat().st_size
    if syntax in NATIVE:
        return None if length >= expected and file.tell() + expected <= size else TRUNCATED
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        return f"no decoder for transfer syntax {syntax.name if syntax.name != syntax else 'of an unknown name'}"
    return _missing_fragments(file, size, frames)


def _missing_fragments(file: BinaryIO, size: int, frames: int) -> str | None:
    """Say whether fragments of a codestream are missing, `file` standing at the first item."""
    fragments = -1  # the first item is the table of offsets
    while len(head := file.read(8)) == 8:
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED:
            break
        if file.seek(length, 1) > size:
            return TRUNCATED
        fragments += 1
    return None if fragments >= frames else TRUNCATED


def hounsfield(
    raw: np.ndarray, slope: float, intercept: float | None, padding: tuple[int, int] | None, turn: Turn
) -> np.ndarray:
    """Rescale, set padding and all that lies below it to -1024, turn the image.

    Parameters
    ----------
    raw : integer array (rows, columns)
        As stored.
    slope, intercept : float
        To Hounsfield units. A missing intercept (None) is taken as 0 where the pixels show that it is.
    padding : (int, int), optional
        Lowest and highest stored value of what is no image.
    turn : Turn
        To patient axes.

    Returns
    -------
    int16 array (y, x)

    Raises
    ------
    DicomError
        If the intercept is missing, and no pixel is as dark as air, or too many are as bright as bone: then the pixels
        may have an offset that nobody wrote down.
    """
    padded = None if padding is None else (raw >= padding[0]) & (raw <= padding[1])
    if intercept is None:
        image = raw if padded is None else raw[~padded]
        if not image.size or image.min() * slope > SURELY_NEGATIVE or np.percentile(image, 98) * slope > SURELY_BONE:
            raise DicomError("Hounsfield units unknown: no RescaleIntercept, and pixels unlike air and soft tissue")
        intercept = 0.0
    if float(slope).is_integer() and float(intercept).is_integer() and raw.dtype.itemsize <= 2:
        hu = raw.astype(np.int32) * int(slope) + int(intercept)
    else:
        hu = np.rint(raw * slope + intercept)
    if padded is not None and not _in_tissue(padding, slope, intercept):
        hu[padded] = AIR
    return np.ascontiguousarray(turn.image(np.clip(hu, AIR, np.iinfo(np.int16).max).astype(np.int16)))


def _in_tissue(padding: tuple[int, int], slope: float, intercept: float) -> bool:
    low, high = (value * slope + intercept for value in padding)
    return low < TISSUE_HU[1] and high > TISSUE_HU[0]

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

AIR = -1024  # the lowest HU that is returned
TISSUE_HU = (-1000, 3072)  # a padding value declared inside this range is a mistake in the header: it is ignored
NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
UNDEFINED = 0xFFFFFFFF


def missing_pixels(dataset: Dataset, file: BinaryIO, path: Path, frames: int) -> str | None:
    """Say what is wrong with the pixel data, `file` standing at its tag, without reading or decoding it."""
    syntax = dataset.file_meta.TransferSyntaxUID
    expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8 * frames
    if syntax == DeflatedExplicitVRLittleEndian:
        return None if len(dcmread(path).get("PixelData", b"")) >= expected else "truncated: pixels are missing"
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    head = file.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12):
        return "truncated: pixels are missing"
    if struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        return "no PixelData"
    length = struct.unpack(order + "L", head[-4:])[0]
    size = path.stat().st_size
    if syntax in NATIVE:
        complete = length >= expected and file.tell() + expected <= size
        return None if complete else "truncated: pixels are missing"
    try:
        available = get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        available = False
    if not available:
        return f"no decoder for transfer syntax {UID(syntax).name}"
    fragments = -1  # the first item is the table of offsets
    while len(head := file.read(8)) == 8:
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED:
            break
        if file.seek(length, 1) > size:
            return "truncated: pixels are missing"
        fragments += 1
    return None if fragments >= frames else "truncated: pixels are missing"


def hounsfield(
    raw: np.ndarray, slope: float, intercept: float, padding: object, turn: tuple[bool, bool, bool]
) -> np.ndarray:
    """Rescale, set padding and all that lies below it to -1024, turn the image.

    Parameters
    ----------
    raw : integer array (rows, columns)
        As stored.
    slope, intercept : float
        To Hounsfield units.
    padding : object
        PixelPaddingValue, where there is one.
    turn : tuple of bool
        Transpose, then flip the rows, then flip the columns.

    Returns
    -------
    int16 array (y, x)
    """
    if float(slope).is_integer() and float(intercept).is_integer():
        hu = raw.astype(np.int32) * int(slope) + int(intercept)
    else:
        hu = np.rint(raw * slope + intercept)
    if isinstance(padding, int):
        # Some files give the value with the wrong sign: its 16 bits count, whatever they were meant to be.
        padded = raw.astype(np.uint16) == np.uint16(padding & 0xFFFF)
        if padded.any() and not TISSUE_HU[0] < hu[padded][0] < TISSUE_HU[1]:
            hu[padded] = AIR
    hu = np.clip(hu, AIR, np.iinfo(np.int16).max).astype(np.int16)
    transpose, flip_rows, flip_columns = turn
    hu = hu.T if transpose else hu
    return np.ascontiguousarray(hu[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])

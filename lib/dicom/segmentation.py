"""DICOM segmentations: where the kidneys lie, and which tissue each voxel is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import iter_pixels

from lib.dicom.attributes import frame_layers, lenient, numbers, with_syntax
from lib.dicom.decoder import shared_decoder
from lib.dicom.errors import DicomError
from lib.dicom.geometry import centre_z
from lib.dicom.headers import Segmentation
from lib.dicom.limits import MAX_SIDE
from lib.dicom.series import Series
from lib.labels import hashed_id

KIDNEY = re.compile(r"kidney|renal (cortex|medulla metal|parenchyma)|kidneys")
NOT_KIDNEY = re.compile(r"cyst|mass|tumou?r|lesion|neoplasm|carcinoma|stone|calculus|vein|artery|vessel|fat|adrenal")
SAME_PLANE_MM = 0.3
# Words that a segment's name may be made of when it leaves private/; a name with any other word may be a patient's.
ANATOMY = """
a abdomen abdominal adrenal air and aorta arterial artery atrium autochthon bladder blood bone bowel brain calyx
calcification calculus canal carotid caval chest clavicula colon common contrast cord cortex cortical cyst disc duct
duodenum esophagus external face fat femur fluid gallbladder gas gland gluteus heart hepatic hip humerus iliac
iliopsoas inferior internal intestine intramuscular kidney kidneys large left lesion liver lobe lower lung mass
maximus medius medulla metal minimus mesentery middle muscle neoplasm of oral outside pancreas parenchyma pelvis portal
prostate psoas pulmonary rectum renal rib right sacrum scapula sigmoid sinus skin small soft spinal spine spleen
splenic stomach stone stool subclavian subcutaneous superior tissue trabecular trachea tumor tumour upper ureter
urinary urine vein vena cava venous ventricle vertebra vertebrae vessel visceral wall
"""
LAST_CODE = 255  # a code is one byte, 0 is no tissue


class SegmentationError(DicomError):
    """A segmentation that cannot be used: `fault` says why, without naming its file."""

    def __init__(self, path: str, fault: str, detail: str = ""):
        super().__init__(f"{path}: segmentation cannot be read: {detail or fault}")
        self.fault = fault


def kidney_segments(segmentation: Segmentation) -> list[int]:
    """Return the numbers of the segments that are kidney, by label and property type."""
    return [n for n, words in segmentation.words.items() if KIDNEY.search(words) and not NOT_KIDNEY.search(words)]


def holds_tissues(segmentation: Segmentation) -> bool:
    """Return whether there is more in it than kidneys."""
    return len(kidney_segments(segmentation)) < len(segmentation.segments)


def kidney_extent(segmentation: Segmentation) -> tuple[float, float] | None:
    """Return z of the lowest and of the highest plane with kidney, mm; None where there is no kidney in it.

    Raises
    ------
    SegmentationError
        If the file cannot be read.
    """
    wanted = set(kidney_segments(segmentation))
    planes = [z for z, numbers_, mask in _frames(segmentation) if _holds(mask, numbers_, wanted)]
    return (min(planes), max(planes)) if planes else None


def tissue_codes(segmentations: Iterable[Segmentation], known: dict[str, int] | None = None) -> dict[str, int]:
    """Give every segment name one code, 1 to 255: its own number where that is free, else the next free one.

    Names in `known` keep their codes as long as a segmentation has them. Once all codes are taken the further names, by
    number, get none.
    """
    names = sorted({(number, name) for item in segmentations for number, name in item.segments.items()})
    present = {name for _, name in names}
    codes = {name: code for name, code in (known or {}).items() if name in present}
    for number, name in names:
        if name not in codes:
            used = set(codes.values())
            free = (code for code in (number, *range(1, LAST_CODE + 1)) if code <= LAST_CODE and code not in used)
            if code := next(free, None):
                codes[name] = code
    return codes


def with_public_names(segmentation: Segmentation, key: str) -> Segmentation:
    """Return the segmentation with names that may be passed on: names with other words than ANATOMY become hashes."""

    def public(name: str) -> str:
        known = set(re.findall(r"[^\W_]+", name.lower())) <= set(ANATOMY.split())
        return name if known else f"segment {hashed_id(key, 'segment', name)[:6]}"

    return replace(segmentation, segments={number: public(name) for number, name in segmentation.segments.items()})


def read_tissues(
    segmentation: Segmentation, series: Series, indices: Iterable[int], codes: dict[str, int]
) -> np.ndarray:
    """Read which tissue each voxel of some slices is.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of `series`.
    series : Series
        The CT that it belongs to.
    indices : iterable of int
        Slices of the series.
    codes : dict of str to int
        From `tissue_codes`; a segment whose name has no code is left out.

    Returns
    -------
    uint8 array (n, H, W)
        Codes, 0 where nothing is; oriented as `lib.dicom.read_volume` does. Of overlapping segments the last wins.

    Raises
    ------
    SegmentationError
        If the file cannot be read, or is on another grid.
    """
    indices = list(indices)
    z = series.z_mm[indices]
    tissues = np.zeros((len(indices), *series.shape[1:]), np.uint8)
    table = np.zeros(max(segmentation.segments) + 2, np.uint8)  # the last for numbers that are no segment's
    for number, name in segmentation.segments.items():
        table[number] = codes.get(name, 0)
    first = series.slices[0]
    for plane, number, mask in _frames(segmentation):
        place = int(np.argmin(np.abs(z - plane)))
        if abs(z[place] - plane) > SAME_PLANE_MM:
            continue
        if mask.shape != (first.rows, first.columns):
            ct = (first.rows, first.columns)
            raise SegmentationError(segmentation.path, f"{mask.shape} pixels on another grid than the CT's {ct}")
        mask = first.turn.image(mask)
        coded = np.take(table, mask if number is None else np.where(mask > 0, number, 0), mode="clip")
        np.copyto(tissues[place], coded, where=coded > 0)
    return tissues


def _holds(mask: np.ndarray, number: int | None, wanted: set[int]) -> bool:
    return bool(np.isin(mask, list(wanted)).any()) if number is None else number in wanted and bool(mask.any())


def _frames(segmentation: Segmentation) -> Iterator[tuple[float, int | None, np.ndarray]]:
    """Yield z of the plane's centre, the segment's number (None: the frame holds numbers itself), the frame."""
    try:
        with lenient():
            dataset = with_syntax(dcmread(segmentation.path, force=True))
            if max(int(dataset.Rows), int(dataset.Columns)) > MAX_SIDE:
                raise DicomError(f"more than {MAX_SIDE} pixels a side")
            labelmap = str(dataset.get("SegmentationType")) == "LABELMAP"
            count = len(dataset.PerFrameFunctionalGroupsSequence)
            geometry = [_plane(dataset, frame, labelmap) for frame in range(count)]
            compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
        masks = _decoded(segmentation.path, count) if compressed else iter_pixels(dataset)
        for (z, number), mask in zip(geometry, masks, strict=True):
            if mask.ndim != 2 or mask.dtype.kind not in "ui":
                raise DicomError(f"frames of {mask.dtype}, {mask.ndim} axes, not of segment numbers")
            yield z, number, mask
    except DicomError as error:
        raise SegmentationError(segmentation.path, str(error)) from error
    except Exception as error:  # a damaged file and its decoder raise anything
        name = type(error).__name__
        raise SegmentationError(segmentation.path, f"damaged ({name})", f"{name}: {error}") from error


def _decoded(path: str, count: int) -> Iterator[np.ndarray]:
    for frame in range(count):
        yield shared_decoder().frame(path, frame if count > 1 else None)


def _plane(dataset: Dataset, frame: int, labelmap: bool) -> tuple[float, int | None]:
    layers = frame_layers(dataset, frame)
    position, orientation = numbers(layers, "ImagePositionPatient", 3), numbers(layers, "ImageOrientationPatient", 6)
    spacing = numbers(layers, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        raise DicomError("frames without position")
    number = None if labelmap else int(numbers(layers, "ReferencedSegmentNumber", 1)[0])
    return centre_z(position, orientation, spacing, int(dataset.Rows), int(dataset.Columns)), number

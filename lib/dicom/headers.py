"""One DICOM file's header -> the CT slices or the segmentation in it, or the reason why it is neither."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, config, dcmread
from pydicom.multival import MultiValue
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from lib.dicom.pixels import missing_pixels

CT_CLASSES = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
SEG_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
LAST_SEGMENT = 65535  # segment numbers have 16 bits
TILT_DEGREES = 10.0  # from axial, by gantry or by patient: read up to here, and noted from half a degree on

# Enhanced (multi-frame) objects: the functional group that holds an attribute.
FUNCTIONAL_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "ReferencedSegmentNumber": "SegmentIdentificationSequence",
}
PARTS = ("AcquisitionNumber", "FrameAcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex")
PARTS += ("AcquisitionTime", "ConvolutionKernel", "ImageType", "FrameType")
TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality"]
TAGS += ["SeriesNumber", "SeriesDescription", "InstanceNumber", "SliceLocation", "NumberOfFrames", "Rows", "Columns"]
TAGS += ["SamplesPerPixel", "BitsAllocated", "PixelRepresentation", "ModalityLUTSequence"]
TAGS += ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "SegmentSequence", "SegmentationType"]
TAGS += ["ContentLabel", "ReferencedSeriesSequence", "FrameOfReferenceUID"]
TAGS += [*FUNCTIONAL_GROUPS, *PARTS]


class DicomError(ValueError):
    """A DICOM file or series that cannot be used: the message says which and why."""


class Unusable(Exception):
    """Why a file is no slice of a series, and the SeriesInstanceUID that it names."""

    def __init__(self, reason: str, series: str = ""):
        super().__init__(reason, series)
        self.reason, self.series = reason, series


@dataclass(frozen=True)
class CTSlice:
    """One axial image: a file, or one frame of an enhanced file.

    Attributes
    ----------
    path, frame : where its pixels are; frame is None in a single-frame file
    rows, columns, spacing_mm : the image as stored; spacing between rows, then between columns
    turn : transpose, then flip the rows, then flip the columns, to reach row 0 anterior and column 0 patient's right
    z : position of the image's centre, mm, toward the head
    slope, intercept : to Hounsfield units
    parts : acquisition, time, kernel ...: what tells apart two stacks under one series UID
    notes : what was tolerated
    """

    path: str
    frame: int | None
    patient: str
    study: str
    series: str
    description: str
    instance: str
    number: float
    parts: tuple[str, ...]
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    thickness_mm: float
    turn: tuple[bool, bool, bool]
    z: float
    slope: float
    intercept: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Segmentation:
    """A DICOM SEG object: its file, the study and the series that it belongs to, and its segments' names by number.

    `words` holds what each segment says of itself (label and property type, lower case), to search in.
    """

    path: str
    study: str
    referenced_series: str
    description: str
    segments: dict[int, str]
    words: dict[int, str]


def read_header(folder: Path, name: str) -> list[CTSlice] | Segmentation:
    """Read the header of the file `name` below `folder`, inside `lenient`.

    Raises
    ------
    Unusable
        With the reason why the file is neither a slice of an axial CT series nor a segmentation.
    """
    path = folder / name
    with open(path, "rb") as file:
        start = file.read(132)
        # Without a preamble a file starts with its first group, 0002 or 0008, in either byte order.
        if start[128:] != b"DICM" and start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
            raise Unusable("not a DICOM file")
        file.seek(0)
        try:
            dataset = with_syntax(dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=True))
            return _interpret(dataset, file, folder, name)
        except Unusable:
            raise
        except Exception as error:  # a damaged header raises anything
            raise Unusable(f"header cannot be read: {type(error).__name__}") from error


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Let pydicom take values that break the standard, without a warning for each (which would print the value)."""
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = before


def with_syntax(dataset: Dataset) -> Dataset:
    """Name the transfer syntax that a file without meta information was read with."""
    if not hasattr(dataset, "file_meta"):
        raise Unusable("not a DICOM file")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return dataset


def _interpret(dataset: Dataset, file: BinaryIO, folder: Path, name: str) -> list[CTSlice] | Segmentation:
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise Unusable("DICOMDIR: an index of files, not an image")
    series, kind, modality = (text([dataset], key) for key in ("SeriesInstanceUID", "SOPClassUID", "Modality"))
    if kind in SEG_CLASSES or modality == "SEG":
        return _segmentation(dataset, str(folder / name))
    if modality != "CT" and (modality or kind not in CT_CLASSES):
        raise Unusable(f"modality {modality or 'missing'}, not CT", series)
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise Unusable("screen save: a colour image", series)
    frames = int(dataset.get("NumberOfFrames") or 1)
    enhanced = "PerFrameFunctionalGroupsSequence" in dataset
    if frames > 1 and not enhanced:
        raise Unusable("several frames without positions", series)
    slices = [_ct_slice(dataset, frame if enhanced else None, folder, name, series) for frame in range(frames)]
    problem = missing_pixels(dataset, file, folder / name, frames)
    if problem:
        raise Unusable(problem, series)
    return slices


def _ct_slice(dataset: Dataset, frame: int | None, folder: Path, name: str, series: str) -> CTSlice:
    layers = frame_layers(dataset, frame or 0)
    kind = text(layers, "FrameType") + "\\" + text(layers, "ImageType")
    for word, reason in {"LOCALIZER": "scout (localizer)", "SCREEN SAVE": "screen save"}.items():
        if word in kind.upper():
            raise Unusable(reason, series)
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows or not columns:
        raise Unusable("no image: Rows or Columns missing", series)
    orientation = numbers(layers, "ImageOrientationPatient", 6)
    if orientation is None:
        raise Unusable("ImageOrientationPatient missing: a scout or a screen save, or not to be oriented", series)
    spacing = numbers(layers, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        raise Unusable("PixelSpacing missing", series)
    notes = []
    turn, tilt = _turn(np.reshape(orientation, (2, 3)), series)
    if tilt > 0.5:
        notes.append(f"tilted by {tilt:.0f} degrees")
    position = numbers(layers, "ImagePositionPatient", 3)
    if position is not None:
        along_columns, along_rows = orientation[2], orientation[5]
        z = position[2] + along_columns * spacing[1] * (columns - 1) / 2 + along_rows * spacing[0] * (rows - 1) / 2
    else:
        location = numbers(layers, "SliceLocation", 1)
        if location is None:
            raise Unusable("no position: ImagePositionPatient and SliceLocation missing", series)
        z = location[0]
        notes.append("ImagePositionPatient missing, SliceLocation taken")
    slope, intercept = numbers(layers, "RescaleSlope", 1), numbers(layers, "RescaleIntercept", 1)
    if "ModalityLUTSequence" in dataset or (slope and slope[0] == 0):
        raise Unusable("Hounsfield units unknown: no linear rescale", series)
    if intercept is None:
        if not dataset.get("PixelRepresentation"):
            raise Unusable("Hounsfield units unknown: unsigned pixels without RescaleIntercept", series)
        notes.append("RescaleIntercept missing, 0 taken")
    place = str(Path(name).parent)
    study = text(layers, "StudyInstanceUID") or f"folder:{place}"
    number, label = text(layers, "SeriesNumber"), text(layers, "SeriesDescription")
    return CTSlice(
        path=str(folder / name),
        frame=frame,
        patient=text(layers, "PatientID") or study,
        study=study,
        series=series or f"folder:{place}/{number}/{label}",
        description=label,
        instance=text(layers, "SOPInstanceUID"),
        number=(numbers(layers, "InstanceNumber", 1) or (0.0,))[0] + (frame or 0) / 1e6,
        parts=tuple(text(layers, key) for key in PARTS),
        rows=rows,
        columns=columns,
        spacing_mm=spacing,
        thickness_mm=(numbers(layers, "SliceThickness", 1) or (float("nan"),))[0],
        turn=turn,
        z=round(z, 4),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        notes=tuple(notes),
    )


def _turn(axes: np.ndarray, series: str) -> tuple[tuple[bool, bool, bool], float]:
    """Return how to turn the image (see CTSlice) and its tilt in degrees, or reject what is not axial.

    `axes` are the patient directions (x left, y posterior, z head) of travelling along a row and down a column.
    """
    lengths = np.linalg.norm(axes, axis=1)
    if not np.allclose(lengths, 1, atol=0.02) or abs(axes[0] @ axes[1]) > 0.02:
        raise Unusable("ImageOrientationPatient is no pair of perpendicular directions", series)
    axes = axes / lengths[:, None]
    normal = np.cross(*axes)
    normal /= np.linalg.norm(normal)
    if abs(normal[2]) < np.sqrt(0.5):
        raise Unusable(f"{'coronal' if abs(normal[1]) > abs(normal[0]) else 'sagittal'}, not axial", series)
    tilt = np.degrees(np.arccos(min(1.0, abs(normal[2]))))
    transpose = abs(axes[0, 0]) < abs(axes[0, 1])
    x, y = (axes[1, 0], axes[0, 1]) if transpose else (axes[0, 0], axes[1, 1])
    turned = np.degrees(np.arccos(min(1.0, abs(x))))
    if max(tilt, turned) > TILT_DEGREES:
        what = "tilted" if tilt >= turned else "turned in plane"
        raise Unusable(f"{what} by {max(tilt, turned):.0f} degrees (at most {TILT_DEGREES:.0f} are read)", series)
    return (bool(transpose), bool(y < 0), bool(x < 0)), float(max(tilt, turned))


def _segmentation(dataset: Dataset, path: str) -> Segmentation:
    segments, words = {}, {}
    for item in dataset.get("SegmentSequence") or []:
        number, label = int(item.SegmentNumber), text([item], "SegmentLabel")
        if number == 0:  # the background of a label map
            continue
        if not 0 < number <= LAST_SEGMENT:
            raise Unusable(f"a segmentation with segment number {number}, expected 1 to {LAST_SEGMENT}")
        kind = [text([code], "CodeMeaning") for code in item.get("SegmentedPropertyTypeCodeSequence") or []]
        segments[number] = label or " ".join(kind)
        words[number] = " ".join([label, *kind]).lower()
    if not segments:
        raise Unusable("a segmentation without segments")
    referenced = dataset.get("ReferencedSeriesSequence") or [Dataset()]
    study, title = text([dataset], "StudyInstanceUID"), text([dataset], "SeriesDescription")
    return Segmentation(path, study, text([referenced[0]], "SeriesInstanceUID"), title, segments, words)


def frame_layers(dataset: Dataset, frame: int) -> list[Dataset]:
    """Return where to look for an attribute of a frame: its functional groups, the shared ones, the dataset."""
    layers = []
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(sequence)
        if items and len(items) > index:
            groups = (items[index].get(name) for name in dict.fromkeys(FUNCTIONAL_GROUPS.values()))
            layers += [group[0] for group in groups if group]
    return [*layers, dataset]


def text(layers: list[Dataset], key: str) -> str:
    """Return an attribute as text ("" where it is missing), from the first layer that has it."""
    value = _first(layers, key)
    return "\\".join(map(str, value)) if isinstance(value, (list, tuple, MultiValue)) else str(value or "").strip()


def numbers(layers: list[Dataset], key: str, count: int) -> tuple[float, ...] | None:
    """Return an attribute as `count` finite numbers, or None where it is missing or something else."""
    try:
        values = tuple(float(v) for v in np.atleast_1d(_first(layers, key)))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _first(layers: list[Dataset], key: str) -> object:
    return next((layer[key].value for layer in layers if key in layer and layer[key].value not in (None, "")), None)

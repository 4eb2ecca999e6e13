"""Attributes of a dataset as plain text and numbers, wherever an Enhanced object keeps them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
from pydicom import Dataset, config
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lib.dicom.errors import Unusable

# Enhanced (multi-frame) objects: the functional group that holds an attribute.
FUNCTIONAL_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "ReferencedSegmentNumber": "SegmentIdentificationSequence",
}


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
    except (TypeError, ValueError, OverflowError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _first(layers: list[Dataset], key: str) -> object:
    return next((layer[key].value for layer in layers if key in layer and layer[key].value not in (None, "")), None)

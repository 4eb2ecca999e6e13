"""Maps as DICOM objects that a PACS shows beside the CT that they explain: values, and a coloured picture."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from lib.dicom.attributes import lenient, with_syntax
from lib.dicom.errors import DicomError, Rejected
from lib.dicom.headers import CTSlice, Segmentation, read_header
from lib.voxels import upsample

WARNING = "Research. Not for diagnosis."
MAKER = "What does deep learning see"
VERSION = "0.1.0"
NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
EMPTY = "PatientID PatientName PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber"
EMPTY += " ReferringPhysicianName PositionReferenceIndicator"  # may be empty in an object, not absent


@dataclass(frozen=True)
class Explained:
    """A CT slice that a map explains: what is known of it, and its header."""

    item: CTSlice
    header: Dataset


@dataclass(frozen=True)
class Method:
    """What a map is: of which method, layer and phase."""

    name: str
    layer: str
    phase: str

    def describe(self) -> str:
        """Return one line for the lists of a PACS: at most 64 characters."""
        return f"{self.name} {self.layer} for {self.phase}. {WARNING}"[:64]


def read_explained(path: str | Path) -> Explained:
    """Read the header of the CT file that a map belongs to.

    Raises
    ------
    DicomError
        If it is no CT slice, is a multi-frame file, or lacks the identifiers that a map has to name.
    """
    path = Path(path)
    with lenient():
        found = read_header(path.parent, path.name)
        if isinstance(found, Rejected | Segmentation):
            raise DicomError(f"{path}: no CT slice ({getattr(found, 'reason', 'a segmentation')})")
        if found[0].frame is not None:
            raise DicomError(f"{path}: a multi-frame file; maps are written for files of one slice")
        header = with_syntax(dcmread(path, stop_before_pixels=True, force=True))
    if missing := [name for name in NEEDED if not header.get(name)]:
        raise DicomError(f"{path}: {', '.join(missing)} missing: a map could not name the slice that it belongs to")
    for name in EMPTY.split():
        if name not in header:
            setattr(header, name, "")
    return Explained(found[0], header)


def on_image(values: np.ndarray, item: CTSlice) -> np.ndarray:
    """Return a map on the pixels of its CT slice, turned to the patient's axes.

    Parameters
    ----------
    values : array (H', W') or (H', W', C)
        Map at its own resolution; of several channels the centre one is taken. It covers the slice padded to a square.
    item : CTSlice

    Returns
    -------
    float32 array (rows, columns)
        A layer's cells are blocks of pixels, as they are for masking.
    """
    values = values[..., values.shape[-1] // 2] if values.ndim == 3 else values
    shape = item.turn.pair(item.rows, item.columns)
    side = max(shape)
    square = upsample(np.asarray(values, np.float32), (side, side))
    top, left = ((side - n) // 2 for n in shape)
    return np.ascontiguousarray(square[top : top + shape[0], left : left + shape[1]], dtype=np.float32)


def parametric_map(
    explained: Explained, values: np.ndarray, method: Method, *, series_uid: str, number: int
) -> hd.pm.ParametricMap:
    """Return a map as a Parametric Map object on the grid of its CT slice.

    Parameters
    ----------
    explained : Explained
    values : array
        The raw map (see `on_image`); its values are stored as they are, float32, without a unit.
    method : Method
    series_uid : str
        Series to which the maps of one method belong.
    number : int
        Of the instance in it.
    """
    item, header = explained.item, explained.header
    stored = np.ascontiguousarray(item.turn.stored(on_image(values, item)))
    low, high = float(stored.min()), float(stored.max())
    mapping = hd.pm.RealWorldValueMapping(
        lut_label=method.name[:16],
        lut_explanation=method.describe(),
        unit=codes.UCUM.NoUnits,
        value_range=(low, max(high, np.nextafter(low, np.inf))),
        slope=1.0,
        intercept=0.0,
    )
    exact = hd.VOILUTFunctionValues.LINEAR_EXACT  # the usual function would not allow a window narrower than 1
    window = hd.VOILUTTransformation((low + high) / 2, max(high - low, 1e-6), voi_lut_function=exact)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names without a ^, which are the hospital's
        result = hd.pm.ParametricMap(
            source_images=[header],
            pixel_array=stored,
            series_instance_uid=series_uid,
            series_number=_series_number(header, 8000),
            sop_instance_uid=generate_uid(),
            instance_number=number,
            manufacturer=MAKER,
            manufacturer_model_name=MAKER,
            software_versions=VERSION,
            device_serial_number="0",
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[window],
            content_description=method.describe(),
            content_label="MAP",
        )
    result.SeriesDescription, result.Laterality = method.describe(), header.get("Laterality", "")
    return result


def capture(
    explained: Explained, picture: np.ndarray, method: Method, *, series_uid: str, number: int
) -> hd.sc.SCImage:
    """Return a coloured picture as a Secondary Capture that names the CT slice that it shows.

    Parameters
    ----------
    picture : uint8 array (rows, columns, 3)
        Turned to the patient's axes.
    explained, method, series_uid, number : as in `parametric_map`
    """
    item, header = explained.item, explained.header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = hd.sc.SCImage.from_ref_dataset(
            ref_dataset=header,
            pixel_array=np.ascontiguousarray(picture),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=series_uid,
            series_number=_series_number(header, 8500),
            sop_instance_uid=generate_uid(),
            instance_number=number,
            manufacturer=MAKER,
            pixel_spacing=item.turn.pair(*item.spacing_mm),
            patient_orientation=("L", "P"),
            transfer_syntax_uid="1.2.840.10008.1.2.1",
        )
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    result.SourceImageSequence = Sequence([source])
    result.ImageType = ["DERIVED", "SECONDARY"]
    result.DerivationDescription = f"{method.describe()} {WARNING}"
    result.SeriesDescription = method.describe()
    result.Laterality = header.get("Laterality", "")
    result.BurnedInAnnotation, result.RecognizableVisualFeatures = "NO", "NO"
    return result


def _series_number(header: Dataset, base: int) -> int:
    """Return a number beyond the scanner's, so that maps stand behind the CT in a list."""
    try:
        return base + int(header.get("SeriesNumber") or 0) % 500
    except (TypeError, ValueError):
        return base

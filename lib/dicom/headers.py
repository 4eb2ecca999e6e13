"""One DICOM file's header -> the CT slices or the segmentation in it, or the reason why it is neither."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from lib.dicom.attributes import FUNCTIONAL_GROUPS, frame_layers, numbers, text, with_syntax
from lib.dicom.errors import DicomError, Rejected, Unusable
from lib.dicom.geometry import Turn, centre_z, turn_to_patient
from lib.dicom.limits import (
    LEAST_RANGE,
    MAX_FILE,
    MAX_FRAMES,
    MAX_INFLATED,
    MAX_INTERCEPT,
    MAX_POSITION_MM,
    MAX_SIDE,
    MAX_SLOPE,
    PIXEL_MM,
)
from lib.dicom.pixels import missing_pixels

__all__ = ["CTSlice", "DicomError", "Segmentation", "read_header"]

CT_CLASSES = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
SEG_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
LAST_SEGMENT = 65535  # segment numbers have 16 bits
# Modalities that a reason may name. Anything else in this attribute may be any text of a damaged header.
MODALITIES = """
AR AU BDUS BI BMD CR DG DMS DOC DX ECG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MG MR MS NM OAM
OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD
RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XC
"""
# Words in ImageType or FrameType of maps that are computed from CT and are not attenuation in Hounsfield units.
MAP_WORDS = re.compile(
    r"(?:^|[^A-Z])(R?CBF|R?CBV|MTT|TTP|TTD|TTS|TMAX|RBF|RBV|BLOOD[ _]?(FLOW|VOLUME)|PERFUSION|PERMEABILITY|IODINE|"
    r"MATERIAL|EFFECTIVE[ _]?(Z|ATOMIC)|ELECTRON[ _]?DENSITY|Z[ _]?EFF|IODMAP|PARAMETRIC)(?:[^A-Z]|$)"
)
ARCHIVES = {b"PK\x03\x04": "ZIP", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"7z\xbc\xaf": "7z", b"Rar!": "RAR"}
TAR = slice(257, 262)  # where the header of a tar file says "ustar"
PARTS = ("AcquisitionNumber", "FrameAcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex")
PARTS += ("AcquisitionTime", "ConvolutionKernel", "ImageType", "FrameType", "FrameOfReferenceUID")
TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality"]
TAGS += ["SeriesNumber", "SeriesDescription", "InstanceNumber", "SliceLocation", "NumberOfFrames", "Rows", "Columns"]
TAGS += ["SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ModalityLUTSequence"]
TAGS += ["PhotometricInterpretation", "PixelPaddingValue", "PixelPaddingRangeLimit"]
TAGS += ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "SegmentSequence", "SegmentationType"]
TAGS += ["ContentLabel", "ReferencedSeriesSequence", "FrameOfReferenceUID"]
TAGS += [*FUNCTIONAL_GROUPS, *PARTS]


@dataclass(frozen=True, slots=True)
class CTSlice:
    """One axial image: a file, or one frame of an enhanced file.

    Attributes
    ----------
    path, frame : where its pixels are; frame is None in a single-frame file
    compressed : whether a codec is needed
    rows, columns, spacing_mm : the image as stored; spacing between rows, then between columns
    turn : to row 0 anterior and column 0 the patient's right
    z : position of the image's centre, mm, toward the head
    slope, intercept : to Hounsfield units; an intercept of None is missing, and the pixels decide whether it can be 0
    padding : lowest and highest stored value of what is no image, or None
    parts : acquisition, time, kernel ...: what tells apart two stacks under one series UID
    frame_of_reference : series that share it share positions
    notes : what was tolerated
    """

    path: str
    frame: int | None
    compressed: bool
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
    turn: Turn
    z: float
    slope: float
    intercept: float | None
    padding: tuple[int, int] | None
    frame_of_reference: str
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
    frame_of_reference: str = ""
    patient: str = ""


def read_header(folder: Path, name: str) -> list[CTSlice] | Segmentation | Rejected:
    """Read the header of the file `name` below `folder`, inside `lenient`.

    Returns
    -------
    list of CTSlice, Segmentation or Rejected
        The last with the reason why the file is neither a slice of an axial CT series nor a segmentation.
    """
    path = folder / name
    dataset = None
    try:
        with open(path, "rb") as file:
            dataset = _open(file, path)
            return _interpret(dataset, file, folder, name)
    except Unusable as problem:
        return _rejected(path, problem.reason, dataset)
    except OSError as error:
        return _rejected(path, f"file cannot be read: {error.strerror or type(error).__name__}", dataset)
    except Exception as error:  # a damaged header raises anything
        return _rejected(path, f"header cannot be read: {type(error).__name__}", dataset)


def _rejected(path: Path, reason: str, dataset: Dataset | None) -> Rejected:
    names = []
    for key in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        try:
            names.append(text([dataset], key) if dataset is not None else "")
        except Exception:  # the very attribute may be what is damaged
            names.append("")
    return Rejected(str(path), reason, *names)


def _open(file: BinaryIO, path: Path) -> Dataset:
    """Parse the header up to the pixels, where the file stands then."""
    start = file.read(TAR.stop)
    preamble = start[128:132] == b"DICM"
    # Without a preamble a file starts with its first group, 0002 or 0008, in either byte order.
    if not preamble and start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        found = "tar" if start[TAR] == b"ustar" else next((ARCHIVES[m] for m in ARCHIVES if start.startswith(m)), "")
        raise Unusable(f"an archive ({found}): unpack it, its files are not looked at" if found else "not a DICOM file")
    if (size := path.stat().st_size) > MAX_FILE:
        raise Unusable(f"a file of {size >> 30} GiB (at most {MAX_FILE >> 30} are read)")
    if preamble:
        _check_inflated(file, path)
    file.seek(0)
    return with_syntax(dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=True))


def _check_inflated(file: BinaryIO, path: Path) -> None:
    """Refuse a deflated file that inflates to more than MAX_INFLATED, before anything holds it in memory."""
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    file.seek(132 + 12 + int(meta.get("FileMetaInformationGroupLength", 0)))
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while chunk := inflater.unconsumed_tail or file.read(1 << 16):
        total += len(inflater.decompress(chunk, 1 << 20))
        if total > MAX_INFLATED:
            raise Unusable(f"deflated: more than {MAX_INFLATED >> 20} MiB when inflated")


def _interpret(dataset: Dataset, file: BinaryIO, folder: Path, name: str) -> list[CTSlice] | Segmentation:
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise Unusable("DICOMDIR: an index of files, not an image")
    kind, modality = text([dataset], "SOPClassUID"), text([dataset], "Modality")
    if kind in SEG_CLASSES or modality == "SEG":
        return _segmentation(dataset, str(folder / name))
    if modality != "CT" and (modality or kind not in CT_CLASSES):
        known = modality if modality in MODALITIES.split() else "unknown" if modality else "missing"
        raise Unusable(f"modality {known}, not CT")
    frames = _frames(dataset)
    _check_image(dataset)
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    enhanced = "PerFrameFunctionalGroupsSequence" in dataset
    slices = [_ct_slice(dataset, n if enhanced else None, compressed, folder, name) for n in range(frames)]
    if problem := missing_pixels(dataset, file, folder / name, frames):
        raise Unusable(problem)
    return slices


def _frames(dataset: Dataset) -> int:
    """Return the number of frames, each of which has a position."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= frames <= MAX_FRAMES:
        raise Unusable(f"{frames} frames (1 to {MAX_FRAMES} are read)")
    positions = dataset.get("PerFrameFunctionalGroupsSequence")
    if positions is None and frames > 1:
        raise Unusable("several frames without positions")
    if positions is not None and len(positions) != frames:
        raise Unusable(f"{frames} frames, and positions of {len(positions)}")
    return frames


def _check_image(dataset: Dataset) -> None:
    """Refuse what is no grey image of plain integers, or is larger than any CT."""
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise Unusable("screen save: a colour image")
    if "PALETTE" in text([dataset], "PhotometricInterpretation").upper():
        raise Unusable("screen save: a palette of colours")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows or not columns:
        raise Unusable("no image: Rows or Columns missing")
    if max(rows, columns) > MAX_SIDE:
        raise Unusable(f"{rows} x {columns} pixels (at most {MAX_SIDE} a side are read)")
    allocated = int(dataset.get("BitsAllocated") or 0)
    stored = int(dataset.get("BitsStored") or allocated)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise Unusable(f"pixels of {stored} bits in {allocated}: 8, 16 or 32 are read")
    high = dataset.get("HighBit")
    if high is not None and int(high) != stored - 1:
        raise Unusable(f"pixels of {stored} bits whose highest is bit {int(high)}: it is open which bits count")


def _ct_slice(dataset: Dataset, frame: int | None, compressed: bool, folder: Path, name: str) -> CTSlice:
    layers = frame_layers(dataset, frame or 0)
    _check_kind(layers)
    place = str(Path(name).parent)
    study = text(layers, "StudyInstanceUID") or f"folder:{place}"
    number, label = text(layers, "SeriesNumber"), text(layers, "SeriesDescription")
    units = _units(layers)
    geometry = _geometry(layers)
    return CTSlice(
        path=str(folder / name),
        frame=frame,
        compressed=compressed,
        patient=text(layers, "PatientID") or study,
        study=study,
        series=text(layers, "SeriesInstanceUID") or f"folder:{place}/{number}/{label}",
        description=label,
        instance=text(layers, "SOPInstanceUID"),
        number=(numbers(layers, "InstanceNumber", 1) or (0.0,))[0] + (frame or 0) / 1e6,
        parts=tuple(text(layers, key) for key in PARTS),
        thickness_mm=(numbers(layers, "SliceThickness", 1) or (float("nan"),))[0],
        padding=_padding(dataset),
        frame_of_reference=text(layers, "FrameOfReferenceUID"),
        **{key: value for key, value in (units | geometry).items() if key != "notes"},
        notes=(*geometry["notes"], *units["notes"]),
    )


def _check_kind(layers: list[Dataset]) -> None:
    """Refuse scouts, screen saves, and maps of blood flow or of a material, which look like CT."""
    kind = f"{text(layers, 'FrameType')}\\{text(layers, 'ImageType')}".upper()
    for word, reason in {"LOCALIZER": "scout (localizer)", "SCREEN SAVE": "screen save"}.items():
        if word in kind:
            raise Unusable(reason)
    if found := MAP_WORDS.search(kind):
        raise Unusable(f"a computed map ({found[1].lower()}), not attenuation in Hounsfield units")


def _units(layers: list[Dataset]) -> dict:
    """Return slope, intercept and notes, or refuse what cannot be brought to Hounsfield units."""
    unknown = "Hounsfield units unknown: "
    kind = text(layers, "RescaleType").upper()
    notes = []
    if kind not in ("", "HU"):
        if kind not in ("US", "UNSPECIFIED") or not text(layers, "ImageType").upper().startswith("ORIGINAL\\PRIMARY"):
            raise Unusable(unknown + "RescaleType is not HU")
        notes.append("RescaleType unspecified, HU taken")
    slope, intercept = numbers(layers, "RescaleSlope", 1), numbers(layers, "RescaleIntercept", 1)
    if any("ModalityLUTSequence" in layer for layer in layers) or (slope and slope[0] == 0):
        raise Unusable(unknown + "no linear rescale")
    if slope and not 0 < slope[0] <= MAX_SLOPE:
        raise Unusable(unknown + f"RescaleSlope is not between 0 and {MAX_SLOPE:g}")
    if intercept and abs(intercept[0]) > MAX_INTERCEPT:
        raise Unusable(unknown + f"RescaleIntercept lies beyond {MAX_INTERCEPT:g}")
    for key, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if value is None and text(layers, key):
            raise Unusable(unknown + f"{key} is not one number")
    stored = int(layers[-1].get("BitsStored") or layers[-1].BitsAllocated)
    covered = (slope[0] if slope else 1.0) * 2**stored
    if covered < LEAST_RANGE:
        raise Unusable(unknown + f"{stored} bits with this slope hold {covered:.0f} HU, not the whole range")
    if intercept is None:
        if not layers[-1].get("PixelRepresentation"):
            raise Unusable(unknown + "unsigned pixels without RescaleIntercept")
        notes.append("RescaleIntercept missing, 0 taken")
    return {
        "slope": slope[0] if slope else 1.0,
        "intercept": intercept[0] if intercept else None,
        "notes": notes,
    }


def _geometry(layers: list[Dataset]) -> dict:
    """Return size, spacing, turn, position and notes, or refuse what is not axial or has no position."""
    rows, columns = int(layers[-1].Rows), int(layers[-1].Columns)
    orientation = numbers(layers, "ImageOrientationPatient", 6)
    if orientation is None:
        raise Unusable("ImageOrientationPatient missing: a scout or a screen save, or not to be oriented")
    spacing = numbers(layers, "PixelSpacing", 2)
    if spacing is None:
        raise Unusable("PixelSpacing missing")
    if not all(PIXEL_MM[0] <= value <= PIXEL_MM[1] for value in spacing):
        raise Unusable(f"PixelSpacing outside {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm")
    turn, tilt = turn_to_patient(orientation)
    notes = [f"tilted by {tilt:.0f} degrees"] if tilt > 0.5 else []
    position = numbers(layers, "ImagePositionPatient", 3)
    if position is not None:
        z = centre_z(position, orientation, spacing, rows, columns)
    elif location := numbers(layers, "SliceLocation", 1):
        z = location[0]
        notes.append("ImagePositionPatient missing, SliceLocation taken")
    else:
        raise Unusable("no position: ImagePositionPatient and SliceLocation missing")
    if abs(z) > MAX_POSITION_MM:
        raise Unusable(f"a position more than {MAX_POSITION_MM / 1000:.0f} m from the scanner")
    geometry = {"rows": rows, "columns": columns, "spacing_mm": spacing, "turn": turn, "z": round(z, 4)}
    return {**geometry, "notes": notes}


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return the lowest and highest stored value of what is no image, or None.

    Some files give the value with the wrong sign: its bits count, whatever they were meant to be.
    """
    ends = []
    for key in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = dataset.get(key)
        if isinstance(value, bytes):  # of unknown value representation
            little = dataset.original_encoding[1] is not False
            value = int.from_bytes(value[:2], "little" if little else "big")
        if isinstance(value, int):
            ends.append(_as_stored(value, int(dataset.BitsAllocated), bool(dataset.get("PixelRepresentation"))))
        elif not ends:
            return None
    return min(ends), max(ends)


def _as_stored(value: int, bits: int, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


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
    return Segmentation(
        path=path,
        study=text([dataset], "StudyInstanceUID"),
        referenced_series=text([referenced[0]], "SeriesInstanceUID"),
        description=text([dataset], "SeriesDescription"),
        segments=segments,
        words=words,
        frame_of_reference=text([dataset], "FrameOfReferenceUID"),
        patient=text([dataset], "PatientID"),
    )

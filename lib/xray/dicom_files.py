"""Radiographs as DICOM: DX and IO images for presentation, and their masks as segmentations beside them."""

import datetime
from collections.abc import Mapping
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

BITS = 12
IMPLEMENTATION = generate_uid(entropy_srcs=["what does deep learning see", "xray"])
FINDINGS = {  # segment: (category, type)
    "Pneumothorax": (codes.SCT.MorphologicallyAbnormalStructure, Code("36118008", "SCT", "Pneumothorax")),
    "Chest tube": (codes.SCT.PhysicalObject, Code("264957007", "SCT", "Insertion of pleural tube drain")),
    "Artifact": (codes.SCT.PhysicalObject, Code("47973001", "SCT", "Artifact")),
    "Teeth": (codes.SCT.AnatomicalStructure, Code("38199008", "SCT", "Tooth")),
}


def uid(*names: object) -> str:
    """Return the UID that belongs to a list of names, always the same one."""
    return generate_uid(entropy_srcs=["xray", *(str(name) for name in names)])


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _patient(seed: int, kind: str, sex: str, age: float | None) -> Dataset:
    """Return what every image of a patient has: patient, study, series, equipment."""
    ds, rng = Dataset(), np.random.default_rng([seed, len(kind)])
    day = datetime.date(2014, 1, 1) + datetime.timedelta(days=int(rng.integers(0, 365 * 5)))
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientSex = f"PHANTOM^{kind}{seed:06d}", f"{kind}{seed:06d}", sex
    ds.PatientBirthDate = "" if age is None else (day - datetime.timedelta(days=int(age * 365.25))).strftime("%Y%m%d")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = (
        f"{int(rng.integers(8, 18)):02d}{int(rng.integers(0, 60)):02d}00"
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(kind, seed, "study"), uid(kind, seed, "series")
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName, ds.SeriesNumber = "1", "", "", 1
    ds.Manufacturer, ds.ManufacturerModelName = "Phantom", "lib.xray"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.InstanceNumber = 1
    return ds


def _image(ds: Dataset, grey: np.ndarray, pixel_mm: float, sop_class: str) -> None:
    """Add the image's own attributes, in place; grey from 0 to 1 becomes 12 bits."""
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid(ds.SeriesInstanceUID, ds.InstanceNumber)
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImagerPixelSpacing = [f"{pixel_mm:.6g}"] * 2
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = grey.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, BITS, BITS - 1, 0
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape, ds.LossyImageCompression, ds.BurnedInAnnotation = "IDENTITY", "00", "NO"
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.AcquisitionContextSequence = []
    stored = np.round(np.clip(grey, 0, 1) * (2**BITS - 1)).astype("<u2")
    ds.add_new("PixelData", "OW", stored.tobytes())
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION, "PHANTOM"
    ds.file_meta = meta


def chest_image(grey: np.ndarray, pixel_mm: float, seed: int, *, female: bool, age: float) -> Dataset:
    """Return a posterior-anterior chest radiograph as a Digital X-Ray Image (DX).

    Parameters
    ----------
    grey : float array (n, n)
        Display values, 0 black to 1 white; the patient's right is on the left.
    pixel_mm : float
        At the detector.
    seed : int
        Names patient, study and instance.
    female : bool
    age : float
        Years.
    """
    ds = _patient(seed, "CXR", "F" if female else "M", age)
    ds.Modality, ds.StudyDescription, ds.SeriesDescription = "DX", "CHEST", "CHEST PA"
    ds.ImageType, ds.BodyPartExamined = ["ORIGINAL", "PRIMARY", ""], "CHEST"
    ds.PatientAge = f"{int(age):03d}Y"
    _image(ds, grey, pixel_mm, DigitalXRayImageStorageForPresentation)
    ds.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
    ds.ViewCodeSequence = [_code("399348003", "SCT", "postero-anterior")]
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = []
    ds.ImageLaterality, ds.ViewPosition, ds.PatientOrientation = "U", "PA", ["L", "F"]
    ds.KVP, ds.DistanceSourceToDetector, ds.DistanceSourceToPatient = "120", "1800", "1650"
    ds.Grid, ds.FocalSpots, ds.PositionerType = "FOCUSED", "1", "NONE"
    ds.DetectorType, ds.DetectorConfiguration, ds.DetectorDescription = "SCINTILLATOR", "AREA", "simulated"
    return ds


def dental_image(grey: np.ndarray, pixel_mm: float, seed: int, *, view: str, side: str) -> Dataset:
    """Return a plate as a Digital Intra-Oral X-Ray Image (IO).

    Parameters
    ----------
    grey : float array (rows, columns)
        Display values, 0 black to 1 white.
    pixel_mm : float
    seed : int
        Names patient, study and instance.
    view : {"bitewing", "periapical"}
    side : {"right", "left"}
        Of the patient.
    """
    ds = _patient(seed, "IO", "O", None)
    ds.Modality, ds.StudyDescription, ds.SeriesDescription = "IO", "DENTAL", view.upper()
    ds.ImageType, ds.BodyPartExamined = ["ORIGINAL", "PRIMARY", ""], "JAW"
    _image(ds, grey, pixel_mm, DigitalIntraOralXRayImageStorageForPresentation)
    ds.AnatomicRegionSequence = [_code("38199008", "SCT", "Tooth")]
    ds.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_code("261063000", "SCT", "Buccal")]
    names = {"bitewing": ("54765002", "Bitewing"), "periapical": ("51084002", "Periapical")}
    ds.ViewCodeSequence = [_code(names[view][0], "SCT", names[view][1])]
    right = side == "right"  # seen from the cheek, as such images are hung
    ds.ImageLaterality, ds.PatientOrientation = "R" if right else "L", ["A" if right else "P", "F"]
    ds.KVP, ds.PositionerType, ds.DetectorType = "65", "NONE", "STORAGE"
    ds.DetectorConfiguration, ds.DetectorDescription = "AREA", "simulated"
    return ds


def mask_segmentation(image: Dataset, masks: Mapping[str, np.ndarray]) -> Dataset:
    """Return masks of an image as a binary DICOM segmentation; empty ones are left out.

    Parameters
    ----------
    image : Dataset
        Of :func:`chest_image` or :func:`dental_image`.
    masks : mapping of str to bool array (rows, columns)
        By their names in `FINDINGS`.

    Raises
    ------
    ValueError
        If no mask holds anything, or a name is not known.
    """
    unknown = set(masks) - set(FINDINGS)
    if unknown:
        raise ValueError(f"masks {', '.join(sorted(unknown))} are not known; there are {', '.join(FINDINGS)}.")
    held = {name: mask for name, mask in masks.items() if mask.any()}
    if not held:
        raise ValueError("no mask holds a pixel: there is nothing to write.")
    method = hd.AlgorithmIdentificationSequence("phantom", codes.DCM.ArtificialIntelligence, "1")
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=FINDINGS[name][0],
            segmented_property_type=FINDINGS[name][1],
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=method,
        )
        for number, name in enumerate(held, 1)
    ]
    pixels = np.stack(list(held.values()), axis=-1)[None].astype(np.uint8)
    seg = hd.seg.Segmentation(
        source_images=[image],
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=uid(image.SeriesInstanceUID, "masks"),
        series_number=100,
        sop_instance_uid=uid(image.SeriesInstanceUID, "masks", 1),
        instance_number=1,
        manufacturer="Phantom",
        manufacturer_model_name="lib.xray",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=False,
        series_description="SEG",
        content_label="MASKS",
    )
    seg.PatientOrientation = image.PatientOrientation
    _fix_clock(seg, image)
    return seg


def _fix_clock(seg: Dataset, image: Dataset) -> None:
    """Replace the hour of writing and random identifiers, so that the same seed writes the same bytes."""
    seg.SeriesDate = seg.ContentDate = seg.InstanceCreationDate = image.StudyDate
    seg.SeriesTime = seg.ContentTime = seg.InstanceCreationTime = image.StudyTime
    for item in seg.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = image.StudyDate + image.StudyTime
    organisation = uid(image.SeriesInstanceUID, "dimensions")
    for name in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in seg.get(name, []):
            if "DimensionOrganizationUID" in item:
                item.DimensionOrganizationUID = organisation


def write(path: Path, dataset: Dataset) -> None:
    """Write an image or a segmentation; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)

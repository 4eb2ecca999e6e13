"""DICOM objects of a series: CT images, and segmentations of the kidneys and of every tissue."""

import copy
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from lib.phantom.kinetics import Injection
from lib.phantom.scanner import Protocol
from lib.phantom.tissues import KIDNEY_TISSUES, Tissue

_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless)
IMPLEMENTATION = generate_uid(entropy_srcs=["what does deep learning see", "phantom"])


def uid(*names: object) -> str:
    """Return a UID that follows from a list of names."""
    return generate_uid(entropy_srcs=["phantom", *(str(name) for name in names)])


def draw_syntax(rng: np.random.Generator) -> str:
    """Draw a transfer syntax; most are uncompressed, as in archives."""
    return _SYNTAXES[rng.choice(4, p=[0.82, 0.07, 0.06, 0.05])]


def clock(seconds: float) -> str:
    """Return a DICOM time for seconds after midnight."""
    seconds = seconds % 86400
    return f"{int(seconds // 3600):02d}{int(seconds % 3600 // 60):02d}{seconds % 60:09.6f}"


class SeriesWriter:
    """Writes the CT images of one series; attributes that all slices share are set once.

    Parameters
    ----------
    folder : path
        Folder of the files.
    study : Dataset
        DICOM attributes of patient, study and frame of reference.
    protocol : Protocol
    series_uid : str
    number : int
        Series number.
    matrix : int
    position : tuple of float
        x and y of the centre of the first pixel, mm.
    scan_clock : float
        Time of the scan, s after midnight.
    contrast : tuple of (float, Injection) or None
        Start of the injection, s after midnight, and the injection; None for an unenhanced scan.
    syntax : str
        Transfer syntax.
    """

    def __init__(
        self,
        folder: Path,
        study: Dataset,
        protocol: Protocol,
        series_uid: str,
        number: int,
        matrix: int,
        position: tuple[float, float],
        scan_clock: float,
        contrast: tuple[float, Injection] | None,
        syntax: str,
    ):
        self.folder, self.syntax, self.position, self.protocol = folder, syntax, position, protocol
        self.series_uid, self.scan_clock = series_uid, scan_clock
        self.datasets: list[Dataset] = []
        folder.mkdir(parents=True)
        ds = copy.deepcopy(study)
        ds.SOPClassUID = CTImageStorage
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", protocol.manufacturer, protocol.model
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.AcquisitionNumber = series_uid, number, number
        ds.SeriesDescription = f"ABDOMEN {protocol.thickness_mm:g} {protocol.kernel}"
        ds.BodyPartExamined, ds.PatientPosition = "ABDOMEN", "FFS"
        ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = study.StudyDate
        ds.SeriesTime = clock(scan_clock)
        ds.KVP, ds.ConvolutionKernel = f"{protocol.kvp:g}", protocol.kernel
        ds.SliceThickness, ds.SpacingBetweenSlices = f"{protocol.thickness_mm:g}", f"{protocol.spacing_mm:g}"
        ds.ReconstructionDiameter, ds.GantryDetectorTilt = f"{protocol.fov_mm:.3f}", "0"
        ds.TableHeight, ds.RotationDirection, ds.ScanOptions = "160", "CW", "HELICAL MODE"
        ds.ExposureTime, ds.XRayTubeCurrent = "500", "240"
        pixel = f"{protocol.fov_mm / matrix:.6f}"
        ds.PixelSpacing = [pixel, pixel]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PositionReferenceIndicator = ""
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows = ds.Columns = matrix
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, int(protocol.pad_outside)
        if protocol.pad_outside:
            ds.add_new("PixelPaddingValue", "SS", -2000)
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
        ds.WindowCenter, ds.WindowWidth = "40", "400"
        if contrast is not None:
            start, injection = contrast
            ds.ContrastBolusAgent, ds.ContrastBolusRoute = f"IOHEXOL {injection.concentration:g}", "IV"
            ds.ContrastBolusVolume = f"{injection.iodine_g * 1000 / injection.concentration:.0f}"
            ds.ContrastBolusStartTime, ds.ContrastBolusStopTime = clock(start), clock(start + injection.duration)
            ds.ContrastBolusIngredient = "IODINE"
            ds.ContrastBolusIngredientConcentration = f"{injection.concentration:g}"
            ds.ContrastFlowRate, ds.ContrastFlowDuration = f"{injection.rate:.1f}", f"{injection.duration:.1f}"
        self.template = ds
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, syntax
        meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION, "PHANTOM"
        meta.FileMetaInformationVersion = b"\x00\x01"
        self.meta = meta

    def write(self, hu: np.ndarray, z: float, instance: int) -> None:
        """Write one slice: int16 HU (rows, columns), height in mm, and its number in the scan."""
        ds = copy.copy(self.template)
        ds._dict = dict(self.template._dict)
        ds.SOPInstanceUID = uid(self.series_uid, instance)
        ds.InstanceNumber = instance
        ds.AcquisitionTime = clock(self.scan_clock + 0.004 * instance)
        ds.ContentTime = ds.AcquisitionTime
        ds.ImagePositionPatient = [f"{self.position[0]:.4f}", f"{self.position[1]:.4f}", f"{z:.4f}"]
        ds.SliceLocation = f"{z:.4f}"
        ds.file_meta = copy.copy(self.meta)
        ds.file_meta._dict = dict(self.meta._dict)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        light = copy.copy(ds)
        light._dict = dict(ds._dict)
        self.datasets.append(light)
        stored = (hu + 1024).astype(np.int16 if self.protocol.pad_outside else np.uint16)
        if self.syntax in (RLELossless, JPEG2000Lossless):
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(self.syntax, stored, generate_instance_uid=False)
        else:
            ds.add_new("PixelData", "OW", stored.tobytes())
        dcmwrite(self.folder / f"IM{instance:05d}.dcm", ds, enforce_file_format=True)


def write_segmentations(folder: Path, images: list[Dataset], tissues: np.ndarray, number: int) -> None:
    """Write the kidneys (BINARY) and every tissue (LABELMAP, RLE) of a series as DICOM SEG.

    Parameters
    ----------
    folder : path
    images : list of Dataset
        The CT images, without pixels.
    tissues : uint8 array (slices, rows, columns)
        Codes of `Tissue`.
    number : int
        Series number of the first of the two.
    """
    kidneys = np.isin(tissues, KIDNEY_TISSUES).astype(np.uint8)
    present = [tissue for tissue in Tissue if tissue and (tissues == tissue).any()]
    kinds = (
        ("kidneys", kidneys, hd.seg.SegmentationTypeValues.BINARY, ExplicitVRLittleEndian,
         [(1, "Kidneys", codes.SCT.Kidney)]),
        ("tissues", tissues, hd.seg.SegmentationTypeValues.LABELMAP, RLELossless,
         [(int(t), t.name.replace("_", " ").capitalize(), codes.SCT.Tissue) for t in present]),
    )  # fmt: skip
    for k, (name, pixels, kind, syntax, segments) in enumerate(kinds):
        descriptions = [
            hd.seg.SegmentDescription(
                segment_number=code,
                segment_label=label,
                segmented_property_category=codes.SCT.Tissue if name == "tissues" else codes.SCT.Organ,
                segmented_property_type=concept,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=hd.AlgorithmIdentificationSequence(
                    "phantom", codes.DCM.ArtificialIntelligence, "1"
                ),
            )
            for code, label, concept in segments
        ]
        series = images[0].SeriesInstanceUID
        seg = hd.seg.Segmentation(
            source_images=images,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=descriptions,
            series_instance_uid=uid(series, name),
            series_number=number + k,
            sop_instance_uid=uid(series, name, "instance"),
            instance_number=1,
            manufacturer="Phantom",
            manufacturer_model_name="lib.phantom",
            software_versions="1",
            device_serial_number="1",
            transfer_syntax_uid=syntax,
            omit_empty_frames=False,
            series_description=f"SEG {name}",
            content_label=name.upper(),
        )
        _fix_clock(seg, images[0], series, name)
        target = folder / f"SE{number + k:04d}"
        target.mkdir(parents=True)
        dcmwrite(target / "IM00001.dcm", seg, enforce_file_format=True)


def _fix_clock(seg: Dataset, image: Dataset, series: str, name: str) -> None:
    """Replace the time of writing and random identifiers, so that the same seed writes the same bytes."""
    seg.SeriesDate = seg.ContentDate = seg.InstanceCreationDate = image.StudyDate
    seg.SeriesTime = seg.ContentTime = seg.InstanceCreationTime = image.SeriesTime
    for item in seg.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = image.StudyDate + image.SeriesTime
    organisation = uid(series, name, "dimensions")
    for item in seg.get("DimensionOrganizationSequence", []):
        item.DimensionOrganizationUID = organisation
    for item in seg.get("DimensionIndexSequence", []):
        if "DimensionOrganizationUID" in item:
            item.DimensionOrganizationUID = organisation

"""Small synthetic DICOM: an elliptical abdomen with two kidneys on a table."""

import signal
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

REAL_CT = Path(__file__).resolve().parents[2] / "shared" / "real_ct"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: its children could not be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)
KIDNEY_HU, BODY_HU, TABLE_HU, GAS_HU = 150, 40, 300, -900


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, the whole workflow, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_workflow.py")


def abdomen(size: int = 96, pixel_mm: float = 4.0, kidneys: bool = True) -> np.ndarray:
    """HU of one slice: body, a gas bubble in front on the patient's right, two kidneys behind, a table behind all."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * pixel_mm
    hu = np.full((size, size), -1000, np.int16)
    hu[(x / 160) ** 2 + (y / 110) ** 2 <= 1] = BODY_HU
    hu[(x + 60) ** 2 + (y + 50) ** 2 <= 20**2] = GAS_HU
    if kidneys:
        for side in (-70, 70):
            hu[((x - side) / 25) ** 2 + ((y - 40) / 30) ** 2 <= 1] = KIDNEY_HU
    hu[np.abs(y - 150) < pixel_mm] = TABLE_HU
    return hu


def ct_dataset(hu: np.ndarray, z: float, *, patient: str, study: str, series: str, number: int, pixel_mm: float = 4.0):
    """Return a CT Image dataset, explicit little endian, rows from anterior, columns from the patient's right."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", patient, "Phantom^Test"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = "", "O", "1", ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20010101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.ReferringPhysicianName, dataset.Manufacturer, dataset.PositionReferenceIndicator = "", "none", ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[study])
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.ImageType = 2, number, ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    half = [(n - 1) * pixel_mm / 2 for n in hu.shape]
    dataset.ImagePositionPatient = [-half[1], -half[0], z]
    dataset.PixelSpacing, dataset.SliceThickness = [pixel_mm, pixel_mm], 5
    dataset.Rows, dataset.Columns = hu.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.PixelData = (hu + 1024).astype("<i2").tobytes()
    return dataset


@pytest.fixture
def write_series(tmp_path):
    """Return a function that writes a CT series below tmp_path/dicom and returns its UID."""

    def write(
        patient="P1", *, study=None, series=None, z=(0, 5, 10), folder=None, change=None, hu=None, **kwargs
    ) -> str:
        study, series = study or generate_uid(), series or generate_uid()
        folder = tmp_path / "dicom" / (folder or f"{patient}/{series}")
        folder.mkdir(parents=True, exist_ok=True)
        for number, position in enumerate(z):
            image = abdomen(**kwargs) if hu is None else hu
            dataset = ct_dataset(image, position, patient=patient, study=study, series=series, number=number + 1)
            name = f"{series}-{number:03d}.dcm"
            if change is not None:
                name = change(dataset, number) or name
            dataset.save_as(folder / name, enforce_file_format=True)
        return series

    return write


@pytest.fixture
def write_segmentation():
    """Return a function that writes a DICOM SEG (highdicom) beside the files of a series."""
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    def write(folder: Path, masks: np.ndarray, labels: list[str], kind: str = "BINARY") -> Path:
        """Write masks (slices, H, W) that hold 0 or the number (from 1) of a label; slices in order of z."""
        sources = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        sources = sorted((d for d in sources if d.Modality == "CT"), key=lambda d: d.ImagePositionPatient[2])
        algorithm = hd.AlgorithmIdentificationSequence(
            name="test", version="1", family=codes.DCM.ArtificialIntelligence
        )
        segments = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=label,
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Kidney if "kidney" in label else codes.SCT.Organ,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
            for number, label in enumerate(labels, 1)
        ]
        segmentation = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=masks.astype(np.uint8),
            segmentation_type=kind,
            segment_descriptions=segments,
            series_instance_uid=generate_uid(),
            series_number=100,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="test",
            manufacturer_model_name="test",
            software_versions="1",
            device_serial_number="1",
        )
        path = folder / f"seg-{labels[0]}-{kind}.dcm"
        segmentation.save_as(path)
        return path

    return write

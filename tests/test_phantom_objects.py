"""DICOM that validators and other readers accept, with what a hospital's files say."""

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from lib.phantom.cohort import write_patient
from lib.phantom.kinetics import Injection
from lib.phantom.objects import SeriesWriter, clock, draw_syntax, uid, write_segmentations
from lib.phantom.scanner import Protocol
from lib.phantom.tissues import KIDNEY_TISSUES, Tissue

PROTOCOL = Protocol("GE MEDICAL SYSTEMS", "M", "STANDARD", 0.36, (0.75, 0.27, 1.9, 0.15), 15.0, 120.0, 3.0, 3.0, 320.0,
                    (0, 0), 0.0, True)  # fmt: skip


def study():
    ds = Dataset()
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate, ds.PatientAge = (
        "A^B",
        "A",
        "F",
        "19600101",
        "060Y",
    )
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = uid("study"), uid("frame")
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = (
        "20200101",
        "080000",
        "1",
        "1",
        "",
    )
    return ds


def write_series(folder, syntax, hu, contrast=None):
    writer = SeriesWriter(
        folder, study(), PROTOCOL, uid("series", syntax), 3, 32, (-155.0, -150.0), 36065.0, contrast, syntax
    )
    for k, plane in enumerate(hu):
        writer.write(plane, 100.0 - 3 * k, k + 1)
    return writer


@pytest.fixture(scope="module")
def slices():
    hu = np.random.default_rng(0).integers(-1024, 3072, (3, 32, 32)).astype(np.int16)
    hu[:, :3, :3] = -3024
    return hu


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patient")
    return folder, write_patient(
        folder, "P", seed=12, slices=2, placing="middle", matrix=128, phases=["noncon", "cm", "pyelo"]
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_every_transfer_syntax_reads_back_the_same_hu(tmp_path, slices, syntax):
    write_series(tmp_path / "s", syntax, slices)
    for k, path in enumerate(sorted((tmp_path / "s").glob("*.dcm"))):
        ds = pydicom.dcmread(path)
        assert ds.file_meta.TransferSyntaxUID == syntax
        np.testing.assert_array_equal(ds.pixel_array * ds.RescaleSlope + ds.RescaleIntercept, slices[k])
        assert list(ds.ImagePositionPatient) == [-155.0, -150.0, 100.0 - 3 * k]
        assert ds.PixelPaddingValue == -2000


def test_contrast_timing_tells_the_scan_time_and_is_absent_before_the_injection(tmp_path, slices):
    contrast = (36000.0, Injection(42.0, 300.0, 4.0))
    write_series(tmp_path / "with", ExplicitVRLittleEndian, slices, contrast)
    write_series(tmp_path / "without", ExplicitVRLittleEndian, slices)
    ds = pydicom.dcmread(tmp_path / "with" / "IM00001.dcm")
    seconds = [
        60 * (60 * int(t[:2]) + int(t[2:4])) + float(t[4:]) for t in (ds.AcquisitionTime, ds.ContrastBolusStartTime)
    ]
    assert seconds[0] - seconds[1] == pytest.approx(65, abs=0.1)
    assert ds.ContrastBolusVolume == 140 and ds.ContrastFlowRate == 4
    assert "ContrastBolusAgent" not in pydicom.dcmread(tmp_path / "without" / "IM00001.dcm")


def test_segmentations_open_in_highdicom_with_the_same_tissues(tmp_path, slices):
    writer = write_series(tmp_path / "s", ExplicitVRLittleEndian, slices)
    tissues = np.random.default_rng(1).integers(0, 31, (3, 32, 32)).astype(np.uint8)
    write_segmentations(tmp_path, writer.datasets, tissues, 1000)
    kidneys = hd.seg.segread(tmp_path / "SE1000" / "IM00001.dcm")
    everything = hd.seg.segread(tmp_path / "SE1001" / "IM00001.dcm")
    sources = [ds.SOPInstanceUID for ds in writer.datasets]
    np.testing.assert_array_equal(
        kidneys.get_pixels_by_source_instance(sources, combine_segments=True, segment_numbers=[1]) > 0,
        np.isin(tissues, KIDNEY_TISSUES),
    )
    np.testing.assert_array_equal(everything.get_pixels_by_source_instance(sources, combine_segments=True), tissues)
    labels = {
        d.segment_number: d.segment_label for d in map(everything.get_segment_description, everything.segment_numbers)
    }
    assert labels[Tissue.RENAL_CORTEX] == "Renal cortex" and everything.file_meta.TransferSyntaxUID == RLELossless


def test_series_of_a_patient_share_study_and_frame_and_nothing_else(patient):
    folder, rows = patient
    images = [pydicom.dcmread(p, stop_before_pixels=True) for p in folder.rglob("*.dcm")]
    assert len({ds.StudyInstanceUID for ds in images}) == len({ds.FrameOfReferenceUID for ds in images}) == 1
    assert len({ds.SOPInstanceUID for ds in images}) == len(images)
    assert {r["series_uid"] for r in rows} == {ds.SeriesInstanceUID for ds in images if ds.Modality == "CT"}
    for row in rows:
        z = [float(ds.ImagePositionPatient[2]) for ds in images if ds.SeriesInstanceUID == row["series_uid"]]
        assert row["kidney_bottom_mm"] < min(z) and max(z) < row["kidney_top_mm"]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is missing: apt-get install dicom3tools")
def test_dciodvfy_finds_no_error(patient, tmp_path, slices):
    folder, _ = patient
    for syntax in (RLELossless, JPEG2000Lossless):
        write_series(tmp_path / syntax, syntax, slices, (36000.0, Injection()))
    checked = 0
    for path in [*folder.rglob("*.dcm"), *tmp_path.rglob("*.dcm")]:
        if pydicom.dcmread(path, stop_before_pixels=True).get("SegmentationType") == "LABELMAP":
            continue  # newer than the validator
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, (path.name, said.stderr)
        checked += 1
    assert checked > 10


def test_most_files_are_uncompressed_and_times_are_dicom_times():
    rng = np.random.default_rng(0)
    drawn = [draw_syntax(rng) for _ in range(400)]
    assert 0.75 < np.mean([s == ExplicitVRLittleEndian for s in drawn]) < 0.9 and len(set(drawn)) == 4
    assert clock(36065.25) == "100105.250000" and clock(86400 + 1) == "000001.000000"

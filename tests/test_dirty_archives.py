"""More of what dirty archives hold, where it takes several files or no DICOM at all to show it."""

import gzip
import os
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from conftest import abdomen, ct_dataset
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from test_dicom import enhanced

from lib.dicom import find_series, read_volume
from lib.dicom.errors import DicomError
from lib.dicom.series import read_tree
from lib.preparation import prepare_cohort


def level(dataset, value):
    dataset.PixelData = np.full((96, 96), 1024 + value, "<i2").tobytes()


def values(series):
    """HU of each slice of a volume that has one value per slice."""
    return [np.unique(image).tolist() for image in read_volume(series).hu]


def test_one_sop_instance_uid_for_a_whole_series_loses_no_slice(write_series, tmp_path):
    """A careless anonymiser gives all files one SOPInstanceUID: their places tell them apart."""

    def change(dataset, number):
        dataset.SOPInstanceUID = "1.2.3"
        level(dataset, number)

    write_series(z=(0, 5, 10), change=change)
    (series,), rejected = find_series(tmp_path / "dicom")
    assert rejected.empty and values(series) == [[0], [1], [2]]
    assert "several images share one SOPInstanceUID" in series.notes


def test_one_image_with_other_pixels_under_its_uid_is_taken_once(write_series, tmp_path):
    """An image that was changed after it was sent, and sent again: the first by name is taken, the other is named."""

    def change(dataset, number):
        dataset.SOPInstanceUID = f"1.2.3.{number // 2}"
        level(dataset, number)

    write_series(z=(0, 0, 5, 5), change=change)
    (series,), rejected = find_series(tmp_path / "dicom")
    assert values(series) == [[0], [2]]
    assert rejected["reason"].tolist() == ["the same image (SOPInstanceUID) a second time"] * 2


def test_two_frames_of_reference_under_one_uid_share_no_stack(write_series, tmp_path):
    """The patient was taken off the table and positioned anew: places of the two scans cannot be compared."""

    def change(dataset, number):
        dataset.FrameOfReferenceUID = f"1.9.{number // 3}"
        level(dataset, number // 3)

    write_series(z=(0, 5, 10, 0, 5, 10), change=change)
    series, rejected = find_series(tmp_path / "dicom")
    assert rejected.empty and [values(item) for item in series] == [[[0]] * 3, [[1]] * 3]


def test_slope_and_intercept_of_each_slice(write_series, tmp_path):
    def change(dataset, number):
        slope, intercept = ((1, -1024), (2, -2048), (0.5, -1000))[number]
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = np.rint((abdomen().astype(float) - intercept) / slope).astype("<i2").tobytes()

    write_series(change=change)
    (series,), _ = find_series(tmp_path / "dicom")
    np.testing.assert_array_equal(read_volume(series).hu, [abdomen()] * 3)


def test_kernels_that_lie_over_each_other_under_one_uid(write_series, tmp_path):
    def change(dataset, number):
        dataset.ConvolutionKernel = ("B31f", "B70f")[number % 2]
        level(dataset, number % 2)

    write_series(z=(0, 0, 5, 5, 10, 10), change=change)
    series, rejected = find_series(tmp_path / "dicom")
    assert rejected.empty and [values(item) for item in series] == [[[0]] * 3, [[1]] * 3]


def test_pixels_that_are_no_squares_are_not_prepared(write_series, tmp_path):
    write_series("P1", z=(0, 5))
    write_series("P2", change=lambda d, _: setattr(d, "PixelSpacing", [4, 2]))
    prepared = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", split="apply", key="k", processes=1)
    assert len(prepared.slices) == 2
    reasons = pd.read_csv(tmp_path / "cohort" / "rejected.csv")["reason"].tolist()
    assert reasons == ["pixels of 4 x 2 mm are no squares: a network would see a patient of another shape"]


def test_feet_first_and_numbers_from_the_head_down(write_series, tmp_path):
    def change(dataset, number):
        dataset.PatientPosition, dataset.InstanceNumber = "FFS", 3 - number
        level(dataset, number)

    write_series(z=(0, 5, 10), change=change)
    (series,), _ = find_series(tmp_path / "dicom")
    assert values(series) == [[0], [1], [2]]


def test_explicit_data_that_claim_to_be_implicit(write_series, tmp_path):
    uid = write_series(z=(0,))
    path = next((tmp_path / "dicom" / "P1" / uid).iterdir())
    explicit, implicit = b"1.2.840.10008.1.2.1\0", ImplicitVRLittleEndian.encode() + b"\0"
    content = path.read_bytes()
    at = content.index(b"\x02\x00\x10\x00UI") + 6
    start = at + 2 + len(explicit)
    shorter = content[:at] + len(implicit).to_bytes(2, "little") + implicit + content[start:]
    group = int.from_bytes(shorter[140:144], "little") - len(explicit) + len(implicit)
    path.write_bytes(shorter[:140] + group.to_bytes(4, "little") + shorter[144:])
    series, rejected = find_series(tmp_path / "dicom")
    assert len(series) + len(rejected) == 1
    if series:
        np.testing.assert_array_equal(read_volume(series[0]).hu, [abdomen()])


def test_pixels_behind_the_image_are_passed_over(write_series, tmp_path):
    write_series(z=(0,), change=lambda d, _: setattr(d, "PixelData", d.PixelData * 2))
    (series,), _ = find_series(tmp_path / "dicom")
    np.testing.assert_array_equal(read_volume(series).hu, [abdomen()])


def test_an_offset_that_nobody_wrote_down_hidden_by_padding(write_series, tmp_path):
    """Signed pixels stored +1024 without intercept, and -2000 outside the field of view: that is no air."""

    def change(dataset, _):
        image = abdomen() + 1024
        image[:6] = -2000
        dataset.PixelData = image.astype("<i2").tobytes()
        del dataset.RescaleIntercept

    write_series(z=(0,), change=change)
    (series,), _ = find_series(tmp_path / "dicom")
    with pytest.raises(DicomError, match="no RescaleIntercept"):
        read_volume(series)


@pytest.mark.parametrize("signed", [False, True])
def test_twelve_bits_with_something_else_in_the_bits_above(write_series, tmp_path, signed):
    """Old scanners keep graphics in the upper bits of a pixel, or negative numbers of 12 bits without their sign."""

    def change(dataset, _):
        stored = abdomen().astype(np.int32) + (0 if signed else 1024)
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = int(signed), 12, 11
        dataset.RescaleIntercept = 0 if signed else -1024
        stored &= 0xFFF
        if not signed:
            stored[10:20, 10:20] |= 0x8000
        dataset.PixelData = stored.astype("<u2").tobytes()

    write_series(z=(0,), change=change)
    (series,), _ = find_series(tmp_path / "dicom")
    np.testing.assert_array_equal(read_volume(series).hu, [abdomen()])


def drop(name, per_frame):
    def change(dataset):
        group = "PerFrameFunctionalGroupsSequence" if per_frame else "SharedFunctionalGroupsSequence"
        for item in dataset[group].value:
            del item[name]

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("PlanePositionSequence", True), "no position: ImagePositionPatient and SliceLocation missing"),
        (drop("PixelMeasuresSequence", False), "PixelSpacing missing"),
        (drop("PlaneOrientationSequence", False), "ImageOrientationPatient missing"),
        (lambda d: delattr(d, "SharedFunctionalGroupsSequence"), "ImageOrientationPatient missing"),
        (lambda d: setattr(d, "PerFrameFunctionalGroupsSequence", []), "3 frames, and positions of 0"),
        (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "several frames without positions"),
        (lambda d: setattr(d, "NumberOfFrames", 4), "4 frames, and positions of 3"),
        (lambda d: d.PerFrameFunctionalGroupsSequence.__setitem__(1, Dataset()), "no position"),
    ],
)  # fmt: skip
def test_enhanced_files_without_a_functional_group(write_series, tmp_path, change, reason):
    healthy = write_series()
    dataset = enhanced([abdomen()] * 3, (0, 5, 10))
    change(dataset)
    dataset.save_as(tmp_path / "dicom" / "enhanced", enforce_file_format=True)
    (series,), rejected = find_series(tmp_path / "dicom")
    assert series.uid == healthy
    assert len(rejected) == 1 and rejected["reason"][0].startswith(reason)


def test_archives_are_named_as_such(write_series, tmp_path):
    """A study that was zipped for sending is no broken DICOM: the reason says what to do."""
    uid = write_series()
    study, folder = tmp_path / "dicom" / "P1" / uid, tmp_path / "dicom"
    first = next(study.iterdir())
    with zipfile.ZipFile(folder / "study.zip", "w") as file:
        file.write(first)
    with tarfile.open(folder / "study.tar", "w") as file:
        file.add(first)
    with gzip.open(folder / "slice.dcm.gz", "wb") as file:
        file.write(first.read_bytes())
    (folder / "study.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(200))
    (folder / "report.pdf").write_bytes(b"%PDF-1.4" + bytes(200))
    (folder / "short").write_bytes(b"PK")
    tree = read_tree(folder)
    assert [item.uid for item in tree.series] == [uid]
    found = {
        os.path.basename(path): reason for path, reason in zip(tree.rejected.path, tree.rejected.reason, strict=True)
    }
    unpack = "an archive ({}): unpack it, its files are not looked at"
    assert found == {
        "study.zip": unpack.format("ZIP"),
        "study.tar": unpack.format("tar"),
        "slice.dcm.gz": unpack.format("gzip"),
        "study.7z": unpack.format("7z"),
        "report.pdf": "not a DICOM file",
        "short": "not a DICOM file",
    }


def test_a_path_longer_than_the_system_takes(write_series, tmp_path, monkeypatch):
    uid = write_series()
    monkeypatch.chdir(tmp_path / "dicom")
    for _ in range(20):  # by and by, since no single call takes such a path
        os.mkdir("d" * 240)
        os.chdir("d" * 240)
    ct_dataset(abdomen(), 0, patient="P", study="1.2", series="1.3", number=1).save_as("deep.dcm")
    monkeypatch.chdir(tmp_path)
    series, rejected = find_series(tmp_path / "dicom")
    assert [item.uid for item in series] == [uid]
    assert len(rejected) and rejected["reason"].str.endswith("File name too long").all()


def test_a_dicomdir_without_its_files(tmp_path):
    from pydicom.fileset import FileSet

    dataset = ct_dataset(abdomen(), 0, patient="P", study=generate_uid(), series=generate_uid(), number=1)
    files = FileSet()
    files.add(dataset)
    files.write(tmp_path / "disc")
    for path in (tmp_path / "disc").rglob("*"):
        if path.is_file() and path.name != "DICOMDIR":
            path.unlink()
    series, rejected = find_series(tmp_path / "disc")
    assert not series and rejected["reason"].tolist() == ["DICOMDIR: an index of files, not an image"]

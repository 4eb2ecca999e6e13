"""Reading DICOM trees: what public archives hold, on small synthetic files."""

import numpy as np
import pytest
from conftest import BODY_HU, KIDNEY_HU, REAL_CT, abdomen, ct_dataset
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from lib.dicom.headers import DicomError
from lib.dicom.series import SliceReader, find_segmentations, find_series, read_volume


def only(folder):
    """Return the one series of a folder, its volume, and what was rejected."""
    series, rejected = find_series(folder)
    assert len(series) == 1
    return series[0], read_volume(series[0]), rejected


@pytest.fixture
def lopsided():
    """An image without any symmetry, in HU."""
    hu = abdomen()
    hu[10:20, 60:64] = 500
    return hu


def test_slices_are_sorted_toward_the_head_and_rescaled(write_series, tmp_path, lopsided):
    z = (5, -10, 20.5)

    def change(dataset, number):
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000
        dataset.PixelData = np.full((96, 96), 500 + number, "<i2").tobytes()

    write_series(z=z, change=change)
    series, volume, rejected = only(tmp_path)
    assert volume.z_mm.tolist() == [-10, 5, 20.5]
    assert [int(image.max()) for image in volume.hu] == [2, 0, 4]
    assert volume.hu.dtype == np.int16
    assert volume.spacing_mm == (15.25, 4.0, 4.0)
    assert series.shape == volume.hu.shape == (3, 96, 96)
    assert rejected.empty
    np.testing.assert_array_equal(SliceReader().read(series.slices[2]), volume.hu[2])


ORIENTATIONS = {
    "as it is": ([1, 0, 0, 0, 1, 0], lambda a: a),
    "rows from behind (Pancreas-CT)": ([1, 0, 0, 0, -1, 0], lambda a: a[::-1]),
    "columns from the left": ([-1, 0, 0, 0, 1, 0], lambda a: a[:, ::-1]),
    "both": ([-1, 0, 0, 0, -1, 0], lambda a: a[::-1, ::-1]),
    "columns first": ([0, 1, 0, 1, 0, 0], lambda a: a.T),
    "columns first, from behind": ([0, -1, 0, 1, 0, 0], lambda a: a.T[:, ::-1]),
    "columns first, from the left": ([0, 1, 0, -1, 0, 0], lambda a: a.T[::-1]),
    "axial but for rounding": ([0.9999, 0.0001, 0, -0.0001, 0.9999, 0], lambda a: a),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_orientation(write_series, tmp_path, lopsided, name):
    orientation, stored = ORIENTATIONS[name]

    def change(dataset, number):
        dataset.ImageOrientationPatient = orientation
        dataset.PixelData = (np.ascontiguousarray(stored(lopsided)) + 1024).astype("<i2").tobytes()

    write_series(change=change)
    series, volume, _ = only(tmp_path)
    np.testing.assert_array_equal(volume.hu[1], np.maximum(lopsided, -1024))
    np.testing.assert_allclose(volume.z_mm, [0, 5, 10], atol=0.03)
    assert series.notes == ()


def test_rectangular_pixels_follow_a_transposition(write_series, tmp_path):
    hu = np.zeros((40, 60), np.int16)

    def change(dataset, number):
        dataset.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
        dataset.PixelSpacing = [2, 3]

    write_series(hu=hu, change=change)
    _, volume, _ = only(tmp_path)
    assert volume.hu.shape == (3, 60, 40)
    assert volume.spacing_mm == (5, 3, 2)


@pytest.mark.parametrize(
    ("degrees", "read"), [(4, "tilted by 4 degrees"), (10, "tilted by 10 degrees"), (20, None)], ids=["4", "10", "20"]
)
def test_gantry_tilt_is_read_up_to_ten_degrees(write_series, tmp_path, degrees, read):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    write_series(change=lambda d, i: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, round(c, 6), round(-s, 6)]))
    series, rejected = find_series(tmp_path)
    if read:
        assert series[0].notes == (read,)
        half = 95 * 4 / 2
        np.testing.assert_allclose(read_volume(series[0]).z_mm, np.array([0, 5, 10]) - half * s, atol=1e-3)
    else:
        assert not series
        assert rejected["reason"].unique().tolist() == ["tilted by 20 degrees (at most 10 are read)"]


SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
}


@pytest.mark.parametrize("name", SYNTAXES)
def test_transfer_syntaxes(write_series, tmp_path, lopsided, name):
    def change(dataset, number):
        syntax = UID(SYNTAXES[name])
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        if syntax.is_encapsulated:
            dataset.compress(syntax)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax

    write_series(hu=lopsided, change=change)
    _, volume, _ = only(tmp_path)
    for image in volume.hu:
        np.testing.assert_array_equal(image, lopsided)


@pytest.mark.parametrize("implicit", [True, False])
def test_no_preamble_no_meta_no_suffix(tmp_path, lopsided, implicit):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for number in range(3):
        dataset = ct_dataset(lopsided, number, patient="P", study="1.2", series="1.3", number=number)
        del dataset.file_meta
        dataset.save_as(tmp_path / "deep" / "er" / f"IM{number}", implicit_vr=implicit, little_endian=True)
    _, volume, rejected = only(tmp_path)
    np.testing.assert_array_equal(volume.hu, [lopsided] * 3)
    assert rejected.empty


def test_unknown_value_representation(write_series, tmp_path):
    """Attributes whose VR was lost (UN) are read by the dictionary."""

    def change(dataset, number):
        for keyword in ("RescaleIntercept", "PixelSpacing", "ImagePositionPatient"):
            value = dataset[keyword].value
            text = "\\".join(map(str, value)) if keyword != "RescaleIntercept" else str(value)
            tag = dataset[keyword].tag
            del dataset[tag]
            dataset.add_new(tag, "UN", (text + " " * (len(text) % 2)).encode())

    write_series(change=change)
    _, volume, _ = only(tmp_path)
    np.testing.assert_array_equal(volume.hu, [abdomen()] * 3)


PADDINGS = {
    "below all": ("SS", -2000, np.int16(-2000)),
    "signed value written unsigned": ("US", 63536, np.int16(-2000)),
    "above all": ("SS", 32767, np.int16(32767)),
    "undeclared": (None, None, np.int16(-2000)),
}


@pytest.mark.parametrize("name", PADDINGS)
def test_padding_becomes_air(write_series, tmp_path, name):
    vr, value, raw = PADDINGS[name]

    def change(dataset, number):
        pixels = np.frombuffer(dataset.PixelData, "<i2").reshape(96, 96).copy()
        pixels[:5] = raw
        dataset.PixelData = pixels.tobytes()
        if vr:
            dataset.add_new("PixelPaddingValue", vr, value)

    write_series(change=change)
    _, volume, _ = only(tmp_path)
    assert (volume.hu[:, :5] == -1024).all()
    np.testing.assert_array_equal(volume.hu[0, 5:], abdomen()[5:])


def test_a_padding_value_inside_tissue_is_ignored(write_series, tmp_path):
    write_series(change=lambda d, i: d.add_new("PixelPaddingValue", "SS", BODY_HU + 1024))
    _, volume, _ = only(tmp_path)
    np.testing.assert_array_equal(volume.hu[0], abdomen())


def test_unsigned_and_fractional_rescale(write_series, tmp_path):
    def change(dataset, number):
        raw = np.zeros((96, 96), "<u2")
        raw[0, :3] = 65535, 40001, 3
        dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 0, 0.5, -1024
        dataset.PixelData = raw.tobytes()

    write_series(change=change)
    _, volume, _ = only(tmp_path)
    # By hand: 65535 / 2 - 1024 = 31743.5, 40001 / 2 - 1024 = 18976.5 (rounded to even), 1.5 - 1024 = -1022.5.
    assert volume.hu[0, 0, :4].tolist() == [31744, 18976, -1022, -1024]


def test_single_slice(write_series, tmp_path):
    write_series(z=(-33.5,))
    _, volume, _ = only(tmp_path)
    assert volume.hu.shape == (1, 96, 96)
    assert volume.spacing_mm == (5.0, 4.0, 4.0)
    write_series(z=(0,), change=lambda d, i: delattr(d, "SliceThickness"))
    assert sum(np.isnan(s.spacing_mm[0]) for s in find_series(tmp_path)[0]) == 1


def test_missing_attributes_are_tolerated(write_series, tmp_path):
    keywords = "SliceThickness KVP ConvolutionKernel Manufacturer PatientSex ContrastBolusAgent StudyDate ImageType"

    def change(dataset, number):
        for keyword in keywords.split():
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.ConvolutionKernel = ["I31f", "3"]

    write_series(change=change)
    _, volume, rejected = only(tmp_path)
    np.testing.assert_array_equal(volume.hu[2], abdomen())
    assert rejected.empty


def test_empty_uids_in_every_file(write_series, tmp_path):
    def change(dataset, number):
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(dataset, keyword, "")

    for patient in ("A", "B"):
        write_series(patient, folder=patient, change=change)
    series, rejected = find_series(tmp_path)
    assert [(s.patient, len(s.slices)) for s in series] == [("A", 3), ("B", 3)]
    assert [s.uid for s in series] == ["folder:dicom/A/2/", "folder:dicom/B/2/"]
    assert rejected.empty


def test_missing_patient_is_not_one_patient(write_series, tmp_path):
    for _ in range(2):
        write_series(change=lambda d, i: setattr(d, "PatientID", ""))
    series, _ = find_series(tmp_path)
    assert len({s.patient for s in series}) == 2


def test_missing_position_falls_back_on_slice_location(write_series, tmp_path):
    def change(dataset, number):
        dataset.SliceLocation = -7.5 * number
        del dataset.ImagePositionPatient

    write_series(change=change)
    series, volume, _ = only(tmp_path)
    assert volume.z_mm.tolist() == [-15, -7.5, 0]
    assert series.notes == ("ImagePositionPatient missing, SliceLocation taken",)


def test_missing_slices_and_uneven_spacing_are_noted(write_series, tmp_path):
    write_series(z=(0, 5, 10, 25, 30), folder="gaps")
    write_series(z=(0, 5, 10, 17, 22), folder="uneven")
    series, _ = find_series(tmp_path)
    assert sorted(s.notes for s in series) == [("2 slices missing between others",), ("spacing varies",)]
    assert all(s.spacing_mm[0] == 5 for s in series)


def test_two_slices_at_one_place(write_series, tmp_path):
    write_series(z=(0, 5, 5, 10))
    series, _, rejected = only(tmp_path)
    assert series.z_mm.tolist() == [0, 5, 10]
    assert rejected["reason"].tolist() == ["a second slice at the same position, z = 5.0 mm"]
    assert series.slices[1].path < rejected["path"][0]


def test_the_same_file_twice(write_series, tmp_path):
    write_series(folder="one")
    (tmp_path / "dicom" / "two").mkdir()
    for path in (tmp_path / "dicom" / "one").iterdir():
        (tmp_path / "dicom" / "two" / path.name).write_bytes(path.read_bytes())
    series, _, rejected = only(tmp_path)
    assert len(series.slices) == 3
    assert rejected["reason"].unique().tolist() == ["the same image (SOPInstanceUID) a second time"]


def test_two_acquisitions_under_one_uid(write_series, tmp_path):
    def change(dataset, number):
        dataset.AcquisitionNumber = 1 + number % 2
        dataset.PixelData = np.full((96, 96), 1024 + number % 2, "<i2").tobytes()

    uid = write_series(z=(0, 0, 5, 5, 10, 10), change=change)
    series, rejected = find_series(tmp_path)
    assert [s.uid for s in series] == [uid, f"{uid}#2"]
    assert [np.unique(read_volume(s).hu).tolist() for s in series] == [[0], [1]]
    assert rejected.empty


def test_twenty_series_in_one_folder(write_series, tmp_path):
    expected = {
        write_series(
            "P",
            study="1.2",
            folder="all",
            z=tuple(range(n, n + 4)),
            change=lambda d, i, n=n: setattr(d, "PixelData", np.full((96, 96), 1024 + n, "<i2").tobytes()),
        ): n
        for n in range(20)
    }
    series, rejected = find_series(tmp_path)
    assert rejected.empty
    assert {s.uid: int(read_volume(s).hu[0, 0, 0]) for s in series} == expected
    assert all(s.z_mm.tolist() == list(range(expected[s.uid], expected[s.uid] + 4)) for s in series)


def remove_orientation(dataset):
    del dataset.ImageOrientationPatient, dataset.ImagePositionPatient


def make_colour(dataset):
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(96 * 96 * 3)


def make_unsigned_without_intercept(dataset):
    dataset.PixelRepresentation = 0
    del dataset.RescaleIntercept


REJECTED = {
    "coronal": (lambda d: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "coronal, not axial"),
    "sagittal": (lambda d: setattr(d, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]), "sagittal, not axial"),
    "scout": (lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "scout (localizer)"),
    "screen save": (remove_orientation, "ImageOrientationPatient missing: a scout or a screen save, or not to be"),
    "colour": (make_colour, "screen save: a colour image"),
    "MR": (lambda d: setattr(d, "Modality", "MR"), "modality MR, not CT"),
    "secondary": (lambda d: setattr(d, "ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"]), "screen save"),
    "no pixels": (lambda d: delattr(d, "PixelData"), "truncated: pixels are missing"),
    "short pixels": (lambda d: setattr(d, "PixelData", d.PixelData[:1000]), "truncated: pixels are missing"),
    "no spacing": (lambda d: delattr(d, "PixelSpacing"), "PixelSpacing missing"),
    "no HU": (make_unsigned_without_intercept, "Hounsfield units unknown: unsigned pixels without RescaleIntercept"),
    "bad orientation": (
        lambda d: setattr(d, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        "no pair of perpendicular",
    ),
    "no rows": (lambda d: delattr(d, "Rows"), "no image: Rows or Columns missing"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejected_with_a_reason_and_the_rest_goes_on(write_series, tmp_path, name):
    spoil, reason = REJECTED[name]
    uid = write_series("P1", study="1.2", folder="mixed")
    write_series("P1", study="1.2", folder="mixed", z=(0,), change=lambda d, i: spoil(d))
    series, volume, rejected = only(tmp_path)
    assert series.uid == uid
    np.testing.assert_array_equal(volume.hu, [abdomen()] * 3)
    assert rejected["reason"].str.contains(reason, regex=False).tolist() == [True]


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files(write_series, tmp_path, compressed):
    uid = write_series(change=lambda d, i: d.compress(RLELossless) if compressed else None)
    paths = sorted((tmp_path / "dicom" / "P1" / uid).iterdir())
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) - 900])  # in the pixels
    paths[1].write_bytes(whole[:600])  # in the header
    series, volume, rejected = only(tmp_path)
    assert series.z_mm.tolist() == [10]
    assert rejected["path"].tolist() == [str(path) for path in paths[:2]]
    assert rejected["reason"][0] == "truncated: pixels are missing"
    np.testing.assert_array_equal(volume.hu, [abdomen()])


def test_damaged_codestream_is_named(write_series, tmp_path):
    uid = write_series(z=(0,), change=lambda d, i: d.compress(JPEG2000Lossless))
    path = next((tmp_path / "dicom" / "P1" / uid).iterdir())
    content = path.read_bytes()
    start = content.index(b"\xff\x4f\xff\x51")
    path.write_bytes(content[:start] + bytes(200) + content[start + 200 :])
    series, _ = find_series(tmp_path)
    with pytest.raises(DicomError, match=f"{path.name}: pixels cannot be decoded"):
        read_volume(series[0])


def test_other_files(tmp_path, write_series):
    write_series()
    for name, content in {
        "notes.txt": b"hello",
        "empty": b"",
        "labels.csv": b"series_uid",
        "long": bytes(5000),
    }.items():
        (tmp_path / name).write_bytes(content)
    index = Dataset()
    index.DirectoryRecordSequence = Sequence()
    index.file_meta = ct_dataset(abdomen(), 0, patient="", study="1", series="1", number=1).file_meta
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    _, _, rejected = only(tmp_path)
    found = {path.rsplit("/", 1)[1]: reason for path, reason in zip(rejected["path"], rejected["reason"], strict=True)}
    assert found == {
        "notes.txt": "not a DICOM file",
        "empty": "not a DICOM file",
        "long": "not a DICOM file",
        "DICOMDIR": "DICOMDIR: an index of files, not an image",
    }


def test_what_a_killed_run_left_hidden_is_no_series(tmp_path, write_series):
    uid = write_series("P1")
    write_series("P1", folder=".P1.abc123/P1/1.2.3")
    write_series("P1", folder="P1/.1.2.4.x/1.2.4")
    series, rejected = find_series(tmp_path / "dicom")
    assert [item.uid for item in series] == [uid]
    assert rejected["reason"].unique().tolist() == ["hidden: a name on its path starts with a dot"]
    assert len(rejected) == 6
    (tmp_path / "dicom").rename(tmp_path / ".dicom")
    assert [item.uid for item in find_series(tmp_path / ".dicom")[0]] == [uid]  # the folder itself may be hidden


def enhanced(images, z, times=1):
    """Return an Enhanced CT dataset: one file, a frame for each image, positions in the functional groups."""
    dataset = ct_dataset(images[0], 0, patient="P", study="1.2", series="1.3", number=1)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedCTImageStorage
    shared, measures, rescale, plane = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, 5
    rescale.RescaleIntercept, rescale.RescaleSlope = -1024, 1
    plane.ImageOrientationPatient = dataset.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PixelValueTransformationSequence = Sequence([measures]), Sequence([rescale])
    shared.PlaneOrientationSequence = Sequence([plane])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number, position in enumerate(z):
        frame, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, position]
        content.TemporalPositionIndex = number % times + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = Sequence([place]), Sequence([content])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for keyword in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(dataset, keyword)
    del dataset.RescaleIntercept, dataset.RescaleSlope
    dataset.NumberOfFrames = len(images)
    dataset.PixelData = (np.stack(images) + 1024).astype("<i2").tobytes()
    return dataset


def test_enhanced_multi_frame(tmp_path, lopsided):
    images = [lopsided, lopsided + 1, lopsided + 2]
    enhanced(images, (10, 0, 5)).save_as(tmp_path / "enhanced", enforce_file_format=True)
    _, volume, _ = only(tmp_path)
    assert volume.z_mm.tolist() == [0, 5, 10]
    np.testing.assert_array_equal(volume.hu, np.stack([images[1], images[2], images[0]]))
    assert volume.spacing_mm == (5, 4, 4)


def test_enhanced_with_two_times(tmp_path, lopsided):
    images = [lopsided + n for n in range(4)]
    enhanced(images, (0, 0, 5, 5), times=2).save_as(tmp_path / "enhanced", enforce_file_format=True)
    series, _ = find_series(tmp_path)
    volumes = [read_volume(s).hu for s in series]
    np.testing.assert_array_equal(volumes, [[images[0], images[2]], [images[1], images[3]]])


def test_several_frames_without_positions(write_series, tmp_path):
    def change(dataset, number):
        dataset.NumberOfFrames = 2
        dataset.PixelData *= 2

    write_series(z=(0,), change=change)
    series, rejected = find_series(tmp_path)
    assert not series
    assert rejected["reason"].tolist() == ["several frames without positions"]


def test_segmentations_are_found_beside_series(write_series, write_segmentation, tmp_path):
    uid = write_series()
    masks = np.stack([abdomen() == KIDNEY_HU] * 3)
    write_segmentation(tmp_path / "dicom" / "P1" / uid, masks, ["Right kidney"])
    series, rejected = find_series(tmp_path)
    (found,) = find_segmentations(tmp_path)
    assert (found.referenced_series, found.segments) == (uid, {1: "Right kidney"})
    assert len(series) == 1
    assert rejected.empty


def test_secondary_capture_with_full_geometry_is_read(write_series, tmp_path):
    write_series(change=lambda d, i: setattr(d, "SOPClassUID", SecondaryCaptureImageStorage))
    _, volume, _ = only(tmp_path)
    assert volume.hu.shape == (3, 96, 96)


def test_many_headers_in_two_processes(write_series, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.dicom.series.MANY_FILES", 10)
    uid = write_series(z=tuple(range(130)), hu=np.zeros((8, 8), np.int16))
    series, rejected = find_series(tmp_path, processes=2)
    assert [s.uid for s in series] == [uid]
    assert series[0].z_mm.tolist() == list(range(130))
    assert rejected.empty


def test_real_files_of_pydicom(tmp_path):
    """pydicom's own files: a 128 x 128 CT, a JPEG 2000 one, and many that are no CT; what is listed can be read."""
    folder = tmp_path / "files"
    folder.symlink_to(get_testdata_file("CT_small.dcm", download=False).rsplit("/", 1)[0])
    series, rejected = find_series(folder)
    volumes = {s.slices[0].path.rsplit("/", 1)[1]: read_volume(s).hu for s in series}
    assert volumes["CT_small.dcm"].shape == (1, 128, 128)
    source = dcmread(folder / "CT_small.dcm")
    np.testing.assert_array_equal(volumes["CT_small.dcm"][0], np.maximum(source.pixel_array - 1024, -1024))
    assert rejected["reason"].str.contains("modality MR, not CT").sum() > 10


@pytest.mark.skipif(not REAL_CT.exists(), reason=f"{REAL_CT} is absent: four real CT slices")
def test_real_ct():
    series, rejected = find_series(REAL_CT)
    assert len(series) == 4
    assert rejected["reason"].tolist() == ["not a DICOM file"]  # README.md
    for item in series:
        hu = read_volume(item).hu
        assert hu.min() == -1024
        bottom = (hu[0] > 150)[256:].sum()
        assert bottom > (hu[0] > 150)[:256].sum()  # spine behind
        liver, spleen = (
            np.mean((hu[0] > 20) & (hu[0] < 140), axis=0)[half].mean() for half in (slice(80, 200), slice(312, 432))
        )
        assert liver > spleen  # the liver, solid, is on the image's left


def test_values_that_break_the_standard_are_read_and_not_printed(write_series, tmp_path, recwarn, caplog, capfd):
    secret = "NOT A UID BUT A NAME"

    def change(dataset, number):
        dataset.add_new("StudyInstanceUID", "LO", secret)
        dataset["StudyInstanceUID"].VR = "UI"
        dataset.add_new("KVP", "LO", "high")

    write_series(change=change)
    recwarn.clear()
    caplog.clear()
    series, volume, rejected = only(tmp_path)
    assert series.study == secret
    np.testing.assert_array_equal(volume.hu[0], abdomen())
    assert rejected.empty
    assert not recwarn.list
    assert secret not in caplog.text + "".join(capfd.readouterr())


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder: give the one that holds the DICOM files"):
        find_series(tmp_path / "none")

"""Quirks of real archives: read exactly, or refused with one reason, while the healthy series beside them is read."""

import os
import signal
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import abdomen, ct_dataset
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid
from quirks import EXACT, REFUSED, exact_hu

from lib.dicom import find_series, read_volume
from lib.dicom.decoder import Decoder
from lib.dicom.errors import DicomError
from lib.dicom.series import SliceReader, read_tree


@pytest.mark.parametrize("name", EXACT)
def test_read_exactly(write_series, tmp_path, name):
    write_series(z=(0,), change=lambda dataset, _: EXACT[name](dataset))
    (series,), rejected = find_series(tmp_path / "dicom")
    assert rejected.empty
    np.testing.assert_array_equal(read_volume(series).hu, [exact_hu(name)])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_reason(write_series, tmp_path, name):
    change, reason = REFUSED[name]
    healthy = write_series("P1", study="1.2", folder="mixed")
    write_series("P1", study="1.2", folder="mixed", z=(0,), change=lambda dataset, _: change(dataset))
    start = time.monotonic()
    (series,), rejected = find_series(tmp_path / "dicom")
    assert time.monotonic() - start < 10
    assert series.uid == healthy
    assert len(rejected) == 1
    assert rejected["reason"][0].startswith(reason)
    np.testing.assert_array_equal(read_volume(series).hu, [abdomen()] * 3)


def fill(value):
    return lambda dataset, _: setattr(dataset, "PixelData", np.full((96, 96), 1024 + value, "<i2").tobytes())


def test_two_patients_under_one_series_uid_share_nothing(write_series, tmp_path):
    """An anonymised copy beside the original, or UIDs that an anonymiser gave twice."""
    for value, patient in enumerate(("A", "B")):
        write_series(patient, study="1.2", series="1.3", folder=patient, change=fill(value))
    series, rejected = find_series(tmp_path / "dicom")
    assert rejected.empty
    assert [(item.patient, np.unique(read_volume(item).hu).tolist()) for item in series] == [("A", [0]), ("B", [1])]
    assert len({item.uid for item in series}) == 2 and {item.instance_uid for item in series} == {"1.3"}
    assert all(item.shares_uid for item in series)


def test_a_time_for_each_slice_and_one_sent_again_are_one_series(write_series, tmp_path):
    def change(dataset, number):
        dataset.AcquisitionTime = f"1200{number:02d}"

    write_series(z=(*range(0, 100, 5), 45), change=change)
    (series,), rejected = find_series(tmp_path / "dicom")
    assert series.z_mm.tolist() == list(range(0, 100, 5))
    assert rejected["reason"].tolist() == ["a second slice at the same position, z = 45.0 mm"]


def test_rotations_of_two_times_are_two_series_and_not_twenty(write_series, tmp_path):
    """A dynamic scan in steps: four slices of each rotation share a time, the range is scanned twice."""

    def change(dataset, number):
        dataset.AcquisitionTime = f"12{number // 4:02d}00"
        dataset.PixelData = np.full((96, 96), 1024 + number // 20, "<i2").tobytes()

    z = [5 * n for n in range(20)]
    write_series(z=(*z, *z), change=change)
    series, rejected = find_series(tmp_path / "dicom")
    assert rejected.empty
    assert [np.unique(read_volume(item).hu).tolist() for item in series] == [[0], [1]]
    assert [len(item.slices) for item in series] == [20, 20]


def test_three_acquisitions_that_overlap_at_their_ends_stay_apart(write_series, tmp_path):
    def change(dataset, number):
        dataset.AcquisitionNumber = 1 + number // 20

    write_series(z=(*range(20), *range(18, 38), *range(36, 56)), change=change, hu=np.zeros((8, 8), np.int16))
    series, rejected = find_series(tmp_path / "dicom")
    assert rejected.empty
    assert sorted(item.z_mm.tolist() for item in series) == [[*range(20)], [*range(18, 38)], [*range(36, 56)]]


def test_signed_pixels_that_were_stored_with_an_offset_nobody_wrote_down(write_series, tmp_path):
    write_series(z=(0,), change=lambda dataset, _: delattr(dataset, "RescaleIntercept"))
    (series,), _ = find_series(tmp_path / "dicom")
    with pytest.raises(DicomError, match="no RescaleIntercept, and pixels unlike air"):
        read_volume(series)


def test_what_a_folder_holds_is_read_or_named(write_series, tmp_path, monkeypatch):
    """Links, hidden files, DICOM with the suffix of a table, pipes, a loop, a folder that is closed."""
    uids = {write_series(name, folder=name) for name in ("plain", "linked")}
    folder = tmp_path / "dicom"
    (folder / "linked").rename(tmp_path / "elsewhere")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    closed = folder / "closed"
    closed.mkdir()
    dicom = next((folder / "plain").iterdir()).read_bytes()
    (folder / "labels.csv").write_text("series_uid,phase\n")
    (folder / ".DS_Store").write_text("nothing")
    (folder / ".hidden.dcm").write_bytes(dicom)
    uids.add(write_series("table", z=(0,), folder="table", change=lambda dataset, _: "export.CSV"))
    scandir = os.scandir

    def guarded(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    series, rejected = find_series(folder)
    assert {item.uid for item in series} == uids
    found = {Path(path).name: reason for path, reason in zip(rejected["path"], rejected["reason"], strict=True)}
    assert found == {
        ".hidden.dcm": "hidden: a name on its path starts with a dot",
        "link": "a folder that is read already under another name",
        "loop": "a folder that is read already under another name",
        "broken": "link or file cannot be followed: No such file or directory",
        "pipe": "a pipe or a device, not a file",
        "closed": "folder cannot be entered: Permission denied",
    }


def test_a_deflated_file_that_inflates_to_gigabytes_is_refused(tmp_path):
    dataset = ct_dataset(abdomen(), 0, patient="P", study="1.2", series="1.3", number=1)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "bomb.dcm"
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    start = 144 + struct.unpack("<L", content[140:144])[0]
    header = zlib.decompressobj(-15).decompress(content[start:])
    header = header[: header.index(b"\xe0\x7f\x10\x00")]
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = deflate.compress(header + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<L", 2 << 30))
    zeros = bytes(1 << 24)
    bomb += b"".join(deflate.compress(zeros) for _ in range(128)) + deflate.flush()  # 2 GiB in 2 MiB
    path.write_bytes(content[:start] + bomb)
    tracemalloc.start()
    series, rejected = find_series(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not series and rejected["reason"].tolist() == ["deflated: more than 256 MiB when inflated"]
    assert peak < 50e6


def damage(path, start, replacement):
    content = path.read_bytes()
    path.write_bytes(content[:start] + replacement + content[start + len(replacement) :])


@pytest.mark.parametrize("name", ["RLE", "JPEG 2000"])
def test_one_damaged_codestream_costs_one_slice(write_series, tmp_path, name):
    uid = write_series(change=lambda d, i: d.compress(RLELossless if name == "RLE" else JPEG2000Lossless))
    path = sorted((tmp_path / "dicom" / "P1" / uid).iterdir())[1]
    content = path.read_bytes()
    if name == "RLE":  # the header of the segments: their number, then where they begin
        start = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00") + 20) + 8
        damage(path, start + 4, b"\xff\xff\xff\x7f")
    else:
        damage(path, content.index(b"\xff\x4f\xff\x51"), bytes(200))
    (series,), _ = find_series(tmp_path / "dicom")
    reader = SliceReader()
    with pytest.raises(DicomError, match=f"{path.name}: pixels cannot be decoded"):
        reader.read(series.slices[1])
    for good in (0, 2):
        np.testing.assert_array_equal(reader.read(series.slices[good]), abdomen())


def kill_itself(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_long(*_):
    time.sleep(30)


@pytest.mark.parametrize("happens, says", [(kill_itself, "crashed"), (sleep_long, "took too long")])
def test_a_decoder_that_crashes_or_hangs_is_replaced(tmp_path, write_series, monkeypatch, happens, says):
    """The codec is replaced by a crash in the child, which inherits it through a fork of this process."""
    import multiprocessing

    from lib.dicom import decoder as module

    uid = write_series(z=(0,), change=lambda d, i: d.compress(RLELossless))
    path = str(next((tmp_path / "dicom" / "P1" / uid).iterdir()))
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(fork.__class__, "set_forkserver_preload", lambda *_: None, raising=False)
    monkeypatch.setattr(module.multiprocessing, "get_context", lambda _: fork)
    plain = module.OpenFile.frame
    monkeypatch.setattr(module.OpenFile, "frame", happens)
    decoder = Decoder(seconds=0.5 if happens is sleep_long else 60)
    with pytest.raises(DicomError, match=says):
        decoder.frame(path, None)
    monkeypatch.setattr(module.OpenFile, "frame", plain)
    monkeypatch.setattr(decoder, "_seconds", 60)  # on a busy machine a new child takes its time
    np.testing.assert_array_equal(decoder.frame(path, None), abdomen() + 1024)
    decoder.close()


def test_a_codestream_that_claims_a_size_of_its_own_takes_no_gigabytes(write_series, tmp_path):
    uid = write_series(z=(0,), change=lambda d, i: d.compress(JPEG2000Lossless))
    path = next((tmp_path / "dicom" / "P1" / uid).iterdir())
    start = path.read_bytes().index(b"\xff\x4f\xff\x51")
    damage(path, start + 8, struct.pack(">LL", 60000, 60000))
    damage(path, start + 24, struct.pack(">LL", 60000, 60000))
    (series,), _ = find_series(tmp_path / "dicom")
    with pytest.raises(DicomError, match="pixels cannot be decoded"):
        read_volume(series)


def test_names_that_are_no_utf8(write_series, tmp_path):
    uid = write_series(folder="plain")
    folder = os.fsencode(tmp_path / "dicom") + b"/M\xfcller"
    os.rename(tmp_path / "dicom" / "plain", folder)
    with open(folder + b"/\xfc.txt", "w") as file:
        file.write("no DICOM")
    tree = read_tree(tmp_path / "dicom")
    assert [item.uid for item in tree.series] == [uid]
    np.testing.assert_array_equal(read_volume(tree.series[0]).hu, [abdomen()] * 3)
    assert tree.rejected["reason"].tolist() == ["not a DICOM file"]


def test_a_reason_never_repeats_the_header(write_series, tmp_path):
    """A wrong length makes the modality swallow what follows it: names and dates."""
    secret = "DOE^JANE"
    uid = write_series(z=(0,), change=lambda d, i: setattr(d, "PatientName", secret))
    path = next((tmp_path / "dicom" / "P1" / uid).iterdir())
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x60\x00CS") + 6
    path.write_bytes(content[:start] + struct.pack("<H", 300) + content[start + 2 :])
    assert secret in str(dcmread(path, force=True).get("Modality"))
    other = write_series("P2", z=(0,))
    path = next((tmp_path / "dicom" / "P2" / other).iterdir())
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2." + b"7" * 15 + b"\0"))
    _, rejected = find_series(tmp_path / "dicom")
    reasons = " ".join(rejected["reason"])
    assert len(rejected) == 2 and secret not in reasons and "7" * 9 not in reasons and "P2" not in reasons


def test_uids_of_one_patient_in_two_studies(write_series, tmp_path):
    series = generate_uid()
    for value in (0, 1):
        write_series("A", study=f"1.2.{value}", series=series, folder=f"s{value}", change=fill(value))
    found, _ = find_series(tmp_path / "dicom")
    assert [np.unique(read_volume(item).hu).tolist() for item in found] == [[0], [1]]

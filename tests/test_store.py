"""Nothing is lost and nothing stale stays: damage, crashes, a full disk, two runs at once, results of a former run."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import zarr
from conftest import KIDNEY_HU, abdomen
from pydicom.uid import JPEG2000Lossless

from lib.cohort import Cohort
from lib.files import ROOT
from lib.labels import hashed_id
from lib.preparation import prepare_cohort
from lib.private import only_one
from lib.verify import verify_cohort

KEY = "a key for tests"


def prepare(tmp_path, **kwargs):
    return prepare_cohort(
        tmp_path / "dicom", tmp_path / "cohort", **{"key": KEY, "split": "apply", "processes": 1} | kwargs
    )


def contents(folder):
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fill(value):
    return lambda dataset, _: setattr(dataset, "PixelData", (abdomen() + 1024 + value).astype("<i2").tobytes())


def test_two_patients_under_one_series_uid_are_two_series(write_series, tmp_path):
    for value, patient in enumerate(("A", "B")):
        write_series(patient, study="1.2", series="1.3", folder=patient, change=fill(value), z=(0,))
    cohort = prepare(tmp_path)
    assert cohort.slices["series"].nunique() == cohort.slices["patient"].nunique() == 2
    kidney = {patient: KIDNEY_HU + value for value, patient in enumerate(("A", "B"))}
    for patient, hu in kidney.items():
        rows = cohort.slices[cohort.slices["patient"] == hashed_id(KEY, "patient", patient)]
        assert np.nanmax(cohort.read_hu(rows)) == hu


def test_labels_cannot_mean_a_uid_that_two_patients_share(write_series, tmp_path):
    for patient in ("A", "B"):
        write_series(patient, study="1.2", series="1.3", folder=patient)
    (tmp_path / "dicom" / "labels.csv").write_text("series_uid,phase\n1.3,neph\n")
    with pytest.raises(ValueError, match="several patients or studies have this SeriesInstanceUID"):
        prepare(tmp_path)


def test_a_segmentation_of_another_patient_is_not_taken(write_series, write_segmentation, tmp_path):
    """A careless anonymiser gave two patients the same study, series and frame of reference."""
    z = (-5, 0, 5)
    kidney = np.stack([abdomen() == KIDNEY_HU] * 3)
    kidney[0] = False
    for patient in ("A", "B"):
        write_series(patient, study="1.2", series="1.3", folder=patient, z=z)
    write_segmentation(tmp_path / "dicom" / "A", kidney, ["kidney"])
    prepare(tmp_path)
    series = pd.read_csv(tmp_path / "cohort" / "series.csv").set_index("patient")
    source = {patient: series.loc[hashed_id(KEY, "patient", patient), "extent_source"] for patient in ("A", "B")}
    assert source == {"A": "seg", "B": "none"}


def test_the_extent_comes_from_the_same_frame_of_reference_first(write_series, write_segmentation, tmp_path):
    """A series is found in the kidneys' extent of another study that shares its coordinates, and says so where not."""
    z = (-5, 0, 5, 10)

    def frame(name):
        return lambda dataset, _: setattr(dataset, "FrameOfReferenceUID", name)

    marked = write_series("A", study="1.2", z=z, change=frame("9.9"))
    near = write_series("A", study="1.3", z=z, change=frame("9.9"))
    moved = write_series("A", study="1.2", z=z, change=frame("9.8"))
    far = write_series("A", study="1.4", z=z, change=frame("9.7"))
    kidney = np.stack([abdomen() == KIDNEY_HU] * 4)
    kidney[[0, 3]] = False
    write_segmentation(tmp_path / "dicom" / "A" / marked, kidney, ["kidney"])
    prepare(tmp_path)
    series = pd.read_csv(tmp_path / "cohort" / "series.csv").set_index("series")
    found = {name: series.loc[hashed_id(KEY, "series", name)] for name in (marked, near, moved, far)}
    assert [item["slices"] for item in found.values()] == [2, 2, 2, 4]
    assert found[moved]["notes"] == "kidney extent from another frame of reference of the study"
    assert pd.isna(found[near]["notes"]) and found[far]["extent_source"] == "none"


@pytest.mark.parametrize("damage", ["no metadata", "cut metadata", "no chunk", "cut chunk", "cut group", "cut cohort"])
def test_a_damaged_store_is_made_anew(write_series, tmp_path, damage):
    uid = hashed_id(KEY, "series", write_series("A"))
    write_series("B")
    prepare(tmp_path)
    healthy = contents(tmp_path / "cohort")
    array = tmp_path / "cohort" / "slices.zarr" / uid
    target = {
        "no metadata": array / "zarr.json",
        "cut metadata": array / "zarr.json",
        "no chunk": array / "c" / "1" / "0" / "0",
        "cut chunk": array / "c" / "1" / "0" / "0",
        "cut group": tmp_path / "cohort" / "slices.zarr" / "zarr.json",
        "cut cohort": tmp_path / "cohort" / "cohort.json",
    }[damage]
    content = target.read_bytes()
    target.unlink()
    if damage.startswith("cut"):
        target.write_bytes(content[: len(content) // 2])
    prepare(tmp_path)
    assert contents(tmp_path / "cohort") == healthy


def test_verify_names_a_flipped_bit(write_series, tmp_path):
    uid = hashed_id(KEY, "series", write_series("A"))
    write_series("B")
    prepare(tmp_path)
    assert verify_cohort(tmp_path / "cohort") == {}
    chunk = tmp_path / "cohort" / "slices.zarr" / uid / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    assert verify_cohort(tmp_path / "cohort") == {uid: "slices differ from their checksum"}
    command = [sys.executable, "-m", "lib.verify", str(tmp_path / "cohort")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 1 and uid in told.stdout


def test_a_failed_run_leaves_no_table_of_a_former_one(write_series, tmp_path):
    write_series("A")
    prepare(tmp_path)
    shutil.rmtree(tmp_path / "dicom" / "A")
    (tmp_path / "dicom" / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match="no usable series"):
        prepare(tmp_path)
    assert {path.name for path in (tmp_path / "cohort").iterdir() if path.is_file()} == {"rejected.csv"}
    with pytest.raises(FileNotFoundError):
        Cohort.open(tmp_path / "cohort")


def test_two_runs_at_once(write_series, tmp_path):
    write_series("A")
    with (
        only_one(tmp_path / "cohort", "a preparation writes to"),
        pytest.raises(RuntimeError, match=r"writes to .*cohort"),
    ):
        prepare(tmp_path)
    assert len(prepare(tmp_path).slices) == 3


@pytest.mark.parametrize(
    "code, says", [(errno.ENOSPC, "No space left on device): make room there"), (errno.EROFS, "make it writable")]
)
def test_a_disk_that_is_full_or_read_only_says_so_and_loses_nothing(write_series, tmp_path, monkeypatch, code, says):
    for patient in ("A", "B", "C"):
        write_series(patient)
    create, calls = zarr.create_array, []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) > 1:
            raise OSError(code, os.strerror(code))
        return create(*args, **kwargs)

    monkeypatch.setattr("lib.store.zarr.create_array", full)
    with pytest.raises(OSError, match="cannot be written") as error:
        prepare(tmp_path)
    assert says in str(error.value)
    assert len([path for path in (tmp_path / "cohort" / "slices.zarr").iterdir() if path.is_dir()]) == 1
    monkeypatch.undo()
    prepare(tmp_path)
    straight = prepare_cohort(tmp_path / "dicom", tmp_path / "straight", key=KEY, split="apply", processes=1)
    assert len(straight.slices) == 9
    assert contents(tmp_path / "cohort") == contents(tmp_path / "straight")


def test_a_slice_that_cannot_be_decoded_is_left_out_and_named_in_private(write_series, tmp_path):
    uid = write_series("A", change=lambda d, i: d.compress(JPEG2000Lossless))
    path = sorted((tmp_path / "dicom" / "A" / uid).iterdir())[1]
    content = path.read_bytes()
    start = content.index(b"\xff\x4f\xff\x51")
    path.write_bytes(content[:start] + bytes(200) + content[start + 200 :])
    cohort = prepare(tmp_path, private=tmp_path / "private")
    assert cohort.slices["z_mm"].tolist() == [0, 10]
    rejected = pd.read_csv(tmp_path / "cohort" / "rejected.csv")
    assert rejected[["files", "reason"]].to_numpy().tolist() == [[1, "pixels cannot be decoded"]]
    notes = pd.read_csv(tmp_path / "cohort" / "series.csv")["notes"]
    assert notes.tolist() == ["1 slices cannot be decoded and are left out"]
    assert pd.read_csv(tmp_path / "private" / "rejected_files.csv")["path"].tolist() == [str(path)]
    files = pd.read_csv(tmp_path / "private" / "source_files.csv")
    assert [os.path.basename(name) for name in files["file"]] == [f"{uid}-000.dcm", f"{uid}-002.dcm"]


def test_new_studies_move_nobody(write_series, tmp_path):
    for number in range(12):
        write_series(f"P{number}", z=(0,))
    before = prepare(tmp_path).slices
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "cohort" / "slices.zarr").glob("*/zarr.json")}
    for number in range(6, 20):
        write_series(f"P{number}", z=(0,))
    after = prepare(tmp_path).slices
    assert len(after) == 26
    kept = after[after["series"].isin(before["series"])].reset_index(drop=True)
    columns = ["patient", "series", "slice", "z_mm", "split"]
    pd.testing.assert_frame_equal(kept[columns], before[columns])
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_names_that_are_no_utf8_reach_the_private_tables_as_escapes(write_series, tmp_path):
    write_series(folder="plain")
    os.rename(tmp_path / "dicom" / "plain", os.fsencode(tmp_path / "dicom") + b"/M\xfcller")
    (tmp_path / "dicom" / os.fsdecode(b"\xfc.txt")).write_text("no DICOM")
    prepare(tmp_path, private=tmp_path / "private", processes=2)
    assert "M\\xfcller" in pd.read_csv(tmp_path / "private" / "sources.csv")["folder"][0]
    assert "\\xfc.txt" in pd.read_csv(tmp_path / "private" / "rejected_files.csv")["path"][0]


PREPARE = """
import sys
from lib.preparation import prepare_cohort
if __name__ == "__main__":
    prepare_cohort(sys.argv[1], sys.argv[2], key=sys.argv[3], split="apply", processes=2, private=sys.argv[4])
"""


def kill_and_finish(tmp_path, kills, seed):
    """Kill preparations at random moments, then finish; return what a straight run would have written, and this."""
    (tmp_path / "prepare.py").write_text(PREPARE)
    rng, killed = np.random.default_rng(seed), 0
    command = [sys.executable, str(tmp_path / "prepare.py"), str(tmp_path / "dicom"), str(tmp_path / "cohort"), KEY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    straight = [*command[:3], str(tmp_path / "straight"), KEY, str(tmp_path / "straight_private")]
    subprocess.run(straight, env=environment, check=True, capture_output=True)
    seconds = time.monotonic() - start
    for _ in range(kills):
        with open(os.devnull, "w") as null:
            process = subprocess.Popen([*command, str(tmp_path / "private")], env=environment, stderr=null)
        try:
            process.wait(timeout=rng.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            killed += 1
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while (
        done := subprocess.run([*command, str(tmp_path / "private")], env=environment, capture_output=True)
    ).returncode:
        assert b"writes to" in done.stderr and time.monotonic() < deadline, (
            done.stderr
        )  # workers that end with their parent
        time.sleep(0.2)
    return contents(tmp_path / "straight"), contents(tmp_path / "cohort"), killed


def check_kills(write_series, tmp_path, kills, seed):
    for number in range(24):
        write_series(f"P{number}", size=64, pixel_mm=6.0, z=tuple(range(5)))
    straight, finished, killed = kill_and_finish(tmp_path, kills, seed)
    assert killed >= kills / 2
    assert json.loads(finished["cohort.json"])["slices"] == 120
    assert finished == straight
    assert contents(tmp_path / "private") == contents(tmp_path / "straight_private")


def test_killed_at_random_moments_and_finished_byte_by_byte(write_series, tmp_path):
    check_kills(write_series, tmp_path, 3, 1)


@pytest.mark.slow
def test_killed_fifty_times(write_series, tmp_path):
    check_kills(write_series, tmp_path, 50, 2)

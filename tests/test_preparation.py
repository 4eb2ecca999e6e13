"""Preparation of cohorts from synthetic and real DICOM."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from copy import deepcopy

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
import zarr
from conftest import BODY_HU, GAS_HU, KIDNEY_HU, REAL_CT, abdomen
from pydicom import DataElement, dcmread
from pydicom.data import get_testdata_file

from lib.dicom.headers import Segmentation
from lib.dicom.segmentation import tissue_codes
from lib.files import ROOT
from lib.labels import hashed_id, read_labels, split_of
from lib.paper import PHASES
from lib.preparation import check_splits, prepare_cohort
from lib.run_notebook import run_notebook

KEY = "a key for tests"
PATIENTS = {name: [] for name in ("train", "val", "test")}
for number in range(40):
    PATIENTS[split_of(f"P{number}", KEY)].append(f"P{number}")


def write_labels(folder, rows, header="series_uid,phase,kidney_bottom_mm,kidney_top_mm"):
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def write_cohort(write_series, tmp_path, z=(0, 5, 10)):
    """Two training patients with every phase, one validation and one test patient."""
    rows = []
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for patient in PATIENTS[split][:count]:
            for phase in PHASES:
                rows.append(f"{write_series(patient, z=z)},{phase},0,10")
    return write_labels(tmp_path / "dicom", rows)


def test_prepare_cohort(write_series, tmp_path):
    write_cohort(write_series, tmp_path, z=(-5, 0, 5, 10, 15))
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, private=tmp_path / "private", processes=1)
    slices = cohort.slices
    assert len(slices) == 20 * 3
    assert slices.groupby("series")["z_mm"].apply(list).map(tuple).unique().tolist() == [(0.0, 5.0, 10.0)]
    assert slices.groupby("series")["kidney_position"].apply(list).map(tuple).unique().tolist() == [(0.0, 0.5, 1.0)]
    assert set(slices.loc[slices["patient"] == hashed_id(KEY, "patient", PATIENTS["val"][0]), "split"]) == {"val"}
    assert slices.groupby("split")["patient"].nunique().to_dict() == {"train": 2, "val": 1, "test": 1}
    hu = cohort.read_hu(slices.iloc[:2])
    expected = abdomen().astype(float)
    inside = ~np.isnan(hu[0])
    assert set(np.unique(hu[0][inside])) == {BODY_HU, KIDNEY_HU, GAS_HU}  # the table is gone, the gas has stayed
    assert inside.sum() == np.isin(expected, [BODY_HU, KIDNEY_HU, GAS_HU]).sum()
    assert set(cohort.facts) >= {"split", "key_id", "patients", "series", "slices"}
    assert stat.S_IMODE(os.stat(tmp_path / "private").st_mode) == 0o700
    sources = pd.read_csv(tmp_path / "private" / "sources.csv")
    assert set(sources["series"]) == set(slices["series"])
    assert set(sources["patient_id"]) == {*PATIENTS["train"][:2], PATIENTS["val"][0], PATIENTS["test"][0]}


def test_two_processes_write_the_same(write_series, tmp_path):
    write_cohort(write_series, tmp_path)
    one = prepare_cohort(tmp_path / "dicom", tmp_path / "one", key=KEY, processes=1)
    two = prepare_cohort(tmp_path / "dicom", tmp_path / "two", key=KEY, processes=2)
    pd.testing.assert_frame_equal(one.slices, two.slices)
    np.testing.assert_array_equal(one.read_hu(one.slices), two.read_hu(two.slices))
    for name in ("series.csv", "rejected.csv", "cohort.json", "slices.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_kidney_extent_and_tissues_from_segmentations(write_series, write_segmentation, tmp_path):
    z = (-5, 0, 5, 10, 15)
    uid = write_series("P1", study="1.2.3", z=z)
    other = write_series("P1", study="1.2.3", z=z)
    alone = write_series("P1", study="1.2.4", z=z)
    folder = tmp_path / "dicom" / "P1" / uid
    kidney = np.stack([abdomen() == KIDNEY_HU] * 5)
    kidney[[0, 4]] = False
    write_segmentation(folder, kidney, ["Left and right kidney"])
    body = np.stack([abdomen()] * 5)
    codes = np.select([body == KIDNEY_HU, body == GAS_HU, body == BODY_HU], [1, 2, 3], 0)
    write_segmentation(folder, codes, ["renal cortex", "gas", "muscle"])
    labels = write_labels(tmp_path / "dicom", [f"{u},neph" for u in (uid, other, alone)], "series_uid,phase")
    with pytest.raises(ValueError, match=r"the (train|val|test) split is empty: 1 patients"):
        prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, labels=labels, processes=1)
    rejected = pd.read_csv(tmp_path / "cohort" / "rejected.csv")
    assert rejected["reason"].str.contains("kidney extent unknown").tolist() == [True]
    assert rejected["series"].tolist() == [hashed_id(KEY, "series", alone)]
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "apply", key=KEY, split="apply", processes=1)
    series = pd.read_csv(tmp_path / "apply" / "series.csv").set_index("series")
    first, second, third = (series.loc[hashed_id(KEY, "series", u)] for u in (uid, other, alone))
    assert (first["extent_source"], first["slices"], first["kidney_bottom_mm"], first["kidney_top_mm"]) == (
        "seg",
        3,
        0,
        10,
    )
    assert (second["extent_source"], second["slices"], third["extent_source"], third["slices"]) == ("seg", 3, "none", 5)
    assert cohort.tissues == {"renal cortex": 1, "gas": 2, "muscle": 3}
    rows = cohort.slices[cohort.slices["series"] == hashed_id(KEY, "series", uid)]
    np.testing.assert_array_equal(cohort.read_tissues(rows), codes[1:4])
    with pytest.raises(FileNotFoundError, match="no tissue truth"):
        cohort.read_tissues(cohort.slices[cohort.slices["series"] == hashed_id(KEY, "series", other)])


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segmentation_kinds_agree(write_series, write_segmentation, tmp_path, kind):
    uid = write_series("P1")
    masks = np.stack([abdomen() == KIDNEY_HU, abdomen() == KIDNEY_HU, np.zeros((96, 96), bool)])
    write_segmentation(
        tmp_path / "dicom" / "P1" / uid,
        np.where(masks, 1, np.stack([abdomen() == GAS_HU] * 3) * 2),
        ["kidney", "gas"],
        kind,
    )
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert cohort.slices["z_mm"].tolist() == [0, 5]
    assert cohort.tissues == {"kidney": 1, "gas": 2}
    np.testing.assert_array_equal(cohort.read_tissues(cohort.slices) == cohort.tissues["kidney"], masks[:2])


def test_prepared_series_are_kept_and_changed_ones_redone(write_series, tmp_path):
    write_cohort(write_series, tmp_path)
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, processes=1)
    stored = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cohort" / "slices.zarr").iterdir() if p.is_dir()}
    changed = next((tmp_path / "dicom" / PATIENTS["train"][0]).glob("*/*.dcm"))
    os.utime(changed, ns=(1, 1))
    again = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, processes=1)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cohort" / "slices.zarr").iterdir() if p.is_dir()}
    assert [n for n in stored if stored[n] != after[n]] == [hashed_id(KEY, "series", changed.parent.name)]
    pd.testing.assert_frame_equal(cohort.slices, again.slices)
    with pytest.raises(ValueError, match="prepared with another key"):
        prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key="another", processes=1)


def edit_segmentation(path, change):
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)


def cut(dataset):
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]


def without_positions(dataset):
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def test_a_good_ct_is_not_lost_to_a_bad_segmentation(write_series, write_segmentation, tmp_path):
    z = (-5, 0, 5, 10, 15)
    kidney = np.stack([abdomen() == KIDNEY_HU] * 5)
    kidney[[0, 4]] = False
    rows, ids = [], {}
    for name, patient, change in (("both", "P1", cut), ("cut", "P2", cut), ("placeless", "P3", without_positions)):
        uid = write_series(patient, study=f"1.2.{patient[1:]}", z=z)
        edit_segmentation(write_segmentation(tmp_path / "dicom" / patient / uid, kidney, ["left kidney"]), change)
        ids[name] = hashed_id(KEY, "series", uid)
        rows.append(f"{uid},neph")
        if name == "both":  # the kidneys are also in a good segmentation of a series of the same study
            other = write_series(patient, study="1.2.1", z=z)
            write_segmentation(tmp_path / "dicom" / patient / other, kidney, ["right kidney"])
    write_labels(tmp_path / "dicom", rows, "series_uid,phase")
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "apply", key=KEY, split="apply", processes=1)
    assert pd.read_csv(tmp_path / "apply" / "rejected.csv").empty
    series = pd.read_csv(tmp_path / "apply" / "series.csv").set_index("series")
    found = series.loc[list(ids.values()), ["extent_source", "slices", "notes"]].to_numpy().tolist()
    unread = "kidney segmentation not read: "
    assert found[0][:2] == ["seg", 3] and found[0][2].startswith(unread + "damaged (")
    assert found[1][:2] == ["none", 5] and found[1][2].startswith(unread + "damaged (")
    assert found[2] == ["none", 5, unread + "frames without position"]
    assert "dicom" not in " ".join(series["notes"].dropna())  # no paths
    assert cohort.read_hu(cohort.slices).shape == (3 + 3 + 5 + 5, 96, 96)
    with pytest.raises(ValueError, match="split is empty: 1 patients"):
        prepare_cohort(tmp_path / "dicom", tmp_path / "train", key=KEY, private=tmp_path / "private", processes=1)
    rejected = pd.read_csv(tmp_path / "train" / "rejected.csv").set_index("series")["reason"]
    assert rejected[ids["cut"]].startswith("kidney extent unknown: DICOM SEG not read: damaged (")
    assert rejected[ids["placeless"]] == "kidney extent unknown: DICOM SEG not read: frames without position"
    assert ids["both"] not in rejected.index
    private = pd.read_csv(tmp_path / "private" / "rejected_files.csv")["reason"]
    assert private.str.contains("seg-left kidney-BINARY.dcm: segmentation cannot be read").sum() == 2


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segment_numbers_of_16_bits(write_series, write_segmentation, tmp_path, kind):
    def renumber(dataset):
        dataset.SegmentSequence[-1].SegmentNumber = 300
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            if "SegmentIdentificationSequence" in frame:
                item = frame.SegmentIdentificationSequence[0]
                item.ReferencedSegmentNumber = {2: 300}.get(item.ReferencedSegmentNumber, item.ReferencedSegmentNumber)
        if kind == "LABELMAP":
            pixels = dataset.pixel_array.astype("<u2")
            pixels[pixels == 2] = 300
            pixels[0, 0, 0] = 65535  # no segment's number
            dataset.BitsAllocated = dataset.BitsStored = 16
            dataset.HighBit, dataset.PixelData = 15, pixels.tobytes()

    uid = write_series("P1")
    masks = np.stack([(abdomen() == KIDNEY_HU) + 2 * (abdomen() == GAS_HU)] * 3)
    edit_segmentation(write_segmentation(tmp_path / "dicom" / "P1" / uid, masks, ["kidney", "gas"], kind), renumber)
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert cohort.tissues == {"kidney": 1, "gas": 2}
    np.testing.assert_array_equal(cohort.read_tissues(cohort.slices), masks)


def test_where_codes_run_out_tissues_are_left_out(write_series, write_segmentation, tmp_path):
    def many(dataset):
        for number in range(3, 301):
            item = deepcopy(dataset.SegmentSequence[1])
            item.SegmentNumber, item.SegmentLabel = number, f"tissue {number}"
            dataset.SegmentSequence.append(item)
        gas = [frame.SegmentIdentificationSequence[0] for frame in dataset.PerFrameFunctionalGroupsSequence]
        for item in gas:
            if item.ReferencedSegmentNumber == 2:
                item.ReferencedSegmentNumber = 299

    uid = write_series("P1")
    masks = np.stack([(abdomen() == KIDNEY_HU) + 2 * (abdomen() == GAS_HU)] * 3)
    edit_segmentation(write_segmentation(tmp_path / "dicom" / "P1" / uid, masks, ["kidney", "gas"]), many)
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert sorted(cohort.tissues.values()) == list(range(1, 256)) and len(cohort.tissues) == 255
    notes = pd.read_csv(tmp_path / "cohort" / "series.csv")["notes"]
    assert notes.tolist() == ["45 tissues left out: the cohort's have no more than 255 codes"]
    np.testing.assert_array_equal(cohort.read_tissues(cohort.slices), masks == 1)


def test_names_keep_their_codes_while_they_are_there():
    def segmentation(segments):
        return Segmentation("", "", "", "", segments, {})

    first = tissue_codes([segmentation({1: "a", 300: "b"}), segmentation({1: "c"})])
    assert first == {"a": 1, "c": 2, "b": 3}
    assert tissue_codes([segmentation({1: "b", 2: "d"})], first) == {"b": 3, "d": 2}


def test_a_segment_number_that_cannot_be_is_a_reason(write_series, write_segmentation, tmp_path):
    uid = write_series("P1")
    path = write_segmentation(tmp_path / "dicom" / "P1" / uid, np.stack([abdomen() == KIDNEY_HU] * 3), ["kidney"])

    def change(dataset):
        dataset.SegmentSequence[0]["SegmentNumber"] = DataElement("SegmentNumber", "UL", 70000)

    edit_segmentation(path, change)
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert len(cohort.slices) == 3
    rejected = pd.read_csv(tmp_path / "cohort" / "rejected.csv")
    assert rejected["reason"].tolist() == ["a segmentation with segment number 70000, expected 1 to 65535"]


def test_series_of_an_earlier_run_do_not_stay(write_series, write_segmentation, tmp_path):
    def prepare():
        return prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)

    def stored(group):
        return {path.name for path in (tmp_path / "cohort" / group).glob("*") if path.is_dir()}

    ids = {}
    for patient in ("P1", "P2", "P3"):
        uid = write_series(patient, z=(0, 5))
        ids[patient] = hashed_id(KEY, "series", uid)
        if patient != "P3":
            masks = np.stack([(abdomen() == KIDNEY_HU) + 2 * (abdomen() == GAS_HU)] * 2)
            write_segmentation(tmp_path / "dicom" / patient / uid, masks, ["kidney", "gas"], "LABELMAP")
    prepare()
    assert stored("slices.zarr") == set(ids.values()) and stored("tissues.zarr") == {ids["P1"], ids["P2"]}
    shutil.rmtree(tmp_path / "dicom" / "P1")
    cohort = prepare()
    assert stored("slices.zarr") == {ids["P2"], ids["P3"]} == set(cohort.slices["series"])
    assert stored("tissues.zarr") == {ids["P2"]} and cohort.tissues == {"kidney": 1, "gas": 2}
    shutil.rmtree(tmp_path / "dicom" / "P2")
    assert prepare().tissues == {}
    assert stored("slices.zarr") == {ids["P3"]} and not (tmp_path / "cohort" / "tissues.zarr").exists()
    shutil.rmtree(tmp_path / "dicom" / "P3")
    with pytest.raises(ValueError, match="no usable series"):
        prepare()
    assert not stored("slices.zarr") and not (tmp_path / "cohort" / "cohort.json").exists()


def test_labels_errors_name_line_and_allowed_values(tmp_path):
    known = {"1.2", "1.3"}
    cases = {
        "1.2,arterial,,": r"line 3: unknown phase 'arterial'; allowed are noncon, cm, cm-neph, neph, pyelo",
        ",cm,,": r"line 3: series '' is not in the DICOM folder",
        "1.9,cm,,": r"line 3: series '1.9' is not in the DICOM folder, which holds 2",
        "1.3,cm,,": r"line 3: series '1.3' stands in line 2 already",
        "1.2,cm,5,": r"line 3: kidney_bottom_mm and kidney_top_mm come together",
        "1.2,cm,5,4": r"line 3: kidney_bottom_mm 5 and kidney_top_mm 4: expected bottom <= top",
        "1.2,cm,low,4": r"line 3: kidney_bottom_mm is 'low'; expected a number",
    }
    for row, message in cases.items():
        with pytest.raises(ValueError, match=message):
            read_labels(write_labels(tmp_path, ["1.3,neph,0,1", row]), known)
    with pytest.raises(ValueError, match="no column series_uid; it has uid, phase"):
        read_labels(write_labels(tmp_path, ["1,cm"], "uid,phase"), known)
    with pytest.raises(FileNotFoundError, match=r"labels\.csv is missing"):
        read_labels(tmp_path / "none" / "labels.csv", known)


def test_no_usable_series_lists_the_reasons(write_series, tmp_path):
    write_series("P1", change=lambda d, i: setattr(d, "Modality", "MR"))
    (tmp_path / "dicom" / "notes.txt").write_text("hello")
    with pytest.raises(
        ValueError, match=r"no usable series in .*: 3 files: modality MR, not CT; 1 files: not a DICOM file"
    ):
        prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        prepare_cohort(tmp_path / "nowhere", tmp_path / "cohort", key=KEY, split="apply")
    with pytest.raises(ValueError, match="split='none': expected"):
        prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="none")
    with pytest.raises(ValueError, match="key is empty"):
        prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key="")


def test_check_splits():
    table = pd.DataFrame({"patient": list("aabc"), "split": ["train", "train", "val", "test"], "phase": "cm"})
    with pytest.raises(
        ValueError, match=r"train split has no series of phase noncon, cm-neph, neph, pyelo \(1 patients\)"
    ):
        check_splits(table)
    with pytest.raises(ValueError, match="the test split is empty: 2 patients"):
        check_splits(table[table["split"] != "test"])


def test_split_is_64_16_20_and_stays():
    splits = pd.Series([split_of(f"patient {n}", KEY) for n in range(20000)]).value_counts(normalize=True)
    # Three standard deviations of a share of 20000 are at most .0102.
    assert splits["train"] == pytest.approx(0.64, abs=0.0102)
    assert splits["val"] == pytest.approx(0.16, abs=0.0078)
    assert splits["test"] == pytest.approx(0.20, abs=0.0085)
    assert [split_of(p, "k") for p in "abcdefgh"] == [split_of(p, "k") for p in "abcdefgh"]
    assert [split_of(f"{n}", "k") for n in range(99)] != [split_of(f"{n}", "l") for n in range(99)]


def test_reconstructions_are_counted_within_patient_and_phase(write_series, tmp_path):
    for _ in range(3):
        write_series("P1", z=(0,))
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert cohort.slices["reconstruction"].tolist() == [1, 2, 3]
    assert cohort.slices["series"].is_monotonic_increasing


@pytest.mark.skipif(not REAL_CT.exists(), reason=f"{REAL_CT} is absent: four real CT slices")
def test_real_ct_in_apply_mode(tmp_path):
    cohort = prepare_cohort(REAL_CT, tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert len(cohort.slices) == 4
    hu = cohort.read_hu(cohort.slices)
    inside = ~np.isnan(hu)
    share = inside.mean(axis=(1, 2))
    assert ((share > 0.25) & (share < 0.65)).all()
    for image, body in zip(hu, inside, strict=True):
        assert 40 < np.median(image[body & (image > 0)]) < 120  # soft tissue
        rows = np.flatnonzero(body.any(axis=1))
        bone = np.nan_to_num(image[rows[0] : rows[-1]], nan=-1000) > 200
        assert np.flatnonzero(bone.any(axis=1)).mean() > len(bone) / 2  # the spine lies behind


def test_ct_small_of_pydicom(tmp_path):
    (tmp_path / "dicom").mkdir()
    source = get_testdata_file("CT_small.dcm", download=False)
    (tmp_path / "dicom" / "CT_small.dcm").symlink_to(source)
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert len(cohort.slices) == 1
    assert cohort.slices["phase"].isna().all()
    assert cohort.slices["kidney_position"].isna().all()
    assert cohort.read_hu(cohort.slices).shape == (1, 128, 128)
    assert json.loads((tmp_path / "cohort" / "cohort.json").read_text())["split"] == "apply"


PREPARE = """
import sys
from lib.preparation import prepare_cohort
if __name__ == "__main__":
    prepare_cohort(sys.argv[1], sys.argv[2], key=sys.argv[3], split="apply", processes=2)
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_preparation_goes_on_where_it_stopped(write_series, tmp_path, stop):
    for number in range(30):
        write_series(f"P{number}", size=256, pixel_mm=1.5, z=tuple(range(6)))
    (tmp_path / "prepare.py").write_text(PREPARE)
    command = [sys.executable, str(tmp_path / "prepare.py"), str(tmp_path / "dicom"), str(tmp_path / "cohort"), KEY]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, stderr=log
        )
    store = tmp_path / "cohort" / "slices.zarr"
    deadline = time.monotonic() + 60
    while len(list(store.glob("*/zarr.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(stop)
    assert process.wait(timeout=20) != 0
    for _ in range(100):  # the workers end with their parent
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers outlive their parent")
    assert not (tmp_path / "cohort" / "cohort.json").exists()
    stored = [path.parent for path in store.glob("*/zarr.json")]
    assert 3 <= len(stored) < 30
    for path in stored:
        array = zarr.open_array(path, mode="r")
        assert len(array.attrs["z_mm"]) == array.shape[0] == len(list(path.glob("c/*/0/0"))) == 6
    before = {path: path.stat().st_mtime_ns for path in stored}
    cohort = prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=KEY, split="apply", processes=1)
    assert {path: path.stat().st_mtime_ns for path in stored} == before
    straight = prepare_cohort(tmp_path / "dicom", tmp_path / "straight", key=KEY, split="apply", processes=1)
    pd.testing.assert_frame_equal(cohort.slices, straight.slices)
    np.testing.assert_array_equal(cohort.read_body(cohort.slices), straight.read_body(straight.slices))
    assert not list((tmp_path / "cohort").glob(".*"))


def test_the_notebook_draws_labelled_series_of_two_matrix_sizes(write_series, tmp_path):
    """01 shows slices of 96 x 96 and of 64 x 64 pixels side by side."""
    sizes = ({"size": 96, "pixel_mm": 4.0}, {"size": 64, "pixel_mm": 6.0})
    rows = []
    for patients in PATIENTS.values():
        for phase, size in zip(PHASES, sizes * 3, strict=False):
            rows.append(f"{write_series(patients[0], **size)},{phase},0,10")
    write_labels(tmp_path / "dicom", rows)
    places = {"dicom_folder": "dicom", "cohort": "cohort", "private": "private"}
    parameters = {name: str(tmp_path / folder) for name, folder in places.items()} | {"source": "dicom", "key": KEY}
    notebook = jupytext.read(ROOT / "notebooks" / "01_prepare_cohort.py")
    run_notebook(notebook, tmp_path / "01.ipynb", parameters | {"matrix": 96})
    stored = zarr.open_group(tmp_path / "cohort" / "slices.zarr", mode="r")
    assert {array.shape[1:] for _, array in stored.arrays()} == {(96, 96), (64, 64)}
    drawn = [cell for cell in nbformat.read(tmp_path / "01.ipynb", 4).cells if "imshow" in cell.source]
    assert [any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in drawn] == [True]

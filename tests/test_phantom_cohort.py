"""A phantom cohort as files: DICOM that reads back the same, ground truth, determinism, bad input."""

import numpy as np
import pandas as pd
import pydicom
import pytest

from lib.dicom import find_series, read_volume
from lib.files import ROOT
from lib.labels import split_of
from lib.paper import PHASES
from lib.phantom.cohort import plan_cohort, write_cohort, write_patient
from lib.phantom.study import slice_steps
from lib.phantom.tissues import KIDNEY_TISSUES, Tissue


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, [("A", 1, 3, "spread"), ("B", 5, 3, "middle")], processes=1, matrix=128)
    return folder


def read_series(folder, series_uid):
    datasets = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    images = [ds for ds in datasets if ds.Modality == "CT" and ds.SeriesInstanceUID == series_uid]
    segs = [
        ds for ds in datasets if ds.Modality == "SEG" and ds.ReferencedSeriesSequence[0].SeriesInstanceUID == series_uid
    ]
    return sorted(images, key=lambda ds: float(ds.ImagePositionPatient[2])), segs


def test_labels_name_every_series_and_its_kidneys(cohort):
    labels, truth = pd.read_csv(cohort / "labels.csv"), pd.read_csv(cohort / "truth.csv")
    assert list(labels) == ["series_uid", "phase", "kidney_bottom_mm", "kidney_top_mm"]
    assert set(labels["phase"]) <= set(PHASES)
    assert (labels["series_uid"] == truth["series_uid"]).all()
    extent = labels["kidney_top_mm"] - labels["kidney_bottom_mm"]
    assert extent.between(90, 200).all()


def test_segmentations_hold_the_tissues_that_were_painted(cohort):
    truth = pd.read_csv(cohort / "truth.csv")
    for row in truth.itertuples():
        images, segs = read_series(cohort, row.series_uid)
        assert len(images) == 3 and len(segs) == 2
        by_type = {seg.SegmentationType: seg for seg in segs}
        tissues = by_type["LABELMAP"].pixel_array
        kidneys = by_type["BINARY"].pixel_array.astype(bool)
        np.testing.assert_array_equal(kidneys, np.isin(tissues, KIDNEY_TISSUES))
        hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in images])
        order = [
            [float(ds.ImagePositionPatient[2]) for ds in images].index(
                float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
            )
            for frame in by_type["LABELMAP"].PerFrameFunctionalGroupsSequence
        ]
        hu = hu[order]
        assert abs(np.median(hu[tissues == Tissue.MUSCLE]) - row.muscle_hu) < 15
        assert abs(np.median(hu[tissues == Tissue.AORTA]) - row.aorta_hu) < 0.12 * row.aorta_hu + 15


def test_same_seed_same_bytes_whatever_the_processes(tmp_path):
    patients = [("A", 3, 2, "spread"), ("B", 4, 2, "middle")]
    write_cohort(tmp_path / "one", patients, processes=1, matrix=128)
    write_cohort(tmp_path / "two", patients, processes=2, matrix=128)
    first = {p.relative_to(tmp_path / "one"): p.read_bytes() for p in (tmp_path / "one").rglob("*") if p.is_file()}
    second = {p.relative_to(tmp_path / "two"): p.read_bytes() for p in (tmp_path / "two").rglob("*") if p.is_file()}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_a_patient_that_is_there_is_not_written_again(cohort):
    before = {path: path.stat().st_mtime_ns for path in cohort.rglob("*.dcm")}
    write_cohort(cohort, [("A", 1, 3, "spread"), ("B", 5, 3, "middle")], processes=1, matrix=128)
    assert before == {path: path.stat().st_mtime_ns for path in cohort.rglob("*.dcm")}


def test_a_patient_written_with_other_settings_is_not_taken_for_this_one(cohort):
    with pytest.raises(ValueError, match="written with slices=3, but slices=4 is asked for now"):
        write_cohort(cohort, [("A", 1, 4, "spread")], processes=1, matrix=128)
    with pytest.raises(ValueError, match="written with matrix=128, but matrix=512"):
        write_cohort(cohort, [("A", 1, 3, "spread")], processes=1)


def test_a_series_may_have_one_slice(tmp_path):
    rows = write_patient(tmp_path, "A", seed=8, slices=1, placing="middle", matrix=64, phases=["neph"])
    assert len(rows) == 1 and len(list(tmp_path.rglob("*.dcm"))) == 3


def test_slices_spread_over_the_kidneys_or_touch_each_other():
    rng = np.random.default_rng(0)
    for _ in range(50):
        bottom, top = -60.0 + rng.normal(0, 5), 65.0 + rng.normal(0, 5)
        spread = 5.0 * slice_steps(rng, bottom, top, 5.0, 4, "spread")
        assert (np.diff(spread) >= 5 - 1e-9).all() and spread[0] > bottom and spread[-1] < top
        run = 3.0 * slice_steps(rng, bottom, top, 3.0, 7, "middle")
        np.testing.assert_allclose(np.diff(run), 3.0)
        assert run[0] - 1.5 <= (bottom + top) / 2 <= run[-1] + 1.5


def test_whole_series_run_from_end_to_end_at_equal_distances():
    rng = np.random.default_rng(1)
    for spacing in (0.75, 1.25, 2.0, 2.5, 3.0, 5.0):
        bottom, top = -60.0 + rng.normal(0, 5), 65.0 + rng.normal(0, 5)
        steps = slice_steps(rng, bottom, top, spacing, 22, "whole")
        distances = np.unique(np.diff(steps))
        assert len(distances) == 1 and 17 <= len(steps) <= 27
        gap = spacing * distances[0]
        assert bottom <= steps[0] * spacing < bottom + gap and top - gap < steps[-1] * spacing <= top


def test_a_whole_series_says_how_far_apart_its_slices_are(tmp_path):
    write_patient(tmp_path, "A", seed=8, slices=5, placing="whole", matrix=64, phases=["neph"])
    (series,), _ = find_series(tmp_path)
    assert 4 <= len(series.slices) <= 6
    for item in series.slices:
        apart = float(pydicom.dcmread(item.path, stop_before_pixels=True).SpacingBetweenSlices)
        np.testing.assert_allclose(np.diff(series.z_mm), apart, atol=0.01)


def test_no_pixel_of_the_phantom_has_changed(tmp_path):
    """Slices as the published cohorts hold them; another processor may round a few voxels the other way."""
    rows = write_patient(tmp_path, "A", seed=8, slices=2, placing="spread", matrix=96, phases=["noncon", "cm", "pyelo"])
    rows += write_patient(tmp_path, "B", seed=21, slices=2, placing="middle", matrix=96, phases=["cm-neph", "neph"])
    series = {item.uid: item for item in find_series(tmp_path)[0]}
    with np.load(ROOT / "tests/fixtures/phantom_slices.npz") as before:
        assert len(before.files) == len(rows)
        for row in rows:
            found = read_volume(series[row["series_uid"]]).hu.astype(int)
            off = np.abs(found - before[f"{row['patient']}/{row['scan']}/{row['reconstruction']}/hu"])
            assert off.max() <= 2 and np.mean(off > 0) < 1e-3


def test_unknown_labelling_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'guess'; expected 'reader' or 'scan_time'"):
        write_patient(tmp_path, "A", seed=1, slices=2, placing="spread", labelling="guess")
    with pytest.raises(ValueError, match="'all'; expected 'spread', 'middle' or 'whole'"):
        write_patient(tmp_path, "A", seed=1, slices=2, placing="all")
    with pytest.raises(ValueError, match="slices is 0"):
        write_patient(tmp_path, "A", seed=1, slices=0, placing="spread")
    with pytest.raises(ValueError, match="twice"):
        write_cohort(tmp_path, [("A", 1, 2, "spread"), ("A", 2, 2, "spread")], processes=1)


def test_without_a_number_of_test_slices_test_patients_get_whole_series():
    plan = plan_cohort(60, slices=3, test_slices=0, seed=1, test_seed=2, key="philbrick2018")
    assert {(slices, placing) for _, _, slices, placing in plan} == {(3, "spread"), (22, "whole")}


def test_no_two_patients_of_a_plan_have_the_same_seed_and_the_test_seed_moves_test_patients_only():
    def plan(test_seed):
        return plan_cohort(1200, slices=3, test_slices=5, seed=2018, test_seed=test_seed, key="philbrick2018")

    one, other = plan(1184), plan(1185)
    assert len({seed for _, seed, _, _ in one}) == 1200
    for (patient, seed, slices, placing), (_, other_seed, _, _) in zip(one, other, strict=True):
        assert (test := split_of(patient, "philbrick2018") == "test") == (placing == "middle")
        assert slices == (5 if test else 3)
        assert (seed != other_seed) == test

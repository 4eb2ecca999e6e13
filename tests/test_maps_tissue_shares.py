"""Where maps lie: maps that are known, on tissues that are painted by hand."""

import numpy as np
import pandas as pd
import pytest
import zarr

from lib.cohort import Cohort, Standardisation
from lib.maps.tissue_shares import (
    GROUPS,
    NAMES,
    group_codes,
    measure_anatomy,
    summarise_shares,
    summarise_signs,
    with_truth,
)
from lib.patient_statistics import cluster_interval
from lib.phantom.tissues import Tissue
from lib.resampling import OUTSIDE
from lib.voxels import select_voxels, top_shares

CODES = {"Aorta": 1, "Renal_cortex": 2, "Liver": 3}
SIZE = 10


def at(name):
    return NAMES.index(name)


@pytest.fixture
def cohort(tmp_path):
    """One slice a series: rows 0-1 air, aorta in row 2, cortex in rows 3-4, unnamed body in row 5, liver below."""
    tissues = np.repeat(np.array([0, 0, 1, 2, 2, 0, 3, 3, 3, 3], np.uint8), SIZE).reshape(SIZE, SIZE)
    hu = np.full((SIZE, SIZE), 40, np.int16)
    hu[:2] = OUTSIDE
    for store in ("slices", "tissues"):
        zarr.open_group(tmp_path / f"{store}.zarr", mode="w").attrs["tissues"] = CODES
    rows = []
    for series, patient, truth in (("a", "p", True), ("b", "q", True), ("c", "q", False)):
        zarr.create_array(tmp_path / "slices.zarr" / series, data=hu[None])
        if truth:
            zarr.create_array(tmp_path / "tissues.zarr" / series, data=tissues[None])
        rows.append({"patient": patient, "series": series, "slice": 0, "phase": "cm", "split": "test"})
    pd.DataFrame(rows).to_parquet(tmp_path / "slices.parquet")
    (tmp_path / "cohort.json").write_text("{}")
    return Cohort.open(tmp_path)


class Painted:
    """An attributor whose saliency is -2 in the aorta's row and 1 in the cortex, and whose CAM has four cells."""

    def __call__(self, images, classes, methods=None):
        assert list(classes) == [1] * len(images)
        saliency = np.zeros((len(images), SIZE, SIZE), np.float32)
        saliency[:, 2], saliency[:, 3:5, :5] = -2, 1
        cam = np.tile(np.array([[0, 0], [0, 3]], np.float32), (len(images), 1, 1))
        return {("saliency", "input"): saliency, ("cam", "conv6"): cam}


STANDARD = Standardisation(mean=40.0, sd=5.0, image_size=SIZE)


def measured(cohort, **choices):
    rows = with_truth(cohort, cohort.slices)
    parts = list(measure_anatomy(Painted(), cohort, rows, STANDARD, batch_size=1, **choices))
    assert len(parts) == 2, "one table a batch"
    return (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))


def test_every_tissue_of_the_phantom_has_a_group_and_every_group_a_colour():
    names = {tissue.name.capitalize().replace("_", " "): int(tissue) for tissue in Tissue}
    table = group_codes(names)
    assert table[Tissue.RENAL_CORTEX] == at("kidney cortex")
    assert table[Tissue.VISCERAL_FAT] == at("fat")
    assert table[Tissue.OUTSIDE] == table[200] == at("outside")
    members = [tissue for tissues in GROUPS.values() for tissue in tissues]
    assert len(members) == len(set(members)), "a tissue belongs to one group"


def test_an_unknown_tissue_is_named_and_no_truth_says_so():
    with pytest.raises(ValueError, match=r"tissues \['Thymus'\] belong to no group.*lib/maps/tissue_shares.py"):
        group_codes({"Liver": 1, "Thymus": 2})
    with pytest.raises(ValueError, match=r"no truth of the tissues.*DICOM SEG"):
        group_codes({})


def test_series_without_truth_are_left_out(cohort):
    assert list(with_truth(cohort, cohort.slices)["series"]) == ["a", "b"]
    with pytest.raises(ValueError, match="None of 1 series"):
        with_truth(cohort, cohort.slices.iloc[2:])


def test_top_shares_counts_voxels_and_splits_ties():
    groups = np.full((10, 10), at("fat"), np.uint8)
    groups[0], groups[1, :5] = at("aorta"), at("liver")
    values = np.zeros((10, 10))
    values[0, :4] = 9  # four sure voxels, six among 96 equals
    shares = top_shares(values, groups, len(NAMES))
    assert shares[at("aorta")] == pytest.approx((4 + 6 * 6 / 96) / 10)
    assert shares[at("liver")] == pytest.approx(6 * 5 / 96 / 10)
    assert shares.sum() == pytest.approx(1)


def test_top_shares_is_the_mean_of_random_choices():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (20, 20)).astype(float)
    groups = rng.integers(0, len(NAMES), (20, 20)).astype(np.uint8)
    drawn = [np.bincount(groups[select_voxels(values[None], rng=rng)[0]], minlength=len(NAMES)) for _ in range(3000)]
    np.testing.assert_allclose(top_shares(values, groups, len(NAMES)), np.mean(drawn, axis=0) / 40, atol=0.006)


def test_measured_shares_by_hand(cohort):
    shares, _ = measured(cohort)
    first = shares[shares["series"] == "a"].set_index("method")
    image = first.loc["image", list(NAMES)].astype(float)
    expected = {"outside": 0.2, "aorta": 0.1, "kidney cortex": 0.2, "other": 0.1, "liver": 0.4}
    assert {name: share for name, share in image.items() if share} == pytest.approx(expected)
    assert first.loc["saliency", "aorta"] == 1, "|-2| is highest"
    assert first.loc["cam", "liver"] == pytest.approx(20 / 25), "the lower right quarter: one row other, four liver"
    assert first.loc["cam", "other"] == pytest.approx(5 / 25)
    assert first.loc["saliency", "half_mass"] == pytest.approx(0.08), "8 of 100 voxels hold 16 of 30"
    np.testing.assert_allclose(shares[list(NAMES)].sum(axis=1), 1)


def test_a_larger_tenth_takes_the_next_voxels(cohort):
    shares, _ = measured(cohort, fraction=0.2)
    saliency = shares[shares["method"] == "saliency"].iloc[0]
    assert saliency[["aorta", "kidney cortex"]].tolist() == [0.5, 0.5]


def test_measured_signs_by_hand(cohort):
    _, signs = measured(cohort)
    first = signs[signs["series"] == "a"].set_index("tissue")
    assert list(first.index) == ["aorta", "kidney cortex"], "tissues that are not on a slice have no row"
    assert first["mean_signed"].tolist() == [-2.0, 0.5]
    assert first["score_per_10_hu"].tolist() == [-20 * 10 / 5, 10 * 10 / 5]


def test_summary_of_shares(cohort):
    shares, _ = measured(cohort)
    shares.loc[(shares["series"] == "b") & (shares["method"] == "saliency"), ["aorta", "liver"]] = 0.5, 0.5
    anatomy, focus = summarise_shares(shares, rng=np.random.default_rng(1), resamples=500)
    row = anatomy.set_index(["method", "tissue"]).loc[("saliency", "aorta")]
    assert (row["share"], row["area"], row["n_slices"], row["n_patients"]) == (0.75, pytest.approx(0.1), 2, 2)
    assert row["enrichment"] == pytest.approx(7.5)
    assert (row["low"], row["high"]) == (0.5, 1.0), "the two patients"
    assert np.isnan(anatomy.set_index(["method", "tissue"]).loc[("cam", "spleen"), "enrichment"])
    np.testing.assert_allclose(anatomy.groupby(["method", "layer"])["share"].sum(), 1)
    focus = focus.set_index("method")
    assert focus.loc["cam", "half_mass"] == 0.25
    assert focus.loc["cam", ["outside", "outside_area"]].tolist() == [0, pytest.approx(0.2)]


def test_summary_of_signs():
    table = pd.DataFrame(
        [
            ("cm", f"p{n}", f"s{n}", 0, "kidney medulla", value, 10 * value)
            for n, value in enumerate([-1, -2, -3, -4, 2.0])
        ],
        columns=["phase", "patient", "series", "slice", "tissue", "mean_signed", "score_per_10_hu"],
    )
    row = summarise_signs(table, rng=np.random.default_rng(2)).iloc[0]
    assert row["mean_signed"] == -1.6 and row["low"] < -1.6 < row["high"]
    assert row["score_per_10_hu"] == -16 and row["score_low"] < -16 < row["score_high"]
    alone = cluster_interval(table["mean_signed"], table["patient"], rng=np.random.default_rng(2))
    assert (row["low"], row["high"]) == alone, "the interval of the score draws from a stream of its own"
    assert row["positive"] == 0.2 and row["expected"] == -1
    assert row["sign_p"] == pytest.approx(2 * (1 + 5) / 2**5)


def test_a_tissue_with_zero_gradient_has_no_sign():
    columns = ["phase", "patient", "series", "slice", "tissue", "mean_signed", "score_per_10_hu"]
    table = pd.DataFrame([("neph", "p", "s", 0, "aorta", 0.0, 0.0)], columns=columns)
    row = summarise_signs(table, rng=np.random.default_rng(3)).iloc[0]
    assert (row["sign_p"], row["positive"], row["expected"]) == (1.0, 0.0, 0)


def test_maps_without_content_are_measured_like_those_of_the_network(cohort):
    def controls(images, body, classes):
        assert list(classes) == [1] * len(images) and body.shape == images.shape[:3]
        return {("disc", "-"): np.tile((np.arange(SIZE) == 2).astype("f4")[:, None], (len(images), 1, SIZE))}

    rows = with_truth(cohort, cohort.slices)
    standardisation = Standardisation(0.0, 20.0, SIZE)
    shares = pd.concat(s for s, _ in measure_anatomy(Painted(), cohort, rows, standardisation, controls=controls))
    disc = shares[shares["method"] == "disc"]
    assert len(disc) == 2 and (disc["aorta"] == 1).all() and (disc["liver"] == 0).all()
    assert set(shares["method"]) == {"image", "saliency", "cam", "disc"}

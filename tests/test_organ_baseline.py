"""Organs measured by hand, rulers whose rule is known, and differences of F1 against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import zarr
from sklearn.metrics import f1_score

from lib.cohort import Cohort
from lib.organ_baseline import compare_rulers, fit_rulers, measure_organs
from lib.paper import PHASES
from lib.resampling import OUTSIDE


@pytest.fixture
def cohort(tmp_path):
    """Two series of different size: aorta half 100, half 300 HU, cava of 9 voxels, cortex 150, medulla 60."""
    for store in ("slices", "tissues"):
        group = zarr.open_group(tmp_path / f"{store}.zarr", mode="w")
        group.attrs["tissues"] = {"Aorta": 3, "Vena cava": 1, "Renal cortex": 2, "Renal_medulla": 5}
    rows = []
    for series, size in (("a", 12), ("b", 16)):
        hu, tissues = np.full((2, size, size), 40, np.int16), np.zeros((2, size, size), np.uint8)
        tissues[:, 0], hu[:, 0, ::2], hu[:, 0, 1::2] = 3, 100, 300
        tissues[:, 1, :9], hu[:, 1] = 1, 7
        tissues[0, 2:4], hu[0, 2], hu[0, 3] = 2, 150, OUTSIDE
        tissues[:, 5], hu[:, 5] = 5, 60
        zarr.create_array(tmp_path / "slices.zarr" / series, data=hu)
        zarr.create_array(tmp_path / "tissues.zarr" / series, data=tissues)
        rows += [{"patient": series, "series": series, "slice": n, "phase": "cm", "split": "train"} for n in (0, 1)]
    pd.DataFrame(rows).to_parquet(tmp_path / "slices.parquet")
    (tmp_path / "cohort.json").write_text("{}")
    return Cohort.open(tmp_path)


ORGANS = ("aorta", "vena cava", "renal cortex", "renal medulla")


def test_means_by_hand_in_the_order_of_the_rows(cohort):
    rows = cohort.slices.iloc[[3, 0, 2, 1]]
    table = measure_organs(cohort, rows, ORGANS)
    assert table.index.tolist() == [3, 0, 2, 1]
    assert table["aorta"].tolist() == [200.0] * 4
    assert table["vena cava"].isna().all(), "9 voxels are fewer than 10"
    assert table["renal cortex"].loc[[0, 2]].tolist() == [150.0, 150.0], "voxels outside the body do not count"
    assert table["renal cortex"].loc[[1, 3]].isna().all()
    assert table["renal cortex - renal medulla"].loc[[0, 2]].tolist() == [90.0, 90.0]
    assert measure_organs(cohort, rows, ORGANS, min_voxels=9)["aorta - vena cava"].tolist() == [193.0] * 4


def test_an_unknown_organ_names_the_known_ones(cohort):
    with pytest.raises(ValueError, match=r"organs \['thymus'\] are no tissues.*aorta, renal cortex"):
        measure_organs(cohort, cohort.slices, ("aorta", "thymus"))


def test_rulers_find_thresholds_and_use_missing_organs():
    rng = np.random.default_rng(0)
    phase = np.repeat(PHASES, 60)
    level = {"noncon": 40.0, "cm": 300.0, "cm-neph": 180.0, "neph": 120.0, "pyelo": np.nan}
    features = pd.DataFrame({"aorta": [level[name] for name in phase] + rng.normal(0, 3, 300)})
    slices = pd.DataFrame({"phase": phase, "patient": [f"p{n % 20}" for n in range(300)]})
    probe = pd.DataFrame({"aorta": [45.0, 290.0, 190.0, 125.0, np.nan]})
    for ruler in fit_rulers(features, slices, seed=1).values():
        assert list(ruler.predict(probe)) == list(PHASES), "pyelo is where the organ is missing"


def test_differences_of_f1_against_scikit_learn():
    rng = np.random.default_rng(4)
    phase = rng.choice(PHASES, 200)
    slices = pd.DataFrame({"phase": phase, "patient": rng.integers(0, 25, 200)})
    good = np.where(rng.random(200) < 0.9, phase, rng.choice(PHASES, 200))
    poor = np.where(rng.random(200) < 0.5, phase, rng.choice(PHASES, 200))
    table = compare_rulers(slices, {"poor": poor, "good": good}, "poor", rng=rng, resamples=400)
    table = table.set_index(["classifier", "phase"])
    for name, answer in (("poor", poor), ("good", good)):
        assert table.loc[(name, "mean"), "f1"] == pytest.approx(f1_score(phase, answer, average="macro"))
        each = f1_score(phase, answer, average=None, labels=list(PHASES))
        np.testing.assert_allclose(table.loc[[(name, p) for p in PHASES], "f1"], each)
    shift = table["f1"]["good"] - table["f1"]["poor"]
    np.testing.assert_allclose(table["f1_difference"]["good"], shift)
    assert (table.loc["poor", ["f1_difference", "low", "high"]].to_numpy() == 0).all()
    mean = table.loc[("good", "mean")]
    assert 0 < mean["low"] < mean["f1_difference"] < mean["high"]
    assert mean[["n_slices", "n_patients"]].tolist() == [200, slices["patient"].nunique()]
    assert table.loc[("good", "cm"), "n_slices"] == (phase == "cm").sum()


def test_the_interval_resamples_patients_and_not_slices():
    phase = np.repeat(PHASES, 8)
    slices = pd.DataFrame({"phase": phase, "patient": np.tile([0, 1], 20)})
    wrong = phase[(np.arange(40) + 8) % 40]
    second = np.where(slices["patient"] == 1, phase, wrong)
    rng = np.random.default_rng(5)
    row = compare_rulers(slices, {"first": wrong, "second": second}, "first", rng=rng, resamples=300)
    row = row.set_index(["classifier", "phase"]).loc[("second", "mean")]
    assert (row["f1_difference"], row["low"], row["high"]) == (pytest.approx(0.5), 0.0, 1.0), "only two patients"

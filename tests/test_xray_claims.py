"""Verdicts on the two texts about Grad-CAM: tables that support, contradict and leave open; the public folder."""

import numpy as np
import pandas as pd
import pytest

from lib.claims.texts import judge, weakest
from lib.maps.localisation import encode_runs
from lib.xray.chest_claims import chest_claims, difference, holm, permutation_f
from lib.xray.plate_maps import frequency, half_mass, on_artifact, on_clean, place_slopes, plate_claims


def test_an_interval_is_judged_by_its_ends():
    assert judge(-0.2, -0.1, below=0) == "supported"
    assert judge(0.1, 0.2, below=0) == "contradicted"
    assert judge(-0.1, 0.1, below=0) == judge(-0.1, 0.1, above=0) == "inconclusive"
    assert judge(0.1, 0.2, above=0) == "supported"
    assert judge(-0.05, 0.05, within=(-0.1, 0.1)) == "supported"
    assert judge(0.2, 0.3, within=(-0.1, 0.1)) == "contradicted"
    assert judge(np.nan, np.nan, above=0) == "inconclusive"


def _plates(artifact: float, band: float, same: float, edge_slope: float = -0.1):
    rng = np.random.default_rng(0)
    clean, spoiled = [], []
    for plate in range(10):
        for layer in range(5):
            noise = rng.normal(0, 0.01, 8)
            clean.append({"plate": plate, "layer": layer, "edge_rank": 0.5 + edge_slope * layer + noise[0],
                          "edge_band": 2 + edge_slope * layer + noise[1], "half_mass": 0.4 - 0.05 * layer + noise[2],
                          "frequency": 0.1 + 0.05 * layer + noise[3], "band": band + noise[4],
                          "inside": 1.0})  # fmt: skip
            spoiled.append({"plate": plate, "layer": layer, "kind": "hair", "enrichment": artifact + noise[5],
                            "same": same + noise[6], "repeat": 0.98})  # fmt: skip
    return pd.DataFrame(clean), pd.DataFrame(spoiled)


def test_claims_on_plates_follow_their_rules():
    for_it = weakest(plate_claims(*_plates(0.6, 1.5, 0.97), auc=0.95))
    assert for_it.to_dict() == dict.fromkeys(["M1", "M2", "M3", "M4", "M5"], "supported")
    against = weakest(plate_claims(*_plates(4.0, 0.6, 0.2, edge_slope=0.1), auc=0.95))
    assert against.to_dict() == {"M2": "supported", **dict.fromkeys(["M1", "M3", "M4", "M5"], "contradicted")}


def test_a_weak_network_is_not_judged():
    for auc in (0.7, np.nan):
        verdicts = weakest(plate_claims(*_plates(0.6, 1.5, 0.97), auc=auc))
        assert (verdicts[["M3", "M4", "M5"]] == "network too weak").all()
        assert verdicts["M1"] == "supported"


def test_measures_of_plates_know_their_extremes():
    rng = np.random.default_rng(0)
    mask = np.zeros((96, 128), bool)
    mask[20:40, 30:70] = True
    plate = np.ones_like(mask)
    clean = rng.random(mask.shape)
    assert on_artifact(mask + 1e-6 * clean, mask, clean, plate, 0.16)["enrichment"] > 8
    assert on_artifact(clean, mask, clean, plate, 0.16)["same"] == pytest.approx(1)
    assert on_artifact(np.zeros(mask.shape), mask, clean, plate, 0.16)["dead"]
    found = on_artifact(mask.astype(float), mask, clean, plate, 0.16)
    assert found["distance_mm"] == pytest.approx(0) and found["x_mm"] == pytest.approx(50 * 0.16)
    distance = np.where(mask, -1.0, 1.0)
    assert on_clean(mask.astype(float), clean, distance, plate, 0.16)["inside"] > 8
    assert half_mass(np.ones((10, 10))) == pytest.approx(0.5, abs=0.01)
    assert half_mass(mask.astype(float)) == pytest.approx(mask.mean() / 2, rel=0.01)
    x = np.arange(128) * 0.16
    wave = np.tile(1 + np.cos(2 * np.pi * x * (16 / (128 * 0.16))), (96, 1))
    assert frequency(wave, 0.16) == pytest.approx(16 / (128 * 0.16), rel=1e-6)


def test_heat_that_follows_has_slope_one_and_plates_are_the_unit():
    rng, rows = np.random.default_rng(0), []
    for plate in range(4):
        for place in range(6):
            for size in (0.7, 1.4):
                x, y = rng.uniform(0, 40, 2)
                there = {"mask_x_mm": x, "x_mm": x + 3, "mask_y_mm": y, "y_mm": 20.0, "heat": size * (1 + plate)}
                rows.append({"plate": plate, "kind": "hair", "place": place, "size": size, **there})
    found = place_slopes(pd.DataFrame(rows))
    x, y, heat = found.to_dict("index").values()
    assert x["value"] == pytest.approx(1) and y["value"] == pytest.approx(0) and x["plates"] == 4
    assert heat["value"] == pytest.approx(2) and heat["low"] == pytest.approx(2)


def test_an_even_background_does_not_move_the_centre_of_the_hottest_tenth():
    mask, field = np.zeros((96, 128), bool), np.ones((96, 128), bool)
    mask[10:20, 20:30] = True
    assert on_artifact(mask + 0.5, mask, mask + 0.5, field, 0.16)["distance_mm"] == pytest.approx(0, abs=0.2)


def test_holm_rejects_in_steps():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == [True, False, False, True]
    assert holm(np.array([0.012, 0.02, 0.049])).all()
    assert not holm(np.array([0.02, 0.03, 0.04])).any()


def test_permutation_sees_groups_that_differ():
    rng = np.random.default_rng(0)
    same = [rng.normal(0, 1, 6) for _ in range(4)]
    assert permutation_f([group + 5 * k for k, group in enumerate(same)]) < 0.01
    chance = [permutation_f([rng.normal(0, 1, 5) for _ in range(3)], permutations=199) for _ in range(40)]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.17)  # p is uniform where nothing differs
    assert np.isnan(permutation_f([np.array([1.0]), np.array([2.0])]))  # one seed says nothing about seeds


def test_a_difference_pairs_patients():
    one = pd.Series([1.0, 2, 3, np.nan], index=list("abcd"))
    other = pd.Series([0.9, 1.9, 2.9, 7], index=list("abcd"))
    mean, low, high, p = difference(one, other)
    assert mean == pytest.approx(0.1) and low == pytest.approx(0.1) == pytest.approx(high) and p < 0.01


def _chests(gains: dict[str, float], accuracies: dict[str, float], seeds: int = 3):
    rng = np.random.default_rng(0)
    answers, maps, nulls = [], [], []
    for name in gains:
        for patient in range(200):
            nulls.append({"network": name, "patient": patient, "untrained": 0.02, "mean_mask": 0.04})
        for seed in range(seeds):
            for patient in range(200):
                answers.append(
                    {"network": name, "seed": seed, "patient": patient, "right": patient < 200 * accuracies[name]}
                )
                ehr = gains[name] + rng.normal(0, 0.005)
                maps.append({"network": name, "seed": seed, "patient": patient, "ehr": ehr})
    return tuple(map(pd.DataFrame, (answers, maps, nulls)))


def judged_chests(gains, accuracies, weak=(), **choices):
    return chest_claims(*_chests(gains, accuracies, **choices), {name: 0.7 if name in weak else 0.9 for name in gains})


def test_claims_on_chests_follow_their_rules():
    gains = {"resnet18": 0.10, "resnet101": 0.06, "vit_tiny": 0.05}
    verdicts = weakest(judged_chests(gains, {"resnet18": 0.80, "resnet101": 0.82, "vit_tiny": 0.7}))
    assert verdicts["Q1"] == "supported" or verdicts["Q1"] == "inconclusive"
    assert verdicts["Q2"] == verdicts["Q3"] == verdicts["Q5"] == "supported"
    worse = {"resnet18": 0.02, "resnet101": 0.03, "vit_tiny": 0.05}
    table = judged_chests(worse, {"resnet18": 0.60, "resnet101": 0.95, "vit_tiny": 0.7})
    verdicts = weakest(table)
    assert verdicts["Q1"] == verdicts["Q3"] == verdicts["Q5"] == "contradicted"
    assert verdicts["Q4"] == "supported"  # resnet101 is more accurate than vit_tiny, and its maps are worse
    step = judged_chests({"resnet18": 0.02, "resnet101": 0.05}, {"resnet18": 0.6, "resnet101": 0.9})
    assert weakest(step)["Q4"] == "inconclusive"
    assert weakest(judged_chests(gains, dict.fromkeys(gains, 0.8), seeds=1))["Q2"] == "inconclusive"


def test_maps_of_networks_that_have_not_learnt_are_not_judged():
    gains = {"resnet18": 0.10, "resnet101": 0.06, "vit_tiny": 0.02}
    right = dict.fromkeys(gains, 0.8)
    table = judged_chests(gains, right, weak=["vit_tiny"])
    assert weakest(table)["Q3"] == "network too weak"
    assert weakest(table)["Q5"] == "supported"
    assert weakest(table)["Q2"] == "inconclusive", "two networks of three seeds: p is .1 at best"
    assert not table["measured"].str.contains("EHR of vit_tiny").any()
    nothing = weakest(judged_chests(gains, right, weak=gains))
    assert (nothing[["Q2", "Q3", "Q5"]] == "network too weak").all() and nothing["Q1"] == "supported"
    assert weakest(judged_chests(gains, right, weak=["resnet18", "resnet101"]))["Q2"] == "network too weak"


def test_the_public_folder_is_read(tmp_path):
    from lib.xray.chest_study import public_chests
    from lib.xray.dicom_files import chest_image, write

    mask = np.zeros((64, 64), bool)
    mask[8:24, 40:52] = True
    grey = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    for number, name in enumerate(("1.2.3.4", "1.2.3.5", "1.2.3.6")):
        write(tmp_path / "dicom-images-train" / name / "series" / f"{name}.dcm",
              chest_image(grey, 0.8, number, female=False, age=40))  # fmt: skip
    (tmp_path / "train-rle.csv").write_text(
        f"ImageId, EncodedPixels\n1.2.3.4, -1\n1.2.3.5, {encode_runs(mask)}\n9.9, -1\n"
    )
    found = public_chests(tmp_path, pixels=16)
    assert found["label"].tolist() == [0, 1] and found["grey"].shape == (2, 16, 16)
    assert (found["gap"][1] == mask.reshape(16, 4, 16, 4).mean((1, 3)).round().astype(bool)).all()
    assert not found["gap"][0].any()
    with pytest.raises(FileNotFoundError, match=r"train-rle\.csv"):
        public_chests(tmp_path / "nowhere", pixels=16)
    with pytest.raises(ValueError, match="no multiple of 15"):
        public_chests(tmp_path, pixels=15)

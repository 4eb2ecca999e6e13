"""Many networks: tests against scipy and closed forms, a choice that never sees the test split, stages by hand."""

import json
from itertools import pairwise

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from lib import model_selection
from lib.model_selection import (
    FILES,
    SCHEMES,
    Network,
    auc_differences,
    choose,
    compare_over_networks,
    compare_references,
    compared_with,
    count_references,
    describe,
    measure,
    paired_test,
    read_networks,
    titles_of,
)
from lib.network_stages import last_grid_layer, stages_of
from lib.networks import phase_net, reference_network
from lib.paper import PHASES
from lib.patient_statistics import bootstrap_interval, resample_clusters

RECIPE = {
    "architecture": "phase_net", "kernels": "16 16 32 32 64", "image_size": 128, "channels": 1,
    "initializer": "he_normal", "decay": "cosine", "learning_rate": 5e-4, "batch_size": 8,
    "max_epochs": 3,
}  # fmt: skip
HISTORY = pd.DataFrame(
    {"epoch": [1, 2, 3, 4], "loss": [1.5, 1.0, 0.5, 0.2], "val_loss": [0.8, 0.9, 1.1, 1.3], "stage": [1, 2, 2, 2]}
)  # fmt: skip


def predicted(sharpness=2.0, seed=0, patients=6):
    """Slices of patients with one series per phase; the logits of the labelled phase are raised by the sharpness."""
    rng, rows = np.random.default_rng(seed), []
    for split in ("val", "test"):
        for patient in range(patients):
            for phase in PHASES:
                for number in range(3):
                    rows.append((f"{split}{patient}", f"{split}{patient}{phase}", number, phase, split))
    table = pd.DataFrame(rows, columns=["patient", "series", "slice", "phase", "split"])
    logits = rng.normal(size=(len(table), 5)) + sharpness * np.eye(5)[table["phase"].map(PHASES.index)]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return table.assign(predicted=np.array(PHASES)[shares.argmax(axis=1)], **dict(zip(PHASES, shares.T, strict=True)))


def network(name, predictions=None, group="grid", folder=None, history=HISTORY, **recipe):
    predictions = predicted() if predictions is None else predictions
    return Network(name, group, folder, RECIPE | recipe, history, predictions)


def test_voting_outvotes_one_wrong_slice_in_three():
    table = predicted(sharpness=20.0)
    wrong = (table["slice"] == 1) & (table["phase"] == "cm") & (table["split"] == "test")
    table.loc[wrong, list(PHASES)] = [0.6, 0.4, 0, 0, 0]
    table.loc[wrong, "predicted"] = "noncon"
    found = measure([network("one", table)]).set_index(["split", "scheme"])
    assert found.loc[("test", "voting"), ["precision", "recall", "f1", "auc"]].tolist() == [1, 1, 1, 1]
    assert found.loc[("test", "single"), "recall"] == pytest.approx((4 + 2 / 3) / 5)
    assert found.loc[("val", "single"), "recall"] == 1
    precision = (3 + (3 / 4 * 1 + 0) + (1 * 2 / 3 + 1 / 3 / 5)) / 5  # P R + (1 - R) / 5, phases weighing the same
    assert found.loc[("test", "single"), "precision"] == pytest.approx(precision)
    assert found.loc[("test", "single"), ["n", "n_patients"]].tolist() == [90, 6]
    assert found.loc[("test", "voting"), "n"] == 30


def validation(**auc):
    rows = [(name, "val", scheme, pair[n]) for name, pair in auc.items() for n, scheme in enumerate(SCHEMES)]
    return pd.DataFrame(rows, columns=["network", "split", "scheme", "auc"])


def test_the_choice_is_the_highest_auc_of_single_validation_slices():
    found = choose(validation(a=(0.90, 0.99), b=(0.95, 0.91), c=(0.95, 0.93), d=(0.95, 0.93)))
    assert found["network"].tolist() == ["c", "d", "b", "a"]
    assert found["rank_single"].tolist() == [1, 1, 1, 4] and found["rank_voting"].tolist() == [2, 2, 4, 1]


@pytest.mark.parametrize("splits", [["val", "test"], ["test"]])
def test_the_choice_refuses_the_test_split(splits):
    table = pd.concat([validation(a=(0.9, 0.9)).assign(split=split) for split in splits])
    with pytest.raises(ValueError, match=r"splits \[.*'test'.*expected validation alone"):
        choose(table)


def test_test_slices_do_not_change_the_choice():
    good, bad = predicted(3.0, 1), predicted(1.0, 2)
    swapped = pd.concat([good[good["split"] == "val"], bad[bad["split"] == "test"]])
    other = pd.concat([bad[bad["split"] == "val"], good[good["split"] == "test"]])
    metrics = measure([network("b", other), network("a", swapped)])
    assert choose(metrics[metrics["split"] == "val"])["network"].tolist() == ["a", "b"]
    single = metrics.query("split == 'test' and scheme == 'single'").set_index("network")["auc"]
    assert single["b"] > single["a"], "the test split would have chosen the other"


def test_differences_of_auc_are_those_of_sklearn_on_resampled_patients():
    networks = {"a": network("a", predicted(1.5, 3)), "b": network("b", predicted(0.8, 4))}
    found = auc_differences(networks, "a", "test", rng=np.random.default_rng(5), resamples=40).set_index("network")
    assert found.loc["a", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    weights = resample_clusters(6, rng=np.random.default_rng(5), resamples=40).astype(int)

    def auc(table, drawn):
        table = pd.concat([table[table["patient"] == f"test{n}"] for n in np.repeat(range(6), drawn)])
        return np.mean([roc_auc_score(table["phase"] == phase, table[phase]) for phase in PHASES])

    tables = [networks[name].predictions.query("split == 'test'") for name in ("b", "a")]
    assert found.loc["b", "difference"] == pytest.approx(np.subtract(*(auc(table, [1] * 6) for table in tables)))
    drawn = np.array([np.subtract(*(auc(table, row) for table in tables)) for row in weights])
    np.testing.assert_allclose(found.loc["b", ["low", "high"]].astype(float), bootstrap_interval(drawn, 6))


def test_references_are_set_beside_one_network_with_their_training_and_test_auc():
    networks = {"a": network("a", predicted(1.5, 3)), "b": network("b", predicted(0.8, 4), "references", batch_size=16)}
    described = describe([*networks.values(), network("not compared")], dict.fromkeys(("a", "b", "not compared"), 7))
    found = compare_references(described, networks, "a", training_slices=33, rng=np.random.default_rng(5))
    assert found["network"].tolist() == ["a", "b"] and found["updates"].tolist() == [5, 3]
    assert (found["against"] == "a").all() and found["difference"].iloc[1] < 0 == found["difference"].iloc[0]
    assert (found["n"] == 90).all() and (found["n_patients"] == 6).all() and (found["weights"] == 7).all()


def test_paired_tests_are_scipys():
    first, second = np.random.default_rng(0).normal(size=(2, 27))
    found, expected = paired_test(second - first), stats.ttest_rel(second, first)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose([found["p"], found["low"], found["high"]], [expected.pvalue, *interval])
    assert found["mean"] == pytest.approx((second - first).mean())


def test_the_sign_test_has_its_closed_form():
    assert paired_test(np.linspace(0.1, 1, 27))["sign_p"] == pytest.approx(2 * 0.5**27)
    one_lower = paired_test(np.r_[-0.1, np.full(9, 0.2), 0, 0])
    assert (one_lower["higher"], one_lower["lower"]) == (9, 1), "equal values count neither way"
    assert one_lower["sign_p"] == pytest.approx(2 * (1 + 10) / 2**10)
    assert paired_test(np.zeros(4))["sign_p"] == 1 and paired_test(np.zeros(4))["p"] == 1
    assert paired_test(np.full(4, 0.25))["p"] == 0
    alone = paired_test(np.array([0.3]))
    assert alone["higher"] == 1 and np.isnan([alone[name] for name in ("low", "high", "p", "sign_p")]).all()


def test_compare_over_networks_take_test_minus_validation_and_voting_minus_single():
    metrics = measure([network(f"n{seed}", predicted(1.0, seed)) for seed in range(4)])
    found = compare_over_networks(metrics).set_index(["comparison", "within", "metric"])
    assert len(found) == 16 and (found["networks"] == 4).all()
    value = metrics.set_index(["network", "split", "scheme"])["f1"]
    gains = [value[f"n{n}", "test", "voting"] - value[f"n{n}", "test", "single"] for n in range(4)]
    shifts = [value[f"n{n}", "test", "voting"] - value[f"n{n}", "val", "voting"] for n in range(4)]
    assert found.loc[("voting - single", "test", "f1"), "mean"] == pytest.approx(np.mean(gains)) and np.mean(gains) > 0
    assert found.loc[("test - val", "voting", "f1"), "mean"] == pytest.approx(np.mean(shifts))


def written(folder, name, predictions):
    (folder / name).mkdir()
    (folder / name / "model.keras").touch()
    (folder / name / "provenance.json").write_text(json.dumps({"parameters": RECIPE}))
    HISTORY.to_csv(folder / name / "history.csv", index=False)
    predictions.to_parquet(folder / name / "predictions.parquet")


def test_networks_that_are_not_trained_are_named(tmp_path):
    written(tmp_path, "top", predicted())
    written(tmp_path, "half", predicted())
    (tmp_path / "half" / FILES[-1]).unlink()
    found, missing = read_networks(tmp_path, {"grid": ["top", "half"], "references": ["VGG16"]})
    assert list(found) == ["top"] and missing == ["half", "VGG16"] and found["top"].group == "grid"
    with pytest.raises(FileNotFoundError, match="none of the networks half: run 02_train_network"):
        read_networks(tmp_path, {"grid": ["half"], "references": ["top"]})
    with pytest.raises(ValueError, match=r"\['top'\] are named more than once"):
        read_networks(tmp_path, {"grid": ["top"], "references": ["top"]})


def test_networks_of_different_cohorts_are_not_compared(tmp_path):
    written(tmp_path, "top", predicted())
    written(tmp_path, "again", predicted(seed=9).sample(frac=1, random_state=0))
    assert len(read_networks(tmp_path, {"grid": ["top", "again"]})[0]) == 2, "another order is no other cohort"
    written(tmp_path, "other", predicted(patients=7))
    with pytest.raises(ValueError, match="top and other predicted different slices"):
        read_networks(tmp_path, {"grid": ["top", "other"]})


def test_a_description_has_the_best_epoch_and_the_final_gap():
    row = describe([network("a", kernels="8 8 16 16")], {"a": 12365}).iloc[0]
    assert (row.best_epoch, row.epochs, row.blocks, row.weights) == (2, 4, 4, 12365)
    assert row.lowest_val_loss == 0.9 and row.gap == pytest.approx(1.3 - 0.2)


def test_references_are_compared_with_the_papers_network_where_it_was_trained_like_them():
    members = [
        network("top"),
        network("VGG16", group="references", architecture="VGG16"),
        network("wide", group="references", kernels="64 128"),
        network("beside", group="references"),
        network("three", group="three_slices", channels=3),
    ]
    described = describe(members, dict.fromkeys([member.name for member in members], 1))
    assert compared_with(described, "top") == "beside"
    assert compared_with(described.iloc[:3], "top") == "top"
    titles = titles_of(described)
    assert titles["top"] == "128 px · 16 16 32 32 64" and titles["VGG16"] == "VGG16 · 128 px"
    assert titles["three"] == "128 px · 16 16 32 32 64 · 3 slices" and titles["wide"] == "wide · 128 px"


def test_vgg16_has_the_weights_of_its_published_layers(monkeypatch):
    plan = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    convolutions = sum(9 * a * b + b for a, b in pairwise(plan))
    dense = sum(a * b + b for a, b in ((7 * 7 * 512, 4096), (4096, 4096), (4096, 1000)))
    monkeypatch.setattr(model_selection, "REFERENCES", ("VGG16",))
    assert count_references().to_dict("records") == [{"architecture": "VGG16", "weights": convolutions + dense}]
    assert convolutions + dense == 138_357_544


def test_the_stages_of_the_papers_network():
    model = phase_net(64)
    found = stages_of(model)
    assert found["stage"].tolist() == ["image", "1", "2", "3", "4", "5", "6", "head"]
    assert found["size"].tolist() == [64, 64, 32, 16, 8, 4, 2, 1]
    assert found["channels"].tolist() == [1, 16, 16, 32, 32, 64, 64, 5]
    assert found["layers"].tolist() == [0, 2, 2, 2, 2, 2, 1, 1]
    assert (
        found["weights"].tolist() == [0, 2480, 4640, 13888, 18496, 55424, 36928, 325]
        and found["weights"].sum() == 132_181
    )
    assert found["reads"].iloc[-1] == "average" and last_grid_layer(model) == "conv6"


@pytest.mark.parametrize(
    ("name", "sizes", "convolutions", "reads"),
    [
        ("VGG16", [32, 32, 16, 8, 4, 2, 1], [0, 2, 2, 3, 3, 3, 3], "all cells"),
        ("ResNet50", [32, 16, 8, 4, 2, 1, 1], [0, 1, 10, 13, 19, 10, 1], "average"),
    ],
)
def test_the_stages_of_reference_networks(name, sizes, convolutions, reads):
    model = reference_network(name, 32)
    found = stages_of(model)
    assert found["size"].tolist() == sizes and found["layers"].tolist() == convolutions
    assert found["weights"].sum() == model.count_params() and found["reads"].iloc[-1] == reads


def test_what_cannot_be_drawn_as_a_chain_of_stages_says_so():
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)], name="inner")
    with pytest.raises(ValueError, match="contains the network 'inner'"):
        stages_of(keras.Sequential([keras.Input((8, 8, 1)), inner]))
    with pytest.raises(ValueError, match="images of 8 x 6 pixels"):
        stages_of(keras.Sequential([keras.Input((8, 6, 1)), keras.layers.Conv2D(2, 3)]))

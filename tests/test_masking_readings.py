"""Readings of the paper: their design, masking that can be interrupted, and claims reading by reading."""

import keras
import numpy as np
import pandas as pd
import pytest
from test_claims_networks import slice_table

from lib.claims.networks import CLAIMS, contrasts, judge, weakest_parts
from lib.claims.readings import (
    OF_SAM,
    changed_outcomes,
    default_reading_findings,
    judge_readings,
    reading_contrasts,
    with_variant,
)
from lib.cohort import Standardisation
from lib.masking.experiment import Reading
from lib.masking.readings import ReadNetwork, design_readings, reading_means, what_differs
from lib.masking.statistics import read_masking
from lib.networks import phase_net
from lib.paper import PHASES

AXES = {
    "fill": ["normal", "uniform", "range", "zero", "shuffle", "blurred"],
    "score": ["logit", "probability"],
    "within": ["image", "body"],
    "fraction": [0.1, 0.05, 0.2],
}


def test_one_choice_at_a_time_and_then_the_corners():
    alone = design_readings(AXES, corners=False, draws=1, seed=7)
    assert len(alone) == 1 + 5 + 1 + 1 + 2
    default = next(iter(alone.values()))
    assert default == Reading(draws=1, seed=7)
    assert [len(what_differs(reading, default)) for reading in alone.values()] == [0] + [1] * 9
    both = design_readings(AXES)
    assert list(both)[:10] == list(alone) and len(both) == 10 + 16 - 5  # five corners are there already
    ends = {axis: {choices[0], choices[-1]} for axis, choices in AXES.items()}
    corners = [both[name] for name in list(both)[10:]]
    assert all(getattr(reading, axis) in ends[axis] for reading in corners for axis in AXES)
    assert all(len(what_differs(reading, default)) > 1 for reading in corners)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fill": []}, "at least one choice for each of fill, score, within, fraction"),
        ({"draws": [1]}, "at least one choice for each"),
        ({"fill": ["air"]}, "fill='air' is not known"),
    ],
)
def test_a_design_that_cannot_be_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        design_readings(AXES | changed)


class FakeCohort:
    """Six slices of noise, each in a body; the batch after `limit` breaks off."""

    def __init__(self):
        self.images = np.random.default_rng(1).standard_normal((6, 32, 32, 1)).astype("float32")
        self.body = np.zeros((6, 32, 32), bool)
        self.body[:, 6:26, 4:28] = True
        self.limit, self.asked = 99, 0

    def batches(self, rows, standardisation, *, batch_size):
        for start in range(0, len(rows), batch_size):
            self.asked += 1
            if self.asked > self.limit:
                raise KeyboardInterrupt
            part = rows[start : start + batch_size]
            yield part, self.images[part["slice"]], self.body[part["slice"]]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """An untrained network in the files of 02_train_network, whose predictions are taken for the labels."""
    folder = tmp_path_factory.mktemp("network")
    keras.utils.set_random_seed(2)
    model = phase_net(32, kernels=(4, 4, 4, 4, 4), initializer="he_normal")
    model.save(folder / "model.keras")
    Standardisation(0.0, 1.0, 32).save(folder / "standardisation.json")
    probabilities = model.predict(FakeCohort().images, verbose=0)
    called = [PHASES[k] for k in probabilities.argmax(axis=1)]
    table = pd.DataFrame({"patient": list("aabbcc"), "series": list("aabbcc"), "slice": range(6), "phase": called})
    table = table.assign(split="test", predicted=called, **dict(zip(PHASES, probabilities.T, strict=True)))
    table.to_parquet(folder / "predictions.parquet")
    return folder


def test_an_interrupted_masking_goes_on_where_it_stopped(network, tmp_path, monkeypatch):
    cohort = FakeCohort()
    reader, reading = ReadNetwork(network, cohort, per_phase=0, seed=0), Reading(draws=1, fill="zero")
    whole = reader.mask(tmp_path / "whole", reading, ["saliency"], batch_size=2)
    cohort.asked, cohort.limit = 0, 1
    with pytest.raises(KeyboardInterrupt):
        reader.mask(tmp_path / "cut", reading, ["saliency"], batch_size=2)
    parts = sorted((tmp_path / "cut").glob("*.parquet"))
    assert len(parts) == 1 and not (tmp_path / "cut/done.json").exists()
    written = parts[0].stat().st_mtime_ns
    cohort.asked, cohort.limit = 0, 99
    cut = reader.mask(tmp_path / "cut", reading, ["saliency"], batch_size=2)
    assert cohort.asked == 2 and parts[0].stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(read_masking(cut), read_masking(whole), rtol=1e-5)
    monkeypatch.setattr(keras.models, "load_model", lambda *_: pytest.fail("a finished reading needs no network"))
    ReadNetwork(network, cohort, per_phase=0, seed=0).mask(cut, reading, ["saliency"], batch_size=2)
    assert cohort.asked == 2


def test_another_reading_in_the_same_folder_is_begun_anew(network, tmp_path):
    cohort = FakeCohort()
    reader = ReadNetwork(network, cohort, per_phase=0, seed=0)
    for fill in ("zero", "blurred"):
        folder = reader.mask(tmp_path / "one", Reading(draws=1, fill=fill), ["saliency_positive"], batch_size=8)
        assert set(read_masking(folder)["fill"]) == {fill}
    assert cohort.asked == 2


def test_random_voxels_are_called_those_of_the_body_where_only_these_are_ranked(network, tmp_path):
    reader = ReadNetwork(network, FakeCohort(), per_phase=0, seed=0)
    methods = {}
    for within in ("image", "body"):
        folder = reader.mask(tmp_path / within, Reading(draws=1, within=within), ["saliency"], batch_size=8)
        methods[within] = set(reading_means(folder)["method"])
    assert {"random", "random_body"} <= methods["image"]
    assert "random_body" in methods["body"] and "random" not in methods["body"]


LEVELS = {("sam", "conv2b", "top"): 30.0, ("sam", "conv3b", "top"): 30.0, ("sam", "conv4b", "top"): 30.0}


def tables(levels=LEVELS, networks=3):
    return {f"n{k}": slice_table(levels, k) for k in range(networks)}


def test_a_variant_takes_the_place_of_sam_and_of_nothing_else():
    table = tables(networks=1)["n0"]
    swapped = with_variant(table, "sam_no_inversion")
    before = table[table["method"] == "sam_no_inversion"]["relative_probability"]
    assert list(swapped[swapped["method"] == "sam"]["relative_probability"]) == list(before)
    assert not set(swapped["method"]) & {"sam_no_inversion", "sam_mean_gradient"}
    others = [frame[frame["method"].isin(["cam", "blocks"])].reset_index(drop=True) for frame in (table, swapped)]
    pd.testing.assert_frame_equal(*others)
    with pytest.raises(ValueError, match="'hires_cam' was not masked by"):
        with_variant(table, "hires_cam")


def test_each_reading_is_judged_as_if_it_stood_alone():
    means = {"one": tables(), "two": tables({("saliency", "input", "top"): 10.0})}
    replaced = {"sam_no_inversion": {name: with_variant(t, "sam_no_inversion") for name, t in means["one"].items()}}
    parts = judge_readings(reading_contrasts(means, replaced))
    for name, of_networks in means.items():
        expected = judge(contrasts(of_networks))
        found = parts[parts["reading"] == name].drop(columns="reading").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)
    of_variant = set(parts.loc[parts["reading"] == "sam_no_inversion", "claim"])
    assert of_variant == {"C57", "C60"} <= set(OF_SAM), "claims on layers without the variant are left out"


def test_the_weakest_part_of_each_claim_by_hand():
    rows = [
        ("a", "C52", "x", "lower", -9.0, "supported"), ("a", "C52", "y", "lower", -2.0, "inconclusive"),
        ("a", "C52", "z", "lower", 4.0, "inconclusive"), ("a", "C51", "u", "same", -8.0, "contradicted"),
        ("a", "C51", "v", "same", 7.0, "contradicted"), ("b", "C52", "x", "lower", -9.0, ""),
        ("b", "C52", "y", "lower", -3.0, ""),
    ]  # fmt: skip
    parts = pd.DataFrame(rows, columns=["reading", "claim", "part", "kind", "mean", "outcome"])
    found = weakest_parts(parts).set_index(["reading", "claim"])
    assert found["part"].to_dict() == {("a", "C52"): "z", ("a", "C51"): "u", ("b", "C52"): "y"}
    assert found.loc[("a", "C52"), ["outcome", "supported", "of_parts"]].tolist() == ["inconclusive", 1, 3]
    assert found.loc[("b", "C52"), ["outcome", "supported", "of_parts"]].tolist() == ["", 0, 2]


def test_outcomes_that_change_are_counted():
    outcomes = ("supported", "supported", "supported", "contradicted", "inconclusive")
    rows = [("C52", reading, outcome) for reading, outcome in zip("abcde", outcomes, strict=True)]
    rows += [("C41", "a", "inconclusive")]
    found = changed_outcomes(pd.DataFrame(rows, columns=["claim", "reading", "outcome"]), "a")
    assert found.loc["C52"].tolist() == ["supported", 2, 2, 1]
    assert found.loc["C41"].tolist() == ["inconclusive", 0, 0, 0]


def test_c41_and_c62_compare_what_they_say():
    assert [str(part) for part in CLAIMS["C62"][0]] == [
        "saliency_positive input - random_body", "saliency_negative input - random_body"
    ]  # fmt: skip
    levels = LEVELS | {("saliency_positive", "input", "top"): 20.0, ("random_body", "-", "random"): 50.0}
    parts = judge_readings(reading_contrasts({"one": tables(levels)}, {})).set_index("part")
    assert parts.loc["saliency_positive input - random_body", "mean"] == pytest.approx(-30, abs=2)
    assert parts.loc["saliency_negative input - random_body", "mean"] == pytest.approx(10, abs=2)
    assert parts.loc["saliency_negative input - random_body", "log_odds"] == pytest.approx(-2)
    assert (parts.loc[parts["claim"] == "C41", "outcome"] == "supported").all()


def test_findings_on_c41_and_c62_are_those_of_the_default_reading():
    means = {"default": tables(LEVELS), "other": tables()}
    parts = judge_readings(reading_contrasts(means, {}))
    found = {finding.id: finding for finding in default_reading_findings(parts)}
    assert list(found) == ["C41", "C62"] and found["C41"].verdict == "supported"
    alone = {name: dict(list(of.items())[:1]) for name, of in means.items()}
    found = default_reading_findings(judge_readings(reading_contrasts(alone, {})))
    assert [finding.verdict for finding in found] == ["undecided"] * 2
    assert all(finding.measured.startswith("one network: ") for finding in found)

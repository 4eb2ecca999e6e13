"""The cascade against the trained network at one end and the untrained one at the other."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers as kl

from lib.attribution import Attributor
from lib.maps.agreement import maps_of, measure_agreement, summarise_agreement
from lib.maps.randomisation import (
    ALL,
    INTACT,
    OUTPUT,
    Cascade,
    judge,
    judge_maps,
    judged_stages,
    read_stages,
    weighted_layers,
)
from lib.networks import phase_net, untrained_twin

METHODS = ("saliency", "cam", "grad_cam", "sam")
LAYERS = ("conv1", "conv2")


@pytest.fixture(scope="module")
def network():
    """A network whose weights are far from those of any initialiser, as after training; its biases are not 0."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 1))
    x = kl.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = kl.Conv2D(4, 3, padding="same", activation="relu", name="conv2")(kl.MaxPooling2D()(x))
    model = keras.Model(inputs, kl.Dense(5, activation="softmax", name="phase")(kl.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(0.1, 0.4, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"patient": list("abcd"), "series": list("1234"), "slice": 0, "phase": ["cm", "neph"] * 2})
    return rows, rng.standard_normal((4, 16, 16, 1)).astype("float32"), np.ones((4, 16, 16), bool)


def weights(model, layer):
    return model.get_layer(layer).get_weights()


def test_a_stage_is_random_from_the_output_down_to_its_layer(network):
    before, twin = network.get_weights(), untrained_twin(network, 7)
    cascade = Cascade(network, LAYERS, METHODS)
    random = {"phase": ("phase",), "conv2": ("phase", "conv2"), "conv1": ("phase", "conv2", "conv1"), None: ()}
    for stage in ("conv1", "phase", "conv2", None):  # in no order: nothing is left from the stage before
        copy = cascade.randomise(stage, 7)
        for layer in ("phase", "conv2", "conv1"):
            for found, old, new in zip(*(weights(m, layer) for m in (copy, network, twin)), strict=True):
                np.testing.assert_array_equal(found, new if layer in random[stage] else old)
    for found, expected in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (weights(untrained_twin(network, 8), "conv1")[0] != weights(twin, "conv1")[0]).any()


def test_maps_are_the_trained_networks_at_one_end_and_the_untrained_ones_at_the_other(network, batch):
    _, images, body = batch
    classes = np.array([1, 3, 1, 3])
    cascade = Cascade(network, LAYERS, METHODS)
    sources = cascade.sources([None, "conv1"], [7])
    for stage, model in ((None, network), ("conv1", untrained_twin(network, 7))):
        found, expected = sources[stage, 7](images, body, classes), Attributor(model, LAYERS)(images, classes, METHODS)
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-5 * np.abs(values).max(), err_msg=str(name))


def test_a_network_that_is_not_randomised_keeps_its_maps_and_the_rest_does_not(network, batch):
    cascade = Cascade(network, LAYERS, METHODS)
    sources = {("trained", 0): maps_of(Attributor(network, LAYERS), METHODS)}
    sources |= cascade.sources([None, "phase", "conv2", "conv1"], [7, 8])
    table = pd.concat(measure_agreement([batch], sources, reference=("trained", 0)))
    kept = table[table.second.isna()]
    np.testing.assert_allclose(kept[["rank_correlation", "overlap"]], 1, atol=1e-3)
    means = table[table.ranking == "absolute"].groupby(["second", "method"]).rank_correlation.mean()
    assert (means["conv1"] < 0.7).all(), means
    assert means["phase", "cam"] < 0.95, "CAM weighs kernels by the dense layer, which is random"


def test_stages_go_from_the_output_to_the_first_layer(network):
    assert weighted_layers(network) == ["phase", "conv2", "conv1"]
    assert read_stages(network, "phase conv1") == ["phase", "conv1"]
    with pytest.raises(ValueError, match="conv9 has no weights or is not there; known are phase, conv2, conv1"):
        read_stages(network, "phase conv9")
    for wrong in ("conv2 phase conv1", "phase conv2", "phase phase conv1", ""):
        with pytest.raises(ValueError, match=r"from the output \(phase\) to the input, the last conv1"):
            read_stages(network, wrong)


def test_maps_are_judged_behind_their_layer_and_at_the_end():
    net, stages = phase_net(32), ["phase", "conv6", "conv5a", "conv4a", "conv3a", "conv2a", "conv1a"]
    found = {layer: judged_stages(net, stages, layer) for layer in ("input", "conv6", "conv5b", "conv4b", "conv2b")}
    assert {layer: found[layer].get(INTACT) for layer in found} == {
        "input": None, "conv6": "phase", "conv5b": "conv6", "conv4b": "conv5a", "conv2b": "conv3a"
    }  # fmt: skip
    assert {(stage[OUTPUT], stage[ALL]) for stage in found.values()} == {("phase", "conv1a")}
    assert judged_stages(net, ["conv1a"], "conv6") == {OUTPUT: "conv1a", ALL: "conv1a"}


def test_the_verdict_is_where_the_whole_interval_lies(network):
    assert [judge(0.1, 0.4), judge(0.6, 0.9), judge(0.4, 0.6), judge(np.nan, np.nan)] == [
        "passes", "fails", "undecided", "undecided"
    ]  # fmt: skip
    facts = {"ranking": "absolute", "phase": "mean", "measure": "rank_correlation", "blank": 0.0}
    rows = [
        {"method": "sam", "layer": "conv1", "second": stage, "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        for stage, mean in {"phase": 0.99, "conv2": 0.8, "conv1": 0.2}.items()
    ]
    rows += [{**rows[2], other: "another", "low": 0.8, "high": 0.9} for other in ("ranking", "phase", "measure")]
    verdicts = judge_maps(network, ["phase", "conv2", "conv1"], pd.DataFrame([facts | row for row in rows]))
    assert len(verdicts) == 3
    assert verdicts.set_index("judged")[["stage", "verdict"]].T.to_dict("list") == {
        OUTPUT: ["phase", "fails"], INTACT: ["conv2", "fails"], ALL: ["conv1", "passes"]
    }  # fmt: skip


def test_the_summary_keeps_stages_apart(network, batch):
    cascade = Cascade(network, LAYERS, METHODS)
    sources = {("trained", 0): maps_of(Attributor(network, LAYERS), METHODS)} | cascade.sources(["phase", "conv1"], [7])
    table = pd.concat(measure_agreement([batch], sources, reference=("trained", 0)))
    summary = summarise_agreement(table, ["second"], rng=np.random.default_rng(0), resamples=100)
    assert set(judge_maps(network, ["phase", "conv1"], summary).stage) == {"phase", "conv1"}
    assert (summary.n_patients[summary.phase == "mean"] == 4).all()

"""Networks on radiographs: what is kept is read again, and what is measured follows identities."""

import keras
import numpy as np
import pytest

from lib.backbones import backbone, last_map
from lib.xray.chest_measures import answers_of, follows_tubes, layer_maps, measure_maps
from lib.xray.chest_networks import train_chests
from lib.xray.chest_study import network_input


@pytest.fixture(scope="module")
def model():
    return backbone("resnet18", (32, 32, 1), width=4, seed=1)


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(0).random((6, 32, 32)).astype(np.float32)


def test_a_network_is_trained_once_and_the_stages_share_their_weights(grey, tmp_path, monkeypatch):
    labels, path = np.array([0, 1, 0, 1, 0, 1]), tmp_path / "net.keras"
    recipe = {"epochs": 1, "first_epochs": 2, "seed": 3, "width": 4, "batch": 3}
    first = train_chests("resnet18", network_input(grey), labels, path=path, **recipe)
    monkeypatch.setattr("lib.xray.chest_networks._fit", lambda *_: pytest.fail("trained again"))
    again = train_chests("resnet18", network_input(grey), labels, path=path, **recipe)
    np.testing.assert_allclose(again.predict(network_input(grey)), first.predict(network_input(grey)), atol=1e-6)
    seen = []
    monkeypatch.setattr(
        "lib.xray.chest_networks._fit", lambda net, data, epochs, rate: seen.append((net, epochs, rate))
    )
    train_chests("resnet18", network_input(grey), labels, **recipe)
    (small, *of_small), (large, *of_large) = seen
    assert small.input_shape[1:3] == (16, 16) and large.input_shape[1:3] == (32, 32)
    assert of_small == [2, 2e-3] and of_large == [1, 1e-3]
    assert all(np.array_equal(*pair) for pair in zip(small.get_weights(), large.get_weights(), strict=True))
    seen.clear()
    train_chests("vit_tiny", network_input(grey), labels, epochs=1, first_epochs=2)
    assert [(net.input_shape[1:3], epochs) for net, epochs, _ in seen] == [((32, 32), 3)]


def test_answers_of_the_last_patients_stand_beside_those_without_the_finding(model, grey):
    table = answers_of(model, {"grey": grey, "label": np.array([0, 0, 0, 0, 1, 1])}, grey[:2])
    p = model.predict(network_input(grey))[:, 1]
    np.testing.assert_allclose(table["p"], p, rtol=1e-5)
    np.testing.assert_allclose(table["p_without"], [*[np.nan] * 4, *p[:2]], rtol=1e-5)
    assert table["right"].tolist() == [(value > 0.5) == (n > 3) for n, value in enumerate(p)]


def test_maps_are_measured_at_every_stage_and_fully_at_the_last(model, grey):
    last = last_map("resnet18")
    maps = layer_maps("resnet18", model, backbone("resnet18", (32, 32, 1), width=4, seed=2), grey)
    assert {method for method, _ in maps} == {"grad_cam", "hires_cam", "layer_cam", "untrained"}
    assert all(held.shape == grey.shape for held in maps.values())
    masks = grey > 0.9
    maps = {key: masks.astype(float) for key in maps}
    table = measure_maps(maps, masks, last)
    assert len(table) == 6 * (3 * 4 + 1) and (table["ehr"] == 1).all()  # a map that is the mask is perfect
    fully = table["pointing"].notna()
    assert set(table.loc[fully, "method"]) == {"grad_cam", "untrained"} and set(table.loc[fully, "layer"]) == {last}


def test_heat_is_shared_between_the_regions_of_an_image(grey):
    model = backbone("resnet18", (32, 32, 1), width=4, seed=1)
    head = next(layer for layer in reversed(model.layers) if layer.weights)
    kernel, bias = head.get_weights()
    head.set_weights([np.abs(kernel) * [-1, 1], bias])  # with weights above 0 for the finding no map is dead
    left = np.zeros(grey.shape, bool)
    left[:, :, :8] = True
    states = {"neither": {"grey": 1 - grey}, "both": {"grey": grey, "gap": left, "tube": ~left}}
    keras.utils.set_random_seed(0)
    answers, heats = follows_tubes("resnet18", model, states)
    assert answers.groupby("state")["p"].size().to_dict() == {"both": 6, "neither": 6}
    p = model.predict(network_input(grey))[:, 1]
    np.testing.assert_allclose(answers.loc[answers["state"] == "both", "p"], p, rtol=1e-5)
    gap, tube = (heats.loc[heats["region"] == name, "density"].to_numpy() for name in ("pneumothorax", "tube"))
    alive = ~np.isnan(gap)
    assert alive.any()
    np.testing.assert_allclose(0.25 * gap[alive] + 0.75 * tube[alive], 1, rtol=1e-6)

"""Backbones: published numbers of weights, depth, the maps that can be taken from them."""

import keras
import numpy as np
import pytest

from lib.attribution import Attributor
from lib.backbones import NAMES, backbone, last_map, stage_maps


def _weights(model, *, kernels_only=False):
    layers = [layer for layer in model.layers if layer.name != "logits"]
    kinds = (keras.layers.Conv2D,) if kernels_only else keras.Layer
    return sum(int(np.prod(weight.shape)) for layer in layers if isinstance(layer, kinds) for weight in layer.weights)


def test_weights_are_those_of_the_published_networks():
    # one-channel ResNet18 of another library: 11,179,840 with the running statistics
    assert _weights(backbone("resnet18", (64, 64, 1), width=64)) == 11_179_840
    # torchvision's ResNet50 without its classifier: 23,508,032, less two of three input channels, plus statistics
    model = backbone("resnet50", (64, 64, 1), width=64)
    assert sum(int(np.prod(w.shape)) for layer in model.layers if layer.name != "logits"
               for w in layer.trainable_weights) == 23_508_032 - 2 * 49 * 64  # fmt: skip
    # one-channel VGG16 of another library: 14,713,536 with 4,224 biases, in whose place stands the normalisation
    assert _weights(backbone("vgg16", (64, 64, 1), width=64), kernels_only=True) == 14_713_536 - 4_224


def test_depth_is_what_the_name_says():
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "vgg16", "vgg19"):
        model = backbone(name, (32, 32, 1), width=4)
        convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        on_path = [layer for layer in convolutions if "short" not in layer.name]
        dense = 1 if name.startswith("resnet") else 3  # the published VGGs end in three dense layers, these in one
        assert len(on_path) + dense == int("".join(filter(str.isdigit, name)))


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow), "vgg11", "vit_tiny"])
def test_every_stage_has_maps_and_gradients(name):
    model = backbone(name, (64, 64, 1), width=8 if "vit" not in name else 24, seed=1)
    attributor = Attributor(model, stage_maps(name))
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 1)).astype("float32")
    maps = attributor(images, 1, ["grad_cam", "hires_cam", "layer_cam"])
    assert last_map(name) in attributor.layers
    for (method, layer), found in maps.items():
        assert found.ndim == 3 and np.isfinite(found).all(), (method, layer)
        if method == "hires_cam":
            assert np.abs(found).max() > 0, layer


def test_hires_cam_of_the_tokens_sums_to_the_logit():
    """After the mean over tokens and one dense layer: HiResCAM's cells add up to the logit without its bias."""
    model = backbone("vit_tiny", (64, 64, 1), seed=0)
    images = np.random.default_rng(0).normal(size=(3, 64, 64, 1)).astype("float32")
    maps, found = Attributor(model, ["map"])(images, 1, ["cam", "hires_cam"], return_scores=True)
    bias = model.get_layer("logits").get_weights()[1][1]
    assert maps["cam", "map"] == pytest.approx(64 * maps["hires_cam", "map"], rel=1e-3, abs=1e-6)
    assert maps["hires_cam", "map"].sum(axis=(1, 2)) == pytest.approx(found.explained - bias, abs=1e-5)


def test_a_seed_gives_the_same_weights_and_names_are_told():
    one, two, other = (backbone("resnet18", (32, 32, 1), width=4, seed=seed) for seed in (1, 1, 2))
    same = [np.array_equal(a, b) for a, b in zip(one.get_weights(), two.get_weights(), strict=True)]
    assert all(same)
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])
    with pytest.raises(ValueError, match=r"resnet18.*vit_base"):
        backbone("lenet", (32, 32, 1))
    assert set(map(last_map, NAMES))


def test_a_model_is_saved_and_read(tmp_path):
    model = backbone("vit_tiny", (32, 32, 1), width=24)
    model.save(tmp_path / "m.keras")
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.predict(images, verbose=0) == pytest.approx(model.predict(images, verbose=0), abs=1e-6)

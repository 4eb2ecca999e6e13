"""Variants of the maps against naive loops."""

import keras
import naive
import numpy as np
import pytest
from keras import layers as kl

from lib.maps.variants import ABLATIONS, COMPARED, SIGNS, MapVariants

LABELS = np.array([2, 0])


@pytest.fixture(scope="module")
def computed():
    """Maps of two images, and what the naive loops need: activations and gradients of both layers."""
    keras.utils.set_random_seed(5)
    first = kl.Conv2D(4, 3, padding="same", activation="relu", name="first", bias_initializer="random_normal")
    last = kl.Conv2D(3, 3, padding="same", activation="relu", name="last", bias_initializer="random_normal")
    dense = kl.Dense(5, activation="softmax")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), first, kl.MaxPooling2D(), last, kl.GlobalAveragePooling2D(), dense]
    )
    images = np.random.default_rng(2).standard_normal((2, 8, 8, 1)).astype("float32")
    maps = MapVariants(model, ["first", "last"])(images, LABELS, ["sam", *SIGNS, *ABLATIONS, *COMPARED])
    weights = [first.get_weights(), None, last.get_weights(), dense.get_weights()]
    found = [naive.passes(weights, image, label, False) for image, label in zip(images, LABELS, strict=True)]
    places = {"first": 0, "last": 2}
    return maps, {(layer, n): (outputs[at], gradients[at + 1], gradients[0][..., 0])
                  for n, (_, outputs, gradients) in enumerate(found) for layer, at in places.items()}  # fmt: skip


NAIVE = {
    "sam": lambda a, g: naive.sam(a, g),
    "sam_no_blur": lambda a, g: naive.sam(a, g, sigma=None),
    "sam_no_inversion": lambda a, g: naive.sam(a, g, inversion=False),
    "sam_layer_maximum": lambda a, g: naive.sam(a, g, maximum="layer"),
    "sam_mean_gradient": lambda a, g: naive.sam(a, np.broadcast_to(g.mean(axis=(0, 1)), g.shape), sigma=None),
    "hires_cam": lambda a, g: (a * g).sum(axis=-1),
    "layer_cam": lambda a, g: (a * np.maximum(g, 0)).sum(axis=-1),
}


@pytest.mark.parametrize("layer", ["first", "last"])
@pytest.mark.parametrize("method", NAIVE)
def test_each_variant_is_that_of_the_naive_loop(computed, method, layer):
    maps, known = computed
    for n in range(2):
        expected = NAIVE[method](*known[layer, n][:2])
        np.testing.assert_allclose(maps[method, layer][n], expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(maps[method, "first"]) > 0


def test_the_two_signs_are_the_saliency_taken_apart(computed):
    maps, known = computed
    positive, negative = (maps[name, "input"] for name in SIGNS)
    saliency = np.stack([known["first", n][2] for n in range(2)])
    np.testing.assert_allclose(positive - negative, saliency, rtol=1e-4, atol=1e-7)
    assert (positive >= 0).all() and (negative >= 0).all() and not (positive * negative).any()
    assert positive.any() and negative.any()


def test_only_what_is_asked_for_comes_back_and_what_is_not_known_raises():
    inputs = keras.Input((8, 8, 1))
    x = kl.GlobalAveragePooling2D()(kl.Conv2D(2, 3, activation="relu", name="conv")(inputs))
    maps = MapVariants(keras.Model(inputs, kl.Dense(5, activation="softmax")(x)), ["conv"])
    images = np.random.default_rng(0).standard_normal((1, 8, 8, 1)).astype("float32")
    asked = ["saliency_negative", "sam_no_blur", "cam"]
    assert list(maps(images, np.array([1]), asked)) == maps.keys(asked)
    assert maps.keys(asked) == [("saliency_negative", "input"), ("sam_no_blur", "conv"), ("cam", "conv")]
    with pytest.raises(ValueError, match="'sam_no_blurr' cannot be had"):
        maps.keys(["sam_no_blurr"])

"""The maps against closed forms, exact identities and naive loops. The whole file runs on TensorFlow, JAX and torch."""

import keras
import naive
import numpy as np
import pytest
from keras import layers as kl

from lib.attribution import Attributor, blur, cam, grad_cam, guided_backprop, saliency, sam

CLASSES = 4


def small_net(size=16, channels=1, head="softmax", seed=1):
    """conv1 conv2 pool conv3 GAP dense: the paper's network in small, with non-zero biases."""
    keras.utils.set_random_seed(seed)
    bias = {"bias_initializer": keras.initializers.RandomNormal(stddev=0.1)}
    inputs = x = keras.Input((size, size, channels))
    for name, kernels in (("conv1", 6), ("conv2", 8)):
        x = kl.Conv2D(kernels, 3, padding="same", activation="relu", name=name, **bias)(x)
    x = kl.MaxPooling2D(name="pool")(x)
    x = kl.Conv2D(7, 3, padding="same", activation="relu", name="conv3", **bias)(x)
    x = kl.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(inputs, kl.Dense(CLASSES, activation=head, name="phase", **bias)(x))


def images_of(n, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype("float32")


def naive_layers(model):
    return [
        *(tuple(v.numpy() for v in ()) or _weights(model, name) for name in ("conv1", "conv2")),
        None,
        _weights(model, "conv3"),
        _weights(model, "phase"),
    ]


def _weights(model, name):
    return tuple(model.get_layer(name).get_weights())


def close(found, expected, tolerance=1e-5):
    """Agree to a fraction of the largest expected value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.fixture(scope="module")
def model():
    return small_net()


@pytest.fixture(scope="module")
def attributor(model):
    return Attributor(model, ["conv1", "conv2", "conv3"])


@pytest.fixture(scope="module")
def images():
    return images_of(5, 16, 16, 1)


@pytest.fixture(scope="module")
def maps(attributor, images):
    return attributor(images, [0, 1, 2, 3, 0])


def test_every_map_agrees_with_naive_loops(model, images, maps):
    layers, classes = naive_layers(model), [0, 1, 2, 3, 0]
    for i in (1, 2):
        _, outputs, plain = naive.passes(layers, images[i].astype(float), classes[i], guided=False)
        _, _, guided = naive.passes(layers, images[i].astype(float), classes[i], guided=True)
        close(maps["saliency", "input"][i], plain[0][..., 0])
        close(maps["guided_backprop", "input"][i], guided[0][..., 0])
        close(maps["cam", "conv3"][i], naive.cam(outputs[3], layers[-1][0][:, classes[i]]))
        for name, at in (("conv1", 0), ("conv2", 1), ("conv3", 3)):
            activation, gradient = outputs[at], plain[at + 1]
            close(maps["sam", name][i], naive.sam(activation, gradient))
            close(maps["grad_cam", name][i], naive.grad_cam(activation, gradient))
            close(maps["hires_cam", name][i], (gradient * activation).sum(axis=-1))
            close(maps["layer_cam", name][i], np.maximum((np.maximum(gradient, 0) * activation).sum(axis=-1), 0))


def test_default_layers_are_those_before_a_pooling_and_the_last(model):
    assert Attributor(model).layers == ("conv2", "conv3")


def test_last_layer_of_a_pooled_head(maps):
    """G is constant per kernel there: HiResCAM = Grad-CAM before ReLU = CAM / cells, SAM = CAM / cells + constant."""
    scaled = maps["cam", "conv3"] / 64
    close(maps["hires_cam", "conv3"], scaled)
    close(maps["grad_cam", "conv3"], np.maximum(scaled, 0))
    constant = maps["sam", "conv3"] - scaled
    close(constant, np.broadcast_to(constant.mean(axis=(1, 2), keepdims=True), constant.shape))


def test_sam_without_blur_and_inversion_decomposes(model, images):
    """SAM = sum G A + sum max(A) ReLU(-G): HiResCAM plus a reward for low activation under negative gradient."""
    plain = Attributor(model, ["conv2"], blur_sigma=None)(images, 1, ["sam", "hires_cam", "layer_cam"])
    reward = plain["sam", "conv2"] - plain["hires_cam", "conv2"]
    assert reward.min() > -1e-6 * np.abs(plain["sam", "conv2"]).max()
    upright = Attributor(model, ["conv2"], blur_sigma=None, inversion=False)(images, 1, ["sam"])["sam", "conv2"]
    close(upright, 2 * _positive_part(model, images, "conv2", 1) - plain["hires_cam", "conv2"])


def _positive_part(model, images, layer, label):
    return Attributor(model, [layer])(images, label, ["layer_cam"])["layer_cam", layer]


def test_nothing_negative_makes_sam_hires_cam_and_layer_cam_equal():
    model = small_net()
    model.get_layer("conv3").set_weights([np.abs(w) for w in model.get_layer("conv3").get_weights()])
    model.get_layer("phase").set_weights([np.abs(w) for w in model.get_layer("phase").get_weights()])
    found = Attributor(model, ["conv2"], blur_sigma=None)(images_of(2, 16, 16, 1), 0, ["sam", "hires_cam", "layer_cam"])
    close(found["sam", "conv2"], found["hires_cam", "conv2"])
    close(found["layer_cam", "conv2"], found["hires_cam", "conv2"])


def test_gradient_times_input_of_a_network_without_bias_sums_to_the_score():
    model = small_net(head="linear")
    for name in ("conv1", "conv2", "conv3", "phase"):
        weights, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([weights, 0 * bias])
    images = images_of(3, 16, 16, 1)
    gradient = saliency(model, images, 2)
    score = model.predict(images, verbose=0)[:, 2]
    np.testing.assert_allclose((gradient * images[..., 0]).sum(axis=(1, 2)), score, rtol=1e-4, atol=1e-6)


def test_a_linear_networks_saliency_is_its_weights():
    model = keras.Sequential([keras.Input((4, 4, 1)), kl.Flatten(), kl.Dense(3, activation="softmax")])
    weights = model.layers[-1].get_weights()[0]
    close(saliency(model, images_of(2, 4, 4, 1), [0, 2])[1], weights[:, 2].reshape(4, 4))


def test_maps_do_not_depend_on_what_else_is_in_the_batch(attributor, images, maps):
    for i, label in enumerate([0, 1, 2, 3, 0]):
        for key, alone in attributor(images[i : i + 1], label).items():
            np.testing.assert_allclose(alone[0], maps[key][i], rtol=1e-5, atol=1e-6 * np.abs(maps[key]).max())


def test_thin_functions_are_the_same_maps(model, images, maps):
    classes = [0, 1, 2, 3, 0]
    close(saliency(model, images, classes), maps["saliency", "input"])
    close(guided_backprop(model, images, classes), maps["guided_backprop", "input"])
    close(cam(model, images, classes), maps["cam", "conv3"])
    close(grad_cam(model, images, classes, "conv2"), maps["grad_cam", "conv2"])
    close(sam(model, images, classes, "conv2"), maps["sam", "conv2"])


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (9, 4)])
def test_blur_is_scipys_with_reflected_edges(shape):
    from scipy.ndimage import gaussian_filter

    field = images_of(2, *shape, 3)
    found = keras.ops.convert_to_numpy(blur(keras.ops.convert_to_tensor(field), 0.75))
    close(found, gaussian_filter(field.astype(float), (0, 0.75, 0.75, 0), mode="reflect"))

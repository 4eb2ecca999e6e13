"""The maps against closed forms, exact identities and naive loops. The whole file runs on TensorFlow, JAX and torch."""

import hypothesis
import keras
import naive
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import layers as kl
from scipy.ndimage import gaussian_filter

from lib.attribution import LAYER_METHODS, Attributor, blur, cam, grad_cam, guided_backprop, saliency, sam

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
    weights = [tuple(model.get_layer(name).get_weights()) for name in ("conv1", "conv2", "conv3", "phase")]
    return [*weights[:2], None, *weights[2:]]


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
    field = images_of(2, *shape, 3)
    found = keras.ops.convert_to_numpy(blur(keras.ops.convert_to_tensor(field), 0.75))
    close(found, gaussian_filter(field.astype(float), (0, 0.75, 0.75, 0), mode="reflect"))


@pytest.mark.parametrize(
    ("readings", "naively"),
    [
        ({"blur_sigma": None}, {"sigma": None}),
        ({"blur_sigma": 1.5}, {"sigma": 1.5}),
        ({"maximum": "layer"}, {"maximum": "layer"}),
        ({"inversion": False}, {"inversion": False}),
        ({"gradient": "mean"}, {}),
    ],
)
def test_readings_of_sam(model, images, readings, naively):
    _, outputs, plain = naive.passes(naive_layers(model), images[0].astype(float), 2, guided=False)
    gradient = plain[2]
    if readings.get("gradient") == "mean":
        gradient = np.broadcast_to(gradient.mean(axis=(0, 1)), gradient.shape)
    close(sam(model, images[:1], 2, "conv2", **readings)[0], naive.sam(outputs[1], gradient, **naively))


def test_probability_maps_are_the_derivative_of_the_softmax(model, images):
    """dp_c/dx by logit gradients: p_c (dz_c/dx - sum_j p_j dz_j/dx)."""
    logit = Attributor(model, [])
    p = model.predict(images, verbose=0)
    by_class = np.stack([logit(images, c, "saliency")["saliency", "input"] for c in range(CLASSES)])
    expected = p[:, 1, None, None] * (by_class[1] - np.einsum("nc,cnhw->nhw", p, by_class))
    close(saliency(model, images, 1, score="probability"), expected, 1e-4)


def test_probability_and_log_odds_differ_by_a_factor_an_image(model, images):
    found = {score: Attributor(model, ["conv2"], score=score)(images, 1) for score in ("probability", "log_odds")}
    p = model.predict(images, verbose=0)[:, 1, None, None]
    for key, value in found["log_odds"].items():
        factor = 1 if key[0] == "cam" else p * (1 - p)
        close(found["probability"][key], value * factor, 1e-4)


def test_a_saturated_softmax_keeps_its_probability_map():
    """1 - p is lost in float32 from a margin of 17 on; the map is not."""
    model, images = small_net(), images_of(1, 16, 16, 1)
    weights, _ = model.get_layer("phase").get_weights()
    model.get_layer("phase").set_weights([weights, np.float32([40, 0, 0, 0])])
    assert model.predict(images, verbose=0)[0, 0] == 1
    found, ranked = (saliency(model, images, 0, score=score) for score in ("probability", "log_odds"))
    np.testing.assert_allclose(found / ranked, found.sum() / ranked.sum(), rtol=1e-4)
    assert 0 < np.abs(found).max() < 1e-10
    model.get_layer("phase").set_weights([weights, np.float32([200, 0, 0, 0])])
    with pytest.warns(UserWarning, match="score='log_odds' ranks alike"):
        saliency(model, images, 0, score="probability")


def test_sigmoid_scores_are_independent():
    model, images = small_net(head="sigmoid"), images_of(2, 16, 16, 1)
    p = model.predict(images, verbose=0)[:, 3, None, None]
    close(saliency(model, images, 3, score="probability"), p * (1 - p) * saliency(model, images, 3), 1e-4)


def same_weights(model, other):
    for a, b in zip(model.trainable_variables, other.trainable_variables, strict=True):
        b.assign(keras.ops.convert_to_numpy(a))
    return other


def with_parts(relu, softmax, wrap=lambda x: x):
    """`small_net` with its activations as `relu` and `softmax` make them."""
    inputs = x = keras.Input((16, 16, 1))
    for name, kernels in (("conv1", 6), ("conv2", 8)):
        x = wrap(relu(x, kernels, name))
    x = kl.MaxPooling2D(name="pool")(x)
    x = kl.GlobalAveragePooling2D()(relu(x, 7, "conv3"))
    return keras.Model(inputs, softmax(x))


def conv(x, kernels, **choices):
    return kl.Conv2D(kernels, 3, padding="same", **choices)(x)


RELUS = {
    "string": lambda x, k, n: conv(x, k, activation="relu"),
    "function": lambda x, k, n: conv(x, k, activation=keras.ops.relu),
    "lambda": lambda x, k, n: conv(x, k, activation=lambda z: keras.ops.maximum(z, 0)),
    "layer as activation": lambda x, k, n: conv(x, k, activation=kl.ReLU()),
    "ReLU": lambda x, k, n: kl.ReLU()(conv(x, k)),
    "Activation": lambda x, k, n: kl.Activation("relu")(conv(x, k)),
    "operation": lambda x, k, n: keras.ops.relu(conv(x, k)),
    "activations.relu": lambda x, k, n: keras.activations.relu(conv(x, k)),
}
HEADS = {
    "string": lambda x: kl.Dense(CLASSES, activation="softmax")(x),
    "Softmax": lambda x: kl.Softmax()(kl.Dense(CLASSES)(x)),
    "Activation": lambda x: kl.Activation("softmax", dtype="float32")(kl.Dense(CLASSES)(x)),
    "operation": lambda x: keras.ops.softmax(kl.Dense(CLASSES)(x)),
    "linear after": lambda x: kl.Activation("linear", dtype="float32")(kl.Dense(CLASSES, activation="softmax")(x)),
    "logits": lambda x: kl.Dense(CLASSES)(x),
    "dropout": lambda x: kl.Dense(CLASSES, activation="softmax")(kl.Dropout(0.5)(x)),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_every_kind_of_relu_is_guided(model, images, maps, relu):
    """tf-keras-vis leaves keras.layers.ReLU alone, MONAI whatever is not named relu*: they return plain saliency."""
    other = same_weights(model, with_parts(relu, HEADS["string"]))
    close(guided_backprop(other, images, [0, 1, 2, 3, 0]), maps["guided_backprop", "input"])
    assert np.abs(maps["guided_backprop", "input"] - maps["saliency", "input"]).max() > 1e-3


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_every_kind_of_head_gives_the_logit(model, images, maps, head):
    """xplique and tf-keras-vis leave the gradient on the softmax of some of these."""
    other = same_weights(model, with_parts(RELUS["string"], head))
    found = Attributor(other)(images, [0, 1, 2, 3, 0])
    close(found["saliency", "input"], maps["saliency", "input"])
    close(next(v for (method, _), v in found.items() if method == "cam"), maps["cam", "conv3"])


def test_a_batch_normalised_network_runs_in_inference_mode(images):
    def block(x, kernels, name):
        return kl.SpatialDropout2D(0.5)(kl.ReLU()(kl.BatchNormalization()(conv(x, kernels))), training=True)

    model = with_parts(block, HEADS["dropout"])
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, kl.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    before = model.get_weights()
    explain = Attributor(model)
    first, second, alone = explain(images, 1), explain(images, 1), explain(images[:1], 1)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
        close(value[:1], alone[key])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_nested_model_has_the_same_maps_as_a_flat_one(model, images, maps):
    inside = keras.Input((16, 16, 1))
    x = kl.Conv2D(6, 3, padding="same", activation="relu", name="conv1")(inside)
    x = kl.Conv2D(8, 3, padding="same", activation="relu", name="conv2")(x)
    base = keras.Model(inside, kl.MaxPooling2D()(x), name="base")
    tail = keras.Sequential([kl.Conv2D(7, 3, padding="same", activation="relu", name="conv3")], name="tail")
    head = [kl.GlobalAveragePooling2D(), kl.Dense(CLASSES, activation="softmax")]
    nested = same_weights(model, keras.Sequential([keras.Input((16, 16, 1)), base, tail, *head]))
    explain = Attributor(nested, ["base/conv2", "conv3"])
    assert Attributor(nested).layers == ("conv2", "conv3")
    found = explain(images, [0, 1, 2, 3, 0])
    for (method, layer), value in found.items():
        close(value, maps[method, layer.rsplit("/", 1)[-1]])


def test_a_layer_that_is_called_twice_has_a_map_for_each_call():
    inputs = keras.Input((8, 8, 1))
    shared, relu = kl.Conv2D(3, 3, padding="same", name="shared"), kl.ReLU(name="relu")
    x = relu(shared(conv(relu(shared(conv(inputs, 4))), 4)))
    model = keras.Model(inputs, kl.Dense(2, activation="softmax")(kl.GlobalAveragePooling2D()(x)))
    found = Attributor(model, ["relu", "relu#2"])(images_of(2, 8, 8, 1), 1)
    close(found["grad_cam", "relu#2"], np.maximum(found["cam", "relu#2"], 0) / 64)
    assert np.abs(found["sam", "relu"] - found["sam", "relu#2"]).max() > 1e-4


def test_several_channels(images):
    model, images = small_net(channels=3), images_of(2, 16, 16, 3)
    _, _, plain = naive.passes(naive_layers(model), images[1].astype(float), 2, guided=False)
    found = saliency(model, images, 2)
    assert found.shape == (2, 16, 16, 3)
    close(found[1], plain[0])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_models_get_float32_maps(model, images, maps, policy):
    """The weights of a mixed-precision model are float32, and so are the passes: no map is rounded to half."""
    keras.config.set_dtype_policy(policy)
    try:
        mixed = same_weights(model, small_net())
    finally:
        keras.config.set_dtype_policy("float32")
    found = Attributor(mixed, ["conv1", "conv2", "conv3"])(images, [0, 1, 2, 3, 0])
    for key, value in found.items():
        assert value.dtype == np.float32
        close(value, maps[key])
    assert mixed.get_layer("conv1").compute_dtype == policy.removeprefix("mixed_")


def test_an_image_size_that_the_model_leaves_open():
    model = small_net(size=None)
    explain = Attributor(model)
    for size in (16, 24):
        images = images_of(2, size, size, 1)
        _, outputs, plain = naive.passes(naive_layers(model), images[0].astype(float), 1, guided=False)
        close(explain(images, 1)["sam", "conv2"][0], naive.sam(outputs[1], plain[2]))


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow has no channels-first convolution on a CPU"
)
def test_channels_first(model, images, maps):
    keras.config.set_image_data_format("channels_first")
    try:
        inputs = keras.Input((1, 16, 16))
        x = conv(conv(inputs, 6, activation="relu"), 8, activation="relu", name="conv2")
        x = conv(kl.MaxPooling2D()(x), 7, activation="relu", name="conv3")
        other = keras.Model(inputs, kl.Dense(CLASSES, activation="softmax")(kl.GlobalAveragePooling2D()(x)))
    finally:
        keras.config.set_image_data_format("channels_last")
    found = Attributor(same_weights(model, other))(np.moveaxis(images, -1, 1), [0, 1, 2, 3, 0])
    for key, value in found.items():
        close(value, maps[key])


def test_one_trace_for_batches_of_any_size_and_any_class(model):
    explain = Attributor(model, ["conv2"])
    images = images_of(8, 16, 16, 1)
    for n in (8, 4, 2, 1):
        explain(images[:n], 0)
    traces = explain.traces
    for n in (8, 7, 5, 3, 1):
        explain(images[:n], [n % CLASSES] * n)
    if keras.backend.backend() != "torch":
        assert explain.traces == traces
    if keras.backend.backend() == "tensorflow":
        assert traces == 1


def test_batches_larger_than_memory_are_split(model, images, maps):
    explain = Attributor(model, ["conv1", "conv2", "conv3"], memory=250_000)
    assert 1 < explain._images_at_once(images) < 5
    for key, value in explain(images, [0, 1, 2, 3, 0]).items():
        close(value, maps[key])


def test_memory_does_not_grow(attributor, images):
    import psutil

    def resident():
        for _ in range(150):
            attributor(images, 1)
        return psutil.Process().memory_info().rss

    first = min(resident() for _ in range(2))
    assert resident() - first < 8 * 2**20


def test_the_model_is_untouched_and_later_weights_are_seen(images):
    model = small_net()
    before, config, predictions = model.get_weights(), model.get_config(), model.predict(images, verbose=0)
    explain = Attributor(model, ["conv2"])
    explain(images, 1)
    assert model.get_config() == config and not model.losses
    np.testing.assert_array_equal(model.predict(images, verbose=0), predictions)
    model.set_weights([2 * w for w in before])
    close(explain(images, 1)["saliency", "input"], saliency(model, images, 1))


class Closed(kl.Layer):
    """A layer that cannot be opened: it computes with the value of a variable outside of Keras's operations."""

    def build(self, shape):
        self.slope = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return keras.ops.relu(x) * keras.ops.softplus(self.slope)


FAULTY_GATES = {
    "LeakyReLU, no plain ReLU": lambda x: kl.LeakyReLU()(x),
    "a ReLU with a slope, a cap or a threshold": lambda x: kl.ReLU(max_value=6.0)(x),
    "the activation relu6": lambda x: kl.Activation("relu6")(x),
    "the activation gelu": lambda x: conv(x, 4, activation="gelu"),
    "the activation LeakyReLU|the activation <": lambda x: conv(x, 4, activation=kl.LeakyReLU()),
    "the operation Maximum": lambda x: keras.ops.maximum(x, 0.0),
    "Closed, whose inside is not known": lambda x: Closed()(x),
    "TimeDistributed, a layer that holds others": lambda x: kl.TimeDistributed(kl.Dense(3, activation="relu"))(x),
}


@pytest.mark.parametrize(("message", "gate"), FAULTY_GATES.items(), ids=FAULTY_GATES)
def test_guided_backprop_refuses_what_is_no_plain_relu(message, gate):
    inputs = keras.Input((8, 8, 1))
    x = kl.GlobalAveragePooling2D()(gate(conv(inputs, 4, activation="relu")))
    explain = Attributor(keras.Model(inputs, kl.Dense(2, activation="softmax")(x)), [])
    assert explain.methods == ("saliency", "cam")
    assert np.isfinite(explain(images_of(1, 8, 8, 1), 0)["saliency", "input"]).all()
    with pytest.raises(ValueError, match=f"plain ReLUs only, and .* is ({message})"):
        explain(images_of(1, 8, 8, 1), 0, "guided_backprop")


def test_guided_backprop_without_a_relu_raises():
    model = keras.Sequential([keras.Input((4, 4, 1)), kl.Flatten(), kl.Dense(3, activation="softmax")])
    with pytest.raises(ValueError, match="no ReLU was found"):
        guided_backprop(model, images_of(1, 4, 4, 1), 0)
    with pytest.raises(ValueError, match="CAM needs a global average pooling"):
        cam(model, images_of(1, 4, 4, 1), 0)
    with pytest.raises(ValueError, match="no layer with a spatial output"):
        Attributor(model)(images_of(1, 4, 4, 1), 0, "sam")


def two_inputs():
    a, b = keras.Input((4, 4, 1)), keras.Input((4, 4, 1))
    return keras.Model([a, b], kl.Dense(2)(kl.Flatten()(kl.Add()([a, b]))))


def two_outputs():
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, [kl.Dense(2)(kl.Flatten()(inputs)), kl.Dense(3)(kl.Flatten()(inputs))])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inputs = [keras.Input((4, 4, 1))]


BAD_BUILDS = [
    (
        lambda m: Attributor(m, ["conv9"]),
        ValueError,
        "'conv9' .* is not there. Did you mean conv",
    ),
    (lambda m: Attributor(m, ["phase"]), ValueError, r"'phase' .* has output \(None, 4\), no map"),
    (lambda m: Attributor(m, score="softmax"), ValueError, "score='softmax' is not known: choose one of logit"),
    (lambda m: Attributor(m, maximum="image"), ValueError, "maximum='image'"),
    (lambda m: Attributor(m, gradient="max"), ValueError, "gradient='max'"),
    (lambda m: Attributor(m, blur_sigma=0), ValueError, "blur_sigma is 0"),
    (lambda m: Attributor("model.keras"), TypeError, "model is a str"),
    (lambda m: Attributor(two_inputs()), ValueError, "has 2 inputs .* expected one"),
    (lambda m: Attributor(two_outputs()), ValueError, "gives 2 outputs, and output=None names none: choose output=0"),
    (lambda m: Attributor(Subclassed()), TypeError, "cannot be taken apart, since its call does not run"),
    (lambda m: Attributor(small_net(head="relu")), ValueError, "'phase': relu.* is neither softmax"),
]
BAD_CALLS = [
    (lambda e, x: e(x[..., 0], 0), r"images has shape \(5, 16, 16\), expected \(n > 0, 16, 16, 1\)"),
    (lambda e, x: e(x[:0], 0), "expected \\(n > 0"),
    (lambda e, x: e(x[:, :8], 0), r"images has shape \(5, 8, 16, 1\)"),
    (lambda e, x: e(np.where(np.arange(5) == 3, np.nan, x.T).T, 0), "NaN or infinity, first in image 3"),
    (lambda e, x: e(x, 4), r"classes holds 4\.\.4, expected 0\.\.3"),
    (lambda e, x: e(x, -1), "classes holds -1"),
    (lambda e, x: e(x, [0, 1]), "expected an integer or 5 of them"),
    (lambda e, x: e(x, 1.0), "classes is float64"),
    (lambda e, x: e(x, 0, ["cam", "gradcam"]), "Method 'gradcam' cannot be had .* not known, choose among saliency"),
]


@pytest.mark.parametrize(("build", "error", "message"), BAD_BUILDS)
def test_bad_models_and_choices_say_what_is_wrong(model, build, error, message):
    with pytest.raises(error, match=message):
        build(model)


@pytest.mark.parametrize(("call", "message"), BAD_CALLS)
def test_bad_calls_say_what_is_wrong(attributor, images, call, message):
    with pytest.raises(ValueError, match=message):
        call(attributor, images)


def test_weights_that_are_not_finite_raise(images):
    model = small_net()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(FloatingPointError, match="image 0 is nan: look at the weights"):
        saliency(model, images, 0)


def test_a_layer_that_the_score_does_not_depend_on_raises():
    inputs = keras.Input((8, 8, 1))
    x = conv(inputs, 4, activation="relu", name="seen")
    blind = kl.Lambda(lambda t: keras.ops.stop_gradient(t), name="blind")(x)
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(blind)))
    with pytest.raises(ValueError, match="does not depend on 'seen'"):
        Attributor(model, ["seen"])
    with pytest.raises(ValueError, match="does not depend on its input"):
        Attributor(model)


fast = hypothesis.settings(max_examples=15, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))


@fast
@hypothesis.given(factor=st.floats(0.1, 10), seed=st.integers(0, 99), label=st.integers(0, CLASSES - 1))
def test_maps_scale_with_the_score(invariant, factor, seed, label):
    """Raw maps keep scale and sign; most libraries return them normalised."""
    model, explain = invariant
    images = images_of(2, 16, 16, 1, seed=seed)
    before = explain(images, label)
    weights, bias = model.get_layer("phase").get_weights()
    model.get_layer("phase").set_weights([weights * factor, bias])
    after = explain(images, label)
    model.get_layer("phase").set_weights([weights, bias])
    for key, value in before.items():
        close(after[key], value * factor, 1e-4)


@fast
@hypothesis.given(order=st.permutations(range(8)), seed=st.integers(0, 99))
def test_maps_do_not_depend_on_the_order_of_kernels(invariant, order, seed):
    model, explain = invariant
    images = images_of(2, 16, 16, 1, seed=seed)
    before, weights = explain(images, 1), model.get_weights()
    second, third = model.get_layer("conv2"), model.get_layer("conv3")
    (k2, b2), (k3, b3) = second.get_weights(), third.get_weights()
    second.set_weights([k2[..., order], b2[order]])
    third.set_weights([k3[:, :, order], b3])
    after = explain(images, 1)
    model.set_weights(weights)
    for key, value in before.items():
        close(after[key], value, 1e-4)


@fast
@hypothesis.given(order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_maps_follow_their_image_through_the_batch(invariant, order, seed):
    _, explain = invariant
    images, classes = images_of(4, 16, 16, 1, seed=seed), np.arange(4) % CLASSES
    before, after = explain(images, classes), explain(images[order], classes[order])
    for key, value in before.items():
        close(after[key], value[order], 1e-5)


@pytest.fixture(scope="module")
def invariant():
    model = small_net(seed=7)
    return model, Attributor(model, ["conv1", "conv2", "conv3"])


def test_signs(maps):
    """No map is inverted, clipped or normalised: signed ones have both signs, the others none below zero."""
    for (method, _), value in maps.items():
        nonnegative = method in ("grad_cam", "sam", "layer_cam")
        assert (value.min() >= 0) == nonnegative, method
    assert {method for method, _ in maps} == {"saliency", "guided_backprop", "cam", *LAYER_METHODS}

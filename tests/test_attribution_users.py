"""What users expect of the engine: predicted classes, scores, targets, tokens, signals, volumes, files to lift."""

import copy
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import keras
import numpy as np
import pytest
import test_attribution_models as zoo
from hypothesis import strategies as st
from keras import layers as kl
from keras import ops
from scipy.ndimage import gaussian_filter

from lib.attribution import Attributor, cam, grad_cam, guided_backprop, hires_cam, layer_cam, saliency, sam

BACKEND = keras.backend.backend()
LIB = Path(__file__).resolve().parent.parent / "lib"


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def images_of(n, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *(shape or (8, 8, 2)))).astype("float32")


@pytest.fixture(scope="module")
def phases():
    """A classifier of three phases."""
    keras.utils.set_random_seed(1)
    return zoo.stir(zoo.classifier(lambda x: zoo.conv(kl.MaxPooling2D()(zoo.conv(x, 4, name="a")), 5, name="b")))


@pytest.fixture(scope="module")
def explain(phases):
    return Attributor(phases)


def test_without_classes_the_predicted_one_is_explained(explain, phases):
    images = images_of(6)
    predicted = phases.predict(images, verbose=0)
    found, scores = explain(images, return_scores=True)
    assert scores.classes.tolist() == predicted.argmax(axis=1).tolist()
    close(scores.outputs, predicted)
    for key, value in explain(images, predicted.argmax(axis=1)).items():
        close(found[key], value)


def test_the_explained_score_is_the_logit(explain, phases):
    images = images_of(4)
    first, second = (explain(images, c, "saliency", return_scores=True)[1].explained for c in (2, 0))
    p = phases.predict(images, verbose=0)
    np.testing.assert_allclose(first - second, np.log(p[:, 2] / p[:, 0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["sigmoid", None])
def test_one_number_has_two_classes(head):
    model, images = zoo.stir(zoo.classifier(zoo.conv, lambda x: kl.Dense(1, activation=head)(x))), images_of(6)
    explain = Attributor(model)
    positive, negative = explain(images, 1), explain(images, 0)
    for key in (("saliency", "input"), *(key for key in positive if key[0] in ("cam", "hires_cam"))):
        close(negative[key], -positive[key])
        close(explain(images, 1, negative=True)[key], negative[key])
    _, scores = explain(images, return_scores=True)
    output = model.predict(images, verbose=0)[:, 0]
    assert scores.classes.tolist() == (output > (0.5 if head else 0)).astype(int).tolist()
    assert (scores.explained > 0).all()
    found = Attributor(model, score="probability")(images, 1, "saliency")["saliency", "input"]
    p = output if head else 1 / (1 + np.exp(-output))
    close(found, (p * (1 - p))[:, None, None, None] * positive["saliency", "input"], 1e-4)
    with pytest.raises(ValueError, match=r"classes holds 2\.\.2, expected 0\.\.1"):
        explain(images, 2)


def test_the_absence_of_a_label(phases, explain):
    model, images = zoo.stir(zoo.classifier(zoo.conv, lambda x: kl.Dense(4, activation="sigmoid")(x))), images_of(3)
    labels = Attributor(model)
    mixed = labels(images, 2, negative=np.array([True, False, True]))
    plain = labels(images, 2)
    for key in (("saliency", "input"), next(key for key in plain if key[0] == "cam")):
        close(mixed[key], plain[key] * np.array([-1, 1, -1]).reshape(3, *[1] * (plain[key].ndim - 1)))
    with pytest.raises(ValueError, match="negative=True is for labels under a sigmoid"):
        explain(images, 0, negative=True)


def test_a_difference_of_classes_and_an_output_by_name(phases):
    images = images_of(3)
    by_class = [saliency(phases, images, c) for c in range(3)]
    target = Attributor(phases, ["a"], target=lambda outputs, classes: outputs[:, 2] - outputs[:, 0])
    close(target(images)["saliency", "input"], by_class[2] - by_class[0])
    assert "cam" not in target.methods and target.head == "target"
    probability = Attributor(phases, [], target=lambda outputs, classes: outputs[:, 1], score="probability")
    close(probability(images)["saliency", "input"], saliency(phases, images, 1, score="probability"), 1e-4)
    model = zoo.stir(zoo.two_outputs(list))
    single = keras.Model(model.inputs, model.outputs[0])
    for output in ("phase", 0):
        close(Attributor(model, [], output=output)(images, 1)["saliency", "input"], saliency(single, images, 1))
    both = Attributor(model, [], target=lambda outputs, classes: outputs[0][:, 1] + 2 * outputs[1][:, 0])
    other = keras.Model(model.inputs, model.outputs[1])
    close(both(images)["saliency", "input"], saliency(single, images, 1) + 2 * saliency(other, images, 0))
    with pytest.raises(ValueError, match=r"expected \(n,\), one score an image"):
        Attributor(phases, target=lambda outputs, classes: outputs)(images)


def test_a_region_of_a_segmentation():
    """The logits of a region depend on the voxels that its receptive field reaches, and on no others."""
    inputs = keras.Input((16, 16, 1))
    model = zoo.stir(keras.Model(inputs, kl.Conv2D(3, 1, activation="softmax")(zoo.conv(inputs, 4, name="c"))))
    explain = Attributor(model, ["c"], target=lambda y, classes: ops.mean(y[:, 4:8, 4:8, 1], axis=(1, 2)))
    found = explain(images_of(2, 16, 16, 1))
    reached = np.zeros((16, 16), bool)
    reached[3:9, 3:9] = True
    assert (found["saliency", "input"][:, ~reached] == 0).all() and (found["saliency", "input"][:, reached] != 0).any()
    inside = np.zeros((16, 16), bool)
    inside[4:8, 4:8] = True
    assert (found["hires_cam", "c"][:, ~inside] == 0).all()


def test_tokens_of_a_vit_as_a_grid():
    images = images_of(2)
    model = zoo.stir(zoo.vit(class_token=False))
    explain = Attributor(model)
    assert explain.layers == ("last",) and "cam" in explain.methods
    found = explain(images, 1)
    assert found["sam", "last"].shape == (2, 4, 4)
    close(found["hires_cam", "last"] * 16, found["cam", "last"])
    with_token = zoo.stir(zoo.vit(class_token=True))
    with pytest.raises(ValueError, match="of tokens say where the patches are, tokens="):
        Attributor(with_token, ["last"])
    layer = next(layer.name for layer in with_token.layers if layer.output.shape == (None, 17, 6))
    named = Attributor(with_token, [layer], tokens=(1, 4, 4))(images, 1)
    assert named["grad_cam", layer].shape == (2, 4, 4) and np.abs(named["hires_cam", layer]).max() > 0
    with pytest.raises(ValueError, match=r"tokens=\(2, 4, 4\) do not fit"):
        Attributor(with_token, [layer], tokens=(2, 4, 4))


def test_tokens_are_put_back_where_their_patches_are():
    """Without attention a token sees its own patch: the maps of an image with one patch peak there."""
    inputs = keras.Input((8, 12, 1))
    x = kl.Reshape((24, 3), name="tokens")(kl.Conv2D(3, 2, strides=2, activation="relu", use_bias=False)(inputs))
    x = kl.Dense(3, activation="relu", use_bias=False, name="mixed")(x)
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling1D()(x)))
    model.set_weights([np.abs(w) for w in model.get_weights()])
    images = np.zeros((1, 8, 12, 1), "float32")
    images[0, 4:6, 8:10] = 1
    found = Attributor(model, ["tokens", "mixed"])(images, 1)
    for layer in ("tokens", "mixed"):
        assert np.unravel_index(found["hires_cam", layer][0].argmax(), (4, 6)) == (2, 4)


def naive_of_any_rank(activation, gradient):
    """SAM of one image in as many axes as it has, by SciPy."""
    result = np.zeros(activation.shape[:-1])
    for k in range(activation.shape[-1]):
        blurred = gaussian_filter(gradient[..., k].astype(float), 0.75, mode="reflect")
        inverted = np.where(blurred < 0, activation[..., k].max() - activation[..., k], activation[..., k])
        result += np.abs(blurred) * inverted
    return result


@pytest.mark.parametrize("rank", [1, 3])
def test_signals_and_volumes(rank):
    """conv, dense on the flat rest: G of the layer is a row of the dense weights."""
    shape, layer = {1: ((12, 2), kl.Conv1D), 3: ((5, 6, 4, 1), kl.Conv3D)}[rank]
    inputs = keras.Input(shape)
    x = layer(3, 3, padding="same", activation="relu", name="conv")(inputs)
    model = zoo.stir(keras.Model(inputs, kl.Dense(2)(kl.Flatten()(x))))
    images = images_of(2, *shape)
    found = Attributor(model, ["conv"])(images, 1)
    activation = keras.Model(inputs, x).predict(images, verbose=0)
    gradient = model.get_weights()[-2][:, 1].reshape(activation.shape[1:])
    close(found["hires_cam", "conv"], (activation * gradient).sum(axis=-1))
    weights = gradient.reshape(-1, 3).mean(axis=0)
    close(found["grad_cam", "conv"], np.maximum((activation * weights).sum(axis=-1), 0))
    for one, map_of_one in zip(activation, found["sam", "conv"], strict=True):
        close(map_of_one, naive_of_any_rank(one, gradient))
    assert found["saliency", "input"].shape == images.shape[: rank + 1] + ((2,) if rank == 1 else ())


def test_a_permuted_image_keeps_its_axes():
    """Permute to channels first and pool there: saliency comes back as the image lies."""
    inputs = keras.Input((6, 4, 1))
    x = kl.Flatten(data_format="channels_first")(kl.Permute((3, 1, 2))(inputs))
    model, images = keras.Model(inputs, kl.Dense(2)(x)), images_of(2, 6, 4, 1)
    weights = model.get_weights()[0][:, 1]
    direction = images_of(2, 6, 4, 1, seed=4)
    change = model.predict(images + direction, verbose=0) - model.predict(images, verbose=0)
    found = saliency(model, images, 1)
    assert found.shape == (2, 6, 4) and sorted(found[0].ravel()) == pytest.approx(sorted(weights))
    close((found * direction[..., 0]).sum(axis=(1, 2)), change[:, 1], 1e-4)
    flat = keras.Model(inputs, kl.Dense(2)(kl.Flatten(data_format="channels_first")(inputs)))
    assert saliency(flat, images, 1).shape == (2, 6, 4)


def test_the_names_of_layers_do_not_matter():
    """A layer may be called as the engine's own places are: the input, what is pooled."""

    def build(first, last):
        return zoo.classifier(lambda x: zoo.conv(kl.MaxPooling2D()(zoo.conv(x, 4, name=first)), 5, name=last))

    plain, odd, images = zoo.stir(build("a", "b")), build("input", "pooled"), images_of(2)
    odd.set_weights(plain.get_weights())
    found = Attributor(odd)(images, 1)
    assert ("sam", "input") in found and ("cam", "pooled") in found
    for value, expected in zip(found.values(), Attributor(plain)(images, 1).values(), strict=True):
        close(value, expected)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has no channels-first convolution on a CPU")
def test_channels_first_inside_a_channels_last_network():
    inputs = keras.Input((6, 8, 2))
    convolution = kl.Conv2D(3, 3, data_format="channels_first", activation="relu", name="conv")
    x = kl.GlobalAveragePooling2D(data_format="channels_first")(convolution(kl.Permute((3, 1, 2))(inputs)))
    model = zoo.stir(keras.Model(inputs, kl.Dense(2)(x)))
    last = kl.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    other = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(last)))
    other.set_weights(model.get_weights())
    images = images_of(2, 6, 8, 2)
    found, expected = Attributor(model)(images, 1), Attributor(other)(images, 1)
    for key, value in expected.items():
        close(found[key], value)


def test_default_layers_are_activations_of_more_than_one_cell():
    def build(x):
        x = kl.BatchNormalization(name="norm")(kl.SeparableConv2D(4, 3, name="sep")(zoo.conv(x, 4, name="active")))
        return kl.MaxPooling2D()(kl.BatchNormalization()(kl.ReLU(name="relu")(kl.ZeroPadding2D()(x))))

    inputs = keras.Input((16, 16, 1))
    x = kl.GlobalAveragePooling2D(keepdims=True, name="one_cell")(build(inputs))
    x = kl.Conv2D(5, 1, activation="relu", name="one_cell_too")(x)
    model = keras.Model(inputs, kl.Dense(2)(kl.Flatten()(x)))
    assert Attributor(model).layers == ("relu",)


APPLICATIONS = {
    "MobileNet": ("conv_pw_13_relu",),
    "Xception": None,
    "EfficientNetB0": ("top_activation",),
    "ResNet50": ("conv1_relu", "conv5_block3_out"),
}


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.oracles
def test_default_layers_of_well_known_networks(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=4)
    explain = Attributor(model)
    if APPLICATIONS[name]:
        assert explain.layers == APPLICATIONS[name]
    found = explain(images_of(1, 96, 96, 3), 1)
    for (method, _), value in found.items():
        assert np.isfinite(value).all() and (method != "sam" or name == "EfficientNetB0" or value.min() >= 0)


def test_the_order_of_methods_does_not_trace_again(phases):
    explain, images = Attributor(phases), images_of(2)
    first = explain(images, 1, ["saliency", "sam", "grad_cam"])
    traces = explain.traces
    second = explain(images, 1, ("grad_cam", "saliency", "sam"))
    assert next(iter(second))[0] == "grad_cam"
    assert BACKEND == "torch" or explain.traces == traces
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX compiles by shape, torch does not trace")
def test_another_image_size_does_not_trace_again():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(zoo.conv(inputs, 4))))
    explain = Attributor(model)
    for size in (8, 12, 9):
        images = images_of(2, size, size + 1, 1)
        fixed_inputs = keras.Input((size, size + 1, 1))
        fixed = keras.Model(fixed_inputs, model(fixed_inputs))
        for value, expected in zip(explain(images, 1).values(), Attributor(fixed)(images, 1).values(), strict=True):
            close(value, expected)
    assert explain.traces == 1


THIN = {"saliency": saliency, "guided_backprop": guided_backprop, "cam": cam}
THIN |= {"grad_cam": grad_cam, "sam": sam, "hires_cam": hires_cam, "layer_cam": layer_cam}


@pytest.mark.parametrize("method", THIN)
def test_thin_functions(phases, explain, method):
    images = images_of(3)
    places = () if method in ("saliency", "guided_backprop", "cam") else ("b",)
    found = THIN[method](phases, images, 1, *places)
    close(found, next(v for (m, layer), v in explain(images, 1, method).items() if layer in ("input", "b")))


def test_a_thin_function_costs_a_call(phases):
    images = images_of(1)
    explain = Attributor(phases, [])

    def fastest(function):
        """Of several calls: other work on the machine only makes a call slower."""
        function()
        times = []
        for _ in range(15):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(lambda: saliency(phases, images, 1)) < 5 * fastest(lambda: explain(images, 1, "saliency"))


def test_thin_functions_see_new_weights(phases):
    model, images = keras.models.clone_model(phases), images_of(1)
    before = saliency(model, images, 1)
    model.layers[-1].set_weights([2 * w for w in model.layers[-1].get_weights()])
    close(saliency(model, images, 1), 2 * before)


def test_pickled_and_copied(phases, explain):
    images = images_of(2)
    expected = explain(images, 1)
    for other in (pickle.loads(pickle.dumps(explain)), copy.deepcopy(explain)):
        assert other.model is not phases and other.layers == explain.layers
        for key, value in other(images, 1).items():
            close(value, expected[key])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
def test_inside_a_tf_function_the_message_is_plain(explain):
    import tensorflow as tf

    with pytest.raises(TypeError, match=r"must be arrays, outside of tf.function, jit and grad"):
        tf.function(lambda x: explain(x, 1), autograph=False)(tf.zeros((1, 8, 8, 2)))


PROGRAM = """
import sys

import keras
import numpy as np
from {module} import Attributor

model, images = keras.models.load_model("mine.keras"), np.load("images.npy")
maps, scores = Attributor(model)(images, return_scores=True)
np.savez("maps.npz", classes=scores.classes, **{{"-".join(key): value for key, value in maps.items()}})
print([name for name in sys.modules if name.split(".")[0] == "lib"])
"""


def residual_network():
    """A ResNet of one's own: batch normalisation, projections, a ReLU after each sum."""
    inputs = keras.Input((16, 16, 3))
    x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(6, 3, padding="same", use_bias=False)(inputs)))
    for number, (kernels, stride) in enumerate(((6, 1), (8, 2))):
        y = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(kernels, 3, stride, padding="same", use_bias=False)(x)))
        y = kl.BatchNormalization()(kl.Conv2D(kernels, 3, padding="same", use_bias=False)(y))
        x = x if stride == 1 else kl.BatchNormalization()(kl.Conv2D(kernels, 1, stride)(x))
        x = kl.ReLU(name=f"block{number}")(kl.Add()([x, y]))
    x = kl.Dropout(0.3)(kl.GlobalAveragePooling2D()(x))
    return zoo.stir(keras.Model(inputs, kl.Dense(4, activation="softmax")(x)))


@pytest.mark.parametrize("module", ["attribution", "somewhere.attribution"])
def test_as_a_new_user_would(tmp_path, module):
    """Three files copied into an empty folder, five lines, a ResNet of one's own: the maps are right.

    The references share no code with the engine: finite differences of the prediction, and the identity that the mean
    of CAM over its cells is the logit but for the bias.
    """
    keras.utils.set_random_seed(3)
    model, images = residual_network(), images_of(3, 16, 16, 3)
    model.save(tmp_path / "mine.keras")
    np.save(tmp_path / "images.npy", images)
    folder = tmp_path / module.rpartition(".")[0]
    folder.mkdir(exist_ok=True)
    for name in ("attribution.py", "gradients.py", "network_steps.py"):
        shutil.copy(LIB / name, folder / name)
    program = [sys.executable, "-c", PROGRAM.format(module=module)]
    environment = {"PATH": "", "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(tmp_path)}
    run = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.strip().endswith("[]"), run.stdout + run.stderr[-2000:]
    maps = np.load(tmp_path / "maps.npz")
    p = model.predict(images, verbose=0)
    c, rows = p.argmax(axis=1), np.arange(3)
    assert maps["classes"].tolist() == c.tolist() and maps["sam-block1"].shape == (3, 8, 8)
    kernel, bias = model.layers[-1].get_weights()
    pooled = keras.Model(model.inputs, model.layers[-3].output).predict(images, verbose=0)
    close(maps["cam-block1"].mean(axis=(1, 2)), (pooled @ kernel)[rows, c], 1e-4)
    close(maps["hires_cam-block1"] * 64, maps["cam-block1"], 1e-4)
    logits = keras.Model(model.inputs, kl.Dense(4)(model.layers[-2].output))
    logits.layers[-1].set_weights([kernel, bias])
    direction = images_of(3, 16, 16, 3, seed=9)
    found = (maps["saliency-input"] * direction).sum(axis=(1, 2, 3))

    def error(step):
        above, below = (logits.predict(images + sign * step * direction, verbose=0)[rows, c] for sign in (1, -1))
        return np.abs(found - (above - below) / (2 * step)).max() / np.abs(found).max()

    assert min(map(error, (1e-3, 3e-4, 1e-4))) < 2e-2


def test_memory_without_limit_is_one_batch(phases):
    explain = Attributor(phases, memory=float("inf"))
    assert explain._images_at_once(images_of(50)) == 50


# ------------------------------------------------------------------------------------------------------ random graphs

SMOOTH = ("tanh", "softplus", "sigmoid", "gelu", "silu", "elu")


@st.composite
def graphs(draw):
    """Draw a functional graph: convolutions, joins, poolings, attention, nested models, in any order."""
    seed, activation = draw(st.integers(0, 10**6)), draw(st.sampled_from(SMOOTH))
    steps = draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=5))
    return seed, activation, steps, draw(st.sampled_from(sorted(ENDS)))


def nested(x, activation):
    inside = keras.Input(x.shape[1:])
    return keras.Model(inside, kl.Conv2D(3, 3, padding="same", activation=activation)(inside))(x)


def joined(x, activation):
    shared = kl.Conv2D(3, 1, activation=activation)
    return kl.Concatenate()([shared(zoo.conv(x, 3, None)), shared(zoo.conv(x, 3, activation))])


BLOCKS = {
    "conv": lambda x, a: zoo.conv(x, 3, a),
    "residual": lambda x, a: x + zoo.conv(x, x.shape[-1], a),
    "norm": lambda x, a: kl.BatchNormalization()(x),
    "pool": lambda x, a: kl.AveragePooling2D(2, padding="same")(x),
    "nested": nested,
    "joined": joined,
    "gate": lambda x, a: x * zoo.conv(x, x.shape[-1], "sigmoid"),
    "block": lambda x, a: zoo.WithResidue(x.shape[-1])(x),
    "operations": lambda x, a: ops.concatenate([ops.square(x) / 4, ops.sin(x)], axis=-1),
}
ENDS = {
    "softmax": lambda x: kl.Dense(3, activation="softmax")(kl.GlobalAveragePooling2D()(x)),
    "logits": lambda x: kl.Dense(3)(kl.Flatten()(x)),
    "scaled": lambda x: kl.Softmax()(kl.Dense(3)(kl.GlobalAveragePooling2D()(x)) / 3),
    "labels": lambda x: kl.Dense(3, activation="sigmoid")(kl.GlobalAveragePooling2D()(x)),
}


def explained_exactly(graph):
    seed, activation, steps, end = graph
    with zoo.double_precision():
        keras.utils.set_random_seed(seed)
        inputs = x = keras.Input((6, 6, 2))
        for step in steps:
            x = BLOCKS[step](x, activation)
        zoo.is_exact(zoo.stir(keras.Model(inputs, ENDS[end](x)), seed), tolerance=max(zoo.TOLERANCE, 1e-4))


few = hypothesis.settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)


@few
@hypothesis.given(graph=graphs())
def test_random_graphs(graph):
    explained_exactly(graph)


@pytest.mark.oracles
@hypothesis.settings(few, max_examples=40)
@hypothesis.given(graph=graphs())
def test_many_random_graphs(graph):
    explained_exactly(graph)


@pytest.mark.oracles
def test_ten_thousand_images_without_growth(phases):
    import psutil

    explain, images = Attributor(phases), images_of(20)

    def resident(calls):
        for _ in range(calls):
            explain(images)
        return psutil.Process().memory_info().rss

    first = resident(100)
    assert resident(400) - first < 8 * 2**20


PEAK = """
import keras, numpy as np
from lib.attribution import Attributor
from lib.networks import phase_net
from lib.speed import own_peak
keras.utils.set_random_seed(0)
model = {build}
explain = Attributor(model, memory=2**36)
images = np.random.default_rng(0).standard_normal((20, *model.input_shape[1:])).astype("float32")
peaks = []
for count in (1, 6, 20):
    explain(images[:count], 1), explain(images[:count], 1)
    peaks.append(own_peak())
print((peaks[2] - peaks[1]) / 14, explain.bytes_of_an_image() / 2**20)
"""
MODELS = {
    "the paper's network": "phase_net(256)",
    "ResNet50": "keras.applications.ResNet50(weights=None, input_shape=(128, 128, 3))",
    "MobileNetV2": "keras.applications.MobileNetV2(weights=None, input_shape=(160, 160, 3))",
}


@pytest.mark.oracles
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the estimate is fitted to what TensorFlow takes")
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_the_memory_estimate_is_within_thirty_per_cent(build):
    """The slope of a process's own peak over the number of images in a batch."""
    program = [sys.executable, "-c", PEAK.format(build=build)]
    run = subprocess.run(program, cwd=LIB.parent, capture_output=True, text=True, check=True)
    measured, estimate = map(float, run.stdout.split()[-2:])
    assert 0.7 < estimate / measured < 1.3, (estimate, measured)

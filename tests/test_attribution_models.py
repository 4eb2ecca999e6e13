"""Unusual models: each is explained exactly or refused in one line, never wrongly. On TensorFlow, JAX and torch.

The reference is finite differences of `model.predict` in float64, which know nothing of how the maps are made.
"""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

from lib.attribution import Attributor

BACKEND = keras.backend.backend()
SHAPE = (8, 8, 2)
# JAX and torch compute in float32 here: the best of some longer steps, and less is promised.
STEPS, TOLERANCE = ((1e-6,), 2e-5) if BACKEND == "tensorflow" else ((1e-2, 3e-3, 1e-3, 3e-4, 1e-4), 2e-2)


@contextlib.contextmanager
def double_precision():
    """Build and run models in float64 on TensorFlow, so that finite differences are good to 1e-8."""
    if BACKEND != "tensorflow":
        yield
        return
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def images_of(n, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *(shape or SHAPE)))


def stir(model, seed=3):
    """Give every weight a random value: biases, batch statistics and gates are no longer zero or one."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        value = ops.convert_to_numpy(variable)
        if np.issubdtype(value.dtype, np.floating):
            noise = rng.normal(0, 0.3, value.shape)
            positive = any(word in variable.path for word in ("variance", "gamma"))
            variable.assign((np.abs(noise) + 0.5 if positive else value + noise).astype(value.dtype))
    return model


def log_odds(p):
    return np.log(p) - np.log1p(-p)


def slopes(model, images, direction, of):
    """Return the derivative of `of(model.predict(x))` along a direction, by central differences, (steps, n)."""
    ends = [images + sign * step * direction for step in STEPS for sign in (1, -1)]
    values = np.split(of(model.predict(np.concatenate(ends), batch_size=64, verbose=0)).astype(float), 2 * len(STEPS))
    return np.stack([(values[2 * i] - values[2 * i + 1]) / (2 * step) for i, step in enumerate(STEPS)])


def error_of(found, model, images, direction, of):
    """Return the error of a gradient along a direction, as a fraction of the largest slope: that of the best step."""
    expected = slopes(model, images, direction, of)
    return (np.abs(along(found, images, direction) - expected).max(axis=1) / np.abs(expected).max(axis=1)).min()


def along(saliency, images, direction):
    return (saliency.reshape(images.shape) * direction).reshape(len(images), -1).sum(axis=1)


def is_exact(model, images=None, pick=lambda output: output, tolerance=TOLERANCE, **choices):
    """Compare saliency with finite differences, for the head that the engine found; return the largest error."""
    images = images_of(2, *model.inputs[0].shape[1:]) if images is None else images
    direction = images_of(*images.shape, seed=9)
    explain = Attributor(model, [], **choices)
    by_class = {c: explain(images, c, "saliency")["saliency", "input"] for c in (0, 1)}
    of = {
        "softmax": lambda y: np.log(pick(y)[:, 1]) - np.log(pick(y)[:, 0]),
        "sigmoid": lambda y: log_odds(pick(y)[:, -1]),
        "linear": lambda y: pick(y)[:, -1],
    }[explain.head]
    output = pick(model.predict(images, verbose=0))
    width = output.shape[1]
    assert (explain.head == "softmax") == (width > 1 and np.allclose(output.sum(axis=1), 1))
    if explain.head == "softmax":
        found = by_class[1] - by_class[0]
    else:
        found = explain(images, 1 if width == 1 else width - 1, "saliency")["saliency", "input"]
    error = error_of(found, model, images, direction, of)
    assert error < tolerance, error
    return explain


def conv(x, kernels=3, activation="relu", **choices):
    return kl.Conv2D(kernels, 3, padding="same", activation=activation, **choices)(x)


def pooled(x):
    return kl.GlobalAveragePooling2D()(x)


def classifier(body, head=lambda x: kl.Dense(3, activation="softmax")(x), shape=SHAPE, **choices):
    inputs = keras.Input(shape)
    return keras.Model(inputs, head(pooled(body(inputs))), **choices)


# ------------------------------------------------------------------------------------------------------ custom layers


class WithSoftmax(kl.Layer):
    def __init__(self):
        super().__init__()
        self.dense, self.softmax = kl.Dense(3), kl.Softmax()

    def call(self, x):
        return self.softmax(self.dense(x))


class Gated(kl.Layer):
    """Its `activation` is a gate in the middle, not its last act."""

    def __init__(self):
        super().__init__()
        self.activation = keras.activations.sigmoid
        self.dense, self.gate = kl.Dense(3), kl.Dense(3)

    def call(self, x):
        return self.dense(x) * self.activation(self.gate(x))


class Block(kl.Layer):
    """A residual block as people write it."""

    def __init__(self, kernels, **choices):
        super().__init__(**choices)
        self.conv1 = kl.Conv2D(kernels, 3, padding="same", activation="relu")
        self.drop, self.norm = kl.Dropout(0.5), kl.BatchNormalization()
        self.conv2 = kl.Conv2D(kernels, 3, padding="same")

    def call(self, x, training=None):
        return ops.relu(x + self.norm(self.conv2(self.drop(self.conv1(x), training=training)), training=training))


class WithResidue(kl.Layer):
    """A smooth block of one's own, for random graphs."""

    def __init__(self, kernels):
        super().__init__()
        self.conv = kl.Conv2D(kernels, 3, padding="same", activation="tanh")

    def call(self, x):
        return x + self.conv(x)


class Normalised(kl.Layer):
    """A weight-normalised dense layer: it computes with its weights, so that it cannot be opened."""

    def build(self, shape):
        self.direction = self.add_weight(shape=(shape[-1], 3), initializer="random_normal")
        self.gain = self.add_weight(shape=(3,), initializer="ones")

    def call(self, x):
        unit = self.direction / ops.sqrt(ops.sum(ops.square(self.direction), axis=0))
        return ops.matmul(x, unit * self.gain)


class ClassToken(kl.Layer):
    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal")

    def call(self, x):
        return ops.concatenate([ops.repeat(self.token, ops.shape(x)[0], axis=0), x], axis=1)


class Positions(kl.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(1, *shape[1:]), initializer="random_normal")

    def call(self, x):
        return x + self.table


class Doubled(keras.Model):
    """A Functional model with a `call` of its own."""

    def call(self, x, training=None):
        return 2 * super().call(x, training=training) + ops.mean(x, axis=(1, 2, 3))[:, None]


class Plain(keras.Model):
    """Subclassed, without a graph."""

    def __init__(self):
        super().__init__()
        self.blocks = [kl.Conv2D(4, 3, padding="same", activation="relu", name="stem"), Block(4, name="block")]
        self.pool, self.head = kl.GlobalAveragePooling2D(), kl.Dense(3, activation="softmax")

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(x))


class Core(keras.Model):
    """Subclassed, round a functional core."""

    def __init__(self):
        super().__init__()
        inputs = keras.Input(SHAPE)
        self.core = keras.Model(inputs, conv(conv(inputs), 4), name="core")
        self.head = kl.Dense(3)

    def call(self, x):
        return self.head(ops.mean(self.core(x), axis=(1, 2)))


class NumPyInside(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = kl.Dense(3)

    def call(self, x):
        return self.dense(ops.reshape(x * float(ops.sum(x)), (ops.shape(x)[0], -1)))


# ------------------------------------------------------------------------------------------------------------- models


def two_outputs(kind):
    inputs = keras.Input(SHAPE)
    x = conv(inputs)
    outputs = [kl.Dense(3, activation="softmax", name="phase")(pooled(x)), kl.Dense(3, name="other")(kl.Flatten()(x))]
    return keras.Model(inputs, outputs if kind is list else {"phase": outputs[0], "logits": outputs[1]}, name="inner")


def second_of(kind):
    inputs = keras.Input(SHAPE)
    inner = two_outputs(kind)
    return keras.Model(inputs, inner(inputs)[1 if kind is list else "logits"])


def called_by_name():
    z, a = keras.Input(SHAPE, name="z"), keras.Input(SHAPE, name="a")
    inner = keras.Model([z, a], kl.Dense(3)(pooled(conv(z) - 3 * conv(a))))
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, inner({"z": inputs, "a": conv(inputs, 2)}))


def siamese():
    inputs = keras.Input(SHAPE)
    tower = keras.Sequential([keras.Input(SHAPE), kl.Conv2D(4, 3, activation="relu"), kl.GlobalAveragePooling2D()])
    flipped = kl.Lambda(lambda x: ops.flip(x, axis=2))(inputs)
    return keras.Model(inputs, kl.Dense(3)(kl.Concatenate()([tower(inputs), tower(flipped), tower(2 * inputs)])))


def pyramid():
    inputs = keras.Input(SHAPE)
    fine = conv(inputs, 4)
    coarse = conv(kl.MaxPooling2D()(fine), 4)
    merged = kl.Add()([fine, kl.UpSampling2D()(coarse)])
    features = kl.Concatenate()([pooled(merged), pooled(coarse), kl.GlobalMaxPooling2D()(fine)])
    return keras.Model(inputs, kl.Dense(3, activation="softmax")(features))


def squeeze_excite():
    def body(x):
        x = conv(x, 4)
        gate = kl.Dense(4, activation="sigmoid")(kl.GlobalAveragePooling2D(keepdims=True)(x))
        return kl.Multiply()([x, gate])

    return classifier(body)


def vit(class_token, mixer=False):
    inputs = keras.Input((8, 8, 2))
    x = kl.Reshape((16, 6))(kl.Conv2D(6, 2, strides=2, name="patches")(inputs))
    x = Positions()(ClassToken()(x) if class_token else x)
    if mixer:
        x = x + kl.Permute((2, 1))(kl.Dense(x.shape[1])(kl.Permute((2, 1))(kl.LayerNormalization()(x))))
    else:
        y = kl.LayerNormalization()(x)
        x = x + kl.MultiHeadAttention(2, 3)(y, y)
    x = kl.Add(name="last")([x, kl.Dense(6, activation="gelu")(kl.LayerNormalization()(x))])
    x = x[:, 0] if class_token else kl.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, kl.Dense(3, activation="softmax")(x))


def video():
    inputs = keras.Input((3, 6, 6, 2))
    x = kl.ConvLSTM2D(3, 3, padding="same", return_sequences=False)(inputs)
    return keras.Model(inputs, kl.Dense(3)(pooled(x)))


def by_frame():
    inputs = keras.Input((3, 6, 6, 2))
    x = kl.TimeDistributed(kl.Conv2D(3, 3, activation="relu"))(inputs)
    return keras.Model(inputs, kl.Dense(3)(kl.GlobalAveragePooling3D()(x)))


def by_rows():
    inputs = keras.Input(SHAPE)
    x = kl.Bidirectional(kl.LSTM(3))(kl.Reshape((8, 16))(inputs))
    return keras.Model(inputs, kl.Dense(3, activation="softmax")(x))


def average_of(head):
    inputs = keras.Input(SHAPE)
    members = [keras.Model(i := keras.Input(SHAPE), head(pooled(conv(i, k))), name=f"m{k}") for k in (3, 4)]
    return keras.Model(inputs, kl.Average()([member(inputs) for member in members]))


def distilled():
    inputs = keras.Input(SHAPE)
    x = conv(inputs, 4)
    first, second = kl.Dense(3)(pooled(x)), kl.Dense(3)(kl.GlobalMaxPooling2D()(x))
    return keras.Model(inputs, kl.Softmax()((first + second) / 2))


def einsum_head():
    return classifier(lambda x: conv(x, 4), lambda x: kl.EinsumDense("nk,kc->nc", 3, bias_axes="c")(x))


def attention_pooling():
    inputs = keras.Input(SHAPE)
    x = kl.Reshape((64, 4))(conv(inputs, 4))
    weights = kl.Softmax(axis=1)(kl.Dense(1)(x))
    return keras.Model(inputs, kl.Dense(3, activation="softmax")(kl.Flatten()(kl.Dot(axes=1)([weights, x]))))


def augmented():
    inputs = keras.Input(SHAPE)
    x = kl.RandomRotation(0.1)(kl.RandomFlip()(kl.Rescaling(1 / 2.0, offset=-0.1)(inputs)))
    return keras.Model(inputs, kl.Dense(3)(pooled(conv(kl.ZeroPadding2D()(kl.GaussianNoise(0.3)(x))))))


def segmenter():
    inputs = keras.Input(SHAPE)
    x = conv(inputs, 4)
    x = kl.Conv2DTranspose(4, 2, strides=2, activation="relu")(conv(kl.MaxPooling2D()(x), 4))
    return keras.Model(inputs, kl.Conv2D(3, 1, activation="softmax")(x))


def with_prelu():
    return classifier(lambda x: kl.Conv2D(3, 3, activation=kl.PReLU(shared_axes=[1, 2]))(x))


def normalised():
    return classifier(lambda x: conv(x, 4), lambda x: kl.Softmax()(Normalised()(x)))


def lora():
    model = classifier(lambda x: conv(x, 4, name="conv"))
    model.layers[-1].enable_lora(2)
    return model


def spectral():
    return classifier(lambda x: kl.SpectralNormalization(kl.Conv2D(4, 3, activation="relu"))(x))


def custom_block():
    return classifier(lambda x: Block(4, name="block")(conv(x, 4)))


def reloaded(model, kind, folder):
    model.save(folder / f"model.{kind}")
    return keras.models.load_model(folder / f"model.{kind}", safe_mode=False)


def override():
    inputs = keras.Input(SHAPE)
    return Doubled(inputs, kl.Dense(3)(pooled(conv(inputs))))


EXACT = {
    "softmax then reshape": lambda: classifier(conv, lambda x: kl.Reshape((3,))(kl.Dense(3, activation="softmax")(x))),
    "softmax of a 1 x 1 map, then flatten": lambda: keras.Model(
        i := keras.Input(SHAPE), kl.Flatten()(kl.Softmax()(kl.Conv2D(3, 8)(conv(i))))
    ),
    "softmax then cast": lambda: classifier(
        conv, lambda x: ops.cast(kl.Dense(3, activation="softmax")(x), keras.config.floatx())
    ),
    "Lambda(softmax)": lambda: classifier(conv, lambda x: kl.Lambda(ops.softmax)(kl.Dense(3)(x))),
    "a layer that holds a softmax": lambda: classifier(conv, lambda x: WithSoftmax()(x)),
    "second of two outputs": lambda: second_of(list),
    "named output": lambda: second_of(dict),
    "Dense, negated": lambda: classifier(conv, lambda x: -kl.Dense(3)(x)),
    "Dense, scaled": lambda: classifier(conv, lambda x: kl.Softmax()(kl.Dense(3)(x) / 10)),
    "Dense, batch-normalised": lambda: classifier(conv, lambda x: kl.BatchNormalization()(kl.Dense(3)(x))),
    "Dense, flipped": lambda: classifier(conv, lambda x: ops.flip(kl.Dense(3)(x), axis=1)),
    "average of logits": lambda: average_of(lambda x: kl.Dense(3)(x)),
    "two heads added": lambda: keras.Model(
        i := keras.Input(SHAPE), kl.Dense(3)(pooled(x := conv(i))) + kl.Dense(3)(kl.Flatten()(x))
    ),
    "a layer called input": lambda: classifier(lambda x: conv(kl.MaxPooling2D()(conv(x, 4, name="input")))),
    "a layer called pooled": lambda: classifier(lambda x: conv(x, 4, name="pooled")),
    "an inner activation": lambda: classifier(conv, lambda x: Gated()(x)),
    "called by name": called_by_name,
    "a call of its own": override,
    "one logit": lambda: classifier(conv, lambda x: kl.Dense(1)(x)),
    "one sigmoid": lambda: classifier(conv, lambda x: kl.Dense(1, activation="sigmoid")(x)),
    "labels": lambda: classifier(conv, lambda x: kl.Dense(4, activation="sigmoid")(x)),
    "PReLU as an activation": with_prelu,
    "shared towers": siamese,
    "pyramid": pyramid,
    "squeeze and excite": squeeze_excite,
    "ViT": lambda: vit(class_token=False),
    "ViT with a class token": lambda: vit(class_token=True),
    "mixer": lambda: vit(class_token=False, mixer=True),
    "ConvLSTM": video,
    "TimeDistributed": by_frame,
    "rows through an LSTM": by_rows,
    "distilled": distilled,
    "einsum head": einsum_head,
    "attention pooling": attention_pooling,
    "preprocessing inside": augmented,
    "weight-normalised": normalised,
    "LoRA": lora,
    "spectral normalisation": spectral,
    "custom block": custom_block,
    "separable": lambda: classifier(lambda x: kl.SeparableConv2D(4, 3, activation="relu")(kl.DepthwiseConv2D(3)(x))),
    "dilated, grouped": lambda: classifier(lambda x: kl.Conv2D(4, 3, dilation_rate=2, groups=2, activation="elu")(x)),
    "group normalisation": lambda: classifier(lambda x: kl.ReLU()(kl.GroupNormalization(2)(conv(x, 4, None)))),
    "cosine head": lambda: classifier(lambda x: conv(x, 4), lambda x: 9 * kl.Dense(3)(kl.UnitNormalization()(x))),
    "temperature": lambda: classifier(conv, lambda x: ops.softmax(kl.Dense(3)(x) / 2.5)),
    "gated linear unit": lambda: classifier(lambda x: conv(x, 4, None) * conv(x, 4, "sigmoid")),
    "maxout": lambda: classifier(lambda x: kl.Maximum()([conv(x, 4, None), conv(x, 4, None)])),
    "strided slices": lambda: classifier(lambda x: conv(x[:, ::2, 1:], 4)),
    "softmax from another library": lambda: classifier(
        conv, lambda x: kl.Dense(3, activation=lambda z: ops.exp(z) / ops.sum(ops.exp(z), -1, keepdims=True))(x)
    ),
    "signal": lambda: keras.Model(
        i := keras.Input((20, 2)), kl.Dense(3)(kl.GlobalAveragePooling1D()(kl.Conv1D(4, 5, activation="relu")(i)))
    ),
    "volume": lambda: keras.Model(
        i := keras.Input((6, 6, 6, 1)), kl.Dense(3)(kl.GlobalAveragePooling3D()(kl.Conv3D(4, 3, activation="relu")(i)))
    ),
    "table": lambda: keras.Model(i := keras.Input((7,)), kl.Dense(3, activation="softmax")(kl.Dense(5, "tanh")(i))),
}


# The rest of them is run by make test-oracles, and all of them on JAX and torch by make test-backends.
OFTEN = ("Lambda(softmax)", "a layer that holds a softmax", "named output", "Dense, scaled", "a layer called input")
OFTEN += (
    "an inner activation",
    "called by name",
    "a call of its own",
    "one logit",
    "custom block",
    "weight-normalised",
)


@pytest.mark.parametrize(
    "build", [pytest.param(b, id=n, marks=[] if n in OFTEN else pytest.mark.oracles) for n, b in EXACT.items()]
)
def test_the_gradient_is_that_of_the_prediction(build):
    with double_precision():
        keras.utils.set_random_seed(5)
        is_exact(stir(build()))


@pytest.mark.parametrize("kind", [Plain, Core])
def test_subclassed_models_are_opened(kind):
    with double_precision():
        keras.utils.set_random_seed(5)
        model = kind()
        images, direction = images_of(2), images_of(2, seed=9)
        model(images)
        stir(model)
        explain = Attributor(model)
        assert explain.head == ("softmax" if kind is Plain else "linear") and "guided_backprop" in explain.methods
        found = explain(images, 1)["saliency", "input"] - explain(images, 0)["saliency", "input"]
        take = np.log if kind is Plain else np.asarray
        assert error_of(found, model, images, direction, lambda y: take(y)[:, 1] - take(y)[:, 0]) < TOLERANCE


@pytest.mark.oracles
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_saved_models(kind, tmp_path):
    with double_precision():
        keras.utils.set_random_seed(5)
        is_exact(reloaded(stir(pyramid()), kind, tmp_path))


@pytest.mark.oracles
def test_a_model_cloned_by_its_config():
    with double_precision():
        keras.utils.set_random_seed(5)
        model = stir(squeeze_excite())
        is_exact(stir(keras.Model.from_config(model.get_config())))


def guided_by_hand(model, images, label):
    """Return guided backprop of dense layers on flat images, by hand: kernels of relu layers, then one linear layer."""
    *hidden, (last, _) = [layer.get_weights() for layer in model.layers if layer.weights]
    values, outputs = images.reshape(len(images), -1), []
    for kernel, bias in hidden:
        values = np.maximum(values @ kernel + bias, 0)
        outputs.append(values)
    gradient = np.tile(last[:, label], (len(images), 1))
    for (kernel, _), output in zip(hidden[::-1], outputs[::-1], strict=True):
        gradient = (gradient * (output > 0) * (gradient > 0)) @ kernel.T
    return gradient.reshape(images.shape)


def test_guided_backprop_by_hand():
    inputs = keras.Input((4, 4, 1))
    x = kl.Dense(6, activation="relu")(kl.Dense(9, activation="relu")(kl.Flatten()(inputs)))
    model, images = stir(keras.Model(inputs, kl.Dense(3)(x))), images_of(3, 4, 4, 1).astype("float32")
    found = Attributor(model)(images, 2, "guided_backprop")["guided_backprop", "input"]
    np.testing.assert_allclose(found, guided_by_hand(model, images, 2)[..., 0], rtol=1e-4, atol=1e-5)


def test_guided_backprop_reaches_into_custom_layers():
    """The same weights in Keras layers in a row, and inside a residual block of one's own."""
    inputs = keras.Input(SHAPE)
    block = Block(4, name="block")
    opened = keras.Model(inputs, kl.Dense(3)(pooled(block(conv(inputs, 4)))))
    stir(opened)
    x = stem = kl.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = kl.ReLU()(kl.Add()([stem, block.norm(block.conv2(block.conv1(x)))]))
    flat = keras.Model(inputs, kl.Dense(3)(pooled(x)))
    flat.layers[1].set_weights(opened.layers[1].get_weights())
    flat.layers[-1].set_weights(opened.layers[-1].get_weights())
    images = images_of(2).astype("float32")
    found, expected = Attributor(opened, ["block"])(images, 1), Attributor(flat, [flat.layers[-3].name])(images, 1)
    for (key, value), other in zip(found.items(), expected.values(), strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-5 * np.abs(other).max(), err_msg=str(key))
    assert np.abs(found["guided_backprop", "input"] - found["saliency", "input"]).max() > 1e-3


CAM_REFUSED = {name: EXACT[name] for name in (
    *("Dense, negated", "Dense, scaled", "Dense, batch-normalised", "Dense, flipped", "average of logits"),
    *("two heads added", "distilled", "einsum head", "pyramid", "cosine head", "ViT with a class token", "table"),
)}  # fmt: skip


@pytest.mark.parametrize("build", CAM_REFUSED.values(), ids=CAM_REFUSED)
def test_cam_is_refused_where_more_follows_than_one_dense_layer(build):
    explain = Attributor(build(), [])
    assert "cam" not in explain.methods
    with pytest.raises(ValueError, match="CAM needs a global average pooling and one dense layer"):
        explain(images_of(1, *explain.model.inputs[0].shape[1:]), 0, "cam")


CAM_HAD = ["softmax then reshape", "one logit", "labels", "LoRA", "a layer called pooled", "signal", "volume", "ViT"]


@pytest.mark.oracles
@pytest.mark.parametrize("name", CAM_HAD)
def test_cam_adds_up_to_the_logit(name):
    """mean CAM + bias = logit, on every image and for either class."""
    with double_precision():
        keras.utils.set_random_seed(5)
        model = stir(EXACT[name]())
        images = images_of(3, *model.inputs[0].shape[1:])
        explain = Attributor(model, [])
        first, second = (next(iter(explain(images, c, "cam").values())).reshape(3, -1).mean(axis=1) for c in (1, 0))
        p = model.predict(images, verbose=0)
        if explain.head == "softmax":
            expected = np.log(p[:, 1] / p[:, 0])
        else:
            z = p if explain.head == "linear" else log_odds(p)
            expected = 2 * z[:, 0] if z.shape[1] == 1 else z[:, 1] - z[:, 0]
        found = first - second
        np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=0, atol=1e-4 * np.abs(expected).max())


def gradient_of_its_own(x):
    """Hand on x forward, and three times the gradient backward."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.custom_gradient(lambda t: (tf.identity(t), lambda g: -3 * g))(x)
    return -3 * x + ops.stop_gradient(4 * x)


class Reversed(kl.Layer):
    def call(self, x):
        return gradient_of_its_own(x)


class Noisy(kl.Layer):
    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.seed, dtype=x.dtype)


class OfTheBatch(kl.Layer):
    def __init__(self):
        super().__init__()
        self.norm = kl.BatchNormalization()

    def call(self, x):
        return self.norm(x, training=True)


def quantised():
    model = classifier(lambda x: conv(x, 4), shape=(8, 8, 4))
    model.quantize("int8")
    return model


def two_inputs():
    a, b = keras.Input(SHAPE, name="a"), keras.Input(SHAPE, name="b")
    return keras.Model([a, b], kl.Dense(2)(kl.Flatten()(kl.Add()([a, b]))), name="pair")


REFUSED = {
    "average of probabilities": (
        lambda: average_of(lambda x: kl.Dense(3, activation="softmax")(x)),
        "are probabilities, and no softmax .* Take score='probability'",
    ),
    "smoothed probabilities": (
        lambda: classifier(conv, lambda x: 0.9 * kl.Dense(3, activation="softmax")(x) + 0.1 / 3),
        "are probabilities",
    ),
    "int8": (quantised, "is quantised: its rounding has no gradient. Explain the model as it was before"),
    "a gradient of its own": (
        lambda: classifier(lambda x: conv(Reversed()(conv(x)))),
        "is not the slope of its output.* (a gradient of its own|hides some of it)",
    ),
    "noise": (lambda: classifier(lambda x: Noisy()(conv(x))), "writes to 1 of its variables .* draws random numbers"),
    "dropout that stays on": (
        lambda: classifier(lambda x: kl.Lambda(keras.random.dropout, SHAPE, arguments={"rate": 0.5})(conv(x, 2))),
        "writes to . of its variables in inference mode|two answers to the same image in inference mode",
    ),
    "statistics of the batch": (
        lambda: classifier(lambda x: OfTheBatch()(conv(x))),
        "another answer when others are in its batch",
    ),
    "relu at the end": (lambda: classifier(conv, lambda x: kl.Dense(3, "relu")(x)), "'dense.*: relu.* target"),
    "log softmax": (lambda: classifier(conv, lambda x: kl.Dense(3, activation="log_softmax")(x)), "log_softmax"),
    "two inputs": (two_inputs, r"has 2 inputs \(a, b\), expected one: make a model of one"),
    "two outputs": (lambda: two_outputs(list), r"gives 2 outputs, .* choose output=0 ... 1 \(phase, other\)"),
    "segmentation": (segmenter, "expected one output of shape .*give a target of your own"),
    "not built": (lambda: keras.Sequential([kl.Conv2D(3, 3)]), "has no known input: call it once"),
    "values inside": (lambda: _called(NumPyInside()), "cannot be taken apart, since its call does not run on symbolic"),
    "not connected": (
        lambda: keras.Model(i := keras.Input(SHAPE), kl.Dense(3)(ops.stop_gradient(kl.Flatten()(i)))),
        "does not depend on its input",
    ),
}  # fmt: skip


def _called(model):
    model(images_of(1))
    return model


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_explained_is_refused_in_one_line(build, message):
    keras.utils.set_random_seed(5)
    model = build()
    shape = (8, 8, 4) if "int8" in message or "quantised" in message else SHAPE
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message) as caught:
        Attributor(model)(images_of(2, *shape), 0)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400


@pytest.mark.parametrize("score", ["probability", "log_odds"])
def test_probabilities_without_a_softmax_are_explained_as_they_are(score):
    with double_precision():
        keras.utils.set_random_seed(5)
        model = stir(average_of(lambda x: kl.Dense(3, activation="softmax")(x)))
        images, direction = images_of(2), images_of(2, seed=9)
        explain = Attributor(model, [], score=score)
        assert explain.head == "probabilities"
        found = explain(images, 2, "saliency")["saliency", "input"]
        of = (lambda p: p[:, 2]) if score == "probability" else (lambda p: log_odds(p[:, 2]))
        assert error_of(found, model, images, direction, of) < TOLERANCE


def foreign_layer(kernel):
    """A layer that holds a ReLU of another library."""
    if BACKEND == "torch":
        import torch
        from keras.src.utils.torch_utils import TorchModuleWrapper

        return TorchModuleWrapper(torch.nn.ReLU(), output_shape=(None, *SHAPE[:2], 3))
    pytest.importorskip("jax")
    import jax

    return kl.JaxLayer(lambda params, inputs: jax.nn.relu(inputs @ params["k"]), params={"k": kernel})


def test_guided_backprop_is_refused_where_another_library_is_inside():
    if BACKEND == "tensorflow":
        layer = kl.Lambda(__import__("tensorflow").nn.relu)
    else:
        layer = foreign_layer(np.eye(3, dtype="float32"))
    model = classifier(lambda x: layer(conv(x)))
    explain = Attributor(model, [])
    assert explain.methods == ("saliency", "cam")
    with pytest.raises(ValueError, match=r"plain ReLUs only, and .* whose inside is not known"):
        explain(images_of(1), 0, "guided_backprop")


def test_one_line_even_for_a_network_of_many_layers():
    inputs = x = keras.Input((8, 8, 1))
    for number in range(40):
        x = kl.Activation("gelu", name=f"gelu_{number}")(kl.Conv2D(2, 3, padding="same", name=f"conv_{number}")(x))
    model = keras.Model(inputs, kl.Dense(2)(pooled(x)))
    with pytest.raises(ValueError, match="Did you mean conv_3") as typo:
        Attributor(model, ["cnov_3"])
    with pytest.raises(ValueError, match="and 37 more") as guided:
        Attributor(model)(images_of(1, 8, 8, 1), 0, "guided_backprop")
    with pytest.raises(ValueError, match=r"80 layers have a map, conv_0 \.\.\. gelu_39") as unknown:
        Attributor(model, ["zzz"])
    with pytest.raises(ValueError, match="did you mean 'grad_cam'"):
        Attributor(model)(images_of(1, 8, 8, 1), 0, "gradcam")
    for caught in (typo, guided, unknown):
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- what changes later


def maps_of(model, images, **choices):
    return Attributor(model, **choices)(images, 1)


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-6, err_msg=str(key))


def test_settings_are_fixed():
    explain = Attributor(classifier(conv))
    for name in ("blur_sigma", "score", "model", "memory"):
        with pytest.raises(AttributeError, match=f"{name} is fixed once an Attributor is built: build another"):
            setattr(explain, name, None)


def test_a_model_that_changes_is_read_anew():
    images = images_of(2).astype("float32")
    model = keras.Sequential([keras.Input(SHAPE), kl.Normalization(), kl.Conv2D(4, 3, activation="relu", name="a")])
    for layer in (kl.GlobalAveragePooling2D(), kl.Dense(5, activation="relu"), kl.Dense(3)):
        model.add(layer)
    explain = Attributor(model, ["a"])
    explain(images, 1)
    model.layers[0].adapt(5 + 3 * images_of(20).astype("float32"))
    same(explain(images, 1), maps_of(model, images, layers=["a"]))
    model.layers[1].enable_lora(2)
    model.layers[1].lora_kernel_b.assign(np.ones(model.layers[1].lora_kernel_b.shape))
    same(explain(images, 1), maps_of(model, images, layers=["a"]))
    model.pop()
    model.add(kl.Dense(2, activation="softmax"))
    same(explain(images, 1), maps_of(model, images, layers=["a"]))
    model.layers[-2].activation = keras.activations.tanh
    assert "guided_backprop" in explain.methods
    same(explain(images, 1), maps_of(model, images, layers=["a"]))
    assert "guided_backprop" in explain.methods  # the convolution's ReLU is left


def test_training_and_predicting_in_between_do_not_trace_again():
    images = images_of(4).astype("float32")
    model = classifier(lambda x: kl.BatchNormalization()(conv(x, 4)))
    model.compile("adam", "sparse_categorical_crossentropy")
    explain = Attributor(model)
    explain(images, 1)
    model.fit(images, np.zeros(4), verbose=0)
    traces = explain.traces
    for _ in range(2):
        model.fit(images, np.zeros(4), verbose=0)
        model.predict(images, verbose=0)
        model(images)
        explain(images, 1)
        same(explain(images, 1), maps_of(model, images))
    if BACKEND != "torch":
        assert explain.traces - traces <= 1


def test_the_model_is_left_as_it_was():
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, kl.Dense(3)(pooled(Block(2, name="block")(inputs))))
    before = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model._flatten_layers()]
    config, weights = model.get_config(), model.get_weights()
    Attributor(model)(images_of(1), 0)
    assert [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model._flatten_layers()] == before
    assert str(model.get_config()) == str(config)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_replay_that_does_something_else_names_the_layer(monkeypatch):
    """Break the replay on purpose: the check at the first call sees it."""
    from lib import gradients

    model = classifier(lambda x: conv(kl.BatchNormalization(name="norm")(conv(x, 4, name="first")), 4))
    stir(model)
    right = gradients.replay

    def wrong(found, images, relu, tap, *rest):
        return right(found, images, relu, lambda s, t: tap(s, 1.1 * t if s.name == "norm" else t), *rest)

    monkeypatch.setattr(gradients, "replay", wrong)
    with pytest.raises(RuntimeError, match=r"does not give what the model gives .they part at layer 'norm'"):
        Attributor(model)(images_of(1), 0)


def test_cam_that_is_not_hires_cam_raises(monkeypatch):
    model, explain = classifier(conv), None
    explain = Attributor(model)
    monkeypatch.setattr(type(model.layers[-2]), "call", lambda self, x: ops.max(x, axis=(1, 2)))
    with pytest.raises(RuntimeError, match=r"CAM of model .* is not its HiResCAM times the cells"):
        explain(images_of(1), 0, "cam")


def test_maps_that_are_not_finite_raise():
    """sqrt(x^2) has no slope at 0, where the score is finite: infinity times zero."""
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, kl.Dense(2)(pooled(ops.sqrt(ops.square(conv(inputs, activation=None))))))
    with pytest.raises(FloatingPointError, match="map of 'input' of image 0 is not finite"):
        Attributor(model, [])(np.zeros((1, *SHAPE)), 0, "saliency")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_attention_and_custom_blocks_run_in_float32(policy):
    def build():
        inputs = keras.Input(SHAPE)
        x = kl.Reshape((64, 4))(Block(4)(conv(inputs, 4)))
        x = kl.MultiHeadAttention(2, 3)(x, x)
        return keras.Model(inputs, kl.Dense(3, activation="softmax", dtype="float32")(kl.GlobalAveragePooling1D()(x)))

    model = stir(build())
    keras.config.set_dtype_policy(policy)
    try:
        mixed = build()
    finally:
        keras.config.set_dtype_policy("float32")
    for a, b in zip(model.variables, mixed.variables, strict=True):
        b.assign(a)
    images = images_of(2).astype("float32")
    expected, found = Attributor(model, [])(images, 1), Attributor(mixed, [])(images, 1)
    for value, other in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-5 * np.abs(other).max())
    assert mixed.layers[1].compute_dtype == policy.removeprefix("mixed_")


def test_layers_that_draw_random_numbers_in_training_only():
    model = classifier(lambda x: kl.SpatialDropout2D(0.5)(kl.RandomTranslation(0.1, 0.1)(conv(x, 4))))
    explain, images = Attributor(model), images_of(2).astype("float32")
    same(explain(images, 1), explain(images, 1))

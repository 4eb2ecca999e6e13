"""Traps: models on which a map would be wrong without a word, but for the checks. On TensorFlow, JAX and torch."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops
from test_attribution_models import (
    BACKEND,
    SHAPE,
    TOLERANCE,
    average_of,
    classifier,
    conv,
    double_precision,
    error_of,
    images_of,
    pooled,
    stir,
)

from lib.attribution import Attributor


def refused(model, message, images=None, **choices):
    """Expect one line, from the constructor or from the first call."""
    images = images_of(2, *model.inputs[0].shape[1:]).astype("float32") if images is None else images
    with pytest.raises((ValueError, RuntimeError), match=message) as caught:
        Attributor(model, [], **choices)(images, 1)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


# ------------------------------------------------------------------------------------ gradients that are not the slope


class Rounded(kl.Layer):
    """Rounds forward and hands the gradient straight through, as quantisers do."""

    def call(self, x):
        return x + ops.stop_gradient(ops.round(4 * x) / 4 - x)


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_a_stopped_branch_is_refused(share):
    """A tenth of the slope is enough: finite differences would not tell it from rounding."""
    refused(
        stir(classifier(lambda x: conv(x) + share * ops.stop_gradient(conv(x)))),
        "is not the slope of its output: 'stop_gradient.* hides some of it. Explain a model without it",
    )


def test_a_rounding_that_pretends_to_be_none_is_refused():
    refused(stir(classifier(lambda x: Rounded()(conv(x)))), "'.*/stop_gradient.*' hides some of it")


def test_a_stop_that_hides_nothing_is_exact():
    """A softmax made stable by its maximum, as people write it: the logarithm of p has its slope all the same."""

    def softmax(z):
        e = ops.exp(z - ops.stop_gradient(ops.max(z, axis=-1, keepdims=True)))
        return e / ops.sum(e, axis=-1, keepdims=True)

    with double_precision():
        keras.utils.set_random_seed(5)
        model = stir(classifier(conv, lambda x: kl.Lambda(softmax)(kl.Dense(3)(x))))
        images, direction = images_of(2), images_of(2, seed=9)
        found = Attributor(model, [], score="probability")(images, 2)["saliency", "input"]
        assert error_of(found, model, images, direction, lambda p: p[:, 2]) < TOLERANCE


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends' custom gradients are stopped branches above")
@pytest.mark.parametrize("factor", [0.9, 1.25])
def test_a_gradient_that_is_a_little_wrong_is_refused(factor):
    import tensorflow as tf

    class Scaled(kl.Layer):
        def call(self, x):
            return tf.custom_gradient(lambda t: (tf.identity(t), lambda g: factor * g))(x)

    model = stir(classifier(lambda x: conv(Scaled(name="scaled")(conv(x)))))
    refused(model, "by finite differences.: 'scaled' has a gradient of its own")


@pytest.mark.parametrize("operation", ["round", "sign"])
def test_where_no_gradient_passes_the_operation_is_named(operation):
    model = classifier(lambda x: getattr(ops, operation)(conv(x)))
    refused(model, f"does not depend on its input: no gradient reaches it past '{operation}")


def test_word_numbers_have_no_gradient():
    inputs = keras.Input((12,), dtype="int32")
    x = kl.GlobalAveragePooling1D()(kl.Embedding(10, 4, name="words")(inputs))
    refused(keras.Model(inputs, kl.Dense(3)(x)), "no gradient reaches it past 'words'", np.ones((1, 12), int))


# ------------------------------------------------------------------------------------------- checks that must not sleep


def test_an_image_of_zeros_hides_no_mistake(monkeypatch):
    """Without biases every layer gives zero there, right or wrong."""
    from lib import gradients

    model = classifier(lambda x: conv(kl.BatchNormalization(name="norm")(conv(x, 4)), 4))
    right = gradients.replay

    def wrong(found, images, relu, tap, *rest):
        return right(found, images, relu, lambda s, t: tap(s, 1.1 * t if s.name == "norm" else t), *rest)

    monkeypatch.setattr(gradients, "replay", wrong)
    refused(model, "they part at layer 'norm'", np.zeros((2, *SHAPE), "float32"))


def test_a_mask_that_the_first_image_does_not_need():
    """A masked mean leaves time steps out: CAM / cells is no longer HiResCAM there, so CAM is not offered."""
    inputs = keras.Input((12, 2))
    x = kl.Dense(4, activation="relu", name="dense")(kl.Masking(0.0)(inputs))
    model = stir(keras.Model(inputs, kl.Dense(3)(kl.GlobalAveragePooling1D()(x))))
    images = images_of(2, 12, 2).astype("float32")
    images[1, 5:] = 0
    explain = Attributor(model, ["dense"])
    assert "cam" not in explain.methods
    maps, scores = explain(images, 1, return_scores=True)
    np.testing.assert_allclose(scores.outputs, model.predict(images, verbose=0), rtol=1e-5, atol=1e-6)
    assert (maps["hires_cam", "dense"][1, 5:] == 0).all() and (maps["hires_cam", "dense"][0] != 0).any()


def test_quantised_layers_inside_another_layer_are_seen():
    inputs = keras.Input((8, 8, 2))
    x = kl.Reshape((16, 8))(kl.Conv2D(8, 2, strides=2)(inputs))
    model = keras.Model(inputs, kl.Dense(3)(kl.GlobalAveragePooling1D()(kl.MultiHeadAttention(2, 4)(x, x))))
    for layer in model._flatten_layers():
        if type(layer).__name__ == "EinsumDense":
            layer.quantize("int8")
    refused(model, "is quantised: its rounding has no gradient. Explain the model as it was before")


class TwoViews(keras.Model):
    """`predict` averages over two views, the model's call knows one."""

    def predict_step(self, *arguments):
        *state, data = arguments
        images = data[0] if isinstance(data, tuple) else data
        views = (images, ops.flip(images, axis=2))
        first, second = (super(TwoViews, self).predict_step(*state, view) for view in views)
        return ((first[0] + second[0]) / 2, first[1]) if BACKEND == "jax" else (first + second) / 2


class OneView(keras.Model):
    def predict_step(self, *arguments):
        return super().predict_step(*arguments)


def test_a_prediction_that_is_not_the_models_call_is_refused():
    inputs = keras.Input(SHAPE)
    outputs = kl.Dense(3)(kl.Flatten()(conv(inputs)))
    refused(TwoViews(inputs, outputs), "has a predict_step of its own, which gives something else than a call")
    assert Attributor(OneView(inputs, outputs), [])(images_of(1), 1)["saliency", "input"].any()


def test_what_a_layer_holds_may_change_in_place():
    class Scaled(kl.Layer):
        def __init__(self):
            super().__init__()
            self.table, self.settings = np.ones(4, "float32"), {"factor": 1.0}

        def call(self, x):
            return x * self.table * self.settings["factor"]

    layer, images = Scaled(), images_of(1).astype("float32")
    explain = Attributor(classifier(lambda x: layer(conv(x, 4))), [])
    before = explain(images, 1, "saliency")["saliency", "input"]
    layer.table[:] = 2
    np.testing.assert_allclose(explain(images, 1, "saliency")["saliency", "input"], 2 * before, rtol=1e-5, atol=1e-8)
    layer.settings["factor"] = 3.0
    np.testing.assert_allclose(explain(images, 1, "saliency")["saliency", "input"], 6 * before, rtol=1e-5, atol=1e-8)


# ------------------------------------------------------------------------------------------------------ heads by hand

BY_HAND = {
    "a sigmoid by operations": lambda x: 1 / (1 + ops.exp(-kl.Dense(3)(x))),
    "two softmaxes side by side": lambda x: kl.Concatenate()([kl.Dense(n, activation="softmax")(x) for n in (2, 3)]),
    "evidence": lambda x: (a := ops.softplus(kl.Dense(3)(x)) + 1) / ops.sum(a, axis=-1, keepdims=True),
    "clipped probabilities": lambda x: ops.clip(kl.Dense(3, activation="softmax")(x), 1e-7, 1 - 1e-7),
}


@pytest.mark.parametrize("head", BY_HAND.values(), ids=BY_HAND)
def test_probabilities_made_by_hand_are_not_taken_for_logits(head):
    keras.utils.set_random_seed(5)
    model = classifier(conv, head)
    refused(model, "are probabilities, and no softmax or sigmoid was found .* Take score='probability'")
    assert Attributor(model, []).head == "probabilities"


def test_a_geometric_mean_of_networks_is_explained_as_it_is():
    def ensemble():
        inputs, members = keras.Input(SHAPE), average_of(lambda x: kl.Dense(3, activation="softmax")(x)).layers[1:3]
        first, second = (ops.log(member(inputs)) for member in members)
        return keras.Model(inputs, ops.exp((first + second) / 2))

    with double_precision():
        keras.utils.set_random_seed(5)
        model = stir(ensemble())
        refused(model, "are probabilities", images_of(2))
        images, direction = images_of(2), images_of(2, seed=9)
        found = Attributor(model, [], score="probability")(images, 2)["saliency", "input"]
        assert error_of(found, model, images, direction, lambda p: p[:, 2]) < TOLERANCE


@pytest.mark.parametrize("head", [lambda x: 0.01 * kl.Dense(1)(x) + 0.5, lambda x: kl.Dense(2)(x) / 50])
def test_small_logits_stay_logits(head):
    """Values in [0, 1] that a dense layer gives are no probabilities."""
    model = classifier(conv, head)
    assert Attributor(model, []).head == "linear"


# --------------------------------------------------------------------------------------------------- turned and mixed

TURNS = {
    "permuted": kl.Permute((2, 1, 3)),
    "flipped": lambda x: ops.flip(x, axis=1),
    "turned": lambda x: ops.rot90(x, axes=(1, 2)),
    "rolled": lambda x: ops.roll(x, 3, axis=1),
    "sliced backwards": lambda x: x[:, ::-1],
    "taken": lambda x: ops.take(x, [5, 4, 3, 2, 1, 0], axis=1),
    "halves exchanged": lambda x: ops.concatenate([x[:, 3:], x[:, :3]], axis=1),
    "einsum": lambda x: ops.einsum("nhwc->nwhc", x),
    "warped": lambda x: ops.image.affine_transform(x, np.float32([[0, 1, 0, 1, 0, 0, 0, 0]])),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_map_that_does_not_lie_as_the_image_is_not_offered(turn):
    """The maps after a turn would be drawn over the wrong place: no default layer, no CAM, and a word when named."""
    inputs = keras.Input((6, 6, 2))
    x = conv(turn(conv(inputs, 4, name="before")), 5, name="after")
    model = keras.Model(inputs, kl.Dense(3)(pooled(x)))
    explain = Attributor(model)
    assert "after" not in explain.layers and "cam" not in explain.methods
    with pytest.warns(UserWarning, match="'after' comes after axes were turned or mixed"):
        Attributor(model, ["after"])


@pytest.mark.parametrize("keep", [lambda x: x[:, ::2, 1:], kl.Conv2DTranspose(4, 3), kl.UpSampling2D()])
def test_a_map_that_lies_as_the_image_is_offered(keep):
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, kl.Dense(3)(pooled(conv(keep(conv(inputs, 4)), 5, name="after"))))
    explain = Attributor(model)
    assert explain.layers == ("after",) and "cam" in explain.methods


# -------------------------------------------------------------------------------------------------- numbers and shapes


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_half_precision_are_computed_with_in_full(dtype):
    """The maps are those of the same weights in float32, not rounded on the way."""

    def build():
        return classifier(lambda x: conv(conv(x, 4, name="first"), 4, name="last"))

    keras.config.set_floatx(dtype)
    try:
        half = stir(build())
    finally:
        keras.config.set_floatx("float32")
    full, images = build(), images_of(2)
    for a, b in zip(half.variables, full.variables, strict=True):
        b.assign(ops.cast(a.value, "float32"))
    images = ops.convert_to_numpy(ops.cast(ops.cast(images, dtype), "float32"))
    found, expected = Attributor(half, ["first"])(images, 1), Attributor(full, ["first"])(images, 1)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=str(key))


def test_logits_of_minus_infinity_leave_the_others_alone():
    allowed = np.array([True, True, False])
    model = stir(classifier(conv, lambda x: ops.where(allowed, kl.Dense(3)(x), -np.inf)))
    images = images_of(2).astype("float32")
    assert np.isfinite(Attributor(model, [])(images)["saliency", "input"]).all()
    with pytest.raises(FloatingPointError, match="class score of image 0 is -inf"):
        Attributor(model, [])(images, 2)


def test_a_batch_size_that_the_model_fixes_is_no_limit():
    inputs = keras.Input(batch_shape=(4, *SHAPE))
    explain = Attributor(keras.Model(inputs, kl.Dense(3)(pooled(conv(inputs)))), [])
    images = images_of(4).astype("float32")
    two, four = (explain(part, 1, "saliency")["saliency", "input"] for part in (images[:2], images))
    np.testing.assert_allclose(two, four[:2], rtol=1e-5, atol=1e-7)


def test_complex_images_are_refused():
    refused(classifier(conv), "images holds complex128 values, expected real numbers", images_of(1) + 1j)


def test_the_reference_tells_right_from_wrong():
    """The finite differences that all of this rests on, on a model whose gradient is known."""
    with double_precision():
        inputs = keras.Input((4, 4, 1))
        model = keras.Model(inputs, kl.Dense(3)(kl.Flatten()(inputs)))
        weights, images = model.get_weights()[0][:, 1].reshape(1, 4, 4), images_of(1, 4, 4, 1)
        direction = images_of(1, 4, 4, 1, seed=9)
        assert error_of(weights, model, images, direction, lambda y: y[:, 1]) < TOLERANCE
        assert error_of(1.1 * weights, model, images, direction, lambda y: y[:, 1]) > 0.05

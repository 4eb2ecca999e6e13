"""Maps batch by batch, kept, and resumed."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from lib.attribution import Attributor
from lib.streaming import batches_of, explain_to_zarr, stream


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((8, 8, 1))
    x = kl.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    return keras.Model(inputs, kl.Dense(3, activation="softmax")(kl.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def explain(model):
    return Attributor(model)


IMAGES = np.random.default_rng(0).standard_normal((7, 8, 8, 1)).astype("float32")
CLASSES = np.arange(7) % 3


class Dataset(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, number):
        return IMAGES[3 * number : 3 * number + 3], CLASSES[3 * number : 3 * number + 3]


def in_batches(stop=None):
    for number in range(3):
        if number == stop:
            raise KeyboardInterrupt
        yield IMAGES[3 * number : 3 * number + 3], CLASSES[3 * number : 3 * number + 3]


def tf_data():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((IMAGES, np.eye(3)[CLASSES], np.ones(7))).batch(3)


@pytest.mark.parametrize("source", [in_batches, Dataset, tf_data, lambda: list(in_batches())])
def test_every_source_gives_the_maps_of_one_call(explain, source):
    parts = list(stream(explain, source(), progress=False))
    for key, expected in explain(IMAGES, CLASSES).items():
        found = np.concatenate([maps[key] for maps, _ in parts])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.concatenate([scores.classes for _, scores in parts]).tolist() == CLASSES.tolist()


def test_without_classes_the_predicted_ones_are_explained(explain, model):
    (_, scores), *_ = stream(explain, [IMAGES], progress=False)
    assert scores.classes.tolist() == model.predict(IMAGES, verbose=0).argmax(axis=1).tolist()
    (_, scores), *_ = stream(explain, [(IMAGES, CLASSES)], predicted=True, progress=False)
    assert scores.classes.tolist() == model.predict(IMAGES, verbose=0).argmax(axis=1).tolist()


def test_an_interrupted_run_goes_on_where_it_stopped(explain, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        explain_to_zarr(explain, in_batches(stop=2), tmp_path, progress=False)
    traced = []
    counting = lambda *args, **kwargs: traced.append(len(args[0])) or explain(*args, **kwargs)  # noqa: E731
    counting.__dict__.update(vars(explain), keys=explain.keys)
    group = explain_to_zarr(counting, in_batches(), tmp_path, progress=False)
    assert traced == [1] and group.attrs["images"] == 7
    for (method, layer), expected in explain(IMAGES, CLASSES).items():
        np.testing.assert_allclose(group[f"{method}/{layer}"][:], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(group["classes"][:], CLASSES)


def test_batches_of_another_size_resume_too(explain, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        explain_to_zarr(explain, in_batches(stop=1), tmp_path, "saliency", progress=False)
    group = explain_to_zarr(explain, [(IMAGES[:5], CLASSES[:5]), (IMAGES[5:], CLASSES[5:])], tmp_path, "saliency")
    expected = explain(IMAGES, CLASSES, "saliency")["saliency", "input"]
    np.testing.assert_allclose(group["saliency/input"][:], expected, rtol=1e-5, atol=1e-6)


def test_other_weights_or_settings_are_refused(explain, model, tmp_path):
    explain_to_zarr(explain, [IMAGES], tmp_path, "saliency", progress=False)
    with pytest.raises(ValueError, match="another network, of other weights or settings"):
        explain_to_zarr(explain, [IMAGES], tmp_path, "grad_cam", progress=False)
    with pytest.raises(ValueError, match="another network, of other weights or settings"):
        explain_to_zarr(Attributor(keras.models.clone_model(model)), [IMAGES], tmp_path, "saliency", progress=False)


@pytest.mark.parametrize("classes", [np.full((7, 2), 0.5), np.full(7, 0.5), np.arange(3)])
def test_classes_that_are_none_raise(classes):
    with pytest.raises(ValueError, match=r"one-hot|whole number"):
        next(batches_of([(IMAGES, classes)]))

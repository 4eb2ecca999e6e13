"""Features, maximised units and autoencoders against closed forms."""

import keras
import numpy as np
from keras import layers as kl
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from lib.atlas.features import cross_labelled, features, maximise, neighbours_agree, train_autoencoder, unit_gradient
from lib.networks import phase_net


def test_a_unit_of_the_first_layer_is_excited_most_by_its_kernel():
    """In a ball the maximum of a linear unit is its weights, at the place that it sees."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 9, 1))
    model = keras.Model(inputs, kl.Conv2D(3, 3, padding="same", activation="relu", name="conv")(inputs))
    units = np.arange(3)
    found = maximise(
        unit_gradient(model, "conv"), units, (9, 9, 1), radius=1.0, rng=np.random.default_rng(5), steps=300
    )
    kernels = model.get_layer("conv").get_weights()[0]
    for k in range(3):
        expected = np.zeros((9, 9))
        expected[3:6, 3:6] = kernels[:, :, 0, k]
        cosine = (found[k, ..., 0] * expected).sum() / np.linalg.norm(found[k]) / np.linalg.norm(expected)
        assert cosine > 0.995, (k, cosine)


def test_class_images_stay_in_the_ball_and_raise_the_score():
    model = phase_net(32, initializer="he_normal")
    gradient = unit_gradient(model)
    rng = np.random.default_rng(0)
    how = dict(radius=0.5, steps=20, jitter=2, smoothness=0.1)
    found = maximise(gradient, np.arange(5), (32, 32, 1), rng=rng, **how)
    assert np.sqrt((found**2).mean(axis=(1, 2, 3))).max() <= 0.5 + 1e-5
    start = maximise(gradient, np.arange(5), (32, 32, 1), rng=np.random.default_rng(0), radius=0.5, steps=0)
    logits = keras.Model(model.inputs, model.get_layer("gap").output)
    weights, bias = model.get_layer("phase").get_weights()
    after, before = ((logits.predict(x, verbose=0) @ weights + bias).diagonal() for x in (found, start))
    assert (after > before).all()


def test_smoothness_makes_smooth_images():
    gradient = unit_gradient(phase_net(32, initializer="he_normal"))
    rough, smooth = (
        maximise(gradient, np.arange(5), (32, 32, 1), radius=1.0, rng=np.random.default_rng(0), steps=20, smoothness=s)
        for s in (0.0, 1.0)
    )
    variation = [np.abs(np.diff(x, axis=1)).mean() / np.abs(x).mean() for x in (rough, smooth)]
    assert variation[1] < 0.8 * variation[0]


def test_features_are_the_layers_output():
    model = phase_net(32)
    images = np.random.default_rng(0).standard_normal((3, 32, 32, 1)).astype("float32")
    weights, bias = model.get_layer("phase").get_weights()
    logits = features(model, "gap", images) @ weights + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)


def test_neighbours_of_the_same_patient_do_not_count():
    """Each patient is a cluster of its own with a label of its own: neighbours of others know nothing of it."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 6)
    points = 100 * rng.standard_normal((20, 2))[patients] + rng.standard_normal((120, 2))
    labels = rng.integers(0, 5, 20)[patients]
    assert neighbours_agree(points, labels, patients).mean() < 0.6
    told = np.stack([labels, rng.standard_normal(120)], axis=1).astype(float)
    told[:, 1] *= 0.01
    assert neighbours_agree(told * [1, 0], labels, patients).mean() > 0.95
    assert (cross_labelled(KNeighborsClassifier(1), told * [1, 0], labels, patients) == labels).mean() > 0.95


def test_a_linear_autoencoder_spans_the_subspace_of_pca(seed=0):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((64, 3)))[0]
    data = (rng.standard_normal((400, 3)) * [5, 4, 3]) @ basis.T + 0.1 * rng.standard_normal((400, 64))
    images = data.astype("float32").reshape(-1, 8, 8, 1)
    model, encoder, losses = train_autoencoder(images, 3, epochs=60, linear=True, seed=seed, rate=1e-2)
    pca = PCA(3).fit(data)
    best = ((pca.inverse_transform(pca.transform(data)) - data) ** 2).mean()
    assert losses[-1] < 1.2 * best and losses[0] > 5 * best
    decoder = model.layers[-2].get_weights()[0]
    cosines = np.linalg.svd(np.linalg.qr(decoder.T)[0].T @ pca.components_.T)[1]
    assert cosines.min() > 0.99
    assert encoder.predict(images, verbose=0).shape == (400, 3)


def test_a_convolutional_autoencoder_learns_to_restore():
    y, x = np.mgrid[:32, :32]
    rng = np.random.default_rng(0)
    centres = rng.uniform(8, 24, (96, 2))
    images = np.exp(-((y - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2) / 20)[..., None]
    _, _, losses = train_autoencoder(images.astype("float32"), 4, epochs=15)
    assert losses[-1] < 0.5 * images.var()

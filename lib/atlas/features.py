"""What a network has learned: its features, images that excite its units, and the latents of autoencoders."""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers as kl
from keras import ops
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.attribution import Attributor


def features(model: keras.Model, layer: str, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Return a layer's output for each image, float32 (n, ...).

    Parameters
    ----------
    model : keras.Model
    layer : str
        Such as "gap", the average over each kernel of the last convolution.
    images : array (n, H, W, C)
    batch_size : int
    """
    part = keras.Model(model.inputs, model.get_layer(layer).output)
    return part.predict(images, batch_size=batch_size, verbose=0)


def neighbours_agree(points: np.ndarray, labels: np.ndarray, patients: np.ndarray, neighbours: int = 5) -> np.ndarray:
    """Return whether the nearest neighbours of each point, of other patients only, vote for its label, bool (n,).

    Parameters
    ----------
    points : array (n, d)
    labels, patients : array (n,)
    neighbours : int
    """
    return cross_labelled(KNeighborsClassifier(neighbours), points, labels, patients) == labels


def cross_labelled(classifier, points: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return the label that a classifier gives each point after training on other patients (ten-fold), (n,)."""
    folds = GroupKFold(min(10, len(np.unique(patients))))
    return cross_val_predict(make_pipeline(StandardScaler(), classifier), points, labels, groups=patients, cv=folds)


def unit_gradient(model: keras.Model, layer: str | None = None) -> Callable:
    """Return the gradient of units as a function of images (n, H, W, C) and unit numbers (n,).

    Parameters
    ----------
    model : keras.Model
    layer : str, optional
        The unit is the centre cell of a kernel of this layer, before its ReLU, which would hold a unit at 0 without
        a gradient; without a layer, a class score.
    """
    if layer is None:
        attributor = Attributor(model, ())
    else:
        whole = model.get_layer(layer)
        bare = type(whole).from_config(whole.get_config() | {"activation": "linear", "name": f"{layer}_before"})
        part = keras.Model(model.inputs, bare(whole.input))
        bare.set_weights(whole.get_weights())

        def centre(outputs, units):
            _, rows, columns, kernels = outputs.shape
            cell = outputs[:, rows // 2, columns // 2]
            return ops.sum(cell * ops.one_hot(units, kernels, dtype=cell.dtype), axis=-1)

        attributor = Attributor(part, (), target=centre)

    def gradient(images: np.ndarray, units: np.ndarray) -> np.ndarray:
        return attributor(images, units, ["saliency"])["saliency", "input"].reshape(images.shape)

    return gradient


def maximise(
    gradient: Callable,
    units: np.ndarray,
    shape: tuple[int, int, int],
    *,
    radius: float,
    rng: np.random.Generator,
    steps: int = 64,
    step: float = 0.1,
    jitter: int = 0,
    smoothness: float = 0.0,
) -> np.ndarray:
    r"""Return images in a ball that excite units most, float32 (n, H, W, C).

    Parameters
    ----------
    gradient : callable
        As from :func:`unit_gradient`.
    units : int array (n,)
        Numbers of kernels or classes.
    shape : tuple of int
        Of an image.
    radius : float
        Largest root mean square of an image, in SD of the input.
    rng : numpy.random.Generator
        Of the first image and of the jitter.
    steps, step : int, float
        Number of steps, and the length of one as a share of the radius.
    jitter : int
        Largest shift before each step, in pixels.
    smoothness : float
        Weight of the total variation that is taken off, relative to the gradient.

    Notes
    -----
    Projected ascent: a step of a set length along the gradient, and back into the ball
    :math:`\lVert x \rVert_2 \le r \sqrt{HWC}` (Erhan et al. 2009; total variation: Mahendran and Vedaldi 2015, arXiv
    1412.0035; jitter: Mordvintsev et al. 2015).
    """
    norm = radius * np.sqrt(np.prod(shape))
    images = rng.standard_normal((len(units), *shape)).astype("float32")
    images *= 0.1 * norm / _norm(images)
    for _ in range(steps):
        shift = tuple(rng.integers(-jitter, jitter + 1, 2)) if jitter else (0, 0)
        moved = np.roll(images, shift, axis=(1, 2))
        slope = gradient(moved, units)
        slope = slope / np.maximum(_norm(slope), 1e-12)
        if smoothness:
            rough = _total_variation_slope(moved)
            slope = slope - smoothness * rough / np.maximum(_norm(rough), 1e-12)
        moved = moved + step * norm * slope
        moved *= np.minimum(1, norm / np.maximum(_norm(moved), 1e-12))
        images = np.roll(moved, (-shift[0], -shift[1]), axis=(1, 2)).astype("float32")
    return images


def stretched(images: np.ndarray) -> np.ndarray:
    """Return images (n, H, W), each divided by its largest absolute value."""
    return images / np.maximum(np.abs(images).max(axis=(1, 2), keepdims=True), 1e-12)


def _norm(images: np.ndarray) -> np.ndarray:
    return np.sqrt((images.astype(float) ** 2).sum(axis=(1, 2, 3), keepdims=True))


def _total_variation_slope(images: np.ndarray) -> np.ndarray:
    """Return the derivative of the (squared) total variation: each pixel less its four neighbours."""
    around = sum(np.roll(images, shift, axis) for shift in (-1, 1) for axis in (1, 2))
    return 4 * images - around


def autoencoder(size: int, latents: int, *, linear: bool = False, seed: int = 0) -> tuple[keras.Model, keras.Model]:
    """Return an untrained autoencoder of images (n, size, size, 1), and its encoder.

    Parameters
    ----------
    size : int
        Rows and columns; a multiple of 16 for the convolutional one.
    latents : int
        Numbers that an image is brought down to.
    linear : bool
        One dense layer each way instead of four strided convolutions; its best is what PCA does.
    seed : int
        Of the weights.
    """
    keras.utils.set_random_seed(seed)
    image = x = keras.Input((size, size, 1))
    if not linear:
        for kernels in (16, 32, 32, 64):
            x = kl.Conv2D(kernels, 3, 2, "same", activation="relu", kernel_initializer="he_normal")(x)
    code = kl.Dense(latents, name="latents")(kl.Flatten()(x))
    if linear:
        x = kl.Reshape((size, size, 1))(kl.Dense(size * size)(code))
    else:
        x = kl.Dense((size // 16) ** 2 * 64, activation="relu")(code)
        x = kl.Reshape((size // 16, size // 16, 64))(x)
        for kernels in (32, 32, 16):
            x = kl.Conv2DTranspose(kernels, 3, 2, "same", activation="relu", kernel_initializer="he_normal")(x)
        x = kl.Conv2DTranspose(1, 3, 2, "same")(x)
    return keras.Model(image, x, name="autoencoder"), keras.Model(image, code, name="encoder")


def train_autoencoder(
    images: np.ndarray, latents: int, *, epochs: int, linear: bool = False, seed: int = 0, rate: float = 2e-3
) -> tuple[keras.Model, keras.Model, list[float]]:
    """Train an autoencoder on images (n, size, size, 1); return it, its encoder, and the loss of each epoch."""
    model, encoder = autoencoder(images.shape[1], latents, linear=linear, seed=seed)
    total = epochs * -(-len(images) // 32)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, total)), "mse")
    history = model.fit(images, images, batch_size=32, epochs=epochs, verbose=0)
    return model, encoder, history.history["loss"]

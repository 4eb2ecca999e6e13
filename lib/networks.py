"""The paper's network, whose layers follow from its number of weights; its relatives; and the trained ones."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from lib.cohort import Standardisation
from lib.files import ROOT
from lib.paper import PHASES

KERNELS = (16, 16, 32, 32, 64)
REFERENCES = ("VGG16", "ResNet50", "InceptionV3", "InceptionResNetV2", "DenseNet201")


def phase_net(
    image_size: int = 512,
    channels: int = 1,
    *,
    kernels: Sequence[int] = KERNELS,
    initializer: str = "glorot_uniform",
) -> keras.Model:
    """Return the untrained network of the paper: 132,181 weights for one channel.

    Parameters
    ----------
    image_size : int
        Height and width of the input in pixels, a multiple of 32 (of 2 to the number of blocks).
    channels : int
        1 for a single slice, 3 for a slice between its neighbours (132,469 weights).
    kernels : sequence of int
        Kernels of each convolution of a block, block by block. The last convolution has as many as the last block.
    initializer : str
        Keras initializer of all kernels; biases start at 0.

    Returns
    -------
    keras.Model
        Its input is (n, image_size, image_size, channels), standardised; its output is (n, 5) probabilities of
        `PHASES`, float32.
        Layers: conv1a, conv1b, pool1, ..., conv5b, pool5, conv6, gap, phase.

    Raises
    ------
    ValueError
        If `image_size` is not a positive multiple of 32, or of what another number of blocks needs.

    Notes
    -----
    Five blocks of two 3 x 3 convolutions and a 2 x 2 max pooling, and a sixth convolution before global average pooling
    [1]_. Among 52,390 networks of that family this is the only one with the published number of weights. The paper does
    not state the initializer; Keras used "glorot_uniform" by default.

    References
    ----------
    .. [1] Philbrick et al. What Does Deep Learning See? AJR 2018;211:1184-1193.
    """
    step = 2 ** len(kernels)
    if image_size <= 0 or image_size % step:
        raise ValueError(
            f"image_size must be a positive multiple of {step}, for {len(kernels)} poolings by 2; got {image_size}."
        )

    def conv(count: int, name: str) -> layers.Layer:
        return layers.Conv2D(count, 3, padding="same", activation="relu", kernel_initializer=initializer, name=name)

    x = inputs = keras.Input((image_size, image_size, channels), name="ct")
    for block, count in enumerate(kernels, start=1):
        x = conv(count, f"conv{block}a")(x)
        x = conv(count, f"conv{block}b")(x)
        x = layers.MaxPooling2D(name=f"pool{block}")(x)
    x = conv(kernels[-1], f"conv{len(kernels) + 1}")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(len(PHASES), activation="softmax", kernel_initializer=initializer, dtype="float32", name="phase")(
        x
    )
    return keras.Model(inputs, x, name="phase_net")


def untrained_twin(network: keras.Model, seed: int) -> keras.Model:
    """Return a network of the same architecture with new random weights, as before training.

    Parameters
    ----------
    network : keras.Model
        Any network that Keras can clone.
    seed : int
        Seed of the weights, which are drawn anew from the network's own initialisers.
    """
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(network)


def reference_network(name: str, image_size: int = 512, channels: int = 1) -> keras.Model:
    """Return one of the five well-known networks that the paper sets beside its own, untrained.

    Parameters
    ----------
    name : str
        One of `REFERENCES`.
    image_size, channels : int
        As in :func:`phase_net`; at least 75 pixels for the Inception networks, 32 for the others.

    Returns
    -------
    keras.Model
        The network of `keras.applications` with its own dense layers, five outputs and random weights. No weights of
        ImageNet are fetched: those are of photographs with three colours.

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if name not in REFERENCES:
        raise ValueError(f"Reference network {name!r} is not known: choose one of {', '.join(REFERENCES)}.")
    build = getattr(keras.applications, name)
    return build(weights=None, input_shape=(image_size, image_size, channels), classes=len(PHASES), name=name)


def load_pretrained(
    name: str = "seed01", weights: str | Path = ROOT / "weights"
) -> tuple[keras.Model, Standardisation]:
    """Return one of the trained networks that this repository ships, and how its input is standardised.

    Parameters
    ----------
    name : str
        Folder in `weights/`, such as "seed01", or "512/seed01" for images of 512 x 512 pixels; the README beside it
        says what the networks were trained on.
    weights : path
        Where the folders are.

    Raises
    ------
    FileNotFoundError
        If there is no such network; the message lists those that there are.

    Examples
    --------
    >>> model, standardisation = load_pretrained()  # doctest: +SKIP
    """
    folder = Path(weights) / name
    if not (folder / "model.keras").exists():
        known = sorted(str(path.parent.relative_to(weights)) for path in Path(weights).rglob("model.keras"))
        raise FileNotFoundError(f"No trained network {name!r} in {weights}: there are {', '.join(known) or 'none'}.")
    standardisation = Standardisation.load(folder / "standardisation.json")
    return keras.models.load_model(folder / "model.keras", compile=False), standardisation

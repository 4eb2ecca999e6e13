"""The paper's network, whose layers follow from the number of weights that the paper reports."""

import keras
from keras import layers

from lib.paper import PHASES

KERNELS = (16, 16, 32, 32, 64)


def phase_net(image_size: int = 512, channels: int = 1, *, initializer: str = "glorot_uniform") -> keras.Model:
    """Return the untrained network of the paper: 132,181 weights for one channel.

    Parameters
    ----------
    image_size : int
        Height and width of the input in pixels, a multiple of 32.
    channels : int
        1 for a single slice, 3 for a slice between its neighbours (132,469 weights).
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
        If `image_size` is not a positive multiple of 32.

    Notes
    -----
    Five blocks of two 3 x 3 convolutions and a 2 x 2 max pooling, and a sixth convolution before global average pooling
    [1]_. Among 52,390 networks of that family this is the only one with the published number of weights. The paper does
    not state the initializer; Keras used "glorot_uniform" by default.

    References
    ----------
    .. [1] Philbrick et al. What Does Deep Learning See? AJR 2018;211:1184-1193.
    """
    if image_size <= 0 or image_size % 32:
        raise ValueError(f"image_size must be a positive multiple of 32, for five poolings by 2; got {image_size}.")

    def conv(kernels: int, name: str) -> layers.Layer:
        return layers.Conv2D(kernels, 3, padding="same", activation="relu", kernel_initializer=initializer, name=name)

    x = inputs = keras.Input((image_size, image_size, channels), name="ct")
    for block, kernels in enumerate(KERNELS, start=1):
        x = conv(kernels, f"conv{block}a")(x)
        x = conv(kernels, f"conv{block}b")(x)
        x = layers.MaxPooling2D(name=f"pool{block}")(x)
    x = conv(KERNELS[-1], "conv6")(x)
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

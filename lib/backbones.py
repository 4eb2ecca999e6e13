"""Image classifiers of several depths and kinds: ResNet, VGG and vision transformer, built to be explained.

All are functional models whose feature maps are 4-D tensors on the path to the class scores, so that every layer map of
`lib.attribution` can be taken from them. The last layer gives probabilities.
"""

import keras
from keras import layers as kl

RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
VGGS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VITS = {"tiny": (6, 96, 3), "small": (8, 128, 4), "base": (12, 192, 6)}  # blocks, channels, heads
NAMES = (*(f"resnet{n}" for n in RESNETS), *(f"vgg{n}" for n in VGGS), *(f"vit_{n}" for n in VITS))


def backbone(
    name: str, shape: tuple[int, int, int], *, width: int | None = None, classes: int = 2, seed: int = 0
) -> keras.Model:
    """Build a network with random weights.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    shape : tuple of int
        Rows, columns and channels of an image.
    width : int, optional
        Channels of the first stage (64 in the published ResNets and VGGs; 16 here by default) or of the tokens of a
        transformer.
    classes : int
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        See :func:`last_map` for the layer that Grad-CAM is computed at.

    Raises
    ------
    ValueError
        If the name is not known.

    Notes
    -----
    ResNet: He et al. 2016, basic blocks for 18 and 34 layers, bottlenecks for 50 and 101, stride in the 3 x 3
    convolution. VGG: Simonyan and Zisserman 2015, with batch normalisation, without the last pooling, and with a global
    average in place of its dense layers. ViT: Dosovitskiy et al. 2021, pre-norm blocks, patches of 1/8 of the image's
    side, the mean over tokens instead of a class token, so that the last tokens have gradients and CAM is defined.
    """
    if name not in NAMES:
        raise ValueError(f"network {name!r} is not known: choose one of {', '.join(NAMES)}.")
    keras.utils.set_random_seed(seed)
    image = keras.Input(shape, name="image")
    if name.startswith("resnet"):
        maps, _ = _resnet(image, int(name[6:]), width or 16)
    elif name.startswith("vgg"):
        maps, _ = _vgg(image, int(name[3:]), width or 16)
    else:
        maps, _ = _vit(image, *VITS[name[4:]], width)
    pooled = kl.GlobalAveragePooling2D(name="gap")(maps)
    logits = kl.Dense(classes, name="logits")(pooled)
    return keras.Model(image, kl.Softmax(name="probabilities")(logits), name=name)


def stage_maps(name: str) -> tuple[str, ...]:
    """Return the layers at the ends of a network's stages, the last one last: where layer maps are taken.

    Of a transformer these are the grids before the attention of every third block and of the last one, where Grad-CAM
    is usually taken.
    """
    if name.startswith("resnet"):
        return tuple(f"stage{k + 1}_block{blocks}" for k, blocks in enumerate(RESNETS[int(name[6:])]))
    if name.startswith("vgg"):
        return tuple(f"stage{k + 1}_{count}_relu" for k, count in enumerate(VGGS[int(name[3:])]))
    blocks = VITS[name[4:]][0]
    return tuple(f"block{k}_map" for k in (*range(3, blocks, 3), blocks))


def last_map(name: str) -> str:
    """Return the layer that Grad-CAM is computed at."""
    return stage_maps(name)[-1]


def _convolution(x, filters: int, size: int, stride: int, name: str, relu: bool = True):
    """Return convolution, batch normalisation and, if wanted, ReLU."""
    if stride > 1 and size > 1:  # the same padding on both sides, whatever the image's size
        x = kl.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    else:
        padding = "same"
    x = kl.Conv2D(filters, size, stride, padding, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv")(
        x
    )
    x = kl.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return kl.ReLU(name=f"{name}_relu")(x) if relu else x


def _resnet(image, depth: int, width: int):
    x = _convolution(image, width, 7, 2, "stem")
    x = kl.ZeroPadding2D(1, name="pool_pad")(x)
    x = kl.MaxPooling2D(3, 2, name="pool")(x)
    deep, name = depth >= 50, "stem_relu"
    for stage, blocks in enumerate(RESNETS[depth]):
        filters = width * 2**stage
        out = 4 * filters if deep else filters
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            name = f"stage{stage + 1}_block{block + 1}"
            if deep:
                y = _convolution(x, filters, 1, 1, f"{name}_a")
                y = _convolution(y, filters, 3, stride, f"{name}_b")
                y = _convolution(y, out, 1, 1, f"{name}_c", relu=False)
            else:
                y = _convolution(x, filters, 3, stride, f"{name}_a")
                y = _convolution(y, filters, 3, 1, f"{name}_b", relu=False)
            if stride > 1 or x.shape[-1] != out:
                x = _convolution(x, out, 1, stride, f"{name}_short", relu=False)
            x = kl.ReLU(name=name)(kl.Add(name=f"{name}_add")([x, y]))
    return x, name


def _vgg(image, depth: int, width: int):
    x, name = image, ""
    for stage, convolutions in enumerate(VGGS[depth]):
        for number in range(convolutions):
            name = f"stage{stage + 1}_{number + 1}"
            x = _convolution(x, width * min(2**stage, 8), 3, 1, name)
        if stage < len(VGGS[depth]) - 1:  # the last pooling would halve the map that Grad-CAM is taken from
            x = kl.MaxPooling2D(2, name=f"pool{stage + 1}")(x)
    return x, f"{name}_relu"


@keras.saving.register_keras_serializable(package="backbones")
class Positions(kl.Layer):
    """Adds a learned position to each token."""

    def build(self, shape):
        """Make the weights."""
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        self.places = self.add_weight(shape=(1, *shape[1:]), initializer=normal, name="places")

    def call(self, x):
        """Return the tokens with their positions."""
        return x + self.places


def _vit(image, blocks: int, channels: int, heads: int, width: int | None):
    channels, patch = width or channels, max(image.shape[1] // 8, 1)
    x = kl.Conv2D(channels, patch, patch, name="patches")(image)
    rows, columns = x.shape[1:3]
    x = Positions(name="positions")(kl.Reshape((rows * columns, channels), name="tokens")(x))
    for block in range(1, blocks + 1):
        y = kl.LayerNormalization(epsilon=1e-6, name=f"block{block}_norm1")(x)
        y = kl.Reshape((rows, columns, channels), name=f"block{block}_map")(y)  # the grid stands on the path
        y = kl.Reshape((rows * columns, channels), name=f"block{block}_line")(y)
        y = kl.MultiHeadAttention(heads, channels // heads, name=f"block{block}_attention")(y, y)
        x = kl.Add(name=f"block{block}_add1")([x, y])
        y = kl.LayerNormalization(epsilon=1e-6, name=f"block{block}_norm2")(x)
        y = kl.Dense(4 * channels, activation="gelu", name=f"block{block}_up")(y)
        x = kl.Add(name=f"block{block}_add2")([x, kl.Dense(channels, name=f"block{block}_down")(y)])
    x = kl.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return kl.Reshape((rows, columns, channels), name="map")(x), f"block{blocks}_map"

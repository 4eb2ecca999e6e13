# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 91 · Explain your own classifier
#
# Can the maps of this project be trusted on a network that is not the paper's? This notebook applies them to a small
# network that is trained here, to ten architectures of `keras.applications`, and to networks of unusual shape. Each
# result is compared with a reference that does not use our code. Nothing on this page is in the paper.
#
# | | |
# |---|---|
# | **reads** | nothing: the digits come with scikit-learn, the large networks have random weights |
# | **writes** | a figure, and a table of all comparisons |
# | **takes** | about two minutes on two free CPU cores |
#
# To use the maps elsewhere, copy three files: `lib/attribution.py`, `lib/gradients.py` and `lib/network_steps.py`. They
# need Keras and NumPy only, and run on TensorFlow, JAX and torch. Then five lines are enough:
#
# ```python
# import keras
# from attribution import Attributor
#
# model = keras.models.load_model("my_classifier.keras")
# maps, scores = Attributor(model)(images, return_scores=True)
# maps["grad_cam", "conv5_block3_out"]
# ```

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers, ops
from sklearn.datasets import load_digits

from lib.attribution import Attributor
from lib.figures.style import axes_mm, save_figure
from lib.files import atomic_path, resolve
from lib.maps.overlays import overlay
from lib.provenance import write_sidecar
from lib.voxels import upsample

# %% tags=["parameters"]
figure: str = "runs/quick/figures/explain_your_classifier.png"  # where the figure goes
table: str = "runs/quick/tables/explain_your_classifier.csv"  # where the table of comparisons goes
epochs: int = 12  # how often the network of the digits sees every training image
image_size: int = 96  # height and width of the large networks' input, in pixels, at least 75
architectures: str = "all"  # names in keras.applications, with spaces between them, or all for the ten named below
seed: int = 91  # of the weights and of the images

# %%
keras.utils.set_random_seed(seed)
plt.style.use("lib.paper")
rng = np.random.default_rng(seed)

# %% [markdown]
# ## A network of your own
#
# The data are 1797 handwritten digits of 8 x 8 pixels, enlarged to 32 x 32 pixels and standardised. The network has
# ReLUs as arguments and as layers, batch normalisation, layers that act in training only, and a softmax that is a
# layer of its own. Its maps need no change to the network.

# %%
digits = load_digits()
images = upsample(digits.images, (32, 32), "bilinear")[..., None]
images = ((images - images.mean()) / images.std()).astype("float32")
train, test = np.split(rng.permutation(len(images)), [1200])

# %%
model = keras.Sequential(
    [
        keras.Input((32, 32, 1)),
        layers.GaussianNoise(0.8),
        layers.Conv2D(16, 3, padding="same", use_bias=False, name="first"),
        layers.BatchNormalization(),
        layers.ReLU(name="first_relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu", name="second"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu", name="third"),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.2),
        layers.Dense(10),
        layers.Softmax(),
    ]
)
model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(images[train], digits.target[train], epochs=epochs, batch_size=32, verbose=0)
accuracy = (model.predict(images[test], verbose=0).argmax(axis=1) == digits.target[test]).mean()
print(f"accuracy on {len(test)} digits that the network was not trained on: {accuracy:.3f}")

# %% [markdown]
# ## Its maps
#
# An `Attributor` is built once and called with images. Without classes it explains the class that the network predicts;
# without a list of layers it makes maps where a pooling follows and at the last activation; without a list of methods
# it makes all that this network allows.

# %%
attributor = Attributor(model)
print("layers: ", ", ".join(attributor.layers))
print("methods:", ", ".join(attributor.methods))
shown = test[:5]
maps, scores = attributor(images[shown], return_scores=True)
print("predicted:", scores.classes, "with probabilities", scores.outputs.max(axis=1).round(3))
facts = {key: (value.shape, value.min(), value.max()) for key, value in maps.items()}
pd.DataFrame(facts, index=["shape", "least", "greatest"]).T

# %% [markdown]
# All values are raw: signed where the method is signed, and comparable between images. Scaling is left to the drawing.
# Here red is positive and blue negative, and each map has its own range. A Grad-CAM that is blank is no fault: where
# the weighted sum of the activations is negative everywhere, its ReLU leaves nothing. The last row lays SAM (the
# saliency activation map) of the layer `second` over the digit, by one call of `lib.maps.overlays.overlay`.

# %%
rows = [key for key in maps if key[0] in ("saliency", "guided_backprop") or key[1] == "second"]
names = ["image", *(f"{method}\n{layer}" for method, layer in rows), "overlay\nsam second"]
sheet, panels = axes_mm(86, 116, rows=len(names), columns=len(shown), squeeze=False)
pictures = overlay(images[shown], maps["sam", "second"])
for column, digit in enumerate(shown):
    panels[0, column].imshow(images[digit, ..., 0], cmap="gray")
    panels[-1, column].imshow(pictures[column])
    for panel, key in zip(panels[1:-1, column], rows, strict=True):
        limit = np.abs(maps[key][column]).max() or 1.0
        panel.imshow(maps[key][column], cmap="RdBu_r", vmin=-limit, vmax=limit)
for panel, name in zip(panels[:, 0], names, strict=True):
    panel.set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center")
for panel in panels.flat:
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
save_figure(sheet, figure)
sheet

# %% [markdown]
# ## A reference that does not use our code
#
# A saliency map is the derivative of a score with respect to the image. For the reference, TensorFlow differentiates
# what the model itself returns. A softmax hides the class score (the logit) up to a constant, and so the difference of
# two classes is compared: z_1 - z_0 = log p_1 - log p_0. The error is the greatest difference of the two maps, as a
# fraction of the greatest value of the reference.


# %%
def reference(network, batch, score):
    @tf.function(autograph=False)
    def gradient(entered):
        total = tf.reduce_sum(score(network(entered, training=False)))
        return tf.gradients(total, entered)[0]

    entered = tf.convert_to_tensor(batch)
    return gradient.get_concrete_function(entered)(entered).numpy()


def error(found, expected):
    return np.abs(found.reshape(expected.shape) - expected).max() / np.abs(expected).max()


def log_ratio(p):
    return tf.math.log(p[:, 1]) - tf.math.log(p[:, 0])


# %% [markdown]
# ## Ten architectures of keras.applications
#
# Their weights are random, which is the harder test: nothing is cancelled by training. The check that runs inside every
# first call (the replayed network against the model, its gradient against finite differences) has passed where there is
# a row.

# %%
comparisons = []
photographs = rng.standard_normal((2, image_size, image_size, 3)).astype("float32")
ten = "VGG16 ResNet50 ResNet50V2 InceptionV3 Xception MobileNet MobileNetV2 DenseNet121 EfficientNetB0 ConvNeXtTiny"
for name in (ten if architectures == "all" else architectures).split():
    build = getattr(keras.applications, name)
    network = build(weights=None, input_shape=(image_size, image_size, 3), classes=4)
    explain = Attributor(network)
    found = [explain(photographs, label, "saliency")["saliency", "input"] for label in (1, 0)]
    off = error(found[0] - found[1], reference(network, photographs, log_ratio))
    comparisons.append((name, off, explain.head, ", ".join(explain.methods), ", ".join(explain.layers)))
    keras.utils.clear_session(free_memory=False)

# %%
columns = ["network", "error", "head", "methods", "default layers"]
pd.DataFrame(comparisons, columns=columns).style.format({"error": "{:.1e}"}).hide()

# %% [markdown]
# Guided backprop is missing where an activation is not a plain ReLU, for which it is not defined. CAM (the class
# activation map) is missing where the head is not a global average pooling with one dense layer.

# %% [markdown]
# ## A network inside a network
#
# Transfer learning puts a model of `keras.applications` into a new one. Layers inside are found by name; a path
# (`mobilenet_v2/...`) tells them apart where a name is not unique.

# %%
inputs = keras.Input((image_size, image_size, 3))
backbone = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(image_size, image_size, 3))
features = layers.GlobalAveragePooling2D()(backbone(inputs))
nested = keras.Model(inputs, layers.Dense(3, activation="softmax")(features), name="transfer")
explain = Attributor(nested, ["conv_pw_11_relu", "conv_pw_13_relu"])
found = [explain(photographs, label) for label in (1, 0)]
off = error(found[0]["saliency", "input"] - found[1]["saliency", "input"], reference(nested, photographs, log_ratio))
comparisons.append(
    ("MobileNet inside a model", off, explain.head, ", ".join(explain.methods), ", ".join(explain.layers))
)
{key: value.shape for key, value in found[0].items()}

# %% [markdown]
# ## A vision transformer
#
# The tokens of a vision transformer are patches of the image in a row. The engine follows them from the patches on and
# gives their maps as a grid. Where it cannot know which token is which patch (a class token from a layer that it cannot
# open, windows that are shifted), it asks for `tokens=(how many come first, rows, columns)`.

# %%
inputs = keras.Input((32, 32, 1))
x = layers.Reshape((64, 12))(layers.Conv2D(12, 4, strides=4, name="patches")(inputs))
for number in (1, 2):
    y = layers.LayerNormalization()(x)
    x = layers.Add(name=f"attended{number}")([x, layers.MultiHeadAttention(3, 4)(y, y)])
    x = layers.Add(name=f"block{number}")([x, layers.Dense(12, "gelu")(layers.LayerNormalization()(x))])
vit = keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x)), name="vit")
explain = Attributor(vit, ["block1", "block2"])
found = [explain(images[shown], label) for label in (1, 0)]
off = error(found[0]["saliency", "input"] - found[1]["saliency", "input"], reference(vit, images[shown], log_ratio))
comparisons.append(("vision transformer", off, explain.head, ", ".join(explain.methods), "block1, block2"))
{key: value.shape for key, value in found[0].items()}

# %% [markdown]
# ## A volume, one output for two classes, and a target of one's own
#
# A network of three-dimensional convolutions gives maps in three dimensions; SAM's blur is three-dimensional there. A
# network with one output has two classes, 1 and 0, and the map of class 0 is the negative of the other's. A target is
# any number that follows from the outputs: here the mean logit of a class over a region of a segmentation.

# %%
inputs = keras.Input((12, 16, 16, 1))
x = layers.Conv3D(6, 3, padding="same", activation="relu", name="conv")(inputs)
x = layers.Conv3D(6, 3, padding="same", activation="relu", name="last")(layers.MaxPooling3D()(x))
volumetric = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling3D()(x)))
volumes = rng.standard_normal((2, 12, 16, 16, 1)).astype("float32")
explain = Attributor(volumetric)
found = explain(volumes, 1)
log_odds = reference(volumetric, volumes, lambda p: tf.math.log(p) - tf.math.log1p(-p))
comparisons.append(("3-D, one sigmoid, class 1", error(found["saliency", "input"], log_odds), explain.head,
                    ", ".join(explain.methods), ", ".join(explain.layers)))  # fmt: skip
negative = explain(volumes, 0, "saliency")["saliency", "input"]
comparisons.append(("3-D, one sigmoid, class 0", error(negative, -log_odds), explain.head, "saliency", ""))
{key: value.shape for key, value in found.items()}

# %%
inputs = keras.Input((32, 32, 1))
x = layers.Conv2D(8, 3, padding="same", activation="relu", name="fine")(inputs)
segmenter = keras.Model(inputs, layers.Conv2D(3, 1, name="voxels")(x))


def region(outputs, classes):
    return ops.mean(outputs[:, 8:16, 8:16, 2], axis=(1, 2))


found = Attributor(segmenter, ["fine"], target=region)(images[shown])["saliency", "input"]
expected = reference(segmenter, images[shown], lambda y: tf.reduce_mean(y[:, 8:16, 8:16, 2], axis=(1, 2)))
comparisons.append(("a region of a segmentation", error(found, expected), "target", "saliency", "fine"))

# %% [markdown]
# ## What cannot be explained is refused
#
# A wrong map is worse than none. Each of these networks gives a message that says what was found and what to do.


# %%
def small(*between, head="softmax"):
    parts = [keras.Input((32, 32, 1)), layers.Conv2D(4, 3, activation="gelu", name="conv"), *between]
    return keras.Sequential([*parts, layers.GlobalAveragePooling2D(), layers.Dense(3, activation=head)], name="small")


def turned_cam():
    start = keras.Input((32, 32, 1))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(ops.flip(start, axis=1))
    return keras.Model(start, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="turned")


def ensemble():
    start = keras.Input((32, 32, 1))
    x = layers.Flatten()(start)
    heads = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    return keras.Model(start, layers.Average()(heads), name="ensemble")


# %%
noise = layers.Lambda(lambda x: x + keras.random.normal(ops.shape(x)), name="noise")
rounded = layers.Lambda(lambda x: x + ops.stop_gradient(ops.round(x) - x), name="rounded")
quantised, mean_of_two = small(), ensemble()
quantised.layers[-1].quantize("int8")
two_images = keras.Model([vit.input, segmenter.input], layers.Dense(2)(vit.output), name="pair")
attempts = {
    "two images at once": lambda: Attributor(two_images),
    "the mean of two softmaxes, by its logit": lambda: Attributor(mean_of_two)(images[:1], 0),
    "rounding with a gradient of its own": lambda: Attributor(small(rounded))(images[:1], 0),
    "CAM where the image was flipped inside": lambda: Attributor(turned_cam())(images[:1], 0, "cam"),
    "an image with NaN": lambda: Attributor(small())(images[:1] * np.nan, 0),
    "a class that is not there": lambda: Attributor(small())(images[:1], 3),
    "guided backprop of a GELU": lambda: Attributor(small())(images[:1], 0, "guided_backprop"),
    "a layer's name misspelt": lambda: Attributor(small(), ["covn"]),
    "8-bit weights": lambda: Attributor(quantised),
    "noise in inference mode": lambda: Attributor(small(noise))(images[:1], 0),
    "a ReLU after the class scores": lambda: Attributor(small(head="relu")),
    "two outputs": lambda: Attributor(keras.Model(vit.inputs, [vit.output, vit.layers[2].output])),
    "a segmentation without a target": lambda: Attributor(segmenter),
}

# %%
messages = []
for name, attempt in attempts.items():
    try:
        attempt()
    except (ValueError, RuntimeError) as fault:
        messages.append((name, type(fault).__name__, str(fault)))
assert len(messages) == len(attempts)
pd.DataFrame(messages, columns=["tried", "error", "message"]).style.hide().set_properties(**{"text-align": "left"})

# %% [markdown]
# ## What is supported
#
# | | |
# |---|---|
# | models | Functional, Sequential, subclassed where `call` is written with Keras; nested; shared and custom layers |
# | input | one image, signal (1-D), volume (3-D) or table; any number of channels, first or last |
# | heads | softmax, sigmoid or none, as an argument, a layer or an operation; one output for two classes; labels |
# | targets | one of several outputs; any function of the outputs |
# | layers | any on the image's grid, and tokens of a transformer |
# | precision | float32; float64; mixed float16 and bfloat16 models run in float32 |
# | guided backprop | plain ReLUs only, in custom layers too |
# | CAM | global average pooling and one dense layer |
# | many images | `lib.streaming`: iterators, `tf.data`, `PyDataset`; written to Zarr, resumed after an interruption |
# | refused | several inputs; quantised layers; layers that are random or use the batch's statistics in inference mode |
# | refused too | gradients that are not the slope of the output; the logit of probabilities that no softmax gives |
# | not offered | maps of layers that no longer lie as the image does, and CAM there; named ones come with a warning |

# %% [markdown]
# ## Save

# %%
result = pd.DataFrame(comparisons, columns=columns)
with atomic_path(resolve(table)) as file:
    result.to_csv(file, index=False, float_format="%.3g")
write_sidecar(table, notebook="91_explain_your_classifier", seed=seed,
              parameters={"epochs": epochs, "image_size": image_size, "architectures": architectures})  # fmt: skip
result[["network", "error"]].style.format({"error": "{:.1e}"}).hide()

# %% [markdown]
# ## What we saw

# %%
assert result.error.max() < 1e-3
print(
    f"On {len(result)} networks the saliency map agreed with TensorFlow's own derivative of the prediction to "
    f"{result.error.max():.0e} of its greatest value at worst ({result.network[result.error.idxmax()]}). All "
    f"{len(messages)} networks and requests that have no right map were refused with a message of one line."
)

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
# The engine on networks that are not the paper's: a small network that reads digits, trained here, and a ResNet50
# inside another model, as in transfer learning. This project's own; nothing of it is in the paper.
#
# | | |
# |---|---|
# | **reads** | nothing: the digits come with scikit-learn, the ResNet50 has random weights |
# | **writes** | a figure and the masking table of the digits |
# | **takes** | under a minute on two CPU cores |
#
# The maps need `lib/attribution.py` and `lib/gradients.py`, Keras and NumPy: two files to copy.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers
from sklearn.datasets import load_digits

from lib.attribution import Attributor
from lib.figures.style import axes_mm, save_figure
from lib.masking import mask_cohort, upsample
from lib.provenance import write_sidecar
from lib.files import atomic_path, resolve

# %% tags=["parameters"]
figure: str = "runs/quick/figures/explain_your_classifier.png"  # where the figure goes
table: str = "runs/quick/tables/masking_of_digits.csv"  # where the masking table goes
epochs: int = 20  # of training the digits' network
image_size: int = 96  # pixels of the ResNet50's input
test_digits: int = 200  # digits of the test part that are masked
seed: int = 91  # of the weights, the images and the noise

# %%
keras.utils.set_random_seed(seed)
plt.style.use("lib.paper")
rng = np.random.default_rng(seed)

# %% [markdown]
# ## A network of your own
#
# 1797 digits of 8 x 8 pixels, enlarged to 32 x 32 and standardised. Any Functional or Sequential classifier of one
# image input will do: ReLU as an argument or as a layer, softmax as an activation, as a layer, or none. Noise in
# training makes this one bear the noise of masking; layers for training only do nothing when maps are made.

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
probabilities = model.predict(images[test], verbose=0)
accuracy = (probabilities.argmax(axis=1) == digits.target[test]).mean()
print(f"accuracy on {len(test)} digits that it was not trained on: {accuracy:.3f}")

# %% [markdown]
# ## Its maps
#
# Build once, call with images and classes. Without a list of layers the maps are made where a pooling follows, and at
# the last convolution; without a list of methods, all that this network allows.

# %%
attributor = Attributor(model)
print("layers: ", ", ".join(attributor.layers))
print("methods:", ", ".join(attributor.methods))
shown = test[:5]
maps = attributor(images[shown], digits.target[shown])
facts = {key: (value.shape, value.min(), value.max()) for key, value in maps.items()}
pd.DataFrame(facts, index=["shape", "least", "greatest"]).T

# %% [markdown]
# All values are raw: signed where the method is signed, and comparable between images. Scaling is left to the drawing:
# here red is positive, blue negative, and each map has its own range. A Grad-CAM that is blank is no fault: where the
# weighted sum of activations is negative everywhere, its ReLU leaves nothing. HiResCAM and SAM, which weight element by
# element, are not blank there.

# %%
rows = [key for key in maps if key[0] in ("saliency", "guided_backprop") or key[1] == "second"]
sheet, panels = axes_mm(86, 102, rows=1 + len(rows), columns=len(shown), squeeze=False)
for column, digit in enumerate(shown):
    panels[0, column].imshow(images[digit, ..., 0], cmap="gray")
    for panel, key in zip(panels[1:, column], rows, strict=True):
        limit = np.abs(maps[key][column]).max() or 1.0
        panel.imshow(maps[key][column], cmap="RdBu_r", vmin=-limit, vmax=limit)
for panel, name in zip(panels[:, 0], ["image", *(f"{method}\n{layer}" for method, layer in rows)], strict=True):
    panel.set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center")
for panel in panels.flat:
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
save_figure(sheet, figure)
sheet

# %% [markdown]
# ## Does the network use what a map shows?
#
# The voxels that a map ranks highest are overwritten with noise, and what is left of the probability is noted; the same
# with the lowest and with as many at random. Only correctly classified images; random numbers follow from the seed, the
# "series" (a hexadecimal number), the slice and the draw.

# %%
right = test[probabilities.argmax(axis=1) == digits.target[test]][:test_digits]
rows = pd.DataFrame({"patient": "digits", "series": "0", "slice": right, "phase": digits.target[right].astype(str)})
batches = [(rows[i : i + 50], images[right[i : i + 50]], None) for i in range(0, len(right), 50)]
names = [str(number) for number in range(10)]
masked = pd.concat(mask_cohort(model, batches, attributor=attributor, classes=names, seed=seed), ignore_index=True)

# %%
map_of = ["method", "layer", "region"]
by_digit = masked.groupby([*map_of, "slice"], sort=False).relative_probability.mean()
by_digit.groupby(map_of, sort=False).agg(["mean", "sem", "size"]).round(1)

# %% [markdown]
# ## A network inside a network
#
# Transfer learning puts a model of `keras.applications` into a new one. Layers inside are found by name; a path
# (`resnet50/conv4_block6_out`) tells them apart where a name is not unique.

# %%
inputs = keras.Input((image_size, image_size, 3))
backbone = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(image_size, image_size, 3))
features = layers.GlobalAveragePooling2D()(backbone(inputs))
nested = keras.Model(inputs, layers.Dense(3, activation="softmax")(features), name="transfer")
wanted = ["conv2_block3_out", "conv4_block6_out", "resnet50/conv5_block3_out"]
explain = Attributor(nested, wanted, score="probability")
photographs = rng.standard_normal((2, image_size, image_size, 3)).astype("float32")
found = explain(photographs, [0, 2])
{key: value.shape for key, value in found.items()}

# %% [markdown]
# ## What cannot be done says so
#
# A wrong map is worse than none. Guided backprop is defined for plain ReLUs: with another activation it raises, and so
# does a class activation map of a network without global average pooling.

# %%
convolution = layers.Conv2D(8, 3, activation="gelu", name="convolution")
gelu = keras.Sequential([keras.Input((32, 32, 1)), convolution, layers.Flatten(), layers.Dense(3)], name="gelu_net")
for method in ("guided_backprop", "cam"):
    try:
        Attributor(gelu)(images[:1], 0, method)
    except ValueError as fault:
        print(fault)

# %% [markdown]
# ## Save

# %%
with atomic_path(resolve(table)) as file:
    masked.to_csv(file, index=False, float_format="%.6g")
write_sidecar(table, notebook="91_explain_your_classifier", seed=seed,
              parameters={"epochs": epochs, "image_size": image_size, "test_digits": test_digits})  # fmt: skip

# %% [markdown]
# ## What it says
#
# Masking the tenth that a map ranks highest should cost more probability than a random tenth does. Where it does not,
# the map is no guide to what this network uses, however convincing it looks.

# %%
top = masked[masked.region == "top"].groupby(["method", "layer"], sort=False).relative_probability.mean()
control = masked[masked.region == "random"].relative_probability.mean()
print(f"left after a random tenth: {control:.0f} %; after the top tenth of")
print(top.round(0).astype(int).to_string())

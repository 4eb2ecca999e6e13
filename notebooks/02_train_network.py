# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Train the network
#
# Can a small network learn the contrast phase of a single CT slice? This notebook trains the paper's network of 132,181
# weights, as the section *Models* describes it, and predicts the validation and test slices with it.
#
# | | |
# |---|---|
# | **reads** | `cohort/` of 01_prepare_cohort |
# | **writes** | `networks/<name>/`: `model.keras`, `standardisation.json`, `history.csv`, `predictions.parquet` |
# | **takes** | per epoch, one second for every 35 to 150 slices at 256 x 256 (9 to 25 at 512 x 512), on two CPU cores |
#
# The default parameters are a short recipe that ends within minutes. The first weights are random (He initialisation),
# and 8 slices are learnt at a time (a *batch*). The learning rate rises to 1e-3 and falls to zero, first within 8
# epochs on images of 128 x 128 pixels, then within 3 at 256 x 256; an *epoch* is one pass over all training slices. The
# paper's own recipe, hours on two cores, is in `config/paper.yaml`: 512 x 512 pixels, a rate of 1e-4 that falls
# whenever the validation loss stops falling, and a stop after 12 epochs without a better one.
#
# The training may be interrupted at any moment. Run the notebook again, and it goes on after its last epoch.
#
# It may also start from a trained network (`start_from`), for example to go on at another image size. With `max_epochs`
# 0 it does not train at all and only predicts, as for the networks in `weights/`.

# %%
from dataclasses import asdict, replace

from IPython.display import display
import keras
import matplotlib.pyplot as plt
import pandas as pd

from lib.augmentation import VariedSlices, Variation
from lib.cohort import Cohort, Standardisation, slice_weights
from lib.files import atomic_path, require
from lib.networks import KERNELS, phase_net, reference_network
from lib.paper import PHASES
from lib.provenance import begin, write_sidecar
from lib.training import Schedule, Slices, native_precision, predict, train

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # where the network goes
architecture: str = "phase_net"  # the paper's network, or a reference network such as "ResNet50"
kernels: str = "16 16 32 32 64"  # number in each block of phase_net; by default the paper's
image_size: int = 256  # rows and columns of the input; the paper's network takes 512
channels: int = 1  # 1: the slice alone; 3: the slice between its two neighbours
initializer: str = "he_normal"  # of the first weights; the paper states none, the default of Keras is "glorot_uniform"
learning_rate: float = 1.0e-3  # at its highest; the paper takes 1.0e-4
decay: str = "cosine"  # how the rate falls: "cosine" for a short run, "plateau" as in the paper
factor: float = 0.316  # by which "plateau" lowers the rate after `patience` epochs without a better validation loss
patience: int = 4  # epochs, for "plateau"
stop_after: int = 12  # epochs without a better validation loss, after which training stops
max_epochs: int = 3  # largest number of epochs at full image size
first_epochs: int = 8  # before these, as many epochs on smaller images, which take less time; none in the paper
first_size: int = 128  # rows and columns of the smaller images
clip_norm: float = 1.0  # largest norm of the gradient; a longer one is shortened to it; 0: no limit, as in the paper
batch_size: int = 8  # slices; the paper states none, the default of Keras is 32
rotation: float = 5.0  # largest rotation for augmentation, in degrees, either way
translation: float = 5.0  # largest shift for augmentation, in pixels of a 512 x 512 image, either way
noise_patches: float = 0.0  # share of voxels that noise overwrites in half of the training images; none in the paper
variation: str = ""  # largest changes of gain, offset (HU), noise (HU), stretch in training, as "0.1 10 15 0.1"
random_labels: bool = False  # train on labels in a random order, as a check of what maps show; not in the paper
keep_in_memory: bool = True  # hold all training images in memory, as float16
precision: str = "native"  # of the arithmetic in training: "float32", or "native", bfloat16 where the processor has it
start_from: str = ""  # folder of a trained network to start from, of any image size; max_epochs 0 leaves it as it is
seed: int = 1  # random seed of the first weights, the order of the slices and the augmentation

# %% [markdown]
# ## The recipe
#
# All choices of the training are gathered in one place and saved with the network.

# %%
computed_in = native_precision() if precision == "native" else precision
schedule = Schedule(learning_rate, factor, patience, stop_after, max_epochs, decay)
recipe = asdict(schedule) | {
    "architecture": architecture, "kernels": kernels, "random_labels": random_labels,
    "first_epochs": first_epochs, "first_size": first_size if first_epochs else None,
    "image_size": image_size, "channels": channels, "initializer": initializer, "batch_size": batch_size,
    "clip_norm": clip_norm, "rotation": rotation, "translation": translation, "noise_patches": noise_patches,
    "precision": precision, "seed": seed, "start_from": start_from,
}  # fmt: skip
changes = Variation(*map(float, variation.split()))
varies = changes != Variation()
recipe |= {"variation": asdict(changes)} if varies else {}
cohort = require(cohort, "01_prepare_cohort")
code = ("lib/networks.py", "lib/training.py", "lib/cohort.py", *(["lib/augmentation.py"] if varies else []))
start = require(start_from, "02_train_network") if start_from else None
if start is None and not max_epochs:
    raise ValueError("max_epochs is 0: name in start_from the trained network that is to be taken as it is.")
inputs = (cohort / "slices.parquet", *([start / "model.keras"] if start else []))
folder = begin(network, parameters=recipe, inputs=inputs, code=code)

# %% [markdown]
# ## Images
#
# Inside the body the training voxels have a mean of 0 and a standard deviation (SD) of 1. Outside it every voxel is 0.
# The lines below give the standardisation and the number of slices in each split.

# %%
slices = Cohort.open(cohort)
if max_epochs:
    standardisation = slices.standardise(image_size, channels)
else:  # a network that is not trained on this cohort keeps the standardisation that it was trained with
    standardisation = Standardisation.load(start / "standardisation.json")
    if (image_size, channels) != (standardisation.image_size, standardisation.channels):
        raise ValueError(f"{start} takes image_size={standardisation.image_size}, channels={standardisation.channels}.")
rows = {split: part for split, part in slices.slices.groupby("split")}
if random_labels:
    shuffled = rows["train"].phase.sample(frac=1, random_state=seed).to_numpy()
    rows["train"] = rows["train"].assign(phase=shuffled)
print(standardisation)
print({split: len(part) for split, part in rows.items()})
for split, part in rows.items():
    if missing := sorted(set(PHASES) - set(part["phase"])):
        print(f"Warning: no slice of {split} shows {', '.join(missing)}: more patients are needed.")

# %% [markdown]
# ## Weights of the slices
#
# The *loss* that training lowers is the cross-entropy: minus the logarithm of the probability that the network gives to
# the labelled phase. Every phase has the same weight in it. Within a phase every patient has the same weight, however
# many slices there are. The validation loss is weighted in the same way, since it steers the training.

# %%
weights = {split: slice_weights(rows[split]) for split in ("train", "val")}


facts = {"batch_size": batch_size, "keep": keep_in_memory}
training, more = (VariedSlices, {"variation": changes}) if varies else (Slices, {})


def batches(image_size):
    """Return training and validation slices of a size."""
    standardised = slices.standardise(image_size, channels)
    return (
        training(slices, rows["train"], standardised, weights["train"], seed=seed, **facts, **more),
        Slices(slices, rows["val"], standardised, weights["val"], **facts),
    )


pd.Series(weights["train"]).groupby(rows["train"].phase.to_numpy()).agg(["sum", "min", "max"])

# %% [markdown]
# ## Network
#
# Five blocks of two convolutions and a pooling are followed by a last convolution, the average over its output (global
# average pooling), and one dense layer with a score for each phase. No other network that fits the paper's description
# has 132,181 weights.

# %%
blocks = tuple(int(count) for count in kernels.split())


def network_for(image_size):
    """Return the untrained network for images of a size."""
    keras.utils.set_random_seed(seed)
    if architecture == "phase_net":
        return phase_net(image_size, channels, kernels=blocks, initializer=initializer)
    return reference_network(architecture, image_size, channels)


model = network_for(image_size)
if start:
    model.set_weights(keras.models.load_model(start / "model.keras", compile=False).get_weights())
model.summary(line_length=90)

# %% [markdown]
# ## Training
#
# A network that gives every phase the probability 1/5 has a loss of ln 5 = 1.609, and this network stays there for its
# first few hundred steps. Patience starts once the validation loss has fallen below that.
#
# Every image is rotated and shifted at random, as in the paper. The parameter `variation` also varies its contrast, its
# noise and its proportions, which is meant for networks that are tried on other CT than they were trained on (see
# 95_from_phantom_to_patient).
#
# The weights do not depend on the size of the images. A short recipe may therefore begin with smaller images, which are
# learnt in a fraction of the time, and go on with those of full size.


# %%
def train_at(network, image_size, schedule, stage):
    """Train a network on slices of a size, and return its history."""
    options = {"rotation": rotation, "translation": translation * image_size / 512, "noise_patches": noise_patches}
    options |= {"clip_norm": clip_norm or None, "precision": computed_in, "seed": seed}
    trained = train(network, *batches(image_size), schedule, folder / f"training_{stage}.npz", **options)
    return trained.assign(image_size=image_size, stage=stage)


histories = []
if first_epochs and max_epochs:
    smaller = min(first_size, image_size)
    small = network_for(smaller)
    small.set_weights(model.get_weights())
    histories.append(train_at(small, smaller, replace(schedule, max_epochs=first_epochs), 1))
    model.set_weights(small.get_weights())
if max_epochs:
    histories.append(train_at(model, image_size, schedule, 2))
    history = pd.concat(histories, ignore_index=True)
    history["epoch"] = history.index + 1
else:
    history = pd.read_csv(start / "history.csv")
display(history)

# %% [markdown]
# Loss (left) and accuracy (right) by epoch. The first epochs are those on smaller images.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
    axis.plot(history.epoch, history[name], label="training, augmented and weighted" if name == "loss" else "training")
    axis.plot(history.epoch, history[f"val_{name}"], label="validation")
    axis.set(xlabel="epoch", ylabel=name)
    axis.legend()

# %% [markdown]
# ## Predictions
#
# The weights of the epoch with the lowest validation loss are kept. With them the network predicts the validation
# slices and, once, the test slices, which have played no part in any choice.

# %%
predictions = pd.concat([predict(model, slices, rows[split], standardisation) for split in ("val", "test")])
predictions = predictions.reset_index(drop=True)
predictions.groupby("split").apply(lambda part: (part.phase == part.predicted).mean()).rename("accuracy")

# %% [markdown]
# ## Save

# %%
with atomic_path(folder / "predictions.parquet") as file:
    predictions.to_parquet(file)
with atomic_path(folder / "history.csv") as file:
    history.to_csv(file, index=False)
standardisation.save(folder / "standardisation.json")
with atomic_path(folder / "model.keras") as file:
    model.save(file)
sidecar = write_sidecar(
    folder / "model.keras",
    notebook="02_train_network",
    parameters=recipe | {"computed_in": computed_in},
    seed=seed,
    inputs=inputs,
    seconds=round(history.seconds.sum()),
)
sidecar.rename(folder / "provenance.json")

# %% [markdown]
# ## Against the paper
#
# The paper's network has 132,181 weights, and at 512 x 512 pixels its last convolution has an output of 16 x 16 x 64.
# The paper does not say how many epochs it needed; the five reference networks reached their best within three epochs,
# and this one did not.

# %%
last = history[history.stage == 2]
best = last.loc[last.val_loss.idxmin()]
print(
    f"{model.count_params():,} weights; lowest validation loss {best.val_loss:.3f} "
    f"in epoch {best.epoch:.0f} of {len(history)}"
)
if architecture == "phase_net" and blocks == KERNELS:
    assert model.count_params() == {1: 132_181, 3: 132_469}[channels]

# %% [markdown]
# ## What we saw
#
# The loss falls below that of guessing, and the network learns the phases. How good it is, and where it errs, is
# measured in 04_vote_slices.

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
# Trains the paper's network of 132,181 weights to tell the contrast phase of one slice, by the recipe of *Models*.
#
# | | |
# |---|---|
# | **reads** | `cohort/` of 01_prepare_cohort |
# | **writes** | `networks/<name>/`: `model.keras`, `standardisation.json`, `history.csv`, `predictions.parquet` |
# | **takes** | on two CPU cores about 150 slices a second at 256 x 256, 25 at 512 x 512 |
#
# The parameters below are the **paper's recipe**, hours on two cores. The quick profile shortens it: 256 x 256 pixels
# instead of 512 x 512, He initialisation, batches of 8, and a rate that rises to 1e-3 and falls to zero within 12
# epochs, instead of 1e-4 with plateaus; where the processor has bfloat16, it computes in it. Which of both ran is in
# the injected parameters and in `history.csv`.
#
# Training may be interrupted at any moment: run the notebook again and it goes on from its last epoch.

# %%
from dataclasses import asdict

from IPython.display import display
import keras
import matplotlib.pyplot as plt
import pandas as pd

from lib.cohort import Cohort, slice_weights
from lib.networks import phase_net
from lib.paper import PHASES
from lib.provenance import begin, write_sidecar
from lib.files import atomic_path, require
from lib.training import Schedule, Slices, native_precision, predict, train

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/mine/networks/top"  # where the network goes
image_size: int = 512  # pixels; the paper's network takes 512
channels: int = 1  # 1: a slice; 3: a slice between its neighbours
initializer: str = "glorot_uniform"  # Keras' default; the paper states none
learning_rate: float = 1.0e-4  # at the start
decay: str = "plateau"  # the paper's, or "cosine" for a short run
factor: float = 0.316  # of the rate after `patience` epochs without improvement
patience: int = 4  # epochs
stop_after: int = 12  # epochs without improvement
max_epochs: int = 200  # at most
batch_size: int = 32  # slices; the paper states none, Keras' default
rotation: float = 5.0  # degrees, either way
translation: float = 5.0  # largest shift, in pixels of a 512 x 512 image, either way
keep_in_memory: bool = False  # all training images, as float16
precision: str = "float32"  # of the training; "native": mixed_bfloat16 where the processor has it
seed: int = 1  # of weights, order and augmentation

# %% [markdown]
# ## Images
#
# Mean 0 and SD 1 over the body's voxels of the training split; 0 outside the body.

# %%
computed_in = native_precision() if precision == "native" else precision
schedule = Schedule(learning_rate, factor, patience, stop_after, max_epochs, decay)
recipe = asdict(schedule) | {
    "image_size": image_size, "channels": channels, "initializer": initializer, "batch_size": batch_size,
    "rotation": rotation, "translation": translation, "precision": precision, "seed": seed,
}  # fmt: skip
cohort = require(cohort, "01_prepare_cohort")
folder = begin(network, parameters=recipe, inputs=(cohort / "slices.parquet",),
               code=("lib/networks.py", "lib/training.py"))  # fmt: skip
slices = Cohort.open(cohort)
standardisation = slices.standardise(image_size, channels)
rows = {split: part for split, part in slices.slices.groupby("split")}
print(standardisation)
print({split: len(part) for split, part in rows.items()})
for split, part in rows.items():
    if missing := sorted(set(PHASES) - set(part["phase"])):
        print(f"Warning: no slice of {split} shows {', '.join(missing)}: more patients are needed.")

# %% [markdown]
# Every phase counts the same in the loss, and within a phase every patient does, however many slices there are. The
# validation loss is weighted in the same way, since it steers the schedule.

# %%
weights = {split: slice_weights(rows[split]) for split in ("train", "val")}
training = Slices(
    slices, rows["train"], standardisation, weights["train"], batch_size=batch_size, seed=seed, keep=keep_in_memory
)
validation = Slices(slices, rows["val"], standardisation, weights["val"], batch_size=batch_size, keep=keep_in_memory)
pd.Series(weights["train"]).groupby(rows["train"].phase.to_numpy()).agg(["sum", "min", "max"])

# %% [markdown]
# ## Network

# %%
keras.utils.set_random_seed(seed)
model = phase_net(image_size, channels, initializer=initializer)
model.summary()

# %% [markdown]
# ## Training
#
# Until the validation loss is below ln 5 = 1.609, the loss of a network that answers 1/5 to everything, patience does
# not count: this network sits there for its first few hundred steps.

# %%
history = train(
    model,
    training,
    validation,
    schedule,
    folder / "training.npz",
    rotation=rotation,
    translation=translation * image_size / 512,
    precision=computed_in,
    seed=seed,
)
display(history)

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
# Of validation and test slices. Nothing was chosen by the test slices: they are predicted once, by the best weights on
# the validation slices.

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
    inputs=(cohort / "slices.parquet",),
    seconds=round(history.seconds.sum()),
)
sidecar.rename(folder / "provenance.json")

# %% [markdown]
# ## Against the paper
#
# 132,181 weights and a final kernel output of 16 x 16 x 64 at 512 x 512 pixels. The paper does not say how many epochs
# its network needed, only that the reference networks were done within three and this one was not.

# %%
best = history.loc[history.val_loss.idxmin()]
print(
    f"{model.count_params():,} weights; lowest validation loss {best.val_loss:.3f} "
    f"in epoch {best.epoch:.0f} of {len(history)}"
)
assert model.count_params() == {1: 132_181, 3: 132_469}[channels]

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 97 · Remove and retrain
#
# A masked image is one that the network has never seen the like of. Does its probability fall because the voxels
# mattered, or because the image is strange? This notebook removes the voxels from *all* images, those of training too,
# and trains a new network on what is left. The idea is that of Hooker et al. 2019 (remove and retrain, *ROAR*); nothing
# of it is in the paper.
#
# | | |
# |---|---|
# | **reads** | `cohort/` of 01_prepare_cohort |
# | **writes** | `retrained/` with a folder per network; `tables/retraining.csv`; figure `retraining` |
# | **takes** | one training per map, share and repeat: here two minutes; the published ones an hour or two |
#
# If a map ranks high what tells the phases apart, a network that never sees those voxels does badly. If it does as well
# as without as many random voxels, the map has found nothing that the others could not replace.
#
# Three choices keep the comparison fair.
#
# - **The map is of the predicted class**, not of the labelled one. Maps of some methods depend on the class. Had they
#   been made for the label, the shape of the hole would tell the new network the label.
# - **The control has the shape of the map**: random cells as large as those of its layer, or single voxels for maps at
#   the input. Single voxels leave their neighbours, from which an image can nearly be guessed; large cells do not.
# - **Networks differ by their seed**, and each repeat explains a network of its own. The **vertical bars** in the
#   figure span the repeats.
#
# A limit remains: the shape of what is removed is visible, and a map that outlines an organ shows the new network that
# organ's outline. Accuracy that stays high therefore does not prove that a map has missed what matters.
#
# ![Accuracy of networks that were trained without the highest voxels of a map](../figures/retraining.png)
#
# **Remove and retrain, as published by this project.** Accuracy on test slices (mean of the phases) of networks that
# were trained without a share of the body's voxels. **Black**: those that the map ranks highest. **Red**: random cells
# of the same size. **Dotted**: a disc about the body's centroid. Grey line: guessing. Bars span the repeats.

# %%
from dataclasses import asdict, replace
from pathlib import Path

from IPython.display import Markdown, display
import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.attribution import Attributor
from lib.cohort import Cohort
from lib.figures.captions import caption
from lib.figures.retraining import draw_retraining
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.masking.controls import BLOCKS, DISC, RANDOM
from lib.masking.retraining import (
    NOTHING, Recipe, SlicesInMemory, control_values, layers_of, names_of, predicted_class_maps, read_slices, retrain,
    summarise_retrained, without_highest,
)  # fmt: skip
from lib.provenance import write_sidecar
from lib.titles import map_title

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
retrained: str = "runs/quick/retrained"  # where the networks go
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
maps: str = "saliency/input grad_cam/conv4b"  # maps whose highest voxels are removed, as method/layer
fractions: str = "0.5"  # shares of the body's voxels that are removed; Hooker et al. take 0.1 0.3 0.5 and others
fill: str = "zero"  # what is written in their place: "zero" (the mean, as in Hooker et al.), "normal", "shuffle"
repeats: int = 1  # networks of other seeds, each with trainings of its own
image_size: int = 64  # rows and columns of the input
epochs: int = 6  # of each training
learning_rate: float = 1.0e-3  # at its highest
batch_size: int = 8  # slices
rotation: float = 5.0  # largest rotation for augmentation, in degrees, either way
translation: float = 5.0  # largest shift for augmentation, in pixels of a 512 x 512 image, either way
resamples: int = 2000  # number of times that patients are drawn again for the intervals (bootstrap)
seed: int = 1  # of the first repeat; of the ties, the random cells and the bootstrap

# %% [markdown]
# ## The slices
#
# All slices are held in memory. Those of training, validation and test lose their voxels by the same rule.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
standardisation = slices.standardise(image_size)
rows = slices.slices.reset_index(drop=True)
whole, bodies = read_slices(slices, rows, standardisation)
names, shares = names_of(maps), [float(word) for word in fractions.split()]
print(f"{(len(names) * len(shares) + 1) * repeats} trainings; what is removed: {', '.join(map('/'.join, names))}")
rows.groupby("split").agg(slices=("slice", "size"), patients=("patient", "nunique"))

# %% [markdown]
# ## The networks
#
# Every network is trained in the same way: the paper's architecture, from new first weights, with the short recipe of
# 02_train_network at one image size. A training that was interrupted goes on after its last epoch, and one that is
# finished is read again.

# %%
recipe = Recipe(epochs, batch_size, learning_rate, rotation, translation)
cohort_file = resolve(cohort) / "slices.parquet"


def trained(repeat, name, share, images):
    """Return the predictions of a network that sees `images()`."""
    facts = {"method": name[0], "layer": name[1], "fraction": share}
    folder = Path(retrained) / f"{repeat}" / "_".join((*name, f"{share:g}"))
    found = retrain(folder, images, rows, standardisation, replace(recipe, seed=seed + repeat),
                    depends_on=facts | {"fill": fill}, inputs=(cohort_file,))  # fmt: skip
    return found.assign(repeat=repeat, **facts)


def removal(values, share, seed):
    """Return a function that removes what `values` rank highest, for a training that is not finished yet."""
    return lambda: SlicesInMemory(rows, without_highest(rows, whole.images, bodies, values, share, fill, seed))


# %% [markdown]
# Each repeat begins with a network that sees everything. Its maps say what the other networks of the repeat do not see.

# %%
predictions, progress = [], tqdm(total=(len(names) * len(shares) + 1) * repeats, desc="trainings")
for repeat in range(repeats):
    predictions.append(trained(repeat, NOTHING, 0.0, lambda: whole))
    progress.update()
    model_file = resolve(retrained) / f"{repeat}" / "_".join((*NOTHING, "0")) / "model.keras"
    attributor = Attributor(keras.models.load_model(model_file, compile=False), layers_of(names))
    cells = {}
    for name in names:
        if name[0] in (BLOCKS, RANDOM[0], DISC[0]):
            values = control_values(name, rows, bodies, cells.get(name[1], ()), seed + repeat)
        else:
            values = predicted_class_maps(attributor, name, whole.images)
            cells[name[1]] = values.shape[1:]
        for share in shares:
            predictions.append(trained(repeat, name, share, removal(values, share, seed + repeat)))
            progress.update()
progress.close()
predictions = pd.concat(predictions, ignore_index=True)

# %% [markdown]
# ## What is left of the accuracy
#
# `accuracy` is the mean of the phases, in per cent, with a 95 % interval that resamples patients; `lowest` and
# `highest` are those of single repeats. `difference` is the accuracy minus that of the control of the same shape, in
# points. Below 0 the map has found more of what tells the phases apart than random cells do. `lower` counts the repeats
# in which it is below 0.

# %%
summary = summarise_retrained(predictions, rng=np.random.default_rng(seed), resamples=resamples)
display(summary.set_index(["method", "layer", "fraction"]).round(1))

# %%
explained = [name for name in names if name[0] not in (BLOCKS, RANDOM[0], DISC[0])]
figure = draw_retraining(summary, explained)
test = rows[rows["split"] == "test"]
words = (
    "Accuracy on test slices (mean of the phases) of networks that were trained without a share of the body's voxels. "
    f"Bars span {repeats} repeats, of other seeds. Images of {image_size} x {image_size} pixels."
)
display(figure, caption("Remove and retrain", test, words))

# %% [markdown]
# ## Save

# %%
with atomic_path(resolve(tables) / "retraining.csv") as file:
    summary.to_csv(file, index=False)
files = save_figure(figure, resolve(figures) / "retraining")
work = asdict(recipe) | {
    "image_size": image_size,
    "fill": fill,
    "maps": maps,
    "fractions": fractions,
    "repeats": repeats,
    "resamples": resamples,
}
write_sidecar(files[0], notebook="97_remove_and_retrain", parameters=work, seed=seed, inputs=(cohort_file,))

# %% [markdown]
# ## What we saw
#
# The sentences below are written from the numbers of this run.

# %%
judged = summary[summary["difference"].notna()]
better, worse = judged[judged["difference_high"] < 0], judged[judged["difference_low"] > 0]


def listed(part):
    """Return the maps and shares of rows as words."""
    words = [f"{map_title(row.method, row.layer)} at {row.fraction:.0%}" for row in part.itertuples()]
    return ", ".join(words) or "none"


unchanged = summary[summary["method"] == NOTHING[0]].iloc[0]
Markdown(
    f"Networks that see everything reach {unchanged.accuracy:.0f} % [{unchanged.low:.0f}, {unchanged.high:.0f}]; "
    f"guessing has 20 %. Worse than without random cells of the same size, interval included: {listed(better)}. Better "
    f"than without random cells: {listed(worse)}. Of {len(judged)} comparisons, the rest show no difference."
)

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
# | **takes** | one training per map, share and repeat: here two minutes; the published ones an hour |
#
# If the new network does worse than one that was trained without as many random cells, the voxels that the map marks
# matter more, together, than scattered ones. That the map knows more than a place or a brightness follows only if the
# network also does worse than without a disc, or without the brightest voxels. If it does not do worse, nothing
# follows: the same may be seen in another organ, and the hole has a shape that may itself show an organ.
#
# Four choices keep the comparison fair.
#
# - **The map is the mean over the five classes.** The shape of a map of one class tells which class it is of. A new
#   network could then read the old network's answer from the hole.
# - **The control has the map's cells**: random cells as large as those of its layer, or single voxels for maps at the
#   input. Single voxels leave their neighbours, from which an image can nearly be guessed; large cells do not. Where
#   many cells have the same value (Grad-CAM is 0 in some), ties are broken by whole cells, not by single voxels.
# - **Two orders know no network**: a disc about the body's centroid, and the brightness of the image.
# - **Trainings differ by chance.** Each repeat explains a network of its own, with trainings of its own. A difference
#   counts as shown if its 95 % interval over patients excludes 0 and all repeats, at least three, agree on its sign.
#
# ![Accuracy of networks that were trained without the highest voxels of a map](../figures/retraining.png)
#
# **Remove and retrain, as published by this project.** Accuracy on test slices (mean of the phases) of networks that
# were trained without a share of the body's voxels. **Black**: those that the map ranks highest. **Red**: random cells
# of the same size. **Dotted**: a disc about the body's centroid. **Blue**: the brightest voxels. Grey line: guessing.
# Bars of the black and red lines span the repeats.

# %%
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import product

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
from lib.masking.deletion import read_fractions
from lib.masking.retraining import (
    Recipe, SlicesInMemory, control_values, maps_of_all_classes, read_slices, retrain, without_highest,
)  # fmt: skip
from lib.masking.retraining_summary import NOTHING, is_control, layers_of, names_of, summarise_retrained
from lib.networks import phase_net
from lib.provenance import write_sidecar
from lib.titles import map_title
from lib.voxels import FILLS

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
retrained: str = "runs/quick/retrained"  # where the networks go
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
maps: str = "saliency/input grad_cam/conv4b"  # maps whose highest voxels are removed, as method/layer
fractions: str = "0.5"  # shares of the body's voxels that are removed; Hooker et al. take 0.1 0.3 0.5 and others
fill: str = "zero"  # what is written in their place, as in 06_mask_voxels; "zero" is the mean, as in Hooker et al.
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
names, shares = names_of(maps), read_fractions(fractions)[1:-1]
explained = [name for name in names if not is_control(name)]
known = Attributor(phase_net(image_size), layers_of(names)).keys({method for method, _ in explained})
if fill not in FILLS or not set(explained) <= set(known):
    raise ValueError(f"expected maps among {known}, and fill among {FILLS}; got {maps!r} and {fill!r}.")
print(f"{(len(names) * len(shares) + 1) * repeats} trainings; what is removed: {', '.join(map('/'.join, names))}")
rows.groupby("split").agg(slices=("slice", "size"), patients=("patient", "nunique"))

# %% [markdown]
# ## The networks
#
# Every network is trained in the same way: the paper's architecture, from new first weights, with the short recipe of
# 02_train_network at one image size. A training that was interrupted goes on after its last epoch, and one that is
# finished is read again.

# %%
recipe = Recipe(epochs, batch_size, learning_rate, rotation, translation, seed)
cohort_file = resolve(cohort) / "slices.parquet"


def folder_of(repeat, name, share=0.0):
    return resolve(retrained) / f"{repeat}" / "_".join((*name, f"{share:g}"))


def trained(repeat, name, share, images, inputs=()):
    """Return the predictions of a network that sees `images()`."""
    facts = {"method": name[0], "layer": name[1], "fraction": share}
    found = retrain(folder_of(repeat, name, share), images, rows, standardisation, replace(recipe, seed=seed + repeat),
                    depends_on=facts | {"fill": fill}, inputs=(cohort_file, *inputs))  # fmt: skip
    return found.assign(repeat=repeat, **facts)


@cache
def ranked(repeat):
    """Return what each map and control of a repeat ranks, by name."""
    network = keras.models.load_model(folder_of(repeat, NOTHING) / "model.keras", compile=False)
    found = maps_of_all_classes(Attributor(network, layers_of(names)), explained, whole.images)
    cells = {name[1]: values.shape[1:] for name, values in found.items()} | {"-": ()}
    given = rows, whole.images, bodies
    return found | {n: control_values(n, *given, cells[n[1]], seed + repeat) for n in names if n not in found}


def without(repeat, name, share):
    """Return the slices without what a map or control of a repeat ranks highest."""
    return SlicesInMemory(rows, without_highest(
        rows, whole.images, bodies, ranked(repeat)[name], share, fill, seed + repeat))  # fmt: skip


# %% [markdown]
# Each repeat begins with a network that sees everything. Its maps say what the other networks of the repeat do not see.

# %%
predictions, progress = [], tqdm(total=(len(names) * len(shares) + 1) * repeats, desc="trainings")
for repeat in range(repeats):
    predictions.append(trained(repeat, NOTHING, 0.0, lambda: whole))
    progress.update()
    explained_network = (folder_of(repeat, NOTHING) / "model.keras",)
    for name, share in product(names, shares):
        predictions.append(trained(repeat, name, share, partial(without, repeat, name, share), explained_network))
        progress.update()
    ranked.cache_clear()
progress.close()
predictions = pd.concat(predictions, ignore_index=True)

# %% [markdown]
# ## What is left of the accuracy
#
# First the accuracy by share: the mean of the phases and of the repeats, in per cent.

# %%
summary = summarise_retrained(predictions, rng=np.random.default_rng(seed), resamples=resamples)
accuracy = summary.pivot_table(index=["method", "layer"], columns="fraction", values="accuracy", sort=False)
display(accuracy.round(1).astype(object).fillna(""))

# %% [markdown]
# `difference` is the accuracy minus that of the control, in points, with a 95 % interval that resamples patients. Below
# 0, removing what the map marks costs more than removing random cells. `lower` and `higher` count the repeats in which
# it is below and above 0, and `shown` is the verdict by the rule above.

# %%
judged = summary[summary["difference"].notna()]
compared = ["difference", "difference_low", "difference_high", "lower", "higher", "shown"]
display(judged.set_index(["method", "layer", "fraction"])[compared].round(1))

# %%
figure = draw_retraining(summary, explained)
test = rows[rows["split"] == "test"]
words = (
    "Accuracy on test slices (mean of the phases) of networks that were trained without a share of the body's voxels. "
    f"Repeats: {repeats}; bars of the black and red lines span them. Images of {image_size} x {image_size} pixels."
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
sidecar = write_sidecar(files[0], notebook="97_remove_and_retrain", parameters=work, seed=seed, inputs=(cohort_file,))

# %% [markdown]
# ## What we saw
#
# The sentences below are written from the numbers of this run.


# %%
def listed(verdict):
    """Return the maps and shares with a verdict as words."""
    rows = judged[judged["shown"] == verdict].itertuples()
    return ", ".join(f"{map_title(row.method, row.layer)} at {row.fraction:.0%}" for row in rows) or "none"


unchanged = summary[summary["method"] == NOTHING[0]].iloc[0]
Markdown(
    f"Networks that see everything reach {unchanged.accuracy:.0f} % [{unchanged.low:.0f}, {unchanged.high:.0f}]; "
    f"guessing has 20 %. Of {len(judged)} comparisons over {repeats} repeats, shown to be worse than without random "
    f"cells of the same size: {listed('worse')}. Shown to be better: {listed('better')}. The others are not shown to "
    "differ."
)

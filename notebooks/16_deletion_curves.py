# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16 · Deletion curves
#
# The paper overwrites one tenth of the voxels. What if it were a hundredth, or half? Here the share goes from none to
# all of the voxels, in the order of each map. This goes beyond the paper.
#
# | | |
# |---|---|
# | **reads** | `cohort/`, and the network and its predictions of 02_train_network |
# | **writes** | tables `deletion_curves.csv`, `deletion_areas.csv`; figures `deletion_curves`, `deletion_areas` |
# | **takes** | one minute: 34 predictions per slice and share of voxels |
#
# Two curves are usual. **Deletion** overwrites the voxels that a map ranks highest first: the faster the probability of
# the right phase falls, the better. **Insertion** starts from an image in which all voxels are overwritten and brings
# the highest back first: the faster the probability rises, the better.
#
# Insertion needs no predictions of its own: an image whose highest 30 % were brought back *is* the image whose lowest
# 70 % are overwritten. So each map is followed in two orders, highest first and lowest first. The curve of lowest
# first, read from the right, is the insertion.
#
# ## What is compared
#
# The **area** under a curve is its mean height, in per cent of the original probability. The **area between** the two
# orders is about 0 for a map that knows nothing, and cannot exceed 100 where the probability does not rise.
#
# What *any* share of the voxels costs depends on the shape in which they lie, so every map has a control of its own
# shape: random cells of the body, as large as those of the map's layer, and single voxels for maps at the input. A disc
# about the body's centroid shows what an order without content can do.
#
# By default only voxels of the body are ranked and overwritten. Otherwise a map would gain merely by ranking the air
# last, which the control, random cells of the body, could not do.
#
# The limits are those of the masking experiment. The network has never seen such noise and may see one phase in it; the
# curve of that phase may end high, whatever the map. The difference between two orders of the same slice at the same
# share is free of this, the height of a curve is not.

# %% [markdown]
# ![What is left of the probability by share of the voxels](../figures/deletion_curves.png)
#
# **Deletion curves, as published by this project**: what is left of the probability of the right phase (per cent, mean
# of the phases) against the share of the body's voxels that is overwritten, on 20 slices per phase. **Black**: the
# voxels that the map ranks highest are overwritten first. **Green**: the lowest first; read from the right it is the
# insertion. **Red**: random cells as large as those of the map. **Dotted**: a disc about the body's centroid. The
# number above each panel is the shaded area between the two orders, in per cent, with a 95 % interval that resamples
# patients.

# %%
from dataclasses import asdict

from IPython.display import Markdown, display
import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation
from lib.masking.deletion import (
    curve_areas,
    matched_control,
    measure_curves,
    read_fractions,
    summarise_areas,
    summarise_curves,
)
from lib.figures.captions import caption
from lib.figures.deletion import draw_deletion
from lib.figures.differences import draw_differences
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.masking.experiment import Reading
from lib.paper import LAYERS, PHASES
from lib.provenance import write_sidecar
from lib.slice_choice import slices_to_mask

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # made by 02_train_network
predictions: str = "runs/quick/networks/top/predictions.parquet"  # of 02_train_network
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
per_phase: int = 2  # number of correctly classified test slices per phase, spread over patients; 0 takes all
fractions: str = "0.02 0.05 0.1 0.25 0.5"  # shares of the voxels that are overwritten, besides 0 and 1
within: str = "body"  # which voxels are ranked: those of the "body", or of the "image"
fill: str = "normal"  # what is written: "normal" N(0, 1), "uniform" U[0, 1), "range", or "shuffle"
score: str = "logit"  # what the maps differentiate: "logit", or the softmax "probability"
interpolation: str = "nearest"  # how coarse maps are enlarged: "nearest" or "bilinear"
draws: int = 1  # number of noise fields per slice
batch_size: int = 5  # slices whose maps are computed at once
resamples: int = 2000  # number of times that patients are drawn again for the intervals (bootstrap)
seed: int = 3  # of the sample of slices, the noise, the ties and the bootstrap

# %% [markdown]
# ## The slices
#
# They are drawn among the correctly classified test slices. The printed *reading* lists the choices of the masking
# experiment, as in 06_mask_voxels.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
model_file = require(resolve(network) / "model.keras", "02_train_network")
predictions = require(predictions, "02_train_network")
chosen = slices_to_mask(pd.read_parquet(predictions), per_phase, seed)
reading = Reading(within=within, score=score, fill=fill, interpolation=interpolation, draws=draws, seed=seed)
shares = read_fractions(fractions)
print(reading)
chosen.groupby("phase").agg(slices=("slice", "size"), patients=("patient", "nunique")).reindex(PHASES)

# %% [markdown]
# ## The curves
#
# At each share the masking experiment is the one of 06_mask_voxels, with the same noise and the same choice among ties,
# so that a larger share holds the voxels of a smaller one.

# %%
model = keras.models.load_model(model_file, compile=False)
standardisation = Standardisation.load(resolve(network) / "standardisation.json")
attributor = Attributor(model, LAYERS, score=score)
batches = slices.batches(chosen, standardisation, batch_size=batch_size)
curves = measure_curves(model, batches, attributor, reading, shares)
rng = np.random.default_rng(seed)
mean_curves = summarise_curves(curves, rng=rng, resamples=resamples)
areas = summarise_areas(curve_areas(curves), rng=rng, resamples=resamples)

# %% [markdown]
# The table gives what is left of the probability, in per cent, as the mean of the phases, if the highest voxels are
# overwritten first (columns: the share that is overwritten):

# %%
highest = mean_curves[(mean_curves.phase == "mean") & (mean_curves.region != "bottom")]
highest.pivot_table(index=["method", "layer"], columns="fraction", values="value", sort=False).round(0)

# %% [markdown]
# The figure shows both orders of every map beside its control.

# %%
maps = attributor.keys(("saliency", "guided_backprop", "cam", "grad_cam", "sam"))
measured = set(zip(curves.method, curves.layer, strict=True))
controls = {name: matched_control(*name, measured) for name in maps}
figure = draw_deletion(mean_curves, areas, controls)
words = (
    "Mean of the phases. **Black**: the map's highest voxels are overwritten first. **Green**: the lowest first; read "
    "from the right it is the insertion. **Red**: random cells as large as those of the map. **Dotted**: a disc about "
    "the body's centroid. The number is the area between the two orders, in per cent, with a 95 % interval that "
    "resamples patients."
)
display(figure, caption("Deletion curves", chosen, words))

# %% [markdown]
# ## The areas
#
# `deletion`, `insertion` and `control` are areas under curves, in per cent. `between` compares a map with its own
# reverse, and `below_control` and `above_control` compare deletion and insertion with the control of the same shape, in
# points. Above 0 the map ranks high what the network needs.

# %%
mean_areas = areas[areas.phase == "mean"]
wide = mean_areas.pivot_table(index=["method", "layer"], columns="area", values="value", sort=False)
wide[["deletion", "insertion", "between", "control", "below_control", "above_control"]].round(1)

# %% [markdown]
# The figure shows, by phase, the area of the deletion minus that of the control. Left of 0 the map finds more of what
# the network needs than random cells of its size do.

# %%
less = areas[areas.area == "below_control"].assign(network="this network")
less = less.assign(value=-less["value"], low=-less["high"], high=-less["low"])
figure_of_areas = draw_differences(less, label="Area under the deletion curve minus that of the control (points)")
words = (
    "One panel per phase; points are means with 95 % intervals that resample patients. The control overwrites random "
    "cells of the body that are as large as those of the map's layer."
)
display(figure_of_areas, caption("Areas under deletion curves", chosen, words))

# %% [markdown]
# ## Save

# %%
for name, table in {"deletion_curves": mean_curves, "deletion_areas": areas}.items():
    with atomic_path(resolve(tables) / f"{name}.csv") as file:
        table.to_csv(file, index=False)
work = {name: value for name, value in asdict(reading).items() if name != "fraction"}
work |= {"fractions": fractions, "per_phase": per_phase, "resamples": resamples}
for name, drawn in {"deletion_curves": figure, "deletion_areas": figure_of_areas}.items():
    files = save_figure(drawn, resolve(figures) / name)
    write_sidecar(files[0], notebook="16_deletion_curves", parameters=work, seed=seed,
                  inputs=(model_file, predictions))  # fmt: skip

# %% [markdown]
# ## What we saw
#
# The sentences below are written from the numbers of this run. A map has to beat both its own reverse and random cells
# of its size. If it does so only at a tenth of the voxels, as in the paper, the choice of that share may be the reason.


# %%
def better_than_nothing(area):
    found = mean_areas[(mean_areas.area == area) & (mean_areas.low > 0) & (mean_areas.method != "disc")]
    return ", ".join(f"{row.method} at {row.layer}" for row in found.itertuples()) or "none"


disc = mean_areas[(mean_areas.method == "disc") & (mean_areas.area == "below_control")].iloc[0]
side = "below" if disc.low > 0 else "above" if disc.high < 0 else "no clear distance from"
Markdown(
    f"Maps with an area between the orders above 0, interval included: {better_than_nothing('between')}. Maps whose "
    f"deletion lies below that of random cells of their size: {better_than_nothing('below_control')}. The curve of the "
    f"disc, which knows neither slice nor network, lies {side} that of random voxels (area of random voxels minus the "
    f"disc's: {disc.value:.0f} points [{disc.low:.0f}, {disc.high:.0f}])."
)

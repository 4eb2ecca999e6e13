# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Mask voxels
#
# Makes the measurements behind **Figures 2, 5 and 6**: how much of the probability of the right phase is left when the
# voxels that a map ranks highest, or lowest, are overwritten with noise.
#
# | | |
# |---|---|
# | **reads** | `cohort/`, and the network and its predictions of 02_train_network |
# | **writes** | `masking/part-*.parquet`: a row a slice, map, layer, region and draw |
# | **takes** | 13 maps x 2 regions x 3 draws and two controls: 84 predictions a slice, 0.3 s at 256 x 256 |
#
# What the paper leaves open, and how it is read here: all voxels of the image are ranked, air included, by the map's
# absolute value; a map of low resolution is blown up without interpolation; exactly a tenth of the voxels is
# overwritten, ties are broken at random; the random values are N(0, 1): they have the training voxels' mean and
# SD; three draws are averaged. The control that the paper lacks is as many voxels chosen at random, once anywhere
# ("random") and once inside the body ("random_body").
#
# The work goes by batches, each written when it is done. Interrupted, it goes on after the last one.

# %%
import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation
from lib.masking import mask_cohort
from lib.paper import LAYERS, PHASES
from lib.provenance import begin, write_sidecar
from lib.files import atomic_path, file_hash, require, resolve
from lib.slice_choice import slices_to_mask

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # made by 02_train_network
predictions: str = "runs/quick/networks/top/predictions.parquet"  # of 02_train_network; of 04 for your own CT
masking: str = "runs/quick/masking"  # where the measurements go
per_phase: int = 30  # correctly classified test slices a phase, spread over patients; 0 takes all
fraction: float = 0.1  # of the voxels is overwritten
within: str = "image"  # which voxels are ranked: of the "image", or of the "body"
fill: str = "normal"  # what is written: "normal" N(0, 1), "uniform" U[0, 1), "range", or "shuffle"
score: str = "logit"  # what the maps differentiate: "logit", or the softmax "probability"
interpolation: str = "nearest"  # of maps of low resolution, or "bilinear"
draws: int = 3  # noise fields a slice
batch_size: int = 8  # slices whose maps are computed at once
seed: int = 3  # of the sample of slices, the noise and the ties

# %% [markdown]
# ## The slices
#
# Only slices that the network classifies correctly, as in the paper.

# %%
reading = {
    "fraction": fraction,
    "within": within,
    "fill": fill,
    "score": score,
    "interpolation": interpolation,
    "draws": draws,
    "seed": seed,
}
predictions = require(predictions, "02_train_network, or 04_vote_slices for your own CT,")
model_file = require(resolve(network) / "model.keras", "02_train_network")
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
chosen = slices_to_mask(pd.read_parquet(predictions), per_phase, seed)
chosen.groupby("phase").agg(slices=("slice", "size"), patients=("patient", "nunique")).reindex(PHASES)

# %% [markdown]
# ## Masking

# %%
code = tuple(f"lib/{module}.py" for module in ("attribution", "gradients", "masking", "voxels", "selection"))
work = reading | {"per_phase": per_phase, "batch_size": batch_size}
folder = begin(masking, parameters=work, inputs=(model_file, predictions), code=code)
model = keras.models.load_model(model_file)
standardisation = Standardisation.load(resolve(network) / "standardisation.json")
attributor = Attributor(model, LAYERS, score=score)
parts = [folder / f"part-{start:06d}.parquet" for start in range(0, len(chosen), batch_size)]
todo = np.repeat([not part.exists() for part in parts], batch_size)[: len(chosen)]
batches = slices.batches(chosen[todo], standardisation, batch_size=batch_size)
measured = mask_cohort(
    model,
    batches,
    attributor=attributor,
    network=file_hash(model_file),
    fractions=(fraction,),
    within=within,
    fill=fill,
    draws=draws,
    seed=seed,
    interpolation=interpolation,
)
waiting = [part for part in parts if not part.exists()]
for part, table in zip(waiting, tqdm(measured, total=len(waiting), unit="batch"), strict=True):
    with atomic_path(part) as file:
        table.to_parquet(file)

# %% [markdown]
# ## What is left of the probability
#
# Mean over slices and draws, in per cent of the original probability; 100 means that the map's voxels do not matter.

# %%
table = pd.concat(map(pd.read_parquet, parts), ignore_index=True)
left = table.pivot_table(
    index=["region", "method", "layer"], columns="phase", values="relative_probability", observed=True
)
left.reindex(columns=[phase for phase in PHASES if phase in left]).round(1)

# %% [markdown]
# ## Save

# %%
write_sidecar(
    folder / "done",
    notebook="06_mask_voxels",
    parameters=reading,
    inputs=(model_file, predictions),
    slices=len(chosen),
    rows=len(table),
)

# %% [markdown]
# ## Against the paper
#
# Masking the top tenth should lower the probability for every map and phase, and the bottom tenth should not. The
# controls say what any tenth does, of the image and of the body. To go beyond them is necessary for a map that knows
# what the network uses, not sufficient: a control scatters its voxels, most maps mark patches.

# %%
by_region = table.groupby("region", observed=True).relative_probability.mean()
print(by_region.round(1).to_dict())
sizes = table.groupby(["series", "slice", "draw"]).size()
assert sizes.min() == sizes.max(), "some slice lacks a map or a region"

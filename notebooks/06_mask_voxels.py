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
# How much of the probability of the right phase is left when the voxels that a map ranks highest, or lowest, are
# overwritten with noise? This notebook makes the measurements behind **Figures 2, 5 and 6**.
#
# | | |
# |---|---|
# | **reads** | `cohort/`, and the network and its predictions of 02_train_network |
# | **writes** | `masking/part-*.parquet`: a row for each slice, map, region and draw; `masking/done.json` |
# | **takes** | 60 predictions per slice and draw, with all controls; about 200 predictions per second at 256 x 256 |
#
# The paper leaves some choices open. Here all voxels of the image are ranked, air included, by the map's absolute
# value. A map of low resolution is enlarged without interpolation. Exactly a tenth of the voxels is overwritten, and
# ties are broken at random. The random values follow the normal distribution N(0, 1), so that they have the mean and
# the standard deviation (SD) of the voxels that the network was trained on. Each noise field is a *draw*; where there
# are several, they are averaged.
#
# The paper has no control for what *any* tenth of the voxels costs. Six are measured here:
#
# | control | which voxels are overwritten |
# |---|---|
# | random | as many voxels anywhere in the image |
# | random_body | as many voxels, all of them inside the body |
# | blocks | random cells inside the body, as large as the cells of a layer: the shape of a coarse map |
# | disc | a disc about the centre of the body |
# | other_patient | what the same map marks on a slice of another patient in the same phase |
# | untrained | what the same map marks if the network has not been trained |
#
# The work is done in batches, and each batch is written as soon as it is done. An interrupted run goes on after its
# last batch.

# %%
import keras
import pandas as pd
from tqdm import tqdm

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation
from lib.explained_phase import phases_to_explain
from lib.files import atomic_path, file_hash, require, resolve
from lib.masking.experiment import Reading, mask_cohort
from lib.networks import untrained_twin
from lib.paper import LAYERS, PHASES
from lib.provenance import begin, write_sidecar
from lib.slice_choice import other_patients, slices_to_mask

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # made by 02_train_network
predictions: str = "runs/quick/networks/top/predictions.parquet"  # of 02_train_network; of 04 for your own CT
masking: str = "runs/quick/masking/top"  # where the measurements go
per_phase: int = 15  # number of correctly classified test slices per phase, spread over patients; 0 takes all
controls: bool = True  # mask by the maps of other patients and of the untrained network too (twice the time)
fraction: float = 0.1  # share of the voxels that is overwritten
within: str = "image"  # which voxels are ranked: those of the "image", or of the "body"
fill: str = "normal"  # "normal" N(0, 1), "uniform" U[0, 1), "range", "zero", "shuffle" or "blurred" (see 14)
score: str = "logit"  # what the maps differentiate: "logit", or the softmax "probability"
interpolation: str = "nearest"  # how coarse maps are enlarged: "nearest" or "bilinear"
draws: int = 1  # number of noise fields per slice
batch_size: int = 8  # slices whose maps are computed at once
seed: int = 3  # of the sample of slices, the noise, the ties and the untrained network

# %% [markdown]
# ## The slices
#
# Only slices that the network classifies correctly are masked, as in the paper. Every slice gets a partner: a slice of
# another patient in the same phase, whose maps serve as a control. Your own CT may have no labels, or none with which
# the network agrees; then the predicted phase is explained, and a sentence says so.

# %%
predictions = require(predictions, "02_train_network, or 04_vote_slices for your own CT,")
model_file = require(resolve(network) / "model.keras", "02_train_network")
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
answers, explained = phases_to_explain(pd.read_parquet(predictions))
print(explained or "Correctly classified slices of the test patients:")
chosen = slices_to_mask(answers, per_phase, seed)
chosen = chosen.join(other_patients(chosen, seed).add_prefix("other_"))
chosen.groupby("phase").agg(slices=("slice", "size"), patients=("patient", "nunique")).reindex(PHASES)

# %% [markdown]
# ## The reading
#
# A *reading* is one way to understand the paper's description. It holds all the choices that the description leaves
# open, and is saved with the measurements, so that later notebooks take it from there.

# %%
reading = Reading(within, score, fill, fraction, interpolation, draws, seed)
work = reading.facts() | {"per_phase": per_phase, "controls": controls, "batch_size": batch_size}
code = ("lib/masking/experiment.py", "lib/slice_choice.py", "lib/cohort.py", "lib/networks.py")
folder = begin(masking, parameters=work, inputs=(model_file, predictions), code=code)
print(reading)

# %% [markdown]
# ## Masking
#
# First come the network and what makes its maps. For two controls the maps of an untrained network and of the partner
# slices are needed as well.

# %%
model = keras.models.load_model(model_file)
standardisation = Standardisation.load(resolve(network) / "standardisation.json")
attributor = Attributor(model, LAYERS, score=score)
untrained = Attributor(untrained_twin(model, seed), LAYERS, score=score) if controls else None


def read_others(rows):
    pairs = rows[["other_series", "other_slice"]].set_axis(["series", "slice"], axis=1)
    return slices.read(pairs, standardisation)


others = read_others if controls and chosen["other_series"].notna().all() else None

# %% [markdown]
# Then the maps of each batch are computed and the slices are masked and predicted. Batches that are there are left out.

# %%
parts = {start: folder / f"part-{start:06d}.parquet" for start in range(0, len(chosen), batch_size)}
waiting = {start: part for start, part in parts.items() if not part.exists()}
todo = pd.concat([chosen[:0], *(chosen[start : start + batch_size] for start in waiting)])
batches = slices.batches(todo, standardisation, batch_size=batch_size)
measured = mask_cohort(
    model, batches, attributor, reading, untrained=untrained, others=others, network=file_hash(model_file)
)
for part, table in zip(waiting.values(), tqdm(measured, total=len(waiting), unit="batch"), strict=True):
    with atomic_path(part) as file:
        table.to_parquet(file)

# %% [markdown]
# ## What is left of the probability
#
# The table holds the mean over slices and draws, in per cent of the original probability. At 100 the overwritten voxels
# do not matter. `top` and `bottom` are the highest and the lowest tenth of a map, or of the disc; the other regions are
# controls.

# %%
table = pd.concat(map(pd.read_parquet, parts.values()), ignore_index=True)
left = table.pivot_table(
    index=["region", "method", "layer"], columns="phase", values="relative_probability", observed=True
)
left.reindex(columns=[phase for phase in PHASES if phase in left]).round(1)

# %% [markdown]
# ## Save

# %%
sidecar = write_sidecar(
    folder / "done",
    notebook="06_mask_voxels",
    parameters=reading.facts(),
    inputs=(model_file, predictions),
    slices=len(chosen),
    rows=len(table),
)

# %% [markdown]
# ## What we saw
#
# The paper expects that masking the top tenth lowers the probability for every map and phase, and that masking the
# bottom tenth does not. The line below gives the means. The controls say what any tenth of the voxels costs. A map that
# marks what the network uses must cost more than they do; this is necessary, but not sufficient.

# %%
by_region = table.groupby("region", observed=True).relative_probability.mean()
print(by_region.round(1).to_dict())
sizes = table.groupby(["series", "slice", "draw"]).size()
assert sizes.min() == sizes.max(), "some slice lacks a map or a region"

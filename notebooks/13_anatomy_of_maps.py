# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13 · The anatomy of the maps
#
# Which organs do the maps mark? The paper judges this by eye (text on **Figures 1, 3, 4 and S7**). In the phantom the
# tissue of every voxel is known, so that it can be counted: on which tissues does the tenth of the voxels lie that a
# map ranks highest?
#
# | | |
# |---|---|
# | **reads** | `cohort/` with `tissues.zarr`, the truth; `masking/`; the network and its predictions |
# | **writes** | tables `anatomy.csv`, `anatomy_{focus,sign,tissues,contrasts}.csv`; figures `anatomy`, `anatomy_sign` |
# | **takes** | 35 ms per slice at 256 x 256 on two cores, ranking included |
#
# A share alone means little: half of an image is air, and liver, muscle and fat fill most of the body. So each share is
# divided by the tissue's share of the image. This ratio is the *enrichment*; it is 1 for a map that is blind to the
# tissue, and 2 for one that marks it twice as densely.

# %% [markdown]
# ![The anatomy of the maps: kidneys and vessels by phase, and all tissues](../figures/anatomy.png)
#
# **The anatomy of the maps, as published by this project.** **A**, how many times as densely the highest tenth of a
# map's voxels covers kidneys and vessels as the rest of the body, by phase: 1 (grey line) for a map that is blind to
# them. Lines are 95 % intervals that resample patients. Red rows are maps without content: a disc about the body's
# centroid, the edges of the image, its brightness, and the saliency of the same network before training. **B**, the
# share of that tenth that lies on each tissue (per cent, mean of the phases), below the tissue's share of the image;
# the colour is the ratio of the two. **Bold**: in at least four phases the 95 % interval of the share lies on one side
# of the tissue's share of the image. The numbers of slices and patients stand above A.
#
# ![What the network expects: the sign of the saliency by tissue and phase](../figures/anatomy_sign.png)
#
# **Signs of the saliency, as published by this project.** By how much the score (logit) of the right phase would change
# if the whole tissue were 10 HU brighter, as the gradient predicts for a small change: above 0 the phase expects the
# tissue bright, below 0 dark. Points are means over those slices of the figure above that show the tissue, with 95 %
# intervals that resample patients. All panels share one scale, so that tissues can be compared. Triangles are the four
# signs that the paper names.

# %%
from IPython.display import display
import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.attribution import Attributor
from lib.claims.findings import findings_table, verdict
from lib.claims.tissues import contrast_claims, sign_claims, tissue_claims
from lib.cohort import Cohort, Standardisation
from lib.figures.captions import caption
from lib.figures.style import save_figure
from lib.figures.tissues import draw_anatomy, draw_signs
from lib.files import atomic_path, require, resolve
from lib.masking.controls import image_maps
from lib.masking.statistics import read_masking, read_reading
from lib.networks import untrained_twin
from lib.paper import LAYERS, PHASES
from lib.provenance import write_sidecar
from lib.slice_choice import eligible_slices
from lib.maps.tissue_contrasts import contrast_maps, contrast_tissues
from lib.maps.tissue_shares import group_codes, measure_anatomy, summarise_shares, summarise_signs, with_truth

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # made by 02_train_network
predictions: str = "runs/quick/networks/top/predictions.parquet"  # of 02_train_network, or 04 for your own CT
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
masking: str = "runs/quick/masking/top"  # made by 06_mask_voxels: the same slices, score and fraction are taken
batch_size: int = 8  # slices whose maps are computed at once
resamples: int = 2000  # number of times that patients are drawn again for the intervals (bootstrap)
seed: int = 3  # random seed of the bootstrap and of the untrained network

# %% [markdown]
# ## The slices and their tissues
#
# The slices are those that 06_mask_voxels masked: test slices that the network classifies correctly. The list names the
# tissues, and the table counts slices and patients. If the tissues of a cohort are not known, the notebook stops here.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
group_codes(slices.tissues)
model_file = require(resolve(network) / "model.keras", "02_train_network")
predictions = require(predictions, "02_train_network, or 04_vote_slices for your own CT,")
masking = require(masking, "06_mask_voxels")
reading, masked = read_reading(masking), read_masking(masking)[["series", "slice"]].drop_duplicates()
chosen = eligible_slices(with_truth(slices, pd.read_parquet(predictions))).merge(masked, on=["series", "slice"])
display(", ".join(slices.tissues))
chosen.groupby("phase").agg(slices=("slice", "size"), patients=("patient", "nunique")).reindex(PHASES)

# %% [markdown]
# ## Measure
#
# Each map is enlarged to the image's size without interpolation and ranked by absolute value, air included, as in the
# masking experiment. Where equal values lie at the limit of the highest tenth, each of them counts in part, so that the
# tenth is exact.
#
# Four maps *without content* are measured beside those of the network: a disc about the body's centroid, the edges of
# the image, its brightness, and the saliency of the same network before training. Where these mark a tissue as densely,
# a map of the trained network tells nothing new about the network.

# %%
model = keras.models.load_model(model_file)
attributor = Attributor(model, LAYERS, score=reading["score"])
untrained = Attributor(untrained_twin(model, seed), LAYERS, score=reading["score"])


def without_content(images, body, classes):
    before_training = untrained(images, classes, ["saliency"])["saliency", "input"]
    return image_maps(images, body) | {("untrained", "-"): before_training}


standardisation = Standardisation.load(resolve(network) / "standardisation.json")
methods = ("saliency", "guided_backprop", "cam", "grad_cam", "sam")
batches = measure_anatomy(attributor, slices, chosen, standardisation, methods=methods, controls=without_content,
                          fraction=reading["fraction"], batch_size=batch_size)  # fmt: skip
measured = list(tqdm(batches, total=-(-len(chosen) // batch_size), unit="batch"))
shares, signs = (pd.concat(parts, ignore_index=True) for parts in zip(*measured, strict=True))
rng = np.random.default_rng(seed)
anatomy, focus = summarise_shares(shares, rng=rng, resamples=resamples)
signs = summarise_signs(signs, rng=rng, resamples=resamples)

# %% [markdown]
# ## Which tissues a map marks (C46, C47, C49, C56)
#
# The table gives the share of a map's highest tenth that lies on each tissue, in per cent, as the mean over the phases.
# Its first row is the image itself.

# %%
maps = pd.MultiIndex.from_frame(anatomy[["method", "layer"]].drop_duplicates())
wide = anatomy.pivot_table(index=["method", "layer"], columns="tissue", values="share", sort=False).loc[maps]
wide.loc[("image", "-"), :] = anatomy.drop_duplicates(["phase", "tissue"]).groupby("tissue")["area"].mean()
display((100 * wide.iloc[[-1, *range(len(wide) - 1)]]).round(1))

# %% [markdown]
# The figure sets kidneys and vessels against the rest of the body, phase by phase, and shows all tissues below.

# %%
tissues = contrast_tissues(shares, rng=rng, resamples=resamples)
contrasts = contrast_maps(shares, rng=rng, resamples=resamples)
figure = draw_anatomy(anatomy, tissues)
display(figure, caption("The anatomy of the maps", chosen))

# %% [markdown]
# Two cautions. A cell of layer 6 is 32 pixels wide, an eighth of an image of 256 pixels and a sixteenth of one of 512.
# If it ranks high, the vertebra, aorta and muscle in it are all marked, so that the enrichment of small vessels in a
# coarse map reflects the coarse cell size, not detection of the vessel. And a map that is zero nearly everywhere, as
# Grad-CAM may be, has fewer than a tenth of nonzero voxels: the rest of its highest tenth is spread evenly over the
# zeros.
#
# ## Air, and concentration (C47, C55)
#
# `outside` is the share of the highest tenth that lies outside the body, to be compared with the share of the image
# that is outside. `half_mass` is the smallest share of a map's voxels that holds half of its absolute sum; it is 50 %
# for a flat map. All are in per cent.

# %%
by_phase = focus.pivot_table(index=["method", "layer"], columns="phase", values=["outside", "half_mass"], sort=False)
print(f"outside the body: {100 * focus.outside_area.mean():.0f} % of the image")
(100 * by_phase.reindex(columns=PHASES, level="phase").loc[maps]).round(1)

# %% [markdown]
# ## What the network expects: the sign of the saliency (C48)
#
# The saliency is positive where the score of the phase would rise if the tissue were brighter. The paper reads from its
# signed maps that the unenhanced phase expects aorta and vena cava dark, and the corticomedullary phase the cortex
# bright and the medulla dark. `score_per_10_hu` is the change of the score if the whole tissue were 10 HU brighter, as
# the gradient predicts it. `positive` is the share of patients with a positive mean, and `sign_p` the p value of a sign
# test, which asks how likely so uneven a split is by chance.

# %%
display(signs.set_index(["tissue", "phase"]).sort_index(level=0, sort_remaining=False).round(4))
figure_of_signs = draw_signs(signs)
display(figure_of_signs, caption("Signs of the saliency", chosen))

# %% [markdown]
# ## Tissues against tissues, and maps against maps
#
# By shares alone large tissues always win: muscle and fat have so many voxels that half a per cent of them outnumbers
# the aorta. So one enrichment is divided by another: how many times as likely is a voxel of the kidney or its vessels
# to be marked as one of muscle or liver, or of the rest of the body? This is closer to what the eye judges.
#
# The second table compares maps with each other on the same slices. Its intervals resample patients.

# %%
times = tissues.pivot_table(index=["tissue", "against", "method", "layer"], columns="phase", values="times", sort=False)
display(times.reindex(columns=PHASES).xs("kidney and vessels").round(2))
contrasts.set_index(["measure", "method", "layer", "other_method", "other_layer", "phase"]).round(3)

# %% [markdown]
# ## Save

# %%
written = {"anatomy": anatomy, "anatomy_focus": focus, "anatomy_sign": signs,
           "anatomy_tissues": tissues, "anatomy_contrasts": contrasts}  # fmt: skip
for name, table in written.items():
    with atomic_path(resolve(tables) / f"{name}.csv") as file:
        table.to_csv(file, index=False)
parameters = reading | {"resamples": resamples}
for name, drawn in {"anatomy": figure, "anatomy_sign": figure_of_signs}.items():
    files = save_figure(drawn, resolve(figures) / name)
    write_sidecar(files[0], notebook="13_anatomy_of_maps", parameters=parameters, seed=seed,
                  inputs=(model_file, predictions))  # fmt: skip

# %% [markdown]
# ## Against the paper
#
# - **C46** Saliency marks kidney, renal vessels, aorta and vena cava more than muscle and liver. Measured: enrichment
#   of kidney and vessels over the rest of the body, and over muscle and liver. That saliency marks the bowel in the
#   pyelographic phase is reported and not judged.
# - **C47** Guided backpropagation marks fewer voxels, and the cortex more clearly. Measured: its half mass and its
#   share of cortex, against those of saliency.
# - **C48** The unenhanced phase expects aorta and vena cava dark, CM the cortex bright and the medulla dark. Measured:
#   these four signs.
# - **C49** CAM and Grad-CAM mark kidney, vessels, bone and spinal muscle. Measured: kidney and vessels, and bone and
#   muscle (all of it, not the spinal muscle alone), each over the other tissues.
# - **C55** Grad-CAM fits anatomy at 5b, hardly at 2b and 3b. Measured: its share of kidney and vessels there. Of 4b the
#   paper says both, so that it is left out.
# - **C56** SAM shows kidney and vessels at 2b, 3b and 4b. Measured: enrichment over the rest of the body.
#
# A claim is reproduced where the interval lies wholly on the paper's side in four phases of five (C48: all four signs).
# Where a claim has several parts, the weakest counts. That kidney, its cortex, vessels and liver are enriched holds in
# part by construction, since the phantom's simulated reader labels the phases by these organs.

# %%
findings = [*tissue_claims(tissues), *contrast_claims(contrasts), *sign_claims(signs)]
with pd.option_context("display.max_colwidth", None):
    display(findings_table(findings)[["measured", "verdict"]])

# %% [markdown]
# The four signs that the paper names, one by one, with an interval that resamples patients and a sign test.

# %%
named = signs[signs.expected != 0].copy()
rows = named.rename(columns={"mean_signed": "mean"})
named["verdict"] = [verdict(rows.iloc[[n]], "superiority", direction=rows.expected.iloc[n]) for n in range(len(rows))]
named.drop(columns=["n_slices", "score_per_10_hu"]).set_index(["phase", "tissue"]).round(5)

# %% [markdown]
# ## What we saw
#
# The maps of this network mark kidneys and vessels more densely than the rest of the body, with the exceptions that
# part A shows. But this alone is a weak test: some of the red rows, which know nothing of the phase, do so too, because
# these organs lie near the middle of the body, have sharp edges and are bright. Only a map that exceeds those rows says
# something about the network.

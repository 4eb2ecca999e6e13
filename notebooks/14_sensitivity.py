# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 · Does it depend on how one reads the paper?
#
# The paper describes its masking experiment in a few sentences, which leave four choices open. Does a claim hold under
# every reading of these sentences, or only under one? This notebook repeats the experiment by each reading, in several
# networks, and judges the claims C50 to C54 and C57 to C62 by each. It also takes SAM apart (C41): which of its
# ingredients does the work?
#
# | | |
# |---|---|
# | **reads** | `cohort/`; the networks and their predictions of 02_train_network |
# | **writes** | `readings/<network>/<reading>/`; tables `sensitivity*.csv`, figures `sensitivity*` |
# | **takes** | 21 readings of a network, 100 slices each: about 30 seconds per reading and draw at 256 x 256 |
#
# ![The outcome of each claim, by each reading](../figures/sensitivity.png)
#
# **As published by this project: each claim (rows) by each reading (columns), over four networks.** **+** supported,
# **?** inconclusive, **−** contradicted; the fraction says how many parts of the claim are supported. Readings are
# named by what differs from the default, at the left; the columns at the right have another map in the place of SAM.
#
# | choice | default | others | what they mean |
# |---|---|---|---|
# | fill | normal | uniform, range, zero, shuffle, blurred | what overwrites the voxels, see below |
# | score | logit | probability | what the maps differentiate: the phase's score before the softmax, or after it |
# | voxels | image | body | whether the ranked tenth is one of the image, air included, or of the body |
# | share | 10 % | 5 %, 20 % | how many of the voxels are overwritten; the paper says a tenth |
#
# **What a fill does.** A network gives an answer to any image, even of a kind that it has never seen, and none of these
# networks has seen noise inside a body. So a lower probability after masking has two possible causes that one
# experiment cannot separate: the voxels that are gone, and the noise that came. Fills differ in this:
#
# - *normal*, N(0, 1), and *uniform*, U[0, 1), are noise with values that are usual inside the body;
# - *range* is uniform between the darkest and the brightest voxel of the image, so that bone stands beside air;
# - *zero* is the mean of the body, and the value outside it: a hole without noise, but with an edge;
# - *shuffle* takes the voxels of the body in random order: the right values, each at a wrong place;
# - *blurred* is the image itself after a Gaussian blur with a standard deviation of 1/32 of the image (8 of 256
#   pixels): no noise and hardly an edge, but of a large organ much is left.
#
# An order of maps that holds under all fills says something about the maps. An order that changes with the fill says
# something about the fill.
#
# Claims C55 and C56 compare maps with anatomy and mask nothing; they stand in 13_anatomy_of_maps.

# %%
from IPython.display import display
import pandas as pd
from tqdm import tqdm

from lib.claims.networks import OUTCOMES
from lib.claims.networks import weakest_parts
from lib.claims.readings import changed_outcomes, judge_readings, reading_contrasts, with_variant
from lib.cohort import Cohort
from lib.figures.captions import caption
from lib.figures.masked_predictions import draw_predicted_shares
from lib.figures.readings import draw_claims_by_reading, reading_label
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.maps.variants import SAM_VARIANTS, SIGNS
from lib.masking.predictions import predicted_after
from lib.masking.experiment import METHODS
from lib.masking.readings import ReadNetwork, design_readings, reading_means, what_differs
from lib.masking.statistics import read_masking
from lib.paper import LAYERS, PHASES
from lib.provenance import write_sidecar
from lib.titles import VARIANT_TITLES

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
networks: str = "runs/quick/networks"  # the folder in which 02_train_network has put the networks
names: str = "top"  # those that are masked, separated by spaces; a verdict needs two or more that differ by their seed
readings: str = "runs/quick/readings"  # where the measurements go
figures: str = "runs/quick/figures"  # where the figures go
tables: str = "runs/quick/tables"  # where the tables go
fills: str = "normal uniform range zero shuffle blurred"  # what overwrites the voxels; the first is the default
scores: str = "logit probability"  # what the maps differentiate; the first is the default
voxels: str = "image body"  # which voxels are ranked; the first is the default
shares: str = "0.1 0.05 0.2"  # of the voxels that are overwritten; the first is the default
corners: bool = True  # also change several choices at once
variants: bool = True  # also mask by SAM without one of its ingredients, HiResCAM and LayerCAM, by the default reading
per_phase: int = 20  # number of correctly classified test slices per phase and network; 0 takes all
draws: int = 2  # number of noise fields per slice
batch_size: int = 8  # slices whose maps are computed at once
seed: int = 3  # of the sample of slices, the noise and the ties

# %% [markdown]
# ## The readings
#
# The first is the default, which is that of 06_mask_voxels. Then one choice is changed at a time. Last come the
# *corners*: all combinations in which each choice is the first or the last of its list, since two choices may matter
# together where neither matters alone.

# %%
choices = {"fill": fills.split(), "score": scores.split(), "within": voxels.split(),
           "fraction": [float(share) for share in shares.split()]}  # fmt: skip
design = design_readings(choices, corners=corners, draws=draws, seed=seed)
default = next(iter(design))
differences = {name: what_differs(reading, design[default]) for name, reading in design.items()}
pd.DataFrame({name: reading.facts() for name, reading in design.items()}).T

# %% [markdown]
# ## Masking
#
# Every network is masked on its own sample of correctly classified test slices, and on the same slices by every
# reading. Saliency is also masked by its positive and by its negative values alone (C62). By the default reading, SAM
# is masked by its variants as well.
#
# Each reading of a network has a folder and is written batch by batch. What is there is not done again.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
readers = {name: ReadNetwork(resolve(networks) / name, slices, per_phase=per_phase, seed=seed)
           for name in names.split()}  # fmt: skip
methods = {name: (*METHODS, *SIGNS, *(SAM_VARIANTS if variants and name == default else ())) for name in design}
work = [(network, name) for network in readers for name in design]
folders = {(network, name): readers[network].mask(resolve(readings) / network / name, design[name], methods[name],
                                                  batch_size=batch_size)
           for network, name in tqdm(work, unit="reading")}  # fmt: skip

# %% [markdown]
# ## Judging
#
# A claim is made of *parts*, each a comparison of two masks, as in 17_compare_with_paper. Every network gives one
# number per part: the mean over the slices of a patient, then over patients, then over the phases, in points of
# relative probability. From these numbers comes a 95 % t interval, the usual interval for the mean of a few values. A
# part is *supported* if the interval lies on the paper's side, beyond 1 point for a difference and within 5 points for
# no difference. It is *contradicted* if the interval lies on the other side, and *inconclusive* otherwise. A claim gets
# the outcome of its weakest part. With a single network there is no interval, and only the numbers stand here.
#
# Two claims have parts of their own. **C41** compares SAM with SAM without one of its two corrections, at layers 2b, 3b
# and 4b. The corrections are the gradient of each cell in place of the mean gradient, and the inversion of activations
# where the gradient is negative. **C62** compares positive saliency alone, and negative saliency alone, with random
# voxels of the body.

# %%
means = {name: {network: reading_means(folders[network, name]) for network in readers} for name in design}
measured = set.intersection(*(set(table["method"]) for table in means[default].values()))
replaced = {variant: {network: with_variant(table, variant) for network, table in means[default].items()}
            for variant in SAM_VARIANTS if variant in measured}  # fmt: skip
contrasts = reading_contrasts(means, replaced)
parts = judge_readings(contrasts)
claims = weakest_parts(parts)
print(f"{len(readers)} networks, {len(design)} readings, {len(replaced)} maps in the place of SAM")

# %% [markdown]
# ## Every claim by every reading
#
# In the figure, a row is a claim and a column a reading, named by what differs from the default. The columns at the
# right have another map in the place of SAM. **Colour and sign** are the outcome over networks: **+** supported, **?**
# inconclusive, **−** contradicted. The fraction below says how many parts of the claim are supported. A single network
# has no outcome: there the number is the difference of the weakest part, in points of relative probability. It is to be
# below 0 where the paper claims a difference, and near 0 where it claims none (C51, C58).

# %%
figure = draw_claims_by_reading(claims, differences)
masked = pd.concat([reader.chosen for reader in readers.values()])
display(figure, caption("Claims by reading", masked, f"Networks: {', '.join(readers)}."))

# %% [markdown]
# How often does another reading give another outcome? Only readings are counted, not the maps in the place of SAM.

# %%
named = {name: reading_label(differs) for name, differs in differences.items()}
of_readings = claims[claims["reading"].isin(named)]
if (claims["outcome"] != "").any():
    display(changed_outcomes(of_readings, default))
else:
    print("One network gives no outcome.")

# %% [markdown]
# The table gives each part by the default reading, in points, with its interval, and the lowest and highest mean over
# all readings.

# %%
own = parts[parts["reading"] == default].set_index(["claim", "part"])[["mean", "low", "high", "outcome"]]
ranges = parts[parts["reading"].isin(named)].groupby(["claim", "part"])["mean"].agg(["min", "max"])
display(own.join(ranges.add_prefix("readings_")).round(1))

# %% [markdown]
# ## SAM without its ingredients (C41)
#
# The first table gives the relative probability (per cent) after masking the highest tenth, as the mean over phases and
# networks. A lower number means that the map marks more of what the network needs, as far as noise can tell. Rows
# without an ingredient have the blur, the inversion or the gradient of each cell left out, or invert against the
# maximum of the layer. HiResCAM and LayerCAM are later maps that also use the gradient of each cell. At layer 6 the
# gradient of the logit is the same everywhere, so that blur and mean change nothing there. The second table gives the
# parts of C41 and C62, in points.

# %%
tops = pd.concat(means[default].values(), keys=means[default], names=["network"]).query("region == 'top'")
by_phase = tops.groupby(["network", "method", "layer", "phase"], observed=True)["relative_probability"].mean()
compared = ["sam", *SAM_VARIANTS, "grad_cam"]
shown = by_phase.reset_index().query("layer in @LAYERS and method in @compared")
ingredients = shown.pivot_table(index="method", columns="layer", values="relative_probability", sort=False)
own = parts[parts["claim"].isin(["C41", "C62"]) & (parts["reading"] == default)].set_index(["claim", "part"])
display(ingredients[[*LAYERS]].rename(index=VARIANT_TITLES).round(1), own[["mean", "low", "high"]].round(1))

# %% [markdown]
# ## Where a fill sends the images
#
# Random voxels of the body show what a fill does by itself, since no map has chosen them. The figure shows, for each
# fill, which phases a network names when as many voxels as the maps mark are overwritten at random places of the body.
# All slices were classified correctly before, and the phases count alike: before masking each has a fifth. Where one
# colour grows, the fill looks like that phase to this network. Masking then hardly lowers the probability of this
# phase, whatever a map marks, and lowers that of the others.

# %%
alone = {name: reading.fill for name, reading in design.items() if set(differences[name]) <= {"fill"}}
equal = pd.DataFrame({"predicted": PHASES, "share": 1 / len(PHASES), "fill": "none"})
shared = []
for network in readers:
    shared.append(equal.assign(network=network))
    for name, fill in alone.items():
        after = predicted_after(read_masking(folders[network, name])).query("method == 'random_body'")
        share = after.groupby("predicted", as_index=False)["share"].mean()
        shared.append(share.assign(network=network, fill=fill))
shared = pd.concat(shared, ignore_index=True)
figure_of_fills = draw_predicted_shares(shared)
display(figure_of_fills, caption("Where a fill sends the images", masked))

# %% [markdown]
# ## Save

# %%
by_network = contrasts.groupby(["reading", "claim", "part", "kind", "network"], sort=False)["value"].mean()
facts = pd.DataFrame({name: reading.facts() for name, reading in design.items()}).T.rename_axis("reading").reset_index()
written = {"sensitivity": parts.merge(facts[["reading", "fill", "score", "within", "fraction"]], how="left"),
           "sensitivity_claims": claims, "sensitivity_networks": by_network.reset_index(),
           "sensitivity_fills": shared}  # fmt: skip
for name, table in written.items():
    with atomic_path(resolve(tables) / f"{name}.csv") as file:
        table.to_csv(file, index=False, float_format="%.6g")
inputs = tuple(reader.model_file for reader in readers.values())
parameters = {"networks": names, "readings": list(design), "per_phase": per_phase, "draws": draws}
for name, drawn in {"sensitivity": figure, "sensitivity_fills": figure_of_fills}.items():
    files = save_figure(drawn, resolve(figures) / name)
    write_sidecar(files[0], notebook="14_sensitivity", parameters=parameters, seed=seed, inputs=inputs)

# %% [markdown]
# ## What we saw
#
# A claim that keeps its sign along its whole row does not depend on how one reads the paper. A claim that changes with
# the fill says more about the fill than about the maps: masking alone cannot separate what a network needs from what it
# has never seen. The sentence below counts both.

# %%
print(f"{claims['claim'].nunique()} claims, {len(design)} readings, {len(readers)} networks. ", end="")
wide = of_readings.pivot_table(index="claim", columns="reading", values="outcome", aggfunc="first")
if (claims["outcome"] == "").all():
    print("The sign of the weakest part is the same by every reading in: ", end="")
    below = (of_readings["mean"] < 0).groupby(of_readings["claim"]).agg(["mean", "size"])
    print(", ".join(below.index[below["mean"].isin([0, 1]) & (below["size"] > 1)]) or "none")
else:
    steady = wide.eq(wide[default], axis=0).all(axis=1)
    turns = wide.eq(OUTCOMES[0]).any(axis=1) & wide.eq(OUTCOMES[-1]).any(axis=1)
    print(f"The outcome is the same by every reading in: {', '.join(wide.index[steady]) or 'none'}. "
          f"Supported by one and contradicted by another: {', '.join(wide.index[turns]) or 'none'}.")  # fmt: skip

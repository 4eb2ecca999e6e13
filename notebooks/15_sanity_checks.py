# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Sanity checks
#
# Does a map show what the network has *learned*? Then it has to change when what was learned is destroyed. Adebayo et
# al. (*Sanity Checks for Saliency Maps*, 2018) replaced the weights of a network by random ones, layer by layer from
# the output to the input (a *cascade*), and found maps that hardly changed. This goes beyond the paper, and to our
# knowledge nobody has done it for SAM.
#
# | | |
# |---|---|
# | **reads** | `cohort/`, and the network and its predictions of 02_train_network |
# | **writes** | tables `sanity_checks.csv`, `sanity_verdicts.csv`; figure `sanity_checks` |
# | **takes** | one minute: all maps of each slice for every stage of the cascade and every seed |
#
# Three questions are asked, always of maps that explain the labelled phase:
#
# 1. **Random weights.** How alike are the maps before and after the weights, from the output down to some layer, are
#    random?
# 2. **Random labels.** How alike are they to the maps of a network that was trained on labels in a random order, if the
#    run has one?
# 3. **Other seeds.** How alike are the maps of networks that differ in nothing but their random seed? A map that
#    changes from one such network to the next shows chance as well as anatomy.

# %% [markdown]
# ![How alike maps stay while the weights become random](../figures/sanity_checks.png)
#
# **Sanity checks, as published by this project**, on 12 slices per phase. **A**, agreement of each map with itself
# while the weights become random, from the output to the input: 1 is the same map. Points are filled while the map's
# own layer is as trained, and open once it is random; maps at the input have no such layer. Bands are 95 % intervals
# that resample patients. The dashed line is the threshold of the rule below. **B**, rank correlation of each map with
# itself after a part of the network, or all of it, has become random, and with maps that know no network; bold where
# the 95 % interval lies above the threshold.

# %% [markdown]
# ## The measures
#
# All three compare the *order* of the cells of a map at its own resolution, and the body only: in the air every map is
# nearly the same.
#
# - **Rank correlation** (Spearman): 1 for the same order, 0 for orders that have nothing to do with each other.
# - **Structural similarity** (SSIM, Wang et al. 2004) of the ranks: whether the maps look alike from place to place.
# - **Overlap** of the highest tenth: 1 if both mark the same cells, 0.1 by chance.
#
# Maps are ranked by their absolute value, as in 06_mask_voxels. Saliency, guided backprop and CAM have a sign and are
# ranked by their signed value as well. A Grad-CAM map that is zero everywhere has no order. Its correlation with any
# map counts as 0, and the share of such *blank* maps is in the tables.
#
# ## The rule
#
# The unit is the patient: the mean over random seeds and slices of a patient, then over patients, then over the phases,
# with a 95 % interval that resamples patients. A map **passes** if this interval of its rank correlation with the
# trained network's map lies below 0.5, **fails** if it lies above 0.5, and is **undecided** otherwise. It is judged at
# three stages (the first was added to the rule after a trial on a small sample):
#
# - **output**: only the dense layer is random, so that the network's answer means nothing. Failing here means that the
#   map does not depend on the answer that it is said to explain.
# - **intact**: the map's layer and all before it are as trained; only the way from there to the score is random. Such a
#   map still knows what the network sees, and no longer what it is for. Failing here means that the map shows
#   activations, whatever the network decides with them.
# - **all**: every weight is random. Failing here means that the map shows the image, and not the network.
#
# Three maps that know no network stand beside them: a disc about the body's centroid, the edges of the image, and its
# brightness. The nearer a map comes to one of these, the less it needs a network.

# %%
from IPython.display import Markdown, display
import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation
from lib.figures.captions import caption
from lib.figures.sanity import draw_sanity
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.maps.agreement import equal_but_for_the_seed, maps_of, measure_agreement, summarise_agreement, without_content
from lib.masking.experiment import METHODS
from lib.masking.controls import image_maps
from lib.paper import LAYERS, PHASES
from lib.provenance import write_sidecar
from lib.maps.randomisation import ALIKE, ALL, INTACT, OUTPUT, Cascade, judge_maps, judged_stages, read_stages
from lib.slice_choice import slices_to_mask

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # made by 02_train_network
predictions: str = "runs/quick/networks/top/predictions.parquet"  # of 02_train_network
networks: str = "runs/quick/networks"  # folder of networks; those that differ from `network` by their seed are compared
random_label_network: str = ""  # a network of 02_train_network with random_labels; "" if the run has none
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figure goes
per_phase: int = 2  # number of correctly classified test slices per phase, spread over patients; 0 takes all
stages: str = "phase conv6 conv5a conv4a conv3a conv2a conv1a"  # the cascade: random from the output to these layers
repeats: int = 1  # how many times random weights are drawn
within: str = "body"  # which cells of a map are compared: those of the "body", or of the whole "image"
fraction: float = 0.1  # share of the cells that counts as highest
score: str = "logit"  # what the maps differentiate: "logit", or the softmax "probability"
batch_size: int = 5  # slices whose maps are computed at once
resamples: int = 2000  # number of times that patients are drawn again for the intervals (bootstrap)
seed: int = 3  # of the sample of slices, the random weights and the bootstrap

# %% [markdown]
# ## The slices and the cascade
#
# The slices are drawn among the correctly classified test slices. The printed line lists the steps of the cascade.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
model_file = require(resolve(network) / "model.keras", "02_train_network")
predictions = require(predictions, "02_train_network")
chosen = slices_to_mask(pd.read_parquet(predictions), per_phase, seed)
model = keras.models.load_model(model_file, compile=False)
standardisation = Standardisation.load(resolve(network) / "standardisation.json")
cascade = Cascade(model, LAYERS, METHODS, score=score)
steps = read_stages(model, stages)
print("random from the output to", ", ".join(steps))
chosen.groupby("phase").agg(slices=("slice", "size"), patients=("patient", "nunique")).reindex(PHASES)


# %%
def measured(sources, reference=None):
    batches = slices.batches(chosen, standardisation, batch_size=batch_size)
    parts = measure_agreement(batches, sources, reference=reference, within=within, fraction=fraction)
    return pd.concat(tqdm(parts, total=-(-len(chosen) // batch_size), unit="batch"), ignore_index=True)


def attributor_of(folder):
    other = keras.models.load_model(resolve(folder) / "model.keras", compile=False)
    return maps_of(Attributor(other, LAYERS, score=score), METHODS)


# %% [markdown]
# ## Random weights, and maps that know no network
#
# The random weights come from the distributions that the network was initialised with. The last stage is an untrained
# network. The random-label network, if there is one, is compared in the same way.

# %%
trained = ("trained", 0)
sources = {trained: attributor_of(network)} | without_content(image_maps)
sources |= cascade.sources(steps, range(seed, seed + repeats))
if random_label_network:
    sources["random labels", 0] = attributor_of(random_label_network)
else:
    print("No network trained on random labels was given, so this check is left out.")
rng = np.random.default_rng(seed)
summary = summarise_agreement(measured(sources, trained), ["second"], rng=rng, resamples=resamples)

# %% [markdown]
# The table gives the rank correlation with the map of the trained network, by how far the weights are random (mean of
# the phases, absolute values ranked). Its last columns are the maps that know no network:

# %%
overall = summary[(summary.phase == "mean") & (summary.ranking == "absolute")]
correlation = overall[overall.measure == "rank_correlation"]
maps = pd.MultiIndex.from_frame(correlation[["method", "layer"]].drop_duplicates())
wide = correlation.pivot_table(index=["method", "layer"], columns="second", values="mean").loc[maps]
wide[[*steps, *(name for name in wide if name not in steps)]].round(2)

# %% [markdown]
# The same for maps with a sign, ranked by the signed value. Where this is far below the table above, the map marks the
# same places and turns its sign; a negative number is a map that is turned upside down.

# %%
signed = summary[(summary.ranking == "signed") & (summary.phase == "mean") & (summary.measure == "rank_correlation")]
signed = signed.pivot_table(index=["method", "layer"], columns="second", values="mean")
signed[[*steps, *(name for name in signed if name not in steps)]].round(2)

# %% [markdown]
# ## Networks of other seeds
#
# Only networks with the same recipe and the same cohort are compared, every pair of them.

# %%
seeds = equal_but_for_the_seed(network, networks)
others = summary[:0]
if len(seeds) < 2:
    print("The run has one network of this recipe, so that networks of other seeds cannot be compared.")
else:
    pairs = measured({(folder.name, 0): attributor_of(folder) for folder in seeds})
    others = summarise_agreement(pairs.assign(second="other seeds"), ["second"], rng=rng, resamples=resamples)
    by_pair = pairs[pairs.ranking == "absolute"].groupby(["method", "layer", "first", "second"]).rank_correlation.mean()
    display(by_pair.groupby(["method", "layer"]).agg(["count", "min", "mean", "max"]).loc[maps].round(2))

# %% [markdown]
# ## The verdicts
#
# `mean`, `low` and `high` are the rank correlation with its interval, and `blank` the share of maps that are zero
# everywhere. The second table has the verdicts alone.

# %%
verdicts = judge_maps(model, steps, summary)
display(verdicts.round(2))
verdict_of = verdicts.pivot_table(index=["method", "layer"], columns="judged", values="verdict", aggfunc="first")
verdict_of.loc[maps].fillna("")

# %% [markdown]
# ## The figure
#
# Lines follow each map through the cascade, and the table below them compares it with other maps.

# %%
lines = overall[overall.second.isin(steps)].rename(columns={"second": "stage"})
last_intact = {layer: judged_stages(model, steps, layer).get(INTACT) for layer in LAYERS} | {"input": steps[-1]}
place = {stage: number for number, stage in enumerate(steps)} | {None: -1}
lines["intact"] = [place[row.stage] <= place[last_intact[row.layer]] for row in lines.itertuples()]
beside = pd.concat([correlation[~correlation.second.isin(steps)], others])
beside = beside[(beside.phase == "mean") & (beside.ranking == "absolute") & (beside.measure == "rank_correlation")]
compared = pd.concat([verdicts.rename(columns={"judged": "against"}), beside.rename(columns={"second": "against"})])
figure = draw_sanity(lines, compared, stages=steps, threshold=ALIKE)
words = (
    "**A**, agreement of each map with itself while the weights become random, from the output to the input: 1 is the "
    "same map. Points are filled while the map's own layer is as trained and open after it is random; maps at the "
    "input have no such layer. Bands are 95 % intervals that resample patients. Dashed: the threshold of the rule. "
    "**B**, rank correlation with other maps; bold where the 95 % interval lies above the threshold."
)
display(figure, caption("Sanity checks", chosen, words))

# %% [markdown]
# ## Save

# %%
summary = pd.concat([summary, others], ignore_index=True)
for name, table in {"sanity_checks": summary, "sanity_verdicts": verdicts}.items():
    with atomic_path(resolve(tables) / f"{name}.csv") as file:
        table.to_csv(file, index=False)
reading = {"stages": stages, "repeats": repeats, "within": within, "fraction": fraction, "score": score,
           "per_phase": per_phase, "resamples": resamples, "networks": len(seeds)}  # fmt: skip
files = save_figure(figure, resolve(figures) / "sanity_checks")
sidecar = write_sidecar(files[0], notebook="15_sanity_checks", parameters=reading, seed=seed,
                        inputs=(model_file, predictions))  # fmt: skip

# %% [markdown]
# ## What we saw
#
# The sentences below are written from the verdicts of this run. The comparison with maps that know no network comes
# last, since a map can change with the weights and still be little more than edges or brightness.


# %%
def named(judged, verdict):
    found = verdicts[(verdicts.judged == judged) & (verdicts.verdict == verdict)]
    return ", ".join(f"{row.method} at {row.layer}" for row in found.itertuples()) or "none"


free = correlation[correlation.second.isin(["disc", "edges", "brightness"])]
nearest = free.loc[free["mean"].idxmax()]
Markdown(
    f"With the dense layer random, these maps fail: {named(OUTPUT, 'fails')}; undecided are: "
    f"{named(OUTPUT, 'undecided')}. With only the way behind their layer random, these fail: "
    f"{named(INTACT, 'fails')}; undecided are: {named(INTACT, 'undecided')}. With every weight random, these fail: "
    f"{named(ALL, 'fails')}; undecided are: {named(ALL, 'undecided')}. Nearest to a map that knows no network comes "
    f"{nearest.method} at {nearest.layer}: its rank correlation with the {nearest.second} is {nearest['mean']:.2f}."
)

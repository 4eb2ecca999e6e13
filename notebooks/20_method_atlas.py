# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20 · An atlas of interpretation methods
#
# **Do the many methods that explain a network agree with each other, and which of them agrees with what the network
# really uses?** Huff, Weisman and Jeraj reviewed them for medical imaging (Phys Med Biol 2021;66:04TR01,
# [doi:10.1088/1361-6560/abcd17](https://doi.org/10.1088/1361-6560/abcd17)). Their abstract is what is known to us. It
# divides the methods in two: those that show a model's *structure and function*, and those that explain its *output*.
# Here every family runs on one network, the paper's, and on the same slices. The sentences below are our reading.
#
# | | what is tested | supported if (95 % intervals resample patients) |
# |---|---|---|
# | A1 | dimension reduction shows what was learned | neighbours agree more than in pixels; one axis is time |
# | A2 | an autoencoder's latents carry the classes | a linear probe beats chance, and beats principal components |
# | A3 | methods differ | the median correlation of two methods is below .5 |
# | A4 | a map depends on the class that is explained | two classes on one slice are less alike than two slices |
# | A5 | a map depends on the weights | random weights give a less similar map than another slice |
# | A6 | what is marked is needed | the score falls faster than under another patient's map |
# | A7 | kidneys and vessels are marked | they are denser in the map's highest tenth than in the body |
# | A8 | another network gives the same map | trained networks are more alike than a trained and an untrained one |
# | A9 | ours: the map weighs organs as they count | it beats a uniform map on the interventions |
#
# **The ground truth.** In the phantom the contrast medium of each organ is known. The same slice can be scanned again,
# with the same patient, breath, scanner and noise, while one organ looks as it does in another phase. By how much the
# class score changes then is what the network owes to that organ: no map is needed to know it, and each map can be held
# against it. No clinical data set allows that.
#
# | | |
# |---|---|
# | **reads** | `cohort/`, `dicom/truth.csv` of the phantom, the network of 02_train_network |
# | **writes** | tables `atlas.csv`, `atlas_{claims,verdicts,effects,agreement,interventions}.csv`; figures `atlas_*` |
# | **takes** | quick 5 minutes, study 15 on one core, most of it for occlusion, LIME, KernelSHAP and curves |
#
# ![Nineteen methods, sorted by their agreement with interventions](../figures/atlas_ranking.png)
#
# **As published by this project: nineteen methods, sorted by their agreement with the interventions.** **A**,
# correlation over organs of the map's sum with what the score owes to the organ; dashed lines are maps that see no
# network. **B**, area under the deletion curve (low is good). **C**, enrichment of kidneys and vessels. **D**,
# similarity to the map of a network with random weights (low is good), on one slice of each phase only, so that its
# intervals are too narrow. **E**, time. Lines are 95 % intervals that resample patients. Blue: gradients; purple:
# relevance; green: activations; orange: perturbations. Thin lines at 0 (A) and 1 (C): no agreement, and chance.

# %%
from functools import partial
from IPython.display import display
import keras
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE, trustworthiness
from tqdm import tqdm

from lib.atlas import features as views
from lib.atlas import interventions, measures
from lib.atlas.claims import interval, map_claims, structure_claims
from lib.claims.texts import verdicts, weakest
from lib.cohort import Cohort, Standardisation
from lib.figures import atlas as draw
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.maps.localisation import enrichment
from lib.atlas.methods import METHODS, TOOLKITS, Atlas, Effort
from lib.networks import untrained_twin
from lib.paper import PHASES
from lib.provenance import write_sidecar
from lib.resampling import resample
from lib.maps.saved import half_mass
from lib.slice_choice import eligible_slices, slices_to_mask
from lib.maps.tissue_shares import NAMES, group_codes, with_truth
from lib.titles import PHASE_TITLES

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
dicom_folder: str = "runs/quick/dicom"  # the phantom's DICOM with truth.csv, from which slices are scanned again
network: str = "runs/quick/networks/top"  # made by 02_train_network
more_networks: str = ""  # folders of networks with other seeds, separated by commas, for A8; none: A8 is left out
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
per_phase: int = 2  # test slices of each phase, all classified correctly, whose maps are computed
layer: str = "conv4b"  # of Grad-CAM, Grad-CAM++, HiResCAM, LayerCAM and SAM
baseline: str = "mean"  # what stands for absence: the "mean" of the body, or the "blurred" image
gradients: int = 32  # of integrated gradients and of SmoothGrad per slice
squares: int = 8  # of occlusion along a side of the image, half overlapping
samples: int = 128  # changed images of LIME and of KernelSHAP per slice
curve_steps: int = 5  # of the deletion curves
embedded: int = 300  # most slices in the embeddings
autoencoder_epochs: int = 8  # of the autoencoder, at 64 x 64 pixels
autoencoder_slices: int = 1000  # most training slices that it sees
ascent: int = 32  # steps of activation maximisation
seed: int = 20  # of everything random

# %% [markdown]
# ## Network and slices
#
# The slices are test slices that the network classifies correctly, spread over patients. The maps explain the *logit*
# of the right phase, the network's output before the softmax, and that of the runner-up.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
network = resolve(network)
model = keras.models.load_model(require(network / "model.keras", "02_train_network"), compile=False)
standardisation = Standardisation.load(network / "standardisation.json")
size = standardisation.image_size
predicted = pd.read_parquet(network / "predictions.parquet")
rows = slices_to_mask(with_truth(slices, eligible_slices(predicted)), per_phase, seed)
rows = rows.sort_values("phase", key=lambda names: names.map(PHASES.index), kind="stable", ignore_index=True)
images, bodies = slices.read(rows, standardisation), slices.read_body(rows, size)
codes, patients = slices.read_tissues(rows, size), rows["patient"]
ranking = np.argsort(-rows[list(PHASES)].to_numpy(), axis=1)
print(f"{len(rows)} slices of {patients.nunique()} patients, {size} x {size} pixels")

# %% [markdown]
# # Structure and function
#
# ## What has been learned: features in two dimensions
#
# The *features* of a slice are the 64 averages that enter the last layer. Principal components (PCA) and t-SNE bring
# them, and the raw pixels, down to two numbers. A point's five nearest neighbours, of other patients only, vote for its
# phase. Distances in t-SNE mean nothing beyond the nearest neighbours; *trustworthiness* says how many of these are
# neighbours in the features as well (1: all).

# %%
shown = predicted.sample(frac=1, random_state=seed).groupby("phase").head(max(embedded // 5, 1))
learned = views.features(model, "gap", slices.read(shown, standardisation))
pixels = slices.read(shown, standardisation, image_size=32).reshape(len(shown), -1)
points = {"Pixels, PCA": PCA(2, random_state=seed).fit_transform(pixels),
          "Features, PCA": PCA(2, random_state=seed).fit_transform(learned)}  # fmt: skip
perplexity = min(30, len(shown) // 4)
points["Features, t-SNE"] = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(learned)
labels, who = shown["phase"].to_numpy(), shown["patient"].to_numpy()
votes = {name: views.neighbours_agree(point, labels, who) for name, point in points.items()}
embeddings = pd.DataFrame(dict(zip(("pixels", "features", "tsne"), votes.values(), strict=True)))
embeddings = embeddings.assign(patient=who, order=[PHASES.index(p) for p in labels], pc1=points["Features, PCA"][:, 0])
kept = trustworthiness(learned, points["Features, t-SNE"], n_neighbors=5)
agree = ", ".join(f"{name} {vote.mean():.2f}" for name, vote in votes.items())
print(f"{len(shown)} slices. Neighbours agree: {agree}. Trustworthiness of t-SNE: {kept:.2f}.")

# %%
drawn = {"atlas_embeddings": draw.draw_embeddings(points, labels, (shown["predicted"] != shown["phase"]).to_numpy())}
display(drawn["atlas_embeddings"])

# %% [markdown]
# **Test slices in two dimensions.** Each point is a slice; its colour is the phase of its label. A black ring: the
# network gives another phase. Axes have no unit.
#
# ## A small autoencoder
#
# An *autoencoder* learns to restore images from a few numbers, its *latents*, and is never told the phase. If a linear
# classifier (*probe*) finds the phase in the latents, the images carry it in an easy form. The control has as many
# principal components. Latents are learned on training slices, probes are tested on other patients.

# %%
training = slices.slices[slices.slices["split"] == "train"]
training = training.sample(min(autoencoder_slices, len(training)), random_state=seed)
seen = slices.read(training, standardisation, image_size=64)
restore, encode, losses = views.train_autoencoder(seen, 32, epochs=autoencoder_epochs, seed=seed)
unseen = slices.read(shown, standardisation, image_size=64)
components = PCA(min(32, len(seen) - 1), random_state=seed).fit(seen.reshape(len(seen), -1))
flat, probe = unseen.reshape(len(unseen), -1), LogisticRegression(max_iter=2000)
codes_of = {"latents": np.asarray(encode(unseen)), "pca": components.transform(flat)}
probes = pd.DataFrame(
    {name: views.cross_labelled(probe, code, labels, who) == labels for name, code in codes_of.items()}
)
probes = probes.assign(patient=who)
restored = np.asarray(restore(unseen[:8]))[..., 0]
linear = components.inverse_transform(codes_of["pca"][:8]).reshape(-1, 64, 64)
right = probes[["latents", "pca"]].mean()
print(f"The probe is right on {right['latents']:.0%} of the slices by latents, on {right['pca']:.0%} by components.")
print(f"Mean squared error of the restored images: {losses[0]:.3f} after one epoch, {losses[-1]:.3f} after the last.")
drawn["atlas_autoencoder"] = draw.draw_pictures(
    {"slice": unseen[:8, ..., 0], "autoencoder": restored, "components": linear}
)
display(drawn["atlas_autoencoder"])

# %% [markdown]
# **Eight test slices**, restored from 32 latents and from 32 principal components. Grey values run from 2.5 SD below to
# 2.5 SD above the mean of the body.
#
# ## What excites a unit
#
# *Activation maximisation* climbs from noise to the image, of limited energy, that raises a class score or the centre
# cell of a kernel most. It shows the pattern that a unit waits for, and not what it finds in patients.

# %%
rng = np.random.default_rng(seed)
excite = dict(shape=images.shape[1:], radius=1.0, rng=rng, jitter=2, steps=ascent)
of_classes = views.maximise(views.unit_gradient(model), np.arange(5), smoothness=0.4, **excite)[..., 0]
middle, part = size // 2, size // 8
around, sheets = slice(middle - part, middle + part), {}
for name in ("conv2b", "conv3b", "conv4b"):
    found = views.maximise(views.unit_gradient(model, name), np.arange(5), smoothness=0.1, **excite)[..., 0]
    sheets[f"Layer {name}"] = views.stretched(found[:, around, around])
titles = [PHASE_TITLES[phase] for phase in PHASES]
drawn["atlas_maximisation"] = draw.draw_pictures({"Class score": views.stretched(of_classes)}, titles, limit=1)
drawn["atlas_kernels"] = draw.draw_pictures(sheets, [f"Kernel {n}" for n in range(1, 6)], limit=1)
display(drawn["atlas_maximisation"])
display(drawn["atlas_kernels"])

# %% [markdown]
# **Images that raise the score of each phase most** (first figure), and those that excite the centre cell of five
# kernels of three layers most (second figure; a quarter of the image's side about its centre). Every picture is
# stretched to its own range; grey is 0, the mean of the body.
#
# # Output: maps
#
# ## Nineteen methods
#
# | family | idea | what limits it |
# |---|---|---|
# | gradient | how the score would change with each pixel | guided backprop hardly depends on the class |
# | activation | which cells of a layer support the score | as coarse as the layer |
# | relevance | the score is shared backward among neurons | depends on the rule; biases take a part |
# | perturbation | the score is measured on changed images | hundreds of passes; changed images are unusual |
#
# *Integrated gradients* add up gradients on the way from a *baseline* to the image, *SmoothGrad* averages them over
# noisy copies. *LRP* and *DeepLIFT* hand the score (or its difference from the baseline's) back layer by layer. *LIME*
# and *KernelSHAP* switch superpixels (patches of alike pixels) on and off and fit a linear model; KernelSHAP's weights
# are Shapley values. The baseline here is the mean of the body. Outside the body image and baseline are equal, so that
# methods with a baseline give nothing to the air, by construction.

# %%
effort = Effort(path=gradients, noise=gradients, samples=samples, squares=squares)
atlas = Atlas(model, layer, effort, baseline)
seeds, seconds = seed * 1000 + np.arange(len(rows)), {}
atlas(images[:1], bodies[:1], ranking[:1, :1], seeds[:1])  # compiles, so that the times below are those of the maps
both = atlas(images, bodies, ranking[:, :2], seeds, seconds=seconds)
enlarged = {method: measures.at_image(maps, (size, size)) for method, maps in both.items()}
maps = {method: stack[:, 0] for method, stack in enlarged.items()}
nulls = measures.content_free(images, bodies)
grid = pd.DataFrame({"passes": {m: atlas.passes(m) for m in METHODS}, "seconds": seconds,
                     "cells": {m: "x".join(map(str, stack.shape[2:])) for m, stack in both.items()}})  # fmt: skip
described = pd.DataFrame(METHODS, index=["title", "family", "toolkits"]).T
with pd.option_context("display.max_colwidth", None):
    display(described[["title", "family"]].join(grid).set_index("title").round(3))
    display(described.set_index("title")[["toolkits"]])
print("; ".join(f"{name} runs on {engine}" for name, engine in TOOLKITS.items()) + ".")

# %% [markdown]
# *Passes* are runs through the network for one class, seconds are per slice, and cells are the map's own resolution.
# The second table says which libraries have the method: looked up in the documentation or the source of each. Quantus,
# which is not in it, has no methods of its own and measures the maps of others.

# %%
first = rows.drop_duplicates("phase").index
hu = dict(zip(rows.loc[first, "phase"], slices.read_hu(rows.loc[first], size), strict=True))
families = {method.title: method.family for method in METHODS.values()}
by_title = {METHODS[m].title: dict(zip(hu, stack[first], strict=True)) for m, stack in maps.items()}
drawn["atlas_maps"] = draw.draw_atlas(hu, by_title, families)
display(drawn["atlas_maps"])

# %% [markdown]
# **All methods on one slice of each phase.** Maps of gradients (blue) and relevance (purple) are shown by the rank of
# their absolute value, those of activations (green) and perturbations (orange) within their own range; dark blue is
# low, yellow is high.
#
# ## Do methods agree?
#
# Maps are compared by size, as mean absolute values on 32 x 32 cells inside the body.

# %%
cells = {method: [measures.on_cells(*one) for one in zip(stack, bodies, strict=True)] for method, stack in maps.items()}
pairs = measures.agreement(cells)
pairs["patient"] = patients.to_numpy()[pairs["image"]]
mean = pairs.pivot_table(index="one", columns="other", values="correlation").reindex(index=METHODS, columns=METHODS)
matrix = mean.fillna(mean.T)
matrix = matrix.rename(index=lambda m: METHODS[m].title, columns=lambda m: METHODS[m].title)
drawn["atlas_agreement"] = draw.draw_agreement(matrix)
display(drawn["atlas_agreement"])

# %% [markdown]
# **How alike the maps of two methods are**: Spearman's correlation, mean over slices. At 1 they rank the cells of the
# body in the same order, at 0 they have nothing in common.
#
# ## Class, weights, faithfulness, place
#
# For each map: how it correlates with that of the runner-up (A4), how similar it is to that of the same network with
# random weights (A5: structural similarity at 64 x 64 pixels), the area under the *deletion curve* (A6: the probability
# of the right phase while the body's pixels are replaced by the baseline, hottest first; a low area means that the map
# marks what counts), and the enrichment of kidneys and vessels (A7). Each has its control.

# %%
titled = {name: method.title for name, method in METHODS.items()}
others, groups = measures.another_patient(patients.tolist()), group_codes(slices.tissues)[codes]
wanted, quality = np.isin(groups, range(NAMES.index("liver"))), []
lone = [n for n in range(len(rows)) if rows["phase"].eq(rows.loc[n, "phase"]).idxmax() == n]  # one slice a phase
random_maps = Atlas(untrained_twin(model, seed), layer, effort, baseline)(
    images[lone], bodies[lone], ranking[lone, :1], seeds[lone])  # fmt: skip
for method, stack in enlarged.items():
    blank, small = (np.stack([resample(np.abs(heat), 64) for heat in held])
                    for held in (measures.at_image(random_maps[method][:, 0], (size, size)), stack[:, 0]))  # fmt: skip
    alike = np.random.default_rng(seed).permuted(np.tile(np.arange(len(rows)), (50, 1)), axis=1)[:, :2]
    of_pairs = np.mean([measures.structural_similarity(small[a], small[b]) for a, b in alike])
    for n, other in enumerate(others):
        row = {"method": method, "image": n, "patient": patients[n], "half_mass": half_mass(stack[n, 0])}
        row["runner_up"] = measures.rank_correlation(cells[method][n], measures.on_cells(stack[n, 1], bodies[n]))
        both_in = bodies[n] & bodies[other]
        row["across"] = measures.rank_correlation(*(measures.on_cells(stack[k, 0], both_in) for k in (n, other)))
        row["enrichment"] = enrichment(np.abs(stack[n, 0]), wanted[n], within=bodies[n])
        if n in lone:
            row["random"], row["pairs"] = measures.structural_similarity(small[n], blank[lone.index(n)]), of_pairs
        quality.append(row)
quality = pd.DataFrame(quality)


# %%
def answers(x, wanted):
    return keras.ops.convert_to_numpy(keras.ops.softmax(atlas.walk.scores(x)))[:, wanted]


absent, areas = atlas.baseline(images), []
for method, n in tqdm(quality.set_index(["method", "image"]).index, desc="deletion"):
    answer = partial(answers, wanted=ranking[n, 0])
    own, control = (measures.faithfulness(answer, images[n], absent[n], heat, bodies[n], curve_steps)
                    for heat in (maps[method][n], maps[method][others[n]]))  # fmt: skip
    areas.append((*own, *control))
quality[["deletion", "insertion", "deletion_control", "insertion_control"]] = areas
means = quality.groupby("method", sort=False)[[*quality.columns[3:]]].mean().rename(index=titled)
display(means.rename(columns=lambda name: name.replace("_", " ")).round(2))

# %% [markdown]
# Means over slices. *half mass*: share of the image that holds half of the map. *runner up* and *across*: correlation
# with the map of the runner-up, and with that of another patient. *random* and *pairs*: similarity to the map of random
# weights, and that of two slices' maps. *control*: the curve that follows another patient's map.

# %% [markdown]
# ## Other networks
#
# With networks that differ by their seed (`more_networks`), each map is held against theirs (A8).

# %%
for number, folder in enumerate(filter(None, map(str.strip, more_networks.split(",")))):
    other = keras.models.load_model(require(resolve(folder) / "model.keras", "02_train_network"), compile=False)
    cheap = [m for m, method in METHODS.items() if method.family != "perturbation"]
    theirs = Atlas(other, layer, effort, baseline)(images, bodies, ranking[:, :1], seeds, cheap)
    untrained = Atlas(untrained_twin(other, seed), layer, effort, baseline)(
        images, bodies, ranking[:, :1], seeds, cheap
    )
    for name, found in (("repeat", theirs), ("repeat_random", untrained)):
        found = {m: measures.at_image(stack[:, 0], (size, size)) for m, stack in found.items()}
        values = {(m, n): measures.rank_correlation(cells[m][n], measures.on_cells(stack[n], bodies[n]))
                  for m, stack in found.items() for n in range(len(rows))}  # fmt: skip
        column = pd.Series(values).reindex(pd.MultiIndex.from_frame(quality[["method", "image"]])).to_numpy()
        quality[name] = column if number == 0 else (quality[name] * number + column) / (number + 1)
print("A8 was", "measured." if more_networks else "left out: no other networks were given.")

# %% [markdown]
# # The ground truth: interventions
#
# Each slice is scanned again. As a check, the scan without a change has to be the slice of the cohort to the last HU.
# Then one organ at a time gets the attenuation (and the texture) that it has in this patient at each of the four other
# phases. The *fall* is the score of the slice less that of the changed slice; an organ's weight is the mean size of its
# falls.

# %%
truth, effects = interventions.phantom_truth(dicom_folder), []
for n, row in tqdm(rows.iterrows(), total=len(rows), desc="interventions"):
    scan = interventions.Rerendering(truth.loc[row["series"]], int(row["slice"]))
    body = slices.read_body(rows.loc[[n]])[0]
    np.testing.assert_array_equal(scan.image()[0][body], slices.read_hu(rows.loc[[n]])[0][body])
    table = interventions.organ_effects(
        scan,
        lambda hu, body=body: interventions.network_input(hu, body, standardisation),
        atlas.walk.scores,
        int(ranking[n, 0]),
    )
    effects.append(table.assign(image=n, phase=row["phase"], patient=row["patient"]))
effects = pd.concat(effects, ignore_index=True)
weights = interventions.causal_weights(effects).merge(rows["phase"], left_on="image", right_index=True)
by_phase = weights.pivot_table(index="organ", columns="phase", values="weight").reindex(
    index=interventions.ORGANS, columns=PHASES
)
drawn["atlas_effects"] = draw.draw_effects(by_phase.dropna(how="all"))
display(drawn["atlas_effects"])

# %% [markdown]
# **What the score of the right phase owes to each organ**: the mean size of its falls, in logits, over the slices of a
# phase and the four phases that the organ is moved to. An empty field: no slice shows the organ.

# %%
at_once = effects["organ"] == interventions.EVERYTHING
sums = [part.groupby(["image", "moved_to"])["fall"].sum() for part in (effects[at_once], effects[~at_once])]
print(f"Sum of the single organs' falls against the fall when all move at once: r = {np.corrcoef(*sums)[0, 1]:.2f}.")

# %% [markdown]
# If this correlation is near 1, each organ counts by itself; if it is lower, the network reads organs together.
#
# ## Which map weighs organs as they count?
#
# On each slice, the sum of a map's absolute values over each organ is correlated with the organs' weights over organs
# (`rank`). Large organs hold more of any map: so a uniform map, edges and brightness are measured beside. `signed`
# correlates the signed sum with the signed fall, and `first` is how often the organ with the largest sum is the one
# that counts most.

# %%
against = measures.against_interventions(maps | nulls, codes, effects)
of_uniform = against[against["method"] == "uniform"].set_index("image")["rank"].rename("rank_uniform")
quality = quality.merge(against, on=["method", "image"], how="left").join(of_uniform, on="image")
ranked = against.groupby("method", sort=False)[["rank", "signed", "first"]].mean().sort_values("rank", ascending=False)
display(ranked.rename(index=titled).round(2))

# %% [markdown]
# # All in one table

# %%
measured = ["rank", "deletion", "enrichment", "runner_up", "random", "half_mass", "signed", "first", "insertion"]
table = described.join(grid)
for name in measured:
    found = {m: interval(part[name], part["patient"], "table", m, name) for m, part in quality.groupby("method")}
    found = pd.DataFrame(found, index=[name, f"{name}_low", f"{name}_high"]).T
    table = table.join(found)
table = table.assign(seconds_low=np.nan, seconds_high=np.nan).sort_values("rank", ascending=False)
display(table[["title", "seconds", *measured]].set_index("title").round(2))

# %%
columns = {"rank": ("Agreement with\ninterventions", 0.0), "deletion": ("Area under\ndeletion", None),
           "enrichment": ("Enrichment of\nkidneys, vessels", 1.0), "random": ("Similarity to\nrandom weights", None),
           "seconds": ("Seconds\nper slice", None)}  # fmt: skip
without = {"rank": ranked.loc[list(nulls), "rank"].to_dict()}
drawn["atlas_ranking"] = draw.draw_ranking(table.set_index("title"), columns, without)
display(drawn["atlas_ranking"])

# %% [markdown]
# **Nineteen methods, sorted by their agreement with the interventions.** **A**, Spearman's correlation over organs of
# the map's sum with the organ's weight, mean over slices; dashed lines are maps that see no network. **B**, area under
# the deletion curve (low is good). **C**, enrichment of kidneys and vessels. **D**, similarity to the map of a network
# with random weights (low is good). **E**, time. Lines are 95 % intervals that resample patients.
#
# ## Verdicts
#
# A claim has one part, or a part for each method, and gets the verdict of its weakest part. `supported` and
# `contradicted` count the parts.

# %%
claims = pd.concat([structure_claims(embeddings, probes), map_claims(quality, pairs)], ignore_index=True)
judged = verdicts(claims)
with pd.option_context("display.max_colwidth", None):
    display(judged.drop(columns=["text", "supported_if"]).set_index("id"))

# %%
for name, frame in {"atlas": table.rename_axis("method").reset_index(), "atlas_claims": claims,
                    "atlas_verdicts": judged, "atlas_effects": effects.drop(columns="patient"),
                    "atlas_interventions": ranked.reset_index(),
                    "atlas_agreement": matrix.reset_index(names="method")}.items():  # fmt: skip
    with atomic_path(resolve(tables) / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
for name, figure in drawn.items():
    save_figure(figure, resolve(figures) / f"{name}.png")
inputs = (network / "model.keras",)
written = write_sidecar(resolve(tables) / "atlas.csv", notebook="20_method_atlas", inputs=inputs, parameters={
    "per_phase": per_phase, "layer": layer, "baseline": baseline, "gradients": gradients, "squares": squares,
    "samples": samples, "curve_steps": curve_steps, "ascent": ascent,
    "embedded": embedded, "autoencoder_epochs": autoencoder_epochs, "autoencoder_slices": autoencoder_slices,
    "more_networks": more_networks, "seed": seed})  # fmt: skip

# %% [markdown]
# ## A checklist
#
# The abstract announces recommendations and does not list them. These follow from its two parts and from what is
# measured above, in our words:
#
# - Say which network, layer, class score, baseline and number of samples a map comes from.
# - Show the map of the runner-up beside that of the predicted class (A4), and that of random weights (A5).
# - Show more than one family: where methods disagree (A3), no single map is the explanation.
# - Test the map by changing the image (A6), against a map of the same shape from another patient.
# - Hold places against what a map without a network marks: large organs and edges need no network (A7, A9).
# - Repeat with another seed of the network (A8).
# - Where a simulation of the image exists, intervene and measure (A9).
#
# ## What we saw
#
# The sentences below are made from the tables of this run.

# %%
best, worst = ranked.drop(index=list(nulls)).index[[0, -1]]
beat = (claims["id"].eq("A9") & claims["verdict"].eq("supported")).sum()
print(f"Median correlation of two methods: {pairs.groupby(['one', 'other'])['correlation'].mean().median():.2f}.")
print(f"Against the interventions {METHODS[best].title} ranks first ({ranked.loc[best, 'rank']:.2f}) and "
      f"{METHODS[worst].title} last ({ranked.loc[worst, 'rank']:.2f}); a uniform map has "
      f"{ranked.loc['uniform', 'rank']:.2f}; {beat} of {len(METHODS)} methods lie above it for certain.")  # fmt: skip
print(f"The organ that counts most: {by_phase.dropna(axis='columns', how='all').idxmax().to_dict()}.")
for claim, verdict in weakest(claims).items():
    part = claims[claims["id"] == claim]
    held = part["verdict"].eq("supported").sum()
    print(f"{claim} ({part['claim'].iloc[0].lower()}): {verdict}; {held} of {len(part)} parts supported.")

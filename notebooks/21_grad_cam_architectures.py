# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 21 · Grad-CAM on deeper networks, for pneumothorax
#
# **Is a deeper network better at finding a pneumothorax, and is its Grad-CAM a better explanation?** Qiu, Rivaz and
# Xiao ([arXiv 2308.15172](https://arxiv.org/abs/2308.15172), MLMI 2023) asked it of ResNets, VGGs and vision
# transformers on a public set of chest radiographs (SIIM-ACR). Their abstract is what is known to us at first hand;
# numbers beyond it are second-hand and marked as such.
#
# | | claim | source | supported if (95 % intervals resample patients) |
# |---|---|---|---|
# | Q1 | deeper is not much more accurate | abstract | deepest less shallowest of a ladder is below 5 points |
# | Q2 | how well Grad-CAM works differs among architectures | abstract | networks differ more than seeds do |
# | Q3 | it works better on convolutional networks | second-hand | their EHR is higher than that of transformers |
# | Q4 | accuracy and map quality are not in step | second-hand | a pair of networks differs in both, oppositely |
# | Q5 | the maps beat maps that see no image | ours | EHR is above that of the mean mask and of the untrained network |
#
# The *effective heat ratio* (EHR) is the heat inside the mask over the number of pixels above a threshold, averaged
# over thresholds: `lib.maps.localisation` has the formula. It mixes how hot a map is with where it is hot, so that
# other measures stand beside it. What no clinical set has: the same simulated patients without their pneumothorax, so
# that it can be told whether the network or its map is wrong; and an arm in which a chest tube gives the finding away.
#
# | | |
# |---|---|
# | **reads** | nothing (94_look_at_xray_phantoms shows the images); or your own copy of SIIM-ACR |
# | **writes** | `tables/architectures_*.csv` (claims, verdicts, networks, nulls and more); figures `architectures_*` |
# | **takes** | smoke 1 minute, quick 5, study two hours on one core |
#
# A network below an area under the ROC curve of .85 has not learnt its task, and its maps are not judged (Q2, Q3, Q5).
# This gate is that of notebook 22; here it was added after a first run, in which the transformer stayed at chance.
# Transformers trained from nothing on some hundred images are starved of data; the text's may have been pretrained. So
# are the deepest ResNets here: their Q1 says that they have learnt less, and not that depth is useless. Only the VGGs
# are all good, so that they alone show what depth does to a map.
#
# ![Accuracy and effective heat ratio by network, and one against the other](../figures/architectures_quality.png)
#
# **As published by this project: accuracy (A) and effective heat ratio of Grad-CAM (B) by network, and one against the
# other (C).** Points are seeds, short lines their means, crosses untrained networks. Dotted in B: a uniform map.
# Black, on cells as coarse as the network's own: the mean of other patients' masks (dashed), the mask itself (solid).

# %%
import itertools

from IPython.display import display
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from lib.backbones import backbone, last_map
from lib.claims.texts import verdicts
from lib.figures.architectures import draw_causes, draw_examples, draw_quality, draw_shortcut
from lib.figures.style import save_figure
from lib.files import atomic_path, resolve
from lib.maps.localisation import edges, localisation, null_maps, on_grid, read_runs, union_of_runs
from lib.provenance import begin, write_sidecar
from lib.xray.chest_claims import chest_claims
from lib.xray.chest_measures import answers_of, follows_tubes, layer_maps, measure_maps
from lib.xray.chest_networks import train_chests
from lib.xray.chest_study import chests, joined, network_input, public_chests

# %% tags=["parameters"]
networks: str = "resnet18, resnet34, vit_tiny"  # names, see lib.backbones
repeats: int = 1  # seeds of weights and order per network; claims about differences need two or more
training: int = 400  # images of the training, half of them with pneumothorax
testing: int = 80  # images of other patients
first_epochs: int = 10  # of a training on images of half the side
epochs: int = 5  # of a training on whole images
pixels: int = 128  # side of an image
width: int = 16  # channels of a convolutional network's first stage (64 in the published ones)
shortcut: str = "resnet18"  # network of the shortcut arm; empty: no such arm
tubes: float = 0.8  # chance of a chest tube where there is a pneumothorax, in the training of the shortcut arm
processes: int = 2  # that simulate chests
siim: str = ""  # folder of your own copy of SIIM-ACR, instead of simulated chests; empty: simulated
siim_masks: str = ""  # its table of run lengths alone (train-rle.csv, also .gz), for the null maps; empty: none
cache: str = "runs/quick/chests"  # where images and networks are kept
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go

# %% [markdown]
# ## Images
#
# Half of the patients have a pneumothorax. These patients of the test are also shown without it, and with a chest tube:
# *the same patient* has the same anatomy, position and noise, and differs in the pneumothorax and in what it does: the
# lung is smaller and denser, its vessels have moved, and mediastinum and diaphragm have shifted.

# %%
names, seeds = networks.replace(" ", "").split(","), range(1, repeats + 1)
cached = begin(resolve(cache) / "images", parameters={"siim": bool(siim)}, code=("lib/xray/chest_study.py",))
make = {"pixels": pixels, "processes": processes}
if siim:
    everything = public_chests(siim, pixels=pixels, limit=training + testing)
    train, test = ({k: v[part] for k, v in everything.items()} for part in (slice(0, training), slice(training, None)))
    twins = None
else:
    patients, people = range(200_000, 200_000 + training), range(300_000, 300_000 + testing)
    well = chests(patients[::2], cached / "train_well.npz", {"neither": (False, 0.0)}, **make)
    ill = chests(patients[1::2], cached / "train_ill.npz",
                 {"pneumothorax alone": (True, 0.0), "perhaps a tube": (True, tubes)}, **make)  # fmt: skip
    others = chests(people[::2], cached / "test_well.npz", {"neither": (False, 0.0)}, **make)
    twins = chests(people[1::2], cached / "test_ill.npz",
                   {"neither": (False, 0.0), "tube alone": (False, 1.0), "pneumothorax alone": (True, 0.0),
                    "both": (True, 1.0)}, **make)  # fmt: skip
    train = joined(well["neither"], ill["pneumothorax alone"])
    tubed = joined(well["neither"], ill["perhaps a tube"])
    test = joined(others["neither"], twins["pneumothorax alone"])
positive = np.flatnonzero((test["label"] == 1) & test["gap"].any(axis=(1, 2)))
print(f"{len(train['label'])} images to train on, {len(test['label'])} to test, {len(positive)} with a mask that "
      f"covers {test['gap'][positive].mean():.2%} of an image")  # fmt: skip

# %% [markdown]
# ## What maps that see no image reach
#
# The level below which a map has shown nothing: a uniform one, a bell at the centre, the mean mask of the training
# patients (with its own cells of 8 x 8), edges. The ceiling is the mask itself, seen through 4 x 4 and 8 x 8 cells.

# %%
blind = null_maps((pixels, pixels), train["gap"][train["label"] == 1])
rows = []
for n in positive:
    mask = test["gap"][n]
    here = {**blind, "edges": edges(test["grey"][n].astype(float)),
            "ceiling, 4 x 4 cells": on_grid(mask, 4), "ceiling, 8 x 8 cells": on_grid(mask, 8)}  # fmt: skip
    rows += [{"map": name, "patient": int(n), **localisation(heat, mask)} for name, heat in here.items()]
nulls = pd.DataFrame(rows)
of_nulls = nulls.groupby("map", sort=False).mean(numeric_only=True).drop(columns="patient")
display(of_nulls.round(4))

# %% [markdown]
# The same for the masks of SIIM-ACR, where their table is given (`-p siim_masks FILE`; the package torchxrayvision
# 1.5.7 contains it; 400 patients, 800 others' mean). Only these means are kept. Second-hand, the text's networks
# reached EHRs of .0319 (ResNet101), .0243 (VGG16) and .0145 to .0171 (transformers).

# %%
shares = {"images of this run": test["gap"][positive].mean(axis=(1, 2))}
of_public = pd.DataFrame()
if siim_masks:
    runs = [held for _, held in sorted(read_runs(resolve(siim_masks)).items()) if held]
    order = np.random.default_rng(1).permutation(len(runs))[:1200]
    masks = np.stack([union_of_runs(runs[n], (1024, 1024), 8) for n in order])
    masks, shares["SIIM-ACR"] = masks[masks.any(axis=(1, 2))], masks.mean(axis=(1, 2))
    real, judged = null_maps((128, 128), masks[:-400]), masks[-400:]
    real = [{"map": name, **localisation(heat, mask)} for mask in judged for name, heat in real.items()]
    ceiling = [{"map": "ceiling, 8 x 8 cells", **localisation(on_grid(mask, 8), mask)} for mask in judged]
    of_public = pd.DataFrame(real + ceiling).groupby("map", sort=False).mean()
    display(of_public.round(4))
shares = pd.DataFrame({name: {"masks": len(held), "mean": held.mean(), **{
    f"{q:.0%}": np.quantile(held, q) for q in (0.05, 0.5, 0.95)}} for name, held in shares.items()}).T  # fmt: skip
display(shares.round(4))

# %% [markdown]
# The last table has the share of the image that a mask covers: mean, and three quantiles.
#
# ## Networks
#
# Each is trained from nothing. Grad-CAM is taken for *pneumothorax* at the last layer with a place, of every patient
# with a mask, whether the answer is right or not; HiResCAM and LayerCAM at every stage stand beside it; the untrained
# network's Grad-CAM is the control. A map of zeros marks nothing and is counted as dead.
#
# A network that was trained before, by the same code on the same images, is read from `cache`.

# %%
schedule = {"first_epochs": first_epochs, "epochs": epochs}
recipe = {"siim": bool(siim), "training": training, "pixels": pixels, "width": width, "tubes": tubes} | schedule
modules = ("lib/xray/chest_networks.py", "lib/xray/chest_study.py")
kept = begin(resolve(cache) / "networks", parameters=recipe, code=modules)
images, masks = network_input(train["grey"]), test["gap"][positive]
without = None if twins is None else twins["neither"]["grey"]
widths = {name: None if name.startswith("vit") else width for name in (*names, shortcut)}
answers, maps, shown, grid = [], [], {}, {}
for seed in seeds:
    for name in names:
        model = train_chests(name, images, train["label"], seed=seed, width=widths[name], **schedule,
                             path=kept / f"{name}_{seed}.keras")  # fmt: skip
        answers.append(answers_of(model, test, without).assign(network=name, seed=seed))
        fresh = backbone(name, images.shape[1:], width=widths[name], seed=seed)
        found = layer_maps(name, model, fresh, test["grey"][positive])
        measured = measure_maps(found, masks, last_map(name))
        maps.append(measured.assign(network=name, seed=seed, patient=positive[measured["map"]]))
        shown[name] = found["grad_cam", last_map(name)]
        grid[name] = model.get_layer(last_map(name)).output.shape[1]
        auc = roc_auc_score(test["label"], answers[-1]["p"])
        print(f"{name}, seed {seed}: accuracy {answers[-1]['right'].mean():.3f}, AUC {auc:.3f}")
answers, maps = pd.concat(answers, ignore_index=True), pd.concat(maps, ignore_index=True)

# %% [markdown]
# ## Accuracy and map quality

# %%
last = maps[(maps["method"] == "grad_cam") & maps["last"]]
untrained = maps[maps["method"] == "untrained"]
keys = ["network", "seed"]
quality = answers.groupby(keys, sort=False)["right"].mean().rename("accuracy").to_frame()
quality["auc"] = [roc_auc_score(part["label"], part["p"]) for _, part in answers.groupby(keys, sort=False)]
measures = ["ehr", "ehr_unweighted", "auprc", "pointing", "mass", "iou_10", "iou_mask", "diff"]
quality = quality.join(last.groupby(keys)[measures].mean())
lost = answers[answers["label"] == 1].assign(lost=answers["p"] - answers["p_without"])
quality["p_lost"] = lost.groupby(keys)["lost"].mean()
quality["dead"] = last.groupby(keys)["ehr"].apply(lambda values: values.isna().mean())
quality["untrained"] = untrained.groupby(keys)["ehr"].mean()
display(quality.round(3))

# %% [markdown]
# *ehr* to *diff* measure Grad-CAM at the last layer, means over patients with a mask: the effective heat ratio; this
# ratio without the heat's weight; the area under the precision-recall curve of the pixels; how often the hottest pixel
# lies in the mask; the heat in the mask over the mask's share of the image; the overlap (intersection over union) of
# the hottest tenth, and of as many pixels as the mask has; the mean heat inside less outside. *p_lost* is what p
# loses, in patients with a pneumothorax, when it is taken away; *dead* is the share of maps that are zero throughout;
# *untrained* is the EHR of the same network before its training.

# %%
own = []
for count, n in itertools.product(sorted(set(grid.values())), positive):
    seen = {"mean_mask": blind["mean mask"], "ceiling": test["gap"][n]}
    reached = {name: localisation(on_grid(image, count), test["gap"][n])["ehr"] for name, image in seen.items()}
    own.append({"cells": count, "patient": n, **reached})
own = pd.DataFrame(own).set_index(["cells", "patient"])
quality = quality.reset_index().assign(cells=lambda table: table["network"].map(grid))
quality = quality.join(own.groupby("cells").mean(), on="cells").set_index(keys)
drawn = {"architectures_quality": draw_quality(quality.reset_index(), {"uniform": of_nulls.loc["uniform", "ehr"]})}
display(drawn["architectures_quality"])

# %% [markdown]
# **Accuracy (A) and effective heat ratio of Grad-CAM (B) by network, and one against the other (C).** Points are seeds,
# short lines their means, crosses untrained networks (one is missing where every untrained map is zero). Dotted: a
# uniform map. Black, on cells as coarse as the network's own: the mean of other patients' masks (dashed), which sees no
# image, and the mask itself (solid), which a map of these cells can hardly surpass.
#
# Every stage and three kinds of map: EHR, mean over patients.

# %%
stages = maps[maps["method"] != "untrained"].groupby(["network", "layer", "method"], sort=False)["ehr"].mean()
display(
    stages.reset_index().pivot_table(index=["network", "layer"], columns="method", values="ehr", sort=False).round(4)
)

# %% [markdown]
# Five patients with the finding, from small to large, and the Grad-CAM of each network at its last layer, stretched to
# its own range. Lines outline the pneumothorax.

# %%
by_size = positive[np.argsort(test["gap"][positive].mean(axis=(1, 2)))]
chosen = by_size[np.linspace(0, len(by_size) - 1, min(5, len(by_size))).round().astype(int)]
at = [int(np.flatnonzero(positive == n)[0]) for n in chosen]
drawn["architectures_examples"] = draw_examples(
    test["grey"][chosen].astype(float), test["gap"][chosen], {name: held[at] for name, held in shown.items()}
)
display(drawn["architectures_examples"])

# %% [markdown]
# ## Is the network wrong, or the map?
#
# How much of p, the probability of *pneumothorax*, goes when the same patient is shown without it. A network whose p
# falls has used the pneumothorax or one of its effects, such as the smaller lung. A map beside the gap may then still
# be right: it may show such an effect. Each point is a patient and a seed.

# %%
causes = last.merge(answers, on=["network", "seed", "patient"])
causes["p_lost"] = causes["p"] - causes["p_without"]
if without is not None:
    drawn["architectures_causes"] = draw_causes(causes)
    display(drawn["architectures_causes"])
    used = causes["p_lost"] > 0.25
    display(causes.assign(used=used).groupby(["network", "used"])[["ehr", "mass", "pointing"]].mean().round(3))

# %% [markdown]
# ## A shortcut
#
# Patients with a pneumothorax are often treated with a *chest tube*, and a network may learn the tube instead of the
# finding. Here a further network is trained on the same patients, of whom four in five with a pneumothorax have a tube
# and nobody else has one. Then both networks see the same test patients in all four states: with and without the
# pneumothorax, with and without a tube.

# %%
if shortcut and twins is not None:
    shortcuts, heats = [], []
    for arm, held, ending in (("no tubes", train, "1"), (f"tubes in {tubes:.0%}", tubed, "tubes")):
        model = train_chests(shortcut, network_input(held["grey"]), held["label"], seed=1, width=widths[shortcut],
                             **schedule, path=kept / f"{shortcut}_{ending}.keras")  # fmt: skip
        for table, found in zip((shortcuts, heats), follows_tubes(shortcut, model, twins), strict=True):
            table.append(found.assign(training=arm))
    shortcuts, heats = pd.concat(shortcuts, ignore_index=True), pd.concat(heats, ignore_index=True)
    drawn["architectures_shortcut"] = draw_shortcut(shortcuts, heats)
    display(drawn["architectures_shortcut"])
    cells = shortcuts.pivot_table(index="training", columns="state", values="p", sort=False)
    density = heats.pivot_table(index="training", columns="region", values="density", sort=False, dropna=False)
    of_shortcut = cells.join(density.add_prefix("heat on the "))
    display(of_shortcut.round(3))
else:
    of_shortcut = pd.DataFrame()
    print("no shortcut arm in this run")

# %% [markdown]
# **What a network answers to the same patients in four states (A), and where its Grad-CAM lies when both are there
# (B).** Columns are means over patients, lines their 95 % intervals (t). B: heat on the region over the region's share
# of the image; dotted: chance.

# %% [markdown]
# ## Verdicts

# %%
beside = untrained.groupby(["network", "patient"])["ehr"].mean().rename("untrained").reset_index()
beside["mean_mask"] = [own.loc[(grid[row.network], row.patient), "mean_mask"] for row in beside.itertuples()]
claims = chest_claims(answers, last, beside, quality.groupby("network")["auc"].mean())
judged = verdicts(claims)
with pd.option_context("display.max_colwidth", None):
    display(claims.drop(columns="claim").set_index("id").round(3))
    display(judged.drop(columns=["text", "supported_if"]).set_index("id"))

# %%
for name, frame in {"claims": claims, "verdicts": judged, "networks": quality.reset_index(),
                    "maps": stages.reset_index(), "nulls": of_nulls.reset_index(),
                    "shortcut": of_shortcut.reset_index(), "shares": shares.reset_index(names="masks_of"),
                    "nulls_public": of_public.reset_index()}.items():  # fmt: skip
    if frame.empty:
        continue
    with atomic_path(resolve(tables) / f"architectures_{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
for name, figure in drawn.items():
    save_figure(figure, resolve(figures) / f"{name}.png")
written = write_sidecar(resolve(tables) / "architectures_claims.csv", notebook="21_grad_cam_architectures", parameters={
    "networks": names, "repeats": repeats, "training": training, "testing": testing, "first_epochs": first_epochs,
    "epochs": epochs, "pixels": pixels, "width": width, "shortcut": shortcut, "tubes": tubes})  # fmt: skip

# %% [markdown]
# ## What we saw
#
# The sentences below are made from the tables of this run.

# %%
print("Mean accuracy:", answers.groupby("network", sort=False)["right"].mean().round(3).to_dict())
print("Mean EHR:", last.groupby("network", sort=False)["ehr"].mean().round(4).to_dict(),
      "against", of_nulls["ehr"].round(4).to_dict())  # fmt: skip
for row in judged.itertuples():
    print(f"{row.id}. {row.claim} ({row.source}): {row.verdict}.")
for training_with, row in of_shortcut.iterrows():
    print(f"Trained with {training_with}: p of a tube without pneumothorax {row['tube alone']:.2f}, of a pneumothorax "
          f"without tube {row['pneumothorax alone']:.2f}; density of heat on the tube {row['heat on the tube']:.1f}, "
          f"on the pneumothorax {row['heat on the pneumothorax']:.1f}.")  # fmt: skip

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 95 · From phantom to patient
#
# What does a network that was trained on phantoms do with patients, and do its maps show which shortcuts it takes? The
# difference between the images that a network was trained on and those that it is used on is called the *domain gap*.
# The paper has no such comparison.
#
# | | |
# |---|---|
# | **reads** | the phantom's `dicom/truth.csv`, `cohort/`, every network of a folder; real CT if a folder is given |
# | **writes** | `tables/domain_metal.csv`, `figures/domain_metal`; what shows real slices only into a private folder |
# | **takes** | about two minutes on one core |
#
# ![The same slices without and with electrodes, and where CAM lies](../figures/domain_metal.png)
#
# **The same unenhanced slices without and with electrodes, as published by this project.** Below each slice is the
# phase that one network of the study gives it, with its probability. Beside it lies CAM for the pyelographic phase, red
# where it is high: with electrodes, at the electrodes.
#
# **Metal.** Phantoms of the published study wear no electrodes and hold no surgical clips. Excreted contrast is then
# the brightest thing that a network ever sees, and only in the pyelographic phase. It may learn that bright spots
# *anywhere* mean excretion. The first part tests this on phantoms alone: the same slice of the same patient before the
# injection, with and without electrodes on the skin. Whether the *phase* changes is one question; whether a *map* marks
# the metal is another, and the answers need not agree.
#
# **Real slices.** The second part lays real slices beside the phantom's: images, Hounsfield units (HU), texture, the
# features of the last layer, the predictions of all networks, and the maps. Nothing is tuned on these slices. What
# comes out is the result.
#
# **Kinds of networks.** Phantoms can be given electrodes, wires and clips in every phase (`attachments = True` in
# 01_prepare_cohort), and training images more contrast, noise and proportions (`variation` in 02_train_network), for
# cohorts and networks in folders of their own. Names say the kind: `plain_1` and `plain_2` are one kind, `attached_1`
# is another. Networks of a kind differ by their seed.

# %%
from IPython.display import display
import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation
from lib.dicom import find_series
from lib.domain_gap import (
    HU_EDGES, MEASURES, as_input, distances, fit_plane, hu_histogram, input_measures, last_features, metal_near_skin,
    ranks, texture_spectrum, without
)  # fmt: skip
from lib.figures.domain import Panel, draw_features, draw_inputs, draw_panels, draw_ranks, draw_votes
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.labels import hashed_id, read_labels, secret_key
from lib.maps.localisation import enrichment
from lib.paper import PHASES
from lib.phantom.cohort import PHANTOM_KEY
from lib.phantom.metal_pairs import metal_pair
from lib.preparation import prepare_cohort
from lib.private import private_folder
from lib.provenance import write_sidecar
from lib.titles import PHASE_TITLES
from lib.voxels import upsample

# %% tags=["parameters"]
dicom_folder: str = "runs/quick/dicom"  # folder of the phantom DICOM files, with truth.csv
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
networks: str = "runs/quick/networks"  # folder that holds one folder per network, made by 02_train_network
real_ct: str = ""  # folder of real CT, with labels.csv for the phases if there is one; empty: phantoms only
private: str = "runs/quick/private/domain"  # where everything that shows real slices goes
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
pairs: int = 40  # phantom slices that are scanned with and without metal
compared: int = 200  # phantom slices that real ones are compared with
shown: int = 4  # slices and networks that are drawn

# %% [markdown]
# ## The networks

# %%
folders = sorted(file.parent for file in resolve(networks).glob("*/model.keras"))
if not folders:
    raise FileNotFoundError(f"{networks} holds no folder with a model.keras: run 02_train_network first.")
models = {folder.name: keras.models.load_model(folder / "model.keras") for folder in folders}
scales = {folder.name: Standardisation.load(folder / "standardisation.json") for folder in folders}
scales = {name: scale for name, scale in scales.items() if scale.channels == 1}
models = {name: models[name] for name in scales}
kinds = {name: name.rpartition("_")[0] or name for name in models}
ones = list({kind: name for name, kind in reversed(kinds.items())}.values())[::-1]  # the first network of each kind
drawn_networks = [*ones, *(name for name in models if name not in ones)][:shown]
print(f"{len(models)} networks of {len(ones)} kinds: {', '.join(models)}")


def predict_all(images):
    stack = {name: np.stack([as_input(hu, scale) for hu in images]) for name, scale in scales.items()}
    return {name: np.asarray(model.predict(stack[name], verbose=0)) for name, model in models.items()}


def cam(name, images, classes):
    inputs = np.stack([as_input(hu, scales[name]) for hu in images])
    found = Attributor(models[name], ["conv6"])(inputs, np.asarray(classes))["cam", "conv6"]
    return [upsample(one, image.shape) for one, image in zip(found, images, strict=True)]


# %% [markdown]
# ## The same slice with and without metal
#
# Test patients of the phantom are scanned again before the injection, through an electrode at the height of the
# kidneys: once as they are, and once with what they wear. Anatomy, scanner and noise of the two slices are the same.
# Neither shows contrast medium, so that a network that goes by contrast gives both the same phase.

# %%
truth = pd.read_csv(require(resolve(dicom_folder) / "truth.csv", "01_prepare_cohort"), dtype={"patient": str})
people = truth.drop_duplicates("patient")
scanned = []
for person in people.itertuples():
    pair = metal_pair(person.patient, person.seed, int(person.matrix)) if len(scanned) < pairs else None
    if pair is not None and pair.metal.any():
        scanned.append(pair)
print(f"{len(scanned)} slices, each with and without metal")

# %%
plain, worn = (predict_all([getattr(pair, kind) for pair in scanned]) for kind in ("plain", "worn"))
pyelo = PHASES.index("pyelo")
metal = pd.DataFrame({
    "network": list(models),
    "slices": len(scanned),
    "called_noncon_without": [(plain[name].argmax(axis=1) == 0).mean() for name in models],
    "called_noncon_with": [(worn[name].argmax(axis=1) == 0).mean() for name in models],
    "called_pyelo_without": [(plain[name].argmax(axis=1) == pyelo).mean() for name in models],
    "called_pyelo_with": [(worn[name].argmax(axis=1) == pyelo).mean() for name in models],
    "phase_changes": [(plain[name].argmax(axis=1) != worn[name].argmax(axis=1)).mean() for name in models],
    "pyelo_probability_rises": [(worn[name] - plain[name])[:, pyelo].mean() for name in models],
})  # fmt: skip
display(metal.round(3))
display(metal.groupby(metal["network"].map(kinds), sort=False).mean(numeric_only=True).round(3))

# %% [markdown]
# ### Where the maps of the pyelographic phase lie
#
# CAM of the pyelographic phase shows which cells of the last layer speak for excretion. If bright metal is taken for
# excretion, one expects CAM to mark it. The figure shows the network that metal sways most, and the pairs in which its
# probability of this phase changes most. The line surrounds metal.
#
# The table says how much denser metal is in the tenth of the body that CAM marks most than in the whole body: 1 is
# chance, and less than 1 means that CAM marks other places. The last two columns set this beside what the metal does.

# %%
first = metal.loc[metal["pyelo_probability_rises"].idxmax(), "network"]
change = (worn[first] - plain[first])[:, pyelo]
most = np.argsort(-np.abs(change), kind="stable")[:shown]
heats = {
    kind: cam(first, [getattr(pair, kind) for pair in scanned], [pyelo] * len(scanned)) for kind in ("plain", "worn")
}
rows = {}
for number, index in enumerate(most):
    pair, words = scanned[index], []
    for answer in (plain, worn):
        told = answer[first][index]
        words.append(f"{PHASE_TITLES[PHASES[told.argmax()]]} {told.max():.2f}")
    rows[f"Patient {number + 1}"] = [
        Panel(pair.plain, text=words[0]), Panel(pair.plain, heats["plain"][index]),
        Panel(pair.worn, text=words[1]), Panel(pair.worn, heats["worn"][index], pair.metal),
    ]  # fmt: skip
drawn = {"domain_metal": draw_panels(rows, ["Without metal", "CAM, pyelo", "With metal", "CAM, pyelo"])}
print(f"The network is {first}.")
drawn["domain_metal"]

# %%
marked = {}
for name in models:
    maps = heats["worn"] if name == first else cam(name, [pair.worn for pair in scanned], [pyelo] * len(scanned))
    found = [
        enrichment(heat, pair.metal, 0.1, np.isfinite(pair.worn)) for heat, pair in zip(maps, scanned, strict=True)
    ]
    marked[name] = np.nanmean(found)
metal["cam_on_metal"] = metal["network"].map(marked)
display(metal[["network", "cam_on_metal", "phase_changes", "pyelo_probability_rises"]].round(2))
print(f"Metal changes the phase of {metal['phase_changes'].mean():.0%} of the slices (mean of {len(metal)} networks).")
print(f"CAM marks metal more than chance in {(metal['cam_on_metal'] > 1).sum()} of {len(metal)} networks.")

# %% [markdown]
# ## Real slices
#
# Real CT is prepared in the same way as the phantom: body mask, Hounsfield units, slices through the kidneys where
# their extent is known. The phases are those of `labels.csv`, or, for four public slices (COVID-19-NY-SBU and
# Pancreas-CT, from The Cancer Imaging Archive), those that were read from the images.

# %%
read_from_image = {"A027284": "noncon", "A062055": "cm-neph", "A058062": "neph", "PANCREAS_0001": "cm-neph"}
real, real_mm, real_phases = [], [], []
if real_ct:
    hidden, source = private_folder(resolve(private)), resolve(real_ct)
    key, labels_file = secret_key(hidden), source / "labels.csv"
    found = {hashed_id(key, "series", item.uid): item for item in find_series(source)[0]}
    labels = read_labels(labels_file, {item.uid for item in found.values()}) if labels_file.exists() else None
    patients = prepare_cohort(source, hidden / "cohort", split="apply", key=key, private=hidden, processes=1)
    for _, rows_of in patients.slices.groupby("series"):
        row, item = rows_of.iloc[[len(rows_of) // 2]], found.get(rows_of["series"].iloc[0])
        real.append(patients.read_hu(row)[0])
        real_mm.append(item.spacing_mm[2] if item else np.nan)
        known = labels is not None and item is not None and item.uid in labels.index
        real_phases.append(
            labels.loc[item.uid, "phase"] if known else read_from_image.get(item.patient if item else "")
        )
names = [f"Real {'ABCDEFGH'[k % 8]}" for k in range(len(real))]
print(f"{len(real)} real slices" if real else "No folder of real CT was given: the parts below have nothing to show.")

# %% [markdown]
# ### Side by side
#
# Each real slice (above) stands over phantom slices of the same phase, at level 40 HU and width 400 HU.

# %%
prepared = Cohort.open(require(cohort, "01_prepare_cohort"))
middle = prepared.slices[prepared.slices["reconstruction"] == 1]
middle = middle.loc[(middle["kidney_position"] - 0.5).abs().sort_values(kind="stable").index].drop_duplicates("series")
seen = middle.drop_duplicates("patient")
shown_private = {}
if real:
    beside = {"Real": [Panel(hu, text=name) for hu, name in zip(real[:shown], names, strict=False)]}
    taken = {phase: iter(seen[seen["phase"] == phase].index) for phase in PHASES}
    for number in range(2):
        picks = [next(taken[phase], None) if phase else None for phase in real_phases[:shown]]
        beside[f"Phantom {number + 1}"] = [
            None if pick is None else Panel(prepared.read_hu(prepared.slices.loc[[pick]])[0]) for pick in picks
        ]
    titles = [PHASE_TITLES.get(phase, "not known") for phase in real_phases[:shown]]
    shown_private["domain_images"] = draw_panels(beside, titles)
shown_private.get("domain_images")

# %% [markdown]
# ### What the network gets: Hounsfield units and texture
#
# No tissue needs to be known for these comparisons. **A** is the histogram of the HU in the body. **B** is the power of
# the network's input by spatial frequency: coarse structure on the left, grain and noise on the right.

# %%
sample = middle.sample(min(compared, len(middle)), random_state=0)
phantom = [prepared.read_hu(sample.iloc[[k]])[0] for k in range(len(sample))]
if real:
    scale = scales[first]
    histograms = {"phantom": np.stack([hu_histogram(hu) for hu in phantom])}
    spectra = {"phantom": np.stack([texture_spectrum(as_input(hu, scale)[..., 0])[1] for hu in phantom])}
    for name, hu in zip(names, real, strict=True):
        histograms[name] = hu_histogram(hu)[None]
        frequency, power = texture_spectrum(as_input(hu, scale)[..., 0])
        spectra[name] = power[None]
    shown_private["domain_input"] = draw_inputs(HU_EDGES, histograms, frequency, spectra)
shown_private.get("domain_input")

# %% [markdown]
# Each dot says which share of the phantom slices has a lower value. Dots at 0 or 1 lie outside of everything that the
# networks were trained on.

# %%
if real:
    uids = truth.assign(series=[hashed_id(PHANTOM_KEY, "series", uid) for uid in truth["series_uid"]])
    pixel = uids.set_index("series").eval("fov_mm / matrix")
    reference = pd.DataFrame(
        [input_measures(hu, pixel.get(series, np.nan)) for hu, series in zip(phantom, sample["series"], strict=True)]
    )
    measured = pd.DataFrame([input_measures(hu, mm) for hu, mm in zip(real, real_mm, strict=True)], index=names)
    placed = ranks(measured, reference)
    display(measured.T.assign(**{"phantom, median": reference.median()}).round(4))
    shown_private["domain_ranks"] = draw_ranks(placed, MEASURES, len(reference))
shown_private.get("domain_ranks")

# %% [markdown]
# ### Features of the last layer
#
# The features are the means of the kernels of the last convolution, from which the network computes the phase. The
# plane is that of their first two principal components over phantom slices. The table gives the distance from the
# phantom in standard deviations over all components: 1 is typical of a phantom slice.

# %%
if real:
    planes, far = {}, {}
    for name, scale in scales.items():
        own = last_features(models[name], np.stack([as_input(hu, scale) for hu in phantom]))
        theirs = last_features(models[name], np.stack([as_input(hu, scale) for hu in real]))
        plane = fit_plane(own)
        if name in drawn_networks[:3]:
            planes[name] = (plane.transform(own), list(sample["phase"]), plane.transform(theirs))
        far[name] = [*distances(theirs, own), np.percentile(distances(own, own), 97.5)]
    far = pd.DataFrame(far, index=[*names, "phantom, 97.5 %"]).T
    display(far.round(2))
    shown_private["domain_features"] = draw_features(
        planes, [f"{n} ({p or 'not known'})" for n, p in zip(names, real_phases, strict=True)]
    )
shown_private.get("domain_features")

# %% [markdown]
# ### What the networks say
#
# All networks see all real slices. A number says how many networks of a kind choose a phase, the colour is their mean
# probability, and the frame is the phase that a reader gave.

# %%
votes = pd.DataFrame()
if real:
    answers = predict_all(real)
    votes = pd.DataFrame([
        {"slice": name, "phase": phase or "", "network": network, "predicted": PHASES[answers[network][k].argmax()]}
        | dict(zip(PHASES, answers[network][k].tolist(), strict=True))
        for k, (name, phase) in enumerate(zip(names, real_phases, strict=True)) for network in models
    ])  # fmt: skip
    right = votes[votes["phase"] != ""].assign(right=lambda t: t["phase"] == t["predicted"])
    right = right.assign(kind=right["network"].map(kinds))
    display(right.groupby(["kind", "network"], sort=False)["right"].agg(["sum", "size"]))
    of_a_kind = votes.assign(slice=votes["slice"] + ", " + votes["network"].map(kinds)) if len(ones) > 1 else votes
    shown_private["domain_votes"] = draw_votes(of_a_kind.sort_values("slice", kind="stable"))
shown_private.get("domain_votes")

# %% [markdown]
# ### The maps of the chosen phase, and the slice without its metal
#
# For each real slice: CAM of the phase that each network chose, with metal near the skin outlined. The last column
# repeats the prediction after that metal has been replaced by the tissue beside it. Where the phase changes, the metal
# mattered to the network. Its streaks stay, so that a phase that stays is no proof of the contrary.

# %%
if real:
    spots = [metal_near_skin(hu, mm) for hu, mm in zip(real, real_mm, strict=True)]
    clean = [without(hu, spot) for hu, spot in zip(real, spots, strict=True)]
    again, rows = predict_all(clean), {name: [] for name in names}
    for network in drawn_networks:
        chosen = answers[network].argmax(axis=1)
        for k, heat in enumerate(cam(network, real, chosen)):
            rows[names[k]].append(Panel(real[k], heat, spots[k], PHASE_TITLES[PHASES[chosen[k]]]))
    for k, name in enumerate(names):
        told = [PHASE_TITLES[PHASES[again[network][k].argmax()]] for network in drawn_networks]
        words = ", ".join(dict.fromkeys(told)) if spots[k].any() else "no metal near the skin"
        rows[name].append(Panel(clean[k], text=words))
    shown_private["domain_maps"] = draw_panels(rows, [*drawn_networks, "Without metal"])
shown_private.get("domain_maps")

# %%
if real:
    index = {name: k for k, name in enumerate(names)}
    votes["without_metal"] = [PHASES[again[row.network][index[row.slice]].argmax()] for row in votes.itertuples()]
    bare = votes[[spots[index[name]].any() for name in votes["slice"]]]
    print(f"{len(bare)} predictions of slices with metal near the skin; "
          f"{(bare['predicted'] != bare['without_metal']).sum()} change without it")  # fmt: skip
    display(pd.crosstab([bare["slice"], bare["predicted"]], bare["without_metal"]))

# %% [markdown]
# ## Save
#
# Only what shows phantoms goes into the run's tables and figures.

# %%
with atomic_path(resolve(tables) / "domain_metal.csv") as file:
    metal.round(4).to_csv(file, index=False)
parameters = {"pairs": pairs, "compared": compared, "networks": list(models)}
inputs = (resolve(dicom_folder) / "truth.csv", *(folder / "model.keras" for folder in folders[:1]))
files = save_figure(drawn["domain_metal"], resolve(figures) / "domain_metal")
write_sidecar(files[0], notebook="95_from_phantom_to_patient", parameters=parameters, inputs=inputs)
for name, figure in shown_private.items():
    save_figure(figure, resolve(private) / f"{name}_beside_real")
if real:
    with atomic_path(resolve(private) / "votes.csv") as file:
        votes.round(4).to_csv(file, index=False)

# %% [markdown]
# ## What we saw
#
# The pairs say whether these networks take bright metal for excreted contrast, on slices where nothing else differs:
# that is an experiment. The maps say it only if CAM lies on the metal more than chance would have it, which the line
# below the table counts. A shortcut is found by changing the image; a map can suggest where to change it.
#
# Here the map suggests it. Of twenty unenhanced slices, the sixteen networks of the published study call none
# pyelographic without electrodes, and with electrodes from none to thirteen, depending on the network; in the mean the
# phase changes on a quarter of the slices. In all sixteen, CAM of the pyelographic phase marks metal two to eight times
# as densely as the body. The patient among the real slices who wears electrodes shows the same: six of the sixteen
# networks call this unenhanced slice pyelographic, and four of these six no longer do once the metal is removed from
# the image.
#
# Training can take the shortcut away. Six networks were trained on 300 phantoms with electrodes, wires and clips in
# every phase, three of them with more variation: with metal none of the slices becomes pyelographic, and CAM marks it
# 0 to 1.9 times as densely as the body. In three networks that were trained on as many phantoms without metal, CAM
# marks it 5 to 9 times as densely. Of the four real slices, the six networks name two rightly in the mean (1 to 4), and
# the three 1.3 (1 or 2): too few to say that it helps. 96_test_across_cohorts compares these networks on phantoms.
#
# What the real slices say is an example and no accuracy: they are few, and their phases were read from the images. The
# dots at the ends of the figure of measures say what separates them most from the phantom. A network that is to be used
# on patients has to be trained on patients.

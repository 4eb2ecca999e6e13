# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 22 · Grad-CAM over the layers, on dental plates
#
# **When a network finds that a dental plate is spoiled, does Grad-CAM show what spoiled it, and what do early and late
# layers show?** McAllister, Mendez, Bermudez and Tyrrell (J Undergrad Life Sci 2020;14(1),
# [doi:10.33137/juls.v14i1.35833](https://doi.org/10.33137/juls.v14i1.35833)) trained a network to separate plates with
# artifacts from plates without, laid seventeen artifacts over one image, and looked at Grad-CAM in several layers.
# Their abstract is all that is known to us: the claims below are read from it, how each is measured is our reading.
#
# | | the abstract says | supported if, on plates as the unit (95 % interval) |
# |---|---|---|
# | M1 | early layers show lines and edges of teeth | correlation with edges and enrichment of the outline fall |
# | M2 | later layers show more detail | half the heat takes less of the image, its spatial frequency rises |
# | M3 | with an artifact, the heat is not on it | the artifact's enrichment is below 1.2 at the last layer |
# | M4 | without one, the heat is around the teeth | the 2 mm around the teeth are enriched, more than the teeth |
# | M5 | place and size of the artifact do not matter | correlation with the clean map is within .1 of a repeat's |
#
# M2 can hardly hold in this network: cells double from block to block, so that a map of a late block cannot show fine
# detail. M5 is measured by the artifact's presence, which is more than its place and size. M1 and M2 fit a line over
# the layers, whatever the course between the first and the last. All are judged as the abstract states them.
#
# *Enrichment* is how much denser a region is among the hottest 10 % of the plate than on the plate as a whole; 1 is
# chance, 10 the most. Claims about a network's heat need a network that has learnt its task: below an area under the
# ROC curve of .85, M3 to M5 are not judged. Two control networks stand beside the competent one: one trained for one
# epoch, and one trained on shuffled labels. Since the artifact is known, it can be taken away: what the network's
# answer owes to it is measured, not read from a map.
#
# Intervals are over plates and say nothing of another training. So further competent networks can be trained, which
# differ by the seed of their weights, order and artifacts, and the last table shows what they make of the verdicts.
#
# | | |
# |---|---|
# | **reads** | nothing: plates (94_look_at_xray_phantoms shows them) and CT slices are simulated |
# | **writes** | `tables/dental_{claims,verdicts,networks,layers,kinds,places,ct}.csv`; figures `dental_*` |
# | **takes** | smoke 1 minute, quick 6, study 15 on one core |
#
# ![What maps show, by layer and network](../figures/dental_layers.png)
#
# **As published by this project: what maps show, by layer and network.** **A**, Spearman's correlation of the map with
# the edges of the image. **B**, enrichment of the outline of the teeth. **C**, share of the image that holds half of
# the heat. **D**, enrichment of the 2 mm around the teeth. All these are of clean plates. **E**, enrichment of the
# artifact. **F**, correlation with the map of the same plate without the artifact. Means over plates with 95 %
# intervals; dotted lines: chance.

# %%
from IPython.display import display
import numpy as np
import pandas as pd

from lib.claims.texts import verdicts, weakest
from lib.figures.plates import draw_causes, draw_kinds_by_layer, draw_layers, draw_map_sheet
from lib.figures.style import save_figure
from lib.figures.xray import draw_radiographs
from lib.files import atomic_path, resolve
from lib.phantom import spoiled_slices as ct
from lib.provenance import begin, write_sidecar
from lib.xray.dental import show
from lib.xray.plate_artifacts import KINDS, WHOLE_PLATE
from lib.xray.plate_maps import place_slopes, plate_claims
from lib.xray.plate_measures import answers_of, layer_maps, measure_maps
from lib.xray.plate_networks import LAYERS, train_plates
from lib.xray.plate_study import network_input, plates, spoiled_set

# %% tags=["parameters"]
training_plates: int = 100  # clean plates of the training; each is also shown spoiled, anew in every epoch
test_plates: int = 10  # other patients, with every artifact
places: int = 1  # at which each artifact is laid on each test plate
sizes: str = "0.7, 1.4"  # of the artifacts, relative to the usual one
epochs: int = 12  # of the competent networks
seed: int = 1  # of weights, order and artifacts
further: int = 0  # further competent networks, of the seeds that follow
ct_slices: int = 60  # CT slices of as many patients to train on, in the arm on CT; 0: no such arm
ct_epochs: int = 40  # of its competent network
processes: int = 2  # that simulate plates and slices
method: str = "grad_cam"  # the map that is judged; hires_cam, layer_cam and sam are computed beside it
cache: str = "runs/quick/dental"  # where plates and networks are kept
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go

# %% [markdown]
# ## Plates
#
# Patients of the training and of the test differ. Each test plate is exposed twice: the same teeth, other noise.

# %%
cached = begin(resolve(cache) / "plates", parameters={}, code=("lib/xray/plate_study.py",))
train = plates(range(10_000, 10_000 + training_plates), cached / "train.npz", processes=processes)
test = plates(range(50_000, 50_000 + test_plates), cached / "test.npz", processes=processes)
repeat = plates(range(50_000, 50_000 + test_plates), cached / "repeat.npz", noise=1, processes=processes)
scales = [float(size) for size in sizes.split(",")]
spoiled = spoiled_set(test, KINDS, places, scales, seed)
print(f"{len(train['seed'])} training plates, {test_plates} test plates, {len(spoiled['kind'])} spoiled images")

# %%
first = spoiled["plate"] == 0
small = first & (spoiled["size"] == scales[0])
examples = [np.flatnonzero(small & (spoiled["kind"] == kind))[0] for kind in KINDS[:5]]
examples = [show(spoiled["signal"][n], test["field"][0]) for n in examples]
drawn = {"dental_examples": draw_radiographs([[show(test["signal"][0], test["field"][0]), *examples]])}
display(drawn["dental_examples"])

# %% [markdown]
# **The first test plate**, clean and with one artifact of each of the first five kinds: hairline scratch, scratch
# bundle, curved scratch, bite mark, double bite mark.
#
# ## The networks
#
# Five blocks of convolution, clean and spoiled versions of the same plates in one batch, the artifacts drawn anew in
# every epoch and fainter toward the end. The text used PyTorch and its own plates. A network that was trained before,
# by the same code on the same plates, is read from `cache`.

# %%
arms = {"competent": (epochs, False, seed), "undertrained": (1, False, seed), "shuffled labels": (epochs, True, seed)}
arms |= {f"competent, seed {n}": (epochs, False, n) for n in range(seed + 1, seed + 1 + further)}
recipe = {"training_plates": training_plates, "epochs": epochs, "seed": seed}
kept = begin(resolve(cache) / "networks", parameters=recipe, code=("lib/xray/plate_networks.py",))
networks, histories = {}, {}
for arm, (count, shuffled, number) in arms.items():
    path = kept / f"{arm.replace(' ', '_').replace(',', '')}.keras"
    networks[arm], histories[arm] = train_plates(train, epochs=count, seed=number, shuffled=shuffled, path=path)
    print(f"{arm}: last training loss {histories[arm]['loss'][-1]:.3f}, accuracy {histories[arm]['accuracy'][-1]:.3f}")

# %% [markdown]
# How well they tell spoiled from clean test plates; p is the probability of *spoiled*. There are many spoiled images of
# few plates, so that the balanced accuracy is given, the mean of sensitivity and specificity.

# %%
rows, lost = [], {}
for arm, network in networks.items():
    auc, accuracy, lost[arm] = answers_of(network, test, repeat, spoiled)
    rows.append((arm, auc, accuracy, lost[arm].mean()))
columns = ["network", "auc", "balanced_accuracy", "p_lost_without_artifact"]
quality = pd.DataFrame(rows, columns=columns).set_index("network")
display(quality.round(3))

# %% [markdown]
# ## Maps of every layer
#
# Of the class *spoiled* for spoiled plates, of the class *clean* for clean ones. For M5 the class has to be the same,
# so that the clean plate and its second exposure are explained for *spoiled* there as well.

# %%
clean_parts, spoiled_parts = [], []
for arm, network in networks.items():
    methods = ["grad_cam", "hires_cam", "layer_cam", "sam"] if arm == "competent" else [method]
    of_clean, of_spoiled = measure_maps(network, test, repeat, spoiled, methods)
    clean_parts.append(of_clean.assign(network=arm))
    spoiled_parts.append(of_spoiled.assign(network=arm, p_lost=lost[arm][of_spoiled["image"]]))
clean_table, spoiled_table = pd.concat(clean_parts, ignore_index=True), pd.concat(spoiled_parts, ignore_index=True)
print(f"{len(clean_table)} maps of clean plates, {len(spoiled_table)} of spoiled ones")

# %% [markdown]
# The first test plate with all seventeen artifacts, and the map of each layer. Banding, fading and ghosts have no place
# of their own: they are a group apart and take no part in the verdicts on M3 and M5. Blue lines outline the artifact;
# each map is stretched to its own range, from dark to yellow.

# %%
chosen = [np.flatnonzero(first & (spoiled["kind"] == kind) & (spoiled["size"] == scales[-1]))[0] for kind in KINDS]
greys = [show(spoiled["signal"][n], test["field"][0]) for n in chosen]
images = network_input(spoiled["signal"][chosen], test["field"][spoiled["plate"][chosen]])
shown = layer_maps(networks["competent"], images, method)
drawn["dental_maps"] = draw_map_sheet(greys, [spoiled["mask"][n] for n in chosen], shown, KINDS)
display(drawn["dental_maps"])

# %% [markdown]
# ## What layers show
#
# Means over plates with 95 % intervals, by layer and network.

# %%
local = spoiled_table[~spoiled_table["kind"].isin(WHOLE_PLATE)]
judged = clean_table[clean_table["method"] == method], local[local["method"] == method]
drawn["dental_layers"] = draw_layers(*judged)
display(drawn["dental_layers"])
layers = (
    judged[0]
    .groupby(["network", "layer"])[["edge_rank", "edge_band", "half_mass", "frequency", "band", "inside"]]
    .mean()
)
layers = layers.join(
    judged[1].groupby(["network", "layer"])[["enrichment", "same", "repeat", "distance_mm", "dead"]].mean()
)
display(layers.rename(index=lambda layer: layer + 1, level="layer").round(2))

# %% [markdown]
# **What maps show, by layer and network.** **A**, Spearman's correlation of the map with the edges of the image. **B**,
# enrichment of the outline of the teeth. **C**, share of the image that holds half of the heat. **D**, enrichment of
# the 2 mm around the teeth. All these are of clean plates. **E**, enrichment of the artifact. **F**, correlation with
# the map of the same plate without the artifact. Dotted lines: chance. In the table, *repeat* is the correlation of two
# exposures of one clean plate, *distance_mm* that of the centres of heat and artifact, and *dead* the share of maps
# without any heat.

# %%
competent = spoiled_table[(spoiled_table["network"] == "competent") & (spoiled_table["method"] == method)]
kinds = competent.pivot_table(index="kind", columns="layer", values="enrichment", sort=False)
kinds["p_lost"] = competent.drop_duplicates("image").groupby("kind", sort=False)["p_lost"].mean()
drawn["dental_kinds"] = draw_kinds_by_layer(kinds, LAYERS)
display(drawn["dental_kinds"])

# %% [markdown]
# **Enrichment of each artifact by layer**, mean over plates, places and sizes, in the competent network; at the right,
# how much of p is lost when this artifact is taken away.
# ## Is it the map or the network that misses the artifact?
#
# Taking the artifact away is the causal check: how much of p does the network owe to it? Where p falls and the heat is
# not on the artifact, the map fails; where p does not fall, the answer does not depend on this artifact, and its map
# need not show it. Dotted lines in the figure: a loss of .25, and an enrichment of 1.2; the first of these is our
# choice. Each point is an image.

# %%
last = competent[competent["layer"] == len(LAYERS) - 1]
last = last[~last["kind"].isin(WHOLE_PLATE)].dropna(subset="enrichment")
drawn["dental_causes"] = draw_causes(last)
display(drawn["dental_causes"])
seen = np.where(last["p_lost"] > 0.25, "artifact matters to p", "artifact does not")
marked = np.where(last["enrichment"] > 1.2, "heat on it", "heat not on it")
shares = pd.crosstab(pd.Series(seen, name="network"), pd.Series(marked, name="map"), normalize="all")
display((100 * shares).round(1).add_suffix(" (% of images)"))

# %% [markdown]
# Does the heat follow the artifact from place to place, and does a larger one change it? Slopes of the centre of the
# hottest tenth on the artifact's centre (1: it follows, 0: it does not move), and the mean heat of the larger artifact
# over that of the smaller at the same place; 95 % intervals over plates.

# %%
following = place_slopes(last)
display(following.round(3))

# %% [markdown]
# ## Verdicts
#
# Of the competent network and Grad-CAM; the last table has every network, and the other kinds of map of the competent
# one.

# %%
judgements = []
for (arm, kind_of_map), part in clean_table.groupby(["network", "method"], sort=False):
    there = local[(local["network"] == arm) & (local["method"] == kind_of_map)]
    table = plate_claims(part, there, float(quality.loc[arm, "auc"]))
    judgements.append(table.assign(network=arm, method=kind_of_map))
claims = pd.concat(judgements, ignore_index=True)
main = claims[(claims["network"] == "competent") & (claims["method"] == method)]
judged = verdicts(main)
with pd.option_context("display.max_colwidth", None):
    display(main.drop(columns=["network", "method", "claim"]).set_index("id").round(3))
    display(judged.drop(columns=["text", "supported_if"]).set_index("id"))
pd.DataFrame({key: weakest(part) for key, part in claims.groupby(["network", "method"], sort=False)}).T

# %% [markdown]
# ## The same design on CT
#
# Is it the plates? The phantoms of the main study, one slice through the kidneys of each patient, and three things that
# spoil a CT image: a *metal streak* (a clip of 3 mm radius in the body, with the streaks that beam hardening and
# missing photons leave), a *ring* (of a detector channel that reads too little light), and the *couch*, which the
# preparation should have removed. The same network, recipe, controls, maps and measures; kidneys take the place of the
# teeth. Each slice has a bank of nine artifacts, from which the training draws. What is outside the body is air, except
# for a couch: its maps are judged on the body and the air around it, all others within the body.

# %%
if ct_slices:
    kept = begin(resolve(cache) / "ct", parameters=recipe | {"ct_slices": ct_slices, "ct_epochs": ct_epochs},
                 code=("lib/phantom/spoiled_slices.py", "lib/xray/plate_networks.py"))  # fmt: skip
    people = range(80_000, 80_000 + test_plates)
    ct_train = ct.slices(range(70_000, 70_000 + ct_slices), kept / "train.npz", bank=3, processes=processes)
    ct_test = ct.slices(people, kept / "test.npz", processes=processes)
    ct_repeat = ct.slices(people, kept / "repeat.npz", exposure=1, processes=processes)
    ct_spoiled = ct.spoiled_slices(ct_test, 2 * places, scales, seed)
    print(f"{ct_slices} training slices, {test_plates} test slices, {len(ct_spoiled['kind'])} spoiled images")

# %%
of_ct, rows, ct_networks, ct_clean, ct_there = pd.DataFrame(), [], {}, [], []
for arm in ("competent", "undertrained", "shuffled labels") if ct_slices else ():
    _, shuffled, number = arms[arm]
    count = 1 if arm == "undertrained" else ct_epochs
    network, _ = train_plates(ct_train, ct.from_bank, ct.show, epochs=count, seed=number, shuffled=shuffled,
                              path=kept / f"{arm.replace(' ', '_')}.keras")  # fmt: skip
    auc, accuracy, gone = answers_of(network, ct_test, ct_repeat, ct_spoiled, ct.show)
    of_clean, of_spoiled = measure_maps(network, ct_test, ct_repeat, ct_spoiled, [method], ct.show, ct.PIXEL,
                                        outline_mm=2.0, band_mm=10.0)  # fmt: skip
    ct_clean.append(of_clean.assign(network=arm))
    ct_there.append(of_spoiled.assign(network=arm, p_lost=gone[of_spoiled["image"]]))
    found = plate_claims(of_clean, of_spoiled, auc, organs="kidneys", band=10).drop(columns="claim")
    of_ct = pd.concat([of_ct, found.rename(columns={"plates": "patients"}).assign(network=arm)], ignore_index=True)
    rows.append((arm, auc, accuracy, gone.mean()))
    ct_networks[arm] = network
display(pd.DataFrame(rows, columns=columns).set_index("network").round(3))

# %% [markdown]
# The first test patient with each artifact, larger and smaller, and the map of each layer for *spoiled*.

# %%
if ct_slices:
    chosen = np.flatnonzero((ct_spoiled["plate"] == 0) & (ct_spoiled["place"] == 0))
    images = network_input(ct_spoiled["signal"][chosen], ct_test["field"][ct_spoiled["plate"][chosen]], ct.show)
    drawn["dental_ct_maps"] = draw_map_sheet(
        [ct.show(ct_spoiled["signal"][n], ct_test["field"][0]) for n in chosen], ct_spoiled["mask"][chosen],
        layer_maps(ct_networks["competent"], images, method), ct_spoiled["kind"][chosen], "slice")  # fmt: skip
    display(drawn["dental_ct_maps"])
else:
    print("ct_slices is 0: this run has no arm on CT.")

# %% [markdown]
# What layers show of CT, as above: **A** to **D** on clean slices (**B**, outline of the kidneys; **D**, the 10 mm
# around them), **E** and **F** on spoiled ones. Below: enrichment of each artifact by layer in the competent network,
# and what of p is lost when the artifact is taken away.

# %%
if ct_slices:
    drawn["dental_ct_layers"] = draw_layers(pd.concat(ct_clean), pd.concat(ct_there), "10 mm around kidneys")
    display(drawn["dental_ct_layers"])
    there = ct_there[0]  # of the competent network
    ct_kinds = there.pivot_table(index="kind", columns="layer", values="enrichment", sort=False)
    ct_kinds["p_lost"] = there.drop_duplicates("image").groupby("kind", sort=False)["p_lost"].mean()
    drawn["dental_ct_kinds"] = draw_kinds_by_layer(ct_kinds, LAYERS)
    display(drawn["dental_ct_kinds"])
    there = of_ct[of_ct["network"] == "competent"].drop(columns="network")
    with pd.option_context("display.max_colwidth", None):
        display(there.set_index("id").round(3))
else:
    print("Nothing to draw without the arm on CT.")

# %% [markdown]
# This arm takes no part in the verdicts on the text, which is about plates. Read it with the last figure: where p
# hardly falls without the artifact, no heat is expected on it. Where p falls much, there should be some.

# %%
for name, frame in {"claims": claims, "verdicts": judged, "networks": quality.reset_index(),
                    "layers": layers.reset_index(), "kinds": kinds.reset_index(),
                    "places": following.reset_index(), "ct": of_ct}.items():  # fmt: skip
    if frame.empty:
        continue
    with atomic_path(resolve(tables) / f"dental_{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
for name, figure in drawn.items():
    save_figure(figure, resolve(figures) / f"{name}.png")
written = write_sidecar(resolve(tables) / "dental_claims.csv", notebook="22_grad_cam_dental_layers", parameters={
    "training_plates": training_plates, "test_plates": test_plates, "places": places, "sizes": sizes, "epochs": epochs,
    "seed": seed, "further": further, "method": method, "ct_slices": ct_slices,
    "ct_epochs": ct_epochs})  # fmt: skip

# %% [markdown]
# ## What we saw
#
# The sentences below are made from the tables of this run.

# %%
print(f"Area under the ROC curve: {quality['auc'].round(3).to_dict()}.")
for row in judged.itertuples():
    parts = main[main["id"] == row.id].itertuples()
    measured = "; ".join(f"{part.measured} {part.value:.2f} [{part.low:.2f}, {part.high:.2f}]" for part in parts)
    print(f"{row.id}. {row.claim}: {row.verdict}. {measured}.")
for row in of_ct[of_ct["network"] == "competent"].itertuples() if ct_slices else ():
    print(f"CT, {row.id}: {row.verdict}. {row.measured} {row.value:.2f} [{row.low:.2f}, {row.high:.2f}].")

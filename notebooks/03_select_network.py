# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Select the network
#
# Which of many networks names the phase best, and can they be distinguished at all? The paper trains a grid of 27
# networks of its own family and chooses one of them by its validation metrics. It then sets five well-known reference
# networks beside it. This notebook makes **Figures S1, S2, S3, S5 and S6** of the paper's supplement. The supplement
# was not available to us; what these figures hold is taken from the paper's text.
#
# | | |
# |---|---|
# | **reads** | `networks/<name>/` of 02_train_network, for each network that is named below; `cohort/` |
# | **writes** | figures `s1`, `s2`, `s3`, `s5`, `s6`, `grad_cam_networks`; six tables, from `networks.csv` on |
# | **takes** | half a minute, and one or two minutes more with all 27 networks and five reference networks |
#
# The networks are declared in `config/grid.yaml` and `config/references.yaml`, each with what differs from the
# profile's training. 02_train_network trains each one and applies it to the validation and test slices, as a job of its
# own:
#
# ```sh
# snakemake --configfile config/study.yaml config/grid.yaml config/references.yaml
# ```
#
# The notebook runs with one network or more, and says which are missing. Published is the grid on 300 patients
# (`config/selection.yaml`) and, on the same patients, the reference networks.
#
# ![Figure S2: the metrics of all networks](../figures/s2.png)
#
# **Figure S2, as published by this project.** Metrics of each network on single slices of the validation split (open
# circles) and the test split (filled). The shaded network has the highest validation AUC.
#
# ![Figure S5: how the reference networks learn](../figures/s5.png)
#
# **Figure S5, as published by this project.** The paper's network for 128 x 128 pixels (`phase_net_128`, 39 epochs)
# beside the reference networks (two or six epochs) and two networks of VGG16's widths for 64 x 64 pixels, which differ
# by their initialisation alone (four epochs). Above: loss by epoch. Below: ROC curves of single test slices.
#
# **The grid.** The paper says that 27 networks were compared, but not which. 27 = 3 x 3 x 3 suggests three values on
# each of three axes. The choice between one and three neighbouring slices, which the paper mentions, has two values and
# cannot be one of them. Here the axes are image size, width (kernels) and depth (blocks), and networks with three
# slices form a group of their own.

# %%
from IPython.display import display
import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.claims.findings import findings_table
from lib.claims.selection import grid_claims, reference_claims
from lib.cohort import Cohort, Standardisation
from lib.figures.captions import caption
from lib.figures.maps import MapRow, draw_maps
from lib.figures.prediction import draw_confusions
from lib.figures.selection import draw_learning, draw_metrics, draw_stages
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.metrics import confusion, roc_curves
from lib.model_selection import (
    CANDIDATES, METRICS, auc_differences, choose, compare_over_networks, compare_references, compared_with,
    count_references, describe, measure, read_networks, titles_of,
)  # fmt: skip
from lib.network_stages import last_grid_layer, stages_of
from lib.paper import PHASES
from lib.provenance import write_sidecar
from lib.maps.saved import Maps
from lib.slice_choice import representative_slices

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort; some of its slices are shown
networks: str = "runs/quick/networks"  # folder of the networks, made by 02_train_network
grid: str = "top"  # names of the networks of the grid, separated by spaces
three_slices: str = ""  # names of those with three neighbouring slices as input
references: str = ""  # names of the reference networks, and of networks that are trained in the same way beside them
top: str = "top"  # the network whose maps this run draws, whichever is chosen here
figures: str = "runs/quick/figures"  # where the figures go
tables: str = "runs/quick/tables"  # where the tables go
seed: int = 3  # random seed of the intervals, which resample patients (bootstrap)

# %% [markdown]
# ## What was trained

# %%
figures, tables = resolve(figures), resolve(tables)
groups = {"grid": grid.split(), "three_slices": three_slices.split(), "references": references.split()}
trained, missing = read_networks(require(networks, "02_train_network"), groups)
print({group: sum(network.group == group for network in trained.values()) for group in groups}, "of", len(trained))
print("Not trained yet:", ", ".join(missing) or "none")
if len(groups["grid"]) < 27:
    print("The grid of 27 networks: snakemake --configfile config/study.yaml config/grid.yaml")
if not references:
    print("The reference networks: add config/references.yaml to that command")

# %%
weights, stages = {}, {}
for name, network in trained.items():
    model = keras.models.load_model(network.folder / "model.keras", compile=False)
    weights[name], stages[name] = model.count_params(), stages_of(model)
described = describe(trained.values(), weights)
titles = titles_of(described)
built = ["group", "architecture", "kernels", "weights", "image_size", "channels"]
recipe = ["decay", "learning_rate", "batch_size", "epochs", "cut_off", "best_epoch", "lowest_val_loss", "gap"]
display(described.set_index("network")[built], described.set_index("network")[recipe].round(4))

# %% [markdown]
# ## Figure S1: block diagrams
#
# Each diagram is drawn from the trained Keras model itself. Networks that differ by nothing but the image size are
# drawn once, with the largest.

# %%
largest = described.sort_values("image_size", ascending=False).drop_duplicates(
    ["architecture", "kernels", "channels"]
)  # fmt: skip
drawn = [name for name in described["network"] if name in set(largest["network"])]
figure = draw_stages({f"{titles[name]}: {weights[name]:,} weights": stages[name] for name in drawn})
saved = save_figure(figure, figures / "s1")
display(figure)

# %% [markdown]
# **Figure S1.** The architectures of this run. A **box** is a stage: the layers whose output has the same size. The
# **number in a box** is how many rows and columns its output has. Its **height** grows with the logarithm of that size,
# its **width** with the logarithm of the number of channels. **Below** are the number of convolutions and of channels;
# branches that run side by side are counted together. Grey, the image; green, convolutions; yellow, the head, which
# reads the average of each channel or all its cells, and has so many dense layers and scores.

# %% [markdown]
# ## The reference networks' numbers of weights
#
# The Discussion sets 132,181 weights against those of five reference networks. Here these are built without their
# trained weights, and counted. The paper's numbers turn out to be those of networks for the 1000 classes of ImageNet,
# photographs in colour, cut off after the last printed digit. A network for one grey channel and five phases has fewer;
# the column `weights` of the first table counts those of the networks that were trained here.

# %%
counts = count_references()
display(counts.style.format({"weights": "{:,}"}).hide(axis="index"))

# %% [markdown]
# ## The choice
#
# The area under the receiver operating characteristic (ROC) curve, the *AUC*, of single **validation** slices decides.
# The function that chooses refuses any other split, since a choice that has seen the test slices would make the metrics
# on them too good.
#
# `difference` is a network's AUC minus that of the chosen one, with a 95 % interval that resamples patients. Where the
# interval includes 0, these validation patients do not distinguish the two networks, and the choice between them may be
# luck.

# %%
metrics = measure(trained.values())
candidates = {name: network for name, network in trained.items() if network.group in CANDIDATES}
validation = metrics[(metrics["split"] == "val") & metrics["network"].isin(candidates)]
ranking = choose(validation)
chosen = ranking.loc[0, "network"]
behind = auc_differences(candidates, chosen, "val", rng=np.random.default_rng([seed, 0]))
ranking = ranking.merge(behind[["network", "difference", "low", "high"]])
display(ranking.set_index("network").round(4))
alike = ranking["high"].iloc[1:] >= 0
print(f"chosen: {chosen} ({titles[chosen]}); not distinguished from it: {alike.sum()} of {len(alike)} others")
print(f"The maps of this run are those of {top}" + ("." if top == chosen else f", not of {chosen} (see `top:`)."))

# %% [markdown]
# ## Figures S2 and S3: the metrics of all networks
#
# Precision, recall and F1 are those of the paper: every phase has the same weight, and "precision" is the average
# precision of predictions that are certain of one phase (04_vote_slices explains it). AUC is the mean over the phases.

# %%
single, voting = (metrics[metrics["scheme"] == scheme] for scheme in ("single", "voting"))
files = {"s2": draw_metrics(single, titles, chosen)}
display(files["s2"])

# %%
files["s3"] = draw_metrics(voting, titles, chosen)
display(files["s3"])

# %% [markdown]
# **Figures S2 (single slices) and S3 (series after voting).** Metrics of each network of this run on the validation
# split (open circles) and the test split (filled). The shaded network is the one that was chosen. A row names image
# size, kernels of the blocks, and slices where there are three; or the reference network and its image size.

# %% [markdown]
# The same metrics as tables, one for each split.

# %%
for split in ("val", "test"):
    rows = metrics[metrics["split"] == split]
    counted = rows.groupby("scheme")["n"].first()
    print(f"{split}: {counted['single']} slices, {counted['voting']} series, {rows['n_patients'].iloc[0]} patients")
    wide = rows.pivot_table(index=["group", "network"], columns="scheme", values=list(METRICS), sort=False)
    display(wide.round(3))

# %% [markdown]
# ## Do validation and test differ, and does voting help?
#
# The paper tests both with t tests over its networks. The tests here are paired: each network gives one difference.
# `higher` is the number of networks with a positive difference, and `sign_p` the p value of the *sign test*, which asks
# how likely so uneven a split is if both signs are equally likely.
#
# Two cautions. All networks see the **same patients**. If the test patients happen to be harder than the validation
# patients, they are so for every network, and a t test over many networks then finds a difference that says nothing
# about networks. And validation series hold fewer slices than test series wherever the cohort was made so (the counts
# are printed above), so that a vote has less to work with in validation.

# %%
tests = compare_over_networks(metrics[metrics["group"] == "grid"])
display(tests.set_index(["comparison", "within", "metric"]).round(4))

# %% [markdown]
# ## Figure S5: how the networks learn
#
# The network that the references are compared with stands first: one of the paper's architecture that was trained in
# the same way, where there is one, or else the chosen network.

# %%
against = compared_with(described, chosen)
compared = [against, *(name for name in trained if trained[name].group == "references" and name != against)]
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
comparison = compare_references(
    described, {name: trained[name] for name in compared}, against,
    training_slices=(slices.slices["split"] == "train").sum(), rng=np.random.default_rng([seed, 1]),
)  # fmt: skip
on_test = {name: trained[name].predictions.query("split == 'test'") for name in compared}
curves = {name: roc_curves(table["phase"], table[list(PHASES)].to_numpy()) for name, table in on_test.items()}
roc = pd.concat([curve.assign(network=titles[name]) for name, curve in curves.items()])
auc = dict(zip(comparison["network"].map(titles), comparison["auc"], strict=True))
files["s5"] = draw_learning({titles[name]: trained[name].history for name in compared}, roc, auc)
display(
    files["s5"],
    caption(
        "Figure S5",
        on_test[against],
        "Of each network, above: loss by epoch, with the lowest validation loss circled; losses above 3 are cut "
        "off. In training, images are augmented and the weights still change. Below: ROC curves of single test slices, "
        "each phase against all others, with the mean AUC of the phases.",
    ),
)
learnt = ["weights", "epochs", "updates", "best_epoch", "lowest_val_loss", "auc", "difference", "low", "high"]
display(comparison.set_index("network")[learnt].round(4))

# %% [markdown]
# ## Figure S6: confusion matrices
#
# Which phases does each network confuse? One matrix for each network of Figure S5.

# %%
matrices = {titles[name]: confusion(table["phase"], table["predicted"]) for name, table in on_test.items()}
files["s6"] = draw_confusions(matrices, columns=min(3, len(matrices)))
display(files["s6"], caption("Figure S6", on_test[against], "Numbers of single test slices."))

# %% [markdown]
# ## Where the networks look
#
# The figure shows Grad-CAM of the labelled phase at the last layer that still has rows and columns, on the same slices
# for all networks. The slices are chosen by rule among those that the first network classifies correctly; the others
# may be wrong there. An image of 128 x 128 pixels leaves a reference network 2 x 2 to 4 x 4 cells; a map of a single
# cell shows nothing.

# %%
rows = representative_slices(trained[against].predictions)
maps = {}
for name in compared:
    model = keras.models.load_model(trained[name].folder / "model.keras", compile=False)
    images = slices.read(rows, Standardisation.load(trained[name].folder / "standardisation.json"))
    layer = last_grid_layer(model)
    found = Attributor(model, [layer])(images, rows["phase"].map(PHASES.index).to_numpy(), ["grad_cam"])
    maps |= {(phase, "grad_cam", name): found["grad_cam", layer][n] for n, phase in enumerate(rows["phase"])}
shown = Maps(dict(zip(rows["phase"], slices.read_hu(rows, 256), strict=True)), maps, {phase: phase for phase in PHASES})
files["grad_cam_networks"] = draw_maps(shown, [MapRow(name, "grad_cam", name, "range") for name in compared])
display(files["grad_cam_networks"], caption("Grad-CAM of several networks", rows))

# %% [markdown]
# ## Save

# %%
results = {
    "networks": described, "network_metrics": metrics, "network_ranking": ranking, "network_tests": tests,
    "reference_networks": comparison, "reference_weights": counts,
}  # fmt: skip
for name, table in results.items():
    with atomic_path(tables / f"{name}.csv") as file:
        table.to_csv(file, index=False)
for name, figure in files.items():
    saved += save_figure(figure, figures / name)
inputs = tuple(network.folder / "predictions.parquet" for network in trained.values())
for file in saved[::2]:
    write_sidecar(file, notebook="03_select_network", parameters={"seed": seed} | groups, inputs=inputs)

# %% [markdown]
# ## Against the paper
#
# 17_compare_with_paper puts these findings into the table of claims. The rules, one for each claim:
#
# | claim | rule |
# |---|---|
# | C17 | each number, cut off after the last digit that the paper prints, is the paper's |
# | C19 | VGG16's lowest validation loss stays within .01 of ln 5, the loss of guessing |
# | C20 | the best epoch of each of the other four is one of the first three; only where the rate falls on plateaus |
# | C21 | no reference network's AUC on test is higher: the intervals of all five differences end at 0 or below |
# | C22 | the best epoch of the compared phase network comes after those of all four; only with the same recipe |
# | C29 | all eight 95 % intervals of test minus validation lie within .02 |
# | C30 | precision: both intervals of voting minus single slices lie above 0; recall, and F1 on test: p < .1 |
# | C31 | precision on test is higher in every network of the grid, and the sign test has p < .05 |
#
# C29 to C31 need two networks of the grid. Where a claim is missing here, its networks are missing. C19 to C22 are
# *undecided* where reference networks were cut off before 3,600 updates of their weights, about as many as in the
# paper's first three epochs with 32 slices in a batch. C19 and C21 can still be contradicted by such a network, but not
# supported.

# %%
findings = grid_claims(described, metrics, ranking, tests) + reference_claims(comparison, counts)
with pd.option_context("display.max_colwidth", None):
    display(findings_table(findings)[["measured", "verdict"]])

# %% [markdown]
# ## What we saw
#
# The sentences below are made from the tables of this run.

# %%
print(f"{chosen} ({titles[chosen]}) has the highest validation AUC, {ranking.loc[0, 'auc_single']:.3f}.")
print(f"Of {len(alike)} others, {alike.sum()} cannot be distinguished from it by these validation patients.")
for finding in findings:
    print(f"{finding.id}: {finding.verdict}.")

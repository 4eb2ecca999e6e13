# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 19 · Measure organs: what a ruler sees
#
# How well would a reader do who knows every organ and only measures it? Seven mean HUs a slice, a decision tree, and
# the network's single-slice predictions on the same test slices beside it.
#
# | | |
# |---|---|
# | **reads** | `cohort/` with a truth of the tissues (`tissues.zarr`), and the predictions of 02_train_network |
# | **writes** | `tables/organ_baseline.csv`, `figures/organ_baseline` (png, pdf) |
# | **takes** | 2 ms a slice at 256 x 256, and seconds for the trees |
#
# This is a baseline that the network should approach, not a bound: it measures noisy, blurred images like the network,
# but is told where the organs are; and it sees seven numbers, where the network may use all that is in the image.

# %% [markdown]
# ![F1 of the network and of two trees on organ measurements](../figures/organ_baseline.png)
#
# **The network beside two trees, as published by this project.** Left: F1, the harmonic mean of precision and recall,
# of single test slices by phase and in the mean of the phases. Right: how much higher the F1 of each tree is than that
# of the network on the same slices. Lines are 95 % intervals that resample patients; one that does not cross 0 says
# that the two differ. The numbers of slices and patients stand at each phase.

# %%
from IPython.display import display
import numpy as np
import pandas as pd
from sklearn.tree import export_text

from lib.tissue_shares import with_truth
from lib.cohort import Cohort
from lib.figures.captions import caption
from lib.figures.prediction import draw_f1_differences
from lib.figures.style import save_figure
from lib.metrics import adjacent_errors, confusion
from lib.organ_baseline import compare_rulers, fit_rulers, measure_organs
from lib.paper import PHASES
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
predictions: str = "runs/quick/networks/top/predictions.parquet"  # made by 02_train_network
tables: str = "runs/quick/tables"  # where the table goes
figures: str = "runs/quick/figures"  # where the figure goes
min_voxels: int = 10  # an organ with fewer on a slice is missing there
resamples: int = 2000  # of the bootstrap over patients
seed: int = 19  # of the trees and the bootstrap

# %% [markdown]
# ## Measure
#
# Mean HU in the image of every organ on every slice of the training and test split, where its segmentation says it is;
# an organ that is not on a slice is missing, and a branch of its own in the trees. Two differences come along, because
# a tree cannot subtract and a reader does.

# %%
prepared = Cohort.open(require(cohort, "01_prepare_cohort"))
predictions = require(predictions, "02_train_network")
predicted = pd.read_parquet(predictions).query("split == 'test'")[["series", "slice", "predicted"]]
slices = with_truth(prepared, prepared.slices[prepared.slices["phase"].isin(PHASES)])
train = slices[slices["split"] == "train"].reset_index(drop=True)
test = slices.merge(predicted, on=["series", "slice"], validate="one_to_one")
organs, organs_test = (measure_organs(prepared, rows, min_voxels=min_voxels) for rows in (train, test))
print(f"{len(train)} slices of {train.patient.nunique()} patients to train, "
      f"{len(test)} of {test.patient.nunique()} to test")  # fmt: skip
display(organs_test.groupby(test["phase"]).median().reindex(PHASES).round(0))
display((100 * organs_test.isna().mean()).round(1).rename("missing (%)").to_frame().T)

# %% [markdown]
# ## The tree
#
# Its size is chosen by cross-validation over patients of the training split. In words it is what a radiology text
# would say, with numbers.

# %%
rulers = fit_rulers(organs, train, seed=seed)
tree = rulers["decision tree"]
print(export_text(tree, feature_names=list(organs), decimals=0, class_names=list(tree.classes_)))

# %% [markdown]
# ## Beside the network
#
# F1 by phase on single slices, and its difference from the network's with an interval that resamples patients.

# %%
answers = {"network": test["predicted"].to_numpy()} | {name: r.predict(organs_test) for name, r in rulers.items()}
table = compare_rulers(test, answers, "network", rng=np.random.default_rng(seed), resamples=resamples)
display(table.pivot_table(index="classifier", columns="phase", values="f1", sort=False).round(3))
table.query("classifier != 'network'").drop(columns=["precision", "recall"]).round(3)

# %%
figure = draw_f1_differences(table, "network")
display(figure, caption("The network beside two trees", test))

# %% [markdown]
# ## Save

# %%
files = save_figure(figure, resolve(figures) / "organ_baseline")
write_sidecar(files[0], notebook="19_measure_organs", parameters={"min_voxels": min_voxels, "resamples": resamples},
              seed=seed, inputs=(predictions,))  # fmt: skip
with atomic_path(resolve(tables) / "organ_baseline.csv") as file:
    table.to_csv(file, index=False)

# %% [markdown]
# ## The gap
#
# Where does the network fall behind the ruler? If the slices that it misses are ones that the ruler gets right, the
# phase was there to be seen, and more training, data or resolution may close the gap. What both miss may be in dispute:
# labels of the continuum between two phases, on which readers may differ too.

# %%
network_right, tree_right = (answers[name] == test["phase"].to_numpy() for name in ("network", "decision tree"))
gap = pd.crosstab(test["phase"], [network_right, tree_right], normalize="index").reindex(PHASES)
gap = gap.reindex(columns=[(True, True), (False, True), (True, False), (False, False)], fill_value=0.0)
gap.columns = ["both right", "only the tree", "only the network", "neither"]
display((100 * gap).round(1))
for name, matrix in {name: confusion(test["phase"], answer) for name, answer in answers.items()}.items():
    f1 = table.query("classifier == @name and phase == 'mean'")["f1"].item()
    print(f"{name}: macro F1 {f1:.3f}, {100 * adjacent_errors(matrix):.0f} % of the errors in a neighbouring phase")

# %% [markdown]
# A warning on the size of the gap. The phantom's labels are given by a reader that looks at just these organs, free of
# noise, so that a tree on organ HUs is nearly the labelling rule itself: its score says how much blur, noise and the
# reader's errors leave of it. In patients labels come from scan protocols and eyes, and no ruler is that close to
# them. The paper's network reached a macro F1 of .862 on single slices (plain like those above, from its Table 1; the
# .860 that it prints is class-balanced).

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Figure 2: how specific the maps are
#
# Makes **Figure 2**: what is left of the probability of the right phase when the tenth of the voxels that a map ranks
# highest, or lowest, is overwritten with noise (A), and the four maps beside each other (B).
#
# | | |
# |---|---|
# | **reads** | `masking/` of 06_mask_voxels |
# | **writes** | `figures/fig2` (png, pdf), `tables/fig2.csv` (bars and their tests), `tables/fig2_pairs.csv` |
# | **takes** | seconds |
#
# A map is *specific* here if hiding few voxels of its choice costs much probability: **low bars are good**. The paper
# has no control for what a tenth of the voxels costs wherever it lies; the lines are two such controls. The red one is
# a random tenth of the image, half of it air where nothing is lost; the dashed one has as many voxels, all of them in
# the body, and is the one that a map has to beat.

# %%
from IPython.display import display
from itertools import combinations

import pandas as pd

from lib.figures.bars import draw_specificity
from lib.claims.maps import masking_claims
from lib.figures.style import save_figure
from lib.patient_statistics import Finding
from lib.paper import FINAL_MAPS
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve
from lib.masking_controls import CONTROLS
from lib.masking_tests import letters, level_tests, paired_tests, read_masking, read_reading, slice_means

# %% tags=["parameters"]
masking: str = "runs/quick/masking/top"  # made by 06_mask_voxels
figures: str = "runs/quick/figures"  # where the figure goes
tables: str = "runs/quick/tables"  # where the tables go

# %% [markdown]
# ## Load
#
# The unit of the paper's tests is the slice: draws of noise are averaged first. Slices of a patient resemble each
# other, so that every test stands twice: on slices, as in the paper, and with patients as units (`low`, `high`: 95 %
# interval by resampling whole patients; `patient_p`: t test of the patients' means).

# %%
figures, tables = resolve(figures), resolve(tables)
masking = require(masking, "06_mask_voxels")
reading, means = read_reading(masking), slice_means(read_masking(masking))
print(f"{means.drop_duplicates(['series', 'slice']).shape[0]} slices of {means.patient.nunique()} patients, "
      f"{means.draws.max()} draws each")  # fmt: skip
# %% [markdown]
# ## A: every map against 100 %
#
# 4 maps x 5 phases x 2 regions: one-sample t tests, Bonferroni over 40.

# %%
shown = means[pd.MultiIndex.from_frame(means[["method", "layer"]]).isin(FINAL_MAPS)]
levels = level_tests(shown, 100.0)
control = level_tests(means[means["method"].isin(CONTROLS)], 100.0)
columns = ["mean", "sd", "n_slices", "n_patients", "low", "high", "p_bonferroni", "patient_p"]
display(levels.query("region == 'top'").set_index(["method", "phase"])[columns].round(3))
display(control.set_index(["method", "phase"])[["mean", "sd", "n_slices"]].round(1))

# %% [markdown]
# ## B: the maps against each other
#
# 6 pairs x 5 phases on the same slices: paired t tests, Bonferroni over 30. A negative mean says that the first map
# is the more specific one.

# %%
pairs = paired_tests(means, list(combinations(FINAL_MAPS, 2)))
marks = letters(pairs, FINAL_MAPS)
display(pairs.set_index(["method", "other_method", "phase"])[[*columns, "effect_size"]].round(3))

# %% [markdown]
# ## Figure 2
#
# Bars are means over slices, whiskers one SD. \* differs from 100 % (p < .05 after Bonferroni); a, b, c differs from
# saliency, guided backpropagation, CAM. Lines: as many voxels at random.

# %%
figure = draw_specificity(levels, marks, FINAL_MAPS, control=control, fraction=reading["fraction"])
figure

# %% [markdown]
# ## Save

# %%
files = save_figure(figure, figures / "fig2")
inputs = tuple(sorted(masking.glob("*.parquet")))
write_sidecar(files[0], notebook="08_fig2_masking_specificity", parameters=reading, inputs=inputs)
with atomic_path(tables / "fig2.csv") as file:
    pd.concat([levels.merge(marks.assign(region="top"), how="left"), control]).to_csv(file, index=False)
with atomic_path(tables / "fig2_pairs.csv") as file:
    pairs.to_csv(file, index=False)

# %% [markdown]
# ## Against the paper
#
# The paper: masking the top tenth lowers the probability for every map and phase (C50), the bottom tenth leaves it as
# it is, or nearly (C51), saliency is the most specific of the four (C52), CAM and Grad-CAM are less specific than both
# maps at the input (C53), and CAM is slightly more specific than Grad-CAM in some phases (C54). All its techniques
# find voxels that the network uses (C61): here, more than random voxels of the body do. Verdicts need four of five
# phases; "reproduced" needs intervals by patient that exclude no difference, or for C51 lie within 95 to 105 %.

# %%
found = pd.DataFrame(masking_claims(means), columns=Finding._fields).set_index("id")
with pd.option_context("display.max_colwidth", None):
    display(found.loc[["C50", "C51", "C52", "C53", "C54", "C61"], ["measured", "verdict"]])

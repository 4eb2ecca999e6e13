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
# has no control for what a tenth of the voxels costs wherever it lies; here several such controls stand beside the
# maps, and a map has to beat those that mask voxels of the body in patches as large as its own.

# %% [markdown]
# ![Figure 2: what masking leaves of the probability, by map and phase](../figures/fig2.png)
#
# **Figure 2, as published by this project.** Relative probability: what is left of the probability of the right phase
# after masking, 100 % being that of the untouched slice. **A**, masking the tenth of the voxels that a map ranks
# highest (filled) or lowest (hatched). An **asterisk** says that the mean differs from 100 % (p < .05, t test on
# slices, Bonferroni over the 40 bars). **B**, the filled bars of A beside each other. **Letters** above a bar name the
# maps from which it differs: a, saliency; b, guided backpropagation; c, CAM (p < .05, paired t tests on slices,
# Bonferroni over the 30 comparisons). **Bars** are means over slices. **Whiskers** are one standard deviation (SD) over
# slices; where that would pass the lowest or highest slice the whisker ends there, without a cap. **Light points** are
# single slices: many of these distributions have two peaks, near 0 and near 100 %, where a mean and its SD say little.
# A bar below 3 % has its **value printed**. **Red marks** are means of controls, which mask as many voxels without such
# a map of this slice: any voxels of the image; any voxels of the body; a disc about the body's centroid (these three
# stand beside the bars, with their slices); blocks, random cells of the body as large as the layer's; what the same map
# marks on another patient's slice of the same phase; and what it marks for the same network before training (these
# stand at the bar that they belong to). The numbers of slices and patients stand at each phase. Noncon = unenhanced, CM
# = corticomedullary, CM-neph = corticomedullary to early nephrographic, Neph = nephrographic, Pyelo = pyelographic.

# %%
from IPython.display import display
from itertools import combinations

import pandas as pd

from lib.figures.bars import draw_specificity
from lib.figures.captions import caption
from lib.figures.controls import is_control
from lib.figures.differences import draw_differences
from lib.claims.maps import masking_claims
from lib.figures.style import save_figure
from lib.claims.findings import findings_table
from lib.paper import FINAL_MAPS, LAYERS
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve
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
levels = level_tests(shown[shown["region"].isin(["top", "bottom"])], 100.0)
control = level_tests(means[is_control(means)], 100.0)
columns = ["mean", "sd", "n_slices", "n_patients", "low", "high", "p_bonferroni", "patient_p"]
display(levels.query("region == 'top'").set_index(["method", "phase"])[columns].round(3))
display(control.set_index(["method", "layer", "region", "phase"])[["mean", "sd", "n_slices"]].round(1))

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

# %%
figure = draw_specificity(levels, marks, FINAL_MAPS, control=control, slices=means, fraction=reading["fraction"])
display(figure, caption("Figure 2", shown, "Bars, whiskers, points, marks and letters as explained at the top."))

# %% [markdown]
# ## Each map less its control
#
# Does a map find more of what the network needs than voxels that know nothing of the network? Each map is compared with
# its matched control on the same slices: maps at a layer with random blocks as large as the layer's cells, maps at the
# input with random voxels of the body (of the image, where the body is not known). Left of 0 the map costs more
# probability than its control. Lines are 95 % intervals that resample patients.

# %%
everything = [*FINAL_MAPS[:3], *((method, layer) for method in ("grad_cam", "sam") for layer in LAYERS)]
body = "random_body" if "random_body" in set(means["method"]) else "random"
matched = [((method, layer), (body, "-") if layer == "input" else ("blocks", layer)) for method, layer in everything]
less = paired_tests(means[means["region"].isin(["top", "random"])].assign(region="top"), matched)
differences = less.rename(columns={"mean": "value"}).assign(network="this network")
figure_of_differences = draw_differences(differences)
display(figure_of_differences, caption("Maps less their controls", means))

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
files = save_figure(figure_of_differences, figures / "maps_less_controls")
write_sidecar(files[0], notebook="08_fig2_masking_specificity", parameters=reading, inputs=inputs)
with atomic_path(tables / "maps_less_controls.csv") as file:
    differences.to_csv(file, index=False)

# %% [markdown]
# ## Against the paper
#
# The paper: masking the top tenth lowers the probability for every map and phase (C50), the bottom tenth leaves it as
# it is, or nearly (C51), saliency is the most specific of the four (C52), CAM and Grad-CAM are less specific than both
# maps at the input (C53), and CAM is slightly more specific than Grad-CAM in some phases (C54). All its techniques
# find voxels that the network uses (C61): here, more than random voxels of the body do. Verdicts need four of five
# phases; "reproduced" needs intervals by patient that exclude no difference, or for C51 lie within 95 to 105 %.

# %%
with pd.option_context("display.max_colwidth", None):
    display(findings_table(masking_claims(means), "C50", "C51", "C52", "C53", "C54", "C61")[["measured", "verdict"]])

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Figure 5: SAM against Grad-CAM
#
# Which of the two maps marks more of what the network needs, at the same layer? This notebook makes **Figure 5**: what
# is left of the probability of the right phase when the tenth of the voxels that SAM, or Grad-CAM, ranks highest is
# overwritten with noise.
#
# | | |
# |---|---|
# | **reads** | `masking/` of 06_mask_voxels |
# | **writes** | `figures/fig5` (png, pdf), `tables/fig5.csv` (bars), `tables/fig5_pairs.csv` (tests) |
# | **takes** | seconds |
#
# **Low bars are good**: the map found voxels that the network needs.

# %% [markdown]
# ![Figure 5: SAM against Grad-CAM by layer and phase](../figures/fig5.png)
#
# **Figure 5, as published by this project.** Relative probability of the right phase (100 %: the untouched slice) after
# masking the tenth of the voxels that SAM (green) or Grad-CAM (white) ranks highest at a layer, one panel per phase. An
# **asterisk** above a layer says that SAM and Grad-CAM differ there (p < .05, paired t test on slices, corrected for
# the 25 comparisons after Bonferroni). **Bars** are means over slices. **Whiskers** are one standard deviation (SD)
# over slices; a whisker that would pass the lowest or highest slice ends there, without a cap. **Light points** are
# single slices: many of these distributions have two peaks, near 0 and near 100 %, where a mean and its SD say little.
# A bar below 3 % has its **value printed**. **Red marks** are means of controls, which mask as many voxels, chosen
# without this map of this slice. Three stand beside the bars, with their slices: random voxels of the image, random
# voxels of the body, and a disc about the body's centroid. Three stand at the bar that they belong to: blocks (random
# cells of the body as large as the layer's), what the same map marks on another patient's slice of the same phase, and
# what it marks for the same network before training. The numbers of slices and patients stand above each panel. Noncon
# = unenhanced, CM = corticomedullary, CM-neph = corticomedullary to early nephrographic, Neph = nephrographic, Pyelo =
# pyelographic.

# %%
from IPython.display import display
import pandas as pd

from lib.claims.findings import findings_table
from lib.claims.maps import masking_claims
from lib.figures.bars import draw_layer_comparison
from lib.figures.captions import caption
from lib.figures.controls import is_control
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.masking.statistics import paired_tests, read_masking, read_reading, slice_means, summarise
from lib.paper import LAYERS
from lib.provenance import write_sidecar

# %% tags=["parameters"]
masking: str = "runs/quick/masking/top"  # made by 06_mask_voxels
figures: str = "runs/quick/figures"  # where the figure goes
tables: str = "runs/quick/tables"  # where the tables go

# %% [markdown]
# ## Load
#
# The paper's tests take slices as units: the draws of noise are averaged first. But slices of one patient resemble each
# other and are not independent. So every test stands here twice. `p_bonferroni` is the paper's t test on slices, with
# the p value multiplied by the number of tests in the figure (*Bonferroni*), since among many tests some look
# significant by chance. `low` and `high` are a 95 % interval that resamples whole patients, and `patient_p` is the t
# test of the patients' means. `mean` and `sd` are in per cent (differences: in points), and `effect_size` is the mean
# divided by the standard deviation.

# %%
figures, tables = resolve(figures), resolve(tables)
masking = require(masking, "06_mask_voxels")
reading, means = read_reading(masking), slice_means(read_masking(masking))
print(f"{means.drop_duplicates(['series', 'slice']).shape[0]} slices of {means.patient.nunique()} patients, "
      f"{means.draws.max()} draws each")  # fmt: skip

# %% [markdown]
# ## SAM against Grad-CAM, layer by layer
#
# Five layers in five phases give 25 paired t tests, on the same slices. A negative mean says that SAM leaves less
# probability and so is the more specific one.

# %%
shown = means[means["method"].isin(["sam", "grad_cam"]) & (means["region"] == "top")]
levels = summarise(shown)
control = summarise(means[is_control(means)])
same_layer = [(("sam", layer), ("grad_cam", layer)) for layer in LAYERS]
pairs = paired_tests(means, same_layer)
columns = ["mean", "sd", "n_slices", "n_patients", "low", "high", "p_bonferroni", "patient_p", "effect_size"]
display(pairs.set_index(["layer", "phase"])[columns].round(3))

# %% [markdown]
# ## Figure 5
#
# Below is the figure of this run, with its own numbers of slices and patients.

# %%
options = {"control": control, "slices": means, "fraction": reading["fraction"]}
figure = draw_layer_comparison(levels, pairs, LAYERS, **options)
display(figure, caption("Figure 5", shown, "Bars, whiskers, points and marks as explained at the top."))

# %% [markdown]
# ## Save

# %%
files = save_figure(figure, figures / "fig5")
inputs = tuple(sorted(masking.glob("*.parquet")))
write_sidecar(files[0], notebook="11_fig5_sam_against_grad_cam", parameters=reading, inputs=inputs)
with atomic_path(tables / "fig5.csv") as file:
    pd.concat([levels, control]).to_csv(file, index=False)
with atomic_path(tables / "fig5_pairs.csv") as file:
    pairs.to_csv(file, index=False)

# %% [markdown]
# ## Against the paper
#
# The paper says that SAM is more specific at 2b, 3b and 4b, in all phases but the unenhanced one (C57); we take this
# exception to apply to layer 4b only. At 5b there is no difference except in the unenhanced phase, and at layer 6 none
# (C58). The last is algebra as long as the maps differentiate the logit: at layer 6 SAM is CAM plus a constant, and
# Grad-CAM is the positive part of CAM.
#
# A claim of no difference is reproduced where the intervals lie within 5 points. With few slices they are wider, and it
# stays undecided.

# %%
with pd.option_context("display.max_colwidth", None):
    display(findings_table(masking_claims(means), "C57", "C58", "C60")[["measured", "verdict"]])

# %% [markdown]
# ## What we saw
#
# At shallow layers SAM and Grad-CAM are different maps, and the table above says where one is more specific than the
# other; at the last layer they cannot differ. Compare the bars with the red marks before you call either of them
# specific: in some phases random blocks cost as much. This is one network; 17_compare_with_paper compares several.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · Figure 6: SAM by layer
#
# At which layer does SAM mark most of what the network needs? This notebook makes **Figure 6**: what is left of the
# probability of the right phase when the tenth of the voxels that SAM ranks highest is overwritten, for each layer.
#
# | | |
# |---|---|
# | **reads** | `masking/` of 06_mask_voxels |
# | **writes** | `figures/fig6` (png, pdf), `tables/fig6.csv` (bars), `tables/fig6_pairs.csv` (tests) |
# | **takes** | seconds |
#
# **Low bars are good**: the map found voxels that the network needs.

# %% [markdown]
# ![Figure 6: SAM by layer and phase](../figures/fig6.png)
#
# **Figure 6, as published by this project.** Relative probability of the right phase (100 %: the untouched slice) after
# masking the tenth of the voxels that SAM ranks highest, from the shallowest layer (dark) to the deepest (light).
# **Letters** above a bar name the shallower layers from which it differs: a, 2b; b, 3b; c, 4b; d, 5b (p < .05, paired t
# tests on slices, corrected for the 50 comparisons after Bonferroni). **Bars** are means over slices. **Whiskers** are
# one standard deviation (SD) over slices; a whisker that would pass the lowest or highest slice ends there, without a
# cap. **Light points** are single slices: many of these distributions have two peaks, near 0 and near 100 %, where a
# mean and its SD say little. A bar below 3 % has its **value printed**. A phase whose bars all lie near 0 is not empty:
# hardly any probability is left there, whichever layer is masked. **Red marks** are means of controls, which mask as
# many voxels, chosen without this map of this slice. Three stand beside the bars, with their slices: random voxels of
# the image, random voxels of the body, and a disc about the body's centroid. Three stand at the bar that they belong
# to: blocks (random cells of the body as large as the layer's), what the same map marks on another patient's slice of
# the same phase, and what it marks for the same network before training. The numbers of slices and patients stand at
# each phase. Noncon = unenhanced, CM = corticomedullary, CM-neph = corticomedullary to early nephrographic, Neph =
# nephrographic, Pyelo = pyelographic.

# %%
from IPython.display import display
from itertools import combinations

import pandas as pd

from lib.claims.findings import findings_table
from lib.claims.maps import masking_claims
from lib.figures.bars import draw_layers
from lib.figures.captions import caption
from lib.figures.controls import is_control
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.masking.statistics import letters, paired_tests, read_masking, read_reading, slice_means, summarise
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
# ## The layers against each other
#
# Ten pairs of layers in five phases give 50 paired t tests, on the same slices. A negative mean says that the shallower
# layer leaves less probability and so is the more specific one.

# %%
sams = [("sam", layer) for layer in LAYERS]
levels = summarise(means.query("method == 'sam' and region == 'top'"))
control = summarise(means[is_control(means)])
pairs = paired_tests(means, list(combinations(sams, 2)))
marks = letters(pairs, sams)
columns = ["mean", "sd", "n_slices", "n_patients", "low", "high", "p_bonferroni", "patient_p", "effect_size"]
display(pairs.set_index(["layer", "other_layer", "phase"])[columns].round(3))

# %% [markdown]
# ## Figure 6
#
# Below is the figure of this run, with its own numbers of slices and patients.

# %%
figure = draw_layers(levels, marks, LAYERS, control=control, slices=means, fraction=reading["fraction"])
display(figure, caption("Figure 6", means.query("method == 'sam'"), "Everything else as explained at the top."))

# %% [markdown]
# ## Save

# %%
files = save_figure(figure, figures / "fig6")
inputs = tuple(sorted(masking.glob("*.parquet")))
write_sidecar(files[0], notebook="12_fig6_sam_layer_specificity", parameters=reading, inputs=inputs)
with atomic_path(tables / "fig6.csv") as file:
    pd.concat([levels.merge(marks.assign(region="top"), how="left"), control]).to_csv(file, index=False)
with atomic_path(tables / "fig6_pairs.csv") as file:
    pairs.to_csv(file, index=False)

# %% [markdown]
# ## Against the paper
#
# The paper says that SAM is more specific at 2b, 3b and 4b than at 5b and 6, in every phase (C59). All six pairs of
# layers have to hold for a phase to count.

# %%
with pd.option_context("display.max_colwidth", None):
    display(findings_table(masking_claims(means), "C59")[["measured", "verdict"]])

# %% [markdown]
# ## What we saw
#
# In the published figure no layer is the best in every phase. A fine map can choose single voxels, a coarse one only
# whole cells, so that part of the difference between layers is one of shape. The control of blocks at each layer shows
# how large that part is.

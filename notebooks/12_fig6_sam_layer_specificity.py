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
# Makes **Figure 6**: what is left of the probability of the right phase when the tenth of the voxels is overwritten
# that SAM ranks highest, for each layer.
#
# | | |
# |---|---|
# | **reads** | `masking/` of 06_mask_voxels |
# | **writes** | `figures/fig6` (png, pdf), `tables/fig6.csv` (bars), `tables/fig6_pairs.csv` (tests) |
# | **takes** | seconds |
#
# **Low bars are good**: the map found voxels that the network needs.

# %%
from IPython.display import display
from itertools import combinations

import numpy as np
import pandas as pd

from lib.figures.bars import draw_layers
from lib.claims.maps import masking_claims
from lib.figures.style import save_figure
from lib.patient_statistics import Finding
from lib.paper import LAYERS
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve
from lib.masking_tests import letters, paired_tests, read_masking, slice_means, summarise

# %% tags=["parameters"]
masking: str = "runs/quick/masking"  # made by 06_mask_voxels
figures: str = "runs/quick/figures"  # where the figure goes
tables: str = "runs/quick/tables"  # where the tables go
within: str = "image"  # which voxels were ranked, as in 06_mask_voxels
score: str = "logit"  # what was differentiated, as in 06_mask_voxels
fill: str = "normal"  # what was written over them, as in 06_mask_voxels
fraction: float = 0.1  # of the voxels, as in 06_mask_voxels
resamples: int = 2000  # of the bootstrap over patients
seed: int = 8  # of the bootstrap

# %% [markdown]
# ## Load
#
# The unit of the paper's tests is the slice: draws of noise are averaged first. Slices of a patient resemble each
# other, so that every test stands twice: on slices, as in the paper, and with patients as units (`low`, `high`: 95 %
# interval by resampling whole patients; `patient_p`: t test of the patients' means).

# %%
reading = {"within": within, "score": score, "fill": fill, "fraction": fraction}
figures, tables = resolve(figures), resolve(tables)
masking = require(masking, "06_mask_voxels")
means = slice_means(read_masking(masking, **reading))
rng = np.random.default_rng(seed)
print(f"{means.drop_duplicates(['series', 'slice']).shape[0]} slices of {means.patient.nunique()} patients, "
      f"{means.draws.max()} draws each")  # fmt: skip
# %% [markdown]
# ## The layers against each other
#
# 10 pairs of layers x 5 phases on the same slices: paired t tests, Bonferroni over 50. A negative mean says that the
# shallower layer is the more specific one.

# %%
sams = [("sam", layer) for layer in LAYERS]
levels = summarise(means.query("method == 'sam' and region == 'top'"))
pairs = paired_tests(means, list(combinations(sams, 2)), rng=rng, resamples=resamples)
marks = letters(pairs, sams)
columns = ["mean", "sd", "n_slices", "n_patients", "low", "high", "p_bonferroni", "patient_p", "effect_size"]
display(pairs.set_index(["layer", "other_layer", "phase"])[columns].round(3))

# %% [markdown]
# ## Figure 6
#
# Bars are means over slices, whiskers one SD. a, b, c, d: differs from layer 2b, 3b, 4b, 5b (p < .05 after
# Bonferroni).

# %%
figure = draw_layers(levels, marks, LAYERS, fraction=fraction)
figure

# %% [markdown]
# ## Save

# %%
files = save_figure(figure, figures / "fig6")
inputs = tuple(sorted(masking.glob("*.parquet")))
parameters = reading | {"resamples": resamples}
write_sidecar(files[0], notebook="12_fig6_sam_layer_specificity", parameters=parameters, seed=seed, inputs=inputs)
with atomic_path(tables / "fig6.csv") as file:
    levels.merge(marks.assign(region="top"), how="left").to_csv(file, index=False)
with atomic_path(tables / "fig6_pairs.csv") as file:
    pairs.to_csv(file, index=False)

# %% [markdown]
# ## Against the paper
#
# The paper: SAM is more specific at 2b, 3b and 4b than at 5b and 6, in every phase (C59). All six pairs have to hold
# for a phase to count.

# %%
found = pd.DataFrame(masking_claims(means), columns=Finding._fields).set_index("id")
with pd.option_context("display.max_colwidth", None):
    display(found.loc[["C59"], ["measured", "verdict"]])

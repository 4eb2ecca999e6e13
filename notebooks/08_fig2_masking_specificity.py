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
# Does a map mark the voxels that the network needs? This notebook makes **Figure 2**: what is left of the probability
# of the right phase when the tenth of the voxels that a map ranks highest, or lowest, is overwritten with noise (A),
# and the four maps beside each other (B).
#
# | | |
# |---|---|
# | **reads** | `masking/` of 06_mask_voxels |
# | **writes** | figures and tables `fig2`, `maps_less_controls` and `where_masked_go`; table `fig2_pairs` |
# | **takes** | seconds |
#
# The paper calls a map *specific* if hiding the few voxels that it chooses costs much probability: **low bars are
# good**. The paper has no control for what *any* tenth of the voxels costs. Here several controls stand beside the
# maps. To be called good, a map has to beat the control of its own shape: random voxels of the body for a map at the
# input, random blocks as large as its cells for a map at a layer.

# %% [markdown]
# ![Figure 2: what masking leaves of the probability, by map and phase](../figures/fig2.png)
#
# **Figure 2, as published by this project.** Relative probability: what is left of the probability of the right phase
# after masking, 100 % being that of the untouched slice. **A**, masking the tenth of the voxels that a map ranks
# highest (filled) or lowest (hatched). An **asterisk** says that the mean differs from 100 % (p < .05, t test on
# slices, corrected for the 40 bars after Bonferroni). **B**, the filled bars of A beside each other. **Letters** above
# a bar name the maps from which it differs: a, saliency; b, guided backpropagation; c, CAM (p < .05, paired t tests on
# slices, corrected for the 30 comparisons after Bonferroni). **Bars** are means over slices. **Whiskers** are one
# standard deviation (SD) over slices; a whisker that would pass the lowest or highest slice ends there, without a cap.
# **Light points** are single slices: many of these distributions have two peaks, near 0 and near 100 %, where a mean
# and its SD say little. A bar below 3 % has its **value printed**. **Red marks** are means of controls, which mask as
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
from lib.figures.bars import draw_specificity
from lib.figures.captions import caption
from lib.figures.controls import is_control
from lib.figures.differences import draw_differences
from lib.figures.masked_predictions import draw_where_masked_go
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.masking.predictions import compare_orders, less_controls, predicted_after
from lib.masking.statistics import letters, level_tests, paired_tests, read_masking, read_reading, slice_means
from lib.paper import FINAL_MAPS, LAYERS, PHASES
from lib.provenance import write_sidecar

# %% tags=["parameters"]
masking: str = "runs/quick/masking/top"  # made by 06_mask_voxels
noise_network_masking: str = ""  # the same of a network trained with 02's noise_patches; "" if there is none
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
# ## A: every map against 100 %
#
# Four maps in five phases with two regions give 40 t tests of a mean against 100 %. The first table shows the highest
# tenth of each map. The second table shows the means of the controls, in per cent; `layer` says whose cells or maps
# they copy.

# %%
shown = means[pd.MultiIndex.from_frame(means[["method", "layer"]]).isin(FINAL_MAPS)]
levels = level_tests(shown[shown["region"].isin(["top", "bottom"])], 100.0)
control = level_tests(means[is_control(means)], 100.0)
columns = ["mean", "sd", "n_slices", "n_patients", "low", "high", "p_bonferroni", "patient_p"]
display(levels.query("region == 'top'").set_index(["method", "phase"])[columns].round(3))
by_control = control.pivot_table(index=["method", "layer", "region"], columns="phase", values="mean")
display(by_control[[phase for phase in PHASES if phase in by_control]].round(1))

# %% [markdown]
# ## B: the maps against each other
#
# Six pairs of maps in five phases give 30 paired t tests, on the same slices. A negative mean says that the first map
# leaves less probability and so is the more specific one.

# %%
pairs = paired_tests(means, list(combinations(FINAL_MAPS, 2)))
marks = letters(pairs, FINAL_MAPS)
display(pairs.set_index(["method", "other_method", "phase"])[[*columns, "effect_size"]].round(3))

# %% [markdown]
# ## Figure 2
#
# Below is the figure of this run, with its own numbers of slices and patients.

# %%
figure = draw_specificity(levels, marks, FINAL_MAPS, control=control, slices=means, fraction=reading["fraction"])
display(figure, caption("Figure 2", shown, "Bars, whiskers, points, marks and letters as explained at the top."))

# %% [markdown]
# ## Each map minus its control
#
# Does a map find more of what the network needs than voxels that know nothing of the network? Each map is compared with
# its matched control on the same slices. For a map at a layer, the control is random blocks of the body as large as the
# layer's cells; for a map at the input, random voxels of the body.
#
# Left of 0 the map costs more probability than its control. Points are means, lines 95 % intervals that resample
# patients.

# %%
everything = [*FINAL_MAPS[:3], *((method, layer) for method in ("grad_cam", "sam") for layer in LAYERS)]
body = "random_body" if "random_body" in set(means["method"]) else "random"
matched = [((method, layer), (body, "-") if layer == "input" else ("blocks", layer)) for method, layer in everything]
less = paired_tests(means[means["region"].isin(["top", "random"])].assign(region="top"), matched)
differences = less.rename(columns={"mean": "value"}).assign(network="this network")
figure_of_differences = draw_differences(differences)
words = "Points are means, lines 95 % intervals that resample patients. Left of 0 the map costs more than its control."
display(figure_of_differences, caption("Maps minus their controls", means, words))

# %% [markdown]
# ## Where masked images go
#
# A masked slice that is no longer called by its label is called something else. What? The probability of the right
# phase cannot say. It falls if the network has lost what it needs, but also if the noise looks like another phase. The
# network has never seen noise inside a body. Still it has to name one of five phases, and often it names the same one
# for most such images. Slices of that phase keep their probability, and slices of the others lose it, whatever a map
# marks.
#
# So look at where the images go. In **A** each row of a panel is a labelled phase, and the numbers say which phase the
# network names after masking, in per cent of the row; on the diagonal the phase is unchanged. If the panels of the
# maps look like those of the controls (red titles), the noise decides and not the map. **B** shows the cost of masking
# in two units, each alone and minus the control of the same shape: probability, and *log-odds*, log(p / (1 - p)).
# Log-odds have no floor and no ceiling, so that a change near 0 or 100 % counts as much as one near 50 %.

# %%
masks = [(*name, "top") for name in (*FINAL_MAPS, ("sam", "conv3b"))]
masks += [(body, "-", "random"), ("blocks", "conv6", "random"), ("disc", "-", "top")]
measured = read_masking(masking)
shares, changes = predicted_after(measured), less_controls(means, everything)
held = set(shares[["method", "layer", "region"]].itertuples(index=False, name=None))
figure_of_shares = draw_where_masked_go(shares, changes, [mask for mask in masks if mask in held])
words = "**A**, phase named after masking, per cent of the labelled phase. **B**, cost of masking; bars: phases' mean."
display(figure_of_shares, caption("Where masked images go", means, words))

# %% [markdown]
# The table says which part of all masked slices gets each phase, in per cent. The phases count alike, so that each
# would get 20 if masking changed nothing. A phase that gets more from every mask, also from those of the controls, is
# the one that this network sees in noise.

# %%
attracted = shares.pivot_table(index=["method", "layer", "region"], columns="predicted", values="share")
(100 * attracted.loc[[mask for mask in masks if mask in held], list(PHASES)]).round(0)

# %% [markdown]
# ### Do the orders survive in a network that knows noise?
#
# The control for this is a network that was trained with the same fill: in half of its training images, noise
# overwrites patches of voxels (`noise_patches` of 02_train_network). Such a network can learn that noise stands for no
# phase. If the maps have the same order there, the order belongs to the maps and not to the noise. *Spearman's rho*
# compares two orders: it is 1 if they are the same, and about 0 if they have nothing to do with each other.

# %%
if noise_network_masking:
    noise_masking = require(noise_network_masking, "06_mask_voxels")
    noise_measured = read_masking(noise_masking)
    noise_shares = predicted_after(noise_measured)
    noise_changes = less_controls(slice_means(noise_measured), everything)
    orders, agreement = compare_orders(changes, noise_changes)
    display(draw_where_masked_go(noise_shares, noise_changes, [mask for mask in masks if mask in held]))
    display(orders.round(1), agreement.query("phase == 'mean'").round(2))
else:
    print("This run has no network that was trained with noise patches, so that this is not measured here.")

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

# %%
files = save_figure(figure_of_shares, figures / "where_masked_go")
write_sidecar(files[0], notebook="08_fig2_masking_specificity", parameters=reading, inputs=inputs)
written = {"where_masked_go": shares, "where_masked_go_costs": changes}
if noise_network_masking:
    written |= {"noise_network_where_masked_go": noise_shares, "noise_network_costs": noise_changes,
                "noise_network_orders": orders.reset_index(), "noise_network_agreement": agreement}  # fmt: skip
for name, table in written.items():
    with atomic_path(tables / f"{name}.csv") as file:
        table.to_csv(file, index=False, float_format="%.6g")

# %% [markdown]
# ## Against the paper
#
# The paper says that masking the highest tenth lowers the probability for every map and phase (C50), and that masking
# the lowest tenth leaves it nearly as it is (C51). Saliency is the most specific of the four (C52), CAM and Grad-CAM
# are less specific than both maps at the input (C53), and CAM is slightly more specific than Grad-CAM in some phases
# (C54). All techniques find voxels that the network uses (C61). We take C61 to mean that they find more of them than
# random voxels of the body do.
#
# A verdict needs four of five phases. "Reproduced" needs intervals over patients that lie wholly on the paper's side,
# or for C51 intervals within 95 to 105 %. These verdicts are on one network; 17_compare_with_paper judges over several.

# %%
with pd.option_context("display.max_colwidth", None):
    display(findings_table(masking_claims(means), "C50", "C51", "C52", "C53", "C54", "C61")[["measured", "verdict"]])

# %% [markdown]
# ## What we saw
#
# Noise in random voxels of the body already costs much of the probability, in some phases nearly all of it. So the bars
# alone overstate what a map knows, and the difference from its matched control is the fairer measure. It differs by
# phase and by network, which a mean over the phases hides.

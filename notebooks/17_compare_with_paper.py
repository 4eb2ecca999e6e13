# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 17 · Compare with the paper
#
# Which of the paper's claims hold here? This notebook puts each of them, C1 to C63, beside what a run measured, and
# gives a verdict by a rule. C50, for example, says that masking the highest tenth lowers the probability for every map
# and phase. The table near the end says what each number stands for.
#
# | | |
# |---|---|
# | **reads** | a run's `cohort/`, `networks/`, `maps/` and `masking/`; `tables/anatomy_*.csv` where there are any |
# | **writes** | `claims.csv`, and `tables/claims.md` to read; `{tables,figures}/claims_over_networks` |
# | **takes** | seconds |
#
# Most claims are made for each of the five phases. The rule therefore goes phase by phase. It uses 95 % intervals that
# resample whole patients (a *cluster bootstrap*), because slices of one patient resemble each other and are not
# independent.
#
# | verdict | what it means |
# |---|---|
# | reproduced | in four of five phases the whole interval lies on the paper's side of no difference |
# | direction only | in four of five phases the mean lies on the paper's side, but not every interval does |
# | not reproduced | neither of these; for a claim of no difference, two or more intervals lie outside the margin |
# | undecided | too few phases were measured; for a claim of no difference, intervals are wider than the margin |
# | method | a definition that is adopted here ("changed" where this run departs from it) |
# | not tested here | it cannot be tested with this run; the table gives the reason |
#
# These verdicts rest on a single network. Another network that differs by nothing but its random seed can get another
# verdict. Where the run has several such networks, the claims on masking are therefore judged over them, with the
# outcomes *supported*, *contradicted* and *inconclusive* (see below).
#
# A claim of *no* difference is reproduced where the intervals lie within a margin of 5 points of relative probability,
# or .02 of a metric. Where a claim speaks of several maps, layers or parts, the weakest part counts. With fewer than
# five phases all of them have to hold. Some claims need a rule of their own:
#
# | claim | rule |
# |---|---|
# | C23 to C27 | each figure within .02 of the paper's, in place of the phases |
# | C28 | each AUC above the next in the paper's order, with intervals; direction only if Spearman's rho is .6 or more |
# | C32 | one comparison: more than half of the errors fall into a neighbouring phase |
# | C33 | one comparison: the higher recall of CM-neph and neph lies below the lowest recall of the other phases |
# | C42 | Grad-CAM is proportional to the positive part of CAM, to a thousandth |
# | C48 | the four signs that the paper names, and all four have to hold |
# | C54 | in some phases, and not in all, the interval excludes 0 (Bonferroni over the phases); in all: direction only |
# | one slice per phase | what is seen on the saved maps alone gets no more than direction only |
#
# *Bonferroni* means that a p value is multiplied by the number of tests, since among many tests some look significant
# by chance. *Spearman's rho* compares two orders and is 1 if they are the same.
#
# The rule of the first table was fixed before any run. How claims are measured that the paper makes by eye (C46 to C49,
# C55, C56) was settled later, with maps at hand. C28, C33 and C61 were made stricter after a first run. C61 is now
# compared with random voxels of the body, over networks too; that was settled before there was a second network. The
# bowel in C46, the unenhanced phase at 5b in C58 and air in C55 are reported beside the verdict and do not count in it.
# Words in italics beside a verdict say what the setup alone settles, by algebra or by the construction of the phantom.

# %%
import os

from IPython.display import Markdown, display
import numpy as np
import pandas as pd

from lib.claims.networks import claim_outcomes, contrasts, judge, network_findings
from lib.claims.table import VERDICTS, compare_with_paper, find, of_phantoms, sources, to_markdown
from lib.figures.differences import draw_differences
from lib.figures.networks import draw_among, draw_over_networks
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.masking.networks import among, network_levels, over_networks
from lib.masking.statistics import read_masking, slice_means
from lib.model_card import network_table
from lib.paper import PHASES
from lib.provenance import write_sidecar

# %% tags=["parameters"]
run: str = "runs/quick"  # folder of a finished run
network: str = "top"  # which of its networks is judged
selection: str = ""  # run in which 03_select_network compared networks, if not this one; empty: none
published: str = "tables"  # folder of published tables; a run with one network is set among their networks
seed: int = 17  # random seed of the intervals, which resample patients (bootstrap)

# %% [markdown]
# ## What the run has left behind
#
# The table says which results of the run were found.

# %%
run = require(run, "01_prepare_cohort")
left = sources(run, network, selection)
display(left.assign(path=left["path"].map(lambda path: os.path.relpath(path, run))))
if not left["found"].any():
    raise FileNotFoundError(f"{run} holds nothing to compare: run `make figures` first.")

# %% [markdown]
# ## Findings
#
# Each stage of the run gives its findings. Claims that need a missing stage stay "not tested here". The findings of
# 14_sensitivity (C41, C62) are over the networks that it has masked.

# %%
findings = []
for stage, row in left[left["found"]].iterrows():
    rng = np.random.default_rng([seed, list(left.index).index(stage)])
    found = find(stage, row["path"], rng=rng)
    findings += found
    print(f"{stage}: {len(found)} claims")

# %% [markdown]
# ## Over the networks of the run
#
# Where a run has several networks that differ by nothing but their seed, the claims on masking are judged over them. A
# claim is then made of *parts*, each a comparison of two masks. Every network gives one number per part: the mean over
# the slices of a patient, then over patients, then over the phases, in points of relative probability. From these
# numbers comes a 95 % t interval, the usual interval for the mean of a few values.
#
# | outcome | the paper claims a difference | the paper claims no difference |
# |---|---|---|
# | supported | the interval lies beyond 1 point on the paper's side | it lies within 5 points |
# | contradicted | it lies beyond 1 point on the other side | it lies outside 5 points |
# | inconclusive | otherwise | otherwise |
#
# In the table of parts, `cells` counts the combinations of network and phase in which the sign is the paper's, and
# `phases_passing` the phases that pass the paper's own t test in the median network. `log_odds` is the same comparison
# in log-odds, log(p / (1 - p)), each mask minus the control of its shape. A run with one network gets its numbers here
# and no outcome.
#
# ![The claims on masking, over networks](../figures/claims_over_networks.png)
#
# **The claims on masking over networks, as published by this project.** One row per comparison of two masks; below 0,
# the first costs more of the probability. Grey points are networks, diamonds their mean with its 95 % interval. The
# interval has to lie in the shading for the paper's statement to be supported: at differences below −1 point (green),
# or within 5 points (blue). Beside each row: the outcome, and in how many combinations of network and phase the sign
# (or the absence of a difference) is the paper's.


# %%
def read_published(name):
    file = resolve(published) / f"{name}.csv"
    return pd.read_csv(file) if file.exists() else pd.DataFrame()


folders = [masking.parent for masking in sorted(run.glob("masking/*/done.json"))]
folders = [folder for folder in folders if folder.name == network or folder.name.startswith("seed")]
networks = network_table([run / "networks" / folder.name for folder in folders])
display(networks.set_index("network").round(3))

# %%
of_networks = {folder.name: slice_means(read_masking(folder)) for folder in folders}
compared_masks = contrasts(of_networks)
parts = judge(compared_masks)
print(f"Networks: {len(folders)}. {claim_outcomes(parts).to_dict() or 'A single network gives no outcome.'}")
figure = draw_over_networks(compared_masks, parts)
display(figure)

# %%
display(parts.set_index(["claim", "part"]).replace("", np.nan).dropna(axis="columns", how="all").round(2))

# %% [markdown]
# ### A single network among the published ones
#
# A run with one network cannot say how networks differ. But is its network an ordinary one? Here it is set among those
# that this project has published. Each point is what masking by a map, or a control, leaves in a published network.

# %%
levels = network_levels(of_networks)
figure_among = None
if len(folders) == 1 and len(published_networks := read_published("masking_networks")):
    place = among(levels, published_networks)
    figure_among = draw_among(place, published_networks)
    display(figure_among)
    spread = read_published("seeds")
    for name, title in {"f1_slices": "F1, single slices", "f1_voting": "F1, voting"}.items():
        here, theirs = networks[name].item(), spread[name]
        print(f"{title}: {here:.3f}; published networks {theirs.min():.3f} to {theirs.max():.3f}")
    outside = (place["value"] < place["lowest"]) | (place["value"] > place["highest"])
    print(f"Outside the range of the {len(spread)} published networks: {outside.sum()} of {len(place)} masks.")
else:
    print(f"This run has {len(folders)} networks: they are compared with each other.")

# %% [markdown]
# ### Every map minus its control, over the networks
#
# The figure shows what masking by a map leaves of the probability, minus what the control of its shape leaves: random
# voxels of the body for a map at the input, random blocks of the body as large as the cells for a map at a layer. Left
# of 0 the map found more of what the network needs. Small points are networks, large ones their mean with a 95 % t
# interval.

# %%
if len(folders) > 1:
    less = levels.dropna(subset="less_control")
    less = pd.concat([less.assign(value=less["less_control"]), over_networks(less, "less_control")])
    figure_of_controls = draw_differences(less)
    display(figure_of_controls)
else:
    print("This run has one network: 08_fig2_masking_specificity shows its maps minus their controls.")

# %% [markdown]
# The table gives what masking leaves, in per cent, as the mean over the networks. `lowest` and `highest` are
# the lowest and the highest mean over the phases in any network.

# %%
left_over = over_networks(levels)
shown = left_over[left_over["region"].isin(["top", "random"])]
wide = shown.pivot_table(index=["method", "layer"], columns="phase", values="value", sort=False)
wide = wide[[phase for phase in (*PHASES, "mean") if phase in wide]]
spread = shown[shown["phase"] == "mean"].set_index(["method", "layer"])[["lowest", "highest"]]
display(wide.join(spread).round(0))

# %% [markdown]
# ## The table
#
# First the number of claims with each verdict, then every claim with what was measured.

# %%
claims = compare_with_paper([*findings, *network_findings(parts)], phantom=of_phantoms(run))
counts = claims["verdict"].value_counts().reindex(VERDICTS, fill_value=0).rename("claims").to_frame()
display(counts.T)
display(Markdown(to_markdown(claims)))

# %% [markdown]
# ## Save

# %%
with atomic_path(run / "claims.csv") as file:
    claims.to_csv(file, index=False)
with atomic_path(run / "tables/claims.md") as file:
    file.write_text(to_markdown(claims))
written = {"seeds": networks, "network_contrasts": compared_masks, "claims_over_networks": parts,
           "masking_networks": levels}  # fmt: skip
for name, table in written.items():
    with atomic_path(run / f"tables/{name}.csv") as file:
        table.to_csv(file, index=False)
files = save_figure(figure, run / "figures/claims_over_networks")
inputs = tuple(left.loc[left["found"], "path"])
parameters = {"network": network}
if len(folders) > 1:
    files += save_figure(figure_of_controls, run / "figures/maps_less_controls_networks")
if figure_among is not None:
    files += save_figure(figure_among, run / "figures/among_published")
for made in (run / "claims.csv", *(file for file in files if file.suffix == ".png")):
    write_sidecar(made, notebook="17_compare_with_paper", parameters=parameters, seed=seed, inputs=inputs)

# %% [markdown]
# ## Against the paper: its two versions of one sentence
#
# The abstract says that *saliency activation maps* are more specific than guided backpropagation, CAM and Grad-CAM
# (C60). The body of the paper compares no SAM with them: it says so of *saliency maps* (C52). Both are tested here, on
# the same slices.

# %%
versions = ["C52", "C60"]
with pd.option_context("display.max_colwidth", None):
    display(claims.set_index("id").loc[versions, ["claim", "where", "measured", "verdict"]])
both = [table[table["claim"].isin(versions)].reset_index(drop=True) for table in (compared_masks, parts)]
display(draw_over_networks(*both))
print(f"written: {resolve(run) / 'claims.csv'}")

# %% [markdown]
# ## What we saw
#
# The table above is the answer. Read each verdict together with its numbers: "not reproduced" can mean the opposite
# direction, too wide an interval, or a score that is better than the paper's, and "inconclusive" that the networks
# differ too much.

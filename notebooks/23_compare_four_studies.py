# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 23 · What four studies say about such maps
#
# **What is known about maps that explain a network, and what do controls add to it?** Four studies of radiological
# images ask whether such maps can be trusted. This page puts their claims side by side, each with the verdict of one
# run, and then shows what changes when a map is compared with a map that needs no network.
#
# | study | what was looked at | known to us by | here |
# |---|---|---|---|
# | Philbrick 2018 | five maps, one network, contrast phases on CT | its full text | 01 to 17 |
# | [Huff 2021](https://doi.org/10.1088/1361-6560/abcd17) | a review of methods of interpretation | abstract | 20 |
# | [Qiu 2023](https://arxiv.org/abs/2308.15172) | Grad-CAM of many networks, pneumothorax | abstract | 21 |
# | [McAllister 2020](https://doi.org/10.33137/juls.v14i1.35833) | Grad-CAM over layers, dental plates | abstract | 22 |
#
# All images here are simulated. So a verdict says whether a statement holds in these simulations, and not whether a
# study was right about its own patients.
#
# | | |
# |---|---|
# | **reads** | tables of a run: of 17_compare_with_paper and of the notebooks 20, 21 and 22, as far as they are there |
# | **writes** | `tables/four_studies.csv`, figure `four_studies` |
# | **takes** | seconds |
#
# ![What maps reach, and what controls reach](../figures/four_studies.png)
#
# **As published by this project: what maps reach (points), and controls (lines, marks).** **A**, correlation of a
# map's sums over organs with the organs' measured weights, by method (20); lines: maps without a network. **B**,
# effective heat ratio in the pneumothorax, by network (21); line: a uniform map; marks: the mean of other patients'
# masks on cells as coarse as the network's own, and the network before its training. **C**, density of the artifact in
# the hottest tenth of the last layer's map (22); line: chance. Networks that have not learnt their task stand beside
# the others: ResNet50, ResNet101 and ViT tiny in B, undertrained and shuffled in C.

# %%
from IPython.display import display
import pandas as pd

from lib.claims.four_studies import TEXTS, four_studies, read_tables
from lib.figures.architectures import title_of
from lib.figures.four_studies import draw_against_nulls
from lib.figures.style import save_figure
from lib.files import atomic_path, resolve
from lib.provenance import write_sidecar

# %% tags=["parameters"]
folder: str = "runs/quick"  # folder of a run; make figures and make texts fill it
further: str = ""  # another run, read where the first has no table; "." is what is published, empty: none

# %% [markdown]
# ## What the run has left

# %%
tables, found = read_tables(*([folder, further] if further else [folder]))
display(found.drop(columns="path"))
for name in found.index[~found["found"]]:
    print(f"{found.loc[name, 'path']} is missing: {found.loc[name, 'made_by']} makes it.")

# %% [markdown]
# ## One question, several studies
#
# The paper's own claims are judged over networks where the run has several; the others over patients or plates of one
# network. "Reproduced" and "supported" are counted alike here, though their rules differ: they stand in 17, 20, 21, 22.

# %%
claims = four_studies(tables)
with pd.option_context("display.max_colwidth", None):
    for question, part in claims.groupby("question", sort=False):
        print(question)
        display(part.drop(columns="question").set_index("id"))

# %% [markdown]
# ## What controls reach
#
# Three measurements, each with controls: maps that do not see the image, or whose network is untrained. A map that does
# not pass the control may still be right, but the measurement does not show it.

# %%
panels = {}
if {"interventions", "methods"} <= tables.keys():
    titles = tables["methods"].set_index("method")["title"].to_dict()
    ranked = tables["interventions"].set_index("method")["rank"].rename(index=titles)
    nulls = ["uniform", "edges", "brightness"]
    panels["A", "Agreement with interventions"] = (ranked.drop(nulls), ranked[nulls], {})
if "chest_networks" in tables and "chest_nulls" in tables:
    networks = tables["chest_networks"].groupby("network", sort=False)[["ehr", "mean_mask", "untrained"]].mean()
    networks, uniform = networks.rename(title_of), tables["chest_nulls"].set_index("map").loc[["uniform"], "ehr"]
    marks = {"mean mask on its cells": networks["mean_mask"], "before training": networks["untrained"]}
    panels["B", "Effective heat ratio of Grad-CAM"] = (networks["ehr"], uniform, marks)
if "dental_layers" in tables:
    last = tables["dental_layers"].query("layer == layer.max()").set_index("network")["enrichment"]
    panels["C", "Enrichment of the artifact"] = (last, pd.Series({"chance": 1.0}), {})
if panels:
    figure = draw_against_nulls(panels)
    display(figure)
else:
    print("No table of 20, 21 or 22 is there: nothing is drawn.")

# %% [markdown]
# **What maps reach (points), and controls (lines, marks)**, as above.
#
# ## What interventions add
#
# A map says where, an intervention says how much: one organ, the pneumothorax or the artifact is changed, and nothing
# else.

# %%
if "effects" in tables:
    organs = tables["effects"].query("organ != 'everything'")
    weight = organs.assign(weight=organs["fall"].abs()).pivot_table(index="organ", columns="phase", values="weight")
    print("CT: the organ that the score owes most to:", weight.dropna(axis="columns", how="all").idxmax().to_dict())
if "chest_networks" in tables and "p_lost" in tables["chest_networks"]:
    print("Chest: mean p lost without the pneumothorax:",
          tables["chest_networks"].groupby("network", sort=False)["p_lost"].mean().round(2).to_dict())  # fmt: skip
if "dental_networks" in tables:
    print("Plates: mean p lost without the artifact:",
          tables["dental_networks"].set_index("network")["p_lost_without_artifact"].round(2).to_dict())  # fmt: skip

# %%
with atomic_path(resolve(folder) / "tables/four_studies.csv") as temporary:
    claims.to_csv(temporary, index=False)
if panels:
    save_figure(figure, resolve(folder) / "figures/four_studies.png")
read = [found.loc[name, "path"] for name in tables]
sidecar = resolve(folder) / "tables/four_studies.csv"
written = write_sidecar(
    sidecar, notebook="23_compare_four_studies", inputs=read, parameters={"folder": folder, "further": further}
)

# %% [markdown]
# ## What we saw
#
# The sentences below are made from the tables of this run.

# %%
holds = claims["verdict"].isin(["supported", "reproduced"])
fails = claims["verdict"].isin(["contradicted", "not reproduced"])
for study, part in claims.groupby("study", sort=False):
    yes, no = holds[part.index].sum(), fails[part.index].sum()
    print(f"{study}: of the {len(part)} claims above {yes} hold, {no} do not, ", end="")
    print(f"{len(part) - yes - no} are open or not tested.")
if not set(TEXTS) <= tables.keys():
    print("The related texts are missing in part: make texts runs them.")

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 96 · Test across cohorts
#
# How good is a network on CT of another kind than it was trained on? A network that was trained on phantoms is tested
# on public CT, one that was trained on public CT on phantoms, and each on its own test patients. The paper has no such
# comparison: its patients are of one hospital.
#
# | | |
# |---|---|
# | **reads** | two or more cohorts with labels, made by 01_prepare_cohort, and networks trained on each |
# | **writes** | `tables/across_cohorts.csv`, `figures/across_cohorts` |
# | **takes** | about a second for 100 slices and network |
#
# ![F1 of networks trained and tested on phantoms without and with attachments](../figures/across_cohorts.png)
#
# **As published by this project: F1 of single slices, the mean over the phases.** Rows are what networks were trained
# on: phantoms without attachments, phantoms with electrodes, wires and clips, and the latter with more variation in
# training; 300 patients and three networks each. Columns are the test patients, five mid-kidney slices a series with
# attachments, whole kidneys without. Large numbers are means over the networks, small ones the lowest and the highest.
# Networks that have seen attachments lose nothing without them; others lose a little where they appear.
#
# The defaults are the phantoms of `make figures` and the public cohort of 00_fetch_public_cohort, after
# `make figures PROFILE=public`. Any other kinds can be named, such as phantoms without and with electrodes.

# %%
from IPython.display import Markdown, display

from lib.cross_test import cross_test
from lib.figures.domain import draw_across
from lib.figures.style import save_figure
from lib.files import atomic_path, resolve
from lib.provenance import write_sidecar

# %% tags=["parameters"]
networks: str = "phantom: runs/quick/networks/top, public: runs/public/networks/top"  # by what they were trained on
cohorts: str = "phantom: runs/quick/cohort, public: runs/public/cohort"  # kinds of CT to test on
tables: str = "runs/quick/tables"  # where the table goes
figures: str = "runs/quick/figures"  # where the figure goes

# %% [markdown]
# ## Every network on every cohort
#
# A folder may hold one network or several that differ by their seed. F1 is the mean over the phases, of single slices
# and after the slices of a series have voted; the last columns are the share of the slices of each phase that are named
# rightly. Every network keeps the standardisation that belongs to it.


# %%
def named(text):
    """Return names and paths of a text such as "a: path, b: path"."""
    return {name.strip(): path.strip() for name, path in (part.split(":", 1) for part in text.split(","))}


tested = cross_test(named(networks), named(cohorts))
display(tested.round(3))

# %% [markdown]
# ## Side by side

# %%
figure = draw_across(tested)
display(figure)
count = tested.drop_duplicates(["trained_on", "network"]).groupby("trained_on").size()
tests = tested.drop_duplicates("tested_on").set_index("tested_on")
display(Markdown(
    "**F1 of single slices**, the mean over the phases. A row is what networks were trained on ("
    + ", ".join(f"{name}: {n} {'network' if n == 1 else 'networks'}" for name, n in count.items())
    + "), a column what they were tested on ("
    + ", ".join(f"{row.Index}: {row.slices} slices of {row.patients} patients" for row in tests.itertuples())
    + "). Large numbers are means over the networks, small ones the lowest and the highest network."
))  # fmt: skip

# %% [markdown]
# ## Save

# %%
with atomic_path(resolve(tables) / "across_cohorts.csv") as file:
    tested.round(4).to_csv(file, index=False)
files = save_figure(figure, resolve(figures) / "across_cohorts")
inputs = tuple(resolve(path) / "slices.parquet" for path in named(cohorts).values())
parameters = {"networks": networks, "cohorts": cohorts}
written = write_sidecar(files[0], notebook="96_test_across_cohorts", parameters=parameters, inputs=inputs)

# %% [markdown]
# ## What we saw
#
# On the diagonal a network is tested on what it knows. What it loses beside the diagonal is the price of the other kind
# of CT, in the same units. A loss in one direction only says that one of the kinds is the poorer teacher.

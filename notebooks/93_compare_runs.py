# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 93 · Compare two runs
#
# Which verdicts on the paper's claims survive a change of the study? This notebook compares two runs. By default it
# answers one question: **which claims hold if the labels do not come from the kidney?** The paper has no such
# comparison.
#
# | | |
# |---|---|
# | **reads** | `claims.csv` and `tables/table1_*.csv` of both runs |
# | **writes** | `tables/claims_beside_<control>.csv` of the first |
# | **takes** | seconds, once the runs are there |
#
# The labels of the phantom come from a simulated reader, who looks at cortex, medulla, vessels, liver and urine. If
# maps mark these organs, that holds at least in part by construction. The control labels the same patients by the time
# of the scan alone:
#
# ```sh
# make figures PROFILE=selection
# make figures PROFILE=clock
# .venv/bin/python -m lib.run_notebook notebooks/93_compare_runs.py
# ```
#
# Both have 300 patients. Labels by the time of the scan name no organ. So they remove what the reader's rule builds in,
# but not what the phantom does: only enhancing tissue changes between phases. Any other two runs can be compared in the
# same way, for example with another seed, another way of masking, or another image size.

# %%
from IPython.display import display
import pandas as pd

from lib.files import atomic_path, require, resolve
from lib.metrics import phase_table
from lib.provenance import write_sidecar

# %% tags=["parameters"]
run: str = "runs/selection"  # folder of a finished run
control: str = "runs/clock"  # folder of the run that it is compared with
tables: str = ""  # where the table goes; if empty, into the tables of the first run

# %% [markdown]
# ## How well the phases are distinguished
#
# The table gives the F1 score of single slices (`slices`) and of series after voting (`volumes`), by phase and as the
# mean over the phases. F1 is the harmonic mean of precision and recall (04_vote_slices).

# %%
folders = {resolve(folder).name: require(folder, "17_compare_with_paper") for folder in (run, control)}
if len(folders) < 2:
    raise ValueError(f"run and control are both named {resolve(run).name!r}: they need names of their own.")
read = {
    (name, kind): pd.read_csv(require(folder / f"tables/table1_{kind}.csv", "04_vote_slices"), index_col=0)
    for name, folder in folders.items()
    for kind in ("slices", "volumes")
}
f1 = pd.DataFrame({key: phase_table(matrix)["f1"] for key, matrix in read.items()}).T
f1.assign(mean=f1.mean(axis=1)).round(3)

# %% [markdown]
# ## Verdicts
#
# The table lists the claims that both runs have tested and on which the verdicts differ.

# %%
claims = {
    name: pd.read_csv(require(folder / "claims.csv", "17_compare_with_paper"), index_col="id", keep_default_na=False)
    for name, folder in folders.items()
}
first = next(iter(claims.values()))
verdicts = pd.DataFrame({name: table["verdict"] for name, table in claims.items()})
tested = ~verdicts.isin(["method", "method, changed", "not tested here"]).all(axis=1)
side_by_side = first[["claim", "by_construction"]].join(verdicts)[tested]
one = side_by_side.eq("not tested here").any(axis=1)
differs = (side_by_side.iloc[:, -2] != side_by_side.iloc[:, -1]) & ~one
print(f"{tested.sum()} claims tested, {one.sum()} of them in one run alone; {differs.sum()} verdicts differ")
with pd.option_context("display.max_colwidth", None):
    display(side_by_side[differs].drop(columns="by_construction"))

# %% [markdown]
# ## Claims that hold in part by construction
#
# The first table gives the verdicts of both runs, the others what each run measured. Where the control keeps a verdict,
# the verdict does not come from the simulated reader alone.

# %%
built_in = side_by_side["by_construction"].str.contains("where the phantom's simulated reader labels")
with pd.option_context("display.max_colwidth", None):
    display(side_by_side[built_in].drop(columns="by_construction"))
    for name, table in claims.items():
        display(
            table.loc[side_by_side.index[built_in], ["measured"]].rename(columns={"measured": f"measured in {name}"})
        )

# %% [markdown]
# ## Save

# %%
table = (resolve(tables) if tables else resolve(run) / "tables") / f"claims_beside_{resolve(control).name}.csv"
with atomic_path(table) as file:
    side_by_side.reset_index().to_csv(file, index=False)
inputs = tuple(folder / "claims.csv" for folder in folders.values())
parameters = {"run": run, "control": control}
sidecar = write_sidecar(table, notebook="93_compare_runs", parameters=parameters, inputs=inputs)

# %% [markdown]
# ## What we saw
#
# A verdict that differs between the runs may depend on what was changed. It may also differ by chance, since each run
# is judged by one network; 17_compare_with_paper shows for the claims on masking how much networks of one run differ.

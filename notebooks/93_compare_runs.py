# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 93 · Compare runs
#
# Puts the verdicts of two runs on the paper's claims side by side. By default it answers one question: **which
# claims survive when the labels do not come from the kidney?** This project's own; nothing of it is in the paper.
#
# | | |
# |---|---|
# | **reads** | `claims.csv` and `tables/table1_*.csv` of each run |
# | **writes** | `tables/claims_beside_<control>.csv` of the first |
# | **takes** | seconds, once the runs are there |
#
# The phantom's labels come from a simulated reader, who looks at cortex, medulla, vessels, liver and urine. That maps
# show these organs is then put in, at least in part. The control labels the same patients by the clock:
#
# ```sh
# make figures PROFILE=clock
# .venv/bin/python -m lib.run_notebook notebooks/93_compare_runs.py
# ```
#
# No organ is named by that rule: whatever the network looks at, it found. Any other two runs can be compared as well:
# another seed, another reading of the masking, another size.

# %%
from IPython.display import display
import pandas as pd

from lib.metrics import phase_table
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve

# %% tags=["parameters"]
run: str = "runs/quick"  # folder of a finished run
control: str = "runs/clock"  # folder of the run that it is held against
tables: str = ""  # where the table goes; empty: the run's tables

# %% [markdown]
# ## How well the phases are told
#
# F1 of single slices and after voting.

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
# Claims that were tested in one run at least, and differ.

# %%
claims = {
    name: pd.read_csv(require(folder / "claims.csv", "17_compare_with_paper"), index_col="id", keep_default_na=False)
    for name, folder in folders.items()
}
first = next(iter(claims.values()))
verdicts = pd.DataFrame({name: table["verdict"] for name, table in claims.items()})
tested = ~verdicts.isin(["method", "method, changed", "not tested here"]).all(axis=1)
side_by_side = first[["claim", "by_construction"]].join(verdicts)[tested]
differs = side_by_side.iloc[:, -2] != side_by_side.iloc[:, -1]
print(f"{tested.sum()} claims tested; {differs.sum()} verdicts differ")
with pd.option_context("display.max_colwidth", None):
    display(side_by_side[differs].drop(columns="by_construction"))

# %% [markdown]
# ## Claims that the phantom's reader puts in
#
# Where the control keeps a verdict, the claim says something about the network and not about the reader.

# %%
put_in = side_by_side["by_construction"].str.contains("put in where the phantom's reader labels")
with pd.option_context("display.max_colwidth", None):
    display(side_by_side[put_in].drop(columns="by_construction"))
    for name, table in claims.items():
        display(table.loc[side_by_side.index[put_in], ["measured"]].rename(columns={"measured": f"measured in {name}"}))

# %% [markdown]
# ## Save

# %%
table = (resolve(tables) if tables else resolve(run) / "tables") / f"claims_beside_{resolve(control).name}.csv"
with atomic_path(table) as file:
    side_by_side.reset_index().to_csv(file, index=False)
inputs = tuple(folder / "claims.csv" for folder in folders.values())
parameters = {"run": run, "control": control}
write_sidecar(table, notebook="93_compare_runs", parameters=parameters, inputs=inputs)

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Figure 1: maps at the input and at the last layer
#
# Makes **Figure 1**, saliency, guided backpropagation, CAM and Grad-CAM of one slice a phase, and **Figure S7**,
# saliency without and with its sign.
#
# | | |
# |---|---|
# | **reads** | `maps/` of 05_compute_maps |
# | **writes** | `figures/fig1` and `figures/s7` (png, pdf), `tables/fig1.csv` |
# | **takes** | seconds; nothing is computed again, so that colours are cheap to change |
#
# How a map is shown is the paper's choice: saliency by the **rank** of its absolute value, guided backpropagation by
# the rank of its value, CAM and Grad-CAM by their values **within their own range**. The lowest 2.5 % (of the voxels
# of a rank map, of the range of the others) are transparent. So colours compare places within a panel, never two
# panels. Of a cohort without phases the first eight series are drawn.

# %%
from IPython.display import display
import pandas as pd

from lib.claims.maps import map_claims
from lib.figures.maps import MapRow, draw_maps, map_row
from lib.figures.style import save_figure
from lib.saved_maps import read_maps
from lib.claims.findings import Finding
from lib.saved_maps import describe_maps
from lib.paper import FINAL_MAPS
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve

# %% tags=["parameters"]
maps: str = "runs/quick/maps"  # made by 05_compute_maps
figures: str = "runs/quick/figures"  # where the figures go
tables: str = "runs/quick/tables"  # where the numbers go
cmap: str = "rainbow"  # the paper's, purple low and red high; "cividis" and "magma" are perceptually uniform
opacity: float = 0.6  # of the map over the image
upsampling: str = "nearest"  # of the low-resolution maps: "nearest" shows the cells, "bilinear" smooths them

# %% [markdown]
# ## The slices
#
# Chosen by a rule (see 05_compute_maps): the mid-kidney slice of median confidence.

# %%
shown = {"cmap": cmap, "opacity": opacity, "upsampling": upsampling}
figures, tables = resolve(figures), resolve(tables)
source = require(f"{maps}/maps.npz", "05_compute_maps")
saved = read_maps(source.parent)
display(pd.read_csv(source.parent / "slices.csv").round(3))

# %% [markdown]
# ## Figure 1
#
# Window of the CT: level 40 HU, width 400 HU; outside the body black. Saliency and guided backpropagation have one
# value a voxel; CAM and Grad-CAM of the last layer have one a cell, 32 voxels wide.

# %%
figure = draw_maps(saved, [map_row(*name) for name in FINAL_MAPS], cmap=cmap, opacity=opacity, how=upsampling)
files = save_figure(figure, figures / "fig1")
write_sidecar(files[0], notebook="07_fig1_final_layer_maps", parameters=shown, inputs=(source,))
figure

# %% [markdown]
# ## Figure S7
#
# Red in the last row: a higher attenuation there would raise the phase's score; purple: a lower one would.

# %%
both = [
    MapRow("Saliency, absolute", "saliency", "input", "magnitude rank"),
    MapRow("Saliency, signed", "saliency", "input", "rank"),
]
figure = draw_maps(saved, both, cmap=cmap, opacity=opacity)
files = save_figure(figure, figures / "s7")
write_sidecar(files[0], notebook="07_fig1_final_layer_maps", parameters=shown, inputs=(source,))
figure

# %% [markdown]
# ## In numbers
#
# `outside_body` is the share of a map's hottest tenth that lies outside the body (beside it that of all voxels);
# `half_mass` the share of the voxels that hold half of the map, the smaller the more concentrated; `zeros` the share
# that is exactly 0.

# %%
measured = describe_maps(saved)
measured = measured[pd.MultiIndex.from_frame(measured[["method", "layer"]]).isin(FINAL_MAPS)]
with atomic_path(tables / "fig1.csv") as file:
    measured.to_csv(file, index=False)
display(measured.groupby(["method", "layer"], sort=False).mean(numeric_only=True).round(3))

# %% [markdown]
# ## Against the paper
#
# The paper says that guided backpropagation marks fewer voxels than saliency (C47), that the strongest saliency is
# where the signed map is extreme (C48, true of any map whose signs are balanced), and that Grad-CAM of the last layer
# agrees with CAM (C42, which is algebra). One slice a phase can at best show the direction. Which organs light up is
# measured in 13_anatomy_of_maps.

# %%
found = pd.DataFrame(map_claims(saved), columns=Finding._fields).set_index("id")
display(found.loc[found.index.isin(["C42", "C47", "C48"]), ["measured", "verdict"]])

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
# What do four kinds of map show on the same slices? This notebook makes **Figure 1**, saliency, guided backpropagation,
# CAM and Grad-CAM of one slice per phase, and **Figure S7**, saliency without and with its sign.
#
# | | |
# |---|---|
# | **reads** | `maps/` of 05_compute_maps |
# | **writes** | `figures/fig1` and `figures/s7` (png, pdf), `tables/fig1.csv` |
# | **takes** | seconds; no map is computed again, so that colours are cheap to change |
#
# The colouring of each map is the paper's choice. Saliency is shown by the **rank** of its absolute value and guided
# backpropagation by the rank of its value: the lowest voxel has rank 0, the highest 1. CAM and Grad-CAM are shown by
# their values **within their own range**. Only the voxels of the body are ranked here: half of an image is air, and
# with it the whole body would lie in the upper half of the scale. If a cohort has no phases, the first eight series are
# drawn.

# %% [markdown]
# ![Figure 1: maps at the input and at the last layer, one column per phase](../figures/fig1.png)
#
# **Figure 1, as published by this project.** One correctly classified test slice per phase (columns) and, below the CT
# image, its saliency map, guided backpropagation, CAM and Grad-CAM of the last layer. Window of the CT: level 40 HU,
# width 400 HU. Each panel is cropped to the body, all at one scale; air is black and not coloured. **Colours** compare
# places within a panel, never two panels; the lowest 2.5 % are transparent, and each colour bar shows its colours over
# dark tissue on its left and over bright tissue on its right. Saliency is shown by the rank of its absolute value and
# guided backpropagation by the rank of its value, each among the voxels of the body; CAM and Grad-CAM by their value,
# from the lowest to the highest of the panel. The **white line** surrounds the highest tenth of the image's voxels by
# absolute value, which the masking experiment overwrites; at the input and at layer 2b, where these voxels are
# scattered, it surrounds the places where they are the majority. A panel says which part of that tenth lies **in air**,
# if it is at least 5 %. Noncon = unenhanced, CM = corticomedullary, CM-neph = corticomedullary to early nephrographic,
# Neph = nephrographic, Pyelo = pyelographic.

# %%
from IPython.display import display
import pandas as pd

from lib.claims.findings import findings_table
from lib.claims.maps import map_claims
from lib.figures.captions import caption
from lib.figures.maps import MapRow, draw_maps, map_row
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.paper import FINAL_MAPS
from lib.provenance import write_sidecar
from lib.maps.saved import describe_maps, read_maps

# %% tags=["parameters"]
maps: str = "runs/quick/maps"  # made by 05_compute_maps
figures: str = "runs/quick/figures"  # where the figures go
tables: str = "runs/quick/tables"  # where the numbers go
cmap: str = "rainbow"  # the paper's, purple low and red high; "cividis" and "magma" are perceptually uniform
opacity: float = 0.6  # of the map over the image: 0 shows the image alone, 1 the map alone
outline: float = 0.1  # share of the voxels that the white line surrounds, the highest by absolute value; 0 for no line
upsampling: str = "nearest"  # how coarse maps are enlarged: "nearest" shows the cells, "bilinear" smooths them

# %% [markdown]
# ## The slices
#
# They are chosen by a rule (see 05_compute_maps): of the slices through the middle of the kidneys, the one of median
# probability.

# %%
shown = {"cmap": cmap, "opacity": opacity, "outline": outline}
figures, tables = resolve(figures), resolve(tables)
source = require(f"{maps}/maps.npz", "05_compute_maps")
saved = read_maps(source.parent)
chosen = pd.read_csv(source.parent / "slices.csv")
display(chosen.round(3))

# %% [markdown]
# ## Figure 1
#
# Saliency and guided backpropagation have one value per voxel; CAM and Grad-CAM of the last layer have one per cell,
# 32 voxels wide.

# %%
figure = draw_maps(saved, [map_row(*name) for name in FINAL_MAPS], how=upsampling, **shown)
files = save_figure(figure, figures / "fig1")
write_sidecar(files[0], notebook="07_fig1_final_layer_maps", parameters=shown, inputs=(source,))
display(figure, caption("Figure 1", chosen))

# %% [markdown]
# ## Figure S7
#
# ![Figure S7: saliency without and with its sign](../figures/s7.png)
#
# **Figure S7, as published by this project.** Saliency of the slices of Figure 1, by the rank of its absolute value
# (upper row of maps) and by the rank of its signed value (lower row), among the voxels of the body. Red in the lower
# row: a higher attenuation there would raise the phase's score; purple: a lower one would. The white line is that of
# Figure 1 and the same in both rows.

# %%
both = [
    MapRow("Saliency, absolute", "saliency", "input", "magnitude rank"),
    MapRow("Saliency, signed", "saliency", "input", "rank"),
]
figure = draw_maps(saved, both, **shown)
files = save_figure(figure, figures / "s7")
write_sidecar(files[0], notebook="07_fig1_final_layer_maps", parameters=shown, inputs=(source,))
display(figure, caption("Figure S7", chosen))

# %% [markdown]
# ## In numbers
#
# The table holds the mean over the slices. `outside_body` is the share of a map's highest tenth that lies outside the
# body; beside it stands the share of all voxels. `half_mass` is the smallest share of the voxels that holds half of the
# map: the smaller it is, the more the map is concentrated. `zeros` is the share of the map that is exactly 0.

# %%
measured = describe_maps(saved)
measured = measured[pd.MultiIndex.from_frame(measured[["method", "layer"]]).isin(FINAL_MAPS)]
with atomic_path(tables / "fig1.csv") as file:
    measured.to_csv(file, index=False)
display(measured.groupby(["method", "layer"], sort=False).mean(numeric_only=True).round(3))

# %% [markdown]
# ## Against the paper
#
# The paper says that guided backpropagation marks fewer voxels than saliency (C47). It says that the strongest saliency
# is where the signed map is extreme (C48); this holds for any map with about as many positive as negative values. And
# it says that Grad-CAM of the last layer agrees with CAM (C42), which is algebra. One slice per phase can show a
# direction at best. 13_anatomy_of_maps measures which organs the maps mark.

# %%
with pd.option_context("display.max_colwidth", None):
    display(findings_table(map_claims(saved), "C42", "C47", "C48")[["measured", "verdict"]])

# %% [markdown]
# ## What we saw
#
# To the eye, the maps at the input follow edges and small vessels; the maps of the last layer mark patches of 32 x 32
# voxels. That a map looks like anatomy does not prove that the network uses it: 08_fig2_masking_specificity tests that.

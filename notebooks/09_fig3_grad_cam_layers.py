# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Figure 3: Grad-CAM by layer
#
# What does Grad-CAM show at shallow and at deep layers? This notebook makes **Figure 3**: Grad-CAM of one slice per
# phase at the layers before each pooling and at the last layer.
#
# | | |
# |---|---|
# | **reads** | `maps/` of 05_compute_maps |
# | **writes** | `figures/fig3` and `figures/fig3_ranks` (png, pdf), `tables/fig3.csv` |
# | **takes** | seconds |
#
# Grad-CAM weights the output of a kernel by its *mean* gradient. At the last layer the gradient is the same in every
# cell of a kernel, so that nothing is lost by taking the mean. At a shallow layer it is not, and the map may mark
# places whose own gradient is zero.

# %% [markdown]
# ![Figure 3: Grad-CAM by layer, one column per phase](../figures/fig3.png)
#
# **Figure 3, as published by this project.** Grad-CAM of one correctly classified test slice per phase (columns) at the
# layers before each pooling and at the last (rows, from shallow to deep). Window of the CT: level 40 HU, width 400 HU.
# Each panel is cropped to the body, all at one scale; air is black and not coloured. **Colours** compare places within
# a panel, never two panels; the lowest 2.5 % are transparent, and each colour bar shows its colours over dark tissue on
# its left and over bright tissue on its right. Colours run from the lowest to the highest value of the panel. The
# **white line** surrounds the highest tenth of the image's voxels by absolute value, which the masking experiment
# overwrites; at the input and at layer 2b, where these voxels are scattered, it surrounds the places where they are the
# majority. A panel says which part of that tenth lies **in air**, if it is at least 5 %. Noncon = unenhanced, CM =
# corticomedullary, CM-neph = corticomedullary to early nephrographic, Neph = nephrographic, Pyelo = pyelographic.

# %%
from IPython.display import display
import pandas as pd

from lib.claims.findings import findings_table
from lib.claims.maps import map_claims
from lib.figures.captions import caption
from lib.figures.maps import draw_maps, map_row
from lib.figures.style import save_figure
from lib.files import atomic_path, require, resolve
from lib.paper import LAYERS
from lib.provenance import write_sidecar
from lib.maps.saved import describe_maps, read_maps
from lib.titles import LAYER_TITLES

# %% tags=["parameters"]
maps: str = "runs/quick/maps"  # made by 05_compute_maps
figures: str = "runs/quick/figures"  # where the figure goes
tables: str = "runs/quick/tables"  # where the numbers go
cmap: str = "rainbow"  # the paper's, purple low and red high; "cividis" and "magma" are perceptually uniform
opacity: float = 0.6  # of the map over the image: 0 shows the image alone, 1 the map alone
outline: float = 0.1  # share of the voxels that the white line surrounds, the highest by absolute value; 0 for no line
upsampling: str = "nearest"  # how coarse maps are enlarged: "nearest" shows the cells, "bilinear" smooths them

# %% [markdown]
# ## The slices
#
# They are those of Figure 1, one per phase, chosen by the rule of 05_compute_maps.

# %%
shown = {"cmap": cmap, "opacity": opacity, "outline": outline}
figures, tables = resolve(figures), resolve(tables)
source = require(f"{maps}/maps.npz", "05_compute_maps")
saved = read_maps(source.parent)
chosen = pd.read_csv(source.parent / "slices.csv")
display(chosen.round(3))

# %% [markdown]
# ## Figure 3
#
# Rows run from the shallowest layer, with cells of 2 x 2 voxels, to the deepest, with cells of 32 x 32. If a cohort has
# no phases, the first eight series are drawn.

# %%
rows = [map_row("grad_cam", layer, f"Grad-CAM, {LAYER_TITLES[layer]}") for layer in LAYERS]
figure = draw_maps(saved, rows, how=upsampling, **shown)
files = save_figure(figure, figures / "fig3")
write_sidecar(files[0], notebook="09_fig3_grad_cam_layers", parameters=shown, inputs=(source,))
display(figure, caption("Figure 3", chosen))

# %% [markdown]
# ## The same maps by rank
#
# One cell of very high value leaves little colour for the rest of its panel. So the same maps are also shown by the
# rank of their absolute value among the voxels of the body; masking goes by this rank. Zeros share the lowest rank and
# are transparent.

# %%
rows = [map_row("grad_cam", layer, f"Grad-CAM, {LAYER_TITLES[layer]}", "magnitude rank") for layer in LAYERS]
figure = draw_maps(saved, rows, how=upsampling, **shown)
files = save_figure(figure, figures / "fig3_ranks")
write_sidecar(files[0], notebook="09_fig3_grad_cam_layers", parameters=shown, inputs=(source,))
display(figure, caption("Figure 3 by rank", chosen))

# %% [markdown]
# ## In numbers
#
# The table holds the mean over the slices. `outside_body` is the share of the map's highest tenth that lies outside the
# body, and `image_outside_body` the share of all voxels, which is what chance would give. `half_mass` is the smallest
# share of the cells that holds half of the map: the smaller it is, the more the map is concentrated. `zeros` is the
# share of the map that is exactly 0.

# %%
measured = describe_maps(saved).query("method == 'grad_cam'")
with atomic_path(tables / "fig3.csv") as file:
    measured.to_csv(file, index=False)
by_layer = measured.groupby("layer", sort=False).mean(numeric_only=True)
display(by_layer.round(3))

# %% [markdown]
# ## Against the paper
#
# The paper sees anatomy at 5b and little of it at 2b and 3b, where the worst maps mark the background (C55). Of 4b it
# says two things: in the text the map follows anatomy in part, in the caption of Figure 3 the layer selects nothing. So
# 4b is shown above but not judged. How much of the highest tenth lies outside the body is the part of this claim that
# can be measured without knowing the organs.

# %%
with pd.option_context("display.max_colwidth", None):
    display(findings_table(map_claims(saved), "C55")[["measured", "verdict"]])

# %% [markdown]
# ## What we saw
#
# At shallow layers a part of Grad-CAM's highest tenth lies in air, and at deep layers it gathers in the body; the table
# says how large the part is. This is one slice per phase. 13_anatomy_of_maps counts it over many.

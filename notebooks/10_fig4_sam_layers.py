# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Figure 4: SAM by layer
#
# What does the paper's own map show where Grad-CAM loses detail? This notebook makes **Figure 4**: the saliency
# activation map (SAM) of the slices of Figure 3, at the same layers.
#
# | | |
# |---|---|
# | **reads** | `maps/` of 05_compute_maps |
# | **writes** | `figures/fig4` (png, pdf), `tables/fig4.csv` |
# | **takes** | seconds |
#
# SAM weights each activation by the size of *its own* blurred gradient. Where that gradient is negative, less
# activation would raise the score; there SAM turns the activation upside down (maximum minus activation), so that low
# activation counts. 05_compute_maps has the equation.

# %% [markdown]
# ![Figure 4: The saliency activation map (SAM) by layer, one column per phase](../figures/fig4.png)
#
# **Figure 4, as published by this project.** The saliency activation map (SAM) of one correctly classified test slice
# per phase (columns) at the layers before each pooling and at the last (rows, from shallow to deep). Window of the CT:
# level 40 HU, width 400 HU. Each panel is cropped to the body, all at one scale; air is black and not coloured.
# **Colours** compare places within a panel, never two panels; the lowest 2.5 % are transparent, and each colour bar
# shows its colours over dark tissue on its left and over bright tissue on its right. Colours run from the lowest to the
# highest value of the panel. The **white line** surrounds the highest tenth of the image's voxels by absolute value,
# which the masking experiment overwrites; at the input and at layer 2b, where these voxels are scattered, it surrounds
# the places where they are the majority. A panel says which part of that tenth lies **in air**, if it is at least 5 %.
# Noncon = unenhanced, CM = corticomedullary, CM-neph = corticomedullary to early nephrographic, Neph = nephrographic,
# Pyelo = pyelographic.

# %%
from IPython.display import display
import pandas as pd

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
# ## Figure 4
#
# Rows run from the shallowest layer, with cells of 2 x 2 voxels, to the deepest, with cells of 32 x 32. If a cohort has
# no phases, the first eight series are drawn.

# %%
rows = [map_row("sam", layer, f"SAM, {LAYER_TITLES[layer]}") for layer in LAYERS]
figure = draw_maps(saved, rows, how=upsampling, **shown)
files = save_figure(figure, figures / "fig4")
write_sidecar(files[0], notebook="10_fig4_sam_layers", parameters=shown, inputs=(source,))
display(figure, caption("Figure 4", chosen))

# %% [markdown]
# ## In numbers
#
# The table holds the mean over the slices. `outside_body` is the share of the map's highest tenth that lies outside the
# body, and `image_outside_body` the share of all voxels, which is what chance would give. `half_mass` is the smallest
# share of the cells that holds half of the map: the smaller it is, the more the map is concentrated. `zeros` is the
# share of the map that is exactly 0.

# %%
measured = describe_maps(saved).query("method == 'sam'")
with atomic_path(tables / "fig4.csv") as file:
    measured.to_csv(file, index=False)
by_layer = measured.groupby("layer", sort=False).mean(numeric_only=True)
display(by_layer.round(3))

# %% [markdown]
# ## Against the paper
#
# The paper sees kidneys, renal vessels, aorta and vena cava at 2b, 3b and 4b (C56). 13_anatomy_of_maps measures that
# where the organs are known. At the last layer SAM is CAM plus a constant (with the logit as the score), so that its
# picture is that of CAM by construction.

# %%
outside = by_layer["outside_body"].rename(LAYER_TITLES)
chance = measured["image_outside_body"].mean()
print(f"highest tenth outside the body: {outside.round(2).to_dict()}; of all voxels {chance:.2f}")

# %% [markdown]
# ## What we saw
#
# To the eye, SAM keeps more of the anatomy at shallow layers than Grad-CAM does; 13_anatomy_of_maps measures it.
# Turning low activation upside down has a price: air and fat, where activation is low, can be marked as well.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 90 · Measure the speed of the maps
#
# How long all maps of all layers take, beside a plain gradient and beside the libraries that people use. Figure of this
# project's own; nothing of it is in the paper.
#
# | | |
# |---|---|
# | **reads** | nothing: the paper's network with random weights, random images |
# | **writes** | `speed.csv` and a figure |
# | **takes** | about 7 minutes on two CPU cores with tf-keras-vis and captum, 3 without |
#
# All contenders are called in turn in one process, round after round, and each round's times are divided by that
# round's plain gradient, so that whatever else runs weighs on all alike. The other backends are timed in processes of
# their own, each against its own plain gradient. What is not installed is left out and named:
# `pip install -e ".[jax,oracles]"` brings JAX, torch, captum and tf-keras-vis.

# %%
import platform

import keras
import numpy as np
import pandas as pd

from lib import speed
from lib.figures.speed import draw_speed
from lib.figures.style import save_figure
from lib.provenance import write_sidecar
from lib.files import atomic_path, resolve

# %% tags=["parameters"]
output: str = "runs/quick/tables/speed.csv"  # where the table goes
figure: str = "runs/quick/figures/speed.png"  # where the figure goes
sizes: str = "128 256 512"  # image sizes in pixels, multiples of 32, at batch 8 with maps of five layers
batches: str = "1 8 32"  # batch sizes, at the largest image size without peers
layers: str = "1 3 5"  # numbers of layers with maps, at the largest image size without peers
repeats: int = 5  # rounds
backends: str = "jax torch"  # further backends that are timed at the largest image size, with spaces between them
peers: bool = True  # whether tf-keras-vis, captum and pytorch-grad-cam are timed
memory: bool = True  # whether peak memory is measured, in processes of their own
device: str = ""  # what the machine is called in the table; empty for the processor's name
peak_tflops: float = 0.0  # of the device in float32, for the share of it that is reached; 0 leaves that out

# %%
sizes, batches, layers = ([int(word) for word in words.split()] for words in (sizes, batches, layers))
device = device or f"{platform.processor() or platform.machine()}, {keras.backend.backend()}"
largest, five = max(sizes), max(layers)
_, absent = speed.contenders(min(sizes), peers=peers)
print(device)
for name, reason in absent.items():
    print(f"{name} is left out: {reason}")

# %% [markdown]
# ## Against other libraries
#
# The peers make saliency, guided backprop and Grad-CAM at the layers; none has SAM.

# %%
tables = list(speed.measure_grid(sizes, [8], [five], repeats, peers))
against = pd.concat(tables, ignore_index=True)
against.pivot_table(
    index=["library", "maps"], columns="image_size", values=["images_per_s", "ratio"], sort=False
).round(2)

# %% [markdown]
# ## Batch and number of layers

# %%
tables += speed.measure_grid([largest], [batch for batch in batches if batch != 8], [five], repeats, peers=False)
tables += speed.measure_grid([largest], [8], [count for count in layers if count != five], repeats, peers=False)
table = pd.concat(tables, ignore_index=True)
ours = table[(table.library == speed.OURS) & (table.image_size == largest)]
ours.pivot_table(index="maps", columns=["batch", "layers"], values="ratio").round(2)

# %% [markdown]
# ## On other backends
#
# Each backend against a plain gradient of its own, as its tutorial would write it. A ratio of saliency alone above 1 is
# what the engine adds: the weights that XLA is given as arguments, so that later training is seen, and checks of images
# and maps.

# %%
for backend in backends.split():
    if backend != keras.backend.backend():
        try:
            tables.append(speed.measure_on(backend, largest, repeats, five))
        except ImportError as fault:
            absent[backend] = str(fault)
            print(f"{backend} is left out: {fault}")
everywhere = pd.concat(tables, ignore_index=True).query("image_size == @largest and batch == 8 and layers == @five")
everywhere[everywhere.library.isin([speed.PLAIN, speed.OURS])].pivot_table(
    index="maps", columns="backend", values=["images_per_s", "ratio"], sort=False
).round(2)

# %% [markdown]
# ## Masking
#
# Masked versions a second, maps included, as a share of what a bare `model.predict` reaches.

# %%
masking = speed.measure_masking(largest)
masking.round(2)

# %% [markdown]
# ## Share of the arithmetic that the device can do
#
# A saliency map takes a forward and a backward pass, all maps a second backward pass; a pass through the network is as
# many operations as its convolutions have.

# %%
table = pd.concat([*tables, masking], ignore_index=True).assign(device=device)
passes = table.maps.str.contains("guided").map({True: 3, False: 2}).where(table.library == speed.OURS, 2)
passes = passes.mask(table.maps.isin(["none", "masking, maps included"])).mask(table.library.isin(list(speed.PEERS)))
flops = table.image_size.map({size: speed.flops_forward(size) for size in sizes})
table["tflops"] = passes * flops * table.images_per_s / 1e12
table["share_of_peak"] = table.tflops / peak_tflops if peak_tflops else np.nan
table.loc[table.image_size == largest, ["library", "maps", "batch", "tflops", "share_of_peak"]].dropna(
    subset="tflops"
).round(3)

# %% [markdown]
# ## Peak memory
#
# Of a process that makes the maps of 8 images five times, everything counted: the backend alone takes several hundred
# MiB.

# %%
asked = [(speed.PLAIN, "saliency"), (speed.OURS, " ".join(speed.ALL))]
asked += [(name, " ".join(speed.COMMON)) for name in speed.PEERS if peers and name not in absent]
for library, maps in asked if memory else []:
    row = (table.library == library) & (table.maps == maps) & (table.image_size == largest) & (table.batch == 8)
    table.loc[row & (table.layers == five), "peak_mib"] = speed.peak_memory(library, maps, largest, 8)
table.dropna(subset="peak_mib")[["library", "maps", "peak_mib"]].round(0) if memory else "not measured"

# %% [markdown]
# ## Draw
#
# **A**: time per image by image size, in batches of 8, maps of all layers. **B**: time relative to a plain gradient
# (one forward and one backward pass, the dashed line at 1) by the number of layers with maps; the dotted line is the
# limit that this project sets for all maps together. Each point is a median over the rounds.

# %%
sheet = draw_speed(table.assign(ms_an_image=1e3 / table.images_per_s))
sheet

# %% [markdown]
# ## Save

# %%
table = table.drop(columns="seconds").assign(ms_an_image=1e3 / table.images_per_s)
with atomic_path(resolve(output)) as file:
    table.to_csv(file, index=False, float_format="%.4g")
save_figure(sheet, figure)
parameters = {"sizes": sizes, "batches": batches, "repeats": repeats}
written = write_sidecar(output, notebook="90_measure_speed", parameters=parameters,
              device=device, absent=absent)  # fmt: skip

# %% [markdown]
# ## What it says
#
# All maps of five layers should take at most twice the time of one plain gradient. Two of the three passes are needed
# for saliency alone. The guided backward pass is the third: by its arithmetic it adds half of a plain gradient, and
# more in practice, since a backward pass through convolutions runs slower than a forward one. The rest is SAM's blur
# and products over the activations of the large early layers. The table below takes the time of all maps apart.

# %%
kinds = {
    "saliency": "saliency",
    " ".join(speed.COMMON): "and guided backprop, Grad-CAM",
    " ".join(speed.ALL): "and CAM, SAM",
}
parts = table[(table.library == speed.OURS) & (table.backend == keras.backend.backend()) & table.maps.isin(list(kinds))]
parts = parts[(parts.image_size == largest) & (parts.batch == 8) & (parts.layers == five)].set_index("maps").ratio
print(parts.rename(kinds).diff().fillna(parts.rename(kinds)).round(2).to_string())
everything = table[(table.library == speed.OURS) & table.maps.str.contains("sam") & (table.image_size == largest)]
print(f"all maps at {largest} pixels, batch 8: {everything[everything.batch == 8].ratio.max():.2f} x a plain gradient")
print(f"masking: {100 * masking.ratio[0]:.0f} % of the throughput of a bare prediction")

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Compute the maps
#
# Computes every map of one representative slice a phase, for **Figures 1, 3, 4 and S7**.
#
# | | |
# |---|---|
# | **reads** | `cohort/`, and the network and its predictions of 02_train_network |
# | **writes** | `maps/maps.npz`: raw float32 maps at their own resolution; `maps/slices.csv`: which slices |
# | **takes** | seconds: all maps of all layers come from one forward and two backward passes |
#
# | map | what it is | size at 512 x 512 |
# |---|---|---|
# | saliency | dy/dx, the score's derivative by every voxel | 512 x 512 |
# | guided backprop | the same, but at every ReLU only positive gradient of positive activation passes | 512 x 512 |
# | CAM | last activations, weighted by the phase's weights in the dense layer | 16 x 16 |
# | Grad-CAM | a layer's activations, weighted by their mean gradient; negatives become 0 | the layer's |
# | SAM | a layer's activations times the size of their blurred gradient, inverted where it is negative | the layer's |

# %%
from IPython.display import display
import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation
from lib.paper import LAYERS, PHASES
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve
from lib.slice_choice import representative_slices

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # made by 02_train_network
predictions: str = "runs/quick/networks/top/predictions.parquet"  # of 02_train_network; of 04 for your own CT
maps: str = "runs/quick/maps"  # where the maps go
score: str = "logit"  # what is differentiated: "logit", or the softmax "probability"
blur_sigma: float = 0.75  # SAM's blur of the gradient, in pixels of the layer
slice_of_every: str = "phase"  # one slice a "phase" or a "series"

# %% [markdown]
# ## The slices shown
#
# One slice a phase, by rule: of the correctly classified test slices in the middle of the kidneys, the one whose
# confidence is the median. Neither the clearest example nor a lucky one.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
network, maps = resolve(network), resolve(maps)
model = keras.models.load_model(require(network / "model.keras", "02_train_network"))
standardisation = Standardisation.load(network / "standardisation.json")
predicted = pd.read_parquet(require(predictions, "02_train_network, or 04_vote_slices for your own CT,"))
shown = representative_slices(predicted, by=slice_of_every)
names = shown["phase"] if slice_of_every == "phase" else shown["series"]
display(shown[["phase", "patient", "series", "slice", "kidney_position", "probability"]].round(3))

# %% [markdown]
# ## Maps

# %%
images = slices.read(shown, standardisation)
classes = shown["phase"].map(PHASES.index).to_numpy()
attributor = Attributor(model, LAYERS, score=score, blur_sigma=blur_sigma)
computed = attributor(images, classes)
pd.DataFrame(
    [
        (*key, "x".join(map(str, m.shape[1:])), float(m.min()), float(m.max()), float((m == 0).mean()))
        for key, m in computed.items()
    ],
    columns=["method", "layer", "size", "lowest", "highest", "share of zeros"],
)

# %% [markdown]
# ## Save

# %%
arrays = {}
hu = slices.read_hu(shown, standardisation.image_size)
for n, name in enumerate(names):
    arrays[f"{name}/image"], arrays[f"{name}/input"] = hu[n], images[n, ..., 0]
    arrays |= {f"{name}/{method}/{layer}": stack[n] for (method, layer), stack in computed.items()}
with atomic_path(maps / "maps.npz") as file:
    np.savez_compressed(file, **arrays)
with atomic_path(maps / "slices.csv") as file:
    columns = ["phase", "patient", "series", "slice", "kidney_position", "probability"]
    shown[columns].assign(name=names.to_numpy()).to_csv(file, index=False)
write_sidecar(
    maps / "maps.npz",
    notebook="05_compute_maps",
    inputs=(network / "model.keras",),
    parameters={"score": score, "blur_sigma": blur_sigma},
)

# %% [markdown]
# ## Against the paper
#
# In the last layer the paper finds that Grad-CAM "approximates" CAM and that SAM does not differ from Grad-CAM. With
# the logit as the score that is algebra, not a finding: after global average pooling and one dense layer the gradient
# is the same everywhere in a kernel, so Grad-CAM is the positive part of CAM and SAM is CAM plus a constant, each
# divided by the number of cells.

# %%
cam, grad_cam, sam = (computed[method, "conv6"] for method in ("cam", "grad_cam", "sam"))
if score == "logit":
    cells = cam[0].size
    constant = sam - cam / cells
    print(f"largest |Grad-CAM - ReLU(CAM) / {cells}|: {np.abs(grad_cam - np.maximum(cam, 0) / cells).max():.2e}")
    print(f"largest spread of SAM - CAM / {cells} within an image: {np.ptp(constant, axis=(1, 2)).max():.2e}")
    np.testing.assert_allclose(grad_cam, np.maximum(cam, 0) / cells, rtol=1e-3, atol=1e-5 * grad_cam.max())

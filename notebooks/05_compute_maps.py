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
# What does each method compute when it is asked where a network looks? This notebook computes every map of one
# representative slice per phase, for **Figures 1, 3, 4 and S7**.
#
# | | |
# |---|---|
# | **reads** | `cohort/`, and the network and its predictions of 02_train_network |
# | **writes** | `maps/maps.npz`: raw float32 maps at their own resolution; `maps/slices.csv`: which slices |
# | **takes** | seconds: all maps of all layers come from one forward and two backward passes |
#
# ## The five maps
#
# Let $y$ be the score of the phase that is explained: the network's output for it before the softmax, which turns the
# five scores into probabilities. This score is called the *logit*. Let $x$ be the image, $A_k$ the output
# (*activation*) of kernel $k$ in a layer, and $G_k = \partial y / \partial A_k$ the gradient of the score there: how
# much the score would rise if a cell of that output were a little higher. ReLU replaces negative values by 0.
#
# | map | equation | size at 512 x 512 |
# |---|---|---|
# | saliency | $\partial y / \partial x$ | 512 x 512 |
# | guided backprop | the same, but every ReLU passes only positive gradient at positive activation | 512 x 512 |
# | CAM | $\sum_k w_k A_k$, with the weights $w_k$ of the phase in the dense layer | 16 x 16 |
# | Grad-CAM | $\mathrm{ReLU}\left(\sum_k \bar G_k A_k\right)$, with the mean gradient $\bar G_k$ | that of the layer |
# | SAM | $\sum_k \lvert B(G_k) \rvert A'_k$ | that of the layer |
#
# SAM, the *saliency activation map*, is the paper's own. It differs from Grad-CAM in two ways. The weight of a cell is
# the gradient *at that cell*, blurred by a Gaussian $B$ with a standard deviation of 0.75 cells, instead of the mean
# over the layer. And where the blurred gradient is negative, so that *less* activation would raise the score, the
# activation is turned upside down: $A'_k = \max(A_k) - A_k$ there, and $A'_k = A_k$ elsewhere.
#
# Layers are named as in the paper. 2b is the second convolution of the second block, and 6 is the last convolution. At
# a pixel of 0.8 mm one cell is 1.6 mm wide at 2b, 3.2 at 3b, 6.4 at 4b, 13 at 5b and 26 mm at 6, where an image of
# 512 x 512 has become 16 x 16 cells.

# %%
from IPython.display import display
import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation
from lib.explained_phase import phases_to_explain
from lib.files import atomic_path, require, resolve
from lib.paper import LAYERS, PHASES
from lib.provenance import write_sidecar
from lib.slice_choice import representative_slices

# %% tags=["parameters"]
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
network: str = "runs/quick/networks/top"  # made by 02_train_network
predictions: str = "runs/quick/networks/top/predictions.parquet"  # of 02_train_network; of 04 for your own CT
maps: str = "runs/quick/maps"  # where the maps go
score: str = "logit"  # what is differentiated: the "logit", or the softmax "probability"
blur_sigma: float = 0.75  # of the blur of the gradient in SAM, in cells of the layer
slice_of_every: str = "phase"  # one slice per "phase" or per "series"

# %% [markdown]
# ## The slices
#
# One slice per phase is chosen by a rule. Of the correctly classified test slices in the middle of the kidneys, it
# takes the one whose probability is the median, neither the clearest nor the least certain example. `kidney_position`
# is 0 at the lower and 1 at the upper end of the kidneys.

# %%
slices = Cohort.open(require(cohort, "01_prepare_cohort"))
network, maps = resolve(network), resolve(maps)
model = keras.models.load_model(require(network / "model.keras", "02_train_network"))
standardisation = Standardisation.load(network / "standardisation.json")
predicted = pd.read_parquet(require(predictions, "02_train_network, or 04_vote_slices for your own CT,"))
predicted, explained = phases_to_explain(predicted)
print(explained or "Correctly classified slices of the test patients:")
shown = representative_slices(predicted, by=slice_of_every)
names = shown["phase"] if slice_of_every == "phase" else shown["series"]
display(shown[["phase", "patient", "series", "slice", "kidney_position", "probability"]].round(3))

# %% [markdown]
# ## The maps
#
# One call computes all maps of all layers. The table lists their size in cells, their lowest and highest value, and
# which share of the cells is exactly 0.

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
sidecar = write_sidecar(
    maps / "maps.npz",
    notebook="05_compute_maps",
    inputs=(network / "model.keras",),
    parameters={"score": score, "blur_sigma": blur_sigma},
)

# %% [markdown]
# ## Against the paper: the last layer
#
# The paper finds that Grad-CAM "approximates" CAM in the last layer and that SAM does not differ from Grad-CAM there.
# For the logit this is algebra and not a finding. Between the last convolution and the score lie only an average and
# one dense layer, so that the gradient is the same in every cell of a kernel. Grad-CAM is then the positive part of
# CAM, and SAM is CAM plus a constant, each divided by the number of cells.

# %%
cam, grad_cam, sam = (computed[method, "conv6"] for method in ("cam", "grad_cam", "sam"))
if score == "logit":
    cells = cam[0].size
    constant = sam - cam / cells
    print(f"largest |Grad-CAM - ReLU(CAM) / {cells}|: {np.abs(grad_cam - np.maximum(cam, 0) / cells).max():.2e}")
    print(f"largest spread of SAM - CAM / {cells} within an image: {np.ptp(constant, axis=(1, 2)).max():.2e}")
    np.testing.assert_allclose(grad_cam, np.maximum(cam, 0) / cells, rtol=1e-3, atol=1e-5 * grad_cam.max())

# %% [markdown]
# ## What we saw
#
# The maps differ in their number of cells by a factor of a thousand, and in what they mean. Saliency and guided
# backprop ask which voxel would change the score. CAM, Grad-CAM and SAM ask which cell of a layer supports it. At the
# last layer these three agree: Grad-CAM is the positive part of CAM, and SAM is CAM plus a constant.
#
# References: saliency, Simonyan et al. 2014; guided backprop, Springenberg et al. 2015; CAM, Zhou et al. 2016;
# Grad-CAM, Selvaraju et al. 2017; SAM, Philbrick et al. 2018.

"""The atlas of attribution: every method by name, with its family and its cost, and one call that computes them."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from scipy.ndimage import gaussian_filter

from lib.atlas.path_gradients import gradient_x_input, gradients_of, integrated_gradients, smooth_gradients
from lib.atlas.perturbation import kernel_shap, lime, occlusion, paint, superpixels
from lib.atlas.relevance import deep_lift, lrp
from lib.atlas.walk_back import Walk, grad_cam_pp, gradient
from lib.attribution import Attributor

GRADIENT, ACTIVATION, RELEVANCE, PERTURBATION = "gradient", "activation", "relevance", "perturbation"
FAMILIES = (GRADIENT, ACTIVATION, RELEVANCE, PERTURBATION)


class Method(NamedTuple):
    """A method of attribution: its name as printed, its family, and which libraries of `TOOLKITS` have it."""

    title: str
    family: str
    toolkits: str


TOOLKITS = {  # what was looked up in the documentation or the source of each, and what it runs on
    "captum": "PyTorch",
    "zennit": "PyTorch",
    "iNNvestigate": "TensorFlow with Keras 2, without eager execution",
    "tf-keras-vis": "TensorFlow",
    "tf-explain": "TensorFlow with Keras 2",
    "TorchCAM": "PyTorch",
    "pytorch-grad-cam": "PyTorch",
}

METHODS = {
    "saliency": Method("Saliency", GRADIENT, "captum, zennit, iNNvestigate, tf-keras-vis, tf-explain"),
    "gradient_x_input": Method("Gradient x input", GRADIENT, "captum, iNNvestigate, tf-explain"),
    "deconvnet": Method("DeconvNet", GRADIENT, "captum, iNNvestigate"),
    "guided_backprop": Method("Guided backprop", GRADIENT, "captum, zennit, iNNvestigate, pytorch-grad-cam"),
    "smooth_grad": Method("SmoothGrad", GRADIENT, "captum, zennit, iNNvestigate, tf-keras-vis, tf-explain"),
    "integrated_gradients": Method("Integrated gradients", GRADIENT, "captum, zennit, iNNvestigate, tf-explain"),
    "cam": Method("CAM", ACTIVATION, "TorchCAM"),
    "grad_cam": Method("Grad-CAM", ACTIVATION, "captum, tf-keras-vis, TorchCAM, pytorch-grad-cam, tf-explain"),
    "grad_cam_pp": Method("Grad-CAM++", ACTIVATION, "tf-keras-vis, TorchCAM, pytorch-grad-cam"),
    "hires_cam": Method("HiResCAM", ACTIVATION, "pytorch-grad-cam"),
    "layer_cam": Method("LayerCAM", ACTIVATION, "tf-keras-vis, TorchCAM, pytorch-grad-cam"),
    "sam": Method("SAM", ACTIVATION, "none of them"),
    "lrp_epsilon": Method("LRP, epsilon", RELEVANCE, "captum, zennit, iNNvestigate"),
    "lrp_z_plus": Method("LRP, z+ and flat", RELEVANCE, "captum, zennit, iNNvestigate"),
    "lrp_alpha2_beta1": Method("LRP, alpha 2 beta 1", RELEVANCE, "zennit, iNNvestigate"),
    "deep_lift": Method("DeepLIFT", RELEVANCE, "captum"),
    "occlusion": Method("Occlusion", PERTURBATION, "captum, zennit, tf-explain"),
    "lime": Method("LIME", PERTURBATION, "captum"),
    "kernel_shap": Method("KernelSHAP", PERTURBATION, "captum"),
}


class Effort(NamedTuple):
    """How much each costly method may compute.

    `path`: gradients of integrated gradients; `noise`: noisy copies of SmoothGrad; `samples`: changed images of LIME
    and of KernelSHAP; `patches`: superpixels in the body; `squares`: occlusion's squares along a side of the image.
    """

    path: int = 32
    noise: int = 25
    samples: int = 500
    patches: int = 64
    squares: int = 8


class Atlas:
    """Every method on one network.

    Parameters
    ----------
    model : keras.Model
        The paper's network, or another one that `lib.atlas.walk_back.Walk` takes.
    layer : str
        Of Grad-CAM, Grad-CAM++, HiResCAM, LayerCAM and SAM. (At the last layer the first three and SAM are CAM, but
        for a ReLU or a constant.)
    effort : Effort, optional
    baseline : {"mean", "blurred"}
        What stands for absence: the mean of the body everywhere, which is 0 in standardised images, or the image
        blurred by a sixteenth of its side.
    """

    def __init__(self, model: keras.Model, layer: str, effort: Effort | None = None, baseline: str = "mean"):
        if baseline not in ("mean", "blurred"):
            raise ValueError(f"baseline={baseline!r} is not known: choose mean or blurred.")
        self.walk, self.attributor = Walk(model), Attributor(model, [layer])
        self.layer, self.effort, self._baseline = layer, effort or Effort(), baseline

    def baseline(self, images: np.ndarray) -> np.ndarray:
        """Return what stands for absence of the images (n, H, W, C)."""
        if self._baseline == "mean":
            return np.zeros_like(images)
        width = images.shape[1] / 16
        return gaussian_filter(images, (0, width, width, 0))

    def __call__(
        self,
        images: np.ndarray,
        bodies: np.ndarray,
        classes: np.ndarray,
        seeds: Sequence[int],
        methods: Sequence[str] = tuple(METHODS),
        seconds: dict[str, float] | None = None,
        batch: int = 8,
    ) -> dict[str, np.ndarray]:
        """Return the maps of some classes of each image.

        Parameters
        ----------
        images : float32 array (n, H, W, 1)
        bodies : bool array (n, H, W)
            Where superpixels lie.
        classes : int array (n, m)
            The classes that are explained.
        seeds : sequence of int
            Of what is random, one for each image.
        methods : sequence of str
            Names of `METHODS`.
        seconds : dict, optional
            Filled with the time that each method takes per image, for its first class.
        batch : int
            Images that are computed at once.

        Returns
        -------
        dict of str to float32 array (n, m, h, w)
            At each map's own resolution.
        """
        found, seeds = {}, np.asarray(seeds)
        parts = [slice(start, start + batch) for start in range(0, len(images), batch)]

        def of_class(method: str, column: np.ndarray) -> np.ndarray:
            return np.concatenate([self._map(method, images[part], column[part], seeds[part]) for part in parts])

        for method in methods:
            start = time.perf_counter()
            if METHODS[method].family == PERTURBATION:
                maps = np.stack([self._perturb(method, *one) for one in zip(images, bodies, seeds, strict=True)])
                maps = np.take_along_axis(maps, classes[:, None, None, :], axis=3)  # all classes come at once
                passed = time.perf_counter() - start
                maps = np.moveaxis(maps, 3, 1)
            else:
                maps = [of_class(method, classes[:, 0])]
                passed = time.perf_counter() - start
                maps += [of_class(method, column) for column in classes.T[1:]]
                maps = np.stack(maps, axis=1)
            found[method] = maps.astype(np.float32)
            if seconds is not None:
                seconds[method] = passed / len(images)
        return found

    def _map(self, method: str, images: np.ndarray, classes: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        slope, baseline = gradients_of(self.attributor), self.baseline(images)
        if method in ("saliency", "guided_backprop", "cam", "grad_cam", "hires_cam", "layer_cam", "sam"):
            return next(iter(self.attributor(images, classes, [method]).values()))
        if method == "grad_cam_pp":
            return grad_cam_pp(self.walk, images, classes, self.layer)
        if method == "deconvnet":
            maps = gradient(self.walk, images, classes, method)
        elif method == "gradient_x_input":
            maps = gradient_x_input(slope, images, classes)
        elif method == "smooth_grad":
            maps = smooth_gradients(slope, images, classes, seeds=seeds, samples=self.effort.noise)
        elif method == "integrated_gradients":
            maps = integrated_gradients(slope, images, classes, baseline, self.effort.path)
        elif method == "deep_lift":
            maps = deep_lift(self.walk, images, classes, baseline)
        else:
            maps = lrp(self.walk, images, classes, method)
        return maps[..., 0]

    def _perturb(self, method: str, image: np.ndarray, body: np.ndarray, seed: int) -> np.ndarray:
        """Return the maps of all classes, (H, W, K)."""
        baseline, effort = self.baseline(image[None])[0], self.effort
        if method == "occlusion":
            patch = max(image.shape[0] // effort.squares, 1)
            return occlusion(self.walk.scores, image, baseline, patch=patch, stride=max(patch // 2, 1))
        patches = superpixels(image[..., 0], body, effort.patches, seed=seed)
        estimate = {"lime": lime, "kernel_shap": kernel_shap}[method]
        rng = np.random.default_rng(seed)
        return paint(estimate(self.walk.scores, image, baseline, patches, rng=rng, samples=effort.samples), patches)

    def passes(self, method: str) -> str:
        """Return what a map of one class costs: forward and backward passes through the network."""
        effort, many = self.effort, METHODS[method].family == PERTURBATION
        counts = {"smooth_grad": effort.noise, "integrated_gradients": effort.path, "cam": 1, "deep_lift": 2}
        if method == "cam":
            return "1 forward"
        if many:
            squares = (2 * effort.squares - 1) ** 2
            return f"{squares if method == 'occlusion' else effort.samples} forward (all classes)"
        count = counts.get(method, 1)
        return f"{count} forward, {1 if method == 'deep_lift' else count} backward"

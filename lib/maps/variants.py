"""Variants of the maps, each without one of its ingredients, to see what that ingredient adds."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import keras
import numpy as np

from lib.attribution import Attributor

SIGNS = {"saliency_positive": 1, "saliency_negative": -1}
ABLATIONS: Mapping[str, Mapping[str, object]] = {  # what is changed in SAM, as keywords of Attributor
    "sam_no_blur": {"blur_sigma": None},
    "sam_no_inversion": {"inversion": False},
    "sam_layer_maximum": {"maximum": "layer"},
    "sam_mean_gradient": {"gradient": "mean"},
}
COMPARED = ("hires_cam", "layer_cam")  # later maps that weight element by element, as SAM does
SAM_VARIANTS = (*ABLATIONS, *COMPARED)


class MapVariants:
    r"""The maps of a network and their variants, for `lib.masking.experiment.mask_cohort` in place of an `Attributor`.

    Parameters
    ----------
    model : keras.Model
    layers : sequence of str
    score : {"logit", "probability"}
        As in `Attributor`.

    Attributes
    ----------
    score, head : str
        As those of `Attributor`.

    Notes
    -----
    With the saliency :math:`g`, "saliency_positive" is :math:`\max(g, 0)` and "saliency_negative" is :math:`\max(-g,
    0)`. With the activation :math:`A_k` of a layer and its gradient :math:`G_k`, blurred to :math:`B(G_k)`, SAM is

    .. math:: \sum_k |B(G_k)|\,A'_k, \qquad
        A'_k = \begin{cases} \max A_k - A_k & \text{where } B(G_k) < 0 \\ A_k & \text{elsewhere.} \end{cases}

    "sam_no_blur" has :math:`G_k` in place of :math:`B(G_k)`. "sam_no_inversion" has :math:`A'_k = A_k`.
    "sam_layer_maximum" inverts against the maximum of the whole layer. "sam_mean_gradient" has the mean of :math:`G_k`
    over the layer in place of :math:`B(G_k)`, one weight for a whole kernel as in Grad-CAM.
    """

    def __init__(self, model: keras.Model, layers: Sequence[str], *, score: str = "logit"):
        self._settings = {"model": model, "layers": layers, "score": score}
        self._plain = Attributor(**self._settings)
        self.score, self.head = self._plain.score, self._plain.head

    @cached_property
    def _ablated(self) -> dict[str, Attributor]:
        return {name: Attributor(**self._settings, **changed) for name, changed in ABLATIONS.items()}

    def keys(self, methods: Iterable[str]) -> list[tuple[str, str]]:
        """Return the keys (method, layer) of the maps that a call gives; a method that cannot be had raises."""
        found = []
        for method in methods:
            if method in SIGNS:
                found += [(method, layer) for _, layer in self._plain.keys(["saliency"])]
            elif method in ABLATIONS:
                found += [(method, layer) for _, layer in self._plain.keys(["sam"])]
            else:
                found += self._plain.keys([method])
        return found

    def __call__(self, images: np.ndarray, classes: np.ndarray, methods: Sequence[str]) -> dict:
        """Return maps by (method, layer): float32 arrays with the shapes that `Attributor` gives them."""
        keys = self.keys(methods)
        signs = [method for method in methods if method in SIGNS]
        plain = [method for method in methods if method not in SIGNS and method not in ABLATIONS]
        maps = self._plain(images, classes, list(dict.fromkeys(plain + ["saliency"] * bool(signs))))
        for method in signs:
            maps[method, "input"] = np.maximum(SIGNS[method] * maps["saliency", "input"], 0)
        for method in (method for method in methods if method in ABLATIONS):
            found = self._ablated[method](images, classes, ["sam"])
            maps |= {(method, layer): values for (_, layer), values in found.items()}
        return {key: maps[key] for key in keys}

"""Attribution maps of a Keras classifier: every map of every layer from one forward and two backward passes.

Notation: x the image, A_k (H', W') the activation of kernel k in a layer, y_c the score of class c, G_k = dy_c /
dA_k, B a 2-D Gaussian blur of each kernel. With `gradients.py` this file can be lifted out: the two need Keras and
NumPy only.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from lib.gradients import Step, compiled, gradients, replay, survey

INPUT_METHODS = ("saliency", "guided_backprop")
LAYER_METHODS = ("grad_cam", "sam", "hires_cam", "layer_cam")
LAYER_MAPS = {
    "grad_cam": lambda a, g: ops.relu(ops.einsum("nhwk,nk->nhw", a, ops.mean(g, axis=(1, 2)))),
    "hires_cam": lambda a, g: ops.sum(g * a, axis=-1),
    "layer_cam": lambda a, g: ops.relu(ops.sum(ops.relu(g) * a, axis=-1)),
}
METHODS = (*INPUT_METHODS, "cam", *LAYER_METHODS)
LINEAR = keras.activations.linear
KNOWN = {"score": ("logit", "probability", "log_odds"), "maximum": ("kernel", "layer"), "gradient": ("element", "mean")}


def _back(step: Step, *kinds: type) -> Step:
    """Follow the first parents of a step past what hands its input on, and past layers of some kinds."""
    kinds += (kl.Dropout, kl.SpatialDropout2D, kl.GaussianNoise, kl.Identity, kl.Activation)
    while isinstance(step.operation, kinds) and getattr(step.operation, "activation", LINEAR) is LINEAR:
        step = step.parents[0]
    return step


def _head(steps: list[Step]) -> tuple[Step, str]:
    """Return the step that makes the class scores and its activation: "softmax", "sigmoid" or "linear"."""
    head = _back(steps[-1])
    function = getattr(head.operation, "activation", type(head.operation).__name__)
    for kind in ("softmax", "sigmoid"):
        if function in (getattr(keras.activations, kind), kind.title()):
            return head, kind
    if isinstance(function, str) or function is LINEAR:
        return head, "linear"
    fault = f"The last activation ({head.name!r}: {getattr(function, '__name__', function)})"
    raise ValueError(f"{fault} is neither softmax, sigmoid nor linear: there is no class score before it.")


def _cam_head(head: Step) -> tuple[Step, Step] | None:
    """Return the dense layer of a global-average-pooling head and the step whose output is pooled, or None."""
    dense = head if isinstance(head.operation, kl.Dense) else _back(head.parents[0])
    pooling = _back(dense.parents[0], kl.Flatten) if isinstance(dense.operation, kl.Dense) else dense
    linear = dense is head or getattr(dense.operation, "activation", None) is LINEAR
    return (
        (dense, _back(pooling.parents[0]))
        if linear and isinstance(pooling.operation, kl.GlobalAveragePooling2D)
        else None
    )


def _default_layers(steps: list[Step], head: Step) -> list[Step]:
    """Return the activation before each pooling, and the last."""
    pools = (kl.MaxPooling2D, kl.AveragePooling2D)
    found = [_back(step.parents[0], kl.ZeroPadding2D) for step in steps if isinstance(step.operation, pools)]
    last = head
    while last.parents and len(last.shape) != 4:
        last = _back(last.parents[0])
    found += [] if isinstance(last.operation, pools) else [last]
    return [step for step in dict.fromkeys(found) if step.parents and len(step.shape) == 4]


def blur(tensor, sigma: float):
    """Blur each kernel of a tensor (n, H', W', K), sigma in pixels, cut at 4 sigma, edges reflected (b a | a b c)."""
    radius, kernels = int(4 * sigma + 0.5), tensor.shape[-1]
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    for axis, shape in ((1, (-1, 1, 1, 1)), (2, (1, -1, 1, 1))):
        tensor = ops.take(tensor, np.pad(np.arange(tensor.shape[axis]), radius, mode="symmetric"), axis=axis)
        filters = np.tile((weights / weights.sum()).reshape(shape), (1, 1, kernels, 1))
        filters = ops.convert_to_tensor(filters, "float32")
        tensor = ops.depthwise_conv(tensor, filters, padding="valid", data_format="channels_last")
    return tensor


class Attributor:
    """Every attribution map of a classifier, compiled once for each set of methods.

    Parameters
    ----------
    model : keras.Model
        Single-input image classifier, Functional or Sequential, models nested at will. It runs in inference mode and
        in float32, and is left unchanged; weights that are trained or loaded later are seen. Its class scores are
        what enters its last softmax or sigmoid (activation or layer); without one, its output is taken for logits.
    layers : sequence of str, optional
        Names, or paths ("resnet50/conv4_block6_out") where a name is not unique. None: the activation before each
        pooling, and the last.
    score : {"logit", "probability", "log_odds"}
        y_c: the logit z_c; the softmax probability p_c; or log p_c / (1 - p_c) = z_c - log sum_{j != c} exp z_j.
    blur_sigma : float or None
        Standard deviation of B in layer pixels; None leaves G as it is.
    maximum : {"kernel", "layer"}
        What SAM inverts an activation against: the maximum of its kernel or of the whole layer.
    inversion : bool
        Whether SAM inverts activations where the gradient is negative at all.
    gradient : {"element", "mean"}
        Whether SAM weights element by element or by each kernel's mean gradient, as Grad-CAM does.
    memory : int
        Bytes that the activations and gradients of a batch may take (estimated); larger ones are split.

    Attributes
    ----------
    methods, layers : tuple of str
        The methods that this network allows, and the layers of the layer maps.
    head : {"softmax", "sigmoid", "linear"}
        The last activation, which the class scores enter.

    Notes
    -----
    p_c = s(m) with m the log odds and s the logistic function, so
    dp_c/dx = s(m) s(-m) dm/dx. The passes differentiate m, and the factor comes last: where the softmax saturates
    nothing is lost before it. "probability" and "log_odds" rank voxels alike.
    """

    def __init__(
        self,
        model: keras.Model,
        layers: Sequence[str] | None = None,
        *,
        score: str = "logit",
        blur_sigma: float | None = 0.75,
        maximum: str = "kernel",
        inversion: bool = True,
        gradient: str = "element",
        memory: int = 2**30,
    ):
        for name, value in {"score": score, "maximum": maximum, "gradient": gradient}.items():
            if value not in KNOWN[name]:
                raise ValueError(f"{name}={value!r} is not known: choose one of {', '.join(KNOWN[name])}.")
        if blur_sigma is not None and not blur_sigma > 0:
            raise ValueError(f"blur_sigma is {blur_sigma}, expected a positive number of pixels, or None for no blur.")
        if not isinstance(model, keras.Model):
            raise TypeError(f"model is a {type(model).__name__}, expected a keras.Model.")
        shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
        if len(shapes) != 1 or len(shapes[0]) != 4:
            raise ValueError(f"Model {model.name!r} has inputs {shapes}, expected one, (n, height, width, channels).")
        self.model, self.score, self.blur_sigma = model, score, blur_sigma
        self.maximum, self.inversion, self.gradient, self.memory = maximum, inversion, gradient, memory
        self.traces = 0  # how often the passes were traced so far (on torch: run)
        self._compiled = {}
        self._steps = survey(model)
        self._head, self.head = _head(self._steps)
        if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
            shapes = [tuple(tensor.shape) for tensor in model.outputs]
            raise ValueError(f"Model {model.name!r} gives {shapes}, expected one output of shape (n, classes).")
        self._classes = model.outputs[0].shape[-1]
        self._pooled = _cam_head(self._head)
        self._channels_first = any(getattr(s.operation, "data_format", "") == "channels_first" for s in self._steps)
        last_names = Counter(step.name.rsplit("/")[-1] for step in self._steps)
        self._short = {s: min(s.name, s.name.rsplit("/")[-1], key=lambda n: last_names[n] != 1) for s in self._steps}
        if layers is None:
            layers = [self._short[step] for step in _default_layers(self._steps, self._head)]
        self._taps = {name: self._find(name) for name in ([layers] if isinstance(layers, str) else layers)}
        self.layers = tuple(self._taps)
        self._missing = self._why_not()
        self.methods = tuple(method for method in METHODS if method not in self._missing)

    def _find(self, name: str) -> Step:
        ending = [step for step in self._steps[1:] if f"/{step.name}".endswith(f"/{name}")]
        found = [step for step in ending if step.name == name] or ending
        if len(found) == 1 and len(found[0].shape) == 4:
            return found[0]
        fault = f"has output {found[0].shape}, no map" if len(found) == 1 else "is not there"
        fault = f"may be {' or '.join(step.name for step in found)}" if len(found) > 1 else fault
        known = ", ".join(self._short[step] for step in self._steps[1:] if len(step.shape) == 4)
        raise ValueError(f"Layer {name!r} of model {self.model.name!r} {fault}. Layers with spatial output: {known}.")

    def _why_not(self) -> dict[str, str]:
        """Return the methods that this network does not allow, each with the reason."""
        missing = {}
        faults = [f"{step.name!r} is {step.gate}" for step in self._steps if step.gate not in ("relu", "none")]
        if faults:
            missing["guided_backprop"] = f"guided backprop is defined for plain ReLUs only, and {'; '.join(faults)}"
        elif all(step.gate == "none" for step in self._steps):
            missing["guided_backprop"] = "no ReLU was found, so guided backprop would be plain saliency"
        if self._pooled is None:
            missing["cam"] = "CAM needs a global average pooling and one dense layer after the last convolution"
        if not self._taps:
            missing |= dict.fromkeys(LAYER_METHODS, "no layer with a spatial output was found or named")
        return missing

    def keys(self, methods: Iterable[str] | None = None) -> list[tuple[str, str]]:
        """Return the keys (method, layer) of the maps that a call gives; a method that cannot be had raises."""
        methods = self.methods if methods is None else [methods] if isinstance(methods, str) else list(methods)
        for method in methods:
            if method not in self.methods:
                reason = self._missing.get(method, f"it is not known, choose among {', '.join(self.methods)}")
                raise ValueError(f"Method {method!r} cannot be had of {self.model.name!r}: {reason}.")
        places = dict.fromkeys(INPUT_METHODS, ("input",))
        places["cam"] = (self._short[self._pooled[1]],) if self._pooled else ()
        return [(method, layer) for method in dict.fromkeys(methods) for layer in places.get(method, self.layers)]

    def __call__(self, images: np.ndarray, classes, methods: Iterable[str] | None = None) -> dict[tuple, np.ndarray]:
        """Return the maps of a batch of images.

        Parameters
        ----------
        images : array, (n, H, W, C)
        classes : int or array of int, (n,)
            The class whose score is explained, for each image or for all.
        methods : iterable of str, optional
            None for all in `.methods`.

        Returns
        -------
        dict of (method, layer) to float32 array
            Raw values at the map's own resolution: (n, H', W'); at the input of several channels (n, H, W, C). The
            layer of "saliency" and "guided_backprop" is "input", that of "cam" is the pooled one.

        Raises
        ------
        ValueError
            If shapes, classes or methods do not fit, or an image holds NaN or infinity.
        FloatingPointError
            If a class score is not finite.
        """
        keys = tuple(self.keys(methods))
        images, classes = self._checked(images, classes)
        passes = self._compiled.get((keys, images.shape[1:]))
        if passes is None:
            signature = [((None, *images.shape[1:]), images.dtype.name), ((None,), "int32")]
            passes = compiled(lambda x, c: self._maps(x, c, keys), self.model.variables, signature)
            self._compiled[keys, images.shape[1:]] = passes
        pieces = math.ceil(len(images) / self._images_at_once(images))
        parts = [passes(*part) for part in zip(*(np.array_split(a, pieces) for a in (images, classes)), strict=True)]
        score, *maps = (np.concatenate(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))
        if not np.isfinite(score).all():
            first = np.isfinite(score).argmin()
            raise FloatingPointError(f"The class score of image {first} is {score[first]}: look at the weights.")
        if self.score == "probability" and np.abs(score).max() > 87:
            message = "A probability is so near 0 or 1 that its gradient underflows: score='log_odds' ranks alike."
            warnings.warn(message, stacklevel=2)
        return dict(zip(keys, maps, strict=True))

    def _checked(self, images: np.ndarray, classes) -> tuple[np.ndarray, np.ndarray]:
        images, classes, shape = np.asarray(images), np.asarray(classes), tuple(self.model.inputs[0].shape)
        if not len(images) or not all(n in (None, m) for n, m in zip_longest(shape, images.shape, fillvalue=0)):
            raise ValueError(f"images has shape {images.shape}, expected (n > 0, {', '.join(map(str, shape[1:]))}).")
        images = np.ascontiguousarray(images, "float64" if self.model.inputs[0].dtype == "float64" else "float32")
        if not np.isfinite(images).all():
            first = np.isfinite(images).all(axis=(1, 2, 3)).argmin()
            raise ValueError(f"images holds NaN or infinity, first in image {first}: replace them first.")
        if not np.issubdtype(classes.dtype, np.integer) or classes.shape not in ((), (len(images),)):
            raise ValueError(
                f"classes is {classes.dtype} {classes.shape}, expected an integer or {len(images)} of them."
            )
        if classes.min() < 0 or classes.max() >= self._classes:
            raise ValueError(f"classes holds {classes.min()}..{classes.max()}, expected 0..{self._classes - 1}.")
        return images, np.broadcast_to(classes, len(images)).astype("int32")

    def _images_at_once(self, images: np.ndarray) -> int:
        """Return how many images fit in `memory`: every activation, its gradient and one copy, 4 bytes a value."""
        values = sum(math.prod(n or 1 for n in step.shape) for step in self._steps)
        unknown = math.prod(m for n, m in zip(self._steps[0].shape[1:], images.shape[1:], strict=True) if n is None)
        return max(1, self.memory // (3 * 4 * values * unknown))

    def _maps(self, images, classes, keys: Sequence[tuple[str, str]]) -> list:
        """Return the class scores and the maps of `keys`: what is compiled."""
        self.traces += 1
        methods = {method for method, _ in keys}
        layers = self.layers if methods & set(LAYER_METHODS) else ()
        taps = {name: self._taps[name] for name in layers} | ({"pooled": self._pooled[1]} if "cam" in methods else {})

        def forward(images, relu, tap):
            def tap_wanted(step, output):
                for name in (name for name, wanted in taps.items() if wanted is step):
                    output = tap(name, output)
                return output

            logits = replay(self._steps, self._head, images, relu, tap_wanted)
            return self._class_score(ops.cast(logits, "float32"), classes)

        wrt = (("input",) if "saliency" in methods else ()) + layers
        score, activations, plain, guided = gradients(forward, images, wrt, "guided_backprop" in methods)
        factor = ops.sigmoid(score) * ops.sigmoid(-score) if self.score == "probability" else ops.ones_like(score)
        maps = []
        for method, layer in keys:
            if method == "cam":
                maps.append(self._cam(self._last(activations["pooled"]), classes))
            elif method in INPUT_METHODS:
                value = self._last(plain["input"] if method == "saliency" else guided) * factor[:, None, None, None]
                maps.append(value[..., 0] if value.shape[-1] == 1 else value)
            else:
                formula = self._sam if method == "sam" else LAYER_MAPS[method]
                value = formula(self._last(activations[layer]), self._last(plain[layer]))
                maps.append(value * factor[:, None, None])
        return [score, *maps]

    def _last(self, tensor):
        tensor = ops.cast(tensor, "float32")
        return ops.moveaxis(tensor, 1, -1) if self._channels_first else tensor

    def _class_score(self, logits, classes):
        chosen = ops.take_along_axis(logits, classes[:, None], axis=1)[:, 0]
        if self.score == "logit" or self.head == "sigmoid":
            return chosen
        others = ops.where(ops.one_hot(classes, self._classes, dtype="bool"), -1e30, logits)
        return chosen - ops.logsumexp(others, axis=1)

    def _cam(self, activation, classes):
        weights = ops.take(ops.convert_to_tensor(self._pooled[0].operation.kernel), classes, axis=1)
        return ops.einsum("nhwk,kn->nhw", activation, ops.cast(weights, "float32"))

    def _sam(self, activation, gradient):
        if self.gradient == "mean":
            gradient = ops.mean(gradient, axis=(1, 2), keepdims=True)
        elif self.blur_sigma is not None:
            gradient = blur(gradient, self.blur_sigma)
        if self.inversion:
            highest = ops.max(activation, axis=(1, 2) if self.maximum == "kernel" else (1, 2, 3), keepdims=True)
            activation = ops.where(gradient < 0, highest - activation, activation)
        return ops.sum(ops.abs(gradient) * activation, axis=-1)


def saliency(model: keras.Model, images, classes, **readings) -> np.ndarray:
    """Return dy_c / dx, signed, (n, H, W) or (n, H, W, C) (Simonyan et al. 2014, arXiv 1312.6034)."""
    return Attributor(model, (), **readings)(images, classes, "saliency")["saliency", "input"]


def guided_backprop(model: keras.Model, images, classes, **readings) -> np.ndarray:
    """Return dy_c / dx with (a > 0)(g > 0) g at every ReLU, signed (Springenberg et al. 2015, arXiv 1412.6806)."""
    return Attributor(model, (), **readings)(images, classes, "guided_backprop")["guided_backprop", "input"]


def cam(model: keras.Model, images, classes, **readings) -> np.ndarray:
    """Return sum_k w_kc A_k of the pooled layer, (n, H', W'), signed, no bias (Zhou et al. 2016, arXiv 1512.04150)."""
    return next(iter(Attributor(model, (), **readings)(images, classes, "cam").values()))


def grad_cam(model: keras.Model, images, classes, layer: str, **readings) -> np.ndarray:
    """Return ReLU(sum_k mean_xy(G_k) A_k) of a layer, (n, H', W') (Selvaraju et al. 2017, arXiv 1610.02391)."""
    return Attributor(model, [layer], **readings)(images, classes, "grad_cam")["grad_cam", layer]


def sam(model: keras.Model, images, classes, layer: str, **readings) -> np.ndarray:
    """Return sum_k |B(G_k)| A'_k, A'_k = max A_k - A_k where B(G_k) < 0, else A_k (Philbrick et al., AJR 211:1184)."""
    return Attributor(model, [layer], **readings)(images, classes, "sam")["sam", layer]

"""A network opened step by step, through which a score is passed back by a rule for each kind of step.

The gradient, DeconvNet and guided backprop are such rules; LRP and DeepLIFT (`lib.atlas.relevance`) are others.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from lib import gradients as passes
from lib.network_steps import INPUT, Step, name_of, survey, twin
from lib.network_steps import LINEAR as AS_IT_IS

LINEAR = "Dense Conv2D DepthwiseConv2D AveragePooling2D GlobalAveragePooling2D ZeroPadding2D Flatten Reshape Add"
INERT = "Dropout SpatialDropout2D GaussianNoise Identity Activation ReLU"
POOLING = "MaxPooling2D GlobalMaxPooling2D"
KNOWN = f"{LINEAR} {INERT} {POOLING}"


class Trace(NamedTuple):
    """What a forward pass left behind: each step's output `after` its activation, and `before` it (for ReLUs)."""

    before: dict[Step, object]
    after: dict[Step, object]


class Walk:
    """A classifier as a list of steps, to be run forward once and walked back by any rule.

    Parameters
    ----------
    model : keras.Model
        Dense layers, convolutions, poolings, sums and ReLUs; class scores are what enters its softmax.

    Raises
    ------
    ValueError
        If the model holds a step of another kind (batch normalisation has to be folded into the convolution before it),
        another activation, or does not end in class scores.
    RuntimeError
        If the steps do not give what the model gives.
    """

    def __init__(self, model: keras.Model):
        self.model, self._survey, self._compiled = model, survey(model), {}
        self.steps, self.output = self._survey.steps, self._survey.outputs[0][0]
        softmax = getattr(self.output.operation, "activation", None) is keras.activations.softmax
        self._bare = (self.output,) if softmax or kind(self.output) == "Softmax" else ()
        for step in self.steps[1:]:
            activation = getattr(step.operation, "activation", None)
            plain = step.gate == "relu" or (step.gate == "none" and activation in (None, AS_IT_IS))
            if step not in self._bare and (kind(step) not in KNOWN.split() or not plain):
                raise ValueError(
                    f"Layer {step.name!r} ({kind(step)}{'' if plain else ', ' + name_of(activation)}) of model "
                    f"{model.name!r} has no rule. Rules are known for ReLUs and {KNOWN}; fold a batch normalisation "
                    "into the convolution before it."
                )
        shape = [n or 32 for n in self.steps[0].shape[1:]]
        image = np.random.default_rng(0).standard_normal((1, *shape)).astype(self.steps[1].operation.compute_dtype)
        (expected,), _ = passes.predict(model, self._survey, image)
        logits = as_array(self._scores(image))
        found = as_array(ops.softmax(ops.convert_to_tensor(logits))) if self._bare else logits
        if not passes.agree(found, expected):
            where = passes.first_difference(model, self._survey, image)
            raise RuntimeError(f"The steps of model {model.name!r} do not give what it gives: {where}.")

    def forward(self, images) -> Trace:
        """Run a batch (n, H, W, C) and keep every step's output."""
        before, after, entering = {}, {}, []

        def relu(tensor):
            entering.append(tensor)
            return ops.relu(tensor)

        def tap(step, tensor):
            if step.gate == "relu":
                before[step] = entering.pop()
            after[step] = tensor
            return tensor

        images = after[self.steps[0]] = ops.convert_to_tensor(images)
        passes.replay(self._survey, images, relu, tap, self._bare)
        return Trace(before, after)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Return the class scores before the softmax, (n, classes); compiled at the first call."""
        images = np.asarray(images)
        shape = (None, *images.shape[1:])
        if (shape, images.dtype) not in self._compiled:
            self._compiled[shape, images.dtype] = passes.compiled(
                lambda images: [self._scores(images)], self.model.variables, [(shape, str(images.dtype))]
            )
        return self._compiled[shape, images.dtype](images)[0]

    def _scores(self, images):
        images = ops.convert_to_tensor(images)
        return passes.replay(self._survey, images, ops.relu, lambda step, tensor: tensor, self._bare)[0]

    def start(self, trace: Trace, classes: np.ndarray, values: bool = True):
        """Return what the walk back begins with: each image's class score (or a 1) in its class, 0 elsewhere."""
        scores = trace.after[self.output]
        chosen = ops.one_hot(ops.convert_to_tensor(np.asarray(classes, "int32")), scores.shape[-1], dtype=scores.dtype)
        return scores * chosen if values else chosen

    def back(self, trace: Trace, signal, rule: Callable, stop: Step | None = None) -> dict[Step, object]:
        """Walk from the scores to the image.

        Parameters
        ----------
        trace : Trace
            Of :meth:`forward`.
        signal : tensor (n, classes)
            Where the walk begins, see :meth:`start`.
        rule : callable
            `rule(walk, step, trace, signal)` returns one signal for each parent of the step.
        stop : Step, optional
            Where to end; by default at the image.

        Returns
        -------
        dict of Step to tensor
            What arrived at the output of each step.
        """
        signals = {self.output: signal}
        for step in reversed(self.steps[1:]):
            if step not in signals or step is stop:
                continue
            for parent, piece in zip(step.parents, rule(self, step, trace, signals[step]), strict=True):
                signals[parent] = signals[parent] + piece if parent in signals else piece
        return signals

    def step_named(self, name: str) -> Step:
        """Return the step of a layer."""
        found = [step for step in self.steps if step.name == name]
        if not found:
            known = ", ".join(step.name for step in self.steps[1:])
            raise ValueError(f"Model {self.model.name!r} has no layer {name!r}: it has {known}.")
        return found[0]

    def linear_part(self, step: Step) -> Callable:
        """Return the function of a step's inputs without its ReLU or softmax."""
        operation = step.operation
        if kind(step) in ("ReLU", "Softmax", "Activation"):
            return lambda *inputs: inputs[0]
        if step.gate == "relu" or step in self._bare:
            operation = twin(operation, activation=AS_IT_IS)

        def function(*inputs):
            given = dict(zip(step.sources, inputs, strict=True))
            args, kwargs = step.arguments.fill_in(given)
            return operation(*args, **(kwargs | ({"training": False} if kind(step) == "Dropout" else {})))

        return function


def kind(step: Step) -> str:
    """Return the class of a step's layer."""
    return type(step.operation).__name__


def as_array(tensor) -> np.ndarray:
    """Return a tensor as an array of NumPy."""
    return np.array(ops.convert_to_numpy(tensor))


def pull_back(function: Callable, inputs: list, signal) -> list:
    """Return the transposed derivative of a function at some inputs, applied to a signal, for each of the inputs."""
    pulled = []
    for k, tensor in enumerate(inputs):

        def total(x, relu, tap, k=k):
            output = function(*[*inputs[:k], x, *inputs[k + 1 :]])
            return ops.sum(ops.reshape(output * signal, (ops.shape(signal)[0], -1)), axis=-1)

        pulled.append(passes.gradients(total, tensor, (INPUT,), False)[2][INPUT])
    return pulled


def gradient_rule(gate: Callable) -> Callable:
    """Return the rule of a gradient whose ReLUs let through `gate(signal, activation)`."""

    def rule(walk: Walk, step: Step, trace: Trace, signal) -> list:
        if step.gate == "relu":
            signal = gate(signal, trace.after[step])
        return pull_back(walk.linear_part(step), [trace.after[parent] for parent in step.parents], signal)

    return rule


def _where_active(signal, activation):
    return ops.where(activation > 0, signal, ops.zeros_like(signal))


GATES = {
    "saliency": _where_active,
    "deconvnet": lambda signal, activation: ops.relu(signal),
    "guided_backprop": lambda signal, activation: _where_active(ops.relu(signal), activation),
}


def gradient(walk: Walk, images: np.ndarray, classes: np.ndarray, method: str = "deconvnet") -> np.ndarray:
    r"""Return a gradient of the class score with a gate of its own at every ReLU, (n, H, W, C), signed.

    Parameters
    ----------
    walk : Walk
    images : array (n, H, W, C)
    classes : int array (n,)
    method : {"saliency", "deconvnet", "guided_backprop"}
        What a ReLU with the activation a lets through of a signal g: g where a > 0; g where g > 0; g where both are.

    Notes
    -----
    DeconvNet: Zeiler and Fergus 2014 (arXiv 1311.2901), as a gradient rule by Springenberg et al. 2015 (arXiv
    1412.6806); max pooling is undone by the switches of the forward pass.
    """
    trace = walk.forward(images)
    signals = walk.back(trace, walk.start(trace, classes, values=False), gradient_rule(GATES[method]))
    return as_array(signals[walk.steps[0]])


def grad_cam_pp(walk: Walk, images: np.ndarray, classes: np.ndarray, layer: str) -> np.ndarray:
    r"""Return Grad-CAM++ of a layer, (n, H', W'), at least 0.

    Notes
    -----
    With the activations :math:`A` and gradients :math:`G` of kernel :math:`k` (Chattopadhay et al. 2018, arXiv
    1710.11063; the higher derivatives are powers of the first one, as for an exponential score)

    .. math:: \mathrm{ReLU} \sum_k w_k A_k, \quad w_k = \sum_{xy} \alpha_k\, \mathrm{ReLU}(G_k), \quad
              \alpha_k = \frac{G_k^2}{2 G_k^2 + G_k^3 \sum_{xy} A_k},

    with :math:`\alpha = 0` where the denominator is 0.
    """
    trace, step = walk.forward(images), walk.step_named(layer)
    start = walk.start(trace, classes, values=False)
    signals = walk.back(trace, start, gradient_rule(GATES["saliency"]), stop=step)
    activation, slope = as_array(trace.after[step]), as_array(signals[step])
    below = 2 * slope**2 + slope**3 * activation.sum(axis=(1, 2), keepdims=True)
    alpha = np.divide(slope**2, below, out=np.zeros_like(slope), where=below != 0)
    weights = (alpha * np.maximum(slope, 0)).sum(axis=(1, 2), keepdims=True)
    return np.maximum((weights * activation).sum(axis=-1), 0)
